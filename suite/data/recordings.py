"""Recordings as samples, or as features that were computed before: reading, resampling, and the limits of both.

A recording is a path, the bytes of a file, or samples (n,); where features were computed before, they stand in its
place as (t, f). Dims: n samples, t frames, f features.
"""

import contextlib
import io
import math
import shlex
import wave
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.batch import Ragged
from suite.contracts.bounds import check_bounds
from suite.contracts.plain_files import is_plain_recording, lacking_of_wav
from suite.contracts.values import AUDIO_FORMATS, AUDIO_READ, CHANNELS, MAX_RATE, audio_format, begins_as_audio
from suite.data.reading import AUDIO
from suite.distribution import missing
from suite.errors import InputError
from suite.runtime import decoders

MAX_SAMPLES = 1 << 26
"""Recordings of more samples, over all channels, are refused before they are unpacked."""
LOUDEST = 1e9
"""Largest sample, either way: the power of larger ones is not finite."""
AUDIBLE = 1e-8
"""Mean square of samples below which a recording is silent."""
CANCELLED = 1e-3
"""Share of the channels' power below which their average is silent."""
SLACK = 0.05
"""Seconds that a piece may be stated to end past the end of its recording: durations are rounded."""


class Unusable(InputError):
    """A recording that cannot be used.

    Args:
        reason: why, in a few words, as such recordings are counted by.
    """

    def __init__(self, reason: str, where: str, problem: str, *, found: str = "", fix: str = ""):
        super().__init__(where, problem, found=found, fix=fix)
        self.reason = reason


STARTS = ("start", "begin", "start_time", "begin_time", "start_seconds", "onset")
"""Other names of the column of offsets."""
ENDS = ("end", "stop", "end_time", "stop_time", "end_seconds")
"""Names of columns that say when a piece ends, where there is no duration."""


@dataclass(frozen=True)
class Piece:
    """A piece of a recording, as a manifest names it."""

    path: str
    """The file."""
    offset: float = 0.0
    """Seconds before it begins."""
    duration: float | None = None
    """Seconds that it lasts. None: to the end."""

    def __str__(self) -> str:
        end = "" if self.duration is None else f" to {self.offset + self.duration:g} s"
        return f"{self.path} from {self.offset:g}{end or ' s'}"


@dataclass(frozen=True)
class Timing:
    """Columns of seconds that name pieces of recordings; empty where there is none."""

    offset: str = ""
    duration: str = ""
    end: str = ""

    @property
    def names(self) -> list[str]:
        return [name for name in (self.offset, self.duration, self.end) if name]

    def pieces(self, paths: Sequence[Any], columns: Mapping[str, Sequence[Any]]) -> list[Any]:
        """Each path, or the piece of it that ``columns`` name.

        Raises:
            InputError: a value is no number of seconds, or negative, or an end is before its start.
        """
        none = [None] * len(paths)
        starts = _seconds(self.offset, columns.get(self.offset, none))
        lasts = _seconds(self.duration, columns.get(self.duration, none))
        if self.end:
            ends = _seconds(self.end, columns[self.end])
            lasts = [None if end is None else end - (start or 0.0) for start, end in zip(starts, ends, strict=True)]
        for place, (start, length) in enumerate(zip(starts, lasts, strict=True), 1):
            if length is not None and length < 0:
                where, found = f'column "{self.end}", record {place}', f"{start:g} to {(start or 0) + length:g} s"
                raise InputError(where, "is before the start of its piece.", found=found, fix="correct it, in seconds")
        return [
            path if not start and length is None else Piece(path, start or 0.0, length)
            for path, start, length in zip(paths, starts, lasts, strict=True)
        ]


