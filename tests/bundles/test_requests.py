"""Requests by file, on the command line and in Python: misspelt and missing columns are refused as a server does."""

import gzip
import json
import shlex
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from suite.bundles.answering import answer
from suite.codecs.table import Clicks
from suite.contracts.codec import Codec
from suite.contracts.signature import Input, Output
from suite.data.preprocessing.tabular import Fields
from suite.data.sources.memory import Memory
from suite.errors import InputError
from suite.workflow import folders

ROW = {"member": "m1", "price": 2.5}
NAMES = ("new.csv", "new.tsv", "new.csv.gz", "new.json", "new.jsonl", "new.parquet")


class Upper(Codec):
    """A text in capitals; its program is not the default one."""

    inputs = (Input(name="text", kind="text"),)
    outputs = (Output(name="upper", kind="text"),)

    def encode(self, columns):
        return {}

    def decode(self, outputs, columns):
        return [{"upper": text.upper()} for text in columns["text"]]


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    fields = Fields(categorical=("member",), dense=("price",))
    file = tmp_path_factory.mktemp("fields") / "fields.json"
    fields.fit(Memory({"member": ["m1", "m2"] * 4, "price": [1.0, 2.5] * 4, "clicked": [0, 1] * 4}), "clicked", file)
    return Clicks(record="record", fields=Fields(**{**fields.__dict__, "file": str(file)}))


@pytest.fixture
def model(clicks):
    """A run or bundle with two programs; its answers are what it was asked."""
    codecs = {"predict": clicks, "upper": Upper()}

    def predict(columns, seed, program):
        return answer(codecs[program], lambda rows, size, seeds: {}, columns) if program == "upper" else [columns]

    programs = {name: SimpleNamespace(codec=codec) for name, codec in codecs.items()}
    return SimpleNamespace(programs=programs, predict=predict)


def written(path, rows):
    """A file of records in the format that its name says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix in (".json", ".jsonl"):
        text = json.dumps(rows) if path.suffix == ".json" else "\n".join(map(json.dumps, rows))
        path.write_text(text)
    else:
        comma = "\t" if path.suffix == ".tsv" else ","
        text = "\n".join(comma.join(map(str, row)) for row in (rows[0], *(row.values() for row in rows)))
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_a_misspelt_column(model, tmp_path, name):
    asked = written(tmp_path / name, [{"membr": "m1", "price": 2.5}])
    with pytest.raises(InputError) as error:
        folders.predict_input(model, asked)
    assert str(error.value) == 'input "membr": is no input of this model.\n  try:   member'


@pytest.mark.parametrize("name", NAMES)
def test_a_file_without_a_column(model, tmp_path, name, capsys):
    """Of a table an error; records in JSON need not have a key, but of an input that no record has it is told."""
    asked = written(tmp_path / name, [{"price": 2.5}])
    if "json" in name:
        folders.predict_input(model, asked)
        assert capsys.readouterr().err == "inputs that no record has, and count as missing: member\n"
        return
    with pytest.raises(InputError) as error:
        folders.predict_input(model, asked)
    assert str(error.value).splitlines() == [
        'input "member": is missing.',
        "  found: price",
        '  try:   a column, or key, "member", empty where it is not known',
    ]


@pytest.mark.parametrize("name", NAMES)
def test_columns_that_are_not_read_are_named(model, tmp_path, name, capsys):
    folders.predict_input(model, written(tmp_path / name, [{**ROW, "id": 7, "clicked": 1}]))
    assert capsys.readouterr().err == "columns that are not read: id, clicked\n"
    folders.predict_input(model, written(tmp_path / name, [ROW]))
    assert not capsys.readouterr().err


def test_a_record_in_json_is_refused_as_a_server_does(model):
    for record, name, fix in (
        ({"membr": "m1", "price": 2.5}, "membr", "member"),
        ({**ROW, "colour": "red"}, "colour", "price, member"),
        ({**ROW, "Price": 1}, "Price", "price"),
        ({**ROW, "seed": 5}, "seed", f"--input {shlex.quote(json.dumps({'price': 2.5, 'member': 'm1'}))} --seed 5"),
    ):
        with pytest.raises(InputError) as error:
            folders.predict_input(model, json.dumps(record))
        assert str(error.value) == f'input "{name}": is no input of this model.\n  try:   {fix}'
    assert folders.predict_input(model, json.dumps(ROW))


def test_every_program_is_asked_by_its_own_columns(model, tmp_path, capsys):
    (answered,) = folders.predict_input(model, written(tmp_path / "t.csv", [{"text": "a", "id": 1}]), program="upper")
    assert answered == {"input": "a", "upper": "A"} and "columns that are not read: id" in capsys.readouterr().err
    with pytest.raises(InputError, match=r'input "txt": is no input of this model\.\n  try:   text'):
        folders.predict_input(model, written(tmp_path / "t.csv", [{"txt": "a"}]), program="upper")


def test_columns_in_python(clicks):
    asked = lambda inputs: answer(clicks, lambda rows, size, seeds: {"logits": [0.0], "unseen": [0]}, inputs)
    assert asked({"price": [1.0]}) and asked([{"price": 1.0, "clicked": 1}])
    for inputs in ({"membr": ["m1"], "price": [1.0]}, [{"membr": "m1", "price": 1.0}]):
        with pytest.raises(InputError, match=r'input "membr": is no input of this model\.\n  try:   member'):
            asked(inputs)
    assert asked([]) == []
