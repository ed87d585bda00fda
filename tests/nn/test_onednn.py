"""Convolutions of a library: where they are used, that they stay right, and what its failures become."""

import ctypes
import importlib.metadata
import re
import sys
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh

from suite.distribution import install
from suite.models import resnet
from suite.nn.conv import conv2d
from suite.nn.cpu import library, native, onednn
from suite.parallel.layout import Layout, laid_out

needed = pytest.mark.skipif(onednn.version() is None, reason="needs oneDNN: pip install -e '.[cpu]'")


def drawn(batch=2, size=6, inputs=4, outputs=8):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((batch, size, size, inputs)), jnp.float32)
    return x, jnp.asarray(rng.standard_normal((3, 3, inputs, outputs)), jnp.float32)


def program(layout=None):
    """What `conv2d` and its derivative are lowered to, as text."""
    step = jax.grad(lambda x, kernel: conv2d(x, kernel, padding=1).sum(), (0, 1))
    with laid_out(layout or Layout()):
        return jax.jit(step).lower(*drawn()).as_text()


def test_the_library_is_found_where_its_package_is_installed():
    try:
        importlib.metadata.version("onednn-cpu-gomp")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs oneDNN: pip install -e '.[cpu]'")
    assert onednn.version().startswith("3.")
    assert "suite.conv" in program()


@needed
def test_it_computes_what_runs_here_alone():
    assert onednn.BY_KERNEL in program() and onednn.BY_INPUT in program()
    mesh = Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1, 1), ("data", "fsdp", "tensor"))
    for elsewhere in (Layout(portable=True), Layout(mesh=mesh), Layout(axis="replicas")):
        assert "suite.conv" not in program(elsewhere)


def test_it_can_be_left_out(monkeypatch):
    monkeypatch.setenv("SUITE_ONEDNN", "off")
    assert onednn._library.__wrapped__() is None


def test_without_it_products_do(monkeypatch):
    monkeypatch.setattr(onednn, "_library", lambda: None)
    assert onednn.version() is None
    assert "suite.conv" not in program()


@needed
def test_a_shape_without_a_fast_kernel_is_left_to_products():
    assert not onednn.convolves(
        *drawn(size=1), stride=1, padding=0, groups=1, compute="float32", result="float32"
    )  # it has no place
    assert onednn.convolves(*drawn(), stride=1, padding=0, groups=1, compute="bfloat16", result="bfloat16")


@needed
def test_a_network_that_has_learned_is_convolutions_and_their_ends_at_once():
    model = resnet.cifar20(channels=3, outputs=10).build(rngs=nnx.Rngs(0))
    text = jax.jit(model).lower(jnp.zeros((2, 32, 32, 3))).as_text()
    assert text.count("@suite.conv.finished(") == text.count("@suite.conv") == 19


@needed
def test_the_same_step_gives_the_same_bits_and_one_row_at_a_time_the_same_rows():
    x, kernel = drawn(batch=8, size=16, inputs=16, outputs=32)
    step = jax.jit(jax.value_and_grad(lambda x, kernel: jnp.sin(conv2d(x, kernel, 2, 1)).sum(), (0, 1)))
    first, second = step(x, kernel), step(x, kernel)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    rows = jax.vmap(lambda row: conv2d(row[None], kernel, 2, 1)[0])(x)
    np.testing.assert_allclose(rows, conv2d(x, kernel, 2, 1), atol=1e-4)


