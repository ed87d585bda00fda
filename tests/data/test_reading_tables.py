"""Reading of tables: types, names, encodings and forms that other programs write, each kind in each format."""

import csv
import datetime
import gzip
import io
import json
import shlex
import subprocess
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from suite.data import written
from suite.data.preprocessing.tabular import Fields
from suite.data.preprocessing.tabular_columns import MISSING, UNSEEN
from suite.data.sources import json_tables, streamed_tables, tables
from suite.data.sources.column_types import FORMER, Reading, of_values
from suite.data.sources.files import Lines, Table, from_path, read_input
from suite.data.sources.sampling import Sample
from suite.errors import InputError
from suite.experiment.serialization import from_json, to_json

FORMATS = ("csv", "tsv", "csv.gz", "jsonl", "json", "columns.json", "parquet", "streamed csv", "streamed parquet")


def cell(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return "|".join(map(str, value)) if isinstance(value, list) else str(value)


def write(folder, rows, kind, name="t"):
    """The records, dicts of plain values, in a format of ``FORMATS``; returns the path."""
    form = kind.removeprefix("streamed ")
    path = folder / f"{name}.{form}"
    if form == "parquet":
        path.unlink(missing_ok=True)
        large = {
            key: pa.uint64() for key in rows[0] if any(type(row[key]) is int and row[key] >= 2**63 for row in rows)
        }
        table = {key: pa.array([row[key] for row in rows], large.get(key)) for key in rows[0]}
        pq.write_table(pa.table(table), path, row_group_size=3)
    elif form in ("jsonl", "json", "columns.json"):
        columns = {key: {str(i): row[key] for i, row in enumerate(rows)} for key in rows[0]}
        lines = "\n".join(map(json.dumps, rows))
        path.write_text({"jsonl": lines, "json": json.dumps(rows, indent=1)}.get(form, json.dumps(columns)))
    else:
        made = io.StringIO()
        writer = csv.writer(made, delimiter="\t" if form == "tsv" else ",", lineterminator="\n")
        writer.writerows([list(rows[0]), *([cell(value) for value in row.values()] for row in rows)])
        with (gzip.open if form.endswith(".gz") else open)(path, "wt", encoding="utf-8", newline="") as file:
            file.write(made.getvalue())
    return path


def read(path, kind="", how=Reading()):
    return tables.load(path, how, most=0 if kind.startswith("streamed") else tables.LARGE)


def columns(source):
    """Columns as lists; an empty text and a missing one are both None."""
    return {name: [v if v != "" else None for v in values] for name, values in source[np.arange(len(source))].items()}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch, tmp_path):
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(streamed_tables, "ROWS", 3)
    monkeypatch.setattr(streamed_tables, "BLOCK", 64)


# Whole numbers and codes.

LARGE = 1_582_218_195_700_000_945


@pytest.mark.parametrize("kind", FORMATS)
def test_whole_numbers_are_exact_in_every_format(tmp_path, kind):
    """With a gap, beyond 63 and 64 bits; those that a float64 holds stay numbers."""
    beyond = [2**64 + 1, 2**63, 5] if "parquet" not in kind else [2**64 - 1, 2**63, 5]
    rows = [
        {"id": LARGE + i if i % 3 else None, "full": LARGE + i, "beyond": beyond[i % 3], "few": None if i == 2 else i}
        for i in range(7)
    ]
    source = read(write(tmp_path, rows, kind), kind)
    found = columns(source)
    assert source.schema == {"id": "text", "full": "int", "beyond": "text", "few": "float"}
    assert found["id"] == [None if row["id"] is None else str(row["id"]) for row in rows]
    assert found["full"] == [row["full"] for row in rows] and found["beyond"] == [str(row["beyond"]) for row in rows]
    assert np.isnan(found["few"][2]) and found["few"][3] == 3
    assert source.notes[-1] == "whole numbers of many digits, kept exactly as texts: id, beyond"


