"""Chains of operations that ONNX has one operator for, which engines compute in one pass over the numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from suite.exporting.onnx.graph import Graph, Value, constant, static

_PASSED = ("Unsqueeze", "Identity", "Squeeze")


def fused(graph: Graph, value: Value) -> Value:
    """The value, or the same by a single operator; what it was made by is left out where nothing else reads it."""
    if value.made is None or value.dtype.kind != "f":
        return value
    for match in _MATCHES.get(value.made[0], ()):
        found = match(graph, value)
        if found is not None:
            return found
    return value


def _seen(value: Value) -> Value:
    """What a value is of, through nodes that only add axes of one number."""
    while value.made is not None and value.made[0] in _PASSED:
        value = value.made[1][0]
    return value


def _by(value: Value, operator: str) -> tuple[Value, ...] | None:
    """The inputs of a value that is made by this operator."""
    value = _seen(value)
    return value.made[1] if value.made is not None and value.made[0] == operator else None


def _split(value: Value, operator: str, wanted: Callable[[Value], Any]) -> tuple[Any, Value] | None:
    """Of an operator of two inputs in any order: what ``wanted`` finds in one, and the other."""
    inputs = _by(value, operator)
    if inputs is None or len(inputs) != 2:
        return None
    for one, other in (inputs, inputs[::-1]):
        found = wanted(one)
        if found is not None and found is not False:
            return found, other
    return None


def _is(number: float) -> Callable[[Value], bool]:
    def close(value: Value) -> bool:
        return value.scalar is not None and not value.order and abs(value.scalar - number) <= 1e-6 * abs(number)

    return close


def _softmax(graph: Graph, value: Value) -> Value | None:
    """exp(x - max x) / sum exp(x - max x)."""
    inputs = _by(value, "Div")
    if inputs is None or (sums := _by(inputs[1], "ReduceSum")) is None:
        return None
    powers = _seen(inputs[0])
    if sums[0] is not powers or (difference := _by(powers, "Exp")) is None:
        return None
    parts = _by(difference[0], "Sub")
    if parts is None or (most := _by(parts[1], "ReduceMax")) is None or most[0] is not parts[0] or parts[0].order:
        return None
    axis, other = (reduced[1].scalar for reduced in (sums, most))
    if axis is None or axis != other:
        return None
    return graph.add("Softmax", [parts[0]], value.shape, value.dtype, parts[0].thin, axis=int(axis))


def _gelu(graph: Graph, value: Value) -> Value | None:
    """x / 2 (1 + erf(x / sqrt 2))."""
    inputs = _by(value, "Mul") or ()
    for one, other in (inputs, inputs[::-1]) if len(inputs) == 2 else ():
        half, curve = _split(one, "Mul", _is(0.5)), _split(other, "Add", _is(1.0))
        if half is None or curve is None or (inside := _by(curve[1], "Erf")) is None:
            continue
        scaled = _split(inside[0], "Mul", _is(2**-0.5))
        if scaled is not None and scaled[1] is half[1]:
            x = half[1]
            return graph.add("Gelu", [x], value.shape, value.dtype, x.thin, x.order)
    return None


def _normalised(graph: Graph, value: Value) -> Value | None:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, along the last axis."""
    outer = _split(value, "Add", _is_vector)
    if outer is None or (scaled := _split(outer[1], "Mul", _is_vector)) is None:
        return None
    bias, scale = outer[0], scaled[0]
    inner = _split(scaled[1], "Mul", lambda each: _by(each, "Reciprocal"))
    if inner is None:
        return None
    (root,), centred = inner
    parts, deviation = _by(centred, "Sub"), _by(root, "Sqrt")
    if parts is None or deviation is None or parts[0].order or not static(parts[0].shape[-1:]):
        return None
    x, width = parts[0], int(parts[0].shape[-1])
    moved = _split(deviation[0], "Add", lambda each: each.scalar)
    if moved is None or scale.size != width or bias.size != width:
        return None
    squares = _mean(moved[1], width, len(x.shape) - 1)
    factors = _by(squares, "Mul") if squares is not None else None
    same = factors is not None and all(_seen(each) is _seen(centred) for each in factors)
    if not same or (mean := _mean(parts[1], width, len(x.shape) - 1)) is None or mean is not x:
        return None
    operands = [x, constant(scale.reshape(width)), constant(bias.reshape(width))]
    return graph.add("LayerNormalization", operands, value.shape, value.dtype, x.thin, axis=-1, epsilon=float(moved[0]))


def _is_vector(value: Value) -> np.ndarray | None:
    """The numbers of a constant that has some along its last axis alone."""
    known = value.constant
    if known is None or value.order or not known.ndim or known.shape[-1] != known.size:
        return None
    return known


def _mean(value: Value, width: int, axis: int) -> Value | None:
    """What a value is the mean of, along the last axis."""
    parts = _by(value, "Div")
    if parts is None or parts[1].scalar != width or (sums := _by(parts[0], "ReduceSum")) is None:
        return None
    axes = sums[1].constant
    return sums[0] if axes is not None and axes.tolist() == [axis] else None


_MATCHES: dict[str, tuple[Callable[[Graph, Value], Value | None], ...]] = {
    "Div": (_softmax,),
    "Mul": (_gelu,),
    "Add": (_normalised,),
}
