"""Operations that move numbers: shapes, parts, tables."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from suite.exporting.onnx.elementwise import Handler, applied, cast, result
from suite.exporting.onnx.graph import Graph, Unsupported, Value, constant, same, static

_LAST = np.iinfo(np.int64).max


def _broadcast(graph: Graph, equation: Any, x: Value, *sizes: Value) -> Value:
    return graph.spread(x, result(equation).shape, equation.params["broadcast_dimensions"])


def _reshape(graph: Graph, equation: Any, x: Value, *sizes: Value) -> Value:
    if equation.params.get("dimensions") is not None:
        raise Unsupported("reshapes in another order")
    return graph.reshaped(x, result(equation).shape)


def _squeeze(graph: Graph, equation: Any, x: Value) -> Value:
    axes, x, aval = [int(axis) for axis in equation.params["dimensions"]], graph.plain(x), result(equation)
    left = [axis for axis in range(len(x.shape)) if axis not in axes]
    thin = {place for place, axis in enumerate(left) if axis in x.thin}
    return graph.add("Squeeze", [x, graph.integers(axes)], aval.shape, x.dtype, thin)


def _transpose(graph: Graph, equation: Any, x: Value) -> Value:
    """Nothing is moved before an operation minds."""
    moved = [int(axis) for axis in equation.params["permutation"]]
    before = x.order or tuple(range(len(moved)))
    order = tuple(moved.index(axis) for axis in before)
    order = () if order == tuple(range(len(order))) else order
    thin = frozenset(moved.index(axis) for axis in x.thin)
    return Value(tuple(result(equation).shape), x.dtype, x.name, thin, order, made=x.made)


def sliced(
    graph: Graph, x: Value, axes: Mapping[int, tuple[Any, Any]], shape: Any, steps: Mapping[int, int] = {}
) -> Value:
    """A part: axis -> where it begins and where it ends, sizes or tensors () int64."""
    x = graph.plain(x)

    def vector(sides: list[Any]) -> Value:
        sides = [int(side.scalar) if isinstance(side, Value) and side.scalar is not None else side for side in sides]
        parts = [
            graph.add("Reshape", [side, graph.integers([1])], (1,), np.int64)
            if isinstance(side, Value)
            else graph.shape_of([side])
            for side in sides
        ]
        if all(part.constant is not None for part in parts):
            return graph.integers([int(part.scalar or 0) for part in parts])
        return parts[0] if len(parts) == 1 else graph.add("Concat", parts, (len(parts),), np.int64, axis=0)

    names = list(axes)
    operands = [x, vector([axes[name][0] for name in names]), vector([axes[name][1] for name in names])]
    operands.append(graph.integers(names))
    if steps:
        operands.append(graph.integers([steps.get(name, 1) for name in names]))
    return graph.add("Slice", operands, shape, x.dtype, x.thin - set(axes))


def _slice(graph: Graph, equation: Any, x: Value) -> Value:
    starts, ends = equation.params["start_indices"], equation.params["limit_indices"]
    strides = equation.params["strides"] or (1,) * len(starts)
    whole = zip(starts, ends, strides, x.shape, strict=True)
    axes = {
        axis: (start, end)
        for axis, (start, end, stride, size) in enumerate(whole)
        if not (same(start, 0) and same(end, size) and stride == 1)
    }
    if not axes:
        return x
    if x.thin & set(axes):
        x = graph.full(x)
    return sliced(graph, x, axes, result(equation).shape, {axis: int(strides[axis]) for axis in axes})


def _start(graph: Graph, index: Value, size: Any, taken: Any) -> Value:
    """Where a part of ``taken`` begins, such that it ends within ``size``."""
    index = cast(graph, index, np.int64)
    most = graph.size(size - taken) if not static([size, taken]) else constant(np.int64(size - taken))
    low = applied(graph, "Max", [index, constant(np.int64(0))], (), np.int64)
    return applied(graph, "Min", [low, most], (), np.int64)


def _dynamic_slice(graph: Graph, equation: Any, x: Value, *indices: Value) -> Value:
    x, aval = graph.full(x), result(equation)
    axes: dict[int, tuple[Any, Any]] = {}
    for axis, (index, size, taken) in enumerate(zip(indices, x.shape, aval.shape, strict=False)):
        if not same(size, taken):
            start = _start(graph, index, size, taken)
            axes[axis] = start, applied(graph, "Add", [start, graph.size(taken)], (), np.int64)
    return sliced(graph, x, axes, aval.shape) if axes else x


def _dynamic_update(graph: Graph, equation: Any, x: Value, update: Value, *indices: Value) -> Value:
    x, update = graph.full(x), graph.full(update)
    axes = [axis for axis in range(len(x.shape)) if not same(x.shape[axis], update.shape[axis])]
    if not axes:
        return update
    if len(axes) > 1:
        raise Unsupported("writes a part along several axes")
    (axis,) = axes
    start = _start(graph, indices[axis], x.shape[axis], update.shape[axis])
    end = applied(graph, "Add", [start, graph.size(update.shape[axis])], (), np.int64)
    parts = [sliced(graph, x, {axis: (0, start)}, x.shape), update, sliced(graph, x, {axis: (end, _LAST)}, x.shape)]
    return graph.add("Concat", parts, x.shape, x.dtype, axis=axis)


def _concatenate(graph: Graph, equation: Any, *values: Value) -> Value:
    axis = int(equation.params["dimension"])
    parts = [graph.full(value) for value in values]
    return graph.add("Concat", parts, result(equation).shape, parts[0].dtype, axis=axis)


def _stack(graph: Graph, equation: Any, *values: Value) -> Value:
    aval, axis = result(equation), int(equation.params.get("axis", equation.params.get("dimension", 0)))
    parts = [
        graph.add("Unsqueeze", [graph.full(value), graph.integers([axis])], aval.shape, value.dtype) for value in values
    ]
    return graph.add("Concat", parts, aval.shape, aval.dtype, axis=axis)


def _split(graph: Graph, equation: Any, x: Value) -> list[Value]:
    x, sizes, axis = graph.full(x), equation.params["sizes"], int(equation.params["axis"])
    names = graph.node("Split", [x, graph.shape_of(sizes)], len(sizes), axis=axis)
    return [
        Value(tuple(result(equation, place).shape), x.dtype, name, made=("Split", (x,), {"place": place}))
        for place, name in enumerate(names)
    ]


def _pad(graph: Graph, equation: Any, x: Value, fill: Value) -> Value:
    x, config, shape = graph.full(x), equation.params["padding_config"], list(result(equation).shape)
    if any(inner for _, _, inner in config):
        raise Unsupported("pads between numbers")
    cut = {
        axis: (max(0, -low), graph.size(x.shape[axis] + min(0, high)))
        for axis, (low, high, _) in enumerate(config)
        if min(low, high) < 0
    }
    if cut:
        x = sliced(graph, x, cut, shape)
    wide = [max(0, int(low)) for low, _, _ in config] + [max(0, int(high)) for _, high, _ in config]
    return (
        graph.add("Pad", [x, graph.integers(wide), graph.full(fill)], shape, x.dtype, mode="constant")
        if any(wide)
        else x
    )


def _reverse(graph: Graph, equation: Any, x: Value) -> Value:
    axes = [int(axis) for axis in equation.params["dimensions"]]
    x, ends = graph.full(x), [-_LAST] * len(axes)
    operands = [x, *map(graph.integers, ([-1] * len(axes), ends, axes, [-1] * len(axes)))]
    return graph.add("Slice", operands, x.shape, x.dtype)


def _iota(graph: Graph, equation: Any, *sizes: Value) -> Value:
    aval, axis = result(equation), int(equation.params["dimension"])
    if static([aval.shape[axis]]):
        line = constant(np.arange(int(aval.shape[axis])).astype(aval.dtype))
    else:
        ends = [constant(np.int64(0)), graph.size(aval.shape[axis]), constant(np.int64(1))]
        line = cast(graph, graph.add("Range", ends, (aval.shape[axis],), np.int64), aval.dtype)
    return graph.spread(line, aval.shape, (axis,))


def _size(graph: Graph, equation: Any, *operands: Value) -> Value:
    return cast(graph, graph.size(equation.params["dim"]), result(equation).dtype)


def _largest(graph: Graph, equation: Any, x: Value) -> list[Value]:
    axis, k = int(equation.params.get("axis", -1)) % len(x.shape), equation.params["k"]
    return _ordered(graph, equation, graph.full(x), axis, graph.shape_of([k]), 1)


def _ordered(graph: Graph, equation: Any, x: Value, axis: int, k: Value, largest: int) -> list[Value]:
    values, places = graph.node("TopK", [x, k], 2, axis=axis, largest=largest, sorted=1)
    shape = tuple(result(equation).shape)
    made = Value(shape, np.dtype(np.int64), places, made=("TopK", (x,), {}))
    return [
        Value(shape, x.dtype, values, made=("TopK", (x,), {})),
        cast(graph, made, result(equation, 1).dtype) if len(equation.outvars) > 1 else made,
    ]


def _sort(graph: Graph, equation: Any, *values: Value) -> list[Value]:
    if equation.params["num_keys"] != 1:
        raise Unsupported("sorts by several keys")
    axis, shape = int(equation.params["dimension"]), result(equation).shape
    key, *others = [graph.full(value) for value in values]
    names = graph.node("TopK", [key, graph.shape_of([shape[axis]])], 2, axis=axis, largest=0, sorted=1)
    first = Value(tuple(shape), key.dtype, names[0], made=("TopK", (key,), {}))
    places = Value(tuple(shape), np.dtype(np.int64), names[1], made=("TopK", (key,), {}))
    moved = [graph.add("GatherElements", [other, places], shape, other.dtype, axis=axis) for other in others]
    return [first, *moved]


SHAPES: Mapping[str, Handler] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update,
    "concatenate": _concatenate,
    "stack": _stack,
    "split": _split,
    "pad": _pad,
    "rev": _reverse,
    "iota": _iota,
    "dim_as_value": _size,
    "top_k": _largest,
    "sort": _sort,
}
"""By primitive of JAX."""
