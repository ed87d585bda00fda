"""Durations of symbols: the length regulator, and the alignment against a plain search and against all paths."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from suite.nn.audio.durations import (
    alignment_loss,
    by_symbol,
    diagonal_prior,
    frame_symbols,
    likeliest_durations,
    whole_durations,
)

JITTED = jax.jit(likeliest_durations)
BLANK = -1.0


def masks(frames, symbols, room=(20, 8)):
    return np.arange(room[0])[None] < frames, np.arange(room[1])[None] < symbols


def plain(scores):
    """The likeliest monotonic path by the recursion itself."""
    best = np.full(scores.shape, -np.inf)
    best[0, 0] = scores[0, 0]
    for i, j in itertools.product(range(1, len(scores)), range(scores.shape[1])):
        best[i, j] = scores[i, j] + max(best[i - 1, j], best[i - 1, j - 1] if j else -np.inf)
    durations, place = np.zeros(scores.shape[1], int), scores.shape[1] - 1
    for i in range(len(scores) - 1, -1, -1):
        durations[place] += 1
        place -= bool(i and place and best[i - 1, place - 1] > best[i - 1, place])
    return durations


def test_the_length_regulator_repeats_each_symbol_and_cuts_at_its_room():
    durations = jnp.array([[1, 0, 3, 0], [2, 2, 2, 0]])
    owners, real = frame_symbols(durations, 5)
    assert owners.tolist() == [[0, 2, 2, 2, 3], [0, 0, 1, 1, 2]]
    assert real.tolist() == [[True] * 4 + [False], [True] * 5]
    values = jnp.array([[7.0, 1, 2, 6, 99], [1, 3, 5, 0, 4]])
    counted = real & (values > 0)
    assert by_symbol(values, counted, owners, 4).tolist() == [[7, 0, 3, 0], [2, 5, 4, 0]]


def test_rounded_durations_add_up_to_the_rounded_sum_of_any_beginning():
    durations = np.random.default_rng(0).gamma(2.0, 2.0, (3, 40)).astype(np.float32)
    whole = np.asarray(whole_durations(jnp.asarray(durations)))
    assert whole.min() >= 0
    np.testing.assert_allclose(np.cumsum(whole, 1), np.cumsum(durations, 1), atol=0.51)


@pytest.mark.parametrize(("frames", "symbols"), [(9, 4), (6, 6), (12, 1), (20, 8)])
def test_the_alignment_is_that_of_a_plain_search_and_fills_the_row(frames, symbols):
    scores = np.random.default_rng(frames).normal(size=(1, 20, 8)).astype(np.float32)
    (durations,) = JITTED(scores, *masks(frames, symbols))
    assert durations[:symbols].tolist() == plain(scores[0, :frames, :symbols].astype(np.float64)).tolist()
    assert durations.sum() == frames and durations[:symbols].min() > 0 and not durations[symbols:].any()


def test_more_symbols_than_frames_leave_the_last_ones_without():
    (durations,) = JITTED(np.zeros((1, 20, 8), np.float32), *masks(3, 5))
    assert durations.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


def test_the_forward_sum_counts_every_alignment():
    log_probs = np.log(np.random.default_rng(0).dirichlet(np.ones(2), (1, 5))).astype(np.float32)
    frames, symbols = masks(4, 2, (5, 2))
    logits = np.concatenate([np.full((1, 5, 1), BLANK), log_probs], -1)
    probs = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    collapsed = lambda path: [symbol for symbol, _ in itertools.groupby(path) if symbol]
    paths = [path for path in itertools.product(range(3), repeat=4) if collapsed(path) == [1, 2]]
    expected = -np.log(sum(np.prod(probs[np.arange(4), path]) for path in paths)) / 4
    np.testing.assert_allclose(alignment_loss(log_probs, frames, symbols), [expected], rtol=1e-5)


def test_the_prior_alone_aligns_along_the_diagonal():
    frames, symbols = masks(20, 5)
    (durations,) = JITTED(diagonal_prior(symbols, frames), frames, symbols)
    assert np.abs(np.asarray(durations[:5]) - 4).max() <= 1
