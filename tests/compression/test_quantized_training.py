"""Training for rounding, ranges from training records, and what is compressed of a fine-tuned or an averaged run."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import suite
from suite.compression import compressing, verdict
from suite.compression.calibrate import training_batches
from suite.compression.run_writer import write
from suite.errors import InputError
from suite.experiment.compression import Compression
from suite.experiment.sections import Finetune, replace
from suite.models import dnn
from suite.surgery import quantize, quantize_weights
from suite.tree import paths
from tests import toy

WIDE = {"model.width": 256, "train.steps": 60, "train.eval_every": 60}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = replace(toy.experiment(), {**WIDE, "train.ema": 0.0})
    return suite.train(made, tmp_path_factory.mktemp("training") / "run")


def loss(made):
    return made.metrics["validation/loss"]


def test_training_for_it_closes_the_gap():
    """A network that knows the answers and loses them by rounding to 4 bits gets back most of what it lost.

    Its inputs depend on one another, as those of layers do: errors of weights can make up for one another.
    """
    float_model = dnn.Config(inputs=64, hidden=(128,), outputs=16).build(rngs=nnx.Rngs(0))
    graph, params, model_state = nnx.split(float_model, nnx.Param, ...)
    x = jax.random.normal(jax.random.key(1), (512, 8)) @ jax.random.normal(jax.random.key(2), (8, 64)) * 8**-0.5
    answers = float_model(x)
    made = lambda **settings: quantize.attach(
        nnx.merge(graph, params, model_state), Compression(quantize="int4", **settings), quantize_weights.rounded
    )
    error = jax.jit(lambda model: jnp.mean((model(x) - answers) ** 2))
    lost = float(error(made()))
    aware, params, model_state = nnx.split(made(aware=True), nnx.Param, ...)
    adam = optax.adam(optax.cosine_decay_schedule(1e-3, 300))

    @jax.jit
    def step(params, state):
        grads = jax.grad(lambda params: error(nnx.merge(aware, params, model_state)))(params)
        updates, state = adam.update(grads, state)
        return optax.apply_updates(params, updates), state

    state = adam.init(params)
    for _ in range(300):
        params, state = step(params, state)
    assert float(error(made())) < 0.4 * lost, (float(error(made())), lost)


def test_what_was_trained_for_it_is_what_was_rounded(run, tmp_path):
    method = suite.Quantize("int4", aware=True)
    changed = replace(method.start(run), {"train.steps": 20})
    aware = suite.compress(run, method, tmp_path / "aware", experiment=changed)
    assert verdict.read(aware.folder)["method"] == "int4 aware"
    trained = suite.open(tmp_path / "aware" / "aware", allow=("tests",))
    assert trained.experiment.compression.aware and not aware.experiment.compression.aware
    assert loss(trained.evaluate("validation")) == pytest.approx(loss(aware), rel=1e-2)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(trained._weights[0])} == {"float32"}


def test_training_for_it_is_a_tenth_of_the_recipe(run):
    started = suite.Quantize("int8", aware=True).start(run)
    assert (started.train.steps, started.optim.learning_rate) == (6, pytest.approx(1e-3))
    assert started.optim.warmup_steps == 0 and started.compression.aware


def test_an_unfinished_compression_goes_on(run, tmp_path):
    """Training for it was interrupted after its first evaluation: the same command goes on from there."""
    method = suite.Quantize("int8", aware=True)
    changed = replace(method.start(run), {"train.steps": 20, "train.eval_every": 10, "checkpoint.every": 10})

    class Stop(Exception):
        pass

    def stop(item):
        if item.first == 15:
            raise Stop

    folder = tmp_path / "made" / "aware"
    write(changed, *run._weights, folder, run.folder / "assets")
    with pytest.raises(Stop):
        suite.train(changed, folder, resume=True, on_dispatch=stop)
    made = suite.compress(run, method, tmp_path / "made", experiment=changed, resume=True)
    whole = suite.compress(run, method, tmp_path / "whole", experiment=changed)
    for one, other in zip(*(jax.tree.leaves(each._weights) for each in (made, whole)), strict=True):
        np.testing.assert_array_equal(one, other)
    steps = suite.open(folder, allow=("tests",)).history["step"]
    assert steps == sorted(steps) and steps[-1] == 20


def test_a_run_may_train_for_it_from_the_start(tmp_path):
    made = suite.train(
        replace(toy.experiment(), {**WIDE, "compression.quantize": "int8", "compression.aware": True}), tmp_path / "run"
    )
    rounded = suite.compress(made, suite.Quantize("int8"), tmp_path / "int8")
    assert loss(rounded) == pytest.approx(made.metrics["validation/loss"], rel=1e-3)


def test_rounded_weights_are_not_trained(tmp_path):
    with pytest.raises(InputError, match=r"field compression.quantize: is int8: rounded weights are not trained"):
        suite.train(replace(toy.experiment(), {**WIDE, "compression.quantize": "int8"}), tmp_path / "run")
    lora = {"compression.quantize": "int8", "compression.aware": True, "finetune.kind": "lora"}
    with pytest.raises(InputError) as error:
        suite.train(replace(toy.experiment(), {**WIDE, **lora}), tmp_path / "run")
    assert str(error.value) == (
        "field finetune.kind: is lora: what it adds would not be rounded.\n"
        "  try:   fine-tune first; suite compress RUN --quantize folds low-rank additions in"
    )
    assert not (tmp_path / "run").exists()


def test_averaged_weights_and_low_rank_additions_are_what_is_rounded(run, tmp_path):
    finetune = Finetune(kind="lora", rank=2, targets=("hidden",), trained=("^head",))
    changes = {**WIDE, "checkpoint.init_from": str(run.folder), "finetune": finetune, "train.ema": 0.5}
    tuned = suite.train(replace(toy.experiment(), changes), tmp_path / "run")
    made = suite.compress(tuned, suite.Quantize("int8"), tmp_path / "int8")
    assert made.experiment.finetune == Finetune()
    assert loss(made) == pytest.approx(loss(tuned.evaluate("validation")), rel=2e-2)
    flat = paths(tuned._weights[0])
    whole = flat["hidden/kernel"] + 16.0 / 2 * flat["hidden/addition/a"] @ flat["hidden/addition/b"]
    ours = paths(made._weights[0])
    np.testing.assert_allclose(
        ours["hidden/kernel"] * ours["hidden/kernel_scale"], whole, atol=float(np.abs(whole).max()) / 250
    )


# Ranges


@dataclass(frozen=True, kw_only=True)
class Louder(toy.Parity):
    """Rows that are not for training hold many more digits."""

    def source(self, split):
        made = toy.Parity.source(self, split)
        if split != "train":
            made.rows = [np.tile(row, 50)[:12] for row in made.rows]
        return made


def test_ranges_come_from_training_records_alone(run, tmp_path):
    quiet = toy.Parity(examples=64)
    loud = Louder(examples=64)
    scales = []
    for number, task in enumerate((quiet, loud)):
        of = dataclasses.replace(run, experiment=replace(run.experiment, {"task": task}))
        made = suite.compress(of, suite.Quantize("int8-static"), tmp_path / str(number))
        scales.append(float(paths(made._weights[0])["hidden/input_scale"]))
    assert scales[0] == scales[1]
    counts = [np.bincount(row, minlength=4).max() for row in quiet.source("train").rows]
    assert scales[0] == pytest.approx(max(counts) / 127.5)  # one batch of 64: its largest count of a digit


def test_a_scale_doesnt_reach_up_to_what_is_rarely_so_large():
    rng = np.random.default_rng(0)
    even = jnp.asarray(rng.uniform(-1, 1, (1024, 1024)), jnp.float32)
    spiky = even.at[0, 0].set(3.0)
    errors = jax.jit(quantize_weights.input_errors)
    scale = lambda *batches: float(quantize_weights.input_scale(sum(errors(batch) for batch in batches)))
    assert scale(even) == pytest.approx(1 / 127.5, rel=1e-3)
    assert scale(spiky) == pytest.approx(0.4 * 3 / 127.5, rel=1e-3)  # just beyond all the others
    assert scale(even, 3 * even) == pytest.approx(2 / 127.5, rel=1e-3)


def test_how_many_records_are_taken(run):
    task = run.experiment.task
    taken = lambda records, seed=0: [batch["mask"].shape[0] for batch in training_batches(task, records, seed, (12,))]
    assert (taken(5), taken(64), taken(150)) == ([5], [64], [64, 64])
    first, other = (next(iter(training_batches(task, 64, seed, (12,)))) for seed in (0, 1))
    assert not np.array_equal(first["digits"], other["digits"])
    with pytest.raises(InputError) as error:
        taken(0)
    assert str(error.value) == (
        "field compression.calibrate: must be at least 1.\n  found: 0\n  try:   --compression.calibrate 512"
    )


def test_each_method_says_what_it_makes(run):
    for kind in ("int8", "int4"):
        method = suite.Quantize(kind)
        assert isinstance(method, compressing.Method)
        assert method.name(method.start(run)) == kind
