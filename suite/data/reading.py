"""Bytes and text of files: existence, encoding, and which file holds which split."""

import codecs
import gzip
import os
import re
import shlex
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.kinds import KINDS
from suite.data.sources.split_names import split_of
from suite.errors import InputError, closest

TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".csv.gz", ".tsv.gz", ".jsonl.gz")
"""Extensions of tables."""
IMAGES = KINDS["image"].extensions
"""Extensions of images."""
AUDIO = KINDS["audio"].extensions
"""Extensions of recordings."""
DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)
"""What unpacking a .gz file that is damaged raises."""
SYSTEM = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini")
"""Names, in small letters, of what systems put beside a user's files."""


def file_key(path: str | Path) -> tuple[str, int, int] | None:
    """What the content of a file is known by: its path, with the time and the size that the system states; None where
    there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return str(path), status.st_mtime_ns, status.st_size


def is_missing(value: Any) -> bool:
    """Whether a record has no text, no file there: None, nan or blanks."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float | np.floating) and bool(value != value))


def present(values: Any) -> Any:
    """Files or texts of a column, without the places where there is none."""
    if isinstance(values, np.ndarray):
        return values
    return [value for value in values if not is_missing(value)]


def beside(path: Any, folder: Path) -> Any:
    """The path of a file that a table in ``folder`` names: as it stands where there is such a file, else relative to
    the folder where there is one there; other values are the same."""
    if not isinstance(path, str) or not path or os.path.exists(path):
        return path
    joined = os.path.join(folder, path)
    return joined if os.path.exists(joined) else path


def file_kind(values: Sequence[Any]) -> str:
    """What files all these texts name, by their extensions: image or audio; nothing where they are no such names."""
    texts = [str(value).strip().lower() for value in values if value is not None]
    for kind, extensions in (("image", IMAGES), ("audio", AUDIO)):
        if texts and all(text.endswith(extensions) for text in texts):
            return kind
    return ""


def existing(path: str) -> Path:
    """The path, with ``~`` expanded.

    Raises:
        InputError: nothing is there; names the nearest match in that folder.
    """
    if not path:
        raise InputError("field task.data.path", "names no file or folder.", fix="--data PATH")
    if file := there(path):
        return file
    above = [there(str(parent)) for parent in Path(path).parents]
    parent = next(folder for folder in above if folder and folder.is_dir())  # at the end are / and .
    names = sorted(item.name for item in parent.iterdir())
    stems = {Path(name).stem: name for name in reversed(names)}  # an extension alone makes no likeness
    near = closest(Path(path).name, names) if closest(Path(path).stem, stems) and parent == above[0] else ""
    listing = f"in {parent}: {', '.join(names[:10]) or 'nothing'}{' ...' if len(names) > 10 else ''}"
    raise InputError(path, "no such file or folder", found=listing, fix=f"{parent / near}" if near else "")


def there(path: str) -> Path | None:
    """The path, with ``~`` expanded; None where nothing is there, as of a text that cannot be the name of a file: too
    long for one, or with a ``~`` before no user's name."""
    try:
        file = Path(path).expanduser()
        return file if path and file.exists() else None
    except (OSError, RuntimeError, ValueError):
        return None


def changed(file: str) -> int:
    """When a fitted file was last written, in nanoseconds: with its name, the key of what is kept of it in memory.

    Raises:
        InputError: it is not there, or none was fitted yet.
    """
    try:
        return os.stat(file).st_mtime_ns
    except FileNotFoundError as error:
        where = file or "preprocessing"
        raise InputError(
            where, "this has not been learnt from data yet", fix="train first, or name its file"
        ) from error


def read_bytes(file: Path) -> bytes:
    """Content of a file, unpacked where its name ends in .gz.

    Raises:
        InputError: a damaged .gz file.
    """
    data = file.read_bytes()
    if file.suffix.lower() != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except DAMAGED as error:
        raise damaged(str(file), error) from error


def damaged(where: str, error: Exception) -> InputError:
    """The refusal of a .gz file that cannot be unpacked."""
    return InputError(where, "this .gz file is damaged", found=str(error), fix="fetch or pack it again")


def wide_encoding(data: bytes) -> str:
    """``"utf-16"`` or ``"utf-32"`` where the data begins with such a byte order mark, as Excel's "Unicode text" does;
    otherwise empty."""
    if data[:4] in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "utf-32"
    return "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ""


