"""Cost of a step before anything is allocated: FLOPs, memory, communication, time, and possible changes.

The step is lowered and compiled for shapes alone (`suite.planning.simulation` does so for devices that are not here,
by their own compiler where it is installed).
The time is a roofline, the largest of arithmetic, memory traffic and communication at the hardware's peak, so it is
what the program doesn't beat; a well-fed accelerator reaches about half of it. What is left out: the latency of each
communication, and whatever a compiler for the hardware fuses beyond the one for processors that planned.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from suite.planning.hardware import GIB, Hardware

KEPT = ("parameters", "optimizer", "other", "batch")
"""Arrays that stay in memory between two steps; ``other`` is running statistics and moving averages."""


def plan_step(step: Any, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Compile a jitted function for shapes alone and read off what it costs.

    Args:
        step: a ``jax.jit`` function; what it donates is not counted twice.
        arguments: trees of ShapeDtypeStructs, with shardings where the step is meant for several devices.

    Returns:
        For each device: ``flops`` and ``bytes`` (memory traffic) of a call, ``memory`` (bytes: ``arguments``,
        ``outputs``, ``temporary``, ``aliased``, ``peak``), ``collectives`` (see ``hlo.collectives``) and how many of
        them are ``hidden`` behind other work, ``kernels``, ``products`` (sizes of results by their format) and
        ``library_calls`` (how many of each target). Then
        ``model_flops`` of all devices together, without what is computed twice to save memory; ``devices``;
        ``compile_seconds``; ``endless``, how many loops of unknown length were counted as one trip; ``vendor``, the
        compiler's own account of ``bytes`` and, where it has one, of the least ``seconds``, both with loops run once.
    """

    from suite.planning import flops, hlo, kernels

    start = time.perf_counter()
    traced = step.trace(*arguments)
    compiled = traced.lower().compile()
    seconds = time.perf_counter() - start
    module, products = hlo.parse(compiled.as_text()), flops.count(traced)
    devices = _device_count(compiled)
    # The compiled program runs loops once in this account, and hides products in library calls.
    own = compiled.cost_analysis() or {}
    return {
        "flops": max(own.get("flops", 0.0), products.all / devices),
        "model_flops": products.model,
        "bytes": hlo.traffic(module),
        "memory": memory_of(compiled.memory_analysis()),
        "collectives": hlo.collectives(module),
        "hidden": kernels.hidden(module),
        "kernels": kernels.count(module),
        "products": kernels.results(module),
        "library_calls": dict(Counter(kernels.library_calls(module))),
        "devices": devices,
        "compile_seconds": seconds,
        "endless": module.endless,
        "vendor": {"bytes": own.get("bytes accessed", 0.0), "seconds": own.get("optimal_seconds", 0.0)},
    }


def parts(plan: Mapping[str, Any], device: Hardware, compute: str = "float32") -> dict[str, float]:
    """Seconds of each resource at its peak rate: arithmetic, memory and, where its rate is known, interconnect."""
    peak = device.bfloat16 if compute == "bfloat16" else device.float32
    seconds = {"arithmetic": plan["flops"] / peak, "memory": plan["bytes"] / device.bandwidth}
    sent = sent_bytes(plan)
    return {**seconds, "interconnect": sent / device.interconnect} if sent and device.interconnect else seconds


def sent_bytes(plan: Mapping[str, Any]) -> float:
    """Bytes a device sends to others in a call."""
    return sum(kind["sent"] for kind in plan.get("collectives", {}).values())


def fits(plan: Mapping[str, Any], device: Hardware) -> bool:
    """Whether the step's peak fits into a device's memory."""
    return plan["memory"]["peak"] <= device.memory


def advice(
    plan: Mapping[str, Any],
    device: Hardware,
    *,
    batch_size: int,
    accumulate: int = 1,
    compute: str = "float32",
    mesh: Mapping[str, int] | None = None,
    devices: int = 1,
) -> list[str]:
    """What to change so that the step fits into the device's memory, best first; empty where it does.

    Args:
        plan: from ``plan_step``.
        device: where it shall run.
        batch_size: examples a step, over all devices.
        accumulate: micro-batches a step is split into now.
        compute: ``"float32"`` or ``"bfloat16"``, as it is now.
        mesh: devices along ``data``, ``fsdp`` and ``tensor``; 1 along each where left out.
        devices: devices there are.
    """
    if fits(plan, device):
        return []
    axes = {"data": 1, "fsdp": 1, "tensor": 1, **(mesh or {})}
    memory = plan["memory"]
    gradients = memory.get("parameters", 0)  # of the parameters' own size and shards
    resident = memory["arguments"] + gradients
    activations = memory["temporary"] - gradients
    room = device.memory - resident
    if room <= 0:
        free = max(0.9 * device.memory - activations, 0.25 * device.memory)
        return _share(resident / free, axes, max(devices, math.prod(axes.values())), device)
    lines = _less_at_a_time(activations / room, batch_size, accumulate, axes, device)
    if compute == "float32":
        lines.append("store activations in half the space: --precision.compute bfloat16")
    return lines


