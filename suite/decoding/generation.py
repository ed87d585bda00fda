"""Continuing sequences on the device: greedy, by sampling, or by beam search, in one compiled loop with a cache.

A model that can be continued has ``step(tokens (b, q), mask (b, q), cache) -> (logits (b, v), cache)``, which reads the
new tokens and says what follows the last of them, and makes its own `suite.nn.Cache`.

Dims: b rows, k beams, n tokens to make, t tokens of the prompt, q new tokens, v vocabulary.
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt32

from suite.errors import InputError
from suite.nn.cache import Cache
from suite.parallel.layout import target_platform

_NEVER = -1e9
"""Added to the score of what must not be chosen."""


class Rule(Protocol):
    """What may follow what: a pytree whose arrays have a row (b, ...) for each row of a batch."""

    def __call__(self, logits: Float[Array, "b v"], tokens: Int[Array, "b n"], count: Int[Array, ""]) -> Array:
        """Logits (b, v), those of tokens that must not follow too low to be chosen.

        Args:
            logits: of the next token.
            tokens: made so far; behind the first ``count`` they mean nothing.
            count: () how many.
        """


class Continuable(Protocol):
    """What generation asks of a model."""

    def step(
        self, tokens: Int[Array, "b q"], mask: Bool[Array, "b q"], cache: Cache
    ) -> tuple[Float[Array, "b v"], Cache]:
        """Logits of the token that follows the last of ``tokens``, and the cache with all of them in it."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How tokens are chosen."""

    tokens: int = 64
    """Most tokens to make."""
    temperature: float = 0.0
    """Logits are divided by it before a token is drawn. 0: the likeliest token, nothing is drawn."""
    top_k: int = 0
    """Draw among this many of the likeliest tokens. 0: among all."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that together have this probability (arXiv 1904.09751)."""
    beams: int = 1
    """Sequences kept at a time; above 1 the best of them all is sought, and nothing is drawn."""
    length_penalty: float = 1.0
    """A finished sequence's score is its log probability over its length to this power: above 0 favours long ones."""
    end: int = -1
    """Token that ends a sequence. -1: none does."""
    pad: int = 0
    """What stands after the end."""
    suppress: tuple[int, ...] = ()
    """Tokens never made."""

    def __post_init__(self):
        for name, ok, wanted in (
            ("tokens", self.tokens >= 1, "must be at least 1"),
            ("beams", self.beams >= 1, "must be at least 1"),
            ("top_k", self.top_k >= 0, "must not be negative"),
            ("top_p", 0 < self.top_p <= 1, "must be above 0 and at most 1"),
            ("temperature", self.temperature >= 0, "must not be negative"),
        ):
            if not ok:
                raise InputError(f"field decoding.{name}", wanted, found=str(getattr(self, name)))
        if self.beams > 1 and self.temperature:
            raise InputError(
                "field decoding.temperature",
                "draws tokens, which beam search does not",
                found=f"{self.beams} beams",
                fix="one beam, or temperature 0",
            )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Continuation:
    """What was made of each row.

    Attributes:
        tokens: (b, n) the new tokens, the end among them; padding after it.
        score: (b,) their log probability; with beams, divided by their number to the power of ``length_penalty``.
    """

    tokens: Int[Array, "b n"]
    score: Float[Array, "b"]


def align(tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]) -> tuple[Int[Array, "b t"], Bool[Array, "b t"]]:
    """Rows padded at their end, turned so that the padding is in front. Rows of the other kind stay as they are."""
    length = tokens.shape[1]
    last = jnp.max(jnp.where(mask, jnp.arange(length), -1), 1, keepdims=True)
    source = (jnp.arange(length) + last + 1) % length
    return jnp.take_along_axis(tokens, source, 1), jnp.take_along_axis(mask, source, 1)


