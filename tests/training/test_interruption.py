"""Interruptions of a run: signals, damaged checkpoints, losses that are no numbers, a disk without room."""

import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import suite
from suite.cli import app
from suite.data.pipeline.dispatches import Encoder, dispatches, make_plan
from suite.errors import InputError, Interrupted, RunError
from suite.evaluation.losses import cross_entropy, masked_mean, tally
from suite.experiment.sections import replace
from suite.training import integrity
from suite.training.assemble import assemble
from suite.training.checkpoint import Checkpoints, Progress, Score
from suite.training.preemption import Interruption
from tests import forked, toy
from tests.conftest import ROOT
from tests.training.interruption_child import experiment as long_experiment

RECIPE = ROOT / "tests" / "training" / "interruption_child.py"


def changed(**changes):
    return replace(toy.experiment(), {name.replace("__", "."): value for name, value in changes.items()})


def stored(folder):
    """Every file of the newest checkpoint's state, as arrays, and its progress."""
    with Checkpoints(folder / "checkpoints", writing=False) as checkpoints:
        step = checkpoints.latest
        loaded = checkpoints._reader.load_checkpointables(folder.absolute() / "checkpoints" / str(step))
        return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(loaded["state"])], checkpoints.progress(step)


def timeless(history):
    """What was logged, without how long it took."""
    return {name: values for name, values in history.items() if "second" not in name}


