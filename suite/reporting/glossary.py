"""Glossary of reports: all metrics with their meanings, and their values in words."""

import importlib
import pkgutil

from suite.evaluation import losses, metrics
from suite.evaluation.wording import (
    apart,
    bounds,
    capital,
    decimals,
    difference,
    percent,
    precision_recall_f1,
    ranged,
    shown,
    term,
    way,
)

__all__ = ["losses"]  # loaded for what it registers
__all__ += ["apart", "bounds", "capital", "decimals", "difference", "percent", "precision_recall_f1", "ranged"]
__all__ += ["shown", "term", "way"]


for _module in pkgutil.iter_modules(metrics.__path__, f"{metrics.__name__}."):
    importlib.import_module(_module.name)  # each registers what its metrics mean
