"""Image statistics of published weights: mean, deviation and size of the images that they were trained on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from suite.errors import InputError
from suite.runtime import json_files
from suite.weights.published import CONFIG, Published

PREPROCESSOR = "preprocessor_config.json"
"""What Hugging Face's libraries write beside weights of images."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet, which torchvision's and timm's weights were trained with unless they state others."""
SIDE = 224
"""Height and width where weights state none."""


@dataclass(frozen=True)
class ImageStatistics:
    """How images were prepared for weights.

    Attributes:
        mean: a number a channel, on a scale of 0..1 of the pixels' range.
        std: the same, of the deviation.
        size: height and width.
        origin: what states them.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    origin: str


def image_statistics(weights: Published) -> ImageStatistics | None:
    """What published weights say of the images they were trained on; ImageNet's where torchvision's or timm's say
    nothing, None where others do.

    Raises:
        InputError: a file beside the weights holds values that make no statistics.
    """
    file = weights.folder / PREPROCESSOR
    try:
        if file.is_file():
            stated = json_files.read_object(file, "fetch it again")
            if "image_mean" in stated or "do_normalize" in stated:
                return _of_transformers(stated, weights.config)
        if "model_type" not in weights.config:
            timm = _of_timm(weights.config)
            # Without the file it is known by the tensors what they are of.
            known = "pretrained_cfg" in weights.config and not (weights.folder / CONFIG).is_file()
            return replace(timm, origin="as the weights were published") if known else timm
    except json_files.CONTENT_ERRORS as error:
        if isinstance(error, InputError):
            raise
        where = str(file if file.is_file() else weights.folder / CONFIG)
        found = f"{type(error).__name__}: {error}"
        raise InputError(where, "holds no statistics of images.", found=found, fix="fetch it again") from None
    return None


def write(
    folder: Path, size: tuple[int, int], mean: Sequence[float], std: Sequence[float], detector: bool = False
) -> None:
    """Write ``preprocessor_config.json``: how a model of ours is given images, for Hugging Face's libraries.

    Args:
        folder: of the weights.
        size: height and width.
        mean, std: of the pixels, on a scale of 0..1, a number a channel.
        detector: whether images are scaled to fit the size, with their aspect kept, as a detector's.
    """
    fitting = {"shortest_edge": min(size), "longest_edge": max(size)}
    content = {
        "image_processor_type": "DetrImageProcessor" if detector else "ViTImageProcessor",
        "do_resize": True,
        "size": fitting if detector else {"height": size[0], "width": size[1]},
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [float(value) for value in mean],
        "image_std": [float(value) for value in std],
    }
    (folder / PREPROCESSOR).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _of_transformers(stated: Mapping[str, Any], config: Mapping[str, Any]) -> ImageStatistics:
    """Pixels are multiplied by ``rescale_factor``, less the mean, over the deviation; ours are on a scale of 0..1."""
    factor = float(stated.get("rescale_factor", 1 / 255)) if stated.get("do_rescale", True) else 1.0
    normal = stated.get("do_normalize", True)
    mean, std = (_numbers(stated[name]) if normal else (default,) for name, default in _PLAIN)
    if not all(std) or not factor:
        raise ValueError("a deviation or the rescale factor is 0")
    size = _size(stated.get("crop_size") if stated.get("do_center_crop") else stated.get("size"))
    scaled = [tuple(number / (255 * factor) for number in numbers) for numbers in (mean, std)]
    return ImageStatistics(scaled[0], scaled[1], size or _side(config), PREPROCESSOR)


_PLAIN = (("image_mean", 0.0), ("image_std", 1.0))


def _of_timm(config: Mapping[str, Any]) -> ImageStatistics:
    """timm's ``pretrained_cfg`` says them; torchvision's weights, and those that say nothing, are ImageNet's."""
    stated = config.get("pretrained_cfg") or {}
    mean, std = (_numbers(stated.get(name, default)) for name, default in zip(("mean", "std"), IMAGENET, strict=True))
    if not all(std):
        raise ValueError("a deviation is 0")
    size = _size(stated["input_size"][-2:]) if "input_size" in stated else None
    origin = f"pretrained_cfg of {CONFIG}" if "mean" in stated else "ImageNet, since the weights state none"
    return ImageStatistics(mean, std, size or _side(config), origin)


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in (values if isinstance(values, Sequence) else [values]))


def _size(stated: Any) -> tuple[int, int] | None:
    """Height and width of a number, of two, or of what Hugging Face's processors call them."""
    if not stated:
        return None
    if isinstance(stated, Mapping):
        edge = stated.get("shortest_edge")
        height, width = (edge, edge) if edge else (stated["height"], stated["width"])
    else:
        height, width = (stated, stated) if isinstance(stated, int) else stated
    return int(height), int(width)


def _side(config: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the images by ``config.json``, otherwise ImageNet's."""
    return _size(config.get("image_size")) or (SIDE, SIDE)
