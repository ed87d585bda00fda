"""Which layers of a model are rounded, and their exchange: the one place that knows all kinds of layers.

The trainer calls `attach` when it builds a model, as it does for what fine-tuning adds; so every verb that opens a run
builds the rounded model of a compressed one.
"""

import re
import shlex
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import nnx

from suite.errors import InputError, closest
from suite.experiment.compression import Compression
from suite.experiment.sections import Experiment
from suite.nn.conv import Conv
from suite.nn.conv1d import Conv1d, DepthwiseConv1d, PositionalConv
from suite.nn.embedding import Embedding, LearnedPositions
from suite.nn.linear import Linear
from suite.nn.quant.layers import (
    NARROW,
    Format,
    QuantizedConv,
    QuantizedConv1d,
    QuantizedDepthwise,
    QuantizedLinear,
    QuantizedPositionalConv,
    QuantizedPositions,
    QuantizedTable,
    Round,
    blank,
)
from suite.nn.quant.qat import AwareConv, AwareConv1d, AwareEmbedding, AwareLinear
from suite.nn.table import StackedTable

Model = TypeVar("Model", bound=nnx.Module)

KINDS = {
    "int8": Format(),
    "int4": Format(bits=4),
    "int8-dynamic": Format(inputs="row"),
    "int8-static": Format(inputs="fixed"),
}
"""Formats by name, but for the size of groups."""

ROUNDED: dict[type, Callable[..., nnx.Module]] = {
    Linear: QuantizedLinear,
    Conv: QuantizedConv,
    Conv1d: QuantizedConv1d,
    DepthwiseConv1d: QuantizedDepthwise,
    PositionalConv: QuantizedPositionalConv,
    Embedding: QuantizedTable,
    StackedTable: QuantizedTable,
    LearnedPositions: QuantizedPositions,
}
AWARE: dict[type, Callable[..., nnx.Module]] = {
    Linear: AwareLinear,
    Conv: AwareConv,
    Conv1d: AwareConv1d,
    Embedding: AwareEmbedding,
}
"""Layers that training can get used to; others, which are small or read a row at a time, are rounded afterwards."""
SMALL = 512
"""Weights below which a layer stays float32: its scales would cost as much as they save."""


def is_rounded(compression: Compression) -> bool:
    """Whether the weights of such a run are integers."""
    return compression.quantize != "none" and not compression.aware


def attach(model: Model, compression: Compression, round: Round = blank) -> Model:
    """The model with rounded layers in the place of its large ones, or with layers that train for it.

    Args:
        model: of float layers; its own are replaced in place.
        compression: the format, and what stays as it is.
        round: what rounds weights for good; by default nothing does, and a checkpoint gives the values.

    Raises:
        InputError: a value is out of range, a pattern of ``keep`` matches no layer, or there is nothing to round.
    """
    if compression.quantize == "none":
        return model
    how, exchange = _format(compression), AWARE if compression.aware else ROUNDED
    if compression.aware:
        from suite.surgery.quantize_weights import rounded as round
    for owner, name, layer in _chosen(model, compression.keep):
        if type(layer) in exchange and not (compression.aware and _is_narrow(layer)):
            setattr(owner, name, exchange[type(layer)](layer, how, round))
    return model


def check(experiment: Experiment) -> None:
    """To be called before training.

    Raises:
        InputError: the weights are integers, which cannot be trained; or they are to be rounded with additions beside
            them, which are no part of them.
    """
    compression, kind = experiment.compression, experiment.finetune.kind
    if is_rounded(compression):
        raise InputError(
            "field compression.quantize",
            f"is {compression.quantize}: rounded weights are not trained.",
            fix="train the run that it was made of, and suite compress it again; or, to train for "
            "rounding, --compression.aware True in a new run",
        )
    if compression.quantize != "none" and kind in ("lora", "adapters"):
        raise InputError(
            "field finetune.kind",
            f"is {kind}: what it adds would not be rounded.",
            fix="fine-tune first; suite compress RUN --quantize folds low-rank additions in",
        )


def check_float(experiment: Experiment, where: str) -> None:
    """To be called where float weights are needed.

    Raises:
        InputError: they are integers.
    """
    if is_rounded(experiment.compression):
        raise InputError(
            where,
            f"has weights that are rounded to {experiment.compression.quantize}.",
            fix="the run that it was made of; its compression.json says which",
        )


def _format(compression: Compression) -> Format:
    kind, group = compression.quantize, compression.group
    if kind not in KINDS:
        raise InputError(
            "field compression.quantize",
            f'there is no format "{kind}".',
            found=", ".join(("none", *KINDS)),
            fix=closest(kind, KINDS),
        )
    if group < 16:
        raise InputError(
            "field compression.group",
            "must be at least 16: fewer inputs save nothing.",
            found=str(group),
            fix="--compression.group 64",
        )
    chosen = KINDS[kind]
    return Format(chosen.bits, group, chosen.inputs)


def _chosen(model: nnx.Module, keep: tuple[str, ...]) -> list[tuple[nnx.Module, str, nnx.Module]]:
    """(owner, attribute, layer) of each layer that is worth rounding and not to be kept."""
    candidates: dict[str, tuple[nnx.Module, str, nnx.Module]] = {}
    for path, owner in nnx.iter_modules(model):
        for name, layer in vars(owner).items():
            if type(layer) in ROUNDED and _weights(layer) >= SMALL:
                candidates["/".join(map(str, (*path, name)))] = owner, name, layer
    if not candidates:
        raise InputError(
            "field compression.quantize",
            f"the model has no layer of {SMALL} weights or more to round.",
            fix="leave such a small model as it is",
        )
    for pattern in keep:
        if not any(_matches(pattern, name) for name in candidates):
            raise _no_match(pattern, list(candidates))
    return [layer for name, layer in candidates.items() if not any(_matches(pattern, name) for pattern in keep)]


def _weights(layer: nnx.Module) -> int:
    leaves = jax.tree.leaves(nnx.state(layer, nnx.Param))
    return max((leaf.size for leaf in leaves), default=0)


def _is_narrow(layer: Any) -> bool:
    return isinstance(layer, Embedding) and layer.embedding.shape[1] < NARROW


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error as error:
        raise InputError("field compression.keep", f"not a regular expression: {error}.", found=pattern) from None


def _no_match(pattern: str, names: list[str]) -> InputError:
    words = {word for name in names for word in name.split("/") if not word.isdecimal()}
    near = closest(pattern.strip("^$"), [*names, *sorted(words)])
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return InputError(
        "field compression.keep",
        f'"{pattern}" matches no layer that would be rounded.',
        found=", ".join(names[:8]) + more,
        fix=f"--compression.keep {shlex.quote(near)}" if near else "",
    )
