"""How devices that are not here are described to their compilers, and what a plan does without one."""

import importlib.util
import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from suite.errors import InputError
from suite.experiment.sections import Parallel
from suite.nn import attention
from suite.nn.dot import dot, dot_nt, einsum
from suite.nn.picking import value_at
from suite.parallel import sharding
from suite.parallel.layout import Layout, laid_out, only_here, target_platform
from suite.parallel.target import compiling_for, devices, is_described
from suite.planning import compilers, hlo, kernels
from suite.planning.compilers import Absent, compiler_of
from suite.planning.planning import render, report

CHAIN = """HloModule spread, num_partitions=8

%first (part: bf16[32,256]) -> bf16[256,256] {
  %part = bf16[32,256]{1,0} parameter(0)
  ROOT %gather.1 = bf16[256,256]{1,0} all-gather(%part), channel_id=7, replica_groups=[1,8]<=[8], dimensions={0}, \
frontend_attributes={chain_id="3"}
}

%second (part.1: bf16[32,256], x: bf16[64,256]) -> bf16[64,256] {
  %part.1 = bf16[32,256]{1,0} parameter(0)
  %x = bf16[64,256]{1,0} parameter(1)
  %gather.2 = bf16[256,256]{1,0} all-gather(%part.1), channel_id=7, replica_groups=[1,8]<=[8], dimensions={0}, \
frontend_attributes={chain_id="3"}
  ROOT %product = bf16[64,256]{1,0} dot(%x, %gather.2), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (w: bf16[32,256], v: bf16[64,256]) -> bf16[64,256] {
  %w = bf16[32,256]{1,0} parameter(0)
  %v = bf16[64,256]{1,0} parameter(1)
  %whole = bf16[256,256]{1,0} fusion(%w), kind=kCustom, calls=%first
  %called = f32[] custom-call(), custom_call_target="library"
  %gather.3 = bf16[256,256]{1,0} all-gather(%w), channel_id=8, replica_groups=[1,8]<=[8], dimensions={0}
  ROOT %y = bf16[64,256]{1,0} fusion(%w, %v), kind=kCustom, calls=%second
}
"""


@pytest.fixture
def installed(monkeypatch):
    """Says which packages seem to be installed."""
    plain = importlib.util.find_spec

    def choose(*names):
        known = {"libtpu", "jax_cuda13_plugin", "jax_cuda12_plugin"}
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in names if name in known else plain(name))

    return choose


@pytest.mark.parametrize(
    ("name", "count", "topology", "hosts"),
    [
        ("tpu-v5e", 1, "v5e:1x1", [1, 1, 1]),
        ("tpu-v5e", 2, "v5e:1x2", [1, 2, 1]),
        ("tpu-v5e", 8, "v5e:2x4", [2, 2, 1]),
        ("tpu-v5e", 32, "v5e:4x8", [2, 2, 1]),
        ("tpu-v6e", 256, "v6e:16x16", [2, 2, 1]),
        ("tpu-v5p", 1, "v5p:1x1x1", [1, 1, 1]),
        ("tpu-v5p", 4, "v5p:2x2x1", [2, 2, 1]),
        ("tpu-v5p", 8, "v5p:2x2x2", [2, 2, 1]),
        ("tpu-v5p", 256, "v5p:4x8x8", [2, 2, 1]),
    ],
)
def test_slices_as_libtpu_names_them(installed, name, count, topology, hosts):
    installed("libtpu")
    found = compiler_of(name, count)
    assert (found.platform, found.topology) == ("tpu", topology)
    assert found.options == {"chips_per_host_bounds": hosts}


def test_several_slices(installed):
    installed("libtpu")
    assert compiler_of("tpu-v5e", 512).options["num_slices"] == 2  # more than one pod
    two = compiler_of("tpu-v5e", 16, slices=2)
    assert (two.topology, two.options["num_slices"]) == ("v5e:2x4", 2)


def test_gpus_by_the_figures_of_the_plan(installed):
    installed("jax_cuda13_plugin")
    found = compiler_of("h200", 8)
    assert found.options["topology"] == "1x1x8" and found.capability == (9, 0)
    for text in ("core_count: 132", "memory_bandwidth: 4800000000000", 'device_description_str: "H200"'):
        assert text in found.options["target_config"]
    assert compiler_of("a100", 1).capability == (8, 0)


@pytest.mark.parametrize(
    ("name", "count", "why"),
    [("tpu-v5e", 24, "power of two"), ("tpu-v4", 8, "by cores"), ("h200", 8, "no compiler for CUDA")],
)
def test_no_compiler_says_why(installed, name, count, why):
    installed("libtpu")
    found = compiler_of(name, count)
    assert isinstance(found, Absent) and why in found.why
    installed()
    missing = compiler_of("tpu-v5e", 8)
    assert isinstance(missing, Absent) and missing.fix.endswith("[tpu]'")
    with pytest.raises(InputError, match="no compiler for TPUs"):
        raise compilers.refuse(missing)


