"""Answers of predictions: a number, the likeliest class, or several labels, whatever the model was given.

Dims: b records, c classes or labels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from suite.codecs.answers import TOP, class_answers, class_outputs
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec, Output
from suite.contracts.division import NumberScale
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
            number = Output(name=self.target, kind="number", description=f"the predicted {self.target}")
            if not math.isfinite(self.decision.margin):
                return (number,)
            about = f"with a probability of {self.decision.promised} the right number is not"
            return (
                number,
                Output(name=f"{self.target}_low", kind="number", description=f"{about} below it", of=self.target),
                Output(name=f"{self.target}_high", kind="number", description=f"{about} above it", of=self.target),
            )
        if kind != "labels":
            return class_outputs(names, self.decision)
        listed = names if len(names) <= LISTED else ()
        about = "probabilities of the likeliest labels, falling"
        return (
            Output(name="labels", kind="list", description="labels that are likely enough", choices=listed),
            Output(name="top", kind="classes", description=about),
        )

    @property
    def place_names(self) -> Mapping[str, Sequence[str]]:
        return {} if self.answer.kind == "number" else {"logits": self.answer.names}

    def number_scale(self, place: int) -> NumberScale | None:
        return self.answer.scale.explained if self.answer.kind == "number" else None

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        """``{TARGET: 12.3}`` of a number; ``{"label", "probability", "top"}`` of classes; ``{"labels", "top"}`` of
        labels."""
        return self._answers(outputs)

    def decode_all(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return self._answers(outputs, every=True)

    def _answers(self, outputs: Mapping[str, np.ndarray], every: bool = False) -> Sequence[dict[str, Any]]:
        kind, names = self.answer.kind, self.answer.names
        if kind == "number":
            return self._numbers(np.asarray(outputs["value"], np.float64))
        logits = self.decision.applied(outputs)["logits"]
        if kind == "labels":
            return label_answers(logits, names, self.decision.thresholds, every)
        return class_answers(logits, names, every=every, threshold=self.decision.event, decision=self.decision)

    def _numbers(self, values: np.ndarray) -> Sequence[dict[str, Any]]:
        """Of a number: it and, where one was learnt that has bounds, the interval around it."""
        named, reach = {self.target: values}, self.decision.margin
        if math.isfinite(reach):
            named |= {f"{self.target}_low": values - reach, f"{self.target}_high": values + reach}
        columns = {name: self.answer.scale.raw(column).tolist() for name, column in named.items()}
        return [
            {name: float(f"{value:.{DIGITS}g}") for name, value in zip(columns, row, strict=True)}
            for row in zip(*columns.values(), strict=True)
        ]


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
