"""Tables of any content: read, judged, learnt from and asked, or refused in words; never a traceback.

Two kinds of case: a table whose cells are extreme (numbers beyond float32 and float64, integers beyond 64 bits, inf,
NaN, empty, surrogates), and one whose bytes are damaged.
"""

import csv
import gzip
import io
import json
import math
import traceback
import warnings

import numpy as np
import pytest

from suite.data.inspection import inspect, render
from suite.data.pipeline.dispatches import Encoder, make_plan
from suite.data.sources.datasets import from_path
from suite.errors import InputError
from suite.experiment import recipes
from suite.experiment.defaults import settled
from suite.experiment.sections import replace
from suite.training.preprocessors import prepare

HUGE = (
    1e300, -1e300, 1.7976931348623157e308, 5e-324, -0.0, 1e38, 3.5e38, -3.5e38, 1e150, 1e19, float("inf"),
    float("-inf"), float("nan"), 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**40, 10**400, 0, 1, -1, 0.1,
)  # fmt: skip
WORDS = (
    "", " ", "NA", "nan", "inf", "-Infinity", "1e400", "1e-400", "0x10", "1_000", "1,5", "1.234,5", "٣", "true", "No",
    "9" * 400, "2024-02-30", "9999-12-31", "0001-01-01T00:00:00Z", "a|b|a", "|", '"', "'", "\ud800", "\x00", "é" * 300,
)  # fmt: skip
ROWS = 60
TARGETS = ("number", "extreme", "class", "click", "list")
FORMATS = ("csv", "tsv", "csv.gz", "jsonl", "json", "parquet")


def drawn(rng, kind, count):
    """The cells of a column."""
    usual = {
        "number": lambda: float(rng.normal()),
        "integer": lambda: int(rng.integers(1000)),
        "class": lambda: ("red", "green", "blue")[rng.integers(3)],
        "click": lambda: int(rng.integers(2)),
        "text": lambda: " ".join(rng.choice(["a", "fine", "thing", "of", "two"], 6)),
        "date": lambda: f"20{rng.integers(10, 30)}-{rng.integers(1, 13):02}-{rng.integers(1, 29):02}",
        "list": lambda: "|".join(rng.choice(["x", "y", "z"], 2)),
        "extreme": lambda: HUGE[rng.integers(len(HUGE))],
    }
    strange = rng.choice([0.0, 0.0, 0.05, 0.5])
    words = rng.random() < 0.3

    def cell():
        if rng.random() >= strange:
            return usual[kind]()
        pool = WORDS if words else HUGE
        return pool[rng.integers(len(pool))]

    return [cell() for _ in range(count)]


def table(rng):
    """Columns, of which y is predicted, and whether that tells clicks."""
    target = TARGETS[rng.integers(len(TARGETS))]
    kinds = ["number", "integer", "class", "text", "date", "list", "extreme"]
    columns = {f"c{place}": drawn(rng, kinds[rng.integers(len(kinds))], ROWS) for place in range(rng.integers(1, 5))}
    columns["y"] = drawn(rng, target, ROWS)
    return columns, target == "click"


def as_bytes(columns, form):
    """The table as a file holds it."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if form in ("csv", "tsv", "csv.gz"):
        file = io.StringIO()
        writer = csv.DictWriter(file, list(columns), dialect="excel-tab" if form == "tsv" else "excel")
        writer.writeheader()
        writer.writerows(rows)
        content = file.getvalue().encode("utf-8", "surrogatepass")
        return gzip.compress(content) if form == "csv.gz" else content
    if form in ("jsonl", "json"):
        lines = [json.dumps(row) for row in rows]
        return ("\n".join(lines) if form == "jsonl" else f"[{','.join(lines)}]").encode()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrays = {name: pa.array(values) for name, values in columns.items()}
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        texts = {
            name: [str(value).encode("utf-8", "replace").decode() for value in values]
            for name, values in columns.items()
        }
        arrays = {name: pa.array(values) for name, values in texts.items()}
    file = io.BytesIO()
    pq.write_table(pa.table(arrays), file)
    return file.getvalue()


def damaged(content, rng):
    """With some of its bytes changed, removed or repeated."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        place, kind = int(rng.integers(len(content) + 1)), rng.integers(5)
        if kind == 0 and place < len(content):
            content[place] = rng.integers(256 if rng.random() < 0.1 else 128)
        elif kind == 1:
            del content[place : place + int(rng.integers(1, 40))]
        elif kind == 2:
            content[place:place] = content[place : place + int(rng.integers(1, 200))]
        elif kind == 3:
            content[place:place] = bytes(rng.choice(list(b'",;|\t\r\n\\{}[]:\x000123456789eE+-.'), 3))
        else:
            del content[place:]
    return bytes(content)


