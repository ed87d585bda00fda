"""Diagnosis of a machine: versions, devices, disk and data, with the fix for each fault."""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite import distribution
from suite.errors import first_line
from suite.runtime.compilation import cache_folder

PYTHONS = ((3, 11), (3, 13))
"""Oldest and newest Python that is tested."""
LEAST_FREE = 2.0 * 2**30
"""Bytes of free disk below which a run with checkpoints is likely to fail."""


def doctor() -> dict[str, Any]:
    """Look at everything.

    Returns:
        JSON-able: ``python``, ``packages``, ``extras``, ``devices``, ``convolutions`` (what computes them on a
        processor: ``onednn``, its version, None where it is not used, and then ``reason`` and ``fix``), ``memory``,
        ``disk``, ``data`` and ``faults``, a list of ``{"fault", "fix"}`` that is empty on a machine that can run
        everything it has devices for.
    """
    faults: list[dict[str, str]] = []
    packages, extras = _packages(faults)
    return {
        "python": _python(faults),
        "packages": packages,
        "extras": extras,
        "devices": _devices(faults),
        "convolutions": _convolutions(),
        "memory": _memory(),
        "disk": _disk(faults),
        "data": _data(faults),
        "faults": faults,
    }


def render(report: Mapping[str, Any]) -> str:
    """The report for people."""
    lines = [f"python      {report['python']['found']} (needs {report['python']['needed']})"]
    lines += [f"            {report['python']['platform']}", "packages"]
    for row in report["packages"]:
        mark = "" if row["ok"] else "  <-- fault"
        lines.append(f"  {row['name']:<22} {row['found'] or 'missing':<12} needs {row['needed'] or 'any'}{mark}")
    lines.append("extras")
    for name, row in report["extras"].items():
        lines.append(
            f"  {name:<22} {'installed' if row['installed'] else 'not installed: ' + ', '.join(row['missing'])}"
        )
    lines.append("devices")
    for row in report["devices"]["found"]:
        size = f", {_gib(row['memory'])}" if row["memory"] else ""
        lines.append(f"  {row['platform']} {row['id']}: {row['kind']}{size}")
    lines += _render_convolutions(report["convolutions"])
    memory = report["memory"]
    lines.append(f"memory      {_gib(memory['available'])} free of {_gib(memory['total'])}, {memory['cores']} cores")
    lines += [f"disk        {_gib(row['free'])} free in {row['path']} ({row['what']})" for row in report["disk"]]
    for row in report["data"]:
        held = ", ".join(row["prepared"]) or "nothing prepared"
        lines.append(
            f"data        {row['variable']}={row['path'] or '(not set)'}" + (f": {held}" if row["path"] else "")
        )
    if not report["faults"]:
        return "\n".join([*lines, "no faults"])
    for row in report["faults"]:
        lines += [f"fault: {row['fault']}", f"  try: {row['fix']}"]
    return "\n".join(lines)


def _render_convolutions(report: Mapping[str, Any]) -> list[str]:
    if report["onednn"]:
        return [f"  convolutions on a processor by oneDNN {report['onednn']}"]
    lines = [f"  convolutions on a processor by XLA, not by oneDNN, which is faster: {report['reason']}"]
    return [*lines, f"    try: {report['fix']}"] if report["fix"] else lines


def _fault(faults: list[dict[str, str]], fault: str, fix: str) -> None:
    faults.append({"fault": fault, "fix": fix})


def _python(faults: list[dict[str, str]]) -> dict[str, str]:
    low, high = (".".join(map(str, version)) for version in PYTHONS)
    found = platform.python_version()
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        _fault(
            faults, f"Python {found} is not tested; needed: {low} to {high}.", f"PYTHON=python{low} scripts/quickstart"
        )
    return {"found": found, "needed": f"{low} to {high}", "platform": platform.platform()}