class Ids:
    """Notes the ids of each step, and acts on the process at one."""

    def __init__(self, at=None, act=None):
        self.seen, self._at, self._act = {}, at, act

    def __call__(self, item):
        self.seen.update({item.first + i: row for i, row in enumerate(item.indices.tolist())})
        if self._at is not None and item.first >= self._at:
            self._at = None
            self._act()


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run that was left alone, and its ids."""
    ids = Ids()
    return suite.train(toy.experiment(), tmp_path_factory.mktemp("undisturbed") / "run", on_dispatch=ids), ids.seen


def assert_as_if_nothing_had_happened(run, seen, undisturbed):
    whole, ids = undisturbed
    assert stored(run.folder) == stored(whole.folder)
    assert seen == ids
    assert timeless(run.history) == timeless(whole.history)
    assert timeless(run.metrics) == timeless(whole.metrics)
    kept = lambda folder: {path.name for path in (folder / "checkpoints").iterdir() if path.name.isdecimal()}
    assert max(kept(run.folder)) == max(kept(whole.folder))
    with contextlib.ExitStack() as stack:
        ours, theirs = (stack.enter_context(Checkpoints(r.folder / "checkpoints", writing=False)) for r in (run, whole))
        assert ours.served == theirs.served


# Signals


@pytest.mark.parametrize("step", [13, 9, 0])
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_happened(step, undisturbed, tmp_path):
    """Within an interval of the log (its sums are carried); where an evaluation is due at once; at the first step."""
    before, handlers = Ids(step, terminate), [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(Interrupted) as error:
        suite.train(toy.experiment(), tmp_path / "run", on_dispatch=before)
    assert (error.value.step, error.value.saved) == (step + 1, step + 1)
    assert str(error.value) == f"interrupted at step {step + 1}; go on with: suite train --resume {tmp_path / 'run'}"
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert stored(tmp_path / "run")[1].due == (step == 9)
    after = Ids()
    run = suite.resume(tmp_path / "run", allow=("tests",), on_dispatch=after)
    assert min(after.seen) == step + 1
    assert_as_if_nothing_had_happened(run, {**before.seen, **after.seen}, undisturbed)


@dataclass(frozen=True, kw_only=True)
class Stopping(toy.Parity):
    """Its process is asked to stop while the ``at``-th validation batch is scored."""

    at: int = 0
    """Number of the batch, over all evaluations."""

    def score(self, outputs, batch, reference=None):
        scored.append(len(batch["mask"]))
        if len(scored) == self.at:
            terminate()
        return super().score(outputs, batch, reference)


scored: list[int] = []


@pytest.mark.parametrize(("at", "step"), [(6, 20), (14, 40)])
def test_an_evaluation_is_left_and_made_up_for(at, step, undisturbed, tmp_path):
    """Four batches an evaluation, of which one is computed ahead: in the second, and in the last of the run."""
    scored.clear()
    before = Ids()
    with pytest.raises(Interrupted) as error:
        suite.train(changed(task=Stopping(at=at)), tmp_path / "run", on_dispatch=before)
    assert (error.value.step, error.value.saved) == (step, step)
    assert len(scored) < -(-at // 4) * 4, "the evaluation went on to its end"
    progress = stored(tmp_path / "run")[1]
    assert progress.due and progress.best_step < step
    after = Ids()
    run = suite.resume(tmp_path / "run", allow=("tests",), on_dispatch=after)
    assert_as_if_nothing_had_happened(run, {**before.seen, **after.seen}, undisturbed)
    assert not list((tmp_path / "run" / "checkpoints").glob("replaced-*"))


def start(*arguments, cwd=ROOT):
    return forked.process(
        [sys.executable, *map(str, arguments)], cwd=cwd, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def when(process, reached, number):
    """Send a signal as soon as something is reached."""
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)


def test_sigterm_on_the_command_line(tmp_path):
    """Twice, in dispatches of two steps."""
    whole = Ids()
    suite.train(long_experiment(), tmp_path / "whole", on_dispatch=whole)
    folder, ids = tmp_path / "run", tmp_path / "ids"
    lines = lambda: ids.read_bytes().count(b"\n") if ids.exists() else 0
    again = f"suite train --resume {folder}"
    first = ("train", RECIPE, "--run-dir", folder)
    resume = ("train", "--resume", folder, "--allow", "tests")
    steps = []
    for arguments, wanted in ((first, 75), (resume, 171)):
        process = start("-m", "tests.training.interruption_child", ids, "0.005", *arguments)
        when(process, lambda wanted=wanted: lines() > wanted, signal.SIGTERM)
        printed = process.communicate(timeout=60)[1]
        assert process.returncode == app.INTERRUPTED == 75, printed
        found = re.fullmatch(rf"suite train: interrupted at step (\d+); go on with: {again}", printed.splitlines()[-1])
        assert found, printed
        assert "Traceback" not in printed
        steps.append(int(found[1]))
    assert 76 <= steps[0] < steps[1] < 300
    process = start("-m", "tests.training.interruption_child", ids, "0", *resume)
    printed = process.communicate(timeout=60)[1]
    assert process.returncode == 0, printed
    rows = [line.split(" ") for line in ids.read_text().splitlines()]
    assert [int(step) for step, _ in rows] == list(range(300)), "a step was run twice, or not at all"
    assert {int(step): list(map(int, row.split(","))) for step, row in rows} == whole.seen
    assert stored(folder) == stored(tmp_path / "whole")
    histories = [timeless(suite.open(f, allow=("tests",)).history) for f in (folder, tmp_path / "whole")]
    assert histories[0] == histories[1]


def test_control_c_once_saves_and_twice_kills(tmp_path):
    """A signal after the first, before the dispatch in progress has ended, is the interpreter's own."""
    for number, code in ((1, app.INTERRUPTED), (2, 1)):
        ids, folder = tmp_path / f"ids{number}", tmp_path / f"run{number}"
        child = ("-m", "tests.training.interruption_child", ids, "0.3", "train", RECIPE)
        process = start(*child, "--run-dir", folder)
        when(process, lambda ids=ids: ids.exists() and ids.read_bytes().count(b"\n") > 2, signal.SIGINT)
        if number == 2:
            time.sleep(0.05)
            process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=60)[1]
        assert process.returncode == code, printed
        assert "Traceback" not in printed
        assert (folder / "checkpoints" / "4").exists() == (number == 1)


PREEMPTED = """
import os, signal, socket, time, jax
with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
jax.distributed.initialize(f"localhost:{{port}}", 1, 0)
import suite
from tests.training.interruption_child import experiment

def note(item):
    time.sleep(0.03)
    if item.first == 20:
        os.kill(os.getpid(), signal.SIGTERM)

try:
    suite.train(experiment(), {folder!r}, on_dispatch=note)
except suite.Interrupted as error:
    print(error.step, error.saved)
"""


