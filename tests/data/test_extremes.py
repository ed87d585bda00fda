"""Cells beyond what numbers and texts hold: none overflows, none is read in silence, and damaged files are told."""

import gzip
import json
import warnings

import numpy as np
import pytest

from suite.data.preprocessing.tabular_columns import Number
from suite.data.preprocessing.tabular_statistics import NumberStatistics
from suite.data.preprocessing.tabular_values import clicks
from suite.data.sources.datasets import from_path
from suite.data.sources.memory import Memory
from suite.errors import InputError

EXTREMES = [1e300, -1e300, 1.7e308, -1.7e308, 5e-324, np.inf, -np.inf, np.nan, 10**400, -(2**63), 0.5]


@pytest.fixture(autouse=True)
def overflows_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


@pytest.mark.parametrize("std", [1.0, 1e-300, 1e300])
@pytest.mark.parametrize("log", [False, True])
def test_numbers_stay_finite(std, log):
    encoded = Number("x", log, 0.25, std, True).encode(EXTREMES)
    assert np.isfinite(encoded).all() and encoded[:, 1].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0]


def test_statistics_and_bins_of_extremes_are_finite():
    values = np.array([1e308, -1e308, 1e300, 5e-324, 0.0, 1.0, np.nan, np.inf])
    statistics = NumberStatistics(Memory({"x": values}, {"x": "float"}), "x")
    for start in (0, 4):
        statistics.add(values[start : start + 4])
    number = statistics.number("auto", 4)
    assert number.log and np.isfinite([number.mean, number.std, *number.edges]).all()
    assert np.isfinite(number.encode(values)).all()


def test_a_click_beyond_float32_is_no_click():
    with pytest.raises(InputError, match=r"neither 1 nor 0.*\n  found: 1e\+300, inf"):
        clicks(np.array([1.0, 1e300, 0.0, np.inf]), "clicked")
    assert clicks(np.array([1.0, 0.0, np.nan]), "clicked").tolist()[:2] == [1.0, 0.0]


def test_a_damaged_gz_file_is_told_wherever_it_is_damaged(tmp_path):
    content = gzip.compress("".join(f"{i},{i % 7}\n" for i in range(50_000)).encode())
    rng, path = np.random.default_rng(0), tmp_path / "data.csv.gz"
    for place in (12, *rng.integers(10, len(content), 8)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << int(rng.integers(8))]) + content[place + 1 :])
        with pytest.raises(InputError, match=r"data.csv.gz: this .gz file is damaged"):
            from_path(str(path)).open("train")


@pytest.mark.parametrize("form", ["jsonl", "json", "columns"])
def test_halves_of_surrogate_pairs_are_replaced_and_counted(form, tmp_path):
    written = ["a\ud800b", "\U0001f600", "plain", "\udfff"] * 10
    rows = [{"text": f"{i} {text}", "label": i % 2} for i, text in enumerate(written)]
    path = tmp_path / ("data.jsonl" if form == "jsonl" else "data.json")
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    content = {"jsonl": "\n".join(map(json.dumps, rows)), "json": json.dumps(rows), "columns": json.dumps(columns)}
    path.write_text(content[form])
    train = from_path(str(path)).open("train")
    texts = train.column("text", np.arange(len(train)))
    assert {text.partition(" ")[2] for text in texts} == {"a\ufffdb", "\U0001f600", "plain", "\ufffd"}
    assert any("20 values with half of a surrogate pair, read as U+FFFD" in note for note in train.notes)
