"""Tokens and places as vectors.

Dims: b batch, t = q tokens, s tokens that answer, v vocabulary, d width, h heads, k head width (even).
"""

import math

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from suite.errors import InputError
from suite.nn.dot import Computing, dot_nt
from suite.nn.ghost import first_rows, gather


class Embedding(Computing):
    """A table of vectors.

    Attributes:
        embedding: (size, width), normal with deviation 0.02 at first.
        compute: format of the operands of `attend`.
    """

    def __init__(self, size: int, width: int, *, rngs: nnx.Rngs):
        self.embedding = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (size, width), jnp.float32))
        self.compute = "float32"

    def __call__(self, index: Int[Array, "..."]) -> Float[Array, "... d"]:
        """Rows ``index``; one past either end takes the row at that end."""
        return gather(self.embedding[...], index).astype(jnp.float32)

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
            InputError: there are fewer.
        """
        check_length(length, self.embedding.shape[0])
        return first_rows(self.embedding[...], length).astype(jnp.float32)

    def at(self, places: Int[Array, "..."]) -> Float[Array, "... d"]:
        """The vectors of ``places``; a place past the last has that one's."""
        return gather(self.embedding[...], places).astype(jnp.float32)


def check_length(length: int, limit: int) -> None:
    """Raises InputError: there are fewer vectors of places than tokens."""
    if length > limit:
        problem = f"input of {length} tokens, but the model has learned positions for max_length = {limit}."
        raise InputError("field model.max_length", problem, fix=f"--task.max_length {limit:d}")


class RelativeBias(nnx.Module):
    """What each head adds to a score for the distance of the two tokens, as in T5.

    `Raffel et al., 2019 <https://arxiv.org/abs/1910.10683>`_: near distances have a bucket each, farther ones share
    buckets that widen geometrically up to ``furthest``, beyond which all are one.

    Attributes:
        embedding: (buckets, heads), normal with deviation 0.02 at first.
    """

    def __init__(self, buckets: int, heads: int, *, rngs: nnx.Rngs, furthest: int = 128, both_ways: bool = True):
        """``both_ways``: half of the buckets are for tokens that follow; otherwise those are at distance 0."""
        self.embedding = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (buckets, heads), jnp.float32))
        self.furthest = furthest
        self.both_ways = both_ways

    def __call__(self, asking: Int[Array, "q"], answering: Int[Array, "s"]) -> Float[Array, "1 h q s"]:
        """The bias between tokens at these places."""
        bucket = self._bucket(answering[None, :] - asking[:, None])
        return self.embedding[...].at[bucket].get(mode="clip").astype(jnp.float32).transpose(2, 0, 1)[None]

    def _bucket(self, distance: Int[Array, "q s"]) -> Int[Array, "q s"]:
        buckets, first = self.embedding.shape[0], 0
        if self.both_ways:
            buckets //= 2
            first = jnp.where(distance > 0, buckets, 0)
            distance = jnp.abs(distance)
        else:
            distance = jnp.maximum(-distance, 0)
        near = buckets // 2
        growth = jnp.log(jnp.maximum(distance, 1) / near) / math.log(self.furthest / near) * (buckets - near)
        far = jnp.minimum(near + jnp.maximum(growth, 0).astype(jnp.int32), buckets - 1)
        return first + jnp.where(distance < near, distance, far)


def _angles(places: Int[Array, "..."], size: int, base: float) -> Float[Array, "... k"]:
    """Place times frequency, for ``size`` frequencies falling geometrically from 1 towards 1 / base."""
    # Frequencies are rounded once: an error in them grows with the place.
    frequencies = np.float64(base) ** -(np.arange(size) / size)
    return places[..., None] * jnp.asarray(frequencies, jnp.float32)


def sinusoidal(length: int, width: int, base: float = 10_000.0) -> Float[Array, "t d"]:
    """Sines, then cosines, of each place (`Vaswani et al., 2017 <https://arxiv.org/abs/1706.03762>`_).

    The paper interleaves the two; in halves, as here, it is the same up to the order of the channels.
    """
    return sinusoids(jnp.arange(length), width, base)


def sinusoids(places: Int[Array, "..."], width: int, base: float = 10_000.0) -> Float[Array, "... d"]:
    """`sinusoidal` of given places."""
    angles = _angles(places, (width + 1) // 2, base)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)[..., :width]


def rotary(
    x: Float[Array, "b t h k"], base: float = 10_000.0, places: Int[Array, "b t"] | None = None
) -> Float[Array, "b t h k"]:
    """Turn queries or keys by an angle that grows with their place, so that scores depend on distances.

    `Su et al., 2021 <https://arxiv.org/abs/2104.09864>`_, channel j paired with channel j + k/2. Places count from
    0 along the row unless ``places`` says otherwise.
    """
    places = jnp.arange(x.shape[1]) if places is None else places
    angles = _angles(places, x.shape[3] // 2, base)[..., None, :]
    a, b = jnp.split(x, 2, -1)
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
