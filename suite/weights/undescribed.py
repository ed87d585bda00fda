"""Weights that are published without a ``config.json``, recognised by the names and shapes of their tensors.

The tensors get the names that a described folder of the family has, so that one IMPORTS table reads both.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Readers = Mapping[str, Callable[[], np.ndarray]]


def described(readers: Readers) -> tuple[dict[str, Any], Readers] | None:
    """What ``config.json`` would say of the tensors, and the tensors by the names it goes with; None: they are not
    known."""
    return _efficientnet_lite(readers) or _inception(readers)


def _inception(readers: Readers) -> tuple[dict[str, Any], Readers] | None:
    """Inception-v3 as torchvision and pytorch-fid name it, both trained on (pixel - 127.5) / 127.5. The latter, from
    TensorFlow's network, tells 1,008 classes apart."""
    if not {"Conv2d_1a_3x3.conv.weight", "Mixed_7c.branch1x1.conv.weight"} <= {*readers}:
        return None
    classes = readers["fc.weight"]().shape[0] if "fc.weight" in readers else 0
    channels = readers["Conv2d_1a_3x3.conv.weight"]().shape[1]
    config = {
        "architecture": "inception_v3_fid" if classes in (0, 1008) else "inception_v3",
        "num_classes": classes,
        "model_args": {"in_chans": channels},
        "pretrained_cfg": {"mean": [0.5] * channels, "std": [0.5] * channels, "input_size": [channels, 299, 299]},
    }
    return config, readers


_PIXELS = {"lite0": 224, "lite1": 240, "lite2": 260, "lite3": 280, "lite4": 300}
_LITE = {
    (16, 320): ("lite0", (1, 2, 2, 3, 3, 4, 1)),
    (21, 320): ("lite1", (1, 3, 3, 4, 4, 5, 1)),
    (21, 352): ("lite2", (1, 3, 3, 4, 4, 5, 1)),
    (24, 384): ("lite3", (1, 3, 3, 5, 5, 6, 1)),
    (30, 448): ("lite4", (1, 4, 4, 6, 6, 8, 1)),
}
"""Blocks and channels of the last one -> size, and blocks of each stage."""
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def _efficientnet_lite(readers: Readers) -> tuple[dict[str, Any], Readers] | None:
    """EfficientNet-Lite as ``efficientnet_lite_pytorch`` names it, which TensorFlow trained on (pixel - 127) / 128."""
    numbers = {int(name.split(".")[1]) for name in readers if name.startswith("_blocks.")}
    last = f"_blocks.{len(numbers) - 1}._project_conv.weight"
    if not {"_conv_stem.weight", "_conv_head.weight", last} <= {*readers}:
        return None
    size, stages = _LITE.get((len(numbers), readers[last]().shape[0]), ("", ()))
    places = [f"{stage}.{step}" for stage, count in enumerate(stages) for step in range(count)]
    if not size or any("_se_" in name for name in readers):  # the other EfficientNets squeeze and excite
        return None
    pixels, channels = _PIXELS[size], readers["_conv_stem.weight"]().shape[1]
    config = {
        "architecture": f"tf_efficientnet_{size}",
        "num_classes": readers["_fc.weight"]().shape[0] if "_fc.weight" in readers else 0,
        "model_args": {"in_chans": channels},
        "pretrained_cfg": {
            "mean": [127 / 255] * channels,
            "std": [128 / 255] * channels,
            "input_size": [channels, pixels, pixels],
        },
    }
    return config, {_of_timm(name, places): read for name, read in readers.items()}


def _of_timm(name: str, places: list[str]) -> str:
    """timm's name of a tensor; of one that is not of the family its own, which is then refused by name."""
    first, *rest = name.split(".")
    if first != "_blocks":
        return ".".join([_OUTSIDE.get(first, first), *rest])
    number, layer, *rest = rest
    place = int(number)
    layers = _LATER if place else _FIRST
    return ".".join(["blocks", places[place], layers.get(layer, layer), *rest])
