"""Differentially private training: clipped gradients, Poisson batches, the accountant, and what a run says of it."""

import dataclasses
import json
import math
import os
import signal
import stat

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import suite
from suite.contracts.defaults import Chosen, Defaults
from suite.data.pipeline.dispatches import Encoder, Plan
from suite.data.pipeline.poisson import PoissonPlan, poisson_plan
from suite.data.sources.memory import Memory
from suite.errors import InputError, Interrupted
from suite.experiment.mean_gradient import Mean
from suite.experiment.privacy import Privacy
from suite.experiment.sections import replace
from suite.runs import audit
from suite.training import accountant, canaries, privacy
from suite.training.assemble import _check_tables, assemble
from suite.training.gradients import make_loss
from suite.training.private_gradient import Private
from suite.tree import paths
from tests import toy
from tests.training import rules
from tests.training.test_gradients import batches

INFINITE = 1e9
"""A clipping norm that clips nothing."""


def plain(**fields):
    """Steps of plain gradient descent with rate 1 and without dropout, so that a step shows its gradient."""
    recipe = replace(rules.private(), {"gradient": Mean(), "model": toy.Config(dropout=0.0), "train.steps": 12})
    return replace(recipe, fields)


def gradient(experiment, batch, rule=None):
    """What one step takes from the parameters, by path."""
    program = assemble(experiment, 13, rule)
    before = jax.device_get(paths(program.init().params))
    state, _ = program.step(program.init(), {name: np.asarray(value)[None] for name, value in batch.items()})
    return {name: before[name] - np.asarray(leaf) for name, leaf in paths(state.params).items()}


@pytest.fixture(scope="module")
def whole_batch():
    return next(batch for batch in batches(plain()) if batch["mask"].all())


@pytest.fixture(scope="module")
def short_batch():
    return next(batch for batch in batches(plain()) if not batch["mask"].all())


# Gradients


@pytest.mark.parametrize("parts", [1, 4])
def test_without_noise_and_clipping_it_is_the_plain_gradient(whole_batch, parts):
    private = gradient(plain(), whole_batch, Private(clip_norm=INFINITE, expected=16, parts=parts))
    for name, value in gradient(plain(), whole_batch).items():
        np.testing.assert_allclose(private[name], value, atol=1e-6, err_msg=name)


@pytest.mark.peers
def test_the_clipped_sum_is_that_of_jax_privacy(short_batch):
    clipping = pytest.importorskip("jax_privacy.clipping")
    program = assemble(plain(), 13)
    loss, params = make_loss(program.graph, plain().task), program.init().params
    rows = {name: value[short_batch["mask"]] for name, value in short_batch.items()}
    of_row = lambda params, row: loss(params, {}, row, jax.random.key(0))[0]
    theirs = clipping.clipped_grad(of_row, l2_clip_norm=0.05)(params, rows)
    ours = gradient(plain(), short_batch, Private(clip_norm=0.05, expected=1, parts=2))
    for name, leaf in paths(theirs).items():
        np.testing.assert_allclose(ours[name], leaf, atol=1e-6, err_msg=name)


def test_the_rows_of_a_unit_are_clipped_together(whole_batch):
    """Beside a loop over units of four rows, the last of them half padding."""
    batch = {**whole_batch, "mask": np.arange(16) < 14}
    ours = gradient(plain(), batch, Private(clip_norm=0.05, expected=4, rows=4))
    program = assemble(plain(), 13)
    loss, params = make_loss(program.graph, plain().task), program.init().params
    total = jax.tree.map(jnp.zeros_like, params)
    for start in range(0, 16, 4):
        unit = {name: value[start : start + 4] for name, value in batch.items()}
        grads = jax.grad(loss, has_aux=True)(params, {}, unit, jax.random.key(0))[0]
        assert optax.global_norm(grads) > 0.05
        total = jax.tree.map(lambda t, g, norm=optax.global_norm(grads): t + 0.05 * g / norm, total, grads)
    for name, leaf in paths(total).items():
        np.testing.assert_allclose(ours[name], leaf / 4, atol=1e-6, err_msg=name)


def test_the_noise_is_of_the_stated_size_and_of_the_key_and_the_step(short_batch):
    rule = Private(clip_norm=0.1, noise=2.0, expected=16, key=(1, 2))
    noiseless = gradient(plain(), short_batch, dataclasses.replace(rule, noise=0.0))

    def noise(rule):
        noisy = gradient(plain(), short_batch, rule)
        return np.concatenate([(noisy[name] - noiseless[name]).ravel() for name in noisy])

    drawn = noise(rule)
    assert np.std(drawn) == pytest.approx(2.0 * 0.1 / 16, rel=0.2)
    np.testing.assert_array_equal(noise(rule), drawn)
    assert abs(np.corrcoef(noise(dataclasses.replace(rule, key=(1, 3))), drawn)[0, 1]) < 0.3