def test_a_notice_of_preemption_where_hosts_run_together(forked_child, tmp_path):
    """It is JAX's service that takes the signal there and names the step, here of one host, in dispatches of two."""
    step, saved = map(int, forked_child(PREEMPTED.format(folder=str(tmp_path / "run"))).split())
    assert 20 < step == saved < 300
    assert (tmp_path / "run" / "checkpoints" / str(step)).is_dir()


def test_signals_stay_as_they_are_outside_the_main_thread():
    found = []

    def enter():
        with Interruption() as interruption:
            found.extend([signal.getsignal(signal.SIGTERM), interruption.after(0, 1)])

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM), False]


def test_an_ignored_control_c_stays_ignored():
    """What a shell starts in the background ignores it, and must go on to."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            assert not interruption.after(0, 1)
            terminate()
            assert interruption.after(0, 1)
    finally:
        signal.signal(signal.SIGINT, before)


# Damaged checkpoints


def state(value):
    return {"params": {"w": jnp.full((64, 8), value)}, "rest": {}, "opt": {"m": jnp.arange(8.0)}, "ema": None}


@pytest.fixture
def three(tmp_path):
    """Checkpoints of steps 1, 2 and 3, of which 2 is the best."""
    with Checkpoints(tmp_path / "run" / "checkpoints", keep=3) as checkpoints:
        for step, score in ((1, 0.1), (2, 0.3), (3, 0.2)):
            checkpoints.save(step, state(float(step)), Progress(next_batch=step, best=0.3, best_step=2), Score(score))
    return tmp_path / "run" / "checkpoints"


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


DAMAGE = {
    "flipped byte": (flip, "its checksum differs"),
    "truncated": (truncate, r"it has [\d,]+ bytes, not [\d,]+"),
    "missing": (Path.unlink, "it is missing"),
}


@pytest.mark.parametrize(
    "file",
    [
        largest,
        lambda f: f / "state" / "_METADATA",
        lambda f: f / "_CHECKPOINT_METADATA",
        lambda f: f / "metrics" / "metrics",
        lambda f: f / "commit_success.txt",
    ],
    ids=["largest", "state", "checkpoint", "metrics", "commit"],
)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_set_aside(damage, file, three, capsys):
    harm, message = DAMAGE[damage]
    path = file(three / "3")
    if damage != "missing" and path.stat().st_size < 8:
        path.write_bytes(b"longer than it was")
        message = r"it has [\d,]+ bytes, not [\d,]+"
    else:
        harm(path)
    with Checkpoints(three) as checkpoints:
        loaded, progress = checkpoints.newest(state(0.0))
        assert checkpoints.latest == 2
    assert loaded["params"]["w"][0, 0] == 2 and progress.next_batch == 2
    name = re.escape(path.relative_to(three / "3").as_posix())
    line = rf"checkpoint at step 3 is damaged: {name}: {message}; going on from step 2\n"
    assert re.fullmatch(line, capsys.readouterr().err)
    assert (three / "damaged-3").is_dir() and not (three / "3").exists()
    with Checkpoints(three) as checkpoints:  # and the step can be saved again
        checkpoints.save(3, state(3.0), Progress(next_batch=3))
    assert capsys.readouterr().err == "" and integrity.fault(three / "3") == ""


def test_the_best_checkpoint_is_damaged(three, capsys):
    """A reader serves the latest and touches nothing; a run that goes on forgets the score that it can't serve."""
    flip(largest(three / "2"))
    with Checkpoints(three, writing=False) as checkpoints:
        assert (checkpoints.best, checkpoints.served) == (2, 3)
    assert "checkpoint at step 2 is damaged: " in (printed := capsys.readouterr().err)
    assert printed.endswith("going on from step 3\n") and (three / "2").exists()
    with Checkpoints(three) as checkpoints:
        progress = checkpoints.newest(state(0.0))[1]
        assert (progress.next_batch, progress.best, progress.best_step) == (3, 0.2, 3)


def test_all_checkpoints_are_damaged(three, refused):
    for step in "123":
        truncate(largest(three / step))
    for _ in range(2):  # nothing is touched, so that it's refused again
        with pytest.raises(InputError, match="are damaged, all of them") as error:
            Checkpoints(three)
        assert error.value.found.count("bytes, not") == 3
        assert f"suite train --resume {three.parent}" in error.value.fix
    with Checkpoints(three, writing=False) as checkpoints, pytest.raises(InputError, match="all of them"):
        _ = checkpoints.served


