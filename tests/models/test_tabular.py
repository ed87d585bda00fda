"""Networks for tables: against each member computed by itself, and the encoding of numbers against its formula."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.models import tabular
from suite.models.tabular import piecewise_linear

CONFIG = tabular.Config(
    inputs=2, bins=3, rows=20, fields=1, lists=(2,), vectors=(4,), outputs=2, embedding=3, hidden=(8, 6), members=3
)


def filled(config=CONFIG):
    """A model whose parameters are all random, so that nothing hides behind a zero or a one."""
    model = config.build(rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    nnx.update(
        model,
        jax.tree.map(
            lambda p: jnp.asarray(0.5 * rng.standard_normal(p.shape), jnp.float32), nnx.state(model, nnx.Param)
        ),
    )
    return model


def inputs(rows=5):
    rng = np.random.default_rng(1)
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    ids = rng.integers(0, 20, (rows, 3)).astype(np.int32)
    weights = np.array([[0.5, 0.5]] * rows, np.float32)
    return normal(rows, 2), normal(rows, 2, 3), ids, weights, (normal(rows, 4),)


def test_each_member_is_a_network_of_its_own():
    model, (dense, bins, ids, weights, vectors) = filled(), inputs()
    out = np.asarray(model(dense, bins, ids, weights, vectors))
    value = lambda parameter: np.asarray(parameter[...])
    encoded = np.concatenate([bins, (dense / np.sqrt(1 + (dense / 3) ** 2))[..., None]], -1)
    numbers = np.stack(
        [encoded[:, i] @ value(model.numbers.kernel)[i] + value(model.numbers.bias)[i] for i in (0, 1)], 1
    )
    table = value(model.table.embedding)
    listed = 0.5 * table[ids[:, 1]] + 0.5 * table[ids[:, 2]]
    x = np.concatenate([np.maximum(numbers, 0).reshape(5, -1), table[ids[:, 0]], listed, vectors[0]], 1)
    for member in range(3):
        h = x
        for layer in model.layers:
            h = (h * value(layer.before)[member]) @ value(layer.linear.kernel)
            h = np.maximum(h * value(layer.after)[member] + value(layer.shift)[member], 0)
        expected = h @ value(model.head.kernel)[member] + value(model.head.bias)[member]
        np.testing.assert_allclose(out[:, member], expected, rtol=1e-4, atol=1e-4)


def test_members_begin_apart():
    model = CONFIG.build(rngs=nnx.Rngs(0))
    out = np.asarray(model(*inputs()))
    assert np.ptp(out, axis=1).min() > 1e-3


def test_piecewise_linear_is_its_formula():
    edges = jnp.asarray([[0.0, 1.0, 3.0], [0.0, 2.0, 2.0]])
    x = jnp.asarray([[0.5, 1.0], [2.0, 3.0], [-1.0, -9.0], [30.0, 0.0], [5.0, 8.0]])
    encoded = np.asarray(piecewise_linear(x, edges))
    assert encoded[:, 0].tolist() == [[0.5, 0], [1, 0.5], [-1, 0], [1, 4], [1, 2]]
    # A bin without width says nothing, and the one below it is the last.
    assert encoded[:, 1].tolist() == [[0.5, 0], [1.5, 0], [-3, 0], [0, 0], [4, 0]]


def test_numbers_alone_and_categories_alone():
    numbers = tabular.Config(inputs=2, bins=3, outputs=1, hidden=(4,))
    model = numbers.build(rngs=nnx.Rngs(0))
    dense, bins, ids, weights, _ = inputs()
    assert model(dense, bins, ids[:, :0], weights[:, :0]).shape == (5, 8, 1)
    assert numbers.tables == {}
    assert not any("table" in rule for rule, _ in numbers.sharding)
    categories = tabular.Config(rows=20, fields=3, outputs=1, hidden=(4,))
    model = categories.build(rngs=nnx.Rngs(0))
    assert model(dense[:, :0], bins[:, :0], ids, weights[:, :0]).shape == (5, 8, 1)


def test_nothing_to_predict_from_is_refused():
    with pytest.raises(InputError, match="nothing to predict from"):
        tabular.Config(outputs=1).build(rngs=nnx.Rngs(0))


def test_vectors_meet_in_products():
    """The last of the products of two vectors is their cosine in the common space; a member sees them all."""
    config = tabular.Config(vectors=(3, 4, 5), interaction=6, outputs=1, hidden=(8,))
    assert config.features == 3 + 4 + 5 + 3 * (6 + 1)
    vectors = [jax.random.normal(jax.random.key(i), (2, size)) for i, size in enumerate(config.vectors)]

    @jax.jit
    def both(vectors):
        model = config.build(rngs=nnx.Rngs(0))
        none = jnp.zeros((2, 0))
        answer = model(none, none[..., None], none.astype(int), none, vectors)
        return (
            answer,
            model.products(vectors),
            [part(vector) for part, vector in zip(model.products.maps, vectors, strict=True)],
        )

    answer, products, mapped = both(vectors)
    assert answer.shape == (2, config.members, 1) and [product.shape for product in products] == [(2, 7)] * 3
    for product, (one, other) in zip(products, combinations(np.asarray(mapped), 2), strict=True):
        cosine = (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)
        np.testing.assert_allclose(product[:, -1] / 6**0.5, cosine, rtol=1e-4)
        np.testing.assert_allclose(product[:, :-1].sum(-1) / 6, cosine, rtol=1e-3, atol=1e-5)
    alone = tabular.Config(vectors=(3,), interaction=6, outputs=1, hidden=(8,))
    assert alone.features == 3 and nnx.eval_shape(lambda: alone.build(rngs=nnx.Rngs(0))).products is None
