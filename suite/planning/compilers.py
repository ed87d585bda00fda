"""The compilers of devices that are not here: libtpu's for TPUs, and XLA's for NVIDIA GPUs.

Both compile on a processor for a described device, and their program is the one that the device would run: its memory
to the byte, its kernels, its communication. They come with the extras tpu, cuda12 and cuda13. Of CUDA the two packages
of jax suffice (``pip install --no-deps jax-cuda13-plugin jax-cuda13-pjrt``, the versions of jax), and cuDNN for its
attention (nvidia-cudnn-cu13), which stays plain products without it.
"""

import contextlib
import functools
import importlib.metadata
import importlib.util
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from suite.distribution import install
from suite.errors import InputError

Chosen = Literal["auto", "real", "simulated"]
"""Which compiler plans: that of the devices; none but it; or that for processors, for as many simulated ones."""


@dataclass(frozen=True)
class Described:
    """Devices as their compiler takes them.

    Attributes:
        platform: ``"tpu"`` or ``"cuda"``.
        topology: how they are joined, as the compiler names it: ``"v5e:4x8"``.
        options: what else describes them.
        capability: of GPUs, their CUDA compute capability.
    """

    platform: str
    topology: str
    options: dict[str, Any]
    capability: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Absent:
    """Why there is no compiler for devices, in a sentence, and the command that brings it."""

    why: str
    fix: str = ""


_GENERATIONS = {"tpu-v5e": ("v5e", 2, 256), "tpu-v6e": ("v6e", 2, 256), "tpu-v5p": ("v5p", 3, 8960)}
"""Of TPUs that libtpu describes by chips: its name, the axes of its network, and the most chips that are joined."""

_GPU = """gpu_device_info {{ threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
 shared_memory_per_core: {shared} threads_per_core_limit: {threads} core_count: {cores} fpus_per_core: {fpus}
 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: {bandwidth}
 l2_cache_size: {cache} clock_rate_ghz: {clock} device_memory_size: {memory}
 shared_memory_per_block_optin: {block} cuda_compute_capability {{ major: {major} minor: {minor} }}
 registers_per_core_limit: 65536 registers_per_block_limit: 65536 }}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }} runtime_version {{ major: 13 }}
device_description_str: "{name}"
"""
_KIB, _MIB = 2**10, 2**20
_GPUS: dict[str, dict[str, Any]] = {
    # The CUDA C++ programming guide's tables of compute capabilities, and NVIDIA's white papers of each chip.
    "t4": dict(major=7, minor=5, cores=40, fpus=64, threads=1024, shared=64 * _KIB, cache=4 * _MIB, clock=1.59),
    "a100": dict(major=8, minor=0, cores=108, fpus=64, threads=2048, shared=164 * _KIB, cache=40 * _MIB, clock=1.41),
    "l4": dict(major=8, minor=9, cores=58, fpus=128, threads=1536, shared=100 * _KIB, cache=48 * _MIB, clock=2.04),
    "h100": dict(major=9, minor=0, cores=132, fpus=128, threads=2048, shared=228 * _KIB, cache=50 * _MIB, clock=1.98),
    "h200": dict(major=9, minor=0, cores=132, fpus=128, threads=2048, shared=228 * _KIB, cache=50 * _MIB, clock=1.98),
}


