"""Group normalisation that a vector of each row scales and shifts, with SiLU behind it: one operation of two passes.

Its statistics are the sums of a map and of its squares, in float32, and all of it but these is one function of each
element, so that a network of such norms reads every map twice forward and twice backward. The derivatives are written
out, hence the custom rule: left to itself, the compiler keeps the normalised map, its activation and their gradients.

Dims: b images, h w height and width, c channels, g groups, e size of the vector that modulates.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from suite.nn.linear import Linear

_ZEROS = nnx.initializers.zeros_init()


class ModulatedNorm(nnx.Module):
    """Zero mean and unit variance over the places and channels of each group of one image, then scale and shift, then
    SiLU.

    Group normalisation (`Wu & He, 2018 <https://arxiv.org/abs/1803.08494>`_), whose scale and shift an image's vector
    changes (`Dhariwal & Nichol, 2021 <https://arxiv.org/abs/2105.05233>`_). No image depends on another.

    Attributes:
        scale: (channels,), one at first.
        bias: (channels,), zero at first.
        modulation: (e, 2 c), what is added to one and to zero, zero at first; None where nothing modulates.
        groups: a divisor of the channels.
    """

    def __init__(self, channels: int, modulated_by: int = 0, *, groups: int = 8, epsilon: float = 1e-5, rngs: nnx.Rngs):
        """``modulated_by``: size of the vector; 0: nothing modulates."""
        self.scale = nnx.Param(jnp.ones((channels,)))
        self.bias = nnx.Param(jnp.zeros((channels,)))
        self.modulation = Linear(modulated_by, 2 * channels, rngs=rngs, init=_ZEROS) if modulated_by else None
        self.groups = groups
        self.epsilon = epsilon

    def __call__(
        self, x: Float[Array, "b h w c"], vector: Float[Array, "b e"] | None = None
    ) -> Float[Array, "b h w c"]:
        """In the format of ``x``."""
        shape = x.shape[0], x.shape[3]
        scale, shift = jnp.broadcast_to(self.scale[...], shape), jnp.broadcast_to(self.bias[...], shape)
        if self.modulation is not None:
            more, added = jnp.split(self.modulation(vector), 2, -1)
            scale, shift = scale * (1 + more), shift * (1 + more) + added
        return norm_silu(x, scale, shift, self.groups, self.epsilon)


def norm_silu(
    x: Float[Array, "b h w c"],
    scale: Float[Array, "b c"],
    shift: Float[Array, "b c"],
    groups: int,
    epsilon: float = 1e-5,
) -> Float[Array, "b h w c"]:
    """SiLU of the map ``x``, normalised by groups, times ``scale`` plus ``shift``; computed in float32, in the format
    of ``x``."""
    return _norm_silu(groups, epsilon, x, scale, shift)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _norm_silu(groups: int, epsilon: float, x: Array, scale: Array, shift: Array) -> Array:
    return _forward(groups, epsilon, x, scale, shift)[0]


def _forward(groups: int, epsilon: float, x: Array, scale: Array, shift: Array) -> tuple[Array, tuple]:
    wide = x.astype(jnp.float32)
    count = x.shape[1] * x.shape[2] * (x.shape[3] // groups)
    mean = _grouped(wide.sum((1, 2)), groups) / count
    variance = jnp.maximum(_grouped(jnp.square(wide).sum((1, 2)), groups) / count - jnp.square(mean), 0)
    inverse = lax.rsqrt(variance + epsilon)
    y = jax.nn.silu(_affine(x, mean, inverse, scale, shift)).astype(x.dtype)
    return y, (x, mean, inverse, scale, shift)


def _backward(groups: int, epsilon: float, residuals: tuple, grad: Array) -> tuple[Array, Array, Array]:
    x, mean, inverse, scale, shift = residuals
    wide = x.astype(jnp.float32)
    inner = _affine(x, mean, inverse, scale, shift)
    share = jax.nn.sigmoid(inner)
    inner_grad = grad.astype(jnp.float32) * share * (1 + inner * (1 - share))
    by_shift = inner_grad.sum((1, 2))
    by_scale = inverse * ((inner_grad * wide).sum((1, 2)) - mean * by_shift)
    # The gradient by the normalised map less its mean and its part along that map, in the group.
    count = x.shape[1] * x.shape[2] * (x.shape[3] // groups)
    level = _grouped(scale * by_shift, groups) / count
    slope = inverse * _grouped(scale * by_scale, groups) / count
    each = lambda values: values[:, None, None]
    by_x = each(scale * inverse) * inner_grad - each(inverse * (level - slope * mean)) - each(inverse * slope) * wide
    return by_x.astype(x.dtype), by_scale, by_shift


_norm_silu.defvjp(_forward, _backward)


def _grouped(sums: Float[Array, "b c"], groups: int) -> Float[Array, "b c"]:
    """Each channel's sum over its group, by a matrix product: left to itself, XLA looks the group up for each element
    of the map, a loop that LLVM does not vectorise."""
    group = jnp.arange(sums.shape[1]) // (sums.shape[1] // groups)
    same = (group[:, None] == group).astype(sums.dtype)
    return jnp.matmul(sums, same, precision=lax.Precision.HIGHEST)


def _affine(x: Array, mean: Array, inverse: Array, scale: Array, shift: Array) -> Float[Array, "b h w c"]:
    factor = scale * inverse
    return x.astype(jnp.float32) * factor[:, None, None] + (shift - mean * factor)[:, None, None]
