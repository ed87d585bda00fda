# %% [markdown]
# # Speech: from recordings to transcripts
#
# You have recordings, and what is said in them. This notebook trains a small Conformer to write down what it hears,
# letter by letter (CTC), shows what it makes of a sound on the way, and listens to its mistakes.
#
# The recordings are spoken digits of six people (the Free Spoken Digit Dataset). To use your own, go to "The data", and
# write a manifest of them.
#
# The whole notebook takes some four minutes of processor time.
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
EXTRAS = "plots,speech"
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
# ## The data
#
# The suite downloads no data by itself. The recordings lie in the folder `fsdd` of the folder that SUITE_DATA names;
# where they don't, they are fetched from the repository of the dataset (CC BY-SA 4.0).

# %%
import json

import matplotlib.pyplot as plt
import numpy as np

RECORDINGS = Path(os.environ.get("SUITE_DATA", "own_data")) / "fsdd" / "recordings"
if not RECORDINGS.is_dir():
    if SMOKE:
        raise RuntimeError(f"there are no recordings in {RECORDINGS}")
    address = "https://github.com/Jakobovski/free-spoken-digit-dataset"
    subprocess.run(["git", "clone", "--depth", "1", address, str(RECORDINGS.parent)], check=True)

# %% [markdown]
# Own recordings are given as a manifest, a line of JSON a recording: its file, what is said, and what else is known.
# `split` says what a line is for. It is not a must; without it the lines are split 80/10/10 by a hash of the file's
# name. We keep to the official split: of each speaker and digit, recordings 0 to 4 are the test. The next five are
# validation.

# %%
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MANIFEST = Path("own_data/digits.jsonl")
MANIFEST.parent.mkdir(exist_ok=True)
with MANIFEST.open("w", encoding="utf-8") as file:
    for path in sorted(RECORDINGS.glob("*.wav")):
        digit, speaker, index = path.stem.split("_")
        split = "test" if int(index) < 5 else "validation" if int(index) < 10 else "train"
        if SMOKE and (int(digit) > 3 or int(index) not in (0, 5, *range(10, 16))):
            continue
        line = {"audio": str(path.resolve()), "text": WORDS[int(digit)], "speaker": speaker, "split": split}
        file.write(json.dumps(line) + "\n")
print(*MANIFEST.read_text(encoding="utf-8").splitlines()[:3], sep="\n")

# %% [markdown]
# ## The recipe
#
# An experiment is a Python object: a task, a model, an optimiser, and how long to train. `suite list speech` names
# those that come with the suite. `speech.recognize` is the one for own recordings, of sentences at 16 kHz. Ours are
# single words at 8 kHz, so we begin with `speech.fsdd_ctc`, whose windows are as short as these words need, and put our
# manifest in.

# %%
from suite.data.sources.speech import AudioManifest

digits = AudioManifest(path=str(MANIFEST))
experiment = suite.replace(suite.load("speech.fsdd_ctc", smoke=SMOKE), {"task.data": digits})
if SMOKE:
    experiment = suite.replace(
        experiment, {"train.batch_size": 8, "train.eval_batch_size": 24, "pipeline.buckets": (20480,)}
    )
else:
    experiment = suite.replace(experiment, {"train.epochs": 15.0, "train.eval_every": 225})
print(experiment.task.features.front_end)
print(experiment.model)

# %% [markdown]
# ## What the model is given
#
# Not the wave itself: the energy of each moment in each band of pitch, on a logarithmic scale. The same code computes
# this on the device, in training and later in a request.

# %%
from suite.data.recordings import decode

plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})
front_end = experiment.task.features.front_end
rate, hop = front_end.sample_rate, front_end.hop


def spectrogram(axis, samples):
    """The log-mel energies of samples (n,), low pitch at the bottom."""
    energies, _ = front_end(samples[None], np.ones((1, len(samples)), bool))
    extent = (0, energies.shape[1] * hop / rate, 0, front_end.size)
    axis.imshow(np.asarray(energies[0]).T, origin="lower", aspect="auto", extent=extent, cmap="magma")
    axis.set(ylabel="mel band")


held_out = experiment.task.source("test")
columns = held_out[np.arange(len(held_out))]
pair = [columns["text"].index("zero"), columns["text"].index("three")]
figure, axes = plt.subplots(2, 2, figsize=(10, 4), layout="constrained", sharex="col", height_ratios=(1, 2))
for (wave, energy), i in zip(axes.T, pair, strict=True):
    samples = decode(columns["audio"][i], rate)
    wave.plot(np.arange(len(samples)) / rate, samples, linewidth=0.6)
    wave.set(title=f"“{columns['text'][i]}”, spoken by {columns['speaker'][i]}", ylabel="pressure")
    spectrogram(energy, samples)
    energy.set(xlabel="seconds")
plt.show()

