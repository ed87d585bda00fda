"""U-Net: how a noisy picture is to change (`Ronneberger et al., 2015 <https://arxiv.org/abs/1505.04597>`_,
`Ho et al., 2020 <https://arxiv.org/abs/2006.11239>`_), given the time of the noise and the class of the picture, or the
vector of a text of it.

Levels of residual blocks, each of half the height and width of the one above, down and up again; a block on the way up
also sees what its counterpart on the way down made. Time and class scale and shift the norms. Attention where the map
is small.

Dims: b images, h w height and width, c channels of an image, d channels of a map, e size of the vector of time and
class, n classes, s size of a text's vector.
"""

import re
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.model import ModelConfig
from suite.contracts.units import Units
from suite.errors import InputError
from suite.models.checks import check_fractions, check_given, check_sizes, divisors
from suite.models.denoising import Condition, check_patch, packed, unpacked
from suite.nn import Dropout, LayerNorm, SelfAttention
from suite.nn.conv import Conv
from suite.nn.modulation import ModulatedNorm
from suite.parallel.layout import edge


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """A U-Net of pictures, with or without classes or texts."""

    channels: int = 0
    """Channels of an image. 0: from the task."""
    outputs: int = 0
    """Classes of the condition. 0: from the task; where it has none, pictures have no class."""
    text: int = 0
    """Size of the vectors of texts that say what a picture shows. MiniLM: 384. 0: there are none."""
    patch: int = 1
    """Side of the squares of pixels that are one place of the first level, in whose channels they lie. It divides
    height and width; more than 1 saves most of the time of a large picture's first level. 0: chosen by the recipe's
    defaults, as are widths that are left open."""
    widths: tuple[int, ...] = (32, 64, 64)
    """Channels of each level, each of half the height and width of the one before."""
    blocks: int = 2
    """Residual blocks of a level, down and as many up."""
    attention: tuple[int, ...] = (2,)
    """Levels whose blocks are each followed by attention, counted from 0. The middle always has it."""
    heads: int = 4
    """Attention heads; they divide the widths of these levels and the last one's."""
    groups: int = 8
    """Groups of each norm; they divide every width."""
    embedding: int = 128
    """Size of the vector of time and class."""
    dropout: float = 0.0
    """Fraction of the values between the convolutions of a block that training drops."""

    def __post_init__(self):
        check_sizes(self, 0, "channels", "outputs", "text", "patch")
        check_sizes(self, 1, "blocks", "heads", "groups", "embedding")
        check_fractions(self, "dropout")
        if self.widths:
            self._check_levels()

    def _check_levels(self) -> None:
        if min(self.widths) < 1:
            raise InputError("field model.widths", "sizes must be at least 1", found=str(self.widths))
        if any(width % self.groups for width in self.widths):
            raise InputError(
                "field model.groups",
                "must divide every width",
                found=f"{self.groups} groups of {sorted(set(self.widths))}",
                fix=f"one of {divisors(min(self.widths))}",
            )
        if any(not 0 <= level < len(self.widths) for level in self.attention):
            last = len(self.widths) - 1
            raise InputError("field model.attention", f"names levels from 0 to {last}", found=str(self.attention))
        attending = [self.widths[level] for level in {*self.attention, len(self.widths) - 1}]
        if any(width % self.heads for width in attending):
            raise InputError(
                "field model.heads",
                "must divide the width of every level with attention",
                found=f"{self.heads} heads of {sorted(set(attending))}",
                fix=f"one of {divisors(min(attending))}",
            )

    def build(self, *, rngs: nnx.Rngs) -> "UNet":
        check_given(self, "channels", "patch", "widths")
        return UNet(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    def layer_of(self, path: str) -> int:
        """0 the stem, time and class; then level by level down, the middle, and up."""
        match = re.match(r"(down|up)\W(\d+)", path)
        levels = len(self.widths)
        if match:
            return 1 + int(match[2]) if match[1] == "down" else levels + 2 + int(match[2])
        return levels + 1 if path.startswith("middle") else self.depth if path.startswith(("norm", "head")) else 0

    @property
    def depth(self) -> int:
        return 2 * len(self.widths) + 2

    @property
    def shared_by_tensor(self) -> dict[str, int]:
        return {"heads": self.heads}

    @property
    def prunable(self) -> tuple[Units, ...]:
        return PRUNING


class Block(nnx.Module):
    """Two convolutions behind norms with SiLU, added to what they are given; perhaps attention.

    Attributes:
        first_norm, second_norm: before the convolutions; the second is modulated by time and class.
        first, second: 3x3 convolutions; the second is zero at first.
        shortcut: the projection of the input, 1x1, or None where the channels stay.
        attention: `Attention`, or None.
        dropout: before the second convolution.
    """

    def __init__(self, config: Config, inputs: int, outputs: int, attends: bool, *, rngs: nnx.Rngs):
        self.first_norm = ModulatedNorm(inputs, groups=config.groups, rngs=rngs)
        self.first = _conv(inputs, outputs, rngs=rngs)
        self.second_norm = ModulatedNorm(outputs, config.embedding, groups=config.groups, rngs=rngs)
        self.second = _conv(outputs, outputs, zero=True, rngs=rngs)
        self.shortcut = _conv(inputs, outputs, size=1, rngs=rngs) if inputs != outputs else None
        self.attention = Attention(config, outputs, rngs=rngs) if attends else None
        self.dropout = Dropout(config.dropout)

    def __call__(
        self, x: Float[Array, "b h w i"], vector: Float[Array, "b e"], rngs: nnx.Rngs | None
    ) -> Float[Array, "b h w d"]:
        y = self.first(self.first_norm(x))
        y = self.second(self.dropout(self.second_norm(y, vector), rngs))
        y = y + (x if self.shortcut is None else self.shortcut(x)).astype(y.dtype)
        return y if self.attention is None else self.attention(y)


class Attention(nnx.Module):
    """Every place reads all others, added to what it is given.

    Attributes:
        norm: of each place's channels.
        attention: whose output is zero at first.
    """

    def __init__(self, config: Config, width: int, *, rngs: nnx.Rngs):
        self.norm = LayerNorm(width)
        self.attention = SelfAttention(width, config.heads, rngs=rngs)
        out = self.attention.out.kernel
        out[...] = jnp.zeros_like(out[...])

    def __call__(self, x: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
        places = self.norm(x).reshape(x.shape[0], -1, x.shape[3])
        return x + self.attention(places).reshape(x.shape).astype(x.dtype)


def _conv(inputs: int, outputs: int, size: int = 3, zero: bool = False, *, rngs: nnx.Rngs) -> Conv:
    conv = Conv(inputs, outputs, size, narrow=True, rngs=rngs)
    if zero:
        conv.kernel[...] = jnp.zeros_like(conv.kernel[...])
    return conv


class UNet(nnx.Module):
    """Stem, levels down, middle, levels up, head.

    Attributes:
        condition: the vector of time and class.
        stem: first convolution.
        down: of each level `Block`s, in all but the first behind a convolution that reads squares of 2 x 2 places.
        middle: two `Block`s, the first with attention.
        up: of each level, the lowest first, `Block`s, with a convolution of the doubled map before them but in the
            lowest.
        norm, head: last norm and convolution, which is zero at first.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        size, inside = config.embedding, config.channels * config.patch**2
        self.condition = Condition(size, config.outputs, config.text, rngs=rngs)
        self.stem = _conv(inside, config.widths[0], rngs=rngs)
        down, up, width = [], [], config.widths[0]
        for level, wide in enumerate(config.widths):
            layers: list[Any] = [_conv(4 * width, wide, size=1, rngs=rngs)] if level else []
            attends = level in config.attention
            layers += [Block(config, wide, wide, attends, rngs=rngs) for _ in range(config.blocks)]
            down.append(nnx.List(layers))
            width = wide
        self.down = nnx.List(down)
        self.middle = nnx.List([Block(config, width, width, attends, rngs=rngs) for attends in (True, False)])
        for level, wide in reversed(list(enumerate(config.widths))):
            layers = [_conv(width, wide, rngs=rngs)] if level < len(config.widths) - 1 else []
            layers += [
                Block(config, 2 * wide, wide, level in config.attention, rngs=rngs) for _ in range(config.blocks)
            ]
            up.append(nnx.List(layers))
            width = wide
        self.up = nnx.List(up)
        self.norm = ModulatedNorm(width, groups=config.groups, rngs=rngs)
        self.head = _conv(width, inside, zero=True, rngs=rngs)
        self.patch = config.patch

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
        """What the task has the model predict of noisy images.

        Args:
            images: noisy, of about unit deviation.
            time: of the noise.
            label: classes; ``n`` stands for none, and so does None.
            text: vectors of texts.
            said: False where there is no text.
            rows: False where a row is padding, which counts in no statistics of texts.
            rngs: of dropout, in training.
        """
        check_patch(images.shape[1:3], self.patch)
        _check_levels(images.shape[1:3], self.patch, len(self.down))
        vector = self.condition(time, label, text, said, rows, rngs is not None)
        x = self.stem(packed(images, self.patch))
        kept = []
        for level in self.down:
            for layer in level:
                if isinstance(layer, Block):
                    x = layer(edge(x), vector, rngs)
                    kept.append(x)
                else:
                    x = layer(packed(_even(x), 2))
        for block in self.middle:
            x = block(edge(x), vector, rngs)
        for level in self.up:
            for layer in level:
                if isinstance(layer, Block):
                    x = layer(jnp.concatenate([edge(x), kept.pop()], -1), vector, rngs)
                else:
                    x = layer(jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)[:, : kept[-1].shape[1], : kept[-1].shape[2]])
        return unpacked(self.head(self.norm(x)).astype(jnp.float32), self.patch)


def _check_levels(size: tuple[int, ...], patch: int, levels: int) -> None:
    if min(size) // patch < 2 ** (levels - 1):
        raise InputError(
            "field model.widths",
            "has more levels than the images can be halved",
            found=f"{levels} levels, of images {size[1]} wide, {size[0]} high",
            fix="fewer levels, or a smaller patch",
        )


def _even(maps: Float[Array, "b h w d"]) -> Float[Array, "b y x d"]:
    """With a last row and column of zeros where there is an odd number of them."""
    odd = [side % 2 for side in maps.shape[1:3]]
    return jnp.pad(maps, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0))) if any(odd) else maps


SHARDING = (
    (r"(stem|head|first|second|shortcut|(down|up)\W\d+\W0)\Wkernel$", P(None, None, "fsdp", "tensor")),
    (r"attention\W(query|key|value)\Wkernel$", P("fsdp", "tensor")),
    (r"attention\Wout\Wkernel$", P("tensor", "fsdp")),
)

PRUNING: tuple[Units, ...] = ()
"""Channels are normalised in groups, and so know of each other."""