def generate(
    model: Continuable,
    cache: Cache,
    tokens: Int[Array, "b t"],
    mask: Bool[Array, "b t"],
    decoding: Decoding,
    keys: Array | None = None,
    rule: Rule | None = None,
) -> Continuation:
    """Continue each row of ``tokens``. A pure function, to be jitted with ``decoding`` fixed.

    Args:
        model: see `Continuable`.
        cache: of the model, with room for ``t + decoding.tokens`` tokens; written in place where the loop is compiled.
        tokens: prompts of at least one token.
        mask: True where a token is real; padding on either side, not between.
        decoding: how tokens are chosen.
        keys: (b,) what draws each row's, see `row_keys`; needed where the temperature is above 0.
        rule: which tokens may follow those that are made so far; None: any may.

    Raises:
        ValueError: the cache is too small, or there is nothing to draw with.
    """
    if cache.size < tokens.shape[1] + decoding.tokens:
        raise ValueError(f"a cache for {cache.size} tokens holds no {tokens.shape[1]} and {decoding.tokens} new ones")
    if decoding.temperature and keys is None:
        raise ValueError("drawing tokens needs a key for each row")
    rows = tokens.shape[0]
    if (
        rows == 1 and (target_platform() or jax.default_backend()) == "cpu" and _is_narrow(cache)
    ):  # never of a symbolic number of rows
        # XLA's product of a bfloat16 matrix with one vector is three times slower than with two.
        tokens, mask, cache = jnp.repeat(tokens, 2, 0), jnp.repeat(mask, 2, 0), cache.repeat(2)
        keys = None if keys is None else jnp.repeat(keys, 2, 0)
        rule = _repeated(rule, 2)
    logits, cache = model.step(*align(tokens, mask), cache)
    if decoding.beams > 1:
        continuation = _search(model, cache, logits, decoding, _repeated(rule, decoding.beams))
    else:
        continuation = _one_by_one(model, cache, logits, decoding, keys if decoding.temperature else None, rule)
    return jax.tree.map(lambda a: a[:rows], continuation)


def _repeated(rule: Rule | None, times: int) -> Rule | None:
    """Every row of the rule ``times`` times over."""
    return jax.tree.map(lambda a: jnp.repeat(a, times, 0), rule)


def _is_narrow(cache: Cache) -> bool:
    return any(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(cache.layers))


def row_keys(seeds: UInt32[Array, "b"], seed: int = 0) -> Array:
    """A key (b,) for each row of a batch, of its ``seed`` and of one for all. What a row's key draws depends on nothing
    else: not on the row's place, nor on the rows beside it, nor on the devices that share them."""
    # This kind of key draws the same for a row whatever it is drawn beside, which others (rbg) do not.
    key = jax.random.key(seed, impl="threefry2x32")
    return jax.vmap(jax.random.fold_in, (None, 0))(key, seeds)


def _one_by_one(
    model: Continuable, cache: Cache, logits: Array, decoding: Decoding, keys: Array | None, rule: Rule | None
) -> Continuation:
    rows = logits.shape[0]
    continuation = Continuation(jnp.full((rows, decoding.tokens), decoding.pad, jnp.int32), jnp.zeros((rows,)))

    def put(i: Array, continuation: Continuation, over: Array, logits: Array) -> tuple[Continuation, Array, Array]:
        """Choose token ``i`` of each row: what is made so far, which rows are over, the tokens."""
        now = None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, i)
        allowed = _without(logits, decoding)
        if rule is not None:
            allowed = logits = rule(allowed, continuation.tokens, i)
        chosen = choose(allowed, decoding, now)
        gain = jnp.take_along_axis(jax.nn.log_softmax(logits), chosen[:, None], 1)[:, 0]
        chosen = jnp.where(over, decoding.pad, chosen)
        score = continuation.score + jnp.where(over, 0, gain)
        return Continuation(continuation.tokens.at[:, i].set(chosen), score), over | (chosen == decoding.end), chosen

    def go_on(state: tuple) -> Array:
        i, _, over, _, _ = state
        return (i < decoding.tokens) & ~over.all()

    def body(state: tuple) -> tuple:
        i, continuation, over, last, cache = state
        logits, cache = model.step(last[:, None], jnp.ones((rows, 1), bool), cache)
        return i + 1, *put(i, continuation, over, logits), cache

    start = (jnp.int32(1), *put(jnp.int32(0), continuation, jnp.zeros((rows,), bool), logits), cache)
    return lax.while_loop(go_on, body, start)[1]


def _without(logits: Float[Array, "... v"], decoding: Decoding) -> Float[Array, "... v"]:
    """Logits, those of suppressed tokens too low to be chosen."""
    return logits.at[..., jnp.array(decoding.suppress)].set(_NEVER) if decoding.suppress else logits