def test_a_damaged_checkpoint_without_checksums(three, capsys):
    """As a loss of power leaves it that comes right after a save."""
    (three / "3" / integrity.MANIFEST).unlink()
    with Checkpoints(three) as checkpoints:
        assert checkpoints.newest(state(0.0))[1].next_batch == 3, "what is complete can be used without them"
    for path in three.joinpath("3", "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with Checkpoints(three) as checkpoints:
        assert checkpoints.newest(state(0.0))[1].next_batch == 2
    assert re.match(r"checkpoint at step 3 is damaged: .+; going on from step 2\n", capsys.readouterr().err)


def test_damaged_checksums_are_damage(three):
    path = three / "3" / integrity.MANIFEST
    for content in ("[]", "{", '{"files": 3}', '{"files": {"a": 3}}'):
        path.write_text(content)
        assert integrity.fault(three / "3") == f"{integrity.MANIFEST}: it cannot be read"


def test_a_checkpoint_is_replaced_only_by_a_complete_one(three):
    with Checkpoints(three) as checkpoints:
        checkpoints.save(3, state(9.0), Progress(next_batch=3), Score(0.9))
        assert (three / "replaced-3").exists() or integrity.is_sealed(three / "3")
    assert not (three / "replaced-3").exists()
    (three / "3").rename(three / "replaced-3")  # as a kill leaves it
    with Checkpoints(three) as checkpoints:
        assert (checkpoints.latest, checkpoints.best) == (3, 3)
        assert checkpoints.newest(state(0.0))[0]["params"]["w"][0, 0] == 9


def test_a_run_goes_on_from_the_checkpoint_before(undisturbed, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed[0].folder, folder)
    flip(largest(folder / "checkpoints" / "40"))
    ids = Ids()
    again = suite.resume(folder, allow=("tests",), on_dispatch=ids)
    assert "checkpoint at step 40 is damaged: " in capsys.readouterr().err
    assert list(ids.seen) == list(range(30, 40))
    assert_as_if_nothing_had_happened(again, {**undisturbed[1], **ids.seen}, undisturbed)


def test_a_damaged_best_checkpoint_is_not_served(undisturbed, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed[0].folder, folder)
    with Checkpoints(folder / "checkpoints", writing=False) as checkpoints:
        best = checkpoints.best
    flip(largest(folder / "checkpoints" / str(best)))
    kept = sorted(os.listdir(folder / "checkpoints"))
    assert len(suite.predict(folder, [[1, 2], [3]], allow=("tests",))) == 2
    other = max(int(name) for name in kept if int(name) != best)
    line = rf"checkpoint at step {best} is damaged: \S+: its checksum differs; going on from step {other}\n"
    assert re.fullmatch(line, capsys.readouterr().err)
    assert sorted(os.listdir(folder / "checkpoints")) == kept, "a reader changed the run"


# Data workers


class Deadly(toy.Rows):
    """Reading record 77 kills the process, ``times`` times; the file ``deaths`` counts them."""

    def __init__(self, n, seed, deaths, times):
        super().__init__(n, seed)
        self.deaths, self.times = deaths, times
        deaths.write_bytes(b"")

    def __getitem__(self, indices):
        if 77 in indices and self.deaths.stat().st_size < self.times:
            with open(self.deaths, "ab") as file:
                file.write(b"x")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(indices)


@pytest.mark.parametrize("times", [1, 2])
def test_a_data_worker_that_dies(times, tmp_path, capfd):
    """Once, it is replaced and nothing is missing; twice at the same records, they are named."""
    experiment = toy.experiment()
    plan, source = plan_of(experiment), Deadly(200, 0, tmp_path / "deaths", times)
    step, indices = place_of(77, experiment)
    made, steps = [], step + 2
    error = pytest.raises(InputError) if times == 2 else contextlib.nullcontext()
    with error as refusal:
        made.extend(dispatches(Encoder(experiment.task, source, plan, True), 0, steps, workers=1, prefetch=2))
    assert capfd.readouterr().err.count(f"a data worker died at batch {step}; it is started again from batch") == 1
    if times == 2:
        assert str(refusal.value).startswith(f"data worker: died twice at batch {step}.\n  found: training records ")
        assert refusal.value.found.startswith(f"training records {', '.join(map(str, indices))}; ")
        return
    calm = list(dispatches(Encoder(experiment.task, toy.Rows(200, 0), plan, True), 0, steps))
    for one, other in zip(made, calm, strict=True):
        assert one.indices.tolist() == other.indices.tolist()
        assert all(np.array_equal(one.batch[name], other.batch[name]) for name in other.batch)


def test_a_run_that_waits_for_a_stopped_worker_is_ended_by_a_signal(undisturbed, tmp_path):
    """And goes on as if nothing had happened."""

    def stop():
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGSTOP)
        terminate()

    ids = Ids(7, stop)
    with pytest.raises(Interrupted) as error:
        suite.train(changed(pipeline__workers=1, pipeline__prefetch=1), tmp_path / "run", on_dispatch=ids)
    assert 8 <= error.value.step <= 13 and error.value.saved == error.value.step
    assert not multiprocessing.active_children()
    after = Ids()
    run = suite.resume(tmp_path / "run", allow=("tests",), on_dispatch=after)
    assert_as_if_nothing_had_happened(run, {**ids.seen, **after.seen}, undisturbed)


