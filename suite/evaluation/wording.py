"""Values of metrics in words: with the decimals that their intervals allow, and which way is better."""

import math

from suite.contracts.metric_meaning import Meaning, meaning
from suite.evaluation.bootstrap import Interval


def term(metric: str) -> Meaning:
    """What is known of a metric; of others their name."""
    return meaning(metric)


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
    return f"{value}{unit} ({low} to {high})" if interval.known else f"{value}{unit}"


def way(metric: str, value: float) -> str:
    """Whether a difference in this direction is ``"better"`` or ``"worse"``; ``"higher"`` or ``"lower"`` where neither
    is known to be."""
    better = term(metric).better
    if better not in ("higher", "lower"):
        return "higher" if value > 0 else "lower"
    return "better" if (value > 0) == (better == "higher") else "worse"


def capital(text: str) -> str:
    """The text as the beginning of a sentence; a name that has a capital of its own, such as mAP, stays."""
    return text if any(map(str.isupper, text.partition(" ")[0][1:])) else text[:1].upper() + text[1:]


def percent(part: float, whole: float = 1.0, places: int = 1) -> str:
    """A share in percent; a dash of nothing."""
    return f"{100 * part / whole:.{places}f} %" if whole else "–"


def precision_recall_f1(right: int, answered: int, actual: int) -> tuple[str, str, str]:
    """The three in percent, of so many ``right`` among those that are answered and those that are so."""
    return percent(right, answered), percent(right, actual), percent(2 * right, answered + actual)
