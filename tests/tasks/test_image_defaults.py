"""Defaults from pictures: size, channels, augmentation, network, epochs."""

import json

import numpy as np
import pytest

import suite
from suite.data.augment import Crop, Flip, ResizedCrop, named
from suite.data.sources.datasets import Folder
from suite.data.sources.memory import Memory
from suite.experiment.defaults import settled

RNG = np.random.default_rng(0)


def pictures(*shapes, colour=False, names=("ankle boot", "bag"), records=12):
    """Pictures of these heights and widths in turn."""
    images = []
    for place in range(records):
        pixels = RNG.integers(0, 256, (*shapes[place % len(shapes)], 3), dtype=np.uint8)
        images.append(pixels if colour else np.repeat(pixels[..., :1], 3, axis=2))
    labels = np.arange(records) % len(names)
    return Memory({"image": images, "label": labels}, {"image": "image", "label": "class"}, {"label": list(names)})


def chosen(source, recipe="vision.classify", **changes):
    experiment = suite.replace(suite.load(recipe), changes)
    experiment, lines = settled(experiment, source)
    return experiment, "\n".join(lines)


def test_small_grey_pictures_stay_as_they_are_and_are_not_mirrored():
    experiment, lines = chosen(pictures((28, 28)))
    assert (experiment.task.statistics.size, experiment.task.statistics.channels) == ((28, 28), 1)
    assert experiment.task.augmentation == ("shift",)
    assert (experiment.model.stem_stride, experiment.model.stem_pool) == (1, True)
    assert "where a mirror image is of the same class: --task.augmentation shift flip" in lines


def test_small_pictures_in_colour_are_mirrored():
    experiment, lines = chosen(pictures((32, 32), colour=True))
    assert (experiment.task.statistics.size, experiment.task.statistics.channels) == ((32, 32), 3)
    assert experiment.task.augmentation == ("shift", "flip")
    assert "where classes differ by left and right: --task.augmentation shift" in lines


def test_tiny_pictures_keep_every_place():
    experiment, _ = chosen(pictures((8, 8)))
    assert (experiment.model.stem_stride, experiment.model.stem_pool) == (1, False)


def test_photos_are_scaled_down_in_their_shape():
    experiment, lines = chosen(pictures((300, 400), colour=True))
    assert experiment.task.statistics.size == (56, 72)
    assert experiment.task.augmentation == ("crop", "flip")
    assert (experiment.model.stem_stride, experiment.model.stem_pool) == (2, False)
    assert "colour pictures of 400 x 300 pixels (median)" in lines


def test_photos_of_different_shapes_become_squares():
    experiment, lines = chosen(pictures((300, 400), (400, 300), colour=True))
    assert experiment.task.statistics.size == (64, 64) and "of different shapes" in lines


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("turn_left", "turn_right"), "names of classes tell left from right"),
        (("0", "1"), "classes named as digits and letters are"),
        (("A", "B"), "classes named as digits and letters are"),
    ],
)
def test_classes_that_a_mirror_exchanges_are_not_mirrored(names, why):
    experiment, lines = chosen(pictures((100, 100), colour=True, names=names))
    assert experiment.task.augmentation == ("crop",) and why in lines


def test_names_that_hold_left_within_a_word_are_mirrored():
    experiment, _ = chosen(pictures((100, 100), colour=True, names=("bright", "leftover")))
    assert experiment.task.augmentation == ("crop", "flip")


def test_large_sets_are_passed_over_less_often_in_larger_batches():
    images = np.zeros((54_000, 1, 1, 1), np.uint8)
    source = Memory({"image": images, "label": np.arange(54_000) % 2})
    experiment, _ = chosen(source)
    assert (experiment.train.epochs, experiment.train.batch_size) == (8, 128)
    few, _ = chosen(pictures((28, 28)))
    assert (few.train.epochs, few.train.batch_size, few.train.patience) == (100, 32, 25)


def test_few_photos_are_told_of_published_weights():
    own = {"task.data": Folder(path="my photos", seed=3), "task.label": "kind"}
    photos = pictures((300, 400), colour=True)
    columns = photos[np.arange(12)]
    source = Memory({"image": columns["image"], "kind": columns["label"]})
    _, lines = chosen(source, **own)
    flags = "--data 'my photos' --task.image image --task.label kind --task.data.seed 3"
    assert f"suite train vision.finetune {flags}" in lines
    assert "vision.finetune" not in chosen(pictures((28, 28)))[1]  # no photos
    assert "vision.finetune" not in chosen(photos, **{"checkpoint.init_from": "weights"})[1]


def test_what_is_stated_stays():
    changes = {"task.augment": (Flip(),), "task.statistics.size": (20, 20), "model.widths": (8, 8)}
    experiment, lines = chosen(pictures((28, 28)), **changes)
    assert (experiment.task.augmentation, experiment.task.statistics.size) == ((), (20, 20))
    assert experiment.model.blocks == (1, 1)
    assert not any(f"--{name}" in lines for name in ("task.augmentation", "task.statistics.size", "model.widths"))


def test_the_network_is_that_of_the_run_that_training_starts_from(tmp_path):
    model = {"stem_stride": 2, "stem_pool": False, "stem_width": 16, "blocks": [1, 2], "widths": [16, 24]}
    (tmp_path / "experiment.json").write_text(json.dumps({"model": model}))
    experiment, _ = chosen(pictures((28, 28)), **{"checkpoint.init_from": str(tmp_path)})
    assert (experiment.model.stem_stride, experiment.model.widths) == (2, (16, 24))
    assert experiment.task.statistics.size is None  # as the run's own


def test_a_number_may_depend_on_place_and_side():
    source = pictures((100, 100), colour=True)
    numbers = Memory({"image": source[np.arange(12)]["image"], "target": np.arange(12.0)})
    experiment, lines = chosen(numbers, "vision.regress")
    assert experiment.task.augmentation == ("none",) and "--task.augmentation shift flip" in lines


def test_nothing_is_cut_off_where_a_picture_has_several_labels():
    source = pictures((100, 100), colour=True)
    labelled = Memory({"image": source[np.arange(12)]["image"], "target": ["cat|dog", "cat"] * 6})
    experiment, _ = chosen(labelled, "vision.label")
    assert experiment.task.augmentation == ("shift", "flip")


def test_vectors_of_pictures_are_of_the_same_size_and_colours():
    experiment, _ = chosen(pictures((28, 28)), "vision.embed")
    assert (experiment.task.statistics.size, experiment.task.statistics.channels) == ((28, 28), 1)
    assert (experiment.task.augmentation, experiment.model.stem_stride) == (("shift",), 1)
    assert (experiment.train.best, experiment.train.batch_size) == ("mrr", 128)


def test_named_augmentations():
    assert named(("none",), (28, 28)) == []
    assert named(("shift", "flip"), (28, 20)) == [Crop(padding=2, fill="edge"), Flip()]
    assert named(("crop",), (28, 28)) == [ResizedCrop(smallest=0.5)]


def test_what_moves_in_has_the_colour_of_the_border():
    images = np.full((20, 6, 6, 1), 200, np.uint8)
    shifted = Crop(padding=2, fill="edge")(images, np.random.default_rng(0))
    np.testing.assert_array_equal(shifted, images)
    assert (Crop(padding=2)(images, np.random.default_rng(0)) == 0).any()