# Losses that are no numbers


class Marked(toy.Rows):
    """Rows of which one is marked."""

    def __init__(self, n, seed, marked):
        super().__init__(n, seed)
        self.marked = marked

    def __getitem__(self, indices):
        return {**super().__getitem__(indices), "marked": np.isin(indices, self.marked)}


@dataclass(frozen=True, kw_only=True)
class Spoilt(toy.Parity):
    """The loss of marked rows is not a number, or only its gradient is none."""

    marked: tuple[int, ...] = ()
    """Records of the training split."""
    part: str = "loss"
    """loss or gradient."""

    def source(self, split):
        return Marked(self.examples, 0, self.marked) if split == "train" else super().source(split)

    def encode(self, columns, rng=None):
        encoded = super().encode(columns, rng)
        return {**encoded, "marked": columns["marked"]} if "marked" in columns else encoded

    def loss(self, model, batch, rngs):
        losses = cross_entropy(model(batch["digits"], batch["digits_mask"], rngs=rngs), batch["label"])
        if self.part == "loss":
            losses = losses * jnp.where(batch["marked"], jnp.nan, 1.0)
        else:  # the root's slope at 0 is infinite, times 0
            losses = losses + jnp.sqrt(jnp.where(batch["marked"], 0 * losses, 1.0))
        return masked_mean(losses, batch["mask"]), {"loss": tally(losses, batch["mask"])}


def plan_of(experiment):
    source = experiment.task.source("train")
    return make_plan(experiment.task, source, 16, seed=0, buckets=experiment.pipeline.buckets)


def place_of(record, experiment):
    plan = plan_of(experiment)
    return next((step, plan.batch(step)[0]) for step in range(13) if record in plan.batch(step)[0])


@pytest.mark.parametrize("dispatch", [1, 4])
def test_a_loss_that_is_no_number_is_told_with_its_examples(dispatch, tmp_path):
    experiment = changed(
        task=Spoilt(marked=(77,)),
        train__log_every=20,
        checkpoint__every=2,
        train__eval_every=40,
        train__steps_per_dispatch=dispatch,
    )
    step, _ = place_of(77, experiment)
    first = step // dispatch * dispatch
    with pytest.raises(RunError) as error:
        suite.train(experiment, tmp_path / "run")
    lines = str(error.value).splitlines()
    where = f"step {step + 1}" if dispatch == 1 else f"one of the steps {first + 1} to {first + 4}"
    assert lines[0] == f"the loss is nan at {where}."
    shown = [int(word) for word in lines[1].removeprefix("  examples: ").split(" and ")[0].split(", ")]
    batch = np.concatenate([plan_of(experiment).batch(first + i)[0] for i in range(dispatch)])
    assert shown == batch[batch >= 0][:20].tolist()
    saved = sorted(int(name) for name in os.listdir(tmp_path / "run" / "checkpoints") if name.isdecimal())
    assert saved[-1] <= step, "what came of it was saved"
    assert lines[2] == f"  found: the last checkpoint before is that of step {saved[-1]}"
    assert lines[3].startswith("  try:   a lower --optim.learning_rate")
    assert 77 in batch and (77 in shown or len(batch) > 20)


