"""Normalisation of feature maps, computed and returned in float32 whatever their format.

Dims: b images, h w height and width, c channels, g groups, m = c / g.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float

from suite.nn.cpu import batchnorm as on_cpu
from suite.nn.cpu.switch import by_platform
from suite.parallel.layout import batch_sum, replicas


class BatchNorm(nnx.Module):
    """Zero mean and unit variance a channel over the batch, then scale and shift.

    `Ioffe & Szegedy, 2015 <https://arxiv.org/abs/1502.03167>`_, with PyTorch's conventions: in training the batch's own
    (biased) variance normalises, and the running averages, which evaluation uses, take the unbiased one. Rows that
    are padding count in neither. Over several devices the sums run over the whole batch, so the statistics are those of
    one device.

    Attributes:
        scale: (channels,), one at first, or ``scale`` of the call: zero makes a residual branch start as nothing.
        bias: (channels,), zero at first.
        mean, variance: running averages, (channels,) float32.
        momentum: share of the batch's statistics in the running ones.
    """

    def __init__(self, channels: int, *, scale: float = 1.0, momentum: float = 0.1, epsilon: float = 1e-5):
        self.scale = nnx.Param(jnp.full((channels,), scale, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((channels,)))
        self.mean = nnx.BatchStat(jnp.zeros((channels,)))
        self.variance = nnx.BatchStat(jnp.ones((channels,)))
        self.momentum = momentum
        self.epsilon = epsilon

    def __call__(
        self, x: Float[Array, "b h w c"], rows: Bool[Array, "b"] | None = None, *, training: bool = False
    ) -> Float[Array, "b h w c"]:
        """``rows`` is True where an image is real; None: all are. Training updates the running averages."""
        scale, shift = self._affine(*self._update(x, rows)) if training else self.learned()
        return _scaled(x, scale, shift)

    def learned(self) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
        """The factor and the summand that evaluation comes to."""
        return self._affine(self.mean[...], self.variance[...])

    def _affine(self, mean: Array, variance: Array) -> tuple[Array, Array]:
        scale = self.scale[...] * lax.rsqrt(variance + self.epsilon)
        return scale, self.bias[...] - mean * scale

    def _update(self, x: Float[Array, "b h w c"], rows: Bool[Array, "b"] | None) -> tuple[Array, Array]:
        places = x.shape[1] * x.shape[2]
        if rows is None:
            count = jnp.float32(x.shape[0] * places * replicas())
        else:
            count = jnp.maximum(batch_sum(rows.sum(dtype=jnp.float32)) * places, 1)
        # Around the running mean, near the batch's own, the difference of the moments hardly cancels.
        around = lax.stop_gradient(self.mean[...])
        sums = batch_sum(_sums(x, around, rows))
        first, second = sums[0] / count, sums[1] / count
        mean, variance = around + first, jnp.maximum(second - first**2, 0)
        share, unbiased = self.momentum, variance * count / jnp.maximum(count - 1, 1)
        self.mean[...] += share * (lax.stop_gradient(mean) - self.mean[...])
        self.variance[...] += share * (lax.stop_gradient(unbiased) - self.variance[...])
        return mean, variance


Sums = tuple[Float[Array, "c"], Float[Array, "c"]]


@jax.custom_vjp
def _sums(x: Float[Array, "b h w c"], around: Float[Array, "c"], rows: Bool[Array, "b"] | None) -> Sums:
    """The sums of ``x - around`` and of its squares over all places of the real rows."""
    return by_platform(x, around, rows, cpu=partial(on_cpu.sums, _centred_sums), default=_centred_sums)


def _centred_sums(x: Array, around: Array, rows: Array | None) -> Sums:
    x = x.astype(jnp.float32) - around
    weighted = x if rows is None else x * rows[:, None, None, None]
    return weighted.sum((0, 1, 2)), (weighted * x).sum((0, 1, 2))


def _sums_forward(x: Array, around: Array, rows: Array | None) -> tuple[Sums, tuple]:
    return _sums(x, around, rows), (x, around, rows)


def _sums_back(residuals: tuple, grads: Sums) -> tuple[Array, Array | None, None]:
    x, around, rows = residuals
    grad = grads[0] + 2 * (x.astype(jnp.float32) - around) * grads[1]
    grad = grad if rows is None else grad * rows[:, None, None, None]
    return grad.astype(x.dtype), None, None  # the running mean learns nothing


_sums.defvjp(_sums_forward, _sums_back)


@jax.custom_vjp
def _scaled(x: Float[Array, "b h w c"], scale: Float[Array, "c"], shift: Float[Array, "c"]) -> Float[Array, "b h w c"]:
    """``x * scale + shift``, in float32."""
    return x.astype(jnp.float32) * scale + shift


def _scaled_forward(x: Array, scale: Array, shift: Array) -> tuple[Array, tuple]:
    return _scaled(x, scale, shift), (x, scale)


def _gradient_sums(x: Array, grad: Array) -> Sums:
    """The gradients by scale and shift."""
    return (x.astype(jnp.float32) * grad.astype(jnp.float32)).sum((0, 1, 2)), grad.sum((0, 1, 2), jnp.float32)


def _scaled_back(residuals: tuple, grad: Array) -> tuple[Array, Array, Array]:
    x, scale = residuals
    by_scale, by_shift = by_platform(x, grad, cpu=partial(on_cpu.gradient_sums, _gradient_sums), default=_gradient_sums)
    return (grad * scale).astype(x.dtype), by_scale, by_shift


_scaled.defvjp(_scaled_forward, _scaled_back)


class GroupNorm(nnx.Module):
    """Zero mean and unit variance over the places and channels of each group of one image, then scale and shift.

    `Wu & He, 2018 <https://arxiv.org/abs/1803.08494>`_. No image depends on another.

    Attributes:
        scale: (channels,), ``scale`` of the call at first.
        bias: (channels,), zero at first.
        groups: a divisor of the channels.
    """

    def __init__(self, channels: int, *, groups: int = 32, scale: float = 1.0, epsilon: float = 1e-5):
        self.scale = nnx.Param(jnp.full((channels,), scale, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((channels,)))
        self.groups = groups
        self.epsilon = epsilon

    def __call__(
        self, x: Float[Array, "b h w c"], rows: Bool[Array, "b"] | None = None, *, training: bool = False
    ) -> Float[Array, "b h w c"]:
        """``rows`` and ``training`` change nothing: they are there so that either norm can stand in a network."""
        del rows, training
        return normalised_groups(x, self.groups, self.epsilon) * self.scale[...] + self.bias[...]


def normalised_groups(x: Float[Array, "b h w c"], groups: int, epsilon: float = 1e-5) -> Float[Array, "b h w c"]:
    """Zero mean and unit variance over the places and channels of each group of one image, in float32."""
    split = x.astype(jnp.float32).reshape(*x.shape[:3], groups, -1)
    split = split - split.mean((1, 2, 4), keepdims=True)
    variance = jnp.square(split).mean((1, 2, 4), keepdims=True)
    return (split * lax.rsqrt(variance + epsilon)).reshape(x.shape)
