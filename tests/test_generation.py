"""Choosing tokens: alignment, ends, draws, beams, and what cannot be. What other libraries choose: tests/parity."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from suite.decoding.generation import Decoding, align, choose, generate, row_keys
from suite.errors import InputError
from suite.nn import Cache


class Chain:
    """A first-order Markov chain: what follows depends on the last token alone, so the best sequences are known."""

    def __init__(self, logits):
        self.logits = jnp.asarray(logits)

    def step(self, tokens, mask, cache):
        cache = Cache((), cache.added(mask), cache.length + tokens.shape[1])
        return self.logits[tokens[:, -1]], cache


def empty(rows, length):
    return Cache((), jnp.zeros((rows, length), bool), jnp.int32(0))


LOGITS = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32) * 2
CHAIN = Chain(LOGITS)


def keys(seed):
    """Of 4000 rows."""
    return row_keys(jnp.arange(4000, dtype=jnp.uint32), seed)


def run(tokens, decoding, seeds=None):
    tokens = jnp.asarray(tokens)[:, None]
    keys = None if seeds is None else row_keys(jnp.asarray(seeds, jnp.uint32))
    made = jax.jit(
        lambda t: generate(CHAIN, empty(t.shape[0], 1 + decoding.tokens), t, jnp.ones(t.shape, bool), decoding, keys)
    )(tokens)
    return np.asarray(made.tokens), np.asarray(made.score)


def test_rows_padded_behind_are_turned_and_others_stay():
    tokens = jnp.array([[1, 2, 0, 0], [1, 2, 3, 4], [0, 0, 8, 9]])
    mask = jnp.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1]], bool)
    turned, where = align(tokens, mask)
    np.testing.assert_array_equal(turned, [[0, 0, 1, 2], [1, 2, 3, 4], [0, 0, 8, 9]])
    np.testing.assert_array_equal(where, [[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]])


def test_greedy_takes_the_likeliest_and_says_its_probability():
    tokens, score = run([0, 3], Decoding(tokens=4))
    logs = np.asarray(jax.nn.log_softmax(LOGITS))
    for row, last in enumerate((0, 3)):
        total = 0.0
        for token in tokens[row]:
            assert token == LOGITS[last].argmax()
            total += logs[last, token]
            last = token
        assert abs(total - score[row]) < 1e-5


def test_nothing_follows_the_end():
    first = int(LOGITS[0].argmax())
    tokens, _ = run([0, 1], Decoding(tokens=5, end=first, pad=9))
    assert tokens[0].tolist() == [first, 9, 9, 9, 9]
    ends = np.flatnonzero(tokens[1] == first)
    assert (tokens[1, ends[0] + 1 :] == 9).all() if len(ends) else True


def test_suppressed_tokens_are_never_made():
    first = int(LOGITS[0].argmax())
    assert first not in run([0], Decoding(tokens=6, suppress=(first,)))[0]
    assert first not in run([0], Decoding(tokens=6, suppress=(first,), beams=3))[0]


def test_beams_that_keep_everything_find_the_best_sequence():
    logs = np.asarray(jax.nn.log_softmax(LOGITS))
    best, score = run([2], Decoding(tokens=3, beams=25, length_penalty=0.0))
    every = {
        path: sum(logs[a, b] for a, b in zip((2, *path), path, strict=False))
        for path in itertools.product(range(5), repeat=3)
    }
    assert tuple(best[0]) == max(every, key=every.get)
    assert abs(score[0] - max(every.values())) < 1e-5


def test_a_length_penalty_prefers_longer_sequences():
    end = int(LOGITS[2].argmax())  # the likeliest is to end at once
    lengths = [(run([2], Decoding(tokens=6, beams=4, end=end, pad=-1, length_penalty=p))[0] >= 0).sum() for p in (0, 3)]
    assert lengths[0] < lengths[1]


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [({}, {0, 1, 2, 3}), ({"top_k": 2}, {0, 1}), ({"top_p": 0.6}, {0, 1}), ({"top_p": 0.4}, {0}), ({"top_k": 1}, {0})],
)
def test_draws_stay_among_the_likeliest_and_follow_their_odds(fields, allowed):
    odds = jnp.array([0.5, 0.25, 0.15, 0.1])
    drawn = choose(jnp.broadcast_to(jnp.log(odds), (4000, 4)), Decoding(temperature=1.0, **fields), keys(0))
    counts = np.bincount(drawn, minlength=4) / 4000
    assert set(np.flatnonzero(counts).tolist()) == allowed
    kept = np.where(np.isin(np.arange(4), list(allowed)), odds, 0)
    np.testing.assert_allclose(counts, kept / kept.sum(), atol=0.03)


def test_temperature_sharpens():
    logits = jnp.broadcast_to(jnp.array([1.0, 0.0]), (4000, 2))
    share = [float(choose(logits, Decoding(temperature=t), keys(1)).mean()) for t in (0.2, 1.0, 5.0)]
    assert share[0] < 0.02 < share[1] < share[2] < 0.5
    np.testing.assert_allclose(share[1], 1 / (1 + np.e), atol=0.03)


def test_a_row_is_drawn_by_its_seed_wherever_it_stands():
    decoding = Decoding(tokens=12, temperature=1.0)
    alone, again, other = (run([0], decoding, [seed])[0][0] for seed in (1, 1, 2))
    assert (alone == again).all() and (alone != other).any()
    for place in range(8):
        begins, seeds = np.arange(8) % 5, np.arange(8) + 10
        begins[place], seeds[place] = 0, 1
        company = run(begins, decoding, seeds)[0]
        assert (company[place] == alone).all()
    same = run([0] * 8, decoding, range(8))[0]
    assert len({tuple(row) for row in same.tolist()}) == 8, "equal beginnings are continued by their own seeds"
    task = [row_keys(jnp.zeros(1, jnp.uint32), seed) for seed in (0, 1)]
    assert (jax.random.key_data(task[0]) != jax.random.key_data(task[1])).any()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="holds no 1 and 4"):
        generate(CHAIN, empty(1, 4), jnp.zeros((1, 1), int), jnp.ones((1, 1), bool), Decoding(tokens=4))
    with pytest.raises(ValueError, match="needs a key"):
        generate(CHAIN, empty(1, 9), jnp.zeros((1, 1), int), jnp.ones((1, 1), bool), Decoding(tokens=4, temperature=1))
    for fields, where in (
        ({"top_p": 0}, "top_p"),
        ({"tokens": 0}, "tokens"),
        ({"temperature": -1}, "temperature"),
        ({"beams": 2, "temperature": 1.0}, "temperature"),
    ):
        with pytest.raises(InputError, match=f"decoding.{where}"):
            Decoding(**fields)