def compiler_of(name: str, count: int, slices: int = 1) -> Described | Absent:
    """The compiler for ``count`` devices ``name`` of `suite.planning.hardware.HARDWARE`, in ``slices`` that a slower
    network joins; it is installed, or the result says what is missing.
    """
    if name in _GPUS:
        if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (13, 12)):
            return Absent("no compiler for CUDA is installed", install("cuda13"))
        joined = f"{slices}x1x{count // slices}"
        options: dict[str, Any] = {"target_config": _gpu(name), "topology": joined}
        return Described("cuda", f"{name}:{joined}", options, (_GPUS[name]["major"], _GPUS[name]["minor"]))
    if name not in _GENERATIONS:
        return Absent("libtpu describes TPU v4 by cores, not by chips" if name == "tpu-v4" else f"{name} needs none")
    if not importlib.util.find_spec("libtpu"):
        return Absent("no compiler for TPUs is installed", install("tpu"))
    generation, axes, most = _GENERATIONS[name]
    while count // slices > most:
        slices *= 2
    sizes = _slice(count // slices, axes) if count % slices == 0 else None
    if sizes is None or math.prod(sizes) != count // slices:
        return Absent(f"there is no slice of {count // slices} {name}: their number is a power of two")
    hosts = (2, 2, 1) if min(sizes[:2]) > 1 else (sizes + (1,))[:3]
    options = {"chips_per_host_bounds": list(hosts), **({"num_slices": slices} if slices > 1 else {})}
    return Described("tpu", f"{generation}:{'x'.join(map(str, sizes))}", options)


def _slice(count: int, axes: int) -> tuple[int, ...] | None:
    """Sizes of a slice of ``count`` chips, as near to a cube as powers of two come, the smallest first."""
    if count < 1 or count & (count - 1):
        return None
    power = count.bit_length() - 1
    sizes = [2 ** (power // axes + (axis >= axes - power % axes)) for axis in range(axes)]
    # Three axes of a few chips lie in one plane: a host's four.
    return tuple(sorted(sizes, reverse=count < 8 and axes == 3))


def _gpu(name: str) -> str:
    from suite.planning.hardware import HARDWARE

    device, about = HARDWARE[name], _GPUS[name]
    sizes = {"bandwidth": int(device.bandwidth), "memory": int(device.memory), "block": about["shared"] - _KIB}
    return _GPU.format(name=name.upper(), **about, **sizes)


def version(platform: str) -> str:
    """The compiler's package and its version."""
    names = {"tpu": ("libtpu",), "cuda": ("jax-cuda13-plugin", "jax-cuda12-plugin")}[platform]
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return f"{name} {importlib.metadata.version(name)}"
    return names[0]


def refuse(absent: Absent) -> InputError:
    """What ``compiler="real"`` says where there is none."""
    return InputError("flag --compiler", f"real: {absent.why}.", fix=absent.fix or "--compiler simulated")


def devices(described: Described) -> list[Any]:
    """Devices that programs can be compiled for in this process. Of CUDA no other platform may have been used in it."""
    from jax.experimental import topologies

    with _quiet():
        topology = topologies.get_topology_desc(
            platform=described.platform, topology_name=described.topology, **described.options
        )
    if described.platform == "cuda":
        _know_gpu(described.capability)
    return list(topology.devices)


def has_cudnn() -> bool:
    """Whether cuDNN is installed as NVIDIA's package."""
    try:
        return importlib.util.find_spec("nvidia.cudnn") is not None
    except ModuleNotFoundError:  # nothing of NVIDIA's
        return False


def environment(described: Described, inherited: dict[str, str]) -> dict[str, str]:
    """Of a process that compiles for ``described`` devices, from this one's."""
    flags = inherited.get("XLA_FLAGS", "").split()
    own = ("--xla_force_host_platform_device_count", "--xla_backend_optimization_level", "--xla_cpu", "--xla_gpu")
    flags = [flag for flag in flags if not flag.startswith(own)]
    if described.platform == "cuda":
        flags.append("--xla_gpu_autotune_level=0")  # nothing can be timed here
    left_out = ("JAX_NUM_CPU_DEVICES",)
    return {
        **{name: value for name, value in inherited.items() if name not in left_out},
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no chip is touched, so nobody need wait for another
        "XLA_FLAGS": " ".join(flags),
    }


@functools.cache
def _know_gpu(capability: tuple[int, int]) -> None:
    """Lets JAX (0.10 to 0.12) lower for the name "gpu" in a process that has no such device: to CUDA, and cuDNN's
    attention for the described compute capability. It asks the devices of the process for both.
    """
    from jax._src import xla_bridge
    from jax._src.cudnn import fused_attention_stablehlo as attention

    plain = xla_bridge.canonicalize_platform

    def canonical(platform: str) -> str:
        try:
            return plain(platform)
        except RuntimeError:
            if platform != "gpu":
                raise
            return "cuda"

    xla_bridge.canonicalize_platform = canonical
    of = lambda text: tuple(int(part) for part in text.split("."))
    attention.check_compute_capability = lambda least: of(least) <= capability
    attention.is_cuda_compute_capability_equal = lambda wanted: of(wanted) == capability


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """libtpu complains on stderr, below Python, that it finds no TPU: not news where none is asked for."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