def test_an_integer_of_more_digits_than_python_reads_is_a_text(tmp_path, monkeypatch):
    digits = "9" * 5000
    (tmp_path / "t.jsonl").write_text('{"id": ' + digits + ', "text": "a"}\n{"id": 1, "text": "b"}\n')
    assert columns(tables.load(tmp_path / "t.jsonl"))["id"] == [digits, "1"]
    (tmp_path / "t.csv").write_text(f"id,text\n{digits},a\n1,b\n")
    monkeypatch.setattr(streamed_tables, "BLOCK", 1 << 16)
    for kind in ("csv", "streamed csv"):
        assert columns(read(tmp_path / "t.csv", kind))["id"] == [digits, "1"]


def test_an_integer_beyond_all_floats_among_floats_is_infinite():
    array, _ = of_values([0.5, 10**400, -(10**400), None], "x", Reading())
    assert array.to_pylist() == [0.5, np.inf, -np.inf, None]


@pytest.mark.parametrize("kind", FORMATS)
def test_codes_with_leading_zeros_and_texts_that_a_task_names_stay_texts(tmp_path, kind):
    rows = [{"code": f"{i:03d}", "text": str(10 + i) if i % 2 else f"{i:06d}", "number": 40 + i} for i in range(7)]
    path = write(tmp_path, rows, kind)
    assert read(path, kind).schema == {"code": "text", "text": "text", "number": "int"}
    source = read(path, kind, Reading(texts=("number", "text")))
    assert columns(source) == {name: [str(row[name]) for row in rows] for name in rows[0]}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_task_reads_its_text_as_text(tmp_path, kind):
    """A column of nothing but digits, also through a sample of the data; a gap makes no fraction of them."""
    from suite.tasks.text.classification import TextClassification
    from suite.tasks.text.translation import Translation

    rows = [{"text": 42 + i, "other": None if i == 3 else 7, "label": i % 2} for i in range(40)]
    data = Table(path=str(write(tmp_path, rows, kind)))
    for texts in (data, Sample(data=data)):
        source = TextClassification(data=texts).source("train")
        assert set(source[np.arange(len(source))]["text"]) <= {str(row["text"]) for row in rows}
    pairs = Translation(data=data, source_text="text", target_text="other").source("train")
    assert set(pairs[np.arange(len(pairs))]["other"]) == {"7"}


# Numbers as other countries and programs write them.


@pytest.mark.parametrize(
    "cells, numbers",
    [
        (["3,5", "12", "1.234,25"], [3.5, 12, 1234.25]),
        (["3,5", "NA", " "], [3.5, None, None]),
        (["1 234,5", "-7,25", "1,5E+03"], [1234.5, -7.25, 1500]),
        (["1,234", "12,5", "0,1"], [1.234, 12.5, 0.1]),
    ],
)
@pytest.mark.parametrize("kind", ["semicolons", "tsv", "streamed csv", "jsonl", "parquet"])
def test_decimal_commas(tmp_path, kind, cells, numbers):
    if kind == "semicolons":
        path = tmp_path / "t.csv"
        path.write_text("preis;klick\n" + "".join(f"{value};{i}\n" for i, value in enumerate(cells)))
    else:
        path = write(tmp_path, [{"preis": value, "klick": i} for i, value in enumerate(cells)], kind)
    source = read(path, kind)
    assert source.schema == {"preis": "float", "klick": "int"} and source.styles == {"preis": "decimal comma"}
    found = columns(source)["preis"]
    assert [None if np.isnan(value) else value for value in found] == numbers
    assert source.notes == ("numbers with a decimal comma: preis",)


def test_commas_between_thousands_and_what_may_be_either(tmp_path):
    (tmp_path / "t.csv").write_text('a,b\n"1,234.5",x\n"12,345",y\n')
    source = read(tmp_path / "t.csv")
    assert columns(source)["a"] == [1234.5, 12345] and source.styles == {"a": "thousands comma"}
    rows = [{"a": "1,234"}, {"a": "5,678"}]
    for kind in ("jsonl", "parquet", "tsv"):
        path = write(tmp_path, rows, kind)
        source = read(path, kind)
        assert source.schema == {"a": "text"} and "--task.data.decimal" in source.notes[0]
        for decimal, first in ((",", 1.234), (".", 1234)):
            data = Table(path=str(path), decimal=decimal, validation=0.0, test=0.0)
            assert columns(data.open("train"))["a"][0] == first
    (tmp_path / "e.csv").write_text("a;b\n1,234;2,5\n5,678;3,5\n")
    assert columns(read(tmp_path / "e.csv"))["a"] == [1.234, 5.678]
    (tmp_path / "words.csv").write_text('a,b\n"well, yes",1\n"3,5",2\n')
    assert read(tmp_path / "words.csv").schema["a"] == "text"


