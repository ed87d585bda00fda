"""Feature pyramid (`Lin et al., 2016 <https://arxiv.org/abs/1612.03144>`_): maps of several strides and one width, each
of which knows what the coarser ones see.

Dims: b images, y x height and width of a level, d width.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from suite.errors import InputError
from suite.models.pictures import PictureConfig
from suite.nn.conv import Conv
from suite.parallel.layout import edge

CHANNELS = 8
"""Channels that are normalised together."""


def check_strides(strides: Sequence[int], maps: Mapping[int, int]) -> None:
    """To be called where a model is configured.

    Args:
        strides: of the levels.
        maps: stride -> channels of what a backbone gives.

    Raises:
        InputError: the strides don't double from one to the next, or the backbone lacks one.
    """
    doubled = bool(strides) and all(2 * one == next for one, next in zip(strides, strides[1:], strict=False))
    if doubled and {*strides} <= {*maps}:
        return
    known = " ".join(map(str, maps)) or "none, as of a vision transformer"
    raise InputError(
        "field model.strides",
        "must be strides of the backbone's feature maps, each twice the one before.",
        found=f"{' '.join(map(str, strides)) or 'none'}; the backbone has {known}",
        fix=f"--model.strides {shlex.join(map(str, maps))}"
        if maps
        else "a ResNet, an EfficientNet-Lite or a ConvNeXt as the backbone",
    )


def cut_backbone(parts: Mapping[str, Any], strides: Sequence[int], width: int) -> dict[str, PictureConfig]:
    """The one part of a model of feature maps, without stages that are coarser than the coarsest of ``strides``. To be
    called where it is configured.

    Args:
        parts: of the model.
        strides: of the maps that are read.
        width: channels of what reads them.

    Raises:
        InputError: it is not one backbone of images, lacks a stride, or the width cannot be normalised in groups.
    """
    if set(parts) != {"backbone"}:
        raise InputError("field model.parts", "must be one backbone.", found=", ".join(parts))
    if width % CHANNELS:
        raise InputError("field model.width", f"must be a multiple of {CHANNELS}", found=str(width))
    backbone = parts["backbone"]
    if not isinstance(backbone, PictureConfig):
        raise InputError("field model.parts", "the backbone must be of images.", found=type(backbone).__module__)
    check_strides(strides, replace(backbone, coarsest=0).maps if backbone.maps else {})  # type: ignore[type-var]
    return {"backbone": replace(backbone, coarsest=strides[-1])}  # type: ignore[type-var]


class Pyramid(nnx.Module):
    """From the maps of a backbone, finest first, to as many of one width.

    Attributes:
        laterals: 1x1 convolutions of the backbone's maps.
        outputs: 3x3 convolutions of the sums.
    """

    def __init__(self, widths: Sequence[int], width: int, *, rngs: nnx.Rngs):
        self.laterals = nnx.List([Conv(inputs, width, 1, use_bias=True, narrow=True, rngs=rngs) for inputs in widths])
        self.outputs = nnx.List([Conv(width, width, 3, use_bias=True, narrow=True, rngs=rngs) for _ in widths])

    def __call__(self, maps: Sequence[Float[Array, "b y x i"]]) -> list[Float[Array, "b y x d"]]:
        sums: list[Array] = []
        for lateral, level in reversed(list(zip(self.laterals, maps, strict=True))):
            own = lateral(edge(level))
            sums.append(own + enlarged(sums[-1], *own.shape[1:3]) if sums else own)
        return [output(edge(level)) for output, level in zip(self.outputs, reversed(sums), strict=True)]


def enlarged(x: Float[Array, "b v u d"], height: int, width: int) -> Float[Array, "b y x d"]:
    """Each place four times, in a square, cut to ``height`` and ``width`` where maps of odd sides are halved upwards,
    and with the last places once more where they are halved downwards."""
    twice = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    short = [max(size - own, 0) for size, own in zip((height, width), twice.shape[1:3], strict=True)]
    if any(short):
        twice = jnp.pad(twice, ((0, 0), (0, short[0]), (0, short[1]), (0, 0)), "edge")
    return twice[:, :height, :width]
