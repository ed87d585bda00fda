"""Prediction: what tasks share that predict a column, a number, classes or labels, from anything."""

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.baselines.classical import classical, log_odds, log_probabilities
from suite.contracts.artifact import Artifact
from suite.contracts.baseline import Baseline
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.preprocessor import Conclusion
from suite.contracts.task import Task
from suite.data.class_names import MISSING
from suite.data.preprocessing.columns import unread_columns
from suite.data.preprocessing.decision import Decision
from suite.data.preprocessing.label_checks import class_counts, remarks, unseen_note
from suite.data.preprocessing.target import Target
from suite.data.preprocessing.target_problem import Problem
from suite.data.sources.memory import WithTexts
from suite.errors import InputError
from suite.evaluation import averaging, conformal, deciding, problems
from suite.evaluation.artifacts import Given
from suite.evaluation.losses import balancing_weights, masked_mean, tally
from suite.evaluation.metrics.classification import classification_scores, ordered_scores
from suite.evaluation.metrics.labels import label_scores
from suite.evaluation.metrics.numbers import number_scores
from suite.evaluation.problem_artifacts import problem_artifacts


@dataclass(frozen=True, kw_only=True)
class Prediction(Task):
    """A task that says what its model is given and what its logits are; the batch's ``target`` is what is right.

    A subclass gives ``codec`` (of `suite.codecs.prediction.Predictions`, made with ``**self.answering``), ``source``
    (by ``opened``), ``encode`` (with ``encoded_target``), ``logits`` and ``given``. The rest follows from the problem
    that the target poses.
    """

    data: Data
    """Where the records come from."""
    target: str = "target"
    """Name of the column that is predicted."""
    answer: Target = field(default_factory=Target)
    """What the target is, learnt from the training split."""
    decision: Decision = field(default_factory=Decision)
    """What is learnt of the answer at the end of training: a threshold, a temperature."""
    class_weight: Literal["none", "balanced"] = "none"
    """How much a training record counts in the loss: all alike, or each class as much as any other (balanced)."""
    regression_loss: problems.Regression = "squared"
    """Of numbers, on the scale that is learnt: squared errors, absolute ones, or Huber's between the two."""

    @property
    def answering(self) -> dict[str, Any]:
        """What the codec is given of the answer."""
        return {"target": self.target, "answer": self.answer, "decision": self.decision}

    @abstractmethod
    def logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Outputs of the model (b, o), or (b, k, o) of k members of an ensemble, o being `Target.width`; ``rngs`` as in
        ``loss``. Jitted."""

    @abstractmethod
    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        """Place of a record -> what the model was given, for a reader of a report. Host."""

    def opened(self, data: Data, split: str) -> Source:
        """The records of a split that have a target; the others are dropped and counted.

        Args:
            data: the task's own, with what else it says of columns, such as `Data.with_texts`.
            split: which one.

        Raises:
            InputError: there is no such column, or no record has a target.
        """
        opened = self.split_by_target(data).open(split)
        names, problem = opened.classes.get(self.target), self.answer.problem
        # By the names: of positions the data know neither an order nor a size, and a label is called by its name.
        if names and (self.answer.order or problem in ("number", "ordered", "labels")):
            places = np.asarray(opened.column(self.target, np.arange(len(opened))))
            opened = WithTexts(opened, self.target, [names[place] for place in places.tolist()])
        return self.answer.with_targets(opened, self.target)

    @property
    def split_data(self) -> Data:
        return self.split_by_target(self.data)

    def split_by_target(self, data: Data) -> Data:
        """The data, whose own splits each get a share of each class; a number, or labels, are left to chance, since a
        value that occurs once would always be trained on."""
        classes = data.with_classes(self.target)
        if classes == data or self.answer.problem in ("number", "labels"):
            return data
        if self.answer.problem != "auto" or self.answer.order:
            return classes
        return classes if _poses_classes(self.answer, data, self.target) else data

    def encoded_target(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``{"target": ...}`` as `Target.encode` says it; nothing of a request, which has none."""
        if self.target not in columns:
            return {}
        return {"target": self.answer.encode(columns[self.target], held_out=rng is None)}

    def strata(self, source: Source) -> np.ndarray | None:
        if self.answer.kind in ("number", "labels"):
            return None
        return self.answer.encode(source.column(self.target, np.arange(len(source))))

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        kind, targets, mask = self.answer.kind, batch["target"], batch["mask"]
        logits = problems.members(self.logits(model, batch, rngs))
        losses = problems.row_losses(kind, logits, targets, self.regression_loss)
        if self.class_weight != "none":
            losses = losses * self._weights(targets)
        losses = losses.mean(tuple(range(1, losses.ndim)))
        states = {"loss": tally(losses, mask)}
        if kind in ("binary", "classes", "ordered"):
            answered = problems.outputs(kind, logits)["logits"].argmax(-1)
            states["accuracy"] = tally((answered == targets).astype(jnp.float32), mask)
        return masked_mean(losses, mask), states

    def _weights(self, targets: jax.Array) -> jax.Array:
        """How much each row counts (b, 1), of labels each decision (b, 1, c): by the inverse of the frequency of its
        class in training, 1 on average."""
        kind = self.answer.kind
        shares = np.array(self.answer.counts, np.float64) / max(self.answer.records, 1)
        if kind == "labels":
            both = jnp.asarray([balancing_weights(np.array([1 - share, share])) for share in shares], jnp.float32)
            return jnp.where(targets > 0.5, both[:, 1], both[:, 0])[:, None]
        return jnp.asarray(balancing_weights(shares), jnp.float32)[targets][:, None]

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return problems.outputs(self.answer.kind, problems.members(self.logits(model, batch)))

    def explained(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """The number as it is learnt, classes, or labels."""
        outputs = problems.outputs(self.answer.kind, problems.members(self.logits(model, batch)))
        return {"log_odds": outputs["logits"]} if self.answer.kind == "labels" else outputs

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """Metrics by the problem: see `suite.evaluation.metrics`."""
        kind, mask = self.answer.kind, np.asarray(batch["mask"])
        targets = np.asarray(batch["target"])[mask]
        if kind == "number":
            return self._number_scores(np.asarray(outputs["value"], np.float64)[mask], targets)
        outputs = self.decision.applied(outputs)
        logits = np.asarray(outputs["logits"], np.float64)[mask]
        if kind == "labels":
            return label_scores(logits, targets, self.decision.thresholds)
        scores = classification_scores(outputs, batch, self.decision.event, key="target")
        scores |= conformal.class_states(self.decision, logits, targets)
        return {**scores, **ordered_scores(logits, targets)} if kind == "ordered" else scores

    def _number_scores(self, values: np.ndarray, targets: np.ndarray) -> dict[str, MetricState]:
        scale, targets = self.answer.scale, targets.astype(np.float64)
        losses = problems.regression_loss(values - targets, self.regression_loss, np)
        scores = number_scores(scale.raw(values), scale.raw(targets, bounded=False), scale.centre)
        if math.isfinite(reach := self.decision.margin):
            low, high = scale.raw(values - reach), scale.raw(values + reach)
            scores |= conformal.number_states(low, high, scale.raw(targets, bounded=False))
        return {**scores, "loss": MetricState(losses.sum(), len(targets))}

    def averaged(self, outputs: Sequence[Mapping[str, jax.Array]], weights: Sequence[float]) -> dict[str, jax.Array]:
        if self.answer.kind == "number":
            return {"value": averaging.mean([one["value"] for one in outputs], weights)}
        of = averaging.mean_log_odds if self.answer.kind == "labels" else averaging.mean_log_probabilities
        return {"logits": of([one["logits"] for one in outputs], weights)}

    def baselines(self) -> Mapping[str, Baseline]:
        kind, count = self.answer.kind, len(self.answer.names)
        if kind == "number":
            scale = self.answer.scale
            mean = lambda targets: float(scale.scaled(scale.raw(targets).mean(keepdims=True), np.float64)[0])
            return classical(self.codec, kind, 1, "target", lambda values: {"value": values}, mean)
        if kind == "labels":
            return classical(self.codec, kind, count, "target", lambda chances: {"logits": log_odds(chances)})
        answer = lambda chances: {"logits": log_probabilities(chances)}
        return classical(self.codec, "classes", count, "target", answer)

    def distillation_loss(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> jax.Array:
        distances = problems.distances(self.answer.kind, problems.members(ours), problems.members(theirs), temperature)
        return jnp.where(batch["mask"], distances, 0)

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        outputs, given = self.decision.applied(outputs), self.given(columns, batch)
        return problem_artifacts(self.answer, self.target, outputs, batch["target"], given, self.decision)

    def conclude(self, evaluated: Iterable[tuple[Mapping[str, np.ndarray], Batch]]) -> Mapping[str, Conclusion]:
        kind = self._decided
        if kind is None:
            return deciding.conclude_number(self.decision, evaluated, "target")
        event = f"the class {self.answer.names[-1]}"
        return deciding.conclude(self.decision, kind, evaluated, "target", event=event)

    @property
    def _decided(self) -> deciding.Kind | None:
        """Of what the logits are that a decision is made by; None of a number."""
        kinds: dict[Problem, deciding.Kind | None] = {"number": None, "binary": "event", "labels": "labels"}
        return kinds.get(self.answer.kind, "classes")

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        deciding.check(self.decision, self._decided)
        if self.class_weight != "none" and self.answer.kind == "number":
            fix = "--task.class_weight none"
            raise InputError("field task.class_weight", "there are no classes: a number is predicted.", fix=fix)
        lines = [] if self.answer.kind == "number" else self._class_remarks(splits)
        train = splits.get("train")
        if train is not None:
            used = {self.target, *(entry.name for entry in self.codec.inputs)}
            lines += unread_columns(train, used, self.data)
        return lines

    def _class_remarks(self, splits: Mapping[str, Source]) -> list[str]:
        counts = {split: self._counts(source) for split, source in splits.items()}
        lines = []
        for split, known in counts.items():
            unseen = self.answer.unseen_names([name for name in known if name != MISSING])
            if known and len(unseen) == len(known) and self.answer.kind != "labels":
                raise self.answer.unseen(unseen[0])
            if unseen and split != "train" and (self.answer.kind == "labels" or "train" not in counts):
                lines.append(f"{split}: {self._unseen_note(known, unseen)}")
        if "train" in counts and self.answer.kind != "labels":
            known_names = {name for part in counts.values() for name in part}
            answers = known_names - set(self.answer.unseen_names(sorted(known_names)))
            lines += remarks(self.target, counts, answers={*self.answer.names, *answers})
        return lines

    def _unseen_note(self, counts: Counter[str], unseen: list[str]) -> str:
        if self.answer.kind != "labels":
            return unseen_note(counts, unseen)
        return f"labels that training does not have are left out of what is measured: {', '.join(unseen[:5])}"

    def _counts(self, source: Source) -> Counter[str]:
        """Class or label -> records of a split."""
        if self.answer.kind != "labels":
            return class_counts(source, self.target)
        rows = self.answer.separated(source.column(self.target, np.arange(len(source))))
        return Counter(name for row in rows for name in row)


def _poses_classes(answer: Target, data: Data, target: str) -> bool:
    """Whether the target is one of classes, judged by the training split that the data have without looking at it."""
    train = data.open("train")
    if target not in train.schema:
        return False
    try:
        return answer.judged(train, target).problem in ("binary", "classes", "ordered")
    except InputError:
        return False  # `Target.fit` says why
