"""Run folders whose files are damaged, or stand where others should: what reads or writes one says so in words."""

import errno
import json

import pytest

from suite.cli import app
from suite.data.preprocessing import items, spans, tabular
from suite.data.preprocessing.target_scale import Scale
from suite.errors import InputError
from suite.experiment.serialization import from_json, to_json
from suite.runtime import files, locks
from suite.training import checkpoint, integrity
from suite.training.checkpoint import Checkpoints
from suite.training.logging import jsonl
from suite.tuning import recipe
from tests import toy

DEEP = "[" * 50_000
called = lambda value: str(value)[:12]


@pytest.mark.parametrize(
    "line",
    ["[]", "3", "null", '"x"', '{"step": "x"}', '{"step": 1, "loss": {}}', "{", DEEP, "\x00", '{"loss": 1}'],
    ids=called,
)
def test_lines_of_the_log_that_are_none_are_left_out(tmp_path, line):
    (tmp_path / jsonl.METRICS).write_text(f'{{"step": 1, "loss": 0.5}}\n{line}\n{{"step": 2, "loss": null}}\n')
    assert jsonl.history(tmp_path) == {"step": [1, 2], "loss": [0.5, None]}
    jsonl.cut(tmp_path / jsonl.METRICS, 1)
    assert (tmp_path / jsonl.METRICS).read_text() == '{"step": 1, "loss": 0.5}\n'


def test_a_log_that_is_a_folder_has_no_lines(tmp_path):
    (tmp_path / jsonl.METRICS).mkdir()
    assert jsonl.history(tmp_path) == {"step": []}
    jsonl.cut(tmp_path / jsonl.METRICS, 1)


WRITERS = {
    "metrics.jsonl": lambda folder: jsonl.Lines(folder / "metrics.jsonl"),
    "result.json": lambda folder: files.write_text(folder / "result.json", "{}"),
    "claim": lambda folder: locks.take(folder),
}
"""What writes a file of each kind: in lines, as a whole, under a lock."""


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_where_a_file_is_written_is_told(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f'{name}": is a folder, where a file is to be written') as error:
        WRITERS[name](tmp_path)
    assert error.value.fix.startswith(f"mv {tmp_path / name} ")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "content", [DEEP, "[]", '{"files": []}', '{"files": {"a": [1]}}', '{"files": {"a": "xy"}}', ""]
)
def test_checksums_that_cannot_be_read_are_a_fault(tmp_path, content):
    (tmp_path / integrity.MANIFEST).write_text(content)
    assert integrity.fault(tmp_path) == f"{integrity.MANIFEST}: it cannot be read"


def test_checksums_that_are_a_folder_are_a_fault(tmp_path):
    (tmp_path / integrity.MANIFEST).mkdir()
    assert integrity.fault(tmp_path).endswith("it cannot be read")


@pytest.mark.parametrize("content", [DEEP, "3", '{"best": "x"}', "{}"], ids=called)
def test_a_checkpoint_without_readable_scores_has_no_rank(tmp_path, content):
    (tmp_path / "4" / "metrics").mkdir(parents=True)
    (tmp_path / "4" / "metrics" / "metrics").write_text(content)
    assert Checkpoints(tmp_path, writing=False)._ranks() == {}


@pytest.mark.parametrize(
    "change", [{"frozen": True}, {"frozen": [3]}, {"learning_rate": "x"}, {"name": 7}, {"weight_decay": None}]
)
def test_fields_of_another_type_are_told_when_an_experiment_is_read(change):
    stored = to_json(toy.experiment())
    stored["optim"] = {**stored["optim"], **change}
    with pytest.raises(InputError, match=f"experiment, Optim: its {next(iter(change))} is no "):
        from_json(stored, ("tests",))


def test_numbers_of_either_style_are_read():
    stored = to_json(toy.experiment())
    stored["optim"]["learning_rate"] = 1
    assert from_json(stored, ("tests",)).optim.learning_rate == 1


@pytest.mark.parametrize("content", [{"numbers": 3}, {"numbers": [3], "fields": []}, {"numbers": [], "fields": [{}]}])
def test_columns_of_another_form_are_told(tmp_path, content):
    (tmp_path / "fields.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="has not the form that it was written in"):
        tabular._stored(str(tmp_path / "fields.json"), 0)


@pytest.mark.parametrize("change", [{"std": 0}, {"std": "x"}, {"mean": None}, {"scaling": "cubic"}, {"more": 1}])
def test_a_scale_of_other_values_is_none(change):
    stored = Scale("standard", 1.0, 2.0, -1.0, 3.0).stored
    with pytest.raises((TypeError, ValueError)):
        Scale.read({**stored, **change})


@pytest.mark.parametrize(
    "content", [DEEP, "[]", '{"names": [1], "counts": [1]}', '{"names": ["a"], "counts": []}'], ids=called
)
def test_items_of_another_form_are_told(tmp_path, content):
    (tmp_path / "items.json").write_text(content)
    with pytest.raises(InputError):
        items._stored(str(tmp_path / "items.json"), 0)


def test_spans_that_are_nested_without_end_are_none():
    with pytest.raises(spans.NotSpans):
        spans.spans_of(DEEP, "text")


@pytest.mark.parametrize("content", [DEEP, "", "[", '{"class": "os.system"}'], ids=called)
def test_a_recipe_of_trials_that_cannot_be_read_is_none(tmp_path, content):
    (tmp_path / recipe.RECIPE).write_text(content)
    assert recipe.stored(tmp_path, toy.experiment()) is None


def test_a_program_whose_saves_failed_does_not_wait_for_their_threads(monkeypatch):
    ended = []
    monkeypatch.setattr(app, "_main", lambda arguments: None)
    monkeypatch.setattr(app, "_exit", ended.append)
    for failed in (False, True):
        monkeypatch.setattr(checkpoint, "saves_failed", lambda failed=failed: failed)
        with pytest.raises(SystemExit):
            app.main()
        assert ended == ([0] if failed else [])


def test_a_disk_without_room_for_a_temporary_folder_is_told_as_such(monkeypatch, capsys):
    def full(arguments):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(app, "_verb", lambda name, rest: full)
    with pytest.raises(SystemExit) as stop:
        app.main(["train", "x"])
    assert stop.value.code == 1
    assert "No usable temporary directory found" in capsys.readouterr().err
