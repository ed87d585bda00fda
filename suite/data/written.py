"""Values as tables and requests write them: numbers, gaps and truth values, told from texts by one set of rules.

Readers of tables apply them to whole columns, `suite.data.preprocessing.tabular_values` to the values of a request, so
that a value is the same in training and in a request, whatever the format.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

NULLS = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("N/A", "NA", "NULL", "NaN", "n/a", "nan", "null"),
)
"""Texts that mean a gap in a column of numbers; in a column of texts they are texts."""
GAPS = (*NULLS, "None", "none", "<NA>")
"""The same, and what Python and pandas write."""
INFINITE = r"[+-]?(?:inf|Inf|INF|infinity|Infinity)"
WHOLE = "(?:0|[1-9][0-9]{0,399})"
"""No leading zeros: 007 is a code."""
INTEGER = rf"[+-]?{WHOLE}"
DECIMAL = rf"[+-]?(?:{WHOLE}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|{INFINITE}"
BLANKS = " \xa0\u202f"
"""Blanks between thousands."""
COMMA = rf"[+-]?(?:[1-9][0-9]{{0,2}}(?:[.'’{BLANKS}][0-9]{{3}})+|0|[1-9][0-9]*)(?:,[0-9]+)?(?:[eE][+-]?[0-9]+)?"
"""Numbers with a decimal comma: 1.234,56, 1 234,56 or 1234,56."""
THOUSANDS = rf"[+-]?[1-9][0-9]{{0,2}}(?:,[0-9]{{3}})+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|{DECIMAL}"
"""Numbers with commas between thousands: 1,234.56."""
_HALVES = re.compile("[\ud800-\udfff]")
STYLES = {"": DECIMAL, "decimal comma": COMMA, "thousands comma": THOUSANDS}
"""How numbers are written -> pattern."""
DIGITS = "digits"
"""The style of whole numbers that are held as texts of their digits, for a float64 would round them."""
EXACT = 1 << 53
"""Largest integer up to which a float64 holds every integer."""
INT64 = (-(1 << 63), (1 << 63) - 1)

_PATTERNS = {style: re.compile(pattern) for style, pattern in (*STYLES.items(), (DIGITS, DECIMAL))}
_INTEGER = re.compile(INTEGER)
_GAPS = frozenset(GAPS)
_GROUPS = str.maketrans("", "", f".'’{BLANKS}")
_TRUTH = {"true": True, "false": False}


def is_gap(text: str) -> bool:
    """Whether a text stands for a missing number."""
    return text.strip() in _GAPS


def is_integer(text: str) -> bool:
    """Whether a text is a whole number without a fraction, an exponent or leading zeros."""
    return _INTEGER.fullmatch(text.strip()) is not None


def is_number(text: str, style: str = "") -> bool:
    """Whether a text is a number, written in one of ``STYLES``."""
    return _PATTERNS[style].fullmatch(text.strip()) is not None


def plain(text: str, style: str) -> str:
    """A number of another style as Python writes it."""
    text = text.strip()
    return text.translate(_GROUPS).replace(",", ".") if style == "decimal comma" else text.replace(",", "")


def number(text: str, style: str = "") -> float | None:
    """The number that a text writes, nan for a gap; None where it is none.

    A column whose numbers have a decimal comma may hold plain integers, which every style reads alike.
    """
    if is_gap(text):
        return math.nan
    if not is_number(text, style):
        return None
    return float(plain(text, style) if style and style != DIGITS else text)


def truth(text: str) -> bool | None:
    """True for ``true``, False for ``false``, in any case; None for other texts."""
    return _TRUTH.get(text.strip().lower())


def looks_like_data(names: Iterable[str]) -> bool:
    """Whether a header line is rather a record: one of its names is a number, or two are the same."""
    listed = [name.strip() for name in names]
    filled = [name for name in listed if name]
    return any(is_number(name) for name in filled) or len(set(filled)) < len(filled)


def from_json(text: str | bytes, **how: Any) -> Any:
    """The value of a JSON text, with U+FFFD for halves of surrogate pairs: JSON can write them, but they are no
    characters, and no file of UTF-8 holds them.

    Args:
        text: see ``json.loads``.
        how: the same.

    Raises:
        ValueError, RecursionError: it is no JSON, or nested too deep.
    """
    value = json.loads(text, **how)
    return with_characters(value) if may_have_halves(text) else value


def may_have_halves(text: str | bytes) -> bool:
    """Whether a JSON text writes surrogates, in pairs or not."""
    if isinstance(text, str):
        return "\\ud" in text or "\\uD" in text
    return b"\\ud" in text or b"\\uD" in text


def with_characters(value: Any) -> Any:
    """A value of JSON with U+FFFD for halves of surrogate pairs."""
    if isinstance(value, str):
        return _HALVES.sub("\ufffd", value)
    if isinstance(value, list):
        return [with_characters(item) for item in value]
    if isinstance(value, dict):
        return {with_characters(name): with_characters(item) for name, item in value.items()}
    return value


def has_half(value: Any) -> bool:
    """Whether a value of JSON holds half of a surrogate pair."""
    if isinstance(value, str):
        return _HALVES.search(value) is not None
    if isinstance(value, list):
        return any(map(has_half, value))
    return isinstance(value, dict) and any(has_half(item) for pair in value.items() for item in pair)
