"""The trainer, on a task of no domain: what a step computes, what is kept, what is served, when it stops."""

import dataclasses
import json
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import suite
from suite.data.pipeline.dispatches import Encoder, dispatches, make_plan, to_device
from suite.errors import InputError, RunError
from suite.experiment import recipes
from suite.experiment.sections import Optim, replace
from suite.runtime.compilation import enable_cache
from suite.training.assemble import assemble
from suite.training.checkpoint import Checkpoints
from suite.training.evaluator import best_metrics
from suite.training.preprocessors import prepare
from suite.training.state import to_stored
from suite.tree import paths
from tests import toy
from tests.conftest import simulated


def program_of(experiment, steps=20):
    """The program of an experiment and a function giving its dispatches on the device."""
    enable_cache()  # this program is the same in several tests
    task = experiment.task
    source = task.source("train")
    plan = make_plan(
        task, source, experiment.train.batch_size, seed=experiment.train.seed, buckets=experiment.pipeline.buckets
    )
    encoder = Encoder(task, source, plan, augment=True)
    batches = lambda: to_device(dispatches(encoder, 0, steps, experiment.train.steps_per_dispatch), jax.device_put)
    return assemble(experiment, steps), batches


def trained(experiment, steps=20):
    """The state after ``steps`` steps."""
    program, batches = program_of(experiment, steps)
    state = program.init()
    for _, batch in batches():
        state, _ = program.step(state, batch)
    assert int(state.step) == steps
    return state


def changed(**changes):
    return replace(toy.experiment(), {name.replace("__", "."): value for name, value in changes.items()})


def largest_difference(one, other):
    one, other = paths(one), paths(other)
    assert one.keys() == other.keys()
    return max(float(jnp.abs(one[name] - other[name]).max()) for name in one)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return suite.train(toy.experiment(), tmp_path_factory.mktemp("toy") / "run")


def test_accumulation_changes_nothing():
    """An epoch and a step, so that its short last batch is among them, of which some micro-batches are empty."""
    one, four = (trained(changed(gradient__accumulate=n, model__dropout=0.0), 14) for n in (1, 4))
    assert largest_difference(one.params, four.params) < 1e-6


def test_dropout_differs_between_micro_batches():
    one, four = (trained(changed(gradient__accumulate=n, model__dropout=0.5), 5) for n in (1, 4))
    assert largest_difference(one.params, four.params) > 1e-5


def test_steps_per_dispatch_change_nothing():
    """Of 17 steps five at a time, the last dispatch has two."""
    one, many = (trained(changed(train__steps_per_dispatch=n), 17) for n in (1, 5))
    assert largest_difference(one.params, many.params) < 1e-6
    assert largest_difference(one.ema, many.ema) < 1e-6


def test_the_state_is_donated_and_each_shape_compiles_once():
    program, batches = program_of(toy.experiment(), 26)
    state = program.init()
    for item, batch in batches():
        before = state
        state, _ = program.step(state, batch)
        if item.first:
            assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))
    assert program.step._cache_size() == len(toy.experiment().pipeline.buckets)


@pytest.mark.parametrize(
    "fields",
    [{}, {"gradient__accumulate": 2, "train__on_nan": "skip"}, {"optim__frozen": ("hidden",), "train__ema": 0.0}],
)
def test_a_step_in_halves_is_the_same_and_the_second_compiles_once(fields):
    experiment = changed(**fields)
    program, batches = program_of(experiment, 26)
    whole, halved = program.init(), program.init()
    for _, batch in batches():
        before = halved
        whole, expected = program.step(whole, batch)
        halved, tallies = program.halves(halved, batch)
        assert tallies.keys() == expected.keys()
        assert float(tallies["loss"].total) == pytest.approx(float(expected["loss"].total), rel=1e-4)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))
    assert largest_difference(whole.params, halved.params) < 1e-5
    assert program.halves.differentiate._cache_size() == len(experiment.pipeline.buckets) > 1
    assert program.halves.apply._cache_size() == 1


def test_dropout_is_a_function_of_seed_and_step():
    program, batches = program_of(changed(model__dropout=0.5))
    other, _ = program_of(changed(model__dropout=0.5, train__seed=1))
    _, batch = next(batches())

    def loss(program, step):
        """Of the parameters of seed 0; only dropout knows the step and the seed."""
        state = dataclasses.replace(program_of(changed(model__dropout=0.5))[0].init(), step=jnp.int32(step))
        return float(program.step(state, batch)[1]["loss"].total)

    assert loss(program, 3) == loss(program, 3)
    assert loss(program, 3) != loss(program, 4)
    assert loss(program, 3) != loss(other, 3)


