"""Ranges of the inputs of rounded layers, from training records: what int8-static multiplies by."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.base import Task
from suite.compression import rounding
from suite.errors import InputError
from suite.evaluation import request
from suite.nn.quantized import Range, Rounded

ROWS = 64
"""Records of a batch."""


def calibrate(model: nnx.Module, task: Task, records: int, seed: int, buckets: tuple[int, ...]) -> None:
    """Give each layer whose inputs have a fixed scale that scale: the mean of what batches would be rounded by.

    The mean of the largest values of batches is not moved by the one record that has the largest of all. Records are
    drawn from the training split and pass through the model as in evaluation; weights are rounded already.

    Args:
        model: with rounded layers; changed in place.
        task: gives records and the loss, which reaches every layer.
        records: how many; whole batches of them are taken.
        seed: draws them.
        buckets: padded lengths.

    Raises:
        InputError: no record is asked for, or layers were not reached.
    """
    if records < 1:
        raise InputError("field compression.calibrate", "must be at least 1.", found=str(records),
                         fix="--compression.calibrate 512")  # fmt: skip
    layers = dict(_fixed(model))
    for layer in layers.values():
        layer.observe, layer.seen = rounding.input_step, Range(jnp.zeros(2))
    graph, seen, other = nnx.split(model, Range, ...)

    @jax.jit
    def watch(seen: Any, other: Any, batch: dict[str, Any]) -> Any:
        watched = nnx.merge(graph, seen, other)
        task.loss(watched, batch, None)
        return nnx.state(watched, Range)

    source = task.source("train")
    chosen = np.random.default_rng(seed).permutation(len(source))[:records]
    size = min(ROWS, len(chosen))
    for start in range(0, len(chosen) - size + 1, size):
        seen = watch(seen, other, request(task, source[np.sort(chosen[start : start + size])], buckets, size))
    nnx.update(model, seen)
    _settle(layers)


def _fixed(model: nnx.Module) -> Iterator[tuple[str, Rounded]]:
    for path, layer in nnx.iter_modules(model):
        if isinstance(layer, Rounded) and layer.inputs == "fixed":
            yield "/".join(map(str, path)), layer


def _settle(layers: dict[str, Rounded]) -> None:
    """What each layer has seen as its scale."""
    missed = []
    for name, layer in layers.items():
        assert layer.seen is not None
        count, total = np.asarray(layer.seen[...])
        if not count:
            missed.append(name)
        layer.input_scale, layer.observe, layer.seen = nnx.Param(jnp.float32(total / max(count, 1))), None, None
    if missed:
        raise InputError("field compression.quantize", f"int8-static: no record reached {', '.join(missed[:8])}.",
                         fix="--compression.keep for layers that are never used; and --model.scan_layers False "
                         "--model.remat none, where layers are scanned")  # fmt: skip
