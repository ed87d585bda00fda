"""Diffusion transformer (`Peebles & Xie, 2022 <https://arxiv.org/abs/2212.09748>`_): a vision transformer that predicts
how a noisy picture is to change, given the time of the noise and the class of the picture.

Patches are tokens at fixed places. Time and class scale and shift the norms of every block and weigh what it adds, at
first by zero (adaLN-zero).

Dims: b images, h w height and width, c channels, t tokens, d size of a token's vector, e size of the vector of time and
class, n classes, s size of a text's vector.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.units import Units
from suite.models.blocks import BlockConfig
from suite.models.checks import check_given, check_sizes
from suite.models.denoising import Condition, check_patch, packed, unpacked
from suite.nn import FeedForward, Linear, SelfAttention, sinusoids
from suite.parallel.layout import edge
from suite.surgery.units import feed_forward, heads

_ZEROS = nnx.initializers.zeros_init()
_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class Config(BlockConfig):
    """A diffusion transformer of pictures, with or without classes or texts."""

    size: ClassVar[str] = "hidden"

    channels: int = 0
    """Channels of an image. 0: from the task."""
    outputs: int = 0
    """Classes of the condition. 0: from the task; where it has none, pictures have no class."""
    text: int = 0
    """Size of the vectors of texts that say what a picture shows. MiniLM: 384. 0: there are none."""
    patch: int = 4
    """Side of a patch; it divides height and width."""
    layers: int = 6
    """Blocks."""
    hidden: int = 192
    """Size of a token's vector, and of that of time and class."""
    heads: int = 3
    """Attention heads."""
    head_width: int = 0
    """Width of a head; 0: hidden over heads."""
    feed_forward: int = 0
    """Width within the feed-forward layers. 0: four times hidden."""
    dropout: float = 0.0
    """Fraction of what is within the feed-forward layers that training drops."""
    attention_dropout: float = 0.0
    """Fraction of the attention weights that training drops."""

    def __post_init__(self):
        check_sizes(self, 0, "channels", "outputs", "text", "feed_forward", "head_width")
        check_sizes(self, 1, "patch", "layers", "hidden", "heads")
        self._check_blocks()

    def build(self, *, rngs: nnx.Rngs) -> "DiT":
        check_given(self, "channels")
        return DiT(self, rngs=rngs)

    def below(self, path: str) -> bool:
        return path.startswith(("patches", "condition"))

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    @property
    def prunable(self) -> tuple[Units, ...]:
        return PRUNING


def small(**changes: Any) -> Config:
    """The paper's DiT-S: 33 M parameters."""
    return Config(**{"layers": 12, "hidden": 384, "heads": 6, **changes})


def base(**changes: Any) -> Config:
    """DiT-B: 130 M parameters."""
    return Config(**{"layers": 12, "hidden": 768, "heads": 12, **changes})


class Block(nnx.Module):
    """Attention and feed-forward behind norms without parameters, each scaled, shifted and weighed by the vector.

    Attributes:
        modulation: (e, 6 d), zero at first.
        attention, mlp: the sublayers.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        width = config.hidden
        self.modulation = Linear(width, 6 * width, rngs=rngs, init=_ZEROS)
        self.attention = SelfAttention(
            width, config.heads, rngs=rngs, dropout=config.attention_dropout, head_width=config.head_width
        )
        inside = config.feed_forward or 4 * width
        self.mlp = FeedForward(width, inside, "gelu_tanh", rngs=rngs, dropout=config.dropout)

    def __call__(
        self, x: Float[Array, "b t d"], vector: Float[Array, "b e"], rngs: nnx.Rngs | None
    ) -> Float[Array, "b t d"]:
        first, more, gate, second, most, last = jnp.split(self.modulation(vector)[:, None], 6, -1)
        x = x + gate * self.attention(_normed(x) * (1 + more) + first, rngs=rngs)
        return x + last * self.mlp(_normed(x) * (1 + most) + second, rngs)


def _normed(x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
    """Zero mean and unit variance of each token, in float32."""
    x = x.astype(jnp.float32)
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt(jnp.square(x).mean(-1, keepdims=True) + _EPSILON)


class DiT(nnx.Module):
    """Patches, blocks, head.

    Attributes:
        patches: (p p c, d).
        condition: the vector of time and class.
        layers: `Block`s.
        modulation: (e, 2 d), of the last norm; zero at first.
        head: (d, p p c), zero at first.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        width, inside = config.hidden, config.channels * config.patch**2
        self.patches = Linear(inside, width, rngs=rngs)
        self.condition = Condition(width, config.outputs, config.text, rngs=rngs)
        self.layers = nnx.List([Block(config, rngs=rngs) for _ in range(config.layers)])
        self.modulation = Linear(width, 2 * width, rngs=rngs, init=_ZEROS)
        self.head = Linear(width, inside, rngs=rngs, init=_ZEROS)
        self.patch, self.width = config.patch, width

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        time: Float[Array, "b"],
        label: Int[Array, "b"] | None = None,
        *,
        text: Float[Array, "b s"] | None = None,
        said: Bool[Array, "b"] | None = None,
        rows: Bool[Array, "b"] | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b h w c"]:
        """What the task has the model predict of noisy images; see `suite.models.unet.UNet`."""
        check_patch(images.shape[1:3], self.patch)
        vector = self.condition(time, label, text, said, rows, rngs is not None)
        squares = packed(images, self.patch)
        rows, height, width, _ = squares.shape
        x = self.patches(squares.reshape(rows, height * width, -1)) + _places(height, width, self.width)
        for block in self.layers:
            x = block(edge(x), vector, rngs)
        shift, scale = jnp.split(self.modulation(vector)[:, None], 2, -1)
        predicted = self.head(_normed(x) * (1 + scale) + shift)
        return unpacked(predicted.reshape(rows, height, width, -1), self.patch)


def _places(height: int, width: int, size: int) -> Float[Array, "t d"]:
    """Sinusoids of a token's row in the first half of the vector, of its column in the second."""
    half = size // 2
    rows, columns = sinusoids(jnp.arange(height), half), sinusoids(jnp.arange(width), size - half)
    return jnp.concatenate([jnp.repeat(rows, width, 0), jnp.tile(columns, (height, 1))], -1)


SHARDING = (
    (r"layers\W\d+\W.*(query|key|value|up)\Wkernel$", P("fsdp", "tensor")),
    (r"layers\W\d+\W.*(query|key|value|up)\Wbias$", P("tensor")),
    (r"layers\W\d+\W.*(out|down)\Wkernel$", P("tensor", "fsdp")),
)

PRUNING = (feed_forward("layers/{i}/mlp"), heads("layers/{i}/attention", "hidden"))
