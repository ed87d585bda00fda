"""Norms and sums of gradients of single records, without these gradients: beside the gradients themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from suite.nn import ghost
from suite.nn.conv import conv2d
from suite.nn.conv1d import conv1d
from suite.nn.dot import dot, dot_nt
from suite.nn.embedding import Embedding, LearnedPositions
from suite.training.record_gradients import uses

RECORDS = 3


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def tokens(seed, places, rows):
    return jax.random.randint(jax.random.key(seed), (RECORDS, 2, places), -1, rows + 1)


PRODUCTS = {
    "a vector a record": (dot, (RECORDS, 1, 9), (9, 5)),
    "a vector without rows": (dot, (RECORDS, 9), (9, 5)),
    "few places": (dot, (RECORDS, 2, 3, 40), (40, 30)),
    "many places": (dot, (RECORDS, 2, 11, 6), (6, 4)),
    "a tied head": (dot_nt, (RECORDS, 2, 3, 40), (30, 40)),
    "bfloat16": (lambda x, w: dot(x, w, "bfloat16", True), (RECORDS, 1, 4, 40), (40, 30)),
    "bfloat16, a tied head": (lambda x, w: dot_nt(x, w, "bfloat16"), (RECORDS, 1, 12, 8), (6, 8)),
    "tokens": (lambda x, w: ghost.gather(w, x), tokens(0, 6, 50), (50, 4)),
    "bytes of a long text": (lambda x, w: ghost.gather(w, x), tokens(0, 20, 5), (5, 4)),
    "a convolution of small maps": (lambda x, w: conv2d(x, w, 2, 1), (RECORDS, 2, 6, 5, 16), (3, 3, 16, 24)),
    "a convolution of large maps": (lambda x, w: conv2d(x, w), (RECORDS, 1, 11, 12, 3), (2, 3, 3, 4)),
    "a convolution in bfloat16": (
        lambda x, w: conv2d(x, w, 2, 1, 1, "bfloat16", "bfloat16").astype(jnp.float32),
        (RECORDS, 1, 6, 6, 18),
        (3, 3, 18, 8),
    ),
    "a strided convolution over time": (lambda x, w: conv1d(x, w, 3), (RECORDS, 2, 13, 20), (4, 20, 30)),
    "a dilated convolution over time": (lambda x, w: conv1d(x, w, dilation=2), (RECORDS, 1, 13, 5), (3, 5, 4)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_norms_and_sums_are_those_of_the_gradients_of_single_records(name):
    form, given, shape = PRODUCTS[name]
    given = normal(0, *given) if isinstance(given, tuple) else given
    weight, factors = normal(1, *shape), jnp.arange(1.0, RECORDS + 1)
    result = jax.eval_shape(form, given[0], weight)
    targets = normal(2, RECORDS, *result.shape)

    def loss(weight, given, target):
        return (jnp.sin(form(given, weight)) * target).sum()

    def listened(probe, given, target):
        with ghost.listening({"w": weight}, {"w": probe}) as listener:
            value = loss(weight, given, target)
        (report,) = listener.reports["w"]
        products.append(report.product)
        return value, report.given

    products = []

    @jax.jit
    def both(given, targets):
        grads = jax.vmap(jax.grad(loss), (None, 0, 0))(weight, given, targets)
        probe = jnp.zeros(result.shape)
        by_result, kept = jax.vmap(jax.grad(listened, has_aux=True), (None, 0, 0))(probe, given, targets)
        scaled = by_result * factors.reshape(-1, *[1] * (by_result.ndim - 1))
        product = products[0]
        return grads, product.squared_norms(kept, by_result), product.gradient(kept, weight, scaled)

    grads, squares, summed = both(given, targets)
    tolerance = 1e-2 if "bfloat16" in name else 1e-5
    np.testing.assert_allclose(squares, jnp.square(grads).reshape(RECORDS, -1).sum(1), rtol=tolerance)
    expected = jnp.tensordot(factors, grads, 1)
    assert jnp.linalg.norm(summed - expected) <= tolerance * jnp.linalg.norm(expected)


def test_nothing_changes_where_nobody_listens():
    x, w = normal(0, 2, 4), normal(1, 4, 3)
    assert str(jax.make_jaxpr(dot)(x, w)) == str(jax.make_jaxpr(lambda x, w: jnp.matmul(x, w))(x, w))


def _found(loss, **params):
    """The parameters that ``loss`` uses in one product, and those that it uses otherwise."""

    def value(params, unit, place):
        return loss(params, unit["x"]), {}

    found = uses(value, params, {"x": jnp.zeros((RECORDS, 2, 4))}, jnp.arange(RECORDS))
    return set(found.products), set(found.others)


def test_only_a_parameter_of_one_product_has_no_gradients_of_records():
    w = jnp.zeros((4, 4))
    once = lambda params, x: (dot(x, params["w"]) + params["bias"]).sum()
    assert _found(once, w=w, bias=jnp.zeros(4)) == ({"w"}, {"bias"})
    assert _found(lambda params, x: dot(dot(x, params["w"]), params["w"]).sum(), w=w) == (set(), {"w"})
    assert _found(lambda params, x: (dot(x, params["w"]) + params["w"].sum()).sum(), w=w) == (set(), {"w"})
    assert _found(lambda params, x: dot(x, params["w"].T).sum(), w=w) == (set(), {"w"})
    assert _found(lambda params, x: dot(x, params["w"]).sum(), w=w, idle=w) == ({"w"}, set())
    assert _found(lambda params, x: params["w"], w=jnp.zeros(())) == (set(), {"w"})


def test_a_product_in_a_loop_or_computed_again_is_left_to_differentiation():
    w = jnp.zeros((4, 4))
    looped = lambda params, x: jax.lax.scan(lambda x, _: (dot(x, params["w"]), None), x, length=3)[0].sum()
    assert _found(looped, w=w) == (set(), {"w"})
    assert _found(lambda params, x: jax.checkpoint(lambda x, w: dot(x, w))(x, params["w"]).sum(), w=w) == (set(), {"w"})
    assert _found(lambda params, x: jax.checkpoint(lambda x: dot(x, params["w"]))(x).sum(), w=w) == (set(), {"w"})
    assert _found(lambda params, x: jax.jit(lambda x: dot(x, params["w"]))(x).sum(), w=w) == (set(), {"w"})
    assert _found(lambda params, x: jax.vmap(lambda x: dot(x, params["w"]))(x).sum(), w=w) == (set(), {"w"})


def test_layers_of_tables_report_what_they_pick():
    from flax import nnx

    tokens, places = Embedding(7, 4, rngs=nnx.Rngs(0)), LearnedPositions(9, 4, rngs=nnx.Rngs(0))
    graph, weights, _ = nnx.split((tokens, places), nnx.Param, ...)
    weights = nnx.to_pure_dict(weights)

    def loss(params, x):
        tokens, places = nnx.merge(graph, params)
        return (tokens(x.astype(jnp.int32)) + places(4)).sum()

    found = uses(
        lambda params, unit, place: (loss(params, unit["x"]), {}),
        weights,
        {"x": jnp.zeros((RECORDS, 2, 4))},
        jnp.arange(RECORDS),
    )
    assert len(found.products) == 2 and not found.others
