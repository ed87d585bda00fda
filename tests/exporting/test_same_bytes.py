"""A bundle tells nothing of where it was made: neither paths nor times nor names of the machine."""

import getpass
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import suite
from suite.experiment.local_paths import text_without_folders, without_folders
from suite.exporting import refreshing
from tests.conftest import ROOT
from tests.untrained import copied

EXPORT = """
import sys
from pathlib import Path
import suite
from suite.exporting import exporting
from tests.untrained import TASKS, untrained
folder = Path(sys.argv[1])
for name in sys.argv[2:]:
    (folder / name).mkdir(parents=True)
    run = untrained(TASKS[name](folder / name), folder / name / "run")
    run.predict(exporting.held_back(run)[1])  # what is traced before the export keeps its places
    suite.export(run, folder / name / "bundle", name="mine")
"""
PATH = re.compile(rb"(?:^|[^\x20-\x7e])((?:file:/*)?/[\w.-]{2,}/[\w. -]{3,})")
"""What ``strings FILE | grep ^/`` shows."""


def tell_nothing(folder, *places):
    """Asserts that no file below ``folder`` names a place of this machine."""
    known = {str(ROOT), sys.prefix, tempfile.gettempdir(), str(Path.home()), *map(str, places)} - {"/"}
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert any(path.suffix == ".stablehlo" for path in files)
    for path in files:
        content = path.read_bytes()
        assert not [place for place in known if place.encode() in content], path
        if path.suffix != ".safetensors":  # numbers, which may look like anything
            assert not PATH.findall(content) and b".py" not in content, path
            for name in (socket.gethostname(), getpass.getuser()):
                assert len(name) < 5 or name.encode() not in content, (path, name)


def test_no_path_after_a_refresh(exported, tmp_path):
    """And twice, the same bytes."""
    bundle = exported("images")[1]
    folders = [refreshing.refresh(copied(bundle, tmp_path / name), tmp_path / f"new-{name}").folder for name in "ab"]
    for folder in folders:
        tell_nothing(folder, tmp_path)
    assert contents(folders[0]) == contents(folders[1])


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_run_in_two_places(tmp_path):
    """Two checkouts, temporary folders, homes, working folders, orders of sets: one sequence of bytes."""
    names, tasks, started = ("one", "a longer name"), ("clicks", "images"), []
    for number, name in enumerate(names):
        checkout = tmp_path / name / "checkout"
        for part in ("suite", "tasks", "configs", "tests"):
            leave = shutil.ignore_patterns("__pycache__", "golden", "legacy")
            shutil.copytree(ROOT / part, checkout / part, symlinks=True, ignore=leave)
        places = {variable: tmp_path / name / variable for variable in ("TMPDIR", "HOME", "SUITE_CACHE")}
        for place in places.values():
            place.mkdir()
        environment = {key: str(value) for key, value in places.items()} | {"PYTHONHASHSEED": str(number)}
        command = [sys.executable, "-c", EXPORT, str(tmp_path / name / "made"), *tasks]
        started.append(
            subprocess.Popen(
                command, cwd=checkout, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
            )
        )
    for process in started:
        said = process.communicate(timeout=280)[1]
        assert process.returncode == 0, said
    for task in tasks:
        first, second = (contents(tmp_path / name / "made" / task / "bundle") for name in names)
        assert first.keys() == second.keys()
        assert [name for name in first if first[name] != second[name]] == []


def test_paths_in_a_stored_experiment(tmp_path):
    stored = {
        "path": "/data/of someone/reviews.csv",
        "init_from": {"encoder": str(tmp_path), "head": "google/bert"},
        "storage": "sqlite:////home/someone/study.db",
        "uri": "https://example.org/a/b",
        "separator": "/",
        "label": "/s",
        "relative": "data/reviews.csv",
        "many": ["/a/b/", 3, None, True],
    }
    assert without_folders(stored) == {
        **stored,
        "path": "reviews.csv",
        "init_from": {"encoder": tmp_path.name, "head": "google/bert"},
        "storage": "sqlite:///study.db",
        "many": ["b", 3, None, True],
    }
    said = "no test split in '/home/me/x.csv'; see https://example.org/a/b, and/or 1/2"
    assert text_without_folders(said) == said.replace("/home/me/", "")


def test_a_bundle_is_measured_where_its_data_lie_now(exported, command, refused, tmp_path, monkeypatch):
    """It knows the file by name: found in the working folder, or as it is told."""
    run, bundle = exported("clicks")
    data = run.experiment.task.data.path
    monkeypatch.chdir(tmp_path)
    assert refused("evaluate", bundle.folder) == (
        f'suite evaluate: bundle "{bundle.folder}": does not know where the data of its run lie.\n  found: clicks.csv\n'
        f"  try:   suite evaluate {bundle.folder} --data FOLDER/clicks.csv\n"
    )
    told = command("evaluate", bundle.folder, "--data", data)
    shutil.copy(data, tmp_path)
    assert command("evaluate", bundle.folder) == told
    for name, about in suite.evaluate(bundle.folder, data=data).metrics.items():
        assert about["value"] == pytest.approx(bundle.metrics[name]["value"], rel=1e-4)
    digits = exported("images")[1].folder
    assert "flag --data: has data that are read from no file" in refused("evaluate", digits, "--data", data)
