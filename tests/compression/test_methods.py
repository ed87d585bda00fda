"""suite compress --prune and --distill from a run to a run: what is made, what the verdict says, killed and gone on."""

import json
import os
import signal
import sys
import time

import jax
import numpy as np
import pytest

import suite
from suite.compression import verdict
from suite.compression.distill_trainer import INSIDE
from suite.errors import InputError, Interrupted
from suite.experiment import recipes
from suite.experiment.sections import Finetune, replace
from suite.tree import paths
from tests import forked
from tests.conftest import ROOT
from tests.families import need_data, small


def experiment(**changes):
    """Two hidden layers on the digits, which a few seconds teach to 93 % and more."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return replace(
        suite.load("vision.digits_dnn"),
        {
            "model.hidden": (64, 32),
            "train.steps": 300,
            "train.eval_every": 150,
            "train.log_every": 50,
            "train.ema": 0.9,
            "goal": None,
            **named,
        },
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = suite.train(experiment(), tmp_path_factory.mktemp("methods") / "run")
    assert made.metrics["validation/accuracy"] > 0.93
    return made


def zeros(run):
    return {name: float((np.asarray(leaf) == 0).mean()) for name, leaf in paths(run._weights[0]).items()}


# Pruning


def test_half_of_the_units(run, command, tmp_path):
    folder = tmp_path / "half"
    printed = command("compress", run.folder, "--prune", "0.5", "--run-dir", folder, "--max-drop", "0.1").splitlines()
    assert printed[0] == f"pruned 0.5 structured of {run.folder}" and printed[-1] == str(folder)
    made = suite.open(folder)
    assert made.experiment.model.hidden == (32, 16)
    assert {name: leaf.shape for name, leaf in paths(made._weights[0]).items()} == {
        "layers/0/kernel": (64, 32),
        "layers/0/bias": (32,),
        "layers/1/kernel": (32, 16),
        "layers/1/bias": (16,),
        "layers/2/kernel": (16, 10),
        "layers/2/bias": (10,),
    }
    found = verdict.read(folder)
    before, after = 64 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10, 64 * 32 + 32 + 32 * 16 + 16 + 16 * 10 + 10
    assert (found["parameters"]["before"], found["parameters"]["after"]) == (before, after)
    assert found["size"]["after_bytes"] == 4 * after and found["met"]
    assert found["drop"]["value"] < 0.1
    # A run like any other: it evaluates, predicts, keeps its history and what made it, and is trained on.
    assert made.evaluate("validation").metrics["validation/accuracy"] == pytest.approx(found["after"]["value"])
    images = run.experiment.task.source("test")[np.arange(4)]["image"]
    assert len(made.predict(images)) == 4
    assert made.experiment.compression.prune.share == 0.5
    assert {"train/labels", "train/logits"} <= made.history.keys()
    assert not (folder / INSIDE).exists()
    assert suite.resume(folder).metrics["validation/accuracy"] > 0.9


@pytest.mark.parametrize(
    "pattern, criterion", [("2:4", "magnitude"), pytest.param("unstructured", "movement", marks=pytest.mark.slow)]
)
def test_half_of_the_weights(run, pattern, criterion, command, tmp_path):
    folder = tmp_path / "half"
    command(
        "compress",
        run.folder,
        "--prune",
        "0.5",
        "--pattern",
        pattern,
        "--criterion",
        criterion,
        "--run-dir",
        folder,
        "--max-drop",
        "0.1",
        "--train.steps",
        "100",
    )
    made = suite.open(folder)
    shares = zeros(made)
    # A weight of a unit that never acts has no gradient: one that movement lets come back stays at zero.
    near = 0 if criterion == "magnitude" else 0.005
    assert all(0.5 <= shares[f"layers/{i}/kernel"] <= 0.5 + near for i in (0, 1))
    assert shares["layers/2/kernel"] == shares["layers/0/bias"] == 0
    if pattern == "2:4":
        kernel = np.asarray(made._weights[0]["layers"][0]["kernel"])
        assert ((kernel.reshape(16, 4, 64) != 0).sum(1) == 2).all()
    found = verdict.read(folder)
    assert found["parameters"]["zeros"] == pytest.approx((64 * 64 + 64 * 32) // 2, rel=2 * near)
    assert found["parameters"]["before"] == found["parameters"]["after"]
    assert (made.experiment.optim.sparsity.begin, made.experiment.optim.sparsity.end) == (0, 0)
    told = json.loads((folder / "result.json").read_text())["trained"]["metrics"]
    assert told["train/steps"] == 100 and told["train/best_step"] >= 70, "the best is one of those that have all zeros"
    # Whoever trains it on keeps its zeros.
    on = suite.train(
        replace(made.experiment, {"checkpoint.init_from": str(folder), "train.steps": 20, "optim.warmup_steps": 2}),
        tmp_path / "on",
    )
    for before, after in zip(*(jax.tree.leaves(each._weights[0]) for each in (made, on)), strict=True):
        if before.ndim == 2 and before.shape[1] > 10:
            np.testing.assert_array_equal(np.asarray(before) == 0, np.asarray(after) == 0)


def test_low_rank_additions_are_folded_in(run, tmp_path):
    """What has been fine-tuned is pruned as a model without additions; and here without a teacher."""
    tuned = experiment(
        checkpoint__init_from=str(run.folder),
        finetune=Finetune(kind="lora", targets=("layers/0",), trained=("layers/2",)),
        train__steps=40,
    )
    tuned_run = suite.train(tuned, tmp_path / "tuned")
    method = suite.Prune(0.5)
    plain = replace(method.start(tuned_run), {"compression.distill.logits": 0.0, "train.steps": 60})
    made = suite.compress(tuned_run, method, tmp_path / "made", experiment=plain)
    assert "train/logits" not in made.history and made.experiment.model.hidden == (32, 16)
    assert not any("addition" in name for name in paths(made._weights[0]))
    assert made.experiment.finetune == Finetune() and made.metrics["validation/accuracy"] > 0.85


SHORT = {"train__steps": 6, "train__eval_every": 6, "train__log_every": 3, "goal": None}


@pytest.mark.slow
@pytest.mark.parametrize(
    "family, field, expected",
    [
        ("deepfm", "hidden", (16, 8)),
        ("transformer", "feed_forward", 32),
        ("resnet", "inner", (4, 8)),
        ("audio", "feed_forward", 32),
    ],
)
def test_each_family(family, field, expected, tmp_path):
    need_data(family)
    whole = suite.train(small(family, **SHORT), tmp_path / "whole")
    made = suite.compress(whole, suite.Prune(0.5), tmp_path / "made")
    assert getattr(made.experiment.model, field) == expected
    assert np.isfinite(list(made.metrics.values())).all()


def test_what_pruning_refuses(run, refused, tmp_path):
    folder, begin = run.folder, "suite compress: "
    again = f"  try:   suite compress {folder}"
    assert refused("compress", folder, "--prune", "half") == (
        begin + f'flag --prune: "half" is not a number.\n{again} --prune 0.5\n'
    )
    assert refused("compress", folder, "--prune", "1.5") == (
        begin + f"flag --prune: must be above 0 and below 1.\n  found: 1.5\n{again} --prune 0.5\n"
    )
    assert refused("compress", folder, "--prune", "0.5", "--pattern", "1:4") == (
        begin + f"flag --prune: is 0.5, but 1:4 takes out another share.\n{again} --prune 0.75 --pattern 1:4\n"
    )
    assert refused("compress", folder, "--prune", "0.5", "--criterion", "movement") == (
        begin + f'flag --criterion: "movement" does not decide about units.\n{again} --prune 0.5 --criterion taylor\n'
    )
    assert refused("compress", folder, "--prune", "0.5", "--pattern", "2:4", "--units", "hidden") == (
        begin + "flag --units: names units, but the pattern 2:4 is of single weights.\n"
        f"{again} --prune 0.5 --units hidden --pattern structured\n"
    )
    assert refused("compress", folder, "--prune", "0.5", "--units", "heads", "--run-dir", tmp_path / "made") == (
        begin + 'field compression.prune.units: "heads" is no kind of units of this model.\n  found: hidden\n'
        f"{again} --prune 0.5 --run-dir {tmp_path / 'made'} --units hidden\n"
    )
    assert not (tmp_path / "made").exists()


# Distillation


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A recipe of one's own, a sixth of the run's size."""
    file = tmp_path_factory.mktemp("recipe") / "student.py"
    file.write_text("""
from suite.configs.vision.digits_dnn import experiment as made
from suite.experiment.sections import replace
def experiment():
    return replace(made(), {"name": "mine.student", "model.hidden": (12,), "train.steps": 200, "train.eval_every": 100,
                            "train.ema": 0.9, "model.dropout": 0.0})
""")
    return file


