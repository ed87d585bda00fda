"""Pruning of single weights while training: which go, when, and that they stay gone."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import suite
from suite.errors import InputError
from suite.experiment.compression import Sparsity
from suite.experiment.sections import Optim, replace
from suite.models import deepfm, transformer
from suite.training.assemble import assemble
from suite.training.checkpoint import Checkpoints
from suite.training.optim.optimizer import build
from suite.training.optim.sparsity import Masked, living, masked, pruned_paths, settled
from suite.training.state import to_stored
from suite.tree import paths
from tests import toy
from tests.conftest import simulated
from tests.training.test_interruption import Spoilt


def sparsity(**changes):
    return Sparsity(**{"share": 0.5, "exclude": (), **changes})


def drawn(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


# Which weights stay


@pytest.mark.parametrize("pattern, share", [("2:4", 0.5), ("1:4", 0.75), ("4:8", 0.5)])
@pytest.mark.parametrize("shape", [(16, 5), (3, 3, 8, 4)])
def test_a_pattern_is_exact_along_the_inputs(pattern, share, shape):
    kept, group = map(int, pattern.split(":"))
    scores = drawn(*shape)
    mask = np.asarray(living(scores, jnp.float32(share), sparsity(share=share, pattern=pattern)))
    rows = np.moveaxis(np.asarray(scores), -2, -1).reshape(-1, group)
    stay = np.moveaxis(mask, -2, -1).reshape(-1, group)
    assert (stay.sum(1) == kept).all()
    for row, there in zip(rows, stay, strict=True):
        assert set(np.flatnonzero(there)) == set(np.argsort(-row)[:kept])


def test_a_pattern_is_exact_where_scores_are_equal():
    mask = living(jnp.ones((8, 3)), jnp.float32(0.5), sparsity(pattern="2:4"))
    assert (np.asarray(mask).reshape(2, 4, 3).sum(1) == 2).all()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("sign", [1, -1, 0])
def test_the_largest_stay(share, sign):
    """Scores of either sign, and of both."""
    scores = drawn(40, 25) if sign == 0 else sign * jnp.abs(drawn(40, 25))
    mask = np.asarray(living(scores, jnp.float32(share), sparsity()))
    assert (~mask).sum() == round(share * 1000)
    if share:
        assert np.asarray(scores)[mask].min() > np.asarray(scores)[~mask].max()


def test_the_share_is_exact_where_scores_are_equal():
    """As of inputs that are always zero: half of these scores are equal, and lie between the others."""
    scores = jnp.concatenate([drawn(10, 8), jnp.zeros((10, 8))])
    mask = np.asarray(living(scores, jnp.float32(0.5), sparsity()))
    assert mask.sum() == 80 and mask[:10][np.asarray(scores[:10]) > 0].all()


# When


def steps(transform, params, gradient, count):
    """The parameters after each of so many steps."""
    state = transform.init(params)
    step = jax.jit(transform.update)
    for i in range(count):
        updates, state = step(gradient(i, params), state, params)
        params = optax.apply_updates(params, updates)
        yield params, state


def test_the_share_rises_along_a_cubic_curve():
    params = {"kernel": drawn(50, 40)}
    how = sparsity(share=0.8, begin=0.2, end=0.7, updates=1000)
    transform = masked(optax.identity(), how, ["kernel"], 100)
    zeros = [float((made["kernel"] == 0).mean()) for made, _ in steps(transform, params, lambda i, p: p, 100)]
    done = np.clip((np.arange(100) - 20) / 50, 0, 1)
    np.testing.assert_allclose(zeros, 0.8 * (1 - (1 - done) ** 3), atol=1e-3)
    assert settled(how, 100) == 71
    np.testing.assert_allclose(zeros[70:], 0.8, rtol=1e-6)


def test_masks_change_as_often_as_they_are_told():
    params = {"kernel": drawn(50, 40)}
    how = sparsity(begin=0.0, end=0.5, updates=5)
    transform = masked(optax.identity(), how, ["kernel"], 100)
    zeros = [int((made["kernel"] == 0).sum()) for made, _ in steps(transform, params, lambda i, p: p, 100)]
    changed = [i for i in range(1, 100) if zeros[i] != zeros[i - 1]]
    assert changed == [10, 20, 30, 40, 50] and zeros[-1] == 1000


def test_a_sparse_model_keeps_its_zeros():
    """Begun and ended at once, as a compressed run's own experiment says."""
    kernel = jnp.where(jnp.abs(drawn(40, 25)) > 0.67, drawn(40, 25), 0)
    zero = np.asarray(kernel == 0)
    how = sparsity(share=float(zero.mean()), begin=0.0, end=0.0)
    transform = masked(optax.sgd(0.1), how, ["kernel"], 20)
    for made, _ in steps(transform, {"kernel": kernel}, lambda i, p: {"kernel": drawn(40, 25, seed=i)}, 5):
        np.testing.assert_array_equal(np.asarray(made["kernel"]) == 0, zero)


