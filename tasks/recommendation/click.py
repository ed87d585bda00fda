"""Click prediction: how likely an event is, from the columns of its record."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.baselines.classical import classical, log_odds
from suite.codecs.table import Clicks
from suite.contracts.artifact import Artifact
from suite.contracts.baseline import Baseline
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.contracts.preprocessor import Conclusion
from suite.contracts.task import Task
from suite.data.preprocessing.columns import origin, require
from suite.data.preprocessing.decision import Decision, event_probabilities
from suite.data.preprocessing.tabular import Fields
from suite.data.preprocessing.tabular_statistics import CHUNK
from suite.data.preprocessing.tabular_values import clicks, event, listed_values, texts
from suite.data.sources.memory import cleaned, not_empty
from suite.errors import InputError
from suite.evaluation import averaging, conformal, deciding
from suite.evaluation.artifacts import Calibration, Example, Gallery, Lists, PrecisionRecall, Spread, record
from suite.evaluation.losses import binary_cross_entropy, binary_distillation_loss, masked_mean, tally
from suite.evaluation.metrics.events import click_scores
from suite.evaluation.metrics.ranking import RankingBound


@dataclass(frozen=True, kw_only=True)
class ClickPrediction(Task):
    """Every column but the label is a feature; ``fields`` says which are numbers, categories and lists."""

    data: Data
    """Where the records come from."""
    label: str = "label"
    """Name of the column that says whether there was a click."""
    record: str = "record"
    """Name of a column that holds whole records, as mappings or JSON: ``run.predict([{"price": 3.5}])``."""
    positive: str = ""
    """Value of the label that is a click, every other being none. Empty: 1, true or yes against 0, false or no."""
    fields: Fields = field(default_factory=Fields)
    """What the columns are, learnt from the training split."""
    decision: Decision = field(default_factory=Decision)
    """What is learnt of the answer at the end of training: a temperature, the threshold of what is measured, and how
    sure an answer is."""
    user: str = ""
    """Name of the column of whom a list is made for; reports then rank the records within each. Empty: none."""
    item: str = ""
    """Name of the column of what is on the list, for reports. Empty: items have no name."""
    bootstrap: int = 0
    """Samples of the bootstrap that bounds the AUC (95 %: auc_low, auc_high) in evaluations. 0: off."""

    @property
    def codec(self) -> Clicks:
        return Clicks(record=self.record, fields=self.fields, decision=self.decision)

    @property
    def split_data(self) -> Data:
        return self.data.with_classes(self.label)

    def source(self, split: str) -> Source:
        opened = self.split_data.open(split)
        require(opened, {"label": self.label}, origin(self.data))
        labelled = cleaned(opened, {"no label": np.isnan(self._clicks(opened))})
        return not_empty(labelled, split, f"column {self.label}", "name another label column")

    def _clicks(self, source: Source) -> np.ndarray:
        """Labels (n,) float32 of all records, nan where one is missing."""
        chunks = (np.arange(start, min(start + CHUNK, len(source))) for start in range(0, len(source), CHUNK))
        return np.concatenate([clicks(source.column(self.label, chunk), self.label, self.positive) for chunk in chunks])

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        deciding.check(self.decision, "event")
        lines = []
        for split, source in splits.items():
            clicked = self._clicks(source)
            if not 0 < clicked.sum() < len(clicked):
                every = f"each of the {len(clicked):,} records of {split} is {'a' if clicked.any() else 'no'} click"
                if split == "train":
                    if self.positive and not clicked.any():
                        labels = texts(source.column(self.label, np.arange(min(len(source), CHUNK))), "text")
                        values = [value for value in labels if value is not None]
                        problem = f'"{self.positive}" is no value of column {self.label}.'
                        raise InputError("field task.positive", problem, found=listed_values(values), fix=event(values))
                    fix = "name another label column, or add records of the other kind"
                    raise InputError(f"column {self.label}", f"{every}: there is nothing to tell apart.", fix=fix)
                lines.append(f"column {self.label}: {every}: the area under the ROC curve is not defined there")
        return lines

    def strata(self, source: Source) -> np.ndarray:
        return self._clicks(source)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``dense`` float32 (b, i), ``ids`` int32 (b, s), ``weights`` float32 (b, w) and ``label`` float32 (b,)."""
        columns = self.codec.opened(columns)
        encoded = self.codec.encode(columns)
        if self.label in columns:
            encoded["label"] = clicks(columns[self.label], self.label, self.positive)
        return encoded

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        logits = model(batch["dense"], batch["ids"], batch["weights"], rngs=rngs)
        losses = binary_cross_entropy(logits, batch["label"])
        return masked_mean(losses, batch["mask"]), {"loss": tally(losses, batch["mask"])}

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        unseen = (batch["ids"] == self.fields.unseen_rows).sum(-1)
        return {"logits": model(batch["dense"], batch["ids"], batch["weights"]), "unseen": unseen}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """``auc``, ``loss``, ``calibration``, ``calibration_error``; ``unseen``: values a record that training had
        not, or too rarely; ``auc_low`` and ``auc_high`` with a bootstrap."""
        outputs = self.decision.applied(outputs)
        scores = click_scores(outputs, batch, threshold=self.decision.event)
        mask = np.asarray(batch["mask"])
        scores |= conformal.class_states(
            self.decision, np.asarray(outputs["logits"])[mask], np.asarray(batch["label"])[mask]
        )
        scores["unseen"] = MetricState(float(np.asarray(outputs["unseen"])[mask].sum()), int(mask.sum()))
        if self.bootstrap:
            rows = scores["auc"]
            for name, quantile in (("auc_low", 0.025), ("auc_high", 0.975)):
                scores[name] = RankingBound(rows.total, rows.count, quantile, self.bootstrap)
        return scores

    def conclude(self, evaluated: Iterable[tuple[Mapping[str, np.ndarray], Batch]]) -> Mapping[str, Conclusion]:
        return deciding.conclude(self.decision, "event", evaluated, "label")

    def averaged(self, outputs: Sequence[Mapping[str, jax.Array]], weights: Sequence[float]) -> dict[str, jax.Array]:
        return {**outputs[0], "logits": averaging.mean_log_odds([one["logits"] for one in outputs], weights)}

    def baselines(self) -> Mapping[str, Baseline]:
        def answer(probabilities: np.ndarray) -> dict[str, np.ndarray]:
            return {"logits": log_odds(probabilities[:, 0]), "unseen": np.zeros(len(probabilities))}

        return classical(self.codec, "binary", 1, "label", answer)

    def distillation_loss(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> jax.Array:
        return jnp.where(batch["mask"], binary_distillation_loss(ours, theirs, temperature), 0)

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        """Precision-recall and ROC curves, calibration, confident errors; with ``user``, lists of the lowest AUC."""
        clicked = np.asarray(batch["label"]) > 0.5
        logits = np.asarray(self.decision.applied(outputs)["logits"], np.float64)
        shares = event_probabilities(logits)
        said = np.where(clicked, shares, 1 - shares)  # of what was so
        features = [name for name in columns if name != self.label]

        def show(i: int) -> Example:
            given = record(columns, features, i)
            return Example(given, f"{self.label} {int(clicked[i])}", f"{100 * shares[i]:.1f} %", float(1 - said[i]))

        kinds = {f"{self.label} 1": shares[clicked], f"{self.label} 0": shares[~clicked]}
        artifacts: dict[str, Artifact] = {
            "Precision-recall and ROC curves": PrecisionRecall((self.label,), shares[:, None], clicked[:, None]),
            "Can its probabilities be trusted?": Calibration.of(self.label, shares, clicked, bins=20),
            "Predicted probability by actual class": Spread("probability", kinds),
            "Most confident errors": Gallery.worst(
                f"What was given the lowest probability. Said: that of {self.label}.",
                np.where(said < 0.5, 1 - said, np.nan),
                show,
            ),
        }
        if self.user in columns:
            names = columns[self.item] if self.item in columns else [""] * len(shares)
            owners, items = (tuple(map(str, values)) for values in (columns[self.user], names))
            artifacts["Lists of the lowest AUC"] = Lists("user", owners, items, shares, clicked)
        return artifacts


register_metric("unseen", "Values of a record that training had not, or too rarely.", title="unseen values")
