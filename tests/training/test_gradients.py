"""Gradient rules: the suite's own, and rules written outside of it, on one device and on several."""

import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import suite
from suite.contracts.gradient import Round
from suite.data.pipeline.dispatches import Encoder, dispatches, make_plan
from suite.errors import InputError, Interrupted
from suite.experiment import serialization
from suite.experiment.goal import Choice
from suite.experiment.mean_gradient import Mean
from suite.experiment.sections import replace
from suite.training.assemble import assemble
from suite.training.checkpoint import Checkpoints, Progress
from suite.training.gradients import groups, make_loss
from suite.training.state import from_stored, to_stored
from suite.tree import paths
from tests import toy
from tests.conftest import simulated
from tests.training import rules


def batches(experiment, steps=13):
    """Batches (b, ...) of an epoch; one of them has padding rows."""
    task = experiment.task
    plan = make_plan(task, task.source("train"), 16, seed=0, buckets=experiment.pipeline.buckets)
    encoder = Encoder(task, task.source("train"), plan, augment=True)
    return [{name: value[0] for name, value in item.batch.items()} for item in dispatches(encoder, 0, steps)]


# By record


def test_gradients_are_clipped_by_record():
    """Of the short batch, half of which is padding, beside a loop over its records, each with its own dropout."""
    experiment = rules.private(clip=0.05)
    program, batch = assemble(experiment, 13), next(one for one in batches(experiment) if not one["mask"].all())
    state = program.init()
    before = jax.device_get(state.params)
    after, metrics = program.step(state, {name: value[None] for name, value in batch.items()})
    loss, key = make_loss(program.graph, experiment.task), jax.random.fold_in(jax.random.key(0), 0)
    total, norms = jax.tree.map(np.zeros_like, before), []
    for i in np.flatnonzero(batch["mask"]):
        row = {name: value[i : i + 1] for name, value in batch.items()}
        grads = jax.grad(loss, has_aux=True)(before, {}, row, jax.random.fold_in(key, int(i)))[0]
        norms.append(float(optax.global_norm(grads)))
        factor = min(1, 0.05 / norms[-1])
        total = jax.tree.map(lambda t, g, factor=factor: t + factor * np.asarray(g), total, grads)
    assert 0 < len(norms) < 16 and min(norms) < max(norms) and max(norms) > 0.05
    for name, leaf in paths(after.params).items():
        np.testing.assert_allclose(paths(before)[name] - leaf, paths(total)[name] / 16, atol=1e-6, err_msg=name)
    assert float(metrics["loss"].count) == len(norms)


def test_noise_is_drawn_anew_in_each_step():
    experiment = rules.private(noise=2.0)
    program, noiseless = assemble(experiment, 13), assemble(rules.private(), 13)
    batch = {name: value[None] for name, value in batches(experiment)[0].items()}
    drawn = []
    for step in (0, 1):
        states = [dataclasses.replace(one.init(), step=jnp.int32(step)) for one in (program, noiseless)]
        noisy, plain = (one.step(state, batch)[0] for one, state in zip((program, noiseless), states, strict=True))
        apart = jax.tree.map(lambda a, b: np.asarray(a - b).ravel(), noisy.params, plain.params)
        drawn.append(np.concatenate(jax.tree.leaves(apart)))
    assert np.std(np.concatenate(drawn)) == pytest.approx(2.0 * 0.1 / 16, rel=0.2)
    assert np.abs(np.corrcoef(*drawn)[0, 1]) < 0.3


def test_the_state_of_a_rule_is_saved_and_goes_on(tmp_path):
    experiment = rules.private(noise=0.5)
    program, given = assemble(experiment, 13), batches(experiment, 4)
    step = lambda state, i: program.step(state, {name: value[None] for name, value in given[i].items()})[0]
    state = step(step(program.init(), 0), 1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, to_stored(state), Progress(next_batch=2))
    with Checkpoints(tmp_path) as checkpoints:
        restored = from_stored(checkpoints.restore(2, to_stored(program.abstract)))
    assert int(restored.rule_state["steps"]) == 2
    one, other = step(step(state, 2), 3), step(step(restored, 2), 3)
    assert int(other.rule_state["steps"]) == 4
    for name, leaf in paths(to_stored(one)).items():
        if leaf is not None and hasattr(leaf, "shape"):
            np.testing.assert_array_equal(leaf, paths(to_stored(other))[name])


def test_a_skipped_step_leaves_the_state_of_a_rule(tmp_path):
    experiment = replace(rules.private(), {"train.on_nan": "skip"})
    program = assemble(experiment, 13)
    batch = {name: value[None] for name, value in batches(experiment)[0].items()}
    state = program.step(program.init(), batch)[0]
    broken = dataclasses.replace(state, params=jax.tree.map(lambda a: a * jnp.nan, state.params))
    after, metrics = program.step(broken, batch)
    assert metrics["skipped"].value() == 1
    assert (int(after.step), int(after.rule_state["steps"])) == (2, 1)


def test_a_run_by_another_rule_resumes_bit_exactly(tmp_path):
    whole = suite.train(rules.private(noise=0.5), tmp_path / "whole")

    def stop(dispatch):
        if dispatch.first == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        suite.train(rules.private(noise=0.5), tmp_path / "cut", on_dispatch=stop)
    again = suite.resume(tmp_path / "cut", allow=("tests",))
    assert again.experiment.gradient == rules.Private(noise=0.5)
    for name, leaf in paths(whole._weights[0]).items():
        np.testing.assert_array_equal(leaf, paths(again._weights[0])[name])
    assert again.history["train/loss"] == whole.history["train/loss"]


# In turn


