"""Classification: what tasks share whose model gives the logits of several classes: answers, scores, artifacts."""

import contextlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.baselines.classical import classical, log_probabilities
from suite.contracts.artifact import Artifact
from suite.contracts.baseline import Baseline
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.preprocessor import Conclusion
from suite.contracts.task import Task
from suite.data.preprocessing.columns import unread_columns, without_missing_labels
from suite.data.preprocessing.decision import Decision
from suite.data.preprocessing.label_checks import class_counts, is_numeric, remarks, unseen_note
from suite.data.preprocessing.labels import Labels
from suite.errors import InputError
from suite.evaluation import averaging, conformal, deciding
from suite.evaluation.artifacts import Given, class_artifacts
from suite.evaluation.losses import balancing_weights, cross_entropy, distillation_loss
from suite.evaluation.metrics.classification import classification_scores


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """A task that says what its model's logits are; the batch's ``label`` (b,) is the right class.

    A subclass gives ``codec`` (of `suite.codecs.classes.Classes`, made with ``**self.answering``), ``source`` (by
    ``labelled``), ``encode``, ``loss``, ``logits`` and ``given``.
    """

    label: str = "label"
    """Name of the label column."""
    labels: Labels = field(default_factory=Labels)
    """Class names, learnt from the training split."""
    decision: Decision = field(default_factory=Decision)
    """What is learnt of the answer at the end of training: a threshold, a temperature."""

    class_weight: Literal["none", "balanced"] = "none"
    """How much a training record counts in the loss: all alike, or each class as much as any other (balanced)."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""

    @property
    def answering(self) -> dict[str, Any]:
        """What the codec is given of the answer."""
        return {"labels": self.labels, "decision": self.decision}

    @property
    def split_data(self) -> Data:
        return self.data.with_classes(self.label)

    def labelled(self, source: Source, split: str) -> Source:
        """The records that have a label; the others are dropped and counted.

        Raises:
            InputError: no record has one, or, after training, one that is a class of the training split.
        """
        source = without_missing_labels(source, self.label)
        if self.labels.file and split != "train":
            self._check_known(class_counts(source, self.label))
        return source

    def _check_known(self, counts: Counter[str]) -> list[str]:
        """The classes that training does not have.

        Raises:
            InputError: it has none of them.
        """
        unseen = self.labels.unseen_names(list(counts))
        if counts and len(unseen) == len(counts):
            raise self.labels.unseen(unseen[0])
        return unseen

    def _check_measurable(self, split: str, counts: Counter[str], train: Counter[str]) -> None:
        """Raises InputError: all classes are of one record, so that what is trained on is nowhere else."""
        if max(train.values(), default=0) == 1 and counts.keys().isdisjoint(train):
            raise InputError(
                f"column {self.label}",
                f"each class of train has one record, and {split} none of them: nothing can be measured.",
                found=f"{len(train)} training records of {len(train)} classes",
                fix="add records of each class, or name another label column",
            )

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        counts = {split: class_counts(source, self.label) for split, source in splits.items()}
        for split in counts.keys() - {"train"}:
            self._check_measurable(split, counts[split], counts.get("train", Counter()))
            self._check_known(counts[split])
        deciding.check(self.decision, self._decided)
        if self.class_weight != "none" and not self.labels.counts:
            raise InputError(
                "field task.class_weight",
                "the records of each class are not known, by which they are weighed.",
                fix="--task.class_weight none",
            )
        train = splits.get("train")
        if train is None:
            unseen = {split: self._check_known(known) for split, known in counts.items()}
            return [f"{split}: {unseen_note(counts[split], names)}" for split, names in unseen.items() if names]
        if "test" not in counts and not self.labels.indexed:
            with contextlib.suppress(InputError):  # there need not be one
                test = self.data.with_classes(self.label).open("test")
                if self.label in test.schema:
                    counts["test"] = class_counts(without_missing_labels(test, self.label), self.label)
        used = {entry.name for entry in self.codec.inputs}
        numeric = self.label not in train.classes and is_numeric(train.column(self.label, np.arange(len(train))))
        lines = remarks(self.label, counts, numeric, self.labels.names)
        return [*lines, *unread_columns(train, {*used, self.label}, self.data)]

    def strata(self, source: Source) -> np.ndarray:
        return self.labels.encode(source.column(self.label, np.arange(len(source))))

    @abstractmethod
    def logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits (b, c); ``rngs`` as in ``loss``. Jitted."""

    def cross_entropy(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """The loss (b,) of ``logits`` (b, c) against classes (b,), smoothed and weighed as the task says. Jitted."""
        losses = cross_entropy(logits, labels, self.label_smoothing)
        if self.class_weight == "none":
            return losses
        counts = np.array(self.labels.counts, np.float64)
        return losses * jnp.asarray(balancing_weights(counts / max(counts.sum(), 1)), jnp.float32)[labels]

    @abstractmethod
    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        """Place of a record -> what the model was given, for a reader of a report. Host."""

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return {"logits": self.logits(model, batch)}

    def explained(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return {"logits": self.logits(model, batch)}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        outputs, mask = self.decision.applied(outputs), np.asarray(batch["mask"])
        sure = conformal.class_states(self.decision, outputs["logits"][mask], np.asarray(batch["label"])[mask])
        return {**classification_scores(outputs, batch, self.decision.event), **sure}

    def conclude(self, evaluated: Iterable[tuple[Mapping[str, np.ndarray], Batch]]) -> Mapping[str, Conclusion]:
        event = f"the class {self.labels.names[-1]}"
        return deciding.conclude(self.decision, self._decided, evaluated, "label", event=event)

    @property
    def _decided(self) -> deciding.Kind:
        """Of what the logits are that a decision is made by."""
        return "event" if len(self.labels.names) == 2 else "classes"

    def averaged(self, outputs: Sequence[Mapping[str, jax.Array]], weights: Sequence[float]) -> dict[str, jax.Array]:
        return {"logits": averaging.mean_log_probabilities([one["logits"] for one in outputs], weights)}

    def baselines(self) -> Mapping[str, Baseline]:
        answer = lambda probabilities: {"logits": log_probabilities(probabilities)}
        return classical(self.codec, "classes", len(self.labels.names), "label", answer)

    def distillation_loss(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> jax.Array:
        return jnp.where(batch["mask"], distillation_loss(ours, theirs, temperature), 0)

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        logits, given = self.decision.applied(outputs)["logits"], self.given(columns, batch)
        return class_artifacts(logits, batch["label"], self.labels.names, given, self.decision.event)
