"""Fine-tuning of part of a model: low-rank additions (LoRA), adapters, or the head alone."""

from collections.abc import Mapping
from typing import Any, TypeVar

from flax import nnx

from suite.config import Finetune, Optim
from suite.errors import InputError

Model = TypeVar("Model", bound=nnx.Module)


def attach(model: Model, finetune: Finetune, rngs: nnx.Rngs) -> Model:
    """The model with additions on the linear layers that ``finetune.targets`` match; itself for full and head."""
    if finetune.kind in ("lora", "adapters"):
        raise InputError("field finetune.kind", f'"{finetune.kind}" is not there yet.')
    return model


def freeze(optim: Optim, finetune: Finetune, params: Mapping[Any, Any]) -> Optim:
    """``optim`` with ``frozen`` extended to all that ``finetune`` leaves alone."""
    return optim
