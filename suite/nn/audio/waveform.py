"""Distributions of one sample of a waveform: categories of the mu-law, a mixture of logistics, a Gaussian.

The last two are of samples of 16 bits, so that their nats are those of a choice among 65,536 levels. Dims: b rows, p
parameters of the distribution, m components of a mixture, c categories.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Output = Literal["mulaw", "logistics", "gaussian"]

LEVELS = 65_536
"""Levels of a sample of 16 bits, from -1 to 1."""
_LEAST = -9.0
"""Least log of a scale: about a quarter of the distance of two levels of 16 bits."""

_COLD = 1e-30
"""What stands for a temperature of 0: only the likeliest category is left."""


class Distribution(Protocol):
    """How a sample in -1..1 is distributed, given parameters (..., p)."""

    @property
    def size(self) -> int:
        """p, numbers that state one sample's distribution."""

    @property
    def draws(self) -> int:
        """Uniform numbers that one sample is drawn with."""

    def nats(self, parameters: Float[Array, "... p"], samples: Float[Array, "..."]) -> Float[Array, "..."]:
        """Minus the log probability of the samples' levels."""

    def draw(
        self, parameters: Float[Array, "b p"], uniform: Float[Array, "b k"], temperature: Float[Array, "b"]
    ) -> Float[Array, "b"]:
        """A sample of each row, from ``uniform`` numbers in 0..1. Below 1, ``temperature`` draws nearer to the
        likeliest sample, and at 0 takes it."""


def of(output: Output, classes: int, mixtures: int) -> Distribution:
    """The distribution of this name, with its number of categories or components."""
    if output == "mulaw":
        return MuLaw(classes)
    return Logistics(mixtures) if output == "logistics" else Gaussian()


def companded(samples: Float[Array, "..."], classes: int = 256) -> Float[Array, "..."]:
    """Samples in -1..1 on the scale of the mu-law (ITU-T G.711, without its rounding), also in -1..1."""
    mu = classes - 1
    return jnp.sign(samples) * jnp.log1p(mu * jnp.minimum(jnp.abs(samples), 1.0)) / math.log1p(mu)


def to_mulaw(samples: Float[Array, "..."], classes: int = 256) -> Int[Array, "..."]:
    """The category of each sample, 0 to ``classes`` - 1."""
    return jnp.floor((companded(samples, classes) + 1) / 2 * (classes - 1) + 0.5).astype(jnp.int32)


def from_mulaw(index: Int[Array, "..."], classes: int = 256) -> Float[Array, "..."]:
    """The sample in the middle of each category."""
    mu = classes - 1
    y = 2 * index.astype(jnp.float32) / mu - 1
    return jnp.clip(jnp.sign(y) * jnp.expm1(jnp.abs(y) * math.log1p(mu)) / mu, -1.0, 1.0)


@dataclass(frozen=True)
class MuLaw:
    """A softmax over categories of the mu-law, as in WaveNet (arXiv 1609.03499, 2.2)."""

    classes: int = 256

    @property
    def size(self) -> int:
        return self.classes

    @property
    def draws(self) -> int:
        return 1

    def nats(self, parameters: Float[Array, "... c"], samples: Float[Array, "..."]) -> Float[Array, "..."]:
        index = to_mulaw(samples, self.classes)[..., None]
        chosen = jnp.take_along_axis(parameters, index, -1)[..., 0]
        return jax.nn.logsumexp(parameters, -1) - chosen

    def draw(
        self, parameters: Float[Array, "b c"], uniform: Float[Array, "b 1"], temperature: Float[Array, "b"]
    ) -> Float[Array, "b"]:
        scaled = (parameters - parameters.max(-1, keepdims=True)) / jnp.maximum(temperature, _COLD)[:, None]
        return from_mulaw(categorical(scaled, uniform[:, 0]), self.classes)


