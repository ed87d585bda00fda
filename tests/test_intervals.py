"""Intervals of metrics and of differences, from what each record adds."""

import numpy as np
import pytest

from suite.contracts.metric import MetricState
from suite.errors import InputError
from suite.evaluation.bootstrap import Difference, Scores, by_record, holm
from suite.evaluation.metrics.events import click_scores
from suite.evaluation.metrics.ranking import Ranking, RankingBound, auc
from suite.evaluation.metrics.translation import translation_scores
from suite.evaluation.shares import wilson


def accuracy(right: np.ndarray) -> Scores:
    return Scores({"accuracy": [MetricState(float(r), 1) for r in right]}, np.arange(len(right)))


def test_the_interval_of_an_accuracy_covers_the_truth_nineteen_times_in_twenty():
    rng, truth, inside = np.random.default_rng(0), 0.8, 0
    for _ in range(100):
        found = accuracy(rng.random(200) < truth).interval("accuracy")
        inside += found.low <= truth <= found.high
    assert 88 <= inside <= 99
    width = found.high - found.low
    assert width == pytest.approx(2 * 1.96 * np.sqrt(found.value * (1 - found.value) / 200), rel=0.15)


def test_what_is_hard_for_both_runs_cancels_in_their_difference():
    rng = np.random.default_rng(1)
    first = rng.random(1000) < 0.8
    second = first.copy()
    second[np.flatnonzero(~first)[:20]] = True
    paired = accuracy(second).minus(accuracy(first), "accuracy")
    assert paired.value == pytest.approx(0.02)
    assert paired.low > 0
    alone = accuracy(second).interval("accuracy")
    assert paired.high - paired.low < 0.4 * (alone.high - alone.low)
    same = accuracy(first).minus(accuracy(first), "accuracy")
    assert same.low <= 0 <= same.high


def test_records_are_paired_by_their_place_and_not_by_their_order():
    right = np.array([1, 0, 0, 1, 1, 0, 1, 1], float)
    order = np.random.default_rng(2).permutation(len(right))
    shuffled = Scores({"accuracy": [MetricState(float(right[i]), 1) for i in order]}, order)
    assert shuffled.minus(accuracy(right), "accuracy") == Difference(0.0, 0.0, 0.0, 1.0)


def test_other_records_are_refused():
    with pytest.raises(InputError, match="were evaluated on other records"):
        accuracy(np.ones(4)).minus(accuracy(np.ones(5)), "accuracy")
    with pytest.raises(InputError, match='metric "f1": was not measured'):
        accuracy(np.ones(4)).interval("f1")


def test_an_area_and_a_calibration_error_are_those_of_the_whole_and_of_each_sample():
    rng = np.random.default_rng(3)
    labels = (rng.random(300) < 0.3).astype(float)
    logits = rng.normal(size=300) + labels
    whole = click_scores({"logits": logits}, {"label": labels, "mask": np.ones(300, bool)})
    rows = [
        click_scores({"logits": logits[i : i + 1]}, {"label": labels[i : i + 1], "mask": np.ones(1, bool)})
        for i in range(300)
    ]
    scores = Scores({name: [row[name] for row in rows] for name in whole}, np.arange(300))
    for name, value in scores.values().items():
        assert value == pytest.approx(whole[name].value(), abs=1e-12), name
    found = scores.interval("auc")
    assert found.low < auc(logits, labels) < found.high
    weights = np.eye(300, dtype=int)[:7].sum(0)[None] + 1
    drawn = np.repeat(np.arange(300), weights[0])
    assert Ranking.resampled(scores.rows["auc"], weights)[0] == pytest.approx(auc(logits[drawn], labels[drawn]))


class Clicks:
    """A task's scores, with the bounds of the area."""

    def score(self, outputs, batch, reference=None):
        scores = click_scores(outputs, batch)
        area = scores["auc"]
        return {**scores, "auc_low": RankingBound(area.total, area.count, 0.025, 10)}


def test_bounds_of_an_interval_are_left_out():
    """Theirs would be that of the area."""
    rng = np.random.default_rng(6)
    batch = {"label": rng.integers(0, 2, 20), "mask": np.arange(20) < 17}
    outputs = {"logits": rng.normal(size=20)}
    scores = by_record(Clicks(), outputs, batch, np.arange(17))
    assert "auc_low" not in scores.rows and len(scores.rows["auc"]) == 17
    assert "auc_low" not in scores.names and scores.interval("auc").known


def test_bleu_of_a_sample_is_that_of_its_sentences():
    pytest.importorskip("sacrebleu")
    made = ["a small dog runs fast", "the cat sits on the mat", "two men are talking here"]
    references = ["a small dog runs quickly", "the cat sat on the mat", "two men talk here"]
    rows = [translation_scores([m], [r])["bleu"] for m, r in zip(made, references, strict=True)]
    drawn = type(rows[0]).resampled(rows, np.array([[2, 0, 1]]))[0]
    again = translation_scores([made[0], made[0], made[2]], [references[0], references[0], references[2]])["bleu"]
    assert drawn == pytest.approx(again.value())


def test_p_values_say_what_the_intervals_say():
    rng = np.random.default_rng(4)
    first = rng.random(400) < 0.7
    for gained in (0, 2, 8, 30):
        second = first.copy()
        second[np.flatnonzero(~first)[:gained]] = True
        found = accuracy(second).minus(accuracy(first), "accuracy")
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
        assert 0 < found.p <= 1
    assert accuracy(first).minus(accuracy(first), "accuracy").p == 1


def test_p_values_of_no_difference_are_below_a_twentieth_once_in_twenty():
    rng, below = np.random.default_rng(5), 0
    for _ in range(100):
        first, second = (accuracy(rng.random(150) < 0.6) for _ in range(2))
        below += first.minus(second, "accuracy").p < 0.05
    assert 1 <= below <= 12


def test_several_comparisons_are_corrected():
    assert holm([0.01]) == [0.01]
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_interval_of_a_share_is_that_of_wilson_also_where_all_records_are_right():
    # Its ends are the shares that are 1.96 of their own standard errors away from what was seen.
    shares, counts = np.array([0.95, 0.5, 1.0]), np.array([20, 100, 60])
    for (low, high), share, count in zip(wilson(shares, counts), shares, counts, strict=True):
        for end in (low, high):
            assert abs(share - end) == pytest.approx(1.96 * np.sqrt(end * (1 - end) / count), abs=1e-7)
        assert low < share <= high + 1e-12