def used(path, rng, folder, clicks):
    """Reads, judges and learns from a table, encodes what a step and an evaluation take, and asks with its records."""
    data = from_path(str(path))
    render(inspect(data.open, labels=("y",)))
    recipe = "recommendation.click" if clicks else "table.predict"
    experiment = recipes.load(recipe, smoke=True)
    target = {"task.target": "y"} if recipe == "table.predict" else {"task.label": "y"}
    experiment = replace(experiment, {"task.data": data, **target})
    train = experiment.task.source("train")
    experiment, _ = settled(experiment, train)
    bound = prepare(experiment, folder, train)
    for split in ("train", "validation", "test"):
        source = bound.task.source(split)
        plan = make_plan(bound.task, source, 16, seed=0 if split == "train" else None, buckets=bound.pipeline.buckets)
        batch = Encoder(bound.task, source, plan, augment=split == "train")((0, 1))["batch"]
        for name, values in batch.items():
            if values.dtype.kind == "f" and name not in ("y", "target", "label"):
                assert np.isfinite(values).all(), f"{name} of {split} is not finite"
            if values.dtype.kind == "f":
                assert np.isfinite(values[batch["mask"]]).all(), f"{name} of {split} is not finite"
    codec = bound.task.codec
    for extreme in (*rng.permutation(np.array(HUGE, object))[:6], *rng.permutation(np.array(WORDS, object))[:6]):
        asked = {entry.name: [extreme] for entry in codec.inputs}
        try:
            encoded = codec.encode(asked)
        except InputError:
            continue
        for name, values in encoded.items():
            values = np.asarray(getattr(values, "values", values))
            assert values.dtype.kind != "f" or np.isfinite(values).all(), f"{name} of a request is not finite"


def test_tables(budget, tmp_path, monkeypatch):
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    refused = 0
    for number, rng in budget:
        form = FORMATS[rng.integers(len(FORMATS))]
        columns, clicks = table(rng)
        content = as_bytes(columns, form)
        if rng.random() < 0.4:
            content = damaged(content, rng)
        path = tmp_path / f"t{number}.{form}"
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                used(path, rng, tmp_path / f"run{number}", clicks)
        except InputError as error:
            refused += 1
            told = str(error)
            if len(told) > 3000 or not error.problem:
                budget.failed(f"no message for people: {told[:300]}", content)
        except Exception:
            budget.failed(f"{path.name}\n{traceback.format_exc()}", content)
        path.unlink()
    assert refused < max(0.9 * budget.done, 5), "hardly any table was read to its end"


def test_the_fuzzer_of_tables_can_fail(tmp_path, monkeypatch):
    """An overflow that was once there is found."""
    from suite.data.preprocessing import tabular_values

    def overflowing(values, column, style="", fix=""):
        return np.array([float(value) ** 2 if isinstance(value, int | float) else math.nan for value in values])

    monkeypatch.setattr(tabular_values, "numbers", overflowing)
    monkeypatch.setattr("suite.data.preprocessing.tabular_columns.numbers", overflowing)
    from tests.fuzz.conftest import Budget

    with pytest.raises(pytest.fail.Exception):
        test_tables(Budget(0, 60, 40, 0, tmp_path), tmp_path, monkeypatch)
