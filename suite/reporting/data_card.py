"""The data card: where records are from, how many there are, what they look like, what was left out."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.inspection import inspect
from suite.data.pipeline.dispatches import stored_lengths
from suite.data.preprocessing.target import Target
from suite.data.sources.memory import SPLITS
from suite.errors import InputError
from suite.experiment import recipes, serialization
from suite.reporting.blocks import Block, Code, Folded, Table, Terms, Text
from suite.reporting.configuration import written
from suite.reporting.evidence import Evidence
from suite.reporting.glossary import percent
from suite.training.preprocessors import column_of, preprocessors_of

MOST = 100_000
"""Records of a split that the data card looks at."""
MOST_FILES = 10_000
"""The same where each is an image that has to be decoded."""
MOST_CLASSES = 40


def data_card(evidence: Evidence) -> list[Block]:
    """What there is to know of the data, as the task reads it."""
    task = (evidence.run.experiment if evidence.run else evidence.experiment).task
    opener = functools.cache(task.source)
    blocks: list[Block] = [Terms(tuple(_origin(evidence)))]
    labels = {
        getattr(task, asset.column)
        for asset in preprocessors_of(task).values()
        if asset.column == "label" or (isinstance(asset, Target) and asset.file and asset.names)
    }
    report = inspect(opener, MOST_FILES if _files(opener) else MOST, labels)
    splits = {name: part for name, part in report["splits"].items() if "count" in part}
    gone = {name: part["missing"] for name, part in report["splits"].items() if "missing" in part}
    blocks += [Text(f"{name}: not there. {' '.join(why.split())}", "note") for name, why in gone.items()]
    if not splits:
        return blocks
    partial = [name for name, part in splits.items() if part["looked_at"] < part["count"]]
    blocks.append(_counts(splits, {} if partial else report["shared"]))
    if partial:
        looked = max(splits[name]["looked_at"] for name in partial)
        blocks.append(
            Text(
                f"Of {', '.join(partial)} {looked:,} evenly spaced records were looked at; duplicates are "
                "of those, and what splits share was not counted.",
                "note",
            )
        )
    blocks += [table for table in (*_balance(splits), _lengths(splits, evidence.folder)) if table.rows]
    blocks += _sizes(splits)
    columns = next(iter(splits.values()))["columns"]
    blocks.append(Text(f"Columns: {', '.join(f'{name} ({kind})' for name, kind in columns.items())}."))
    said = [
        asset.describe(opener("train"), column_of(task, name, asset))
        for name, asset in preprocessors_of(task).items()
        if "train" in splits and isinstance(asset.column, str)
    ]
    return [*blocks, *(Folded("Columns as features", (Code(text),)) for text in said if text)]


def _origin(evidence: Evidence) -> list[tuple[str, str]]:
    data = evidence.experiment.task.data
    rows = []
    if isinstance(data, Data):
        fields = serialization.to_json(data)
        settings = ", ".join(
            f"{name} {written(value)}" for name, value in fields.items() if name != "class" and value not in ("", [])
        )
        rows += [
            ("data", f"{fields['class'].rpartition('.')[2]}: {settings}"),
            ("origin", data.origin or "not stated by the data"),
            ("licence", data.licence or "not stated by the data"),
        ]
    header = next((recipe for recipe in recipes.describe() if recipe["name"] == evidence.experiment.name), {})
    return rows + [(f"the recipe's {name}", header[name]) for name in ("source", "data") if header.get(name)]


def _files(opener: Callable[[str], Source]) -> bool:
    """Whether records hold images that must be decoded one by one."""
    try:
        source = opener("train")
        names = [name for name, kind in source.schema.items() if kind == "image"]
        first = source[np.arange(min(1, len(source)))]
    except InputError:
        return False
    return any(not isinstance(first[name], np.ndarray) for name in names)


def _counts(splits: Mapping[str, Any], shared: Mapping[str, int]) -> Table:
    reasons = list(dict.fromkeys(reason for part in splits.values() for reason in (*part["dropped"], *part["broken"])))
    rows = []
    for name, part in splits.items():
        left_out = {**part["broken"], **part["dropped"]}
        also = [
            f"{first} {count:,}"
            for pair, count in shared.items()
            for first, second in [pair.split("/")]
            if second == name and count
        ]
        rows.append(
            (
                name,
                f"{part['count']:,}",
                f"{part['duplicates']:,}",
                ", ".join(also) or "–",
                *(f"{left_out.get(reason, 0):,}" for reason in reasons),
            )
        )
    head = ("split", "records", "exact duplicates", "also in", *(f"left out: {reason}" for reason in reasons))
    return Table(head, tuple(rows), "" if reasons else "No record was left out.")


def _balance(splits: Mapping[str, Any]) -> list[Table]:
    tables = []
    for name in dict.fromkeys(name for part in splits.values() for name in part["classes"]):
        counts = {split: part["classes"].get(name, {}) for split, part in splits.items()}
        classes = list(dict.fromkeys(value for histogram in counts.values() for value in histogram))
        totals = {split: sum(histogram.values()) for split, histogram in counts.items()}
        rows = tuple(
            (
                value,
                *(
                    f"{histogram.get(value, 0):,} ({percent(histogram.get(value, 0), totals[split])})"
                    for split, histogram in counts.items()
                ),
            )
            for value in sorted(classes[:MOST_CLASSES], key=_by_number)
        )
        more = f"; {len(classes) - MOST_CLASSES} rarer classes are left out" if len(classes) > MOST_CLASSES else ""
        tables.append(Table((name, *counts), rows, f"Balance of {name}{more}."))
    return tables


def _by_number(value: str) -> tuple[float, str]:
    return (float(value), "") if value.replace(".", "", 1).isdecimal() else (float("inf"), value)


def _lengths(splits: Mapping[str, Any], folder: Path) -> Table:
    """Words of texts that have several, and lengths of rows as the model is given them."""
    rows = [
        (split, f"{name}, words", *(f"{value:,}" for value in spread.values()))
        for split, part in splits.items()
        for name, spread in part["lengths"].items()
        if spread["max"] > 1
    ]
    for split in SPLITS:
        stored = stored_lengths(folder / "assets" / f"lengths-{split}.npy")
        for axis, lengths in stored.items():
            if not len(lengths):
                continue
            spread = np.percentile(lengths, [0, 50, 95, 100], method="inverted_cdf").astype(int).tolist()
            rows.append(
                (
                    split,
                    f"{axis}, as the model reads it" if axis else "as the model reads it",
                    *(f"{value:,}" for value in spread),
                )
            )
    return Table(
        ("split", "length of", "least", "median", "95 %", "most"),
        tuple(rows),
        "Lengths; of texts the model reads tokens, of recordings samples or frames.",
        frozenset({0, 1}),
    )


def _sizes(splits: Mapping[str, Any]) -> list[Block]:
    rows = tuple(
        (split, size, f"{count:,}")
        for split, part in splits.items()
        for sizes in part["sizes"].values()
        for size, count in sizes.items()
    )
    if len({size for _, size, _ in rows}) == 1:
        return [Text(f"All images are of {rows[0][1]} (height, width, channels).")]
    return [Table(("split", "size of images", "records"), rows, words=frozenset({0, 1}))] if rows else []
