"""The contracts every domain fulfils: Source, Data, Asset, Batch, Tally, Codec, Task, ModelConfig.

Data flows one way: ``Data.open`` -> ``Source[indices]`` -> columns -> ``Task.encode`` -> ragged or dense
arrays -> the pipeline pads them into a ``Batch`` -> ``Task.loss`` or ``Task.predict`` (jitted) ->
``Task.score`` and ``Task.decode`` (host). The trainer knows these names and no domain.

This module loads neither JAX nor Flax: what answers requests may do without either.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from suite.errors import InputError

if TYPE_CHECKING:
    import jax
    from flax import nnx

    from suite.compression.units import Units
    from suite.exhibits import Exhibit

Columns = Mapping[str, Any]
"""Raw records by column: each value an array or list with a leading axis of one entry a record."""

Batch = dict[str, Any]
"""Model-ready arrays with a leading batch axis, plus ``mask`` (b,) bool: False rows are padding."""


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths, before padding.

    Attributes:
        values: (n, ...) all rows end to end.
        lengths: (b,) rows' lengths; their sum is n.
        to: length that rows are padded to, for rows that run on a scale of their own, such as the transcript of a
            recording. 0: the length of the batch's bucket, which these rows then decide.
    """

    values: np.ndarray
    lengths: np.ndarray
    to: int = 0

    def padded(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Dense (b, length, ...) values, zero after each row's end, and the (b, length) bool mask of what is real.

        Rows longer than ``length`` are cut at their end.
        """
        mask = np.arange(length) < np.asarray(self.lengths)[:, None]
        starts = np.concatenate([[0], np.cumsum(self.lengths)])[:-1]
        dense = np.zeros((len(self.lengths), length, *self.values.shape[1:]), self.values.dtype)
        dense[mask] = self.values[(starts[:, None] + np.arange(length))[mask]]
        return dense, mask


class Source(ABC):
    """Records that can be read in any order, a batch of them at a time."""

    @abstractmethod
    def __len__(self) -> int:
        """How many records there are."""

    @property
    @abstractmethod
    def schema(self) -> dict[str, str]:
        """Column name -> what it holds: ``"text"``, ``"image"``, ``"class"``, ``"int"``, ``"float"``."""

    @abstractmethod
    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        """The records at ``indices`` (b,), by column."""

    def column(self, name: str, indices: np.ndarray) -> Any:
        """One column of the records at ``indices`` (b,); sources that need not read the others override it."""
        return self[indices][name]

    @property
    def classes(self) -> dict[str, list[str]]:
        """Names of the values of each ``"class"`` column that carries them; a record then holds the integer."""
        return {}

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> number of records that cleaning left out."""
        return {}


class Data(ABC):
    """Where records come from: a frozen dataclass naming a file, a folder or a dataset, with its splits."""

    @abstractmethod
    def open(self, split: str) -> Source:
        """The records of ``"train"``, ``"validation"`` or ``"test"``.

        Raises:
            InputError: there is nothing to read, or no such split.
        """

    @property
    def origin(self) -> str:
        """Who made the records, and where they are from; empty where the data doesn't say."""
        return ""

    @property
    def licence(self) -> str:
        """What may be done with the records; empty where the data doesn't say."""
        return ""


@dataclass(frozen=True, kw_only=True)
class Asset(ABC):
    """A part of preprocessing that is learnt once from the training split: tokenizer, statistics, label names.

    It is stored as one file in the run folder, and its state is always read from that file, so training,
    data workers, evaluation and serving hold the same thing.
    """

    suffix: ClassVar[str]
    """Extension of the file."""
    of: ClassVar[str]
    """The attribute of the task that names the column this is learnt from; a tuple names several, learnt from as
    one."""

    file: str = ""
    """A file fitted before. Empty: fit on the training split."""

    @abstractmethod
    def fit(self, source: Source, column: str, path: Path) -> None:
        """Learn from ``source[...][column]`` and write ``path``."""

    @abstractmethod
    def dims(self) -> dict[str, Any]:
        """Sizes, or tuples of sizes, that a model must agree with, by the name of the ModelConfig field:
        ``{"outputs": 10}``."""

    def describe(self, source: Source, column: str) -> str:
        """What ``fit`` would make of the records, for a person to read; empty where there is nothing to decide."""
        return ""


@dataclass(frozen=True)
class Tally:
    """A sum and what to divide it by. Tallies add over batches, devices and hosts; divide once, at the end.

    `suite.metrics` tells JAX about it, so that jitted functions take and return it.
    """

    total: Any
    count: Any

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.total + other.total, self.count + other.count)

    def value(self) -> float:
        """total / count, nan over nothing."""
        return float(self.total) / float(self.count) if float(self.count) else float("nan")

    @staticmethod
    def resampled(rows: Sequence["Tally"], weights: np.ndarray) -> np.ndarray:
        """Value (k,) of each of k samples, in which row i of n (a record's own tally) counts ``weights[:, i]`` times.

        Kinds of tallies whose parts don't add as numbers do override it.
        """
        totals = np.array([row.total for row in rows], np.float64)
        counts = np.array([row.count for row in rows], np.float64)
        sums = zip(weights @ totals, weights @ counts, strict=True)
        return np.array([replace(rows[0], total=total, count=count).value() for total, count in sums])


