"""Devices that a plan may be made for: what they compute, hold and pass on, as their makers state it."""

import dataclasses
import functools
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from suite.errors import InputError, closest

GIB = 2.0**30


@dataclass(frozen=True)
class Hardware:
    """Peak figures of one device, for dense operands.

    Attributes:
        name: as ``--devices`` takes it.
        bfloat16: FLOP/s of bfloat16 matrix products.
        float32: FLOP/s of float32 matrix products as jax runs them by default: TF32 on Ampere and later,
            one bfloat16 pass on TPUs.
        bandwidth: bytes/s of its memory.
        memory: bytes of its memory.
        interconnect: bytes/s it can send to the others, over all its links together; 0 where that isn't known.
        joined: how many devices are joined at that rate; more of them talk over a network.
    """

    name: str
    bfloat16: float
    float32: float
    bandwidth: float
    memory: float
    interconnect: float = 0.0
    joined: int = 1


HARDWARE: dict[str, Hardware] = {
    row.name: row
    for row in (
        # docs.cloud.google.com/tpu/docs/v4, v5e, v5p and v6e, "System architecture": one chip each. Interconnect: half
        # of the "bidirectional inter-chip interconnect bandwidth per chip" (v5e 400, v5p 1200, v6e 800 GB/s); for v4
        # six links of 50 GB/s each way (arXiv 2304.01433). Joined: chips of a pod.
        Hardware("tpu-v4", 275e12, 275e12, 1228e9, 32 * GIB, 300e9, 4096),
        Hardware("tpu-v5e", 197e12, 197e12, 819e9, 16 * GIB, 200e9, 256),
        Hardware("tpu-v5p", 459e12, 459e12, 2765e9, 95 * GIB, 600e9, 8960),
        Hardware("tpu-v6e", 918e12, 918e12, 1640e9, 32 * GIB, 400e9, 256),
        # NVIDIA's data sheets, without sparsity: A100 80GB SXM, H100 SXM, H200 SXM, T4 (float16: it has no bfloat16
        # units, and no TF32), L4. Interconnect: half of what they state for both directions, NVLink 600 and 900 GB/s
        # among the eight devices of a machine, and PCIe x16 of generation 3 and 4, 32 and 64 GB/s.
        Hardware("a100", 312e12, 156e12, 2039e9, 80e9, 300e9, 8),
        Hardware("h100", 989e12, 494e12, 3350e9, 80e9, 450e9, 8),
        Hardware("h200", 989e12, 494e12, 4800e9, 141e9, 450e9, 8),
        Hardware("t4", 65e12, 8.1e12, 320e9, 16e9, 16e9, 8),
        Hardware("l4", 121e12, 60e12, 300e9, 24e9, 32e9, 8),
    )
}
"""Devices by name. ``"cpu"`` is measured on this machine instead: see ``hardware``."""

_KINDS = (
    (r"tpu v4", "tpu-v4"),
    (r"tpu v5 ?(lite|e)", "tpu-v5e"),
    (r"tpu v5", "tpu-v5p"),
    (r"tpu v6", "tpu-v6e"),
    (r"a100", "a100"),
    (r"h100", "h100"),
    (r"h200", "h200"),
    (r"\bt4\b", "t4"),
    (r"\bl4\b", "l4"),
)
"""Device kind of jax -> its row; the first match wins."""


def hardware(name: str = "") -> tuple[Hardware, int]:
    """The device and how many: ``"tpu-v5e-32"`` is 32 of them, ``""`` the devices of this machine.

    Several devices on one processor, ``"cpu-8"``, share what it computes and holds.

    Raises:
        InputError: no such device.
    """
    if not name:
        import jax

        devices = jax.devices()
        return _of_kind(devices[0].platform, devices[0].device_kind, len(devices)), len(devices)
    match = re.fullmatch(r"(.*?)(?:-(\d+))?", name.lower())
    kind, count = (match[1], int(match[2] or 1)) if match else (name, 1)
    if count < 1 or (kind != "cpu" and kind not in HARDWARE):
        near = closest(kind, [*HARDWARE, "cpu"])
        raise InputError(
            "flag --devices",
            f'there is no device "{name}".',
            found=", ".join([*HARDWARE, "cpu"]) + "; with -8 at the end: 8 of them",
            fix=f"--devices {shlex.quote(near or 'a100')}",
        )
    if kind.startswith("tpu") and count & (count - 1):
        larger = 1 << count.bit_length()
        problem = "is no slice: the chips of one are a power of two."
        raise InputError(
            "flag --devices", problem, found=str(count), fix=f"--devices {shlex.quote(f'{kind}-{larger}')}"
        )
    return (_shared(count), count) if kind == "cpu" else (HARDWARE[kind], count)


@functools.cache
def probe_cpu() -> Hardware:
    """This machine's processor, measured in about a second: matrix products, a copy, and the memory now free.

    Products grow until one takes 10 ms, and the best rate counts: small ones don't keep many cores busy, and large ones
    leave the caches of few.
    """
    import jax.numpy as jnp
    import psutil

    narrow, wide = _product_rate(jnp.bfloat16), _product_rate(jnp.float32)
    return Hardware("cpu", narrow, wide, _copy_rate(), float(psutil.virtual_memory().available))


def _shared(count: int) -> Hardware:
    """One of ``count`` devices on this processor."""
    cpu = probe_cpu()
    rates = {name: getattr(cpu, name) / count for name in ("bfloat16", "float32", "bandwidth", "memory")}
    return dataclasses.replace(cpu, **rates, joined=count)


def _product_rate(dtype: Any) -> float:
    """FLOP/s of a product with a float32 result: the only form of a bfloat16 one that XLA runs in bfloat16 on a CPU."""
    import jax
    import jax.numpy as jnp

    product = jax.jit(lambda x: jnp.matmul(x, x, preferred_element_type=jnp.float32))
    best, seconds, size = 0.0, 0.0, 256
    while seconds < 0.01:
        size *= 2
        x = jnp.ones((size, size), dtype)
        seconds = _fastest(functools.partial(_wait, product, x))
        best = max(best, 2 * size**3 / seconds)
    return best


def _copy_rate() -> float:
    """Bytes/s read and written, by all cores, of 256 MiB, which no cache holds."""
    import jax
    import jax.numpy as jnp

    change = jax.jit(lambda x: -x, donate_argnums=0)
    held = [jnp.ones(2**26, jnp.float32)]

    def step() -> None:
        held[0] = change(held[0]).block_until_ready()

    return 2 * held[0].nbytes / _fastest(step)


def _of_kind(platform: str, kind: str, count: int) -> Hardware:
    if platform == "cpu":
        return _shared(count)
    for pattern, name in _KINDS:
        if re.search(pattern, kind.lower()):
            return HARDWARE[name]
    raise InputError(
        "flag --devices", f'no figures are known for "{kind}".', found=", ".join(HARDWARE), fix="--devices a100"
    )


def _wait(function: Callable[[Any], Any], x: Any) -> None:
    function(x).block_until_ready()


def _fastest(function: Callable[[], Any], enough: float = 0.15) -> float:
    """Seconds of the fastest call in ``enough`` seconds, after a first one, which compiles or maps memory."""
    function()
    times: list[float] = []
    while sum(times) < enough or len(times) < 3:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)
