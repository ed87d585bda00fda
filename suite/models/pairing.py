"""Pairing: heads that bring the vectors of two encoders into one space, and how their cosines become logits.

The part ``heads`` of a dual encoder, as of CLIP (`Radford et al., 2021 <https://arxiv.org/abs/2103.00020>`_) and, with
frozen encoders, LiT (`Zhai et al., 2021 <https://arxiv.org/abs/2111.07991>`_).

Dims: b batch, i width of an encoder's vectors, d width of the space.
"""

import math
import shlex
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from suite.contracts.model import ModelConfig
from suite.errors import InputError
from suite.models.checks import check_fractions, check_sizes
from suite.nn import Dropout, LayerNorm, Linear
from suite.nn.mlp import gelu

SHARPEST = 100.0
"""Most that cosines are multiplied by, as in CLIP."""


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """A head for each side, and the scale and shift of the logits."""

    image: int = 1280
    """Width of the vectors of pictures. EfficientNet-Lite: 1280."""
    audio: int = 0
    """Width of the vectors of recordings, which take the place of pictures. 0: there are pictures."""
    text: int = 384
    """Width of the vectors of texts. MiniLM: 384."""
    width: int = 256
    """Width of the space in which both are compared."""
    hidden: int = 0
    """Width of a layer with GELU before it. 0: heads are linear."""
    dropout: float = 0.0
    """Fraction of the input of the last layer that training drops."""
    temperature: float = 0.05
    """What cosines are divided by at first; it is learnt."""
    shift: float = 0.0
    """What is added to logits at first, by which the sigmoid loss begins; it is learnt. SigLIP: -10."""

    def __post_init__(self):
        check_sizes(self, 1, "image", "text", "width")
        check_sizes(self, 0, "hidden", "audio")
        check_fractions(self, "dropout")
        if not 1 / SHARPEST <= self.temperature <= 1:
            problem = f"must be from {1 / SHARPEST:g} to 1"
            raise InputError("field model.temperature", problem, found=f"{self.temperature:g}", fix="0.05")

    def build(self, *, rngs: nnx.Rngs) -> "Heads":
        return Heads(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING


class Heads(nnx.Module):
    """Both heads.

    Attributes:
        image, text: (i, d) each; ``audio`` in the place of image where there are recordings.
        scale: () logarithm of what cosines are multiplied by.
        bias: () added to logits.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        side = "audio" if config.audio else "image"
        setattr(self, side, Head(config, getattr(config, side), side, rngs=rngs))
        self.text = Head(config, config.text, "text", rngs=rngs)
        self.scale = nnx.Param(jnp.float32(-math.log(config.temperature)))
        self.bias = nnx.Param(jnp.float32(config.shift))

    def sharpness(self) -> Float[Array, ""]:
        """What cosines are multiplied by."""
        return jnp.exp(jnp.minimum(self.scale[...], math.log(SHARPEST)))


class Head(nnx.Module):
    """Layer norm, a hidden layer where there is one, and a linear map.

    Attributes:
        norm: of the encoder's vectors.
        hidden: (i, h), or None.
        project: (i or h, d).
    """

    def __init__(self, config: Config, inputs: int, name: str, *, rngs: nnx.Rngs):
        self.norm = LayerNorm(inputs)
        self.hidden = Linear(inputs, config.hidden, rngs=rngs) if config.hidden else None
        self.project = Linear(config.hidden or inputs, config.width, rngs=rngs)
        self.dropout = Dropout(config.dropout)
        self.inputs, self.name = inputs, name

    def __call__(self, vectors: Float[Array, "... i"], rngs: nnx.Rngs | None = None) -> Float[Array, "... d"]:
        """Vectors in the common space, of any length.

        Raises:
            InputError: the encoder's vectors have another width.
        """
        if vectors.shape[-1] != self.inputs:
            given = vectors.shape[-1]
            where, problem = f"field model.parts.heads.{self.name}", f"is {self.inputs}, and the encoder gives {given}."
            raise InputError(where, problem, fix=f"--model.parts.heads.{shlex.quote(self.name)} {given:d}")
        x = self.norm(vectors)
        if self.hidden is not None:
            x = gelu(self.hidden(x))
        return self.project(self.dropout(x, rngs))


SHARDING = ((r"(hidden|project)\Wkernel$", P("fsdp", "tensor")),)

IMPORTS: dict[str, Any] = {}
