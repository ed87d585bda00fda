"""Padding masks of sequences whose length a layer changes.

Dims: b batch, t positions, d width.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def silence(x: Float[Array, "b t ..."], mask: Bool[Array, "b t"]) -> Float[Array, "b t ..."]:
    """Zeros where nothing is real: what a convolution sees beyond the end of a row that stands alone."""
    return jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, 0)


def masked_mean(x: Float[Array, "b t d"], mask: Bool[Array, "b t"]) -> Float[Array, "b d"]:
    """Mean over the real positions of each row; zero for a row without any."""
    return silence(x, mask).sum(1) / jnp.maximum(mask.sum(1, keepdims=True), 1)
