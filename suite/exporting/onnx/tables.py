"""Rows of tables, taken and written: gather and scatter."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.lax import GatherScatterMode

from suite.exporting.onnx.elementwise import Handler, applied, cast, chosen, result
from suite.exporting.onnx.graph import Graph, Unsupported, Value, constant, same, static
from suite.exporting.onnx.shapes import sliced


def _gather(graph: Graph, equation: Any, table: Value, indices: Value) -> Value:
    """Whole slices along all axes but those that indices name, which is what a table of vectors, an array of places and
    `jax.numpy.take_along_axis` need."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    table, indices, aval = graph.full(table), cast(graph, graph.full(indices), np.int64), result(equation)
    named, batched = tuple(numbers.start_index_map), tuple(numbers.operand_batching_dims)
    gone = set(numbers.collapsed_slice_dims) | set(batched)
    free = [axis for axis in range(len(table.shape)) if axis not in gone]
    if not set(named) <= gone or not all(same(sizes[axis], table.shape[axis]) for axis in free):
        return _windows(graph, equation, table, indices)
    if not named:
        raise Unsupported("takes no row of a table")
    indices, real = _bounded(graph, equation, table, indices, named)
    places = [axis for axis in range(len(aval.shape)) if axis not in numbers.offset_dims]
    if not batched and len(named) == 1:
        taken = _rows(graph, table, indices, named[0], aval.shape, places, numbers.offset_dims)
    else:
        taken = _several(graph, table, indices, (*batched, *named), free, numbers, aval, places)
    return taken if real is None else _filled(graph, equation, taken, real, places)


def _bounded(
    graph: Graph, equation: Any, table: Value, indices: Value, named: tuple[int, ...]
) -> tuple[Value, Value | None]:
    """Indices within the table, and which were; None where all are."""
    mode = equation.params["mode"]
    if mode == GatherScatterMode.PROMISE_IN_BOUNDS or mode is None:
        return indices, None
    slices = equation.params["slice_sizes"]
    sizes = [table.shape[axis] - slices[axis] for axis in named]
    most = graph.shape_of(sizes)
    zeros = constant(np.zeros((), np.int64))
    low = graph.add("Max", [indices, zeros], indices.shape, np.int64)
    inside = graph.add("Min", [low, most], indices.shape, np.int64)
    if mode == GatherScatterMode.CLIP:
        return inside, None
    equal = graph.add("Equal", [inside, indices], indices.shape, bool)
    numbers = cast(graph, equal, np.int32)
    axis = len(indices.shape) - 1
    real = graph.add("ReduceMin", [numbers, graph.integers([axis])], indices.shape[:-1], np.int32, keepdims=0)
    return inside, cast(graph, real, bool)


def _rows(
    graph: Graph, table: Value, indices: Value, axis: int, shape: Any, places: list[int], offsets: tuple[int, ...]
) -> Value:
    """Slices along one axis, by Gather."""
    flat = graph.add("Squeeze", [indices, graph.integers([len(indices.shape) - 1])], indices.shape[:-1], np.int64)
    taken_axes = [*offsets[:axis], *places, *offsets[axis:]]  # Gather puts the places of indices where the axis was
    order = () if taken_axes == sorted(taken_axes) else tuple(taken_axes)
    return graph.add("Gather", [table, flat], shape, table.dtype, (), order, axis=axis)


def _several(
    graph: Graph,
    table: Value,
    indices: Value,
    named: tuple[int, ...],
    free: list[int],
    numbers: Any,
    aval: Any,
    places: list[int],
) -> Value:
    """Slices named by several indices, of which some are the place of the row, by GatherND."""
    table = graph.arranged(table, (*named, *free))
    table = Value(tuple(table.shape[axis] for axis in (*named, *free)), table.dtype, graph.named(table))
    batched = numbers.start_indices_batching_dims
    parts = []
    for axis in batched:
        size = indices.shape[axis]
        ends = [constant(np.int64(0)), graph.size(size), constant(np.int64(1))]
        line = constant(np.arange(size)) if static([size]) else graph.add("Range", ends, (size,), np.int64)
        parts.append(graph.full(graph.spread(line, (*indices.shape[:-1], 1), (axis,))))
    whole = indices
    if parts:
        shape = (*indices.shape[:-1], len(named))
        whole = graph.add("Concat", [*parts, indices], shape, np.int64, axis=len(shape) - 1)
    after = [*places, *numbers.offset_dims]
    order = () if after == sorted(after) else tuple(after)
    return graph.add("GatherND", [table, whole], aval.shape, table.dtype, (), order)


