"""Inception-v3: its sizes, its poolings, weights that are published without a config.json, and features of pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from safetensors.numpy import save_file

from suite.errors import InputError
from suite.models import inception
from suite.nn.batchnorm import BatchNorm
from suite.nn.conv import Conv
from suite.nn.conv_norm import ConvNorm
from suite.tasks.vision.picture_features import features_of, name_of
from suite.weights import pretrained, published
from suite.weights.image_statistics import image_statistics
from tests.models.test_resnet import shapes_of
from tests.parity import golden


def test_sizes_are_the_published_ones():
    params, features, logits = shapes_of(inception.Config(channels=3, outputs=1000), 299)
    assert sum(leaf.size for leaf in params.values()) == 23_834_568  # without the auxiliary classifier
    assert features == (2, 8, 8, 2048) and logits == (2, 1000)
    config = inception.Config(channels=3, outputs=1000)
    depths = {path: config.layer_of(path) for path in params}
    assert {*depths.values()} == {*range(13)} and depths["head/kernel"] == config.depth == 12


@pytest.mark.parametrize("zeros", [True, False])
def test_means_count_what_is_beyond_the_border_or_not(zeros):
    x = np.random.default_rng(0).standard_normal((2, 5, 4, 3)).astype(np.float32)
    ours = inception.mean_pool(jnp.asarray(x), zeros)
    for y, column in ((0, 0), (2, 2), (4, 3), (0, 2)):
        near = x[:, max(y - 1, 0) : y + 2, max(column - 1, 0) : column + 2]
        expected = near.sum((1, 2)) / (9 if zeros else near.shape[1] * near.shape[2])
        np.testing.assert_allclose(ours[:, y, column], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 7), (7, 1), (3, 1)])
def test_kernels_of_two_sides_keep_height_and_width(size):
    conv = Conv(4, 6, size, padding=0, rngs=nnx.Rngs(0))
    assert conv.kernel.shape == (*size, 4, 6)
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 4))
    layer = ConvNorm(conv, BatchNorm(6, epsilon=0.0), same=True)
    form = ("NHWC", "HWIO", "NHWC")
    theirs = lax.conv_general_dilated(x, conv.kernel[...], (1, 1), "SAME", dimension_numbers=form)
    np.testing.assert_allclose(layer(x, None, False), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("classes", "pooling", "name"),
    [
        pytest.param(1008, "tensorflow", "inception_v3_fid", marks=pytest.mark.slow),
        (1000, "torchvision", "inception_v3"),
    ],
)
def test_weights_alone_say_which_network_they_are_of_and_are_features(classes, pooling, name, tmp_path):
    made = golden.load("inception_fid")
    shapes = {**made.shapes, "fc.weight": (classes, 2048), "fc.bias": (classes,), "AuxLogits.fc.bias": (7,)}
    folder = tmp_path / "inception"
    folder.mkdir()
    save_file(golden.weights(shapes), folder / "model.safetensors", metadata={"format": "pt"})
    config, model = pretrained.load(folder)
    assert (config.pooling, config.outputs, config.channels) == (pooling, classes, 3)
    stated = image_statistics(published.open(folder))
    assert stated.mean == stated.std == (0.5,) * 3 and stated.size == (299, 299)
    assert name_of(str(folder)) == f"features of inception ({name})" == features_of(str(folder)).name
    if name == "inception_v3":
        return
    pictures = np.random.default_rng(0).integers(0, 255, (2, 299, 299, 3), np.uint8)
    vectors, logits = jax.jit(features_of(str(folder)).describe)(jnp.asarray(pictures))
    assert vectors.shape == (2, 2048) and logits.shape == (2, 1008)
    model.head = None
    np.testing.assert_allclose(vectors, model(jnp.asarray(pictures) / 127.5 - 1), rtol=1e-3, atol=1e-4)


def test_images_of_which_nothing_would_be_left_are_refused():
    model = nnx.eval_shape(lambda: inception.Config(channels=3, outputs=2).build(rngs=nnx.Rngs(0)))
    with pytest.raises(InputError, match="at least 75 pixels a side"):
        nnx.eval_shape(lambda model: model(jnp.zeros((1, 64, 80, 3))), model)
    with pytest.raises(InputError, match="pooling"):
        inception.Config(channels=3, pooling="keras")
