"""Chaos: random kills and faults of trainings. Nothing is lost beyond the last checkpoint, nothing hangs, and what can
go on ends with the very parameters of a run that was left alone.

A case is one fault at a random moment of a small training, then the same command again. `FUZZ_RECIPES` names the
recipes that take part; without it two do where no number of cases is asked for, else all whose data are there.
"""

import contextlib
import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from suite.cli.app import INTERRUPTED
from suite.errors import InputError
from suite.experiment import recipes
from suite.training import integrity
from suite.training.logging.jsonl import history
from tests.conftest import ROOT
from tests.training.test_interruption import stored, timeless

STEPS, EVERY, PAUSE = 20, 4, 0.02
HANGS = 150
"""Seconds after which a process is said to hang, on a machine that does much else."""
FAULTS = (
    "kill", "kill", "terminate", "interrupt", "stop and continue", "stop and kill", "full", "call", "call", "bytes",
    "kill a worker", "kill a worker", "stop a worker", "clock", "second process", "second process",
)  # fmt: skip
QUICK = ("vision.digits_dnn", "text.synthetic_sentiment")
SLOW = {
    *("recommendation.movielens_fm", "recommendation.movielens_lr", "speech.an4_ctc", "speech.fsdd_ctc"),
    *("text.imdb_encoder", "text.sst2_encoder", "text.sst2_minilm_10k", "text.sst2_student", "text.sst2_minilm"),
    "text.multi30k_translation",
    *("vision.cifar10_resnet20", "vision.fashion_mnist_resnet18", "vision.imagenet_resnet50"),
}
"""Minutes of reading or compiling; recipes beside them take the same way through the code."""


def own_data(folder):
    """Small data for recipes that come without: recipe -> its flags."""
    rng = np.random.default_rng(0)
    words = ("fine", "dull", "clever", "slow", "warm", "thing", "play", "of")
    lines = [" ".join(rng.choice(words, 8)) + f" {i}" for i in range(120)]
    texts = folder / "texts.csv"
    rows = [
        f'"{text}",{("good", "bad")[i % 2]},{rng.normal():.3f},{"a|b" if i % 3 else "c"}'
        for i, text in enumerate(lines)
    ]
    texts.write_text("text,label,score,tags\n" + "\n".join(rows) + "\n")
    numbers = folder / "numbers.csv"
    rows = [f"{rng.normal():.3f},{('x', 'y', 'z')[i % 3]},{i % 2},{rng.normal():.3f}" for i in range(150)]
    numbers.write_text("a,b,clicked,price\n" + "\n".join(rows) + "\n")
    prose = folder / "prose.txt"
    prose.write_text("\n".join(lines) + "\n")
    for i in range(48):
        (folder / "pictures" / ["red", "blue"][i % 2]).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / ["red", "blue"][i % 2] / f"{i}.png")
    flags = {
        "text.classify": [texts],
        "text.encoder": [texts],
        "text.regress": [texts, "--task.target", "score"],
        "text.label": [texts, "--task.target", "tags"],
        "table.predict": [numbers, "--task.target", "price"],
        "recommendation.click": [numbers, "--task.label", "clicked"],
        "text.language_model": [prose],
        "vision.classify": [folder / "pictures"],
        "vision.embed": [folder / "pictures"],
    }
    return {name: ["--data", *map(str, flags[name])] for name in flags}


class Trainings:
    """The process that forks trainings, and the runs that were left alone."""

    def __init__(self, folder):
        self.folder, self.references = folder, {}
        command = [sys.executable, "-m", "tests.fuzz.chaos_child"]
        environment = {
            **os.environ,
            "OPENBLAS_NUM_THREADS": "1",
            "SUITE_CACHE": os.environ.get("SUITE_CACHE", str(folder / "cache")),
        }
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, **what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Training:
    """The trainings of one run folder, one after another."""

    def __init__(self, trainings, recipe, flags, folder, scratch):
        self.trainings, self.folder, self.scratch = trainings, folder, scratch
        scratch.mkdir(parents=True, exist_ok=True)
        self.log, self.steps = scratch / "log", scratch / "steps"
        self.arguments = [
            *("train", recipe, "--smoke", *flags, "--run-dir", str(folder), "--continue"),
            *("--train.steps", str(STEPS), "--train.steps_per_dispatch", "1", "--train.log_every", "1"),
            *("--train.eval_every", "10", "--checkpoint.every", str(EVERY), "--optim.warmup_steps", "2"),
        ]
        self.pid, self.code = 0, None

    def start(self, fault=None, workers=0, pause=PAUSE):
        begins = not (self.folder / "experiment.json").exists()  # a run that goes on keeps the workers it has
        arguments = [*self.arguments, *(["--pipeline.workers", str(workers)] if workers and begins else [])]
        self.pid = self.trainings.ask(
            arguments=arguments, log=str(self.log), steps=str(self.steps), pause=pause, fault=fault
        )
        self.code = None

    def ended(self):
        if self.code is None:
            self.code = self.trainings.ask(wait=self.pid)
        return self.code is not None

    def wait(self, condition=lambda: False):
        """Until it has ended, or the condition holds: whether that is so."""
        deadline = time.monotonic() + HANGS
        while not self.ended():
            if condition():
                return True
            if time.monotonic() > deadline:
                tasks = Path(f"/proc/{self.pid}/task")
                waits = {(tasks / task / "wchan").read_text() for task in os.listdir(tasks)}
                self.signal(signal.SIGKILL)
                raise AssertionError(f"it hangs; its threads wait in {sorted(waits)}")
            time.sleep(0.03)
        return False

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def noted(self):
        return [int(line) for line in self.steps.read_text().splitlines()] if self.steps.exists() else []

    def checkpoint(self):
        """The newest complete checkpoint that is not damaged; 0 where there is none."""
        folders = (path for path in (self.folder / "checkpoints").glob("*") if path.name.isdecimal())
        return max((int(path.name) for path in folders if not integrity.fault(path)), default=0)

    def alone(self):
        """Whether no process of its group is left, within some seconds."""
        for _ in range(100):
            if all(group != self.pid for _, _, group, _ in processes()):
                return True
            time.sleep(0.05)
        return False


