"""Data workers: killed or stopped at any moment, they hang no run, lose no batch and outlive no trainer."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest

from suite.data.pipeline.workers import in_workers
from suite.errors import InputError
from tests.conftest import ROOT

SPANS = [(step, 1) for step in range(0, 40)]


@dataclass(frozen=True)
class Squares:
    """Encodes a span; more than a socket takes at once has to be read before the first."""

    ballast: bytes = bytes(8 * 2**20)
    wrong: int = -1

    def __call__(self, span):
        if span[0] == self.wrong:
            raise ZeroDivisionError("of this span")
        return {"batch": {"x": np.full((3, 70_000), span[0] ** 2, np.int32), "name": np.array([f"{span[0]}"])}}


def assert_whole(encoded):
    assert [int(one["batch"]["x"][2, -1]) for one in encoded] == [step**2 for step, _ in SPANS]
    assert [one["batch"]["name"].tolist() for one in encoded] == [[str(step)] for step, _ in SPANS]
    assert not multiprocessing.active_children()


@pytest.fixture
def at_start(monkeypatch):
    """Sends a signal to the first ``times`` workers, before they have read what they are started with."""
    started = []

    def hit(number, times):
        start = multiprocessing.context.SpawnProcess.start

        def begin(process):
            start(process)
            if len(started) < times:
                os.kill(process.pid, number)
            started.append(process.pid)

        monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", begin)
        return started

    return hit


def test_workers_killed_at_their_start_are_replaced(at_start, capfd):
    at_start(signal.SIGKILL, 2)
    assert_whole(list(in_workers(Squares(), SPANS, 2, 2)))
    assert capfd.readouterr().err.count("a data worker died between batches; it is started again from batch") == 2


def test_a_worker_killed_at_its_start_twice_ends_in_words(at_start):
    at_start(signal.SIGKILL, 2)
    with pytest.raises(InputError, match=r"died twice in a row\.\n  found: .* code -9\n  try:   --pipeline"):
        list(in_workers(Squares(), SPANS, 1, 2))
    assert not multiprocessing.active_children()


def test_workers_killed_at_any_moment_lose_no_batch():
    rng, stop = np.random.default_rng(0), threading.Event()

    def kill():
        while not stop.wait(rng.uniform(0.5, 2)):
            for child in multiprocessing.active_children()[:1]:
                os.kill(child.pid, signal.SIGKILL)

    encoded, killer = [], threading.Thread(target=kill)
    killer.start()
    try:
        for one in in_workers(Squares(), SPANS, 2, 2):
            encoded.append(one)
            time.sleep(0.05)
    except InputError as error:  # the same worker was hit twice within a batch
        assert "died twice" in error.problem
        assert [int(one["batch"]["x"][0, 0]) for one in encoded] == [step**2 for step in range(len(encoded))]
    else:
        assert_whole(encoded)
    finally:
        stop.set()
        killer.join()


@pytest.mark.parametrize("moment", ["start", "work"])
def test_a_stopped_worker_keeps_no_run_from_its_end(moment, at_start):
    if moment == "start":
        at_start(signal.SIGSTOP, 1)
    asked = threading.Event()
    encoded = in_workers(Squares(), SPANS, 1, 1, asked.is_set)
    if moment == "work":
        next(encoded)
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGSTOP)
    threading.Timer(0.5, asked.set).start()
    begun = time.monotonic()
    assert len(list(encoded)) < 5
    assert time.monotonic() - begun < 10 and not multiprocessing.active_children()


def test_an_error_of_a_worker_is_raised_where_it_was_and_says_so():
    encoded = in_workers(Squares(wrong=3), SPANS, 2, 2)
    assert [int(next(encoded)["batch"]["x"][0, 0]) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(ZeroDivisionError, match="of this span") as raised:
        next(encoded)
    assert 'raise ZeroDivisionError("of this span")' in "".join(raised.value.__notes__)
    assert not multiprocessing.active_children()


TRAINER = """
import multiprocessing, os, time
from suite.data.pipeline.workers import in_workers
from tests.data.test_workers import SPANS, Squares
if __name__ == "__main__":
    encoded = in_workers(Squares(), SPANS, 2, 1)
    next(encoded), next(encoded)  # of either: a process that still starts has not asked for its end yet
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends the children of a process that died on Linux")
def test_no_worker_outlives_its_trainer(tmp_path):
    """Be it stopped when the trainer is killed."""
    (tmp_path / "trainer.py").write_text(TRAINER)
    command = [sys.executable, str(tmp_path / "trainer.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    trainer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    pids = [int(pid) for pid in trainer.stdout.readline().split()]
    assert len(pids) == 2
    os.kill(pids[0], signal.SIGSTOP)
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    until = time.monotonic() + 10
    try:
        while any(map(_alive, pids)):
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        for pid in filter(_alive, pids):
            os.kill(pid, signal.SIGKILL)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
