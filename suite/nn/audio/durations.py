"""Durations of symbols: from symbols to frames and back, and the alignment of both that is learnt from text and sound.

Dims: b batch, u symbols, t frames, d width.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from suite.nn.audio.ctc import ctc_loss

_NEVER = -1e9
_BLANK = -1.0
"""Logit of a frame that belongs to no symbol, beside log probabilities of the symbols: such frames are rare."""


def whole_durations(durations: Float[Array, "b u"]) -> Int[Array, "b u"]:
    """Whole frames, of which any number of symbols from the first on last as long as before, to half a frame."""
    ends = jnp.round(jnp.cumsum(durations, 1)).astype(jnp.int32)
    return jnp.diff(ends, axis=1, prepend=0)


def frame_symbols(durations: Int[Array, "b u"], frames: int) -> tuple[Int[Array, "b t"], Bool[Array, "b t"]]:
    """Place of the symbol that each of so many frames belongs to, and which frames belong to any.

    The length regulator of FastSpeech (`Ren et al., 2019 <https://arxiv.org/abs/1905.09263>`_) for arrays of one shape:
    what ``frames`` does not hold is cut at the end.
    """
    ends = jnp.cumsum(durations, 1)
    place = jnp.arange(frames)
    symbols = (place[None, :, None] >= ends[:, None, :]).sum(-1)
    return jnp.minimum(symbols, durations.shape[1] - 1), place < ends[:, -1:]


def by_symbol(
    values: Float[Array, "b t"], counted: Bool[Array, "b t"], symbols: Int[Array, "b t"], size: int
) -> Float[Array, "b u"]:
    """Mean of the frames of each of ``size`` symbols that are counted; 0 where a symbol has none."""
    owned = (symbols[..., None] == jnp.arange(size)) & counted[..., None]
    return jnp.where(owned, values[..., None], 0).sum(1) / jnp.maximum(owned.sum(1), 1)


def diagonal_prior(symbols: Bool[Array, "b u"], frames: Bool[Array, "b t"]) -> Float[Array, "b t u"]:
    """How likely each symbol is at each frame before anything is learnt, a logarithm up to a constant: near the
    diagonal, and nearer towards both ends.

    The normal distribution of the mean and deviation of the beta-binomial prior of `Shih et al., 2021
    <https://openreview.net/forum?id=0NQwnnwAORi>`_.
    """
    count, length = symbols.sum(1)[:, None, None], frames.sum(1)[:, None, None]
    share = (jnp.arange(frames.shape[1])[None, :, None] + 0.5) / jnp.maximum(length, 1)
    variance = jnp.maximum(count * share * (1 - share) * (1 + count / jnp.maximum(length, 1)), 0) + 0.25
    place = jnp.arange(symbols.shape[1])[None, None] + 0.5
    return -jnp.square(place - share * count) / (2 * variance) - 0.5 * jnp.log(variance)


def alignment_loss(
    log_probs: Float[Array, "b t u"], frames: Bool[Array, "b t"], symbols: Bool[Array, "b u"]
) -> Float[Array, "b"]:
    """Nats a frame of all monotonic alignments in which each symbol has a frame (forward sum, as in `Badlani et al.,
    2021 <https://arxiv.org/abs/2108.10447>`_); 0 for a row with fewer frames than symbols.

    Args:
        log_probs: of each symbol, at each frame.
        frames: True where a frame is real.
        symbols: True where a symbol is real.
    """
    size = symbols.shape[1]
    logits = jnp.pad(log_probs, ((0, 0), (0, 0), (1, 0)), constant_values=_BLANK)
    labels = jnp.broadcast_to(jnp.arange(1, size + 1), symbols.shape)
    losses, _ = ctc_loss(logits, frames, labels, symbols)
    return losses / jnp.maximum(frames.sum(1), 1)


def likeliest_durations(
    log_probs: Float[Array, "b t u"], frames: Bool[Array, "b t"], symbols: Bool[Array, "b u"]
) -> Int[Array, "b u"]:
    """Frames of each symbol in the likeliest monotonic alignment that leaves none out (monotonic alignment search, `Kim
    et al., 2020 <https://arxiv.org/abs/2005.11129>`_): they add up to the row's frames.

    Rows with fewer frames than symbols have no such alignment: their last symbols get no frame.
    """
    scores = jnp.where(symbols[:, None], log_probs, _NEVER).swapaxes(0, 1)
    first = jnp.where(jnp.arange(symbols.shape[1]) == 0, scores[0], _NEVER)

    def ahead(best: Array, score: Array) -> tuple[Array, Array]:
        before = jnp.pad(best[:, :-1], ((0, 0), (1, 0)), constant_values=_NEVER)
        return score + jnp.maximum(best, before), before > best

    _, moved = lax.scan(ahead, first, scores[1:])
    moved = jnp.concatenate([jnp.zeros_like(moved[:1]) if len(moved) else jnp.zeros((1, *symbols.shape), bool), moved])
    count, length = symbols.sum(1), frames.sum(1)
    last = jnp.minimum(count, length) - 1

    def back(place: Array, step: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        has_moved, number, real = step
        here = place
        came = jnp.take_along_axis(has_moved, jnp.maximum(place, 0)[:, None], 1)[:, 0]
        # As many frames as symbols are left: each of them takes one.
        came = (came | (number <= place)) & real & (place > 0)
        return place - came, jnp.where(real, here, -1)

    numbers = jnp.arange(frames.shape[1])
    _, owners = lax.scan(back, last, (moved, numbers, frames.T), reverse=True)
    return (owners.T[..., None] == jnp.arange(symbols.shape[1])).sum(1).astype(jnp.int32)