# %%
if "IPython" in sys.modules:
    from IPython.display import Audio, display

    display(Audio(decode(columns["audio"][pair[0]], rate), rate=rate))

# %% [markdown]
# ## Training
#
# The score is the word error rate: the words to insert, delete or replace, as a share of those that are said. Lower is
# better, and the checkpoint of the lowest is kept. The run folder, printed last, keeps all there is to know; an
# interrupted run goes on from it by `suite.resume(folder)`.

# %%
run = suite.train(experiment)
print(f"validation word error rate {run.metrics['validation/wer']:.3f} after {run.metrics['train/steps']} steps")
print(run.folder)


# %%
def curve(run, name):
    """(steps, values) of one column of the log."""
    pairs = [pair for pair in zip(run.history["step"], run.history[name], strict=True) if pair[1] is not None]
    return zip(*pairs, strict=True)


figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
left.plot(*curve(run, "train/loss"), label="training", color="0.6")
left.plot(*curve(run, "validation/loss"), "o-", label="validation", color="C0")
left.set(xlabel="step", title="loss, nats a letter")
left.legend(frameon=False)
for name, label in (("wer", "words"), ("cer", "letters")):
    right.plot(*curve(run, f"validation/{name}"), "o-", label=label)
right.set(xlabel="step", title="error rate, validation", ylim=(0, None))
right.legend(frameon=False)
plt.show()

# %% [markdown]
# ## The test, and the mistakes

# %%
test = run.evaluate("test").metrics
print(f"test word error rate {test['test/wer']:.3f}, letter error rate {test['test/cer']:.3f}")

# %% [markdown]
# `predict` takes columns, or a list of files or arrays of samples, and resamples them where they need it. On the
# command line: `suite predict RUN --input recording.wav`.

# %%
heard = [answer["text"] for answer in run.predict(columns)]
wrong = [i for i in range(len(heard)) if heard[i] != columns["text"][i]]
for i in wrong[:10]:
    print(f"{columns['text'][i]!r} heard as {heard[i]!r}: {columns['speaker'][i]}, {Path(columns['file'][i]).name}")
print(f"{len(wrong)} of {len(heard)} recordings")

# %%
speakers = sorted(set(columns["speaker"]))
errors = [np.mean([i in set(wrong) for i in range(len(heard)) if columns["speaker"][i] == s]) for s in speakers]
figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
axis.barh(speakers, 100 * np.array(errors))
axis.set(xlabel="recordings misheard, %", title="Whom it understands", xlim=(0, max(1, 110 * max(errors))))
plt.show()

# %% [markdown]
# All six people were in training. A voice that it never heard is another matter: with `task.data.held_out` set to
# `theo`, the recipe `speech.fsdd_ctc` is tested on a speaker left out of training, and its word error rate is 30.8 %
# instead of 0.7 %. Split your own recordings by speaker when it is to serve new ones.

# %% [markdown]
# ## How it writes
#
# At each frame the model says how likely each letter is, or the blank `-`, which means "nothing new". Repeated letters
# are one, blanks are left out, and what remains is the transcript.

# %%
import jax

from suite.data.pipeline.padding import pad

task = run.experiment.task  # with what it learnt: letters, mean and deviation of the features
i = wrong[0] if wrong and not SMOKE else pair[1]
samples = decode(columns["audio"][i], rate)
encoded = task.encode({"audio": [samples]})
batch = pad({"audio": encoded["audio"]}, np.ones(1, bool), 20480)
outputs = jax.jit(task.predict)(run.model, batch)
frames = int(outputs["frames"][0])
probabilities = np.exp(np.asarray(outputs["log_probs"][0][:frames], np.float64)).T
units = ["-", *(unit if unit.strip() else "␣" for unit in task.transcriber.units[1:])]
used = [s for s in range(len(units)) if probabilities[s].max() > 0.05]
seconds = len(samples) / rate

figure, (above, below) = plt.subplots(2, 1, figsize=(8, 5), layout="constrained", sharex=True)
spectrogram(above, samples)
above.set_title(f"“{columns['text'][i]}”, written “{heard[i]}”")
below.imshow(probabilities[used], aspect="auto", cmap="Blues", vmin=0, vmax=1, extent=(0, seconds, len(used), 0))
below.set_yticks(np.arange(len(used)) + 0.5, [units[s] for s in used])
below.set(xlabel="seconds", ylabel="letter")
plt.show()

# %% [markdown]
# ## Where next
#
# - Your own recordings: a manifest, and `suite train speech.recognize --data manifest.jsonl`. For a few commands or
#   sounds, one folder a class: `suite train speech.classify --data sounds/`.
# - Words that are likely: `task.decoder` takes a beam search, and `task.language_model` an n-gram model (ARPA).
# - Published weights: wav2vec 2.0, HuBERT and Whisper's encoder are read by `suite convert` and `checkpoint.init_from`.
# - The other notebooks: text, vision, recommendation, and from laptop to TPU pod.
