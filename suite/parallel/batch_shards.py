"""Which rows of a batch each process holds: batches onto the devices of all, and outputs back to rows of one's own."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from suite.contracts.batch import Batch
from suite.errors import InputError
from suite.parallel.sharding import batch_sharding


@dataclass(frozen=True)
class Part:
    """The rows of a batch of ``size`` rows that this process's devices hold.

    Attributes:
        rows: their numbers, rising.
        owned: (len(rows),) False where a process of a lower number holds the row too, as on a mesh whose axis tensor
            spans processes. Each row is owned once, so that sums over processes count it once.
        size: rows of the whole batch.
    """

    rows: np.ndarray
    owned: np.ndarray
    size: int


def own_part(mesh: Mesh, size: int) -> Part | None:
    """This process's part of a batch of ``size`` rows over ``mesh``; None where there is but one process.

    Raises:
        InputError: the mesh leaves out a process.
    """
    if jax.process_count() == 1:
        return None
    where = batch_sharding(mesh).devices_indices_map((size,))
    held = np.zeros((jax.process_count(), size), bool)
    for device, (rows,) in where.items():
        held[device.process_index, rows] = True
    if idle := np.flatnonzero(~held.any(1)).tolist():
        raise InputError(
            "field parallel",
            f"leaves out process {', '.join(map(str, idle))}.",
            found=f"a mesh of {mesh.size} of {jax.device_count()} devices",
            fix="--parallel.data -1",
        )
    rows = np.flatnonzero(held[jax.process_index()])
    return Part(rows, held.argmax(0)[rows] == jax.process_index(), size)


def place(batch: Batch, where: NamedSharding | None, part: Part | None) -> Batch:
    """A batch on the devices: ``where`` splits its row axis, the last axis that it names. None: the default device.

    With ``part`` the arrays of ``batch`` are this process's rows, and the result is the whole batch, of which no
    process holds more than its own.
    """
    if part is None or where is None:
        return jax.device_put(batch, where)
    axis = len(where.spec) - 1

    def whole(value: np.ndarray) -> jax.Array:
        def local(index: tuple[slice, ...]) -> np.ndarray:
            return value[(*index[:axis], _own(index[axis], part), *index[axis + 1 :])]

        shape = (*value.shape[:axis], part.size, *value.shape[axis + 1 :])
        return jax.make_array_from_callback(shape, where, local)

    return {name: whole(np.asarray(value)) for name, value in batch.items()}


def placer(mesh: Mesh, part: Part | None = None, leading: int = 0) -> Callable[[Batch], Batch]:
    """`place` on the devices of ``mesh``, for batches with ``leading`` axes before their rows."""
    where = batch_sharding(mesh, leading) if mesh.size > 1 else None
    return lambda batch: place(batch, where, part)


def own_rows(outputs: dict[str, jax.Array], part: Part | None) -> dict[str, np.ndarray]:
    """Outputs (b, ...) whose rows are split as those of batches are, as this process's rows on the host."""
    if part is None:
        return jax.device_get(outputs)

    def local(value: jax.Array) -> np.ndarray:
        rows = np.empty((len(part.rows), *value.shape[1:]), value.dtype)
        for shard in value.addressable_shards:
            rows[_own(shard.index[0], part)] = np.asarray(shard.data)
        return rows

    return {name: local(value) for name, value in outputs.items()}


def _own(rows: slice, part: Part) -> slice:
    """Where rows of the batch, which one device holds, lie among this process's."""
    start, stop, _ = rows.indices(part.size)
    at = int(np.searchsorted(part.rows, start))
    return slice(at, at + stop - start)
