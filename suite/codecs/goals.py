"""The codec of several goals: records of named columns in, a probability or a number a goal out. Dims: b records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from suite.codecs.prediction import DIGITS
from suite.codecs.table import TableInputs
from suite.contracts.batch import Columns
from suite.contracts.codec import Output
from suite.contracts.division import NumberScale
from suite.data.preprocessing.decision import event_probabilities
from suite.data.preprocessing.goals import GoalDecisions, Goals, shares_after


@dataclass(frozen=True, kw_only=True)
class GoalPredictions(TableInputs):
    """The probability of each event and the value of each number, from the columns of a record."""

    goals: Goals
    """What is predicted."""
    decision: GoalDecisions = field(default_factory=GoalDecisions)
    """Temperature of the probabilities."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        goals = self.goals.goals
        outputs = [
            Output(name=goal.name, kind="number", description="its probability", low=0, high=1)
            if goal.is_event
            else Output(name=goal.name, kind="number", description="its predicted value")
            for goal in goals
        ]
        for name, before, place in self.goals.steps:
            about = f"probability of {goals[place].name} where {goals[before].name} happens"
            outputs.append(Output(name=name, kind="number", description=about, low=0, high=1))
        about = "values that training had not, or too rarely"
        unseen = Output(name="unseen", kind="number", description=about, low=0, whole=True)
        return (*outputs, unseen, *self.cut_output())

    @property
    def place_names(self) -> Mapping[str, Sequence[str]]:
        return {"logits": self.goals.names}

    @property
    def purpose(self) -> str:
        return f"Predicts {', '.join(self.goals.names)} of a record"

    def number_scale(self, place: int) -> NumberScale | None:
        scale = self.goals.goals[place].scale
        return scale.explained if scale else None

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``dense`` float32 (b, i), ``ids`` int32 (b, s), ``weights`` float32 (b, w): see `Fields.encode`."""
        return dict(self.fields.encode(self.opened(columns)))

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        """The probability or value of each goal by its name; in a funnel each event after the one before it, too;
        ``"unseen"``, the number of values that training had not."""
        logits = np.asarray(self.decision.applied(outputs)["logits"], np.float64)
        values: dict[str, list[float]] = {}
        for place, goal in enumerate(self.goals.goals):
            if goal.scale is None:
                values[goal.name] = [round(float(p), 6) for p in event_probabilities(logits[:, place])]
            else:
                values[goal.name] = [float(f"{x:.{DIGITS}g}") for x in goal.scale.raw(logits[:, place])]
        for name, before, place in self.goals.steps:
            values[name] = [round(float(p), 6) for p in shares_after(logits, before, place)]
        cut = self.cut(columns, len(logits))
        return [
            {**{name: column[row] for name, column in values.items()}, "unseen": int(unseen), **cut[row]}
            for row, unseen in enumerate(outputs["unseen"])
        ]
