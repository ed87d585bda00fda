"""Products and convolutions with int8.

Inputs in bfloat16 meet the matrix widened to it, and integers are multiplied as such; convolutions are of bfloat16, in
which an integer of 8 bits is exact. On a CPU the faster forms are those of `suite.nn.cpu.int8`. Forms of one product
agree: to the rounding of inputs to bfloat16, and where all are integers to the rounding of sums beyond 2^24.

Dims: b images, h w height and width of the input, y x those of the output, p q those of the kernel, i inputs,
o outputs, g groups; "..." any leading axes, whose places are rows.
"""

from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, BFloat16, Float, Int8

from suite.nn.conv import conv2d
from suite.nn.cpu import int8 as on_cpu
from suite.nn.cpu.switch import by_platform
from suite.nn.dot import dot, dot_integers


def narrowed(x: Float[Array, "..."]) -> BFloat16[Array, "..."]:
    """Finite numbers in bfloat16; halves between two may be rounded either way."""
    return by_platform(x, cpu=on_cpu.narrowed, default=lambda x: x.astype(jnp.bfloat16))


def weight_dot(x: Float[Array, "... i"], w: Int8[Array, "i o"]) -> Float[Array, "... o"]:
    """``x @ w``, with ``x`` rounded to bfloat16 or finer and float32 sums."""
    return by_platform(x, w, cpu=on_cpu.weight_dot, default=_dot)


def integer_dot(x: Int8[Array, "... i"], w: Int8[Array, "i o"]) -> Float[Array, "... o"]:
    """``x @ w`` of integers, as float32."""
    return by_platform(x, w, cpu=on_cpu.integer_dot, default=dot_integers)


def bfloat16_dot(x: Float[Array, "... i"], w: BFloat16[Array, "i o"]) -> Float[Array, "... o"]:
    """``x @ w``, with ``x`` rounded to bfloat16 and float32 sums."""
    return by_platform(x, w, cpu=on_cpu.bfloat16_dot, default=_dot)


def weight_conv(
    x: Float[Array, "b h w i"],
    w: Int8[Array, "p q i/g o"] | BFloat16[Array, "p q i/g o"],
    stride: int,
    padding: int,
    groups: int,
) -> Float[Array, "b y x o"]:
    """`suite.nn.conv.conv2d`, with ``x`` rounded to bfloat16 or not at all."""
    place = stride, padding, groups
    return by_platform(x, w, cpu=partial(on_cpu.weight_conv, *place), default=partial(_conv, *place))


def integer_conv(
    x: Int8[Array, "b h w i"], w: Int8[Array, "p q i/g o"], stride: int, padding: int, groups: int
) -> Float[Array, "b y x o"]:
    """`suite.nn.conv.conv2d` of integers, as float32; only a CPU convolves them as such."""
    place = stride, padding, groups
    return by_platform(x, w, cpu=partial(on_cpu.integer_conv, *place), default=partial(_conv, *place))


def _dot(x: Array, w: Array) -> Array:
    return dot(x, w, "bfloat16")


def _conv(stride: int, padding: int, groups: int, x: Array, w: Array) -> Array:
    return conv2d(x, w, stride, padding, groups, "bfloat16")