def test_no_dropout_where_the_model_has_none():
    program, batches = program_of(changed(model__dropout=0.0))
    _, batch = next(batches())
    states = [dataclasses.replace(program.init(), step=jnp.int32(step)) for step in (0, 9)]
    losses = [float(program.step(state, batch)[1]["loss"].total) for state in states]
    assert losses[0] == losses[1]


def test_frozen_parameters_stay():
    experiment = changed(optim__frozen=("hidden",))
    before = jax.device_get(program_of(experiment)[0].init().params)
    after = trained(experiment).params
    assert largest_difference({"hidden": before["hidden"]}, {"hidden": after["hidden"]}) == 0
    assert largest_difference({"head": before["head"]}, {"head": after["head"]}) > 1e-3


def test_the_loss_falls(tmp_path):
    """The digits' parity is cos(pi n): learnable, though not by a linear model."""
    learnt = suite.train(
        changed(
            train__steps=400,
            train__eval_every=100,
            train__best="-loss",
            model__dropout=0.0,
            model__width=64,
            optim__learning_rate=0.05,
        ),
        tmp_path / "run",
    )
    losses = [value for value in learnt.history["train/loss"] if value is not None]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_two_runs_in_one_process_are_equal(run, tmp_path):
    again = suite.train(toy.experiment(), tmp_path / "run")
    timeless = lambda metrics: {name: value for name, value in metrics.items() if "second" not in name}
    assert timeless(again.metrics) == timeless(run.metrics)
    assert largest_difference(again._weights[0], run._weights[0]) == 0
    other = suite.train(toy.experiment(seed=1), tmp_path / "other")
    assert largest_difference(other._weights[0], run._weights[0]) > 1e-3


def test_result_json(run):
    result = json.loads((run.folder / "result.json").read_text())
    assert list(result) == [
        "verb",
        "experiment",
        "metrics",
        "seconds",
        "examples_per_second",
        "devices",
        "revision",
        "versions",
        "trained",
    ]
    assert result["trained"] == {name: result[name] for name in result["trained"]}
    assert result["trained"].keys() == {"metrics", "seconds", "examples_per_second", "devices", "revision"}
    assert result["devices"] == f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    assert (result["verb"], result["experiment"]) == ("train", "toy.parity")
    assert {"validation/accuracy", "validation/loss"} <= result["metrics"].keys()
    assert all(isinstance(value, int | float) for value in result["metrics"].values())
    assert result["seconds"] > 0 and result["examples_per_second"] > 0
    assert result["versions"]["jax"] == jax.__version__


def test_history_has_equal_columns(run):
    lengths = {name: len(column) for name, column in run.history.items()}
    assert len(set(lengths.values())) == 1
    steps = [s for s, value in zip(run.history["step"], run.history["train/loss"], strict=True) if value is not None]
    assert steps == list(range(5, 41, 5))


def test_the_best_checkpoint_is_served_with_averaged_parameters(tmp_path):
    folder = tmp_path / "run"
    made = suite.train(changed(train__steps=120, optim__learning_rate=0.1, checkpoint__keep=1), folder)
    history = made.history
    scores = {s: v for s, v in zip(history["step"], history["validation/accuracy"], strict=True) if v is not None}
    best = max(scores, key=lambda step: (scores[step], step))
    assert made.metrics["validation/accuracy"] == scores[best] == max(scores.values())
    kept = {int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdecimal()}
    assert kept == {best, 120}
    assert made.evaluate("validation").metrics["validation/accuracy"] == scores[best]
    program = assemble(made.experiment, 120)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        stored = checkpoints.restore(best, to_stored(program.abstract))
    assert largest_difference(stored["ema"], made._weights[0]) == 0
    assert largest_difference(stored["params"], stored["ema"]) > 0
    assert made.metrics["train/best_step"] == progress_of(folder).best_step == best
    assert best_metrics(folder, progress_of(folder)).items() <= made.metrics.items()


def progress_of(folder):
    with Checkpoints(folder / "checkpoints") as checkpoints:
        return checkpoints.progress(checkpoints.latest)