@dataclass(frozen=True)
class Logistics:
    """A mixture of logistic distributions over the levels of 16 bits, as in PixelCNN++ (arXiv 1701.05517, 2.1)."""

    mixtures: int = 10

    @property
    def size(self) -> int:
        return 3 * self.mixtures

    @property
    def draws(self) -> int:
        return 2

    def nats(self, parameters: Float[Array, "... p"], samples: Float[Array, "..."]) -> Float[Array, "..."]:
        weights, means, scales = _mixture(parameters)
        half = 1 / LEVELS
        levels = jnp.floor(samples[..., None] * (LEVELS // 2) + 0.5) / (LEVELS // 2)
        centred = (levels - means) * jnp.exp(-scales)
        width = half * jnp.exp(-scales)
        above, below = centred + width, centred - width
        # log(sigmoid(above) - sigmoid(below)), by the identity that loses nothing in either tail
        inside = above + jnp.log(-jnp.expm1(-2 * width)) - jax.nn.softplus(above) - jax.nn.softplus(below)
        logs = jnp.where(
            levels <= -1 + half,
            -jax.nn.softplus(-above),
            jnp.where(levels >= 1 - 3 * half, -jax.nn.softplus(below), inside),
        )
        return -jax.nn.logsumexp(jax.nn.log_softmax(weights) + logs, -1)

    def draw(
        self, parameters: Float[Array, "b p"], uniform: Float[Array, "b 2"], temperature: Float[Array, "b"]
    ) -> Float[Array, "b"]:
        weights, means, scales = _mixture(parameters)
        cold = jnp.maximum(temperature, _COLD)[:, None]
        index = categorical((weights - weights.max(-1, keepdims=True)) / cold, uniform[:, 0])[:, None]
        mean, scale = (jnp.take_along_axis(each, index, -1)[:, 0] for each in (means, scales))
        even = jnp.clip(uniform[:, 1], 1e-5, 1 - 1e-5)
        noise = jnp.log(even) - jnp.log1p(-even)
        return jnp.clip(mean + temperature * jnp.exp(scale) * noise, -1.0, 1.0)


@dataclass(frozen=True)
class Gaussian:
    """One Gaussian, as in ClariNet (arXiv 1807.07281, 3.1): its density times the distance of two levels."""

    @property
    def size(self) -> int:
        return 2

    @property
    def draws(self) -> int:
        return 1

    def nats(self, parameters: Float[Array, "... 2"], samples: Float[Array, "..."]) -> Float[Array, "..."]:
        mean, scale = parameters[..., 0], jnp.maximum(parameters[..., 1], _LEAST)
        squared = jnp.square((samples - mean) * jnp.exp(-scale))
        return 0.5 * squared + scale + 0.5 * math.log(2 * math.pi) - math.log(2 / LEVELS)

    def draw(
        self, parameters: Float[Array, "b 2"], uniform: Float[Array, "b 1"], temperature: Float[Array, "b"]
    ) -> Float[Array, "b"]:
        mean, scale = parameters[:, 0], jnp.maximum(parameters[:, 1], _LEAST)
        noise = jax.scipy.special.ndtri(jnp.clip(uniform[:, 0], 1e-6, 1 - 1e-6))
        return jnp.clip(mean + temperature * jnp.exp(scale) * noise, -1.0, 1.0)


def _mixture(parameters: Array) -> tuple[Array, Array, Array]:
    """Logits of the components, their means and the logs of their scales, each (..., m)."""
    weights, means, scales = jnp.split(parameters, 3, -1)
    return weights, means, jnp.maximum(scales, _LEAST)


def categorical(scaled: Float[Array, "b c"], uniform: Float[Array, "b"]) -> Int[Array, "b"]:
    """A category of each row, by the inverse of the cumulated probabilities of logits whose largest is 0.

    One uniform number a row instead of one a category. The sums are two small triangular products, of blocks and
    within them, since XLA's cumulative sum on a CPU costs more than the layer that made the logits.
    """
    size = scaled.shape[-1]
    block = math.isqrt(size - 1) + 1
    probabilities = jnp.pad(jnp.exp(scaled), ((0, 0), (0, block * block - size))).reshape(-1, block, block)
    rising = np.triu(np.ones((block, block), np.float32))
    within = jnp.matmul(probabilities, rising, precision="highest")
    before = jnp.matmul(within[..., -1], rising - np.eye(block, dtype=np.float32), precision="highest")
    cumulated = within + before[..., None]
    below = cumulated <= (uniform * cumulated[:, -1, -1])[:, None, None]
    return jnp.minimum(below.sum((1, 2)), size - 1).astype(jnp.int32)