@needed
def test_programs_that_run_at_once_do_not_meet():
    """Two shapes whose kernels and scratch memory would lie in the same place."""
    cases = [drawn(batch=4, size=16, inputs=16, outputs=32), drawn(batch=4, size=8, inputs=64, outputs=64)]
    step = jax.jit(jax.grad(lambda x, kernel: jnp.sin(conv2d(x, kernel, 1, 1)).sum(), (0, 1)))
    expected = [jax.tree.map(np.asarray, step(*case)) for case in cases]
    wrong = []

    def repeat(case, wanted):
        for _ in range(30):
            made = jax.tree.map(np.asarray, step(*case))
            wrong.extend(n for n in (0, 1) if not np.array_equal(made[n], wanted[n]))

    threads = [threading.Thread(target=repeat, args=pair) for pair in zip(cases, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and not any(thread.is_alive() for thread in threads)


HEADER = Path(jax.ffi.include_dir(), "xla/ffi/api/c_api.h")
STRUCTURES = {
    "XLA_FFI_Buffer": native._Buffer,
    "XLA_FFI_Args": native._Buffers,
    "XLA_FFI_Rets": native._Buffers,
    "XLA_FFI_Array": native._Numbers,
    "XLA_FFI_Attrs": native._Attributes,
    "XLA_FFI_Api_Version": native._Version,
    "XLA_FFI_Metadata": native._Metadata,
    "XLA_FFI_Error_Create_Args": native._Error,
    "XLA_FFI_Api": native._Interface,
    "XLA_FFI_CallFrame": native._Frame,
}
"""Structures of XLA's interface: ours, which may end earlier."""
TYPES = {"size_t": ctypes.c_size_t, "int64_t": ctypes.c_int64, "XLA_FFI_Handler_Traits": ctypes.c_uint32}
"""Types of the interface's fields, but for pointers, structures, and enumerations and int, which are ints."""


def declared(structure, header):
    """The types of the fields that jaxlib's header declares."""
    body = re.search(rf"struct {structure} {{(.*?)}}", header, re.S)[1]
    for field in re.findall(r"[^;]+(?=;)", re.sub(r"//.*", "", body)):
        kind = field.split()[0]
        pointer = "*" in field or kind.startswith("_XLA_FFI_API_STRUCT_FIELD")
        yield ctypes.c_void_p if pointer else STRUCTURES.get(kind) or TYPES.get(kind, ctypes.c_int)


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_lie_as_in_the_header_of_jaxlib(name):
    ours = STRUCTURES[name]
    names = [field[0] for field in ours._fields_]
    fields = list(zip(names, declared(name, HEADER.read_text()), strict=False))
    theirs = type("Theirs", (ctypes.Structure,), {"_fields_": fields})
    for field in names:
        mine, its = ((getattr(each, field).offset, getattr(each, field).size) for each in (ours, theirs))
        assert mine == its, field


def test_the_interface_of_this_jaxlib_is_known():
    assert native.version() in native.KNOWN
    assert f"#define XLA_FFI_API_MINOR {native.version()[1]}" in HEADER.read_text()


def test_structures_of_other_sizes_are_not_read(monkeypatch):
    native.register("suite.test.other", lambda operands, result, numbers: None)
    whole = jax.ShapeDtypeStruct((2,), jnp.float32)
    called = jax.jit(partial(native.call, "suite.test.other", whole, numbers=(7,)))
    jax.block_until_ready(called(jnp.zeros(2)))
    monkeypatch.setitem(native._SIZES, "results", 48)
    with pytest.raises(Exception, match=r"suite.test.other: XLA's structures have sizes .*'results': 40"):
        jax.block_until_ready(called(jnp.zeros(2)))


@pytest.fixture
def no_library(monkeypatch):
    """A machine where no file of the library can be opened."""

    def absent(place):
        raise OSError(f"{place}: cannot open shared object file: No such file or directory")

    monkeypatch.delenv("SUITE_ONEDNN", raising=False)
    monkeypatch.setattr(library, "_loaded", library._loaded.__wrapped__)
    monkeypatch.setattr(library.ctypes, "PyDLL", absent)
    return monkeypatch


def test_why_it_is_not_used_another_interface(monkeypatch):
    monkeypatch.delenv("SUITE_ONEDNN", raising=False)
    monkeypatch.setattr(native, "version", lambda: (0, 99))
    reason, fix = library.find()
    where = f"XLA's foreign-function interface in jaxlib {jaxlib.__version__} is"
    assert reason == f"{where} 0.99; supported: 0.3 to 0.5"
    assert fix == "pip install -c constraints.txt jax jaxlib"
    monkeypatch.setattr(native, "version", lambda: ())
    assert library.find().reason == f"{where} an unknown version; supported: 0.3 to 0.5"


def test_why_it_is_not_used_another_system(monkeypatch):
    monkeypatch.delenv("SUITE_ONEDNN", raising=False)
    monkeypatch.setattr(library, "sys", SimpleNamespace(platform="darwin", prefix=sys.prefix))
    assert library.find() == ("it is used on Linux only, and this is darwin", "")


def test_why_it_is_not_used_left_out(monkeypatch):
    monkeypatch.setenv("SUITE_ONEDNN", "off")
    assert library.find() == ("SUITE_ONEDNN=off leaves it out", "unset SUITE_ONEDNN")


def test_why_it_is_not_used_not_installed(no_library):
    no_library.setattr(library, "PACKAGE", "no-such-package")
    no_library.setattr(library.platform, "machine", lambda: "x86_64")
    assert library.find() == ("it is not installed", install("cpu"))
    no_library.setattr(library.platform, "machine", lambda: "aarch64")
    assert library.find() == ("it is not installed, and pip has none for aarch64", "apt install libdnnl3")


def test_why_it_is_not_used_its_file_is_gone(no_library):
    no_library.setattr(library, "PACKAGE", "pytest")
    reason, fix = library.find()
    assert reason == f"pytest is installed, but libdnnl.so.3 is not in {sys.prefix}/lib"
    assert fix == "pip install --force-reinstall --no-deps pytest"


def test_why_it_is_not_used_it_cannot_be_loaded(no_library):
    def broken(place):
        raise OSError("libgomp.so.1: cannot open shared object file: No such file or directory")

    no_library.setattr(library.ctypes, "PyDLL", broken)
    reason, fix = library.find()
    assert reason.startswith(f"{sys.prefix}/lib/libdnnl.so.3 cannot be loaded: libgomp.so.1: cannot open") and not fix


@pytest.mark.skipif(not native.known(), reason="another version of XLA's interface")
def test_what_a_handler_raises_reaches_the_caller():
    def fails(operands, result, numbers):
        raise ValueError(f"cannot {operands[0].shape} {operands[0].format} {numbers}")

    native.register("suite.test.fails", fails)
    whole = jax.ShapeDtypeStruct((2,), jnp.float32)
    called = jax.jit(partial(native.call, "suite.test.fails", whole, numbers=(7, 9)))
    with pytest.raises(Exception, match=r"suite.test.fails: cannot \(2, 3\) bfloat16 \(7, 9\)"):
        jax.block_until_ready(called(jnp.zeros((2, 3), jnp.bfloat16)))
