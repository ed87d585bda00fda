"""Row-sparse tables: the same as dense Adam where every row is touched, exact where rows repeat, still elsewhere."""

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import suite
from suite.errors import InputError
from suite.experiment.sections import Experiment, Optim, Train
from suite.models import deepfm
from suite.tasks.recommendation.click import ClickPrediction
from suite.training.assemble import assemble
from suite.training.checkpoint import Checkpoints
from suite.training.optim import schedules, sparse_embeddings
from suite.training.state import from_stored, to_stored
from tests import forked
from tests.conftest import ROOT, simulated

N, D, B, S = 12, 3, 4, 5
NAME, KEY = "table/embedding", "ids"


def random_table(seed=0):
    return np.random.default_rng(seed).standard_normal((N, D)).astype(np.float32)


def run_steps(table, batches, settings, rate=0.1):
    """The table after each batch of (ids (b, s), gradients (b, s, d), mask (b,)), and the state at the end."""
    params = {"table": {"embedding": jnp.asarray(table)}, "bias": jnp.zeros(2)}
    tx, tables = optax.sgd(1.0), {NAME: KEY}
    update = jax.jit(sparse_embeddings.updater(tx, tables, settings, lambda step: rate))
    opt = sparse_embeddings.init(tx, params, tables, settings)
    seen = []
    for step, (ids, grads, mask) in enumerate(batches):
        batch = {KEY: jnp.asarray(ids), "mask": jnp.asarray(mask)}
        picked = sparse_embeddings.pick(params, batch, tables)
        made = {"table": {"embedding": jnp.asarray(grads)}, "bias": jnp.zeros(2)}
        params, opt = update(made, opt, params, picked, batch, jnp.int32(step))
        seen.append(np.asarray(params["table"]["embedding"]))
    return seen, opt


def random_batches(steps, rng, every_row=False):
    for _ in range(steps):
        ids = rng.integers(0, N, (B, S))
        if every_row:  # the first 12 places name every row, the others repeat some
            ids = np.concatenate([rng.permutation(N), rng.integers(0, N, B * S - N)]).reshape(B, S)
        yield ids, rng.standard_normal((B, S, D)).astype(np.float32), np.ones(B, bool)


def dense_gradient(ids, grads, mask):
    total = np.zeros((N, D), np.float32)
    np.add.at(total, ids[mask], grads[mask])
    return total


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_equals_dense_adam_where_every_row_is_touched(decay):
    settings = Optim(weight_decay=decay, no_decay=())
    batches = list(random_batches(6, np.random.default_rng(1), every_row=True))
    seen, _ = run_steps(random_table(), batches, settings)
    tx = optax.adamw(0.1, weight_decay=decay)
    dense = jnp.asarray(random_table())
    state = tx.init(dense)
    for batch, ours in zip(batches, seen, strict=True):
        updates, state = tx.update(jnp.asarray(dense_gradient(*batch)), state, dense)
        dense = optax.apply_updates(dense, updates)
        np.testing.assert_allclose(ours, dense, atol=2e-6)


def test_adagrad_is_the_sum_of_squares():
    batches = list(random_batches(5, np.random.default_rng(2)))
    seen, _ = run_steps(random_table(), batches, Optim(tables="adagrad"))
    table, total = random_table().astype(np.float64), np.zeros((N, D))
    for batch, ours in zip(batches, seen, strict=True):
        gradient = dense_gradient(*batch)
        total += gradient.astype(np.float64) ** 2
        table -= 0.1 * gradient / (np.sqrt(total) + 1e-8)
        np.testing.assert_allclose(ours, table, atol=1e-5)


def test_untouched_rows_stay_to_the_bit_with_their_moments():
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 5, (B, S))
    grads = rng.standard_normal((B, S, D)).astype(np.float32)
    seen, opt = run_steps(random_table(), [(ids, grads, np.ones(B, bool))] * 3, Optim(weight_decay=0.1, no_decay=()))
    touched = np.isin(np.arange(N), ids)
    assert (seen[-1][~touched] == random_table()[~touched]).all()
    assert (np.abs(seen[-1][touched] - random_table()[touched]) > 1e-3).all()
    for moment in ("mu", "nu"):
        values = np.asarray(opt[moment]["table"]["embedding"])
        assert (values[~touched] == 0).all() and (values[touched] != 0).all()


