"""Datasets by name: prepared TFDS sets, and two small sets that need no file."""

import functools
import importlib.util
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.data import Data, Source
from suite.data import cache
from suite.data.sources.files import ArrayFile, Folder, Lines, Table, from_path, read_input
from suite.data.sources.memory import (
    ALIASES,
    SPLITS,
    Memory,
    Subset,
    carves_validation,
    check_split,
    not_empty,
    seeded_split,
)
from suite.data.sources.parallel_text import ParallelLines
from suite.distribution import install, missing
from suite.errors import InputError, MissingSplit

__all__ = [
    "SPLITS",
    "ArrayFile",
    "Digits",
    "Folder",
    "Lines",
    "Memory",
    "ParallelLines",
    "Subset",
    "SyntheticSentiment",
    "Table",
    "Tfds",
]
__all__ += ["SPLITS", "from_path", "read_input", "seeded_split"]


@dataclass(frozen=True, kw_only=True)
class Tfds(Data):
    """A dataset prepared by TensorFlow Datasets, read without TensorFlow. Nothing is ever downloaded here.

    Each split is decoded once, into a folder of the cache (SUITE_CACHE, else ~/.cache/suite), from which it is
    mapped into memory. Scalars, texts and images are read; nested and variable-length features are left out.
    """

    name: str
    """Name, with the config where there is one, and optionally a version: ``glue/sst2``, ``mnist:3.0.1``."""
    validation: float = 0.0
    """Share of the training split to hold out where the dataset has no validation split."""
    data_dir: str = ""
    """Folder of prepared datasets. Empty: TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    seed: int = 0
    """Seeds what is held out."""

    @property
    def origin(self) -> str:
        """The prepared version, and the address that its authors give."""
        info = self._info
        return ", ".join([f"{self.name} {info.get('version', '')}".strip(), *info.get("location", {}).get("urls", [])])

    @property
    def licence(self) -> str:
        """As its authors state it."""
        stated: str = self._info.get("redistributionInfo", {}).get("license", "")
        return stated

    @property
    def _info(self) -> dict[str, Any]:
        """What the prepared dataset says of itself; nothing where it is not prepared."""
        try:
            return cache.info(self._folder())
        except InputError:
            return {}

    def open(self, split: str) -> Source:
        """Records of a split, by the names of the dataset's features.

        Raises:
            InputError: the dataset is not prepared, has no such split, or is not stored as ArrayRecord.
        """
        where = f"dataset {self.name}"
        folder = self._folder()
        known = {ALIASES.get(name, name): name for name in cache.split_names(folder)}
        if split == "validation" and "validation" not in known and self.validation <= 0:
            fix = "set validation=0.1 to hold out a tenth of train"
            raise MissingSplit(where, "there is no split 'validation'", found=", ".join(known), fix=fix)
        carved = carves_validation(split, list(known), self.validation, where)
        stored = known["train"] if carved and split == "validation" else known[split]
        columns, schema, classes = cache.opened(folder, self.name, stored)
        source: Source = Memory(columns, schema, classes)
        if carved and split in ("train", "validation"):
            part = seeded_split(range(len(source)), self.seed, (self.validation, 0.0))
            source = Subset(source, np.flatnonzero(part == SPLITS.index(split)))
        return not_empty(source, split, where)

    def whole(self) -> Source | None:
        folder = self._folder()
        names = cache.split_names(folder)
        return Memory(*cache.opened(folder, self.name, names[0])) if len(names) == 1 else None

    def _folder(self) -> Path:
        """The folder of the newest prepared version, or of the one that was named."""
        name, _, version = self.name.partition(":")
        root = Path(self.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
        prepared = [path.parent for path in (root / name).glob(f"{version or '*'}/dataset_info.json")]
        if prepared:
            return max(prepared, key=lambda path: [int(n) if n.isdigit() else 0 for n in path.name.split(".")])
        build = ["tfds", "build", name, "--data_dir", str(root), "--file_format", "array_record"]
        names = sorted({str(path.parent.parent.relative_to(root)) for path in root.glob("**/dataset_info.json")})
        raise InputError(
            f"dataset {self.name}",
            f"it is not prepared in {root}",
            found=", ".join(names) or "no prepared dataset",
            fix=f"{install('prepare')} && {shlex.join(build)}",
        )


@dataclass(frozen=True, kw_only=True)
class Digits(Data):
    """1,797 handwritten digits of scikit-learn: columns ``image`` (8, 8, 1) uint8 0..255 and ``label``."""

    seed: int = 0
    """Seeds the 80/10/10 split."""

    @property
    def origin(self) -> str:
        return "Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, UCI), as scikit-learn carries it"

    def open(self, split: str) -> Source:
        """Records of a split. Raises InputError for an unknown one."""
        check_split(split, "digits")
        images, labels = _digits()
        part = seeded_split(range(len(labels)), self.seed, (0.1, 0.1))
        names = {"label": [str(digit) for digit in range(10)]}
        whole = Memory({"image": images, "label": labels}, {"image": "image", "label": "class"}, names)
        return Subset(whole, np.flatnonzero(part == SPLITS.index(split)))


@functools.lru_cache(maxsize=1)
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8, 1) of bytes and classes (1797,), of the table that scikit-learn is installed with.

    scikit-learn itself is not imported: with SciPy and pandas it takes longer than a small model takes to train.
    """
    try:
        found = importlib.util.find_spec("sklearn")
    except ValueError:  # a module that has no spec
        found = None
    table = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
    if table is None or not table.is_file():
        raise missing("scikit-learn", "for its digits", "examples")
    values = np.loadtxt(table, delimiter=",")
    images = np.rint(values[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)[..., None]
    return images, values[:, -1].astype(np.int64)


SUBJECTS = (
    "the plot",
    "the film",
    "the acting",
    "the script",
    "the ending",
    "the cast",
    "the music",
    "the pacing",
    "the dialogue",
    "the lead",
    "the camera work",
    "the story",
    "the second act",
    "the direction",
)
POSITIVE = ("good", "wonderful", "moving", "clever", "funny", "brilliant", "charming", "gripping", "fresh", "superb")
NEGATIVE = ("bad", "awful", "boring", "clumsy", "dull", "terrible", "tedious", "silly", "stale", "weak")
DEGREES = ("", "", "really ", "very ", "quite ", "particularly ")


@dataclass(frozen=True, kw_only=True)
class SyntheticSentiment(Data):
    """Made-up short reviews: columns ``text`` and ``label`` (0 negative, 1 positive), for tests and first steps.

    The text decides the true label: negation turns an opinion round, and after "but" only the last opinion counts,
    so counting words cannot solve it. A share ``noise`` of all labels, test included, is flipped at random: the best
    accuracy any model can expect is 1 - noise. A result on it says nothing about real text.
    """

    examples: int = 6000
    """Reviews over all splits (80/10/10)."""
    noise: float = 0.1
    """Probability that a label is flipped."""
    seed: int = 0
    """Seeds texts, flips and splits."""
    labels: tuple[str, str] = field(default=("negative", "positive"), init=False)
    """Names of the classes."""

    @property
    def best_accuracy(self) -> float:
        """The accuracy that no model can be expected to pass."""
        return 1 - self.noise

    @property
    def origin(self) -> str:
        """Says that the data is made up, for reports."""
        return f"synthetic (best reachable accuracy {self.best_accuracy:.3f})"

    def open(self, split: str) -> Source:
        """Records of a split. Raises InputError for an unknown or an empty one."""
        check_split(split, "synthetic sentiment")
        rng = np.random.default_rng(self.seed)
        pairs = [_review(rng) for _ in range(self.examples)]
        flips = rng.random(self.examples) < self.noise
        texts = [text for text, _ in pairs]
        labels = np.array([label for _, label in pairs], np.int64) ^ flips
        part = seeded_split(texts, self.seed, (0.1, 0.1))
        schema = {"text": "text", "label": "class"}
        whole = Memory({"text": texts, "label": labels}, schema, {"label": self.labels})
        source = Subset(whole, np.flatnonzero(part == SPLITS.index(split)))
        return not_empty(source, split, "synthetic sentiment", "raise examples")


def _clause(rng: np.random.Generator, positive: bool) -> str:
    """One opinion; half of them say it by negating the opposite word."""
    negated = bool(rng.integers(2))
    word = rng.choice(POSITIVE if positive != negated else NEGATIVE)
    verb = rng.choice(("is", "was")) + (" not " if negated else " ")
    return f"{rng.choice(SUBJECTS)} {verb}{rng.choice(DEGREES)}{word}"


def _review(rng: np.random.Generator) -> tuple[str, int]:
    """A review and its true label."""
    positive = bool(rng.integers(2))
    last = _clause(rng, positive)
    form = rng.integers(4)
    if form == 0:
        return f"{last} .", int(positive)
    if form == 1:
        return f"{_clause(rng, positive)} and {last} .", int(positive)
    other = _clause(rng, not positive)
    return (f"{other} , but {last} ." if form == 2 else f"although {other} , {last} ."), int(positive)
