"""Classification: what tasks share whose model gives the logits of several classes: answers, scores, artifacts."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch, Columns
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.data.preprocessing.labels import Labels
from suite.evaluation.artifacts import Given, class_artifacts
from suite.evaluation.losses import distillation_loss
from suite.evaluation.metrics.classification import classification_scores


class Classification(Task):
    """A task that says what its model's logits are; the batch's ``label`` (b,) is the right class.

    Attributes:
        labels: class names, a field of the task.
    """

    labels: Labels

    @abstractmethod
    def logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits (b, c); ``rngs`` as in ``loss``. Jitted."""

    @abstractmethod
    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        """Place of a record -> what the model was given, for a reader of a report. Host."""

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return {"logits": self.logits(model, batch)}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        return classification_scores(outputs, batch)

    def distillation_loss(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> jax.Array:
        return jnp.where(batch["mask"], distillation_loss(ours, theirs, temperature), 0)

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        return class_artifacts(outputs["logits"], batch["label"], self.labels.names, self.given(columns, batch))