# By what


def trend(i, params):
    """Moves the first row away from zero and the second towards it, by little."""
    return {"kernel": jnp.stack([-jnp.sign(params["kernel"][0]), jnp.sign(params["kernel"][1])])}


@pytest.mark.parametrize("criterion, gone", [("magnitude", 0), ("movement", 1), ("taylor", 0)])
def test_movement_keeps_what_moves_away_from_zero(criterion, gone):
    """Its weights are the smaller ones all along; so is their product with the gradient, whose size taylor takes."""
    params = {"kernel": jnp.asarray([[0.1, -0.1, 0.1, -0.1], [1.0, -1.0, 1.0, -1.0]])}
    how = sparsity(criterion=criterion, begin=0.5, end=0.5)
    transform = masked(optax.sgd(0.01), how, ["kernel"], 20)
    *_, (made, _) = steps(transform, params, trend, 20)
    assert (made["kernel"][gone] == 0).all() and (made["kernel"][1 - gone] != 0).all()


def test_scores_are_their_sums():
    params = {"kernel": drawn(6, 4), "bias": drawn(4)}
    gradient = lambda i, p: {"kernel": drawn(6, 4, seed=i + 1), "bias": drawn(4, seed=i)}
    transform = masked(optax.identity(), sparsity(criterion="movement", begin=1.0, end=1.0), ["kernel"], 10)
    expected, before = np.zeros((6, 4)), params
    for i, (made, state) in enumerate(steps(transform, params, gradient, 5)):
        expected -= np.asarray(before["kernel"] * gradient(i, None)["kernel"])
        np.testing.assert_allclose(state.scores["kernel"], expected, rtol=1e-5)
        before = made


# Of which parameters

MODEL = transformer.Config(vocab_size=30, outputs=2, layers=2, width=16, heads=2, feed_forward=32)


def abstract(config):
    from flax import nnx

    model = nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0)))
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def test_embeddings_norms_biases_and_the_head_are_left_alone():
    chosen = pruned_paths(sparsity(), abstract(MODEL), (), MODEL.layer_of, MODEL.depth)
    parts = ("attention/query", "attention/key", "attention/value", "attention/out", "mlp/up", "mlp/down")
    assert set(chosen) == {f"encoder/layers/{i}/{part}/kernel" for i in range(2) for part in parts}
    fewer = pruned_paths(sparsity(exclude=(r"layers/0", r"attention")), abstract(MODEL))
    assert set(fewer) == {"encoder/layers/1/mlp/up/kernel", "encoder/layers/1/mlp/down/kernel", "head/kernel"}
    frozen = {"encoder/layers/0/mlp/up/kernel"}
    assert frozen.isdisjoint(pruned_paths(sparsity(), abstract(MODEL), frozen))
    clicks = deepfm.Config(rows=20, fields=3, width=4, hidden=(16,))
    assert pruned_paths(Sparsity(share=0.5), abstract(clicks)) == ("layers/0/kernel",)


def test_nothing_is_pruned_where_nothing_is_asked():
    assert pruned_paths(Sparsity(), abstract(MODEL)) == ()
    assert settled(Sparsity(), 100) == 0


