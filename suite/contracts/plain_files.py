"""Plain files: whose headers prove that decoding them takes time and memory in proportion to what they hold.

Such a file is decoded where it is asked for; every other one in a process that can be ended (`suite.runtime.decoders`).
The proofs are those of PNG, JPEG and WAV, by what a file can make a decoder repeat:

- A PNG is unpacked once, row by row, as far as its height says. Left are its chunks, each of which Pillow parses in
  Python: few of them, and of what a camera notes few entries.
- A baseline or progressive JPEG by Huffman codes is walked once a scan over all of its blocks, however few bytes the
  scan has. So scans times pixels are bounded. The two bytes that begin a scan stand nowhere within one, and counting
  them finds every scan.
- A WAV of samples as they are has no more samples than bytes. Left are its chunks.

GIF, WebP, BMP, TIFF, FLAC, OGG and MP3 have no such short proof: lists of blocks of a few bytes, animations, run
lengths, entries that all show the whole file, canvases larger than the picture, frames of a few bytes for 65,535
samples each, headers that other formats follow.
"""

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF begins, of either order of bytes; the latter two have addresses of 64 bits, and are not read."""
OTHERS = (b"GIF8", b"RIFF", b"BM", *TIFF)
"""How images begin that are read and have no proof: GIF, WebP, BMP, TIFF."""
CHUNKS = 256
"""Most chunks of a PNG besides its pixels', and most segments of a JPEG before its first scan."""
PIXEL_CHUNKS = 16_384
"""Most chunks that a PNG's pixels are cut into."""
ENTRIES = 256
"""Most entries of a camera's notes: each may be as long as all of them together."""
NOTES = 1 << 16
"""Most bytes of a camera's notes."""
SCANS = 100
"""Most scans of a JPEG; encoders write some 10."""
WALKED = 1_000_000_000
"""Most scans times pixels of a JPEG: a few seconds of Huffman decoding."""
WAV_CHUNKS, WAV_NOTES = 64, 1 << 20
"""Most chunks of a WAV, and bytes of those that hold no samples."""
STREAMED = 0x7FFF_0000
"""Length of samples from which on a WAV's header says that its writer did not know it."""
SAMPLES_AS_THEY_ARE = (1, 3, 6, 7, 0xFFFE)
"""Encodings of a WAV that have a sample in each few bytes: integers, floats, the laws of telephony; 0xFFFE says further
on which one of these it is."""


def is_plain_image(value: Any) -> bool:
    """Whether an image is a plain file: its bytes, a path, or an array, which is decoded already.

    What is no image by its first bytes is plain: no decoder is opened for it. So is a file that is not there.
    """
    if isinstance(value, str | os.PathLike):
        try:
            value = Path(value).read_bytes()
        except (OSError, ValueError):
            return True
    if not isinstance(value, bytes):
        return True
    if value.startswith(PNG):
        return _proven(_is_plain_png, value)
    if value.startswith(JPEG):
        return _proven(_is_plain_jpeg, value)
    return not value.startswith(OTHERS)


def is_plain_recording(value: Any) -> bool:
    """Whether a recording is a plain WAV file: its bytes, a path, or an array, which is decoded already. A file that is
    empty or not there is plain: no decoder is opened for it."""
    if isinstance(value, bytes):
        return not value or _proven(_is_plain_wav, io.BytesIO(value))
    if not isinstance(value, str | os.PathLike):
        return True
    try:
        with open(value, "rb") as file:
            return os.fstat(file.fileno()).st_size == 0 or _proven(_is_plain_wav, file)
    except (OSError, ValueError):
        return True


def _proven(proof: Callable[[Any], bool], content: Any) -> bool:
    """Whether a proof holds; none does of a file that breaks off within it."""
    try:
        return proof(content)
    except (IndexError, struct.error):
        return False


