"""Speech on disk: a manifest, LJSpeech's layout, the Free Spoken Digit Dataset, and Sphinx features (AN4)."""

import contextlib
import csv
import functools
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.data import Data, Source
from suite.data import written
from suite.data.reading import AUDIO, existing, lines, read_text
from suite.data.recordings import Piece, timing
from suite.data.sources import tables
from suite.data.sources.column_types import Reading
from suite.data.sources.memory import SPLITS, Memory, check_split, named_part, named_split, not_empty, seeded_split
from suite.data.sources.splitting import AUTO, known, names_of, own_split, records_of
from suite.data.sources.table_text import Utf8, layout
from suite.errors import InputError

KEYS = ("audio", "audio_filepath")
"""Keys under which a manifest names a recording: ours, and NeMo's."""
SECONDS = {"offset", "duration"}
"""Keys of a manifest that name a piece of a recording."""
FEW = 10
"""Recordings below which pieces of one of them may be in different splits."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
"""How the digits are spoken."""


@dataclass(frozen=True, kw_only=True)
class AudioManifest(Data):
    """A list of recordings, a record each: ``{"audio": "a.wav", "text": "what is said"}``, or ``"label"``.

    JSONL, or a table (CSV, TSV or Parquet, .gz too) with such columns. Paths are relative to the manifest; their key
    may be ``audio_filepath``, as NeMo's. ``offset`` and ``duration``, in seconds, name a piece of a recording, or
    ``start`` and ``end``. Every key is a column; one that a line lacks is None there. Where a line has ``"split"``,
    that is its split, and one named otherwise is in none; records of lines without are split by a hash of their path:
    pieces of one recording share a split, but where there are fewer than 10 recordings.
    """

    path: str
    """The file."""
    validation: float = 0.1
    """Share of the lines without a split that is held out for validation."""
    test: float = 0.1
    """Share of the lines without a split that is held out for test."""
    seed: int = 0
    """Seeds what is held out."""
    stratify: str = AUTO
    """Column of classes that each split gets its share of. auto: the task's label; empty: none."""

    def with_classes(self, column: str) -> "AudioManifest":
        return replace(self, stratify=column) if self.stratify == AUTO else self

    def open(self, split: str) -> Source:
        """Records of a split.

        Raises:
            InputError: no such file or split, a line that is no JSON object or names no recording, an offset or a
                duration that is no number of seconds, or an empty split.
        """
        file = existing(self.path)
        check_split(split, self.path)
        columns, table = _manifest(file)
        keys, notes = _keys(columns)
        schema = {
            name: "audio" if name == "audio" else "float" if isinstance(values, np.ndarray) else "text"
            for name, values in columns.items()
        }
        source = Memory(columns, schema, None, table.dropped, table.dropped_names, (*table.notes, *notes))
        names = names_of(source, known(self.stratify))
        if "split" not in columns:
            return records_of(source, split, self, lambda shares: own_split(keys, self.seed, shares, names))
        part = named_split(columns["split"])
        bare = np.array([name is None or not str(name).strip() for name in columns["split"]])
        if bare.any():
            held = [keys[place] for place in np.flatnonzero(bare)]
            own = None if names is None else [names[place] for place in np.flatnonzero(bare)]
            part[bare] = own_split(held, self.seed, (self.validation, self.test), own)
        return not_empty(named_part(source, part, split), split, self.path, "name it in a line")


