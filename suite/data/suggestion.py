"""Suggestion: the recipe that fits records, judged by where they lie and what their columns hold."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.preprocessing.spans import span_faults
from suite.data.preprocessing.target_problem import are_lists
from suite.data.reading import file_kind

LOOK = 2000
"""Records that are looked at."""
WORDS = 3.0
"""Words above which, on average, a column is running text and no category."""
CLASSES = 50
"""Distinct values up to which a column may be a label."""
LABELS = ("label", "labels", "class", "target", "category", "sentiment", "verdict", "intent", "topic", "emotion", "y")
"""Names of columns that hold classes, the likeliest first."""
CLICKS = ("click", "clicked", "label", "target", "converted", "conversion", "churn", "churned", "bought", "liked", "y")
"""Names of columns that hold yes or no, the likeliest first."""
FEW = 3
"""Columns up to which one of names of files is what a record is about, and no feature among others."""
SAID = ("text", "transcript", "transcription", "sentence", "txt", "normalized_text", "words", "utterance")
"""Names of columns that hold what is said in a recording, the likeliest first."""
CAPTIONS = ("caption", "captions", "text", "description", "alt", "alt_text", "title")
"""Names of columns that hold texts of a picture, the likeliest first."""
PAIRS = (("source", "target"), ("src", "tgt"), ("en", "de"), ("english", "german"), ("question", "answer"))
"""Columns of texts that belong together."""

COMPARED = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("question1", "question2"),
    ("text_a", "text_b"),
    ("text", "other"),
    ("question", "answer"),
    ("first", "second"),
)
"""Columns of texts that are something to each other, where a label or a score says what."""
SPANS = ("spans", "entities", "annotations")
"""Names of columns that hold spans of a text."""
SCORES = ("score", "similarity", "rating", "stars", "target", "price", "y")
"""Names of columns that hold a number to predict, the likeliest first."""
EVENTS = (
    ("user", "user_id", "userid", "customer", "customer_id", "session", "session_id", "visitor", "reader", "member"),
    (
        "item",
        "item_id",
        "itemid",
        "product",
        "product_id",
        "movie",
        "movie_id",
        "article",
        "article_id",
        "track",
        "sku",
    ),
    ("time", "timestamp", "date", "datetime", "ts", "created_at"),
)
"""Names of columns that say who took what, and when."""
TAGS = ("tags", "genres", "topics", "categories", "keywords")
"""Names of columns that hold several labels."""


@dataclass(frozen=True)
class Suggestion:
    """A recipe with the flags that these records need.

    Attributes:
        recipe: its name; empty where none fits.
        flags: of the task, such as ``--task.label verdict``.
        why: what was seen, or is missing.
        labels: columns that may be the label, where that is left to the user.
    """

    recipe: str
    flags: tuple[str, ...]
    why: str
    labels: tuple[str, ...] = ()


def suggested(data: Data, known: Sequence[str]) -> Suggestion:
    """The recipe for what ``data`` reads.

    Args:
        known: names of the recipes that there are.

    Raises:
        InputError: the training records cannot be opened.
    """
    source = data.open("train")
    kinds, kind = dict(source.schema), type(data).__name__
    of = lambda wanted: [name for name, is_kind in kinds.items() if is_kind == wanted]
    if kind == "ParallelLines":
        return Suggestion("text.translate", (), "two files of lines that translate each other")
    if kind == "BoxFolder":
        return Suggestion("vision.detect" if "vision.detect" in known else "", (), "pictures with boxes")
    if kind == "MaskFolder":
        return Suggestion("vision.segment" if "vision.segment" in known else "", (), "pictures with masks")
    if kind == "TaggedText":
        return Suggestion("text.tag", (), "words with a tag each")
    if kind == "ItemLists":  # those with splits of their own are published in the order of the items' numbers
        recipe = "recommendation.sequence" if data.whole() else "recommendation.linear"
        return Suggestion(recipe if recipe in known else "", (), "lists of the items of a user each")
    if kind == "Lines":
        return Suggestion("text.language_model", (), "running text")
    if images := of("image"):
        return _of_files("image", images[0], source, kinds, known)
    if recordings := of("audio"):
        return _of_files("audio", recordings[0], source, kinds, known)
    return _of_spans(data, kinds) or _of_events(kinds, known) or _of_table(source, kinds, known)


def _of_events(kinds: dict[str, str], known: Sequence[str]) -> Suggestion | None:
    """The recipe for a table of who took what, and when, without a label; None for another."""
    user, item, time = (_named(list(kinds), names) for names in EVENTS)
    if (
        not (user and item and time)
        or _named(list(kinds), (*CLICKS, *LABELS))
        or "recommendation.sequence" not in known
    ):
        return None
    flags = (*_flag("user", user, kinds), *_flag("item", item, kinds), "--task.time", time)
    return Suggestion("recommendation.sequence", flags, f"events: {item} of {user}, by {time}")


def _of_spans(data: Data, kinds: dict[str, str]) -> Suggestion | None:
    """The recipe for a table with a column of spans of a text beside it; None where there is none."""
    names = [name for name, kind in kinds.items() if kind == "text" and name.strip().lower() in SPANS]
    for name in names:
        source = data.with_texts(tuple(kinds)).with_json((name,)).open("train")
        columns = source[np.arange(min(len(source), LOOK))]
        for text in (other for other in kinds if other != name and kinds[other] == "text"):
            if not span_faults(columns[text], columns[name]):
                flags = (*_flag("text", text, kinds), *_flag("target", name, kinds, "spans"))
                return Suggestion("text.tag", flags, f"spans of {text} in {name}")
    return None


def _of_pair(texts: Sequence[str], kinds: dict[str, str], likely: Sequence[str]) -> Suggestion | None:
    """The recipe for two columns of texts with what they are to each other; None where there is none."""
    found = ((_named(texts, (first,)), _named(texts, (second,))) for first, second in COMPARED)
    pair = next((names for names in found if all(names)), ())
    numbers = [name for name, kind in kinds.items() if kind == "float"]
    wanted = _named([*likely, *numbers], (*LABELS, *SCORES))
    if not pair or not wanted:
        return None
    flags = (*_flag("text", pair[0], kinds), *_flag("other", pair[1], kinds), *_flag("target", wanted, kinds))
    return Suggestion("text.pair", flags, f"pairs of texts in {pair[0]} and {pair[1]}, with {wanted}")


def _of_files(held: str, name: str, source: Source, kinds: dict[str, str], known: Sequence[str]) -> Suggestion:
    """The recipe for pictures or recordings, by what stands beside them.

    Args:
        held: ``"image"`` or ``"audio"``.
        name: of the column that holds them, or names their files.
        source, kinds, known: as in `suggested`.
    """
    rows = source[np.arange(min(len(source), LOOK))]
    what = "images" if held == "image" else "recordings"
    what, flags = what if kinds[name] == held else f"{what} named in {name}", _flag(held, name, kinds)
    others = [other for other in kinds if other not in (name, "file")]
    texts = [other for other in others if kinds[other] == "text" and not file_kind(rows[other])]
    label, spoken = _named(others, LABELS), held == "audio"
    told = _named(texts, SAID) if spoken else ""
    if not told and not label:
        free = [other for other in texts if not _is_category(rows[other])]
        told = _named(free, CAPTIONS) or next((other for other in free if _words(rows[other]) > WORDS), "")
    recipe = "speech.recognize" if spoken else "multimodal.match"
    if told and recipe in known:
        usual = "text" if spoken else "caption"
        flags = (*flags, *_flag("text", told, kinds, usual))
        return Suggestion(recipe, flags, f"{what}, with {'what is said' if spoken else 'texts of them'} in {told}")
    number = others[0] if not label and len(others) == 1 and kinds[others[0]] == "float" else label
    if not spoken and kinds.get(number) == "float":
        return Suggestion(
            "vision.regress", (*flags, *_flag("target", number, kinds)), f"{what}, and a number for each in {number}"
        )
    classes = [label] if label else [other for other in others if _is_category(rows[other])]
    recipe = "speech.classify" if spoken else "vision.classify"
    if len(classes) == 1:
        return Suggestion(recipe, (*flags, *_flag("label", classes[0], kinds)), f"{what}, with a class in {classes[0]}")
    if classes:
        return Suggestion(recipe, flags, f"{what}; which column is the label?", tuple(classes[:5]))
    if spoken and texts and "speech.recognize" in known:
        flags = (*flags, *_flag("text", texts[0], kinds))
        return Suggestion("speech.recognize", flags, f"{what}, with what is said in {texts[0]}")
    recipe = "speech.pretrain" if spoken else "vision.pretrain"
    return Suggestion(recipe if recipe in known else "", flags, f"{what}, and no label")


def _is_category(values: Any) -> bool:
    """Whether a column may hold classes: each value occurs twice on average, and there are several."""
    return 2 <= _distinct(values) <= min(CLASSES, len(values) // 2)


def _of_table(source: Source, kinds: dict[str, str], known: Sequence[str]) -> Suggestion:
    """The recipe for a table: by whether a column is running text, and by how many values the label has."""
    rows = source[np.arange(min(len(source), LOOK))]
    distinct = {name: _distinct(values) for name, values in rows.items()}
    texts = [name for name, kind in kinds.items() if kind == "text" and _words(rows[name]) > WORDS]
    for name, held in ((name, file_kind(rows[name])) for name, kind in kinds.items() if kind == "text"):
        if held and (
            len(kinds) <= FEW or _named([other for other in kinds if other != name], (*LABELS, *CAPTIONS[:2]))
        ):
            return _of_files(held, name, source, kinds, known)
    likely = [
        name for name, count in distinct.items() if name not in texts and 2 <= count <= min(CLASSES, len(source) // 2)
    ]
    if compared := _of_pair(texts, kinds, likely):
        return compared
    for first, second in PAIRS:
        pair = _named(list(kinds), (first,)), _named(list(kinds), (second,))
        if all(pair) and set(pair) <= set(texts):
            flags = (*_flag("source_text", pair[0], kinds, "source"), *_flag("target_text", pair[1], kinds, "target"))
            return Suggestion("text.translate", flags, "pairs of texts")
    if texts:
        text = max(texts, key=lambda name: _words(rows[name]))
        several = [name for name in kinds if name not in texts and are_lists(rows[name])]
        if len(several) == 1 and (several == likely or _named(several, (*LABELS, *TAGS))):
            flags = (*_flag("text", text, kinds), *_flag("target", several[0], kinds))
            return Suggestion("text.label", flags, f"texts in {text}, several labels in {several[0]}")
        label = _named(likely, LABELS) or (likely[0] if len(likely) == 1 else "")
        measured = [name for name, kind in kinds.items() if kind == "float" and name not in likely]
        if not label and (number := _named(measured, SCORES)):
            flags = (*_flag("text", text, kinds), *_flag("target", number, kinds))
            return Suggestion("text.regress", flags, f"texts in {text}, a number in {number}")
        if label:
            flags = (*_flag("text", text, kinds), *_flag("label", label, kinds))
            return Suggestion("text.classify", flags, f"texts in {text}, {distinct[label]} classes in {label}")
        if not likely:
            return Suggestion("text.language_model", _flag("text", text, kinds), f"texts in {text}, and no label")
        why = f"texts in {text}; which column is the label?"
        return Suggestion("text.classify", _flag("text", text, kinds), why, tuple(likely[:5]))
    binary = [name for name in likely if distinct[name] == 2]
    label = _named(binary, CLICKS) or (binary[0] if len(binary) == 1 else "")
    if label:
        return Suggestion("recommendation.click", _flag("label", label, kinds), f"yes or no in {label}")
    if binary:
        return Suggestion("recommendation.click", (), "yes or no; which column is the label?", tuple(binary[:5]))
    if "table.predict" in known and (named := _named(list(kinds), LABELS) or _last(likely)):
        return Suggestion("table.predict", _flag("target", named, kinds), f"{distinct[named]:,} values in {named}")
    return Suggestion("", (), "no column looks like a label: several values, and far fewer than records")


def same_records(data: Data, columns: Mapping[str, str]) -> list[str]:
    """Flags by which another recipe reads the same records: ``--data``, fields of ``data`` that are not as usual, and
    columns.

    Args:
        data: where they are from.
        columns: field of the task -> name of a column.
    """
    stated = {"data": getattr(data, "path", ""), **{f"task.{name}": column for name, column in columns.items()}}
    for entry in dataclasses.fields(data):  # type: ignore[arg-type]
        value = getattr(data, entry.name)
        if entry.name != "path" and isinstance(value, str | int | float) and value != entry.default:
            stated[f"task.data.{entry.name}"] = str(value)
    return [word for name, value in stated.items() if value for word in (f"--{name}", value)]


def _last(names: Sequence[str]) -> str:
    return names[-1] if names else ""


def _named(names: Sequence[str], wanted: Sequence[str]) -> str:
    """The column of one of the wanted names, whatever its case."""
    lower = {name.strip().lower(): name for name in reversed(names)}
    return next((lower[name] for name in wanted if name in lower), "")


def _flag(field: str, column: str, kinds: dict[str, str], usual: str = "") -> tuple[str, ...]:
    """The flag that names a column, where the task would not find it by itself."""
    return () if column in ("", usual or field) else (f"--task.{field}", column)


def _words(values: Any) -> float:
    texts = [str(value) for value in values if value is not None]
    return sum(len(text.split()) for text in texts) / max(len(texts), 1)


def _distinct(values: Any) -> int:
    """How many values differ; missing ones count for none."""
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return 0
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return len({str(value) for value in plain if value is not None and value == value})