def _share(factor: float, axes: Mapping[str, int], devices: int, device: Hardware) -> list[str]:
    """Parameters, gradients and optimiser state don't fit: spread them over ``factor`` times as many devices."""
    share = _power_of_two(factor * axes["fsdp"] * axes["tensor"])
    lines = ["keep less optimiser state: --optim.name adafactor"]
    fsdp, data = share // axes["tensor"], devices // share
    if share <= devices and devices % share == 0:
        flags = f"--parallel.data {data} --parallel.fsdp {fsdp}"
        return [f"share parameters and optimiser state over devices: {flags}", *lines]
    if device.name == "cpu":  # more devices of one processor have no more memory
        return lines
    flags = f"--devices {device.name}-{share} --parallel.data 1 --parallel.fsdp {fsdp}"
    return [f"use more devices and share the parameters over {share} of them: {flags}", *lines]


def _less_at_a_time(
    factor: float, batch_size: int, accumulate: int, axes: Mapping[str, int], device: Hardware
) -> list[str]:
    """Activations don't fit: ``factor`` times less of them at a time."""
    parts, sharing = _power_of_two(factor), axes["data"] * axes["fsdp"]
    rows = batch_size // (sharing * accumulate)  # an optimiser's micro-batch on one device
    lines = []
    if rows % parts == 0 and rows >= parts:
        split = accumulate * parts
        lines.append(f"split each step into smaller parts, with the same result: --gradient.accumulate {split}")
        lines.append(
            f"use smaller batches, and a smaller learning rate with them: --train.batch_size {batch_size // parts}"
        )
        more = math.prod(axes.values()) * parts
        if device.name != "cpu":
            lines.append(
                f"spread the batch over more devices: --devices {device.name}-{more} "
                f"--parallel.data {axes['data'] * parts}"
            )
        return lines
    if rows > 1:
        least = batch_size // rows
        lines.append(f"use smaller batches, one example a device at a time: --train.batch_size {least}")
    tensor = axes["tensor"] * _power_of_two(factor / max(rows, 1))
    lines.append(f"split each example's work over devices: --parallel.tensor {tensor}")
    return lines


def report(
    plan: Mapping[str, Any],
    device: Hardware,
    *,
    batch_size: int,
    experiment: str = "",
    parameters: int = 0,
    accumulate: int = 1,
    compute: str = "float32",
    mesh: Mapping[str, int] | None = None,
    devices: int = 1,
) -> dict[str, Any]:
    """Plan, estimate and advice in one JSON-able dict, for ``render``. Arguments as for ``advice``.

    ``mfu`` is the share of the devices' peak arithmetic that the model's own takes in the least time: a step that takes
    longer has less.
    """
    resources = parts(plan, device, compute)
    seconds = max(resources.values())
    peak = device.bfloat16 if compute == "bfloat16" else device.float32
    return {
        "experiment": experiment,
        "device": device.name,
        "device_memory": device.memory,
        "available": devices,
        "mesh": dict(mesh or {}),
        "parameters": parameters,
        "batch_size": batch_size,
        **plan,
        "parts": resources,
        "seconds": seconds,
        "bound": max(resources, key=lambda name: resources[name]),
        "mfu": plan["model_flops"] / (seconds * peak * plan["devices"]) if seconds else math.nan,
        "examples_per_second": batch_size / seconds if seconds else math.nan,
        "fits": fits(plan, device),
        "notes": _notes(plan, device),
        "advice": advice(
            plan, device, batch_size=batch_size, accumulate=accumulate, compute=compute, mesh=mesh, devices=devices
        ),
    }


def _notes(plan: Mapping[str, Any], device: Hardware) -> list[str]:
    """What the figures leave out."""
    notes = []
    if sent_bytes(plan) and not device.interconnect:
        notes.append(f"the time of communication is left out: no rate is known between devices of {device.name}")
    elif plan["devices"] > device.joined:
        notes.append(f"{device.joined} x {device.name} are joined at the rate used here; beyond lies a slower network")
    if plan.get("endless"):
        notes.append(f"{plan['endless']} loops, whose length depends on the data, count as one trip")
    if plan.get("note"):
        notes.append(plan["note"])
    if _foreign(plan, device.name):
        notes.append(
            f"compiled for processors: a compiler for {device.name} usually fuses more, which takes less "
            "memory and time"
        )
    return notes


