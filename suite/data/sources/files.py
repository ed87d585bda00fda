"""Records from files and folders that a user points at: tables, folders of images or texts, arrays, lines."""

import csv
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.notes import printable
from suite.data.reading import (
    AUDIO,
    IMAGES,
    TABLES,
    existing,
    file_kind,
    lines,
    read_text,
    split_files,
    there,
    wide_encoding,
)
from suite.data.sources import arrays, folders, tables
from suite.data.sources.column_types import CURRENT, Reading
from suite.data.sources.detection import BoxFolder, holds_boxes
from suite.data.sources.item_lists import ItemLists, is_item_lists, item_list_files
from suite.data.sources.memory import (
    SPLITS,
    LeftOut,
    Memory,
    carves_validation,
    check_split,
    named_part,
    named_split,
    not_empty,
    noted,
)
from suite.data.sources.parallel_text import ParallelLines, languages
from suite.data.sources.segmentation import MaskFolder, holds_masks
from suite.data.sources.speech import AudioManifest, LJSpeech, is_manifest, read_manifest
from suite.data.sources.split_names import split_of
from suite.data.sources.splitting import AUTO, files_notes, held_out_fix, known, names_of, own_split, records_of
from suite.data.sources.tagged_text import EXTENSIONS, TaggedText, is_tagged, tagged_files
from suite.errors import InputError

BOXES = (".json", ".csv", ".tsv", ".jsonl", ".parquet", ".yaml", ".yml")
"""Extensions of files that may state boxes of pictures."""


def _unused_splits(table: Memory) -> list[str]:
    """A line on a column that names a split in each of the first rows, and is not used."""
    head = np.arange(min(len(table), 1000))
    for name in [name for name, kind in table.schema.items() if kind == "text"]:
        splits = {split_of(str(value)) for value in table.column(name, head)}
        if "train" in splits and len(splits) > 1 and "" not in splits:
            flag = shlex.join(["--task.data.split", name])
            return [f'column "{name}" names splits, and is not used: rows are split by their content. Use it by {flag}']
    return []


def _stored(split: str, given: Sequence[str]) -> str:
    """The split whose file is read for ``split``."""
    return "train" if split == "validation" and split not in given else split


@dataclass(frozen=True, kw_only=True)
class Table(Data):
    """A CSV, TSV, JSON, JSONL or Parquet file (.gz too), or a folder with one file a split: train.*, dev.*, test.*.

    Rows of a single file are split by a hash of their content: stable when rows are added, and equal rows share a
    split. Each class is in each split where it can be: one of fewer than 200 records gets its exact share. A column
    has the same type in every format: whole numbers are exact, codes with leading zeros are texts, decimal commas are
    judged by the whole column. In tab-separated files quotes are literal, unless rows fall apart without them. Rows
    with too many or too few fields are dropped and counted; ``notes`` of a split tells what was guessed.
    A large CSV or Parquet file is never held in memory, but with SUITE_CACHE=off: its columns are written to the cache
    once, and mapped.
    """

    path: str
    """The file or folder."""
    validation: float = 0.1
    """Share held out for validation where the data names no such split."""
    test: float = 0.1
    """Share held out for test where a single file names no splits."""
    seed: int = 0
    """Seeds what is held out."""
    stratify: str = AUTO
    """Column of classes that each split gets its share of. auto: the task's label; empty: none."""
    split: str = ""
    """Column that names each row's split. Empty: none."""
    header: tuple[str, ...] = ()
    """Column names, for a file that has no header line; a line that says just them is left out."""
    texts: tuple[str, ...] = ()
    """Columns that are texts whatever they look like: codes such as 05e6."""
    json: tuple[str, ...] = ()
    """Columns whose values are kept as JSON: lists of objects, such as spans of a text."""
    delimiter: str = ""
    """What separates fields. Empty: a tab in .tsv, otherwise judged by the first line."""
    decimal: str = ""
    """Sign before the fraction of a number, "," or ".", for columns of such numbers as 1,234. Empty: judged."""
    rules: int = CURRENT
    """Rules of reading: 2, or 1 for runs begun with version 0.1, whose columns stay what they were."""
    in_memory: int = tables.LARGE
    """Bytes of the largest CSV or Parquet file that is held in memory."""

    def __post_init__(self) -> None:
        if self.delimiter and (len(self.delimiter) > 1 or not self.delimiter.isascii() or self.delimiter in '\0"\r\n'):
            problem = "must be one ASCII character, and neither a quote nor a line break"
            raise InputError(
                "field data.delimiter", problem, found=repr(self.delimiter), fix="--task.data.delimiter ';'"
            )
        if self.decimal not in ("", ",", "."):
            fix = "--task.data.decimal ."
            raise InputError("field data.decimal", 'must be "," or "."', found=repr(self.decimal), fix=fix)

    def open(self, split: str) -> Source:
        """Records of a split.

        Raises:
            InputError: no such file or split, not UTF-8, nothing that can be read, or an empty split.
        """
        path = existing(self.path)
        check_split(split, self.path)
        files = split_files(path, TABLES) if path.is_dir() else {}
        if path.is_dir() and "train" not in files:
            listing = ", ".join(sorted(item.name for item in path.iterdir())[:10]) or "an empty folder"
            raise InputError(self.path, "no table named train.* in this folder", found=listing, fix="name a file")
        table = self._load(files.get(_stored(split, list(files)), files["train"]) if files else path)
        fix = held_out_fix("rows", split)
        if table.dropped.get("wrong number of fields", 0) > len(table):
            fix = f"look at the lines of {self.path}: --task.data.delimiter says what parts their fields"
        if self.split and not files:
            named = f'write {split} in the column "{self.split}" of some rows, or hold out shares: --task.data.split ""'
            return not_empty(named_part(table, self._named(table), split), split, self.path, named)
        part = lambda fractions: tables.parts(table, self.seed, fractions, known(self.stratify))
        notes = files_notes(path, files) if files else _unused_splits(table)
        return noted(records_of(table, split, self, part, list(files), fix), notes)

    def whole(self) -> Source | None:
        path = existing(self.path)
        return None if path.is_dir() or self.split else self._load(path)

    def with_classes(self, column: str) -> "Table":
        return replace(self, stratify=column) if self.stratify == AUTO else self

    def with_texts(self, columns: tuple[str, ...]) -> "Table":
        """The same table with these columns as texts; runs begun with version 0.1 keep the types they had."""
        if self.rules < CURRENT:
            return self
        return replace(self, texts=tuple(dict.fromkeys((*self.texts, *columns))))

    def with_json(self, columns: tuple[str, ...]) -> "Table":
        return replace(self, json=tuple(dict.fromkeys((*self.json, *columns))))

    def _load(self, file: Path) -> Memory:
        texts, header = tuple(self.texts), tuple(self.header)
        how = Reading(self.delimiter, header, texts, decimal=self.decimal, rules=self.rules, json=tuple(self.json))
        return tables.load(file, how, self.in_memory)

    def _named(self, table: Memory) -> np.ndarray:
        """(n,) position of each row's split in SPLITS; -1 where the column names another one."""
        if self.split not in table.schema:
            names = ", ".join(table.schema)
            raise InputError("field data.split", f"there is no column '{self.split}' in {self.path}", found=names)
        return named_split(table.column(self.split, np.arange(len(table))))


