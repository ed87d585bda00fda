"""Metrics against scikit-learn and scipy; states of parts join to the whole, and resample as the whole does."""

import numpy as np
import pytest

from suite.contracts.metric import add
from suite.evaluation.metrics.classification import class_scores, ordered_scores
from suite.evaluation.metrics.events import click_scores
from suite.evaluation.metrics.labels import label_scores
from suite.evaluation.metrics.numbers import number_scores

peers = pytest.importorskip("sklearn.metrics")
RNG = np.random.default_rng(0)
N = 300
LOGITS = np.round(RNG.normal(size=(N, 4)), 1)
CLASSES = np.where(RNG.random(N) < 0.5, LOGITS.argmax(-1), RNG.integers(0, 4, N))
HAS = RNG.random((N, 5)) < 0.3
ODDS = np.round(RNG.normal(size=(N, 5)) + HAS, 1)


def values(scores):
    return {name: state.value() for name, state in scores.items()}


def softmax(logits):
    shares = np.exp(logits)
    return shares / shares.sum(-1, keepdims=True)


def test_scores_of_classes_are_those_of_scikit_learn():
    said, shares = LOGITS.argmax(-1), softmax(LOGITS)
    assert values(class_scores(LOGITS, CLASSES)) == pytest.approx(
        {
            "accuracy": peers.accuracy_score(CLASSES, said),
            "loss": peers.log_loss(CLASSES, shares),
            "macro_f1": peers.f1_score(CLASSES, said, average="macro"),
            "balanced_accuracy": peers.balanced_accuracy_score(CLASSES, said),
            "brier": ((shares - np.eye(4)[CLASSES]) ** 2).sum(-1).mean(),
        }
    )


def test_a_class_that_training_does_not_have_counts_as_one_that_is_never_found():
    labels, said = np.where(RNG.random(N) < 0.1, -1, CLASSES), LOGITS.argmax(-1)
    scores = values(class_scores(LOGITS, labels))
    assert scores["macro_f1"] == pytest.approx(peers.f1_score(labels, said, average="macro"))
    assert scores["balanced_accuracy"] == pytest.approx(peers.balanced_accuracy_score(labels, said))
    known = labels >= 0
    assert scores["loss"] == pytest.approx(peers.log_loss(labels[known], softmax(LOGITS)[known]))


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_scores_of_two_classes_and_of_clicks_are_those_of_scikit_learn(threshold):
    odds = np.round(LOGITS[:, 1] - LOGITS[:, 0], 1) + 0.03  # no probability is one half
    happened, probability = CLASSES % 2, 1 / (1 + np.exp(-odds))
    said = probability >= threshold
    expected = {
        "f1": peers.f1_score(happened, said),
        "precision": peers.precision_score(happened, said),
        "recall": peers.recall_score(happened, said),
        "accuracy": peers.accuracy_score(happened, said),
        "auc": peers.roc_auc_score(happened, odds),
        "average_precision": peers.average_precision_score(happened, odds),
        "brier": peers.brier_score_loss(happened, probability),
        "loss": peers.log_loss(happened, probability),
    }
    scores = values(class_scores(np.stack([0 * odds, odds], 1), happened, threshold))
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    batch = {"label": happened, "mask": np.ones(N, bool)}
    clicks = values(click_scores({"logits": odds}, batch, threshold=threshold))
    assert {name: clicks[name] for name in expected} == pytest.approx(expected)


def test_scores_of_ordered_classes_are_those_of_scikit_learn():
    said = LOGITS.argmax(-1)
    assert values(ordered_scores(LOGITS, CLASSES)) == pytest.approx(
        {
            "rank_mae": np.abs(said - CLASSES).mean(),
            "quadratic_kappa": peers.cohen_kappa_score(CLASSES, said, weights="quadratic"),
        }
    )


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_scores_of_labels_are_those_of_scikit_learn(threshold):
    shares = 1 / (1 + np.exp(-ODDS))
    said = shares >= threshold
    assert values(label_scores(ODDS, HAS, threshold)) == pytest.approx(
        {
            "micro_f1": peers.f1_score(HAS, said, average="micro"),
            "macro_f1": peers.f1_score(HAS, said, average="macro"),
            "hamming": peers.hamming_loss(HAS, said),
            "macro_auc": peers.roc_auc_score(HAS, ODDS, average="macro"),
            "loss": np.mean([peers.log_loss(HAS[:, place], shares[:, place]) for place in range(5)]),
        }
    )


def test_labels_that_no_record_has_or_is_given_are_left_out_of_means():
    never = np.concatenate([HAS, np.zeros((N, 1), bool)], 1), np.concatenate([ODDS, np.full((N, 1), -9.0)], 1)
    assert values(label_scores(never[1], never[0]))["macro_f1"] == values(label_scores(ODDS, HAS))["macro_f1"]
    assert values(label_scores(never[1], never[0]))["macro_auc"] == values(label_scores(ODDS, HAS))["macro_auc"]


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_scores_of_numbers_are_those_of_scikit_learn_and_scipy(offset):
    """Also of numbers that are large beside their spread, whose squares a float64 rounds."""
    targets = np.round(RNG.normal(size=N), 1) + offset
    predicted = targets + np.round(RNG.normal(size=N), 1)
    scores = values(number_scores(predicted, targets, offset))
    expected = {
        "r2": peers.r2_score(targets, predicted),
        "mae": peers.mean_absolute_error(targets, predicted),
        "rmse": peers.mean_squared_error(targets, predicted) ** 0.5,
        "spearman": pytest.importorskip("scipy.stats").spearmanr(predicted, targets)[0],
    }
    assert scores == pytest.approx(expected, rel=1e-6)


SCORES = {
    "classes": lambda rows: class_scores(LOGITS[rows], CLASSES[rows]),
    "two": lambda rows: class_scores(LOGITS[rows, :2], CLASSES[rows] % 2),
    "ordered": lambda rows: ordered_scores(LOGITS[rows], CLASSES[rows]),
    "labels": lambda rows: label_scores(ODDS[rows], HAS[rows]),
    "numbers": lambda rows: number_scores(LOGITS[rows, 0], LOGITS[rows, 0] + LOGITS[rows, 1]),
}


@pytest.mark.parametrize("kind", SCORES)
def test_parts_join_to_the_whole_and_samples_are_those_of_repeated_records(kind):
    score = SCORES[kind]
    whole, joined = score(np.arange(N)), {}
    for part in np.array_split(np.arange(N), 7):
        joined = add(joined, score(part))
    assert values(joined) == pytest.approx(values(whole))
    draw = RNG.integers(0, N, N)
    drawn, weights = score(draw), np.bincount(draw, minlength=N)[None]
    rows = [score(np.array([place])) for place in range(N)]
    for name, state in whole.items():
        resampled = type(state).resampled([row[name] for row in rows], weights)
        assert resampled[0] == pytest.approx(drawn[name].value()), name


@pytest.mark.parametrize("kind", SCORES)
def test_nothing_is_measured_of_no_record(kind):
    assert all(np.isnan(value) for value in values(SCORES[kind](np.zeros(0, int))).values())
