"""Words of a text with their places: the units that a tagger labels, in any script, and the text cleaned around them.

A word is a run of letters, digits and combining marks; any other sign, such as punctuation or an emoji with what joins
and colours it, stands alone, and so does each character of the scripts that put no blanks between words (Chinese,
Japanese, Thai, Lao, Burmese, Khmer). Places are characters (code points) of the text as it was given.
"""

import functools
import re
import sys
import unicodedata
from collections.abc import Iterable

from suite.data.preprocessing.text import BREAK, CONTROL, clean

_ALONE = (
    "\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts without blanks between words."""
_JOINER = "\u200d"
"""Zero-width joiner: several emoji around it are one."""

Place = tuple[int, int]
"""First character and the one behind the last."""


def word_places(text: str) -> list[Place]:
    """Where each word stands."""
    if "<" in text:  # line breaks of HTML are blanks, as in `clean`
        text = BREAK.sub(lambda found: " " * len(found[0]), text)
    return [found.span() for found in _pattern().finditer(text)]


def cleaned(text: str, places: Iterable[Place]) -> tuple[str, list[Place]]:
    """The text as tokenizers take it, in NFC and with one blank where there is white space; and where in it each word
    is that stands at ``places`` of the given text."""
    parts: list[str] = []
    found: list[Place] = []
    length, end = 0, 0
    for start, stop in places:
        if parts and start > end:
            parts.append(" ")
            length += 1
        word = clean(text[start:stop])
        parts.append(word)
        found.append((length, length + len(word)))
        length, end = length + len(word), stop
    return "".join(parts), found


@functools.cache
def _pattern() -> re.Pattern[str]:
    marks = _marks()
    hidden = CONTROL.pattern[1:-1]
    joined = f"{marks}{hidden}\ufe00-\ufe0f\U000e0020-\U000e007f"
    trail = f"[{joined}]*"
    sign = rf"[^\s\w{hidden}{_JOINER}]{trail}[\U0001f3fb-\U0001f3ff]?{trail}"
    letters = rf"(?:(?![{_ALONE}])\w[{joined}\u200c{_JOINER}]*)+"
    return re.compile(rf"[{_ALONE}]{trail}|{letters}|{sign}(?:{_JOINER}{sign})*")


def _marks() -> str:
    """Ranges of combining marks, for a class of characters of a pattern."""
    points = [point for point in range(sys.maxunicode + 1) if unicodedata.category(chr(point)) in ("Mn", "Mc", "Me")]
    ranges: list[list[int]] = []
    for point in points:
        if ranges and ranges[-1][1] == point - 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)
