"""What each metric means, which way it is better, and how it is written."""

import math
from dataclasses import dataclass
from typing import Literal

from suite.evaluation.bootstrap import Interval


@dataclass(frozen=True)
class Term:
    """A metric.

    Attributes:
        title: as a person says it.
        meaning: what it is, and what is good, in a sentence or two.
        better: which way; ``"near 1"`` for ratios that should be 1; empty where no way is better by itself.
        share: whether it is a share of something, and so written in percent.
    """

    title: str
    meaning: str
    better: Literal["higher", "lower", "near 1", ""] = ""
    share: bool = False


TERMS = {
    "accuracy": Term(
        "accuracy",
        "Share of answers that are right: of records, or of tokens where text is said. 100 % "
        "is best; what the most frequent answer alone would reach is the least to expect.",
        "higher",
        True,
    ),
    "loss": Term(
        "loss",
        "Mean cross-entropy of what was wanted, in nats; of language models a token, of speech a "
        "symbol. 0 is being sure of what is right. Its exponential is the perplexity. Comparable between runs "
        "of the same data and vocabulary alone.",
        "lower",
    ),
    "auc": Term(
        "AUC",
        "Area under the ROC curve: how often a record with the event gets a higher score than one "
        "without. 0.5 is chance, 1 is best.",
        "higher",
    ),
    "auc_low": Term("AUC, lower bound", "Lower bound of the AUC's 95 % interval.", "higher"),
    "auc_high": Term("AUC, upper bound", "Upper bound of the AUC's 95 % interval.", "higher"),
    "calibration": Term(
        "calibration",
        "Mean predicted probability over the share of events: 1 is right, more is too sure of the event.",
        "near 1",
    ),
    "calibration_error": Term(
        "calibration error",
        "How far predicted probabilities are from what happened, on average "
        "over bins of the probability (expected calibration error). 0 is best.",
        "lower",
    ),
    "unseen": Term("unseen values", "Values of a record that training had not, or too rarely."),
    "wer": Term(
        "word error rate",
        "Words that were mistaken, left out or put in, over the words that were said. 0 % is best; it may pass 100 %.",
        "lower",
        True,
    ),
    "wer_greedy": Term(
        "word error rate, greedy", "The same without the search: what the decoder is worth.", "lower", True
    ),
    "cer": Term(
        "character error rate",
        "Characters that were mistaken, left out or put in, over those that were said. 0 % is best.",
        "lower",
        True,
    ),
    "too_short": Term(
        "too short", "Share of recordings with fewer frames than their transcript needs. 0 % is best.", "lower", True
    ),
    "bleu": Term(
        "BLEU",
        "How much of the reference translations' wording is met, 0 to 100, by words and runs of up "
        "to four (arXiv 1804.08771). Comparable for the same test set alone.",
        "higher",
    ),
    "chrf": Term(
        "chrF", "The same by runs of up to six characters, 0 to 100; kinder to inflected languages.", "higher"
    ),
    "skipped": Term(
        "skipped steps", "Share of steps that were left out, since loss or gradient was no number.", "lower", True
    ),
    "learning_rate": Term("learning rate", "How far the optimiser goes at each step."),
    "examples_per_second": Term(
        "examples/s", "Training records a second, without evaluation and compilation.", "higher"
    ),
}


def term(metric: str) -> Term:
    """What is known of a metric; of others their name."""
    return TERMS.get(metric, Term(metric.replace("_", " "), "A metric of this task; its documentation says more."))


def shown(metric: str, value: float, decimals: int | None = None) -> str:
    """A value for people: shares in percent."""
    if not math.isfinite(value):
        return "not a number"
    if term(metric).share:
        return f"{100 * value:.{1 if decimals is None else decimals}f} %"
    if decimals is None and abs(value) < 1000:
        return f"{value:.4g}"
    return f"{value:,.{decimals or 0}f}"


def ranged(metric: str, interval: Interval) -> str:
    """``"96.4 % (94.4 to 98.3)"``: a value with its interval."""
    return f"{shown(metric, interval.value, decimals(metric, interval))} ({bounds(metric, interval)})"


def bounds(metric: str, interval: Interval) -> str:
    """``"94.4 to 98.3"``: the ends of an interval, in the unit of ``shown``."""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return "unknown"
    low, high = (shown(metric, end, decimals(metric, interval)) for end in (interval.low, interval.high))
    return f"{low.removesuffix(' %')} to {high.removesuffix(' %')}"


def decimals(metric: str, interval: Interval) -> int:
    """Decimals that say what the interval allows to be said: two digits of its width."""
    width = (interval.high - interval.low) * (100 if term(metric).share else 1)
    if not (math.isfinite(width) and width > 0):
        return 1 if term(metric).share else 4
    return min(max(1 - math.floor(math.log10(width)), 1), 5)


def apart(metric: str, value: float, bound: float, least: int) -> tuple[str, str]:
    """Both, with so many decimals, at least ``least``, that they read as different where they are."""
    for places in range(least, 9):
        pair = shown(metric, value, places), shown(metric, bound, places)
        if value == bound or pair[0] != pair[1]:
            break
    return pair[0], _plain(pair[1])


def _plain(text: str) -> str:
    """Without zeros at the end: a bound is said as it was set."""
    number, space, unit = text.partition(" ")
    return (number.rstrip("0").rstrip(".") if "." in number else number) + space + unit


def difference(metric: str, interval: Interval) -> str:
    """``"+1.3 points (0.2 to 2.4)"``, shares in percentage points."""
    places = decimals(metric, interval)
    scale, unit = (100, " points") if term(metric).share else (1, "")
    value, low, high = (f"{scale * part:+.{places}f}" for part in (interval.value, interval.low, interval.high))
    return f"{value}{unit} ({low} to {high})"


def way(metric: str, value: float) -> str:
    """Whether a difference in this direction is ``"better"`` or ``"worse"``; ``"higher"`` or ``"lower"`` where neither
    is known to be."""
    better = term(metric).better
    if better not in ("higher", "lower"):
        return "higher" if value > 0 else "lower"
    return "better" if (value > 0) == (better == "higher") else "worse"


def capital(text: str) -> str:
    """The text as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def percent(part: float, whole: float = 1.0, places: int = 1) -> str:
    """A share in percent; a dash of nothing."""
    return f"{100 * part / whole:.{places}f} %" if whole else "–"