def test_a_report_says_who_compiled():
    from suite.planning.hardware import HARDWARE

    plan = {
        "flops": 1.0,
        "model_flops": 1.0,
        "bytes": 1.0,
        "memory": {"arguments": 1, "temporary": 1, "peak": 1},
        "collectives": {},
        "devices": 1,
        "compile_seconds": 1.0,
    }
    by = lambda **about: render(report({**plan, **about}, HARDWARE["tpu-v5e"], batch_size=1))
    real = by(platform="tpu", compiler="libtpu 1.2")
    assert "by the compiler of tpu-v5e: libtpu 1.2" in real and "usually fuses more" not in real
    simulated = by(platform="cpu", note="no compiler for TPUs is installed, so it was simulated")
    assert "by the compiler for processors" in simulated and "note: no compiler for TPUs" in simulated


def test_environment_of_a_compiler(installed):
    installed("jax_cuda13_plugin")
    flags = "--xla_force_host_platform_device_count=8 --xla_cpu_parallel_codegen_split_count=1 --xla_dump_to=/x"
    made = compilers.environment(compiler_of("h200", 1), {"XLA_FLAGS": flags, "HOME": "/h", "JAX_NUM_CPU_DEVICES": "8"})
    assert made["XLA_FLAGS"] == "--xla_dump_to=/x --xla_gpu_autotune_level=0"
    assert made["HOME"] == "/h" and made["JAX_PLATFORMS"] == "cpu" and "JAX_NUM_CPU_DEVICES" not in made


def test_a_collective_spread_over_kernels_counts_once():
    module = hlo.parse(CHAIN)
    whole = 2 * 256 * 256
    assert hlo.collectives(module)["all-gather"] == {"count": 2, "bytes": 2 * whole, "sent": 2 * whole * 7 / 8}
    assert kernels.hidden(module) == 1


def test_kernels_of_a_program():
    module = hlo.parse(CHAIN)
    assert kernels.count(module) == 4  # two fusions, a gather and the library's
    assert kernels.results(module) == {"bf16": [(64, 256)]}
    assert kernels.library_calls(module) == ["library"]


ROUNDED = """HloModule rounded, entry_computation_layout={(bf16[8,4]{1,0}, bf16[4,2]{1,0})->bf16[8,2]{1,0}}

%fused (p.0: bf16[8,4], p.1: bf16[4,2]) -> bf16[8,2] {
  %p.0 = bf16[8,4]{1,0} parameter(0)
  %p.1 = bf16[4,2]{1,0} parameter(1)
  %dot.0 = f32[8,2]{1,0} dot(%p.0, %p.1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %convert.0 = bf16[8,2]{1,0} convert(%dot.0)
}

ENTRY %main (a.0: bf16[8,4], b.0: bf16[4,2]) -> bf16[8,2] {
  %a.0 = bf16[8,4]{1,0} parameter(0)
  %b.0 = bf16[4,2]{1,0} parameter(1)
  ROOT %fusion.0 = bf16[8,2]{1,0} fusion(%a.0, %b.0), kind=kOutput, calls=%fused
}
"""


def test_a_sum_that_is_rounded_in_its_kernel_is_kept_narrow():
    assert kernels.results(hlo.parse(ROUNDED)) == {"bf16": [(8, 2)]}
    wide = ROUNDED.replace("ROOT %convert.0", "%convert.0").replace(
        "convert(%dot.0)\n", "convert(%dot.0)\n  ROOT %add.0 = f32[8,2]{1,0} add(%dot.0, %dot.0)\n"
    )
    assert kernels.results(hlo.parse(wide)) == {"f32": [(8, 2)]}
    widened = ROUNDED.replace("f32[8,2]", "f16[8,2]").replace("ROOT %convert.0 = bf16", "ROOT %convert.0 = f32")
    assert kernels.results(hlo.parse(widened)) == {"f16": [(8, 2)]}


def products(function, *shapes, platform="", portable=False):
    """Formats of the results of the products of a function and its gradients, as it is traced for a platform."""
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    def both(*operands):
        with laid_out(Layout(platform=platform, portable=portable)):
            y, pull = jax.vjp(function, *operands)
            return y, pull(y)

    found = []

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                found.append(str(equation.outvars[0].aval.dtype))
            for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    walk(inner)

    traced = jax.jit(both).trace(*arguments)
    walk(traced.jaxpr.jaxpr)
    assert {leaf.dtype for leaf in jax.tree.leaves(traced.out_info)} == {jnp.dtype("float32")}
    return found