def processes():
    """Number, parent, group and command of each process that lives."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            state, parent, group = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:3]
            if state not in "ZX":
                yield int(entry), int(parent), int(group), Path(f"/proc/{entry}/cmdline").read_text()


def children(pid):
    """Its data workers."""
    return sorted(number for number, parent, _, command in processes() if parent == pid and "spawn_main" in command)


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    if sys.platform != "linux":
        pytest.skip("it looks into /proc")
    trainings = Trainings(tmp_path_factory.mktemp("chaos"))
    yield trainings
    trainings.process.stdin.close()
    trainings.process.wait(60)


def takes_part(name):
    """Whether a recipe's own data are on this machine, and it takes seconds."""
    if name in SLOW:
        return False
    try:
        experiment = recipes.load(name, smoke=True)
        return bool(getattr(experiment.task.data, "path", "none")) and len(experiment.task.data.open("train")) > 0
    except (InputError, OSError):
        return False


@pytest.fixture(scope="module")
def candidates(trainings):
    """Recipe -> the flags of its data."""
    own = own_data(trainings.folder)
    if chosen := os.environ.get("FUZZ_RECIPES"):
        names = chosen.split()
    elif not os.environ.get("FUZZ_CASES"):
        names = list(QUICK)
    else:
        names = [*(name for name in recipes.names() if name not in own and takes_part(name)), *own]
    return {name: [*own.get(name, []), *same_draws(name)] for name in names}


def same_draws(name):
    """Flags by which two runs of a recipe draw the same: the key of a private one is its own secret otherwise."""
    return ["--privacy.key", "00"] if recipes.load(name, smoke=True).privacy.epsilon else []


def reference(trainings, recipe, flags):
    """State, log and steps of the run that was left alone; None where the recipe cannot be trained here. One that is
    solved in closed form takes no steps of an optimiser."""
    if recipe not in trainings.references:
        scratch = trainings.folder / recipe
        training = Training(trainings, recipe, flags, scratch / "run", scratch)
        training.start(pause=0)
        training.wait()
        if training.code != 0:
            print(f"{recipe} takes no part: {training.log.read_text()[-600:]}")
            trainings.references[recipe] = None
        else:
            state, log = stored(scratch / "run")[0], timeless(history(scratch / "run"))
            trainings.references[recipe] = state, log, set(training.noted())
    return trainings.references[recipe]


