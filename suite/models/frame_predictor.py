"""Predictor of the cluster of each frame, as of HuBERT (`Hsu et al., 2021 <https://arxiv.org/abs/2106.07447>`_).

Dims: b batch, u vectors of an encoder, f frames that a vector stands for, d size of a vector, o clusters.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from suite.contracts.model import ModelConfig
from suite.errors import InputError
from suite.models.checks import check_given, check_sizes
from suite.nn import Embedding, Linear


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """Sizes of the predictor; those at 0 are those of the encoder that feeds it, and of the clusters."""

    inputs: int = 0
    """Size of the encoder's vectors. 0: from the encoder."""
    frames: int = 0
    """Frames that a vector stands for, each with a cluster of its own. 0: from the encoder."""
    outputs: int = 0
    """Clusters. 0: from the task."""
    width: int = 64
    """Size of the vectors that are compared with those of the clusters. HuBERT: 256."""
    temperature: float = 0.1
    """What cosines are divided by."""

    def __post_init__(self):
        check_sizes(self, 0, "inputs", "frames", "outputs")
        check_sizes(self, 1, "width")
        if self.temperature <= 0:
            where = "field model.parts.predictor.temperature"
            raise InputError(where, "must be above 0", found=f"{self.temperature:g}", fix="0.1")

    def build(self, *, rngs: nnx.Rngs) -> "FramePredictor":
        check_given(self, "inputs", "frames", "outputs")
        return FramePredictor(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING


class FramePredictor(nnx.Module):
    """A linear layer to a vector for each frame, and its cosine with the vector of each cluster.

    Attributes:
        project: (d, f x width).
        clusters: (o, width), learnt.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.project = Linear(config.inputs, config.frames * config.width, rngs=rngs)
        self.clusters = Embedding(config.outputs, config.width, rngs=rngs)
        self.width, self.temperature = config.width, config.temperature

    def __call__(self, vectors: Float[Array, "b u d"]) -> Float[Array, "b uf o"]:
        """Logits float32 of each frame: vector i stands for the frames from i f on."""
        projected = self.project(vectors).astype(jnp.float32)
        projected = projected.reshape(projected.shape[0], -1, self.width)
        table = _unit(self.clusters.embedding[...].astype(jnp.float32))
        return _unit(projected) @ table.T / self.temperature


def _unit(x: Array) -> Array:
    return x * lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))


SHARDING = ((r"project\Wkernel$", P("fsdp", "tensor")),)

IMPORTS: dict[str, Any] = {}
