"""Round trip: the words that a recogniser hears in speech that was made, beside those it hears in recordings."""

import functools
import re
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from suite.bundles.bundle import Bundle
from suite.codecs.audio import Transcripts
from suite.contracts.batch import Ragged
from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.data.recordings import AUDIBLE, resample
from suite.distribution import missing
from suite.errors import InputError
from suite.runs import run as runs
from suite.runtime.files import is_bundle, is_run
from suite.tasks.speech.recognition import edits

POCKETSPHINX = "pocketsphinx"
"""The recogniser of English that needs no run: PocketSphinx with the model that it comes with."""
_RATE = 16_000
"""Samples a second that PocketSphinx takes."""


def as_codes(texts: Sequence[Any]) -> Ragged:
    """Texts as numbers of their characters, int32, on an axis of their own."""
    rows = [np.array([ord(character) for character in text or ""], np.int32) for text in texts]
    values = np.concatenate(rows) if rows else np.zeros(0, np.int32)
    return Ragged(values, np.array([len(row) for row in rows], np.int64), axis="text")


def from_codes(codes: np.ndarray, mask: np.ndarray) -> list[str]:
    """The texts of rows (b, n) as `as_codes` writes them, padded."""
    return ["".join(map(chr, row[real])) for row, real in zip(codes, mask, strict=True)]


def round_trip(
    recogniser: str, texts: Sequence[str], natural: Sequence[np.ndarray], made: Sequence[np.ndarray], rate: int
) -> dict[str, MetricState]:
    """Word errors of what is heard in speech that was made, those of the recordings, and their ratio.

    Args:
        recogniser: see `heard`.
        texts: what is said.
        natural: samples of the recordings.
        made: samples that were made of the same.
        rate: samples a second.
    """
    said = [_words(text) for text in texts]
    of_made, of_natural = (
        edits(said, [_words(text) for text in heard(recogniser, rows, rate)], "words") for rows in (made, natural)
    )
    return {
        "round_trip_wer": of_made,
        "natural_wer": of_natural,
        "round_trip_ratio": MetricState(of_made.total, of_natural.total),
    }


def heard(recogniser: str, rows: Sequence[np.ndarray], rate: int) -> list[str]:
    """What is said in recordings; nothing in silent ones.

    Args:
        recogniser: the folder of a run of speech recognition or of a bundle of one, or ``pocketsphinx``.
        rows: samples of each.
        rate: samples a second.

    Raises:
        InputError: the folder holds no such run.
    """
    audible = [len(row) > 0 and float(np.square(row, dtype=np.float64).mean()) > AUDIBLE for row in rows]
    asked = [row for row, is_audible in zip(rows, audible, strict=True) if is_audible]
    hear = _by_pocketsphinx if recogniser == POCKETSPHINX else functools.partial(_by_run, recogniser)
    answers = iter(hear(asked, rate) if asked else [])
    return [next(answers) if is_audible else "" for is_audible in audible]


def check_recogniser(recogniser: str, field: str) -> None:
    """Check that there is such a recogniser.

    Raises:
        InputError: the folder holds no run of speech recognition, or PocketSphinx is not installed.
    """
    if recogniser == POCKETSPHINX:
        _sphinx()
        return
    does = "is neither"
    if is_run(recogniser) or is_bundle(recogniser):
        codec = _opened(recogniser).codec
        if isinstance(codec, Transcripts):
            return
        does = f"{codec.purpose[:1].lower()}{codec.purpose[1:]}"
    problem = "must be a run of speech recognition, a bundle of one, or pocketsphinx."
    fix = f"--{field} {shlex.quote(POCKETSPHINX)}"
    raise InputError(f"field {field}", problem, found=f"{recogniser}, which {does}", fix=fix)


def _by_run(folder: str, rows: Sequence[np.ndarray], rate: int) -> list[str]:
    opened = _opened(folder)
    own = opened.codec.recordings.rate
    resampled = [row if own == rate else resample(row, own / rate) for row in rows]
    return [answer["text"] for answer in opened.predict({opened.codec.audio: resampled})]


@functools.lru_cache(maxsize=2)
def _opened(folder: str) -> Any:
    return Bundle.open(folder) if is_bundle(folder) else runs.open(folder)


def _by_pocketsphinx(rows: Sequence[np.ndarray], rate: int) -> list[str]:
    decoder, texts = _sphinx(), []
    for row in rows:
        samples = row if rate == _RATE else resample(row, _RATE / rate)
        decoder.start_utt()
        pcm = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2")
        decoder.process_raw(pcm.tobytes(), no_search=False, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        texts.append("" if found is None else found.hypstr)
    return texts


@functools.cache
def _sphinx() -> Any:
    try:
        import pocketsphinx
    except ImportError as error:
        raise missing("pocketsphinx", "for --task.recogniser pocketsphinx", "hear") from error
    # Means of the whole recording, not of those before it: what is heard must not depend on the order.
    return pocketsphinx.Decoder(samprate=_RATE, cmn="batch", loglevel="FATAL")


def _words(text: str) -> str:
    """Words alone, in small letters: recognisers write no punctuation."""
    return " ".join(re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.casefold()))


register_metric(
    "round_trip_wer",
    "Substituted, deleted and inserted words of what task.recogniser hears in the speech that was made, over the words "
    "that are said. 0 % is best; to be read beside the error on recordings.",
    "lower",
    title="round-trip word error rate",
    share=True,
)
register_metric(
    "natural_wer",
    "The same of the recordings themselves: what the recogniser is worth.",
    "lower",
    title="word error rate on recordings",
    share=True,
)
register_metric(
    "round_trip_ratio",
    "Word errors in the speech that was made over those in the recordings. 1: it is understood as well as they are.",
    "near 1",
    title="word errors, made over recorded",
)
