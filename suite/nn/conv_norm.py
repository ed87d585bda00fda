"""A convolution and its norm, with what a block does after them: addition and ReLU or ReLU6.

Dims: b images, h w height and width of the input, y x those of the output, i inputs, o outputs (channels).
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from suite.nn.batchnorm import BatchNorm, GroupNorm
from suite.nn.conv import Conv, finish
from suite.nn.mlp import Activation, activate


class ConvNorm(nnx.Module):
    """A convolution without bias, then a norm, and what a block does with them.

    Attributes:
        conv, norm: see `suite.nn.conv.Conv`, `suite.nn.batchnorm`.
        same: the input is padded as TensorFlow's "SAME" does it: with a stride, one row and column more below and to
            the right than above and to the left.
    """

    def __init__(self, conv: Conv, norm: BatchNorm | GroupNorm, *, same: bool = False):
        self.conv = conv
        self.norm = norm
        self.same = same

    def __call__(
        self,
        x: Float[Array, "b h w i"],
        rows: Bool[Array, "b"] | None,
        training: bool,
        added: Float[Array, "b y x o"] | None = None,
        then: Activation | None = None,
    ) -> Float[Array, "b y x o"]:
        """The normalised maps plus ``added``, and the activation ``then`` of it, in the format of computing."""
        if self.same:
            sides = [_around(n, k, self.conv.stride) for n, k in zip(x.shape[1:3], self._taps, strict=True)]
            x = jnp.pad(x, ((0, 0), *sides, (0, 0)))
        relu = then in ("relu", "relu6")  # one operation with the convolution, where the device has it
        y = self._normed(x, rows, training, added, relu)
        if then == "relu6":
            return jnp.minimum(y, 6)
        return y if relu or not then else activate(then, y)

    @property
    def _taps(self) -> tuple[int, ...]:
        return tuple(self.conv.kernel[...].shape[:2])

    def _normed(
        self, x: Array, rows: Array | None, training: bool, added: Array | None, relu: bool
    ) -> Float[Array, "b y x o"]:
        if not training and isinstance(self.conv, Conv) and isinstance(self.norm, BatchNorm):
            return self.conv.finished(x, *self.norm.learned(), added, relu)
        maps = self.conv(x)
        return finish(self.norm(maps, rows, training=training), added, relu).astype(maps.dtype)


def _around(size: int, taps: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis of ``size``, so that every ``stride``-th of its places is the middle of a window
    as nearly as an even number of zeros allows."""
    zeros = max((-(-size // stride) - 1) * stride + taps - size, 0)
    return zeros // 2, zeros - zeros // 2