@pytest.mark.parametrize("kind", ["parquet", "streamed parquet"])
def test_parquet_decimals_dictionaries_and_dates(tmp_path, kind):
    n = 7
    moments = [datetime.datetime(2024, 1, i + 1, 12, 30) for i in range(n)]
    table = {
        "price": pa.array([Decimal("1.50") + i if i != 2 else None for i in range(n)], pa.decimal128(10, 2)),
        "count": pa.array([Decimal(i) for i in range(n)], pa.decimal128(12, 0)),
        "id": pa.array([Decimal(10**20 + i) for i in range(n)], pa.decimal128(38, 0)),
        "city": pa.array([f"c{i % 2}" for i in range(n)]).dictionary_encode(),
        "size": pa.array([i % 2 for i in range(n)]).dictionary_encode(),
        "day": pa.array([moment.date() for moment in moments]),
        "seconds": pa.array(moments, pa.timestamp("s")),
        "nanos": pa.array(moments, pa.timestamp("ns")),
        "data": pa.array([b"\xff\x00", None] + [b"x"] * (n - 2)),
    }
    pq.write_table(pa.table(table), tmp_path / "t.parquet", row_group_size=3)
    source = read(tmp_path / "t.parquet", kind)
    found = columns(source)
    assert found["price"][1] == 2.5 and np.isnan(found["price"][2]) and found["count"] == list(range(n))
    assert found["id"][1] == str(10**20 + 1) and found["city"][1] == "c1" and source.schema["size"] == "int"
    assert found["day"][0] == "2024-01-01" and found["seconds"][0] == found["nanos"][0] == "2024-01-01 12:30:00"
    assert found["data"][:2] == [b"\xff\x00", None]


@pytest.mark.parametrize("kind", FORMATS)
def test_dates_times_and_truth_values_stay_texts(tmp_path, kind):
    values = {"day": "2024-01-05", "time": "12:30", "stamp": "2024-01-05T12:30:00Z", "yes": "true", "range": "1-2"}
    source = read(write(tmp_path, [values] * 4, kind), kind)
    assert columns(source) == {name: [value] * 4 for name, value in values.items()}


def test_gaps_in_columns_of_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c\n1,2.5,NA\nNA, ,x\nNone,null,None\n4,nan,\n")
    for kind in ("csv", "streamed csv"):
        source = read(tmp_path / "t.csv", kind)
        assert source.schema == {"a": "float", "b": "float", "c": "text"}
        assert np.isnan(columns(source)["a"]).tolist() == [False, True, True, False]
        assert columns(source)["c"] == ["NA", "x", "None", None]


@pytest.mark.parametrize("kind", ["csv", "streamed csv"])
def test_rows_that_are_left_out_are_named(tmp_path, kind):
    (tmp_path / "t.csv").write_text("sep=,\na,b\n1,2\n3\n5,6\n7,8,9\n" + "1,2\n" * 40 + "3\n")
    source = read(tmp_path / "t.csv", kind)
    assert source.dropped == {"wrong number of fields": 3} and len(source) == 42
    names = source.dropped_names["wrong number of fields"]
    assert kind != "csv" or names == ["row 2", "row 4", "row 45"]


def test_numbers_of_single_precision_are_those_that_are_written(tmp_path):
    table = pa.table({"x": pa.array([0.1, None, 1e-7, 16777216.0, float("inf")], pa.float32())})
    pq.write_table(table, tmp_path / "t.parquet")
    for kind in ("parquet", "streamed parquet"):
        found = columns(read(tmp_path / "t.parquet", kind))["x"]
        assert found[0] == 0.1 and np.isnan(found[1]) and found[2:] == [1e-7, 16777216.0, np.inf]
    assert columns(read(tmp_path / "t.parquet", "", Reading(rules=FORMER)))["x"][0] == float(np.float32(0.1))


