"""Small trainable additions to a linear layer whose own parameters stay as they are. Dims: i inputs, o outputs, r rank.

Both start as nothing, so that a model with additions answers as it did without.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from suite.nn.dot import dot
from suite.nn.dropout import keep_mask
from suite.nn.mlp import gelu

_KEY: ContextVar[Array | None] = ContextVar("key", default=None)


@contextmanager
def training(key: Array) -> Iterator[None]:
    """Within it, additions drop out by masks drawn from ``key``.

    A linear layer is called without ``rngs``, whose key would have to pass through every module above it.
    """
    token = _KEY.set(key)
    try:
        yield
    finally:
        _KEY.reset(token)


class _Addition(nnx.Module):
    """What both kinds share: the place in the model, which keys dropout, and the formats of a view."""

    def __init__(self, path: str, dropout: float):
        self.word = zlib.crc32(path.encode())
        self.rate = dropout
        self.compute = "float32"
        self.bits = "hash"

    def set_view(self, compute: str | None = None, bits: str | None = None) -> None:
        """Configure a view of the layer.

        Args:
          compute: format of matrix operands, "float32" or "bfloat16".
          bits: source of dropout masks, "hash" or "threefry".
        """
        if compute is not None:
            self.compute = compute
        if bits is not None:
            self.bits = bits

    def drop(self, x: Array) -> Array:
        """``x``, in training with a fraction ``rate`` of it zeroed and the rest scaled up."""
        key = _KEY.get()
        if key is None or self.rate == 0:
            return x
        keep = keep_mask(jax.random.fold_in(key, self.word), self.rate, x.shape, self.bits)
        return jnp.where(keep, x * (1 / (1 - self.rate)), 0)


class LowRank(_Addition):
    """``y + alpha / rank * (x @ a) @ b`` (LoRA, `Hu et al., 2021 <https://arxiv.org/abs/2106.09685>`_).

    Attributes:
        a: (i, r), normal of variance 1 / i.
        b: (r, o), zero at first.
        scale: alpha / rank.
    """

    def __init__(
        self, kernel: Float[Array, "... i o"], rank: int, *, alpha: float, dropout: float, path: str, rngs: nnx.Rngs
    ):
        """``kernel`` gives shapes alone; leading axes (layers that are scanned over) are those of ``a`` and ``b``."""
        super().__init__(path, dropout)
        *lead, inputs, outputs = kernel.shape
        self.a = nnx.Param(jax.random.normal(rngs.params(), (*lead, inputs, rank)) * inputs**-0.5)
        self.b = nnx.Param(jnp.zeros((*lead, rank, outputs)))
        self.scale = alpha / rank

    def __call__(self, x: Float[Array, "... i"], y: Float[Array, "... o"]) -> Float[Array, "... o"]:
        inner = dot(self.drop(x), self.a[...], self.compute)
        return y + self.scale * dot(inner, self.b[...], self.compute)


class Bottleneck(_Addition):
    """``y + up(gelu(down(y)))``, an adapter (`Houlsby et al., 2019 <https://arxiv.org/abs/1902.00751>`_).

    Attributes:
        down, down_bias: (o, r) and (r,).
        up, up_bias: (r, o) and (o,), zero at first.
    """

    def __init__(self, kernel: Float[Array, "... i o"], rank: int, *, dropout: float, path: str, rngs: nnx.Rngs):
        """``kernel`` gives shapes alone, as for `LowRank`."""
        super().__init__(path, dropout)
        *lead, _, outputs = kernel.shape
        self.down = nnx.Param(jax.random.normal(rngs.params(), (*lead, outputs, rank)) * outputs**-0.5)
        self.down_bias = nnx.Param(jnp.zeros((*lead, rank)))
        self.up = nnx.Param(jnp.zeros((*lead, rank, outputs)))
        self.up_bias = nnx.Param(jnp.zeros((*lead, outputs)))

    def __call__(self, x: Float[Array, "... i"], y: Float[Array, "... o"]) -> Float[Array, "... o"]:
        inner = gelu(dot(self.drop(y), self.down[...], self.compute) + self.down_bias[...])
        return y + dot(inner, self.up[...], self.compute) + self.up_bias[...]
