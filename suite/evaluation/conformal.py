"""Split conformal prediction: sets of classes and intervals of numbers that hold the right one with a stated
probability, and answers that are not sure (`Angelopoulos and Bates, 2021 <https://arxiv.org/abs/2107.07511>`_).

The guarantee is of records that are drawn as those of the validation split are, on average over them: a class, or a
group, may be covered less. The same split chose the checkpoint, which costs a little. Dims: n records, c classes.
"""

import math
from typing import Any

import numpy as np

from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.data.preprocessing.decision import EVERYTHING, Decision, class_probabilities, within

STORED = 1000
"""Records of validation whose strangeness is stored, at most, evenly spaced by rank."""


def of_all_classes(logits: np.ndarray) -> np.ndarray:
    """Probabilities (n, c) of logits (n, c), or of the log odds (n,) of the second of two classes."""
    return class_probabilities(np.stack([np.zeros_like(logits), logits], 1) if logits.ndim == 1 else logits)


def margin(distances: np.ndarray, coverage: float) -> float:
    """The distance from the right answer (n,) that a new record does not exceed with probability ``coverage``: the
    quantile of those of n records and one more that is infinitely far."""
    place = math.ceil((len(distances) + 1) * coverage)
    return float(np.sort(distances)[place - 1]) if place <= len(distances) else math.inf


def learnt_of_classes(
    decision: Decision, probabilities: np.ndarray, right: np.ndarray, answered: np.ndarray
) -> tuple[dict[str, Any], list[str]]:
    """What a Decision stores of classes, and the sentences on it.

    Args:
        decision: what is asked for.
        probabilities: (n, c), calibrated.
        right: (n,) classes.
        answered: (n,) classes, by `answered_classes`.
    """
    content: dict[str, Any] = {}
    notes = []
    count = len(right)
    if decision.coverage:
        reach = margin(1 - probabilities[np.arange(count), right.astype(int)], decision.coverage)
        content["margin"] = _stored(reach)
        sizes = within(probabilities, reach).sum(-1)
        notes.append(
            f"The set of an answer holds the right class with a probability of {decision.promised} or more, by "
            f"split conformal prediction on {count:,} records of validation; there it has {sizes.mean():.2f} classes "
            "on average."
            if math.isfinite(reach)
            else f"{_too_few(decision, count)}: the set of every answer has all classes."
        )
    if decision.abstention:
        surest = probabilities.max(-1)
        least = float(np.quantile(surest, decision.abstention, method="higher"))
        content["least"] = least
        sure, hits = surest >= least, answered == right
        notes.append(
            f"An answer is sure from a probability of {least:.3f} on: {sure.mean():.1%} of {count:,} records of "
            f"validation, {hits[sure].mean():.2%} of which are right, against {hits.mean():.2%} of all."
        )
    return content, notes


def learnt_of_strangeness(decision: Decision, logits: np.ndarray) -> tuple[dict[str, Any], list[str]]:
    """What a Decision stores of how familiar records are, by the calibrated logits (n, c) of validation."""
    known = np.sort(decision.strange(logits))
    if len(known) > STORED:
        known = np.quantile(known, (np.arange(STORED) + 0.5) / STORED)
    by = "whose logits have no lower energy" if decision.familiarity == "energy" else "of which no class is likelier"
    return {"strangeness": known.tolist()}, [
        f"An answer states how familiar its record is: the share of {len(logits):,} records of validation {by}. A low "
        "one is of a record unlike those of training."
    ]


def learnt_of_numbers(decision: Decision, distances: np.ndarray) -> tuple[dict[str, Any], list[str]]:
    """The same of a number, by its distances (n,) from the right one in units of what the model learns."""
    reach = margin(distances, decision.coverage)
    return {"margin": _stored(reach)}, [
        f"The interval of an answer holds the right number with a probability of {decision.promised} or more, by "
        f"split conformal prediction on {len(distances):,} records of validation."
        if math.isfinite(reach)
        else f"{_too_few(decision, len(distances))}: answers have no interval."
    ]


def _too_few(decision: Decision, records: int) -> str:
    """Why everything belongs to a set or an interval, and what would help."""
    least = math.ceil(round(decision.coverage / (1 - decision.coverage), 6))
    return (
        f"Validation has {records:,} records, too few for a coverage of {decision.promised}, which takes {least:,} "
        "(--task.decision.coverage)"
    )


def _stored(reach: float) -> float | str:
    return EVERYTHING if math.isinf(reach) else reach


def class_states(decision: Decision, logits: np.ndarray, right: np.ndarray) -> dict[str, MetricState]:
    """Metrics of what a Decision has learnt of classes; none before that.

    Args:
        decision: has learnt.
        logits: (n, c), calibrated, or log odds (n,).
        right: (n,) classes; below 0 one that training does not have, which no set holds.
    """
    probabilities = of_all_classes(logits)
    states: dict[str, MetricState] = {}
    right = right.astype(int)
    if not math.isnan(decision.margin):
        sets = decision.sets(probabilities)
        held = sets[np.arange(len(right)), np.maximum(right, 0)] & (right >= 0)
        states["empirical_coverage"] = MetricState(float(held.sum()), len(right))
        states["set_size"] = MetricState(float(sets.sum()), len(right))
    if not math.isnan(decision.least):
        sure = probabilities.max(-1) >= decision.least
        hits = sure & (probabilities.argmax(-1) == right)
        states["sure_share"] = MetricState(float(sure.sum()), len(right))
        states["sure_accuracy"] = MetricState(float(hits.sum()), float(sure.sum()))
    return states


def number_states(low: np.ndarray, high: np.ndarray, right: np.ndarray) -> dict[str, MetricState]:
    """Metrics of intervals (n,) and the right numbers (n,), in the target's unit."""
    held = (low <= right) & (right <= high)
    return {
        "empirical_coverage": MetricState(float(held.sum()), len(right)),
        "interval_width": MetricState(float((high - low).sum()), len(right)),
    }


register_metric(
    "empirical_coverage",
    "Share of the records whose right class is in the answer's set, or whose right number is in its interval. It "
    "should be what was asked for (task.decision.coverage).",
    share=True,
)
register_metric("set_size", "Classes in the set of an answer, on average. 1 is best.", "lower")
register_metric("interval_width", "Width of the interval of an answer, on average, in the target's unit.", "lower")
register_metric("sure_share", "Share of the records whose answer is sure (task.decision.abstention).", share=True)
register_metric("sure_accuracy", "Share of the sure answers that are right.", "higher", share=True)