# Batches


def plan(units, expected, steps, **fields):
    size = len(fields["unit_of"]) if "unit_of" in fields else units
    return poisson_plan(Plan(size, expected, 0), steps, (7, 8), 4, **fields)


def test_each_record_is_in_a_batch_with_the_same_probability_whatever_the_others_do():
    drawn = plan(50, 10, 2000)
    inside = np.zeros((2000, 50), bool)
    for step in range(2000):
        indices, _ = drawn.batch(step)
        real = indices[indices >= 0]
        assert len(np.unique(real)) == len(real)
        inside[step, real] = True
    deviation = np.sqrt(0.2 * 0.8 / 2000)
    np.testing.assert_allclose(inside.mean(0), 0.2, atol=4.5 * deviation)
    together = (inside[:, :1] & inside[:, 1:]).mean(0)
    np.testing.assert_allclose(together, 0.04, atol=4.5 * np.sqrt(0.04 * 0.96 / 2000))
    assert np.var(inside.sum(1)) == pytest.approx(50 * 0.2 * 0.8, rel=0.15)  # of a fixed size it would be 0


def test_a_batch_has_room_for_the_largest_of_the_run_and_is_the_same_when_drawn_again():
    drawn = plan(1000, 30, 100)
    counts = [int((drawn.batch(step)[0] >= 0).sum()) for step in range(100)]
    assert drawn.batch_size % 4 == 0 and max(counts) <= drawn.batch_size < max(counts) + 4
    np.testing.assert_array_equal(drawn.batch(5)[0], plan(1000, 30, 100).batch(5)[0])
    assert not np.array_equal(drawn.batch(5)[0], drawn.batch(6)[0])
    assert drawn.batches_per_epoch == 33


def test_of_a_unit_a_batch_holds_few_records_side_by_side():
    unit_of = np.repeat(np.arange(20), np.arange(1, 21))
    drawn = plan(20, 5, 50, unit_of=unit_of, per_unit=3)
    assert drawn.units == 20 and drawn.batch_size % 12 == 0
    for step in range(50):
        for rows in drawn.batch(step)[0].reshape(-1, 3):
            real = rows[rows >= 0]
            assert len(np.unique(real)) == len(real)
            assert len(real) == 0 or (np.ptp(unit_of[real]) == 0 and len(real) == min(unit_of[real[0]] + 1, 3))


def test_a_batch_of_nobody_is_padding_alone():
    source = toy.Parity().source("train")
    nobody = PoissonPlan(size=200, batch_size=4, expected=0, key=(1,), lengths=None)
    item = Encoder(toy.Parity(), source, dataclasses.replace(nobody, lengths=np.ones(200), buckets=(12,)), True)((0, 1))
    assert not item["batch"]["mask"].any() and item["batch"]["digits"].shape == (1, 4, 12)


# Accountant


def test_epsilon_is_that_of_dp_accounting():
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
    from dp_accounting.pld import PLDAccountant

    event = SelfComposedDpEvent(PoissonSampledDpEvent(0.1, GaussianDpEvent(2.0)), 50)
    assert accountant.epsilon(2.0, 0.1, 50, 1e-5) == PLDAccountant().compose(event).get_epsilon(1e-5)
    assert accountant.renyi_epsilon(2.0, 0.1, 50, 1e-5) >= accountant.epsilon(2.0, 0.1, 50, 1e-5)
    assert accountant.epsilon(2.0, 0.1, 0, 1e-5) == 0 and accountant.epsilon(0.0, 0.1, 1, 1e-5) == np.inf


@pytest.mark.parametrize("target", [0.5, 3.0])
def test_the_noise_spends_the_budget_and_no_more(target):
    noise = accountant.solve_noise(target, 0.1, 50, 1e-5)
    assert 0.99 * target <= accountant.epsilon(noise, 0.1, 50, 1e-5) <= target
    assert accountant.steps_within(target, noise, 0.1, 200, 1e-5) in (50, 51)


