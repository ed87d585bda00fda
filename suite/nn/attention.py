"""Multi-head self-attention.

Dims: b batch, t = q = s tokens (all, asking, answering), d width, h heads, k head width.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from suite.nn.dot import einsum
from suite.nn.dropout import Dropout
from suite.nn.embedding import rotary
from suite.nn.linear import Linear

_HIDDEN = -1e9
"""Score of a key that is padding: its weight underflows to 0, and a row of nothing but padding stays finite."""


class SelfAttention(nnx.Module):
    """Every token reads all tokens that are no padding (`Vaswani et al., 2017 <https://arxiv.org/abs/1706.03762>`_).

    Query, key and value have kernels of their own: pretrained weights come that way, and each splits over devices
    by heads. The softmax is float32.

    Attributes:
        query, key, value, out: the projections, each (width, width).
        dropout: acts on the attention weights.
        compute: format of the operands of the two products.
    """

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs, dropout: float = 0.0, turn: bool = False):
        """``turn``: apply rotary positions to queries and keys."""
        self.query = Linear(width, width, rngs=rngs)
        self.key = Linear(width, width, rngs=rngs)
        self.value = Linear(width, width, rngs=rngs)
        self.out = Linear(width, width, rngs=rngs)
        self.dropout = Dropout(dropout)
        self.heads = heads
        self.turn = turn
        self.compute = "float32"

    def set_view(self, compute: str | None = None) -> None:
        """Configure a view of the layer.

        Args:
          compute: format of matrix operands, "float32" or "bfloat16".
        """
        if compute is not None:
            self.compute = compute

    def __call__(
        self, x: Float[Array, "b t d"], mask: Bool[Array, "b t"], rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b t d"]:
        """``mask`` is True where a token is real."""
        q, k, v = (self._split(part(x)) for part in (self.query, self.key, self.value))
        if self.turn:
            q, k = rotary(q), rotary(k)
        q = q * q.shape[-1] ** -0.5
        scores = einsum("bqhk,bshk->bhqs", q, k, self.compute)
        weights = jax.nn.softmax(jnp.where(mask[:, None, None, :], scores, _HIDDEN), -1)
        weights = self.dropout(weights, rngs)
        return self.out(einsum("bhqs,bshk->bqhk", weights, v, self.compute).reshape(x.shape))

    def _split(self, x: Float[Array, "b t d"]) -> Float[Array, "b t h k"]:
        return x.reshape(*x.shape[:2], self.heads, -1)