@dataclass(frozen=True, kw_only=True)
class Folder(Data):
    """Images, recordings or texts in one folder a class: ``path/<class>/file`` or ``path/<split>/<class>/file``.

    The path may be a .tar, .tar.gz or .tar.xz of such a tree, or a folder of such archives; they are read in
    place. Columns: ``image``, ``audio`` or ``text``; ``label``, the position in the sorted class names; ``file``, the
    name relative to the path. Images and recordings are paths (bytes, from an archive) until they are encoded.
    """

    path: str
    """The folder or archive."""
    validation: float = 0.1
    """Share held out for validation where there is no such folder."""
    test: float = 0.1
    """Share held out for test where there are no folders of splits."""
    seed: int = 0
    """Seeds what is held out, by a hash of the file name."""
    stratify: bool = True
    """Hold out a share of each class: of a class of fewer than 200 files its exact share, and one file at least."""

    def open(self, split: str) -> Source:
        """Records of a split.

        Raises:
            InputError: no such path or split, no usable file, a text that is not UTF-8, or an empty split.
        """
        path = existing(self.path)
        check_split(split, self.path)
        tree = self._tree(path)
        given = tree.splits
        if given:
            carve = carves_validation(split, given, self.validation, self.path)
            items = [item for item in tree.items if item.split == _stored(split, given)]
            held_out = self.validation if carve and split != "test" else 0.0
            fractions = (held_out, 0.0)
        else:
            items, fractions = tree.items, (self.validation, self.test)
        if not given or fractions[0]:
            names = [item.label for item in items] if self.stratify and tree.classes != [""] else None
            part = own_split([item.name for item in items], self.seed, fractions, names)
            items = [item for item, place in zip(items, part.tolist(), strict=True) if SPLITS[place] == split]
        source = Memory(*folders.columns(tree, items), tree.left.counts, tree.left.names, tree.notes)
        return not_empty(source, split, self.path, held_out_fix("files", split))

    def _tree(self, path: Path) -> folders.Tree:
        return folders.scan(path)


