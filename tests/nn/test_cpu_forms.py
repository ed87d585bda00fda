"""One switch for all forms that are a CPU's own: with it off every layer has its plain form."""

import ast
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import suite
from suite.nn import attention
from suite.nn.batchnorm import BatchNorm
from suite.nn.conv import conv2d, conv2d_finished
from suite.nn.conv1d import conv1d, depthwise_conv1d, grouped_conv1d
from suite.nn.cpu import onednn, switch
from suite.nn.dot import dot, einsum
from suite.nn.pooling import max_pool
from suite.nn.quant import int8
from suite.parallel import layout
from suite.workflow.doctor import doctor

SUITE = Path(suite.__file__).parent


def normal(seed, *shape, of="float32"):
    return jax.random.normal(jax.random.key(seed), shape).astype(of)


def integers(seed, *shape):
    return jax.random.randint(jax.random.key(seed), shape, -128, 128, jnp.int8)


def normalised(x):
    return BatchNorm(x.shape[-1])(x, training=True)


IMAGES, TAPS, SOUND = normal(0, 2, 8, 8, 32), normal(1, 3, 3, 32, 8), normal(2, 2, 40, 12)
NARROW = partial(conv2d, padding=1, compute="bfloat16")
# name -> function, its operands, the operations of its plain form and its gradient, those it must not have
CASES = {
    "conv2d": (partial(conv2d, padding=1), (IMAGES, TAPS), ("convolution",), ("dot_general", "custom_call")),
    "conv2d in bfloat16": (NARROW, (IMAGES, TAPS), ("convolution",), ("dot_general", "custom_call")),
    "conv2d of groups": (
        partial(conv2d, groups=2),
        (IMAGES, normal(3, 3, 3, 16, 8)),
        ("convolution", "feature_group_count = 2"),
        ("dot_general", "custom_call"),
    ),
    "conv2d with its end": (
        partial(conv2d_finished, relu=True),
        (IMAGES, TAPS, normal(4, 8), normal(5, 8)),
        ("convolution",),
        ("dot_general", "custom_call"),
    ),
    "conv1d": (partial(conv1d, stride=2), (SOUND, normal(6, 5, 12, 4)), ("convolution",), ("dot_general",)),
    "conv1d in bfloat16": (
        partial(conv1d, compute="bfloat16"),
        (SOUND, normal(6, 5, 12, 4)),
        ("convolution",),
        ("dot_general", "custom_call"),
    ),
    "depthwise conv1d": (depthwise_conv1d, (SOUND, normal(7, 5, 12)), ("feature_group_count = 12",), ("slice ",)),
    "grouped conv1d": (grouped_conv1d, (SOUND, normal(8, 9, 3, 12)), ("feature_group_count = 4",), ("fft",)),
    "max_pool": (
        partial(max_pool, size=3, stride=2, padding=1),
        (IMAGES,),
        ("reduce_window", "select_and_scatter"),
        ("ui8", "dynamic_slice"),
    ),
    "batch norm": (normalised, (IMAGES,), ("reduce",), ("optimization_barrier", "stablehlo.case")),
    "dot in bfloat16": (
        partial(dot, compute="bfloat16"),
        (normal(9, 16, 12), normal(10, 12, 8)),
        ("contracting_dims = [0] x [0]",),
        ("contracting_dims = [0, 1] x [0, 1]",),
    ),
    "einsum in bfloat16": (
        partial(einsum, "bqhk,bshk->bhqs", compute="bfloat16"),
        (normal(11, 2, 4, 3, 8), normal(12, 2, 5, 3, 8)),
        ("xbf16>",),
        (),
    ),
}
WHOLE = {
    "int8.weight_dot": (int8.weight_dot, (normal(13, 3, 64), integers(14, 64, 24)), "xbf16>", "xi32>"),
    "int8.integer_dot": (int8.integer_dot, (integers(15, 70, 64), integers(16, 64, 24)), "xi32>", "xbf16>"),
    "int8.integer_conv": (
        lambda x, w: int8.integer_conv(x, w, 1, 1, 1),
        (integers(17, 2, 6, 6, 8), integers(18, 3, 3, 8, 4)),
        "xbf16>",
        "xi32>",
    ),
}


def traced(function, operands, gradient=True):
    """A program of its own each time: one traced before would keep the setting it was traced with."""

    def step(*operands):
        y, pull = jax.vjp(function, *operands)
        return y, pull(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape).astype(y.dtype))

    program = step if gradient else lambda *operands: function(*operands)
    return jax.jit(program).trace(*operands)


def compare(before, after, share):
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        a, b = (np.asarray(leaf, np.float32) for leaf in (a, b))
        np.testing.assert_allclose(a, b, rtol=0, atol=share * max(np.abs(b).max(), 1e-3))


@pytest.mark.parametrize("name", CASES)
def test_off_leaves_the_plain_forms(name, monkeypatch):
    function, operands, present, absent = CASES[name]
    usual = traced(function, operands)
    assert "platform_index" in str(usual.jaxpr)
    monkeypatch.setenv("SUITE_CPU_FORMS", "off")
    plain = traced(function, operands)
    assert "platform_index" not in str(plain.jaxpr)
    text = plain.lower().as_text()
    for operation in present:
        assert operation in text
    for operation in absent:
        assert operation not in text
    narrow = "bfloat16" in name
    compare(usual.lower().compile()(*operands), plain.lower().compile()(*operands), 2e-2 if narrow else 1e-5)


