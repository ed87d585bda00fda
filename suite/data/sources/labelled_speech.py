"""Recordings with the times of their phones, in the layout of Festvox: wav/, text/ and lab/, in a folder or archive."""

import functools
import io
import re
import tarfile
import wave
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.reading import existing
from suite.data.sources.memory import SPLITS, LeftOut, Memory, Subset, check_split, not_empty, noted, seeded_split
from suite.errors import InputError

PAUSE = "_"
"""How the pause is written, whatever the labels call it."""
PAUSES = {"_", "#", "pau", "sil", "sp", "h#", "<p:>", ""}
"""How labels write a pause."""
FOLDERS = {"wav": ".wav", "text": ".txt", "lab": ".lab"}
"""Folder that a file lies in, and how its name ends."""


@dataclass(frozen=True, kw_only=True)
class LabelledSpeech(Data):
    """``wav/NAME.wav`` with ``lab/NAME.lab``, the ends of its phones in seconds, and ``text/NAME.txt``.

    A label file has a header that a line ``#`` ends, then a line a phone: ``END NUMBER PHONE``. The silence before the
    first phone and behind the last is cut to ``silence`` seconds. Columns: ``audio``; ``text``; ``phones``, between
    blanks, the pause being ``_``; ``durations``, the seconds of each; ``file``.
    """

    path: str
    """A folder, or a tar archive, which is read in place."""
    test: str = ""
    """How the names of the recordings of test begin. Empty: a share of all of them is test."""
    validation: float = 0.1
    """Share of the others that is held out for validation; of all, where no names are given, for test as well."""
    silence: float = 0.1
    """Seconds of silence that stay at both ends."""
    seed: int = 0
    """Seeds what is held out, by a hash of the name."""

    def open(self, split: str) -> Source:
        """Records of a split.

        Raises:
            InputError: no such path or split, no recording with labels, a label file that cannot be read, an empty
                split.
        """
        path = existing(self.path)
        check_split(split, self.path)
        source = _records(str(path), path.stat().st_mtime_ns, self.silence)
        names = list(source.column("file", np.arange(len(source))))
        share = (self.validation, 0.0 if self.test else self.validation)
        part = seeded_split(names, self.seed, share)
        if self.test:
            part[[name.startswith(self.test) for name in names]] = SPLITS.index("test")
        chosen = Subset(source, np.flatnonzero(part == SPLITS.index(split)))
        return not_empty(chosen, split, self.path, "--task.data.test with the start of names")


@functools.lru_cache(maxsize=2)
def _records(path: str, written: int, silence: float) -> Source:
    files = _files(Path(path))
    names = sorted(files["wav"].keys() & files["lab"].keys())
    if not names:
        problem = "has no recording wav/NAME.wav with labels lab/NAME.lab."
        raise InputError(path, problem, found=", ".join(f"{kind}/: {len(of):,}" for kind, of in files.items()))
    rows: dict[str, list[Any]] = {name: [] for name in ("audio", "text", "phones", "durations", "file")}
    left = LeftOut()
    for name in sorted(files["wav"].keys() - files["lab"].keys()):
        left.add("no labels", name)
    for name in names:
        phones, ends = labels(files["lab"][name].decode("utf-8", "replace"), f"{path}, lab/{name}.lab")
        if all(phone == PAUSE for phone in phones):
            left.add("no phone but pauses", name)
            continue
        audio, durations = _trimmed(files["wav"][name], phones, ends, silence, f"{path}, wav/{name}.wav")
        rows["audio"].append(audio)
        rows["text"].append(files["text"].get(name, b"").decode("utf-8", "replace").strip())
        rows["phones"].append(" ".join(phones))
        rows["durations"].append(durations)
        rows["file"].append(name)
    schema = {"audio": "audio", "text": "text", "phones": "text", "durations": "text", "file": "text"}
    about = f"silence at the ends of recordings is cut to {silence:g} s, by their labels"
    return noted(Memory(rows, schema, None, left.counts, left.names), [about])


def labels(text: str, where: str) -> tuple[list[str], list[float]]:
    """Phones, and the second that each ends at, which rise.

    Raises:
        InputError: a line is none of a label, or ends before the line above it.
    """
    lines = text.splitlines()
    start = next((place for place, line in enumerate(lines) if line.strip() == "#"), -1) + 1
    phones: list[str] = []
    ends: list[float] = []
    for number, line in enumerate(lines[start:], start + 1):
        if not line.strip():
            continue
        found = re.fullmatch(r"\s*([\d.]+)\s+\S+\s*(\S*)\s*", line)
        end = float(found[1]) if found else -1.0
        if not found or end <= (ends[-1] if ends else 0.0):
            problem = "must be END NUMBER PHONE, the end in seconds and later than that of the line before."
            raise InputError(f"{where}, line {number}", problem, found=line.strip()[:60])
        phone = PAUSE if found[2].lower() in PAUSES else found[2]
        if phones and phone == phones[-1] == PAUSE:
            ends[-1] = end
            continue
        phones.append(phone)
        ends.append(end)
    return phones, ends


def _trimmed(
    data: bytes, phones: list[str], ends: list[float], silence: float, where: str
) -> tuple[bytes, list[float]]:
    """The recording from ``silence`` before its first phone to as long behind its last, and the seconds of each label.

    A recording without a pause at an end has one put there, of which nothing need be left.
    """
    try:
        with wave.open(io.BytesIO(data)) as reader:
            about, rate, samples = reader.getparams(), reader.getframerate(), reader.readframes(reader.getnframes())
    except (wave.Error, EOFError) as error:
        raise InputError(where, "cannot be read as a WAV of whole numbers", found=str(error)) from error
    size = about.nchannels * about.sampwidth
    lasts = len(samples) / size / rate
    first = ends[0] if phones[0] == PAUSE else 0.0
    last = ends[-2] if phones[-1] == PAUSE else ends[-1]
    start, stop = max(first - silence, 0.0), min(last + silence, lasts)
    begin, finish = round(start * rate), round(stop * rate)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams(about)
        writer.writeframes(samples[begin * size : finish * size])
    inner = [*ends[:-1], stop if phones[-1] == PAUSE else ends[-1]]
    cut = [min(max(end - begin / rate, 0.0), (finish - begin) / rate) for end in inner]
    if phones[-1] != PAUSE:
        phones.append(PAUSE)
        cut.append((finish - begin) / rate)
    if phones[0] != PAUSE:
        phones.insert(0, PAUSE)
        cut.insert(0, 0.0)
    return file.getvalue(), [end - before for end, before in zip(cut, [0.0, *cut], strict=False)]


def _files(path: Path) -> dict[str, dict[str, bytes]]:
    """Content by name, of each of FOLDERS, which may lie deeper than at the top."""
    found: dict[str, dict[str, bytes]] = {kind: {} for kind in FOLDERS}

    def take(name: PurePosixPath, read: Any) -> None:
        kind = name.parent.name
        if kind in FOLDERS and name.name.endswith(FOLDERS[kind]):
            found[kind][name.name.removesuffix(FOLDERS[kind])] = read()

    if path.is_dir():
        for file in sorted(path.rglob("*")):
            take(PurePosixPath(file.as_posix()), file.read_bytes)
        return found
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isreg():
                    take(PurePosixPath(member.name), lambda member=member: archive.extractfile(member).read())  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(str(path), "cannot be read as a folder or a tar archive", found=str(error)) from error
    return found
