"""Normalisation over the last axis, always in float32. Dims: d width."""

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float


class LayerNorm(nnx.Module):
    """Zero mean and unit variance over the last axis, then scale and shift.

    `Ba et al., 2016 <https://arxiv.org/abs/1607.06450>`_. The variance is the mean of squared deviations, which
    does not cancel as the difference of moments does.

    Attributes:
        scale: (width,), one at first.
        bias: (width,), zero at first.
    """

    def __init__(self, width: int, *, epsilon: float = 1e-6):
        self.scale = nnx.Param(jnp.ones((width,)))
        self.bias = nnx.Param(jnp.zeros((width,)))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        x = x.astype(jnp.float32)
        x = x - x.mean(-1, keepdims=True)
        variance = jnp.square(x).mean(-1, keepdims=True)
        return x * lax.rsqrt(variance + self.epsilon) * self.scale[...] + self.bias[...]


class RMSNorm(nnx.Module):
    """Unit root mean square over the last axis, then scale.

    `Zhang & Sennrich, 2019 <https://arxiv.org/abs/1910.07467>`_.

    Attributes:
        scale: (width,), one at first.
    """

    def __init__(self, width: int, *, epsilon: float = 1e-6):
        self.scale = nnx.Param(jnp.ones((width,)))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        x = x.astype(jnp.float32)
        return x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.epsilon) * self.scale[...]
