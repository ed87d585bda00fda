"""Fuzz of tables: small tables of all kinds are read, inspected, learnt from and predicted on; nothing may disagree.

    python scripts/fuzz_tables.py --tables 2000 --train-every 50 [--seed 0]

Each table has columns of random types, gaps, blanks, separators, encodings and forms of numbers, and is written in a
random format. What training encodes of a record must be what a request encodes of it: by the command line from a file
of one record and from JSON, and by the server from JSON and from a CSV body. What is refused must be refused by an
InputError with its place, its value and a way out. Every ``--train-every``-th table is also trained on for three steps
and predicted on by the command line.
"""

import argparse
import contextlib
import csv
import gzip
import io
import json
import random
import shlex
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from suite.codecs.table import Clicks
from suite.data import inspection
from suite.data.preprocessing.tabular import Fields
from suite.data.sources import streamed_tables
from suite.data.sources.column_types import Reading
from suite.data.sources.files import Table, from_path, read_input
from suite.errors import InputError
from suite.serving.checks import Checks
from suite.serving.errors import Refused
from suite.serving.settings import Settings
from suite.serving.uploads import whole
from suite.tasks.recommendation.click import ClickPrediction

LABEL = "clicked"
NAMES = ("price", "city", "member", "ad id", "größe", "a,b", 'quo"te', "tags", "x" * 40, "Stadt (Ort)", "id", "day")
WORDS = (
    "Rome",
    "Oslo",
    "São Paulo",
    "दिल्ली",
    "NA",
    "None",
    "null",
    "a;b",
    'say "hi"',
    "two\nlines",
    "tab\there",
    "-",
    "1e5",
)
TYPED = ("jsonl", "json", "columns", "parquet")
BREAKS = ("ragged", "empty", "header only", "latin-1", "cut utf-16", "binary", "two of a name", "one class", "no label")


@dataclass(frozen=True)
class Written:
    """How a table is written.

    Attributes:
        format: csv, or one of ``TYPED``.
        delimiter: of CSV.
        encoding: of text.
        comma: whether fractions begin with a comma, and thousands have points.
        quote: of the csv module.
        sep: whether the first line tells Excel the delimiter.
        index: whether pandas wrote its row numbers.
        packed: whether it ends in .gz.
        streamed: whether it is read as a large one.
        blanks: written after each delimiter.
        newline: between rows.
        broken: what is wrong with it, of ``BREAKS``; empty: nothing.
    """

    format: str
    delimiter: str = ","
    encoding: str = "utf-8"
    comma: bool = False
    quote: int = csv.QUOTE_MINIMAL
    sep: bool = False
    index: bool = False
    packed: bool = False
    streamed: bool = False
    blanks: str = ""
    newline: str = "\n"
    broken: str = ""


@dataclass
class Column:
    """A column: values as JSON has them, and how a CSV cell writes one."""

    name: str
    kind: str
    values: list[Any]
    cell: Callable[[Any], str]


