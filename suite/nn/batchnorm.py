"""Normalisation of feature maps, always in float32.

Dims: b images, h w height and width, c channels, g groups, m = c / g.
"""

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float

from suite.nn.layout import batch_sum, replicas


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
        x = x.astype(jnp.float32)
        mean, variance = self._update(x, rows) if training else (self.mean[...], self.variance[...])
        scale = self.scale[...] * lax.rsqrt(variance + self.epsilon)
        return x * scale + (self.bias[...] - mean * scale)

    def _update(self, x: Float[Array, "b h w c"], rows: Bool[Array, "b"] | None) -> tuple[Array, Array]:
        places = x.shape[1] * x.shape[2]
        if rows is None:
            weight, count = jnp.float32(1), jnp.float32(x.shape[0] * places * replicas())
        else:
            weight = rows.astype(jnp.float32)[:, None, None, None]
            count = jnp.maximum(batch_sum(weight.sum()) * places, 1)
        # Around the running mean, near the batch's own, the difference of the moments hardly cancels; and both sums
        # are of one pass over x.
        around = lax.stop_gradient(self.mean[...])
        centred = (x - around) * weight
        sums = batch_sum((centred.sum((0, 1, 2)), (centred * (x - around)).sum((0, 1, 2))))
        first, second = sums[0] / count, sums[1] / count
        mean, variance = around + first, jnp.maximum(second - first**2, 0)
        share, unbiased = self.momentum, variance * count / jnp.maximum(count - 1, 1)
        self.mean[...] += share * (lax.stop_gradient(mean) - self.mean[...])
        self.variance[...] += share * (lax.stop_gradient(unbiased) - self.variance[...])
        return mean, variance


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
        split = x.astype(jnp.float32).reshape(*x.shape[:3], self.groups, -1)
        split = split - split.mean((1, 2, 4), keepdims=True)
        variance = jnp.square(split).mean((1, 2, 4), keepdims=True)
        whole = (split * lax.rsqrt(variance + self.epsilon)).reshape(x.shape)
        return whole * self.scale[...] + self.bias[...]