@pytest.mark.parametrize(
    "spent, least",
    [
        (lambda noise: (1.7 / noise) ** 1.3, 1.7),
        (lambda noise: math.exp(2.0 / noise) - 1, 2.0 / math.log(2)),
        (lambda noise: math.inf if noise < 1.2 else 0.0, 1.2),
        (lambda noise: (1.7 / noise) ** 40, 1.7),
    ],
    ids=["a power", "no power", "a step", "steep"],
)
def test_the_least_noise_is_found_whatever_the_curve(spent, least):
    found = accountant._least(spent, 1.0, 1.5)
    assert spent(found) <= 1 and found <= least * (1 + accountant.FINEST)


def test_noise_is_found_by_few_looks_at_what_it_spends(monkeypatch):
    """Each takes seconds for a long training."""
    asked = []
    exact = accountant.epsilon
    monkeypatch.setattr(accountant, "epsilon", lambda noise, *given: asked.append(noise) or exact(noise, *given))
    accountant.solve_noise(2.0, 0.1, 50, 1e-5)
    assert len(set(asked)) <= 7


def test_large_budgets_are_solved_for_in_seconds():
    for target in (10.0, 50.0):
        noise = accountant.solve_noise(target, 32 / 1458, 10, 1e-4)
        assert 0.9 * target < accountant.epsilon(noise, 32 / 1458, 10, 1e-4) <= target


def test_delta_is_below_one_over_the_records():
    assert [Privacy().delta_for(units) for units in (60_000, 2_700, 1_000, 999)] == [1e-5, 1e-4, 1e-4, 1e-3]
    assert Privacy(delta=1e-6).delta_for(10) == 1e-6


# Runs


def private(**fields):
    recipe = toy.experiment(steps=20, eval_every=10, log_every=10)
    return replace(recipe, {"privacy.epsilon": 4.0, "privacy.microbatch": 8, "privacy.key": "5eed", **fields})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return suite.train(private(), tmp_path_factory.mktemp("private") / "run")


def test_a_run_says_what_it_guarantees(run, capsys):
    guarantee = privacy.read(run.folder)
    assert guarantee.steps == 20 and guarantee.unit == "record" and guarantee.rate == 16 / 200
    assert 3.9 < guarantee.epsilon <= guarantee.budget == 4.0 < guarantee.renyi_epsilon
    assert guarantee.delta == 1e-3 and guarantee.outside == privacy.OUTSIDE
    logged = [value for value in run.history["train/epsilon"] if value is not None]
    assert logged == [guarantee.after(10).epsilon, guarantee.epsilon]
    assert stat.S_IMODE((run.folder / privacy.KEY).stat().st_mode) == 0o600
    assert "(4, 1e-03)-differential privacy of each record, by 20 steps of 16 of 200" in str(guarantee)


def test_a_guarantee_is_not_rounded_to_a_stronger_one(run):
    guarantee = privacy.read(run.folder)
    small = dataclasses.replace(guarantee, epsilon=0.0, budget=1e-9, delta=1.4e-5)
    assert str(small).startswith("(1e-09, 1.40e-05)-differential")
    assert str(dataclasses.replace(small, steps=0)).startswith("(0, ")


def test_a_private_run_resumes_bit_exactly_and_tells_no_more(run, tmp_path):
    def stop(dispatch):
        if dispatch.first == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        suite.train(private(), tmp_path / "cut", on_dispatch=stop)
    again = suite.resume(tmp_path / "cut", allow=("tests",))
    for name, leaf in paths(run._weights[0]).items():
        np.testing.assert_array_equal(leaf, paths(again._weights[0])[name])
    assert privacy.read(again.folder) == privacy.read(run.folder)
    other = suite.train(private(**{"privacy.key": ""}), tmp_path / "other")  # drawn by the operating system
    assert any((paths(other._weights[0])[name] != leaf).any() for name, leaf in paths(run._weights[0]).items())


def test_a_run_that_goes_on_for_longer_ends_where_its_budget_is_spent(run, tmp_path):
    experiment = private()
    prepared = privacy.prepare(
        experiment, run.folder, experiment.task.source("train"), Plan(200, 16, 0), 1000, assemble(experiment, 20).mesh
    )
    assert prepared.steps in (20, 21) and prepared.guarantee.epsilon <= 4.0


def test_the_noise_hides_nothing_where_it_is_not_drawn_from_a_secret(tmp_path):
    with pytest.raises(InputError, match="is not hexadecimal"):
        suite.train(private(**{"privacy.key": "secret"}), tmp_path / "run")


def test_users_are_protected_with_all_their_records(tmp_path):
    trained = suite.train(private(**{"privacy.unit": "label", "privacy.delta": 0.4}), tmp_path / "run")
    guarantee = privacy.read(trained.folder)
    assert (guarantee.unit, guarantee.units, guarantee.expected) == ("label", 2, 2)
    assert "of each label (all of its records)" in str(guarantee)