def _packages(faults: list[dict[str, str]]) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Needed packages, and by extra whether all of its packages are there."""
    from packaging.requirements import Requirement

    rows: list[dict[str, Any]] = []
    missing: dict[str, list[str]] = {}
    for text in distribution.requirements():
        requirement = Requirement(text)
        extra = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", str(requirement.marker or ""))
        if requirement.marker and not requirement.marker.evaluate({"extra": extra[1] if extra else ""}):
            continue  # for other platforms than this
        installed = _installed(requirement.name)
        ok = installed is not None and requirement.specifier.contains(installed, prereleases=True)
        if extra:
            missing.setdefault(extra[1], [])
            if not ok or not _has_extras(requirement):
                missing[extra[1]].append(re.split(r"\s*;", text)[0])
            continue
        rows.append({"name": requirement.name, "found": installed, "needed": str(requirement.specifier), "ok": ok})
        if not ok:
            state = f"version {installed}" if installed else "missing"
            _fault(
                faults,
                f"{requirement.name} is {state}; needed: {requirement.specifier or 'any version'}.",
                f"pip install -c constraints.txt '{requirement.name}{requirement.specifier}'",
            )
    return rows, {name: {"installed": not rest, "missing": rest} for name, rest in missing.items()}


def _installed(name: str) -> str | None:
    if name == distribution.NAME:  # an extra that consists of others
        return distribution.version()
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


_PLUGINS = {"cuda12": "jax-cuda12-plugin", "cuda13": "jax-cuda13-plugin", "tpu": "libtpu"}
"""Plug-in package that an extra of jax installs."""


def _has_extras(requirement: Any) -> bool:
    return all(_installed(_PLUGINS[extra]) for extra in requirement.extras if extra in _PLUGINS)


def _devices(faults: list[dict[str, str]]) -> dict[str, Any]:
    """jax's devices; a fault where the machine has an accelerator that jax does not use."""
    try:
        import jax

        devices = [
            {"platform": d.platform, "id": d.id, "kind": d.device_kind, "memory": _device_memory(d)}
            for d in jax.devices()
        ]
    except Exception as error:  # whatever a broken driver or plugin raises is what the user must read
        problem = f"jax finds no device: {first_line(error)}"
        _fault(faults, problem, "pip install -c constraints.txt jax, then suite doctor again")
        return {"found": [], "gpu_present": gpu_present(), "tpu_present": tpu_present()}
    platforms = {row["platform"] for row in devices}
    if gpu_present() and not platforms & {"gpu", "cuda", "rocm"} and "tpu" not in platforms:
        _fault(faults, "this machine has a GPU, but jax runs on the processor.", distribution.install("cuda12"))
    if tpu_present() and "tpu" not in platforms:
        _fault(faults, "this machine has a TPU, but jax runs without it.", distribution.install("tpu"))
    return {"found": devices, "gpu_present": gpu_present(), "tpu_present": tpu_present()}


def _convolutions() -> dict[str, str | None]:
    """What computes convolutions on a processor."""
    try:
        from suite.nn.cpu import library, onednn, switch

        version = onednn.version()
    except Exception as error:  # a broken jax, which is told of already
        return {"onednn": None, "reason": f"jax is broken: {error}", "fix": ""}
    if not switch.enabled():
        return {"onednn": None, "reason": "SUITE_CPU_FORMS=off leaves it out", "fix": "unset SUITE_CPU_FORMS"}
    if version:
        return {"onednn": version, "reason": "", "fix": ""}
    status = library.find()
    return {"onednn": None, "reason": status.reason, "fix": status.fix}


def gpu_present() -> bool:
    """Whether the machine has an NVIDIA GPU with its driver."""
    return bool(list(Path("/dev").glob("nvidia[0-9]*"))) or shutil.which("nvidia-smi") is not None


def tpu_present() -> bool:
    """Whether the machine is a TPU host."""
    return bool(list(Path("/dev").glob("accel[0-9]*"))) or "TPU_ACCELERATOR_TYPE" in os.environ


def _device_memory(device: Any) -> int | None:
    """Bytes of the device's memory that jax may use; None where the backend doesn't say."""
    stats = device.memory_stats() or {}
    return stats.get("bytes_limit")


def _memory() -> dict[str, int]:
    import psutil

    memory = psutil.virtual_memory()
    return {"total": memory.total, "available": memory.available, "cores": len(os.sched_getaffinity(0))}


def _disk(faults: list[dict[str, str]]) -> list[dict[str, Any]]:
    places = [("run folders", Path.cwd())]
    cache = cache_folder()
    if cache is not None:
        places.append(("compiled programs", cache))
    rows = []
    for what, path in places:
        free = shutil.disk_usage(_existing(path)).free
        rows.append({"what": what, "path": str(path), "free": free})
        if free < LEAST_FREE:
            fix = "--run-dir DIR on another disk" if what == "run folders" else "SUITE_CACHE=DIR on another disk"
            _fault(faults, f"only {_gib(free)} free in {path}, where {what} go.", fix)
        if not os.access(_existing(path), os.W_OK):
            fix = "--run-dir DIR that you may write" if what == "run folders" else "SUITE_CACHE=DIR that you may write"
            _fault(faults, f"{path}, where {what} go, cannot be written.", fix)
    return rows


def _existing(path: Path) -> Path:
    """The path or the nearest folder above it that is there."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


def _data(faults: list[dict[str, str]]) -> list[dict[str, Any]]:
    """The data folders and what is prepared in them."""
    rows = []
    for variable, list_prepared in (("TFDS_DATA_DIR", _tfds_prepared), ("SUITE_DATA", _folders)):
        text = os.environ.get(variable, "")
        path = Path(text).expanduser()
        if text and not path.is_dir():
            _fault(faults, f"{variable} is {text}, which is no folder.", f"mkdir -p {text}, or unset {variable}")
        rows.append({"variable": variable, "path": text, "prepared": list_prepared(path) if text else []})
    return rows


def _tfds_prepared(folder: Path) -> list[str]:
    """Prepared datasets, ``"glue/sst2:2.0.0"``: folders named by a version that hold dataset_info.json."""
    # Two levels at most lie above the version; a search below it would list every record file.
    infos = [info for pattern in ("*/*", "*/*/*") for info in folder.glob(f"{pattern}/dataset_info.json")]
    return sorted(f"{info.parent.parent.relative_to(folder)}:{info.parent.name}" for info in infos)


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
