"""Artifacts of a split for the report: data that tasks collect and `suite.reporting` draws.

Artifacts of batches add, as tallies do, and what they keep of single records is bounded, or a few numbers each.
Dims: n records, c classes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from suite.contracts.artifact import Artifact
from suite.data.preprocessing.decision import EVEN, answered_classes, class_probabilities
from suite.evaluation.alignment import Pair, align

KEPT = 12
"""Examples that a gallery holds."""
PLAYED = 6
"""Records of which a page carries several recordings each."""
BINS = 15
"""Bins of a calibration diagram."""
MOST_CURVES = 20
"""Classes above which no curve of each is kept."""


@dataclass(frozen=True)
class Image:
    """A picture: uint8 (h, w, 1, 3 or 4)."""

    pixels: np.ndarray


@dataclass(frozen=True)
class Sound:
    """A recording: float32 samples (n,) at ``rate`` a second, or features (t, f) that were computed before.

    Attributes:
        marks: (seconds, name) of what begins where in the samples, such as phones; none: nothing is marked.
    """

    values: np.ndarray
    rate: int
    marks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class MarkedText:
    """A text with spans, each (first character, the one behind the last, label): those it has and those predicted."""

    text: str
    wanted: tuple[tuple[int, int, str], ...]
    answered: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class Framed:
    """A box on a picture.

    Attributes:
        box: left, top, right and bottom, in pixels.
        label: what stands beside it.
        right: whether it is found, or an answer that is right.
    """

    box: tuple[float, float, float, float]
    label: str
    right: bool


@dataclass(frozen=True)
class FramedImage:
    """A picture, uint8 (h, w, 1, 3 or 4), with the boxes that there are and those predicted."""

    pixels: np.ndarray
    wanted: tuple[Framed, ...]
    answered: tuple[Framed, ...]


Given = str | Image | Sound | MarkedText | FramedImage | Mapping[str, str | Image]
"""Input of a model: a text, a picture, a recording, a text in which spans are marked, or a record by column."""


def record(columns: Mapping[str, Any], names: Iterable[str], place: int) -> dict[str, str]:
    """The record at a place, by column, for a reader."""
    return {name: _cell(columns[name][place]) for name in names}


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:g}"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, np.ndarray) and value.ndim > 1:
        return "x".join(map(str, value.shape))
    return str(value)


@dataclass(frozen=True)
class Confusion(Artifact):
    """A confusion matrix.

    Attributes:
        names: of the c classes.
        counts: (c, c) int64, records by actual (rows) and predicted class (columns).
    """

    names: tuple[str, ...]
    counts: np.ndarray

    @classmethod
    def of(cls, names: Sequence[str], truth: np.ndarray, answered: np.ndarray) -> "Confusion":
        """From classes (n,) as integers."""
        size = len(names)
        counts = np.bincount(np.asarray(truth, np.int64) * size + answered, minlength=size**2)
        return cls(tuple(names), counts.reshape(size, size))

    def __add__(self, other: "Confusion") -> "Confusion":
        return replace(self, counts=self.counts + other.counts)


@dataclass(frozen=True)
class PrecisionRecall(Artifact):
    """How well probabilities tell each class from all others, at every threshold: precision, recall, ROC.

    Attributes:
        names: of the classes that have a curve: of two classes, the second one.
        scores: (n, c) float32.
        truth: (n, c) bool.
    """

    names: tuple[str, ...]
    scores: np.ndarray
    truth: np.ndarray

    def __add__(self, other: "PrecisionRecall") -> "PrecisionRecall":
        scores = np.concatenate([self.scores, other.scores])
        return replace(self, scores=scores, truth=np.concatenate([self.truth, other.truth]))


@dataclass(frozen=True)
class Calibration(Artifact):
    """Whether probabilities are right: by bins of equal width, how likely an event was said to be and how often it
    came about.

    Attributes:
        event: what the probability is of.
        predicted: (bins,) sums of probabilities.
        happened: (bins,) how often it came about.
        counts: (bins,) records.
    """

    event: str
    predicted: np.ndarray
    happened: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, event: str, probabilities: np.ndarray, happened: np.ndarray, bins: int = BINS) -> "Calibration":
        """From probabilities (n,) and whether it came about (n,)."""
        place = np.minimum((probabilities * bins).astype(int), bins - 1)
        return cls(event, *(np.bincount(place, weights, bins) for weights in (probabilities, happened, None)))

    def __add__(self, other: "Calibration") -> "Calibration":
        return Calibration(
            self.event, self.predicted + other.predicted, self.happened + other.happened, self.counts + other.counts
        )

    @property
    def error(self) -> float:
        """Expected calibration error (arXiv 1706.04599); nan over nothing."""
        count = self.counts.sum()
        return float(np.abs(self.predicted - self.happened).sum() / count) if count else float("nan")


@dataclass(frozen=True)
class Example:
    """One record in a gallery.

    Attributes:
        given: what the model was given.
        wanted: what is right; empty where nothing stands against the answer.
        answered: what the model said.
        loss: how wrong that is; the largest are kept.
        note: a remark for the reader.
    """

    given: Given
    wanted: str
    answered: str
    loss: float
    note: str = ""


@dataclass(frozen=True)
class Gallery(Artifact):
    """The records that went worst.

    Attributes:
        about: what they are, a sentence.
        examples: the worst first.
        among: records that they were chosen from.
        aligned: whether wanted and answered are texts to be laid beside each other word by word.
    """

    about: str
    examples: tuple[Example, ...]
    among: int
    aligned: bool = False

    @classmethod
    def worst(cls, about: str, losses: np.ndarray, show: Callable[[int], Example], aligned: bool = False) -> "Gallery":
        """The records of the largest losses (n,) of those that are not nan, each made by ``show`` of its place."""
        real = np.flatnonzero(~np.isnan(losses))
        chosen = real[np.argsort(-losses[real], kind="stable")][:KEPT]
        return cls(about, tuple(show(int(place)) for place in chosen), len(real), aligned)

    def __add__(self, other: "Gallery") -> "Gallery":
        both = sorted((*self.examples, *other.examples), key=lambda example: -example.loss)
        return replace(self, examples=tuple(both[:KEPT]), among=self.among + other.among)


@dataclass(frozen=True)
class Remade(Artifact):
    """Recordings beside what a model made of them: those that are farthest from each other.

    Attributes:
        about: what they are, a sentence.
        records: (distance, name, recordings by what each one is), the farthest first.
        among: records that they were chosen from.
    """

    about: str
    records: tuple[tuple[float, str, tuple[tuple[str, Sound], ...]], ...]
    among: int

    @classmethod
    def farthest(
        cls, about: str, distances: np.ndarray, show: Callable[[int], tuple[str, tuple[tuple[str, Sound], ...]]]
    ) -> "Remade":
        """The records of the largest distances (n,) of those that are not nan, each made by ``show`` of its place."""
        real = np.flatnonzero(~np.isnan(distances))
        chosen = real[np.argsort(-distances[real], kind="stable")][:PLAYED]
        return cls(about, tuple((float(distances[place]), *show(int(place))) for place in chosen), len(real))

    def __add__(self, other: "Remade") -> "Remade":
        both = sorted((*self.records, *other.records), key=lambda record: -record[0])
        return replace(self, records=tuple(both[:PLAYED]), among=self.among + other.among)


@dataclass(frozen=True)
class Edits(Artifact):
    """Word errors: pairs of `suite.evaluation.alignment` with their numbers.

    Attributes:
        pairs: (wanted, answered) -> how often; equal ones included, ``""`` for a word left out or put in.
    """

    pairs: Counter[Pair] = field(default_factory=Counter)

    @classmethod
    def of(cls, wanted: Sequence[str], answered: Sequence[str]) -> "Edits":
        """From n texts each, aligned word by word."""
        pairs: Counter[Pair] = Counter()
        for right, said in zip(wanted, answered, strict=True):
            pairs.update(align(right.split(), said.split()))
        return cls(pairs)

    def __add__(self, other: "Edits") -> "Edits":
        return Edits(self.pairs + other.pairs)

    @property
    def words(self) -> int:
        """Words that were wanted."""
        return sum(count for (wanted, _), count in self.pairs.items() if wanted)

    @property
    def edits(self) -> int:
        """Words that were substituted, deleted or inserted."""
        return sum(count for (wanted, answered), count in self.pairs.items() if wanted != answered)


@dataclass(frozen=True)
class Lists(Artifact):
    """What is ranked for whom: each record stands in the list of its owner.

    Attributes:
        owner: what an owner is, such as ``"user"``.
        owners: n, whose list each record is in.
        items: n, what each record is called.
        scores: (n,) by which it is ranked, the highest first.
        wanted: (n,) bool, whether it belongs at the top.
    """

    owner: str
    owners: tuple[str, ...]
    items: tuple[str, ...]
    scores: np.ndarray
    wanted: np.ndarray

    def __add__(self, other: "Lists") -> "Lists":
        return Lists(
            self.owner,
            self.owners + other.owners,
            self.items + other.items,
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.wanted, other.wanted]),
        )


@dataclass(frozen=True)
class Spread(Artifact):
    """How a number is spread over the records, of one kind or several.

    Attributes:
        quantity: what it is, with its unit.
        values: kind of record -> (m,) numbers.
    """

    quantity: str
    values: Mapping[str, np.ndarray]

    def __add__(self, other: "Spread") -> "Spread":
        joined = {kind: np.concatenate([values, other.values[kind]]) for kind, values in self.values.items()}
        return replace(self, values=joined)


@dataclass(frozen=True)
class Shares(Artifact):
    """How often each of several things comes about, by group.

    Attributes:
        of: what is counted, such as ``"held-out items"``.
        groups: names of the g groups.
        events: names of the m things.
        counts: (g,) int64 of each group.
        happened: (g, m) int64, how often each came about.
    """

    of: str
    groups: tuple[str, ...]
    events: tuple[str, ...]
    counts: np.ndarray
    happened: np.ndarray

    def __add__(self, other: "Shares") -> "Shares":
        return replace(self, counts=self.counts + other.counts, happened=self.happened + other.happened)


@dataclass(frozen=True)
class Scatter(Artifact):
    """Predicted numbers beside the right ones.

    Attributes:
        quantity: what they are.
        predicted: (n,) float64.
        targets: (n,) float64.
    """

    quantity: str
    predicted: np.ndarray
    targets: np.ndarray

    def __add__(self, other: "Scatter") -> "Scatter":
        predicted = np.concatenate([self.predicted, other.predicted])
        return replace(self, predicted=predicted, targets=np.concatenate([self.targets, other.targets]))


@dataclass(frozen=True)
class LabelCounts(Artifact):
    """How often each label is answered, right, and both.

    Attributes:
        names: of the c labels.
        answered, actual, hits: (c,) int64 records.
        records: in all.
        exact: records whose labels are all answered, and no other.
    """

    names: tuple[str, ...]
    answered: np.ndarray
    actual: np.ndarray
    hits: np.ndarray
    records: int
    exact: int

    @classmethod
    def of(cls, names: Sequence[str], answered: np.ndarray, actual: np.ndarray) -> "LabelCounts":
        """From bool (n, c) each."""
        exact = int((answered == actual).all(-1).sum())
        return cls(tuple(names), answered.sum(0), actual.sum(0), (answered & actual).sum(0), len(answered), exact)

    def __add__(self, other: "LabelCounts") -> "LabelCounts":
        return LabelCounts(
            self.names,
            self.answered + other.answered,
            self.actual + other.actual,
            self.hits + other.hits,
            self.records + other.records,
            self.exact + other.exact,
        )


def class_artifacts(
    logits: np.ndarray, labels: np.ndarray, names: Sequence[str], given: Callable[[int], Given], threshold: float = EVEN
) -> dict[str, Artifact]:
    """Artifacts of a classifier: confusion matrix, precision-recall and ROC curves, calibration, confident errors.

    Args:
        logits: (n, c).
        labels: (n,) the right classes; records of classes that training does not have, below 0, are left out.
        names: of the c classes.
        given: place of a record -> what the model was given.
        threshold: of two classes, the probability from which the second one is answered.
    """
    known = np.flatnonzero(np.asarray(labels) >= 0)
    shares, labels = class_probabilities(np.asarray(logits)[known]), np.asarray(labels)[known]
    rows, answered = np.arange(len(labels)), answered_classes(shares, threshold)
    surest, right = shares[rows, answered], answered == labels

    def show(i: int) -> Example:
        said, is_ = (f"{names[k]} ({100 * shares[i, k]:.0f} %)" for k in (answered[i], labels[i]))
        return Example(given(int(known[i])), wanted=is_, answered=said, loss=float(surest[i]))

    artifacts: dict[str, Artifact] = {"Confusion matrix": Confusion.of(names, labels, answered)}
    if len(names) <= MOST_CURVES:
        positives = [1] if len(names) == 2 else list(range(len(names)))
        truth = np.asarray(labels)[:, None] == np.array(positives)
        of = tuple(names[k] for k in positives)
        artifacts["Precision-recall and ROC curves"] = PrecisionRecall(
            of, shares[:, positives].astype(np.float32), truth
        )
    artifacts["Calibration"] = Calibration.of("the predicted class", surest, right)
    about = "Wrong predictions of the highest probability; in brackets, the predicted probability of that class."
    artifacts["Most confident errors"] = Gallery.worst(about, np.where(right, np.nan, surest), show)
    return artifacts