def timing(names: Collection[str], numbers: Collection[str]) -> Timing:
    """The columns of ``names`` that name pieces: offset and duration, or the same by other usual names.

    Args:
        numbers: those that hold numbers: ``start`` may as well be a date.
    """
    of = lambda wanted: next((name for name in numbers if name.strip().lower() in wanted), "")
    offset, duration = ("offset" if "offset" in names else ""), ("duration" if "duration" in names else "")
    if offset and of(("onset",)):  # of sound events: onset and offset are where one begins and ends
        return Timing(of(("onset",)), duration, "" if duration else "offset")
    end = "" if duration else of(ENDS)
    if not offset and (duration or end):
        offset = of(STARTS)
    return Timing(offset, duration, end if offset else "")


def _seconds(name: str, values: Sequence[Any]) -> list[float | None]:
    parsed: list[float | None] = []
    for place, value in enumerate(values, 1):
        try:
            number = None if value is None or value == "" or value != value else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if number is not None and not 0 <= number < math.inf:
            where, fix = f'column "{name}", record {place}', "a number of seconds; or another name for the column"
            raise InputError(where, "must be a number of seconds, at least 0.", found=str(value)[:80], fix=fix)
        parsed.append(number)
    return parsed


def _soundfile() -> Any:
    try:
        import soundfile
    except ImportError as error:
        raise missing("soundfile", "to read recordings", "speech") from error
    return soundfile


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """How recordings are read."""

    rate: int
    """Samples a second."""
    hop: int
    """Samples from one frame to the next, where features stand in the place of samples."""
    features: int = 0
    """Features a frame, where they do. 0: recordings are samples."""
    longest: float = 30.0
    """Seconds of the longest one."""
    framed: bool = True
    """Whether a model is given frames of features, stored or computed; else samples, which have no bands."""

    def __post_init__(self) -> None:
        rates = {"rate": (1, MAX_RATE), "hop": (1, MAX_RATE)}
        check_bounds(self, {**rates, "features": (0, 65_536), "longest": (0.0, 1e6)})

    @property
    def room(self) -> int:
        """Samples, or frames, of the longest one."""
        return int(self.longest * self.per_second)

    @property
    def per_second(self) -> float:
        """Samples, or frames, a second."""
        return self.rate / (self.hop if self.features else 1)

    def encode(self, values: Sequence[Any]) -> Ragged:
        """float32 rows of samples, or of features that were stored.

        Raises:
            InputError: a recording that cannot be decoded, or lasts longer than ``longest``.
        """
        return joined([self._row(value) for value in values])

    def _row(self, value: Any) -> np.ndarray:
        row = decode(value, self.rate, self.longest)
        _check_length(value, len(row) * (self.hop if row.ndim == 2 else 1) / self.rate, self.longest)
        return row


def joined(rows: list[np.ndarray]) -> Ragged:
    """Recordings end to end.

    Raises:
        InputError: some are samples, others features, or features of other sizes.
    """
    sizes = {row.shape[1:] for row in rows}
    if len(sizes) > 1:
        forms = ", ".join(sorted("samples" if not size else f"{size[0]} features" for size in sizes))
        raise InputError("recordings", "they are not all samples, or features of one size", found=forms)
    lengths = np.array([len(row) for row in rows], np.int64)
    return Ragged(np.concatenate(rows) if rows else np.zeros(0, np.float32), lengths)


def name_of(value: Any) -> str:
    """What an error calls a recording."""
    return str(value) if isinstance(value, str | Path | Piece) else "recording"


def _is_plain(value: Any) -> bool:
    """Whether a recording, or the one that a piece is of, needs no process of its own."""
    return is_plain_recording(value.path if isinstance(value, Piece) else value)


