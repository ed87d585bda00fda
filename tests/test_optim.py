"""Optimisers against optax's own and against what their fields promise."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from suite.errors import InputError
from suite.experiment.sections import Optim
from suite.training.optim.optimizer import build
from suite.training.optim.schedules import schedule
from suite.tree import nest, paths


def params():
    rng = np.random.default_rng(0)
    kernel = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    return {
        "embed": {"embedding": kernel(7, 4)},
        "layers": {0: {"kernel": kernel(4, 4), "bias": kernel(4)}, 1: {"kernel": kernel(4, 4), "bias": kernel(4)}},
        "head": {"kernel": kernel(4, 2)},
    }


def step_once(transform, tree, grads):
    state = transform.init(tree)
    updates, state = transform.update(grads, state, tree)
    return updates, state


def test_tree_round_trip():
    tree = params()
    flat = paths(tree)
    assert "layers/0/kernel" in flat and len(flat) == 6
    assert jax.tree.structure(nest(flat)) == jax.tree.structure(tree)


def test_adamw_is_optax_adamw():
    tree = params()
    optim = Optim(learning_rate=3e-3, schedule="constant", weight_decay=0.1, no_decay=())
    ours, theirs = build(optim, tree, 100), optax.adamw(3e-3, weight_decay=0.1)
    mine, other, a, b = tree, tree, ours.init(tree), theirs.init(tree)
    for _ in range(5):
        updates, a = ours.update(jax.tree.map(jnp.sin, mine), a, mine)
        mine = optax.apply_updates(mine, updates)
        updates, b = theirs.update(jax.tree.map(jnp.sin, other), b, other)
        other = optax.apply_updates(other, updates)
    for name, leaf in paths(mine).items():
        np.testing.assert_allclose(leaf, paths(other)[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion", "muon", "adafactor"])
def test_each_optimiser_lowers_a_quadratic(name):
    tree = params()
    optim = Optim(name=name, learning_rate=0.05, clip_norm=1.0, weight_decay=0.01, frozen=("head",), layer_decay=0.9)
    transform = build(optim, tree, 100)

    def loss(tree):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))

    @jax.jit
    def step(tree, state):
        updates, state = transform.update(jax.grad(loss)(tree), state, tree)
        return optax.apply_updates(tree, updates), state

    first, state, head = loss(tree), transform.init(tree), tree["head"]["kernel"]
    for _ in range(60):
        tree, state = step(tree, state)
    np.testing.assert_array_equal(tree["head"]["kernel"], head)
    assert loss(tree) < 0.5 * first


def test_decay_leaves_named_parameters_alone():
    tree = params()
    optim = Optim(learning_rate=1.0, schedule="constant", weight_decay=0.1)
    updates, _ = step_once(build(optim, tree, 10), tree, jax.tree.map(jnp.zeros_like, tree))
    np.testing.assert_allclose(updates["head"]["kernel"], -0.1 * tree["head"]["kernel"], rtol=1e-6)
    assert not updates["layers"][0]["bias"].any() and not updates["embed"]["embedding"].any()


@pytest.mark.parametrize("name", ["adamw", "muon", "adafactor"])
def test_frozen_hold_no_state(name):
    tree = params()
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    optim = Optim(name=name, frozen=("embed", "layers/0/"), weight_decay=0.1)
    transform = build(optim, shapes, 10)  # shapes alone are enough
    updates, state = step_once(transform, tree, jax.tree.map(jnp.ones_like, tree))
    assert not updates["embed"]["embedding"].any() and updates["head"]["kernel"].any()
    assert (7, 4) not in {leaf.shape for leaf in jax.tree.leaves(state)}


def test_frozen_do_not_count_in_the_norm():
    tree = params()
    grads = jax.tree.map(jnp.ones_like, tree)
    grads["embed"]["embedding"] *= 1e6
    optim = Optim(name="sgd", beta1=0.0, learning_rate=1.0, schedule="constant", clip_norm=1.0, frozen=("embed",))
    updates, _ = step_once(build(optim, tree, 10), tree, grads)
    np.testing.assert_allclose(optax.tree.norm(updates), 1.0, rtol=1e-5)


def test_layer_decay_factors():
    tree = params()
    optim = Optim(name="sgd", beta1=0.0, learning_rate=1.0, schedule="constant", layer_decay=0.5)
    layers = {"embed": 0, "layers/0": 1, "layers/1": 2, "head": 3}
    layer_of = lambda path: next(n for prefix, n in layers.items() if path.startswith(prefix))
    updates, _ = step_once(build(optim, tree, 10, layer_of, 3), tree, jax.tree.map(jnp.ones_like, tree))
    found = [float(paths(updates)[name].ravel()[0]) for name in ("embed/embedding", "layers/1/bias", "head/kernel")]
    assert found == [-0.125, -0.5, -1.0]


def test_rates_are_factors_and_the_first_match_counts():
    tree = params()
    optim = Optim(
        name="sgd",
        beta1=0.0,
        learning_rate=1.0,
        schedule="constant",
        layer_decay=0.5,
        rates=(("head", 10.0), ("kernel", 3.0), ("layers/0/bias", 0.0)),
    )
    layers = {"embed": 0, "layers/0": 1, "layers/1": 2, "head": 3}
    layer_of = lambda path: next(n for prefix, n in layers.items() if path.startswith(prefix))
    updates, _ = step_once(build(optim, tree, 10, layer_of, 3), tree, jax.tree.map(jnp.ones_like, tree))
    names = ("embed/embedding", "layers/0/kernel", "layers/0/bias", "layers/1/kernel", "head/kernel")
    found = [float(paths(updates)[name].ravel()[0]) for name in names]
    assert found == [-0.125, -0.75, 0.0, -1.5, -10.0]


def test_schedule_values():
    optim = Optim(learning_rate=2.0, warmup_steps=10, end_fraction=0.1)
    for kind, middle, end in (("cosine", 1.1, 0.2), ("linear", 1.1, 0.2), ("constant", 2.0, 2.0)):
        rate = schedule(replace(optim, schedule=kind), 110)
        values = [float(rate(step)) for step in (0, 5, 10, 60, 110, 200)]
        np.testing.assert_allclose(values, [0.0, 1.0, 2.0, middle, end, end], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"beta1": 1.0}, "beta1"),
        ({"beta2": -0.1}, "beta2"),
        ({"layer_decay": 0.0}, "layer_decay"),
        ({"frozen": ("(",)}, "frozen"),
        ({"frozen": ("hed",)}, "frozen"),
        ({"rates": (("hed", 2.0),)}, "rates"),
        ({"rates": (("(", 2.0),)}, "rates"),
        ({"rates": (("head", -2.0),)}, "rates"),
        ({"rates": (("head", float("nan")),)}, "rates"),
    ],
)
def test_refused(change, field):
    with pytest.raises(InputError, match=rf"^field optim\.{field}: "):
        build(Optim(**change), params(), 100)


def test_frozen_typo_names_what_there_is():
    with pytest.raises(InputError, match='"heads/kernel" matches no parameter') as error:
        build(Optim(frozen=("heads/kernel",)), params(), 100)
    assert error.value.fix == "--optim.frozen head/kernel"
