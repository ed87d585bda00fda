"""Predictions for many records: every format in and out, kills, refusals, records without an answer, and bounds."""

import csv
import gzip
import importlib.util
import json
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import suite
from suite.contracts.codec import Codec, Output
from suite.contracts.signature import File, Input
from suite.errors import InputError
from suite.workflow import predict_file as module
from suite.workflow import record_blocks
from suite.workflow.answer_table import AnswerTable
from suite.workflow.predict_file import predict_file
from tests import plugin_answers
from tests.conftest import ROOT
from tests.untrained import texts, untrained

N = 100
ROWS = [
    {"id": f"{i:04d}", "n": i if i % 5 else None, "text": f"a {'good' if i % 3 else 'poor'} film {i}"} for i in range(N)
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    return untrained(texts(folder), folder / "run")


@pytest.fixture(scope="module")
def expected(run):
    return run.predict([row["text"] for row in ROWS])


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of 16 records, so that some of them are written."""
    monkeypatch.setattr(module, "BLOCK", 2)
    monkeypatch.setattr(module, "PART", 1)


def write(path, rows=ROWS):
    """The rows in the format that the name says."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=30)
        return path
    with gzip.open(path, "wt") if path.name.endswith(".gz") else open(path, "w", newline="") as file:
        if name.endswith(".jsonl"):
            file.writelines(json.dumps(row) + "\n" for row in rows)
        elif name.endswith(".json"):
            json.dump(rows, file)
        elif name.endswith(".txt"):
            file.writelines(f"{row['text']}\n\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if name.endswith(".tsv") else ",")
            writer.writeheader()
            writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    return path


def answered(run, source, target, **options):
    return predict_file(run, source, target, batch_size=8, **options)


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.csv.gz", "a.tsv", "a.jsonl", "a.jsonl.gz", "a.json"])
def test_every_format_gives_the_same_table_in_order(run, expected, tmp_path, name):
    predicted = answered(run, write(tmp_path / name), tmp_path / "out.parquet", keep=("id", "n"))
    assert (predicted.records, predicted.failed, predicted.dropped) == (N, 0, {})
    table = pq.read_table(predicted.path)
    assert table.column_names == ["id", "n", "label", "probability", "score.negative", "score.positive", "error"]
    assert table.column("id").to_pylist() == [row["id"] for row in ROWS], "in order, zeros and all"
    n = table.column("n").to_pylist()
    assert n == [row["n"] for row in ROWS] and (name == "a.json" or pa.types.is_integer(table.field("n").type))
    assert table.column("label").to_pylist() == [answer["label"] for answer in expected]
    said = [answer["top"]["positive"] for answer in expected]
    assert table.column("score.positive").to_pylist() == pytest.approx(said, abs=1e-4)
    assert table.column("error").null_count == N
    assert not (tmp_path / "out.parquet.parts").exists()


def test_lines_of_a_text_file_are_records(run, expected, tmp_path):
    answered(run, write(tmp_path / "a.txt"), tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column(0).to_pylist() == [row["text"] for row in ROWS]
    assert table.column("label").to_pylist() == [answer["label"] for answer in expected]


TABLES = (".parquet", ".csv", ".jsonl")


def test_tables_of_answers_say_the_same_in_every_format(run, tmp_path):
    source = write(tmp_path / "a.csv")
    tables = {end: answered(run, source, tmp_path / f"out{end}", keep=("id", "n")).path for end in TABLES}
    rows = pq.read_table(tables[".parquet"]).to_pylist()
    assert [json.loads(line) for line in tables[".jsonl"].read_text().splitlines()] == rows
    with open(tables[".csv"], newline="") as file:
        for read, row in zip(csv.DictReader(file), rows, strict=True):
            assert read == {name: "" if value is None else str(value) for name, value in row.items()}


class Killed(BaseException):
    """A process that ends at once."""


@pytest.mark.parametrize("end", module.FORMATS)
def test_a_job_that_was_killed_anywhere_makes_the_same_file(run, tmp_path, monkeypatch, end):
    source = write(tmp_path / "a.csv")
    keep = () if end == ".npy" else ("id",)
    whole = answered(run, source, tmp_path / f"whole{end}", keep=keep).path.read_bytes()
    real, target = os.replace, tmp_path / f"out{end}"
    kills = 0
    for after in (False, True):  # killed before, or after, a file gets its name
        for place in range(1, 20):
            seen = 0

            def replace(one, other, place=place, after=after):
                nonlocal seen
                seen += 1
                if seen < place or after:
                    real(one, other)
                if seen == place:
                    raise Killed

            monkeypatch.setattr(os, "replace", replace)
            try:
                answered(run, source, target, keep=keep)
            except Killed:
                kills += 1
                monkeypatch.setattr(os, "replace", real)
                answered(run, source, target, keep=keep)
            monkeypatch.setattr(os, "replace", real)
            assert target.read_bytes() == whole
            target.unlink()
            assert not list(tmp_path.glob("*.parts"))
            if seen < place:
                break
    assert kills >= 2 * (2 + N // 16), "at the note of the job, at each part, and at the table"


def test_parts_are_not_computed_again(run, tmp_path, monkeypatch):
    source, asked = write(tmp_path / "a.parquet"), []
    real = type(run).predict_each

    def counting(self, columns, *rest):
        asked.append(len(columns["text"]))
        if sum(asked) > 60 and not counting.again:
            raise Killed
        return real(self, columns, *rest)

    counting.again = False
    monkeypatch.setattr(type(run), "predict_each", counting)
    with pytest.raises(Killed):
        answered(run, source, tmp_path / "out.csv")
    counting.again = True
    asked.clear()
    answered(run, source, tmp_path / "out.csv")
    assert sum(asked) == N - 48, "three parts of 16 were there"


def test_another_request_does_not_go_on_with_the_parts(run, tmp_path, monkeypatch):
    source, target = write(tmp_path / "a.csv"), tmp_path / "my out.csv"

    def stop(self, schema):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(module._Parts, "join", stop)
        with pytest.raises(Killed):
            answered(run, source, target)
    other = untrained(suite.replace(run.experiment, {"train.seed": 7}), tmp_path / "other")
    write(tmp_path / "b.csv")
    for one, asked, options, what in (
        (other, source, {}, "model"),
        (run, tmp_path / "b.csv", {}, "input"),
        (run, source, {"keep": ("id",)}, "keep"),
        (run, source, {"seed": 1}, "seed"),
    ):
        with pytest.raises(InputError, match=f"another {what}") as refused:
            answered(one, asked, target, **options)
        assert f"'{tmp_path}/my out-2.csv'" in refused.value.fix, "quoted for a shell"
    answered(run, source, target)
    with pytest.raises(InputError, match="is there already"):
        answered(run, source, target)


def test_one_process_at_a_time(run, tmp_path):
    source, target = write(tmp_path / "a.csv"), tmp_path / "out.csv"
    with module._Parts(target, {}).held(), pytest.raises(InputError, match="written by another process"):
        answered(run, source, target)


def test_a_record_that_cannot_be_answered_has_an_error(run, expected, tmp_path):
    rows = [{**row, "text": None if i in (3, 40, 41) else row["text"]} for i, row in enumerate(ROWS)]
    for name in ("a.parquet", "a.jsonl"):
        predicted = answered(run, write(tmp_path / name, rows), tmp_path / f"{name}.parquet", keep=("id",))
        assert predicted.failed == 3 and list(predicted.errors) == [4, 41, 42]
        table = pq.read_table(predicted.path).to_pylist()
        assert [i for i, row in enumerate(table) if row["error"]] == [3, 40, 41]
        assert table[3]["label"] is None and "holds no text" in table[3]["error"] and table[3]["id"] == "0003"
        others = [i for i in range(N) if i not in (3, 40, 41)]
        assert [table[i]["label"] for i in others] == [expected[i]["label"] for i in others]
        assert "97 answered, 3 with an error" in predicted.summary and "record 4:" in predicted.summary


def test_rows_that_cannot_be_read_are_counted(run, tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n1,fine\n2,too,many\n3,well\n")
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "fine"}\nno JSON\n{"id": 3, "text": "well"}\n')
    for name, reason in (("a.csv", "wrong number of fields"), ("a.jsonl", "no JSON object")):
        predicted = answered(run, tmp_path / name, tmp_path / f"{name}.csv", keep=("id",))
        assert predicted.records == 2 and predicted.dropped == {reason: 1}
        assert f"left out: 1 with {reason}" in predicted.summary


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl", "a.json"])
def test_a_missing_column_ends_it_at_once(run, tmp_path, name):
    rows = [{"id": row["id"], "txt": row["text"]} for row in ROWS]
    source = write(tmp_path / name, rows)
    with pytest.raises(InputError, match='input "txt": is no input of this model') as refused:
        answered(run, source, tmp_path / "out.csv")
    assert refused.value.fix == "text"
    with pytest.raises(InputError, match='column "ids"') as refused:
        answered(run, write(tmp_path / f"b{name}"), tmp_path / "out.csv", keep=("ids",))
    assert refused.value.fix == "--keep id"
    assert not list(tmp_path.glob("out*"))


def test_an_input_of_nothing(run, tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert answered(run, tmp_path / "a.parquet", tmp_path / "out.parquet").records == 0
    assert pq.read_table(tmp_path / "out.parquet").column_names[0] == "label"


def test_files_of_answers_stand_beside_the_table(tmp_path):
    run = untrained(plugin_answers.experiment(), tmp_path / "run")
    (tmp_path / "a.jsonl").write_text('{"digits": "1|2"}\n{"digits": "3"}\n{"digits": "0"}\n')
    predicted = answered(run, tmp_path / "a.jsonl", tmp_path / "out.jsonl", keep=("digits",))
    rows = [json.loads(line) for line in predicted.path.read_text().splitlines()]
    assert rows[0]["picture"] == "out.jsonl.files/00000001-picture.png"
    assert (tmp_path / rows[0]["picture"]).read_bytes() == plugin_answers.png([1, 2])
    assert (tmp_path / rows[2]["sound"]).read_bytes() == plugin_answers.wav([0])
    assert rows[0]["same"] == [1, 2] and set(rows[0]["order"][0]) >= {"item"}


class Finds(Codec):
    """A codec of boxes, whose values have a score and no probability."""

    inputs = (Input(name="x", kind="number"),)
    outputs = (Output(name="boxes", kind="boxes"),)

    def encode(self, columns):
        return {"x": np.zeros(len(columns["x"]))}

    def decode(self, outputs, columns):
        return [{"boxes": [{"box": [0, 0, 1, 1], "label": "cat", "score": 0.5}]}] * len(columns["x"])


def test_keys_that_a_value_lacks_are_left_out(tmp_path):
    answers = [*Finds().decode({}, {"x": [1]}), InputError("record", "is of no use.")]
    table = AnswerTable(Finds(), pa.schema([])).table(pa.table({}), answers)
    pq.write_table(table, tmp_path / "part.parquet")
    module._jsonl(tmp_path / "a.jsonl", [tmp_path / "part.parquet"], table.schema)
    module._csv(tmp_path / "a.csv", [tmp_path / "part.parquet"], table.schema)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines[0] == {**answers[0], "error": None}
    assert lines[1] == {"boxes": None, "error": "record: is of no use"}
    with open(tmp_path / "a.csv", newline="") as file:
        assert json.loads(next(csv.DictReader(file))["boxes"]) == answers[0]["boxes"]


class Speaks(Codec):
    """A codec with one output of each kind that is no file."""

    inputs = (Input(name="x", kind="number"),)
    outputs = (
        Output(name="many", kind="classes"),
        Output(name="count", kind="number", whole=True),
        Output(name="list", kind="ranking"),
        Output(name="where", kind="spans"),
        Output(name="point", kind="vector", size=2),
        Output(name="words", kind="text"),
        Output(name="seen", kind="mask"),
    )

    def encode(self, columns):
        return {}

    def decode(self, outputs, columns):
        return []


def test_columns_have_types():
    answer = {
        "many": {"a": 0.7, "b": 0.3},
        "count": 3,
        "list": [{"item": 7, "score": 0.5}, {"item": "x", "title": "X"}],
        "where": [{"start": 0, "end": 2, "label": "l"}],
        "point": [1.0, 2.0],
        "words": "said",
        "seen": File("image/png", b"png"),
    }
    kept = pa.table({"words": ["kept"], "n": [1]})
    table = AnswerTable(Speaks(), kept.schema).table(kept, [answer], lambda place, name, value: f"{place}-{name}", 5)
    (row,) = table.to_pylist()
    assert row["many"] == [{"name": "a", "value": 0.7}, {"name": "b", "value": 0.3}]
    assert row["count"] == 3 and table.schema.field("count").type == pa.int64()
    assert row["list"][0] == {"item": "7", "title": None, "score": 0.5} and row["list"][1]["item"] == "x"
    assert row["where"][0]["end"] == 2 and row["point"] == [1.0, 2.0]
    assert (row["words"], row["predicted_words"]) == ("kept", "said"), "neither takes the other's place"
    assert row["seen"] == "5-seen" and row["error"] is None


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_a_large_table_is_never_held(run, tmp_path, name):
    """60 MB of text in one row group: Arrow holds some blocks of it at a time."""
    rng = np.random.default_rng(0)
    lines = ["".join(map(chr, rng.integers(97, 123, 300))) for _ in range(1000)]
    table = pa.table({"id": np.arange(200_000), "text": [f"{i} {lines[i % 1000]}" for i in range(200_000)]})
    if name.endswith(".csv"):
        import pyarrow.csv

        pyarrow.csv.write_csv(table, tmp_path / name)
    else:
        pq.write_table(table, tmp_path / name, use_dictionary=False)
    del table
    before, most, count = pa.total_allocated_bytes(), 0, 0
    records = record_blocks.open_records(str(tmp_path / name), run.codec, ("id",))
    for kept, columns in records.blocks(150_016, 256):
        most, count = max(most, pa.total_allocated_bytes() - before), count + len(columns["text"])
        assert kept.column("id")[0].as_py() == int(columns["text"][0].split()[0])
    assert count == 200_000 - 150_016 and records.count == 200_000
    assert most < (15e6 if name.endswith(".parquet") else 45e6), "CSV: some blocks of 8 MB, read ahead"


def test_the_command(exported, command, refused, tmp_path):
    _, bundle = exported("texts")
    source = write(tmp_path / "a.csv")
    said = command("predict", bundle.folder, "--input", source, "--to", tmp_path / "out.csv", "--keep", "id,n")
    assert said == f"{tmp_path}/out.csv: 100 records, 100 answered\n"
    with open(tmp_path / "out.csv", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [row["id"] for row in ROWS]
    assert "--to answers.parquet" in refused("predict", bundle.folder, "--input", source, "--keep", "id")


@pytest.fixture(scope="module")
def ray_example():
    spec = importlib.util.spec_from_file_location("ray_predict", ROOT / "docs" / "examples" / "ray_predict.py")
    example = importlib.util.module_from_spec(spec)
    sys.modules["ray_predict"] = example
    spec.loader.exec_module(example)
    return example


def test_a_worker_of_ray_answers_tables(ray_example, exported, expected):
    """As `map_batches` gives them with ``batch_format="pyarrow"``."""
    _, bundle = exported("texts")
    answers = ray_example.Answers(str(bundle.folder), ("id",))(pa.Table.from_pylist(ROWS).slice(10, 20))
    assert answers.column("id").to_pylist() == [row["id"] for row in ROWS[10:30]]
    assert answers.column("label").to_pylist() == [
        answer["label"] for answer in bundle.predict([r["text"] for r in ROWS[10:30]])
    ]


@pytest.mark.slow
def test_ray_answers_on_two_workers(exported, tmp_path):
    pytest.importorskip("ray", reason="there is no ray (the extra ray)")
    import subprocess

    _, bundle = exported("texts")
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    example = ROOT / "docs" / "examples" / "ray_predict.py"
    asked = [
        bundle.folder,
        tmp_path / "a.parquet",
        tmp_path / "answers",
        "--keep",
        "id",
        "--workers",
        "2",
        "--cpus",
        "0.5",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, str(example), *map(str, asked), "--batch-size", "25"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    rows = sorted(pq.read_table(tmp_path / "answers").to_pylist(), key=lambda row: row["id"])
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    assert [row["label"] for row in rows] == [answer["label"] for answer in bundle.predict([r["text"] for r in ROWS])]