def test_padding_rows_and_ids_outside_touch_nothing():
    """Padded to twice the size, with padding ids inside real rows, a batch does what it does without padding."""
    rng = np.random.default_rng(4)
    ids = rng.integers(0, N - 1, (B, S))
    grads = rng.standard_normal((B, S, D)).astype(np.float32)
    alone, _ = run_steps(random_table(), [(ids, grads, np.ones(B, bool))] * 2, Optim())
    wide = np.concatenate([ids, np.full((B, 1), -1), np.full((B, 1), N)], 1)
    wide = np.concatenate([wide, np.full((B, S + 2), N - 1)])
    noise = np.full((2 * B, S + 2, D), 7, np.float32)
    noise[:B, :S] = grads
    padded, _ = run_steps(random_table(), [(wide, noise, np.arange(2 * B) < B)] * 2, Optim())
    np.testing.assert_array_equal(padded[-1], alone[-1])
    assert (padded[-1][N - 1] == random_table()[N - 1]).all()


def test_repeated_ids_add_up():
    grads = np.ones((1, 3, D), np.float32)
    once, _ = run_steps(random_table(), [(np.array([[4]]), 3 * grads[:, :1], np.ones(1, bool))], Optim())
    thrice, _ = run_steps(random_table(), [(np.array([[4, 4, 4]]), grads, np.ones(1, bool))], Optim())
    np.testing.assert_array_equal(once[0], thrice[0])


def test_decay_leaves_alone_what_no_decay_names():
    batch = (np.array([[4]]), np.zeros((1, 1, D), np.float32), np.ones(1, bool))
    decayed, _ = run_steps(random_table(), [batch], Optim(weight_decay=0.5, no_decay=()))
    spared, _ = run_steps(random_table(), [batch], Optim(weight_decay=0.5))
    np.testing.assert_allclose(decayed[0][4], 0.95 * random_table()[4], rtol=1e-6)
    np.testing.assert_array_equal(spared[0], random_table())


@pytest.mark.peers
def test_equals_sparse_adam_of_pytorch():
    torch = pytest.importorskip("torch")
    batches = list(random_batches(20, np.random.default_rng(5)))
    seen, _ = run_steps(random_table(), batches, Optim())
    table = torch.nn.Embedding(N, D, sparse=True)
    table.weight.data = torch.tensor(random_table())
    optimizer = torch.optim.SparseAdam(table.parameters(), 0.1)
    for (ids, grads, _), ours in zip(batches, seen, strict=True):
        optimizer.zero_grad()
        (table(torch.tensor(ids)) * torch.tensor(grads)).sum().backward()
        optimizer.step()
        np.testing.assert_allclose(ours, table.weight.detach().numpy(), atol=2e-5)


MODEL = deepfm.Config(rows=40_000, fields=3, lists=(2,), inputs=2, width=4, hidden=(8,))


def experiment(**changes):
    made = Experiment(
        name="rows",
        task=ClickPrediction(data=None),
        model=MODEL,
        optim=Optim(learning_rate=0.05, schedule="constant"),
        train=Train(batch_size=8),
    )
    return suite.replace(made, {name.replace("__", "."): value for name, value in changes.items()})


def batch(seed=0, steps=1, size=8, most=MODEL.rows):
    rng = np.random.default_rng(seed)
    return {
        "ids": rng.integers(0, most, (steps, size, 5)).astype(np.int32),
        "dense": rng.standard_normal((steps, size, 2)).astype(np.float32),
        "weights": rng.random((steps, size, 2)).astype(np.float32),
        "label": rng.integers(0, 2, (steps, size)).astype(np.float32),
        "mask": np.arange(size)[None] < np.full((steps, 1), size - 2),
    }