def choose(logits: Float[Array, "b v"], decoding: Decoding, keys: Array | None = None) -> Int[Array, "b"]:
    """The likeliest token of each row, or one drawn by the row's key (b,) as ``decoding`` says."""
    if keys is None or not decoding.temperature:
        return logits.argmax(-1).astype(jnp.int32)
    logits = logits / decoding.temperature
    if 0 < decoding.top_k < logits.shape[-1]:
        least = lax.top_k(logits, decoding.top_k)[0][:, -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if decoding.top_p < 1:
        falling = -jnp.sort(-logits, -1)
        before = jnp.cumsum(jax.nn.softmax(falling), -1) - jax.nn.softmax(falling)
        least = jnp.min(jnp.where(before < decoding.top_p, falling, jnp.inf), -1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Beams:
    """The state of a beam search.

    Attributes:
        made: () tokens so far.
        running: (b, k, n) sequences that go on, best first; their log probabilities are ``running_score`` (b, k).
        finished: (b, k, n) the best that have ended; their scores are ``finished_score`` (b, k), -1e9 where ``full``
            (b, k) is False and there is none yet.
        open: (b,) whether something better may still come.
        more: () whether to go on.
        parent: (b, k) which sequence of the step before each running one continues.
    """

    made: Array
    running: Array
    running_score: Array
    finished: Array
    finished_score: Array
    full: Array
    open: Array
    more: Array
    parent: Array


def _search(
    model: Continuable, cache: Cache, logits: Float[Array, "b v"], decoding: Decoding, rule: Rule | None
) -> Continuation:
    """Beam search in which ended sequences leave the beam, so that as many keep running."""
    rows, k, n = logits.shape[0], decoding.beams, decoding.tokens
    empty = jnp.full((rows, k, n), decoding.pad, jnp.int32)
    # At first all beams are the prompt: but for the first, none may be chosen.
    first = jnp.broadcast_to(jnp.where(jnp.arange(k) == 0, 0.0, _NEVER), (rows, k))
    beams = _Beams(
        made=jnp.int32(0),
        running=empty,
        running_score=first,
        finished=empty,
        finished_score=jnp.full((rows, k), _NEVER),
        full=jnp.zeros((rows, k), bool),
        open=jnp.ones((rows,), bool),
        more=jnp.array(True),
        parent=jnp.zeros((rows, k), jnp.int32),
    )

    def body(state: tuple[_Beams, Cache]) -> tuple[_Beams, Cache]:
        beams, cache = state
        last = lax.dynamic_index_in_dim(beams.running, beams.made - 1, 2, keepdims=False).reshape(-1, 1)
        cache = cache.rows((jnp.arange(rows)[:, None] * k + beams.parent).reshape(-1))
        logits, cache = model.step(last, jnp.ones(last.shape, bool), cache)
        return _advance(beams, logits.reshape(rows, k, -1), decoding, rule), cache

    start = _advance(beams, jnp.repeat(logits[:, None], k, 1), decoding, rule), cache.repeat(k)
    beams = lax.while_loop(lambda state: state[0].more, body, start)[0]
    return Continuation(beams.finished[:, 0], beams.finished_score[:, 0])


def _advance(beams: _Beams, logits: Float[Array, "b k v"], decoding: Decoding, rule: Rule | None) -> _Beams:
    """Each running sequence one token longer, those that end moved to the finished ones."""
    k, size = logits.shape[1:]
    gains = _without(jax.nn.log_softmax(logits), decoding)
    if rule is not None:
        n = beams.running.shape[2]
        gains = rule(gains.reshape(-1, size), beams.running.reshape(-1, n), beams.made).reshape(gains.shape)
    total = (beams.running_score[:, :, None] + gains).reshape(logits.shape[0], -1)
    # Twice the beams: even if half of them end, enough go on.
    score, place = lax.top_k(total, 2 * k)
    parent, token = place // size, (place % size).astype(jnp.int32)
    longer = jnp.take_along_axis(beams.running, parent[:, :, None], 1).at[:, :, beams.made].set(token)
    length = beams.made + 1
    ends = (token == decoding.end) | (length == decoding.tokens)
    running_score, survivors = lax.top_k(jnp.where(ends, score + _NEVER, score), k)
    # Only what ends among the best k counts; the rest is there to keep the beam full.
    counts = ends & (jnp.arange(2 * k) < k) & beams.open[:, None]
    power = length.astype(jnp.float32) ** decoding.length_penalty
    ended = jnp.where(counts, score / power, score / power + _NEVER)
    finished_score, best = lax.top_k(jnp.concatenate([beams.finished_score, ended], 1), k)
    full = jnp.take_along_axis(jnp.concatenate([beams.full, counts], 1), best, 1)
    finished = jnp.take_along_axis(jnp.concatenate([beams.finished, longer], 1), best[:, :, None], 1)
    worst = jnp.where(full, finished_score.min(1, keepdims=True), _NEVER)
    open_ = beams.open & (running_score[:, :1] / power > worst).any(1)
    return replace(
        beams,
        made=length,
        running=jnp.take_along_axis(longer, survivors[:, :, None], 1),
        running_score=running_score,
        finished=finished,
        finished_score=finished_score,
        full=full,
        open=open_,
        more=open_.any() & ~ends.all(),
        parent=jnp.take_along_axis(parent, survivors, 1),
    )


def prompt(rows: int, token: int) -> dict[str, Any]:
    """``tokens`` and ``mask`` of a prompt of one token, for a decoder that reads a memory."""
    return {"tokens": jnp.full((rows, 1), token, jnp.int32), "mask": jnp.ones((rows, 1), bool)}