class ModelConfig(ABC):
    """A frozen dataclass that builds one model. A field left at 0 is taken from the task (see Asset.dims)."""

    @abstractmethod
    def build(self, *, rngs: "nnx.Rngs") -> "nnx.Module":
        """Allocate the model's parameters."""

    @property
    @abstractmethod
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        """The SHARDING table of the family: (regex on the parameter path, PartitionSpec); first match wins."""

    def layer_of(self, path: str) -> int:
        """Depth of a parameter for layer-wise learning rates: 0 is nearest the input, ``depth`` the head."""
        return 0

    @property
    def tables(self) -> dict[str, str]:
        """Parameters of which a step touches only the rows its batch names: path -> key of the batch's row numbers.

        The trainer puts the rows ``table[batch[key]]`` in the table's place while it differentiates, so that neither
        the gradient nor the optimiser ever has the table's size. See `suite.training.rows`.
        """
        return {}

    @property
    def depth(self) -> int:
        """The largest value of ``layer_of``."""
        return 0

    @property
    def shared_by_tensor(self) -> dict[str, int]:
        """Sizes that ``parallel.tensor`` must divide, by field: attention heads, each of which stays on one device."""
        return {}

    @property
    def prunable(self) -> "tuple[Units, ...]":
        """The PRUNING table of the family: what can be taken out of its layers whole. See `suite.compression.units`."""
        return ()

    def adopt(self, published: "ModelConfig") -> "ModelConfig":
        """This configuration with what decides the shape of the body taken from ``published`` weights' own.

        What training decides (classes, dropout, pooling) stays. Families that have published weights override it.

        Raises:
            InputError: ``published`` is of another family.
        """
        problem = f"{type(self).__module__} has no published weights to start from."
        raise InputError(
            "field checkpoint.init_from",
            problem,
            found=type(published).__module__,
            fix="a model of that family, or a run folder",
        )


