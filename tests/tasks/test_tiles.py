"""Large pictures in tiles: where tiles lie, how their answers become one, and that runs, bundles and servers agree."""

import ast
import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

import suite
from suite.codecs.tiled_boxes import joined, views
from suite.codecs.tiled_masks import blended
from suite.data.preprocessing.tiles import Tiles
from suite.errors import InputError
from suite.experiment import recipes, sections
from suite.models import resnet, segmenter
from tests import boxes as scenes
from tests.masks import drawn, write_folders
from tests.serving.asking import Serving, form
from tests.tasks.test_detection import SIZE, experiment

TILES = Tiles(size=(48, 64))


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def mosaic(pictures, across):
    """Pictures of one size side by side, row by row."""
    rows = [np.concatenate(pictures[start : start + across], 1) for start in range(0, len(pictures), across)]
    return np.concatenate(rows)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (10, 500), (49, 64), (200, 333), (481, 97)])
def test_tiles_cover_the_picture_and_share_what_they_must(height, width):
    places = TILES.places(height, width)
    seen = np.zeros((height, width), int)
    for left, top, right, bottom in places:
        assert (bottom - top, right - left) == (min(48, height), min(64, width))
        seen[top:bottom, left:right] += 1
    assert seen.min() == 1
    for side, tile in ((0, 64), (1, 48)):
        steps = np.diff(np.unique(places[:, side]))
        assert (steps <= tile * 0.75 + 1).all()
    assert (len(places) == 1) == (height <= 48 and width <= 64)


def test_a_picture_of_too_many_tiles_is_refused_and_so_are_numbers_that_are_none():
    few = Tiles(size=(10, 10), most=3)
    with pytest.raises(InputError, match=r"photo\.png: takes more than 3 tiles, each 10 wide, 10 high") as error:
        few.places(40, 10, "photo.png")
    assert error.value.found == "10 wide, 40 high: 5 tiles"
    larger = ast.literal_eval(error.value.fix.partition('"task.tiles.size": ')[2].partition("}")[0])
    assert len(dataclasses.replace(few, size=larger).places(40, 10)) <= 3
    for bad in ({"overlap": 1.0}, {"most": 0}, {"most": 10**6}, {"size": (0, 5)}):
        with pytest.raises(InputError, match="must be"):
            Tiles(**bad)


def test_boxes_of_one_thing_in_several_views_are_one():
    places = views(TILES, 48, 112)  # two tiles that share 16 pixels
    assert places.tolist() == [[0, 0, 112, 48], [0, 0, 64, 48], [48, 0, 112, 48]]
    small, large = [50, 10, 60, 20], [30, 5, 90, 40]
    boxes = np.array(
        [
            [small, large, [0, 0, 5, 5]],  # the whole: what is small there counts nothing
            [small, [30, 5, 64, 40], [1, 30, 9, 40]],
            [[50.5, 10, 60, 20], [48, 5, 90, 40], [0, 0, 0, 0]],
        ],
        float,
    )
    scores = np.array([[0.9, 0.3, 0.9], [0.6, 0.8, 0.5], [0.7, 0.9, 0.0]])
    labels = np.zeros((3, 3), int)
    kept = joined(boxes, scores, labels, places).reshape(3, 3)
    assert kept.tolist() == [[False, True, False], [False, False, True], [True, False, False]]
    labels[1, 0] = 1  # of another class it is another thing
    assert joined(boxes, scores, labels, places).reshape(3, 3)[1, 0]


def test_things_beside_each_other_in_one_view_are_left_as_the_model_says():
    places = views(TILES, 48, 112)
    boxes = np.array([[[0, 0, 0, 0]] * 2, [[10, 10, 20, 20], [10, 10, 21, 21]], [[0, 0, 0, 0]] * 2], float)
    scores = np.array([[0, 0], [0.9, 0.8], [0, 0]])
    assert joined(boxes, scores, np.zeros((3, 2), int), places).sum() == 2


def test_masks_of_tiles_are_blended_without_seams():
    """Of logits that are a function of the picture's pixels, the mask is that function's, wherever tiles end."""
    height, width = 90, 150
    places = TILES.places(height, width)
    down, along = np.mgrid[:height, :width]
    logits = np.stack([np.sin(down / 9) + np.cos(along / 13), np.full((height, width), 0.2)], -1).astype(np.float32)
    tiles = np.stack([logits[top:bottom, left:right] for left, top, right, bottom in places])
    np.testing.assert_array_equal(blended(tiles, places), logits.argmax(-1))


