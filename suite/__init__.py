"""A JAX model suite: one typed experiment, one trainer, four domains, from raw data to a served model.

The names below are loaded on first use, so ``import suite`` costs milliseconds and starts no JAX backend.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suite.bundles.bundle import Bundle
    from suite.compression.compressing import compress
    from suite.compression.pruning import Prune
    from suite.compression.quantization import Quantize
    from suite.compression.students import Distill
    from suite.config import Experiment, replace
    from suite.delivery import Delivery, deliver
    from suite.diagnosis import doctor
    from suite.distributed.launching import launch
    from suite.errors import InputError, Interrupted, Missed
    from suite.experiments import load
    from suite.exporting.exporting import export
    from suite.folders import evaluate, open, predict
    from suite.reporting.comparisons import compare
    from suite.reporting.reports import report
    from suite.run import Run, convert, plan, resume, train
    from suite.serving.server import serve
    from suite.tuning.tuning import tune
    from suite.tuning.verdict import Verdict

_HOMES = {
    "Bundle": "suite.bundles.bundle",
    "Delivery": "suite.delivery",
    "Distill": "suite.compression.students",
    "Experiment": "suite.config",
    "InputError": "suite.errors",
    "Interrupted": "suite.errors",
    "Missed": "suite.errors",
    "Prune": "suite.compression.pruning",
    "Quantize": "suite.compression.quantization",
    "Run": "suite.run",
    "Verdict": "suite.tuning.verdict",
    "compare": "suite.reporting.comparisons",
    "compress": "suite.compression.compressing",
    "convert": "suite.run",
    "deliver": "suite.delivery",
    "doctor": "suite.diagnosis",
    "evaluate": "suite.folders",
    "export": "suite.exporting.exporting",
    "launch": "suite.distributed.launching",
    "load": "suite.experiments",
    "open": "suite.folders",
    "plan": "suite.run",
    "predict": "suite.folders",
    "replace": "suite.config",
    "report": "suite.reporting.reports",
    "resume": "suite.run",
    "serve": "suite.serving.server",
    "train": "suite.run",
    "tune": "suite.tuning.tuning",
}
__all__ = [
    "Bundle",
    "Delivery",
    "Distill",
    "Experiment",
    "InputError",
    "Interrupted",
    "Missed",
    "Prune",
    "Quantize",
    "Run",
    "Verdict",
    "compare",
    "compress",
    "convert",
    "deliver",
    "doctor",
    "evaluate",
    "export",
    "launch",
    "load",
    "open",
    "plan",
    "predict",
    "replace",
    "report",
    "resume",
    "serve",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'suite' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
