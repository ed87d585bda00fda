"""Spans of frames that are hidden from a model, as in wav2vec 2.0 and HuBERT. Dims: b recordings, t frames."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from suite.parallel.layout import for_rows


def hidden_spans(draws: Float[Array, "b t"], real: Bool[Array, "b t"], share: float, length: int) -> Bool[Array, "b t"]:
    """Which frames are hidden: each real frame begins a span with the probability ``share``, and spans may overlap
    (`Baevski et al., 2020 <https://arxiv.org/abs/2006.11477>`_). A recording has one span at least.

    Args:
        draws: uniform numbers from 0 to 1.
        real: which frames there are; a row's real frames come first.
        share: of the frames that begin a span.
        length: frames of a span, which ends with its recording.
    """
    draws = jnp.where(real, draws, 2.0)
    starts = (draws < share) | (real & (draws == draws.min(1, keepdims=True)))
    begun = jnp.cumsum(starts, 1)
    before = jnp.pad(begun, ((0, 0), (length, 0)))[:, : starts.shape[1]]
    return (begun > before) & real


def uniform_frames(keys: Array, frames: int, *shape: int) -> Float[Array, "b t ..."]:
    """Uniform numbers of rows by their keys (b,), ``shape`` of them a frame: the same whatever a row is padded to."""
    draw = lambda key, frame: jax.random.uniform(jax.random.fold_in(key, frame), shape)
    return jax.vmap(lambda key: jax.vmap(lambda frame: draw(key, frame))(jnp.arange(frames)))(keys)


def uniform_rows(key: Array, shape: tuple[int, ...]) -> Float[Array, "b ..."]:
    """Uniform numbers (b, ...) of the rows that a layer sees, of one key for the whole batch."""
    return for_rows(lambda whole: jax.random.uniform(key, whole), shape)