@dataclass(frozen=True, kw_only=True)
class Lines(Data):
    """Text, one record a line: column ``text``. A file, or a folder with one .txt file a split. Blank lines drop."""

    path: str
    """The file or folder."""
    validation: float = 0.1
    """Share held out for validation where there is no such file."""
    test: float = 0.1
    """Share held out for test where the path is one file."""
    seed: int = 0
    """Seeds what is held out, by a hash of the line."""

    def open(self, split: str) -> Source:
        """Records of a split. Raises InputError: no such file or split, not UTF-8, or an empty split."""
        path = existing(self.path)
        check_split(split, self.path)
        files = split_files(path, (".txt",)) if path.is_dir() else {}
        if path.is_dir() and "train" not in files:
            raise InputError(self.path, "no train.txt in this folder", fix="name a file")
        name = files.get(_stored(split, list(files)), files["train"]) if files else path
        texts = lines(read_text(name))
        filled = [line for line in texts if line.strip()]
        source = Memory({"text": filled}, {"text": "text"}, dropped={"blank line": len(texts) - len(filled)})
        part = lambda fractions: own_split(filled, self.seed, fractions)
        chosen = records_of(source, split, self, part, list(files), held_out_fix("lines", split))
        return noted(chosen, files_notes(path, files) if files else ())


@dataclass(frozen=True, kw_only=True)
class ArrayFile(Data):
    """Arrays: an .npz file, or a folder of idx files such as ``train-images-idx3-ubyte.gz``.

    In an .npz, ``x_train``, ``y_train``, ``x_test`` or ``train_<column>``, ``test_<column>`` name split and column;
    other keys are columns of one set, split by a hash of each row. ``x`` becomes ``image`` where it is uint8 of
    two or three axes a record (and ``x`` otherwise), ``y`` becomes ``label``. Pickled objects are refused.
    """

    path: str
    """The file or folder."""
    validation: float = 0.1
    """Share held out for validation where there is no such split."""
    test: float = 0.1
    """Share held out for test where the arrays name no splits."""
    seed: int = 0
    """Seeds what is held out."""
    stratify: str = AUTO
    """Column of classes that each split gets its share of. auto: the task's label; empty: none."""

    def with_classes(self, column: str) -> "ArrayFile":
        return replace(self, stratify=column) if self.stratify == AUTO else self

    def open(self, split: str) -> Source:
        """Records of a split. Raises InputError: no such file or split, pickled objects, or an empty split."""
        path = existing(self.path)
        check_split(split, self.path)
        splits = arrays.load_idx(path) if path.is_dir() else arrays.load_npz(path)
        given = [name for name in SPLITS if name in splits]
        source = Memory(splits[""] if not given else splits.get(_stored(split, given), {}))
        names = names_of(source, known(self.stratify))
        keys = range(len(source)) if given else arrays.keys(source)
        return records_of(source, split, self, lambda fractions: own_split(keys, self.seed, fractions, names), given)


def from_path(path: str, own: Data | None = None) -> Data:
    """The Data that reads what lies at ``path``, judged by its name and what it holds.

    Args:
        path: the file or folder.
        own: that of the recipe it is for: boxes of things and masks of their areas may lie in one place, as in COCO
            JSON, and are read as what the recipe's own records are.

    Raises:
        InputError: nothing is there, or it is of no known kind.
    """
    file = existing(path)
    if (file.is_dir() or folders.is_archive(file) or file.name.lower().endswith(BOXES)) and holds_boxes(file):
        return MaskFolder(path=path) if isinstance(own, MaskFolder) else BoxFolder(path=path)
    if (file.is_dir() or folders.is_archive(file)) and (
        holds_masks(file) or (isinstance(own, MaskFolder) and not (file.is_dir() and split_files(file, TABLES)))
    ):
        return MaskFolder(path=path)  # where it holds no masks, opening it says how they have to lie
    if file.is_dir():
        if (file / "metadata.csv").is_file() and (file / "wavs").is_dir():
            return LJSpeech(path=path)
        if tagged_files(file):
            return TaggedText(path=path)
        if "train" in split_files(file, TABLES):
            return Table(path=path)
        if item_list_files(file):
            return ItemLists(path=path)
        if "train" in split_files(file, (".txt",)):
            return Lines(path=path)
        if spoken := languages(file):
            return ParallelLines(path=path, source=spoken[0], target=spoken[1])
        return ArrayFile(path=path) if arrays.idx_files(file) else Folder(path=path)
    name = file.name.lower()
    if folders.is_archive(file):
        return Folder(path=path)
    if is_manifest(file):
        return AudioManifest(path=path)
    if name.endswith(EXTENSIONS) or (name.endswith((".txt", ".tsv")) and is_tagged(file)):
        return TaggedText(path=path)
    if name.endswith(TABLES) or (name.endswith(".txt") and is_text_table(file)):
        return Table(path=path)
    if name.endswith((".txt", ".txt.gz")) and is_item_lists(file):
        return ItemLists(path=path)
    if name.endswith((".npz", ".txt")):
        return ArrayFile(path=path) if name.endswith(".npz") else Lines(path=path)
    known = f"{' '.join((*TABLES, *EXTENSIONS))} .npz .txt .tar .tar.gz .tar.xz, or a folder with one folder a class"
    raise InputError(path, "this kind of file is not known", found=file.suffix or "no extension", fix=f"use {known}")