# Names.


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if "parquet" not in kind])
def test_blanks_around_names_do_not_count(tmp_path, kind):
    rows = [{"price": 1.5, " device": "phone", "clicked ": 1}] * 4
    source = read(write(tmp_path, rows, kind), kind)
    assert list(source.schema) == ["price", "device", "clicked"]
    assert source.notes[-1:] == ("blanks around column names are left out: device, clicked",)
    old = read(write(tmp_path, rows, kind), kind, Reading(rules=FORMER))
    assert list(old.schema) == ["price", " device", "clicked "]
    assert list(read(write(tmp_path, rows, kind), kind, Reading(keep=(" device",))).schema)[1] == " device"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["", "Unnamed: 0", "index"])
def test_row_numbers_are_left_out(tmp_path, kind, name):
    rows = [{name: i, "price": i / 3, "clicked": i % 2} for i in range(8)]
    source = read(write(tmp_path, rows, kind), kind)
    assert list(source.schema) == ["price", "clicked"]
    assert source.notes[-1].startswith("row numbers, left out: column")
    drawn = [rows[i] for i in (5, 1, 7, 2)]
    left = read(write(tmp_path, drawn, kind, "drawn"), kind)
    assert (name == "index") == (name in left.schema)
    counts = [{name or "Unnamed: 0": i % 2, "price": 1.5} for i in range(8)]
    assert list(read(write(tmp_path, counts, kind, "counts"), kind).schema) == [name or "Unnamed: 0", "price"]
    assert name in read(write(tmp_path, rows, kind), kind, Reading(keep=(name,))).schema


def test_two_columns_of_one_name_may_be_records(tmp_path):
    (tmp_path / "t.csv").write_text("5,5,x\n6,7,y\n")
    with pytest.raises(InputError, match="two columns have the same name") as error:
        tables.load(tmp_path / "t.csv")
    assert error.value.fix.endswith("--task.data.header column1 column2 label")


@pytest.mark.parametrize(
    "text, header",
    [
        ("a fine film,1\na dull one,0\n", "text label"),
        ("7,a fine film,good\n8,a dull one,bad\n9,so so,good\n", "column1 text label"),
        ("a fine film,good\na dull one,bad\nso so,good\n", "text label"),
    ],
)
def test_a_first_line_that_is_a_record_is_told(tmp_path, text, header):
    """The advice makes it one: every line is a record then."""
    from suite.tasks.text.classification import TextClassification

    path = tmp_path / "my reviews.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        TextClassification(data=Table(path=str(path), validation=0, test=0)).source("train")
    assert error.value.fix == f"--task.data.header {header}"
    data = Table(path=str(path), validation=0, test=0, header=tuple(header.split()))
    assert len(TextClassification(data=data).source("train")) == text.count("\n")


def test_the_column_that_is_meant_is_judged_by_what_the_columns_hold(tmp_path):
    from suite.tasks.text.classification import TextClassification

    path = tmp_path / "t.csv"
    path.write_text("id,how it was,stars\n" + "".join(f"{i},opinion number {i} of many,{i % 3}\n" for i in range(30)))
    data = Table(path=str(path), validation=0, test=0)
    with pytest.raises(InputError) as error:
        TextClassification(data=data).source("train")
    assert error.value.fix == "--task.text 'how it was'"
    with pytest.raises(InputError) as error:
        TextClassification(data=data, text="how it was").source("train")
    assert error.value.fix == "--task.label stars"


# Encodings and layouts.


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-32"])
def test_wide_encodings_are_read(tmp_path, encoding):
    text = "text,label\n" + "".join(f"café {i},{i % 2}\n" for i in range(30))
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    for kind in ("csv", "streamed csv"):
        assert columns(read(tmp_path / "t.csv", kind))["text"][0] == "café 0"
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode(encoding)))
    assert columns(tables.load(tmp_path / "t.csv.gz"))["text"][0] == "café 0"
    rows = '{"text": "café", "label": 1}\n'
    (tmp_path / "t.jsonl").write_bytes(rows.encode(encoding))
    assert columns(tables.load(tmp_path / "t.jsonl"))["text"] == ["café"]


