# %% [markdown]
# # From laptop to TPU pod
#
# A recipe does not know on how many devices it runs: that is said by three numbers, `parallel.data`, `parallel.fsdp`
# and `parallel.tensor`. This notebook trains one recipe on one device and on eight, in three ways, and compares; asks
# what a larger model would need before any device is paid for; and interrupts a run, as a cloud does, to go on with it.
#
# The eight devices are simulated on the processor, so that they can be had anywhere: they show that the numbers agree,
# and where each part of the model lies. They show nothing about speed.
#
# The whole notebook takes some two minutes of processor time. It needs no data: the recipe is `vision.digits_dnn`, a
# small network on the handwritten digits that come with scikit-learn.
#
# The first cell installs the suite and says what it finds. Where it asks to restart the session, do so, and run it
# again.

# %%
import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = ""  # the address it came from, such as "https://github.com/OWNER/NAME"; empty: the package index
EXTRAS = "examples,plots"
SMOKE = "SMOKE" in os.environ  # a few steps of everything: does it run at all?

if importlib.util.find_spec("suite") is None:
    if shutil.which("nvidia-smi"):
        EXTRAS += ",cuda12"
    elif Path("/dev/accel0").exists() or "TPU_ACCELERATOR_TYPE" in os.environ:
        EXTRAS += ",tpu"
    above = (Path.cwd(), *Path.cwd().parents)
    checkout = next((folder for folder in above if (folder / "suite/runs/run.py").is_file()), None)
    origin = f" @ git+{REPOSITORY}" if REPOSITORY else ""
    wanted = f"{checkout}[{EXTRAS}]" if checkout else f"jax-model-suite[{EXTRAS}]{origin}"
    versions = lambda: {package.name: package.version for package in importlib.metadata.distributions()}
    modules = importlib.metadata.packages_distributions()
    loaded, before = {name for module in modules if module in sys.modules for name in modules[module]}, versions()
    if subprocess.run([sys.executable, "-m", "pip", "install", "-q", wanted]).returncode:
        raise RuntimeError(
            f"pip could not install {wanted}.\n"
            "Set REPOSITORY, above in this cell, to the address that this notebook came from, and run the cell again."
        )
    importlib.invalidate_caches()
    after = versions()
    if replaced := sorted(name for name in loaded if name in before and after.get(name) != before[name]):
        raise RuntimeError(
            f"All is installed. This session had loaded {', '.join(replaced)} in another version:\n"
            "restart the session (in Colab: Runtime, Restart session), and run this cell again."
        )

import suite
from suite.workflow.doctor import render as report

print(report(suite.doctor()))

# %% [markdown]
# ## One recipe, four meshes
#
# Devices form a grid with three named axes. Along `data` they share the rows of a batch, and each has the whole model.
# Along `fsdp` they share rows and also the parameters with the optimiser's state: each keeps a part, and fetches the
# others when a layer needs them. Along `tensor` they share each matrix product.
#
# | mesh | when |
# |---|---|
# | `data` | the model fits into a device; the simplest, and the first to try |
# | `fsdp` | parameters and optimiser do not fit, or leave too little room for the batch |
# | `tensor` | single layers are too large, or the batch is too small to be shared further |
#
# How many devices a process sees is settled when JAX starts, so the comparison is a program of its own, started with
# eight simulated ones.

# %%
import json
import tempfile

Path("runs").mkdir(exist_ok=True)
FOLDER = Path(tempfile.mkdtemp(prefix="pod-", dir="runs")).resolve()
STEPS = 20 if SMOKE else 200
(FOLDER / "meshes.py").write_text("""
import json, sys
import jax
import numpy as np
import suite
from suite.training.assemble import assemble

folder, steps, smoke = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "smoke"
meshes = {
    "one device": (1, 1, 1),
    "data 8": (8, 1, 1),
    "data 2, fsdp 4": (2, 4, 1),
    "data 2, fsdp 2, tensor 2": (2, 2, 2),
}
found = {}
for name, sizes in list(meshes.items())[:: 3 if smoke else 1]:
    experiment = suite.replace(suite.load("vision.digits_dnn", smoke=smoke), {
        "parallel.data": sizes[0], "parallel.fsdp": sizes[1], "parallel.tensor": sizes[2],
        "train.steps": steps, "train.log_every": steps // 10, "train.eval_every": steps,
    })
    run = suite.train(experiment, f"{folder}/{name}")
    program = assemble(run.experiment, steps)
    state = [leaf for part in (program.abstract.params, program.abstract.opt) for leaf in jax.tree.leaves(part)]
    kept = sum(np.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in state)
    logged = [pair for pair in zip(run.history["step"], run.history["train/loss"]) if pair[1] is not None]
    when, losses = zip(*logged)
    found[name] = {"steps": when, "losses": losses, "bytes": int(kept)}
with open(f"{folder}/meshes.json", "w") as file:
    json.dump(found, file)
""")