@dataclass
class Outcome:
    """What became of the tables."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def fail(self, seed: int, about: str) -> None:
        self.failures.append(f"table {seed}: {about}")


def how(rng: random.Random) -> Written:
    """A random way to write a table."""
    format_ = rng.choice(("csv",) * 6 + TYPED)
    if format_ != "csv":
        streamed = format_ == "parquet" and rng.random() < 0.5
        packed = format_ == "jsonl" and rng.random() < 0.2
        return Written(format_, index=rng.random() < 0.2, packed=packed, streamed=streamed, broken=_broken(rng))
    delimiter = rng.choice((",", ";", "\t", "|"))
    return Written(
        "csv",
        delimiter,
        rng.choice(("utf-8",) * 4 + ("utf-8-sig", "utf-16")),
        delimiter != "," and rng.random() < 0.4,
        rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
        rng.random() < 0.15,
        rng.random() < 0.2,
        rng.random() < 0.15,
        rng.random() < 0.3,
        " " if delimiter != "\t" and rng.random() < 0.1 else "",
        rng.choice(("\n", "\r\n")),
        _broken(rng),
    )


def _broken(rng: random.Random) -> str:
    return rng.choice(BREAKS) if rng.random() < 0.15 else ""


def column(rng: random.Random, name: str, rows: int, way: Written) -> Column:
    """A random column of a random type."""
    kind = rng.choice(("int", "big", "beyond", "float", "fine", "code", "city", "bool", "date", "tags", "huge", "none"))
    gaps = rng.choice((0, 0, 0.2))
    distinct = rng.choice((2, 5, rows))
    make: dict[str, Callable[[int], Any]] = {
        "int": lambda i: 17 * i - 40,
        "big": lambda i: 1_582_218_195_700_000_127 + i,
        "beyond": lambda i: 2**63 + i if way.format == "parquet" else 2**70 + i,
        "float": lambda i: i / 4 + 1000.25,
        "fine": lambda i: (i + 1) / 7,
        "code": lambda i: f"{i:04d}",
        "city": lambda i: rng.choice(("", " ")) + WORDS[i % len(WORDS)] + rng.choice(("", " ")),
        "bool": lambda i: bool(i % 2),
        "date": lambda i: f"2024-01-{i % 28 + 1:02d}",
        "tags": lambda i: sorted({WORDS[i % 2], WORDS[i % 3], "new"}),
        "huge": lambda i: (-1) ** i * 10.0 ** (300 - i),
        "none": lambda i: None,
    }
    values = [None if rng.random() < gaps else make[kind](rng.randrange(distinct)) for _ in range(rows)]
    spelt = rng.choice((("true", "false"), ("True", "False"), ("TRUE", "FALSE"), ("1", "0"), ("true", "False")))
    missing = rng.choice(("", "NA", "nan")) if kind in ("int", "float", "fine", "huge") else ""

    def cell(value: Any) -> str:
        if value is None:
            return missing
        if isinstance(value, bool):
            return spelt[0] if value else spelt[1]
        if isinstance(value, list):
            return "|".join(value)
        if isinstance(value, float) and way.comma:
            return f"{value:,}".translate({ord(","): ".", ord("."): ","}) if abs(value) < 1e15 else f"{value:.0f}"
        return str(value)

    return Column(name, kind, values, cell)


def table(rng: random.Random, way: Written) -> list[Column]:
    """Random columns and a label."""
    rows = rng.randrange(12, 60)
    names = rng.sample(NAMES, rng.randrange(1, 6))
    columns = [column(rng, name, rows, way) for name in names]
    spelt = rng.choice((("1", "0"), ("true", "false"), ("yes", "no")))
    label = [bool(i % 2) if rng.random() > 0.05 else None for i in range(rows)]
    if way.broken == "one class":
        label = [True] * rows
    cell = lambda value: "" if value is None else spelt[0] if value else spelt[1]
    columns.append(Column("other" if way.broken == "no label" else LABEL, "label", label, cell))
    if way.broken == "two of a name" and way.format == "csv":
        columns.append(replace(columns[0]))
    return columns


def content(columns: list[Column], way: Written, rows: list[int], whole: bool = True) -> bytes:
    """The rows of a CSV file; ``whole``: with what only a whole file has."""
    made = io.StringIO()
    writer = csv.writer(made, delimiter=way.delimiter, quoting=way.quote, lineterminator=way.newline)  # type: ignore[arg-type]
    index = [""] if way.index else []
    blank = way.blanks
    writer.writerow([*index, *(name if not place else blank + name for place, name in enumerate(_names(columns)))])
    for row in rows:
        cells = [each.cell(each.values[row]) for each in columns]
        cells = [cell if not place or not cell else blank + cell for place, cell in enumerate(cells)]
        ragged = whole and way.broken == "ragged" and row % 5 == 2
        writer.writerow([*([str(row)] if way.index else []), *(cells + ["more"] if ragged else cells)])
    text = made.getvalue()
    if way.sep and whole:
        text = f"sep={way.delimiter}{way.newline}{text}"
    return text.encode(way.encoding)


def _names(columns: list[Column]) -> list[str]:
    return [each.name for each in columns]


def save(columns: list[Column], way: Written, folder: Path) -> Path:
    """The table as a file."""
    count = len(columns[0].values)
    ending = {"csv": "tsv" if way.delimiter == "\t" else "csv", "columns": "json"}.get(way.format, way.format)
    path = folder / f"my table.{ending}{'.gz' if way.packed else ''}"
    records = [{each.name: each.values[row] for each in columns} for row in range(count)]
    if way.index:
        records = [{"Unnamed: 0": row, **record} for row, record in enumerate(records)]
    if way.format == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        wide = {each.name: pa.uint64() for each in columns if each.kind == "beyond"}
        arrays = {name: pa.array([record[name] for record in records], wide.get(name)) for name in records[0]}
        pq.write_table(pa.table(arrays), path, row_group_size=7)
        return path
    if way.format == "csv":
        data = content(columns, way, [] if way.broken == "header only" else list(range(count)))
    elif way.format == "jsonl":
        data = "\n".join(map(json.dumps, records)).encode()
    else:
        by_column = {name: {str(i): record[name] for i, record in enumerate(records)} for name in records[0]}
        data = json.dumps(records if way.format == "json" else by_column, indent=1).encode()
    damage: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda data: b" \n",
        "latin-1": lambda data: data[: len(data) // 2] + "é".encode("latin-1") + data[len(data) // 2 :],
        "cut utf-16": lambda data: data.decode(way.encoding).encode("utf-16")[:-1],
        "binary": lambda data: bytes(range(256)) * 4,
    }
    data = damage.get(way.broken, bytes)(data)
    path.write_bytes(gzip.compress(data) if way.packed else data)
    return path


def check_refusal(error: InputError | Refused) -> str:
    """What is missing in a refusal; empty where it has a place, a problem and a value or a way out."""
    if isinstance(error, Refused):
        return "" if error.message and (error.field or error.fix) else f"bare refusal: {error.body}"
    if not (error.where and error.problem and (error.found or error.fix)):
        return f"bare refusal: {error}"
    with contextlib.suppress(ValueError):
        shlex.split(error.fix)
        return ""
    return f"fix is not quoted: {error.fix}"


def differing(found: dict[str, Any], expected: dict[str, np.ndarray], row: int) -> str:
    """The first array of a request that is not that of training; empty where all are."""
    for name, array in expected.items():
        if not np.array_equal(np.asarray(found[name])[0], array[row], equal_nan=True):
            return f"{name}: {np.asarray(found[name])[0].tolist()} != {array[row].tolist()}"
    return ""


def requests(columns: list[Column], row: int, codec: Clicks, way: Written, folder: Path) -> Iterator[tuple[str, Any]]:
    """(name, encoded) of one record in each way that it can be asked; a Refused where a server refuses it."""
    inputs = {entry.name for entry in codec.inputs}
    record = {each.name: each.values[row] for each in columns if each.name in inputs}
    reading = Reading.of_requests(codec)
    yield "JSON on the command line", codec.encode(read_input(json.dumps(record), codec.primary, reading))
    lines = folder / "one.jsonl"
    lines.write_text(json.dumps(record))
    yield "JSON lines", codec.encode(read_input(str(lines), codec.primary, reading))
    checks = Checks(codec.inputs, codec.primary, codec.texts, Settings(), styles=codec.styles)
    try:
        yield "JSON to the server", codec.encode(checks.records([record]))
    except Refused as error:
        yield "JSON to the server", error
    if way.format == "csv":
        data = content(columns, way, [row], whole=False)
        file = folder / f"one.{'tsv' if way.delimiter == chr(9) else 'csv'}"
        file.write_bytes(data)
        yield "a file of one record", codec.encode(read_input(str(file), codec.primary, reading))
        media = "text/tab-separated-values" if way.delimiter == "\t" else "text/csv"
        try:
            yield "CSV to the server", codec.encode(whole(data, media, checks))
        except Refused as error:
            yield "CSV to the server", error


def examine(seed: int, folder: Path, outcome: Outcome) -> tuple[Path, Table] | None:
    """One table through inspection, learning and requests; returns the file that can be trained on."""
    rng = random.Random(seed)
    way = how(rng)
    columns = table(rng, way)
    path = save(columns, way, folder)
    outcome.counts[way.format] += 1
    outcome.counts[f"broken: {way.broken}" if way.broken else "whole"] += 1
    try:
        data = from_path(str(path))
        assert isinstance(data, Table)
        data = replace(data, validation=0.0, test=0.0, stratify="", in_memory=0 if way.streamed else 1 << 28)
        inspection.render(inspection.inspect(data.open, labels=(LABEL,)))
        stated = rng.sample(_names(columns)[:-1], 1) if rng.random() < 0.3 else []
        stated = [name for name in stated if name in data.open("train").schema]
        fields = Fields(min_count=1, categorical=tuple(stated))
        task = ClickPrediction(data=data, label=LABEL, fields=fields)
        source = task.source("train")
        with contextlib.redirect_stderr(io.StringIO()):
            fields.fit(source, LABEL, folder / "fields.json")
        task = replace(task, fields=replace(fields, file=str(folder / "fields.json")))
        encoded = task.encode(source[np.arange(len(source))])
    except InputError as error:
        outcome.counts["refused"] += 1
        if bare := check_refusal(error):
            outcome.fail(seed, bare)
        if not way.broken and "no column is left" not in str(error) and "label" not in error.where:
            outcome.fail(seed, f"a whole table is refused: {way}: {error}")
        return None
    expected = {name: encoded[name] for name in ("dense", "ids", "weights")}
    if not all(np.isfinite(array).all() for array in expected.values()):
        outcome.fail(seed, "an array that is not finite")
    if way.broken in ("ragged", "latin-1", "binary"):
        return None
    labelled = [row for row, value in enumerate(columns[_names(columns).index(LABEL)].values) if value is not None]
    for place in rng.sample(range(len(labelled)), 3):
        for name, found in requests(columns, labelled[place], task.codec, way, folder):
            outcome.counts[name] += 1
            if isinstance(found, Refused):
                outcome.counts[f"{name}, refused"] += 1
                about = check_refusal(found)
            else:
                about = differing(found, expected, place)
            if about:
                record = {each.name: (each.kind, each.values[labelled[place]]) for each in columns}
                outcome.fail(seed, f"{name}: {about}; {way}; {record}")
    return path, data


def train(path: Path, data: Table, folder: Path) -> None:
    """Three steps and answers by the command line."""
    from suite.cli.app import main

    run, given = folder / "run", ["--task.data.in_memory", str(data.in_memory)]
    small = [
        "--smoke",
        "--train.steps",
        "3",
        "--train.batch_size",
        "8",
        "--optim.warmup_steps",
        "0",
        "--model.hidden",
        "4",
    ]
    main(
        [
            "train",
            "recommendation.click",
            "--data",
            str(path),
            "--task.label",
            LABEL,
            "--run-dir",
            str(run),
            *small,
            *given,
        ]
    )
    main(["predict", str(run), "--input", str(path)])


def fuzz(seeds: range, train_every: int = 0, say: Callable[[str], None] = lambda text: None) -> Outcome:
    """Examine a table for each seed."""
    outcome = Outcome()
    for seed in seeds:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            try:
                usable = examine(seed, folder, outcome)
                if usable and train_every and seed % train_every == 0:
                    outcome.counts["trained"] += 1
                    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
                        try:
                            train(*usable, folder)
                        except SystemExit as end:
                            if end.code:
                                outcome.counts["training refused"] += 1
                                if end.code != 2 or "try:" not in err.getvalue():
                                    outcome.fail(seed, f"training ended with {end.code}: {err.getvalue()[-2000:]}")
            except Exception:
                outcome.fail(seed, traceback.format_exc())
        if (seed + 1) % 100 == 0:
            say(f"{seed + 1} tables, {len(outcome.failures)} failures")
    return outcome


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of the first table")
    parser.add_argument("--train-every", type=int, default=0, help="0: no table is trained on")
    given = parser.parse_args()
    streamed_tables.BLOCK = 4096
    streamed_tables.ROWS = 11
    begun = time.perf_counter()
    say = lambda text: print(text, file=sys.stderr, flush=True)
    outcome = fuzz(range(given.seed, given.seed + given.tables), given.train_every, say)
    for name, count in sorted(outcome.counts.items()):
        print(f"{name}: {count:,}")
    print(f"{given.tables:,} tables in {time.perf_counter() - begun:.0f} s, {len(outcome.failures)} failures")
    print("\n".join(outcome.failures[:20]))
    sys.exit(bool(outcome.failures))


if __name__ == "__main__":
    main()
