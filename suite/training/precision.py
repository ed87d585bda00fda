"""The precision policy: formats that a view of a model computes in."""

from typing import TypeVar

from flax import nnx

from suite.experiment.sections import Precision

Model = TypeVar("Model", bound=nnx.Module)


def apply(model: Model, precision: Precision) -> Model:
    """A view of ``model``, sharing its parameters, that computes in the formats of ``precision``."""
    return nnx.view(model, compute=precision.compute, bits=precision.dropout, raise_if_not_found=False)
