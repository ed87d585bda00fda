"""Transcription of recordings of any length, window by window, as Whisper does it: in one compiled loop.

A model has ``encoder(features, mask) -> (memory, mask)`` and a ``decoder`` that can be continued
(`suite.decoding.generation`) and makes its ``cache`` of a memory.

Dims: b recordings, t frames, f features, w windows of a recording, n tokens of a window.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from suite.data.preprocessing.speech_tokens import Special
from suite.decoding import timestamps
from suite.decoding.generation import Decoding, generate

STRIDE = 2
"""Frames from one timestamp to the next, and from one vector of the memory to the next."""


@dataclass(frozen=True)
class Quiet:
    """When a window is taken for one in which nothing is spoken.

    Attributes:
        probability: of its silence, above which it is, 1 or more: never.
        least: mean log probability of its tokens from which on it is taken for speech all the same.
    """

    probability: float
    least: float


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    """What the loop carries.

    Attributes:
        window: () number of the window.
        seek: (b,) frames before it.
        language: (b,) token of each recording's language; -1 as long as it isn't known.
        made: outputs so far, see `transcribe`.
    """

    window: Array
    seek: Array
    language: Array
    made: dict[str, Array]


def most_windows(seconds: float, window: float, timed: bool) -> int:
    """Windows that a recording of at most ``seconds`` is given: twice what it needs where windows overlap by their
    timestamps, and two more."""
    needed = max(1, -int(-seconds // window))
    return 2 * needed + 2 if timed else needed


def transcribe(
    model: Any,
    features: Float[Array, "b t f"],
    frames: Int[Array, "b"],
    asked: dict[str, Array],
    special: Special,
    decoding: Decoding,
    most: int,
    quiet: Quiet,
    keys: Array | None = None,
) -> dict[str, Array]:
    """Tokens of each window of each recording. Jitted.

    A window ends behind the last segment that is whole in it, where its timestamps say so; the next one begins there.
    Once no more windows are left than the rest of a recording needs, each is heard whole.

    Args:
        model: see above.
        features: of the recordings, 0 behind the end of each.
        frames: (b,) frames of each.
        asked: ``mask`` (b,) bool, which rows are recordings; int32 (b,): ``language`` and ``action``, tokens, -1 where
            the first is to be heard or the model has none; ``timed`` bool (b,), whether segments have times.
        special: tokens that steer the decoder.
        decoding: how tokens are chosen.
        most: windows at most, see `most_windows`.
        quiet: when a window is left out.
        keys: (b,) what draws each row's tokens, where decoding has a temperature.

    Returns:
        ``windows`` int32 (b,), how many a recording has; ``language`` int32 (b,); and (b, w, ...): ``tokens`` int32
        (b, w, n), ``starts`` and ``lengths`` int32 in frames, ``whole`` bool, whether the next window begins behind
        this one, ``no_speech`` float32, and ``kept`` bool, False where nothing was heard.
    """
    rows = features.shape[0]
    size = STRIDE * model.encoder.positions.shape[0]
    padded = jnp.pad(features, ((0, 0), (0, size), (0, 0)))
    decoding = replace(decoding, end=special.end, pad=special.end, suppress=tuple(sorted(special.never)))
    flat = lambda dtype: jnp.zeros((rows, most), dtype)
    made = {
        "tokens": jnp.full((rows, most, decoding.tokens), special.end, jnp.int32),
        **{name: flat(jnp.int32) for name in ("starts", "lengths")},
        **{name: flat(bool) for name in ("whole", "kept")},
        "no_speech": flat(jnp.float32),
        "windows": jnp.zeros((rows,), jnp.int32),
    }
    timed = asked["timed"] & (special.begin > 0)

    def active(state: _State) -> Bool[Array, "b"]:
        return asked["mask"] & (state.seek < frames) & (state.window < most)

    def body(state: _State) -> _State:
        going = active(state)
        # Recordings that are over are computed as the first that isn't: the search ends when every row has ended.
        source = jnp.where(going, jnp.arange(rows), going.argmax())
        take = lambda values: values[source]
        cut = jax.vmap(lambda row, start: lax.dynamic_slice(row, (start, 0), (size, row.shape[1])))
        memory, mask = model.encoder(cut(take(padded), take(state.seek)), jnp.ones((rows, size), bool))
        heard = _heard(model.decoder, memory, mask, special)
        known = jnp.where(state.language < 0, heard["language"], state.language)
        prompt, real = _prompt(known, asked["action"], timed, special)
        cache = model.decoder.cache(memory, mask, prompt.shape[1] + decoding.tokens)
        rule = timestamps.Rules(take(timed), special.end, special.begin, special.latest, special.first)
        drawn = None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(take(keys), state.window)
        said = generate(model.decoder, cache, take(prompt), take(real), decoding, drawn, rule)
        length = jnp.minimum(frames - state.seek, size)
        whole = jnp.ones((rows,), bool)
        step = length
        if special.begin:
            partial = timestamps.advance(said.tokens, special.begin, special.end, STRIDE)
            needed = -((state.seek + partial - frames) // size)
            whole = ~timed | (partial <= 0) | (needed >= most - state.window)
            step = jnp.where(whole, length, partial)
        kept = jnp.ones((rows,), bool)
        if special.silence >= 0 and quiet.probability < 1:
            kept = (heard["no_speech"] <= quiet.probability) | (_mean(said, decoding) >= quiet.least)
        step = jnp.where(kept, step, length)
        now = {"tokens": said.tokens, "starts": state.seek, "lengths": length, "whole": whole, "kept": kept}
        now["no_speech"] = heard["no_speech"]
        return _State(
            state.window + 1,
            jnp.where(going, state.seek + step, state.seek),
            jnp.where(going, known, state.language),
            {
                **{name: _written(state.made[name], value, state.window, going) for name, value in now.items()},
                "windows": state.made["windows"] + going,
            },
        )

    start = _State(jnp.int32(0), jnp.zeros((rows,), jnp.int32), asked["language"], made)
    end = lax.while_loop(lambda state: active(state).any(), body, start)
    return {**end.made, "language": end.language}


def _heard(decoder: Any, memory: Array, mask: Array, special: Special) -> dict[str, Array]:
    """What the first token says: ``language`` int32 (b,), the likeliest one, -1 where there are none, and
    ``no_speech`` float32 (b,), the probability that nothing is spoken, 0 where the model doesn't say it."""
    rows = memory.shape[0]
    first = jnp.full((rows, 1), special.start, jnp.int32)
    logits, _ = decoder.step(first, jnp.ones((rows, 1), bool), decoder.cache(memory, mask, 1))
    logits = logits.astype(jnp.float32)
    language, no_speech = jnp.full((rows,), -1, jnp.int32), jnp.zeros((rows,), jnp.float32)
    if special.languages:
        ids = jnp.array(sorted(special.languages.values()), jnp.int32)
        language = ids[logits[:, ids].argmax(-1)]
    if special.silence >= 0:
        no_speech = jax.nn.softmax(logits)[:, special.silence]
    return {"language": language, "no_speech": no_speech}


