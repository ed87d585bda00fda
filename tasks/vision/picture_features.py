"""Features that pictures are compared in: the vectors of a trained classifier, or, without one, of few pixels.

Dims: b pictures, h w height and width, c channels, d features, n classes.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from suite.errors import InputError
from suite.experiment.sections import Precision
from suite.models.pictures import PictureConfig
from suite.runs import run as runs
from suite.runtime.files import is_run
from suite.training import precision
from suite.weights import pretrained, published
from suite.weights.image_statistics import image_statistics

SIDE = 8
"""Height and width that pictures are scaled to where their pixels are the features."""


@dataclass(frozen=True)
class Features:
    """A function of pictures, and what a figure says of it.

    Attributes:
        name: for people.
        classes: what the classifier tells apart; none where nothing is classified.
        describe: (uint8 pictures (b, h, w, c)) -> vectors (b, d) float32 and logits (b, n) or None. Jitted with what
            calls it.
    """

    name: str
    classes: tuple[str, ...]
    describe: Callable[[UInt8[Array, "b h w c"]], tuple[Float[Array, "b d"], Float[Array, "b n"] | None]]


def name_of(source: str) -> str:
    """What features are called, whether they are there or not; published weights by their network, too."""
    if not source:
        return f"{SIDE} x {SIDE} pixels"
    network = _network(source)
    return f"features of {Path(source).name}" + (f" ({network})" if network else "")


@functools.lru_cache(maxsize=8)
def _network(source: str) -> str:
    """What published weights in a folder say that they are of, such as ``inception_v3_fid``; empty where they say
    nothing, and of runs."""
    folder = Path(source).expanduser()
    if is_run(folder) or not folder.is_dir():
        return ""
    try:
        stated = published.open(folder, True).config
    except InputError:
        return ""
    return str(stated.get("architecture", ""))


def features_of(source: str) -> Features:
    """The features that ``task.features`` names.

    Args:
        source: a run folder of an image classifier, published weights of a family of images, or empty.

    Raises:
        InputError: there is no such folder, or it holds no model of images.
    """
    return _opened(source, _written(source)) if source else Features(name_of(source), (), _few_pixels)


def _written(source: str) -> int:
    """When the experiment in a folder was written, so that another one in its place is read anew."""
    stored = Path(source).expanduser() / "experiment.json"
    return stored.stat().st_mtime_ns if stored.is_file() else 0


def _few_pixels(images: Array) -> tuple[Array, None]:
    shape = (images.shape[0], SIDE, SIDE, images.shape[3])
    small = jax.image.resize(images.astype(jnp.float32) / 255, shape, "linear")
    return small.reshape(images.shape[0], -1), None


@functools.lru_cache(maxsize=2)
def _opened(source: str, written: int) -> Features:
    with jax.ensure_compile_time_eval():  # it may be asked for while a program is traced
        return _of_run(source) if is_run(Path(source).expanduser()) else _of_weights(source)


def _of_run(source: str) -> Features:
    trained = runs.open(Path(source).expanduser())
    task, config = trained.experiment.task, trained.experiment.model
    statistics = getattr(task, "statistics", None)
    if not isinstance(config, PictureConfig) or statistics is None:
        raise _unfit(source, f"a model of {type(config).__module__}")
    height, width, channels = statistics.shape
    labels = getattr(task, "labels", None)
    classes = tuple(labels.names) if labels is not None and config.outputs else ()
    describe = _describing(trained.graph, trained.variables, (height, width), channels, statistics.normalised)
    return Features(name_of(source), classes, describe)


def _of_weights(source: str) -> Features:
    weights = published.open(source, True)
    config, model = pretrained.load(source, offline=True)
    stated = image_statistics(weights)
    if not isinstance(config, PictureConfig):
        raise _unfit(source, f"a model of {type(config).__module__}")
    if stated is None or stated.size is None:
        raise InputError(
            "field task.features",
            f'"{source}" does not say how pictures were given to the weights.',
            found="no preprocessor_config.json with size, mean and deviation",
            fix="put the file that was published with them beside the weights",
        )
    mean, std = (np.array(values, np.float32) for values in (stated.mean, stated.std))
    normalised = lambda images: (images / 255 - mean) / std
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    variables = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)
    describe = _describing(graph, variables, stated.size, config.channels, normalised)
    return Features(name_of(source), (), describe)


def _unfit(source: str, found: str) -> InputError:
    return InputError(
        "field task.features",
        f'"{source}" is no model of images.',
        found=found,
        fix="the folder of a run of vision.classify, or published weights of images",
    )


def _describing(
    graph: Any,
    variables: tuple[Mapping[str, Any], Mapping[str, Any]],
    size: tuple[int, int],
    channels: int,
    normalised: Callable[[Any], Any],
) -> Callable[[Array], tuple[Array, Array | None]]:
    """What the model says of pictures of any size: they are scaled, and grey ones coloured, as it takes them."""
    held = jax.tree.map(np.asarray, variables)

    def describe(images: Array) -> tuple[Array, Array | None]:
        model = precision.apply(nnx.merge(graph, *jax.tree.map(jnp.asarray, held)), Precision())
        shown = _coloured(images.astype(jnp.float32), channels)
        if shown.shape[1:3] != size:
            shown = jax.image.resize(shown, (shown.shape[0], *size, channels), "linear")
        head, model.head = model.head, None
        vectors = model(normalised(shown)).astype(jnp.float32)
        return vectors, None if head is None else head(vectors)

    return describe


def _coloured(images: Array, channels: int) -> Array:
    if images.shape[3] == channels:
        return images
    plain = images[..., :3] if images.shape[3] >= 3 else images[..., :1]
    if channels == 1:
        return plain.mean(-1, keepdims=True)
    opaque = jnp.full((*plain.shape[:3], channels - 3), 255.0)
    return jnp.concatenate([jnp.broadcast_to(plain, (*plain.shape[:3], 3)), opaque], -1)
