"""Convolutions of `oneDNN <https://uxlfoundation.github.io/oneDNN>`_ on a CPU, where that library is installed.

It convolves in blocks without copying an input first, in bfloat16 too, which XLA's CPU backend cannot. The library is
``libdnnl.so.3``: of ``pip install "suite[cpu]"``, conda-forge (onednn-cpu-omp) or Debian (libdnnl3), all Apache-2.0.
Where it is missing, has no fast kernel for a shape on this processor, or is left out by ``SUITE_ONEDNN=off``,
`suite.nn.conv` computes the same by products.

Dims: see `suite.nn.conv`.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_int64, c_size_t, c_uint, c_void_p
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from suite.nn import native

FORWARD, BY_INPUT, BY_KERNEL = "suite.conv", "suite.conv.by_input", "suite.conv.by_kernel"
"""The operations, by the names that XLA knows them by."""

# Numbers of the C interface, of dnnl_types.h and dnnl_common_types.h.
_CPU, _IN_ORDER = 1, 1
_TRAINING, _DIRECT = 64, 1
_ANY = 1
_FORMATS = {"bfloat16": 2, "float32": 3}
_IMPLEMENTATION, _WEIGHTS, _DIFF_WEIGHTS, _SCRATCHPAD = 8, 131, 132, 136
_FROM, _TO, _SCRATCH = 1, 17, 80
_ARGUMENTS = {FORWARD: (1, 33, 17), BY_INPUT: (129, 33, 145), BY_KERNEL: (1, 161, 145)}
"""What the images, the kernel and the feature maps are called, as operands or results."""
_USER = 1
_THREADS = (2, 4)
"""Runtimes that need no more than the library: OpenMP and TBB."""
_PAGE = 4096

_lock = threading.Lock()
"""One at a time: each convolution keeps all cores busy, and they share `_workspace`."""


class Geometry(NamedTuple):
    """One operation on arrays of one shape.

    Attributes:
        kind: `FORWARD`, `BY_INPUT` or `BY_KERNEL`.
        format: of its operands. The result is float32.
        images, kernel: shapes (b, h, w, i) and (p, q, i/g, o).
        stride, padding, groups: see `suite.nn.conv.conv2d`.
    """

    kind: str
    format: str
    images: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int
    padding: int
    groups: int

    @property
    def maps(self) -> tuple[int, ...]:
        """Shape (b, y, x, o) of what the convolution returns."""
        y, x = ((self.images[1 + n] + 2 * self.padding - self.kernel[n]) // self.stride + 1 for n in (0, 1))
        return self.images[0], y, x, self.kernel[3]


def convolves(x: Array, kernel: Array, stride: int, padding: int, groups: int, compute: str) -> bool:
    """Whether `convolve` and its derivatives can be had, and are fast, for such operands."""
    shapes = tuple(x.shape), tuple(kernel.shape)
    return _library() is not None and all(
        _fast(Geometry(kind, compute, *shapes, stride, padding, groups)) for kind in _ARGUMENTS
    )


def convolve(stride: int, padding: int, groups: int, x: Float[Array, "b h w i"],
             kernel: Float[Array, "p q i/g o"]) -> Float[Array, "b y x o"]:  # fmt: skip
    """`suite.nn.conv.conv2d` of two arrays of one format."""
    about = Geometry(FORWARD, str(x.dtype), x.shape, kernel.shape, stride, padding, groups)
    return native.call(FORWARD, _float32(about.maps), x, kernel, numbers=about[4:])


def convolve_back(
    stride: int, padding: int, groups: int, x: Array, kernel: Array, grad: Float[Array, "b y x o"]
) -> tuple[Float[Array, "b h w i"], Float[Array, "p q i/g o"]]:
    """The gradients of `convolve` by its operands, all three arrays being of one format."""
    numbers = stride, padding, groups
    return (native.call(BY_INPUT, _float32(x.shape), grad, kernel, numbers=numbers),
            native.call(BY_KERNEL, _float32(kernel.shape), x, grad, numbers=numbers))  # fmt: skip


def _float32(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _handle(kind: str, operands: Sequence[native.Buffer], result: native.Buffer, numbers: tuple[int, ...]) -> None:
    """One operation as XLA calls it."""
    if kind == FORWARD:
        (images, kernel), maps = operands, result
    elif kind == BY_INPUT:
        (maps, kernel), images = operands, result
    else:
        (images, maps), kernel = operands, result
    about = Geometry(kind, operands[0].format, images.shape, kernel.shape, *numbers)
    with _lock:
        _prepared(about).run(images.address, kernel.address, maps.address)


# The library


def version() -> str | None:
    """Of the library, such as ``"3.2.0"``; None where there is none that can be used."""
    library = _library()
    if library is None:
        return None
    found = library.dnnl_version().contents
    return f"{found.major}.{found.minor}.{found.patch}"


@cache
def _library() -> Any:
    """The library with what is declared of it here; None where there is none that can be used."""
    if sys.platform != "linux" or os.environ.get("SUITE_ONEDNN") == "off" or not native.known():
        return None
    library = _loaded()
    if library is None:
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


def _loaded() -> Any:
    for place in (os.path.join(sys.prefix, "lib", "libdnnl.so.3"), "libdnnl.so.3"):
        try:
            library: Any = ctypes.PyDLL(place)
            # Only while a convolution runs is Python's lock let go of: to get it back may take milliseconds each time.
            library.execute = ctypes.CDLL(place).dnnl_primitive_execute
        except OSError:
            continue
        library.dnnl_version.restype = POINTER(_Version)
        if library.dnnl_version().contents.cpu_runtime in _THREADS:
            return library
    return None


class _Version(Structure):
    _fields_ = [("major", c_int), ("minor", c_int), ("patch", c_int), ("hash", c_char_p), ("cpu_runtime", c_uint),
                ("gpu_runtime", c_uint)]  # fmt: skip


def _check(status: int, doing: str) -> None:
    if status:
        raise RuntimeError(f"oneDNN: {doing}, status {status}")


@cache
def _engine() -> tuple[c_void_p, c_void_p, c_void_p]:
    """Engine, stream, and the attributes of all primitives: scratch memory is ours."""
    engine, stream, attributes = c_void_p(), c_void_p(), c_void_p()
    library = _library()
    _check(library.dnnl_engine_create(byref(engine), _CPU, c_size_t(0)), "an engine")
    _check(library.dnnl_stream_create(byref(stream), engine, _IN_ORDER), "a stream")
    _check(library.dnnl_primitive_attr_create(byref(attributes)), "attributes")
    _check(library.dnnl_primitive_attr_set_scratchpad_mode(attributes, _USER), "scratch memory")
    return engine, stream, attributes


# Primitives


class _Argument(Structure):
    _fields_ = [("number", c_int), ("memory", c_void_p)]


def _sizes(*numbers: int) -> Any:
    return (c_int64 * len(numbers))(*numbers)


def _described(shape: Sequence[int], format: str, strides: Sequence[int] | None) -> c_void_p:
    """A memory descriptor; without strides in whatever order the library likes best."""
    made, library = c_void_p(), _library()
    start = byref(made), len(shape), _sizes(*shape), _FORMATS[format]
    if strides is None:
        _check(library.dnnl_memory_desc_create_with_tag(*start, _ANY), "a descriptor")
    else:
        _check(library.dnnl_memory_desc_create_with_strides(*start, _sizes(*strides)), "a descriptor")
    return made


def _images(shape: Sequence[int], format: str) -> c_void_p:
    b, h, w, c = shape
    return _described((b, c, h, w), format, (h * w * c, 1, w * c, c))


def _kernel(shape: Sequence[int], format: str, groups: int, own: bool) -> c_void_p:
    p, q, i, o = shape
    each = o // groups
    grouped, strides = (groups, each, i, p, q), (each, 1, o, q * i * o, i * o)
    start = 0 if groups > 1 else 1
    return _described(grouped[start:], format, strides[start:] if own else None)


def _descriptor(about: Geometry) -> c_void_p:
    """The primitive descriptor of an operation."""
    library, (engine, _, attributes) = _library(), _engine()
    beyond = [(about.maps[n] - 1) * about.stride + about.kernel[n - 1] - about.images[n] - about.padding
              for n in (1, 2)]  # fmt: skip
    places = [_sizes(*pair) for pair in ((about.stride,) * 2, (0, 0), (about.padding,) * 2, beyond)]

    def described(images: str, kernel: str, maps: str) -> tuple[c_void_p, c_void_p, c_void_p]:
        return (_images(about.images, images), _kernel(about.kernel, kernel, about.groups, own=False),
                _images(about.maps, maps))  # fmt: skip

    def forward(x: c_void_p, w: c_void_p, y: c_void_p) -> c_void_p:
        made = c_void_p()
        status = library.dnnl_convolution_forward_primitive_desc_create(
            byref(made), engine, _TRAINING, _DIRECT, x, w, None, y, *places, attributes
        )
        _check(status, f"no {about}")
        return made

    narrow, made = about.format, c_void_p()
    if about.kind == FORWARD:
        return forward(*described(narrow, narrow, "float32"))
    hint = forward(*described(narrow, narrow, narrow))
    if about.kind == BY_INPUT:
        x, w, y = described("float32", narrow, narrow)
        status = library.dnnl_convolution_backward_data_primitive_desc_create(
            byref(made), engine, _DIRECT, x, w, y, *places, hint, attributes
        )
    else:
        x, w, y = described(narrow, "float32", narrow)
        status = library.dnnl_convolution_backward_weights_primitive_desc_create(
            byref(made), engine, _DIRECT, x, w, None, y, *places, hint, attributes
        )
    _check(status, f"no {about}")
    return made


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
        own = _kernel(about.kernel, "float32" if by_kernel else about.format, about.groups, own=True)
        narrow, wide = about.format, "float32"
        self.images = _memory(_images(about.images, wide if about.kind == BY_INPUT else narrow))
        self.maps = _memory(_images(about.maps, wide if about.kind == FORWARD else narrow))
        self.kernel, self.blocked, self.scratch = _memory(own), _memory(blocked), _memory(scratch)
        self.reordered = not library.dnnl_memory_desc_equal(own, blocked)
        self.sizes = [library.dnnl_memory_desc_get_size(each) for each in (blocked, scratch)]
        images, kernel, maps = _ARGUMENTS[about.kind]
        used = self.blocked if self.reordered else self.kernel
        self.steps = [_step(descriptor, {images: self.images, kernel: used, maps: self.maps, _SCRATCH: self.scratch})]
        if self.reordered:
            ways = [(own, self.kernel), (blocked, self.blocked)]
            (start, source), (end, target) = ways[::-1] if by_kernel else ways
            reorder = c_void_p()
            status = library.dnnl_reorder_primitive_desc_create(byref(reorder), start, engine, end, engine, None)
            _check(status, f"no order for the kernel of {about}")
            self.steps.insert(1 if by_kernel else 0, _step(reorder, {_FROM: source, _TO: target}))

    def run(self, images: int, kernel: int, maps: int) -> None:
        """Compute on the arrays at these addresses."""
        library, stream = _library(), _engine()[1]
        blocked, scratch = _workspace(*self.sizes)
        places = {self.images: images, self.kernel: kernel, self.maps: maps, self.blocked: blocked,
                  self.scratch: scratch}  # fmt: skip
        for memory, address in places.items():
            _check(library.dnnl_memory_set_data_handle(memory, address), "an address")
        for primitive, arguments in self.steps:
            _check(library.execute(primitive, stream, len(arguments), arguments), "a run")


def _memory(descriptor: c_void_p) -> int:
    made = c_void_p()
    _check(_library().dnnl_memory_create(byref(made), descriptor, _engine()[0], None), "a memory")
    assert made.value
    return made.value


def _step(descriptor: c_void_p, memories: dict[int, int]) -> tuple[c_void_p, Any]:
    made = c_void_p()
    _check(_library().dnnl_primitive_create(byref(made), descriptor), "a primitive")
    return made, (_Argument * len(memories))(*[_Argument(*pair) for pair in memories.items()])


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