@decoders.bounded(_is_plain, name_of)
def decode(value: Any, rate: int, longest: float = math.inf) -> np.ndarray:
    """One recording as float32 samples (n,) in -1..1 at ``rate`` a second, or its features (t, f) as they are.

    Channels are averaged. Resampling is soxr's, of high quality.

    Args:
        value: a path, the bytes of a file, a `Piece`, or an array.
        rate: samples a second.
        longest: seconds of the longest recording that is taken.

    Raises:
        Unusable: not a recording of AUDIO_FORMATS, damaged, without samples, longer than ``longest`` seconds, of more
            than MAX_SAMPLES, at a rate above MAX_RATE, of samples that are not finite or channels that cancel each
            other, a piece past the end of its recording, or an array of another type or shape.
        Ended: decoding it had to be ended.
    """
    if isinstance(value, np.ndarray):
        return _from_array(value)
    name = name_of(value)
    with _opened(value) as file:
        start, count = _extent(value, file)
        _check_length(value, count / file.samplerate, longest)
        samples, original = _read(name, file, start, count), file.samplerate
    samples = _mixed(name, samples)
    if original == rate:
        return samples
    samples = resample(samples, original / rate, name)
    if not len(samples):
        raise Unusable("empty recording", name, f"this recording holds no samples at {rate:,} a second", fix=_REPLACE)
    return samples


@decoders.bounded(_is_plain, name_of)
def extent(value: Any) -> tuple[float, int]:
    """(seconds, samples a second) of a recording or a piece of one, by its header.

    Raises:
        InputError: it cannot be opened.
    """
    with _opened(value) as file:
        return _extent(value, file)[1] / file.samplerate, int(file.samplerate)


def examine(value: Any, rate: int, hop: int, longest: float) -> str:
    """Why a recording cannot be used, in a few words; empty where it can.

    Of recordings in files the header is read, and the first and last samples; all samples where they may be other than
    finite, or where channels may cancel each other. What is damaged in the middle is refused when it is decoded.

    Args:
        value: as for `decode`.
        rate: samples a second of the model.
        hop: samples from one frame to the next, where the value holds features.
        longest: seconds of the longest recording that is taken.
    """
    try:
        return _examined(value, rate, hop, longest)
    except decoders.Ended:
        return ENDED


ENDED = "decoding had to be ended"
"""What is counted of recordings that take too much time or memory, or end their decoder."""


@decoders.bounded(_is_plain, name_of)
def _examined(value: Any, rate: int, hop: int, longest: float) -> str:
    """See `examine`."""
    try:
        if isinstance(value, np.ndarray):
            array = _from_array(value)
            _check_length(value, len(array) * (hop if array.ndim == 2 else 1) / rate, longest)
            return ""
        name = name_of(value)
        with _opened(value) as file:
            start, count = _extent(value, file)
            _check_length(value, count / file.samplerate, longest)
            if count * rate < 2 * file.samplerate:  # so few samples that resampling them decides whether one is left
                decode(value, rate, longest)
            elif file.channels > 1 or file.subtype in ("FLOAT", "DOUBLE"):
                _mixed(name, _read(name, file, start, count))
            else:
                _read(name, file, start, min(count, _END))
                if file.format not in _MISSED:  # whose end is found by decoding all of it
                    _read(name, file, start + max(count - _END, 0), min(count, _END))
    except Unusable as error:
        return error.reason
    return ""


_END = 1024
"""Samples that are read at each end of a recording to see whether it can be decoded."""
_MISSED = ("OGG", "MP3")
"""Formats in which libsndfile, sent to a frame, now and then gives other samples or too few: they are decoded from the
beginning, in one go, since soundfile sends it to where each reading ends."""
_REPLACE = f"replace or remove the file; {' '.join(AUDIO)} are read"


