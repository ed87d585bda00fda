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
MONEY = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent")}
"""Sign -> what it is called, and a hundredth of it."""
_PLURALS = {"penny": "pence"}
_AT_AN_END = ("etc", "jr", "sr", "co", "ltd", "st")
"""Abbreviations that may end a sentence, whose full stop then stays."""
_AMOUNT = r"\d(?:[\d,]*\d)?(?:\.\d+)?"
_SCALE = r"(?:\s+(?:hundred|thousand|million|billion|trillion)\b)?"
_ABBREVIATION = re.compile(
    rf"(?<!\d)(?<!\d\s)\b({'|'.join(map(re.escape, ABBREVIATIONS))})\.(\s+[A-Z]|\s*$)?", re.IGNORECASE
)
_STREET = re.compile(r"(?<=[A-Z])([a-z]+\s+)St\.(?!\s+[A-Z])")
_MONEY = re.compile(rf"([$£€])\s?({_AMOUNT})({_SCALE})|(?<![\w.])({_AMOUNT})({_SCALE})\s?([$£€])", re.IGNORECASE)
_ORDINAL = re.compile(r"\b(\d[\d,]*)(?:st|nd|rd|th)\b", re.IGNORECASE)
_SIGN = re.compile(rf"\s*([{re.escape(''.join(SIGNS))}])(\w?)")
_TIME = re.compile(r"(?<![\d:.])([01]?\d|2[0-3]):([0-5]\d)(?![\d:])")
_DECADE = re.compile(r"\b(\d{2}|\d{4})(?<=0)s\b")
_DOTTED = re.compile(r"(?<![\d.])\d+(?:\.\d+){2,}")
LONGEST = 18
"""Digits beyond which a number is spoken digit by digit."""


def spoken(text: str, language: str) -> str:
    """The text with its numbers in words; of English, with its abbreviations and signs in words too.

    Raises:
        InputError: it holds a number, and num2words is not installed or has no such language.
    """
    english = re.split("[-_]", language)[0] == "en"
    if english:
        text = _STREET.sub(r"\1street", text)
        text = _ABBREVIATION.sub(_unabbreviated, text)
        text = _MONEY.sub(_money, text)
        text = _SIGN.sub(lambda found: f" {SIGNS[found[1]]}{found[2] and ' ' + found[2]}", text)
    if not any(letter.isdecimal() for letter in text):
        return text
    if english:
        text = _ORDINAL.sub(lambda found: _words(found[1].replace(",", ""), language, "ordinal"), text)
        text = _TIME.sub(lambda found: _time(found[1], found[2], language), text)
        text = _DECADE.sub(lambda found: _decade(found[1], language), text)
        text = _DOTTED.sub(lambda found: found[0].replace(".", " point "), text)
    thousands, point = (",", ".") if english else (r"[. \u00a0\u202f]", ",")
    # In India groups before the last one have two digits.
    groups = rf"\d{{1,3}}(?:{thousands}\d{{2}})*(?:{thousands}\d{{3}})+(?!\d)"
    number = re.compile(rf"(?<![\w.,])[-−](?=\d)|(?:{groups}|\d+)(?:{re.escape(point)}\d+)?")

    def plain(found: re.Match[str]) -> str:
        if found[0] in "-−":
            return "minus " if english else "-"
        whole, _, part = found[0].partition(point)
        digits = "".join(letter for letter in whole if letter.isdecimal())
        one_by_one = len(digits) > 1 and digits[0] == "0"
        words = _words(f"{digits}.{part}" if part else digits, language, "digits" if one_by_one else "cardinal")
        before = found.start() > 0 and text[found.start() - 1].isalnum()
        after = found.end() < len(text) and text[found.end()].isalnum()
        return f"{' ' * before}{words}{' ' * after}"

    return number.sub(plain, text)


def _unabbreviated(found: re.Match[str]) -> str:
    """The word, with its full stop where a sentence ends by it."""
    short, behind = found[1].lower(), found[2]
    ends = behind is not None and (not behind.strip() or (short != "st" and behind.strip()[0].isupper()))
    return f"{ABBREVIATIONS[short]}{'.' if ends and short in _AT_AN_END else ''}{behind or ''}"


def _money(found: re.Match[str]) -> str:
    """An amount before what it is of: ``3 dollars and 50 cents``."""
    sign, amount, scale = (found[1], found[2], found[3]) if found[1] else (found[6], found[4], found[5])
    name, part = MONEY[sign]
    whole, _, rest = amount.partition(".")
    if scale or (rest and len(rest) != 2):
        return f"{amount}{scale} {_plural(name)}"
    told = [f"{whole} {name if whole == '1' else _plural(name)}"] if int(whole.replace(",", "")) or not rest else []
    if rest and int(rest):
        told.append(f"{int(rest)} {part if int(rest) == 1 else _plural(part)}")
    return " and ".join(told) or f"0 {_plural(name)}"


def _plural(word: str) -> str:
    return _PLURALS.get(word, f"{word}s")


def _time(hours: str, minutes: str, language: str) -> str:
    hour = _words(str(int(hours)), language, "cardinal")
    if minutes == "00":
        return f"{hour} o'clock"
    minute = _words(str(int(minutes)), language, "cardinal")
    return f"{hour} oh {minute}" if minutes[0] == "0" else f"{hour} {minute}"


def _decade(year: str, language: str) -> str:
    words = _words(year, language, "year")
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}s"


def _words(number: str, language: str, form: str) -> str:
    num2words = _num2words()
    try:
        if form == "digits" or sum(letter.isdecimal() for letter in number) > LONGEST:
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
