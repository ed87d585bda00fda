"""Artifacts of a split: they add over batches, and their numbers are those of the metrics."""

import dataclasses

import numpy as np
import pytest

from suite.evaluation.artifacts import (
    KEPT,
    Calibration,
    Confusion,
    Edits,
    Example,
    Gallery,
    Lists,
    PrecisionRecall,
    Spread,
    class_artifacts,
)
from suite.evaluation.metrics.classification import classification_scores
from suite.evaluation.metrics.events import click_scores

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(200, 4))
LABELS = np.where(RNG.random(200) < 0.5, LOGITS.argmax(-1), RNG.integers(0, 4, 200))
NAMES = ["a", "b", "c", "d"]


def shown(rows):
    logits, labels = LOGITS[rows], LABELS[rows]
    return class_artifacts(logits, labels, NAMES, lambda i: f"record {rows[i]}")


def equal(first, second):
    for name in (field.name for field in dataclasses.fields(first)):
        a, b = getattr(first, name), getattr(second, name)
        if isinstance(a, dict) or not hasattr(a, "shape"):
            assert a == b, name
        else:
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_exhibits_of_batches_are_those_of_the_whole():
    whole = shown(np.arange(200))
    parts = [shown(np.arange(start, min(start + 33, 200))) for start in range(0, 200, 33)]
    for title, exhibit in whole.items():
        added = parts[0][title]
        for part in parts[1:]:
            added = added + part[title]
        equal(added, exhibit)


def test_a_classifier_is_shown_as_it_is_scored():
    made = shown(np.arange(200))
    confusion, curves, trust, worst = made.values()
    scores = classification_scores({"logits": LOGITS}, {"label": LABELS, "mask": np.ones(200, bool)})
    assert isinstance(confusion, Confusion) and confusion.counts.sum() == 200
    assert confusion.counts.trace() / 200 == scores["accuracy"].value()
    assert (confusion.counts.sum(1) == np.bincount(LABELS)).all()
    assert isinstance(curves, PrecisionRecall) and curves.names == tuple(NAMES)
    np.testing.assert_allclose(curves.scores.sum(-1), 1, rtol=1e-6)
    assert isinstance(trust, Calibration) and trust.counts.sum() == 200
    assert trust.happened.sum() == confusion.counts.trace()
    wrong = 200 - confusion.counts.trace()
    assert isinstance(worst, Gallery) and worst.among == wrong and len(worst.examples) == min(KEPT, wrong)
    losses = [example.loss for example in worst.examples]
    assert losses == sorted(losses, reverse=True)
    first = worst.examples[0]
    place = int(str(first.given).split()[1])
    assert first.answered.startswith(NAMES[LOGITS[place].argmax()]) and first.wanted.startswith(NAMES[LABELS[place]])


def test_of_two_classes_the_second_has_a_curve_and_of_many_none():
    two = class_artifacts(LOGITS[:, :2], LABELS % 2, NAMES[:2], str)["Precision-recall and ROC curves"]
    assert two.names == ("b",) and two.scores.shape == (200, 1)
    many = class_artifacts(np.zeros((3, 21)), np.arange(3), [str(i) for i in range(21)], str)
    assert "Precision-recall and ROC curves" not in many


def test_calibration_is_the_metric():
    logits, labels = RNG.normal(size=500), (RNG.random(500) < 0.4).astype(float)
    shares = np.exp(-np.logaddexp(0, -logits))
    made = Calibration.of("click", shares, labels, bins=20)
    scores = click_scores({"logits": logits}, {"label": labels, "mask": np.ones(500, bool)})
    assert made.error == pytest.approx(scores["calibration_error"].value(), abs=1e-12)
    assert np.isnan(Calibration.of("click", shares[:0], labels[:0], 20).error)


def test_edits_count_every_word():
    made = Edits.of(["a b c", "", "d"], ["a x c y", "z", ""])
    assert made.pairs == {("a", "a"): 1, ("b", "x"): 1, ("c", "c"): 1, ("", "y"): 1, ("", "z"): 1, ("d", ""): 1}
    assert (made.words, made.edits) == (4, 4)
    assert (made + made).edits == 8


def test_a_gallery_keeps_the_worst_and_leaves_out_what_is_no_number():
    losses = np.arange(40, dtype=float)
    losses[::2] = np.nan
    made = Gallery.worst("the worst", losses, lambda i: Example(str(i), "", "", float(losses[i])))
    assert made.among == 20 and [example.given for example in made.examples[:2]] == ["39", "37"]
    both = made + Gallery.worst("", np.array([38.5]), lambda i: Example("new", "", "", 38.5))
    assert [example.given for example in both.examples[:3]] == ["39", "new", "37"]
    assert len(both.examples) == KEPT and both.among == 21


def test_lists_and_spreads_add():
    one = Lists("user", ("u",), ("i",), np.array([0.5]), np.array([True]))
    two = one + one
    assert two.owners == ("u", "u") and two.items == ("i", "i") and two.scores.shape == two.wanted.shape == (2,)
    spread = Spread("nats", {"a": np.array([1.0]), "b": np.array([])})
    assert {kind: values.tolist() for kind, values in (spread + spread).values.items()} == {"a": [1.0, 1.0], "b": []}
