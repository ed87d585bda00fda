"""A JAX model suite: one typed experiment, one trainer, four domains, from raw data to a served model.

The names below are loaded on first use, so ``import suite`` costs milliseconds and starts no JAX backend.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suite.compression.compressing import compress
    from suite.compression.pruning import Prune
    from suite.compression.quantization import Quantize
    from suite.compression.students import Distill
    from suite.config import Experiment, replace
    from suite.diagnosis import doctor
    from suite.errors import InputError, Interrupted, Missed
    from suite.experiments import load
    from suite.launching import launch
    from suite.run import Run, convert, evaluate, open, plan, predict, resume, train

_HOMES = {
    "Distill": "suite.compression.students",
    "Experiment": "suite.config",
    "InputError": "suite.errors",
    "Interrupted": "suite.errors",
    "Missed": "suite.errors",
    "Prune": "suite.compression.pruning",
    "Quantize": "suite.compression.quantization",
    "Run": "suite.run",
    "compress": "suite.compression.compressing",
    "convert": "suite.run",
    "doctor": "suite.diagnosis",
    "evaluate": "suite.run",
    "launch": "suite.launching",
    "load": "suite.experiments",
    "open": "suite.run",
    "plan": "suite.run",
    "predict": "suite.run",
    "replace": "suite.config",
    "resume": "suite.run",
    "train": "suite.run",
}
__all__ = [
    "Distill",
    "Experiment",
    "InputError",
    "Interrupted",
    "Missed",
    "Prune",
    "Quantize",
    "Run",
    "compress",
    "convert",
    "doctor",
    "evaluate",
    "launch",
    "load",
    "open",
    "plan",
    "predict",
    "replace",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'suite' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
