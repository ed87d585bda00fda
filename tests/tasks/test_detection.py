"""Object detection: what a run on own pictures learns and answers, what its loss leaves out, and what is chosen."""

import jax
import numpy as np
import pytest

import suite
from suite.configs.vision import detect
from suite.data.box_augment import FlipBoxes
from suite.data.sources.detection import BoxFolder
from suite.errors import InputError
from suite.experiment import sections
from suite.experiment.defaults import settled
from suite.models import fcos, resnet
from suite.tasks.vision.detection_defaults import Look
from suite.training.preprocessors import output_names, run_outputs
from tests.boxes import LABELS, drawn, write_coco

SIZE = 48, 64
BACKBONE = resnet.Config(channels=3, blocks=(1, 1), widths=(16, 32), stem_width=16, stem_pool=False)
NETWORK = {"parts": {"backbone": BACKBONE}, "strides": (2, 4)}


def experiment(folder, **changes):
    """Own pictures and a small network that is learnt from nothing."""
    own = {
        "task.data": BoxFolder(path=str(folder)),
        "task.statistics.size": SIZE,
        "task.augment": (FlipBoxes(),),
        "task.threshold": 0.3,
        "model": fcos.Config(**NETWORK, width=16, depth=1, frozen_statistics=False, candidates=60, most=20),
        "checkpoint.init_from": "",
        "optim.frozen": (),
        "optim.rates": (),
        "optim.learning_rate": 1e-2,
        "train.steps": 100,
        "train.batch_size": 16,
        "train.eval_every": 100,
    }
    return sections.replace(detect.experiment(), {**own, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("things"), drawn(120))


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    return suite.train(experiment(folder), tmp_path_factory.mktemp("runs") / "run")


def test_things_are_found_in_pictures_that_training_did_not_see(run):
    metrics = run.evaluate("test").metrics
    assert metrics["test/AP50"] > 0.6, metrics
    assert {f"test/{name}.AP" for name in LABELS} <= metrics.keys()


def test_answers_are_in_pixels_of_the_picture_as_it_was_given(run):
    """Of whatever size: a picture of twice the size has boxes of twice the size."""
    (picture,) = [one for one in drawn(120) if len(one.things) == 2][:1]
    twice = picture.pixels.repeat(2, 0).repeat(2, 1)
    once, larger = (answer["boxes"] for answer in run.predict([picture.pixels, twice]))
    assert once and [box["label"] for box in once] == [box["label"] for box in larger]
    for small, large in zip(once, larger, strict=True):
        np.testing.assert_allclose(np.array(large["box"]), 2 * np.array(small["box"]), atol=3)
        left, top, right, bottom = small["box"]
        assert 0 <= left < right <= picture.pixels.shape[1] and 0 <= top < bottom <= picture.pixels.shape[0]


def test_a_bundle_answers_as_the_run_does(run, tmp_path):
    bundle = suite.export(run, tmp_path / "bundle", platforms=("cpu",))
    pictures = [one.pixels for one in drawn(5)]
    for ours, theirs in zip(run.predict(pictures), bundle.predict(pictures), strict=True):
        assert [box["label"] for box in ours["boxes"]] == [box["label"] for box in theirs["boxes"]]
        for one, other in zip(ours["boxes"], theirs["boxes"], strict=True):
            np.testing.assert_allclose(one["box"], other["box"], atol=0.02)


def batch_of(run, count):
    task = run.experiment.task
    rows = task.encode(task.source("validation")[np.arange(count)])
    return {**rows, "mask": np.ones(count, bool)}


def test_rows_of_padding_count_neither_in_the_loss_nor_in_a_metric(run):
    task, model, batch = run.experiment.task, run.model, batch_of(run, 3)
    padded = {name: np.concatenate([values, np.zeros_like(values[:1])]) for name, values in batch.items()}
    (alone, logged), (beside, _) = (jax.jit(lambda b: task.loss(model, b, None))(rows) for rows in (batch, padded))
    np.testing.assert_allclose(alone, beside, rtol=1e-5)
    parts = sum(float(logged[name].value()) for name in ("class_loss", "box_loss", "quality_loss"))
    np.testing.assert_allclose(float(logged["loss"].value()), parts, rtol=1e-5)
    scores = [task.score(jax.jit(lambda b: task.predict(model, b))(rows), rows) for rows in (batch, padded)]
    values = [{name: state.value() for name, state in score.items()} for score in scores]
    assert values[0] == pytest.approx(values[1], nan_ok=True)


def test_a_student_is_taught_the_classes_of_all_places(run):
    task, batch = run.experiment.task, batch_of(run, 2)
    ours = jax.jit(lambda rows: task.predictions(run.model, rows))(batch)
    other = {**ours, "logits": ours["logits"] + 1}
    np.testing.assert_allclose(task.distillation_loss(ours, ours, batch, 2.0), 0, atol=1e-6)
    assert (task.distillation_loss(other, ours, batch, 2.0) > 0.01).all()
    fewer = {name: values[:, :4] for name, values in ours.items()}
    with pytest.raises(InputError, match="of other places"):
        task.distillation_loss(fewer, ours, batch, 2.0)


def test_the_canvas_is_as_large_as_small_things_need_and_never_larger_than_the_pictures():
    look = Look(height=960, width=1280, small=0.1, boxes=3, names=())
    assert look.canvas(32) == (192, 256)
    assert Look(960, 1280, 0.05, 3, ()).canvas(32) == (288, 384)  # 400 pixels, in multiples of 32
    assert Look(960, 1280, 0.01, 3, ()).canvas(32) == (384, 512)
    assert Look(300, 400, 0.01, 3, ()).canvas(32) == (288, 384)
    assert Look(2000, 300, 0.2, 1, ()).canvas(32) == (256, 32)


@pytest.mark.parametrize(("labels", "flips"), [(LABELS, 1), (("left shoe", "right shoe"), 0)])
def test_what_is_open_is_chosen_by_the_pictures_and_their_boxes(labels, flips, tmp_path):
    pictures = [
        one._replace(things=[thing._replace(label=labels[LABELS.index(thing.label)]) for thing in one.things])
        for one in drawn(20)
    ]
    folder = write_coco(tmp_path / "things", pictures, labels)
    recipe = sections.replace(detect.experiment(), {"task.data": BoxFolder(path=str(folder))})
    made, lines = settled(recipe, recipe.task.source("train"))
    assert made.task.statistics.size == (224, 256) and made.train.epochs == 60
    assert sum(isinstance(change, FlipBoxes) for change in made.task.augment) == flips
    assert any("small thing" in line for line in lines)
    stated, _ = settled(sections.replace(recipe, {"task.statistics.size": (96, 96)}), recipe.task.source("train"))
    assert stated.task.statistics.size == (96, 96)


def test_classes_of_a_run_that_training_starts_from_are_known_by_name(run):
    assert run_outputs(run.folder) == output_names(run.experiment.task) == list(LABELS)
