"""Convolutions of `oneDNN <https://uxlfoundation.github.io/oneDNN>`_ on a CPU, where that library is installed.

It convolves in blocks without copying an input first, in bfloat16 too, which XLA's CPU backend cannot. The library is
``libdnnl.so.3``: of the extra ``cpu``, conda-forge (onednn-cpu-omp) or Debian (libdnnl3), all Apache-2.0.
Where it is missing, has no fast kernel for a shape on this processor, or is left out by ``SUITE_ONEDNN=off``,
`suite.nn.conv` computes the same by products.

Dims: see `suite.nn.conv`.
"""

import threading
from collections.abc import Sequence
from ctypes import Structure, byref, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from suite.nn.cpu import library as finding
from suite.nn.cpu import native

FORWARD, BY_INPUT, BY_KERNEL = "suite.conv", "suite.conv.by_input", "suite.conv.by_kernel"
FINISHED = "suite.conv.finished"
"""The operations, by the names that XLA knows them by."""

# Numbers of the C interface, of dnnl_types.h and dnnl_common_types.h.
_CPU, _IN_ORDER = 1, 1
_TRAINING, _DIRECT = 64, 1
_ADD, _MULTIPLY, _RELU = 0x1FFF0, 0x1FFF1, 0x20
_ANY = 1
_FORMATS = {"bfloat16": 2, "float32": 3}
_IMPLEMENTATION, _WEIGHTS, _DIFF_WEIGHTS, _SCRATCHPAD = 8, 131, 132, 136
_FROM, _TO, _SCRATCH = 1, 17, 80
_ARGUMENTS = {FORWARD: (1, 33, 17), BY_INPUT: (129, 33, 145), BY_KERNEL: (1, 161, 145), FINISHED: (1, 33, 17)}
"""Argument numbers of images, kernel and feature maps, as operands or results."""
_AFTER = [(1 + n) * 32768 | 2 for n in range(3)]
"""Argument numbers of the operands of operations after a convolution."""
_USER = 1
_PAGE = 4096

_lock = threading.Lock()
"""One at a time: each convolution keeps all cores busy, and they share `_workspace`."""


class Geometry(NamedTuple):
    """One operation on arrays of one shape.

    Attributes:
        kind: `FORWARD`, `BY_INPUT`, `BY_KERNEL` or `FINISHED`.
        format: of its operands.
        result: format of its result.
        images, kernel: shapes (b, h, w, i) and (p, q, i/g, o).
        stride, padding, groups: see `suite.nn.conv.conv2d`.
        added, relu: of `FINISHED`, 1 where there are maps to add, and where it ends in a ReLU.
    """

    kind: str
    format: str
    result: str
    images: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int
    padding: int
    groups: int
    added: int = 0
    relu: int = 0

    @property
    def maps(self) -> tuple[int, ...]:
        """Shape (b, y, x, o) of what the convolution returns."""
        y, x = ((self.images[1 + n] + 2 * self.padding - self.kernel[n]) // self.stride + 1 for n in (0, 1))
        return self.images[0], y, x, self.kernel[3]


def convolves(x: Array, kernel: Array, stride: int, padding: int, groups: int, compute: str, result: str) -> bool:
    """Whether `convolve` and its derivatives can be had, and are fast, for such operands."""
    about = tuple(x.shape), tuple(kernel.shape), stride, padding, groups
    formats = {FORWARD: result, BY_INPUT: result, BY_KERNEL: "float32", FINISHED: result}
    return _library() is not None and all(
        _fast(Geometry(kind, compute, format, *about)) for kind, format in formats.items()
    )


def convolve(
    stride: int, padding: int, groups: int, result: str, x: Float[Array, "b h w i"], kernel: Float[Array, "p q i/g o"]
) -> Float[Array, "b y x o"]:
    """`suite.nn.conv.conv2d` of two arrays of one format."""
    about = Geometry(FORWARD, str(x.dtype), result, x.shape, kernel.shape, stride, padding, groups)
    return native.call(FORWARD, jax.ShapeDtypeStruct(about.maps, result), x, kernel, numbers=about[5:])


def convolve_finished(
    stride: int,
    padding: int,
    groups: int,
    result: str,
    relu: bool,
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "p q i/g o"],
    scale: Float[Array, "o"],
    shift: Float[Array, "o"],
    added: Float[Array, "b y x o"] | None,
) -> Float[Array, "b y x o"]:
    """`convolve`, times ``scale``, plus ``shift`` and ``added``, and their ReLU, before any of it is rounded.
    ``scale`` and ``shift`` are float32, ``added`` is in the format of the result.
    """
    about = Geometry(FINISHED, str(x.dtype), result, x.shape, kernel.shape, stride, padding, groups)
    after = (scale, shift) if added is None else (scale, shift, added)
    numbers = stride, padding, groups, added is not None, relu
    return native.call(FINISHED, jax.ShapeDtypeStruct(about.maps, result), x, kernel, *after, numbers=numbers)