def inject(training, fault, rng, disk):
    """Start the training and have one fault happen to it; what its end must be is asserted."""
    moment = int(rng.integers(0, STEPS)) if rng.random() < 0.7 else None
    if fault == "second process":
        moment = int(rng.integers(0, STEPS - 4))
    delay = float(rng.uniform(0, 4))
    begun = time.monotonic()
    workers = int(rng.integers(1, 3)) if "worker" in fault else int(rng.random() < 0.05)
    broken = None
    if fault == "clock":
        broken = {"clock": float(rng.choice([-1e9, -3600, 3600, 1e9])), "after": int(rng.integers(200))}
    elif fault == "call":
        call = str(rng.choice(["fsync", "replace", "rename", "write", "mkdir"]))
        number = int(rng.choice([errno.ENOSPC, errno.EIO]))
        broken = {
            "call": call,
            "errno": number,
            "after": int(rng.integers(30)),
            "times": int(rng.choice([1, 3, 10**6])),
        }
    elif fault == "bytes":
        broken = {"bytes": int(rng.choice([1000, 10_000, 100_000]))}
    training.start(broken, workers)
    reached = lambda: len(training.noted()) > moment if moment is not None else time.monotonic() - begun > delay
    if broken is not None:
        training.wait()
        assert training.code in (0, 1, 2), training.code
        return
    if fault in ("kill a worker", "stop a worker"):
        at_start = rng.random() < 0.4
        if not training.wait(lambda: children(training.pid) and (at_start or reached())):
            return
        time.sleep(float(rng.uniform(0, 0.5)))
        for worker in children(training.pid)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL if fault == "kill a worker" else signal.SIGSTOP)
        if fault == "kill a worker":
            training.wait()
            assert training.code == 0
        else:
            time.sleep(0.2)
            training.signal(signal.SIGTERM)
            training.wait()
            assert training.code in (0, INTERRUPTED, -signal.SIGTERM)
        return
    if not training.wait(reached):
        assert training.code == 0
        return
    if fault == "kill":
        training.signal(signal.SIGKILL)
    elif fault == "terminate":
        training.signal(signal.SIGTERM)
        training.wait()
        assert training.code in (0, INTERRUPTED, -signal.SIGTERM)
    elif fault == "interrupt":
        training.signal(signal.SIGINT)
        training.wait()
        assert training.code in (0, 1, INTERRUPTED, -signal.SIGINT)
    elif fault == "stop and continue":
        training.signal(signal.SIGSTOP)
        time.sleep(0.3)
        training.signal(signal.SIGCONT)
        training.wait()
        assert training.code == 0
    elif fault == "stop and kill":
        training.signal(signal.SIGSTOP)
        time.sleep(0.1)
        training.signal(signal.SIGKILL)
    elif fault == "full":
        fill(disk, int(rng.choice([0, 4096, 50_000, 500_000])))
        if rng.random() < 0.5:
            later = len(training.noted()) + int(rng.integers(1, 12))
            training.wait(lambda: len(training.noted()) >= later)
            (disk / "filler").unlink(missing_ok=True)
        training.wait()
        (disk / "filler").unlink(missing_ok=True)
        assert training.code in (0, 1, 2)
    elif fault == "second process":
        second = Training(training.trainings, "", [], training.folder, training.scratch / "second")
        second.arguments = training.arguments
        training.signal(signal.SIGSTOP)  # so that it is at work as long as the second one tries
        second.start()
        second.wait()
        training.signal(signal.SIGCONT)
        printed = second.log.read_text()
        assert second.code == 2 and "is being written by another process" in printed, printed[-2000:]
        assert f"process {training.pid} on " in printed and not second.noted()
        training.wait()
        assert training.code == 0
    training.wait()


def fill(disk, left):
    """Leave so many bytes of the disk free."""
    with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as file:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - left
        while free > 0:
            free -= file.write(bytes(min(free, 2**20)))


def survive(trainings, recipe, flags, fault, rng, disk, scratch):
    """One case."""
    expected = reference(trainings, recipe, flags)
    if expected is None:
        return False
    training = Training(trainings, recipe, flags, disk / "run", scratch)
    inject(training, fault, rng, disk)
    assert training.alone(), "processes of the training outlive it"
    if training.code != 0:
        kept, before = training.checkpoint(), len(training.noted())
        training.start(pause=0)
        training.wait()
        assert training.code == 0, f"it does not go on: {training.code}"
        assert training.alone(), "processes of the training outlive it"
        after = training.noted()[before:]
        assert not after or after[0] == kept, f"it went on from step {after[0]}, not {kept}"
    printed = training.log.read_text()
    assert "Traceback" not in printed, "a traceback"
    assert set(training.noted()) == expected[2], "a step was left out"
    state, log = stored(training.folder)[0], timeless(history(training.folder))
    assert state == expected[0], "other parameters"
    if fault not in ("call", "bytes", "full"):  # what a disk does not take at the end of its process is lost
        assert log == expected[1], "another log"
    leftover = [path.name for path in training.folder.rglob("partial-*")]
    assert not leftover or fault in ("kill", "stop and kill", "call", "bytes"), leftover
    return True


def test_chaos(budget, trainings, candidates, mounted, tmp_path):
    faults = FAULTS
    try:
        disk = mounted(192)
    except pytest.skip.Exception:  # only root may mount a disk that can be filled
        disk, faults = tmp_path / "folder", tuple(fault for fault in FAULTS if fault != "full")
        disk.mkdir()
    names, survived = list(candidates), {}
    for number, rng in budget:
        recipe, fault = names[rng.integers(len(names))], faults[rng.integers(len(faults))]
        scratch = tmp_path / f"case{number}"
        try:
            if survive(trainings, recipe, candidates[recipe], fault, rng, disk, scratch):
                survived[fault] = survived.get(fault, 0) + 1
        except AssertionError as error:
            printed = "".join(path.read_text() for path in sorted(scratch.rglob("log")))
            budget.failed(f"{recipe}, {fault}: {error}\n{printed[-4000:]}", f"{recipe} {fault}\n{printed}".encode())
        finally:
            for path in disk.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        print(f"{number} {shlex.quote(fault)} {recipe}", flush=True)
    print(f"survived {sum(survived.values())}: {survived}")
    assert sum(survived.values()) or budget.done < 3
