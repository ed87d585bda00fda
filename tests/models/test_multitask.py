"""Multi-task models against their formulas, and what their goals share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.models import multitask

SIZES = {"rows": 20, "fields": 2, "lists": (3,), "inputs": 1, "outputs": 2, "width": 4, "experts": 3, "hidden": (6, 5)}


def built(**changes):
    """A model whose parameters are all random, so that nothing hides behind a zero."""
    model = multitask.Config(**{**SIZES, "tower": (3,), **changes}).build(rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    draw = lambda p: jnp.asarray(0.5 * rng.standard_normal(p.shape), jnp.float32)
    nnx.update(model, jax.tree.map(draw, nnx.state(model, nnx.Param)))
    return model


def inputs():
    rng = np.random.default_rng(1)
    weights = np.array([[0.5, 0.5, 0], [1, 0, 0]], np.float32)
    return rng.standard_normal((2, 1)).astype(np.float32), rng.integers(0, 20, (2, 5)).astype(np.int32), weights


def affine(layer, x):
    kernel, bias = np.asarray(layer.kernel[...]), layer.bias
    return x @ kernel + (0 if bias is None else np.asarray(bias[...]))


def through(layers, x):
    for layer in layers:
        x = np.maximum(affine(layer, x), 0)
    return x


def features(model, dense, ids, weights, columns=slice(None)):
    rows = np.asarray(model.table.embedding[...])[:, columns][ids]
    mean = (rows[:, 2:] * weights[..., None]).sum(1)
    return np.concatenate([rows[:, 0], rows[:, 1], mean, dense], 1)


def tower(model, place, x):
    return affine(model.towers[place].head, through(model.towers[place].network.layers, x))[:, 0]


def test_a_goal_mixes_experts_by_its_gate():
    model, given = built(), inputs()
    x = features(model, *given)
    experts = np.stack([through(expert.layers, x) for expert in model.bottoms], 1)
    for place in range(2):
        scores = np.exp(affine(model.gates[place], x))
        share = scores / scores.sum(1, keepdims=True)
        expected = tower(model, place, (share[..., None] * experts).sum(1))
        np.testing.assert_allclose(model(*given)[:, place], expected, rtol=1e-4, atol=1e-5)


def test_a_shared_bottom_is_the_same_for_all_goals():
    model, given = built(kind="shared_bottom"), inputs()
    bottom = through(model.bottoms[0].layers, features(model, *given))
    expected = [tower(model, place, bottom) for place in range(2)]
    np.testing.assert_allclose(model(*given), np.stack(expected, 1), rtol=1e-4, atol=1e-5)
    assert len(model.gates) == 0 and len(model.bottoms) == 1


def test_separate_goals_share_no_parameter():
    model, given = built(kind="separate"), inputs()
    expected = [
        tower(
            model, place, through(model.bottoms[place].layers, features(model, *given, slice(4 * place, 4 * place + 4)))
        )
        for place in range(2)
    ]
    np.testing.assert_allclose(model(*given), np.stack(expected, 1), rtol=1e-4, atol=1e-5)
    graph, state = nnx.split(model)
    gradients = jax.grad(lambda state: nnx.merge(graph, state)(*given)[:, 0].sum())(state)
    table = np.asarray(gradients["table"]["embedding"][...])
    assert np.abs(table[:, :4]).max() > 0 and not table[:, 4:].any()
    assert not np.asarray(gradients["towers"][1]["head"]["kernel"][...]).any()


def test_a_history_is_read_by_each_of_separate_goals():
    model = built(kind="separate", histories=((0, 1),), history_pooling="attention")
    assert len(model.interests) == 2 and model(*inputs()).shape == (2, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "ple"}, "field model.kind"),
        ({"experts": 0}, "field model.experts"),
        ({"hidden": ()}, "field model.hidden: an expert has at least one layer"),
        ({"tower": (0,)}, "field model.tower"),
        ({"outputs": 0}, "field model.outputs"),
        ({"fields": 0, "lists": (), "inputs": 0}, "there is nothing to predict from"),
    ],
)
def test_wrong_sizes_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        built(**changes)