def test_rounds_alternate_between_losses_and_optimisers():
    """Beside a loop written by hand: two updates of the critic, then one of the maker against the new critic."""
    experiment = rules.duel()
    state, logged = rules.trained(experiment, 5)
    program, given = assemble(experiment, 5), batches(experiment, 5)
    params = jax.device_get(program.init().params)
    unused = params["unused"]
    optimizers = {"critic": optax.adam(2e-2, b1=0.5), "maker": optax.adam(1e-2)}
    states = {name: tx.init(params[name]) for name, tx in optimizers.items()}
    losses = {name: make_loss(program.graph, experiment.task, f"{name}_loss") for name in optimizers}
    for batch in given:
        for name in ("critic", "critic", "maker"):
            value = lambda own, name=name, params=params, batch=batch: losses[name](
                {**params, name: own}, {}, batch, jax.random.key(0)
            )
            grads = jax.grad(value, has_aux=True)(params[name])[0]
            updates, states[name] = optimizers[name].update(grads, states[name])
            params = {**params, name: optax.apply_updates(params[name], updates)}
    for name, leaf in paths(state.params).items():
        np.testing.assert_allclose(leaf, paths(params)[name], atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(state.params["unused"]["kernel"], unused["kernel"])
    assert state.opt.keys() == {"critic", "maker"} and logged[0].keys() == {"critic/loss", "maker/loss", "loss"}
    assert logged[0]["loss"] == pytest.approx((2 * logged[0]["critic/loss"] + logged[0]["maker/loss"]) / 3)


def test_several_rounds_train_to_the_end(tmp_path):
    made = suite.train(rules.duel(ema=0.9, on_nan="skip"), tmp_path / "run")
    assert all(np.isfinite(made.history["train/maker/loss"][0:1]))
    assert made.metrics["train/steps"] == 20
    assert suite.open(tmp_path / "run", allow=("tests",)).experiment == made.experiment


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([Round("a", ("^critik",))], '"\\^critik" of group "a" matches no parameter'),
        ([Round("a", ("^critic",)), Round("b", ("kernel",))], 'critic/kernel is in group "a" and in group "b"'),
        ([Round("a", ("^critic",)), Round("a", ("^maker",))], 'rounds of group "a" differ'),
        ([Round("a", ("^unused",))], 'group "a" has nothing to train'),
    ],
)
def test_groups_that_make_no_sense_are_refused(given, message):
    class Rule(Mean):
        rounds = tuple(given)

    names = ["critic/kernel", "maker/kernel", "unused/kernel"]
    with pytest.raises(InputError, match=message):
        groups(Rule(), names, {"unused/kernel"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": toy.Parity()}, 'asks for the loss "critic_loss", which Parity does not have'),
        ({"optim.sparsity.share": 0.5}, "prunes weights of one optimiser"),
        ({"gradient": Mean(accumulate=0)}, "must be at least 1"),
        ({"gradient": Mean(accumulate=3)}, "cannot be split evenly over 3 parts"),
    ],
)
def test_rules_that_do_not_fit_the_experiment_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        assemble(replace(rules.duel(), changes), 13)


# On several devices


def test_rules_run_on_eight_devices(forked_child):
    code = "import runpy; runpy.run_module('tests.training.rules_child', run_name='__main__')"
    printed = forked_child(code, **simulated(8))
    several = json.loads(printed.splitlines()[-1])
    for name, given in {
        "private": (rules.private(noise=0.5),),
        "duel": (rules.duel(ema=0.9),),
        "privately": rules.privately(),
    }.items():
        one = rules.summary(*given)
        for layout in ("mesh", "fsdp", "pmap"):
            other = several[f"{name} {layout}"]
            assert other["rule"] == one["rule"]
            np.testing.assert_allclose(other["losses"], one["losses"], rtol=1e-4)
            for path, values in one["params"].items():
                np.testing.assert_allclose(other["params"][path], values, atol=2e-5, err_msg=f"{name} {layout} {path}")


# Former names


def test_experiments_of_before_are_read_with_their_micro_batches():
    experiment = replace(toy.experiment(), {"train.accumulate": 4})
    assert experiment.gradient == Mean(accumulate=4)
    stored = serialization.to_json(experiment)
    former = {name: value for name, value in stored.items() if name != "gradient"}
    former["train"] = {**former["train"], "accumulate": 4}
    assert serialization.from_json(former, ("tests",)) == experiment
    assert serialization.from_json(stored, ("tests",)) == experiment


def test_the_former_flag_is_understood():
    from suite.cli.fields import apply_flags

    for flags in (["--train.accumulate", "2"], ["--train.accumulate=2"], ["--gradient.accumulate", "2"]):
        assert apply_flags(toy.experiment(), flags, "suite train x").gradient == Mean(accumulate=2)


def test_a_search_of_before_goes_on(tmp_path):
    from suite.tuning.recipe import RECIPE, claim
    from suite.tuning.space import dimensions

    experiment = replace(toy.experiment(), {"gradient.accumulate": 4})
    study = claim(tmp_path, experiment, "", decided=False)
    stored = json.loads((tmp_path / RECIPE).read_text())
    stored["train"]["accumulate"] = stored.pop("gradient")["accumulate"]
    (tmp_path / RECIPE).write_text(json.dumps(stored))
    with pytest.raises(InputError, match="holds the search of another recipe") as error:
        claim(tmp_path, toy.experiment(), "", decided=False)
    assert error.value.found == "gradient.accumulate 4 there, 1 here"
    assert claim(tmp_path, experiment, "", decided=False) == study
    space = (Choice(field="train.accumulate", among=(1, 2)),)
    (dimension,) = dimensions(replace(experiment, {"search.space": space}))
    assert (dimension.own, dimension.values.among) == (4, (1, 2))