def convolve_back(
    stride: int, padding: int, groups: int, result: str, x: Array, kernel: Array, grad: Float[Array, "b y x o"]
) -> tuple[Float[Array, "b h w i"], Float[Array, "p q i/g o"]]:
    """The gradients of `convolve` by its operands, all three of one format: in that of the result, and in float32."""
    numbers = stride, padding, groups
    by_kernel = jax.ShapeDtypeStruct(kernel.shape, jnp.float32)
    return (
        native.call(BY_INPUT, jax.ShapeDtypeStruct(x.shape, result), grad, kernel, numbers=numbers),
        native.call(BY_KERNEL, by_kernel, x, grad, numbers=numbers),
    )


def _handle(kind: str, operands: Sequence[native.Buffer], result: native.Buffer, numbers: tuple[int, ...]) -> None:
    """One operation as XLA calls it."""
    after: Sequence[native.Buffer] = ()
    if kind in (FORWARD, FINISHED):
        (images, kernel, *after), maps = operands, result
    elif kind == BY_INPUT:
        (maps, kernel), images = operands, result
    else:
        (images, maps), kernel = operands, result
    about = Geometry(kind, operands[0].format, result.format, images.shape, kernel.shape, *numbers)
    with _lock:
        _prepared(about).run(images.address, kernel.address, maps.address, *[buffer.address for buffer in after])


# The library


def version() -> str | None:
    """Of the library, such as ``"3.2.0"``; None where there is none that can be used."""
    library = _library()
    return None if library is None else finding.version(library)


@cache
def _library() -> Any:
    """The library with what is declared of it here; None where there is none that can be used."""
    library = finding.find()
    if isinstance(library, finding.Unused):
        return None
    library.dnnl_primitive_desc_query_md.restype = c_void_p
    library.dnnl_primitive_desc_query_md.argtypes = (c_void_p, c_int, c_int)
    library.dnnl_primitive_desc_query.argtypes = (c_void_p, c_int, c_int, c_void_p)
    library.dnnl_memory_desc_get_size.restype = c_size_t
    library.dnnl_memory_desc_get_size.argtypes = (c_void_p,)
    library.dnnl_memory_desc_equal.argtypes = (c_void_p, c_void_p)
    library.dnnl_memory_set_data_handle.argtypes = (c_void_p, c_void_p)
    with _lock:  # two threads may be here at once, and XLA takes a name once
        _register()
    return library


@cache
def _register() -> None:
    for kind in _ARGUMENTS:
        native.register(kind, partial(_handle, kind))


def _check(status: int, doing: str) -> None:
    if status:
        raise RuntimeError(f"oneDNN: {doing}, status {status}")


@cache
def _engine() -> tuple[c_void_p, c_void_p]:
    """Engine and stream."""
    engine, stream, library = c_void_p(), c_void_p(), _library()
    _check(library.dnnl_engine_create(byref(engine), _CPU, c_size_t(0)), "an engine")
    _check(library.dnnl_stream_create(byref(stream), engine, _IN_ORDER), "a stream")
    return engine, stream


# Primitives


class _Argument(Structure):
    _fields_ = [("number", c_int), ("memory", c_void_p)]


def _sizes(*numbers: int) -> Any:
    return (c_int64 * len(numbers))(*numbers)


