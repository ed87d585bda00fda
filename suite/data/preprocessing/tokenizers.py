"""Tokenizers: the contract of both kinds, and those that come with published weights.

A published tokenizer is a ``tokenizer.json``, BERT's ``vocab.txt``, GPT-2's and RoBERTa's ``vocab.json`` and
``merges.txt``, or a SentencePiece model (T5, Llama; Marian's with a ``vocab.json``). Whichever it is, the run keeps it
as one JSON file. Dims: b texts.
"""

import base64
import itertools
import json
import os
import shutil
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from suite.contracts.batch import Ragged
from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.preprocessing.tokenizer_engines import Engine, Located, Typed, engine
from suite.data.preprocessing.tokenizer_files import collected
from suite.data.reading import changed
from suite.errors import InputError
from suite.runtime import json_files
from suite.runtime.files import write_text


@dataclass(frozen=True, kw_only=True)
class Tokenizer(Preprocessor):
    """Texts to rows of ids, and back."""

    column: str = "text"
    """Field of the task that names the column of texts."""

    @abstractmethod
    def encode(
        self, texts: Sequence[str], max_length: int, sample: np.random.Generator | None = None, alpha: float = 0.1
    ) -> Ragged:
        """Ids of each of b texts, at most ``max_length`` a row, with the special tokens the model knows.

        Args:
            texts: b texts.
            max_length: most ids a row; special tokens stay, text is cut.
            sample: draws one of many segmentations, where the tokenizer can (arXiv 1804.10959).
            alpha: sharpness of that draw.

        Returns:
            int32 ids.
        """

    @abstractmethod
    def decode(self, ids: Sequence[Sequence[int]] | np.ndarray) -> list[str]:
        """Text of each row of ids; special tokens leave no trace."""

    @abstractmethod
    def targets(
        self, texts: Sequence[str], max_length: int, sample: np.random.Generator | None = None, alpha: float = 0.1
    ) -> Ragged:
        """As `encode`, rows that a decoder is to say: they close with ``end``."""

    @property
    @abstractmethod
    def end(self) -> int:
        """Id with which a decoder says that it is done."""

    def located(self, texts: Sequence[str], max_length: int) -> tuple[Ragged, np.ndarray]:
        """The ids of `encode`, and where the characters of each stand in its text.

        Args:
            texts: b texts, clean (`suite.data.preprocessing.text.clean`).
            max_length: as in `encode`.

        Returns:
            int32 ids, n of them, and (n, 2) int32: the first character and the one behind the last. Both are equal of
            what stands for no character, such as a special token.

        Raises:
            InputError: the tokenizer cannot tell.
        """
        raise InputError(
            "field task.tokenizer",
            f"{type(self).__name__} does not say where its tokens stand in a text.",
            fix="a SentencePiece or Published tokenizer",
        )

    def pairs(self, first: Sequence[str], second: Sequence[str], max_length: int) -> tuple[Ragged, Ragged]:
        """Two texts a row as one, with what the model knows between them. Of a row that is too long the longer text is
        cut.

        Args:
            first, second: b clean texts each.
            max_length: most ids a row.

        Returns:
            int32 ids, and int32 types: of which text a token is, 0 or 1, or 0 alone where the model knows one type.

        Raises:
            InputError: the tokenizer cannot join texts, or ``max_length`` leaves no room.
        """
        fix = "a SentencePiece or Published tokenizer"
        raise InputError("field task.tokenizer", f"{type(self).__name__} does not join two texts.", fix=fix)

    @property
    def closes(self) -> bool:
        """Whether each row of `encode` ends with a special token."""
        return False

    @property
    def mask(self) -> int:
        """Id that stands in the place of a hidden token.

        Raises:
            InputError: the tokenizer has none.
        """
        raise InputError(
            "field task.tokenizer",
            f"{type(self).__name__} has no token that stands for a hidden one.",
            fix="a SentencePiece tokenizer, or that of BERT, MiniLM, DistilBERT or RoBERTa",
        )

    def publish(self, folder: Path) -> None:
        """Write the tokenizer beside published weights, in a file that other libraries read."""
        shutil.copyfile(self.file, folder / f"tokenizer{self.suffix}")


def ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    """Rows of ids end to end, int32."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return Ragged(np.fromiter(itertools.chain.from_iterable(rows), np.int32, int(lengths.sum())), lengths)


def placed(rows: Sequence[Located]) -> tuple[Ragged, np.ndarray]:
    """Ids and places of each row, end to end, as `Tokenizer.located` returns them."""
    places = [place for _, row in rows for place in row]
    return ragged([ids for ids, _ in rows]), np.array(places, np.int32).reshape(-1, 2)


def typed(rows: Sequence[Typed]) -> tuple[Ragged, Ragged]:
    """Ids and types of each row, as `Tokenizer.pairs` returns them."""
    return ragged([ids for ids, _ in rows]), ragged([types for _, types in rows])


@dataclass(frozen=True, kw_only=True)
class Published(Tokenizer):
    """The tokenizer that weights were trained with. A model may have more rows than the ids in its ``sizes``."""

    suffix: ClassVar[str] = ".json"

    source: str = ""
    """A folder, or a name on the Hugging Face hub. Empty: that of the weights training starts from."""
    side: Literal["source", "target"] = "source"
    """Which of the two of a translation model that has one for each language; both index one table."""

    def __post_init__(self):
        super().__post_init__()
        if self.side == "target":
            object.__setattr__(self, "shares", True)

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Takes the tokenizer from the folder ``source`` and writes it to ``path``; the texts are not read.

        Raises:
            InputError: no folder is named, or it has no tokenizer that can be read.
        """
        if not self.source:
            raise InputError(
                "field task.tokenizer.source",
                "is empty, and training starts from no published weights.",
                fix="--checkpoint.init_from FOLDER",
            )
        content = collected(Path(self.source).expanduser(), self.side)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(content, encoding="utf-8")
        engine(str(partial), changed(str(partial)))  # so that a file that can't be used is refused now
        os.replace(partial, path)

    def check(self) -> None:
        _ = self._engine

    def sizes(self) -> dict[str, int]:
        """``vocab_size``: ids in use, the largest plus one."""
        return {"vocab_size": self._engine.size}

    def encode(
        self, texts: Sequence[str], max_length: int, sample: np.random.Generator | None = None, alpha: float = 0.1
    ) -> Ragged:
        if sample is not None:
            raise InputError(
                "field task.sampling", "a published tokenizer has one segmentation only.", fix="--task.sampling 0"
            )
        self._check_room(max_length)
        return ragged(self._engine.encode([str(text) for text in texts], max_length) if len(texts) else [])

    def located(self, texts: Sequence[str], max_length: int) -> tuple[Ragged, np.ndarray]:
        self._check_room(max_length)
        return placed(self._engine.located(list(texts), max_length) if len(texts) else [])

    def pairs(self, first: Sequence[str], second: Sequence[str], max_length: int) -> tuple[Ragged, Ragged]:
        self._check_room(max_length, pair=True)
        return typed(self._engine.pairs(list(first), list(second), max_length) if len(first) else [])

    def _check_room(self, max_length: int, pair: bool = False) -> None:
        specials = self._engine.pair_specials if pair else self._engine.specials
        if max_length < specials + 1 + pair:
            raise InputError(
                "field task.max_length", f"leaves no room beside {specials} special tokens.", found=str(max_length)
            )

    def targets(
        self, texts: Sequence[str], max_length: int, sample: np.random.Generator | None = None, alpha: float = 0.1
    ) -> Ragged:
        """The rows of `encode`: published decoders say what published tokenizers make of a text."""
        return self.encode(texts, max_length, sample, alpha)

    @property
    def end(self) -> int:
        """The last id of each row.

        Raises:
            InputError: rows end with none of their own.
        """
        if not self.closes:
            raise InputError(
                "field task.tokenizer",
                "its rows end with no token of their own, so that a decoder would never be done.",
                found=self.source or self.file,
                fix="the tokenizer of an encoder-decoder, such as T5's or Marian's",
            )
        return self._engine.encode(["a"], self._engine.specials + 1)[0][-1]

    def decode(self, ids: Sequence[Sequence[int]] | np.ndarray) -> list[str]:
        return self._engine.decode([[int(i) for i in row] for row in ids])

    @property
    def closes(self) -> bool:
        return self._engine.closes

    @property
    def mask(self) -> int:
        """BERT's ``[MASK]`` or RoBERTa's ``<mask>``."""
        for name in ("[MASK]", "<mask>"):
            ids = self._engine.encode([name], 16)[0]
            alone = [i for i in ids if i not in self._engine.encode([""], 16)[0]]
            if len(alone) == 1 and not self._engine.decode([alone])[0].strip():
                return int(alone[0])
        return super().mask

    def publish(self, folder: Path) -> None:
        about = json_files.read_object(self.file)
        if "sentencepiece" not in about:
            super().publish(folder)
            return
        (folder / about["name"]).write_bytes(base64.b64decode(about["sentencepiece"]))
        if about["vocab"] is not None:
            write_text(folder / "vocab.json", json.dumps(about["vocab"], ensure_ascii=False) + "\n")

    @property
    def _engine(self) -> Engine:
        return engine(self.file, changed(self.file))
