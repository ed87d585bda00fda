"""Answers of classifiers. Dims: b records, c classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from suite.contracts.schemas import LISTED
from suite.contracts.signature import Output
from suite.data.preprocessing.decision import EVEN, answered_classes

TOP = 3
"""Classes that an answer names."""


def class_answers(
    logits: np.ndarray, names: Sequence[str], top: int = TOP, every: bool = False, threshold: float = EVEN
) -> list[dict[str, Any]]:
    """``{"label", "probability", "top": {name: probability}}`` for each row of ``logits`` (b, c), falling; with
    ``every``, all classes where they are few enough to be listed. Of two classes, the second one is the label from a
    probability of ``threshold`` on."""
    shifted = np.exp(np.asarray(logits, np.float64) - np.max(logits, -1, keepdims=True))
    probabilities = shifted / shifted.sum(-1, keepdims=True)
    order = np.argsort(-probabilities, -1)[:, : len(names) if every and len(names) <= LISTED else top]
    said = answered_classes(probabilities, threshold) if threshold != EVEN else order[:, 0]
    return [
        {
            "label": names[label],
            "probability": round(float(row[label]), 6),
            "top": {names[i]: round(float(row[i]), 6) for i in best},
        }
        for row, label, best in zip(probabilities, said, order, strict=True)
    ]


def class_outputs(names: Sequence[str]) -> tuple[Output, ...]:
    """The outputs that `class_answers` makes."""
    listed = tuple(names) if len(names) <= LISTED else ()
    return (
        Output(name="label", kind="class", description="the likeliest class", choices=listed),
        probability("of that class", of="label"),
        Output(name="top", kind="classes", description="probabilities of the likeliest classes, falling", of="label"),
    )


def probability(description: str, of: str = "") -> Output:
    """The output ``probability``.

    Args:
        description: what it is of.
        of: the output that it is about, if there is one.
    """
    return Output(name="probability", kind="number", description=description, low=0, high=1, of=of)
