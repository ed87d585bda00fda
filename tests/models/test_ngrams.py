"""Bags of n-grams: both paths against explicit sums, and what padding changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.models import ngrams


def filled(**fields):
    """A model whose parameters are all random, so that nothing hides behind a zero."""
    model = ngrams.Config(rows=20, outputs=3, **fields).build(rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    nnx.update(
        model, jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape), p.dtype), nnx.state(model, nnx.Param))
    )
    return model


def inputs():
    rng = np.random.default_rng(1)
    mask = np.arange(6) < np.array([6, 3, 0])[:, None]
    return rng.integers(0, 20, (3, 6)), np.where(mask, rng.random((3, 6)), 0).astype(np.float32), mask


@pytest.mark.parametrize("fields", [{}, {"linear": False, "width": 4}, {"width": 4, "hidden": (5,)}])
def test_outputs_are_the_weighted_sums_of_rows(fields):
    model, (ids, weights, mask) = filled(**fields), inputs()
    expected = np.tile(np.asarray(model.bias[...], np.float64), (3, 1))
    for row in range(3):
        for place in np.flatnonzero(mask[row]) if fields.get("linear", True) else ():
            expected[row] += weights[row, place] * np.asarray(model.linear.embedding[...])[ids[row, place]]
        if "width" in fields:
            x = weights[row].astype(np.float64) @ np.asarray(model.vectors.embedding[...])[ids[row]]
            for layer in model.layers:
                x = np.maximum(x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...]), 0)
            expected[row] += x @ np.asarray(model.head.kernel[...])
    np.testing.assert_allclose(model(ids, weights, mask), expected, atol=1e-4)


def test_padding_changes_nothing():
    model, (ids, weights, mask) = filled(width=4), inputs()
    np.testing.assert_array_equal(
        model(ids, weights, mask), model(np.where(mask, ids, 99), np.where(mask, weights, 7.0), mask)
    )


def test_a_fresh_model_with_a_linear_path_answers_zero_and_one_without_does_not():
    fresh = lambda **fields: ngrams.Config(rows=20, outputs=3, **fields).build(rngs=nnx.Rngs(0))
    assert not np.any(fresh(width=4)(*inputs()))
    assert np.all(fresh(width=4, linear=False)(*inputs())[0])


def test_tables_are_those_of_the_paths_that_there_are():
    assert ngrams.Config().tables == {"linear/embedding": "ids"}
    assert ngrams.Config(linear=False, width=8).tables == {"vectors/embedding": "ids"}


def test_a_model_without_a_path_is_refused():
    with pytest.raises(InputError, match="nothing leads from n-grams"):
        ngrams.Config(rows=20, outputs=3, linear=False).build(rngs=nnx.Rngs(0))