def test_training_stops_after_patience_without_a_better_score(tmp_path, capsys):
    made = suite.train(changed(train__steps=500, train__patience=2, optim__learning_rate=0.0), tmp_path / "run")
    assert made.metrics["train/steps"] == 30  # the first evaluation is the best, two more are no better
    assert progress_of(made.folder).since_best == 2
    assert "stopped early at step 30: no better accuracy than " in capsys.readouterr().err


def test_an_unknown_best_metric_is_refused(tmp_path):
    with pytest.raises(InputError, match='"mae" is no metric of this task') as error:
        suite.train(changed(train__best="mae"), tmp_path / "run")
    assert error.value.found.startswith("accuracy, loss, ")


def test_a_refused_start_leaves_a_folder_as_it_was(tmp_path):
    """A launcher made it: what is corrected and goes on there must not find the wrong recipe."""
    folder = tmp_path / "run"
    (folder / "tensorboard").mkdir(parents=True)
    (folder / "job.log").write_text("queued")
    with pytest.raises(InputError):
        suite.train(changed(train__best="mae"), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["job.log", "tensorboard"]
    with pytest.raises(InputError):
        suite.train(changed(train__best="mae"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_refused_start_leaves_a_run_that_was_there(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder, ignore=shutil.ignore_patterns("checkpoints"))
    there = sorted(path.name for path in folder.iterdir())
    with pytest.raises(InputError):
        suite.train(changed(train__best="mae"), folder, resume=True)
    assert sorted(path.name for path in folder.iterdir() if path.name != "checkpoints") == there


class Stop(Exception):
    """Ends training from within, as a kill would."""


def test_seconds_are_those_of_all_parts_of_a_run(tmp_path):
    def slow(step, metrics):
        if step == 20:
            raise Stop

    def wait(dispatch):
        if dispatch.first == 5:
            time.sleep(0.5)

    folder, experiment = tmp_path / "run", changed(train__steps=40, train__eval_every=10)
    with pytest.raises(Stop):
        suite.train(experiment, folder, on_dispatch=wait, on_evaluation=slow)
    saved = progress_of(folder).seconds
    assert saved > 0.5
    made = suite.resume(folder, allow=("tests",))
    first = json.loads((folder / "result.json").read_text())
    assert first["seconds"] > made.metrics["train/seconds"] > saved
    assert first["trained"]["seconds"] == first["seconds"] and "train/seconds_before" not in first["metrics"]

    suite.resume(folder, allow=("tests",))  # has nothing left to do, and takes nothing from what was said
    again = json.loads((folder / "result.json").read_text())
    assert again["trained"] == first["trained"]


def test_a_run_folder_is_not_overwritten(run):
    with pytest.raises(InputError, match="already holds a run"):
        suite.train(toy.experiment(), run.folder)


def test_a_finished_run_resumes_to_the_same(run):
    before = (run.folder / "metrics.jsonl").read_text()
    again = suite.resume(run.folder, allow=("tests",))
    assert largest_difference(again._weights[0], run._weights[0]) == 0
    assert (run.folder / "metrics.jsonl").read_text() == before


def test_training_starts_from_another_run(run, tmp_path):
    """At learning rate 0 the parameters stay those of the other run's best checkpoint."""
    experiment = changed(checkpoint__init_from=str(run.folder), train__steps=5, train__seed=5, optim__learning_rate=0.0)
    started = suite.train(experiment, tmp_path / "run")
    assert largest_difference(started._weights[0], run._weights[0]) == 0
    with pytest.raises(InputError, match="was written by another model"):
        suite.train(replace(experiment, {"model.width": 8}), tmp_path / "wider")


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    with pytest.raises(RunError, match="the loss is nan at step 2"):
        suite.train(changed(optim=Optim(learning_rate=1e38), train__ema=0.0), tmp_path / "run")


SHARDED = """
import jax, suite
from suite.experiment.sections import replace
assert jax.device_count() == 8
experiment = replace(suite.load("vision.digits_dnn"), {changes})
made = suite.train(experiment, {folder!r})
kernel = made._weights[0]["layers"][0]["kernel"]
print(kernel.sharding.spec, len(kernel.sharding.device_set), kernel.addressable_shards[0].data.shape)
"""


def test_eight_devices_train_as_one(forked_child, tmp_path):
    changes = {
        "train.steps": 12,
        "train.steps_per_dispatch": 3,
        "train.log_every": 3,
        "train.eval_every": 6,
        "parallel.fsdp": 2,
        "parallel.data": -1,
        "train.ema": 0.9,
        "optim.warmup_steps": 2,
    }
    printed = forked_child(SHARDED.format(changes=changes, folder=str(tmp_path / "eight")), **simulated(8))
    assert "fsdp" in printed and printed.split()[-2:] == ["(32,", "256)"], printed
    one = suite.train(
        replace(suite.load("vision.digits_dnn"), {**changes, "parallel.fsdp": 1, "parallel.data": 1}), tmp_path / "one"
    )
    eight = suite.open(tmp_path / "eight").history
    for name in ("train/loss", "validation/loss"):
        pairs = [(a, b) for a, b in zip(one.history[name], eight[name], strict=True) if a is not None]
        assert pairs and np.ptp(pairs, axis=1).max() < 1e-5


@pytest.mark.slow
def test_the_loop_costs_at_most_five_percent_of_a_step_of_20_ms(tmp_path):
    """Ten steps of the loop, logging included, and ten of the bare compiled step on a batch that lies on the device,
    in turn within one process, as other load comes and goes."""
    experiment = replace(
        recipes.load("vision.digits_dnn"),
        {
            "train.steps": 400,
            "train.steps_per_dispatch": 1,
            "train.log_every": 10,
            "train.batch_size": 256,
            "train.eval_every": 400,
            "model.hidden": (2048, 1024, 512),
        },
    )
    bare: list[float] = []
    loop: list[float] = []
    held: dict[str, object] = {}

    def prepared():
        bound = prepare(experiment, tmp_path / "run", experiment.task.source("train"))
        source = bound.task.source("train")
        plan = make_plan(bound.task, source, 256, seed=0)
        program = assemble(bound, 400)
        _, batch = next(to_device(dispatches(Encoder(bound.task, source, plan, True), 0, 2), jax.device_put))
        held.update(program=program, batch=batch, state=program.init())

    def ten_bare_steps():
        begun = time.perf_counter()
        for _ in range(10):
            held["state"], tallies = held["program"].step(held["state"], held["batch"])
        jax.block_until_ready((held["state"], tallies))
        bare.append((time.perf_counter() - begun) / 10)

    def in_turn(item):
        """The loop has just logged, so nothing of it is still being computed."""
        if item.first % 10:
            return
        if "since" in held:
            loop.append((time.perf_counter() - held["since"]) / 10)
        if not held:
            prepared()
        ten_bare_steps()
        held["since"] = time.perf_counter()

    suite.train(experiment, tmp_path / "run", on_dispatch=in_turn)
    bare, loop = np.array(bare[2:-1]), np.array(loop[2:])
    ratio = np.median(loop) / np.median(bare)
    print(
        f"\nstep {1e3 * np.median(bare):.2f} ms bare, {1e3 * np.median(loop):.2f} ms in the loop: {ratio:.3f}, "
        f"fastest {min(loop) / min(bare):.3f}, {len(loop)} segments"
    )
    assert np.median(bare) >= 0.02, "the model is too small for this test"
    assert min(ratio, min(loop) / min(bare)) <= 1.05


def test_evaluations_are_told_and_may_end_training(run, tmp_path):
    """What is raised comes out as it is, the checkpoint of that step is whole, and training goes on from there."""
    seen: dict[int, dict[str, float]] = {}

    def enough(step, metrics):
        seen[step] = metrics
        if step == 20:
            raise ZeroDivisionError("enough")

    folder = tmp_path / "run"
    with pytest.raises(ZeroDivisionError, match="enough"):
        suite.train(toy.experiment(), folder, on_evaluation=enough)
    with Checkpoints(folder / "checkpoints", writing=False) as checkpoints:
        assert checkpoints.latest == 20 and checkpoints.progress(20).best is not None
    after = suite.resume(folder, allow=("tests",), on_evaluation=lambda step, metrics: seen.update({step: metrics}))
    assert list(seen) == [10, 20, 30, 40]
    assert after.metrics["validation/accuracy"] == run.metrics["validation/accuracy"]
    history = run.history
    for step, metrics in seen.items():
        row = [i for i, at in enumerate(history["step"]) if at == step and history["validation/loss"][i] is not None]
        assert [metrics] == [{name: history[name][i] for name in metrics} for i in row]
