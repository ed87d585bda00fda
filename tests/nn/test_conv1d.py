"""Convolutions over time against XLA's, gradients included; relative attention against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.nn import conv1d, relative_attention
from suite.nn.conv1d import Conv1d, ConvTranspose1d, DepthwiseConv1d, PositionalConv
from suite.nn.cpu import conv1d as on_cpu
from suite.nn.relative_attention import RelativeAttention


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def agree(theirs, ours, x, w):
    """Values and both gradients of our forms, given with their tolerance, against theirs; compiled together."""

    def all_of(form, x, w):
        y = form(x, w)
        return y, *jax.grad(lambda x, w: (form(x, w) * normal(9, *y.shape)).sum(), (0, 1))(x, w)

    expected, *made = jax.jit(lambda x, w: [all_of(form, x, w) for form in (theirs, *ours)])(x, w)
    for tolerance, parts in zip(ours.values(), made, strict=True):
        for a, b in zip(parts, expected, strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype == jnp.float32
            assert float(jnp.linalg.norm(a - b)) <= tolerance * float(jnp.linalg.norm(b))


@pytest.mark.parametrize(
    ("frames", "taps", "inputs", "stride"), [(37, 10, 1, 5), (41, 3, 100, 2), (9, 9, 40, 2), (12, 2, 3, 4)]
)
def test_products_are_the_strided_convolution(frames, taps, inputs, stride):
    x, w = normal(0, 2, frames, inputs), normal(1, taps, inputs, 8)
    ours = {
        (lambda x, w: on_cpu.as_products(stride, "float32", x, w)): 2e-6,
        (lambda x, w: conv1d.conv1d(x, w, stride)): 2e-6,
        (lambda x, w: on_cpu.as_products(stride, "bfloat16", x, w)): 0.012,
        (lambda x, w: on_cpu.as_rows(stride, "bfloat16", x, w)): 0.012,
        (lambda x, w: conv1d.conv1d(x, w, stride, "bfloat16")): 0.012,
    }
    agree(lambda x, w: conv1d._convolution(stride, 1, "float32", x, w), ours, x, w)


@pytest.mark.parametrize(("frames", "taps", "dilation"), [(37, 3, 5), (41, 7, 3), (9, 2, 8)])
def test_products_are_the_dilated_convolution(frames, taps, dilation):
    x, w = normal(0, 2, frames, 5), normal(1, taps, 5, 8)
    ours = {
        (lambda x, w: conv1d.conv1d(x, w, dilation=dilation)): 2e-6,
        (lambda x, w: on_cpu.as_dilated_products(dilation, "bfloat16", x, w)): 0.012,
        (lambda x, w: on_cpu.as_rows(1, "float32", x, w, dilation)): 2e-6,
        (lambda x, w: on_cpu.as_rows(1, "bfloat16", x, w, dilation)): 0.012,
        (lambda x, w: conv1d.conv1d(x, w, 1, "bfloat16", dilation)): 0.012,
    }
    agree(lambda x, w: conv1d._convolution(1, 1, "float32", x, w, dilation=dilation), ours, x, w)
    with pytest.raises(ValueError, match="not both"):
        conv1d.conv1d(x, w, 2, dilation=dilation)


@pytest.mark.parametrize(("frames", "taps", "stride"), [(7, 10, 5), (5, 3, 3), (6, 7, 2), (1, 4, 4)])
def test_products_are_the_transposed_convolution(frames, taps, stride):
    """Which is the derivative of the strided convolution by its input."""
    x, w = normal(0, 2, frames, 3), normal(1, taps, 3, 8)
    ours = {
        (lambda x, w: conv1d.conv_transpose1d(x, w, stride)): 2e-6,
        (lambda x, w: conv1d.conv_transpose1d(x, w, stride, "bfloat16")): 0.012,
    }
    whole = jnp.zeros((2, (frames - 1) * stride + taps, 8))

    def theirs(x, w):
        strided = lambda y: conv1d._convolution(stride, 1, "float32", y, w.swapaxes(1, 2))
        return jax.vjp(strided, whole)[1](x)[0]

    agree(theirs, ours, x, w)


@pytest.mark.parametrize(("taps", "stride"), [(10, 5), (9, 4), (3, 3)])
def test_a_transposed_layer_gives_its_stride_of_frames_for_each_frame(taps, stride):
    layer = ConvTranspose1d(3, 4, taps, stride=stride, rngs=nnx.Rngs(0))
    x = jnp.zeros((1, 9, 3)).at[0, 4].set(1.0)
    y = layer(x)
    assert y.shape == (1, 9 * stride, 4)
    start = 4 * stride - (taps - stride) // 2
    np.testing.assert_allclose(y[0, start : start + taps], layer.kernel[...].sum(1), atol=1e-5)


@pytest.mark.parametrize("taps", [1, 5])
def test_shifted_rows_are_the_depthwise_convolution(taps):
    x, w = normal(0, 2, 23, 6), normal(1, taps, 6)
    theirs = lambda x, w: conv1d._convolution(1, 6, "float32", x, w[:, None])
    agree(theirs, {on_cpu.shifted_rows: 2e-6, conv1d.depthwise_conv1d: 2e-6}, x, w)


@pytest.mark.parametrize(("frames", "taps", "groups", "block"), [(50, 16, 4, 1), (16, 16, 2, 1), (81, 7, 1, 20)])
def test_frequencies_are_the_grouped_convolution(frames, taps, groups, block):
    x, w = normal(0, 2, frames, 12), normal(1, taps, 12 // groups, 24)
    ours = {(lambda x, w: on_cpu.by_frequency(block, x, w)): 3e-6, conv1d.grouped_conv1d: 3e-6}
    agree(lambda x, w: conv1d._convolution(1, groups, "float32", x, w), ours, x, w)


def test_the_form_depends_on_the_platform():
    x, w = normal(0, 2, 300, 12), normal(1, 16, 3, 12)
    forms = {
        lambda x, w: conv1d.grouped_conv1d(x, w): "fft",
        lambda x, w: conv1d.conv1d(x, normal(2, 5, 12, 4), 2): "dot_general",
        lambda x, w: conv1d.depthwise_conv1d(x, w[:, 0]): "multiply",
    }
    for form, sign in forms.items():
        lowered = {
            platform: jax.jit(form).trace(x, w).lower(lowering_platforms=(platform,)).as_text()
            for platform in ("cpu", "cuda", "tpu")
        }
        assert "stablehlo.convolution" not in lowered["cpu"] and f"stablehlo.{sign}" in lowered["cpu"]
        assert "stablehlo.convolution" in lowered["cuda"] and "stablehlo.convolution" in lowered["tpu"]


def test_a_layer_pads_strides_and_adds_its_bias():
    layer = Conv1d(3, 4, 3, stride=2, padding=1, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.arange(4.0)
    x = normal(0, 2, 9, 3)
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
    expected = jnp.stack(
        [jnp.einsum("bki,kio->bo", padded[:, j : j + 3], layer.kernel[...]) for j in (0, 2, 4, 6, 8)], 1
    )
    np.testing.assert_allclose(layer(x), expected + jnp.arange(4.0), atol=1e-5)
    with_view = nnx.view(layer, compute="bfloat16")
    assert with_view.compute == "bfloat16" and 0 < float(jnp.abs(with_view(x) - layer(x)).max()) < 0.1


@pytest.mark.parametrize("taps", [4, 5])
def test_depthwise_layer_keeps_the_length(taps):
    layer = DepthwiseConv1d(2, taps, rngs=nnx.Rngs(0))
    x = jnp.zeros((1, 9, 2)).at[0, 4].set(1.0)
    y = layer(x)
    assert y.shape == x.shape
    start = 4 - taps // 2
    np.testing.assert_allclose(y[0, start : start + taps], layer.kernel[...][::-1], atol=1e-6)


@pytest.mark.parametrize("taps", [4, 5])
def test_positional_convolution_normalises_each_tap(taps):
    layer = PositionalConv(6, taps, 2, rngs=nnx.Rngs(0))
    x = normal(0, 1, 11, 6)
    before = layer(x)
    assert before.shape == x.shape
    # At first the gain is the norm, so the kernel is the direction; its length then changes nothing.
    layer.direction[...] = layer.direction[...] * 3
    np.testing.assert_allclose(layer(x), before, atol=1e-5)
    layer.gain[...] = layer.gain[...].at[0].set(0)
    assert float(jnp.abs(layer(x) - before).max()) > 1e-3


def test_scores_are_aligned_by_distance():
    length = 5
    index = jnp.arange(2.0 * length - 1)
    aligned = relative_attention.align(jnp.broadcast_to(index, (1, 2, length, 2 * length - 1)))
    query, key = jnp.meshgrid(jnp.arange(length), jnp.arange(length), indexing="ij")
    np.testing.assert_array_equal(aligned[0, 1], length - 1 - query + key)


def test_relative_attention_is_that_of_the_paper():
    layer = RelativeAttention(8, 2, rngs=nnx.Rngs(0))
    for name in ("content_bias", "distance_bias"):
        getattr(layer, name)[...] = normal(len(name), 2, 4)
    x, mask = normal(0, 1, 6, 8), jnp.arange(6)[None] < 5
    q, k, v = (np.asarray(part(x))[0].reshape(6, 2, 4) for part in (layer.query, layer.key, layer.value))
    mixed = np.zeros((6, 2, 4))
    for head in range(2):
        scores = np.full((6, 6), -np.inf)
        for i in range(6):
            for j in range(5):
                sines = [f((i - j) * 10_000.0 ** (-c / 8)) for c in (0, 2, 4, 6) for f in (np.sin, np.cos)]
                r = (np.array(sines) @ np.asarray(layer.distance.kernel[...])).reshape(2, 4)[head]
                u, w = np.asarray(layer.content_bias[...])[head], np.asarray(layer.distance_bias[...])[head]
                scores[i, j] = ((q[i, head] + u) @ k[j, head] + (q[i, head] + w) @ r) / 2
        weights = np.exp(scores - scores.max(1, keepdims=True))
        mixed[:, head] = weights / weights.sum(1, keepdims=True) @ v[:, head]
    expected = layer.out(jnp.asarray(mixed.reshape(1, 6, 8), jnp.float32))
    np.testing.assert_allclose(layer(x, mask), expected, atol=2e-6)
