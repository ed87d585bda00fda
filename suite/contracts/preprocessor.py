"""Preprocessor: a part of a task that is fitted once on the training split and stored in the run folder."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from suite.contracts.data import Source


@dataclass(frozen=True, kw_only=True)
class Preprocessor(ABC):
    """A part of preprocessing that is learnt once from the training split: tokenizer, statistics, label names.

    It is stored as one file in the run folder, and its state is always read from that file, so training,
    data workers, evaluation and serving hold the same thing.
    """

    suffix: ClassVar[str]
    """Extension of the file."""

    file: str = ""
    """A file fitted before. Empty: fit on the training split."""
    column: str
    """The attribute of the task that names the column this is learnt from; a tuple names several, learnt from as
    one. Each class has a default, so a task with two of a kind names another for the second."""
    part: str = ""
    """The part of a composite model whose sizes these are; empty: the model's own."""
    shares: bool = False
    """Whether another preprocessor may state the same sizes, which must then be equal, as where two tokenizers index
    one table. Without it a size that is stated twice is refused."""

    @abstractmethod
    def fit(self, source: Source, column: str, path: Path) -> None:
        """Learn from ``source[...][column]`` and write ``path``."""

    @abstractmethod
    def sizes(self) -> dict[str, Any]:
        """Sizes, or tuples of sizes, that a model must agree with, by the name of the ModelConfig field:
        ``{"outputs": 10}``. Of the part ``text`` they fill ``text.outputs``."""

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs whose number ``sizes`` states, in the model's order; empty where they have none."""
        return []

    def describe(self, source: Source, column: str) -> str:
        """What ``fit`` would make of the records, for a person to read; empty where there is nothing to decide."""
        return ""