@pytest.mark.parametrize(
    "changes, lines",
    [
        ({"share": 1.0}, ["field optim.sparsity.share: must be at least 0 and below 1.", "  found: 1.0"]),
        (
            {"begin": 0.8},
            [
                "field optim.sparsity.begin: must be at least 0 and at most end, which is at most 1.",
                "  found: begin 0.8, end 0.7",
            ],
        ),
        (
            {"criterion": "size"},
            ['field optim.sparsity.criterion: there is no criterion "size".', "  try:   magnitude, movement or taylor"],
        ),
        (
            {"pattern": "4:2"},
            ['pattern "4:2": is none of weights.', "  try:   unstructured, or 2:4: two of each four weights stay"],
        ),
        (
            {"pattern": "1:4"},
            ["field optim.sparsity.share: is 0.5, but 1:4 prunes another.", "  try:   --optim.sparsity.share 0.75"],
        ),
        (
            {"pattern": "12:24"},
            [
                "field optim.sparsity.pattern: is 12:24, and 24 does not divide the inputs of "
                + ", ".join(
                    f"encoder/layers/0/{part}/kernel"
                    for part in ("attention/key", "attention/out", "attention/query", "attention/value", "mlp/down")
                )
                + ".",
                "  found: 16 inputs",
                "  try:   --optim.sparsity.exclude '^head' encoder/layers/0/attention/key/kernel",
            ],
        ),
        (
            {"exclude": ("(",)},
            [
                "field optim.sparsity.exclude: not a regular expression: missing ), unterminated subpattern "
                "at position 0.",
                "  found: (",
            ],
        ),
        (
            {"exclude": ("",)},
            [
                "field optim.sparsity: leaves nothing to prune.",
                "  found: encoder/layers/0/attention/key/kernel, encoder/layers/0/attention/out/kernel, "
                "encoder/layers/0/attention/query/kernel, encoder/layers/0/attention/value/kernel, "
                "encoder/layers/0/mlp/down/kernel, encoder/layers/0/mlp/up/kernel, "
                "encoder/layers/1/attention/key/kernel, encoder/layers/1/attention/out/kernel",
                '  try:   --optim.sparsity.exclude "^head"',
            ],
        ),
    ],
)
def test_what_is_refused(changes, lines):
    with pytest.raises(InputError) as error:
        pruned_paths(sparsity(**changes), abstract(MODEL), (), MODEL.layer_of, MODEL.depth)
    assert str(error.value).splitlines() == lines


# In training


def pruned(**changes):
    """The toy recipe with its hidden layer pruned: 32 of 64 weights are zero from step 29 on."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    how = {"optim.sparsity.share": 0.5, "optim.sparsity.updates": 10, "train.eval_every": 10, "train.steps": 40}
    return replace(toy.experiment(), {**how, **named})


def kernels(run):
    """Of the served weights: pruned ones, and the head's."""
    params = run._weights[0]
    return np.asarray(params["hidden"]["kernel"]), np.asarray(params["head"]["kernel"])


def stored(run):
    """The last state that was saved."""
    program = assemble(run.experiment, 40)
    with Checkpoints(run.folder / "checkpoints", writing=False) as checkpoints:
        return checkpoints.restore(checkpoints.latest, to_stored(program.abstract))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return suite.train(pruned(), tmp_path_factory.mktemp("sparse") / "run")


def test_zeros_are_exact_in_parameters_and_their_average(run):
    state = stored(run)
    masks = np.asarray(state["opt"].masks["hidden"]["kernel"])
    assert (~masks).sum() == 32
    for part in ("params", "ema"):
        kernel = np.asarray(state[part]["hidden"]["kernel"])
        np.testing.assert_array_equal(kernel != 0, masks)
    hidden, head = kernels(run)
    assert (hidden == 0).sum() == 32 and (head != 0).all()


def test_the_best_is_none_of_those_that_were_not_yet_pruned(run):
    """Evaluations of steps 10 and 20 are logged, and the best is chosen among 30 and 40."""
    history = run.history
    scores = {s: v for s, v in zip(history["step"], history["validation/accuracy"], strict=True) if v is not None}
    assert set(scores) == {10, 20, 30, 40}
    assert run.metrics["validation/accuracy"] == max(scores[30], scores[40])
    with Checkpoints(run.folder / "checkpoints", writing=False) as checkpoints:
        assert checkpoints.best in (30, 40)


def test_frozen_parameters_stay_whole(tmp_path):
    made = suite.train(pruned(optim__frozen=("hidden",), optim__sparsity__exclude=()), tmp_path / "run")
    hidden, head = kernels(made)
    assert (hidden != 0).all() and (head == 0).sum() == 16


class Stop(Exception):
    pass


def test_it_goes_on_bit_for_bit_from_the_middle(run, tmp_path):
    """Stopped while the share rises, after the checkpoint of step 20."""

    def stop(item):
        if item.first == 23:
            raise Stop

    with pytest.raises(Stop):
        suite.train(pruned(), tmp_path / "run", on_dispatch=stop)
    again = suite.resume(tmp_path / "run", allow=("tests",))
    one, other = (paths(stored(made)["params"]) for made in (run, again))
    for name, leaf in one.items():
        np.testing.assert_array_equal(leaf, other[name])
    np.testing.assert_array_equal(
        stored(run)["opt"].masks["hidden"]["kernel"], stored(again)["opt"].masks["hidden"]["kernel"]
    )


