"""Plans of small functions, whose costs can be counted by hand, and of a recipe on devices that are not here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from suite.errors import InputError
from suite.experiment import recipes
from suite.planning.hardware import GIB, HARDWARE, Hardware, hardware
from suite.planning.planning import advice, fits, parts, plan_step, render, report, sent_bytes
from suite.runs import verbs
from tests.conftest import ROOT, simulated

RECIPE = '''"""A task of the recipe's own, that no other process can import."""
import suite
from suite.tasks.vision.classification import ImageClassification

class Own(ImageClassification):
    pass

def experiment():
    made = suite.load("vision.digits_dnn")
    changes = {"task": Own(data=made.task.data), "model.hidden": (512, 512), "parallel.data": 2, "parallel.fsdp": 4}
    return suite.replace(made, changes)
'''


def shape(*dims):
    return jax.ShapeDtypeStruct(dims, jnp.float32)


def layer(state, batch):
    return jax.tree.map(lambda w: w - 0.1 * (batch.T @ jnp.tanh(batch @ w)), state)


def test_flops_and_memory_of_a_product():
    plan = plan_step(jax.jit(jnp.matmul), (shape(256, 512), shape(512, 128)))
    assert plan["flops"] == pytest.approx(2 * 256 * 512 * 128, rel=0.1)
    assert plan["model_flops"] == 2 * 256 * 512 * 128
    assert plan["bytes"] == pytest.approx(4 * (256 * 512 + 512 * 128 + 256 * 128), rel=0.1)
    assert plan["memory"]["arguments"] == 4 * (256 * 512 + 512 * 128)
    assert plan["memory"]["outputs"] == 4 * 256 * 128
    assert plan["memory"]["peak"] >= 4 * (256 * 512 + 512 * 128 + 256 * 128)
    assert plan["devices"] == 1 and plan["collectives"] == {} and not plan["endless"]


def test_a_step_in_parts_costs_what_the_parts_do():
    """XLA's own figures for a loop are those of one trip."""

    def step(w, batch):
        return jax.lax.scan(lambda w, part: (layer(w, part), None), w, batch)[0]

    one, eight = (plan_step(jax.jit(step), (shape(512, 512), shape(n, 64, 512))) for n in (1, 8))
    assert eight["flops"] == pytest.approx(8 * one["flops"], rel=0.01)
    assert eight["bytes"] == pytest.approx(8 * one["bytes"], rel=0.25)


def test_donated_state_is_counted_once():
    arguments = (shape(512, 512), shape(64, 512))
    decay = lambda state, batch: (state * 0.9, batch.sum())
    kept = plan_step(jax.jit(decay), arguments)["memory"]
    donated = plan_step(jax.jit(decay, donate_argnums=0), arguments)["memory"]
    assert donated["aliased"] == 4 * 512 * 512
    assert donated["peak"] < kept["peak"]


def test_too_large_without_allocating():
    plan = plan_step(jax.jit(layer, donate_argnums=0), (shape(200_000, 200_000), shape(64, 200_000)))  # 160 GB
    device, count = hardware("tpu-v5e-32")
    plan["memory"]["parameters"] = 4 * 200_000**2  # and as much for the gradient
    result = report(plan, device, batch_size=64, devices=count, parameters=200_000**2, mesh={"data": 32})
    assert not fits(plan, device) and not result["fits"]
    text = render(result)
    assert "doesn't fit" in text and "--parallel.data 1 --parallel.fsdp 32" in text


MEMORY = {"arguments": 4e9, "temporary": 40e9, "peak": 44e9}
PLAN = {"flops": 1e12, "bytes": 1e9, "memory": MEMORY, "devices": 1}


def test_advice_for_activations():
    lines = advice(PLAN, HARDWARE["t4"], batch_size=256)
    assert any("--gradient.accumulate 4" in line for line in lines)
    assert any("--train.batch_size 64" in line for line in lines)
    assert any("--devices t4-4 --parallel.data 4" in line for line in lines)
    assert advice(PLAN, HARDWARE["h100"], batch_size=256) == []
    assert not any("bfloat16" in line for line in advice(PLAN, HARDWARE["t4"], batch_size=256, compute="bfloat16"))


def test_advice_keeps_to_the_mesh():
    """64 examples over 32 devices leave two a device: no four micro-batches of them."""
    mesh = {"data": 8, "fsdp": 4, "tensor": 1}
    lines = advice(PLAN, HARDWARE["t4"], batch_size=64, mesh=mesh, devices=32)
    assert not any("accumulate" in line for line in lines)
    assert any("--train.batch_size 32" in line for line in lines)
    assert any("--parallel.tensor 2" in line for line in lines)
    assert any("--gradient.accumulate 4" in line for line in advice(PLAN, HARDWARE["t4"], batch_size=128, mesh=mesh))


def test_advice_for_parameters():
    memory = {"arguments": 60e9, "parameters": 20e9, "temporary": 30e9, "peak": 90e9}
    plan = {**PLAN, "memory": memory}
    mesh = {"data": 4, "fsdp": 2}
    lines = advice(plan, HARDWARE["a100"], batch_size=64, mesh=mesh, devices=8)
    assert "--parallel.data 2 --parallel.fsdp 4" in lines[0] and "adafactor" in lines[1]
    more = advice(
        {**plan, "memory": {**memory, "temporary": 60e9}}, HARDWARE["a100"], batch_size=64, mesh=mesh, devices=8
    )
    assert "--parallel.data 1 --parallel.fsdp 8" in more[0]
    few = advice(plan, HARDWARE["l4"], batch_size=64, mesh=mesh, devices=8)
    assert "--devices l4-16 --parallel.data 1 --parallel.fsdp 16" in few[0]
    assert advice(plan, Hardware("cpu", 1e12, 1e12, 1e11, 24e9), batch_size=64, mesh=mesh) == few[1:]


def test_roofline():
    device = Hardware("x", 100.0, 50.0, 10.0, GIB, 4.0, 2)
    plan = {"flops": 1000.0, "bytes": 50.0}
    assert max(parts(plan, device).values()) == 20.0
    assert max(parts(plan, device, "bfloat16").values()) == 10.0
    assert max(parts({"flops": 1.0, "bytes": 50.0}, device).values()) == 5.0
    talking = {**plan, "collectives": {"all-gather": {"sent": 100.0}, "all-reduce": {"sent": 20.0}}}
    assert sent_bytes(talking) == 120.0
    assert max(parts(talking, device).values()) == 30.0


def test_utilisation_and_notes():
    kinds = {"all-reduce": {"count": 2.0, "bytes": 200.0, "sent": 200.0}}
    plan = {
        **PLAN,
        "memory": {**MEMORY, "peak": 1.0},
        "flops": 1000.0,
        "model_flops": 3000.0,
        "bytes": 50.0,
        "devices": 4,
        "collectives": kinds,
        "endless": 1,
        "compile_seconds": 1.0,
        "platform": "cpu",
    }
    found = report(plan, Hardware("x", 100.0, 50.0, 10.0, GIB, 4.0, 2), batch_size=8, mesh={"data": 4}, devices=8)
    assert (found["seconds"], found["bound"]) == (50.0, "interconnect")
    assert found["mfu"] == 3000 / (50 * 50 * 4)
    printed = render(found)
    for text in (
        "4 x x: data 4; 4 more are left idle",
        "all-reduce       2 of 200 B together, 200 B sent",
        "expected MFU       30 % or so",
        "interconnect     50 s",
        "beyond lies a slower network",
        "1 loops",
        "compiled for processors",
    ):
        assert text in printed
    unknown = report({**plan, "platform": "gpu"}, Hardware("y", 100.0, 50.0, 10.0, GIB), batch_size=8)
    assert "at the most" in render(unknown) and "compiled for" not in render(unknown)
    assert unknown["bound"] == "arithmetic" and "no rate is known" in render(unknown)


def test_the_cpu_is_measured():
    device, count = hardware()
    assert device.name == "cpu" and count >= 1
    assert 1e9 < device.float32 < 1e14 and 1e8 < device.bandwidth < 1e13 and device.memory > 1e8
    plan = plan_step(jax.jit(jnp.matmul), (shape(64, 64), shape(64, 64)))
    assert "yes" in render(report(plan, device, batch_size=64))


def test_devices_of_one_processor_share_it():
    one, eight = hardware("cpu")[0], hardware("cpu-8")[0]
    assert (eight.float32, eight.memory) == (one.float32 / 8, one.memory / 8)


def test_unknown_device():
    with pytest.raises(InputError, match="--devices tpu-v5p"):
        hardware("tpu-v5-8")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "own.py"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def on_eight(recipe):
    """What a process with eight devices finds: see planning_child.py."""
    program = Path(__file__).parent / "planning_child.py"
    environment = {**os.environ, **simulated(8), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, program, recipe.parent / "fitted", recipe]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_share_of_the_parameters_under_fsdp(on_eight):
    """A device's parameters and optimiser state fall as 1/n, but for the biases, which no axis splits."""
    found = on_eight["by_fsdp"]
    biases = 4 * (512 + 512 + 10)
    whole = 4 * (64 * 512 + 512 * 512 + 512 * 10) + biases
    for n in (1, 2, 4, 8):
        assert found[str(n)]["parameters"] == (whole - biases) / n + biases
        assert found[str(n)]["optimizer"] == pytest.approx(2 * found[str(n)]["parameters"], abs=16)
        kept = sum(found[str(n)][name] for name in ("parameters", "optimizer", "other", "batch"))
        assert found[str(n)]["arguments"] == pytest.approx(kept, rel=0.01)


def test_a_plan_for_devices_that_are_not_here(recipe, on_eight):
    found = verbs.plan(recipes.load(str(recipe)), "tpu-v5e-8")
    assert on_eight["mesh"] == found["mesh"] == {"data": 2, "fsdp": 4, "tensor": 1}
    for name, size in on_eight["before"].items():
        assert found["memory"][name] == size == on_eight["after"][name]
    assert found["memory"]["arguments"] == pytest.approx(on_eight["arguments"], rel=0.1)
    assert found["memory"]["peak"] == pytest.approx(on_eight["peak"], rel=0.1)
    assert found["devices"] == 8 and found["fits"] and 0 < found["mfu"] <= 1
    # What fsdp is: each matrix gathered at least once, its gradient summed to the shards it is split in, and those over
    # the other axis.
    matrices = 4 * (64 * 512 + 512 * 512 + 512 * 10)
    assert found["collectives"]["all-gather"]["bytes"] >= matrices
    assert found["collectives"]["reduce-scatter"]["bytes"] == matrices
    assert found["collectives"]["all-reduce"]["bytes"] == pytest.approx(matrices / 4, rel=0.02)


def test_a_mesh_that_does_not_suit(recipe):
    with pytest.raises(InputError, match="multiples of 8 devices") as refused:
        verbs.plan(recipes.load(str(recipe)), "h200-12")
    assert "found: 12 devices" in str(refused.value)
    with pytest.raises(InputError, match="is no slice: the chips of one are a power of two") as refused:
        verbs.plan(recipes.load(str(recipe)), "tpu-v5e-12")
    assert refused.value.fix == "--devices tpu-v5e-16"
    with pytest.raises(InputError, match="more than can be simulated"):
        verbs.plan(recipes.load(str(recipe)), "tpu-v5p-4096")


@pytest.mark.slow
def test_a_pod(command):
    printed = command(
        "plan",
        "vision.digits_dnn",
        "--devices",
        "tpu-v5e-256",
        "--train.batch_size",
        "512",
        "--parallel.fsdp",
        "4",
        "--model.hidden",
        "512",
    )
    assert "256 x tpu-v5e: data 64, fsdp 4" in printed and "all-reduce" in printed


def click_cost(rows, devices=1):
    """A step of DeepFM with Adam by rows, of batch 512 and 26 fields."""
    from suite.experiment.sections import Experiment, Optim, Parallel, Train
    from suite.models import deepfm
    from suite.planning.simulation import simulated_cost, step_cost
    from suite.tasks.recommendation.click import ClickPrediction

    model = deepfm.Config(rows=rows, fields=26, width=15, hidden=(32,))
    experiment = Experiment(
        name="clicks",
        task=ClickPrediction(data=None),
        model=model,
        train=Train(batch_size=512),
        optim=Optim(schedule="constant"),
        parallel=Parallel(fsdp=devices),
    )
    shapes = {
        "ids": ((1, 512, 26), "int32"),
        "label": ((1, 512), "float32"),
        "mask": ((1, 512), "bool"),
        "dense": ((1, 512, 0), "float32"),
        "weights": ((1, 512, 0), "float32"),
    }
    return step_cost(experiment, shapes, 100) if devices == 1 else simulated_cost(experiment, shapes, 100, devices)


def test_a_table_of_26_million_rows():
    """It is held, thrice (with Adam's moments) and with an integer a row; but a step moves the rows of its batch."""
    small, large = click_cost(260_000), click_cost(26_000_000)
    assert large["memory"]["parameters"] == pytest.approx(4 * 16 * 26e6, rel=1e-3)
    assert large["memory"]["optimizer"] == pytest.approx(4 * (2 * 16 + 1) * 26e6, rel=1e-3)
    assert large["memory"]["temporary"] == pytest.approx(small["memory"]["temporary"], rel=0.01)
    assert large["memory"]["peak"] == pytest.approx(large["memory"]["arguments"], rel=0.01)
    assert large["bytes"] == pytest.approx(small["bytes"], rel=0.01)
    assert large["bytes"] < 4 * 16 * 26e6 / 10
    assert large["flops"] == pytest.approx(small["flops"], rel=0.01)


@pytest.mark.parametrize("name", ("recommendation.beauty_gru4rec", "vision.digits_dnn"))
def test_answers_are_planned_as_a_split_is_scored(name):
    """Not as training: with the catalogue that answers are ranked in, and without what is drawn for a step."""
    experiment = recipes.load(name, smoke=True)
    path = getattr(experiment.task.data, "path", "")
    if path and not Path(path).exists():
        pytest.skip(f"needs {path}")
    step, answers = (verbs.plan(experiment, compiler="simulated", answers=answers) for answers in (False, True))
    assert answers["flops"] > 0 and answers["parameters"] == step["parameters"]
    if name == "vision.digits_dnn":
        assert answers["flops"] < step["flops"]  # forward alone
