"""Several goals of a record at once, such as click and conversion: one model that shares what they have in common."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.goals import GoalPredictions
from suite.contracts.artifact import Artifact
from suite.contracts.baseline import Baseline
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.preprocessor import Conclusion
from suite.contracts.task import Task
from suite.data.preprocessing.columns import origin
from suite.data.preprocessing.decision import event_probabilities
from suite.data.preprocessing.goals import GoalDecisions, Goals, have_none
from suite.data.preprocessing.tabular import Fields
from suite.data.sources.memory import cleaned, not_empty
from suite.errors import InputError, closest
from suite.evaluation import averaging, deciding
from suite.evaluation.artifacts import Calibration, Example, Gallery, PrecisionRecall, Scatter, Spread, record
from suite.evaluation.goals import distances, goal_baselines, goal_scores, losses, over_all_records, shares
from suite.evaluation.losses import masked_mean, tally

TAKEN = ("unseen", "cut")
"""Names that an answer has besides those of the labels."""


@dataclass(frozen=True, kw_only=True)
class Multitask(Task):
    """Every column but the labels is a feature. A record need not have all labels: the others are learnt from it."""

    data: Data
    """Where the records come from."""
    labels: tuple[str, ...] = ("click", "conversion")
    """Names of the columns that are predicted: events (1 and 0) or numbers."""
    weights: tuple[float, ...] = ()
    """How much the loss of each label counts, in their order. Empty: all alike."""
    record: str = "record"
    """Name of a column that holds whole records, as mappings or JSON: ``run.predict([{"price": 3.5}])``."""
    goals: Goals = field(default_factory=Goals)
    """What the labels are, learnt from the training split."""
    fields: Fields = field(default_factory=lambda: Fields(column="labels"))
    """What the columns are, learnt from the training split."""
    decision: GoalDecisions = field(default_factory=GoalDecisions)
    """What is learnt of each event at the end of training: a temperature, and the threshold of what is measured."""

    def __post_init__(self) -> None:
        if len({*self.labels}) < max(len(self.labels), 2):
            problem = "names at least two different columns; one label alone is recommendation.click."
            raise InputError(
                "field task.labels", problem, found=" ".join(self.labels), fix="--task.labels click conversion"
            )
        if taken := [name for name in self.labels if name in TAKEN]:
            problem = f'"{taken[0]}" is something else in an answer.'
            raise InputError("field task.labels", problem, found=" ".join(self.labels), fix="rename the column")
        if self.weights and (len(self.weights) != len(self.labels) or min(self.weights) < 0 or not sum(self.weights)):
            raise InputError(
                "field task.weights",
                "holds one weight a label, none below 0 and not all 0.",
                found=" ".join(f"{weight:g}" for weight in self.weights),
                fix=shlex.join(["--task.weights", *(["1"] * len(self.labels))]),
            )

    @property
    def codec(self) -> GoalPredictions:
        return GoalPredictions(record=self.record, fields=self.fields, goals=self.goals, decision=self.decision)

    def source(self, split: str) -> Source:
        opened = self.data.open(split)
        for name in self.labels:
            if name not in opened.schema:
                near = closest(name, [column for column in opened.schema if column not in self.labels])
                meant = [near if near and one == name else one for one in self.labels]
                raise InputError(
                    "field task.labels",
                    f'column "{name}" is not in {origin(self.data)}.',
                    found=", ".join(opened.schema),
                    fix=shlex.join(["--task.labels", *meant]) if near else f"rename a column: {name}",
                )
        labelled = cleaned(opened, {"no label": have_none(opened, self.labels)})
        return not_empty(labelled, split, f"columns {', '.join(self.labels)}", "name other label columns")

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        deciding.check(self.decision, "goals")
        lines = []
        for split, source in splits.items():
            if split == "train":  # what the labels are and lack there was said when they were learnt
                continue
            encoded = self.goals.encode({name: source.column(name, np.arange(len(source))) for name in self.labels})
            for place, goal in enumerate(self.goals.goals):
                own = encoded["labels"][encoded["known"][:, place], place]
                if not len(own):
                    lines.append(f"column {goal.name}: no record of {split} has it: nothing of it is measured there")
                elif len(own) < len(source):
                    missing = f"{len(source) - len(own):,} of {len(source):,} records of {split}"
                    lines.append(f"column {goal.name}: missing in {missing}, which its metrics leave out")
                if goal.is_event and len(own) and not 0 < own.sum() < len(own):
                    every = f"each of the {len(own):,} records of {split} is {'an event' if own.any() else 'none'}"
                    lines.append(f"column {goal.name}: {every}: the area under the ROC curve is not defined there")
        return lines

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``dense`` float32 (b, i), ``ids`` int32 (b, s), ``weights`` float32 (b, w); ``labels`` float32 (b, g) and
        ``known`` bool (b, g), whether a record has each."""
        columns = self.codec.opened(columns)
        encoded = self.codec.encode(columns)
        if all(name in columns for name in self.labels):
            encoded |= self.goals.encode(columns)
        return encoded

    def _logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        """What the model says of each goal (b, g): log odds over all records, or numbers on the scale of learning."""
        logits = model(batch["dense"], batch["ids"], batch["weights"], rngs=rngs)
        return over_all_records(logits.astype(jnp.float32), self.goals.chain)

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        each = losses(self._logits(model, batch, rngs), batch["labels"], self.goals.events)
        factors = jnp.asarray(shares(self.goals, self.weights), jnp.float32)
        rows = (jnp.where(batch["known"], each, 0) * factors).sum(-1)
        states = {"loss": tally(rows, batch["mask"])}
        for place, name in enumerate(self.goals.names):
            states[f"{name}.loss"] = tally(each[:, place], batch["mask"] & batch["known"][:, place])
        return masked_mean(rows, batch["mask"]), states

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        unseen = (batch["ids"] == self.fields.unseen_rows).sum(-1)
        return {"logits": self._logits(model, batch), "unseen": unseen}

    def explained(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """Each goal by itself; a number on the scale of learning."""
        return {"log_odds": self._logits(model, batch)}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """``loss``, ``unseen`` and, of each goal over the records that have its label, ``GOAL.auc``, ``GOAL.mae`` and
        the others of `suite.evaluation.goals.goal_scores`."""
        outputs = self.decision.applied(outputs)
        scores = goal_scores(self.goals, self.decision, outputs, batch)
        mask = np.asarray(batch["mask"])
        factors = shares(self.goals, self.weights)
        total = sum(
            scores[f"{name}.loss"].total * factor for name, factor in zip(self.goals.names, factors, strict=True)
        )
        unseen = float(np.asarray(outputs["unseen"])[mask].sum())
        return {"loss": MetricState(total, int(mask.sum())), **scores, "unseen": MetricState(unseen, int(mask.sum()))}

    def conclude(self, evaluated: Iterable[tuple[Mapping[str, np.ndarray], Batch]]) -> Mapping[str, Conclusion]:
        if not self.decision.threshold and self.decision.calibration == "none":
            return {}
        batches = [
            (
                np.asarray(outputs["logits"]),
                np.asarray(batch["labels"]),
                np.asarray(batch["known"]),
                np.asarray(batch["mask"]),
            )
            for outputs, batch in evaluated
        ]
        parts: list[Mapping[str, Any]] = []
        notes: list[str] = []
        for place, goal in enumerate(self.goals.goals):
            own = [
                ({"logits": logits[:, place]}, {"label": labels[:, place], "mask": mask & known[:, place]})
                for logits, labels, known, mask in batches
            ]
            learnt = deciding.conclude(self.decision, "event", own, "label", goal.name) if goal.is_event else {}
            conclusion = learnt.get(deciding.FIELD)
            parts.append(conclusion.content if conclusion else {})
            notes += [f"{goal.name}: {note}" for note in (conclusion.notes if conclusion else ())]
        return {deciding.FIELD: Conclusion({"goals": parts, "notes": notes}, tuple(notes))}

    def averaged(self, outputs: Sequence[Mapping[str, jax.Array]], weights: Sequence[float]) -> dict[str, jax.Array]:
        every = [one["logits"] for one in outputs]
        logits = jnp.where(self.goals.events, averaging.mean_log_odds(every, weights), averaging.mean(every, weights))
        return {**outputs[0], "logits": logits}

    def baselines(self) -> Mapping[str, Baseline]:
        return goal_baselines(self.codec, self.goals)

    def distillation_loss(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> jax.Array:
        """Mean over the goals, whether a record has their labels or not."""
        apart = distances(ours, theirs, self.goals.events, temperature)
        return jnp.where(batch["mask"], apart.mean(-1), 0)

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        """Of each event precision-recall and ROC curves, calibration, and the most confident errors; of each number
        predictions over labels and the largest errors. Each is over the records that have the label."""
        logits = np.asarray(self.decision.applied(outputs)["logits"], np.float64)
        features = [name for name in columns if name not in self.labels]
        artifacts: dict[str, Artifact] = {}
        for place, goal in enumerate(self.goals.goals):
            rows = np.flatnonzero(np.asarray(batch["known"])[:, place])
            said, right = logits[rows, place], np.asarray(batch["labels"], np.float64)[rows, place]
            given = lambda i, rows=rows: record(columns, features, int(rows[i]))
            if goal.scale is None:
                artifacts |= _event_artifacts(goal.name, event_probabilities(said), right > 0.5, given)
            else:
                raw = goal.scale.raw(said), goal.scale.raw(right, bounded=False)
                artifacts |= _number_artifacts(goal.name, *raw, given)
        return artifacts


def _event_artifacts(name: str, shares: np.ndarray, happened: np.ndarray, given: Any) -> dict[str, Artifact]:
    said = np.where(happened, shares, 1 - shares)  # of what was so

    def show(i: int) -> Example:
        return Example(given(i), f"{name} {int(happened[i])}", f"{100 * shares[i]:.1f} %", float(1 - said[i]))

    errors = np.where(said < 0.5, 1 - said, np.nan)
    about = f"What was given the lowest probability. Said: that of {name}."
    return {
        f"{name}: precision-recall and ROC curves": PrecisionRecall((name,), shares[:, None], happened[:, None]),
        f"{name}: can its probabilities be trusted?": Calibration.of(name, shares, happened, bins=20),
        f"{name}: most confident errors": Gallery.worst(about, errors, show),
    }


def _number_artifacts(name: str, said: np.ndarray, right: np.ndarray, given: Any) -> dict[str, Artifact]:
    def show(i: int) -> Example:
        error = said[i] - right[i]
        return Example(given(i), f"{name} {right[i]:.6g}", f"{said[i]:.6g}", abs(float(error)), f"error {error:+.6g}")

    about = "Predictions that are farthest from the actual number."
    return {
        f"{name}: predicted and actual": Scatter(name, said, right),
        f"{name}: residuals": Spread(f"predicted less actual {name}", {"": said - right}),
        f"{name}: largest errors": Gallery.worst(about, np.abs(said - right), show),
    }
