"""Rows of pictures with boxes: letterboxing, augmentation that moves boxes with pixels, and the answers of a codec."""

import json

import numpy as np
import pytest

from suite.codecs.boxes import PictureBoxes
from suite.data.augment import Colour
from suite.data.box_augment import FlipBoxes, Mosaic, ScaleCrop, cut
from suite.data.geometry import flips, moved_boxes, moved_images
from suite.data.preprocessing.boxes import BoxLabels
from suite.data.preprocessing.image import PixelStatistics
from suite.data.preprocessing.letterbox import GREY, placement
from suite.data.preprocessing.scenes import box_remarks, scenes
from suite.data.sources.memory import Memory
from suite.errors import InputError

SIZE = 48, 64


def fitted(folder, source, **fields):
    """Statistics and labels of pictures of any size on a canvas of `SIZE`."""
    content = {"shape": [*SIZE, 3], "mean": [0.5] * 3, "std": [0.2] * 3}
    (folder / "statistics.json").write_text(json.dumps(content))
    statistics = PixelStatistics(file=str(folder / "statistics.json"), size=SIZE, channels=3)
    labels = BoxLabels(file=str(folder / "labels.json"), **fields)
    labels.fit(source, "boxes", folder / "labels.json")
    return statistics, labels


def patches(count=6, seed=0):
    """Black pictures of several sizes, each with one white rectangle, its box, and one more box elsewhere."""
    rng = np.random.default_rng(seed)
    images, boxes = [], []
    for place in range(count):
        height, width = [(48, 64), (96, 128), (100, 60), (30, 90)][place % 4]
        image = np.zeros((height, width, 3), np.uint8)
        left, top = int(rng.integers(4, width // 3)), int(rng.integers(4, height // 3))
        right, bottom = int(rng.integers(width // 2, width - 4)), int(rng.integers(height // 2, height - 4))
        image[top:bottom, left:right] = 255
        images.append(image)
        boxes.append(json.dumps([{"box": [left, top, right, bottom], "label": "patch"}]))
    return Memory({"image": images, "boxes": boxes}, {"image": "image", "boxes": "boxes"})


def white(image):
    """The box around what is white."""
    down, across = np.nonzero(image[..., 0] > 168)
    return np.array([across.min(), down.min(), across.max() + 1, down.max() + 1])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    source = patches()
    return source, *fitted(tmp_path_factory.mktemp("fitted"), source)


AUGMENTATIONS = {
    "as they are": (),
    "mirrored": (FlipBoxes(horizontal=1.0),),
    "upside down": (FlipBoxes(horizontal=0.0, vertical=1.0),),
    "larger and smaller": (ScaleCrop(smallest=0.5, largest=1.6),),
    "all": (Colour(), ScaleCrop(), FlipBoxes(vertical=0.5)),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_boxes_stay_around_what_they_are_of(pictures, name):
    source, statistics, labels = pictures
    columns = source[np.arange(len(source))]
    for seed in range(4):
        rng = np.random.default_rng(seed) if AUGMENTATIONS[name] else None
        rows = scenes(columns, "image", "boxes", statistics, labels, rng, AUGMENTATIONS[name])
        assert rows["image"].shape == (6, *SIZE, 3) and rows["boxes"].shape == (6, 8, 4)
        for image, boxes, row, content in zip(
            *(rows[key] for key in ("image", "boxes", "labels", "content")), strict=True
        ):
            seen = boxes[row >= 0]
            if len(seen):  # what is cut away has no box
                assert np.abs(white(image) - seen[0]).max() <= 1.5
            assert (boxes[row < 0] == 0).all()
            outside = np.ones(SIZE, bool)
            left, top, right, bottom = content.astype(int)
            outside[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = False
            assert (image[outside] > 0).all()  # filling, not picture


def test_augmentations_are_drawn_by_the_seed_alone(pictures):
    source, statistics, labels = pictures
    columns = source[np.arange(len(source))]
    augment = (Colour(), Mosaic(), ScaleCrop(), FlipBoxes())
    drawn = [
        scenes(columns, "image", "boxes", statistics, labels, np.random.default_rng(seed), augment)
        for seed in (1, 1, 2)
    ]
    assert all((drawn[0][name] == drawn[1][name]).all() for name in drawn[0])
    assert (drawn[0]["image"] != drawn[2]["image"]).any()


def test_mosaics_hold_the_boxes_of_four_pictures(pictures):
    source, statistics, labels = pictures
    columns = source[np.arange(len(source))]
    rows = scenes(
        columns, "image", "boxes", statistics, labels, np.random.default_rng(0), (Mosaic(share=1.0, visible=0),)
    )
    assert (rows["labels"] >= 0).sum(1).max() > 1
    for image, boxes, row in zip(rows["image"], rows["boxes"], rows["labels"], strict=True):
        for left, top, right, bottom in np.round(boxes[row >= 0]).astype(int):
            if right - left > 4 and bottom - top > 4:
                assert image[top + 2 : bottom - 2, left + 2 : right - 2].mean() > 200
    full = {**{name: value[:, :1] for name, value in rows.items() if name in ("boxes", "labels", "crowd")}}
    whole = {**rows, **full, "labels": np.zeros((6, 1), np.int32)}
    kept = Mosaic(share=1.0, visible=0)(whole, np.random.default_rng(1))
    assert kept["labels"].shape == (6, 1)


def test_boxes_that_are_mostly_cut_away_are_not_learnt():
    boxes = np.array([[[-8.0, 0, 2, 10], [-2, 0, 8, 10], [-30, 0, -20, 10], [0, 0, 0, 0]]], np.float32)
    labels, crowd = np.array([[0, 0, 0, -1]]), np.zeros((1, 4), bool)
    seen = cut(boxes, labels, crowd, np.array([0, 0, 64, 48], np.float32), 0.3)
    assert seen["labels"].tolist() == [[0, 0, -1, -1]]
    assert seen["crowd"].tolist() == [[True, False, False, False]]
    assert seen["boxes"][0, :2].tolist() == [[0, 0, 2, 10], [0, 0, 8, 10]]


def test_moves_of_masks_keep_their_values():
    masks = np.zeros((2, 48, 64), np.uint8)
    masks[:, 10:20, 30:50] = 7
    moves = np.array([[1.5, 1.5, -20.0, -4.0], [-0.5, 0.5, 50.0, 10.0]])
    moved = moved_images(masks, moves, fill=255, nearest=True)
    assert set(np.unique(moved)) == {0, 7, 255}
    boxes = moved_boxes(np.array([[[30, 10, 50, 20]]] * 2, np.float32), moves)[:, 0]
    for mask, box in zip(moved, boxes, strict=True):
        down, across = np.nonzero(mask == 7)
        assert np.abs(np.array([across.min(), down.min(), across.max() + 1, down.max() + 1]) - box).max() <= 1
    twice = moved_images(
        moved_images(masks, flips(*[np.array([True, False])] * 2, SIZE), 0),
        flips(*[np.array([True, False])] * 2, SIZE),
        0,
    )
    assert (twice == masks).all()


def test_boxes_beyond_the_places_of_a_row_and_unknown_labels_are_told(tmp_path):
    rows = [
        [{"box": [0, 0, 10 + place, 10], "label": "cat"} for place in range(5)],
        [{"box": [0, 0, 9, 9], "label": "dog", "crowd": True}],
        [],
    ]
    image = np.zeros((48, 64, 3), np.uint8)
    train = Memory({"image": [image] * 3, "boxes": list(map(json.dumps, rows))}, {"image": "image", "boxes": "boxes"})
    other = Memory(
        {"image": [image], "boxes": [json.dumps([{"box": [0, 0, 9, 9], "label": "owl"}])]},
        {"image": "image", "boxes": "boxes"},
    )
    statistics, labels = fitted(tmp_path, train, boxes_per_picture=3)
    assert (labels.names, labels.counts, labels.most, labels.sizes()) == (["cat"], [5], 3, {"outputs": 1})
    lines = box_remarks({"train": train, "test": other}, "boxes", labels)
    assert (
        "train: 1 pictures have more than 3 boxes; 2 boxes, the smallest, are left out "
        "(--task.labels.boxes_per_picture)" in lines
    )
    assert "test: 1 boxes of labels that training does not have are left out: owl" in lines
    assert "test: no thing is large (above 96 x 96 pixels): AP_large is left out" in lines
    assert not any("AP_small" in line for line in lines)
    encoded = scenes(train[np.arange(3)], "image", "boxes", statistics, labels)
    assert encoded["labels"].tolist() == [[0, 0, 0], [-1, -1, -1], [-1, -1, -1]]
    assert encoded["boxes"][0, :, 2].tolist() == [12, 13, 14]
    assert (scenes(other[np.arange(1)], "image", "boxes", statistics, labels)["labels"] == -1).all()
    empty = Memory({"image": [image], "boxes": ["[]"]}, {"image": "image", "boxes": "boxes"})
    with pytest.raises(InputError, match="no training picture has a box"):
        labels.fit(empty, "boxes", tmp_path / "none.json")


@pytest.mark.parametrize("stored", [(480, 640), (100, 50), (40, 400)])
def test_answers_are_in_pixels_of_the_picture_that_was_asked(pictures, stored):
    _, statistics, labels = pictures
    codec = PictureBoxes(image="image", statistics=statistics, labels=labels, threshold=0.25, most=3)
    columns = {"image": [np.zeros((*stored, 3), np.uint8)]}
    assert codec.encode(columns)["image"].shape == (1, *SIZE, 3)
    wanted = np.array([[0.1, 0.1, 0.5, 0.6]]) * np.array([stored[1], stored[0]] * 2)
    placed = placement(stored, SIZE)
    on_canvas = wanted * placed[[0, 1, 0, 1]] + placed[[2, 3, 2, 3]]
    beyond = np.array([-9, -9, 999, 999])
    outputs = {
        "boxes": np.stack([on_canvas[0], beyond, *[on_canvas[0]] * 3, [np.nan] * 4, beyond, beyond])[None],
        "scores": np.array([[0.3, 0.9, 0.0, 0.2, 0.26, 0.5, 0.6, np.nan]], np.float32),
        "labels": np.array([[0, 0, 0, 0, 0, 0, 1, 0]]),
    }
    (answer,) = codec.decode(outputs, columns)
    assert [round(box["score"], 2) for box in answer["boxes"]] == [0.9, 0.3, 0.26]
    assert answer["boxes"][0]["box"] == [0, 0, stored[1], stored[0]]
    assert np.abs(np.array(answer["boxes"][1]["box"]) - wanted[0]).max() <= 0.01 * max(stored) / 10
    assert answer["boxes"][1]["label"] == "patch"


def test_letterbox_keeps_aspect_and_fills_with_grey(pictures):
    _, statistics, labels = pictures
    image = np.full((20, 64, 3), 250, np.uint8)
    encoded = PictureBoxes(image="image", statistics=statistics, labels=labels).encode({"image": [image]})
    assert (encoded["image"][0, :14] == GREY).all() and (encoded["image"][0, 14:34] == 250).all()
    assert encoded["content"].tolist() == [[0, 14, 64, 34]]
