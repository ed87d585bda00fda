"""Text of CSV and TSV files: encoding, delimiter, quotes, header line, and what is said of each guess."""

import codecs
import gzip
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.data.reading import DAMAGED, damaged, not_utf8, wide_encoding
from suite.data.sources.column_types import CURRENT, Reading

HEAD = 8 << 20
"""Bytes of a file's beginning that its layout is judged by."""
STEP = 1 << 20
"""Bytes of a file that are decoded at a time."""
LINES = 50
"""Lines by which the delimiter is judged."""
DELIMITERS = (",", "\t", ";", "|")

_SEP = re.compile(rb'"?sep=([^\0])"?[ ,;\t]*(?:\r\n|\n|\r|$)', re.IGNORECASE)
_FIELD = re.compile(rb'(^|[\t\n])"((?:[^"]|"")*+)"(?=[\t\r\n]|$)')
"""A field of a tab-separated file that begins and ends with quotes, each quote inside doubled."""
_OPENED = re.compile(rb'(?:^|[\t\n])"')


@dataclass(frozen=True)
class Layout:
    """How a CSV file is to be read.

    Attributes:
        delimiter: what separates fields.
        quoted: whether quotes around a field are none of its content.
        skip: lines before the first record or header line that are left out.
        notes: what was guessed, for a person to read.
    """

    delimiter: str
    quoted: bool
    skip: int
    notes: tuple[str, ...]


def layout(head: bytes, name: str, how: Reading) -> Layout:
    """The layout of a table.

    Args:
        head: the beginning of the file as UTF-8, from `Utf8`.
        name: of the file; .tsv is tab separated.
        how: it is read. Where it names no delimiter, Excel's line ``sep=;`` does, or it is judged by the first lines.
            A first line that says just its header is left out.
    """
    delimiter, rules, name = how.delimiter, how.rules, name.lower().removesuffix(".gz")
    notes, skip = [], 0
    line = _SEP.match(head)
    if line and rules >= CURRENT:
        skip, head = 1, head[line.end() :]
        notes.append(f'the first line, "{line[0].decode("utf-8", "replace").strip()}", is read as Excel reads it')
        delimiter = delimiter or line[1].decode("ascii", "replace")
    text = head[: 1 << 20].decode("utf-8", "replace")
    delimiter = delimiter or sniff(name, text, rules, how.keep)
    quoted = delimiter != "\t"
    if not quoted and rules >= CURRENT and quotes(head):
        quoted = True
        notes.append("quotes around fields are left out, since the fields hold tabs, line breaks or doubled quotes")
    first = text.partition("\n")[0].rstrip("\r")
    names = tuple(name.strip().strip('"') for name in first.split(delimiter))
    return Layout(delimiter, quoted, skip + int(bool(how.header) and names == how.header), tuple(notes))


def sniff(name: str, text: str, rules: int = CURRENT, known: Collection[str] = ()) -> str:
    """The delimiter: a tab in .tsv, otherwise the one by which the first line has most of the names ``known``, then the
    most frequent one there, if most of the lines that follow have as many of it; a comma where there is none. Those
    inside quotes do not count."""
    if name.endswith(".tsv"):
        return "\t"
    beginning = text.lstrip().split("\n", LINES)[:LINES]
    lines = [re.sub(r'"[^"]*"', "", line) for line in beginning if line.strip()] or [""]
    first = lines[0]
    if rules < CURRENT:
        return max(DELIMITERS, key=beginning[0].count)
    even = {mark: sum(line.count(mark) == first.count(mark) for line in lines) for mark in DELIMITERS if mark in first}

    def likely(mark: str) -> tuple[int, bool, int, int]:
        names = sum(name.strip(' "\r') in known for name in beginning[0].split(mark))
        return names, 2 * even[mark] > len(lines), first.count(mark), even[mark]

    return max(even, key=likely, default=",")


def quotes(head: bytes) -> bool:
    """Whether a tab-separated file is quoted as CSV files are, as pandas and Excel write one.

    Quotes are literal, but where each field that begins with one is well-formed, and some need their quotes: for a line
    break or a tab inside, without which rows fall apart, or for doubled quotes; or where all names are quoted.
    """
    if b'"' not in head:
        return False
    whole = len(head) < HEAD
    bare = _FIELD.sub(rb"\1x", head)
    opened = _OPENED.search(bare)
    if opened:
        if whole or bare.find(b'"', opened.end()) >= 0:
            return False  # a field begins with a quote that is its own
        bare = bare[: opened.start()]
    fields = [match[2] for match in _FIELD.finditer(head)]
    first = head.partition(b"\n")[0].rstrip(b"\r").split(b"\t")
    if len(first) > 1 and all(len(name) > 1 and name[:1] == name[-1:] == b'"' for name in first):
        return True
    apart = _uneven(head) - _uneven(bare)
    return apart > 0 or (apart == 0 and any(b'""' in field for field in fields))


def _uneven(text: bytes) -> int:
    """Lines with another number of tabs than the first."""
    counts = [line.count(b"\t") for line in text.split(b"\n") if line.strip()]
    return sum(count != counts[0] for count in counts)


class Utf8(io.RawIOBase):
    """A text file as UTF-8 without byte order mark and blank lines before its beginning, unpacked where it ends in .gz.

    Args:
        file: the file.
        content: what it holds, where it has been read.

    Raises:
        InputError: on reading, where it is neither UTF-8 nor UTF-16 with a byte order mark.
    """

    def __init__(self, file: Path | str, content: bytes | None = None):
        self._where, self._left = str(file), b""
        if content is not None:
            self._stream: Any = io.BytesIO(content)
        else:
            self._stream = (gzip.open if str(file).lower().endswith(".gz") else open)(file, "rb")
        mark = self._read(4)
        self.encoding = wide_encoding(mark)
        self._decoder = codecs.getincrementaldecoder(self.encoding or "utf-8-sig")()
        self._chunks = self._utf8(mark)
        self._offset = 0

    def _utf8(self, mark: bytes) -> Iterator[bytes]:
        chunk, begun = mark + self._read(STEP), False
        while chunk:
            offset, self._offset = self._offset, self._offset + len(chunk)
            following = self._read(STEP)
            try:
                text = self._decoder.decode(chunk, final=not following)
            except UnicodeDecodeError as error:
                end = offset + len(chunk)
                raise not_utf8(self._where, error.object, error, end - len(error.object)) from error
            if not begun:
                text = text.lstrip("\r\n")
                begun = bool(text)
            if text:
                yield text.encode("utf-8", "replace")
            chunk = following

    def _read(self, size: int) -> bytes:
        try:
            content: bytes = self._stream.read(size)
        except DAMAGED as error:
            raise damaged(self._where, error) from None
        return content

    def peek(self) -> bytes:
        """The beginning of the file, at most `HEAD` bytes."""
        while len(self._left) < HEAD and (chunk := next(self._chunks, b"")):
            self._left += chunk
        return self._left

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size is None or size < 0:
            rest, self._left = self._left + b"".join(self._chunks), b""
            return rest
        held, count = [self._left], len(self._left)
        while count < size and (chunk := next(self._chunks, b"")):
            held.append(chunk)
            count += len(chunk)
        data = b"".join(held)
        self._left = data[size:]
        return data[:size]

    def close(self) -> None:
        self._stream.close()
        super().close()