def _foreign(plan: Mapping[str, Any], device: str) -> bool:
    """Whether the program was compiled for processors, and the device is another."""
    return bool(plan.get("platform") == "cpu" != device)


def render(report: Mapping[str, Any]) -> str:
    """The report for people."""
    memory = report["memory"]
    mesh = ", ".join(f"{axis} {size}" for axis, size in report["mesh"].items() if size > 1)
    unused = report["available"] - report["devices"]
    least, most = ("or so", "or so") if _foreign(report, report["device"]) else ("at the least", "at the most")
    rows = [
        ("experiment", report["experiment"]),
        ("parameters", f"{report['parameters']:,}" if report["parameters"] else ""),
        (
            "devices",
            f"{report['devices']} x {report['device']}"
            + (f": {mesh}" if mesh else "")
            + (f"; {unused} more are left idle" if unused > 0 else ""),
        ),
        ("FLOPs a step", f"{_si(report['flops'])}FLOP a device"),
        ("memory traffic", f"{_si(report['bytes'])}B a device"),
        *_communication(report),
        ("memory", f"{_gib(memory['peak'])} of {_gib(report['device_memory'])} a device"),
        *(("  " + _MEANING[name], _gib(memory[name])) for name in KEPT if memory.get(name)),
        *([] if KEPT[0] in memory else [("  state and batch", _gib(memory["arguments"]))]),
        ("  activations", _gib(memory["temporary"])),
        ("step time", f"{_si(report['seconds'])}s {least}, bound by {report['bound']}"),
        *((f"  {name}", f"{_si(seconds)}s") for name, seconds in report["parts"].items()),
        ("expected MFU", f"{100 * report['mfu']:.2g} % {most}"),
        ("examples/s", f"{report['examples_per_second']:,.0f} {most}"),
        ("compile time", f"{report['compile_seconds']:.1f} s{_by(report)}"),
        ("fits", "yes" if report["fits"] else "no: it doesn't fit"),
    ]
    lines = [f"{name:<18} {value}" for name, value in rows if value]
    notes = [f"  note: {line}" for line in report["notes"]]
    return "\n".join([*lines, *notes, *(f"  try: {line}" for line in report["advice"])])


def _by(report: Mapping[str, Any]) -> str:
    """Which compiler it was."""
    if report.get("compiler"):
        return f", by the compiler of {report['device']}: {report['compiler']}"
    return ", by the compiler for processors" if report.get("platform") == "cpu" else ""


_MEANING = {"parameters": "parameters", "optimizer": "optimiser state", "other": "statistics, EMA", "batch": "batch"}


def _communication(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    kinds = report["collectives"]
    if not kinds:
        return []
    rows = [
        (f"  {name}", f"{kind['count']:g} of {_si(kind['bytes'])}B together, {_si(kind['sent'])}B sent")
        for name, kind in kinds.items()
    ]
    return [("communication", f"{_si(sent_bytes(report))}B sent a device"), *rows]


def memory_of(stats: Any) -> dict[str, int]:
    """Bytes a device, of ``compiled.memory_analysis()``: arguments, outputs, temporary, aliased, and their peak."""
    names = {"arguments": "argument", "outputs": "output", "temporary": "temp", "aliased": "alias"}
    sizes = {ours: int(getattr(stats, f"{theirs}_size_in_bytes", 0)) for ours, theirs in names.items()}
    live = sizes["arguments"] + sizes["outputs"] + sizes["temporary"] - sizes["aliased"]
    # Some backends report no peak, or one without the arguments.
    return {**sizes, "peak": max(live, int(getattr(stats, "peak_memory_in_bytes", 0)))}


def _device_count(compiled: Any) -> int:
    import jax

    shardings = jax.tree.leaves(compiled.input_shardings)
    return max((len(sharding.device_set) for sharding in shardings), default=1)


def _power_of_two(factor: float) -> int:
    """The least power of two that is at least ``factor``, 2 at the least."""
    return 2 ** max(1, math.ceil(math.log2(max(factor, 1.0))))


def _gib(size: float) -> str:
    if size >= 0.1 * GIB:
        return f"{size / GIB:.2f} GiB"
    return f"{size / 2**20:.1f} MiB" if size >= 0.1 * 2**20 else f"{size / 2**10:.1f} KiB"


def _si(value: float) -> str:
    """``"3.2 G"`` with the unit's letter to follow."""
    for scale, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m")):
        if value >= scale:
            return f"{value / scale:.3g} {letter}"
    return f"{value / 1e-6:.3g} µ"
