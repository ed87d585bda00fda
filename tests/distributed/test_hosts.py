"""Several processes as one run: the same examples and losses as one, one's end noticed by all, any mesh restored."""

import dataclasses
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import psutil
import pytest

import suite
from suite.cli import app
from suite.data.pipeline.dispatches import Encoder, make_plan
from suite.errors import InputError, RunError
from suite.experiment.sections import Parallel
from suite.parallel.rendezvous import Place, find_place, muster
from suite.training.assemble import assemble
from suite.training.checkpoint import Checkpoints
from suite.training.restore import restore
from tests import forked, toy
from tests.conftest import ROOT, simulated

RECIPE = str(ROOT / "tests" / "distributed" / "hosts_recipe.py")
TRAIN = ["train", RECIPE, "--allow", "tests"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(arguments, devices, **pipes):
    """``suite`` on that many simulated devices a process."""
    return forked.process(
        [sys.executable, "-m", "suite", *map(str, arguments)],
        cwd=ROOT,
        text=True,
        env={**os.environ, **simulated(devices)},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes},
    )


def finished(arguments, devices):
    process = start(arguments, devices)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err[-3000:]
    return out, err


def final_state(folder):
    """The last checkpoint on this process's one device, and what was saved beside it."""
    experiment = suite.open(folder, allow=("tests",)).experiment
    experiment = dataclasses.replace(experiment, parallel=Parallel())
    program = assemble(experiment, experiment.train.steps)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        return restore(program, checkpoints, experiment)


def logged(folder):
    """What was logged, without how long it took."""
    history = suite.open(folder, allow=("tests",)).history
    return {
        name: [value for value in values if value is not None]
        for name, values in history.items()
        if "second" not in name
    }


