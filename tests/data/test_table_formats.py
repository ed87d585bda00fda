"""The same table in every format: equal columns, equal inputs of a model, and requests that are what training was."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts import fuzz_tables
from suite.codecs.table import Clicks
from suite.data import written
from suite.data.preprocessing.tabular import Fields
from suite.data.preprocessing.tabular_values import texts
from suite.data.sources import streamed_tables, tables
from suite.serving.checks import Checks
from suite.serving.settings import Settings
from tests.data.test_reading_tables import FORMATS, columns, write

TEXTS = st.sampled_from(["Rome", " Oslo ", "a,b", 'say "x"', "two\nlines", "São", "007", "x1", "NA", "true"])
VALUES = {
    "whole": st.integers(-(2**70), 2**70),
    "id": st.integers(2**60, 2**60 + 9),
    "few": st.integers(0, 5),
    "number": st.floats(-1e6, 1e6).map(lambda x: float(f"{x:.4g}")),
    "city": TEXTS,
    "member": st.booleans(),
}


@st.composite
def records(draw):
    """Some columns of some types, each with gaps or without."""
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4, unique=True))
    count = draw(st.integers(4, 12))
    made = {}
    for name in names:
        cells = st.none() | VALUES[name] if draw(st.booleans()) else VALUES[name]
        made[name] = draw(st.lists(cells, min_size=count, max_size=count))
    made["word"] = [f"w{i % 3}" for i in range(count)]  # a column to learn from
    made["clicked"] = [i % 2 for i in range(count)]
    return [dict(zip(made, row, strict=True)) for row in zip(*made.values(), strict=True)]


def spelt(values):
    """Values of a column as one form of them; a number of whatever type is itself."""
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    return texts([value for value in plain], "number" if all(not isinstance(v, str) for v in plain) else "text")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=records())
def test_a_table_is_the_same_in_every_format(rows, tmp_path, monkeypatch):
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(streamed_tables, "ROWS", 3)
    monkeypatch.setattr(streamed_tables, "BLOCK", 256)
    whole = [row.get("whole") for row in rows if row.get("whole") is not None]
    formats = [kind for kind in FORMATS if "parquet" not in kind or all(-(2**63) <= value < 2**63 for value in whole)]
    first, arrays = None, None
    for kind in formats:
        source = tables.load(write(tmp_path, rows, kind), most=0 if kind.startswith("streamed") else 1 << 30)
        found = {name: spelt(values) for name, values in columns(source).items()}
        fields = Fields(min_count=1)
        fields.fit(source, "clicked", tmp_path / "fields.json")
        fields = replace(fields, file=str(tmp_path / "fields.json"))
        encoded = fields.encode(source[np.arange(len(source))])
        if first is None:
            first, arrays = (source.schema, found), encoded
        assert (source.schema, found) == first, kind
        for name, array in arrays.items():
            np.testing.assert_array_equal(encoded[name], array, err_msg=kind)
        codec = Clicks(record="record", fields=fields)
        checks = Checks(codec.inputs, codec.primary, codec.texts, Settings(), styles=codec.styles)
        names = {entry.name for entry in codec.inputs}
        asked = [{name: value for name, value in row.items() if name in names} for row in rows]
        for request in (checks.records(asked), codec.opened({"record": list(map(json.dumps, asked))})):
            answered = codec.encode(request)
            for name, array in arrays.items():
                np.testing.assert_array_equal(answered[name], array, err_msg=f"{kind}, request")


@pytest.mark.parametrize("seed", [0, 100, 700, 900])
def test_a_fuzz_of_small_tables_finds_nothing(seed, tmp_path, monkeypatch):
    """Ten tables each; all two thousand: python scripts/fuzz_tables.py."""
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(streamed_tables, "BLOCK", 4096)
    monkeypatch.setattr(streamed_tables, "ROWS", 11)
    outcome = fuzz_tables.fuzz(range(seed, seed + 10))
    assert not outcome.failures, outcome.failures[0]
    assert outcome.counts["JSON to the server"] > 10


def test_the_fuzz_writes_what_it_says():
    """Its tables differ in format, encoding and faults; a record is written as its table was."""
    ways = [fuzz_tables.how(random.Random(seed)) for seed in range(300)]
    assert {way.format for way in ways} == {"csv", *fuzz_tables.TYPED}
    assert {way.broken for way in ways} == {"", *fuzz_tables.BREAKS}
    way = fuzz_tables.Written("csv", ";", comma=True)
    made = [fuzz_tables.Column("a", "float", [1234.5, None], lambda value: "" if value is None else "1.234,5")]
    assert fuzz_tables.content(made, way, [0]) == b"a\n1.234,5\n"


def test_the_fuzz_notices_values_that_disagree(tmp_path, monkeypatch):
    """Were spellings of truth values to count, requests would not be what training was."""
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(written, "truth", lambda text: None)
    assert any("!=" in failure for failure in fuzz_tables.fuzz(range(10)).failures)
