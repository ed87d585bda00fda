"""Solution: a task of any domain whose parameters are computed in closed form; stopped, gone on with, refused."""

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import suite
from suite.contracts.batch import Batch
from suite.errors import InputError, Interrupted
from suite.experiment.sections import Train, replace
from tests import toy

STOPS: list[str] = []
"""Where the process is asked to stop: before or after a solution."""


def features(model, digits, mask):
    counts = (jax.nn.one_hot(digits, 4) * mask[..., None]).sum(1)
    return np.pad(np.asarray(jnp.sin(model.hidden(counts)), np.float64), ((0, 0), (0, 1)), constant_values=1)


def ridge(x, labels):
    return np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ np.eye(2)[labels])


@dataclass(frozen=True, kw_only=True)
class Ridge(toy.Parity):
    """The head by least squares, on what the fresh hidden layer makes of each row."""

    @property
    def solved(self) -> tuple[str, ...]:
        return ("train",)

    def solve(self, model: Any, batches: Callable[[], Iterator[Batch]]) -> Mapping[str, Any]:
        if STOPS == ["before"]:
            os.kill(os.getpid(), signal.SIGTERM)
        parts = [
            (features(model, batch["digits"], batch["digits_mask"])[batch["mask"]], batch["label"][batch["mask"]])
            for batch in batches()
        ]
        weights = ridge(*map(np.concatenate, zip(*parts, strict=True)))
        if STOPS == ["after"]:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"head/kernel": weights[:-1], "head/bias": weights[-1]}


@dataclass(frozen=True, kw_only=True)
class Wrong(Ridge):
    """Names a parameter that the model has not."""

    def solve(self, model: Any, batches: Callable[[], Iterator[Batch]]) -> Mapping[str, Any]:
        return {"heads/kernel": np.zeros((16, 2))}


def experiment(task=Ridge(), **train):
    defaults = {"batch_size": 32, "loggers": (), "best": "accuracy"}
    return dataclasses.replace(toy.experiment(), name="toy.ridge", task=task, train=Train(**{**defaults, **train}))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return suite.train(experiment(), tmp_path_factory.mktemp("ridge") / "run")


def test_the_parameters_are_those_of_the_closed_form_over_the_whole_split(run):
    source = run.experiment.task.source("train")
    batch = source[np.arange(len(source))]
    digits = np.array([np.pad(row, (0, 12 - len(row))) for row in batch["digits"]])
    mask = np.arange(12) < np.array([[len(row)] for row in batch["digits"]])
    weights = ridge(features(run.model, digits, mask), batch["label"])
    np.testing.assert_allclose(run.variables[0]["head"]["kernel"], weights[:-1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(run.variables[0]["head"]["bias"], weights[-1], rtol=1e-3, atol=1e-4)
    assert run.history["step"] == [1] and run.metrics["train/steps"] == 1
    assert run.metrics["validation/accuracy"] == pytest.approx(
        run.evaluate("validation").metrics["validation/accuracy"]
    )


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_solution_that_is_stopped_begins_anew(run, tmp_path, where):
    STOPS.append(where)
    try:
        with pytest.raises(Interrupted, match="go on with: suite train --resume"):
            suite.train(experiment(), tmp_path / "run")
    finally:
        STOPS.clear()
    resumed = suite.resume(tmp_path / "run", allow=("tests",))
    for name, parameter in resumed.variables[0]["head"].items():
        np.testing.assert_array_equal(parameter, run.variables[0]["head"][name])
    assert {**resumed.history, "step": [1]} == run.history
    assert resumed.metrics["validation/accuracy"] == run.metrics["validation/accuracy"]


def test_fields_of_steps_that_have_no_effect_are_told(tmp_path, capsys):
    suite.train(experiment(epochs=7.0), tmp_path / "run")
    told = capsys.readouterr().err
    assert "optim.learning_rate" in told and "train.epochs have no effect" in told


@pytest.mark.parametrize(
    "changes, fix",
    [
        ({"train.ema": 0.9}, "--train.ema 0"),
        ({"finetune.kind": "lora"}, "--finetune.kind full"),
        ({"optim.sparsity.share": 0.5}, "--optim.sparsity.share 0"),
    ],
)
def test_what_only_steps_can_do_is_refused(tmp_path, changes, fix):
    with pytest.raises(InputError, match="solved in closed form") as refused:
        suite.train(replace(experiment(), changes), tmp_path / "run")
    assert refused.value.fix == fix and not (tmp_path / "run").exists()


def test_a_step_that_is_not_taken_has_no_plan():
    with pytest.raises(InputError, match="no training step"):
        suite.plan(experiment())


def test_a_solution_of_another_model_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"Wrong\.solve sets heads/kernel"):
        suite.train(experiment(Wrong()), tmp_path / "run")