def _prompt(
    language: Int[Array, "b"], action: Int[Array, "b"], timed: Bool[Array, "b"], special: Special
) -> tuple[Int[Array, "b p"], Bool[Array, "b p"]]:
    """Tokens that steer the decoder, and which of them are real: that of no timestamps is there where none are made."""
    fixed = prefix(language, action, special)
    ones = jnp.ones(fixed.shape, bool)
    if special.untimed < 0:
        return fixed, ones
    untimed = jnp.full((fixed.shape[0], 1), special.untimed, jnp.int32)
    return jnp.concatenate([fixed, untimed], 1), jnp.concatenate([ones, ~timed[:, None]], 1)


def prefix(language: Int[Array, "b"], action: Int[Array, "b"], special: Special) -> Int[Array, "b p"]:
    """The tokens that every row begins with: the start, and the language and what is to be done where the model knows
    several."""
    first = jnp.full(language.shape, special.start, jnp.int32)
    more = [*([language] if special.languages else []), *([action] if special.actions else [])]
    return jnp.stack([first, *more], 1)


def _mean(said: Any, decoding: Decoding) -> Float[Array, "b"]:
    """Mean log probability of the tokens of each row, the end among them."""
    ended = said.tokens == decoding.end
    count = jnp.where(ended.any(1), ended.argmax(1) + 1, said.tokens.shape[1])
    return said.score / count if decoding.beams == 1 else said.score * count ** (decoding.length_penalty - 1.0)


def _written(values: Array, now: Array, window: Array, going: Bool[Array, "b"]) -> Array:
    """``values`` (b, w, ...) with ``now`` (b, ...) in the place of a window, of the rows that are going on."""
    at = functools.partial(lax.dynamic_index_in_dim, axis=1, keepdims=False)
    chosen = jnp.where(going.reshape(-1, *(1,) * (now.ndim - 1)), now, at(values, window))
    return lax.dynamic_update_index_in_dim(values, chosen.astype(values.dtype), window, 1)