def test_a_tile_counts_least_at_its_border():
    places = np.array([[0, 0, 4, 1], [2, 0, 6, 1]])
    logits = np.zeros((2, 1, 4, 2), np.float32)
    logits[0, ..., 0], logits[1, ..., 1] = 1, 1
    assert blended(logits, places).tolist() == [[0, 0, 0, 1, 1, 1]]


def test_bands_of_a_picture_are_scaled_as_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    places = Tiles(size=(40, 60)).places(100, 130)
    logits = rng.standard_normal((len(places), 32, 40, 3)).astype(np.float32)  # letterboxed: 27 of 32 rows are picture
    whole = blended(logits, places)
    monkeypatch.setattr("suite.codecs.tiled_masks.HELD", 130 * 3 * 7)
    assert (blended(logits, places) != whole).mean() < 1e-3  # rounding of equal logits
    logits[0] = np.nan
    assert blended(logits, places).shape == (100, 130)


def with_tiles(run, tiles=TILES):
    """The run as it were, had it been trained with tiles: they change nothing that is learnt."""
    return dataclasses.replace(run, experiment=suite.replace(run.experiment, {"task.tiles": tiles}))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("things")
    data = scenes.write_coco(folder / "data", scenes.drawn(120))
    plain = suite.train(experiment(data), folder / "run")
    return plain, with_tiles(plain)


def found(answers, truths):
    """Share of true boxes that an answer of the class overlaps by half."""
    hits = 0
    for label, box in truths:
        for answer in answers:
            low, high = np.maximum(answer["box"][:2], box[:2]), np.minimum(answer["box"][2:], box[2:])
            common = np.clip(high - low, 0, None).prod()
            union = np.prod(np.subtract(box[2:], box[:2])) + np.prod(np.subtract(answer["box"][2:], answer["box"][:2]))
            if answer["label"] == label and common > 0.5 * (union - common):
                hits += 1
                break
    return hits / len(truths)


