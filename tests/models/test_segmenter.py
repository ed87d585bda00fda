"""Segmentation networks: shapes on every family of images with feature maps, and what is refused."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from suite.errors import InputError
from suite.models import convnext, efficientnet, resnet, segmenter, vit
from suite.tree import paths

BACKBONES = {
    "resnet": resnet.resnet18(channels=3, widths=(8, 8, 16, 16), blocks=(1, 1, 1, 1), stem_width=8),
    "efficientnet": efficientnet.lite0(channels=3),
    "convnext": convnext.tiny(channels=3),
}


@pytest.mark.parametrize("decoder", ["unet", "fpn"])
@pytest.mark.parametrize("name", BACKBONES)
def test_every_pixel_has_logits(name, decoder):
    config = segmenter.Config(parts={"backbone": BACKBONES[name]}, outputs=3, decoder=decoder, width=16)
    model = nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    images = jax.ShapeDtypeStruct((2, 45, 61, 3), jnp.float32)  # of no multiple of a stride
    logits = jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x), state, images)
    assert logits.shape == (2, 45, 61, 3) and logits.dtype == jnp.float32
    params = paths(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    assert not any(path.startswith("backbone/head") for path in params)
    assert any(path.startswith("steps/" if decoder == "unet" else "pyramid/") for path in params)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strides": (4, 16)}, "each twice the one before"),
        ({"strides": (4,)}, "two at least"),
        ({"width": 12}, "multiple of 8"),
        ({"decoder": "segnet"}, "no such choice"),
        ({"parts": {"image": BACKBONES["resnet"]}}, "one backbone"),
        ({"parts": {"backbone": vit.Config()}}, "strides"),
    ],
)
def test_what_makes_no_network_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        segmenter.Config(**{"parts": {"backbone": BACKBONES["resnet"]}, **changes})
