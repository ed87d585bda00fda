"""Attention of histories to their candidate: against its formula, masked items, empty histories."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.nn.interest import Interest

FIELDS, LISTS = 2, (2, 3)
"""Two categories, a list, and a history of three items whose candidate is the second category."""


def new_interest(pooling="attention"):
    config = SimpleNamespace(
        fields=FIELDS, lists=LISTS, histories=((1, 1),), width=4, attention_hidden=(5,), history_pooling=pooling
    )
    return Interest(config, rngs=nnx.Rngs(0))


def random_interest(pooling="attention"):
    interest = new_interest(pooling)
    rng = np.random.default_rng(0)
    head = interest.units[0].head
    head.kernel[...] = jnp.asarray(rng.standard_normal((5, 1)), jnp.float32)
    head.bias[...] = jnp.full((1,), 0.3)
    return interest


def inputs():
    values = np.random.default_rng(1).standard_normal((3, 7, 5)).astype(np.float32)  # the last value is no vector's
    weights = np.array([[1, 0, 0.5, 0.5, 0], [0.5, 0.5, 1, 0, 0], [1, 0, 0, 0, 0]], np.float32)
    return values, weights


def scores(interest, values):
    """By the formula: a network of item, candidate, difference and product."""
    layer, head = interest.units[0].layers[0], interest.units[0].head
    vectors = values[..., :4]
    query, items = vectors[:, 1:2].repeat(3, 1), vectors[:, 4:]
    x = np.concatenate([items, query, items - query, items * query], -1)
    hidden = np.maximum(x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...]), 0)
    return (hidden @ np.asarray(head.kernel[...]) + np.asarray(head.bias[...]))[..., 0]


@pytest.mark.parametrize("pooling", ["attention", "softmax"])
def test_attention_is_its_formula_and_leaves_other_lists_alone(pooling):
    interest, (values, weights) = random_interest(pooling), inputs()
    attended = np.asarray(interest(values, weights))
    np.testing.assert_array_equal(attended[:, :2], weights[:, :2])
    raw, plain = scores(interest, values), weights[:, 2:]
    if pooling == "softmax":
        shares = np.exp(raw) * (plain > 0)
        expected = shares / np.maximum(shares.sum(1, keepdims=True), 1e-30)
    else:
        expected = plain * (1 + raw)
    np.testing.assert_allclose(attended[:, 2:], expected, rtol=1e-5, atol=1e-6)
    assert not attended[2, 2:].any() and np.isfinite(attended).all()  # an empty history


def test_a_new_history_is_its_plain_mean():
    values, weights = inputs()
    attended = new_interest()(values, weights)
    np.testing.assert_array_equal(attended, weights)


def test_padding_of_a_history_has_no_influence():
    values, weights = inputs()
    other = values.copy()
    other[0, -1] = 99
    for pooling in ("attention", "softmax"):
        one, two = (random_interest(pooling)(given, weights) for given in (values, other))
        np.testing.assert_array_equal(one[0], two[0])
