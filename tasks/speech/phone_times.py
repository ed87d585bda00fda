"""Durations of symbols in data, and whether texts and recordings can be aligned at all."""

import math
from typing import Any

import numpy as np

from suite.contracts.data import Source
from suite.data.preprocessing.spelling import PAUSE, Spelling
from suite.data.recordings import extent
from suite.data.sources.memory import cleaned
from suite.errors import InputError
from suite.nn.audio.spectral import LogMel

SLACK = 0.1
"""Seconds by which durations may add up to more or less than the recording."""


def frames_of(text: str, seconds: Any, frames: int, spelling: Spelling, rate: float) -> np.ndarray:
    """Frames of each symbol that ``spelling`` makes of the text, int32 (u,), of a recording of so many frames.

    A phone that training does not have gives its frames to the symbol before it, and a pause that the text does not
    write has none.

    Args:
        text: phones between blanks.
        seconds: of each phone, a list or a text of numbers between blanks.
        frames: of the recording; the last symbol's end with them.
        spelling: symbols.
        rate: frames a second.
    """
    ends = np.minimum(np.ceil(np.cumsum(_numbers(seconds)) * rate - 1e-6), frames).astype(np.int64)
    ends[-1] = frames
    phones, known = text.split(), set(spelling.symbols)
    counts, begun = [0], False
    for phone, count in zip(phones, np.diff(ends, prepend=0).tolist(), strict=True):
        if phone not in known or (phone == PAUSE and not begun):
            counts[-1] += count
        else:
            counts.append(count)
        begun |= phone in known
    spoken = [phone for phone in phones if phone in known]
    if spoken and spoken[-1] != PAUSE:
        counts.append(0)
    return np.array(counts, np.int32)


def without_unaligned(
    source: Source, audio: str, text: str, durations: str, spelling: Spelling, front_end: LogMel
) -> Source:
    """The records whose text fits its recording; the others are dropped, counted and named.

    Args:
        source: records that have both.
        audio, text: names of the columns.
        durations: name of the column of the seconds of each phone; empty: each symbol needs a frame.
        spelling: symbols.
        front_end: of the features.

    Raises:
        InputError: there is none left.
    """
    places = np.arange(len(source))
    columns = {name: source.column(name, places) for name in (audio, text, durations) if name}
    lasts = np.array([_seconds(value, front_end.sample_rate) for value in columns[audio]])
    faults: dict[str, np.ndarray] = {}
    if durations:
        given = [_numbers(value) for value in columns[durations]]
        counts = np.array([len(str(value).split()) for value in columns[text]])
        sums = np.array([sum(value) for value in given])
        faults["no durations"] = np.array([not value for value in given])
        faults["another number of durations than of phones"] = np.array([len(value) for value in given]) != counts
        faults["durations that do not add up to the recording"] = np.abs(sums - lasts) > SLACK
    else:
        frames = np.floor(lasts * front_end.sample_rate / front_end.hop) + 1
        faults["fewer frames than symbols"] = frames < np.array([spelling.length(value) for value in columns[text]])
    usable = cleaned(source, faults)
    if not len(usable):
        found = "; ".join(f"{reason}: {count:,}" for reason, count in usable.dropped.items())
        fix = "check the durations: seconds of each phone, a list" if durations else "check the texts and recordings"
        raise InputError(f"column {durations or text}", "no record has a text that fits it.", found=found, fix=fix)
    return usable


def _seconds(value: Any, rate: int) -> float:
    return len(value) / rate if isinstance(value, np.ndarray) else extent(value)[0]


def _numbers(value: Any) -> list[float]:
    """Seconds that are not negative; none where the cell holds something else."""
    try:
        numbers = [float(item) for item in (value.split() if isinstance(value, str) else value)]
    except (TypeError, ValueError, AttributeError):
        return []
    return numbers if all(math.isfinite(number) and number >= 0 for number in numbers) else []