def _keys(columns: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What the split of each record is hashed from: its file; and a note, where it is a piece of one of a few files."""
    files, audio = columns["file"], columns["audio"]
    cut = sum(isinstance(value, Piece) for value in audio)
    named = " and ".join(f'"{name}"' for name in timing(columns, _numbers(columns)).names)
    notes = [f"pieces of recordings, by {named} in seconds: {cut:,}"] if cut else []
    if not cut or len(set(files)) >= FEW:
        return files, notes
    notes.append(f"pieces of one recording may be in different splits: there are fewer than {FEW} recordings")
    return [
        f"{file} {value.offset}" if isinstance(value, Piece) else file for file, value in zip(files, audio, strict=True)
    ], notes


def read_manifest(file: Path) -> dict[str, Any]:
    """All records by column: ``audio``, from where we are, or a piece of it; ``file``, as it is written, with its
    piece; and the other keys.

    Raises:
        InputError: not UTF-8, no line, or one that is no JSON object or names no recording.
    """
    columns, _ = _manifest(file)
    shown = [
        str(replace(value, path=name)) if isinstance(value, Piece) else name
        for name, value in zip(columns["file"], columns["audio"], strict=True)
    ]
    return {**columns, "file": shown}


def _manifest(file: Path) -> tuple[dict[str, Any], Memory]:
    """The columns of a manifest, ``file`` without pieces; and the table, which says what was left out and guessed."""
    if file.name.lower().removesuffix(".gz").endswith(".jsonl"):
        numbered = enumerate(lines(read_text(file)), 1)
        rows = [_row(line, f"{file}, line {number}") for number, line in numbered if line.strip()]
        if not rows:
            raise InputError(str(file), "this manifest has no line", fix=_EXAMPLE)
        names = dict.fromkeys(name for row in rows for name in row)
        columns: dict[str, Any] = {name: [row.get(name) for row in rows] for name in names}
        table = Memory({})
    else:
        first = _first(file)
        texts = tuple(name for name in first if name not in timing(first, first).names)
        table = tables.load(file, Reading(texts=texts, keep=texts))
        read = table[np.arange(len(table))]
        columns = {
            name: values.tolist() if isinstance(values, np.ndarray) else list(values) for name, values in read.items()
        }
    key = next(name for name in KEYS if name in columns)
    columns = {"audio" if name == key else name: values for name, values in columns.items() if name != "file"}
    columns["file"] = columns["audio"]
    paths = [str(file.parent / Path(str(path)).expanduser()) for path in columns["file"]]
    stated = timing(columns, [name for name, values in columns.items() if name in SECONDS or _are_numbers(values)])
    columns["audio"] = stated.pieces(paths, columns)
    for name in stated.names:
        columns[name] = np.array([value if value not in (None, "") else np.nan for value in columns[name]], np.float64)
    return columns, table


def _numbers(columns: Mapping[str, Any]) -> list[str]:
    return [name for name, values in columns.items() if isinstance(values, np.ndarray)]


def _are_numbers(values: Sequence[Any]) -> bool:
    """Whether each value that is not missing is a number, and one is there."""
    stated = [value for value in values if value not in (None, "") and value == value]
    return bool(stated) and all(isinstance(value, int | float) for value in stated)


_EXAMPLE = '{"audio": "a.wav", "text": "what is said"}'


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = written.from_json(line)
    except json.JSONDecodeError as error:
        raise InputError(where, f"this is not JSON: {error.msg}", found=line[:80], fix=_EXAMPLE) from error
    key = next((name for name in KEYS if isinstance(row, dict) and name in row), "audio")
    if not isinstance(row, dict) or not isinstance(row.get(key), str) or not row[key]:
        raise InputError(where, 'names no recording under the key "audio"', found=line[:80], fix=_EXAMPLE)
    return row


def is_manifest(file: Path) -> bool:
    """Whether the first record of a JSONL file or of a table names a recording."""
    row = _first(file)
    return any(str(row.get(key, "")).lower().endswith(AUDIO) for key in KEYS)


def _first(file: Path) -> dict[str, Any]:
    """The first record of a JSONL, CSV, TSV or Parquet file; nothing where it cannot be read as one."""
    name = file.name.lower().removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            return _first_of_parquet(file)
        if not name.endswith((".jsonl", ".csv", ".tsv")):
            return {}
        with contextlib.closing(Utf8(file)) as stream:
            head = stream.read(1 << 16)
        if name.endswith(".jsonl"):
            row = written.from_json(head.partition(b"\n")[0])
            return row if isinstance(row, dict) else {}
        how = layout(head, name, Reading())
        rows = list(csv.reader(head.decode("utf-8", "replace").splitlines()[how.skip :][:2], delimiter=how.delimiter))
        return dict(zip(*rows, strict=False)) if len(rows) == 2 else {}
    except (OSError, EOFError, ValueError, csv.Error):
        return {}


def _first_of_parquet(file: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    opened = pq.ParquetFile(file)
    named = [key for key in KEYS if key in opened.schema_arrow.names]
    if not named or not opened.metadata.num_rows:
        return {}
    rows: list[dict[str, Any]] = next(opened.iter_batches(batch_size=1)).to_pylist()
    return rows[0]


@dataclass(frozen=True, kw_only=True)
class LJSpeech(Data):
    """A folder in LJSpeech's layout: ``metadata.csv`` with ``name|text|normalised text`` a line, and ``wavs/name.wav``.

    The normalised text is taken where there is one. A fourth field is the speaker, and so is a third that few values
    share and that is shorter than the text, which is said; then there is a column ``speaker``.
    """

    path: str
    """The folder."""
    validation: float = 0.1
    """Share held out for validation."""
    test: float = 0.1
    """Share held out for test."""
    seed: int = 0
    """Seeds what is held out, by a hash of the name."""

    def open(self, split: str) -> Source:
        """Records of a split. Raises InputError: no such folder, file or split, or a line without a text."""
        folder = existing(self.path)
        check_split(split, self.path)
        file = existing(str(folder / "metadata.csv"))
        rows = [line.split("|") for line in lines(read_text(file)) if line.strip()]
        short = next((number for number, row in enumerate(rows, 1) if len(row) < 2), 0)
        if short:
            problem, found = "holds no | between name and text", rows[short - 1][0][:80]
            raise InputError(f"{file}, line {short}", problem, found=found, fix="a|what is said, for wavs/a.wav")
        names = [row[0].strip() for row in rows]
        audio = [str(folder / "wavs" / (name if name.lower().endswith(AUDIO) else f"{name}.wav")) for name in names]
        third, fourth = ([(row[place : place + 1] or [""])[0].strip() for row in rows] for place in (2, 3))
        plain, notes = [row[1].strip() for row in rows], []
        if not any(fourth) and _are_speakers(third, plain):
            third, fourth = [""] * len(rows), third
            count = len({*fourth} - {""})
            notes = [
                f"metadata.csv: the third field has {count:,} values: taken for speakers, not for normalised texts"
            ]
        texts = [normalised or text for normalised, text in zip(third, plain, strict=True)]
        columns = {"audio": audio, "text": texts, "file": names}
        schema = {"audio": "audio", "text": "text", "file": "text"}
        if any(fourth):
            columns, schema = {**columns, "speaker": fourth}, {**schema, "speaker": "text"}
        source = Memory(columns, schema, None, {}, {}, tuple(notes))
        return records_of(source, split, self, lambda shares: own_split(names, self.seed, shares))


def _are_speakers(values: list[str], texts: list[str]) -> bool:
    """Whether values beside texts are few, and too short to be the texts again."""
    given = [(value, text) for value, text in zip(values, texts, strict=True) if value]
    few = len({value for value, _ in given}) <= len(given) / 4
    return few and sum(len(value) for value, _ in given) < sum(len(text) for _, text in given) / 2


@dataclass(frozen=True, kw_only=True)
class SpokenDigits(Data):
    """The Free Spoken Digit Dataset: ``<digit>_<speaker>_<index>.wav``, 8 kHz.

    The official split: index 0 to 4 is test, the rest train, of which ``validation`` indices from 5 on are held out.
    With ``held_out``, test is all of that speaker's recordings, and the others' are split as before.
    Columns: ``audio``, ``text`` (zero to nine), ``label``, ``speaker``, ``file``.
    """

    path: str
    """The folder of recordings, or the one that holds it."""
    validation: int = 5
    """Recordings of each digit and speaker that are held out for validation."""
    held_out: str = ""
    """A speaker to test on. Empty: the official split."""

    @property
    def origin(self) -> str:
        return "Free Spoken Digit Dataset (Jakobovski)"

    @property
    def licence(self) -> str:
        return "CC BY-SA 4.0"

    def open(self, split: str) -> Source:
        """Records of a split. Raises InputError: no such folder, speaker or split, or files of other names."""
        folder = existing(self.path)
        check_split(split, self.path)
        folder = folder / "recordings" if (folder / "recordings").is_dir() else folder
        matches = [re.fullmatch(r"(\d)_(\w+)_(\d+)\.wav", file.name) for file in sorted(folder.iterdir())]
        rows = [(int(m[1]), m[2], int(m[3]), m[0]) for m in matches if m]
        if not rows:
            raise InputError(str(folder), "no recording is named <digit>_<speaker>_<index>.wav here")
        speakers = sorted({row[1] for row in rows})
        if self.held_out and self.held_out not in speakers:
            raise InputError("field data.held_out", f'"{self.held_out}" is no speaker', found=", ".join(speakers))
        rows = [row for row in rows if self._split(row[1], row[2]) == split]
        columns = {
            "audio": [str(folder / row[3]) for row in rows],
            "text": [DIGITS[row[0]] for row in rows],
            "label": np.array([row[0] for row in rows], np.int64),
            "speaker": [row[1] for row in rows],
            "file": [row[3] for row in rows],
        }
        schema = {"audio": "audio", "text": "text", "label": "class", "speaker": "text", "file": "text"}
        return not_empty(Memory(columns, schema, {"label": DIGITS}), split, self.path)

    def _split(self, speaker: str, index: int) -> str:
        if self.held_out and speaker == self.held_out:
            return "test"
        if index < 5 and not self.held_out:
            return "test"
        return "validation" if index < 5 + self.validation else "train"


@dataclass(frozen=True, kw_only=True)
class SphinxFeatures(Data):
    """AN4 as cepstra: an archive with ``etc/<name>_{train,test}.{fileids,transcription}`` and ``feat/<fileid>.mfc``.

    Read in place, never unpacked. Columns: ``audio``, float32 (t, 13), a frame each 10 ms; ``text``; ``speaker``;
    ``file``. Validation is a share of the speakers of train.
    """

    path: str
    """The .tar.gz archive."""
    name: str = "an4"
    """How its lists are called."""
    coefficients: int = 13
    """Values a frame."""
    validation: float = 0.1
    """Share of the speakers held out for validation."""
    seed: int = 0
    """Seeds which speakers."""

    def open(self, split: str) -> Source:
        """Records of a split. Raises InputError: no such file or split, a list that is missing, a damaged file."""
        file = existing(self.path)
        check_split(split, self.path)
        members = _members(str(file), file.stat().st_mtime_ns)
        stored = "test" if split == "test" else "train"
        ids = self._list(members, f"{self.name}_{stored}.fileids").split()
        written = lines(self._list(members, f"{self.name}_{stored}.transcription"))
        parts = [line.strip().removesuffix(")").rpartition(" (") for line in written if line.strip()]
        said = {name: text for text, _, name in parts}
        speakers = [identity.split("/")[-2] for identity in ids]
        if split != "test":
            part = seeded_split(speakers, self.seed, (self.validation, 0.0))
            ids = [identity for identity, place in zip(ids, part.tolist(), strict=True) if SPLITS[place] == split]
        by_name = {name.partition("feat/")[2]: data for name, data in members.items() if name.endswith(".mfc")}
        columns = {
            "audio": [self._frames(by_name, f"{identity}.mfc") for identity in ids],
            "text": [_spoken(said.get(identity.split("/")[-1])) for identity in ids],
            "speaker": [identity.split("/")[-2] for identity in ids],
            "file": ids,
        }
        schema = {"audio": "audio", "text": "text", "speaker": "text", "file": "text"}
        return not_empty(Memory(columns, schema), split, self.path)

    def _list(self, members: dict[str, bytes], name: str) -> str:
        content = next((data for path, data in members.items() if path.endswith(f"etc/{name}")), None)
        if content is None:
            raise InputError(self.path, f"there is no etc/{name} in this archive", fix="--task.data.name NAME")
        return content.decode("utf-8")

    def _frames(self, by_name: dict[str, bytes], name: str) -> np.ndarray:
        """(t, coefficients): a big-endian count of values, then the values."""
        data = by_name.get(name)
        count = int.from_bytes(data[:4], "big") if data else -1
        if data is None or len(data) != 4 + 4 * count or count % self.coefficients:
            problem = "is missing" if data is None else "does not hold the values that its header counts"
            raise InputError(f"{self.path}:{name}", problem, found="" if data is None else f"{len(data)} bytes")
        return np.frombuffer(data, ">f4", offset=4).astype(np.float32).reshape(-1, self.coefficients)


def _spoken(text: str | None) -> str | None:
    """A transcript without the marks of its ends."""
    return None if text is None else " ".join(word for word in text.split() if word not in ("<s>", "</s>"))


@functools.lru_cache(maxsize=2)
def _members(path: str, written: int) -> dict[str, bytes]:
    """Name -> content of the lists and features of an archive."""
    try:
        with tarfile.open(path) as archive:
            members = [
                member for member in archive if member.isreg() and ("/etc/" in member.name or "feat/" in member.name)
            ]
            return {member.name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(path, "this archive cannot be read", found=str(error)) from error
