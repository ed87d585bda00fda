"""A graph of ONNX while it is built: values that are written as late as possible, so that few nodes are needed.

A constant is folded into others and written where a node reads it. A value that was broadcast stays as small as it was,
since most operations of ONNX broadcast by themselves. One that was transposed from rows of channels to planes stays so
until an operation minds.
"""

import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

OPSET = 20
"""Version of the operators; the first with Gelu."""
IR = 9
"""Version of the file format that goes with it."""


class Unsupported(Exception):
    """Something that a program does and that is not written as ONNX, in words that follow "it"."""


@dataclass(eq=False)
class Value:
    """An array of the program.

    Attributes:
        shape: sizes, numbers or symbols.
        dtype: of its numbers.
        name: in the graph; empty: a constant that was not written.
        thin: axes along which one number stands for all.
        order: where axes are stored: the stored axis i is the axis ``order[i]``; empty: as in ``shape``.
        constant: its numbers, thin as it is, where they are known.
        made: the operator, its inputs and attributes; None of inputs and constants.
    """

    shape: tuple[Any, ...]
    dtype: np.dtype[Any]
    name: str = ""
    thin: frozenset[int] = frozenset()
    order: tuple[int, ...] = ()
    constant: np.ndarray | None = None
    made: tuple[str, tuple["Value", ...], dict[str, Any]] | None = None

    @property
    def stored(self) -> tuple[Any, ...]:
        """Sizes as they are in the graph, but for the order."""
        return tuple(1 if axis in self.thin else size for axis, size in enumerate(self.shape))

    @property
    def scalar(self) -> float | None:
        """The number, of a constant that has but one."""
        return self.constant.reshape(-1)[0].item() if self.constant is not None and self.constant.size == 1 else None


def constant(array: Any, name: str = "") -> Value:
    """A value of known numbers; ``name``: what it is called when it is written."""
    array = np.asarray(array)
    return Value(array.shape, array.dtype, constant=array, made=("", (), {"called": name}) if name else None)


def static(shape: Sequence[Any]) -> bool:
    """Whether all sizes are numbers."""
    return all(isinstance(size, int | np.integer) for size in shape)