@dataclasses.dataclass(frozen=True)
class Decayed(Defaults):
    def choose(self, experiment, train):
        yield Chosen("optim.end_fraction", 0.5, f"{len(train)} records")


def test_settings_chosen_from_the_records_are_not_covered(tmp_path):
    """Nor are they forgotten where the run goes on."""
    trained = suite.train(private(defaults=Decayed(), **{"train.steps": 4}), tmp_path / "run")
    said = ("settings chosen from the records (--optim.end_fraction 0.5)", *privacy.OUTSIDE)
    assert privacy.read(trained.folder).outside == said
    assert privacy.read(suite.resume(tmp_path / "run", allow=("tests",)).folder).outside == said
    stated = private(defaults=Decayed(), **{"train.steps": 4, "optim.end_fraction": 0.1})
    assert privacy.read(suite.train(stated, tmp_path / "stated").folder).outside == privacy.OUTSIDE


def test_a_record_of_no_user_is_a_unit_by_itself():
    units, alone = privacy._units(Memory({"user": ["ann", None, "ben", "", "ann"]}), "user")
    assert alone == 2 and units[0] == units[4] and len({*units.tolist()}) == 4 == units.max() + 1


def test_cards_bundles_reports_and_compressed_weights_state_it(run, tmp_path):
    from suite.compression import run_writer

    said = str(privacy.read(run.folder))
    suite.export(run, tmp_path / "bundle", platforms=("cpu",), allow=("tests",))
    assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["made"]["privacy"]["epsilon"] < 4
    assert said in (tmp_path / "bundle" / "model_card.md").read_text()
    assert not list((tmp_path / "bundle").rglob(f"*{privacy.KEY}*"))
    written = [*(tmp_path / "bundle").rglob("*"), run.folder / "experiment.json"]
    assert not [file for file in written if file.is_file() and b"5eed" in file.read_bytes()], (
        "nor the key that was given"
    )
    suite.report(run.folder, "validation", to=tmp_path / "report.html", allow=("tests",))
    assert said in (tmp_path / "report.html").read_text()
    run_writer.write(run.experiment, *run._weights, tmp_path / "written", run.folder / "assets")
    assert privacy.read(tmp_path / "written").outside == (*privacy.OUTSIDE, privacy.COMPRESSED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"privacy.epsilon": -1.0}, "privacy.epsilon: must be above 0"),
        ({"privacy.epsilon": float("inf")}, "privacy.epsilon: must be above 0 and at most 1000"),
        ({"privacy.delta": 0.1}, "must be below one over the number of records"),
        ({"privacy.clip_norm": 0.0}, "privacy.clip_norm: must be above 0"),
        ({"gradient.accumulate": 2}, "gradient.accumulate: is that of training without privacy"),
        ({"gradient": rules.Private()}, "field gradient: is that of training without privacy"),
        ({"pipeline.sampling": "balanced"}, "depends on the records"),
        ({"train.on_nan": "skip"}, "depends on the records"),
        ({"privacy.unit": "user"}, 'column "user" is not there'),
    ],
)
def test_what_cannot_be_private_is_refused(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        suite.train(private(**changes), tmp_path / "run")


def test_parts_that_the_records_may_leave_out_are_judged_once_they_are_known():
    """A table of numbers has no pictures, whose part normalises by batches."""
    from suite.experiment import recipes

    open_ = replace(recipes.load("table.predict"), {"privacy.epsilon": 3.0})
    privacy.check(open_)
    with pytest.raises(InputError, match=r"model\.parts\.image\.norm: is batch"):
        privacy.check(replace(open_, {"defaults": None}))


def test_tables_that_are_updated_by_rows_are_named_with_their_field():
    with pytest.raises(InputError, match="updates the rows of a batch alone in table, and private training") as error:
        _check_tables({"table": "ids"}, private(**{"train.ema": 0.0}), Private(clip_norm=1.0))
    assert (error.value.where, error.value.fix) == ("field optim.tables", "--optim.tables dense")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("vision.fashion_mnist_resnet", {}, "--model.norm group"),
        ("vision.digits_dnn", {}, ""),
        ("recommendation.movielens_ease", {}, "solved in closed form"),
        ("recommendation.movielens_bpr", {}, "items of other records"),
        ("recommendation.movielens_sasrec", {}, ""),
    ],
)
def test_recipes_say_why_they_cannot_be_private(name, changes, message):
    from suite.experiment import recipes

    experiment = replace(recipes.load(name), {"privacy.epsilon": 3.0, **changes})
    if not message:
        return privacy.check(experiment)
    with pytest.raises(InputError, match=message):
        privacy.check(experiment)


