"""Reference pass: records that a whole split is compared with, embedded once before the split is evaluated."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from suite.contracts.data import Source
from suite.contracts.task import Task
from suite.data.pipeline.padding import Buckets, count, pad, padded_lengths
from suite.errors import InputError
from suite.parallel import hosts

Reference = Mapping[str, np.ndarray] | None
"""Outputs of `Task.embed` for all reference records, each array (n, ...) in their order; None where there are none."""
ROWS = 64
"""Reference records that are embedded at a time."""


def reference_arrays(
    embed: Callable[..., dict[str, jax.Array]],
    params: Any,
    model_state: Any,
    task: Task,
    source: Source | None,
    buckets: Buckets = (),
) -> Reference:
    """The arrays of the records of ``source``, at most `ROWS` of them on the device at a time.

    Every process embeds all of them, so each holds the whole.

    Args:
        embed: (params, model_state, batch) -> arrays (b, ...), jitted: `Task.embed`.
        params, model_state: variables of the model.
        task: encodes the records.
        source: what `Task.reference` gave; None: there are none.
        buckets: padded lengths by axis.

    Raises:
        InputError: the source is empty.
    """
    if source is None:
        return None
    if not len(source):
        where = f"reference records of {type(task).__name__}"
        raise InputError(where, "are none.", found="0 records", fix="a source of at least one record")
    size, encode = min(len(source), ROWS), task.encode_reference
    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, len(source), size):
        indices = np.arange(start, min(start + size, len(source)))
        rows = encode(source[indices])
        real = np.arange(size) < count(rows)
        batch = pad(rows, real, padded_lengths(rows, buckets), indices)
        arrays = hosts.fetched(embed(params, model_state, batch))
        parts.append({name: np.asarray(value)[real] for name, value in arrays.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def reference_shapes(
    embed: Callable[..., Any], params: Any, model_state: Any, task: Task, source: Source | None, buckets: Buckets = ()
) -> Mapping[str, jax.ShapeDtypeStruct] | None:
    """What `reference_arrays` gives, as shapes alone: records are encoded, and nothing is computed of them."""

    def zeros(*given: Any) -> dict[str, np.ndarray]:
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(embed, *given))  # type: ignore[no-any-return]

    arrays = reference_arrays(zeros, params, model_state, task, source, buckets)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arrays)  # type: ignore[no-any-return]


def on_devices(reference: Reference, mesh: Mesh | None = None) -> dict[str, jax.Array] | None:
    """The arrays on each device of the mesh, so that they are not sent with every batch."""
    if reference is None:
        return None
    where = NamedSharding(mesh, PartitionSpec()) if mesh is not None and mesh.size > 1 else None
    return jax.device_put(dict(reference), where)
