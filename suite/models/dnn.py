"""Fully connected network: the plain baseline for images, tables and features.

Dims: b batch, i inputs (all axes after the first, flattened), o outputs.
"""

import re
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from suite.contracts.model import ModelConfig
from suite.contracts.units import Units
from suite.errors import InputError
from suite.models.checks import check_choices, check_fractions, check_given, check_sizes
from suite.nn import Dropout, Linear, activate
from suite.parallel.layout import edge
from suite.surgery.units import hidden


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """A stack of affine layers with an activation between them."""

    inputs: int = 0
    """Values an example. 0: from the task."""
    hidden: tuple[int, ...] = (128,)
    """Widths of the hidden layers, first to last; none is a linear model."""
    outputs: int = 0
    """Values predicted. 0: from the task."""
    activation: Literal["relu", "gelu"] = "relu"
    """Function after each hidden layer."""
    dropout: float = 0.0
    """Fraction of each hidden layer that training drops."""

    def __post_init__(self):
        check_sizes(self, 0, "inputs", "outputs")
        check_choices(self, {"activation": ("relu", "gelu")})
        check_fractions(self, "dropout")
        if any(width < 1 for width in self.hidden):
            raise InputError("field model.hidden", "widths must be at least 1", found=str(self.hidden))

    def build(self, *, rngs: nnx.Rngs) -> "DNN":
        check_given(self, "inputs", "outputs")
        return DNN(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    def layer_of(self, path: str) -> int:
        match = re.search(r"layers\W(\d+)", path)
        assert match, f"no layer in {path}"
        return int(match[1])

    @property
    def depth(self) -> int:
        return len(self.hidden)

    @property
    def head(self) -> str:
        return rf"^layers/{len(self.hidden)}/"

    @property
    def prunable(self) -> tuple[Units, ...]:
        return PRUNING


class DNN(nnx.Module):
    """Affine layers with activation and dropout between them.

    Attributes:
        layers: one `Linear` for each hidden width, then the head.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        widths = (config.inputs, *config.hidden, config.outputs)
        # He initialisation: an activation that halves the variance follows each layer but the last.
        init = nnx.initializers.he_normal()
        self.layers = nnx.List([Linear(i, o, rngs=rngs, init=init) for i, o in zip(widths, widths[1:], strict=False)])
        self.dropout = Dropout(config.dropout)
        self.activation = config.activation

    def __call__(
        self, x: Float[Array, "b ..."], *, rows: Bool[Array, "b"] | None = None, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b o"]:
        """Outputs of each example; dropout acts only where ``rngs`` is given. No example depends on other ``rows``."""
        del rows
        x = x.reshape(x.shape[0], prod(x.shape[1:]))
        for layer in self.layers[:-1]:
            x = edge(self.dropout(activate(self.activation, layer(x)), rngs))
        return self.layers[-1](x)


SHARDING = ((r"kernel$", P("fsdp", "tensor")), (r"bias$", P("tensor")))

PRUNING = (hidden("layers"),)

IMPORTS: dict[str, Any] = {}
