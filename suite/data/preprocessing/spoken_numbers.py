"""Numbers in words, by num2words; and abbreviations and signs of English as they are spoken."""

import re
from typing import Any

from suite.distribution import missing
from suite.errors import InputError

ABBREVIATIONS = {
    "mr": "mister",
    "mrs": "misses",
    "ms": "miss",
    "dr": "doctor",
    "st": "saint",
    "prof": "professor",
    "capt": "captain",
    "col": "colonel",
    "gen": "general",
    "lt": "lieutenant",
    "sgt": "sergeant",
    "rev": "reverend",
    "hon": "honourable",
    "jr": "junior",
    "sr": "senior",
    "co": "company",
    "ltd": "limited",
    "vs": "versus",
    "etc": "et cetera",
    "e.g": "for example",
    "i.e": "that is",
}
"""English abbreviations, which a full stop ends."""
SIGNS = {"&": "and", "%": "percent", "+": "plus", "=": "equals", "@": "at"}
"""English signs, where they stand for words."""
MONEY = {"$": "dollars", "£": "pounds", "€": "euros"}
_ABBREVIATION = re.compile(rf"\b({'|'.join(map(re.escape, ABBREVIATIONS))})\.", re.IGNORECASE)
_MONEY = re.compile(r"([$£€])\s?(\d[\d.,]*\d|\d)")
_ORDINAL = re.compile(r"\b(\d[\d,]*)(?:st|nd|rd|th)\b", re.IGNORECASE)
_SIGN = re.compile(rf"\s*([{re.escape(''.join(SIGNS))}])(\w?)")
LONGEST = 18
"""Digits beyond which a number is spoken digit by digit."""


def spoken(text: str, language: str) -> str:
    """The text with its numbers in words; of English, with its abbreviations and signs in words too.

    Raises:
        InputError: it holds a number, and num2words is not installed or has no such language.
    """
    if language == "en":
        text = _ABBREVIATION.sub(lambda found: ABBREVIATIONS[found[1].lower()], text)
        text = _MONEY.sub(lambda found: f"{found[2]} {MONEY[found[1]]}", text)
        text = _SIGN.sub(lambda found: f" {SIGNS[found[1]]}{found[2] and ' ' + found[2]}", text)
        text = _ORDINAL.sub(lambda found: _words(found[1].replace(",", ""), language, "ordinal"), text)
    if not any(letter.isdecimal() for letter in text):
        return text
    thousands, point = (",", ".") if language == "en" else (r"[. \u00a0\u202f]", ",")
    decimals = rf"(?:{re.escape(point)}\d+)?"
    number = re.compile(rf"\d{{1,3}}(?:{thousands}\d{{3}})+(?!\d){decimals}|\d+{decimals}")

    def plain(found: re.Match[str]) -> str:
        whole, _, part = found[0].partition(point)
        digits = "".join(letter for letter in whole if letter.isdecimal())
        words = _words(f"{digits}.{part}" if part else digits, language, "cardinal")
        before = found.start() > 0 and text[found.start() - 1].isalnum()
        after = found.end() < len(text) and text[found.end()].isalnum()
        return f"{' ' * before}{words}{' ' * after}"

    return number.sub(plain, text)


def _words(number: str, language: str, form: str) -> str:
    num2words = _num2words()
    try:
        if sum(letter.isdecimal() for letter in number) > LONGEST:
            return " ".join(num2words(int(letter), lang=language) for letter in number if letter.isdecimal())
        value: Any = number if "." in number else int(number)
        return str(num2words(value, lang=language, to=form))
    except NotImplementedError as error:
        raise InputError(
            "field spelling.language",
            f'num2words has no language "{language}".',
            fix='its code, such as en, de or pt_BR; or --task.spelling.language "" and numbers written as words',
        ) from error


def _num2words() -> Any:
    try:
        from num2words import num2words
    except ImportError as error:
        raise missing("num2words", "to spell out the numbers of a text", "speech-text") from error
    return num2words
