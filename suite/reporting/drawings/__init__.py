"""Drawings of artifacts and of answers: each module of this folder registers its own, so none is listed here."""

import importlib
import pkgutil

from suite.reporting.drawings.registry import drawn, draws

__all__ = ["drawn", "draws"]

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
