"""A traced function as a model of ONNX: its equations one by one, what is constant computed at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jax.interpreters import partial_eval

from suite.exporting.onnx.elementwise import ELEMENTWISE, REDUCTIONS, cast
from suite.exporting.onnx.fusion import fused
from suite.exporting.onnx.graph import IR, OPSET, Graph, Unsupported, Value, constant, same, static, tensor_type
from suite.exporting.onnx.products import PRODUCTS
from suite.exporting.onnx.shapes import SHAPES
from suite.exporting.onnx.tables import TABLES

MOST_FOLDED = 1 << 22
"""Numbers of the largest constant that is computed from smaller ones."""
MOST_BYTES = (1 << 31) - (1 << 20)
"""Of a model in one file."""
_CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "remat",
    "remat2",
    "checkpoint",
    "custom_jvp_call",
    "custom_vjp_call",
)
_HANDLERS = {**ELEMENTWISE, **REDUCTIONS, **SHAPES, **TABLES, **PRODUCTS}
_DRAWN = "draws random numbers"


def convert(
    function: Callable[..., Mapping[str, Any]],
    constants: Sequence[Mapping[str, np.ndarray]],
    inputs: Mapping[str, jax.ShapeDtypeStruct],
    title: str,
) -> Any:
    """A ``ModelProto`` of what ``function(*constants, inputs)`` computes.

    Args:
        function: (arrays by name, ..., inputs by name) -> outputs by name, traceable.
        constants: arrays that the model holds, by name.
        inputs: shapes, whose sizes may be symbols, by name.
        title: of the model.

    Raises:
        Unsupported: it does something that is not written as ONNX.
    """
    from onnx import helper

    arrays = tuple(dict(each) for each in constants)
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arrays, dict(inputs))
    closed = _without_unused(closed)
    graph, given = Graph(), []
    for name, shape in sorted(inputs.items()):
        given.append(Value(tuple(shape.shape), np.dtype(shape.dtype), name))
        for axis, size in enumerate(shape.shape):
            if not static([size]) and str(size) not in graph.sizes:
                sides = graph.add("Shape", [given[-1]], (1,), np.int64, start=axis, end=axis + 1)
                graph.sizes[str(size)] = graph.add("Squeeze", [sides], (), np.int64)
    known = [constant(leaf, name) for each in arrays for name, leaf in sorted(each.items())]
    outputs = run(graph, closed, [*known, *given])
    names = []
    for name, value in zip(sorted(shapes), outputs, strict=True):
        graph.nodes.append(helper.make_node("Identity", [graph.named(graph.full(value))], [name]))
        names.append(name)
    nodes = _needed(graph.nodes, names)
    read = {name for node in nodes for name in _reads(node)}
    kept = {name: array for name, array in graph.initializers.items() if name in read}
    if (size := sum(array.nbytes for array in kept.values())) > MOST_BYTES:
        raise Unsupported(f"has weights of {size:,} bytes, and one file of ONNX holds {MOST_BYTES:,}")
    model = helper.make_model(
        helper.make_graph(
            nodes,
            title,
            [_about(value.name, value.shape, value.dtype) for value in given],
            [_about(name, shapes[name].shape, shapes[name].dtype) for name in names],
            [_tensor(name, array) for name, array in kept.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
    )
    return model


def _without_unused(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Without what no output depends on, such as the random numbers of a decoder that is greedy."""
    everything = [True] * len(closed.jaxpr.outvars)
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, everything, instantiate=True)
    return ClosedJaxpr(jaxpr, closed.consts)


def run(graph: Graph, closed: ClosedJaxpr, given: Sequence[Value]) -> list[Value]:
    """Writes what a traced function does; its outputs."""
    return _run(graph, closed.jaxpr, [constant(np.asarray(each)) for each in closed.consts], given)