def _described(shape: Sequence[int], format: str, strides: Sequence[int] | None) -> c_void_p:
    """A memory descriptor; without strides in whatever order the library likes best."""
    descriptor, library = c_void_p(), _library()
    start = byref(descriptor), len(shape), _sizes(*shape), _FORMATS[format]
    if strides is None:
        _check(library.dnnl_memory_desc_create_with_tag(*start, _ANY), "a descriptor")
    else:
        _check(library.dnnl_memory_desc_create_with_strides(*start, _sizes(*strides)), "a descriptor")
    return descriptor


def _images(shape: Sequence[int], format: str) -> c_void_p:
    b, h, w, c = shape
    return _described((b, c, h, w), format, (h * w * c, 1, w * c, c))


def _kernel(shape: Sequence[int], format: str, groups: int, own: bool) -> c_void_p:
    p, q, i, o = shape
    outputs = o // groups
    grouped, strides = (groups, outputs, i, p, q), (outputs, 1, o, q * i * o, i * o)
    start = 0 if groups > 1 else 1
    return _described(grouped[start:], format, strides[start:] if own else None)


def _after(about: Geometry) -> list[c_void_p]:
    """What the operations after a convolution take."""
    if about.kind != FINISHED:
        return []
    channels = about.kernel[3]
    vector = _described((1, channels, 1, 1), "float32", (channels, 1, channels, channels))
    return [vector, vector, _images(about.maps, about.result)] if about.added else [vector, vector]


def _attributes(about: Geometry) -> c_void_p:
    """Scratch memory is ours; and what comes after a convolution."""
    attributes, operations, library = c_void_p(), c_void_p(), _library()
    _check(library.dnnl_primitive_attr_create(byref(attributes)), "attributes")
    _check(library.dnnl_primitive_attr_set_scratchpad_mode(attributes, _USER), "scratch memory")
    _check(library.dnnl_post_ops_create(byref(operations)), "operations")
    for kind, operand in zip((_MULTIPLY, _ADD, _ADD), _after(about), strict=False):
        _check(library.dnnl_post_ops_append_binary(operations, kind, operand), "an operation")
    if about.relu:
        _check(library.dnnl_post_ops_append_eltwise(operations, _RELU, c_float(0), c_float(0)), "a ReLU")
    _check(library.dnnl_primitive_attr_set_post_ops(attributes, operations), "operations")
    return attributes


def _descriptor(about: Geometry) -> c_void_p:
    """The primitive descriptor of an operation."""
    library, (engine, _) = _library(), _engine()
    attributes = _attributes(about)
    beyond = [
        (about.maps[n] - 1) * about.stride + about.kernel[n - 1] - about.images[n] - about.padding for n in (1, 2)
    ]
    places = [_sizes(*pair) for pair in ((about.stride,) * 2, (0, 0), (about.padding,) * 2, beyond)]

    def described(images: str, kernel: str, maps: str) -> tuple[c_void_p, c_void_p, c_void_p]:
        return (
            _images(about.images, images),
            _kernel(about.kernel, kernel, about.groups, own=False),
            _images(about.maps, maps),
        )

    def forward(x: c_void_p, w: c_void_p, y: c_void_p) -> c_void_p:
        descriptor = c_void_p()
        status = library.dnnl_convolution_forward_primitive_desc_create(
            byref(descriptor), engine, _TRAINING, _DIRECT, x, w, None, y, *places, attributes
        )
        _check(status, f"no {about}")
        return descriptor

    narrow, descriptor = about.format, c_void_p()
    if about.kind in (FORWARD, FINISHED):
        return forward(*described(narrow, narrow, about.result))
    hint = forward(*described(narrow, narrow, narrow))
    if about.kind == BY_INPUT:
        x, w, y = described(about.result, narrow, narrow)
        status = library.dnnl_convolution_backward_data_primitive_desc_create(
            byref(descriptor), engine, _DIRECT, x, w, y, *places, hint, attributes
        )
    else:
        x, w, y = described(narrow, about.result, narrow)
        status = library.dnnl_convolution_backward_weights_primitive_desc_create(
            byref(descriptor), engine, _DIRECT, x, w, None, y, *places, hint, attributes
        )
    _check(status, f"no {about}")
    return descriptor