def simulating(count):
    """The environment of a program that sees so many devices, simulated on the processor."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags.strip()}


program = [sys.executable, str(FOLDER / "meshes.py"), str(FOLDER), str(STEPS), "smoke" if SMOKE else "full"]
done = subprocess.run(program, env=simulating(8), capture_output=True, text=True)
print(done.stderr[-2000:])
done.check_returncode()

# %% [markdown]
# The losses are those of the same batches in the same order, with the same dropout. Sums are taken in another order on
# other meshes, so the last digits may differ, and no more.

# %%
import matplotlib.pyplot as plt
import numpy as np

found = json.loads((FOLDER / "meshes.json").read_text())
alone = np.array(found["one device"]["losses"])
for name, made in found.items():
    difference = np.abs(np.array(made["losses"]) / alone - 1).max()
    print(
        f"{name:26} loss {made['losses'][-1]:.5f}, at most {difference:.0e} off;"
        f" {made['bytes'] / 1024:.0f} KiB of parameters and optimiser a device"
    )

plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
for i, (name, made) in enumerate(found.items()):
    left.plot(made["steps"], made["losses"], label=name, linewidth=8 - 2 * i, alpha=0.7)
left.set(xlabel="step", title="training loss: all lines in one place")
left.legend(frameon=False, fontsize=8)
right.barh(list(found), [made["bytes"] / 1024 for made in found.values()])
right.invert_yaxis()
right.set(xlabel="KiB a device", title="parameters and optimiser")
plt.show()

# %% [markdown]
# On real devices it is the same command, without the simulation. `-1` stands for all that are there:
#
# ```
# suite train vision.digits_dnn --parallel.data -1 --parallel.fsdp 4
# ```

# %% [markdown]
# ## What would it take? Plan before you pay
#
# `suite plan` compiles the step for shapes alone; nothing is allocated, and no such device is needed. It says what a
# device must hold, how long a step takes at the least by the maker's figures, and what to change where it does not fit.
# Here is an encoder of BERT-large's size, on one of Colab's GPUs and on a slice of 32 TPU chips.

# %%
from suite.planning import planning

large = suite.replace(
    suite.load("text.synthetic_sentiment"),
    {
        "model.layers": 1 if SMOKE else 24,
        "model.width": 64 if SMOKE else 1024,
        "model.heads": 16,
        "model.feed_forward": 128 if SMOKE else 4096,
        "train.batch_size": 2048,
        "train.steps": 1000,
        "precision.compute": "bfloat16",
    },
)
for devices in ("t4",) if SMOKE else ("t4", "tpu-v5e-32"):
    print(planning.render(suite.plan(large, devices)))
    print()

# %% [markdown]
# ## An interruption
#
# Clouds take machines back: cheap ones come with a notice of half a minute. The suite obeys such a notice (SIGTERM)
# between two steps: it saves the very step and stops. Here we send the signal to ourselves, in the middle of a run.

# %%
import signal

experiment = suite.replace(
    suite.load("vision.digits_dnn", smoke=SMOKE),
    {"train.steps": STEPS, "train.log_every": STEPS // 4, "train.eval_every": STEPS, "parallel.data": 1},
)


def notice(dispatch):
    """What the cloud does, half-way."""
    if dispatch.first == STEPS // 2:
        os.kill(os.getpid(), signal.SIGTERM)


try:
    suite.train(experiment, FOLDER / "interrupted", on_dispatch=notice)
except suite.Interrupted as stop:
    print(stop)

# %% [markdown]
# On the command line the exit code is 75, which tells a scheduler to start the same command again. It goes on where it
# was: the same order of the pictures, the same dropout, the half-filled line of the log. So what comes out is the run
# that was left alone, to the last bit.

# %%
import jax
from flax import nnx

resumed = suite.resume(FOLDER / "interrupted")
whole = suite.train(experiment, FOLDER / "whole")
pairs = zip(*(jax.tree.leaves(nnx.state(run.model, nnx.Param)) for run in (resumed, whole)), strict=True)
same = all(np.array_equal(a, b) for a, b in pairs)
print(f"bit for bit the same parameters: {same}")
print(f"the same log: {resumed.history['train/loss'] == whole.history['train/loss']}")

# %% [markdown]
# ## Many hosts
#
# A pod is many machines with a few chips each, and every one of them runs the same program. `suite launch` does that on
# this machine, with as many processes as you say, so that a mistake shows before the pod is paid for.

# %%
changes = ["--train.steps", str(STEPS), "--train.eval_every", str(STEPS)]
launch = ["launch", "--processes", "2", "--", "train", "vision.digits_dnn", *changes]
launch += ["--run-dir", str(FOLDER / "launched"), *(["--smoke"] if SMOKE else [])]
print("suite", *launch)
done = subprocess.run([sys.executable, "-m", "suite", *launch], env=simulating(1), capture_output=True, text=True)
print(done.stdout[-2000:], done.stderr[-2000:], sep="\n")
done.check_returncode()

# %% [markdown]
# ## Where next
#
# - On a TPU or GPU machine: `pip install "jax-model-suite[tpu]"` or `"jax-model-suite[cuda12]"`, `suite doctor`, and
#   the recipe as it is.
# - Memory is short: `--gradient.accumulate 4` splits a step, `--precision.compute bfloat16` halves activations.
# - What a run costs besides the step: `ARCHITECTURE.md`, "A training run".
# - The other notebooks: text, vision, speech, recommendation.