def test_a_student_of_another_size(run, student, command, tmp_path):
    folder = tmp_path / "student"
    flags = ("--distill.temperature", "4", "--distill.hidden", "layers/0", "layers/0")
    printed = command(
        "compress", run.folder, "--distill", student, "--baseline", "--run-dir", folder, *flags
    ).splitlines()
    assert printed[0] == f"distilled mine.student of {run.folder}"
    assert printed[3].startswith("  from labels alone") and "the teacher adds" in printed[3]
    made = suite.open(folder)
    assert made.experiment.name == "mine.student" and made.experiment.model.hidden == (12,)
    assert made.experiment.compression.distill.temperature == 4
    assert set(paths(made._weights[0])) == {f"layers/{i}/{part}" for i in (0, 1) for part in ("kernel", "bias")}
    assert not paths(made._weights[1]) and not (folder / INSIDE).exists()
    assert {"train/labels", "train/logits", "train/hidden"} <= made.history.keys()
    for name in ("labels", "statistics"):
        files = [next(each.glob(f"assets/{name}.*")) for each in (run.folder, folder)]
        assert files[0].read_bytes() == files[1].read_bytes()
    found = verdict.read(folder)
    assert found["parameters"]["after"] == 64 * 12 + 12 + 12 * 10 + 10 < found["parameters"]["before"] / 6
    alone = suite.open(folder / "alone")
    assert alone.history["step"] == made.history["step"]  # of as many steps
    both = [each.scores("validation") for each in (made, alone)]
    margin = both[0].minus(both[1], "accuracy")
    assert found["baseline"]["margin"] == {"value": margin.value, "low": margin.low, "high": margin.high}
    assert found["baseline"]["value"] == pytest.approx(both[1].values()["accuracy"])
    assert made.evaluate("validation").metrics["validation/accuracy"] == pytest.approx(found["after"]["value"])