def test_unicode_text_of_excel_is_a_table(tmp_path):
    text = 'text\tlabel\r\n"two\nlines ""x"""\t1\r\nplain\t0\r\n'
    (tmp_path / "t.txt").write_bytes(text.encode("utf-16"))
    data = from_path(str(tmp_path / "t.txt"))
    assert isinstance(data, Table)
    assert columns(tables.load(tmp_path / "t.txt")) == {"text": ['two\nlines "x"', "plain"], "label": [1, 0]}
    assert read_input(str(tmp_path / "t.txt"), "text")["text"] == ['two\nlines "x"', "plain"]
    (tmp_path / "l.txt").write_bytes("eins\nzwei\n".encode("utf-16"))
    assert isinstance(from_path(str(tmp_path / "l.txt")), Lines)
    assert read_input(str(tmp_path / "l.txt"), "text")["text"] == ["eins", "zwei"]


@pytest.mark.parametrize("name", ["two words.csv", "train.csv", "t.csv.gz", "dev.csv.gz"])
def test_advice_on_encodings_works_when_it_is_pasted(tmp_path, name):
    data = "text,label\ncafé “so”,1\n".encode("cp1252")
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(InputError, match="not UTF-8 text") as error:
        tables.load(path)
    subprocess.run(error.value.fix, shell=True, check=True)
    (made,) = [file for file in tmp_path.iterdir() if file != path or name == "train.csv"]
    assert columns(tables.load(made))["text"] == ["café “so”"]
    assert shlex.split(error.value.fix), "quoted for a shell"
    assert made.name == {"train.csv": "train.csv", "dev.csv.gz": "dev.csv"}.get(name, made.name)


def test_a_line_that_tells_excel_no_delimiter_is_a_line(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"sep=\0\n" + b"a\nx\n" * 3)
    made = Table(path=str(tmp_path / "t.csv"), validation=0, test=0).open("train")
    assert list(made.schema) == ["sep=\0"] and len(made) == 6


@pytest.mark.parametrize("delimiter", [";;", "\0", "é", '"', "\n"])
def test_a_delimiter_that_parts_nothing_is_refused(delimiter):
    with pytest.raises(InputError, match=r"field data\.delimiter: must be one ASCII character"):
        Table(path="t.csv", delimiter=delimiter)


def test_a_decimal_sign_that_is_none_is_refused():
    with pytest.raises(InputError, match=r'field data\.decimal: must be "," or "\."'):
        Table(path="t.csv", decimal=";")


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;"])
def test_the_line_that_tells_excel_the_delimiter(tmp_path, line):
    (tmp_path / "t.csv").write_text(f"\ufeff{line}\r\na,b;c\r\n1;2\r\n3;4\r\n")
    for kind in ("csv", "streamed csv"):
        source = read(tmp_path / "t.csv", kind)
        assert columns(source) == {"a,b": [1, 3], "c": [2, 4]}
        assert source.notes[0].endswith("is read as Excel reads it")
    (tmp_path / "h.csv").write_text(f"{line}\n1;2\n")
    assert columns(tables.load(tmp_path / "h.csv", Reading(header=("a", "b")))) == {"a": [1], "b": [2]}


TABBED = {
    'text\tlabel\n"two\nlines"\t1\nplain\t0\n': ["two\nlines", "plain"],
    'text\tlabel\n"a\ttab"\t1\nplain\t0\n': ["a\ttab", "plain"],
    'text\tlabel\n"say ""hi"""\t1\nplain\t0\n': ['say "hi"', "plain"],
    '"text"\t"label"\n"one"\t"1"\n"two"\t"0"\n': ["one", "two"],
    'text\tlabel\n"x" y\t1\nsay "hi\t0\n': ['"x" y', 'say "hi'],
    'text\tlabel\n"one" word\t1\n"a ""b"""\t0\n': ['"one" word', '"a ""b"""'],
    'text\tlabel\n"a film"\t1\n"so\t0\nlong"\t1\n': ['"a film"', '"so', 'long"'],
}


