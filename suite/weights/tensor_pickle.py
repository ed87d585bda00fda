"""Pickles that describe tensors, read without running them.

A pickle is a program for a stack machine, which may call any function that Python can import. This machine has the
instructions that describe a dictionary of tensors alone: containers, numbers and texts, `OrderedDict`, and PyTorch's
function that makes a tensor of a storage. Whatever else a pickle asks for is refused by its name, before anything is
imported or called. Memory and time are bounded by `MOST_BYTES` and `MOST_STEPS`.
"""

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

MOST_BYTES = 16 << 20
"""Bytes of the largest pickle that is read: some hundred thousand tensors."""
MOST_STEPS = 1_000_000
"""Instructions that are followed."""
STORAGES = {
    "torch BoolStorage": "bool",
    "torch ByteStorage": "uint8",
    "torch CharStorage": "int8",
    "torch ShortStorage": "int16",
    "torch IntStorage": "int32",
    "torch LongStorage": "int64",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": "bfloat16",
    "torch FloatStorage": "float32",
    "torch DoubleStorage": "float64",
}
"""Global names of kinds of storages, and the format of their numbers."""
_ORDERED = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_KNOWN = frozenset({*STORAGES, _ORDERED, _TENSOR, _PARAMETER})


class Refused(ValueError):
    """What a pickle asks for that describes no tensors."""


@dataclass(frozen=True)
class Global:
    """A name of a module and of something in it. Nothing is imported."""

    name: str


@dataclass(frozen=True)
class Storage:
    """Numbers in the file.

    Attributes:
        key: what the file calls them.
        format: of a number.
        count: how many.
    """

    key: str
    format: str
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides are in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def load(file: BinaryIO) -> Any:
    """What the pickle that begins here describes: numbers, texts, lists, tuples, dicts and `Tensor`. The file is left
    behind its end.

    Raises:
        Refused: an instruction or a name that describes no tensors, or more than the limits allow.
        ValueError, IndexError, KeyError, TypeError: the pickle is damaged.
    """
    start = file.tell()
    program = io.BytesIO(file.read(MOST_BYTES))  # no instruction can ask for more than there is
    machine = _Machine()
    for step, (instruction, argument, _) in enumerate(pickletools.genops(program)):
        if step >= MOST_STEPS:
            raise Refused(f"more than {MOST_STEPS:,} instructions")
        machine.follow(instruction.name, argument)
    file.seek(start + program.tell())
    return machine.pop()


class _Mark:
    """Where the items of a container begin on the stack."""


class _Machine:
    """The stack, and what was put aside."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def follow(self, name: str, argument: Any) -> None:
        """One instruction."""
        if name in _IGNORED:
            return
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            count = _TUPLES[name]
            self._stack[len(self._stack) - count :] = [tuple(self._last(count))]
        elif name in _DOERS:
            _DOERS[name](self)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name == "GLOBAL":
            self._stack.append(_known(argument))
        else:
            raise Refused(f"instruction {name}")

    def pop(self) -> Any:
        """The topmost value."""
        value = self._stack.pop()
        if isinstance(value, _Mark):
            raise ValueError("a mark without items")
        return value

    def _last(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError("the stack is empty")
        return self._stack[len(self._stack) - count :]

    def _items(self) -> list[Any]:
        """What lies above the last mark, which goes with it."""
        place = len(self._stack) - 1
        while not isinstance(self._stack[place], _Mark):
            place -= 1
            if place < 0:
                raise ValueError("items without a mark")
        items = self._stack[place + 1 :]
        del self._stack[place:]
        return items

    def memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def tuple(self) -> None:
        self._stack.append(tuple(self._items()))

    def append(self) -> None:
        self._extend([self.pop()])

    def appends(self) -> None:
        self._extend(self._items())

    def _extend(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise Refused("items for something else than a list")
        self._stack[-1].extend(values)

    def set_item(self) -> None:
        self._set([self._stack.pop(-2), self.pop()])

    def set_items(self) -> None:
        self._set(self._items())

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise Refused("entries for something else than a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):  # a nested tuple would take forever to be hashed
                raise Refused(f"a key that is a {type(key).__name__}")
            target[key] = value

    def global_of_stack(self) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise Refused("a name that is no text")
        self._stack.append(_known(f"{module} {name}"))

    def reduce(self) -> None:
        """A call: of the three functions that make dictionaries and tensors."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise Refused("a call of something else than a function")
        if function.name == _ORDERED and not arguments:
            self._stack.append({})
        elif function.name == _TENSOR:
            self._stack.append(_tensor(*arguments[:4]))
        elif function.name == _PARAMETER and isinstance(arguments[0], Tensor):
            self._stack.append(arguments[0])
        else:
            raise Refused(f"a call of {function.name}")

    def build(self) -> None:
        """The attributes of a dictionary, such as versions of modules, are left out."""
        self.pop()
        if type(self._stack[-1]) is not dict:
            raise Refused("attributes of something else than a dictionary")

    def storage(self) -> None:
        """A persistent identifier: ("storage", kind, key, device, count)."""
        identifier = self.pop()
        if not isinstance(identifier, tuple) or len(identifier) < 5 or identifier[0] != "storage":
            raise Refused("a persistent identifier of something else than a storage")
        _, kind, key, _, count = identifier[:5]
        if not isinstance(kind, Global) or kind.name not in STORAGES or any(identifier[5:]):
            raise Refused("a storage of no known kind")
        self._stack.append(Storage(_text(key), STORAGES[kind.name], _size(count)))


_IGNORED = ("PROTO", "FRAME", "STOP")
_LITERALS = ("BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": _Mark,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_DOERS: Mapping[str, Callable[[_Machine], None]] = {
    "TUPLE": _Machine.tuple,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "STACK_GLOBAL": _Machine.global_of_stack,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.storage,
    "MEMOIZE": _Machine.memoize,
}


def _known(name: str) -> Global:
    if name not in _KNOWN:
        raise Refused(f"the name {name.replace(' ', '.', 1)!r:.120}")
    return Global(name)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused(f"a {type(value).__name__} in the place of a text")
    return value


def _size(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise Refused("a size that is no whole number")
    return value


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    """A tensor, all of whose numbers lie in the storage, and no more of them than the storage has."""
    if not (isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)):
        raise Refused("a tensor of something else than a storage and sizes")
    made = Tensor(storage, _size(offset), tuple(map(_size, shape)), tuple(map(_size, strides)))
    if len(shape) != len(strides) or len(shape) > 32:
        raise Refused("a tensor of other sizes than strides")
    count = 1
    for size in made.shape:
        count *= size
        if count > storage.count and 0 not in made.shape:
            raise Refused("a tensor of more numbers than its storage has")
    last = made.offset + sum((n - 1) * stride for n, stride in zip(made.shape, made.strides, strict=True))
    if count and last >= storage.count:
        raise Refused("a tensor that reaches beyond its storage")
    return made
