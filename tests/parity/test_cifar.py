"""The CIFAR networks as they are published: ``linear.*``, and shortcuts padded by half before and half after."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from suite.errors import InputError
from suite.models import resnet
from suite.weights import pretrained
from tests.parity import golden


def shapes(blocks=1, classes=10):
    """Names and shapes of the published state, as its authors' code registers them."""
    named = {}

    def conv_norm(conv, norm, inputs, outputs):
        named[f"{conv}.weight"] = (outputs, inputs, 3, 3)
        named.update({f"{norm}.{part}": (outputs,) for part in ("weight", "bias", "running_mean", "running_var")})

    conv_norm("conv1", "bn1", 3, 16)
    width = 16
    for stage, outputs in enumerate((16, 32, 64), 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            conv_norm(f"{name}.conv1", f"{name}.bn1", width, outputs)
            conv_norm(f"{name}.conv2", f"{name}.bn2", outputs, outputs)
            width = outputs
    return {**named, "linear.weight": (classes, 64), "linear.bias": (classes,)}


def published(folder, blocks=3, name="resnet20", prefix="", classes=10):
    """A folder with ``config.json`` and an .npz file of the original names."""
    folder.mkdir()
    tensors = golden.weights(shapes(blocks, classes))
    np.savez(folder / "weights.npz", **{prefix + key: value for key, value in tensors.items()})
    (folder / "config.json").write_text(json.dumps({"architecture": name, "num_classes": classes}))
    return folder, tensors


def reference(tensors, images, blocks):
    """The published network in NumPy's float64, layer by layer (b, c, h, w)."""

    def conv(x, kernel, stride):
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::stride, ::stride]
        return np.einsum("bchwij,ocij->bohw", windows, kernel, optimize=True)

    def norm(x, name):
        scale, bias, mean, variance = (
            tensors[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias

    x = np.maximum(norm(conv(images, tensors["conv1.weight"], 1), "bn1"), 0)
    for stage in (1, 2, 3):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and not block else 1
            y = np.maximum(norm(conv(x, tensors[f"{name}.conv1.weight"], stride), f"{name}.bn1"), 0)
            y = norm(conv(y, tensors[f"{name}.conv2.weight"], 1), f"{name}.bn2")
            if stride == 2:
                quarter = y.shape[1] // 4
                x = np.pad(x[:, :, ::2, ::2], ((0, 0), (quarter, quarter), (0, 0), (0, 0)))
            x = np.maximum(x + y, 0)
    return x.mean((2, 3)) @ tensors["linear.weight"].T + tensors["linear.bias"]


IMAGES = np.random.default_rng(3).normal(size=(2, 3, 16, 16))
OURS = jnp.asarray(IMAGES.transpose(0, 2, 3, 1), jnp.float32)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_weights_answer_as_the_network_does(tmp_path, prefix):
    folder, tensors = published(tmp_path / "resnet20", prefix=prefix)
    config, model = pretrained.load(folder)
    assert config == resnet.resnet20(channels=3, outputs=10)
    wanted = reference({name: value.astype(np.float64) for name, value in tensors.items()}, IMAGES, 3)
    np.testing.assert_allclose(model(OURS), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    written = pretrained.rewrite(folder, tmp_path / "again")
    assert written.format == "resnet-cifar" and written.tensors == len(tensors)
    assert pretrained.load(tmp_path / "again")[0] == config


def test_padding_on_one_side_is_another_network():
    images = jnp.ones((1, 8, 8, 16))
    one, both = (make(channels=16, outputs=2) for make in (resnet.cifar20, resnet.resnet20))
    assert one.shortcut == "padding" and both.shortcut == "padding_around"
    from flax import nnx

    blocks = [config.build(rngs=nnx.Rngs(0)).stages[1][0] for config in (one, both)]
    beside = [np.asarray(block._beside(images, None, False))[0, 0, 0] for block in blocks]
    np.testing.assert_array_equal(beside[0], [1] * 16 + [0] * 16)
    np.testing.assert_array_equal(beside[1], [0] * 8 + [1] * 16 + [0] * 8)


@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet32", 5), ("resnet44", 7), ("resnet56", 9)])
def test_names_say_the_depth(name, blocks):
    table = pretrained.formats()["resnet-cifar"]
    config = table.config({"architecture": name, "num_classes": 100})
    assert config.blocks == (blocks,) * 3 and config.outputs == 100
    assert int(name.removeprefix("resnet")) == 6 * blocks + 2
    assert table.publish(config)["architecture"] == name


def test_a_name_of_another_depth_is_refused(tmp_path):
    folder, _ = published(tmp_path / "w", blocks=3, name="resnet32")
    with pytest.raises(InputError, match=r"missing: .*layer1\.3\.conv1\.weight"):
        pretrained.load(folder)
    (folder / "config.json").write_text('{"architecture": "resnet50"}')
    with pytest.raises(InputError, match=r'architecture: "resnet50" is not there'):
        pretrained.load(folder)