def is_text_table(file: Path) -> bool:
    """Whether a text file is a table: as Excel saves "Unicode text", UTF-16 with tabs in its first line; or with names
    of columns in its first line, one of which names a picture or recording in each of the next, as Flickr8k's captions.
    """
    with open(file, "rb") as stream:
        head = stream.read(1 << 16)
    if wide_encoding(head) == "utf-16":
        return "\t" in head.decode("utf-16", "replace").partition("\n")[0]
    if not file.name.lower().endswith(".txt") or b"\0" in head:
        return False
    first, *rest = [line for line in head.decode("utf-8-sig", "replace").splitlines()[:NAMING] if line] or [""]
    names, *rows = csv.reader([first, *rest], delimiter=max(",\t;|", key=first.count))
    if len(names) < 2 or len(rows) < 2 or any(len(row) != len(names) for row in rows):
        return False
    return not any(file_kind([name]) for name in names) and any(map(file_kind, zip(*rows, strict=True)))


NAMING = 20
"""Lines of a text file that are looked at for names of pictures and recordings."""


def read_input(
    value: str, column: str, how: Reading = Reading(), kind: str = "", say: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Records to predict from what a user typed: a table, a text file, images, recordings, ``-`` for stdin, or a text.

    Of a folder, what training would leave out unread is left out too: hidden files and files of other kinds.

    Args:
        value: what was typed.
        column: the column that lines, images, recordings or a bare text stand for.
        how: a table is read, see `Reading.of_requests`.
        kind: of files that the column holds, ``"image"`` or ``"audio"``; empty: both.
        say: is told what is left out of a folder, a line at a time; by default it goes to standard error.

    Raises:
        InputError: a file that is not UTF-8, a table that cannot be read or has broken rows, or a folder without images
            and recordings.
    """
    if value == "-":
        return {column: _filled(read_text(Path("-"), sys.stdin.buffer.read()))}
    path = there(value)
    if path is None:
        if Path(value).name.lower().endswith((*IMAGES, *AUDIO, *TABLES, ".txt")) and " " not in value:
            existing(value)
        return {column: [value]}
    if path.is_dir():
        files = _files_of(path, {"image": IMAGES, "audio": AUDIO}.get(kind, (*IMAGES, *AUDIO)), say or _to_stderr)
        return {column: files, "file": files}
    if path.suffix.lower() in (*IMAGES, *AUDIO):
        return {column: [str(path)], "file": [printable(str(path))]}
    if is_manifest(path):
        return read_manifest(path)
    if path.name.lower().endswith(TABLES) or is_text_table(path):
        table = tables.load(path, how)
        if table.dropped:
            found = ", ".join(f"{count:,} with {reason}" for reason, count in table.dropped.items())
            raise InputError(
                value, "has broken records, which get no answer", found=found, fix="correct or remove them"
            )
        return table[np.arange(len(table))]
    return {column: _filled(read_text(path))}


def states_columns(value: str) -> bool:
    """Whether what ``read_input`` is given is a table whose columns stand once for all records: no JSON, where a key
    may be absent."""
    path = there(value)
    if path is None or path.is_dir():
        return False
    name = path.name.lower().removesuffix(".gz")
    return is_text_table(path) or (name.endswith(TABLES) and not name.endswith((".jsonl", ".json")))


def _files_of(folder: Path, extensions: tuple[str, ...], say: Callable[[str], None]) -> list[str]:
    """Paths of the files of a folder, images before recordings.

    Raises:
        InputError: there is none.
    """
    left = LeftOut()
    files = [str(path) for _, path in folders.walk(folder, left)]
    chosen = [
        file for kind in (IMAGES, AUDIO) for file in files if file.lower().endswith(kind) and kind[0] in extensions
    ]
    for file in files:
        if not file.lower().endswith(extensions):
            left.add("of another kind", str(Path(file).relative_to(folder)))
    told = left.lines()
    if not chosen:
        what = "image" if AUDIO[0] not in extensions else "recording" if IMAGES[0] not in extensions else ""
        problem = f"no {what} in this folder" if what else "no image and no recording in this folder"
        raise InputError(
            str(folder), problem, found="; ".join(told), fix=f"use a folder with {' '.join(extensions)} files"
        )
    for line in told:
        say(line)
    return chosen


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _filled(text: str) -> list[str]:
    """Lines that are not blank."""
    return [line for line in lines(text) if line.strip()]
