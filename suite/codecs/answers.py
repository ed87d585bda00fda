"""Answers of classifiers. Dims: b records, c classes."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from suite.contracts.schemas import LISTED
from suite.contracts.signature import Output
from suite.data.preprocessing.decision import EVEN, Decision, answered_classes, class_probabilities

TOP = 3
"""Classes that an answer names."""
CONFIDENCE = ("sure", "unsure")
FAMILIARITY = "familiarity"
"""The output that says how much a record is like those of training."""


def class_answers(
    logits: np.ndarray,
    names: Sequence[str],
    top: int = TOP,
    every: bool = False,
    threshold: float = EVEN,
    decision: Decision | None = None,
) -> list[dict[str, Any]]:
    """``{"label", "probability", "top": {name: probability}}`` for each row of ``logits`` (b, c), falling; with
    ``every``, all classes where they are few enough to be listed. Of two classes, the second one is the label from a
    probability of ``threshold`` on. ``decision`` may add ``"set"``, the names of all classes that the right one is
    among with a stated probability, ``"confidence"``, one of `CONFIDENCE`, and `FAMILIARITY`."""
    probabilities = class_probabilities(logits)
    order = np.argsort(-probabilities, -1)[:, : len(names) if every and len(names) <= LISTED else top]
    said = answered_classes(probabilities, threshold) if threshold != EVEN else order[:, 0]
    answers: list[dict[str, Any]] = [
        {
            "label": names[label],
            "probability": round(float(row[label]), 6),
            "top": {names[i]: round(float(row[i]), 6) for i in best},
        }
        for row, label, best in zip(probabilities, said, order, strict=True)
    ]
    if decision is not None:
        add_sureness(answers, logits, names, decision)
    return answers


def add_sureness(answers: list[dict[str, Any]], logits: np.ndarray, names: Sequence[str], decision: Decision) -> None:
    """Adds what ``decision`` has learnt of how sure an answer is to those of ``logits`` (b, c): see `class_answers`."""
    probabilities = class_probabilities(logits)
    if not math.isnan(decision.margin):
        for answer, row, held in zip(answers, probabilities, decision.sets(probabilities), strict=True):
            answer["set"] = [names[place] for place in np.argsort(-row, kind="stable") if held[place]]
    if not math.isnan(decision.least):
        for answer, row in zip(answers, probabilities, strict=True):
            answer["confidence"] = CONFIDENCE[int(row.max() < decision.least)]
    if len(decision.strangeness):
        for answer, familiarity in zip(answers, decision.familiarities(logits), strict=True):
            answer[FAMILIARITY] = round(float(familiarity), 6)


def class_outputs(names: Sequence[str], decision: Decision | None = None) -> tuple[Output, ...]:
    """The outputs that `class_answers` makes."""
    listed = tuple(names) if len(names) <= LISTED else ()
    return (
        Output(name="label", kind="class", description=_answered(names, decision), choices=listed),
        probability("of that class", of="label"),
        Output(name="top", kind="classes", description="probabilities of the likeliest classes, falling", of="label"),
        *(() if decision is None else sureness_outputs(decision, listed)),
    )


def _answered(names: Sequence[str], decision: Decision | None) -> str:
    if decision is None or decision.event == EVEN or len(names) != 2:
        return "the likeliest class"
    return f"{names[1]} from a probability of {decision.event:.3g} on, else {names[0]}"


def sureness_outputs(decision: Decision, choices: tuple[str, ...]) -> Iterator[Output]:
    """The outputs that `add_sureness` adds."""
    if not math.isnan(decision.margin):
        about = f"classes that hold the right one with a probability of {decision.promised} or more, likeliest first"
        yield Output(name="set", kind="list", description=about, choices=choices)
    if not math.isnan(decision.least):
        about = f"sure where the likeliest class has a probability of at least {decision.least:.3f}"
        yield Output(name="confidence", kind="class", description=about, choices=CONFIDENCE)
    if len(decision.strangeness):
        about = "share of the validation split that is no more like training; low: an unfamiliar record"
        yield Output(name=FAMILIARITY, kind="number", description=about, low=0, high=1)


def probability(description: str, of: str = "") -> Output:
    """The output ``probability``.

    Args:
        description: what it is of.
        of: the output that it is about, if there is one.
    """
    return Output(name="probability", kind="number", description=description, low=0, high=1, of=of)
