"""Transcripts as the symbols of a CTC model. Symbol 0 is the blank, symbol 1 stands for all others."""

import functools
import json
import re
import unicodedata
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from suite.contracts.batch import Ragged
from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.notes import told
from suite.data.preprocessing.text import BEGIN, END, PAD, SentencePiece, clean
from suite.data.reading import changed
from suite.data.sources.memory import Subset, cleaned
from suite.errors import InputError
from suite.runtime import json_files

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""How a symbol that training has not seen is written."""
_SILENT = re.compile(r"[^\w\s']|_")
_SARA_AM, _LAO_AM = ("\u0e4d\u0e32", "\u0e33"), ("\u0ecd\u0eb2", "\u0eb3")
"""Two vowel signs as NFKC takes them apart, and as Thai and Lao are written."""
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"


def _unspoken(text: str) -> str:
    """The text with a blank for each character that is no letter, digit, apostrophe or blank.

    A letter keeps the marks that follow it, such as vowel signs (Unicode's Mn and Mc), and the joiners within a word.
    """
    if text.isascii():
        return _SILENT.sub(" ", text)
    letters: list[str] = []
    spelt = False  # whether a mark may follow
    for place, letter in enumerate(text):
        if spelt and (unicodedata.category(letter) in ("Mn", "Mc") and not _is_variation(letter)):
            letters.append(letter)
        elif spelt and letter in _JOINERS:
            if place + 1 < len(text) and text[place + 1].isalnum():
                letters.append(letter)
        elif spelt and _is_variation(letter):
            continue
        else:
            spelt = letter.isalnum()
            letters.append(letter if spelt or letter.isspace() or letter == "'" else " ")
    return "".join(letters)


def _is_variation(letter: str) -> bool:
    """Whether it chooses how the character before it is drawn, and spells nothing."""
    return "\ufe00" <= letter <= "\ufe0f" or "\U000e0100" <= letter <= "\U000e01ef"


@dataclass(frozen=True, kw_only=True)
class Transcriber(Preprocessor):
    """Turns transcripts into symbols and back."""

    column: str = "text"
    """Field of the task that names the column of texts."""

    lowercase: bool = True
    """Fold case."""
    punctuation: bool = False
    """Keep what is not spoken; the apostrophe always stays."""
    marks: bool = True
    """Keep the combining marks of letters, such as the vowel signs of Hindi, Tamil, Thai and pointed Arabic, and the
    joiners within words. Without it each becomes a blank."""

    @abstractmethod
    def encode(self, texts: Sequence[str], to: int) -> Ragged:
        """int32 symbols of each normalised text, cut at ``to`` and padded to it."""

    @property
    @abstractmethod
    def units(self) -> list[str]:
        """What each symbol spells; a blank at its beginning ends a word."""

    @property
    def outputs(self) -> list[str]:
        return self.units

    def normalise(self, text: Any) -> str:
        """The text as it is learnt and scored: Unicode NFKC, single blanks, and case, punctuation and marks as set."""
        normal = unicodedata.normalize("NFKC", clean(str(text))).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        if not self.punctuation:
            normal = _unspoken(normal) if self.marks else _SILENT.sub(" ", normal)
        if self.marks:
            normal = normal.replace(*_SARA_AM).replace(*_LAO_AM)
        return " ".join((normal.lower() if self.lowercase else normal).split())

    def spell(self, symbols: Sequence[int]) -> str:
        """The text of symbols."""
        units = self.units
        return " ".join("".join(units[i] for i in symbols).split())


@dataclass(frozen=True, kw_only=True)
class Characters(Transcriber):
    """One symbol a character, those of the training split."""

    suffix: ClassVar[str] = ".json"

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the characters to ``path``, sorted. Raises InputError: there are none."""
        characters: set[str] = set()
        for start in range(0, len(source), 4096):
            chunk = source[np.arange(start, min(start + 4096, len(source)))]
            characters.update(*(self.normalise(text) for text in chunk[column]))
        if not characters:
            raise InputError(f"column {column}", "no transcript holds a letter or digit", fix="check the transcripts")
        path.write_text(json.dumps({"characters": "".join(sorted(characters))}, ensure_ascii=False), encoding="utf-8")

    def sizes(self) -> dict[str, int]:
        """``outputs``: symbols, blank and unknown included."""
        return {"outputs": len(self.units)}

    @property
    def units(self) -> list[str]:
        return _characters(self.file, changed(self.file))

    def encode(self, texts: Sequence[str], to: int) -> Ragged:
        places = {unit: place for place, unit in enumerate(self.units)}
        rows = [[places.get(letter, 1) for letter in self.normalise(text)[:to]] for text in texts]
        return _ragged(rows, to)


@dataclass(frozen=True, kw_only=True)
class Pieces(Transcriber):
    """Subwords by SentencePiece (arXiv 1808.06226), for long recordings and many words."""

    suffix: ClassVar[str] = ".model"

    vocab_size: int = 256
    """Most pieces to learn."""
    algorithm: Literal["unigram", "bpe"] = "unigram"
    """How they are learnt."""

    @property
    def _model(self) -> SentencePiece:
        return SentencePiece(
            file=self.file,
            vocab_size=self.vocab_size,
            kind=self.algorithm,
            lowercase=self.lowercase,
            character_coverage=1.0,
        )

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the model to ``path``. Raises InputError: no text, or a vocabulary smaller than the alphabet."""
        self._model.fit(_Normalised(source, self, column), column, path)

    def sizes(self) -> dict[str, int]:
        """``outputs``: pieces, with the four that stand for none."""
        return {"outputs": len(self.units)}

    @property
    def units(self) -> list[str]:
        return _pieces(self.file, changed(self.file))

    def encode(self, texts: Sequence[str], to: int) -> Ragged:
        pieces = self._model.encode([self.normalise(text) for text in texts], to + 1)
        ends = np.cumsum(pieces.lengths)
        rows = [
            pieces.values[end - length + 1 : end].tolist() for end, length in zip(ends, pieces.lengths, strict=True)
        ]
        return _ragged(rows, to)


class _Normalised(Subset):
    """Records with a column of transcripts as they are learnt."""

    def __init__(self, source: Source, transcriber: Transcriber, column: str):
        super().__init__(source, np.arange(len(source)))
        self._transcriber, self._column = transcriber, column

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        columns = super().__getitem__(indices)
        return {**columns, self._column: [self._transcriber.normalise(text) for text in columns[self._column]]}


def _ragged(rows: list[list[int]], to: int) -> Ragged:
    lengths = np.array([len(row) for row in rows], np.int64)
    return Ragged(np.array([symbol for row in rows for symbol in row], np.int32), lengths, to)


@functools.lru_cache(maxsize=16)
def _characters(file: str, written: int) -> list[str]:
    return ["", UNKNOWN, *json_files.load(file, lambda content: json_files.texts(list(content["characters"])))]


@functools.lru_cache(maxsize=16)
def _pieces(file: str, written: int) -> list[str]:
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=file)
    pieces = [model.id_to_piece(i).replace("\N{LOWER ONE EIGHTH BLOCK}", " ") for i in range(model.get_piece_size())]
    return ["" if i in (PAD, BEGIN, END) else UNKNOWN if i == 1 else piece for i, piece in enumerate(pieces)]


def with_transcripts(source: Source, column: str, transcriber: Transcriber, most: int) -> Source:
    """The records with something said, of at most ``most`` characters; the others are dropped, counted and named."""
    values = source[np.arange(len(source))][column]
    lengths = np.array([0 if value is None else len(transcriber.normalise(value)) for value in values], np.int64)
    usable = cleaned(source, {"no text": lengths == 0, f"text longer than {most}": lengths > most})
    if not len(usable):
        raise InputError(
            f"column {column}",
            "no record has a transcript that can be used.",
            found="; ".join(told(usable.dropped, usable.dropped_names)),
            fix="check the transcripts, name their column by --task.text, or raise --task.max_text",
        )
    return usable
