"""Disks that are full, over a quota or failing: what is lost is said, and no file is half there."""

import errno
import json
import os
import re
import time

import numpy as np
import pytest

import suite
from suite.cli import app
from suite.errors import RunError, StorageError
from suite.experiment import recipes
from suite.runtime import files
from suite.runtime.files import storing, write_array, write_text
from suite.training import integrity, orbax_noise
from suite.training.checkpoint import Checkpoints
from suite.training.logging.jsonl import Lines
from suite.training.preprocessors import prepare
from tests import toy

FAULTS = [errno.ENOSPC, errno.EIO, errno.EDQUOT]


@pytest.fixture
def faulty(monkeypatch):
    """Makes the disk fail with an error at every small file that is written, until it is called with 0."""

    def fail(number):
        def fsync(file):
            raise OSError(number, os.strerror(number))

        monkeypatch.undo()
        if number:
            monkeypatch.setattr(files.os, "fsync", fsync)

    return fail


def test_what_was_fitted_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Else a loss of power leaves an empty file of that name, which the run that goes on takes for fitted."""
    synced, fsync, replace = set(), os.fsync, os.replace

    def synced_first(partial, target):
        assert os.stat(partial).st_ino in synced, target
        replace(partial, target)

    monkeypatch.setattr(files.os, "fsync", lambda file: (synced.add(os.fstat(file).st_ino), fsync(file)))
    monkeypatch.setattr(files.os, "replace", synced_first)
    experiment = recipes.load("vision.digits_dnn")
    prepare(experiment, tmp_path, experiment.task.source("train"))
    assert len(synced) == len([file for file in (tmp_path / "assets").rglob("*") if file.is_file()]) == 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return suite.train(toy.experiment(), tmp_path_factory.mktemp("trained") / "run").folder


@pytest.mark.parametrize("number", FAULTS)
def test_a_file_is_replaced_as_a_whole_or_not_at_all(number, faulty, tmp_path):
    write_text(tmp_path / "file", "old")
    faulty(number)
    with pytest.raises(StorageError) as error:
        write_text(tmp_path / "file", "new")
    assert isinstance(error.value, RunError) and error.value.errno == number
    assert str(error.value) == (
        f"{tmp_path}/file was not written; what it held before is unchanged.\n  found: {os.strerror(number)}\n"
        "  try:   free some space; then the same command again"
    )
    assert (tmp_path / "file").read_text() == "old" and len(os.listdir(tmp_path)) == 1


def test_an_array_that_a_disk_does_not_take_whole(small_disk):
    """NumPy tells how much was written, without the number of the error."""
    kept = small_disk / "array.npy"
    write_array(kept, np.arange(10))
    for size, found in (
        (10**7, "Not enough free space to write 40000000 bytes"),
        (10**6, r"the disk took \d+ of the 10{6}"),
    ):
        with open(small_disk / "filler", "wb") as filler:
            filler.write(bytes(2**22 if size == 10**6 else 0))
        with pytest.raises(
            StorageError, match=f"what it held before is unchanged.\n  found: {found} .*\n  try: "
        ) as error:
            write_array(kept, np.zeros(size, np.int32))
        assert error.value.errno == errno.EIO and sorted(os.listdir(small_disk)) == ["array.npy", "filler"]
        assert (np.load(kept) == np.arange(10)).all()


def test_other_errors_of_files_are_none_of_the_disk():
    with pytest.raises(PermissionError), storing("the file was not written"):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.parametrize("number", FAULTS)
def test_an_evaluation_is_told_where_it_cannot_be_kept(number, faulty, trained, capsys):
    before = (trained / "result.json").read_bytes()
    faulty(number)
    with pytest.raises(SystemExit) as stop:
        app.main(["evaluate", str(trained), "--split", "validation", "--allow", "tests"])
    printed = capsys.readouterr().err
    assert stop.value.code == 1 and "Traceback" not in printed
    assert f"result.json was not written; what it held before is unchanged.\n  found: {os.strerror(number)}" in printed
    assert re.search(r"  measured: validation/\w+ [\d.]+", printed)
    assert (trained / "result.json").read_bytes() == before


def test_any_verb_says_that_the_disk_is_full(trained, capsys, monkeypatch):
    """Where no better word is found, too."""

    def full(*given, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/disk/page.html")

    monkeypatch.setattr("suite.reporting.reports.report", full)
    with pytest.raises(SystemExit) as stop:
        app.main(["report", str(trained)])
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        "suite report: a file could not be written or read.\n  found: No space left on device: /disk/page.html\n"
        "  try:   free some space; then the same command again\n"
    )


def test_lines_of_the_log_wait_for_room(tmp_path, monkeypatch):
    """A disk that fills up takes the beginning of a line."""
    write, room = os.write, [10**6]

    def bounded(file, content):
        if not room[0]:
            raise OSError(errno.ENOSPC, "full")
        count = write(file, content[: room[0]])
        room[0] -= count
        return count

    monkeypatch.setattr(os, "write", bounded)
    lines = Lines(tmp_path / "metrics.jsonl")
    lines.add({"step": 1})
    room[0] = 5
    for step in (2, 3):
        with pytest.raises(OSError, match="full"):
            lines.add({"step": step})
    room[0] = 10**6
    lines.add({"step": 4})
    lines.close()
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3, 4]


def test_a_disk_that_is_full_at_the_end(small_disk, capsys, monkeypatch):
    """The last save fails while it is written: the run ends in words, and goes on from the save before."""
    monkeypatch.setattr(Checkpoints, "_check_room", lambda self, state: None)
    folder, filler = small_disk / "run", small_disk / "filler"

    def fill(item):
        if item.first == 35:
            while not integrity.is_sealed(folder / "checkpoints" / "30"):
                time.sleep(0.01)
            filler.write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))

    with pytest.raises(StorageError) as error:
        suite.train(toy.experiment(), folder, on_dispatch=fill)
    assert "the checkpoint of step 40, the last, was not written: what was trained after step 30 is lost" in str(
        error.value
    )
    printed = capsys.readouterr().err
    assert len(re.findall("checkpoint at step 40 not written", printed)) == 1 and "Traceback" not in printed
    assert not list((folder / "checkpoints").glob("*orbax-checkpoint-tmp*"))
    filler.unlink()
    assert suite.resume(folder, allow=("tests",)).metrics["train/steps"] == 40


def test_a_program_whose_saves_failed_ends_without_their_threads(forked_child):
    """Those wait for what the save would have made."""
    code = """
