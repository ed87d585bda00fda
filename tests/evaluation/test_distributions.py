"""Distances of two sets of vectors, against their definitions; and their states, which add over batches."""

import itertools

import numpy as np
import pytest
import scipy.linalg

from suite.evaluation.bootstrap import by_record
from suite.evaluation.metrics.distributions import FIGURES, coverage, frechet_distance, kernel_distance, set_scores


def sets(n=60, m=45, d=5, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((d, d))
    return rng.standard_normal((n, d)) @ mixing, 0.5 + 1.3 * rng.standard_normal((m, d)) @ mixing[::-1]


@pytest.mark.parametrize("d", [1, 5, 80])
def test_frechet_distance_is_that_of_the_root_of_the_product(d):
    """Of 80 features and 45 vectors the covariance has no full rank."""
    real, made = sets(d=d)
    first, second = np.atleast_2d(np.cov(real.T)), np.atleast_2d(np.cov(made.T))
    root = scipy.linalg.sqrtm(first @ second)
    wanted = np.square(real.mean(0) - made.mean(0)).sum() + np.trace(first + second - 2 * np.real(root))
    np.testing.assert_allclose(frechet_distance(real, made), wanted, rtol=1e-5 if d == 80 else 1e-9)
    np.testing.assert_allclose(frechet_distance(real, real), 0, atol=1e-7 * np.trace(first))  # a root halves the digits
    np.testing.assert_allclose(frechet_distance(real, real + 2.0), 4 * d, rtol=1e-6)


def test_frechet_distance_of_float32_is_computed_in_float64():
    real, made = sets(d=3)
    shifted = [(values + 1000).astype(np.float32) for values in (real, made)]
    np.testing.assert_allclose(frechet_distance(*shifted), frechet_distance(real, made), rtol=1e-3)


def test_kernel_distance_is_the_mean_over_pairs_of_two():
    real, made = sets(7, 6, 3)
    kernel = lambda x, y: (x @ y / 3 + 1) ** 3
    within = lambda rows: np.mean([kernel(x, y) for x, y in itertools.permutations(rows, 2)])
    wanted = within(real) + within(made) - 2 * np.mean([kernel(x, y) for x in real for y in made])
    np.testing.assert_allclose(kernel_distance(real, made), wanted, rtol=1e-10)


def test_kernel_distance_of_one_distribution_is_zero_on_average():
    rng = np.random.default_rng(0)
    draws = [kernel_distance(rng.standard_normal((40, 4)), rng.standard_normal((30, 4))) for _ in range(200)]
    assert min(draws) < 0 and abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(len(draws))


def test_coverage_counts_vectors_within_the_third_neighbour_of_one():
    by = np.array([[0.0], [1.0], [2.0], [3.0], [10.0]])
    # The third neighbours are 3, 2, 2, 3 and 9 away.
    of = np.array([[-3.0], [-3.5], [0.5], [6.0], [18.9], [19.1]])
    assert coverage(of, by) == 4 / 6
    assert np.isnan(coverage(of, by[:3]))


def test_precision_and_recall_tell_narrow_from_wide():
    rng = np.random.default_rng(0)
    real = rng.standard_normal((300, 2))
    narrow, wide = 0.2 * rng.standard_normal((300, 2)), 8 * rng.standard_normal((300, 2))
    assert FIGURES["precision"](real, narrow) > 0.95 and FIGURES["recall"](real, narrow) < 0.3
    assert FIGURES["precision"](real, wide) < 0.3 and FIGURES["recall"](real, wide) > 0.9


def test_states_add_over_batches_and_have_no_interval():
    real, made = sets(40, 40)
    whole = {name: state.value() for name, state in set_scores(real, made).items()}
    parts = [set_scores(real[start : start + 13], made[start : start + 13]) for start in range(0, 40, 13)]
    for name in FIGURES:
        added = parts[0][name] + parts[1][name] + parts[2][name] + parts[3][name]
        assert added.value() == whole[name] and added.count == 40

    class Task:
        @staticmethod
        def score(outputs, batch, reference=None):
            return set_scores(outputs["real"][batch["mask"]], outputs["made"][batch["mask"]])

    scores = by_record(Task, {"real": real, "made": made}, {"mask": np.ones(40, bool)}, np.arange(40))
    assert not scores.rows and scores.values() == whole and not scores.interval("fid").known


def test_nothing_is_said_of_too_few():
    one = np.zeros((1, 3))
    assert all(np.isnan(function(one, one)) for function in FIGURES.values())
