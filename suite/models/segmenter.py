"""Semantic segmentation: a class for each pixel, by a U-Net or a feature pyramid on any family of images that has
feature maps of several strides.

`Ronneberger et al., 2015 <https://arxiv.org/abs/1505.04597>`_: maps are enlarged step by step, and joined at each step
with those of the backbone. `Kirillov et al., 2019 <https://arxiv.org/abs/1901.02446>`_: the levels of a pyramid are
enlarged to the finest and added. Both say what the finest map is of, and that is enlarged to the picture.

Dims: b images, h w height and width, c channels, y x those of a map, d width, n classes.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from suite.errors import InputError
from suite.models import efficientnet
from suite.models.checks import check_choices, check_given, check_sizes
from suite.models.fpn import CHANNELS, Pyramid, cut_backbone, enlarged
from suite.models.parts import Composite, Parts
from suite.nn import Dropout
from suite.nn.batchnorm import GroupNorm
from suite.nn.conv import Conv
from suite.nn.conv_norm import ConvNorm
from suite.parallel.layout import edge


@dataclass(frozen=True, kw_only=True)
class Config(Parts):
    """A backbone and a decoder of its feature maps."""

    parts: Any = field(default_factory=lambda: {"backbone": efficientnet.lite0()})
    """The family that gives the feature maps, which stands without head, and without stages that are coarser than the
    coarsest map: ``checkpoint.init_from backbone=SOURCE`` names its weights."""
    outputs: int = 0
    """Classes. 0: from the task."""
    decoder: Literal["unet", "fpn"] = "unet"
    """What joins the feature maps."""
    strides: tuple[int, ...] = (4, 8, 16, 32)
    """Strides of the feature maps that are joined, each twice the one before."""
    width: int = 64
    """Channels of the decoder; of a U-Net at the coarsest step but one, and half as many at each finer step."""
    dropout: float = 0.0
    """Fraction of the channels before the classes that training drops."""
    frozen_statistics: bool = True
    """Whether the backbone's batch norms keep the statistics of its weights in training, as batches of few images need
    it. From fresh parameters: False."""

    def __post_init__(self):
        super().__post_init__()
        check_sizes(self, 0, "outputs")
        check_sizes(self, 1, "width")
        check_choices(self, {"decoder": ("unet", "fpn")})
        parts = cut_backbone(self.parts, self.strides, self.width)
        if len(self.strides) < 2:
            raise InputError("field model.strides", "must be two at least.", found=str(self.strides))
        object.__setattr__(self, "parts", parts)

    def build(self, *, rngs: nnx.Rngs) -> "Segmenter":
        check_given(self, "outputs")
        return Segmenter(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return (*super().sharding, *SHARDING)

    @property
    def head(self) -> str:
        return r"^classes/"

    @property
    def steps(self) -> tuple[int, ...]:
        """Channels of a U-Net at each step, the coarsest first."""
        return tuple(max(self.width >> step, CHANNELS) for step in range(len(self.strides) - 1))


class Step(nnx.Module):
    """One step of a U-Net: the coarser map is enlarged, joined with the backbone's, and convolved twice.

    Attributes:
        layers: two `ConvNorm`s.
    """

    def __init__(self, coarser: int, own: int, outputs: int, *, rngs: nnx.Rngs):
        self.layers = nnx.List([_layer(inputs, outputs, rngs) for inputs in (coarser + own, outputs)])

    def __call__(self, coarser: Float[Array, "b v u i"], own: Float[Array, "b y x j"]) -> Float[Array, "b y x o"]:
        x = jnp.concatenate([enlarged(coarser, *own.shape[1:3]), own.astype(coarser.dtype)], -1)
        for layer in self.layers:
            x = layer(edge(x), None, False, then="relu")
        return x


class Segmenter(Composite):
    """See the module.

    Attributes:
        backbone: gives maps by stride.
        steps: of a U-Net, the coarsest first; None of a pyramid.
        pyramid, mixed: a pyramid, and a convolution of the sum of its levels; None of a U-Net.
        classes: (1, 1, d, n).
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        widths = [config.parts["backbone"].maps[stride] for stride in config.strides]
        if config.decoder == "unet":
            inputs = (widths[-1], *config.steps)
            sizes = zip(inputs, widths[-2::-1], config.steps, strict=False)
            self.steps = nnx.List([Step(*size, rngs=rngs) for size in sizes])
            self.pyramid = self.mixed = None
            width = config.steps[-1]
        else:
            self.steps, width = None, config.width
            self.pyramid = Pyramid(widths, width, rngs=rngs)
            self.mixed = _layer(width, width, rngs)
        self.classes = Conv(width, config.outputs, 1, use_bias=True, rngs=rngs)
        self.dropout = Dropout(config.dropout)
        self.strides, self.frozen_statistics = config.strides, config.frozen_statistics

    def __call__(
        self, images: Float[Array, "b h w c"], *, rows: Bool[Array, "b"] | None = None, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b h w n"]:
        """Logits of each pixel. Where ``rngs`` is given and statistics are not frozen, the backbone's norms use and
        keep those of the real ``rows``."""
        training = rngs is not None and not self.frozen_statistics
        maps = self.backbone.maps(images, rows, training=training)
        x = self._joined([maps[stride] for stride in self.strides])
        logits = self.classes(edge(self.dropout(x, rngs))).astype(jnp.float32)
        return jax.image.resize(logits, (*images.shape[:3], logits.shape[-1]), "bilinear")

    def _joined(self, maps: list[Array]) -> Float[Array, "b y x d"]:
        """The finest map, which knows what the coarser ones see."""
        if self.steps is not None:
            x = maps[-1]
            for step, own in zip(self.steps, maps[-2::-1], strict=True):
                x = step(x, own)
            return x
        assert self.pyramid is not None and self.mixed is not None  # as where it is no U-Net
        levels = self.pyramid(maps)
        x = levels[-1]
        for level in levels[-2::-1]:
            x = enlarged(x, *level.shape[1:3]) + level
        return self.mixed(edge(x), None, False, then="relu")


def _layer(inputs: int, outputs: int, rngs: nnx.Rngs) -> ConvNorm:
    conv = Conv(inputs, outputs, 3, narrow=True, rngs=rngs)
    return ConvNorm(conv, GroupNorm(outputs, groups=outputs // CHANNELS))


SHARDING = ((r"^(steps|pyramid|mixed)\W.*\Wkernel$", P(None, None, "fsdp", "tensor")),)
"""What says the classes has few outputs, and lies whole on each device."""
