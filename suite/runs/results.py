"""The verbs: each a function that returns a Run (or a report), used by notebooks and by the command line."""

import datetime
import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path

import jax

from suite import distribution
from suite.experiment import recipes
from suite.runtime import files, json_files

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def new_folder(name: str) -> Path:
    """A folder under ``runs`` that no run has taken."""
    stem = f"{datetime.date.today().isoformat()}-{name.replace('.', '-')}"
    candidates = (Path("runs") / (stem if i == 1 else f"{stem}-{i}") for i in range(1, 10_000))
    return next(path for path in candidates if not path.exists())


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    numbers = {"python": platform.python_version(), "suite": distribution.version()}
    for package in PACKAGES:
        try:
            numbers[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            numbers[package] = "not installed"
    return numbers


def revision() -> str:
    """The git commit of the suite's own source, with ``+`` when it has changes; empty outside a checkout."""
    root = Path(recipes.__file__).parents[2]
    try:
        head = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return head.stdout.strip()


def write_result(folder: Path, verb: str, name: str, metrics: dict[str, float], seconds: float, rate: float) -> None:
    """``result.json``, the same form for every verb; what training said of itself stays under ``trained``, also where a
    run that was trained to its end is gone on with, at a rate of 0."""
    path = folder / "result.json"
    outcome = {
        "metrics": metrics,
        "seconds": round(seconds, 3),
        "examples_per_second": round(rate, 3),
        "devices": devices(),
        "revision": revision(),
    }
    before = json_files.read_object(path).get("trained", {}) if path.exists() else {}
    trained = outcome if verb == "train" and (rate or not before) else before
    result = {"verb": verb, "experiment": name, **outcome, "versions": versions(), "trained": trained}
    files.write_text(path, json.dumps(result, indent=1) + "\n")


def devices() -> str:
    """What all processes of the run compute on: ``"8 x TPU v4"``."""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"
