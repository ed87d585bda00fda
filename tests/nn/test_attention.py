"""Attention: shared heads, causal order, memories, caches, both kernels; distances; layers scanned or recomputed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.nn import Cache, CrossAttention, RelativeBias, SelfAttention, attend, rotary, run_layers, sinusoidal
from suite.nn.attention import _fused
from suite.nn.embedding import sinusoids


def normal(seed, shape):
    return jax.random.normal(jax.random.key(seed), shape)


def qkv(h=6, g=2, t=7, s=7, k=8):
    return normal(0, (2, t, h, k)), normal(1, (2, s, g, k)), normal(2, (2, s, g, k))


MASK = jnp.arange(7) < jnp.array([7, 4])[:, None]


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("causal", [False, True])
def test_the_fused_kernel_gives_what_the_plain_one_gives(causal, compute):
    q, k, v = qkv()
    bias = normal(3, (1, 6, 7, 7))

    def run(kernel, q, k, v, bias):
        made = attend(
            q, k, v, visible=MASK[:, None, None], causal=causal, bias=bias, scale=0.4, compute=compute, kernel=kernel
        )
        return jnp.where(MASK[..., None, None], made, 0).sum(-1)

    g = normal(4, (2, 7, 6))
    both = lambda kernel: jax.jit(jax.value_and_grad(lambda *a: (run(kernel, *a) * g).sum(), (0, 1, 2, 3)))(
        q, k, v, bias
    )
    (plain, grads), (fused, fused_grads) = both("plain"), both("fused")
    tolerance = 0.1 if compute == "bfloat16" else 1e-5
    np.testing.assert_allclose(plain, fused, rtol=tolerance)
    for a, b in zip(grads, fused_grads, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * float(abs(a).max()))


def test_the_kernel_on_a_cpu():
    assert _fused("auto", "float32", 64) == (None if jax.default_backend() == "cpu" else _fused("fused", "float32", 64))
    assert _fused("plain", "bfloat16", 64) is None
    if jax.default_backend() == "cpu":
        assert _fused("fused", "bfloat16", 64) == "xla"


def test_heads_that_share_a_key_read_it_as_if_it_were_theirs():
    q, k, v = qkv()
    shared = attend(q, k, v, causal=True)
    own = attend(q, jnp.repeat(k, 3, 2), jnp.repeat(v, 3, 2), causal=True)
    np.testing.assert_allclose(shared, own, atol=1e-6)


def test_no_token_sees_what_follows_it():
    layer = SelfAttention(16, 4, rngs=nnx.Rngs(0), kv_heads=2, causal=True, turn=True)
    x = normal(0, (2, 7, 16))
    changed = x.at[:, 4:].set(9.0)
    np.testing.assert_allclose(layer(x)[:, :4], layer(changed)[:, :4], atol=1e-6)
    assert not np.allclose(layer(x)[:, 4:], layer(changed)[:, 4:])


@pytest.mark.parametrize("fields", [{}, {"turn": True, "kv_heads": 2, "use_bias": False}, {"scaled": False}])
def test_steps_with_a_cache_equal_the_whole(fields):
    layer = SelfAttention(16, 4, rngs=nnx.Rngs(0), causal=True, head_width=6, **fields)
    x = normal(0, (2, 7, 16))
    whole = layer(x)
    cache = Cache((layer.empty(2, 9),), jnp.zeros((2, 9), bool), jnp.int32(0))
    made = []
    for start, end in ((0, 4), (4, 5), (5, 6), (6, 7)):
        mask = jnp.ones((2, end - start), bool)
        y, pair = layer.step(
            x[:, start:end], cache.layers[0], cache.length, cache.visible(mask), places=cache.places(mask)
        )
        cache = Cache((pair,), cache.added(mask), cache.length + end - start)
        made.append(y)
    np.testing.assert_allclose(jnp.concatenate(made, 1), whole, atol=2e-6)
    assert int(cache.length) == 7 and cache.mask.sum() == 14


def test_a_remembered_memory_is_read_as_the_memory():
    layer = CrossAttention(16, 4, rngs=nnx.Rngs(0))
    x, memory = normal(0, (2, 3, 16)), normal(1, (2, 7, 16))
    whole = layer(x, memory, MASK)
    np.testing.assert_allclose(layer.step(x, layer.remember(memory), MASK), whole, atol=2e-6)
    changed = jnp.where(MASK[..., None], memory, 5.0)
    np.testing.assert_allclose(layer(x, changed, MASK), whole, atol=2e-6)


def test_a_cache_written_by_a_donating_step_is_written_in_place():
    layer = SelfAttention(8, 2, rngs=nnx.Rngs(0), causal=True)
    graph, state = nnx.split(layer)
    step = jax.jit(
        lambda pair, x: nnx.merge(graph, state).step(x, pair, jnp.int32(2), jnp.ones((1, 1, 1, 6), bool))[1],
        donate_argnums=0,
    )
    pair = layer.empty(1, 6)
    address = pair[0].unsafe_buffer_pointer()
    made = step(pair, normal(0, (1, 1, 8)))
    assert pair[0].is_deleted() and made[0].unsafe_buffer_pointer() == address
    assert (np.flatnonzero(np.asarray(made[0]).any((0, 1, 3))) == [2]).all()


def test_rows_of_a_cache_move_and_repeat():
    pair = (jnp.arange(6.0).reshape(3, 1, 2, 1),) * 2
    cache = Cache((pair,), jnp.array([[True, False]] * 3), jnp.int32(1), (pair,), jnp.ones((3, 2), bool))
    moved = cache.rows(jnp.array([2, 2, 0]))
    np.testing.assert_array_equal(moved.layers[0][0][:, 0, 0, 0], [4, 4, 0])
    np.testing.assert_array_equal(moved.memory[0][0], pair[0])
    twice = cache.repeat(2)
    np.testing.assert_array_equal(twice.memory[0][0][:, 0, 0, 0], [0, 0, 2, 2, 4, 4])
    assert twice.mask.shape == (6, 2) and twice.memory_mask.shape == (6, 2)


# Places


def test_rotary_at_places_is_the_row_turned_on():
    x = normal(0, (1, 9, 2, 8))
    later = rotary(x[:, 5:], 500.0, jnp.arange(5, 9)[None])
    np.testing.assert_allclose(rotary(x, 500.0)[:, 5:], later, atol=1e-6)


def test_sinusoids_are_precise_at_far_places():
    frequencies = 10_000.0 ** -(np.arange(8) / 8)
    exact = np.sin(5000 * frequencies)
    np.testing.assert_allclose(sinusoids(jnp.array([5000]), 16)[0, :8], exact, atol=5e-4)
    np.testing.assert_array_equal(sinusoidal(4, 16)[3], sinusoids(jnp.array(3), 16))


@pytest.mark.parametrize("both_ways", [True, False])
def test_buckets_of_distances(both_ways):
    bias = RelativeBias(8, 2, rngs=nnx.Rngs(0), furthest=16, both_ways=both_ways)
    there = jnp.arange(40)
    bucket = np.asarray(bias._bucket(there[None, :] - there[:, None]))
    assert bucket.min() == 0 and bucket.max() == 7
    near = 2 if both_ways else 4
    assert [bucket[i, 0] for i in range(near)] == list(range(near))  # a token each
    assert bucket[39, 0] == bucket[20, 0] == (3 if both_ways else 7)  # all one from the furthest on
    assert bucket[0, 39] == (7 if both_ways else 0)
    assert (np.diff(bucket[39, ::-1]) >= 0).all()
    assert bias(there, there).shape == (1, 2, 40, 40)
    np.testing.assert_array_equal(bias(there[3:5], there), bias(there, there)[:, :, 3:5])


# Layers one after the other


def near(a, b):
    np.testing.assert_allclose(a, b, atol=1e-5 * float(abs(a).max()) + 1e-5)


class Layer(nnx.Module):
    def __init__(self, seed):
        self.mix = SelfAttention(8, 2, rngs=nnx.Rngs(seed), dropout=0.3, causal=True)

    def __call__(self, x, mask, rngs):
        return x + self.mix(x, mask, rngs)


@pytest.mark.parametrize(("scan", "remat"), [(False, "dots"), (False, "full"), (True, "none"), (True, "full")])
def test_every_form_of_running_layers_gives_the_same_numbers(scan, remat):
    layers = nnx.List([Layer(i) for i in range(3)])
    graph, state = nnx.split(layers)
    x = normal(0, (2, 7, 8))

    def run(state, scan, remat):
        rngs = nnx.Rngs(dropout=1)
        return run_layers(nnx.merge(graph, state), x, MASK, rngs=rngs, remat=remat, scan=scan).sum()

    both = jax.jit(jax.value_and_grad(run), static_argnums=(1, 2))
    value, grads = both(state, False, "none")
    other, other_grads = both(state, scan, remat)
    np.testing.assert_allclose(value, other, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * float(abs(a).max()) + 1e-5), grads, other_grads
    )


def test_recomputing_keeps_less():
    """What the backward pass is given: with "full" less than with "dots", and that less than with "none"."""
    layers = nnx.List([Layer(i) for i in range(2)])
    graph, state = nnx.split(layers)
    x = normal(0, (2, 7, 8))
    sizes = []
    for remat in ("none", "dots", "full"):
        _, pull = jax.vjp(lambda s, r=remat: run_layers(nnx.merge(graph, s), x, MASK, remat=r), state)
        sizes.append(sum(leaf.size for leaf in jax.tree.leaves(pull)))
    assert sizes[0] > sizes[1] > sizes[2]


def test_no_layers_pass_the_input_on():
    assert run_layers([], 3) == 3
