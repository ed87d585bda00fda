"""Callbacks of an experiment: what they are told, in which order, that they are stored, and how an error reads."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import suite
from suite.contracts.callback import Callback, Ended, Evaluated, Logged, Saved, Started
from suite.errors import InputError, Interrupted, RunError
from suite.experiment.sections import replace
from suite.experiment.serialization import from_json, to_json
from tests import toy

TOLD: list[tuple[str, Any]] = []


@dataclass(frozen=True)
class Notes(Callback):
    """Notes what it is told."""

    fail: str = ""
    """Method that fails."""

    def _note(self, name: str, event: Any) -> None:
        TOLD.append((name, event))
        if name == self.fail:
            raise KeyError("gone")

    def on_start(self, event: Started) -> None:
        self._note("on_start", event)

    def on_log(self, event: Logged) -> None:
        self._note("on_log", event)

    def on_evaluation(self, event: Evaluated) -> None:
        self._note("on_evaluation", event)

    def on_checkpoint(self, event: Saved) -> None:
        assert (event.folder / "checksums.json").exists(), "a complete one"
        self._note("on_checkpoint", event)

    def on_end(self, event: Ended) -> None:
        self._note("on_end", event)


@dataclass
class Counter(Callback):
    """Keeps a count of its own, which is none of its fields."""

    def on_start(self, event: Started) -> None:
        self.count = 0

    def on_log(self, event: Logged) -> None:
        self.count += 1


class Bare(Callback):
    """No dataclass, so it cannot be stored."""


@pytest.fixture(autouse=True)
def nothing_told():
    TOLD.clear()


def noted(**notes):
    return replace(toy.experiment(steps=20, log_every=10), {"callbacks": (Notes(**notes), Counter())})


def test_what_a_callback_is_told(tmp_path):
    made = noted()
    run = suite.train(made, tmp_path / "run")
    assert [(name, event.step) for name, event in TOLD] == [
        ("on_start", 0),
        ("on_log", 10),
        ("on_evaluation", 10),
        ("on_log", 20),
        ("on_checkpoint", 10),  # complete when the next one begins
        ("on_evaluation", 20),
        ("on_checkpoint", 20),
        ("on_end", 20),
    ]
    told = dict(TOLD)
    assert isinstance(told["on_start"].folder, Path) and told["on_start"].steps == 20
    assert told["on_log"].metrics.keys() >= {"train/loss", "train/learning_rate"}
    assert told["on_evaluation"].metrics.keys() >= {"validation/loss", "validation/accuracy"}
    best = {event.step: event.best for name, event in TOLD if name == "on_evaluation"}
    assert best[10] and (run.metrics["train/best_step"] == 20) == best[20]
    assert told["on_end"].outcome == "finished" and told["on_end"].metrics.items() >= run.metrics.items()
    assert made.callbacks[1].count == 2


def test_callbacks_are_stored_with_the_experiment_and_go_on_with_it(tmp_path):
    made = noted()
    assert from_json(json.loads(json.dumps(to_json(made))), ("tests",)) == made
    suite.train(made, tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "experiment.json").read_text())
    stored["train"]["steps"] = 22
    (tmp_path / "run" / "experiment.json").write_text(json.dumps(stored))
    TOLD.clear()
    suite.resume(tmp_path / "run", ("tests",))
    assert (TOLD[0][0], TOLD[0][1].step, TOLD[-1][0]) == ("on_start", 20, "on_end")
    with pytest.raises(InputError, match="not one of the suite's"):
        suite.open(tmp_path / "run")  # its package is not allowed


@pytest.mark.parametrize(("method", "step"), [("on_start", 0), ("on_log", 10), ("on_checkpoint", 10), ("on_end", 20)])
def test_an_error_names_the_callback(method, step, tmp_path):
    with pytest.raises(RunError) as error:
        suite.train(noted(fail=method), tmp_path / "run")
    assert str(error.value).startswith(
        f"the callback tests.training.test_callbacks.Notes.{method} failed at step {step}: KeyError: 'gone'\n"
        f"  found: {__file__}:"
    )
    assert 'raise KeyError("gone")' in str(error.value)
    assert TOLD[-1][0] == "on_end" and TOLD[-1][1].outcome == ("finished" if method == "on_end" else "failed")


def test_a_run_that_is_left_is_interrupted(tmp_path):
    def leave(step, metrics):
        raise Interrupted(tmp_path, step, step)

    with pytest.raises(Interrupted):
        suite.train(noted(), tmp_path / "run", on_evaluation=leave)
    assert (TOLD[-1][0], TOLD[-1][1].outcome) == ("on_end", "interrupted")


@pytest.mark.parametrize("callback", [Bare(), Notes, print])
def test_what_cannot_be_stored_is_refused(callback, tmp_path):
    with pytest.raises(InputError, match=r"field callbacks: \w+ is not an object of a dataclass derived from"):
        suite.train(replace(toy.experiment(steps=2), {"callbacks": (callback,)}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_methods_and_events_have_the_same_names():
    methods = {name for name in vars(Callback) if name.startswith("on_")}
    assert methods == {"on_start", "on_log", "on_evaluation", "on_checkpoint", "on_end"}
    assert all(dataclasses.is_dataclass(event) for event in (Started, Logged, Evaluated, Saved, Ended))