def _filled(graph: Graph, equation: Any, taken: Value, real: Value, places: list[int]) -> Value:
    """With the filling value where an index named no row."""
    fill = equation.params["fill_value"]
    if fill is None:
        kind = taken.dtype.kind
        fill = np.nan if kind == "f" else np.iinfo(taken.dtype).min if kind == "i" else True if kind == "b" else 0
    outside = constant(np.asarray(fill, taken.dtype))
    spread = graph.spread(real, taken.shape, places)
    return chosen(graph, spread, taken, outside, taken.shape)


def _windows(graph: Graph, equation: Any, table: Value, indices: Value) -> Value:
    """Parts of an array that begin at indices, by the place of each number in all."""
    numbers, sizes, aval = equation.params["dimension_numbers"], equation.params["slice_sizes"], result(equation)
    if numbers.operand_batching_dims or equation.params["mode"] == GatherScatterMode.FILL_OR_DROP:
        raise Unsupported("takes windows of arrays")
    cut = [axis for axis in range(len(table.shape)) if not same(sizes[axis], table.shape[axis])]
    named = tuple(numbers.start_index_map)
    if len(named) != 1 or cut not in ([], list(named)):
        raise Unsupported("takes windows along several axes")
    (axis,) = named
    indices, _ = _bounded(graph, equation, table, indices, named)
    if len(indices.shape) == 1:
        start = graph.add("Squeeze", [indices, graph.integers([0])], (), np.int64)
        end = applied(graph, "Add", [start, graph.size(sizes[axis])], (), np.int64)
        return sliced(graph, table, {axis: (start, end)}, aval.shape)
    if not static([sizes[axis]]):
        raise Unsupported("takes windows of any length")
    collapsed = set(numbers.collapsed_slice_dims)
    kept = [each for each in range(len(table.shape)) if each not in collapsed]
    offset = dict(zip(kept, numbers.offset_dims, strict=True))
    places = [each for each in range(len(aval.shape)) if each not in numbers.offset_dims]
    steps = constant(np.arange(sizes[axis], dtype=np.int64))
    added = graph.add("Add", [indices, steps], (*indices.shape[:-1], sizes[axis]), np.int64)  # (..., 1) + (size,)
    before = [offset[each] for each in kept if each < axis]
    after = [offset[each] for each in kept if each > axis]
    taken_axes = [*before, *places, offset[axis], *after]
    order = () if taken_axes == sorted(taken_axes) else tuple(taken_axes)
    return graph.add("Gather", [table, added], aval.shape, table.dtype, (), order, axis=axis)


def _scatter(reduction: str) -> Handler:
    def write(graph: Graph, equation: Any, table: Value, indices: Value, updates: Value) -> Value:
        numbers = equation.params["dimension_numbers"]
        table, updates = graph.full(table), graph.full(updates)
        indices = cast(graph, graph.full(indices), np.int64)
        named = tuple(numbers.scatter_dims_to_operand_dims)
        window = tuple(numbers.update_window_dims)
        if len(named) == 1 and len(indices.shape) - 1 == len(numbers.operand_batching_dims):
            return _windows_written(graph, equation, table, indices, updates, reduction)
        places = len(updates.shape) - len(window)
        plain = named == tuple(range(len(named))) and tuple(numbers.inserted_window_dims) == named
        if not plain or window != tuple(range(places, len(updates.shape))) or numbers.operand_batching_dims:
            raise Unsupported("writes parts of arrays at places that are computed")
        if equation.params["mode"] not in (GatherScatterMode.PROMISE_IN_BOUNDS, GatherScatterMode.CLIP, None):
            indices, updates = _kept(graph, table, indices, updates, reduction)
        return graph.add("ScatterND", [table, indices, updates], table.shape, table.dtype, reduction=reduction)

    return write


