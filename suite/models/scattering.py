"""Scattering network: fixed wavelet coefficients of an image, then a linear layer, which alone is learnt.

Few parameters and good features without any data: what private training and small data ask for (`Tramer & Boneh, 2021
<https://arxiv.org/abs/2011.11660>`_; scattering: `Bruna & Mallat, 2013 <https://arxiv.org/abs/1203.1513>`_).

Dims: b batch, h height, w width, c channels, o outputs.
"""

from dataclasses import dataclass
from typing import Any

from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from suite.contracts.model import ModelConfig
from suite.contracts.units import Units
from suite.errors import InputError
from suite.models.checks import check_given, check_sizes, divisors
from suite.nn import Linear
from suite.nn.batchnorm import normalised_groups
from suite.nn.scattering import coefficients, places, scattering


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """Wavelets of some scales and angles, normalised in groups, and a linear layer."""

    height: int = 0
    """Height of an image. 0: from the task."""
    width: int = 0
    """Width of an image. 0: from the task."""
    channels: int = 0
    """Channels of an image. 0: from the task."""
    outputs: int = 0
    """Values predicted. 0: from the task."""
    scales: int = 2
    """Octaves: coefficients stand 2 to this power pixels apart."""
    angles: int = 8
    """Orientations of the wavelets."""
    groups: int = 27
    """Groups of coefficients that are brought to zero mean and unit variance in each image; a divisor of them."""

    def __post_init__(self):
        check_sizes(self, 0, "height", "width", "channels", "outputs")
        check_sizes(self, 1, "scales", "angles", "groups")
        count = coefficients(self.scales, self.angles)
        if count % self.groups:
            problem = f"must divide the {count} coefficients a place"
            raise InputError("field model.groups", problem, found=str(self.groups), fix=divisors(count))

    @property
    def inputs(self) -> int:
        """Values that the linear layer reads."""
        area = places(self.height, self.scales) * places(self.width, self.scales)
        return area * coefficients(self.scales, self.angles) * self.channels

    def build(self, *, rngs: nnx.Rngs) -> "ScatteringNetwork":
        check_given(self, "height", "width", "channels", "outputs")
        return ScatteringNetwork(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    @property
    def prunable(self) -> tuple[Units, ...]:
        return PRUNING


class ScatteringNetwork(nnx.Module):
    """Scattering coefficients, normalised in groups, and a linear layer.

    Attributes:
        head: `Linear`, zero at first.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.head = Linear(config.inputs, config.outputs, rngs=rngs, init=nnx.initializers.zeros)

    def __call__(
        self, images: Float[Array, "b h w c"], *, rows: Bool[Array, "b"] | None = None, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b o"]:
        """Outputs of each image, which depends on no other of ``rows``; nothing is dropped in training."""
        del rows, rngs
        maps = scattering(images, self.config.scales, self.config.angles)
        scaled = normalised_groups(maps.reshape(*maps.shape[:3], -1), self.config.groups)
        return self.head(scaled.reshape(len(images), -1))


SHARDING = ((r"kernel$", P("fsdp", "tensor")), (r"bias$", P("tensor")))

PRUNING: tuple[Units, ...] = ()

IMPORTS: dict[str, Any] = {}
