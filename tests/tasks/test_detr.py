"""Detection by queries: published weights are fine-tuned, measured as they are, and written as they were read."""

import json

import numpy as np
import pytest
from flax import nnx

import suite
from suite.configs.vision import detr
from suite.data.sources.detection import BoxFolder
from suite.experiment.sections import replace
from suite.tree import paths
from suite.weights import pretrained
from suite.workflow import imported
from tests.boxes import LABELS, drawn, write_coco
from tests.parity import golden

SIZE = 40, 56


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("things"), drawn(30))


def published(path, names):
    """The tiny weights of another library, with these names of classes."""
    folder = golden.folder(golden.load("detr"), path)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(place): name for place, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config))
    statistics = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"shortest_edge": 64}}
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    return folder


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    start = published(tmp_path_factory.mktemp("weights") / "detr", ("cat", "dog", "N/A"))
    changes = {
        "task.data": BoxFolder(path=str(folder)),
        "task.statistics.size": SIZE,
        "task.augment": (),
        "checkpoint.init_from": str(start),
        "model.dropout": 0.0,
        "optim.learning_rate": 3e-3,
        "train.steps": 30,
        "train.batch_size": 8,
        "train.eval_every": 30,
        "train.log_every": 10,
    }
    return start, suite.train(replace(detr.experiment(), changes), tmp_path_factory.mktemp("runs") / "run")


def test_published_weights_are_fine_tuned_with_a_head_of_the_data(run):
    start, made = run
    _, theirs = pretrained.load(start)
    before = paths(nnx.to_pure_dict(nnx.state(theirs, nnx.Param)))
    after = paths(nnx.to_pure_dict(nnx.state(made.model, nnx.Param)))
    for path in ("backbone/stem/conv/kernel", "backbone/stages/1/0/layers/0/norm/scale"):
        np.testing.assert_array_equal(before[path], after[path])
    assert np.abs(before["decoder/0/cross/query/kernel"] - after["decoder/0/cross/query/kernel"]).max() > 1e-4
    assert after["head/kernel"].shape == (16, len(LABELS))
    losses = [json.loads(line) for line in (made.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in losses if "train/loss" in line]
    assert losses[-1] < 0.9 * losses[0]
    assert {"validation/mAP", "validation/AP50"} <= made.metrics.keys()


def test_a_run_is_written_as_the_weights_it_came_from_were(run, tmp_path):
    _, made = run
    written = suite.convert(made.folder, tmp_path / "published")
    assert written.format == "detr"
    config, model = pretrained.load(tmp_path / "published")
    assert config.outputs == len(LABELS)
    stated = json.loads((tmp_path / "published" / "config.json").read_text())
    assert [*stated["id2label"].values()] == list(LABELS)
    images = np.random.default_rng(0).standard_normal((1, *SIZE, 3)).astype(np.float32)
    np.testing.assert_allclose(model(images)["logits"], made.model(images)["logits"], atol=1e-5)


def test_published_weights_are_measured_as_they_are(folder, tmp_path):
    """Classes are found by name; outputs of one name, which are of nothing, are told apart."""
    start = published(tmp_path / "detr", ("square", "N/A", "disc"))
    made = imported.evaluate(str(start), str(folder), folder=tmp_path / "run")
    assert 0 <= made.metrics["test/mAP"] <= 1
    assert made.experiment.task.labels.names == ["disc", "square", "N/A"]
    _, theirs = pretrained.load(start)
    np.testing.assert_array_equal(made.model.head.kernel[...], theirs.head.kernel[...][:, [2, 0, 1]])