def _windows_written(
    graph: Graph, equation: Any, table: Value, indices: Value, updates: Value, reduction: str
) -> Value:
    """One part of each row, that begins at its index, by ScatterElements."""
    numbers, (axis,) = (
        equation.params["dimension_numbers"],
        equation.params["dimension_numbers"].scatter_dims_to_operand_dims,
    )
    axis, rows = int(axis), tuple(numbers.operand_batching_dims)
    inserted = tuple(numbers.inserted_window_dims)
    windows = [each for each in range(len(table.shape)) if each not in (*inserted, *rows)]
    place_of = dict(zip(windows, numbers.update_window_dims, strict=True))
    others = [each for each in range(len(updates.shape)) if each not in numbers.update_window_dims]
    place_of |= (
        {row: others[numbers.scatter_indices_batching_dims.index(i)] for i, row in enumerate(rows)} if rows else {}
    )
    shape = tuple(1 if each in inserted else updates.shape[place_of[each]] for each in range(len(table.shape)))
    size = shape[axis]
    kept = [each for each in range(len(table.shape)) if each not in inserted]
    updates = graph.arranged(updates, tuple(int(place_of[each]) for each in kept))
    updates = Value(tuple(shape[each] for each in kept), updates.dtype, graph.named(updates))
    updates = graph.reshaped(updates, shape)
    most = graph.shape_of([table.shape[axis] - size])
    low = graph.add("Max", [indices, constant(np.zeros((), np.int64))], indices.shape, np.int64)
    begun = graph.add("Min", [low, most], indices.shape, np.int64)  # (rows..., 1)
    last = graph.integers([len(indices.shape) - 1])
    begun, stated = (graph.add("Squeeze", [each, last], indices.shape[:-1], np.int64) for each in (begun, indices))
    steps = graph.spread(constant(np.arange(size, dtype=np.int64)), shape, (axis,))
    along = applied(graph, "Add", [graph.spread(begun, shape, rows), steps], shape, np.int64)
    along = graph.full(along)
    if equation.params["mode"] == GatherScatterMode.FILL_OR_DROP:  # what would lie beyond the array is not written
        before = graph.add("GatherElements", [table, along], shape, table.dtype, axis=axis)
        inside = graph.spread(graph.add("Equal", [begun, stated], begun.shape, bool), shape, rows)
        updates = graph.full(chosen(graph, inside, updates, before, shape))
    operands = [table, along, updates]
    return graph.add("ScatterElements", operands, table.shape, table.dtype, axis=axis, reduction=reduction)


def _kept(graph: Graph, table: Value, indices: Value, updates: Value, reduction: str) -> tuple[Value, Value]:
    """Indices within the table, and updates that change nothing where one was not."""
    last, places = len(indices.shape) - 1, list(range(len(indices.shape) - 1))
    most = graph.shape_of([table.shape[axis] - 1 for axis in range(int(indices.shape[-1]))])
    low = graph.add("Max", [indices, constant(np.zeros((), np.int64))], indices.shape, np.int64)
    inside = graph.add("Min", [low, most], indices.shape, np.int64)
    numbers = cast(graph, graph.add("Equal", [inside, indices], indices.shape, bool), np.int32)
    real = graph.add("ReduceMin", [numbers, graph.integers([last])], indices.shape[:-1], np.int32, keepdims=0)
    real = graph.spread(cast(graph, real, bool), updates.shape, places)
    before = constant(np.zeros((), table.dtype))
    if reduction == "none":
        before = graph.add("GatherND", [table, inside], updates.shape, table.dtype)
    return inside, graph.full(chosen(graph, real, updates, before, updates.shape))


TABLES: Mapping[str, Handler] = {
    "gather": _gather,
    "scatter": _scatter("none"),
    "scatter_add": _scatter("add"),
    "scatter-add": _scatter("add"),
}
"""By primitive of JAX."""