@pytest.mark.parametrize("text", TABBED)
def test_quotes_of_tab_separated_files(tmp_path, text):
    """Literal, unless rows fall apart without them, or each is doubled, or the names have them."""
    (tmp_path / "t.tsv").write_text(text)
    for kind in ("tsv", "streamed tsv"):
        source = read(tmp_path / "t.tsv", kind)
        assert columns(source)["text"] == TABBED[text] and not source.dropped
        assert bool(source.notes) == (not TABBED[text][0].startswith('"'))


@pytest.mark.parametrize(
    "content",
    [
        {"text": {"0": "a", "1": "b"}, "label": {"0": 1, "1": None}},
        {"text": ["a", "b"], "label": [1, None]},
        {"columns": ["text", "label"], "index": [0, 1], "data": [["a", 1], ["b", None]]},
        {"schema": {}, "data": [{"text": "a", "label": 1}, {"text": "b"}]},
        [{"text": "a", "label": 1}, {"text": "b", "label": None}],
    ],
)
def test_json_by_columns_and_by_records(tmp_path, content):
    (tmp_path / "t.json").write_text(json.dumps(content, indent=1))
    found = columns(tables.load(tmp_path / "t.json"))
    assert found["text"] == ["a", "b"] and found["label"][0] == 1 and np.isnan(found["label"][1])


def test_one_record_is_no_object_of_columns(tmp_path):
    assert json_tables.records('{"tags": ["a", "b"], "price": 3}', "t.json")[0] == {"tags": [["a", "b"]], "price": [3]}
    assert json_tables.records('{"tags": ["a", "b"]}', "t.jsonl")[0] == {"tags": [["a", "b"]]}
    deep = "[" * 100_000
    assert json_tables.records('{"a": 1}\n{"a": ' + deep + "}\n", "t.jsonl")[1].names == {
        "not a JSON object": ["record 2"]
    }


def test_broken_records_to_predict_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("text,label\na,1\nb\n")
    with pytest.raises(InputError, match="1 with wrong number of fields"):
        read_input(str(tmp_path / "t.csv"), "text")


# Runs begun before.


def test_a_stored_experiment_reads_by_the_rules_it_was_begun_with(tmp_path):
    stored = to_json(Table(path="t.csv"))
    assert from_json(stored) == Table(path="t.csv") and Table(path="t.csv").rules == 2
    del stored["rules"]
    old = from_json(stored)
    assert old.rules == FORMER and old.with_texts(("text",)) == old
    (tmp_path / "t.csv").write_text(",code, price\n0,007,1\n1,012,\n2,013,3\n")
    source = tables.load(tmp_path / "t.csv", Reading(rules=FORMER))
    assert {name: [str(v) for v in values] for name, values in columns(source).items()} == {
        "": ["0", "1", "2"],
        "code": ["7", "12", "13"],
        " price": ["1.0", "nan", "3.0"],
    }


# One value, however it is written.


def fitted(source, path, **settings):
    made = Fields(min_count=1, **settings)
    made.fit(source, "clicked", path / "fields.json")
    return Fields(min_count=1, **settings, file=str(path / "fields.json"))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truth_value_is_one_value_however_it_is_written(tmp_path, kind):
    rows = [{"member": bool(i % 2), "clicked": i % 2} for i in range(20)]
    fields = fitted(read(write(tmp_path, rows, kind), kind), tmp_path)
    (field,) = fields.fields
    assert set(field.values) == {"true", "false"} and field.form == "boolean"
    row = field.start + 2 + field.values.index("true")
    asked = {"member": [True, "true", "True", "TRUE", " true ", 1, 1.0, "1", np.bool_(True)]}
    assert fields.encode(asked)["ids"][:, 0].tolist() == [row] * 9
    others = fields.encode({"member": [False, "0", None, "maybe"]})["ids"][:, 0] - field.start
    assert others.tolist() == [2 + field.values.index("false")] * 2 + [MISSING, UNSEEN]


