"""Dates: one format a column, judged by all of its values, and the numbers that a model is given."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from suite.data.preprocessing import dates
from suite.data.preprocessing.tabular import Fields
from suite.data.sources.memory import Memory
from suite.errors import InputError


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (["2024-05-31", "2023-01-02"], "iso"),
        (["2024-05-31T12:30:00Z", "2024-05-31 12:30:00+02:00"], "iso"),
        (["31.05.2024", "02.01.2023"], "%d.%m.%Y"),
        (["05/31/2024", "01/02/2023"], "%m/%d/%Y"),
        (["31/05/2024 23:59", "02/01/2023 00:00"], "%d/%m/%Y %H:%M"),
        (["May 31, 2024", "Jan 2, 2023"], "%b %d, %Y"),
        (["20240531", "20230102"], ""),  # numbers, or codes
        (["2024-05-31", "soon"], ""),
        ([None, "NA"], ""),
    ],
)
def test_a_column_has_one_format(values, form):
    assert dates.judged(values)[0] == form


def test_days_and_months_that_may_be_turned_round_are_told():
    assert dates.judged(["01/02/2023", "03/04/2023"]) == ("%d/%m/%Y", "%m/%d/%Y")


def test_the_numbers_of_a_date():
    value = "2024-05-31T06:30:00"
    of = lambda part: dates.numbers([value, None], "iso", part, "day")
    assert of("time")[0] == datetime(2024, 5, 31, 6, 30, tzinfo=UTC).timestamp() / 86400
    assert [of(part)[0] for part in ("year", "month", "day", "weekday", "hour")] == [2024, 5, 31, 4, 6.5]
    assert math.isnan(of("time")[1])


def test_another_format_in_a_request_is_refused():
    with pytest.raises(InputError, match="no date"):
        dates.numbers(["31.05.2024"], "iso", "time", "sold")


def _columns():
    days = np.arange(200)
    return {
        "sold": [f"2024-{1 + day % 12:02}-{1 + day % 28:02}" for day in days.tolist()],
        "note": [f"a fine house number {day} by the sea" for day in days.tolist()],
        "photo": [f"photos/{day}.jpg" for day in days.tolist()],
        "call": [f"calls/{day}.wav" for day in days.tolist()],
        "area": days / 7,
        "price": days * 1.0,
    }


def test_columns_of_all_kinds_are_told(tmp_path, capsys):
    columns = _columns()
    source = Memory(columns, {name: "float" if name in ("area", "price") else "text" for name in columns})
    kinds = {guess.name: guess.kind for guess in Fields(all_kinds=True).judged(source, "price")}
    assert kinds == {"sold": "date", "note": "text", "photo": "image", "call": "audio", "area": "dense"}
    before = {guess.name: guess.kind for guess in Fields().judged(source, "price")}
    assert before["sold"] == "categorical"
    assert before["note"] == before["photo"] == "ignored"


def test_dates_become_numbers_that_change(tmp_path):
    columns = _columns()
    source = Memory(columns, {name: "float" if name in ("area", "price") else "text" for name in columns})
    Fields(all_kinds=True, bins=8).fit(source, "price", tmp_path / "fields.json")
    fields = Fields(all_kinds=True, bins=8, file=str(tmp_path / "fields.json"))
    # All of one year, and without hours.
    assert [(number.name, number.part) for number in fields.numbers] == [
        ("area", ""),
        *(("sold", part) for part in ("time", "month", "day", "weekday")),
    ]
    assert fields.sizes()["inputs"] == 5
    assert fields.sizes()["bins"] == 8
    encoded = fields.encode({"sold": ["2024-12-28", None], "area": [3.0, 4.0]})["dense"]
    assert np.isfinite(encoded).all()
    edges = fields.edges
    assert edges.shape == (5, 9)
    assert (np.diff(edges, axis=1) >= 0).all()