def tolerance(name, usual):
    """How far a metric may be off: ranks of rows of equal digits, which rounding parts, farther than others."""
    return 1e-2 if name.endswith(("/auc", "/average_precision")) else usual


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of a run of two processes with two devices each, and what was printed."""
    folder = tmp_path_factory.mktemp("two") / "run"
    return folder, *finished(["launch", "--processes", 2, "--", *TRAIN, "--run-dir", folder], 2)


def test_two_processes_train_as_one_does(two, tmp_path):
    folder, out, _ = two
    finished([*TRAIN, "--run-dir", tmp_path / "one"], 4)
    ours, theirs = logged(folder), logged(tmp_path / "one")
    assert ours.keys() == theirs.keys()
    assert len(ours["train/loss"]) == 4 and ours["train/loss"][-1] < 0.95 * ours["train/loss"][0]
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance(name, 1e-5), err_msg=name)
    (state, progress), (other, also) = final_state(folder), final_state(tmp_path / "one")
    assert (progress.next_batch, progress.best_step) == (also.next_batch, also.best_step) == (80, also.best_step)
    for mine, its in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-3, atol=1e-5)
    assert out.count("validation/accuracy") == 1  # process 0 alone talks
    assert not list(folder.glob(".shared-*"))


def test_two_processes_score_as_one_does(two):
    """57 records in batches of 16: the second process has one of the last batch."""
    folder, _, _ = two
    finished(["launch", "--processes", 2, "--", "evaluate", folder, "--allow", "tests"], 2)
    ours = suite.open(folder, allow=("tests",)).metrics
    experiment = dataclasses.replace(suite.open(folder, allow=("tests",)).experiment, parallel=Parallel())
    theirs = dataclasses.replace(suite.open(folder, allow=("tests",)), experiment=experiment).evaluate("test").metrics
    assert ours.keys() == theirs.keys() >= {"test/accuracy", "test/loss", "test/macro_f1", "test/auc"}
    for name in ours:
        assert ours[name] == pytest.approx(theirs[name], rel=tolerance(name, 1e-5)), name


def test_a_run_goes_on_with_another_mesh(two, tmp_path, command, refused):
    """That of two processes, in this one; what is no part of the mesh stays as it was."""
    folder = shutil.copytree(two[0], tmp_path / "run")
    shutil.rmtree(folder / "checkpoints" / "80")
    assert "flag --resume: takes the experiment as it is stored, but for --parallel.\n  found: --optim" in refused(
        "train", "--resume", folder, "--allow", "tests", "--optim.learning_rate", "1.0"
    )
    command("train", "--resume", folder, "--allow", "tests", "--parallel.data", "-1", "--parallel.fsdp", "1")
    moved = suite.open(folder, allow=("tests",)).experiment
    assert moved.parallel == Parallel() and moved.optim == toy.experiment().optim
    ours, theirs = logged(folder), logged(two[0])
    assert ours.keys() == theirs.keys() and ours["step"] == theirs["step"]
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance(name, 1e-4), err_msg=name)


def test_the_end_of_one_process_ends_all_and_the_run_goes_on(two, tmp_path):
    folder = tmp_path / "run"
    again = ["launch", "--processes", 2, "--", *TRAIN, "--run-dir", folder, "--continue"]
    launcher = start(again, 2)
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints" / "20").exists():
        assert launcher.poll() is None, launcher.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    victim = next(
        child for child in psutil.Process(launcher.pid).children() if child.environ().get("SUITE_PROCESS") == "1"
    )
    victim.kill()
    killed = time.monotonic()
    _, err = launcher.communicate(timeout=60)
    assert time.monotonic() - killed < 10
    assert launcher.returncode == 128 + signal.SIGKILL
    assert re.search(r"suite: process 1 \(\S+\) is gone; the other 1 of 2 processes stop\n  try:   the same com", err)
    assert not psutil.pid_exists(victim.pid)

    finished(again, 2)
    assert logged(folder) == logged(two[0])
    (state, progress), (whole, also) = final_state(folder), final_state(two[0])
    assert progress == also
    for mine, its in zip(jax.tree.leaves(state), jax.tree.leaves(whole), strict=True):
        assert np.asarray(mine).tobytes() == np.asarray(its).tobytes()


@pytest.mark.slow
def test_a_notice_of_preemption_stops_all_at_one_step(two, tmp_path):
    folder = tmp_path / "run"
    again = ["launch", "--processes", 2, "--", *TRAIN, "--run-dir", folder, "--continue"]
    launcher = start(again, 2)
    while not (folder / "checkpoints" / "20").exists():
        assert launcher.poll() is None, launcher.communicate()[1]
        time.sleep(0.005)
    launcher.terminate()
    _, err = launcher.communicate(timeout=60)
    assert launcher.returncode == app.INTERRUPTED, err
    assert len(re.findall(r"interrupted at step \d+; go on with", err)) == 1
    finished(again, 2)
    assert logged(folder) == logged(two[0])


def test_a_checkpoint_of_eight_devices_is_restored_on_one_and_on_four(forked_child, tmp_path):
    """Moved to other meshes bit by bit, and the batch that comes next is the same."""
    code = f"""
import dataclasses, jax, numpy as np, suite
from pathlib import Path
from suite.training.checkpoint import Checkpoints
from suite.experiment.sections import Parallel
from suite.training.assemble import assemble
from suite.training.restore import restore
from tests import toy
experiment = dataclasses.replace(toy.experiment(steps=20, eval_every=20), parallel=Parallel(data=1, fsdp=8))
suite.train(experiment, Path({str(tmp_path)!r}) / "run")
seen = []
for parallel in (Parallel(data=1, fsdp=8), Parallel(data=1), Parallel(data=2, fsdp=2)):
    moved = dataclasses.replace(experiment, parallel=parallel)
    program = assemble(moved, 20)
    with Checkpoints(Path({str(tmp_path)!r}) / "run" / "checkpoints") as checkpoints:
        state, progress = restore(program, checkpoints, moved)
    wide = max(len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state))
    print(wide, progress.next_batch, not all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state)))
    seen.append([np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)])
