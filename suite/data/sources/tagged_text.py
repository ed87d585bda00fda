"""Tagged text: files with a word and its tag a line, as CoNLL's, and a blank line between sentences."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.reading import existing, lines, read_text, split_files, wide_encoding
from suite.data.sources.memory import LeftOut, Memory, check_split, noted
from suite.data.sources.splitting import files_notes, held_out_fix, own_split, records_of
from suite.errors import InputError

EXTENSIONS = (".conll", ".bio", ".iob", ".iob2", ".bioes", ".bilou")
"""Extensions that such files have, besides .txt and .tsv."""
_TAG = re.compile(r"O|[BIESLUM]-\S+")
_BREAK = "-DOCSTART-"
_LOOK = 200
"""Lines by which it is judged whether a file is one of these."""
_BEGIN, _END = "BSU", "ESL"
"""Letters of tags before which a span ends, and after which it does."""


@dataclass(frozen=True, kw_only=True)
class TaggedText(Data):
    """Columns by tabs or blanks: the word first, the tag last. A file, or a folder with one file a split.

    Tags are IOB2 (BIO), IOB1, BIOES or BILOU, which ``notes`` tells; where a span goes on without having begun, it
    begins there, as conlleval has it. A sentence is its words with a blank between each two. Lines of ``#`` before a
    sentence and of ``-DOCSTART-`` are left out; sentences with a line that has no tag are dropped and counted.
    Columns: ``text`` and ``spans``, a JSON list of [start, end, label] in characters.
    """

    path: str
    """The file or folder."""
    validation: float = 0.1
    """Share held out for validation where there is no such file."""
    test: float = 0.1
    """Share held out for test where the path is one file."""
    seed: int = 0
    """Seeds what is held out, by a hash of the sentence."""

    def open(self, split: str) -> Source:
        """Sentences of a split.

        Raises:
            InputError: no such file or split, not UTF-8, no line with a tag, or an empty split.
        """
        path = existing(self.path)
        check_split(split, self.path)
        files = tagged_files(path) if path.is_dir() else {}
        if path.is_dir() and not files:
            listing = ", ".join(sorted(item.name for item in path.iterdir())[:10]) or "an empty folder"
            fix = f"name a file, or call one train{EXTENSIONS[0]}"
            raise InputError(self.path, "no file of tagged words named train.* in this folder", found=listing, fix=fix)
        given = "train" if split == "validation" and split not in files else split
        source = _read(files.get(given, files["train"]) if files else path)
        part = lambda fractions: own_split(source.column("text", np.arange(len(source))), self.seed, fractions)
        chosen = records_of(source, split, self, part, list(files), held_out_fix("sentences", split))
        return noted(chosen, files_notes(path, files) if files else ())


def tagged_files(folder: Path) -> dict[str, Path]:
    """Split -> file of tagged words in a folder; nothing where train is none."""
    named = split_files(folder, EXTENSIONS)
    if "train" in named:
        return named
    plain = split_files(folder, (".txt", ".tsv"))
    return plain if "train" in plain and is_tagged(plain["train"]) else {}


def is_tagged(file: Path) -> bool:
    """Whether a file holds a word and a tag a line, by its first lines."""
    if file.suffix.lower() == ".gz":
        return False
    with open(file, "rb") as stream:
        head = stream.read(1 << 14)
    if wide_encoding(head):
        return False
    rows = [_columns(line) for line in head.decode("utf-8-sig", "replace").split("\n")[:_LOOK][:-1]]
    rows = [row for row in rows if row and row[0] != _BREAK and not row[0].startswith("#")]
    inside = any(row[-1] != "O" for row in rows)
    return inside and all(len(row) > 1 and _TAG.fullmatch(row[-1]) for row in rows)


def _read(file: Path) -> Memory:
    """All sentences of a file.

    Raises:
        InputError: not UTF-8, or no sentence with tags.
    """
    texts: list[str] = []
    spans: list[str] = []
    left, tags, widths = LeftOut(), Counter[str](), Counter[int]()
    begun = 0
    for number, rows in _sentences(lines(read_text(file))):
        if any(len(row) < 2 or not _TAG.fullmatch(row[-1]) for row in rows):
            left.add("a line without a tag", f"sentence at line {number}")
            continue
        starts = list(itertools.accumulate((len(row[0]) + 1 for row in rows[:-1]), initial=0))
        ends = [start + len(row[0]) for start, row in zip(starts, rows, strict=True)]
        found, unbegun = tag_spans([row[-1] for row in rows])
        texts.append(" ".join(row[0] for row in rows))
        spans.append(json.dumps([[starts[first], ends[last], name] for first, last, name in found]))
        tags.update(row[-1][0] for row in rows)
        widths.update(map(len, rows))
        begun += unbegun
    if not texts:
        raise InputError(
            str(file),
            "no sentence of it has a word and a tag a line",
            found="; ".join(left.lines()) or "no line",
            fix='lines such as "Rome B-LOC", and a blank line between sentences',
        )
    columns = " or ".join(map(str, sorted(widths)))
    notes = (f"words in column 1 and tags in the last of {columns}, {_scheme(tags, begun)}",)
    schema = {"text": "text", "spans": "text"}
    return Memory({"text": texts, "spans": spans}, schema, dropped=left.counts, dropped_names=left.names, notes=notes)


def _sentences(text: Sequence[str]) -> Iterator[tuple[int, list[list[str]]]]:
    """Number of the first line, and the columns of the lines, of each sentence."""
    first, rows = 1, list[list[str]]()
    for number, line in enumerate([*text, ""], 1):
        columns = _columns(line)
        if columns and columns[0] != _BREAK:
            if not rows:
                if line.startswith("#") and not _TAG.fullmatch(columns[-1]):
                    continue
                first = number
            rows.append(columns)
        elif rows:
            yield first, rows
            rows = []


def _columns(line: str) -> list[str]:
    return [part.strip() for part in line.split("\t")] if "\t" in line.strip() else line.split()


def tag_spans(tags: Sequence[str]) -> tuple[list[tuple[int, int, str]], int]:
    """Spans (first word, last word, label) of a sentence's tags, and how many of them go on without having begun.

    A span ends before B, S, U, O or another label, and after E, L, S, U; any tag begins one where none is open.
    """
    found: list[tuple[int, int, str]] = []
    first, label, unbegun = -1, "", 0
    for place, tag in enumerate([*tags, "O"]):
        letter, _, name = tag.partition("-")
        if first >= 0 and (letter in "O" + _BEGIN or name != label):
            found.append((first, place - 1, label))
            first = -1
        if letter == "O":
            continue
        if first < 0:
            first, label = place, name
            unbegun += letter not in _BEGIN
        if letter in _END + "U":
            found.append((first, place, label))
            first = -1
    return found, unbegun


def _scheme(tags: Counter[str], unbegun: int) -> str:
    """What the letters of the tags say of their scheme."""
    if tags.keys() & set("ESLU"):
        name = "BILOU" if tags.keys() & set("LU") else "BIOES"
    else:
        name = "IOB1" if unbegun > tags["B"] else "IOB2"
    repaired = f"; {unbegun:,} spans that go on without having begun begin there" if unbegun and name != "IOB1" else ""
    return f"read as {name}{repaired}"
