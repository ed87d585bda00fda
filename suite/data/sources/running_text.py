"""Running text: one long text that is read in stretches, each record a stretch of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.reading import existing, read_text, split_files
from suite.data.sources.memory import SPLITS, Memory, carves_validation, check_split, not_empty
from suite.data.sources.splitting import held_out_fix
from suite.errors import InputError


@dataclass(frozen=True, kw_only=True)
class RunningText(Data):
    """A text file, or a folder with one .txt file a split. One record a split: column ``text``, all of it.

    A single file is split by position, not by lines: the last part is test, the part before it validation.
    """

    path: str
    """The file or folder."""
    validation: float = 0.1
    """Share held out for validation where there is no such file."""
    test: float = 0.0
    """Share held out for test where the path is one file."""

    def open(self, split: str) -> Source:
        """The text of a split. Raises InputError: no such file or split, not UTF-8, or an empty split."""
        path = existing(self.path)
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            raise InputError(
                "fields data.validation and data.test",
                "must be at least 0 and sum to less than 1",
                found=f"{self.validation}, {self.test}",
            )
        files = split_files(path, (".txt",)) if path.is_dir() else {}
        if path.is_dir() and "train" not in files:
            raise InputError(self.path, "no train.txt in this folder", fix="name a file")
        text = self._carved(split, files) if files else self._part(split, read_text(path))
        source = Memory({"text": [text] if text.strip() else []}, {"text": "text"})
        return not_empty(source, split, self.path, held_out_fix("text", split))

    def _part(self, split: str, text: str) -> str:
        given = ["train", "validation"] + (["test"] if self.test else [])
        check_split(split, self.path, given)
        ends = [round(len(text) * share) for share in (0, 1 - self.validation - self.test, 1 - self.test, 1)]
        place = SPLITS.index(split)
        return text[ends[place] : ends[place + 1]]

    def _carved(self, split: str, files: dict[str, Path]) -> str:
        if not carves_validation(split, list(files), self.validation, self.path) or split == "test":
            return read_text(files[split])
        text = read_text(files["train"])
        end = round(len(text) * (1 - self.validation))
        return text[end:] if split == "validation" else text[:end]


class Stretches(Source):
    """Stretches of ``length`` characters, one beginning every ``stride`` characters; the last one ends the text.

    Columns: the text, and ``stretch``, the place where it begins.

    Args:
        text: the running text.
        length: characters a stretch.
        stride: characters from the beginning of one to that of the next.
        name: of the text column.
    """

    def __init__(self, text: str, length: int, stride: int, name: str = "text"):
        self._text, self._length, self._name = text, length, name
        self._starts = np.arange(0, max(len(text) - length, 0) + stride, stride)
        self._starts = np.unique(np.minimum(self._starts, max(len(text) - length, 0)))

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def schema(self) -> dict[str, str]:
        """The text column and ``stretch``."""
        return {self._name: "text", "stretch": "int"}

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        starts = self._starts[np.asarray(indices)]
        return {self._name: [self._text[i : i + self._length] for i in starts.tolist()], "stretch": starts}


def joined(source: Source, column: str) -> str:
    """All texts of a source as one, a line each."""
    texts: Sequence[Any] = source[np.arange(len(source))][column]
    return "\n".join(str(text) for text in texts)
