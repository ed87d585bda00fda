"""Preprocessor and Postprocessor: parts of a task that are learnt once and stored in the run folder."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from suite.contracts.bounds import Bounds, check_bounds
from suite.contracts.data import Source

ROWS_MULTIPLE = 64
"""Of which the rows of a table are a multiple."""


@dataclass(frozen=True, kw_only=True)
class Preprocessor(ABC):
    """A part of preprocessing that is learnt once from the training split: tokenizer, statistics, label names.

    It is stored as one file in the run folder, and its state is always read from that file, so training,
    data workers, evaluation and serving hold the same thing.
    """

    suffix: ClassVar[str]
    """Extension of the file."""
    stacks: ClassVar[bool] = True
    """Whether several columns are learnt from as one; otherwise ``fit`` and ``describe`` are given all their names."""
    number_bounds: ClassVar[Bounds] = {}
    """Of its numbers."""
    of_weights: ClassVar[tuple[str, ...]] = ()
    """Fields that are those of the run which its part starts from, and so is the file: what weights were trained on
    they are given. Empty: learnt anew."""

    file: str = ""
    """A file fitted before. Empty: fit on the training split."""
    column: str
    """The attribute of the task that names the column this is learnt from; a tuple names several (``stacks``). Each
    class has a default, so a task with two of a kind names another for the second."""
    part: str = ""
    """The part of a composite model whose sizes these are; empty: the model's own."""
    shares: bool = False
    """Whether another preprocessor may state the same sizes, which must then be equal, as where two tokenizers index
    one table. Without it a size that is stated twice is refused."""

    def __post_init__(self) -> None:
        check_bounds(self, self.number_bounds)

    @abstractmethod
    def fit(self, source: Source, column: str, path: Path) -> None:
        """Learn from ``source[...][column]`` and write ``path``."""

    @abstractmethod
    def sizes(self) -> dict[str, Any]:
        """Sizes, or tuples of sizes, that a model must agree with, by the name of the ModelConfig field:
        ``{"outputs": 10}``. Of the part ``text`` they fill ``text.outputs``."""

    def check(self) -> None:
        """Looks at its file before anything is asked, where reading one from elsewhere may end a process.

        Raises:
            InputError: it cannot be used.
        """
        return

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs whose number ``sizes`` states, in the model's order; empty where they have none."""
        return []

    def describe(self, source: Source, column: str) -> str:
        """What ``fit`` would make of the records, for a person to read; empty where there is nothing to decide."""
        return ""


@dataclass(frozen=True, kw_only=True)
class Postprocessor(Preprocessor):
    """A part of an answer that is learnt at the end of training, from what the best checkpoint says of the validation
    split: a threshold, a temperature. `Task.conclude` learns it.

    Until then, and where nothing is to be learnt, it has no file and changes nothing.
    """

    column: str = "data"
    """Nothing is learnt from a column."""

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Nothing is learnt before training."""

    def sizes(self) -> dict[str, Any]:
        """A model agrees with none."""
        return {}

    @property
    @abstractmethod
    def notes(self) -> tuple[str, ...]:
        """What was learnt, a sentence each, for a reader of a report; none without a file."""


@dataclass(frozen=True)
class Conclusion:
    """What a Postprocessor has learnt.

    Attributes:
        content: what its file holds, as JSON.
        notes: what that is, a sentence each.
    """

    content: Mapping[str, Any]
    notes: tuple[str, ...]


def padded_rows(count: int) -> int:
    """Rows of a table for ``count`` of what is learnt: a few more, so that any usual number of devices can share it."""
    return -(-count // ROWS_MULTIPLE) * ROWS_MULTIPLE
