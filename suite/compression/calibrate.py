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
from suite.nn.hooks import hooks
from suite.nn.quant.layers import Rounded
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
        layer.inputs = "float"  # what a layer is given must not depend on scales that are not known yet
    graph, variables = nnx.split(model)

    @jax.jit
    def measure(sums: dict[str, Any], variables: Any, batch: Batch) -> dict[str, Any]:
        merged = nnx.merge(graph, variables)
        with hooks(merged, layers, where="field compression.quantize") as calls:
            forward(merged, batch)
        for name in layers:
            for call in calls[name]:
                sums[name] = sums[name] + quantize_weights.input_errors(call.inputs[0])
        return sums

    sums: dict[str, Any] = {name: jnp.zeros(2 + len(quantize_weights.REACH)) for name in layers}
    for batch in batches:
        sums = measure(sums, variables, batch)
    for name, layer in layers.items():
        layer.inputs, layer.input_scale = "fixed", nnx.Param(quantize_weights.input_scale(sums[name]))
    missed = [name for name in layers if not sums[name][0]]
    if missed:
        more = f" and {len(missed) - 8} more" if len(missed) > 8 else ""
        raise InputError(
            "field compression.quantize",
            "int8-static: training records did not reach all layers.",
            found=", ".join(missed[:8]) + more,
            fix="--compression.keep for layers that are never used",
        )
