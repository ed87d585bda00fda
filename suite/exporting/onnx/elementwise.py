"""Operations on each number by itself, and reductions."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from suite.exporting.onnx.graph import Graph, Unsupported, Value, constant, static, tensor_type

Handler = Callable[..., Value | list[Value]]
"""(graph, equation of the jaxpr, its operands) -> what it gives."""


def result(equation: Any, place: int = 0) -> Any:
    """Shape and type of what an equation gives."""
    return equation.outvars[place].aval


def applied(graph: Graph, operator: str, operands: list[Value], shape: Any, dtype: Any, **attributes: Any) -> Value:
    """An operator that broadcasts its operands, which are stored alike."""
    stored = [value for value in operands if value.constant is None and len(value.shape) == len(shape)]
    order = next((value.order for value in stored if value.order), ())
    operands = [graph.arranged(value, order or tuple(range(len(shape)))) for value in operands]
    thin = set(range(len(shape)))
    for value in operands:
        if len(value.shape) == len(shape):
            thin &= value.thin | {axis for axis, size in enumerate(value.shape) if static([size]) and size == 1}
    return graph.add(operator, operands, shape, dtype, thin, order, **attributes)


def _simple(operator: str, **attributes: Any) -> Handler:
    def write(graph: Graph, equation: Any, *operands: Value) -> Value:
        aval = result(equation)
        return applied(graph, operator, list(operands), aval.shape, aval.dtype, **attributes)

    return write


def _logical(operator: str, bitwise: str) -> Handler:
    def write(graph: Graph, equation: Any, *operands: Value) -> Value:
        aval = result(equation)
        which = operator if aval.dtype == bool else bitwise
        return applied(graph, which, list(operands), aval.shape, aval.dtype)

    return write


def _composed(*operators: str) -> Handler:
    """One operator after the other, from the innermost."""

    def write(graph: Graph, equation: Any, *operands: Value) -> Value:
        aval, values = result(equation), list(operands)
        for operator in operators:
            values = [applied(graph, operator, values, aval.shape, aval.dtype)]
        return values[0]

    return write


def _with(operator: str, number: float, first: bool = False, after: str = "") -> Handler:
    """An operator of the operand and a number."""

    def write(graph: Graph, equation: Any, x: Value) -> Value:
        aval = result(equation)
        other = constant(np.asarray(number, x.dtype))
        value = applied(graph, operator, [other, x] if first else [x, other], aval.shape, aval.dtype)
        return applied(graph, after, [value], aval.shape, aval.dtype) if after else value

    return write


def _without_one(operator: str, negative: bool = False) -> Handler:
    """What an operator gives less one; ``negative``: one less what it gives."""

    def write(graph: Graph, equation: Any, x: Value) -> Value:
        aval = result(equation)
        parts = [applied(graph, operator, [x], aval.shape, aval.dtype), constant(np.asarray(1, x.dtype))]
        return applied(graph, "Sub", parts[::-1] if negative else parts, aval.shape, aval.dtype)

    return write


def _unequal(graph: Graph, equation: Any, x: Value, y: Value) -> Value:
    aval = result(equation)
    return applied(graph, "Not", [applied(graph, "Equal", [x, y], aval.shape, bool)], aval.shape, bool)


def _square(graph: Graph, equation: Any, x: Value) -> Value:
    return applied(graph, "Mul", [x, x], result(equation).shape, x.dtype)


def _power(graph: Graph, equation: Any, x: Value) -> Value:
    aval, exponent = result(equation), int(equation.params["y"])
    if exponent == 2:
        return _square(graph, equation, x)
    return applied(graph, "Pow", [x, constant(np.asarray(exponent, x.dtype))], aval.shape, aval.dtype)


def _maximum(graph: Graph, equation: Any, x: Value, y: Value) -> Value:
    aval = result(equation)
    if aval.dtype == bool:
        return applied(graph, "Or", [x, y], aval.shape, bool)
    for one, other in ((x, y), (y, x)):
        if one.scalar == -np.inf and len(other.shape) == len(aval.shape) and not other.thin - one.thin:
            return other  # as a softmax of nothing is guarded
    return applied(graph, "Max", [x, y], aval.shape, aval.dtype)


def _minimum(graph: Graph, equation: Any, x: Value, y: Value) -> Value:
    aval = result(equation)
    return applied(graph, "And" if aval.dtype == bool else "Min", [x, y], aval.shape, aval.dtype)


def _clamp(graph: Graph, equation: Any, least: Value, x: Value, most: Value) -> Value:
    aval = result(equation)
    return applied(
        graph, "Min", [applied(graph, "Max", [x, least], aval.shape, aval.dtype), most], aval.shape, aval.dtype
    )


def _select(graph: Graph, equation: Any, which: Value, *cases: Value) -> Value:
    aval = result(equation)
    if len(cases) != 2 or which.dtype != bool:
        raise Unsupported("selects among more than two arrays")
    return chosen(graph, which, cases[1], cases[0], aval.shape)


def chosen(graph: Graph, which: Value, yes: Value, no: Value, shape: Any) -> Value:
    """Numbers of ``yes`` where it is so, else of ``no``. Runtimes choose among numbers, not among truths."""
    if yes.dtype != bool:
        return applied(graph, "Where", [which, yes, no], shape, yes.dtype)
    numbers = [cast(graph, value, np.uint8) for value in (yes, no)]
    return cast(graph, applied(graph, "Where", [which, *numbers], shape, np.uint8), bool)


def _cast(graph: Graph, equation: Any, x: Value) -> Value:
    aval = result(equation)
    if x.dtype == aval.dtype:
        return x
    return applied(graph, "Cast", [x], aval.shape, aval.dtype, to=tensor_type(aval.dtype))


def cast(graph: Graph, value: Value, dtype: Any) -> Value:
    """In another type of numbers."""
    if value.dtype == np.dtype(dtype):
        return value
    if value.constant is not None:
        return Value(value.shape, np.dtype(dtype), "", value.thin, value.order, value.constant.astype(dtype))
    return graph.add("Cast", [value], value.shape, dtype, value.thin, value.order, to=tensor_type(dtype))


def _finite(graph: Graph, equation: Any, x: Value) -> Value:
    shape = result(equation).shape
    strange = [applied(graph, operator, [x], shape, bool) for operator in ("IsNaN", "IsInf")]
    return applied(graph, "Not", [applied(graph, "Or", strange, shape, bool)], shape, bool)


def _round(graph: Graph, equation: Any, x: Value) -> Value:
    aval = result(equation)
    if int(equation.params["rounding_method"]) == 1:  # to the nearest even one
        return applied(graph, "Round", [x], aval.shape, aval.dtype)
    sizes = applied(graph, "Abs", [x], aval.shape, aval.dtype)
    up = applied(graph, "Add", [sizes, constant(np.asarray(0.5, x.dtype))], aval.shape, aval.dtype)
    signs = applied(graph, "Sign", [x], aval.shape, aval.dtype)
    return applied(graph, "Mul", [applied(graph, "Floor", [up], aval.shape, aval.dtype), signs], aval.shape, aval.dtype)


def _same(graph: Graph, equation: Any, x: Value, *others: Value) -> Value:
    return x


ELEMENTWISE: Mapping[str, Handler] = {
    "add": _simple("Add"),
    "add_any": _simple("Add"),
    "sub": _simple("Sub"),
    "mul": _simple("Mul"),
    "div": _simple("Div"),
    "rem": _simple("Mod", fmod=1),
    "pow": _simple("Pow"),
    "max": _maximum,
    "min": _minimum,
    "neg": _simple("Neg"),
    "abs": _simple("Abs"),
    "sign": _simple("Sign"),
    "floor": _simple("Floor"),
    "ceil": _simple("Ceil"),
    "round": _round,
    "exp": _simple("Exp"),
    "exp2": _with("Pow", 2.0, first=True),
    "log": _simple("Log"),
    "log1p": _with("Add", 1.0, after="Log"),
    "expm1": _without_one("Exp"),
    "sqrt": _simple("Sqrt"),
    "rsqrt": _composed("Sqrt", "Reciprocal"),
    "tanh": _simple("Tanh"),
    "logistic": _simple("Sigmoid"),
    "erf": _simple("Erf"),
    "erfc": _without_one("Erf", negative=True),
    "sin": _simple("Sin"),
    "cos": _simple("Cos"),
    "atan": _simple("Atan"),
    "sinh": _simple("Sinh"),
    "cosh": _simple("Cosh"),
    "square": _square,
    "integer_pow": _power,
    "eq": _simple("Equal"),
    "ne": _unequal,
    "lt": _simple("Less"),
    "le": _simple("LessOrEqual"),
    "gt": _simple("Greater"),
    "ge": _simple("GreaterOrEqual"),
    "and": _logical("And", "BitwiseAnd"),
    "or": _logical("Or", "BitwiseOr"),
    "xor": _logical("Xor", "BitwiseXor"),
    "not": _logical("Not", "BitwiseNot"),
    "clamp": _clamp,
    "select_n": _select,
    "is_finite": _finite,
    "convert_element_type": _cast,
    "stop_gradient": _same,
    "copy": _same,
    "copy_p": _same,
    "sharding_constraint": _same,
    "reduce_precision": _same,
}
"""By primitive of JAX."""


def reduced(graph: Graph, operator: str, x: Value, axes: tuple[int, ...], shape: Any, repeats: bool = False) -> Value:
    """Over ``axes``; ``repeats``: whether it minds how often a number stands there."""
    if x.thin & set(axes) and repeats:
        x = graph.full(x)
    before = x.order or tuple(range(len(x.shape)))
    places = [before.index(axis) for axis in axes]
    left = [axis for axis in before if axis not in axes]
    ranked = sorted(left)
    order = tuple(ranked.index(axis) for axis in left)
    thin = {ranked.index(axis) for axis in x.thin - set(axes)}
    order = () if order == tuple(range(len(order))) else order
    return graph.add(operator, [x, graph.integers(places)], shape, x.dtype, thin, order, keepdims=0)


def _reduction(operator: str, repeats: bool = False) -> Handler:
    def write(graph: Graph, equation: Any, x: Value) -> Value:
        return reduced(graph, operator, x, tuple(equation.params["axes"]), result(equation).shape, repeats)

    return write


def _extreme(operator: str, logical: str) -> Handler:
    def write(graph: Graph, equation: Any, x: Value) -> Value:
        axes, aval = tuple(equation.params["axes"]), result(equation)
        if aval.dtype != bool:
            return reduced(graph, operator, x, axes, aval.shape)
        return cast(graph, reduced(graph, logical, cast(graph, x, np.int32), axes, aval.shape), bool)

    return write


def _place(operator: str) -> Handler:
    def write(graph: Graph, equation: Any, x: Value) -> Value:
        (axis,), aval, x = equation.params["axes"], result(equation), graph.full(x)
        places = graph.add(operator, [x], aval.shape, np.int64, axis=int(axis), keepdims=0)
        return cast(graph, places, aval.dtype)

    return write


def _cumulative(graph: Graph, equation: Any, x: Value) -> Value:
    x = graph.full(x)
    axis, reverse = constant(np.int64(equation.params["axis"])), int(equation.params["reverse"])
    return graph.add("CumSum", [x, axis], x.shape, x.dtype, reverse=reverse)


REDUCTIONS: Mapping[str, Handler] = {
    "reduce_sum": _reduction("ReduceSum", repeats=True),
    "reduce_prod": _reduction("ReduceProd", repeats=True),
    "reduce_max": _extreme("ReduceMax", "ReduceMax"),
    "reduce_min": _extreme("ReduceMin", "ReduceMin"),
    "reduce_and": _extreme("ReduceMin", "ReduceMin"),
    "reduce_or": _extreme("ReduceMax", "ReduceMax"),
    "argmax": _place("ArgMax"),
    "argmin": _place("ArgMin"),
    "cumsum": _cumulative,
}
"""By primitive of JAX."""
