"""Heads of published weights and of runs, matched to the data's outputs by name, never by position."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from suite.weights.published import Published

_UNNAMED = re.compile(r"label[ _]?(\d+)\Z")
"""How transformers names the classes of a model whose author gave them no names."""


@dataclass(frozen=True)
class Match:
    """What becomes of a head.

    Attributes:
        rows: for each output of the model the number of the published one; empty: the head is made anew.
        said: what a person is told.
    """

    rows: tuple[int, ...]
    said: str


def match(own: Sequence[str], theirs: Sequence[str], *, some: bool = False) -> Match:
    """The outputs ``own``, found among ``theirs`` by their names; neither case nor blanks count.

    Args:
        own: names of the model's outputs, in order.
        theirs: names of the published outputs, in order; empty: they have none.
        some: the published outputs may be more, as an alphabet with letters that the data lacks.
    """
    if not theirs:
        return Match((), "new head: the weights name no classes")
    unnamed = [_UNNAMED.match(_plain(name)) for name in theirs]
    if all(unnamed) and not {*map(_plain, own)} & {*map(_plain, theirs)}:
        # A class that is called by its number in the data may be found by it.
        theirs = [name[1] for name in unnamed if name]
        if {*map(_plain, own)} != {*theirs}:
            return Match((), f"new head: the weights call their {len(theirs)} classes LABEL_0, ..., which names none")
    places = _places(own, theirs)
    missing = [name for name, place in zip(own, places, strict=True) if place is None]
    spare = len(theirs) - len(own)
    if missing or (spare and not some):
        return Match((), f"new head: {_apart(own, theirs, missing)}")
    rows = tuple(place for place in places if place is not None)
    moved = "" if rows == tuple(range(len(theirs))) else ", in the order of the data's"
    return Match(rows, f"the head is kept: {len(rows)} outputs found by name{moved} ({_few(own)})")


def published_outputs(weights: Published) -> tuple[list[str], bool]:
    """(names of the outputs that weights state, in order; whether they are the symbols of an alphabet)."""
    if any(str(name).endswith("ForCTC") for name in weights.config.get("architectures") or ()):
        return _alphabet(weights), True
    return _classes(weights), False


def _classes(weights: Published) -> list[str]:
    config = weights.config
    by_id, ids = config.get("id2label"), config.get("label2id")
    if isinstance(by_id, dict) and by_id:
        named = {str(number): str(name) for number, name in by_id.items()}
    elif isinstance(ids, dict) and ids:
        named = {str(number): str(name) for name, number in ids.items()}
    else:
        lists = (config.get("label_names"), (config.get("pretrained_cfg") or {}).get("label_names"))
        listed = next((names for names in lists if isinstance(names, list)), [])  # timm's
        named = {str(number): str(name) for number, name in enumerate(listed)}
    if {*named} != {str(number) for number in range(len(named))}:
        return []
    return [named[str(number)] for number in range(len(named))]


def _alphabet(weights: Published) -> list[str]:
    """The symbols of a CTC model as `suite.data.preprocessing.transcripts` spells them."""
    vocabulary = weights.beside("vocab.json")
    about = weights.beside("tokenizer_config.json") or {}
    if not vocabulary or not all(isinstance(number, int) for number in vocabulary.values()):
        return []
    if {*vocabulary.values()} != {*range(len(vocabulary))}:
        return []
    blank, unknown, word = (
        _token(about.get(name), default)
        for name, default in (("pad_token", "<pad>"), ("unk_token", "<unk>"), ("word_delimiter_token", "|"))
    )
    special = {blank: "", unknown: "\N{REPLACEMENT CHARACTER}", word: " "}
    by_number = {number: name for name, number in vocabulary.items()}
    return [special.get(by_number[number], by_number[number]) for number in range(len(by_number))]


def _token(value: object, default: str) -> str:
    """A special token is written as a text, or as an object with its content."""
    named = value.get("content") if isinstance(value, dict) else value
    return str(named) if named else default


def _plain(name: str) -> str:
    return " ".join(name.casefold().split()) or name


def _places(own: Sequence[str], theirs: Sequence[str]) -> list[int | None]:
    """By the whole name, else without case and blanks where that tells the names of both sides apart."""
    exact = {name: place for place, name in reversed([*enumerate(theirs)])}  # of two of a name the first
    plain = {_plain(name): place for place, name in enumerate(theirs)}
    told = len(plain) == len(theirs) and max(Counter(map(_plain, own)).values(), default=1) == 1
    return [exact.get(name, plain.get(_plain(name)) if told else None) for name in own]


def _apart(own: Sequence[str], theirs: Sequence[str], missing: Sequence[str]) -> str:
    if missing:
        return f"the weights have no {_few(missing)} (theirs: {_few(theirs)})"
    return f"the weights have {len(theirs)} classes ({_few(theirs)}), the data {len(own)} ({_few(own)})"


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) if not name.strip() else name for name in names[:6])
    return shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")
