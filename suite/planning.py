"""What a step costs, before anything is allocated: FLOPs, memory a device, time, and what to change if it doesn't fit.

The step is lowered and compiled for shapes alone. The time is a roofline, the larger of arithmetic and memory traffic
at the hardware's peak, so it is what no program beats; a well-fed accelerator reaches about half of it.
"""

import functools
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from suite.errors import InputError, closest

GIB = 2.0**30


@dataclass(frozen=True)
class Hardware:
    """Peak figures of one device, as its maker states them for dense operands.

    Attributes:
        name: as ``--devices`` takes it.
        bfloat16: FLOP/s of bfloat16 matrix products.
        float32: FLOP/s of float32 matrix products as jax runs them by default: TF32 on Ampere and later,
            one bfloat16 pass on TPUs.
        bandwidth: bytes/s of its memory.
        memory: bytes of its memory.
    """

    name: str
    bfloat16: float
    float32: float
    bandwidth: float
    memory: float


HARDWARE: dict[str, Hardware] = {
    row.name: row
    for row in (
        # cloud.google.com/tpu/docs/v4, v5e, v5p and v6e, "System architecture": one chip each.
        Hardware("tpu-v4", 275e12, 275e12, 1228e9, 32 * GIB),
        Hardware("tpu-v5e", 197e12, 197e12, 819e9, 16 * GIB),
        Hardware("tpu-v5p", 459e12, 459e12, 2765e9, 95 * GIB),
        Hardware("tpu-v6e", 918e12, 918e12, 1640e9, 32 * GIB),
        # NVIDIA's data sheets, without sparsity: A100 80GB SXM, H100 SXM, H200 SXM, T4 (float16: it has no bfloat16
        # units, and no TF32), L4.
        Hardware("a100", 312e12, 156e12, 2039e9, 80e9),
        Hardware("h100", 989e12, 494e12, 3350e9, 80e9),
        Hardware("h200", 989e12, 494e12, 4800e9, 141e9),
        Hardware("t4", 65e12, 8.1e12, 320e9, 16e9),
        Hardware("l4", 121e12, 60e12, 300e9, 24e9),
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
"""What jax calls a device -> its row; first match wins."""


def hardware(name: str = "") -> tuple[Hardware, int]:
    """The device and how many: ``"tpu-v5e-32"`` is 32 of them, ``""`` the devices of this machine.

    Raises:
        InputError: no such device.
    """
    if not name:
        import jax

        found = jax.devices()
        return _of_kind(found[0].platform, found[0].device_kind), len(found)
    match = re.fullmatch(r"(.*?)(?:-(\d+))?", name.lower())
    kind, count = (match[1], int(match[2] or 1)) if match else (name, 1)
    if kind == "cpu":
        return probe_cpu(), count
    if kind not in HARDWARE or count < 1:
        near = closest(kind, HARDWARE)
        raise InputError(
            "flag --devices",
            f'there is no device "{name}".',
            found=", ".join([*HARDWARE, "cpu"]) + "; with -8 at the end: 8 of them",
            fix=f"--devices {near}" if near else "",
        )
    return HARDWARE[kind], count


@functools.cache
def probe_cpu() -> Hardware:
    """This machine's processor, measured in about half a second: matrix products, a copy, and the memory now free."""
    import jax.numpy as jnp
    import numpy as np
    import psutil

    size = 1024
    source, target = np.ones(2**23), np.zeros(2**23)
    copy = _fastest(lambda: np.copyto(target, source))
    rates = []
    for dtype in (jnp.bfloat16, jnp.float32):
        x = jnp.ones((size, size), dtype)
        rates.append(2 * size**3 / _fastest(functools.partial(_product, x)))
    return Hardware("cpu", rates[0], rates[1], 2 * source.nbytes / copy, float(psutil.virtual_memory().available))


def plan_step(step: Any, arguments: tuple[Any, ...], device: Any = None) -> dict[str, Any]:
    """Compile a jitted function for shapes alone and read off what it costs.

    Args:
        step: a ``jax.jit`` function; what it donates is not counted twice.
        arguments: trees of ShapeDtypeStructs, with shardings where the step is meant for several devices.
        device: a jax device to compile for; None for the default one.

    Returns:
        For each device: ``flops`` and ``bytes`` (memory traffic) of a call, ``memory`` (bytes: ``arguments``,
        ``outputs``, ``temporary``, ``aliased``, ``peak``); then ``devices`` and ``compile_seconds``.
    """
    import jax

    start = time.perf_counter()
    with jax.default_device(device):
        lowered = step.lower(*arguments)
        compiled = lowered.compile()
    seconds = time.perf_counter() - start
    devices = _device_count(compiled)
    costs = compiled.cost_analysis() or {}
    # Each misses something: the compiled program hides products in library calls, the lowered one runs loops once.
    written = (lowered.cost_analysis() or {}).get("flops", 0.0) / devices
    return {
        "flops": max(costs.get("flops", 0.0), written),
        "bytes": costs.get("bytes accessed", 0.0),
        "memory": _memory(compiled.memory_analysis()),
        "devices": devices,
        "compile_seconds": seconds,
    }


def estimate(plan: Mapping[str, Any], device: Hardware, compute: str = "float32") -> float:
    """Seconds a call takes at the least: the larger of arithmetic and memory traffic at peak rates."""
    return max(_parts(plan, device, compute).values())


def advice(
    plan: Mapping[str, Any],
    device: Hardware,
    *,
    batch_size: int,
    accumulate: int = 1,
    compute: str = "float32",
    fsdp: int = 1,
    devices: int = 1,
) -> list[str]:
    """What to change so that the step fits into the device's memory, best first; empty where it does.

    Args:
        plan: from ``plan_step``.
        device: where it shall run.
        batch_size: examples a step, over all devices.
        accumulate: micro-batches a step is split into now.
        compute: ``"float32"`` or ``"bfloat16"``, as it is now.
        fsdp: devices that share the parameters now.
        devices: devices there are.
    """
    memory = plan["memory"]
    if fits(plan, device):
        return []
    lines = []
    kept = memory["arguments"]  # parameters, optimiser state and the batch
    room = device.memory - kept
    if room > 0:
        parts = accumulate * _power_of_two(memory["temporary"] / room)
        if parts <= batch_size:
            lines.append(f"split each step into smaller parts, with the same result: --train.accumulate {parts}")
        smaller = max(batch_size * accumulate // parts, 1)
        lines.append(f"use smaller batches, and a smaller learning rate with them: --train.batch_size {smaller}")
    if compute == "float32":
        lines.append("store activations in half the space: --precision.compute bfloat16")
    share = _power_of_two(fsdp * kept / (0.8 * device.memory))
    if room <= 0 and share <= devices and share > fsdp:
        lines.insert(0, f"share parameters and optimiser state over devices: --parallel.fsdp {share}")
    elif room <= 0:
        lines.append(f"use more devices and share the parameters over {share} of them: --parallel.fsdp {share}")
        lines.append("keep less optimiser state: --optim.name adafactor")
    return lines


def spread(plan: Mapping[str, Any], devices: int, fsdp: int = 1) -> dict[str, Any]:
    """The plan of one device carried over to ``devices``, each with its share of the batch.

    An approximation for hardware that is not here to compile for: no communication, and parameters replicated but
    for ``fsdp``.
    """
    memory = plan["memory"]
    shared = {name: memory[name] // fsdp for name in ("arguments", "outputs", "aliased")}
    shared["temporary"] = memory["temporary"] // devices
    peak = shared["arguments"] + shared["outputs"] + shared["temporary"] - shared["aliased"]
    costs = {name: plan[name] / devices for name in ("flops", "bytes")}
    return {**plan, **costs, "memory": {**shared, "peak": peak}, "devices": devices}


def fits(plan: Mapping[str, Any], device: Hardware) -> bool:
    """Whether the step's peak fits into a device's memory."""
    return plan["memory"]["peak"] <= device.memory


def report(
    plan: Mapping[str, Any],
    device: Hardware,
    *,
    batch_size: int,
    experiment: str = "",
    parameters: int = 0,
    accumulate: int = 1,
    compute: str = "float32",
    fsdp: int = 1,
    devices: int = 1,
) -> dict[str, Any]:
    """Plan, estimate and advice in one JSON-able dict, for ``render``. Arguments as for ``advice``.

    A plan made for one device is spread over ``devices`` first.
    """
    if plan["devices"] == 1 and devices > 1:
        plan = spread(plan, devices, fsdp)
    parts = _parts(plan, device, compute)
    seconds = max(parts.values())
    return {
        "experiment": experiment,
        "device": device.name,
        "device_memory": device.memory,
        "parameters": parameters,
        "batch_size": batch_size,
        **plan,
        "seconds": seconds,
        "bound": max(parts, key=lambda name: parts[name]),
        "examples_per_second": batch_size / seconds if seconds else math.nan,
        "fits": fits(plan, device),
        "advice": advice(
            plan,
            device,
            batch_size=batch_size,
            accumulate=accumulate,
            compute=compute,
            fsdp=fsdp,
            devices=devices,
        ),
    }


def render(report: Mapping[str, Any]) -> str:
    """The report for people."""
    memory = report["memory"]
    rows = [
        ("experiment", report["experiment"]),
        ("parameters", f"{report['parameters']:,}" if report["parameters"] else ""),
        ("devices", f"{report['devices']} x {report['device']}"),
        ("FLOPs a step", f"{_si(report['flops'])}FLOP a device"),
        ("memory traffic", f"{_si(report['bytes'])}B a device"),
        ("memory", f"{_gib(memory['peak'])} of {_gib(report['device_memory'])} a device"),
        ("  state and batch", _gib(memory["arguments"])),
        ("  activations", _gib(memory["temporary"])),
        ("step time", f"{_si(report['seconds'])}s at the least, bound by {report['bound']}"),
        ("examples/s", f"{report['examples_per_second']:,.0f} at the most"),
        ("compile time", f"{report['compile_seconds']:.1f} s"),
        ("fits", "yes" if report["fits"] else "no: it doesn't fit"),
    ]
    lines = [f"{name:<18} {value}" for name, value in rows if value]
    return "\n".join([*lines, *(f"  try: {line}" for line in report["advice"])])


def _parts(plan: Mapping[str, Any], device: Hardware, compute: str) -> dict[str, float]:
    """Seconds of each resource."""
    peak = device.bfloat16 if compute == "bfloat16" else device.float32
    return {"arithmetic": plan["flops"] / peak, "memory": plan["bytes"] / device.bandwidth}


def _memory(stats: Any) -> dict[str, int]:
    names = {"arguments": "argument", "outputs": "output", "temporary": "temp", "aliased": "alias"}
    memory = {ours: int(getattr(stats, f"{theirs}_size_in_bytes", 0)) for ours, theirs in names.items()}
    live = memory["arguments"] + memory["outputs"] + memory["temporary"] - memory["aliased"]
    # Some backends report no peak, or one without the arguments.
    return {**memory, "peak": max(live, int(getattr(stats, "peak_memory_in_bytes", 0)))}


def _device_count(compiled: Any) -> int:
    import jax

    shardings = jax.tree.leaves(compiled.input_shardings)
    return max((len(sharding.device_set) for sharding in shardings), default=1)


def _of_kind(platform: str, kind: str) -> Hardware:
    if platform == "cpu":
        return probe_cpu()
    for pattern, name in _KINDS:
        if re.search(pattern, kind.lower()):
            return HARDWARE[name]
    raise InputError(
        "flag --devices", f'no figures are known for "{kind}".', found=", ".join(HARDWARE), fix="--devices a100"
    )


def _product(x: Any) -> None:
    (x @ x).block_until_ready()


def _fastest(function: Callable[[], Any], repeats: int = 5) -> float:
    """Seconds of the fastest call after a first one, which compiles or maps memory."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _power_of_two(factor: float) -> int:
    """The least power of two that is at least ``factor``, 2 at the least."""
    return 2 ** max(1, math.ceil(math.log2(max(factor, 1.0))))


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= 0.1 * GIB else f"{size / 2**20:.1f} MiB"


def _si(value: float) -> str:
    """``"3.2 G"`` with the unit's letter to follow."""
    for scale, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m")):
        if value >= scale:
            return f"{value / scale:.3g} {letter}"
    return f"{value / 1e-6:.3g} µ"