def test_mixed_images_are_no_single_records():
    from suite.experiment import recipes

    experiment = replace(recipes.load("vision.fashion_mnist_dnn"), {"privacy.epsilon": 3.0, "task.mixup": 0.2})
    with pytest.raises(InputError, match=r"task\.mixup"):
        privacy.check(experiment)


# Audit


def test_a_coin_leaves_out_each_second_canary(tmp_path):
    source = toy.Parity().source("train")
    given = Privacy(canaries=60, key="c0ffee")
    (tmp_path / "run").mkdir()
    drawn = canaries.drawn(given, tmp_path / "run", 200)
    assert len(set(drawn.places.tolist())) == 60 and 15 < drawn.included.sum() < 45
    kept = canaries.trained_on(given, tmp_path / "run", source)
    assert len(kept) == 200 - (~drawn.included).sum()
    left_out = set(drawn.places[~drawn.included].tolist())
    rows = [source.column("digits", np.array([i]))[0].tolist() for i in range(200) if i not in left_out]
    assert [row.tolist() for row in kept.column("digits", np.arange(len(kept)))] == rows
    wrong = canaries.changed(dataclasses.replace(given, canary_column="label"), drawn, source)
    labels, everyone = source.column("label", np.arange(200)), np.arange(200)
    np.testing.assert_array_equal(wrong.column("label", drawn.places), labels[drawn.other])
    np.testing.assert_array_equal(wrong[everyone]["label"], wrong.column("label", everyone))
    plain = np.setdiff1d(everyone, drawn.places)
    np.testing.assert_array_equal(wrong[plain]["label"], labels[plain])
    assert (wrong[drawn.places]["label"] != labels[drawn.places]).any()
    with pytest.raises(InputError, match="must be a number of training records"):
        canaries.drawn(Privacy(canaries=201), tmp_path / "run", 200)


@pytest.mark.parametrize("correct", [100, 80, 60, 52])
@pytest.mark.parametrize("delta", [0.0, 1e-5])
def test_the_bound_is_refuted_by_its_definition(correct, delta):
    """The largest epsilon under which the guesses are a surprise: a little more would be none."""
    bound = audit.one_run_bound(1000, 100, correct, delta, 0.05)
    assert audit._chance(1000, 100, correct, bound, delta) <= 0.05 or bound == 0
    assert audit._chance(1000, 100, correct, bound + 1e-3, delta) > 0.05
    assert (bound > 0) == (correct > 52)


@pytest.mark.peers
@pytest.mark.parametrize("delta", [1e-9, 1e-4])
def test_the_bound_is_that_of_jax_privacy(delta):
    auditing = pytest.importorskip("jax_privacy.auditing")
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1.5, 1, 500), rng.normal(0, 1, 500)
    threshold = np.sort(np.concatenate([inside, outside]))[-200]
    theirs = auditing.CanaryScoreAuditor(inside, outside).epsilon_one_run(
        0.05, delta, threshold_strategy=auditing.Explicit(threshold)
    )
    ours = audit.one_run_bound(1000, 200, int((inside >= threshold).sum()), delta, 0.05)
    assert ours > 1 and ours == pytest.approx(theirs, abs=1e-2)


def test_a_run_that_remembers_is_told_from_one_that_does_not():
    rng = np.random.default_rng(1)
    included = rng.integers(0, 2, 1000).astype(bool)
    bound, side, guesses, correct = audit.lower_bound(rng.normal(2.0 * included), included, 1e-5)
    assert bound > 1 and correct > 0.8 * guesses
    assert audit.lower_bound(rng.normal(size=1000), included, 1e-5)[0] < 0.3
    _, side, *_ = audit.lower_bound(np.where(included, 0.0, -rng.exponential(9.0, 1000)), included, 0.0)
    assert side in ("out", "both")


def test_an_audit_is_kept_and_reported(tmp_path):
    run = suite.train(private(**{"privacy.canaries": 100}), tmp_path / "run")
    found = suite.audit(run)
    assert found == audit.stored(run.folder) and found.canaries == 100 and found.epsilon <= found.stated <= 4.0
    assert privacy.read(run.folder).units == 200 - 100 + found.included
    assert "which holds" in found.lines[1]
    other = suite.train(toy.experiment(steps=2, eval_every=2), tmp_path / "other")
    with pytest.raises(InputError, match="was trained without canaries"):
        suite.audit(other)
