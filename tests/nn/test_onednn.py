"""Convolutions of a library: where they are used, that they stay right, and what its failures become."""

import importlib.metadata
import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh

from suite.models import resnet
from suite.nn.conv import conv2d
from suite.nn.cpu import native, onednn
from suite.parallel.layout import Layout, laid_out

needed = pytest.mark.skipif(onednn.version() is None, reason="needs oneDNN: pip install 'suite[cpu]'")


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
        pytest.skip("needs oneDNN: pip install 'suite[cpu]'")
    assert onednn.version().startswith("3.")


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


@pytest.mark.skipif(not native.known(), reason="another version of XLA's interface")
def test_what_a_handler_raises_reaches_the_caller():
    def fails(operands, result, numbers):
        raise ValueError(f"cannot {operands[0].shape} {operands[0].format} {numbers}")

    native.register("suite.test.fails", fails)
    whole = jax.ShapeDtypeStruct((2,), jnp.float32)
    called = jax.jit(partial(native.call, "suite.test.fails", whole, numbers=(7, 9)))
    with pytest.raises(Exception, match=r"suite.test.fails: cannot \(2, 3\) bfloat16 \(7, 9\)"):
        jax.block_until_ready(called(jnp.zeros((2, 3), jnp.bfloat16)))
