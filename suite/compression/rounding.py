"""Rounding by Qwix: weights when a run is compressed or trained for it, and the ranges of inputs.

A run that is compressed needs none of it any more.
"""

from typing import Any

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


def rounded(matrix: Float[Array, "n o"], bits: int, tile: int) -> tuple[Int8[Array, "n o"], Float[Array, "t o"]]:
    """Integers and scales, symmetric about 0; see `suite.nn.quantized.Round`."""
    kind = jnp.int4 if bits == 4 else jnp.int8
    made = library().quantize(matrix, kind, channelwise_axes=(1,), tiled_axes={0: tile})
    return made.qvalue.astype(jnp.int8), made.scale


def input_step(x: Float[Array, "..."]) -> Float[Array, ""]:
    """The scale by which a batch of inputs would be rounded to int8."""
    return library().quantize(x, jnp.int8).scale.reshape(())