def test_a_skipped_step_changes_no_mask():
    """A gradient that is no number, in the one step where masks would change."""
    experiment = pruned(train__on_nan="skip", optim__sparsity__begin=0.05, optim__sparsity__end=0.05, train__ema=0.9)
    program = assemble(experiment, 40)
    state = program.init()
    batch = {
        "digits": jnp.zeros((1, 16, 6), jnp.int32),
        "digits_mask": jnp.ones((1, 16, 6), bool),
        "label": jnp.zeros((1, 16), jnp.int32),
        "mask": jnp.ones((1, 16), bool),
    }
    broken = jax.tree.map(lambda a: a * jnp.nan, state.params["head"])
    for i in range(6):
        kept = state.params["head"]
        if i == 2:
            state = jax.tree.map(jnp.copy, state)
            kept = jax.tree.map(jnp.copy, state.params["head"])
            state.params["head"] = broken
        state, tallies = program.step(state, batch)
        if i == 2:
            assert float(tallies["skipped"].total) == 1 and bool(state.opt.masks["hidden"]["kernel"].all())
            state.params["head"] = kept
    assert int(state.opt.count) == 5  # the skipped one doesn't count
    assert int((state.params["hidden"]["kernel"] == 0).sum()) == 32


def test_what_was_skipped_is_made_up_for_before_a_step_is_the_best(tmp_path):
    """The last zeros of thirty steps come with the 22nd that is not skipped."""
    made = pruned(task=Spoilt(marked=(77,)), train__on_nan="skip", train__steps=30, train__eval_every=22)
    trained = suite.train(made, tmp_path / "run")
    skipped = sum(value for value in trained.history["train/skipped"][:4] if value is not None)
    assert skipped > 0
    with Checkpoints(trained.folder / "checkpoints", writing=False) as checkpoints:
        assert checkpoints._steps == [22, 30] and checkpoints._ranks().keys() == {30}
    assert (kernels(trained)[0] == 0).sum() == 32


def test_a_skipped_step_with_none_to_make_up_for_it(tmp_path):
    made = pruned(train__on_nan="skip", optim__sparsity__end=1.0)
    with pytest.raises(InputError) as error:
        suite.train(made, tmp_path / "run")
    assert str(error.value) == (
        "field optim.sparsity.end: is the last of 40 steps, and none is left to make up for one that train.on_nan "
        "skips.\n  found: 1\n  try:   --optim.sparsity.end 0.7"
    )
    assert not (tmp_path / "run").exists()


MESH = """
import json, jax, suite
from suite.experiment.sections import replace
experiment = replace(suite.load("vision.digits_dnn"), {changes})
made = suite.train(experiment, {folder!r})
kernel = made._weights[0]["layers"][0]["kernel"]
print(json.dumps([jax.device_count(), int((kernel == 0).sum()), str(kernel.sharding.spec)]))
"""


@pytest.mark.slow
def test_eight_devices_prune_as_one(forked_child, tmp_path):
    changes = {
        "train.steps": 12,
        "train.steps_per_dispatch": 3,
        "train.log_every": 3,
        "train.eval_every": 12,
        "parallel.fsdp": 2,
        "train.ema": 0.9,
        "optim.warmup_steps": 2,
        "optim.sparsity.share": 0.5,
        "optim.sparsity.criterion": "movement",
    }
    printed = forked_child(MESH.format(changes=changes, folder=str(tmp_path / "eight")), **simulated(8))
    devices, zeros, spec = json.loads(printed.splitlines()[-1])
    one = suite.train(
        replace(suite.load("vision.digits_dnn"), {**changes, "parallel.fsdp": 1, "parallel.data": 1}), tmp_path / "one"
    )
    kernel = one._weights[0]["layers"][0]["kernel"]
    assert devices == 8 and "fsdp" in spec
    assert zeros == int((kernel == 0).sum()) == kernel.size // 2
    eight = suite.open(tmp_path / "eight").history
    for name in ("train/loss", "validation/loss"):
        pairs = [(a, b) for a, b in zip(one.history[name], eight[name], strict=True) if a is not None]
        assert pairs and np.ptp(pairs, axis=1).max() < 1e-4


def test_the_optimiser_of_a_recipe_is_as_before_where_nothing_is_pruned():
    params = {"kernel": drawn(4, 4)}
    plain = build(Optim(learning_rate=1e-2), params, 10)
    assert not isinstance(plain.init(params), Masked)
