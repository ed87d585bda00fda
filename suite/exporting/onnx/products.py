"""Products of matrices, convolutions, pooling and Fourier transforms."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from suite.exporting.onnx.elementwise import Handler, applied, cast, result
from suite.exporting.onnx.graph import Graph, Unsupported, Value, constant, count, static


def _dot(graph: Graph, equation: Any, x: Value, y: Value) -> Value:
    """MatMul of operands whose axes are moved where they must be, as few of them as possible."""
    (along_x, along_y), (rows_x, rows_y) = equation.params["dimension_numbers"]
    aval, x, y = result(equation), _wide(graph, x, along_x), _wide(graph, y, along_y)
    free_x = [axis for axis in range(len(x.shape)) if axis not in (*along_x, *rows_x)]
    free_y = [axis for axis in range(len(y.shape)) if axis not in (*along_y, *rows_y)]
    ways = [
        (x, [*rows_x, *free_x, *along_x], y, [*rows_y, *along_y, *free_y], False),
        (y, [*rows_y, *free_y, *along_y], x, [*rows_x, *along_x, *free_x], True),
    ]
    left, left_order, right, right_order, swapped = min(
        ways, key=lambda way: _moves(way[0], way[1]) + _moves(way[2], way[3])
    )
    free_left, free_right = (free_y, free_x) if swapped else (free_x, free_y)
    batch, across = len(rows_x), len(along_x)
    left, right = graph.arranged(left, tuple(left_order)), graph.arranged(right, tuple(right_order))
    sides = [[value.shape[axis] for axis in order] for value, order in ((left, left_order), (right, right_order))]
    left, right = (
        Value(tuple(side), value.dtype, graph.named(value), made=value.made)
        for value, side in ((left, sides[0]), (right, sides[1]))
    )
    rows, free = sides[0][:batch], (sides[0][batch : batch + len(free_left)], sides[1][batch + across :])
    product = [*rows, *free[0], *free[1]]
    simple = across == 1 and len(free[1]) == 1 and (len(free[0]) == 1 or not batch)
    if not simple:
        inner = sides[0][batch + len(free_left) :]
        left = graph.reshaped(left, [*rows, _joined(free[0]), _joined(inner)])
        right = graph.reshaped(right, [*rows, _joined(inner), _joined(free[1])])
    written = _matmul(
        graph, left, right, product if simple else [*rows, _joined(free[0]), _joined(free[1])], aval.dtype
    )
    if not simple:
        written = graph.reshaped(written, product)
    order = list(range(batch)) + (
        [batch + len(free_x) + place for place in range(len(free_left))]
        + [batch + place for place in range(len(free_right))]
        if swapped
        else list(range(batch, len(product)))
    )
    stored = () if order == sorted(order) else tuple(order)
    return Value(tuple(aval.shape), aval.dtype, written.name, order=stored, made=written.made)


def _wide(graph: Graph, x: Value, axes: Sequence[int]) -> Value:
    return graph.full(x) if x.thin else x


def _moves(value: Value, order: Sequence[int]) -> int:
    """Whether a node must move the axes of the value."""
    before = value.order or tuple(range(len(value.shape)))
    return int(value.constant is None and tuple(order) != before)


def _joined(sizes: Sequence[Any]) -> Any:
    product: Any = 1
    for size in sizes:
        product = product * size
    return product


def _matmul(graph: Graph, left: Value, right: Value, shape: Sequence[Any], dtype: Any) -> Value:
    if left.dtype == right.dtype == np.int8:
        return cast(graph, graph.add("MatMulInteger", [left, right], shape, np.int32), dtype)
    if left.dtype != right.dtype:
        left, right = cast(graph, left, dtype), cast(graph, right, dtype)
    return cast(graph, graph.add("MatMul", [left, right], shape, left.dtype), dtype)


def _convolution(graph: Graph, equation: Any, x: Value, kernel: Value) -> Value:
    """Conv, of planes; the axes stay so for what comes after."""
    params, aval = equation.params, result(equation)
    numbers, groups = params["dimension_numbers"], int(params["feature_group_count"])
    if params["batch_group_count"] != 1:
        raise Unsupported("convolves with groups of rows")
    x, kernel = graph.full(x) if x.thin else x, graph.full(kernel) if kernel.thin else kernel
    x, kernel = graph.arranged(x, tuple(numbers.lhs_spec)), graph.arranged(kernel, tuple(numbers.rhs_spec))
    sizes = [int(kernel.shape[axis]) for axis in numbers.rhs_spec[2:]]
    pairs = [(int(low), int(high)) for low, high in params["padding"]]
    strides, spread = list(map(int, params["window_strides"])), list(map(int, params["lhs_dilation"]))
    dilations = list(map(int, params["rhs_dilation"]))
    order = () if tuple(numbers.out_spec) == tuple(range(len(aval.shape))) else tuple(map(int, numbers.out_spec))
    if any(step != 1 for step in spread):
        return _transposed(graph, x, kernel, aval, order, groups, (sizes, pairs, strides, spread, dilations))
    if min(min(pair) for pair in pairs) < 0:
        raise Unsupported("convolves a part of an array")
    pads = [low for low, _ in pairs] + [high for _, high in pairs]
    shapes = {"kernel_shape": sizes, "strides": strides, "dilations": dilations}
    return graph.add("Conv", [x, kernel], aval.shape, aval.dtype, (), order, group=groups, pads=pads, **shapes)


def _transposed(
    graph: Graph, x: Value, kernel: Value, aval: Any, order: tuple[int, ...], groups: int, window: tuple[Any, ...]
) -> Value:
    """ConvTranspose, which is a convolution of what zeros were written into, by the kernel turned round."""
    sizes, pairs, strides, spread, dilations = window
    if groups != 1 or any(step != 1 for step in strides) or kernel.constant is None:
        raise Unsupported("convolves, with strides, what zeros were written into")
    turned = np.flip(
        kernel.constant.transpose(kernel.order or range(kernel.constant.ndim)), tuple(range(2, 2 + len(sizes)))
    )
    ends = [step * (size - 1) for step, size in zip(dilations, sizes, strict=True)]
    low = [end - pair[0] for end, pair in zip(ends, pairs, strict=True)]
    high = [end - pair[1] for end, pair in zip(ends, pairs, strict=True)]
    if min(low) < 0:
        raise Unsupported("convolves, padded beyond the kernel, what zeros were written into")
    more = [max(0, -side) for side in high]
    return graph.add(
        "ConvTranspose",
        [x, constant(np.ascontiguousarray(turned.swapaxes(0, 1)))],
        aval.shape,
        aval.dtype,
        (),
        order,
        kernel_shape=sizes,
        strides=spread,
        dilations=dilations,
        pads=[*low, *(max(0, side) for side in high)],
        output_padding=more,
    )


def _pooling(operator: str) -> Handler:
    def write(graph: Graph, equation: Any, x: Value, *initial: Value) -> Value:
        params, aval = equation.params, result(equation)
        window, strides = list(params["window_dimensions"]), list(params["window_strides"])
        rank, pairs = len(window), list(params["padding"])
        if any(step != 1 for step in (*params["base_dilation"], *params["window_dilation"])):
            raise Unsupported("pools numbers that do not lie side by side")
        still = [axis for axis in range(rank) if window[axis] == strides[axis] == 1 and tuple(pairs[axis]) == (0, 0)]
        if len(still) < 2:
            raise Unsupported("pools along all axes")
        order = (still[0], still[-1], *(axis for axis in range(rank) if axis not in (still[0], still[-1])))
        planes = graph.arranged(graph.full(x) if x.thin else x, order)
        over = order[2:]
        pads = [int(pairs[axis][side]) for side in (0, 1) for axis in over]
        sizes = [int(window[axis]) for axis in over]
        shapes = {"kernel_shape": sizes, "strides": [int(strides[axis]) for axis in over], "pads": pads}
        if operator == "MaxPool":
            return graph.add("MaxPool", [planes], aval.shape, aval.dtype, (), order, **shapes)
        mean = graph.add("AveragePool", [planes], aval.shape, aval.dtype, (), order, count_include_pad=1, **shapes)
        return applied(graph, "Mul", [mean, constant(np.asarray(count(sizes), x.dtype))], aval.shape, aval.dtype)

    return write


def _fourier(graph: Graph, equation: Any, x: Value) -> Value:
    """Of real numbers, as the product with a table of cosines and one of sines."""
    if str(getattr(equation.params["fft_type"], "name", "")) != "RFFT" or len(equation.params["fft_lengths"]) != 1:
        raise Unsupported("has a Fourier transform of complex numbers")
    aval, x = result(equation), graph.full(x)
    (length,) = equation.params["fft_lengths"]
    if not static([length]):
        raise Unsupported("has a Fourier transform of any length")
    angles = 2 * np.pi / length * (np.outer(np.arange(length), np.arange(length // 2 + 1)) % length)
    parts = tuple(
        graph.add("MatMul", [x, constant(table.astype(x.dtype))], aval.shape, x.dtype)
        for table in (np.cos(angles), -np.sin(angles))
    )
    return Value(tuple(aval.shape), np.dtype(np.complex64), "?", made=("complex", parts, {}))


def _part(place: int) -> Handler:
    def write(graph: Graph, equation: Any, x: Value) -> Value:
        if x.made is None or x.made[0] != "complex":
            raise Unsupported("computes with complex numbers")
        return x.made[1][place]

    return write


PRODUCTS: Mapping[str, Handler] = {
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "reduce_window_max": _pooling("MaxPool"),
    "reduce_window_sum": _pooling("AveragePool"),
    "fft": _fourier,
    "real": _part(0),
    "imag": _part(1),
}
"""By primitive of JAX."""
