"""Answers of classifiers, whatever they were given: the likeliest classes of each record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from suite.codecs.answers import class_answers, class_outputs
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec, Output
from suite.data.preprocessing.decision import Decision
from suite.data.preprocessing.labels import Labels


@dataclass(frozen=True, kw_only=True)
class Classes(Codec):
    """The answering end of a codec; subclasses say what is asked: ``inputs`` and ``encode``."""

    labels: Labels
    """Class names."""
    decision: Decision = field(default_factory=Decision)
    """Threshold and temperature of the answer."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        return class_outputs(self.labels.names, self.decision)

    @property
    def place_names(self) -> Mapping[str, Sequence[str]]:
        return {"logits": self.labels.names}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return self._answers(outputs)

    def decode_all(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return self._answers(outputs, every=True)

    def _answers(self, outputs: Mapping[str, np.ndarray], every: bool = False) -> Sequence[dict[str, Any]]:
        logits = self.decision.applied(outputs)["logits"]
        decision = self.decision
        return class_answers(logits, self.labels.names, every=every, threshold=decision.event, decision=decision)