@contextlib.contextmanager
def _opened(value: Any) -> Iterator[Any]:
    """The file as soundfile opens it; what libsndfile raises while it is read is `Unusable`."""
    soundfile = _soundfile()
    path = value.path if isinstance(value, Piece) else value
    name = name_of(value)
    try:
        _check_start(name, path)
        with soundfile.SoundFile(io.BytesIO(path) if isinstance(path, bytes) else str(path)) as file:
            if file.subtype not in AUDIO_FORMATS.get(audio_format(file.format), ()):
                raise _unknown_format(name, f"{file.format} {file.subtype}")
            if file.samplerate > MAX_RATE or file.samplerate < 1:
                problem = f"this recording has more than {MAX_RATE:,} samples a second"
                found = f"{file.samplerate:,} a second"
                raise Unusable("sample rate above 1 MHz", name, problem, found=found, fix=_REPLACE)
            if file.channels > CHANNELS:
                problem, found = f"this recording has more than {CHANNELS} channels", str(file.channels)
                raise Unusable(f"more than {CHANNELS} channels", name, problem, found=found, fix="mix it down to one")
            yield file
    except InputError:
        raise
    except Exception as error:  # of damaged files soundfile raises errors of five kinds
        if isinstance(path, str | Path) and not Path(path).exists():
            fix = "correct the path, or remove the record"
            raise Unusable("no such recording", name, "no such recording", fix=fix) from error
        if path == b"" or (isinstance(path, str | Path) and Path(path).stat().st_size == 0):
            problem = "this recording cannot be decoded"
            raise Unusable("empty file", name, problem, found="the file is empty", fix=_REPLACE) from error
        found = str(error).rsplit("> : ", 1)[-1].rsplit(": ", 1)[-1]
        raise Unusable(
            "broken recording", name, "this recording cannot be decoded", found=found, fix=_REPLACE
        ) from error


def _check_start(name: str, path: Any) -> None:
    """No parser of another format is opened."""
    if isinstance(path, bytes):
        head = path[:4]
    else:
        with open(path, "rb") as file:
            head = file.read(4)
    if head and not begins_as_audio(head):
        raise _unknown_format(name, f"a file that begins with {head!r}")


def _unknown_format(name: str, found: str) -> Unusable:
    problem = f"this recording has a format that is not read; {AUDIO_READ}"
    return Unusable("format that is not read", name, problem, found=found, fix=_converted(name))


def _converted(name: str) -> str:
    """How to write a recording in a format that is read."""
    path = Path(name)
    if not path.is_file():
        return "send it as FLAC"
    return shlex.join(["ffmpeg", "-i", name, str(path.with_name(f"{path.stem}.flac"))])


def _extent(value: Any, file: Any) -> tuple[int, int]:
    """First frame and number of frames of a recording, or of a piece of it."""
    if not isinstance(value, Piece) or value.duration is None:
        _check_whole(value, file)
    if not isinstance(value, Piece):
        return 0, file.frames
    lasts, slack = file.frames, round(SLACK * file.samplerate)
    start = round(value.offset * file.samplerate)
    count = lasts - start if value.duration is None else round(value.duration * file.samplerate)
    if start > lasts or start + count > lasts + slack:
        raise Unusable(
            "piece past the end of its recording",
            name_of(value),
            "this piece ends past the end of its recording",
            found=f"{(start + count) / file.samplerate:g} s, of {lasts / file.samplerate:g} s",
            fix="correct where pieces begin and end in the manifest, in seconds",
        )
    if start == 0 and abs(count - lasts) <= slack:  # a duration that states, rounded, what the file says
        return 0, lasts
    return start, min(count, lasts - start)


def _check_whole(value: Any, file: Any) -> None:
    """Of a WAV libsndfile gives what is there; other formats end in an error where they are cut off."""
    path = value.path if isinstance(value, Piece) else value
    with io.BytesIO(path) if isinstance(path, bytes) else open(path, "rb") as content:
        lacking = lacking_of_wav(content)
    again = "" if isinstance(path, bytes) else f"fetch it again, or keep what is there: {_converted(name_of(path))}"
    lasts = file.frames / file.samplerate
    if lasts and lasts / (1 - lacking) > lasts + SLACK:
        raise Unusable(
            "recording that is cut off",
            name_of(value),
            "this recording is cut off",
            found=f"{lasts:.3g} s, of {lasts / (1 - lacking):.3g} s by its header",
            fix=again or "send it whole",
        )


