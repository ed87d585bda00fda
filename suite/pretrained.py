"""Published weights, in and out: one loader that runs the IMPORTS table of a model, strictly, in both directions."""

from typing import Any

from suite.base import ModelConfig
from suite.config import Experiment


def adopt(experiment: Experiment) -> Experiment:
    """The experiment with the sizes of the weights it starts from; itself where it starts fresh or from a run."""
    return experiment


def fill(model: ModelConfig, params: Any, rest: Any, source: str, *, offline: bool = False) -> tuple[Any, Any]:
    """(params, rest) with every published tensor of ``source`` in its place, dtype and sharding."""
    raise NotImplementedError
