"""Start of a training: programs compiled ahead are those that are called, initial values are JAX's own, and the time
left leaves compilation out."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import suite
from suite.experiment.sections import replace
from suite.nn.cpu import threefry
from suite.training import compile_ahead
from suite.training.initial_state import InitialState
from suite.training.logging import bar
from suite.training.state import State
from tests import toy
from tests.conftest import simulated

ROOT = Path(__file__).parents[2]
BUILT = "/jax/core/compile/backend_compile_duration"
CLOCKS = {"train/seconds", "train/seconds_before", "train/examples_per_second"}


class Drawn(nnx.Module):
    """Large and small draws, constants, and a layer that keeps a key."""

    def __init__(self, rngs):
        self.table = nnx.Param(jax.random.normal(rngs.params(), (64, 33)) * 0.02)
        self.linear = nnx.Linear(40, 30, rngs=rngs)
        self.small = nnx.Param(jax.random.uniform(rngs.params(), (3,)))
        self.half = nnx.Param(jnp.full((5, 7), 0.5, jnp.bfloat16))
        self.drop = nnx.Dropout(0.5, rngs=rngs)


def drawn_state(rngs):
    _, params, others = nnx.split(threefry.with_own_keys(Drawn(rngs)), nnx.Param, ...)
    params, others = nnx.to_pure_dict(params), nnx.to_pure_dict(others)
    return State(jnp.int32(0), params, others, optax.adamw(1e-3).init(params), jax.tree.map(jnp.copy, params))


def bytes_of(leaf):
    leaf = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return np.asarray(leaf).tobytes()


@pytest.mark.parametrize("shape", [(7,), (1024,), (33, 65), (3, 5, 7, 11)])
@pytest.mark.parametrize("kind", ["uint32", "uint16"])
def test_bits_are_those_of_jax(shape, kind):
    for seed in (0, 2**31 - 1):
        own = jax.jit(lambda seed=seed: jax.random.bits(threefry.key(seed), shape, kind))()
        assert (own == jax.random.bits(jax.random.key(seed), shape, kind)).all()


@pytest.mark.parametrize("on_host", [False, True])
def test_initial_values_are_those_of_one_program(on_host):
    plain = jax.jit(lambda: drawn_state(nnx.Rngs(3)))()
    own = InitialState(lambda: drawn_state(nnx.Rngs(threefry.key(3)))).placed(None, on_host)()
    assert jax.tree.structure(own) == jax.tree.structure(plain)
    for one, other in zip(jax.tree.leaves(own), jax.tree.leaves(plain), strict=True):
        assert one.aval == other.aval
        assert bytes_of(one) == bytes_of(other) and not one.committed


def test_the_host_fills_what_is_constant_and_the_state_can_be_donated():
    initial = InitialState(lambda: drawn_state(nnx.Rngs(3))).placed(None, on_host=True)
    text = initial.lower().as_text()
    assert "5x7xbf16" not in text and "64x33xf32" in text
    state = initial()
    after = jax.jit(lambda state: jax.tree.map(lambda a: a + 1, state.opt), donate_argnums=0)(state)
    assert state.opt[0].mu["table"].is_deleted() and float(after[0].mu["table"].sum()) == 64 * 33
    assert float(initial().opt[0].mu["table"].sum()) == 0


def test_keys_are_given_to_the_program_that_draws():
    """So that another seed compiles nothing, and no loop folds them; a copy of what is drawn is the host's."""
    texts = set()
    for seed in (3, 4):
        initial = InitialState(lambda seed=seed: drawn_state(nnx.Rngs(threefry.key(seed)))).placed(None, on_host=True)
        texts.add(initial.lower().as_text())
        state = initial()
        assert (state.ema["table"] == state.params["table"]).all()
    (text,) = texts
    assert "while" not in text and text.count("jax.result_info") == 4


def trained(experiment, folder, ahead):
    """The metrics of a run, and how many programs were compiled, in the thread that trains and in others."""
    jax.clear_caches()
    counts = {True: 0, False: 0}

    def count(event, duration, **given):
        if event == BUILT:
            counts[threading.current_thread() is threading.main_thread()] += 1

    jax.monitoring.register_event_duration_secs_listener(count)
    serves, compile_ahead.serves = compile_ahead.serves, compile_ahead.serves if ahead else lambda *given: False
    try:
        metrics = suite.train(experiment, folder).metrics
    finally:
        compile_ahead.serves = serves
        jax.monitoring.unregister_event_duration_listener(count)
    return {name: value for name, value in metrics.items() if name not in CLOCKS}, counts[True], counts[False]


def check_as_without(experiment, folder):
    """With compilation ahead and without it a run compiles as many programs, and its numbers are the same."""
    plain, programs, others = trained(experiment, folder / "plain", ahead=False)
    ahead, late, early = trained(experiment, folder / "ahead", ahead=True)
    assert ahead == plain
    assert others == 0 and early >= 3 and late + early == programs


@pytest.mark.parametrize(
    "fields",
    [{}, {"train.steps_per_dispatch": 4, "train.ema": 0.0}, {"pipeline.buckets": (12,), "gradient.accumulate": 2}],
)
def test_no_program_is_compiled_twice(fields, tmp_path):
    check_as_without(replace(toy.experiment(), {"train.steps": 40, "train.eval_every": 20, **fields}), tmp_path)


@pytest.mark.parametrize("fields", ["{'parallel.fsdp': 2}", "{'parallel.engine': 'pmap'}"])
def test_no_program_is_compiled_twice_on_a_mesh(fields, tmp_path):
    script = (
        "from pathlib import Path; from suite.experiment.sections import replace; from tests import toy; "
        "from tests.training.test_compile_ahead import check_as_without; "
        f"check_as_without(replace(toy.experiment(), {{'train.steps': 8, **{fields}}}), Path({str(tmp_path)!r}))"
    )
    child = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **simulated(2)}, cwd=ROOT, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr


def test_a_program_that_fails_ahead_fails_where_it_is_called():
    def broken():
        raise ValueError("no such shape")

    with compile_ahead.Ahead() as ahead:
        ahead.add("broken", broken)
        ahead.wait("broken")
        ahead.wait("unknown")


def test_the_time_left_leaves_compilation_out(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(bar.time, "monotonic", lambda: now[0])
    pace = bar.Pace(1000, resumed=0)
    now[0] += 30.0  # programs, weights, the first batch
    pace.begin()
    now[0] += 40.0
    pace.pause(40.0)  # compilation
    now[0] += 5.0
    assert pace.left(50) == "1:35"  # 0.1 s a step
    now[0] += 5.0
    assert pace.left(100) == "1:30"