def check_utf8(data: bytes, where: str) -> str:
    """``data`` as text: UTF-8, or UTF-16 with a byte order mark.

    Raises:
        InputError: it is neither; names the byte offset and a command that converts the file.
    """
    try:
        return data.decode(wide_encoding(data) or "utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(where, data[-len(error.object) :], error, len(data) - len(error.object)) from error


def not_utf8(where: str, data: bytes, error: UnicodeDecodeError, offset: int = 0) -> InputError:
    """The refusal of a text that cannot be decoded.

    Args:
        where: the file.
        data: the part of it that was decoded.
        error: says which byte is wrong.
        offset: of ``data`` in the file.
    """
    found = f"byte 0x{data[error.start]:02x} at offset {offset + error.start}"
    if error.encoding.startswith(("utf-16", "utf_16", "utf-32", "utf_32")):
        return InputError(where, "this file breaks off within a character", found=found, fix="save it again as UTF-8")
    part = data[:1_000_000]
    encoding = "cp1252" if re.search(rb"[\x80-\x9f]", part) else "latin1"
    if part.count(0) > len(part) / 4:
        encoding = "utf-16le"
    return InputError(where, "this file is not UTF-8 text", found=found, fix=_conversion(where, encoding))


def _conversion(where: str, encoding: str) -> str:
    """A command that writes the file as UTF-8, under a name that is read as the file's own would be."""
    file = Path(where)
    if not there(where) or not file.is_file():
        return "save it as UTF-8"
    name = file.name.removesuffix(".gz")
    stem, dot, ending = name.rpartition(".")
    new = file.with_name(f"{stem}.utf8.{ending}" if dot and stem else f"{name}.utf8")
    of_split = split_of(stem)  # its name says what it is: it has to stay
    old, target = shlex.quote(where), shlex.quote(str(new))
    convert, packed = f"iconv -f {encoding} -t utf-8", file.suffix.lower() == ".gz"
    source = f"gunzip -c {old} | {convert}" if packed else f"{convert} {old}"
    back = f" && mv {target} {shlex.quote(str(file.with_name(name)))}" + (f" && rm {old}" if packed else "")
    return f"{source} > {target}" + (back if of_split else "")


def read_text(file: Path, data: bytes | None = None) -> str:
    """A text file, or ``data`` in its place, as text. Raises InputError where it is neither UTF-8 nor UTF-16."""
    return check_utf8(read_bytes(file) if data is None else data, str(file))


def lines(text: str) -> list[str]:
    """Lines that end in a line feed and in nothing else: Unicode knows more ends, which occur within sentences."""
    parts = text.split("\n")
    return [line.removesuffix("\r") for line in (parts if parts[-1] else parts[:-1])]


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or one that a system put there: ``._x.png``, ``.DS_Store``, ``Thumbs.db``."""
    return name.startswith(".") or name.lower() in SYSTEM


def split_files(folder: Path, extensions: tuple[str, ...]) -> dict[str, Path]:
    """Split -> the file in ``folder`` that is named after it (``dev.tsv`` holds validation).

    Where no file is called as train alone is, what all names share besides is stepped over: ``mnist_train.csv`` and
    ``mnist_test.csv``.
    """
    stems: dict[Path, str] = {}
    for file in sorted(folder.iterdir()):
        stem, dot, rest = file.name.partition(".")
        if file.is_file() and not is_hidden(file.name) and (dot + rest).lower() in extensions:
            stems[file] = stem
    files: dict[str, Path] = {}
    for file, stem in stems.items():
        if split := split_of(stem):
            files.setdefault(split, file)
    return files if "train" in files else _with_shared_names(stems) or files


def _with_shared_names(stems: Mapping[Path, str]) -> dict[str, Path]:
    """Split -> file of those that share all of their name but the split; nothing where two sets of files do so."""
    sets: dict[tuple[str, str], dict[str, Path]] = {}
    for file, stem in stems.items():
        words = re.split(r"[\s_\-]+", stem.lower())
        for place in range(1, len(words)):
            for split, shared in (
                (split_of(" ".join(words[place:])), ("before", " ".join(words[:place]))),
                (split_of(" ".join(words[:place])), ("after", " ".join(words[place:]))),
            ):
                if split:
                    sets.setdefault(shared, {}).setdefault(split, file)
    whole = [files for files in sets.values() if "train" in files and len(set(files.values())) > 1]
    return whole[0] if len(whole) == 1 else {}
