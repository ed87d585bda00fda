"""Pooled frames: the means of a recording's frames over equal stretches of it, then a fully connected network.

The plain baseline for short recordings, and with few enough parameters for private training.

Dims: b batch, t frames, f features a frame, s stretches, o outputs.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from suite.contracts.model import ModelConfig
from suite.contracts.units import Units
from suite.models import dnn
from suite.models.checks import check_given, check_sizes
from suite.nn.batchnorm import normalised_groups


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """Stretches of a recording, and the network over their means."""

    inputs: int = 0
    """Features a frame. 0: from the task."""
    outputs: int = 0
    """Classes. 0: from the task."""
    stretches: int = 12
    """Equal parts of a recording, each of which gives the mean of its frames."""
    hidden: tuple[int, ...] = ()
    """Widths of the hidden layers, first to last; none is a linear model."""
    dropout: float = 0.0
    """Fraction of each hidden layer that training drops."""

    def __post_init__(self):
        check_sizes(self, 0, "inputs", "outputs")
        check_sizes(self, 1, "stretches")
        self.network()

    def network(self) -> dnn.Config:
        """The configuration of the network over the means, which checks its own fields."""
        inputs = self.inputs * self.stretches
        return dnn.Config(inputs=inputs, outputs=self.outputs, hidden=self.hidden, dropout=self.dropout)

    def build(self, *, rngs: nnx.Rngs) -> "PooledFrames":
        check_given(self, "inputs", "outputs")
        return PooledFrames(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    @property
    def prunable(self) -> tuple[Units, ...]:
        return PRUNING


class PooledFrames(nnx.Module):
    """Means over stretches, brought to zero mean and unit variance in each recording, and a `suite.models.dnn.DNN`.

    Attributes:
        network: over the means (b, s, f).
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.stretches = config.stretches
        self.network = config.network().build(rngs=rngs)

    def __call__(
        self, frames: Float[Array, "b t f"], mask: Bool[Array, "b t"], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b o"]:
        """Outputs of each recording. A frame that lies in two stretches counts in each by its share."""
        lengths = mask.sum(1)[:, None, None]
        starts = jnp.arange(self.stretches)[None, :, None] * lengths / self.stretches
        frame = jnp.arange(frames.shape[1])[None, None, :]
        ends = starts + lengths / self.stretches
        shares = jnp.clip(jnp.minimum(frame + 1, ends) - jnp.maximum(frame, starts), 0, 1)
        weights = shares / jnp.maximum(shares.sum(-1, keepdims=True), 1e-9)
        means = jnp.einsum("bst,btf->bsf", weights, jnp.where(mask[..., None], frames, 0).astype(jnp.float32))
        return self.network(normalised_groups(means[:, :, None], groups=1), rngs=rngs)


SHARDING = ((r"kernel$", P("fsdp", "tensor")), (r"bias$", P("tensor")))

PRUNING: tuple[Units, ...] = ()

IMPORTS: dict[str, Any] = {}
