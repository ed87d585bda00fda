"""Self-attention over sequences whose positions count by their distance.

Dims: b batch, t = q = s frames (all, asking, answering), d width, h heads, k head width, r = 2t - 1 distances.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from suite.nn.attention import active, attend
from suite.nn.dot import Computing, einsum
from suite.nn.dropout import Dropout
from suite.nn.linear import Linear


class RelativeAttention(Computing):
    """Scores are sums of a part by content and a part by distance (`arXiv 1901.02860`__, section 3.3).

    Any length will do, and shifting the input shifts the output. The softmax is float32.

    __ https://arxiv.org/abs/1901.02860

    Attributes:
        query, key, value: the projections, each (width, heads * head width).
        out: (heads * head width, width).
        distance: projection of the sinusoids of a distance, as the query's, without bias.
        content_bias, distance_bias: (heads, head width), what every query asks of contents and of distances.
        dropout: acts on the attention weights.
        compute: format of the operands of the products.
    """

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs, dropout: float = 0.0, head_width: int = 0):
        """``head_width``: 0 for width / heads."""
        size = head_width or width // heads
        self.query = Linear(width, heads * size, rngs=rngs, narrow=True)
        self.key = Linear(width, heads * size, rngs=rngs, narrow=True)
        self.value = Linear(width, heads * size, rngs=rngs, narrow=True)
        self.out = Linear(heads * size, width, rngs=rngs, narrow=True)
        self.distance = Linear(width, heads * size, rngs=rngs, narrow=True, use_bias=False)
        self.content_bias = nnx.Param(jnp.zeros((heads, size)))
        self.distance_bias = nnx.Param(jnp.zeros((heads, size)))
        self.dropout = Dropout(dropout)
        self.heads = heads
        self.compute = "float32"

    def __call__(
        self, x: Float[Array, "b t d"], mask: Bool[Array, "b t"], rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b t d"]:
        """``mask`` is True where a frame is real."""
        q, k, v = (part(x).reshape(*x.shape[:2], self.heads, -1) for part in (self.query, self.key, self.value))
        r = self.distance(distances(x.shape[1], x.shape[2])).reshape(-1, *q.shape[2:])
        scale = q.shape[-1] ** -0.5
        by_distance = einsum("bqhk,rhk->bhqr", (q + self.distance_bias[...]) * scale, r, self.compute)
        mixed = attend(
            q + self.content_bias[...],
            k,
            v,
            visible=mask[:, None, None, :],
            bias=align(by_distance),
            scale=scale,
            compute=self.compute,
            drop=active(self.dropout, rngs),
            kernel="plain",
        )
        return self.out(mixed.reshape(*x.shape[:2], -1))


def distances(length: int, width: int, base: float = 10_000.0) -> Float[Array, "r d"]:
    """Sines at even channels and cosines at odd ones of the distances length - 1 down to 1 - length."""
    distance = jnp.arange(length - 1, -length, -1.0)
    angles = distance[:, None] * base ** -(jnp.arange(0, width, 2) / width)
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1).reshape(2 * length - 1, -1)[:, :width]


def align(scores: Float[Array, "b h q r"]) -> Float[Array, "b h q s"]:
    """``out[q, s] = scores[q, t - 1 - q + s]``: the score of the distance q - s for each pair.

    Rows read one after another are cut a place later each time: no gather, whose derivative would be a scatter.
    """
    b, h, t, r = scores.shape
    shifted = jnp.pad(scores, ((0, 0), (0, 0), (0, 0), (1, 0))).reshape(b, h, r + 1, t)[:, :, 1:]
    return shifted.reshape(b, h, t, r)[..., :t]
