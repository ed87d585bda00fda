"""One process at a time writes a run folder: the kernel's lock, and what the second one is told."""

import errno
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import threading

import pytest

import suite
from suite.errors import InputError
from suite.runs import verbs
from suite.runtime import locks
from tests import toy

HOLDER = """
import sys
from pathlib import Path
from suite.runtime import locks
with locks.writing(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder():
    """Starts a process that holds a folder."""
    started = []

    def hold(folder):
        command = [sys.executable, "-c", HOLDER, str(folder)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("verb", ["train", "resume"])
def test_a_second_process_is_told_who_holds_the_run_and_how_to_go_on(verb, holder, tmp_path):
    folder = tmp_path / "a run"
    process = holder(folder)
    before = sorted(os.listdir(folder))
    with pytest.raises(InputError) as refusal:
        suite.train(toy.experiment(), folder, resume=verb == "resume")
    assert str(refusal.value).startswith(f'run folder "{folder}": is being written by another process.')
    assert f"process {process.pid} on {os.uname().nodename}, since 2" in refusal.value.found
    assert sorted(os.listdir(folder)) == before
    wait, _, again = refusal.value.fix.partition(" && ")
    assert again == f"suite train --resume {shlex.quote(str(folder))}"
    waiting = subprocess.Popen(["sh", "-c", wait])
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.2)
    process.send_signal(signal.SIGKILL)  # the kernel releases the lock of a process that died, however it died
    assert waiting.wait(10) == 0
    with locks.writing(folder):
        assert f"process {os.getpid()} on " in locks.busy(folder).found


def test_compression_and_fit_are_kept_out_alike(holder, tmp_path, monkeypatch):
    from suite.compression import compressing

    process = holder(tmp_path / "fit")
    (tmp_path / "data.csv").write_text("a,label\n1,x\n2,y\n")
    with pytest.raises(InputError, match=f"written by another process.\n  found: process {process.pid} on") as refusal:
        suite.fit(tmp_path / "data.csv", run_dir=tmp_path / "fit")
    assert " && suite fit --data " in refusal.value.fix
    process = holder(tmp_path / "small")
    for name in ("measured", "ruler", "_check_same_records"):
        owner = compressing if name.startswith("_") else compressing.verdict
        monkeypatch.setattr(owner, name, lambda *given: type("Measured", (), {"scores": None, "split": ""}))

    class Method(compressing.Method):
        def start(self, run):
            return run.experiment

        def name(self, experiment):
            return "nothing"

        def make(self, run, experiment, folder):
            raise AssertionError("it was made beside another process")

    run = verbs.Run(tmp_path / "run", toy.experiment())
    with pytest.raises(InputError, match=f"written by another process.\n  found: process {process.pid} on"):
        compressing.compress(run, Method(), tmp_path / "small")


def test_a_verb_within_another_writes_its_folder_and_another_thread_does_not(tmp_path):
    raised = []

    def other():
        try:
            locks.take(tmp_path)
        except InputError as error:
            raised.append(error)

    with locks.writing(tmp_path):
        with locks.writing(tmp_path / "." / "", "again"):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        assert locks.Claim.take(tmp_path) is None, "the inner one released it"
    assert len(raised) == 1
    with locks.Claim.take(tmp_path):
        pass


def test_a_folder_that_is_removed_while_another_waits_is_claimed_anew(tmp_path):
    claim = locks.Claim.take(tmp_path)
    stale = os.open(tmp_path / locks.CLAIM, os.O_RDWR)
    (tmp_path / locks.CLAIM).unlink()
    claim.release()
    fcntl.flock(stale, fcntl.LOCK_EX)
    with locks.Claim.take(tmp_path):
        assert (tmp_path / locks.CLAIM).exists()
    os.close(stale)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told(number, tmp_path, monkeypatch, capsys):
    """Training goes on without one; what several processes share does not."""

    def flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locks.writing(tmp_path):
        assert f"{tmp_path}: its file system has no locks ({os.strerror(number)})" in capsys.readouterr().err
    with pytest.raises(InputError, match="lies on a file system without locks"), locks.held(tmp_path / "lock"):
        pass


def test_readers_are_not_kept_out(holder, tmp_path):
    run = suite.train(toy.experiment(), tmp_path / "run")
    holder(run.folder)
    opened = suite.open(run.folder, allow=("tests",))
    assert opened.evaluate("validation").metrics and suite.predict(run.folder, [[1, 2]], allow=("tests",))