@pytest.mark.parametrize("mix", [["true", "1", "False", "0"], ["TRUE", "true", "FALSE", "False"]])
def test_mixed_spellings_of_truth_values_are_two_categories(tmp_path, mix):
    path = write(tmp_path, [{"member": mix[i % 4], "clicked": i % 2} for i in range(20)], "csv")
    fields = fitted(tables.load(path), tmp_path, categorical=("member",))
    assert set(fields.fields[0].values) == {"true", "false"}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_number_as_a_category_is_one_value_however_it_is_written(tmp_path, kind):
    rows = [{"shop": i % 4 if i else None, "clicked": i % 2} for i in range(20)]
    fields = fitted(read(write(tmp_path, rows, kind), kind), tmp_path, categorical=("shop",))
    (field,) = fields.fields
    three = field.start + 2 + field.values.index("3")
    assert fields.encode({"shop": [3, 3.0, "3", "3.0", " 3"]})["ids"][:, 0].tolist() == [three] * 5
    one = field.start + 2 + field.values.index("1")
    assert fields.encode({"shop": [True, "true", 1]})["ids"][:, 0].tolist() == [one] * 3
    assert fields.encode({"shop": ["NA", None, ""]})["ids"][:, 0].tolist() == [field.start + MISSING] * 3
    assert fields.encode({"shop": ["007"]})["ids"][:, 0].tolist() == [field.start + UNSEEN]


def test_blanks_around_categories_do_not_count(tmp_path, capsys):
    rows = [{"device": " phone" if i % 2 else "desk ", "clicked": i % 2} for i in range(20)]
    for kind in ("csv", "jsonl", "parquet"):
        fields = fitted(read(write(tmp_path, rows, kind), kind), tmp_path)
        assert set(fields.fields[0].values) == {"phone", "desk"}
        assert "blanks around values do not count: device" in capsys.readouterr().err
        ids = fields.encode({"device": ["phone", " phone "]})["ids"][:, 0]
        assert ids[0] == ids[1] >= fields.fields[0].start + 2


def test_numbers_of_any_size_have_a_scale(tmp_path):
    values = np.array([1e300, -1e300, 1.0, 2.0] * 10)
    from suite.data.sources.memory import Memory

    source = Memory({"x": values, "clicked": np.arange(40) % 2})
    fields = fitted(source, tmp_path, dense=("x",))
    assert fields.numbers[0].log and np.isfinite(fields.encode({"x": [1e300, "-1e300", 3, None]})["dense"]).all()
    with pytest.raises(InputError, match="column x: holds numbers too large for a deviation"):
        fitted(source, tmp_path, dense=("x",), normalise="standard")
    small = fitted(Memory({"x": np.arange(40.0), "clicked": np.arange(40) % 2}), tmp_path, dense=("x",))
    assert np.isfinite(small.encode({"x": [1e308, -1e308]})["dense"]).all()


CELLS = ("1", "-3", "+4", "2.50", "1e5", "007", "1_000", "0x1f", "NA", "1,5", "1.234,5", "-0", "")


@pytest.mark.parametrize("text", CELLS)
def test_one_value_and_a_column_are_read_alike(tmp_path, text):
    """A cell of a table and the same text in a request."""
    (tmp_path / "t.csv").write_text(f"x;y\n{text};1\n")
    source = read(tmp_path / "t.csv")
    value = columns(source)["x"][0]
    if source.schema["x"] == "text":
        assert written.is_gap(text) or written.number(text, source.styles.get("x", "")) is None
    else:
        assert value == written.number(text, source.styles.get("x", ""))


PARTED = {
    "a,b;clicked\nOslo;1\nRome;0\n": ["a,b", "clicked"],
    "a;b|c|clicked\n1;2|x|0\n3;4|y|1\n": ["a;b", "c", "clicked"],
}


@pytest.mark.parametrize("text", PARTED)
def test_the_delimiter_parts_all_lines_alike(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    source = tables.load(tmp_path / "t.csv")
    assert list(source.schema) == PARTED[text] and not source.dropped
    (tmp_path / "one.csv").write_text("a,b;clicked\nOslo, Rome;1\n")
    known = tables.load(tmp_path / "one.csv", Reading(keep=("a,b",)))
    assert columns(known) == {"a,b": ["Oslo, Rome"], "clicked": [1]}


def test_rows_that_all_have_another_number_of_fields(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c\n1,2\n3,4\n")
    with pytest.raises(InputError, match="2 dropped as wrong number of fields") as error:
        Table(path=str(tmp_path / "t.csv")).open("train")
    assert "--task.data.delimiter" in error.value.fix
