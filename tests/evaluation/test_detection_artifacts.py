"""Artifacts of detectors: what is found, missed and confused, and how a report shows it."""

import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from suite.contracts.signature import Input, Output
from suite.data.preprocessing.letterbox import placement
from suite.data.sources.memory import Memory
from suite.evaluation.artifacts import Framed, FramedImage
from suite.evaluation.detection_artifacts import detection_artifacts
from suite.reporting.blocks import Items, Matrix, Picture, Table
from suite.reporting.drawings import drawn
from suite.reporting.drawings.boxes import RIGHT, WRONG, framed
from suite.reporting.drawings.values import Given, shown
from suite.reporting.sample_predictions import answers

NAMES = ("cat", "dog")
CAT, DOG, CROWD = [10, 10, 30, 30], [40, 10, 60, 30], [0, 50, 90, 90]


def artifacts(said, threshold=0.3):
    """Of one picture of 100 x 100 pixels with a cat, a dog and a crowd of dogs."""
    picture = np.full((100, 100, 3), 200, np.uint8)
    batch = {
        "placed": placement((100, 100), (100, 100))[None],
        "boxes": np.array([[CAT, DOG, CROWD, [0, 0, 0, 0]]], np.float32),
        "labels": np.array([[0, 1, 1, -1]]),
        "crowd": np.array([[False, False, True, False]]),
        "area": np.array([[400.0, 400.0, 3600.0, 0.0]]),
    }
    outputs = {
        "boxes": np.array([[box for box, *_ in said]], np.float32),
        "labels": np.array([[label for _, label, _ in said]]),
        "scores": np.array([[score for *_, score in said]], np.float32),
    }
    return detection_artifacts({"image": [picture]}, outputs, batch, NAMES, threshold)


@pytest.mark.parametrize(
    ("said", "counts", "beside"),
    [
        pytest.param([(CAT, 0, 0.9), (DOG, 1, 0.9)], [[1, 0, 0], [0, 1, 0], [0, 0, 0]], 0, id="all are found"),
        pytest.param([(CAT, 0, 0.9), (DOG, 1, 0.2)], [[1, 0, 0], [0, 0, 1], [0, 0, 0]], 0, id="one is below the score"),
        pytest.param(
            [(CAT, 1, 0.9), (DOG, 1, 0.9)], [[0, 1, 0], [0, 1, 0], [0, 0, 0]], 0, id="a cat is taken for a dog"
        ),
        pytest.param(
            [(CAT, 1, 0.9), (CAT, 0, 0.4)], [[1, 0, 0], [0, 0, 1], [0, 1, 0]], 0, id="the class decides first"
        ),
        pytest.param([(CAT, 0, 0.9), (CAT, 0, 0.4)], [[1, 0, 0], [0, 0, 1], [1, 0, 0]], 1, id="a second answer"),
        pytest.param([([70, 0, 90, 9], 1, 0.9)], [[0, 0, 1], [0, 0, 1], [0, 1, 0]], 0, id="about nothing"),
        pytest.param([([5, 52, 50, 88], 1, 0.9)], [[0, 0, 1], [0, 0, 1], [0, 0, 0]], 0, id="in a crowd"),
    ],
)
def test_boxes_are_found_missed_confused_and_made_up(said, counts, beside):
    confusion = artifacts(said)["Confusions"]
    assert confusion.counts.tolist() == counts
    assert confusion.beside == beside
    both = confusion + confusion
    assert both.counts.tolist() == (2 * np.array(counts)).tolist()


def test_report_draws_curves_confusions_and_pictures():
    found = artifacts([(CAT, 0, 0.9), (CAT, 1, 0.6), ([70, 0, 90, 9], 1, 0.5)])
    joined = {name: artifact + artifact for name, artifact in found.items()}
    blocks = [block for artifact in joined.values() for block in drawn(artifact)]
    table = next(block for block in blocks if isinstance(block, Table))
    assert table.rows[0][:5] == ("cat", "2", "2", "100.0 %", "100.0 %")
    assert table.rows[1][:5] == ("dog", "2", "4", "0.0 %", "0.0 %")
    matrix = next(block for block in blocks if isinstance(block, Matrix))
    assert matrix.names == ("cat", "dog", "none")
    gallery = joined["Pictures with most errors"]
    assert [example.note for example in gallery.examples] == ["1 missed, 2 about no box, 0 of another class"] * 2
    card = blocks[-1].cards[0]
    assert card.picture.alt == "3 boxes, 3 predicted; missed: dog; wrong: dog 60 %, dog 50 %"


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))).astype(int)


def near(pixel, colour):
    return np.abs(pixel - np.array(colour)).max() < 60


def test_boxes_are_drawn_where_they_are():
    given = FramedImage(
        np.full((100, 200, 3), 255, np.uint8),
        (Framed((10, 20, 60, 70), "cat", True),),
        (Framed((10, 20, 60, 70), "cat 90 %", True), Framed((100, 20, 150, 70), "dog 50 %", False)),
    )
    drawing = pixels(framed(given))
    scale = drawing.shape[1] / 200
    at = lambda x, y: drawing[round(y * scale), round(x * scale)]
    assert near(at(10, 60), RIGHT) and near(at(150, 50), WRONG)
    assert near(at(80, 50), (255, 255, 255)) and near(at(35, 45), (255, 255, 255))


def test_answered_boxes_are_drawn_over_the_picture_that_was_asked():
    given = Given((Input(name="photo", kind="image"),), {"photo": np.full((100, 200, 3), 255, np.uint8)})
    answer = [{"box": [100.0, 20.0, 150.0, 70.0], "label": "cat", "score": 0.9}]
    picture, items = shown(Output(name="boxes", kind="boxes"), answer, given)
    assert isinstance(picture, Picture) and isinstance(items, Items)
    drawing = pixels(picture)
    scale = drawing.shape[1] / 200
    assert near(drawing[round(50 * scale), round(150 * scale)], RIGHT)
    assert items.rows == (("cat 90 %", "100, 20, 150, 70"),)


def test_sample_predictions_show_the_picture_with_the_boxes_that_are_answered():
    image = np.full((100, 200, 3), 255, np.uint8)
    boxes = '[{"box": [10, 20, 60, 70], "label": "cat"}]'
    source = Memory({"image": [image] * 4, "boxes": [boxes] * 4}, {"image": "image", "boxes": "boxes"})
    codec = SimpleNamespace(
        primary="image", inputs=(Input(name="image", kind="image"),), outputs=(Output(name="boxes", kind="boxes"),)
    )
    answer = {"boxes": [{"box": [100.0, 20.0, 150.0, 70.0], "label": "cat", "score": 0.9}]}
    task = SimpleNamespace(source=lambda split: source)
    run = SimpleNamespace(codec=codec, experiment=SimpleNamespace(task=task), predict=lambda request: [answer] * 4)
    card = answers(run, "test")[0].cards[0]
    assert card.picture.kind == "framed" and card.picture.alt == "boxes: cat 90 %"
    assert card.fields == (
        ("boxes", Items((("cat", "10, 20, 60, 70"),))),
        ("→ boxes", Items((("cat 90 %", "100, 20, 150, 70"),))),
    )