FILES = ("image", "audio")
"""Kinds of inputs that are files."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """One thing that a request gives, for forms, schemas and checks before anything is encoded."""

    name: str
    """The column, or key of a JSON object."""
    kind: Literal["text", "image", "audio", "number", "category", "list"]
    """text; image and audio: the bytes of a file, or arrays; number; category: one value; list: several of them."""
    description: str = ""
    """What it is, for a person to read."""
    required: bool = True
    """Whether a request must give it; else it may be absent or null."""
    example: Any = None
    """A value in JSON that can be asked; None for what JSON does not hold."""
    limit: float = 0
    """Characters of a text, seconds of a recording, pixels of an image, items of a list that a request should not
    pass. 0: none."""
    choices: tuple[str, ...] = ()
    """Values seen in training, the frequent ones first, at most 100 of them; others may be given all the same."""


class Codec(ABC):
    """Both ends of an answer: what is asked as a model takes it, and what a model says as a person reads it.

    A final, frozen dataclass, made by `Task.codec` and stored as JSON; what it has learnt lies in the files of its
    Assets. It is all that serving needs of a task, so it loads neither JAX nor Flax nor the task.
    """

    @property
    @abstractmethod
    def inputs(self) -> tuple[Input, ...]:
        """What a request gives."""

    @property
    def primary(self) -> str:
        """The column that a bare value stands for: the text in ``predict(["..."])``."""
        return self.inputs[0].name

    @property
    def texts(self) -> tuple[str, ...]:
        """Columns that are texts whatever they look like. A table is typed by all of its records, and those of a
        request may look otherwise than those of training: ``007`` alone is a number, beside ``A12`` it is none."""
        return tuple(each.name for each in self.inputs if each.kind == "text")

    @property
    def longest(self) -> int:
        """The largest length that rows are padded to; 0 where they are of one shape."""
        return 0

    @property
    @abstractmethod
    def answer_schema(self) -> dict[str, Any]:
        """JSON schema of one answer."""

    @abstractmethod
    def encode(self, columns: Columns) -> dict[str, Any]:
        """Model-ready rows: arrays (b, ...) or Ragged. Other columns than ``inputs`` are left alone.

        Raises:
            InputError: a required column is missing, or holds what cannot be read.
        """

    @abstractmethod
    def decode(self, outputs: Mapping[str, np.ndarray]) -> Sequence[dict[str, Any]]:
        """One JSON-able answer a record, that a person can read, from arrays (b, ...)."""


class Task(ABC):
    """A kind of problem: a final, frozen dataclass with six batch-first methods and a codec.

    A model is called as ``model(inputs..., rngs=rngs)``. It trains where ``rngs`` is given: dropout acts, and batch
    statistics are those of the batch. A model of images is also given ``rows=batch["mask"]``, so that padding rows
    stay out of the statistics.
    """

    primary: ClassVar[str]
    """The field naming the column that a bare value stands for, e.g. the text in ``run.predict(["..."])``."""

    @property
    @abstractmethod
    def codec(self) -> Codec:
        """What a request needs of this task."""

    @abstractmethod
    def source(self, split: str) -> Source:
        """Cleaned records of a split, as a user would write them. Host."""

    @abstractmethod
    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """Model-ready rows: arrays (b, ...) or Ragged. Augments only when ``rng`` is given. Host.

        What the codec makes of a request, and what training and evaluation have besides: labels, augmentation. So the
        three cannot drift apart.
        """

    @abstractmethod
    def loss(self, model: Any, batch: Batch, rngs: "nnx.Rngs | None") -> "tuple[jax.Array, dict[str, Tally]]":
        """The mean loss, and tallies to log. Jitted.

        The tally ``loss`` is what the mean is over: of the rows, or of their tokens. Means of parts of a batch are
        joined by its count.
        """

    @abstractmethod
    def predict(self, model: Any, batch: Batch) -> "dict[str, jax.Array]":
        """The model's outputs, each (b, ...). Jitted; evaluated, exported and served as it is."""

    @abstractmethod
    def score(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Tally]:
        """Metrics of a batch over its unmasked rows, as sums in float64. Host."""

    def decode(self, outputs: Mapping[str, np.ndarray]) -> Sequence[dict[str, Any]]:
        """One JSON-able answer a record, that a person can read: the codec's. Host."""
        return self.codec.decode(outputs)

    def divergence(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> "jax.Array":
        """How far a student's answers are from a teacher's: nats (b,) a row, 0 for padding rows. Jitted.

        In the unit that the tally ``loss`` counts: of the row, or the sum over its tokens.

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
            fix="--distill.logits 0 --distill.hidden PART PART, to learn hidden states",
        )

    def exhibits(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> "dict[str, Exhibit]":
        """What a reader of a report should see, by title. Host.

        Args:
            columns: records (b, ...) as the data holds them.
            outputs: what ``predict`` said of them.
            batch: the same records encoded; none is padding.

        Exhibits of the same title add over batches, as tallies do. A task with nothing to show leaves this as it is.
        """
        return {}
