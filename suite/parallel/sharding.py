"""Where arrays live: a named mesh, the SHARDING table of the model, and batches split by rows."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from suite.errors import InputError
from suite.experiment.sections import Experiment, Parallel
from suite.parallel import target
from suite.parallel.layout import ROWS, Layout
from suite.tree import paths

AXES = ("data", "fsdp", "tensor")
REPLICAS = "replicas"
"""The axis inside pmap."""


def make_mesh(parallel: Parallel) -> Mesh:
    """The mesh (data, fsdp, tensor) over `target.devices`; ``dcn_data`` is the slow part of data.

    Raises:
        InputError: no such mesh can be made of the devices there are.
    """
    sizes = [getattr(parallel, axis) for axis in AXES]
    available = target.devices()
    outer, count = parallel.dcn_data, len(available)
    rest = outer * int(np.prod([size for size in sizes if size != -1]))
    if sizes.count(-1) > 1 or outer < 1 or any(size == 0 or size < -1 for size in sizes):
        shown = {**dict(zip(AXES, sizes, strict=True)), "dcn_data": outer}
        raise InputError(
            "field parallel",
            f"{shown} is no mesh.",
            fix="positive sizes, at most one of data, fsdp, tensor -1 for all that is left",
        )
    if count % rest or (-1 not in sizes and rest > count):
        raise InputError(
            "field parallel",
            f"asks for multiples of {rest} devices.",
            found=f"{count} devices",
            fix="--parallel.data -1 --parallel.fsdp 1 --parallel.tensor 1",
        )
    sizes = [count // rest if size == -1 else size for size in sizes]
    devices = available[: outer * int(np.prod(sizes))]
    groups = [devices] if outer == 1 else _groups(devices, outer)
    # Of a torus, 4 x 8 x 8 chips say, an axis of the mesh takes whole sides where they fit, and else parts of them.
    inner = [mesh_utils.create_device_mesh(sizes, group, allow_split_physical_axes=True) for group in groups]
    return Mesh(np.concatenate(inner), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _groups(devices: Sequence[Any], count: int) -> list[list[Any]]:
    """Devices by the network that joins them: slices, else hosts; simulated ones have none, and are cut in order."""
    for of in (lambda device: getattr(device, "slice_index", None) or 0, lambda device: device.process_index):
        names = sorted({of(device) for device in devices})
        if len(names) > 1:
            break
    groups = [[device for device in devices if of(device) == name] for name in names]
    if len(groups) == 1 and devices[0].platform == "cpu":
        return [list(part) for part in np.split(np.array(devices, object), count)]
    if len(groups) != count or len({len(group) for group in groups}) > 1:
        raise InputError(
            "field parallel.dcn_data",
            f"is {count}, but these devices are no {count} equal groups.",
            found=f"{len(groups)} with {', '.join(str(len(group)) for group in groups)} devices",
            fix=f"--parallel.dcn_data {len(groups)}",
        )
    return groups


def check(experiment: Experiment) -> Mesh:
    """The mesh of an experiment, if its batch and its model can be spread over it. Allocates nothing.

    Raises:
        InputError: they cannot.
    """
    parallel, parts = experiment.parallel, experiment.gradient.microbatches
    mesh = make_mesh(parallel)
    if parts < 1:
        raise InputError(
            "field gradient.accumulate", "must be at least 1.", found=str(parts), fix="--gradient.accumulate 1"
        )
    check_divisible(experiment.train.batch_size, parts, mesh)
    tensor = mesh.shape["tensor"]
    for field, size in experiment.model.shared_by_tensor.items():
        if size % tensor:
            fitting = max(divisor for divisor in range(1, tensor + 1) if size % divisor == 0 == mesh.size % divisor)
            raise InputError(
                "field parallel.tensor",
                f"is {tensor}, which does not divide the model's {field}.",
                found=f"model.{field} {size}",
                fix=f"--parallel.tensor {fitting:d}",
            )
    if parallel.sequence and tensor == 1:
        raise InputError(
            "field parallel.sequence",
            "splits activations over the devices of tensor, which is 1.",
            fix="--parallel.sequence False",
        )
    if parallel.engine == "pmap":
        _check_pmap(parallel, parts, mesh)
    return mesh


def _check_pmap(parallel: Parallel, microbatches: int, mesh: Mesh) -> None:
    if mesh.shape["fsdp"] * mesh.shape["tensor"] * parallel.dcn_data > 1:
        sizes = {axis: mesh.shape[axis] for axis in ("fsdp", "tensor")} | {"dcn_data": parallel.dcn_data}
        raise InputError(
            "field parallel.engine",
            "pmap shares out the batch and nothing else.",
            found=str(sizes),
            fix="--parallel.engine jit",
        )
    if microbatches > 1:
        raise InputError(
            "field parallel.engine",
            "pmap takes no micro-batches.",
            found=f"gradient.accumulate {microbatches}",
            fix="--parallel.engine jit",
        )
    if jax.process_count() > 1:
        raise InputError(
            "field parallel.engine",
            "pmap is for the devices of one process.",
            found=f"{jax.process_count()} processes",
            fix="--parallel.engine jit",
        )


def layout(parallel: Parallel, mesh: Mesh) -> Layout:
    """What layers know of a jitted program over ``mesh``: of one device its platform alone."""
    platform = target.platform_of(mesh.devices.flat[0])
    return Layout(mesh, parallel.sequence, platform=platform) if mesh.size > 1 else Layout(platform=platform)


def replicate(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """``step`` (state, batches (steps, b, ...)) by pmap: each device has the state and its part of the rows.

    `step` gives every device the same result, by `suite.parallel.layout.batch_sum` and its like.
    """
    mapped = jax.pmap(step, REPLICAS, in_axes=(None, 1), out_axes=None, devices=list(mesh.devices.flat))

    def replicated(state: Any, batches: Any) -> Any:
        split = lambda a: a.reshape(a.shape[0], mesh.size, a.shape[1] // mesh.size, *a.shape[2:])
        return mapped(state, jax.tree.map(split, batches))

    return replicated


def check_divisible(batch_size: int, microbatches: int, mesh: Mesh, field: str = "train.batch_size") -> None:
    """Every device and micro-batch gets the same number of rows, or InputError."""
    parts = mesh.shape["data"] * mesh.shape["fsdp"] * microbatches
    if batch_size % parts:
        better = max(batch_size // parts, 1) * parts
        raise InputError(
            f"field {field}",
            f"{batch_size} rows cannot be split evenly over {parts} parts.",
            found=f"{parts // microbatches} devices that share a batch x {microbatches} micro-batches",
            fix=f"--{field} {better:d}",
        )


def batch_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
    """Rows over data and fsdp; ``leading`` axes before the rows (steps of a dispatch) are whole everywhere."""
    return NamedSharding(mesh, P(*[None] * leading, ROWS))


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
    """What of its rule divides the array; fsdp goes to another axis if it must, so that no large array is whole."""
    rule = next((spec for rule, spec in table if re.search(rule, name)), None)
    spec = [entry if size % _parts(entry, mesh) == 0 else None for size, entry in zip(shape, rule or (), strict=False)]
    spec += [None] * (len(shape) - len(spec))
    if mesh.shape["fsdp"] > 1 and (rule is None or "fsdp" in rule) and "fsdp" not in spec:
        free = [i for i, entry in enumerate(spec) if entry is None and shape[i] % mesh.shape["fsdp"] == 0]
        if free:
            spec[max(free, key=lambda i: (shape[i], -i))] = "fsdp"
    return P(*spec)


def _parts(entry: Any, mesh: Mesh) -> int:
    """Devices along what a spec names for one axis of an array."""
    names = (entry,) if isinstance(entry, str) else entry or ()
    return int(np.prod([mesh.shape[name] for name in names]))


def state_shardings(state: Any, table: tuple[tuple[str, P], ...], mesh: Mesh) -> Any:
    """Shardings for a whole training state: whatever has the path of a parameter, and its shape or the first axes
    of it, lives where it does."""
    specs = param_specs(state.params, table, mesh)
    shapes = {name: leaf.shape for name, leaf in paths(state.params).items()}

    def of(path: Any, leaf: Any) -> NamedSharding:
        name = "/".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path)
        owner = next((n for n in shapes if f"/{name}".endswith(f"/{n}") and leaf.shape == shapes[n][: leaf.ndim]), None)
        return NamedSharding(mesh, P(*specs[owner][: leaf.ndim]) if owner else P())

    return jax.tree_util.tree_map_with_path(of, state)
