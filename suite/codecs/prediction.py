"""Answers of predictions: a number, the likeliest class, or several labels, whatever the model was given.

Dims: b records, c classes or labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from suite.codecs.answers import TOP, class_answers, class_outputs
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec, Output
from suite.contracts.schemas import LISTED
from suite.data.preprocessing.decision import EVEN, Decision, event_probabilities
from suite.data.preprocessing.target import Target

DIGITS = 7
"""Significant digits of a predicted number: those of a float32."""


@dataclass(frozen=True, kw_only=True)
class Predictions(Codec):
    """The answering end of a codec; subclasses say what is asked: ``inputs`` and ``encode``."""

    target: str
    """Name of what is predicted."""
    answer: Target
    """What it is: a number, classes, labels."""
    decision: Decision = field(default_factory=Decision)
    """Threshold and temperature of the answer."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        kind, names = self.answer.kind, self.answer.names
        if kind == "number":
            return (Output(name=self.target, kind="number", description=f"the predicted {self.target}"),)
        if kind != "labels":
            return class_outputs(names)
        listed = names if len(names) <= LISTED else ()
        about = "probabilities of the likeliest labels, falling"
        return (
            Output(name="labels", kind="list", description="labels that are likely enough", choices=listed),
            Output(name="top", kind="classes", description=about),
        )

    @property
    def place_names(self) -> Mapping[str, Sequence[str]]:
        return {} if self.answer.kind == "number" else {"logits": self.answer.names}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        """``{TARGET: 12.3}`` of a number; ``{"label", "probability", "top"}`` of classes; ``{"labels", "top"}`` of
        labels."""
        return self._answers(outputs)

    def decode_all(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return self._answers(outputs, every=True)

    def _answers(self, outputs: Mapping[str, np.ndarray], every: bool = False) -> Sequence[dict[str, Any]]:
        kind, names = self.answer.kind, self.answer.names
        if kind == "number":
            values = self.answer.scale.raw(outputs["value"]).tolist()
            return [{self.target: float(f"{value:.{DIGITS}g}")} for value in values]
        logits = self.decision.applied(outputs)["logits"]
        if kind == "labels":
            return label_answers(logits, names, self.decision.thresholds, every)
        return class_answers(logits, names, every=every, threshold=self.decision.event)


def label_answers(
    logits: np.ndarray, names: Sequence[str], thresholds: np.ndarray | float = EVEN, every: bool = False
) -> list[dict[str, Any]]:
    """``{"labels": [name], "top": {name: probability}}`` for each row of ``logits`` (b, c), log odds: the labels whose
    probability reaches its threshold, and the likeliest, both falling; with ``every``, all where they are few enough to
    be listed."""
    probabilities = event_probabilities(logits)
    said = probabilities >= thresholds
    order = np.argsort(-probabilities, -1, kind="stable")
    answers = []
    for row, chosen, falling in zip(probabilities, said, order, strict=True):
        shown = falling[: len(names) if every and len(names) <= LISTED else max(TOP, int(chosen.sum()))]
        answers.append(
            {
                "labels": [names[place] for place in falling if chosen[place]],
                "top": {names[place]: round(float(row[place]), 6) for place in shown},
            }
        )
    return answers