@cache
def _fast(about: Geometry) -> bool:
    """Whether the library has more than its reference for an operation."""
    if min(*about.images, *about.maps) < 1:
        return False
    with _lock:
        try:
            descriptor = _descriptor(about)
        except RuntimeError:
            return False
    name = c_char_p()
    _check(_library().dnnl_primitive_desc_query(descriptor, _IMPLEMENTATION, 0, byref(name)), "a name")
    return "ref" not in (name.value or b"ref").decode()


class _Primitive:
    """An operation, ready to run on any addresses."""

    def __init__(self, about: Geometry):
        library, engine = _library(), _engine()[0]
        descriptor = _descriptor(about)
        by_kernel = about.kind == BY_KERNEL
        query = library.dnnl_primitive_desc_query_md
        blocked = c_void_p(query(descriptor, _DIFF_WEIGHTS if by_kernel else _WEIGHTS, 0))
        scratch = c_void_p(query(descriptor, _SCRATCHPAD, 0))
        own = _kernel(about.kernel, about.result if by_kernel else about.format, about.groups, own=True)
        narrow, result = about.format, about.result
        self.images = _memory(_images(about.images, result if about.kind == BY_INPUT else narrow))
        self.maps = _memory(_images(about.maps, result if about.kind in (FORWARD, FINISHED) else narrow))
        self.after = [_memory(operand) for operand in _after(about)]
        self.kernel, self.blocked, self.scratch = _memory(own), _memory(blocked), _memory(scratch)
        self.reordered = not library.dnnl_memory_desc_equal(own, blocked)
        self.sizes = [library.dnnl_memory_desc_get_size(order) for order in (blocked, scratch)]
        images, kernel, maps = _ARGUMENTS[about.kind]
        used = self.blocked if self.reordered else self.kernel
        memories = {images: self.images, kernel: used, maps: self.maps, _SCRATCH: self.scratch}
        memories |= dict(zip(_AFTER, self.after, strict=False))
        self.steps = [_step(descriptor, memories)]
        if self.reordered:
            ways = [(own, self.kernel), (blocked, self.blocked)]
            (start, source), (end, target) = ways[::-1] if by_kernel else ways
            reorder = c_void_p()
            status = library.dnnl_reorder_primitive_desc_create(byref(reorder), start, engine, end, engine, None)
            _check(status, f"no order for the kernel of {about}")
            self.steps.insert(1 if by_kernel else 0, _step(reorder, {_FROM: source, _TO: target}))

    def run(self, images: int, kernel: int, maps: int, *after: int) -> None:
        """Compute on the arrays at these addresses."""
        library, stream = _library(), _engine()[1]
        blocked, scratch = _workspace(*self.sizes)
        places = {
            self.images: images,
            self.kernel: kernel,
            self.maps: maps,
            self.blocked: blocked,
            self.scratch: scratch,
            **dict(zip(self.after, after, strict=True)),
        }
        for memory, address in places.items():
            _check(library.dnnl_memory_set_data_handle(memory, address), "an address")
        for primitive, arguments in self.steps:
            _check(library.execute(primitive, stream, len(arguments), arguments), "a run")


def _memory(descriptor: c_void_p) -> int:
    memory = c_void_p()
    _check(_library().dnnl_memory_create(byref(memory), descriptor, _engine()[0], None), "a memory")
    assert memory.value
    return memory.value


def _step(descriptor: c_void_p, memories: dict[int, int]) -> tuple[c_void_p, Any]:
    primitive = c_void_p()
    _check(_library().dnnl_primitive_create(byref(primitive), descriptor), "a primitive")
    return primitive, (_Argument * len(memories))(*[_Argument(*pair) for pair in memories.items()])


_prepared = cache(_Primitive)
_space = np.empty(0, np.uint8)


def _workspace(*sizes: int) -> list[int]:
    """Addresses of memory of these sizes, which lasts until the next call."""
    global _space
    rounded = [-(-size // _PAGE) * _PAGE for size in sizes]
    if _space.size < sum(rounded) + _PAGE:
        _space = np.empty(sum(rounded) + _PAGE, np.uint8)
    first = -(-_space.ctypes.data // _PAGE) * _PAGE
    return [first + sum(rounded[:n]) for n in range(len(sizes))]
