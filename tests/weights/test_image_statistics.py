"""Images are given to published weights as the weights were trained on them."""

import json

import numpy as np
import pytest

from suite.data.preprocessing.image import PixelStatistics
from suite.data.sources.memory import Memory
from suite.errors import InputError
from suite.experiment.sections import Checkpoint, Experiment
from suite.tasks.vision.classification import ImageClassification
from suite.training.preprocessors import _fit, _fit_images
from suite.weights.image_statistics import IMAGENET, PREPROCESSOR, image_statistics, write
from suite.weights.published import Published

HALF = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)


def weights(folder, stated=None, **config):
    if stated is not None:
        (folder / PREPROCESSOR).write_text(json.dumps(stated))
    return Published(folder, config, {})


def fit(statistics, published, file):
    _fit_images("statistics", statistics, image_statistics(published), Memory({"image": PIXELS}), "image", file)


def given(stated, pixels):
    """Images as the original library gives them to the model."""
    x = pixels.astype(np.float64)
    x = x * stated.get("rescale_factor", 1 / 255) if stated.get("do_rescale", True) else x
    return (x - stated["image_mean"]) / stated["image_std"] if stated.get("do_normalize", True) else x


@pytest.mark.parametrize(
    "changes", [{}, {"rescale_factor": 1 / 127.5}, {"do_rescale": False}, {"do_normalize": False}, {"do_rescale": True}]
)
def test_images_are_normalised_as_the_weights_state(tmp_path, changes, capsys):
    stated = {**HALF, "size": {"height": 8, "width": 8}, **changes}
    published = weights(tmp_path, stated, model_type="vit")
    fit(PixelStatistics(), published, tmp_path / "s.json")
    statistics = PixelStatistics(file=str(tmp_path / "s.json"))
    np.testing.assert_allclose(statistics.normalised(PIXELS), given(stated, PIXELS), rtol=1e-5, atol=1e-5)
    assert f"({PREPROCESSOR}), 8 x 8 pixels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stated", "size"),
    [
        ({"size": 384}, (384, 384)),
        ({"size": {"height": 32, "width": 48}}, (32, 48)),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
            (224, 224),
        ),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 224)),
        ({}, (96, 96)),
    ],
)
def test_sizes_that_weights_state(tmp_path, stated, size):
    assert image_statistics(weights(tmp_path, {**HALF, **stated}, model_type="vit", image_size=96)).size == size


def test_weights_of_timm_and_torchvision(tmp_path):
    stated = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 240, 240]}
    timm = image_statistics(weights(tmp_path, architecture="vit_base_patch16_224", pretrained_cfg=stated))
    assert (timm.mean, timm.size) == ((0.5,) * 3, (240, 240))
    bare = image_statistics(weights(tmp_path, architecture="resnet50"))
    assert (bare.mean, bare.std, bare.size) == (*IMAGENET, (224, 224)) and "ImageNet" in bare.origin


def test_weights_that_say_nothing_leave_the_users_split_and_say_so(tmp_path, capsys):
    fit(PixelStatistics(size=(8, 8)), weights(tmp_path, model_type="vit"), tmp_path / "s")
    assert PixelStatistics(file=str(tmp_path / "s")).mean == pytest.approx(PIXELS.mean((0, 1, 2)) / 255)
    assert "those of the training split" in capsys.readouterr().err


def test_another_size_than_that_of_the_weights_is_said_with_its_flag(tmp_path, capsys):
    published = weights(tmp_path, {**HALF, "size": 32}, model_type="vit")
    fit(PixelStatistics(size=(16, 16)), published, tmp_path / "s")
    assert PixelStatistics(file=str(tmp_path / "s")).shape == (16, 16, 3)
    assert "--task.statistics.size 32 32" in capsys.readouterr().err
    with pytest.raises(InputError, match="images of 3 channels") as error:
        fit(PixelStatistics(channels=1), published, tmp_path / "s")
    assert error.value.fix == "--task.statistics.channels 3"


@pytest.mark.parametrize("broken", [{"image_std": [0, 0, 0]}, {"image_mean": "half"}, {"size": {"width": 3}}])
def test_values_that_make_no_statistics_are_refused(tmp_path, broken):
    with pytest.raises(InputError, match=PREPROCESSOR):
        image_statistics(weights(tmp_path, {**HALF, **broken}, model_type="vit"))


def test_what_is_published_is_read_back(tmp_path):
    write(tmp_path, (12, 16), [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    read = image_statistics(weights(tmp_path, model_type="resnet"))
    assert (
        read.size == (12, 16)
        and read.mean == pytest.approx((0.1, 0.2, 0.3))
        and read.std == pytest.approx((0.4, 0.5, 0.6))
    )


def test_weights_of_a_run_see_images_as_that_run_did(tmp_path, capsys):
    """So does what compresses a run, or goes on from it with other records."""
    run = tmp_path / "run"
    (run / "assets").mkdir(parents=True)
    (run / "experiment.json").write_text("{}")
    PixelStatistics(size=(4, 4)).fit(Memory({"image": PIXELS}), "image", run / "assets" / "statistics.json")
    task = ImageClassification(data=None, statistics=PixelStatistics(channels=3))
    experiment = Experiment(name="x", task=task, model=None, checkpoint=Checkpoint(init_from=str(run)))
    others = Memory({"image": PIXELS // 2})
    _fit("statistics", task.statistics, experiment, others, tmp_path / "s.json")
    theirs, ours = (PixelStatistics(file=str(f)) for f in (run / "assets" / "statistics.json", tmp_path / "s.json"))
    assert (ours.mean == theirs.mean).all() and (ours.std == theirs.std).all() and ours.shape == theirs.shape
    assert f'run "{run}"' in capsys.readouterr().err
    grey = PixelStatistics(size=(4, 4), channels=1)
    _fit("statistics", grey, experiment, others, tmp_path / "grey.json")
    assert PixelStatistics(file=str(tmp_path / "grey.json")).shape == (4, 4, 1)
