"""Rounding by Qwix: weights when a run is compressed or trained for it, and the ranges of inputs.

A run that is compressed needs none of it any more.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

from suite.distribution import missing
from suite.nn.quant.rounding import HIGHEST


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
        raise missing("qwix", "to round weights", "compress") from None
    return qwix


CLIPPED = (1.0, 0.85, 0.7)
"""Shares of a group's largest weight that 4 bits may reach up to; the one with the least squared error is taken."""


@partial(jax.jit, static_argnums=(1, 2))
def rounded(matrix: Float[Array, "n o"], bits: int, tile: int) -> tuple[Int8[Array, "n o"], Float[Array, "t o"]]:
    """Integers and scales, symmetric about 0; see `suite.nn.quant.layers.Round`."""
    if bits == 8:
        quantized = library().quantize(matrix, jnp.int8, channelwise_axes=(1,), tiled_axes={0: tile})
        return quantized.qvalue, quantized.scale
    groups = matrix.reshape(-1, tile, matrix.shape[1])
    tries = [
        library().quantize(groups, jnp.int4, channelwise_axes=(0, 2), calibration_method=f"absmax,{share}")
        for share in CLIPPED
    ]
    values = jnp.stack([quantized.qvalue.astype(jnp.int8) for quantized in tries])
    scales = jnp.stack([quantized.scale for quantized in tries])
    best = jnp.square(values * scales - groups).sum(2, keepdims=True).argmin(0, keepdims=True)
    values, scales = (jnp.take_along_axis(stacked, best, 0)[0] for stacked in (values, scales))
    return values.reshape(matrix.shape), scales[:, 0]


REACH = (1.0, 0.8, 0.6, 0.4, 0.3, 0.2)
"""Shares of a batch's largest input that a fixed scale may reach up to: what is rarely so large may cost the rest."""


def input_errors(x: Float[Array, "..."]) -> Float[Array, "r"]:
    """Of a batch of inputs: 1, the scale by which it would be rounded to int8, and the squared error of rounding by
    each share of it."""
    errors = []
    for share in REACH:
        scale = library().quantize(x, jnp.int8, calibration_method=f"absmax,{share}").scale
        # XLA takes what goes to int8 and back for what it was, and wouldn't cut off what is out of range.
        errors.append(jnp.square(jnp.clip(jnp.round(x / scale), -128, 127) * scale - x).mean())
    return jnp.stack([jnp.float32(1), jnp.abs(x).max() / HIGHEST, *errors])


def input_scale(seen: Float[Array, "r"]) -> Float[Array, ""]:
    """The scale with the least error over batches, of sums of what `input_errors` said of each."""
    return seen[1] / seen[0] * jnp.array(REACH)[seen[2:].argmin()]
