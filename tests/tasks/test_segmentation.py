"""Semantic segmentation: what is learnt, how answers lie on pictures, and what is counted."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import suite
from suite.data.preprocessing.letterbox import placement
from suite.data.preprocessing.masks import letterboxed_mask, palette, stored_mask
from suite.evaluation.metrics.segmentation import segmentation_scores
from suite.evaluation.segmentation_artifacts import segmentation_artifacts
from suite.experiment import recipes
from suite.experiment.sections import replace
from suite.models import resnet, segmenter
from suite.reporting.drawings import drawn as shown
from suite.tasks.vision.segmentation import SemanticSegmentation
from tests.masks import NAMES, drawn, write_folders

SIZE = (32, 40)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    # No stride before the first map: fifty steps are few for edges.
    body = resnet.Config(
        channels=0, blocks=(1, 1), widths=(16, 32), stem_width=16, stem_kernel=3, stem_stride=1, stem_pool=False
    )
    experiment = replace(
        recipes.load("vision.segment", smoke=True),
        {
            "task.data.path": str(write_folders(folder / "data", drawn(40))),
            "task.statistics.size": SIZE,
            "model": segmenter.Config(parts={"backbone": body}, strides=(1, 2), width=16, frozen_statistics=False),
            "train.steps": 50,
            "train.batch_size": 8,
            "train.eval_every": 50,
            "optim.learning_rate": 0.01,
            "optim.rates": (),
        },
    )
    return suite.train(experiment, run_dir=folder / "run")


def test_a_small_network_learns_the_classes_of_pixels(run):
    scores = run.evaluate("test").metrics
    assert scores["test/mIoU"] > 0.8
    assert {f"test/{name}.IoU" for name in NAMES} <= scores.keys()


def test_an_answer_is_a_mask_as_large_as_its_picture(run):
    picture, mask = drawn(1, (64, 80), seed=5)[0]
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    (answer,) = run.predict([file.getvalue()])
    with Image.open(io.BytesIO(answer["mask"].data)) as image:
        assert image.size == (80, 64) and image.mode == "P"
        assert image.getpalette()[3:6] == list(palette(3)[1])
        answered = np.asarray(image)
    assert (answered == mask).mean() > 0.8
    shares = {NAMES[k]: count / answered.size for k, count in enumerate(np.bincount(answered.ravel()))}
    assert answer["shares"] == pytest.approx(shares, abs=1e-5) and next(iter(answer["shares"])) == "background"


def test_a_bundle_answers_with_the_masks_of_its_run(run, tmp_path):
    bundle = suite.export(run, tmp_path / "bundle", platforms=("cpu",))
    pictures = [picture for picture, _ in drawn(3, (50, 40), seed=7)]
    for ours, theirs in zip(run.predict(pictures), bundle.predict(pictures), strict=True):
        masks = [np.asarray(Image.open(io.BytesIO(answer["mask"].data))) for answer in (ours, theirs)]
        assert masks[0].shape == (50, 40) and (masks[0] != masks[1]).mean() < 0.002  # of equal logits either is right


def test_a_report_lays_masks_over_the_pictures_that_were_asked(run):
    page = suite.report(run.folder).read_text(encoding="utf-8")
    assert page.count("→ mask") >= 3 and "Worst pictures" in page


def test_masks_move_with_their_pictures(run):
    task = run.experiment.task
    source = task.source("train")
    rows = task.encode(source[np.arange(8)], np.random.default_rng(0))
    plain = task.encode(source[np.arange(8)])
    assert not np.array_equal(rows["classes"], plain["classes"])
    # Discs are red and squares blue, whatever moved; the augmentation of colours keeps which is larger.
    red = rows["image"][..., 0].astype(int) - rows["image"][..., 2]
    assert red[rows["classes"] == 1].mean() > 60 and red[rows["classes"] == 2].mean() < -60
    assert (rows["classes"] == 255).any()  # around pictures that were made smaller nothing counts


def test_a_mask_finds_its_way_back_from_the_canvas():
    mask = np.random.default_rng(0).integers(0, 4, (5, 9)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    canvas = letterboxed_mask(mask, (64, 64))
    placed = placement(mask.shape, (64, 64))
    inside = canvas[int(placed[3]) : int(placed[3]) + round(40 * placed[1])]
    assert (inside < 4).all() and (canvas == 255).sum() == canvas.size - inside.size
    assert (stored_mask(canvas, placed) == mask).mean() > 0.9


def test_scores_add_over_batches_and_leave_out_classes_that_are_nowhere():
    rng = np.random.default_rng(0)
    answered, wanted = rng.integers(0, 3, (2, 6, 4, 5)).astype(np.uint8)
    wanted[0, :2] = 255
    names = ("a", "b", "c", "never")
    whole = segmentation_scores(answered, wanted, names)
    parts = [segmentation_scores(answered[part], wanted[part], names) for part in (slice(0, 2), slice(2, 6))]
    counted = wanted < 255
    expected = [
        ((answered == k) & (wanted == k)).sum() / (((answered == k) & counted) | (wanted == k)).sum() for k in range(3)
    ]
    assert whole["mIoU"].value() == pytest.approx(np.mean(expected))
    assert (parts[0]["mIoU"] + parts[1]["mIoU"]).value() == pytest.approx(np.mean(expected))
    assert (parts[0]["b.IoU"] + parts[1]["b.IoU"]).value() == pytest.approx(expected[1])
    assert (parts[0]["never.IoU"] + parts[1]["never.IoU"]).absent and not whole["a.IoU"].absent
    assert whole["pixel_accuracy"].value() == pytest.approx((answered == wanted)[counted].mean())
    perfect = segmentation_scores(np.where(counted, wanted, 0), wanted, names)
    assert perfect["mIoU"].value() == perfect["pixel_accuracy"].value() == 1
    rows = [segmentation_scores(answered[k : k + 1], wanted[k : k + 1], names)["mIoU"] for k in range(6)]
    drawn_twice = type(rows[0]).resampled(rows, np.array([[1] * 6, [2, 0, 0, 0, 0, 0]]))
    assert drawn_twice == pytest.approx([whole["mIoU"].value(), rows[0].value()])


def test_the_loss_counts_no_ignored_pixel_and_no_padding_row():
    task = SemanticSegmentation(data=None)
    wanted = np.array([[[0, 1], [255, 255]], [[1, 1], [1, 1]]], np.uint8)
    sure = 20.0 * jax.nn.one_hot(jnp.array([[[0, 1], [1, 0]], [[0, 0], [0, 0]]]), 2)
    object.__setattr__(task, "logits", lambda model, batch, rngs=None: sure)
    batch = {"classes": jnp.asarray(wanted), "mask": jnp.array([True, False]), "image": None}
    loss, logged = task.loss(None, batch, None)
    assert float(loss) < 1e-3 and logged["loss"].count == 1
    loss, _ = task.loss(None, {**batch, "mask": jnp.array([True, True])}, None)
    assert float(loss) > 5


def test_a_report_shows_both_masks_of_the_worst_pictures_and_classes_that_are_nowhere():
    pairs = drawn(2, SIZE)
    wanted = np.stack([mask for _, mask in pairs])
    batch = {"image": np.stack([picture for picture, _ in pairs]), "classes": wanted}
    artifacts = segmentation_artifacts(np.stack([wanted[0], 0 * wanted[1]]), batch, (*NAMES, "never"))
    worst = artifacts["Worst pictures"].examples
    assert worst[0].loss > 0.5 and worst[1].loss == 0
    assert worst[0].given.pixels.shape == (SIZE[0], 2 * SIZE[1] + 4, 3)
    blocks = shown(artifacts["Classes of pixels"])
    assert any("never" in getattr(block, "text", "") for block in blocks)
