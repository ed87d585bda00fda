"""Building blocks against their definitions, and the statistics of hashed dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.nn import (
    Dropout,
    Embedding,
    FeedForward,
    LayerNorm,
    LearnedPositions,
    Linear,
    RMSNorm,
    SelfAttention,
    dot,
    dot_nt,
    einsum,
    gelu,
    rotary,
    sinusoidal,
)
from suite.nn.dropout import hash_bits, keep_mask

SHAPES = [((6, 16), (16, 5)), ((5, 16), (16, 3)), ((4, 7, 32), (32, 48)), ((16,), (16, 4))]


def normal(seed: int, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def relative_error(a, b) -> float:
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


@pytest.mark.parametrize(("x_shape", "w_shape"), SHAPES)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_dot_and_its_derivatives_agree_with_float32(x_shape, w_shape, transposed, compute):
    product = dot_nt if transposed else dot
    x, w = normal(0, x_shape), normal(1, w_shape)
    w = w.T if transposed else w
    g = normal(2, (*x_shape[:-1], w_shape[1]))

    def ours(x, w):
        return product(x, w, compute)

    def plain(x, w):
        return jnp.matmul(x, w.T if transposed else w, precision="highest")

    y, pull = jax.vjp(jax.jit(ours), x, w)
    expected, pull_expected = jax.vjp(plain, x, w)
    tolerance = 0.012 if compute == "bfloat16" else 1e-5
    for a, b in zip((y, *pull(g)), (expected, *pull_expected(g)), strict=True):
        assert a.dtype == jnp.float32 and a.shape == b.shape
        assert relative_error(a, b) < tolerance


def test_bfloat16_sums_are_float32():
    # 1 + 4096 terms of 2**-9: a bfloat16 sum would stay at 1.
    x = jnp.concatenate([jnp.ones((1,)), jnp.full((4096,), 2.0**-9)])[None]
    assert float(dot(x, jnp.ones((4097, 1)), "bfloat16")[0, 0]) == 9.0


def test_dot_of_a_bfloat16_kernel_gives_it_a_bfloat16_gradient():
    x, w = normal(0, (4, 8)), normal(1, (8, 3)).astype(jnp.bfloat16)
    dx, dw = jax.grad(lambda x, w: dot(x, w, "bfloat16").sum(), (0, 1))(x, w)
    assert (dx.dtype, dw.dtype) == (jnp.float32, jnp.bfloat16)


@pytest.mark.parametrize("spec", ["bqhk,bshk->bhqs", "bhqs,bshk->bqhk"])
def test_einsum_in_bfloat16_agrees_with_float32(spec):
    sizes = {"b": 2, "q": 8, "s": 8, "h": 2, "k": 16}
    left, right = (normal(i, tuple(sizes[c] for c in part)) for i, part in enumerate(spec.split("->")[0].split(",")))
    run = lambda compute: jax.jit(jax.value_and_grad(lambda a, b: jnp.sin(einsum(spec, a, b, compute)).sum(), (0, 1)))
    (_, ours), (_, expected) = run("bfloat16")(left, right), run("float32")(left, right)
    for a, b in zip(ours, expected, strict=True):
        assert relative_error(a, b) < 0.05


def test_tied_head_trains_in_bfloat16():
    table = Embedding(30, 8, rngs=nnx.Rngs(0))
    table = nnx.view(table, compute="bfloat16")
    graph, state = nnx.split(table)

    def loss(state, index):
        table = nnx.merge(graph, state)
        return jax.nn.logsumexp(table.attend(table(index)), -1).sum()

    grads = jax.jit(jax.grad(loss))(state, jnp.arange(12).reshape(3, 4))
    assert all(bool(jnp.isfinite(g).all()) and bool((g != 0).any()) for g in jax.tree.leaves(grads))


# Dropout


def test_dropout_without_rngs_or_rate_is_the_identity():
    x = normal(0, (4, 4))
    assert Dropout(0.5)(x) is x
    assert Dropout(0.0)(x, nnx.Rngs(0)) is x


@pytest.mark.parametrize("bits", ["hash", "threefry"])
@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9])
def test_dropout_rate_is_within_four_sigma_and_the_mean_stays(bits, rate):
    n = 1_000_000
    y = nnx.view(Dropout(rate), bits=bits)(jnp.ones((1000, 1000)), nnx.Rngs(dropout=3))
    dropped = int((y == 0).sum())
    assert abs(dropped - n * rate) < 4 * (n * rate * (1 - rate)) ** 0.5
    np.testing.assert_allclose(y.max(), 1 / (1 - rate), rtol=1e-6)


def correlation(a, b) -> float:
    """In standard deviations of what independence would give."""
    a, b = np.ravel(a).astype(float), np.ravel(b).astype(float)
    return float(np.corrcoef(a, b)[0, 1] * len(a) ** 0.5)


def test_hashed_masks_of_layers_steps_and_neighbours_are_independent():
    shape = (8, 128, 512)
    masks = [
        np.asarray(keep_mask(jax.random.fold_in(jax.random.key(seed), step), 0.3, shape))
        for seed in range(2)
        for step in range(4)
    ]
    scores = [correlation(a, b) for i, a in enumerate(masks) for b in masks[:i]]
    for mask in masks[:3]:
        for axis in range(3):
            a, b = (np.take(mask, range(start, mask.shape[axis] - 1 + start), axis) for start in (0, 1))
            scores.append(correlation(a, b))
        flat = mask.ravel()
        scores += [correlation(flat[lag:], flat[:-lag]) for lag in (2, 3, 64, 512, 4096)]
    assert max(map(abs, scores)) < 4.5


def test_hashed_masks_of_near_seeds_are_independent():
    words = [1, 2, 3, 4, 1 << 16, 1 << 31, 0x9E3779B1]
    masks = [np.asarray(hash_bits(jnp.uint32(word), (2**18,)) >= np.uint32(2**31)) for word in words]
    assert max(abs(correlation(a, b)) for i, a in enumerate(masks) for b in masks[:i]) < 4.5


@pytest.mark.parametrize("shift", [0, 8, 16, 24])
def test_hashed_bytes_are_uniform(shift):
    n = 2**20
    h = np.asarray(hash_bits(jax.random.bits(jax.random.key(1), (), jnp.uint32), (2**10, 2**10)))
    counts = np.bincount(((h >> shift) & 255).ravel(), minlength=256)
    chi_square = ((counts - n / 256) ** 2 / (n / 256)).sum()
    # 255 degrees of freedom: mean 255, deviation 22.6.
    assert 255 - 4 * 22.6 < chi_square < 255 + 4 * 22.6


def test_drops_in_a_row_of_neighbours_are_as_rare_as_they_should_be():
    mask = ~np.asarray(keep_mask(jax.random.key(5), 0.1, (2**20,)))
    runs = (mask[:-2] & mask[1:-1] & mask[2:]).sum()
    assert abs(runs - 2**20 * 1e-3) < 5 * (2**20 * 1e-3) ** 0.5


def test_hash_of_more_than_two_to_the_32_elements_does_not_repeat():
    # Evaluated lazily: only the slices are computed.
    shape = (3, 2**16, 2**16)
    sliced = jax.jit(lambda word: hash_bits(word, shape)[:, 5, :1024])(jnp.uint32(7))
    assert len(np.unique(np.asarray(sliced))) > 3 * 1024 - 3


def test_dropout_mask_is_a_function_of_key_alone():
    x = jnp.ones((64, 64))
    drop = Dropout(0.5)
    first, again = drop(x, nnx.Rngs(dropout=0)), jax.jit(lambda: drop(x, nnx.Rngs(dropout=0)))()
    np.testing.assert_array_equal(first, again)
    rngs = nnx.Rngs(dropout=0)
    assert (drop(x, rngs) != drop(x, rngs)).any()


# Layers


def test_gelu_is_exact():
    x = jnp.linspace(-6, 6, 2001)
    np.testing.assert_allclose(gelu(x), jax.nn.gelu(x, approximate=False), atol=1e-6)
    slope = jax.vmap(jax.grad(gelu))(x)
    np.testing.assert_allclose(slope, jax.vmap(jax.grad(lambda x: jax.nn.gelu(x, approximate=False)))(x), atol=1e-6)


def test_layer_norm_and_rms_norm():
    x = normal(0, (5, 64)) * 3 + 2
    y = LayerNorm(64, epsilon=1e-12)(x)
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(-1), 1, atol=1e-5)
    np.testing.assert_allclose(jnp.square(RMSNorm(64, epsilon=1e-12)(x)).mean(-1), 1, atol=1e-5)
    assert LayerNorm(64)(x.astype(jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_attention_agrees_with_jax(compute):
    b, t, d, h = 3, 9, 32, 4
    layer = nnx.view(SelfAttention(d, h, rngs=nnx.Rngs(0)), compute=compute, raise_if_not_found=False)
    x, mask = normal(0, (b, t, d)), jnp.arange(t) < jnp.array([9, 4, 1])[:, None]
    q, k, v = ((x @ part.kernel[...]).reshape(b, t, h, -1) for part in (layer.query, layer.key, layer.value))
    mixed = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None, :])
    expected = mixed.reshape(b, t, d) @ layer.out.kernel[...]
    assert relative_error(layer(x, mask), expected) < (0.012 if compute == "bfloat16" else 1e-5)


def test_attention_of_a_row_of_padding_is_finite():
    layer = SelfAttention(8, 2, rngs=nnx.Rngs(0))
    grads = jax.grad(lambda x: layer(x, jnp.zeros((1, 4), bool)).sum())(normal(0, (1, 4, 8)))
    assert bool(jnp.isfinite(grads).all())


def test_rotary_scores_depend_on_distance_alone():
    q, k = (jnp.broadcast_to(normal(i, (1, 1, 2, 8)), (1, 12, 2, 8)) for i in range(2))
    scores = jnp.einsum("bqhk,bshk->bhqs", rotary(q), rotary(k))
    np.testing.assert_allclose(scores[..., 1:, 1:], scores[..., :-1, :-1], atol=1e-4)
    np.testing.assert_allclose(jnp.linalg.norm(rotary(q), axis=-1), jnp.linalg.norm(q, axis=-1), rtol=1e-5)


@pytest.mark.parametrize("width", [8, 9])
def test_sinusoidal_places_differ(width):
    table = sinusoidal(50, width)
    assert table.shape == (50, width)
    distances = jnp.linalg.norm(table[:, None] - table, axis=-1) + jnp.eye(50)
    assert float(distances.min()) > 0.1


def test_learned_positions_end():
    positions = LearnedPositions(4, 8, rngs=nnx.Rngs(0))
    assert positions(3).shape == (3, 8)
    with pytest.raises(InputError, match=r"5 tokens.*max_length = 4"):
        positions(5)


@pytest.mark.parametrize(("activation", "kernels"), [("gelu", 2), ("relu", 2), ("swiglu", 3)])
def test_feed_forward(activation, kernels):
    layer = FeedForward(8, 16, activation, rngs=nnx.Rngs(0))
    assert sum(p.ndim == 2 for p in jax.tree.leaves(nnx.state(layer))) == kernels
    assert layer(normal(0, (2, 3, 8))).shape == (2, 3, 8)


def test_a_view_changes_the_policy_and_shares_parameters():
    layer = Linear(4, 3, rngs=nnx.Rngs(0))
    view = nnx.view(layer, compute="bfloat16", bits="threefry", raise_if_not_found=False)
    assert (layer.compute, view.compute) == ("float32", "bfloat16")
    assert view.kernel is layer.kernel