def leaves(state):
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def test_the_first_step_equals_that_of_the_dense_optimiser():
    """Moments being zero, laziness has no effect yet: so all parameters must agree."""
    lazy, dense = assemble(experiment(), 9), assemble(experiment(optim__tables="dense"), 9)
    ours, _ = lazy.step(lazy.init(), batch(most=20))
    theirs, _ = dense.step(dense.init(), batch(most=20))
    for name, leaf in leaves(ours.params).items():
        np.testing.assert_allclose(leaf, leaves(theirs.params)[name], atol=1e-6)


def test_steps_in_one_dispatch_are_the_same_steps():
    program = assemble(experiment(), 9)
    state = program.init()
    for i in range(3):
        state, _ = program.step(state, {name: value[i : i + 1] for name, value in batch(steps=3).items()})
    at_once, _ = program.step(program.init(), batch(steps=3))
    for name, leaf in leaves(at_once.params).items():
        np.testing.assert_allclose(leaf, leaves(state.params)[name], atol=1e-6)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_step_copies_no_table(steps):
    """Its temporaries are far smaller than the table, which is updated in the buffers that it came in."""
    program = assemble(experiment(), 9)
    memory = program.step.lower(program.abstract, batch(steps=steps)).compile().memory_analysis()
    table = 4 * MODEL.rows * MODEL.columns
    assert memory.alias_size_in_bytes >= 3 * table
    assert memory.temp_size_in_bytes < table / 4


def test_state_survives_a_checkpoint(tmp_path):
    program = assemble(experiment(), 9)
    state, _ = program.step(program.init(), batch())
    fields = to_stored(state)
    from suite.training.checkpoint import Progress

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, fields, Progress(next_batch=1))
    with Checkpoints(tmp_path) as checkpoints:
        abstract = to_stored(program.abstract)
        restored = checkpoints.restore(1, abstract)
    again, _ = program.step(from_stored(restored), batch(1))
    straight, _ = program.step(state, batch(1))
    for name, leaf in leaves(again).items():
        np.testing.assert_array_equal(leaf, leaves(straight)[name])


@pytest.mark.parametrize(("field", "value", "off"), [("train.ema", 0.9, 0), ("gradient.accumulate", 2, 1)])
def test_what_costs_the_whole_table_is_refused(field, value, off):
    with pytest.raises(InputError, match=f"field {field}: is .*updated by rows") as error:
        assemble(experiment(**{field.replace(".", "__"): value}), 9)
    assert error.value.fix == f"--{field} {off}" and error.value.found == "optim.tables other than dense"


def test_learning_rates_follow_the_schedule():
    settings = Optim(learning_rate=0.2, warmup_steps=2)
    rate = schedules.schedule(settings, 10)
    assert float(rate(0)) == 0
    program = assemble(experiment(optim__warmup_steps=2), 9)
    state = program.init()
    before = leaves(state.params)
    state, _ = program.step(state, batch())
    for name, leaf in leaves(state.params).items():
        np.testing.assert_array_equal(leaf, before[name])


SHARDED = """
import jax, numpy as np
from tests.training.test_rows import assemble, batch, experiment, leaves
program = assemble(experiment(parallel__data=2, parallel__fsdp=2), 9)
state = program.init()
assert state.params["table"]["embedding"].sharding.spec[0] == "fsdp"
assert state.opt["mu"]["table"]["embedding"].sharding.spec[0] == "fsdp"
assert state.opt["owner"]["table"]["embedding"].sharding.spec[0] == "fsdp"
for i in range(3):
    state, _ = program.step(state, batch(i, most=50))
np.savez("OUT", **leaves(state.params))
"""


def test_sharded_over_devices_it_is_the_same(tmp_path):
    out = tmp_path / "sharded.npz"
    done = forked.run(
        [sys.executable, "-c", SHARDED.replace("OUT", str(out))],
        env={**os.environ, **simulated(4)},
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    program = assemble(experiment(), 9)
    state = program.init()
    for i in range(3):
        state, _ = program.step(state, batch(i, most=50))
    with np.load(out) as sharded:
        for name, leaf in leaves(state.params).items():
            np.testing.assert_allclose(sharded[name], leaf, atol=1e-5)