def _run(graph: Graph, jaxpr: Any, constants: Sequence[Value], given: Sequence[Value]) -> list[Value]:
    values: dict[Any, Value] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *given], strict=True))

    def read(variable: Any) -> Value:
        return (
            constant(np.asarray(variable.val, variable.aval.dtype))
            if isinstance(variable, Literal)
            else values[variable]
        )

    for equation in jaxpr.eqns:
        made = _written(graph, equation, [read(variable) for variable in equation.invars])
        values.update(zip(equation.outvars, made, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _written(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    """What an equation gives."""
    name, params = equation.primitive.name, equation.params
    for variable in (*equation.invars, *equation.outvars):
        if jax.dtypes.issubdtype(variable.aval.dtype, jax.dtypes.extended):
            raise Unsupported(_DRAWN)
    if name == "platform_index":
        platforms = list(params["platforms"])
        return [constant(np.int32(platforms.index(None) if None in platforms else len(platforms) - 1))]
    if name == "optimization_barrier":
        return operands
    if name in _CALLS:
        inner = params.get("jaxpr") or params.get("call_jaxpr") or params.get("fun_jaxpr")
        if isinstance(inner, ClosedJaxpr):
            return run(graph, inner, operands)
        return _run(graph, inner, [], operands)
    if name == "cond":
        return _cond(graph, params["branches"], operands[0], operands[1:])
    if name in ("while", "scan") and any(value.constant is None for value in operands):
        return _while(graph, params, operands) if name == "while" else _scan(graph, params, operands)
    folded = _folded(equation, operands)
    if folded is not None:
        return folded
    if name not in _HANDLERS:
        raise Unsupported(_DRAWN if name.startswith(("random_", "threefry")) else f"computes {name}")
    made = _HANDLERS[name](graph, equation, *operands)
    return [fused(graph, value) for value in made] if isinstance(made, list) else [fused(graph, made)]


def _folded(equation: Any, operands: list[Value]) -> list[Value] | None:
    """What an equation of constants gives, computed; None where it is written instead."""
    name = equation.primitive.name
    avals = [variable.aval for variable in equation.outvars]
    if any(value.constant is None for value in operands) or name in ("broadcast_in_dim", "iota", "dim_as_value"):
        return None
    if name in ELEMENTWISE:
        return [_thin(equation, operands)]
    if not all(static(value.shape) for value in (*operands, *avals)):
        return None
    size = sum(int(np.prod(aval.shape)) for aval in avals)
    if size > max(MOST_FOLDED, sum(value.constant.size for value in operands if value.constant is not None)):
        return None
    arrays = [np.broadcast_to(value.constant, value.shape) for value in operands if value.constant is not None]
    made = equation.primitive.bind(*arrays, **equation.primitive.get_bind_params(equation.params))
    return [constant(np.asarray(each)) for each in (made if equation.primitive.multiple_results else [made])]


def _thin(equation: Any, operands: list[Value]) -> Value:
    """Numbers one by one, no more of them than there are different places."""
    aval = equation.outvars[0].aval
    arrays = [value.constant for value in operands if value.constant is not None]
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    whole = [np.broadcast_to(array, shape) for array in arrays]
    made = equation.primitive.bind(*whole, **equation.primitive.get_bind_params(equation.params))
    thin = {
        axis
        for axis, size in enumerate(aval.shape)
        if len(shape) == len(aval.shape) and shape[axis] == 1 and not same(size, 1)
    }
    return Value(tuple(aval.shape), aval.dtype, thin=frozenset(thin), constant=np.asarray(made))


def _cond(graph: Graph, branches: Sequence[ClosedJaxpr], which: Value, operands: list[Value]) -> list[Value]:
    """The branch that is known; else If of two."""
    if which.scalar is not None:
        return run(graph, branches[int(np.clip(which.scalar, 0, len(branches) - 1))], operands)
    if len(branches) != 2:
        raise Unsupported("chooses among more than two branches")
    avals = [variable.aval for variable in branches[0].jaxpr.outvars]
    bodies = []
    for branch in branches:
        inner = graph.inner()
        bodies.append(_body(inner, [], run(inner, branch, operands), avals))
    names = graph.node("If", [cast(graph, which, bool)], len(avals), else_branch=bodies[0], then_branch=bodies[1])
    return [Value(tuple(aval.shape), aval.dtype, name) for aval, name in zip(avals, names, strict=True)]


def _while(graph: Graph, params: Mapping[str, Any], operands: list[Value]) -> list[Value]:
    checked, own = params["cond_nconsts"], params["body_nconsts"]
    test, body = operands[:checked], operands[checked : checked + own]
    state = [graph.full(value) for value in operands[checked + own :]]
    (goes,) = run(graph, params["cond_jaxpr"], [*test, *state])
    inner = graph.inner()
    carried = [Value(value.shape, value.dtype, inner.fresh("s")) for value in state]
    after = [inner.full(value) for value in run(inner, params["body_jaxpr"], [*body, *carried])]
    (on,) = run(inner, params["cond_jaxpr"], [*test, *after])
    return _loop(graph, inner, "", goes, state, carried, [on, *after], [])


def _scan(graph: Graph, params: Mapping[str, Any], operands: list[Value]) -> list[Value]:
    fixed, count = params["num_consts"], params["num_carry"]
    body, state = operands[:fixed], [graph.full(value) for value in operands[fixed : fixed + count]]
    columns, length = [graph.full(value) for value in operands[fixed + count :]], params["length"]
    inner, step = graph.inner(), None
    carried = [Value(value.shape, value.dtype, inner.fresh("s")) for value in state]
    place = Value((), np.dtype(np.int64), inner.fresh("i"))
    step = place
    if params["reverse"]:
        last = graph.size(length - 1)
        step = inner.add("Sub", [last, place], (), np.int64)
    rows = [inner.add("Gather", [column, step], column.shape[1:], column.dtype, axis=0) for column in columns]
    made = run(inner, params["jaxpr"], [*body, *carried, *rows])
    after, kept = [inner.full(value) for value in made[:count]], [inner.full(value) for value in made[count:]]
    on = constant(np.asarray(True))
    outputs = _loop(
        graph, inner, graph.named(graph.size(length)), on, state, carried, [on, *after], kept, place, length
    )
    if not params["reverse"]:
        return outputs
    minus, end, first = (graph.integers([number]) for number in (-1, -np.iinfo(np.int64).max, 0))
    turned = [
        graph.add("Slice", [value, minus, end, first, minus], value.shape, value.dtype) for value in outputs[count:]
    ]
    return [*outputs[:count], *turned]


def _loop(
    graph: Graph,
    inner: Graph,
    times: str,
    goes: Value,
    state: Sequence[Value],
    carried: Sequence[Value],
    made: Sequence[Value],
    kept: Sequence[Value],
    place: Value | None = None,
    length: Any = 0,
) -> list[Value]:
    """Loop, ``times`` times at most, while what is ``made`` first is true; ``kept`` is stacked."""
    from onnx import helper

    place = place or Value((), np.dtype(np.int64), inner.fresh("i"))
    on = Value((), np.dtype(bool), inner.fresh("g"))
    avals = [Value((), np.dtype(bool)), *carried, *kept]
    body = _body(inner, [place, on, *carried], [*made, *kept], avals)
    names = [graph.fresh() for _ in (*state, *kept)]
    inputs = [times, graph.named(graph.full(goes)), *(graph.named(value) for value in state)]
    graph.nodes.append(helper.make_node("Loop", inputs, names, body=body))
    shapes = [*(value.shape for value in state), *((length, *value.shape) for value in kept)]
    types = [value.dtype for value in (*state, *kept)]
    return [Value(tuple(shape), dtype, name) for shape, dtype, name in zip(shapes, types, names, strict=True)]


def _body(inner: Graph, inputs: Sequence[Value], made: Sequence[Value], avals: Sequence[Any]) -> Any:
    """A graph of a branch or of a loop."""
    from onnx import helper

    names = []
    for value in made:
        (name,) = inner.node("Identity", [inner.full(value)])
        names.append(name)
    return helper.make_graph(
        inner.nodes,
        inner.fresh("body"),
        [_about(value.name, value.shape, value.dtype) for value in inputs],
        [_about(name, aval.shape, aval.dtype) for name, aval in zip(names, avals, strict=True)],
    )


def _needed(nodes: Sequence[Any], outputs: Sequence[str]) -> list[Any]:
    """Nodes that the outputs depend on."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted.update(_reads(node))
    return kept[::-1]


def _reads(node: Any) -> set[str]:
    """Names that a node reads, in its bodies too."""
    names = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            names.update(name for inside in attribute.g.node for name in _reads(inside))
    return names


def _about(name: str, shape: Sequence[Any], dtype: Any) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(
        name, tensor_type(dtype), [int(size) if static([size]) else _plain_name(size) for size in shape]
    )


def _plain_name(size: Any) -> str | None:
    """A symbol by its name; a size that is computed has none."""
    return str(size) if str(size).isidentifier() else None


def _tensor(name: str, array: np.ndarray) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array(array, order="C"), name)  # a copy keeps arrays of no axes as they are
