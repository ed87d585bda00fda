"""Whisper's timestamps (arXiv 2212.04356): the rules by which they are made, and the segments that they part.

Timestamps are tokens of their own, the last ones of the vocabulary, 20 ms apart. Dims: b rows, n tokens, v vocabulary.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

_NEVER = -1e9
"""Logit of a token that must not be chosen."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rules:
    """Which tokens may follow those made so far, as Whisper's own decoder has it.

    The first token is a timestamp, no later than ``latest``. Timestamps come in pairs, the end of a segment and the
    start of the next, or one before the end of all; they never fall, and a segment lasts longer than nothing. Where all
    timestamps together are likelier than any other token, one of them is next.

    Attributes:
        timed: (b,) rows that have timestamps; the others follow ``first`` alone.
        end: token that ends a row; all texts are below it.
        begin: first timestamp; the token before it, which says that there are none, is never made.
        latest: timestamps after the first one that the first token may be.
        first: tokens that no row begins with.
    """

    timed: Bool[Array, "b"]
    end: int = field(metadata={"static": True})
    begin: int = field(metadata={"static": True})
    latest: int = field(metadata={"static": True})
    first: tuple[int, ...] = field(metadata={"static": True}, default=())

    def __call__(
        self, logits: Float[Array, "b v"], tokens: Int[Array, "b n"], count: Int[Array, ""]
    ) -> Float[Array, "b v"]:
        """See `suite.decoding.generation.Rule`."""
        if self.first:
            refused = logits.at[:, jnp.array(self.first)].set(_NEVER)
            logits = jnp.where(count == 0, refused, logits)
        if not 0 < self.begin < logits.shape[1]:
            return logits
        ids, begin = jnp.arange(logits.shape[1]), self.begin
        of_time, made = ids >= begin, jnp.arange(tokens.shape[1]) < count
        stamps = jnp.where(made & (tokens >= begin), tokens, -1).max(1)
        last, before = (_at(tokens, count - back) >= begin for back in (1, 2))
        last, before = last & (count >= 1), before | (count < 2)
        least = jnp.where(stamps < 0, begin, jnp.where(last & ~before, stamps, stamps + 1))
        refused = of_time & (ids < least[:, None]) | (ids == begin - 1)
        refused |= (last & before)[:, None] & of_time
        refused |= (last & ~before)[:, None] & (ids < self.end)
        refused |= (count == 0) & (~of_time | (ids > begin + self.latest))
        timed = jnp.where(refused, _NEVER, logits)
        known = jax.nn.log_softmax(timed)
        likelier = jax.nn.logsumexp(known[:, begin:], -1) > known[:, :begin].max(-1)
        timed = jnp.where(likelier[:, None] & ~of_time, _NEVER, timed)
        return jnp.where(self.timed[:, None], timed, logits)


def _at(tokens: Int[Array, "b n"], place: Int[Array, ""]) -> Int[Array, "b"]:
    return lax.dynamic_index_in_dim(tokens, jnp.maximum(place, 0), 1, keepdims=False)


def advance(tokens: Int[Array, "b n"], begin: int, end: int, stride: int) -> Int[Array, "b"]:
    """Frames after which the next window of a long recording begins: at the last timestamp that ends a segment, where
    another one has begun behind it; 0 where there is none, so that it begins behind the window. Jitted.

    Args:
        tokens: made of the window; behind ``end`` they mean nothing.
        begin: first timestamp.
        end: token that ends a row.
        stride: frames from one timestamp to the next.
    """
    length = jnp.where((tokens == end).any(1), (tokens == end).argmax(1), tokens.shape[1])
    made = jnp.arange(tokens.shape[1]) < length[:, None]
    stamps = (tokens >= begin) & made
    pairs = stamps[:, 1:] & stamps[:, :-1]
    place = jnp.where(pairs, jnp.arange(tokens.shape[1] - 1), -1).max(1)
    # A single timestamp at the end says that nothing is spoken behind it.
    last, before = (
        jnp.take_along_axis(stamps, jnp.maximum(length - back, 0)[:, None], 1)[:, 0] & (length >= back)
        for back in (1, 2)
    )
    partial = (place >= 0) & ~(last & ~before)
    frames = (jnp.take_along_axis(tokens, jnp.maximum(place, 0)[:, None], 1)[:, 0] - begin) * stride
    return jnp.where(partial, frames, 0)