def _read(name: str, file: Any, start: int, count: int) -> np.ndarray:
    """float32 (n, channels)."""
    passed = start if file.format in _MISSED else 0
    if (passed + count) * file.channels > MAX_SAMPLES:
        problem = f"this recording has more than {MAX_SAMPLES:,} samples" + " before the piece ends" * bool(passed)
        found = f"{passed + count:,} in {file.channels} channels"
        fix = _converted(str(file.name)) if passed else ""
        raise Unusable(f"more than {MAX_SAMPLES:,} samples", name, problem, found=found, fix=fix)
    file.seek(start - passed)
    samples: np.ndarray = file.read(passed + count, dtype="float32", always_2d=True)[passed:]
    if not len(samples):
        raise Unusable("empty recording", name, "this recording holds no samples", fix="replace or remove the file")
    if len(samples) < count and file.format != "MP3":  # whose length is an estimate
        raise Unusable(
            "broken recording",
            name,
            "this recording cannot be decoded to its end",
            found=f"{len(samples):,} of {count:,} samples",
            fix=_REPLACE,
        )
    return samples


def _mixed(name: str, samples: np.ndarray) -> np.ndarray:
    """(n, channels) -> (n,): the average of the channels."""
    _check_finite(name, samples)
    if samples.shape[1] == 1:
        return samples[:, 0]
    mono = samples.mean(1)
    power = float(np.square(samples).mean())
    if power > AUDIBLE and float(np.square(mono).mean()) < CANCELLED * power:
        raise Unusable(
            "channels that cancel each other",
            name,
            "its channels cancel each other: their average is silent, and each of them is not",
            found=f"{samples.shape[1]} channels",
            fix=_one_channel(name),
        )
    return mono


def _one_channel(name: str) -> str:
    """How to keep the first channel of a recording alone."""
    path = Path(name)
    if not path.is_file():
        return "send one channel of it"
    return shlex.join(["ffmpeg", "-i", name, "-af", "pan=mono|c0=c0", str(path.with_stem(f"{path.stem}-mono"))])


def _check_finite(name: str, samples: np.ndarray) -> None:
    if float(np.abs(samples).max(initial=0)) <= LOUDEST:
        return
    wrong = ~(np.abs(samples.reshape(len(samples), -1)) <= LOUDEST).all(1)
    raise Unusable(
        "samples that are not finite",
        name,
        f"this recording holds samples that are not finite, or larger than {LOUDEST:g}",
        found=f"{int(wrong.sum()):,} of {len(wrong):,}, the first is number {int(wrong.argmax()) + 1:,}",
        fix="replace or remove the file",
    )


def _check_length(value: Any, lasts: float, longest: float) -> None:
    if lasts > longest:
        raise Unusable(
            f"longer than {longest:g} s",
            name_of(value),
            f"this recording lasts {lasts:.1f} s, longer than the model takes.",
            found=f"limit {longest:g} s",
            fix="cut it, or train with a larger --task.max_seconds",
        )


def wav(samples: np.ndarray, rate: int) -> bytes:
    """A WAV file of 16 bits of the samples (n,); those beyond -1..1 are cut there."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes((np.clip(samples, -1, 1) * (2**15 - 1)).astype("<i2").tobytes())
    return file.getvalue()


def resample(samples: np.ndarray, ratio: float, name: str = "recording") -> np.ndarray:
    """Samples (n,) at a rate ``ratio`` times lower: about n / ratio of them."""
    try:
        import soxr
    except ImportError as error:
        raise missing("soxr", "to change sample rates", "speech") from error
    try:
        return np.ascontiguousarray(soxr.resample(samples, ratio, 1.0, quality="HQ"), np.float32)
    except (ValueError, RuntimeError) as error:
        problem = "this recording cannot be brought to the rate of the model"
        raise Unusable("broken recording", name, problem, found=str(error), fix=_REPLACE) from error


def _from_array(value: np.ndarray) -> np.ndarray:
    if value.dtype == np.int16 and value.ndim == 1 and len(value):
        return value.astype(np.float32) / 2**15
    if value.dtype.kind != "f" or value.ndim not in (1, 2) or not len(value):
        shape, reason = f"{value.dtype} {value.shape}", "broken recording" if len(value) else "empty recording"
        problem = "must be float or int16 samples (n,), or float features (t, f)"
        raise Unusable(reason, "recording", problem, found=shape)
    _check_finite("recording", value)
    return value.astype(np.float32)