def _is_plain_png(data: bytes) -> bool:
    place, pixels, others = len(PNG), 0, 0
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        if name == b"IEND":
            return True
        if name in (b"IDAT", b"fdAT"):
            pixels += 1
        else:
            others += 1
        content = place + 8
        if pixels > PIXEL_CHUNKS or others > CHUNKS:
            return False
        if name == b"eXIf" and not _is_short_note(data[content : content + length]):
            return False
        if name in (b"tEXt", b"zTXt", b"iTXt") and data[content : content + 16] == b"Raw profile type":
            return False  # a camera's notes, packed
        place = content + length + 4
    return True  # it breaks off, and no chunk follows


def _is_plain_jpeg(data: bytes) -> bool:
    place, pixels, notes = len(JPEG), 0, 0
    for _ in range(CHUNKS):
        begin, marker, length = struct.unpack_from(">BBH", data, place)
        if begin != 0xFF or length < 2 or marker in (0xFF, 0x00, 0x01) or 0xD0 <= marker <= 0xD9:
            return False
        content = data[place + 4 : place + 2 + length]
        if marker == 0xDA:
            scans = data.count(b"\xff\xda", place)
            return pixels > 0 and scans <= SCANS and scans * pixels <= WALKED
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8):
            if marker > 0xC2:  # arithmetic codes, and what no decoder knows
                return False
            height, width = struct.unpack_from(">HH", content, 1)
            pixels = max(pixels, height * width)
        if marker == 0xE1 and content[:6] == b"Exif\0\0":
            notes += 1
            if notes > 1 or not _is_short_note(content[6:]):
                return False
        if marker == 0xE2 and content[:4] == b"MPF\0" and not _is_short_note(content[4:]):
            return False
        place += 2 + length
    return False


def _is_short_note(tiff: bytes) -> bool:
    """Whether a camera's notes have few entries, and are short: with entries that all show the whole, what is made of
    them has the size of both multiplied."""
    tiff = tiff.removeprefix(b"Exif\0\0")
    order = "<" if tiff[:2] == b"II" else ">"
    (offset,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, offset)
    return bool(entries <= ENTRIES and len(tiff) <= NOTES)


def tiff_size(data: bytes) -> tuple[int, int]:
    """Width and height of the first page of a TIFF.

    Raises:
        ValueError: it says none.
    """
    order = "<" if data[:2] == b"II" else ">"
    try:
        (place,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, place)
        sides: dict[int, int] = {}
        for entry in range(min(entries, ENTRIES)):
            tag, kind = struct.unpack_from(f"{order}HH", data, place + 2 + 12 * entry)
            if tag in (256, 257):  # width and height, of 16 or 32 bits
                (sides[tag],) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, place + 10 + 12 * entry)
        return sides[256], sides[257]
    except (KeyError, struct.error):
        raise ValueError("its head says no width and height") from None


def lacking_of_wav(file: Any) -> float:
    """Share of the samples that a WAV's header says and its file lacks, as after a download that was cut off.

    Args:
        file: bytes of any format, at their beginning.
    """
    head = file.read(12)
    for _ in range(WAV_CHUNKS if head[:4] == b"RIFF" and head[8:] == b"WAVE" else 0):
        chunk = file.read(8)
        if len(chunk) < 8:
            break
        name, length = struct.unpack("<4sI", chunk)
        if name == b"data":
            begin = file.tell()
            held = file.seek(0, os.SEEK_END) - begin
            return max(1 - held / length, 0.0) if 0 < length < STREAMED else 0.0
        file.seek(length + (length & 1), os.SEEK_CUR)
    return 0.0


def _is_plain_wav(file: Any) -> bool:
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return False
    notes, encoding = 0, 0
    for _ in range(WAV_CHUNKS):
        chunk = file.read(8)
        if len(chunk) < 8:
            return encoding in SAMPLES_AS_THEY_ARE
        name, length = struct.unpack("<4sI", chunk)
        if name == b"fmt ":
            if encoding:
                return False
            (encoding,) = struct.unpack("<H", file.read(2))
            file.seek(length - 2, 1)
        else:
            file.seek(length, 1)
        if name != b"data" and (notes := notes + length) > WAV_NOTES:
            return False
        file.seek(length & 1, 1)
    return False
