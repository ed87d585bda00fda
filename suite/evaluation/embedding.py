"""Embedding: what tasks share whose answers are vectors, learnt from pairs, from classes or from scores of pairs."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.defaults import Chosen, Defaults
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.data.preprocessing.columns import require, unread_columns, without_missing_labels
from suite.data.preprocessing.partners import PARTNER, Pairs, Renamed, label_keys, of_classes, row_keys
from suite.data.preprocessing.score_range import ScoreRange
from suite.errors import InputError
from suite.evaluation.artifacts import Example, Gallery, Given, Scatter, Spread
from suite.evaluation.contrast import in_batch_losses, ranked, unit
from suite.evaluation.losses import masked_mean, tally
from suite.evaluation.metrics.retrieval import retrieval_scores, similarity_scores
from suite.evaluation.vector_map import VectorMap


@dataclass(frozen=True, kw_only=True)
class Embedding(Task):
    """A task whose model gives a vector for each text or image; the encoder is one for both sides of a pair.

    A record is to be near its partner: the value of the column ``other``, or the next record of the same ``label``.
    Evaluated, each record looks for its partner among those of all records of the split (the reference pass). Where
    pairs have scores, the cosine of a pair is to be its score, and nothing is looked for.
    """

    data: Data
    """Where the records come from."""
    other: str = "other"
    """Name of the column of partners, which are to be near. Empty: records of one label are."""
    label: str = ""
    """Name of a column of labels: records of one label are to be near each other. Empty: there are none."""
    similarity: str = ""
    """Name of a column of numbers that say how near the two of a pair are to be. Empty: as near as can be."""
    scale: ScoreRange = field(default_factory=ScoreRange)
    """The lowest and the highest score, learnt from the training split."""
    temperature: float = 0.05
    """What cosines are divided by in the loss."""
    normalise: bool = True
    """Answer with vectors of length one."""

    @property
    @abstractmethod
    def content(self) -> str:
        """Name of the column that is embedded."""

    @abstractmethod
    def rows(self, values: Any, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """One encoded array (b, ...) or Ragged of values of the column, by its key in the batch; augmented where
        ``rng`` is given. Host."""

    @abstractmethod
    def hidden(self, model: Any, batch: Batch, side: str, rngs: nnx.Rngs | None = None) -> jax.Array:
        """The model's vectors (b, d) of the rows whose keys begin with ``side``. Jitted."""

    @abstractmethod
    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        """Place of a record -> what the model was given, for a reader of a report. Host."""

    @property
    def partner(self) -> str:
        """Column of the partner."""
        return self.other or PARTNER

    def check_fields(self, where: str, source: Source, content: str) -> None:
        """The columns that are named are in the source.

        Args:
            where: what the source is called.
            source: records.
            content: the field of the task that names the column that is embedded.

        Raises:
            InputError: one is not, or neither partners nor labels are named.
        """
        if not self.other and not self.label:
            raise InputError(
                "fields task.other and task.label",
                "are both empty: nothing says which records are near each other.",
                found=", ".join(source.schema),
                fix="--task.other COLUMN",
            )
        if self.similarity and not self.other:
            raise InputError(
                "field task.score", "is of pairs, and task.other names no column.", fix="--task.other COLUMN"
            )
        for name, instead in (("other", "label"), ("label", "other")):
            column, other = getattr(self, name), getattr(self, instead)
            if column and column not in source.schema and other in source.schema:
                problem = f'column "{column}" is not in {where}, and need not be where "{other}" says what is near.'
                raise InputError(f"field task.{name}", problem, found=", ".join(source.schema), fix=f"--task.{name} ''")
        named = {"other": self.other, "label": self.label, "similarity": self.similarity}
        require(source, {content: self.content} | {field: name for field, name in named.items() if name}, where)

    def paired(self, source: Source) -> Source:
        """The records with a partner; without ``other``, those that share their label with no other are dropped."""
        source = without_missing_labels(source, self.label) if self.label else source
        source = self.scale.known(source, self.similarity) if self.similarity else source
        if self.other:
            return Pairs(source, self.content, None, self.label)
        return of_classes(source, self.content, self.label)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        lines = []
        for split, source in splits.items():
            both = (source.column(name, np.arange(len(source))) for name in (self.content, self.partner))
            pairs = zip(*both, strict=True)
            equal = sum(isinstance(first, str) and first == second for first, second in pairs) if self.other else 0
            if equal:
                lines.append(
                    f"{split}: {equal:,} of {len(source):,} pairs are the same on both sides, and teach nothing"
                )
        if "train" in splits:
            used = {self.content, self.partner, self.label, self.similarity}
            lines += unread_columns(splits["train"], used, self.data)
        return lines

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """The rows of both sides; ``content`` and ``other_content`` (b, 2), keys of what they are before any
        augmentation; ``group`` (b, 2), keys of labels."""
        encoded: dict[str, Any] = {}
        for side, name in (("", self.content), ("other_", self.partner)):
            if name not in columns:
                continue
            plain = self.rows(columns[name])
            rows = plain if rng is None else self.rows(columns[name], rng)
            encoded |= {f"{side}{key}": value for key, value in rows.items()}
            encoded[f"{side}content"] = row_keys(next(iter(plain.values())))
        if self.label and self.label in columns:
            encoded["group"] = label_keys(columns[self.label])
        if self.similarity and self.similarity in columns:
            encoded["similarity"] = self.scale.encode(columns[self.similarity])
        return encoded

    def vectors(self, model: Any, batch: Batch, side: str = "", rngs: nnx.Rngs | None = None) -> jax.Array:
        """Vectors (b, d) float32 of length one."""
        return unit(self.hidden(model, batch, side, rngs))

    @property
    def coupled(self) -> str:
        return "" if self.similarity else "records are negatives of each other"

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        own, other = (self.vectors(model, batch, side, rngs) for side in ("", "other_"))
        if self.similarity:
            losses = jnp.square((own * other).sum(-1) - batch["similarity"])
        else:
            losses = in_batch_losses(own, other, batch, self.temperature)
        return masked_mean(losses, batch["mask"]), {"loss": tally(losses, batch["mask"])}

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        vectors = self.hidden(model, batch, "").astype(jnp.float32)
        return {"vector": unit(vectors) if self.normalise else vectors}

    def reference(self, split: str) -> Source | None:
        if split == "predict" or self.similarity:
            return None
        names = {self.content: self.partner} | ({self.label: self.label} if self.label else {})
        return Renamed(self.source(split), names)

    def embed(self, model: Any, batch: Batch) -> dict[str, jax.Array]:
        kept: dict[str, jax.Array] = {name: batch[name] for name in ("content", "group") if name in batch}
        return {"vector": self.vectors(model, batch), **kept}

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        vectors = self.vectors(model, batch)
        if reference is None:
            return {"vector": vectors, "cosine": (vectors * self.vectors(model, batch, "other_")).sum(-1)}
        return {"vector": vectors, **ranked(vectors, batch, reference, self.temperature)}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        mask = np.asarray(batch["mask"])
        if self.similarity:
            return similarity_scores(np.asarray(outputs["cosine"])[mask], np.asarray(batch["similarity"])[mask])
        return retrieval_scores(np.asarray(outputs["rank"])[mask], np.asarray(outputs["loss"])[mask])

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        given, count = self.given(columns, batch), len(outputs["vector"])
        groups = [str(name) for name in columns[self.label]] if self.label else [""] * count
        kept = [given(place) for place in range(count)]
        found = VectorMap.of(np.asarray(batch["seed"]), outputs["vector"], kept, groups)
        if self.similarity:
            scores = (self.scale.decode(values) for values in (outputs["cosine"], batch["similarity"]))
            return {"Cosines and scores": Scatter(self.similarity, *scores), "Vectors": found}
        right, wrong = (np.asarray(outputs[name], np.float64) for name in ("right", "wrong"))
        return {
            "Vectors": found,
            "Cosines": Spread("cosine", {"of the partner": right, "of the nearest other": wrong}),
            "Partners ranked last": self._lost(columns, kept, outputs),
        }

    def _lost(self, columns: Columns, given: Sequence[Given], outputs: Mapping[str, np.ndarray]) -> Gallery:
        ranks = np.asarray(outputs["rank"], np.float64)
        partners = columns[self.partner]

        def show(place: int) -> Example:
            partner = partners[place]
            named = partner if isinstance(partner, str) else str(columns[self.label][place]) if self.label else ""
            right, wrong = outputs["right"][place], outputs["wrong"][place]
            note = f"cosine {right:.3f}, of the nearest other {wrong:.3f}"
            return Example(given[place], named, f"rank {int(ranks[place]):,}", float(ranks[place]), note)

        about = "Records whose partner ranks last among all candidates of the split."
        return Gallery.worst(about, np.where(ranks > 1, ranks, np.nan), show)


@dataclass(frozen=True, kw_only=True)
class EmbeddingDefaults(Defaults):
    """The metric that chooses the checkpoint: rank correlation where pairs have scores, else the reciprocal rank."""

    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        """``train.best``."""
        yield Chosen("train.best", "spearman" if experiment.task.similarity else "mrr")