NARROW = "bfloat16"
BLOCK = lambda x, w: dot(x, w, NARROW, narrow=True)
HEAD = lambda x, w: dot(x, w, NARROW)
TIED = lambda x, w: dot_nt(x, w, NARROW)
SCORES = lambda q, k: einsum("bqhk,bshk->bhqs", q, k, NARROW)
MIXED = lambda p, v: einsum("bhqs,bshk->bqhk", p, v, NARROW, narrow=True)


@pytest.mark.parametrize(
    ("function", "shapes", "narrow"),
    [
        (BLOCK, ((4, 8), (8, 6)), 2),  # result and gradient by x; gradient by w
        (HEAD, ((4, 8), (8, 6)), 1),
        (TIED, ((4, 8), (6, 8)), 1),
        (SCORES, ((2, 3, 2, 4), (2, 5, 2, 4)), 2),
        (MIXED, ((2, 2, 3, 5), (2, 5, 2, 4)), 3),  # einsum traces the form of processors too
    ],
)
def test_what_blocks_keep_is_narrow_on_accelerators(function, shapes, narrow):
    for platform in ("tpu", "cuda"):
        assert products(function, *shapes, platform=platform).count("bfloat16") == narrow


def test_products_on_a_processor_have_float32_results():
    for function, shapes in ((BLOCK, ((4, 8), (8, 6))), (HEAD, ((4, 8), (8, 6))), (TIED, ((4, 8), (6, 8)))):
        assert set(products(function, *shapes, platform="cpu")) == {"float32"}
        assert set(products(function, *shapes)) == {"float32"}  # the tests' own devices
    # A program for several platforms has both forms.
    assert set(products(BLOCK, (4, 8), (8, 6), portable=True)) == {"float32", "bfloat16"}


def test_the_value_of_each_row_without_a_scatter_on_accelerators():
    """The same to the bit, forward and backward."""
    x, index = jax.random.normal(jax.random.key(0), (3, 4, 7)), jnp.arange(12).reshape(3, 4) % 7

    def both(platform):
        def run(x):
            with laid_out(Layout(platform=platform)):
                values, pull = jax.vjp(lambda x: value_at(x, index), x)
                return values, pull(values)[0]

        return run

    for here, there in zip(jax.jit(both("cpu"))(x), jax.jit(both("tpu"))(x), strict=True):
        np.testing.assert_array_equal(here, there)
    programs = [str(jax.make_jaxpr(both(platform))(x)) for platform in ("cpu", "tpu")]
    assert ["scatter" in program for program in programs] == [True, False]


def test_attention_is_chosen_by_the_platform_of_the_program():
    chosen = {}
    for platform in ("cpu", "tpu", "cuda"):
        with laid_out(Layout(platform=platform)):
            chosen[platform] = attention._fused("auto", "bfloat16", 64)
            assert target_platform() == platform and only_here() == (platform == "cpu")
            assert attention._fused("plain", "bfloat16", 64) is None
    assert chosen == {"cpu": None, "tpu": "xla", "cuda": "cudnn"}
    with laid_out(Layout(platform="cuda")), compiling_for(jax.devices()[:1], cudnn=False):
        assert attention._fused("auto", "bfloat16", 64) == "xla"
    with laid_out(Layout(platform="cuda", portable=True)):
        assert attention._fused("auto", "bfloat16", 64) is None and target_platform() is None


def test_meshes_are_of_described_devices():
    assert devices() == jax.devices() and not is_described()
    with compiling_for(jax.devices()[:1] * 3):
        assert len(devices()) == 3 and is_described()
    assert not is_described()


@dataclass(frozen=True)
class Chip:
    """A described TPU, as far as meshes look at it."""

    id: int
    coords: tuple[int, int, int]
    platform: str = "tpu"
    device_kind: str = "TPU v5"
    core_on_chip: int = 0


@pytest.mark.parametrize(
    "sizes", [{"data": 16, "fsdp": 16}, {"data": 1, "fsdp": 256}, {"data": 2, "fsdp": 64, "tensor": 2}]
)
def test_axes_of_a_mesh_may_take_parts_of_the_sides_of_a_torus(sizes):
    """Of 4 x 8 x 8 chips no sides have 16 in all."""
    chips = [
        Chip(id=64 * x + 8 * y + z, coords=(x, y, z)) for x, y, z in itertools.product(range(4), range(8), range(8))
    ]
    with compiling_for(chips):
        mesh = sharding.make_mesh(Parallel(**sizes))
    assert mesh.shape == {"data": 1, "fsdp": 1, "tensor": 1, **sizes}
    assert sorted(chip.id for chip in mesh.devices.flat) == list(range(256))
