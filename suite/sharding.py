"""Where arrays live: a named mesh, the SHARDING table of the model, and batches split by rows."""

import re
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from suite.config import Parallel
from suite.errors import InputError
from suite.tree import paths

AXES = ("data", "fsdp", "tensor")


def make_mesh(parallel: Parallel) -> Mesh:
    """The mesh (data, fsdp, tensor) over this process's view of all devices."""
    sizes = [getattr(parallel, axis) for axis in AXES]
    count = jax.device_count()
    rest = int(np.prod([size for size in sizes if size != -1]))
    if sizes.count(-1) > 1 or any(size == 0 or size < -1 for size in sizes):
        raise InputError("field parallel", f"{dict(zip(AXES, sizes, strict=True))} is no mesh.",
                         fix="positive sizes, at most one of them -1 for all that is left")  # fmt: skip
    if count % rest or (-1 not in sizes and rest > count):
        raise InputError("field parallel", f"asks for multiples of {rest} devices.", found=f"{count} devices",
                         fix="--parallel.data -1 --parallel.fsdp 1 --parallel.tensor 1")  # fmt: skip
    sizes = [count // rest if size == -1 else size for size in sizes]
    devices = jax.devices()[: int(np.prod(sizes))]
    return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def check_divisible(batch_size: int, accumulate: int, mesh: Mesh, field: str = "train.batch_size") -> None:
    """Every device and micro-batch gets the same number of rows, or InputError."""
    parts = mesh.shape["data"] * mesh.shape["fsdp"] * accumulate
    if batch_size % parts:
        better = max(batch_size // parts, 1) * parts
        raise InputError(f"field {field}", f"{batch_size} rows cannot be split evenly over {parts} parts.",
                         found=f"{parts // accumulate} devices that share a batch x {accumulate} micro-batches",
                         fix=f"--{field} {better}")  # fmt: skip


def batch_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
    """Rows over data and fsdp; ``leading`` axes before the rows (steps of a dispatch) are whole everywhere."""
    return NamedSharding(mesh, P(*[None] * leading, ("data", "fsdp")))


def param_specs(params: Any, table: tuple[tuple[str, P], ...], mesh: Mesh) -> dict[str, P]:
    """Parameter path -> spec: first matching rule, else fsdp on the largest divisible axis, else replicated.

    Raises:
        ValueError: a rule of the table matches no parameter, so the table is out of date.
    """
    leaves = paths(params)
    idle = [rule for rule, _ in table if not any(re.search(rule, name) for name in leaves)]
    if idle:
        raise ValueError(f"sharding rules that match no parameter: {idle}")
    return {name: _spec(name, leaf.shape, table, mesh) for name, leaf in leaves.items()}


def _spec(name: str, shape: tuple[int, ...], table: tuple[tuple[str, P], ...], mesh: Mesh) -> P:
    for rule, spec in table:
        if re.search(rule, name):
            return spec if _fits(shape, spec, mesh) else P()
    fsdp = mesh.shape["fsdp"]
    for axis in sorted(range(len(shape)), key=lambda i: -shape[i]):
        if fsdp > 1 and shape[axis] % fsdp == 0:
            return P(*[None] * axis, "fsdp")
    return P()


def _fits(shape: tuple[int, ...], spec: P, mesh: Mesh) -> bool:
    def parts(entry: Any) -> int:
        names = (entry,) if isinstance(entry, str) else entry or ()
        return int(np.prod([mesh.shape[name] for name in names]))

    return all(size % parts(entry) == 0 for size, entry in zip(shape, spec, strict=False))


def state_shardings(state: Any, table: tuple[tuple[str, P], ...], mesh: Mesh) -> Any:
    """Shardings for a whole training state: whatever has the path of a parameter, and its shape or the first axes
    of it, lives where it does."""
    specs = param_specs(state.params, table, mesh)
    shapes = {name: leaf.shape for name, leaf in paths(state.params).items()}

    def of(path: Any, leaf: Any) -> NamedSharding:
        name = "/".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path)
        owner = next((n for n in shapes if name.endswith(n) and leaf.shape == shapes[n][: leaf.ndim]), None)
        return NamedSharding(mesh, P(*specs[owner][: leaf.ndim]) if owner else P())

    return jax.tree_util.tree_map_with_path(of, state)