@dataclass
class Graph:
    """Nodes, constants and names; a body of a loop is a graph of its own, which sees the names of those around it.

    Attributes:
        nodes: of ``onnx``, in order.
        initializers: name -> array.
        sizes: symbol -> name of a tensor () int64 that holds it.
        outer: the graph around this one.
    """

    nodes: list[Any] = field(default_factory=list)
    initializers: dict[str, np.ndarray] = field(default_factory=dict)
    sizes: dict[str, Value] = field(default_factory=dict)
    outer: "Graph | None" = None
    _count: list[int] = field(default_factory=lambda: [0])
    _written: dict[Any, str] = field(default_factory=dict)

    def inner(self) -> "Graph":
        """A graph within this one."""
        return Graph(sizes=dict(self.sizes), outer=self, _count=self._count)

    def fresh(self, prefix: str = "v") -> str:
        """A name that nothing has."""
        self._count[0] += 1
        return f"{prefix}{self._count[0]}"

    def node(self, operator: str, inputs: Sequence["Value | str"], outputs: int = 1, **attributes: Any) -> list[str]:
        """Write a node; the names of what it gives."""
        from onnx import helper

        names = [given if isinstance(given, str) else self.named(given) for given in inputs]
        made = [self.fresh() for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, names, made, **attributes))
        return made

    def add(
        self,
        operator: str,
        inputs: Sequence[Value],
        shape: Sequence[Any],
        dtype: Any,
        thin: Any = (),
        order: tuple[int, ...] = (),
        **attributes: Any,
    ) -> Value:
        """Write a node of one output, of which ``shape``, ``dtype``, ``thin`` and ``order`` are known."""
        (name,) = self.node(operator, inputs, **attributes)
        return Value(
            tuple(shape), np.dtype(dtype), name, frozenset(thin), order, made=(operator, tuple(inputs), attributes)
        )

    def named(self, value: Value) -> str:
        """The name of a value, which is written if it is a constant."""
        if value.name:
            return value.name
        assert value.constant is not None
        key = id(value.constant), value.order
        if key not in self._written:
            array = value.constant.transpose(value.order) if value.order else value.constant
            called = value.made[2]["called"] if value.made else ""
            root = self
            while root.outer is not None:
                root = root.outer
            name = called if called and called not in root.initializers else self.fresh("c")
            root.initializers[name] = array
            self._written[key] = name
            self._kept.append(value.constant)  # so that no other array gets its id
        return self._written[key]

    _kept: list[np.ndarray] = field(default_factory=list)

    def integers(self, numbers: Sequence[int]) -> Value:
        """A constant of int64, as shapes and axes are."""
        return constant(np.asarray(numbers, np.int64))

    def plain(self, value: Value) -> Value:
        """In the order of its axes."""
        if value.constant is not None and value.order:
            return Value(value.shape, value.dtype, "", value.thin, (), value.constant, value.made)
        return self.arranged(value, tuple(range(len(value.shape)))) if value.order else value

    def full(self, value: Value) -> Value:
        """In the order of its axes, all its numbers written."""
        value = self.plain(value)
        wide = [axis for axis in value.thin if not (static(value.shape[axis : axis + 1]) and value.shape[axis] == 1)]
        if not wide:
            return value
        if value.constant is not None and static(value.shape):
            return constant(np.broadcast_to(value.constant, value.shape))
        return self.add("Expand", [value, self.shape_of(value.shape)], value.shape, value.dtype)

    def arranged(self, value: Value, order: tuple[int, ...]) -> Value:
        """With its axes stored in ``order``; a value without axes stays as it is."""
        natural = tuple(range(len(order)))
        if len(value.shape) != len(order) or (value.order or natural) == order:
            return value
        before, order = value.order or natural, () if order == natural else order
        if value.constant is not None:
            return Value(value.shape, value.dtype, "", value.thin, order, value.constant, value.made)
        moved = [before.index(axis) for axis in order or natural]
        return self.add("Transpose", [value], value.shape, value.dtype, value.thin, order, perm=moved)

    def reshaped(self, value: Value, shape: Sequence[Any]) -> Value:
        """All its numbers, in another shape."""
        value = self.full(value)
        if value.constant is not None and static(shape):
            return constant(value.constant.reshape(shape), value.made[2].get("called", "") if value.made else "")
        return self._reshape(value, value.shape, shape, shape, frozenset())

    def _reshape(self, value: Value, old: Sequence[Any], new: Sequence[Any], shape: Sequence[Any], thin: Any) -> Value:
        """Write Reshape from the stored sizes ``old`` to ``new``."""
        zeros = [
            0 if not static([size]) and axis < len(old) and same(old[axis], size) else size
            for axis, size in enumerate(new)
        ]
        unknown = [axis for axis, size in enumerate(zeros) if not static([size])]
        if len(unknown) == 1:
            zeros[unknown[0]] = -1
            unknown = []
        sizes = self.shape_of(new) if unknown else self.integers(zeros)
        return self.add("Reshape", [value, sizes], shape, value.dtype, thin)

    def spread(self, value: Value, shape: Sequence[Any], places: Sequence[int]) -> Value:
        """Broadcast to ``shape``, whose axes ``places`` are those of the value: one number stands for all along the
        others."""
        value = self.plain(value)
        stored = value.stored
        new = [1] * len(shape)
        for axis, place in enumerate(places):
            new[place] = stored[axis]
        thin = {axis for axis in range(len(shape)) if same(new[axis], 1)}
        if value.constant is not None:
            return Value(tuple(shape), value.dtype, thin=frozenset(thin), constant=value.constant.reshape(new))
        if list(stored) == new:
            return Value(tuple(shape), value.dtype, value.name, frozenset(thin), made=value.made)
        if list(places) == sorted(places):
            added = self.integers([axis for axis in range(len(shape)) if axis not in places])
            return self.add("Unsqueeze", [value, added], shape, value.dtype, thin)
        return self._reshape(value, stored, new, shape, thin)

    def shape_of(self, shape: Sequence[Any]) -> Value:
        """A tensor (n,) int64 of sizes."""
        if static(shape):
            return self.integers([int(size) for size in shape])
        parts = [
            self.integers([size])
            if static([size])
            else self.add("Unsqueeze", [self.size(size), self.integers([0])], (1,), np.int64)
            for size in shape
        ]
        return parts[0] if len(parts) == 1 else self.add("Concat", parts, (len(shape),), np.int64, axis=0)

    def size(self, size: Any) -> Value:
        """A size as a tensor () int64, computed from the symbols in it."""
        if static([size]):
            return constant(np.int64(size))
        text = str(size)
        if text not in self.sizes:
            self.sizes[text] = self._computed(ast.parse(text, mode="eval").body)
        return self.sizes[text]

    def _computed(self, tree: Any) -> Value:
        match tree:
            case ast.Constant(value=int() as number):
                return constant(np.int64(number))
            case ast.Name(id=name) if name in self.sizes:
                return self.sizes[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._whole("Neg", operand)
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
                return self._whole(_OPERATORS[type(operator)], left, right)
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in _CALLS:
                return self._whole(_CALLS[name], *arguments)
        raise Unsupported(f"has an array whose size is {ast.unparse(tree)}")

    def _whole(self, operator: str, *trees: Any) -> Value:
        return self.add(operator, [self._computed(tree) for tree in trees], (), np.int64)


_OPERATORS: Mapping[type, str] = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}
_CALLS: Mapping[str, str] = {"floordiv": "Div", "mod": "Mod", "max": "Max", "min": "Min"}
"""Of sizes, none of which is negative."""


def same(one: Any, other: Any) -> bool:
    """Whether two sizes are equal, whatever symbols stand for."""
    if static([one, other]):
        return int(one) == int(other)
    return not static([one]) and not static([other]) and bool(str(one) == str(other))


def scalars(values: Sequence[Value]) -> Iterator[Value]:
    """Those that have no axes."""
    return (value for value in values if not value.shape)


def count(shape: Sequence[Any]) -> int:
    """How many numbers an array of known sizes has."""
    return math.prod(int(size) for size in shape)


def tensor_type(dtype: Any) -> int:
    """ONNX's number for a type of numbers."""
    from onnx import helper

    if dtype == jax.numpy.bfloat16:
        return 16
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