assert seen[0] == seen[1] == seen[2]
"""
    printed = forked_child(code, **simulated(8))
    assert printed.splitlines() == ["8 20 True", "1 20 False", "4 20 True"]


def lines_of_each(module, count, arguments, codes, **variables):
    """What ``count`` processes of a child module printed, each given its number; they end with ``codes``."""
    address = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **variables}
    running = [
        forked.process(
            [sys.executable, "-m", module, address, *map(str, arguments(i))],
            cwd=ROOT,
            text=True,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for i in range(count)
    ]
    printed = [process.communicate(timeout=100) for process in running]
    assert [process.returncode for process in running] == codes, printed
    return [(out + err).splitlines() for out, err in printed]


def test_two_processes_agree(tmp_path):
    lines_of_each("tests.distributed.hosts_child", 2, lambda i: (i, tmp_path), [0, 0], **simulated(2))
    blind = "is not shared: not every process sees what process 0 writes there."
    common = [
        "agreed ['said by', 0] 1099511627776",
        "refused InputError: field x: 0 is wrong.",
        "disk OSError: full",
        "auc [0.0, 1.0, 2.0] [0.0, 1.0, 2.0] [10.0, 11.0, 12.0, 13.0] [10.0, 11.0, 12.0, 13.0]"
        " | [0.0, 1.0, 2.0] [10.0, 11.0, 12.0, 13.0]",
        "bleu [1, 4] 6 chrf",
        "loss 1.0 1",
        "gathered ([0.0, 1.0, 2.0], [False, False, False]) ([10.0, 11.0, 12.0, 13.0], [False, True, True, True])",
        "distance [1.0, 3.0] 3 [1.0, 1.0]",
        "left out InputError: field parallel: leaves out process 1.",
    ]
    rows = [[0, 1, 2, 3], [4, 5, 6, 7], [*range(8)]]
    split = lambda i: f"rows {rows[i]} owned {rows[i]}"
    shared = lambda i: f"rows {rows[2]} owned {[[*range(8)], []][i]}"
    for i in range(2):
        own = [
            ("together RunError: process 1: ValueError: mine", "together ValueError: mine")[i],
            ("after first made it", "after first 0")[i],
            f'not shared InputError: --run-dir "{tmp_path}/of-{i}": {blind}',
            split(i),
            split(i),
            shared(i),
        ]
        said = (tmp_path / f"said-{i}").read_text().splitlines()
        assert sorted(said) == sorted([*common, *own])


@pytest.mark.parametrize(
    "does, last, said",
    [
        ("dies", -signal.SIGKILL, r"process 2 \(\S+\) is gone; the other 2 of 3 processes stop"),
        ("refuses", 2, r"process 2 \(\S+\) ended: record 7 is broken"),
    ],
)
def test_what_ends_one_process_is_told_by_all(does, last, said):
    code = 75 if does == "dies" else 2
    *others, own = lines_of_each(
        "tests.distributed.watch_child", 3, lambda i: (3, i, does if i == 2 else "waits"), [code, code, last]
    )
    for lines in others:
        assert re.fullmatch(f"suite: {said}", lines[0]), lines
    assert own == ([] if does == "dies" else ["record 7 is broken"])


@pytest.mark.parametrize("processes", [2, 3, 4])
@pytest.mark.parametrize("augment", [True, False])
def test_what_a_row_becomes_does_not_depend_on_who_encodes_it(processes, augment):
    """Random numbers included; of the batch that is not full the last process has no rows."""
    task = toy.Parity()
    source = task.source("train")
    plan = make_plan(task, source, 48, seed=3, buckets=(6, 12))
    whole = Encoder(task, source, plan, augment)
    parts = np.array_split(np.arange(48), processes)
    short = next(i for i in range(plan.batches_per_epoch) if (plan.batch(i)[0] < 0).any())
    for span in [(0, 2), (2, 1), (short, 1)]:
        expected = whole(span)
        made = [Encoder(task, source, plan, augment, rows)(span) for rows in parts]
        for name, value in expected["batch"].items():
            np.testing.assert_array_equal(np.concatenate([one["batch"][name] for one in made], 1), value)
        assert all((one["indices"] == expected["indices"]).all() for one in made)
    assert (~expected["batch"]["mask"][:, parts[-1]]).all()


def test_only_the_rows_of_a_process_are_read():
    class Noting(toy.Rows):
        def __getitem__(self, indices):
            read.extend(indices.tolist())
            return super().__getitem__(indices)

    read: list[int] = []
    task = toy.Parity()
    plan = make_plan(task, toy.Rows(200, 0), 64, seed=0, buckets=(6, 12))
    Encoder(task, Noting(200, 0), plan, False, np.arange(32, 64))((0, 1))
    assert read == plan.batch(0)[0][32:].tolist()


def test_a_missing_process_is_named_by_all_that_came():
    address, said = f"127.0.0.1:{free_port()}", {}

    def come(process):
        try:
            muster(Place(address, 4, process, join_seconds=1.5))
        except RunError as error:
            said[process] = str(error).splitlines()[0]

    threads = [threading.Thread(target=come, args=(process,)) for process in (0, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert said == {0: "2 of 4 joined, missing: 1, 3", 2: "2 of 4 joined, missing: 1, 3"}


def test_a_missing_first_process_is_named(capsys):
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(SystemExit) as stop:
        app.main([*TRAIN, "--coordinator", address, "--processes", "2", "--process-id", "1", "--join-seconds", "1"])
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        "suite train: no answer, missing: 0, to whom the others report\n"
        f"  found: waited 1 s at {address}\n"
        "  try:   start what is missing, look at its log, open the port between the hosts; or --join-seconds 2\n"
    )


def test_all_that_came_are_let_go_and_the_port_is_free():
    address, peers = f"127.0.0.1:{free_port()}", {}
    places = [Place(address, 3, process, join_seconds=20) for process in range(3)]
    come = lambda place: peers.update({place.process: muster(place)})
    threads = [threading.Thread(target=come, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(peer.process for peer in peers[0]) == [1, 2]
    assert [peer.process for peer in (*peers[1], *peers[2])] == [0, 0]
    with socket.create_server(places[0].address):
        pass
    for peer in (peer for found in peers.values() for peer in found):
        peer.socket.close()


SLURM = {
    "SLURM_JOB_ID": "70001",
    "SLURM_STEP_NODELIST": "node[03-04]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
}


def test_where_a_process_stands(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SUITE_P", "SUITE_COORD"))]:
        monkeypatch.delenv(name)
    assert find_place({}, {}) is None
    flags = {"coordinator": "10.0.0.1:99", "processes": "3", "process-id": "2", "lost-seconds": "9"}
    assert find_place(flags, {}) == Place("10.0.0.1:99", 3, 2, lost_seconds=9)
    variables = {"SUITE_COORDINATOR": "a:1", "SUITE_PROCESSES": "2", "SUITE_PROCESS": "0"}
    assert find_place({}, variables) == Place("a:1", 2, 0)
    assert find_place({"process-id": "1"}, variables) == Place("a:1", 2, 1)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    place = find_place({}, {})
    assert place is not None and place.coordinator.startswith("node03:")
    assert (place.processes, place.process, place.devices) == (2, 1, None)
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert find_place({}, {}).devices == (0,)


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            {"processes": "2"},
            "flag --coordinator: is missing: a run of several processes needs all three.\n"
            "  found: --processes 2\n  try:   give --coordinator, or set SUITE_COORDINATOR",
        ),
        (
            {"coordinator": "a:1", "processes": "2", "process-id": "2"},
            "flag --process-id: 2 is none of 2 processes.\n  try:   0 to 1",
        ),
        (
            {"coordinator": "a", "processes": "2", "process-id": "1"},
            'flag --coordinator: "a" is no address.\n  try:   --coordinator HOST:PORT',
        ),
        (
            {"coordinator": "a:1", "processes": "two", "process-id": "1"},
            'flag --processes: "two" is no number from 1.\n  try:   --processes 1',
        ),
        (
            {"coordinator": "a:1", "processes": "2", "process-id": "1", "join-seconds": "soon"},
            'flag --join-seconds: "soon" is no number of seconds from 1.\n  try:   --join-seconds 300',
        ),
    ],
)
def test_a_place_that_is_none_is_refused(flags, message):
    with pytest.raises(InputError) as error:
        find_place(flags, {})
    assert str(error.value) == message


def test_a_port_that_is_taken_is_refused():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match="process 0 cannot listen at this port") as error:
            muster(Place(f"127.0.0.1:{port}", 2, 0, join_seconds=1.0))
    assert error.value.fix == f"--coordinator 127.0.0.1:{port + 1}"


def test_what_cannot_be_launched_is_refused(refused):
    assert refused("launch", "--processes", "2", "train") == (
        'suite launch: word "train": stands before the -- that begins the command.\n'
        "  try:   suite launch --processes 2 -- train\n"
    )
    assert 'flag --processes: "two" is not a whole number.' in refused("launch", "--processes", "two", "--", "x")
    assert "arguments: doctor cannot be launched.\n  found: train, evaluate" in refused(
        "launch", "--processes", "2", "--", "doctor"
    )
    assert "flag --continue: goes on with work" in refused(*TRAIN, "--continue")
