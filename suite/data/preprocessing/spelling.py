"""Spelling: texts as the symbols that are spoken, characters or phones, learnt from the training split.

Symbol 0 is the pause, which stands at both ends of each sentence.
"""

import functools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from suite.contracts.batch import Ragged
from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.preprocessing.spoken_numbers import spoken
from suite.data.preprocessing.text import clean
from suite.data.reading import changed
from suite.data.sources.memory import cleaned
from suite.errors import InputError
from suite.runtime import json_files

PAUSE = "_"
"""How the pause is written among phones."""
_PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "\N{NO-BREAK SPACE}": " "})
_ENDS = re.compile(r"""(?<=[.!?…])["')\]]*\s+|(?<=[。！？])\s*(?=\S)""")
"""Between two sentences."""
NAMED = 8
"""Characters that a remark names."""


@dataclass(frozen=True, kw_only=True)
class Spelling(Preprocessor):
    """Symbols of texts: those of the training split; others are left out, and named."""

    suffix: ClassVar[str] = ".json"

    column: str = "text"
    """Field of the task that names the column of texts."""
    unit: Literal["characters", "phones"] = "characters"
    """What a symbol is: a character; or a phone, in texts of phones between blanks, ``_`` being a pause."""
    language: str = "en"
    """Language in which numbers are spelt out, by its code; of English, abbreviations too. Empty: neither is."""
    lowercase: bool = True
    """Fold case of characters."""

    @property
    def symbols(self) -> list[str]:
        """All of them, the pause first."""
        return _symbols(self.file, changed(self.file))

    def sizes(self) -> dict[str, int]:
        """``symbols``: their number."""
        return {"symbols": len(self.symbols)}

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the symbols of all texts to ``path``, sorted. Raises InputError: there are none."""
        found: set[str] = set()
        for start in range(0, len(source), 4096):
            texts = source.column(column, np.arange(start, min(start + 4096, len(source))))
            found.update(symbol for text in texts for sentence in self.sentences(text) for symbol in sentence)
        if not found - {PAUSE}:
            raise InputError(f"column {column}", "no text holds anything to be spoken", fix="check the texts")
        path.write_text(json.dumps({"symbols": [PAUSE, *sorted(found - {PAUSE})]}, ensure_ascii=False), "utf-8")

    def sentences(self, text: Any) -> list[list[str]]:
        """Symbols of each sentence, as they are spoken, before any is left out; phones are one sentence."""
        if self.unit == "phones":
            phones = str(text).split()
            return [phones] if phones else []
        return [list(sentence) for sentence in _ENDS.split(self._forms(text)[1]) if sentence]

    def _forms(self, text: Any) -> tuple[str, str]:
        """A text as it is written, and as it is spoken, with numbers and signs in words."""
        plain = unicodedata.normalize("NFKC", clean(str(text)).translate(_PLAIN))
        said = spoken(plain, self.language) if self.language else plain
        written, said = (" ".join((form.lower() if self.lowercase else form).split()) for form in (plain, said))
        return written, said

    def length(self, text: Any) -> int:
        """Symbols of a text of which nothing is left out, with its pauses; 0 where it has nothing but pauses."""
        sentences = self.sentences(text)
        spoken = any(symbol != PAUSE for sentence in sentences for symbol in sentence)
        return sum(len(sentence) + 1 for sentence in sentences) + 1 if spoken else 0

    def encode(self, texts: Sequence[Any]) -> tuple[Ragged, list[Counter[str]]]:
        """Symbols of each text, int32 rows; and what was left out of each, by how often: symbols, but for blanks, or a
        number or sign as it is written, where the words for it have other symbols."""
        places = _places(self.file, changed(self.file))
        rows, left_out = [], []
        for text in texts:
            missing: Counter[str] = Counter()
            row = [0]
            for sentence in self.sentences(text):
                known = [places[symbol] for symbol in sentence if symbol in places]
                missing.update(symbol for symbol in sentence if symbol not in places and not symbol.isspace())
                # A pause that is written at an end is the one that stands there anyway.
                row += known[1:] if known[:1] == [0] else known
                row += [] if row[-1] == 0 else [0]
            rows.append(row)
            left_out.append(self._as_written(text, missing) if missing and self.unit == "characters" else missing)
        values = np.array([symbol for row in rows for symbol in row], np.int32)
        return Ragged(values, np.array([len(row) for row in rows], np.int64)), left_out

    def _as_written(self, text: Any, missing: Collection[str]) -> Counter[str]:
        written, said = (form.split() for form in self._forms(text))
        counts: Counter[str] = Counter()
        for change, start, end, first, last in SequenceMatcher(None, written, said, autojunk=False).get_opcodes():
            unknown = [symbol for word in said[first:last] for symbol in word if symbol in missing]
            source = " ".join(written[start:end])
            own = [symbol for symbol in unknown if symbol in source]
            spelt_out = "".join(letter for letter in source if letter not in own).strip()
            counts.update([*own, spelt_out] if change == "replace" and len(own) < len(unknown) else unknown)
        return counts

    def spell(self, symbols: Sequence[int]) -> list[str]:
        """What each symbol is."""
        known = self.symbols
        return [known[symbol] for symbol in symbols]

    def remark(self, source: Source, column: str, split: str) -> list[str]:
        """A line on what is left out of the texts of a split; nothing where all is known."""
        missing: Counter[str] = Counter()
        for start in range(0, len(source), 4096):
            texts = source.column(column, np.arange(start, min(start + 4096, len(source))))
            for left_out in self.encode(texts)[1]:
                missing.update(left_out)
        if not missing:
            return []
        named = ", ".join(f'"{symbol}" {count:,}' for symbol, count in missing.most_common(NAMED))
        more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
        return [f"{split}: {self.unit} that training does not have are not spoken: {named}{more}"]


def with_spoken_texts(source: Source, column: str, spelling: Spelling, most: int) -> Source:
    """The records whose text has something to be spoken, in at most ``most`` symbols; the others are dropped, counted
    and named."""
    texts = source.column(column, np.arange(len(source)))
    lengths = np.array([0 if text is None or text != text else spelling.length(text) for text in texts], np.int64)
    usable = cleaned(source, {"no text": lengths == 0, f"text longer than {most} symbols": lengths > most})
    if not len(usable):
        problem, fix = "no record has a text that can be spoken.", "check the texts, or raise --task.max_symbols"
        found = "; ".join(f"{reason}: {count:,}" for reason, count in usable.dropped.items())
        raise InputError(f"column {column}", problem, found=found, fix=fix)
    return usable


@functools.lru_cache(maxsize=16)
def _symbols(file: str, written: int) -> list[str]:
    return json_files.load(file, lambda content: json_files.texts(content["symbols"]))


@functools.lru_cache(maxsize=16)
def _places(file: str, written: int) -> dict[str, int]:
    return {symbol: place for place, symbol in enumerate(_symbols(file, written))}