def test_small_things_of_large_pictures_are_found_in_tiles_alone(detector):
    plain, tiled = detector
    pictures = [one for one in scenes.drawn(64, seed=7) if one.pixels.shape[:2] == SIZE][:16]
    large = mosaic([one.pixels for one in pictures], 4)
    truths = [
        (thing.label, np.array(thing.box) + np.array([64, 48, 64, 48]) * np.tile([place % 4, place // 4], 2))
        for place, one in enumerate(pictures)
        for thing in one.things
    ]
    whole, cut = (run.predict([large])[0] for run in (plain, tiled))
    assert "tiles" not in whole and cut["tiles"] == len(TILES.places(*large.shape[:2])) + 1
    assert found(cut["boxes"], truths) > 0.6 > 0.2 > found(whole["boxes"], truths)
    alone = sum(len(answer["boxes"]) for answer in plain.predict([one.pixels for one in pictures]))
    assert len(cut["boxes"]) < 1.1 * alone  # what several tiles see is answered once


def test_a_picture_that_fits_in_a_tile_has_the_answer_it_has_without(detector):
    plain, tiled = detector
    pictures = [one.pixels for one in scenes.drawn(4, seed=3)]
    ours = tiled.predict(pictures)
    assert [answer.pop("tiles") for answer in ours] == [1] * 4
    assert ours == plain.predict(pictures)


def test_a_record_that_takes_too_many_tiles_leaves_the_others_their_answers(detector):
    _, tiled = detector
    few = with_tiles(detector[0], Tiles(size=SIZE, most=4))
    small, large = (one.pixels for one in scenes.drawn(2)), np.zeros((480, 640, 3), np.uint8)
    first, second = small
    answers = few.predict_each({"image": [first, large, second]}, batch_size=2)
    assert isinstance(answers[1], InputError) and "takes more than 4 tiles" in answers[1].problem
    assert [answer["boxes"] for answer in (answers[0], answers[2])] == [
        answer["boxes"] for answer in tiled.predict([first, second])
    ]


@pytest.fixture(scope="module")
def cutter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    body = resnet.Config(
        channels=0, blocks=(1, 1), widths=(16, 32), stem_width=16, stem_kernel=3, stem_stride=1, stem_pool=False
    )
    changes = {
        "task.data.path": str(write_folders(folder / "data", drawn(40))),
        "task.statistics.size": (32, 40),
        "task.tiles": Tiles(size=(32, 40), overlap=0.3),
        "model": segmenter.Config(parts={"backbone": body}, strides=(1, 2), width=16, frozen_statistics=False),
        "train.steps": 50,
        "train.batch_size": 8,
        "train.eval_every": 50,
        "optim.learning_rate": 0.01,
        "optim.rates": (),
    }
    return suite.train(sections.replace(recipes.load("vision.segment", smoke=True), changes), run_dir=folder / "run")


def mask_in(answer):
    with Image.open(io.BytesIO(answer["mask"].data)) as image:
        return np.asarray(image)


def test_masks_of_large_pictures_are_as_fine_as_those_of_small_ones(cutter):
    pairs = drawn(9, seed=11)
    picture, mask = (mosaic([pair[part] for pair in pairs], 3) for part in (0, 1))
    plain = with_tiles(cutter, Tiles())
    (cut,), (whole,) = cutter.predict([picture]), plain.predict([picture])
    assert cut["tiles"] == len(Tiles(size=(32, 40), overlap=0.3).places(*mask.shape)) > 9 and "tiles" not in whole
    right = [(mask_in(answer) == mask)[mask > 0].mean() for answer in (cut, whole)]
    assert right[0] > 0.8 and right[0] > right[1] + 0.1
    (one,), (other,) = cutter.predict([pairs[0][0]]), plain.predict([pairs[0][0]])
    assert one.pop("tiles") == 1 and one == other
    (rows,) = cutter.experiment.task.codec.rows_of({"image": [picture]})
    assert rows == cut["tiles"]


def test_a_bundle_computes_tiles_in_batches_of_one_size_and_says_what_its_run_says(cutter, detector, tmp_path):
    pictures = [mosaic([one for one, _ in drawn(6, seed=5)], 3), drawn(1, (30, 40))[0][0]]
    bundle = suite.export(cutter, tmp_path / "masks", platforms=("cpu",))
    for ours, theirs in zip(cutter.predict(pictures), bundle.predict(pictures), strict=True):
        assert ours["tiles"] == theirs["tiles"] and (mask_in(ours) != mask_in(theirs)).mean() < 0.002
    large = mosaic([one.pixels for one in scenes.drawn(16, seed=2) if one.pixels.shape[:2] == SIZE][:4], 2)
    bundle = suite.export(detector[1], tmp_path / "boxes", platforms=("cpu",))
    (ours,), (theirs,) = detector[1].predict([large]), bundle.predict([large])
    assert ours["tiles"] == theirs["tiles"] > 4 and len(ours["boxes"]) == len(theirs["boxes"])
    for one, other in zip(ours["boxes"], theirs["boxes"], strict=True):
        np.testing.assert_allclose(one["box"], other["box"], atol=0.02)
    each = bundle.predict_each({"image": [large, large]}, batch_size=3)
    assert [answer["boxes"] for answer in each] == [theirs["boxes"]] * 2


def test_a_server_joins_the_tiles_of_each_request_whatever_else_it_computes(detector, cutter, tmp_path):
    boxes = suite.export(detector[1], tmp_path / "boxes", platforms=("cpu",))
    masks = suite.export(cutter, tmp_path / "masks", platforms=("cpu",))
    pictures = [one.pixels for one in scenes.drawn(16, seed=2) if one.pixels.shape[:2] == SIZE]
    asked = [png(mosaic(pictures[:4], 2)), png(pictures[4]), png(mosaic(pictures[:6], 3))]
    records = [{"image": base64.b64encode(data).decode()} for data in asked]
    with Serving(boxes.folder, masks.folder, "--sizes", 1, 4, "--queue", 64, "--max-records", 64) as server:
        answers = server.ask("boxes", records)
        assert [answer["tiles"] for answer in answers] == [answer["tiles"] for answer in boxes.predict(asked)]
        for ours, theirs in zip(answers, boxes.predict(asked), strict=True):
            assert [box["label"] for box in ours["boxes"]] == [box["label"] for box in theirs["boxes"]]
            for one, other in zip(ours["boxes"], theirs["boxes"], strict=True):
                np.testing.assert_allclose(one["box"], other["box"], atol=0.02)
        (answer,) = server.ask("masks", records[:1])
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask"]["data"]))))
        (expected,) = masks.predict(asked[:1])
        assert answer["tiles"] == expected["tiles"] and (image != mask_in(expected)).mean() < 0.002
        status, made = server.post("boxes", form(("image", "large.png", asked[0])), "multipart/form-data; boundary=xyz")
        assert status == 200 and made["answers"][0]["tiles"] == answers[0]["tiles"]
        status, error = server.error("boxes", {"inputs": records[:1] * 20})
        assert (status, error["code"]) == (413, "too_many_rows") and "64" in error["message"]
        huge = base64.b64encode(png(np.zeros((900, 900, 3), np.uint8))).decode()
        status, error = server.error("boxes", {"inputs": [records[1], {"image": huge}]})
        assert (status, error["field"]) == (400, "inputs[1].image") and "64 tiles" in error["message"]
