"""Test-time augmentation: answers are the mean over views of a picture, from runs and bundles alike."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import suite
from suite.data.sources.datasets import Folder
from suite.evaluation.views import SIDES, views
from tests.untrained import untrained


@pytest.mark.parametrize("crops", SIDES)
def test_views_are_crops_and_mirrors_of_the_picture(crops):
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    seen = np.asarray(jnp.stack(views(jnp.asarray(picture)[None], (crops, "flip"))))[:, 0]
    assert seen.shape == (12, 16, 24, 3)
    np.testing.assert_array_equal(seen[0], picture)
    np.testing.assert_array_equal(seen[6:], seen[:6, :, ::-1])
    high, wide = 16 * SIDES[crops], 24 * SIDES[crops]
    boxes = [(0, 0), (24 - wide, 0), (0, 16 - high), (24 - wide, 16 - high), ((24 - wide) / 2, (16 - high) / 2)]
    for crop, (left, top) in zip(seen[1:6], boxes, strict=True):
        box = (left, top, left + wide, top + high)
        channels = [Image.fromarray(channel) for channel in np.moveaxis(picture.astype(np.float32), 2, 0)]
        scaled = [channel.resize((24, 16), Image.Resampling.BILINEAR, box=box) for channel in channels]
        expected = np.stack(list(map(np.asarray, scaled)), 2)
        assert abs(crop - expected)[1:-1, 1:-1].max() <= 1e-3  # Pillow reads nothing outside of the box


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
    for place in range(40):
        name = folder / ("dark", "bright")[place % 2] / f"{place}.png"
        name.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8) // (2 - place % 2)).save(name)
    return folder


@pytest.mark.parametrize(("recipe", "answer"), [("vision.classify", "top"), ("vision.embed", "vector")])
def test_a_picture_and_its_mirror_have_one_answer_where_both_are_views(photos, tmp_path, recipe, answer):
    picture = (photos / "dark" / "0.png").read_bytes()
    mirror = io.BytesIO()
    Image.open(photos / "dark" / "0.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirror, "PNG")

    def answers(model):
        rows = [row[answer] for row in model.predict([picture, mirror.getvalue()])]
        return np.array([[*row.values()] if isinstance(row, dict) else row for row in rows])

    changes = {"task.data": Folder(path=str(photos)), "task.statistics.size": (8, 8), "task.statistics.channels": 3}
    plain = suite.replace(suite.load(recipe, smoke=True), changes)
    run = untrained(suite.replace(plain, {"task.views": ("flip",)}), tmp_path / "both")
    one, other = answers(untrained(plain, tmp_path / "one"))
    assert abs(one - other).max() > 1e-4
    mean = (one + other) / 2
    if answer == "vector":
        mean = mean / np.linalg.norm(mean)
    for model in (run, suite.export(run, tmp_path / "bundle", platforms=("cpu",))):
        np.testing.assert_allclose(answers(model), [mean, mean], atol=2e-6)
