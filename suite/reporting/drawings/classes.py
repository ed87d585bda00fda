"""Drawings of a classifier: confusion matrix, precision-recall and ROC curves, calibration."""

from collections.abc import Callable, Sequence

import numpy as np

from suite.evaluation.artifacts import Calibration, Confusion, PrecisionRecall
from suite.evaluation.metrics.ranking import auc
from suite.evaluation.shares import wilson
from suite.reporting.blocks import Block, Cell, Figure, Folded, Matrix, Plot, Table, Text
from suite.reporting.curves import average_precision, precision_recall, roc
from suite.reporting.drawings.registry import draws
from suite.reporting.glossary import percent
from suite.reporting.svg import TONES, Axis, Series, chart

MOST_IN_MATRIX = 30
"""Classes above which the confusion matrix is left to the table of pairs."""
MOST_OPEN = 12
"""Classes above which a table of each is folded away."""
COLOURED = 3
"""Classes that have a colour of their own; of more, the worst."""
SHARES = Axis("", 0.0, 1.0)

Curve = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
One = tuple[str, np.ndarray, np.ndarray]
"""A class: name, scores (n,) and which records are of it (n,)."""


@draws(Confusion)
def confusion(exhibit: Confusion) -> list[Block]:
    """Accuracy, the matrix, each class, and the most frequent errors."""
    counts = exhibit.counts
    total, of_class = int(counts.sum()), counts.sum(1)
    if not total:
        return [Text("There is no record.", "note")]
    most, right = int(of_class.argmax()), int(counts.trace())
    blocks: list[Block] = [
        Text(
            f"{right:,} of {total:,} predictions are correct, {percent(right, total)}. Always predicting "
            f"“{exhibit.names[most]}” would be correct for {percent(int(of_class[most]), total)}."
        )
    ]
    if len(exhibit.names) <= MOST_IN_MATRIX:
        caption = (
            "Rows: actual class. Columns: predicted class. The stronger the colour, the larger the share of its row."
        )
        blocks.append(Matrix(exhibit.names, shaded(counts), caption))
    classes = (
        _classes(exhibit),
        Text(
            "Precision: the share of the records predicted as a class that are of it. Recall: the share of the records "
            "of a class that are predicted as it. F1: their harmonic mean.",
            "note",
        ),
    )
    blocks += classes if len(exhibit.names) <= MOST_OPEN else [Folded("Precision and recall of each class", classes)]
    pairs = _pairs(exhibit)
    return [*blocks, pairs] if pairs.rows and len(exhibit.names) > 2 else blocks