def test_parameters_that_are_no_numbers_are_not_saved(tmp_path):
    """The loss of the step that spoils them is still a number."""
    experiment = changed(task=Spoilt(marked=(77,), part="gradient"), checkpoint__every=1)
    step, _ = place_of(77, experiment)
    with pytest.raises(RunError, match=f"a parameter is no finite number after step {step + 1}"):
        suite.train(experiment, tmp_path / "run")
    assert stored(tmp_path / "run")[1].next_batch == step


@pytest.mark.parametrize("part", ["loss", "gradient"])
def test_a_skipped_step_changes_nothing(part):
    experiment = changed(task=Spoilt(marked=(77,), part=part), train__on_nan="skip")
    step, _ = place_of(77, experiment)
    task, plan = experiment.task, plan_of(experiment)
    program, plain = assemble(experiment, 40), assemble(replace(experiment, {"train.on_nan": "stop"}), 40)
    good, bad = (
        next(dispatches(Encoder(task, task.source("train"), plan, True), at, at + 1)).batch for at in (step - 1, step)
    )
    whole = lambda s: {name: [np.asarray(leaf) for leaf in jax.tree.leaves(part)] for name, part in vars(s).items()}

    before = whole(state := program.step(program.init(), good)[0])
    after, tallies = program.step(state, bad)
    assert int(after.step) == 2
    for name in ("params", "model_state", "opt", "ema", "rule_state"):
        for one, other in zip(before[name], whole(after)[name], strict=True):
            assert one.tobytes() == other.tobytes(), name
    assert {name: (float(t.total), float(t.count)) for name, t in tallies.items()} == {
        "loss": (0.0, 0.0),
        "skipped": (1.0, 1.0),
    }
    expected, counted = plain.step(plain.init(), good)
    assert "skipped" not in counted
    for one, other in zip(jax.tree.leaves(expected.params), before["params"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_training_skips_what_is_no_number(tmp_path):
    experiment = changed(task=Spoilt(marked=(77,)), train__on_nan="skip")
    run, plan = suite.train(experiment, tmp_path / "run"), plan_of(experiment)
    losses, skipped = ([v for v in run.history[f"train/{name}"] if v is not None] for name in ("loss", "skipped"))
    assert np.isfinite(losses).all()
    assert sum(skipped) * 5 == pytest.approx(sum(77 in plan.batch(step)[0] for step in range(40)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run._weights))


def test_a_run_whose_steps_are_all_skipped_stops(tmp_path):
    with pytest.raises(RunError, match="all steps since the last line of the log were skipped, at step 5"):
        suite.train(changed(task=Spoilt(marked=tuple(range(200))), train__on_nan="skip"), tmp_path / "run")


# A disk without room


@pytest.mark.parametrize("foreseen", [True, False])
def test_a_disk_that_is_full_for_a_while(foreseen, small_disk, undisturbed, capsys, monkeypatch):
    """Steps 20 and 30 are not saved, 40 is. Unforeseen: the disk fills up after it was asked for its room."""
    if not foreseen:
        monkeypatch.setattr(Checkpoints, "_check_room", lambda self, state: None)
    filler = small_disk / "filler"

    def fill(item):
        if item.first == 15:
            while not integrity.is_sealed(small_disk / "run" / "checkpoints" / "10"):
                time.sleep(0.01)
            filler.write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096 - 2**16 * foreseen))
        if item.first == 36:
            filler.unlink()

    run = suite.train(toy.experiment(), small_disk / "run", on_dispatch=fill)
    printed = capsys.readouterr().err
    assert re.findall(r"checkpoint at step (\d+) not written, training goes on: ", printed) == ["20"]
    assert "checkpoints are written again, from step 40; lost: 2 from step 20 to step 30" in printed
    names = {path.name for path in (small_disk / "run" / "checkpoints").iterdir()}
    assert names == {"10", "40"}
    assert stored(run.folder)[0] == stored(undisturbed[0].folder)[0]
    assert integrity.is_sealed(small_disk / "run" / "checkpoints" / "40")