@pytest.mark.parametrize("name", WHOLE)
def test_off_leaves_the_plain_forms_of_integers(name, monkeypatch):
    function, operands, present, absent = WHOLE[name]
    usual = traced(function, operands, gradient=False)
    monkeypatch.setenv("SUITE_CPU_FORMS", "off")
    plain = traced(function, operands, gradient=False)
    text = plain.lower().as_text()
    assert "platform_index" not in str(plain.jaxpr) and present in text and absent not in text
    compare(usual.lower().compile()(*operands), plain.lower().compile()(*operands), 2.0**-7)


MASKS = {
    "all": (None, None),
    "rows": ((3, 1, 1, 6), None),
    "order": ((1, 1, 5, 6), None),
    "rows and order": ((3, 1, 5, 6), None),
    "a bias": ((3, 1, 1, 6), (1, 4, 5, 6)),
    "a bias of rows": (None, (3, 4, 5, 6)),
}


def attending(keys, mask, changes):
    """`attention.attend` of 3 rows, 5 tokens, 6 keys and 4 heads, with its operands."""
    visible, bias = MASKS[mask]
    visible = None if visible is None else jax.random.bernoulli(jax.random.key(25), 0.7, visible).at[..., 0].set(True)
    retained = jax.random.bernoulli(jax.random.key(26), 0.8, (3, 4, 5, 6))
    drop = (lambda weights: weights * retained.reshape(weights.shape)) if changes else None
    operands = normal(21, 3, 5, 4, 8), normal(22, 3, 6, keys, 8), normal(23, 3, 6, keys, 8)
    if bias is None:
        return partial(attention.attend, visible=visible, scale=0.3, drop=drop, kernel="plain"), operands

    def biased(q, k, v, bias):
        return attention.attend(q, k, v, bias=bias, visible=visible, scale=0.3, drop=drop, kernel="plain")

    return biased, (*operands, normal(24, *bias))


@pytest.mark.parametrize("changes", [False, True], ids=["", "changed weights"])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("keys", [4, 2, 1])
def test_attention_has_one_axis_of_rows_and_heads(keys, mask, changes, monkeypatch):
    function, operands = attending(keys, mask, changes)
    usual = traced(function, operands)
    merged = f"tensor<{3 * keys}x6x8xf32>"  # keys
    assert merged in usual.lower().as_text()
    monkeypatch.setenv("SUITE_CPU_FORMS", "off")
    plain = traced(function, operands)
    assert merged not in plain.lower().as_text()
    compare(usual.lower().compile()(*operands), plain.lower().compile()(*operands), 1e-5)


def test_attention_on_a_mesh_keeps_heads_apart_from_rows():
    function, operands = attending(4, "rows", changes=False)
    mesh = jax.make_mesh((1, 1, 1), ("data", "fsdp", "tensor"))
    with layout.laid_out(layout.Layout(mesh=mesh)):
        assert "tensor<12x6x8xf32>" not in traced(function, operands).lower().as_text()


@pytest.mark.parametrize("changes", [False, True], ids=["", "changed weights"])
def test_attention_of_a_program_for_several_platforms(changes):
    function, operands = attending(2, "rows and order", changes)
    usual = traced(function, operands, gradient=False).lower().compile()
    with layout.laid_out(layout.Layout(portable=True)):
        exported = jax.export.export(jax.jit(function), platforms=("cpu", "cuda"))(*operands)
    # Who changes weights is asked once, in the form that serves everywhere.
    assert ("tensor<6x6x8xf32>" in exported.mlir_module()) != changes
    compare(usual(*operands), exported.call(*operands), 1e-5)


def test_attention_of_padding_alone_is_finite():
    q, k, v = (normal(n, 2, 4, 2, 8) for n in range(3))
    nothing = jnp.zeros((2, 1, 1, 4), bool)
    mixed = attention.attend(100 * q, 100 * k, v, visible=nothing, kernel="plain")
    assert np.isfinite(mixed).all()


def test_off_calls_no_library(monkeypatch):
    monkeypatch.setattr(onednn, "convolves", lambda *of: True)
    assert switch.by_library(IMAGES, TAPS)
    monkeypatch.setenv("SUITE_CPU_FORMS", "off")
    assert not switch.by_library(IMAGES, TAPS)
    assert doctor()["convolutions"] == {
        "onednn": None,
        "reason": "SUITE_CPU_FORMS=off leaves it out",
        "fix": "unset SUITE_CPU_FORMS",
    }


def test_nothing_else_decides_by_platform():
    """`jax.lax.platform_dependent` and `only_here` are read in the switch alone."""
    readers = {"platform_dependent": set(), "only_here": set()}
    for path in SUITE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node, "attr", None) or getattr(node, "id", None)
            if name in readers:
                readers[name].add(path.relative_to(SUITE).as_posix())
    assert readers == {"platform_dependent": {"nn/cpu/switch.py"}, "only_here": {"nn/cpu/switch.py"}}
