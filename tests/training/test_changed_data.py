"""Changed data: a run, a search and a delivery go on with the data that they were begun with, or are refused."""

import json
import wave
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import suite
from suite.data.sources.datasets import from_path
from suite.data.sources.memory import Memory
from suite.errors import InputError
from suite.experiment.goal import Budget, Goal
from suite.experiment.sections import replace
from suite.training import fingerprint
from tests import toy

RECORDS = [{"text": f"record {i} of many", "label": ("good", "bad")[i % 2]} for i in range(60)]
SMALL = {"steps": 20, "eval_every": 10}


def csv(path, records):
    lines = ["text,label", *(f"{record['text']},{record['label']}" for record in records)]
    path.write_text("\n".join(lines) + "\n")


def jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def parquet(path, records):
    pq.write_table(pa.Table.from_pylist(records), path)


def pictures(path, records):
    for i, record in enumerate(records):
        (path / record["label"]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (i, 2 * i, 0)).save(path / record["label"] / f"{i:03}.png")


def recordings(path, records, louder=0):
    for i, record in enumerate(records):
        (path / record["label"]).mkdir(parents=True, exist_ok=True)
        with wave.open(str(path / record["label"] / f"{i:03}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(np.full(80, i + louder, "<i2").tobytes())


def manifest(path, records):
    recordings(path.parent / "audio", records)
    lines = [
        {"audio": f"audio/{record['label']}/{i:03}.wav", "label": record["label"]} for i, record in enumerate(records)
    ]
    jsonl(path, lines)


FORMATS = {
    "t.csv": csv,
    "t.jsonl": jsonl,
    "t.parquet": parquet,
    "pictures": pictures,
    "recordings": recordings,
    "manifest.jsonl": manifest,
}


def taken(path):
    data = from_path(str(path))
    task = SimpleNamespace(data=data)
    return fingerprint.fingerprint(task, {split: data.open(split) for split in ("train", "validation")})


def turned(records):
    return [{**record, "label": "good" if record["label"] == "bad" else "bad"} for record in records]


@pytest.mark.parametrize("name", FORMATS)
def test_changed_records_are_seen_in_every_format(name, tmp_path):
    write = FORMATS[name]
    for folder, records in {"one": RECORDS, "same": RECORDS, "turned": turned(RECORDS), "fewer": RECORDS[:40]}.items():
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / name, records)
    one = taken(tmp_path / "one" / name)
    assert one["splits"] == taken(tmp_path / "same" / name)["splits"]
    changed = fingerprint._differences(one, taken(tmp_path / "turned" / name))
    assert any(line.startswith("train: ") for line in changed), changed
    fewer = fingerprint._differences(one, taken(tmp_path / "fewer" / name))
    assert any(line.startswith("train: ") and "records then" in line for line in fewer), fewer


def test_other_sound_in_a_file_of_the_same_name_and_size_is_seen(tmp_path):
    recordings(tmp_path / "one", RECORDS)
    recordings(tmp_path / "other", RECORDS, louder=1)
    changed = fingerprint._differences(taken(tmp_path / "one"), taken(tmp_path / "other"))
    assert changed[0] == "train: as many records, but other values or another order"


def print_of(**columns):
    return fingerprint.fingerprint(SimpleNamespace(data=None), {"train": Memory(columns)})


def test_another_order_and_another_column_are_seen():
    one = print_of(x=np.arange(6), y=list("abcdef"))
    assert one == print_of(x=np.arange(6), y=list("abcdef"))
    reordered = print_of(x=np.arange(6)[::-1], y=list("fedcba"))
    assert fingerprint._differences(one, reordered) == ["train: as many records, but other values or another order"]
    renamed = print_of(x=np.arange(6), z=list("abcdef"))
    assert fingerprint._differences(one, renamed) == ["train: columns x, y then, x, z now"]


def test_a_large_split_is_sampled_and_its_files_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "BYTES", 200)
    monkeypatch.setattr(fingerprint, "FEWEST", 4)
    path = tmp_path / "t.csv"
    csv(path, RECORDS)
    one = taken(path)
    assert 4 <= one["splits"]["train"]["hashed"] < one["splits"]["train"]["records"]
    with path.open("a") as file:
        file.write(" \n")
    one["splits"]["train"]["content"] = taken(path)["splits"]["train"]["content"]
    size = path.stat().st_size
    assert fingerprint._differences(one, taken(path)) == [f"{path}: {size - 2:,} bytes then, {size:,} bytes now"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return suite.train(toy.experiment(**SMALL), tmp_path_factory.mktemp("changed") / "run").folder


@pytest.fixture
def begun(trained, tmp_path):
    """A run that has more steps to take."""
    import shutil

    folder = shutil.copytree(trained, tmp_path / "run")
    stored = json.loads((folder / "experiment.json").read_text())
    stored["train"]["steps"] = 22
    (folder / "experiment.json").write_text(json.dumps(stored))
    return folder


@pytest.fixture
def turn(monkeypatch):
    """Turns all labels round."""
    read = toy.Rows.__getitem__
    return lambda: monkeypatch.setattr(
        toy.Rows, "__getitem__", lambda rows, at: {**(found := read(rows, at)), "label": 1 - found["label"]}
    )


def test_a_run_whose_data_stayed_goes_on_without_a_word(begun, capsys):
    assert suite.resume(begun, ("tests",)).metrics["train/steps"] == 22
    assert "data" not in capsys.readouterr().err


def test_a_run_whose_data_changed_is_refused(begun, turn, capsys):
    turn()
    before = (begun / "data.json").read_text()
    with pytest.raises(InputError, match="was begun with other data") as error:
        suite.resume(begun, ("tests",))
    assert "train: as many records, but other values or another order" in error.value.found
    assert "validation: as many records" in error.value.found
    assert error.value.fix == "--accept-changed-data"
    assert (begun / "data.json").read_text() == before
    run = suite.resume(begun, ("tests",), accept_changed_data=True)
    assert run.metrics["train/steps"] == 22
    assert "going on with changed data: train: as many records" in capsys.readouterr().err
    assert json.loads((begun / "data.json").read_text())["former"] == json.loads(before)
    suite.resume(begun, ("tests",))  # they are the run's data now


def test_a_run_of_an_earlier_version_goes_on(begun, capsys):
    (begun / "data.json").unlink()
    suite.resume(begun, ("tests",))
    assert "whether the data changed is not checked" in capsys.readouterr().err
    assert (begun / "data.json").exists()


def test_a_changed_preprocessor_is_refused(tmp_path):
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "labels.json").write_text('["a", "b"]')
    (assets / "tokenizer.model").write_bytes(b"1")
    now = print_of(x=np.arange(3))
    said: list[str] = []
    check = lambda **more: fingerprint.check(tmp_path, now, begun=True, say=said.append, **{"accept": False, **more})
    check()
    fingerprint.note_assets(tmp_path)
    check()
    (assets / "labels.json").write_text('["b", "a"]')
    (assets / "tokenizer.model").unlink()
    with pytest.raises(InputError) as error:
        check()
    assert error.value.found == "assets/labels.json was changed; assets/tokenizer.model is missing"
    assert said == ["whether the data changed is not checked: this was begun by a version that noted no fingerprint"]


def test_a_search_goes_on_with_its_own_data(tmp_path, turn, capsys):
    goal = Goal(metric="accuracy", at_least=1.01, budget=Budget(trials=1))
    made = replace(toy.experiment(**SMALL), {"goal": goal})
    suite.tune(made, tmp_path / "search")
    assert suite.tune(made, tmp_path / "search").trial == 0  # its verdict
    turn()
    with pytest.raises(InputError, match="was begun with other data"):
        suite.tune(made, tmp_path / "search")
    assert suite.tune(made, tmp_path / "search", accept_changed_data=True).trial == 0
    assert "going on with changed data" in capsys.readouterr().err
