"""Fifty interruptions of every kind over all families: no example lost or repeated, the same parameters to the bit."""

import contextlib
import signal
import sys
import time

import numpy as np
import pytest

import suite
from suite.cli.app import INTERRUPTED
from suite.training import integrity
from suite.training.checkpoint import Checkpoints
from tests import forked
from tests.conftest import ROOT
from tests.families import FAMILIES, need_data
from tests.training.test_interruption import stored
from tests.training.test_resume import executions, kill

KINDS = ("kill", "terminate", "truncate", "flip", "full")
STEPS = 300


class Trainer:
    """The training of a family as processes that follow one another, and what the test knows of them."""

    def __init__(self, family, folder, scratch):
        self.family, self.folder = family, folder
        self.ids, self.printed = scratch / "ids", scratch / "printed"

    def start(self, pause=0.01):
        command = [
            sys.executable,
            "-m",
            "tests.training.kill_child",
            self.family,
            str(self.folder),
            str(self.ids),
            str(pause),
        ]
        with open(self.printed, "a") as out:
            self.process = forked.process(command, cwd=ROOT, stdout=out, stderr=out, start_new_session=True)
        self.before = self.steps()

    def steps(self):
        return self.ids.read_bytes().count(b"\n") if self.ids.exists() else 0

    def wait(self, condition):
        deadline = time.monotonic() + 240
        while not condition():
            assert self.process.poll() is None, self.printed.read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def kill(self):
        kill(self.process)

    def sealed(self):
        """Complete checkpoints with checksums, the oldest first."""
        folders = (path for path in (self.folder / "checkpoints").glob("*") if path.name.isdecimal())
        return sorted((path for path in folders if integrity.is_sealed(path)), key=lambda path: int(path.name))


def interrupt(trainer, kind, steps, rng):
    """One interruption after ``steps`` more steps; False where the moment did not allow it: then it was a kill."""
    trainer.start()
    trainer.wait(lambda: trainer.steps() >= trainer.before + steps)
    if kind == "terminate":
        trainer.process.send_signal(signal.SIGTERM)
        assert trainer.process.wait(timeout=120) == INTERRUPTED
    elif kind == "full":
        filler, failed = trainer.folder.parent / "filler", trainer.printed.read_text().count("not written")
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while file.write(bytes(2**16)):
                pass
        trainer.wait(lambda: trainer.printed.read_text().count("not written") > failed)
        trainer.kill()
        filler.unlink()
    else:
        trainer.wait(lambda: len(trainer.sealed()) > 1)
        trainer.kill()
    return damage(trainer, kind, rng) if kind in ("truncate", "flip") else True


def damage(trainer, kind, rng):
    """The newest checkpoint loses the end of a file, or one bit of a byte."""
    sealed, newest = (
        trainer.sealed(),
        max(int(path.name) for path in (trainer.folder / "checkpoints").glob("[0-9]*") if path.name.isdecimal()),
    )
    if len(sealed) < 2 or int(sealed[-1].name) != newest:
        return False  # it has no checksums yet
    files = [
        path
        for path in sorted(sealed[-1].rglob("*"))
        if path.is_file() and path.stat().st_size > 1 and path.name != integrity.MANIFEST
    ]
    file = files[int(rng.integers(len(files)))]
    content, place = bytearray(file.read_bytes()), int(rng.integers(file.stat().st_size))
    if kind == "truncate":
        del content[place:]
    else:
        content[place] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_ten_interruptions(family, mounted, tmp_path):
    need_data(family)
    rng = np.random.default_rng(FAMILIES.index(family))
    alone = Trainer(family, tmp_path / "alone", tmp_path)
    alone.start(pause=0)
    assert alone.process.wait(timeout=300) == 0, alone.printed.read_text()[-3000:]
    expected = {step: rows[-1] for step, rows in executions(alone.ids).items()}

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    trainer = Trainer(family, mounted(96) / "run", scratch)
    left = [str(kind) for kind in rng.permutation([kind for kind in KINDS for _ in range(2)])]
    done: list[str] = []
    while left:
        kind = left.pop(0)
        if interrupt(trainer, kind, int(rng.integers(3, 25)), rng):
            done.append(kind)
        else:
            left.append(kind)
        with Checkpoints(trainer.folder / "checkpoints", writing=False) as checkpoints, contextlib.suppress(OSError):
            assert checkpoints.served is not None or not trainer.sealed()
    trainer.start(pause=0)
    assert trainer.process.wait(timeout=300) == 0, trainer.printed.read_text()[-3000:]

    seen = executions(trainer.ids)
    print(f"\n{family}: {', '.join(done)}; {sum(map(len, seen.values()))} steps run for {len(seen)}")
    assert "Traceback" not in trainer.printed.read_text()
    assert len(seen) == STEPS and len(done) == 10
    assert {step: rows[-1] for step, rows in seen.items()} == expected
    assert all(len(set(rows)) == 1 for rows in seen.values())
    assert stored(trainer.folder) == stored(alone.folder)
    assert suite.open(trainer.folder).metrics["train/steps"] == STEPS
    assert trainer.printed.read_text().count("is damaged") >= 4
