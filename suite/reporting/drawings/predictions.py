"""Drawings of predicted numbers and labels: predictions over targets, and precision and recall of each label."""

import numpy as np

from suite.data.sources.memory import evenly_spaced
from suite.evaluation.artifacts import LabelCounts, Scatter
from suite.evaluation.metrics.numbers import number_scores
from suite.reporting.blocks import Block, Figure, Folded, Plot, Table, Text
from suite.reporting.drawings.registry import draws
from suite.reporting.glossary import percent, precision_recall_f1, shown
from suite.reporting.svg import Axis, Series, chart

DOTS = 1500
"""Records that a plot shows."""
BINS = 10
"""Bins of predictions whose errors are summed up."""
MOST_OPEN = 20
"""Labels above which the table of each is folded away."""


@draws(Scatter)
def scatter(exhibit: Scatter) -> list[Block]:
    """Targets over predictions, errors over predictions, and the errors by size of the prediction."""
    predicted, targets, quantity = exhibit.predicted, exhibit.targets, exhibit.quantity
    if not len(targets):
        return [Text("There is no record.", "note")]
    centre = float(targets.mean())
    scores = number_scores(predicted, targets, centre)
    always = float(np.abs(targets - np.median(targets)).mean())
    says = (
        f"The mean error is {shown('mae', scores['mae'].value())}; always predicting the median, "
        f"{_number(float(np.median(targets)))}, would be {shown('mae', always)} off. "
        f"R² is {shown('r2', scores['r2'].value())}: that share of the variance of {quantity} is explained."
    )
    places = evenly_spaced(targets, DOTS)
    low, high = (float(f(np.concatenate([predicted, targets]))) for f in (np.min, np.max))
    room = 0.03 * (high - low)
    both, upward = (Axis(label, low - room, high + room) for label in ("predicted", ""))
    pairs = Series("", predicted[places], targets[places], kind="cloud")
    errors = Series("", predicted[places], (predicted - targets)[places], kind="cloud")
    level = Series("", np.array([low, high]), np.zeros(2), tone="quiet")
    plots = (
        Plot(
            f"Actual {quantity} over the prediction",
            chart([pairs], both, upward, f"Actual over predicted {quantity}", diagonal=True),
        ),
        Plot(
            "Error over the prediction",
            chart([errors, level], both, Axis(), f"Predicted less actual {quantity} over the prediction"),
        ),
    )
    some = f" {len(places):,} of {len(targets):,} records are shown." if len(places) < len(targets) else ""
    caption = (
        "On the broken line a prediction is right; above it the actual number is higher. Errors (predicted less "
        f"actual) should lie around 0 everywhere: a slope or a funnel is structure that the model misses.{some}"
    )
    return [Text(says), Figure(plots, caption), _by_size(exhibit)]


def _by_size(exhibit: Scatter) -> Table:
    """Errors of records with lower and higher predictions."""
    order = np.argsort(exhibit.predicted, kind="stable")
    rows = []
    for part in np.array_split(order, min(BINS, len(order))):
        predicted, errors = exhibit.predicted[part], (exhibit.predicted - exhibit.targets)[part]
        span = f"{_number(predicted.min())} to {_number(predicted.max())}"
        numbers = (errors.mean(), np.abs(errors).mean(), *np.quantile(errors, (0.05, 0.95)))
        rows.append((span, f"{len(part):,}", *map(_number, numbers)))
    head = ("predicted", "records", "mean error", "mean distance", "5 %", "95 %")
    return Table(
        head, tuple(rows), "Errors by size of the prediction; the last two columns are quantiles of the error."
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


@draws(LabelCounts)
def labels(exhibit: LabelCounts) -> list[Block]:
    """How many records have all their labels right, and each label."""
    if not exhibit.records:
        return [Text("There is no record.", "note")]
    wrong = int((exhibit.answered + exhibit.actual - 2 * exhibit.hits).sum())
    decisions = exhibit.records * len(exhibit.names)
    says = (
        f"Of {exhibit.records:,} records {percent(exhibit.exact, exhibit.records)} have exactly the right labels. A "
        f"record has {exhibit.actual.sum() / exhibit.records:.1f} labels on average and is given "
        f"{exhibit.answered.sum() / exhibit.records:.1f}; {percent(wrong, decisions)} of all decisions are wrong."
    )
    rows = []
    for place in np.argsort(-exhibit.actual, kind="stable"):
        hits, actual, answered = (int(counts[place]) for counts in (exhibit.hits, exhibit.actual, exhibit.answered))
        shares = precision_recall_f1(hits, answered, actual)
        rows.append((exhibit.names[place], f"{actual:,}", f"{answered:,}", *shares))
    head = ("label", "actual", "predicted", "precision", "recall", "F1")
    table = Table(head, tuple(rows), "Records with each label, actual and predicted, the most frequent first.")
    note = Text(
        "Precision: the share of the records given a label that have it. Recall: the share of the records that have a "
        "label that are given it. F1: their harmonic mean.",
        "note",
    )
    blocks: tuple[Block, ...] = (table, note)
    return [Text(says), *(blocks if len(rows) <= MOST_OPEN else [Folded("Precision and recall of each label", blocks)])]