def test_a_recipe_for_own_data_takes_the_task_of_the_run(tmp_path):
    """Here a classifier of texts, whose own recipe names no file."""
    whole = suite.train(small("transformer", **SHORT), tmp_path / "whole")
    sizes = {
        "model.layers": 1,
        "model.width": 16,
        "model.heads": 2,
        "model.feed_forward": 16,
        "train.batch_size": 16,
        "pipeline.buckets": (32,),
        "train.steps": 6,
        "train.eval_every": 6,
    }
    recipe = replace(recipes.load("text.encoder", smoke=True), sizes)
    made = suite.compress(whole, suite.Distill(recipe), tmp_path / "student")
    assert made.experiment.name == "text.encoder"
    assert made.experiment.task.data == whole.experiment.task.data
    assert made.experiment.model.vocab_size == whole.experiment.model.vocab_size


@pytest.mark.slow
def test_distillation_by_rows(tmp_path):
    """A student with row-sparse tables beside its teacher."""
    need_data("deepfm")
    whole = suite.train(small("deepfm", **SHORT), tmp_path / "whole")
    recipe = small("deepfm", **SHORT, model__hidden=(8,), model__width=4)
    made = suite.compress(whole, suite.Distill(recipe), tmp_path / "made")
    assert made.experiment.model.hidden == (8,) and np.isfinite(made.metrics["validation/loss"])


# Stopped and gone on


def test_an_interruption_says_what_goes_on(run, tmp_path, monkeypatch):
    """SIGTERM to this very process, in the middle of training."""
    from suite.training import trainer

    plain = trainer.Encoder.__call__

    def stopping(self, item):
        if self.augment and item[0] >= 50:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, item)

    monkeypatch.setattr(trainer.Encoder, "__call__", stopping)
    folder = tmp_path / "made"
    with pytest.raises(Interrupted) as stopped:
        suite.compress(run, suite.Prune(0.5), folder)
    assert str(stopped.value).endswith(f"; go on with: the same command with --run-dir {folder} --continue")
    assert (folder / INSIDE / "experiment.json").exists() and not (folder / "experiment.json").exists()
    monkeypatch.undo()

    def refused_with_other_flags():
        with pytest.raises(InputError) as error:
            suite.compress(run, suite.Prune(0.25), folder, resume=True)
        assert str(error.value).splitlines() == [
            f'--run-dir "{folder}": holds another compression, or the beginning of one.',
            "  try:   the flags that it was begun with, or another --run-dir",
        ]

    refused_with_other_flags()
    made = suite.compress(run, suite.Prune(0.5), folder, resume=True)
    refused_with_other_flags()
    alone = suite.compress(run, suite.Prune(0.5), tmp_path / "alone")
    for one, two in zip(*(jax.tree.leaves(each._weights) for each in (made, alone)), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_killed_it_ends_as_if_left_alone(run, tmp_path):
    """By SIGKILL while it trains, whenever a checkpoint has come."""
    command = [
        sys.executable,
        "-m",
        "suite",
        "compress",
        str(run.folder),
        "--prune",
        "0.5",
        "--pattern",
        "2:4",
        "--train.steps",
        "4000",
        "--checkpoint.every",
        "100",
        "--train.eval_every",
        "2000",
    ]
    folder = tmp_path / "killed"
    with (tmp_path / "log").open("w") as log:
        process = forked.process([*command, "--run-dir", str(folder)], cwd=ROOT, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        steps = lambda: [int(path.name) for path in folder.glob(f"{INSIDE}/checkpoints/*") if path.name.isdecimal()]
        while not any(steps()):
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (folder / "compression.json").exists()
    for arguments in (["--run-dir", str(folder), "--continue"], ["--run-dir", str(tmp_path / "alone")]):
        done = forked.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    weights = [jax.tree.leaves(suite.open(each)._weights) for each in (folder, tmp_path / "alone")]
    for one, two in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, two)
    found = [json.loads((each / "compression.json").read_text()) for each in (folder, tmp_path / "alone")]
    assert found[0]["after"] == found[1]["after"] and found[0]["parameters"] == found[1]["parameters"]
