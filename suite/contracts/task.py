"""Task: the contract that every kind of problem fulfils, and Program, a function of a model that is served.

Data flows one way: ``Data.open`` -> ``Source[indices]`` -> columns -> ``Task.encode`` -> ragged or dense
arrays -> the pipeline pads them into a ``Batch`` -> ``Task.loss``, ``Task.evaluate`` or ``Task.predict`` (jitted) ->
``Task.score`` and ``Codec.decode`` (host). The trainer knows these names and no domain.

This module loads neither JAX nor Flax: what answers requests may do without either.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.contracts.baseline import Baseline
from suite.contracts.batch import Batch, Columns
from suite.contracts.codec import Codec
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.errors import InputError

if TYPE_CHECKING:
    import jax
    from flax import nnx

    from suite.contracts.artifact import Artifact
    from suite.contracts.preprocessor import Conclusion


@dataclass(frozen=True)
class Program:
    """One function of a model that is exported and served under a name of its own.

    Attributes:
        function: (model, batch, reference) -> outputs, each (b, ...). Jitted.
        codec: what its requests become, and its answers.
    """

    function: "Callable[[Any, Batch, Mapping[str, Any] | None], dict[str, jax.Array]]"
    codec: Codec


class Task(ABC):
    """A kind of problem: a final, frozen dataclass with batch-first methods, its data and a codec.

    A batch always has ``mask`` (b,), False where a row is padding, and ``seed`` (b,) uint32, from which all random
    numbers of an answer come: the record's place in its source where a split is evaluated, the request's ``seed``
    where a request is answered. What is drawn for a row depends on nothing else, so an answer is the same alone, in any
    batch and on any number of devices.

    A model is called as ``model(inputs..., rngs=rngs)``. It trains where ``rngs`` is given: dropout acts, and batch
    statistics are those of the batch. A model of images is also given ``rows=batch["mask"]``, so that padding rows
    stay out of the statistics.
    """

    data: Data
    """Where the records come from."""

    @property
    @abstractmethod
    def codec(self) -> Codec:
        """What a request needs of this task."""

    @property
    def protocol(self) -> str:
        """How the task is learnt and measured, where the same metric has several ways: said beside each result."""
        return ""

    @property
    def split_data(self) -> Data:
        """The data as ``source`` splits them: where they have no splits of their own, what is predicted may decide that
        each split gets a share of each class."""
        return self.data

    @abstractmethod
    def source(self, split: str) -> Source:
        """Cleaned records of a split, as a user would write them. Host."""

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        """What a user should know of the records of these splits, a line each: said where training begins, of
        ``"train"`` and ``"validation"``, and where a split is evaluated. Host; preprocessors are fitted.

        Raises:
            InputError: nothing can be learnt or measured on them.
        """
        return []

    def strata(self, source: Source) -> np.ndarray | None:
        """The class of each record (n,), of which balanced sampling draws as many of each; None where a record has no
        one class. Host; preprocessors are fitted.
        """
        return None

    @abstractmethod
    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """Model-ready rows: arrays (b, ...) or Ragged. Augments only when ``rng`` is given. Host.

        What the codec makes of a request, and what training and evaluation have besides: labels, augmentation. So the
        three cannot drift apart.
        """

    @abstractmethod
    def loss(self, model: Any, batch: Batch, rngs: "nnx.Rngs | None") -> "tuple[jax.Array, dict[str, MetricState]]":
        """The mean loss, and metric states to log. Jitted.

        The metric state ``loss`` is what the mean is over: of the rows, or of their tokens. Means of parts of a batch
        are joined by its count.
        """

    @abstractmethod
    def predict(
        self, model: Any, batch: Batch, reference: "Mapping[str, jax.Array] | None" = None
    ) -> "dict[str, jax.Array]":
        """The outputs that requests are answered with, each (b, ...). Jitted; exported and served.

        Args:
            model: see the class.
            batch: what the codec makes of requests.
            reference: what ``embed`` said of the records of ``reference("predict")``; None where there are none.
        """

    def explained(
        self, model: Any, batch: Batch, reference: "Mapping[str, jax.Array] | None" = None
    ) -> "dict[str, jax.Array]":
        """What an explanation can be of. Jitted; by default of what ``predict`` says.

        Returns:
            One of ``logits`` (b, c) of classes that exclude each other, or (b,) of an event; ``log_odds`` (b, c) of
            labels that do not; ``value`` (b,), a number.

        Raises:
            InputError: the task's answers are not explained.
        """
        outputs = self.predict(model, batch, reference)
        if "logits" in outputs and outputs["logits"].ndim <= 2:
            return {"logits": outputs["logits"]}
        single = {name: value for name, value in outputs.items() if value.ndim == 1 and value.dtype.kind == "f"}
        if len(single) == 1:
            return {"value": next(iter(single.values()))}
        raise InputError(
            "explanation",
            "is of a class, labels, an event or a number, and this model answers with something else.",
            found=self.codec.purpose,
            fix="a run of text.classify, vision.classify, speech.classify, table.predict or another recipe that "
            "docs/explanations.md lists",
        )

    def evaluate(
        self, model: Any, batch: Batch, reference: "Mapping[str, jax.Array] | None" = None
    ) -> "dict[str, jax.Array]":
        """The outputs that a split is scored by, each (b, ...). Jitted; those of ``predict`` unless overridden, by
        tasks that are measured otherwise than they are served.

        Args:
            model: see the class.
            batch: what ``encode`` makes of the split's records.
            reference: what ``embed`` said of the records of this split's ``reference``; None where there are none.
        """
        return self.predict(model, batch, reference)

    def reference(self, split: str) -> Source | None:
        """Records that the whole of a split is compared with: a catalogue, prompts of classes. Host.

        They pass through ``encode`` and ``embed`` once before the split is evaluated, or the first request answered.

        Args:
            split: ``"train"``, ``"validation"`` or ``"test"``; ``"predict"`` where requests are answered.
        """
        return None

    def encode_reference(self, columns: Columns) -> dict[str, Any]:
        """Model-ready rows of the records of ``reference``, as ``embed`` takes them: by ``catalogue`` where there is
        one, else by ``encode``. A task whose splits are compared with other records than its catalogue's overrides it.
        Host.
        """
        return self.encode(columns) if self.catalogue is None else self.catalogue.encode(columns)

    def embed(self, model: Any, batch: Batch) -> "dict[str, jax.Array]":
        """What is kept of a batch of the records of ``reference``, each (b, ...). Jitted."""
        raise NotImplementedError(f"{type(self).__name__} has reference records, and no embed that says what to keep")

    @property
    def catalogue(self) -> Codec | None:
        """What a record of ``reference("predict")`` becomes, as ``embed`` is given it; None where a bundle keeps the
        records it was exported with.

        With it a bundle's records can be replaced without training code. Programs are then exported for any number of
        them: what depends on that number is computed from the shapes of ``reference``, and never compared with it in
        Python. A record is named by the codec's ``primary``, where the codecs of the task's programs name records.
        """
        return None

    @property
    def continuous(self) -> bool:
        """Whether outputs change little where the numbers of the model do. Not of what is chosen by rank, such as
        boxes: a bundle is then compared with its run in the same forms, in which no rank changes."""
        return True

    @abstractmethod
    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """Metrics of a batch over its unmasked rows, as sums in float64. Host.

        Args:
            outputs: what ``evaluate`` said.
            batch: the same records encoded.
            reference: as ``evaluate`` was given it, each (n, ...).
        """

    def conclude(self, evaluated: Iterable[tuple[Mapping[str, np.ndarray], Batch]]) -> "Mapping[str, Conclusion]":
        """What the task's Postprocessors learn at the end of training, by the field that holds them. Host.

        Args:
            evaluated: what ``evaluate`` says of each batch of the validation split under the best checkpoint, and the
                batch. It is computed as it is asked for: a task that learns nothing here costs nothing.
        """
        return {}

    def programs(self) -> dict[str, Program]:
        """What is exported and served, by name. ``"predict"`` answers where no name is given."""
        return {"predict": Program(self.predict, self.codec)}

    @property
    def solved(self) -> tuple[str, ...]:
        """Splits that ``solve`` computes the parameters from, in closed form; empty: they are learnt in steps.

        ``("train",)``; or ``("train", "validation")``: the parameters of training alone are measured on validation,
        then those of both take their place, and what is measured on validation later says little.
        """
        return ()

    def solve(self, model: Any, batches: "Callable[[], Iterator[Batch]]") -> Mapping[str, Any]:
        """The variables that are computed, in a task that is ``solved``: path -> array of the variable's shape. Host.

        Every process computes them from all records, so they are the same on each. A solution that is killed begins
        anew.

        Args:
            model: as it begins: fresh, or with the weights that it starts from.
            batches: each call passes over the records, encoded without augmentation, as arrays of the host.
        """
        raise NotImplementedError(f"{type(self).__name__} is solved, and has no solve that says how")

    def solved_records(self) -> Source:
        """The records of all splits that ``solved`` names, as those of training. Host; preprocessors are fitted, on the
        training split alone."""
        return self.source("train")

    @property
    def coupled(self) -> str:
        """What makes the loss of a batch more than a mean of losses of single records, in words that go on from "in its
        loss": ``"records are negatives of each other"``. Empty: nothing does, as gradients of single records need it.
        """
        return ""

    def distillation_loss(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> "jax.Array":
        """How far a student's answers are from a teacher's: nats (b,) a row, 0 for padding rows. Jitted.

        In the unit that the metric state ``loss`` counts: of the row, or the sum over its tokens.

        Args:
            ours, theirs: what two models return for the same inputs of this batch.
            batch: as in ``loss``.
            temperature: what logits are divided by.

        Raises:
            InputError: the task has no such measure.
        """
        raise InputError(
            "flag --distill",
            f"{type(self).__name__} does not say how far two answers are apart.",
            fix="learn hidden states instead: --distill.logits 0 --distill.hidden PART PART",
        )

    def averaged(
        self, outputs: "Sequence[Mapping[str, jax.Array]]", weights: Sequence[float]
    ) -> "dict[str, jax.Array]":
        """What several models of the task say together: outputs of the form of ``evaluate``'s and ``predict``'s, of the
        mean of their probabilities, or of their numbers. Jitted, and on the host.

        Args:
            outputs: of each model, on the same batch.
            weights: of each, which add up to 1.

        Raises:
            InputError: the task has no such mean.
        """
        raise InputError("ensemble", f"{type(self).__name__} does not say what several models say together.")

    def baselines(self) -> Mapping[str, Baseline]:
        """Classical models to compare with, by what a person calls them, the strongest last; they are not fitted yet.
        Host; preprocessors are fitted. A task that has none leaves this as it is.
        """
        return {}

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> "dict[str, Artifact]":
        """What a reader of a report should see, by title. Host.

        Args:
            columns: records (b, ...) as the data holds them.
            outputs: what ``evaluate`` said of them.
            batch: the same records encoded; none is padding.

        Artifacts of the same title add over batches, as metric states do. A task with nothing to show leaves this as
        it is.
        """
        return {}
