"""Ranges of the inputs of rounded layers, from training records: what int8-static multiplies by."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.contracts.batch import Batch
from suite.contracts.task import Task
from suite.data.pipeline.padding import Buckets, batched
from suite.errors import InputError
from suite.nn.quant.layers import Range, Rounded
from suite.surgery import quantize_weights

ROWS = 64
"""Records of a batch."""


def training_batches(task: Task, records: int, seed: int, buckets: Buckets) -> Iterator[Batch]:
    """Whole batches of at most ``records`` records of the training split, drawn by ``seed``.

    Raises:
        InputError: no record is asked for.
    """
    if records < 1:
        raise InputError(
            "field compression.calibrate", "must be at least 1.", found=str(records), fix="--compression.calibrate 512"
        )
    source = task.source("train")
    chosen = np.random.default_rng(seed).permutation(len(source))[:records]
    size = min(ROWS, len(chosen))
    for start in range(0, len(chosen) - size + 1, size):
        yield batched(task.encode(source[np.sort(chosen[start : start + size])]), buckets)


def calibrate(model: nnx.Module, forward: Callable[[Any, Batch], Any], batches: Iterable[Batch]) -> None:
    """Give each layer whose inputs have a fixed scale that scale: the one with the least error over the batches.

    Batches pass through the model as in evaluation; its weights are rounded already.

    Args:
        model: with rounded layers; changed in place.
        forward: what reaches every layer, e.g. a task's loss.
        batches: of training records.

    Raises:
        InputError: layers were not reached.
    """
    layers = {
        "/".join(map(str, path)): layer
        for path, layer in nnx.iter_modules(model)
        if isinstance(layer, Rounded) and layer.inputs == "fixed"
    }
    for layer in layers.values():
        layer.observe, layer.seen = quantize_weights.input_errors, Range(jnp.zeros(2 + len(quantize_weights.REACH)))
    graph, seen, other = nnx.split(model, Range, ...)

    @jax.jit
    def watch(seen: Any, other: Any, batch: Batch) -> Any:
        watched = nnx.merge(graph, seen, other)
        forward(watched, batch)
        return nnx.state(watched, Range)

    for batch in batches:
        seen = watch(seen, other, batch)
    nnx.update(model, seen)
    missed = [name for name, layer in layers.items() if not _settled(layer)]
    if missed:
        more = f" and {len(missed) - 8} more" if len(missed) > 8 else ""
        raise InputError(
            "field compression.quantize",
            "int8-static: training records did not reach all layers.",
            found=", ".join(missed[:8]) + more,
            fix="--compression.keep for layers that are never used; where layers are scanned, "
            "--model.scan_layers False --model.remat none",
        )


def _settled(layer: Rounded) -> bool:
    """What the layer has seen becomes its scale; False where it has seen nothing."""
    assert layer.seen is not None
    seen = layer.seen[...]
    layer.input_scale, layer.observe, layer.seen = nnx.Param(quantize_weights.input_scale(seen)), None, None
    return bool(seen[0])
