"""Rounding by Qwix: weights when a run is compressed or trained for it, and the ranges of inputs.

A run that is compressed needs none of it any more.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

from suite.errors import InputError


def library() -> Any:
    """The package.

    Raises:
        InputError: it is not installed.
    """
    try:
        import qwix
    except ModuleNotFoundError as error:
        if error.name != "qwix":
            raise
        raise InputError("package qwix", "is not installed: it rounds weights.",
                         fix="pip install 'suite[compress]'") from None  # fmt: skip
    return qwix


CLIPPED = (1.0, 0.85, 0.7)
"""Shares of a group's largest weight that 4 bits may reach up to; the one with the least squared error is taken."""


@partial(jax.jit, static_argnums=(1, 2))
def rounded(matrix: Float[Array, "n o"], bits: int, tile: int) -> tuple[Int8[Array, "n o"], Float[Array, "t o"]]:
    """Integers and scales, symmetric about 0; see `suite.nn.quantized.Round`."""
    if bits == 8:
        made = library().quantize(matrix, jnp.int8, channelwise_axes=(1,), tiled_axes={0: tile})
        return made.qvalue, made.scale
    groups = matrix.reshape(-1, tile, matrix.shape[1])
    tries = [library().quantize(groups, jnp.int4, channelwise_axes=(0, 2), calibration_method=f"absmax,{share}")
             for share in CLIPPED]  # fmt: skip
    values = jnp.stack([made.qvalue.astype(jnp.int8) for made in tries])
    scales = jnp.stack([made.scale for made in tries])
    best = jnp.square(values * scales - groups).sum(2, keepdims=True).argmin(0, keepdims=True)
    values, scales = (jnp.take_along_axis(each, best, 0)[0] for each in (values, scales))
    return values.reshape(matrix.shape), scales[:, 0]


def input_step(x: Float[Array, "..."]) -> Float[Array, ""]:
    """The scale by which a batch of inputs would be rounded to int8."""
    return library().quantize(x, jnp.int8).scale.reshape(())
