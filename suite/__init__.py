"""A JAX model suite: one typed experiment, one trainer, four domains, from raw data to a served model.

The names below are loaded on first use, so ``import suite`` costs milliseconds and starts no JAX backend.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suite.bundles.bundle import Bundle
    from suite.compression.compressing import compress
    from suite.compression.distill import Distill
    from suite.compression.pruning import Prune
    from suite.compression.quantization import Quantize
    from suite.contracts.callback import Callback
    from suite.errors import InputError, Interrupted, Missed
    from suite.experiment.goal import Budget, Goal
    from suite.experiment.recipes import load
    from suite.experiment.sections import Experiment, replace
    from suite.exporting.exporting import export
    from suite.fitting.fitting import fit
    from suite.fitting.leaderboard import Leaderboard
    from suite.parallel.launch import launch
    from suite.reporting.comparisons import compare
    from suite.reporting.reports import report
    from suite.runs.audit import audit
    from suite.runs.baselines import baseline
    from suite.runs.run import Run
    from suite.runs.verbs import convert, plan, resume, train
    from suite.serving.server import serve
    from suite.tuning.tuning import tune
    from suite.tuning.verdict import Verdict
    from suite.workflow.catalogue import replace_catalogue
    from suite.workflow.deliver import Delivery, deliver
    from suite.workflow.doctor import doctor
    from suite.workflow.drift import drift
    from suite.workflow.explaining import explain
    from suite.workflow.folders import evaluate, open, predict
    from suite.workflow.predict_file import Predicted, predict_file

_HOMES = {
    "Budget": "suite.experiment.goal",
    "Bundle": "suite.bundles.bundle",
    "Callback": "suite.contracts.callback",
    "Delivery": "suite.workflow.deliver",
    "Distill": "suite.compression.distill",
    "Experiment": "suite.experiment.sections",
    "Goal": "suite.experiment.goal",
    "InputError": "suite.errors",
    "Interrupted": "suite.errors",
    "Leaderboard": "suite.fitting.leaderboard",
    "Missed": "suite.errors",
    "Predicted": "suite.workflow.predict_file",
    "Prune": "suite.compression.pruning",
    "Quantize": "suite.compression.quantization",
    "Run": "suite.runs.run",
    "Verdict": "suite.tuning.verdict",
    "audit": "suite.runs.audit",
    "baseline": "suite.runs.baselines",
    "compare": "suite.reporting.comparisons",
    "compress": "suite.compression.compressing",
    "convert": "suite.runs.verbs",
    "deliver": "suite.workflow.deliver",
    "doctor": "suite.workflow.doctor",
    "drift": "suite.workflow.drift",
    "evaluate": "suite.workflow.folders",
    "explain": "suite.workflow.explaining",
    "fit": "suite.fitting.fitting",
    "export": "suite.exporting.exporting",
    "launch": "suite.parallel.launch",
    "load": "suite.experiment.recipes",
    "open": "suite.workflow.folders",
    "plan": "suite.runs.verbs",
    "predict": "suite.workflow.folders",
    "predict_file": "suite.workflow.predict_file",
    "replace": "suite.experiment.sections",
    "replace_catalogue": "suite.workflow.catalogue",
    "report": "suite.reporting.reports",
    "resume": "suite.runs.verbs",
    "serve": "suite.serving.server",
    "train": "suite.runs.verbs",
    "tune": "suite.tuning.tuning",
}
__all__ = [
    "Budget",
    "Bundle",
    "Callback",
    "Delivery",
    "Distill",
    "Experiment",
    "Goal",
    "InputError",
    "Interrupted",
    "Leaderboard",
    "Missed",
    "Predicted",
    "Prune",
    "Quantize",
    "Run",
    "Verdict",
    "audit",
    "baseline",
    "compare",
    "compress",
    "convert",
    "deliver",
    "doctor",
    "drift",
    "evaluate",
    "explain",
    "export",
    "fit",
    "launch",
    "load",
    "open",
    "plan",
    "predict",
    "predict_file",
    "replace",
    "replace_catalogue",
    "report",
    "resume",
    "serve",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from suite.distribution import version

        return version()
    if name not in _HOMES:
        raise AttributeError(f"module 'suite' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "__version__"})