def shaded(counts: np.ndarray) -> tuple[tuple[Cell, ...], ...]:
    """Cells of a matrix (c, c), the stronger the larger the share of their row."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shades = np.where(counts > 0, np.maximum(np.rint(10 * shares), 1), 0).astype(int)
    return tuple(
        tuple(Cell(int(count), int(shades[i, j]), i == j) for j, count in enumerate(row))
        for i, row in enumerate(counts)
    )


def _classes(exhibit: Confusion) -> Table:
    counts, rows = exhibit.counts, []
    for i, name in enumerate(exhibit.names):
        hit, real, said = int(counts[i, i]), int(counts[i].sum()), int(counts[:, i].sum())
        shares = percent(hit, said), percent(hit, real), percent(2 * hit, real + said)
        rows.append((name, f"{real:,}", f"{said:,}", *shares))
    return Table(
        ("class", "actual", "predicted", "precision", "recall", "F1"),
        tuple(rows),
        "Number of records of each class, actual and predicted.",
    )


def _pairs(exhibit: Confusion) -> Table:
    wrong, names = exhibit.counts - np.diag(np.diag(exhibit.counts)), exhibit.names
    order = np.argsort(-wrong, axis=None, kind="stable")[:8]
    places = [place for place in (divmod(int(flat), len(names)) for flat in order) if wrong[place]]
    rows = tuple(
        (names[i], names[j], f"{wrong[i, j]:,}", percent(int(wrong[i, j]), int(exhibit.counts[i].sum())))
        for i, j in places
    )
    head = ("actual", "predicted", "records", "share of the actual class")
    return Table(head, rows, "The most frequent errors.", frozenset({0, 1}))


@draws(PrecisionRecall)
def precision_and_recall(exhibit: PrecisionRecall) -> list[Block]:
    """Both curves of each class, and the areas below them."""
    curves = [(name, exhibit.scores[:, k], exhibit.truth[:, k]) for k, name in enumerate(exhibit.names)]
    curves = [curve for curve in curves if 0 < curve[2].sum() < len(curve[2])]
    if not curves:
        return [Text("No class has records that are of it and others that are not: nothing to tell apart.", "note")]
    areas = {name: average_precision(scores, truth) for name, scores, truth in curves}
    ordered = sorted(curves, key=lambda curve: areas[curve[0]])
    plots = (
        _curves(ordered, "Precision-recall curve", "recall", precision_recall),
        _curves(ordered, "ROC curve: true positive rate", "false positive rate", roc),
    )
    rows = tuple(
        (name, f"{int(truth.sum()):,}", f"{areas[name]:.4f}", f"{auc(scores, truth):.4f}")
        for name, scores, truth in ordered
    )
    table = Table(("class", "records", "average precision", "area under the ROC curve"), rows)
    caption = (
        "Each point of a line is a threshold. Recall, or true positive rate: the share of a class that scores above "
        "it. Precision: the share of the records above it that are of the class. False positive rate: the share of the "
        "records of other classes that score above it."
    )
    if len(ordered) > COLOURED:
        caption += f" The {COLOURED} classes of the lowest average precision have colours."
    return [Figure(plots, caption), table if len(rows) <= COLOURED else Folded("Areas of each class", (table,))]


def _curves(ordered: Sequence[One], title: str, label: str, curve: Curve) -> Plot:
    lines = [
        Series(
            name if place < COLOURED else "", *curve(scores, truth), tone=TONES[place] if place < COLOURED else "quiet"
        )
        for place, (name, scores, truth) in enumerate(ordered)
    ]
    names = ", ".join(name for name, *_ in ordered) if len(ordered) <= COLOURED else f"{len(ordered)} classes"
    return Plot(title, chart(lines, Axis(label, 0.0, 1.0), SHARES, f"{title}: {names}", diagonal=curve is roc))


@draws(Calibration)
def calibration(exhibit: Calibration) -> list[Block]:
    """Reliability diagram: observed frequency over predicted probability, and the number of records at each."""
    there = exhibit.counts > 0
    if not there.any():
        return [Text("There is no record.", "note")]
    counts, edges = exhibit.counts[there], np.linspace(0, 1, len(exhibit.counts) + 1)
    said, happened = exhibit.predicted[there] / counts, exhibit.happened[there] / counts
    across = Axis(f"predicted probability of {exhibit.event}", 0.0, 1.0)
    dots = Series("", said, happened, kind="dots", spans=wilson(happened, counts), sizes=counts.astype(float))
    reliability = chart(
        [dots], across, SHARES, f"Observed frequency over the predicted probability of {exhibit.event}", diagonal=True
    )
    spread = chart(
        [Series("", edges, exhibit.counts.astype(float), kind="steps")],
        across,
        Axis(low=0.0),
        f"Records over the predicted probability of {exhibit.event}",
    )
    rows = tuple(
        (f"{low:.2f} to {high:.2f}", f"{count:,}", f"{s:.3f}", f"{h:.3f}")
        for low, high, count, s, h in zip(
            edges[:-1][there], edges[1:][there], counts.tolist(), said, happened, strict=True
        )
    )
    table = Table(("predicted probability", "records", "mean predicted", "observed frequency"), rows)
    plots = Plot("Observed frequency", reliability, table), Plot("Number of records", spread)
    caption = (
        "On the broken line the model is perfectly calibrated: of records with a predicted probability of 70 %, seven "
        "in ten are of the class. Below it the model is overconfident. Larger dots: more records; strokes: 95 % "
        "intervals. "
        f"Expected calibration error: {exhibit.error:.4f}."
    )
    return [Figure(plots, caption)]
