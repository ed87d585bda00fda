"""Captioned pictures and recordings: rows of one and a text, gathered to a record of each; and archives of such."""

import csv
import functools
import io
import tarfile
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.reading import DAMAGED, existing, file_key, is_missing
from suite.data.sources.memory import SPLITS, LeftOut, Memory, Subset, check_split, hash_places, not_empty
from suite.data.sources.splitting import held_out_fix
from suite.errors import InputError

PICTURES = "pictures"
"""Column that names the picture of a record, in a list of one."""
RECORDINGS = "recordings"
"""The same of a recording."""
LABELS = "labels"
"""Column of the first texts of a record, which an export asks the picture or recording about."""


@dataclass(frozen=True, kw_only=True)
class CaptionArchive(Data):
    """A .tar archive (.gz, .xz too) of pictures and a CSV file whose rows each name a picture and a text of it.

    Columns ``image``, the bytes of the file, ``file``, its name, and those of the table but for the picture's.
    """

    path: str
    """The archive."""
    table: str = "captions.txt"
    """Name of the CSV file, with a header."""
    image: str = "image"
    """Column of the names of pictures."""
    validation: float = 0.1
    """Share of the pictures held out for validation."""
    test: float = 0.1
    """Share of the pictures held out for test."""
    seed: int = 0
    """Seeds what is held out."""

    def open(self, split: str) -> Source:
        """All rows, as the training split: the task parts them by picture.

        Raises:
            InputError: no such path or split, or the archive has no such table.
        """
        check_split(split, self.path, ("train",))
        return self.whole()

    def whole(self) -> Source:
        file = existing(self.path)
        return _archived(str(file), file.stat().st_mtime_ns, self.table, self.image)


@functools.lru_cache(maxsize=2)
def _archived(path: str, written: int, table: str, image: str) -> Memory:
    pictures: dict[str, bytes] = {}
    rows: list[dict[str, str]] | None = None
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if not member.isfile() or (content := archive.extractfile(member)) is None:
                    continue
                if name == table:
                    rows = list(csv.DictReader(io.StringIO(content.read().decode("utf-8-sig"))))
                else:
                    pictures[name] = content.read()
    except (*DAMAGED, tarfile.TarError, UnicodeDecodeError) as error:
        raise InputError(path, "cannot be read as an archive.", found=str(error), fix="fetch it again") from None
    if not rows or image not in rows[0]:
        found = ", ".join(rows[0]) if rows else ", ".join(list(pictures)[:5])
        raise InputError(path, f'has no table "{table}" with a column "{image}".', found=found)
    left, kept = LeftOut(), []
    for row in rows:
        if row[image] in pictures:
            kept.append(row)
        else:
            left.add("picture not in the archive", row[image])
    columns: dict[str, Any] = {name: [row[name] for row in kept] for name in rows[0] if name != image}
    columns |= {"file": [row[image] for row in kept], "image": [pictures[row[image]] for row in kept]}
    schema = {**dict.fromkeys(columns, "text"), "image": "image"}
    return Memory(columns, schema, dropped=left.counts, dropped_names=left.names)


def gathered(source: Source, medium: str, text: str, things: str = PICTURES) -> Source:
    """A record for each picture or recording, in the order of the first row of each: it, the list of its texts, its
    name in the column ``things``, and what may be asked of it in `LABELS`. Rows that lack the text or the medium are
    dropped and counted; a text may be a list of several.

    Args:
        source: a picture or recording and a text a row.
        medium, text: names of these columns.
        things: `PICTURES` or `RECORDINGS`.
    """
    left, every = LeftOut(), np.arange(len(source))
    left.counts.update(source.dropped)
    left.names.update({reason: list(names) for reason, names in source.dropped_names.items()})
    texts = source.column(text, every)
    places: dict[str, int] = {}
    kept: list[tuple[int, str, list[str]]] = []
    for row, (name, said) in enumerate(zip(media_names(source, medium), texts, strict=True)):
        own = [str(one) for one in (said if isinstance(said, list | tuple) else [said]) if not _is_empty(one)]
        if not name or not own:
            left.add(f"without {text if name else medium}", source.record_names(np.array([row]))[0])
            continue
        if name not in places:
            places[name] = len(kept)
            kept.append((row, name, []))
        kept[places[name]][2].extend(own)
    rows = np.array([row for row, _, _ in kept], np.int64)
    columns = {medium: source.column(medium, rows), text: [own for _, _, own in kept]}
    columns[things], columns[LABELS] = [[name] for _, name, _ in kept], [own[:3] for _, _, own in kept]
    schema = {medium: source.schema[medium], text: "text", things: "text", LABELS: "text"}
    counts = [len(own) for _, _, own in kept]
    about = (
        f"{sum(counts):,} texts of {len(kept):,} {things}, {min(counts, default=0)} to {max(counts, default=0)} of each"
    )
    return Memory(columns, schema, None, left.counts, left.names, (*source.notes, about))


def media_names(source: Source, medium: str) -> list[str]:
    """What the picture or recording of each row is called, the same in all rows of it; empty where a row has none."""
    every = np.arange(len(source))
    if "file" in source.schema and medium != "file":
        return [str(name) for name in source.column("file", every)]
    first: dict[Hashable, str] = {}
    names = []
    for row, value in enumerate(source.column(medium, every)):
        name = str(value) if isinstance(value, str | Path) else f"record {row + 1}"
        names.append("" if is_missing(value) else first.setdefault(_key(value), name))
    return names


def _is_empty(text: Any) -> bool:
    return is_missing(text) or not str(text).strip()


def _key(value: Any) -> Hashable:
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    key: Hashable = value
    return key


def part_of(
    source: Source, split: str, seed: int, fractions: tuple[float, float], where: str, things: str = PICTURES
) -> Source:
    """The pictures or recordings of a split: of the order by a hash of their names, the first share is test, the next
    validation, so that the number of those that are ranked is stated, not drawn.

    Args:
        source: as by `gathered`.
        split: of ``SPLITS``.
        seed: another seed is another order.
        fractions: shares of validation and test.
        where: what the data are called.
        things: as of `gathered`.

    Raises:
        InputError: no such split, shares that leave nothing to train on, or an empty split.
    """
    check_split(split, where)
    validation, test = fractions
    if min(fractions) < 0 or validation + test >= 1:
        problem = "must be at least 0 and sum to less than 1"
        raise InputError("validation and test fractions", problem, found=f"{validation:g}, {test:g}")
    names = [row[0] for row in source.column(things, np.arange(len(source)))]
    order = np.argsort(hash_places(names, seed), kind="stable")
    ends = np.round(np.cumsum([test, validation]) * len(order)).astype(int)
    part = np.zeros(len(order), np.int8)
    part[order[: ends[0]]], part[order[ends[0] : ends[1]]] = 2, 1
    places = np.flatnonzero(part == SPLITS.index(split))
    chosen = Subset(source, places, source.dropped, source.dropped_names, source.notes)
    return not_empty(chosen, split, where, held_out_fix(things, split))


def shared(splits: Sequence[Source], things: str = PICTURES) -> int:
    """Pictures or recordings that are in more than one of the splits, by name."""
    names = [{row[0] for row in source.column(things, np.arange(len(source)))} for source in splits]
    return sum(map(len, names)) - len(set().union(*names))


def identity(value: Any) -> str:
    """What a picture or recording is known by: its file with time and size, or what it holds."""
    known = file_key(value) if isinstance(value, str | Path) else None
    return repr(known) if known else repr(_key(value))
