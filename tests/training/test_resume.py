"""Killed at random moments and resumed, a run ends as if nothing had happened: same parameters, same examples."""

import os
import signal
import sys
import time

import jax
import numpy as np
import pytest

import suite
from suite.training.assemble import assemble
from suite.training.checkpoint import Checkpoints
from suite.training.restore import restore
from tests import forked
from tests.conftest import ROOT
from tests.training.resume_child import STEPS, experiment


def start(folder, ids, workers, log):
    command = [sys.executable, "-m", "tests.training.resume_child", str(folder), str(ids), str(workers), "0.003"]
    return forked.process(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def kill(process):
    """The whole group: a killed trainer leaves no workers behind that this test would have to wait for."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def writing(folder):
    """Whether a checkpoint is being written."""
    checkpoints = folder / "checkpoints"
    return checkpoints.exists() and any("orbax-checkpoint-tmp" in entry.name for entry in os.scandir(checkpoints))


def executions(ids):
    """Step -> the ids of each time it was run."""
    found: dict[int, list[str]] = {}
    for line in ids.read_text().splitlines() if ids.exists() else []:
        step, row = line.split(" ")
        found.setdefault(int(step), []).append(row)
    return found


def wait_and_kill(process, folder, ids, steps, while_writing):
    """Kill after ``steps`` more steps, then, if asked, at the next moment a checkpoint is on its way."""
    lines = lambda: ids.read_bytes().count(b"\n") if ids.exists() else 0
    before, deadline = lines(), time.monotonic() + 120
    while lines() < before + steps or (while_writing and not writing(folder)):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    caught = writing(folder)
    kill(process)
    return caught and writing(folder)


def final_state(folder, workers):
    program = assemble(experiment(workers), STEPS)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        state, progress = restore(program, checkpoints, experiment(workers))
    assert progress.next_batch == STEPS
    return state, progress


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    """State and ids of a run that was left alone; the number of workers does not enter (that is tested below)."""
    folder = tmp_path_factory.mktemp("never-killed")
    seen = {}
    suite.train(
        experiment(0),
        folder / "run",
        on_dispatch=lambda item: seen.update(
            {item.first + i: ",".join(map(str, row)) for i, row in enumerate(item.indices.tolist())}
        ),
    )
    return *final_state(folder / "run", 0), seen


@pytest.mark.parametrize(
    "workers, kills, in_writing",
    [(0, 3, 2), (2, 1, 1)] + [pytest.param(workers, 10, 3, marks=pytest.mark.slow) for workers in (0, 2)],
)
def test_killed_and_resumed(workers, kills, in_writing, never_killed, tmp_path):
    state, progress, expected = never_killed
    folder, ids = tmp_path / "run", tmp_path / "ids"
    rng = np.random.default_rng((workers, kills))
    caught, most = 0, min(40, 240 // kills)  # so that the last kill comes before the end
    with open(tmp_path / "log", "w") as log:
        for number in range(kills):
            process = start(folder, ids, workers, log)
            while_writing = number % 3 == 0 and caught < in_writing
            caught += wait_and_kill(process, folder, ids, int(rng.integers(3, most)), while_writing)
        process = start(folder, ids, workers, log)
        assert process.wait(timeout=120) == 0, (tmp_path / "log").read_text()[-3000:]
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert caught >= in_writing

    seen = executions(ids)
    repeated = sum(len(rows) > 1 for rows in seen.values())
    print(
        f"\n{workers} workers: {kills} kills, {caught} of them while a checkpoint was being written, "
        f"{sum(map(len, seen.values()))} steps run for {len(seen)}, {repeated} of them more than once"
    )
    assert {step: rows[-1] for step, rows in seen.items()} == expected
    assert all(len(set(rows)) == 1 for rows in seen.values())
    assert repeated, "every kill fell on a step that was saved: nothing was put to the test"

    again, its_progress = final_state(folder, workers)
    assert its_progress == progress
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    history = suite.open(folder, allow=("tests",)).history
    assert history["step"] == sorted(history["step"])  # what was logged after the last save was cut off
    logged = [s for s, loss in zip(history["step"], history["train/loss"], strict=True) if loss is not None]
    assert logged == list(range(50, STEPS + 1, 50))
