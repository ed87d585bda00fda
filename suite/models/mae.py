"""Decoder of masked autoencoders (`He et al., 2021 <https://arxiv.org/abs/2111.06377>`_): pixels of hidden patches.

The encoder, a vision transformer, looks at the visible patches alone. The decoder, which is thrown away, is given their
vectors at their places and one learnt vector at all others.

Dims: b images, k visible patches, n patches, d size of the encoder's vectors, p values of a patch.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from suite.models import vit
from suite.models.blocks import BlockConfig
from suite.models.checks import check_given, check_sizes
from suite.nn import LayerNorm, Linear, sinusoids
from suite.parallel.layout import edge


@dataclass(frozen=True, kw_only=True)
class Config(BlockConfig):
    """Sizes of the decoder. Sizes at 0 but for head_width are those of the encoder that feeds it."""

    size: ClassVar[str] = "hidden"

    inputs: int = 0
    """Size of the encoder's vectors. 0: from the encoder."""
    height: int = 0
    """Rows of an image. 0: from the encoder."""
    width: int = 0
    """Columns of an image. 0: from the encoder."""
    channels: int = 0
    """Channels of an image. 0: from the encoder."""
    patch: int = 0
    """Side of a patch, in pixels. 0: from the encoder."""
    layers: int = 2
    """Blocks of attention and feed-forward."""
    hidden: int = 128
    """Size of a token's vector."""
    heads: int = 4
    """Attention heads; they divide ``hidden``."""
    head_width: int = 0
    """Size of a head. 0: hidden / heads."""
    dropout: float = 0.0
    """Fraction of sublayer outputs that training drops."""
    attention_dropout: float = 0.0
    """Fraction of attention weights that training drops."""

    def __post_init__(self):
        check_sizes(self, 0, "inputs", "height", "width", "channels", "patch", "head_width", "layers")
        check_sizes(self, 1, "hidden", "heads")
        self._check_blocks()

    def build(self, *, rngs: nnx.Rngs) -> "Decoder":
        check_given(self, "inputs", "height", "width", "channels", "patch")
        return Decoder(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return vit.SHARDING[1:] if self.layers else ()

    def below(self, path: str) -> bool:
        return path.startswith(("embedding", "hidden"))


class Decoder(nnx.Module):
    """Vectors of visible patches to pixels of all patches.

    Attributes:
        embedding: (d, hidden), of the encoder's vectors.
        hidden: (1, 1, hidden), what stands for a patch that is not visible; normal with deviation 0.02 at first.
        layers: the blocks, of a vision transformer.
        norm: after the last block.
        pixels: (hidden, p).
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        width = config.hidden
        self.embedding = Linear(config.inputs, width, rngs=rngs)
        self.hidden = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (1, 1, width), jnp.float32))
        block = vit.Config(
            hidden=width,
            heads=config.heads,
            head_width=config.head_width,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
        )
        self.layers = nnx.List([vit.Block(block, rngs=rngs) for _ in range(config.layers)])
        self.norm = LayerNorm(width, epsilon=block.epsilon)
        self.pixels = Linear(width, config.patch**2 * config.channels, rngs=rngs)
        self.grid = (config.height // config.patch, config.width // config.patch)
        self.patch = config.patch

    @property
    def patches(self) -> int:
        """How many patches an image has."""
        return self.grid[0] * self.grid[1]

    def __call__(
        self, vectors: Float[Array, "b k+1 d"], places: Int[Array, "b n"], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b n p"]:
        """Values of each patch.

        Args:
            vectors: the encoder's, of the class token and of the visible patches.
            places: place of each patch in ``vectors`` without the class token; of those that are not visible one past
                its end or more.
            rngs: dropout acts only where it is given.
        """
        x = self.embedding(vectors)
        first, seen = x[:, :1], x[:, 1:]
        count = seen.shape[1]
        known = jnp.take_along_axis(seen, jnp.minimum(places, count - 1)[..., None], 1)
        x = jnp.where((places < count)[..., None], known, self.hidden[...])
        x = jnp.concatenate([first, x + _places(self.grid, x.shape[2])], 1)
        for block in self.layers:
            x = block(edge(x), rngs)
        return self.pixels(self.norm(x)[:, 1:])


def _places(grid: tuple[int, int], width: int) -> Float[Array, "n d"]:
    """Sines and cosines of the row and of the column of each patch."""
    half = (width // 2, width - width // 2)
    rows, columns = (sinusoids(jnp.arange(count), size) for count, size in zip(grid, half, strict=True))
    return jnp.concatenate([jnp.repeat(rows, grid[1], 0), jnp.tile(columns, (grid[0], 1))], 1)


def patches_of(images: Float[Array, "b h w c"], patch: int) -> Float[Array, "b n p"]:
    """The values of each patch, row by row."""
    count, height, width, channels = images.shape
    x = images.reshape(count, height // patch, patch, width // patch, patch, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(count, -1, patch * patch * channels)


def images_of(patches: Float[Array, "b n p"], grid: tuple[int, int], patch: int) -> Float[Array, "b h w c"]:
    """The images that patches are of: the inverse of `patches_of`."""
    count, rows, columns = patches.shape[0], *grid
    x = patches.reshape(count, rows, columns, patch, patch, -1).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(count, rows * patch, columns * patch, -1)


IMPORTS: dict[str, Any] = {}