import sys, threading, time
from suite.cli import app
from suite.training import checkpoint
checkpoint._SAVES_FAILED.set()
threading.Thread(target=time.sleep, args=(250,)).start()
sys.argv = ["suite", "--version"]
app.main()
"""
    assert forked_child(code).startswith("suite ")


def test_answers_go_on_once_there_is_room(trained, tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    target, write = tmp_path / "answers.parquet", pq.ParquetWriter.write_table

    def full(self, *given, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = suite.open(trained, allow=("tests",))
    field = opened.programs["predict"].codec.inputs[0].name
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({field: [i % 3, 1]}) + "\n" for i in range(50)))
    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(StorageError, match=r"answers.parquet was not written; the answers so far are kept in .*parts"):
        suite.predict_file(opened, tmp_path / "asked.jsonl", target)
    assert not target.exists()
    monkeypatch.setattr(pq.ParquetWriter, "write_table", write)
    assert suite.predict_file(opened, tmp_path / "asked.jsonl", target).records == 50


def test_writes_that_end_after_their_save_print_nothing(capsys, monkeypatch):
    """The first error of a save ends the event loop that waits for its writes. TensorStore completes the others."""
    import asyncio
    import sys

    import tensorstore

    async def begun():
        promise, written = tensorstore.Promise.new()
        waiting = asyncio.ensure_future(wait(written))
        await asyncio.sleep(0)
        return promise, waiting

    async def wait(written):
        return await written

    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    for quiet, expected in ((False, True), (True, False)):
        if quiet:
            orbax_noise.quieten.cache_clear()
            orbax_noise.quieten()
        loop = asyncio.new_event_loop()
        promise, waiting = loop.run_until_complete(begun())
        loop.close()
        promise.set_result(1)
        assert bool(told) == expected
        told.clear()
        waiting._log_destroy_pending = False
    sys.unraisablehook(type("Given", (), {"exc_value": RuntimeError("other"), "object": None})())
    assert len(told) == 1
    orbax_noise.quieten.cache_clear()
