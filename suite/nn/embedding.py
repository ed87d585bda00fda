"""Tokens and places as vectors. Dims: b batch, t tokens, v vocabulary, d width, h heads, k head width (even)."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from suite.nn.dot import dot_nt


class Embedding(nnx.Module):
    """A table of vectors.

    Attributes:
        embedding: (size, width), normal with deviation 0.02 at first.
        compute: format of the operands of `attend`.
    """

    def __init__(self, size: int, width: int, *, rngs: nnx.Rngs):
        self.embedding = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (size, width), jnp.float32))
        self.compute = "float32"

    def set_view(self, compute: str | None = None) -> None:
        """Configure a view of the layer.

        Args:
          compute: format of matrix operands, "float32" or "bfloat16".
        """
        if compute is not None:
            self.compute = compute

    def __call__(self, index: Int[Array, "..."]) -> Float[Array, "... d"]:
        """Rows ``index``; one past either end takes the row at that end."""
        return self.embedding[...].at[index].get(mode="clip").astype(jnp.float32)

    def attend(self, x: Float[Array, "... d"]) -> Float[Array, "... v"]:
        """The dot product of ``x`` with every row: the logits of an output head tied to the table."""
        return dot_nt(x, self.embedding[...], self.compute)


class LearnedPositions(nnx.Module):
    """One vector for each of ``max_length`` places.

    Attributes:
        embedding: (max_length, width), normal with deviation 0.02 at first.
    """

    def __init__(self, max_length: int, width: int, *, rngs: nnx.Rngs):
        self.embedding = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (max_length, width), jnp.float32))

    def __call__(self, length: int) -> Float[Array, "t d"]:
        """The first ``length`` vectors.

        Raises:
            ValueError: there are fewer.
        """
        limit = self.embedding.shape[0]
        if length > limit:
            raise ValueError(
                f"input of {length} tokens, but the model has learned positions for max_length = {limit}; "
                "cut the input, or raise max_length and train again"
            )
        return self.embedding[:length].astype(jnp.float32)


def _angles(length: int, size: int, base: float) -> Float[Array, "t k"]:
    """Place times frequency, for ``size`` frequencies falling geometrically from 1 towards 1 / base."""
    return jnp.arange(length)[:, None] * base ** -(jnp.arange(size) / size)


def sinusoidal(length: int, width: int, base: float = 10_000.0) -> Float[Array, "t d"]:
    """Sines, then cosines, of each place (`Vaswani et al., 2017 <https://arxiv.org/abs/1706.03762>`_).

    The paper interleaves the two; in halves, as here, it is the same up to the order of the channels.
    """
    angles = _angles(length, (width + 1) // 2, base)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)[:, :width]


def rotary(x: Float[Array, "b t h k"], base: float = 10_000.0) -> Float[Array, "b t h k"]:
    """Turn queries or keys by an angle that grows with their place, so that scores depend on distances.

    `Su et al., 2021 <https://arxiv.org/abs/2104.09864>`_, channel j paired with channel j + k/2.
    """
    angles = _angles(x.shape[1], x.shape[3] // 2, base)[:, None]
    a, b = jnp.split(x, 2, -1)
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
