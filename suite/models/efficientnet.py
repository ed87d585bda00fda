"""EfficientNet-Lite: inverted bottlenecks with depthwise convolutions and ReLU6, for devices and processors.

`Tan & Le, 2019 <https://arxiv.org/abs/1905.11946>`_ without squeeze-and-excitation and with ReLU6 for swish,
as `the Lite models <https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite>`_ are published;
stem and last convolution have the same width in all sizes.

Dims: b images, h w height and width, c channels, i in, o out, d width of the last convolution, n outputs.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from suite.errors import InputError
from suite.models.checks import check_choices, check_fractions, check_given, check_sizes
from suite.models.pictures import PictureConfig, by_stride, cumulative_strides
from suite.nn import Dropout, Linear
from suite.nn.batchnorm import BatchNorm
from suite.nn.conv import Conv
from suite.nn.conv_norm import ConvNorm
from suite.parallel.layout import edge
from suite.weights.imports import Map, Rule, conv_norm, linear

_BLOCKS = (1, 2, 2, 3, 3, 4, 1)
_WIDTHS = (16, 24, 40, 80, 112, 192, 320)
_KERNELS = (3, 3, 5, 3, 5, 5, 3)
_STRIDES = (1, 2, 2, 2, 1, 2, 1)


@dataclass(frozen=True, kw_only=True)
class Config(PictureConfig):
    """An EfficientNet-Lite with a linear classifier. `lite0` to `lite4` make the published ones."""

    own: ClassVar[tuple[str, ...]] = ("outputs", "dropout", "momentum", "coarsest")
    after: ClassVar[tuple[str, ...]] = ("last",)

    channels: int = 0
    """Channels of an image. 0: from the task."""
    outputs: int = 0
    """Classes. 0: from the task; where it has none, the model returns the pooled features."""
    blocks: tuple[int, ...] = _BLOCKS
    """Blocks of each stage."""
    widths: tuple[int, ...] = _WIDTHS
    """Channels that each stage returns."""
    kernels: tuple[int, ...] = _KERNELS
    """Side of the depthwise kernels of each stage."""
    strides: tuple[int, ...] = _STRIDES
    """Stride of the first block of each stage."""
    expansion: int = 6
    """How much wider a block is inside than its input, in all stages but the first, which is as wide as its input."""
    stem_width: int = 32
    """Channels after the first convolution, which has a stride of 2."""
    head_width: int = 1280
    """Channels of the last convolution, which are pooled."""
    padding: Literal["same", "symmetric"] = "same"
    """Where convolutions with a stride add zeros: as TensorFlow does, or alike on both sides, as PyTorch does."""
    momentum: float = 0.1
    """Share of a batch's statistics in the running ones."""
    epsilon: float = 1e-3
    """Added to variances. Weights trained by PyTorch: 1e-5."""
    dropout: float = 0.2
    """Fraction of the pooled features that training drops."""
    coarsest: int = 0
    """Stride of the coarsest feature maps that are built, where feature maps alone are wanted, as by a detector: deeper
    stages, what follows them and the head are left out. 0: everything is built."""

    def __post_init__(self):
        check_sizes(self, 0, "channels", "outputs", "coarsest")
        check_sizes(self, 1, "expansion", "stem_width", "head_width")
        check_choices(self, {"padding": ("same", "symmetric")})
        check_fractions(self, "dropout")
        for name in ("widths", "kernels", "strides"):
            sizes = getattr(self, name)
            if len(sizes) != len(self.blocks) or min((*sizes, *self.blocks), default=0) < 1:
                raise InputError(
                    f"field model.{name}",
                    "needs one number of at least 1 for each stage that blocks names",
                    found=f"blocks {self.blocks}, {name} {sizes}",
                )
        if any(size % 2 == 0 for size in self.kernels):
            raise InputError("field model.kernels", "must be odd", found=str(self.kernels))
        self._check_coarsest()

    def build(self, *, rngs: nnx.Rngs) -> "EfficientNet":
        check_given(self, "channels")
        return EfficientNet(self, rngs=rngs)

    @property
    def vector_sizes(self) -> dict[str, int]:
        return {"inputs": self.head_width}

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING if self.outputs else SHARDING[:-1]  # a rule that matches nothing is an error

    @property
    def stage_strides(self) -> tuple[int, ...]:
        return cumulative_strides(2, self.strides)

    def layer_of(self, path: str) -> int:
        """0 the stem, 1 to ``sum(blocks)`` the blocks, and then the last convolution and the head."""
        match = re.search(r"stages\W(\d+)\W(\d+)", path)
        if match:
            return sum(self.blocks[: int(match[1])]) + int(match[2]) + 1
        return 0 if path.startswith("stem") else self.depth

    @property
    def depth(self) -> int:
        return sum(self.blocks[: self.built]) + 1


def _scaled(changes: Mapping[str, Any], width: float, depth: float) -> Config:
    """Inner stages ``depth`` times as deep, and all ``width`` times as wide, in multiples of eight."""
    widths = [max(8, int(size * width + 4) // 8 * 8) for size in _WIDTHS]
    widths = [size + 8 if size < 0.9 * width * before else size for size, before in zip(widths, _WIDTHS, strict=True)]
    blocks = [_BLOCKS[0], *(math.ceil(depth * count) for count in _BLOCKS[1:-1]), _BLOCKS[-1]]
    return Config(**{"widths": tuple(widths), "blocks": tuple(blocks), **changes})


def lite0(**changes: Any) -> Config:
    """4.65 M parameters with 1,000 outputs, for images of 224 pixels."""
    return _scaled(changes, 1.0, 1.0)


def lite1(**changes: Any) -> Config:
    """5.4 M parameters, 240 pixels."""
    return _scaled(changes, 1.0, 1.1)


def lite2(**changes: Any) -> Config:
    """6.1 M parameters, 260 pixels."""
    return _scaled({"dropout": 0.3, **changes}, 1.1, 1.2)


def lite3(**changes: Any) -> Config:
    """8.2 M parameters, 280 pixels."""
    return _scaled({"dropout": 0.3, **changes}, 1.2, 1.4)


def lite4(**changes: Any) -> Config:
    """13 M parameters, 300 pixels."""
    return _scaled({"dropout": 0.3, **changes}, 1.4, 1.8)


def _conv_norm(
    config: Config, inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1, *, rngs: nnx.Rngs
) -> ConvNorm:
    same = stride > 1 and config.padding == "same"
    padding = 0 if same else size // 2
    conv = Conv(inputs, outputs, size, stride=stride, padding=padding, groups=groups, narrow=True, rngs=rngs)
    return ConvNorm(conv, BatchNorm(outputs, momentum=config.momentum, epsilon=config.epsilon), same=same)


class Block(nnx.Module):
    """An inverted bottleneck (`Sandler et al., 2018 <https://arxiv.org/abs/1801.04381>`_): widen, convolve each channel
    by itself, narrow; added to its input where the shapes agree.

    Attributes:
        expand: the 1x1 convolution that widens, or None in the first stage.
        depthwise: the convolution of each channel.
        project: the 1x1 convolution that narrows, with no activation after it.
    """

    def __init__(
        self, config: Config, inputs: int, inner: int, outputs: int, kernel: int, stride: int, *, rngs: nnx.Rngs
    ):
        self.expand = None if inner == inputs else _conv_norm(config, inputs, inner, rngs=rngs)
        self.depthwise = _conv_norm(config, inner, inner, kernel, stride, inner, rngs=rngs)
        self.project = _conv_norm(config, inner, outputs, rngs=rngs)
        self.added = stride == 1 and inputs == outputs

    def __call__(
        self, x: Float[Array, "b h w i"], rows: Bool[Array, "b"] | None, training: bool
    ) -> Float[Array, "b y x o"]:
        y = x if self.expand is None else edge(self.expand(x, rows, training, then="relu6"))
        y = self.depthwise(y, rows, training, then="relu6")
        return self.project(y, rows, training, x if self.added else None)


class EfficientNet(nnx.Module):
    """Stem, stages of blocks, a last 1x1 convolution, mean over places, linear head.

    Attributes:
        stem: the first convolution and its norm.
        stages: lists of `Block`.
        last: the convolution after the stages, and its norm; None where deeper stages are left out.
        head: (d, n), or None where the model has no outputs of its own.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.stem = _conv_norm(config, config.channels, config.stem_width, 3, 2, rngs=rngs)
        stages, width = [], config.stem_width
        plan = zip(config.blocks, config.widths, config.kernels, config.strides, strict=True)
        for place, (count, outputs, kernel, stride) in enumerate(islice(plan, config.built)):
            blocks = []
            for step in range(count):
                inner = width * (config.expansion if place else 1)
                blocks.append(Block(config, width, inner, outputs, kernel, 1 if step else stride, rngs=rngs))
                width = outputs
            stages.append(nnx.List(blocks))
        self.stages = nnx.List(stages)
        self.last = None if config.coarsest else _conv_norm(config, width, config.head_width, rngs=rngs)
        self.strides = config.stage_strides
        self.dropout = Dropout(config.dropout)
        self.head = Linear(config.head_width, config.outputs, rngs=rngs) if config.outputs else None

    def features(
        self, images: Float[Array, "b h w c"], rows: Bool[Array, "b"] | None = None, *, training: bool = False
    ) -> Float[Array, "b y x d"]:
        """The last convolution's feature maps."""
        *_, x = self._stages(self._start(images, rows, training), rows, training)
        return x if self.last is None else self.last(edge(x), rows, training, then="relu6")

    def maps(
        self, images: Float[Array, "b h w c"], rows: Bool[Array, "b"] | None = None, *, training: bool = False
    ) -> dict[int, Float[Array, "b y x o"]]:
        """Stride -> feature maps, finest first; see `Config.maps`. Norms use the batch's statistics in training."""
        return by_stride(self.strides, self._stages(self._start(images, rows, training), rows, training))

    def _start(self, images: Float[Array, "b h w c"], rows: Bool[Array, "b"] | None, training: bool) -> Array:
        return self.stem(images, rows, training, then="relu6")

    def _stages(self, x: Float[Array, "b h w i"], rows: Bool[Array, "b"] | None, training: bool) -> Iterator[Array]:
        """The feature maps that each stage returns."""
        for stage in self.stages:
            for block in stage:
                x = block(edge(x), rows, training)
            yield x

    def __call__(
        self, images: Float[Array, "b h w c"], *, rows: Bool[Array, "b"] | None = None, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b n"]:
        """Logits of each image, or its pooled features (b, d) where there is no head.

        Where ``rngs`` is given, norms use and keep the statistics of the batch's real ``rows``.
        """
        x = self.features(images, rows, training=rngs is not None).mean((1, 2), dtype=jnp.float32)
        return x if self.head is None else self.head(edge(self.dropout(x, rngs)))


SHARDING = (
    (r"depthwise\Wconv\Wkernel$", P(None, None, None, "tensor")),
    (r"conv\Wkernel$", P(None, None, "fsdp", "tensor")),
    (r"head\Wkernel$", P("fsdp", "tensor")),
)

_NAMED = {"lite0": lite0, "lite1": lite1, "lite2": lite2, "lite3": lite3, "lite4": lite4}
_TENSORFLOW = {"padding": "same", "epsilon": 1e-3}
_PYTORCH = {"padding": "symmetric", "epsilon": 1e-5}
_FAMILIES: Mapping[str, Mapping[str, Any]] = {"tf_efficientnet_": _TENSORFLOW, "efficientnet_": _PYTORCH}
"""What timm calls weights that TensorFlow trained, and PyTorch's."""


def _read(published: Mapping[str, Any]) -> Config:
    """timm's config.json: ``{"architecture": "tf_efficientnet_lite0", "num_classes": 1000}``."""
    name = str(published.get("architecture", "")).partition(".")[0]
    family = next((prefix for prefix in _FAMILIES if name.startswith(prefix)), "")
    if not family or name.removeprefix(family) not in _NAMED:
        known = ", ".join(family + size for family in _FAMILIES for size in _NAMED)
        raise InputError("config.json, architecture", f'"{name}" is not there.', fix=known)
    said = published.get("model_args") or {}
    return _NAMED[name.removeprefix(family)](
        channels=said.get("in_chans", published.get("in_chans", 3)),
        outputs=published.get("num_classes", 1000),
        dropout=said.get("drop_rate", 0.0),
        **_FAMILIES[family],
    )


def _publish(config: Config) -> dict[str, Any]:
    for family, fields in _FAMILIES.items():
        for size, make in _NAMED.items():
            named = make(channels=config.channels, outputs=config.outputs, momentum=config.momentum, **fields)
            if replace(named, dropout=config.dropout) == config:
                given = {"in_chans": config.channels}
                return {"architecture": family + size, "num_classes": config.outputs, "model_args": given}
    raise InputError("the model", "has sizes that none of the published EfficientNet-Lite has.", found=f"{config}")


def _stage(place: int) -> tuple[Rule, ...]:
    """timm's names of a stage: the first has no convolution that widens, and counts its norms from the next one on."""
    theirs, ours = f"blocks.{place}.{{i}}", f"stages/{place}/{{i}}"
    layers = {"conv_pw": "expand", "conv_dw": "depthwise", "conv_pwl": "project"}
    if not place:
        layers = {"conv_dw": "depthwise", "conv_pw": "project"}
    return tuple(
        rule
        for number, (conv, own) in enumerate(layers.items(), 1)
        for rule in conv_norm(f"{theirs}.{conv}", f"{theirs}.bn{number}", f"{ours}/{own}")
    )


def _is_lite(published: Mapping[str, Any], names: Sequence[str]) -> bool:
    return "model_type" not in published and {"conv_stem.weight", "blocks.0.0.conv_dw.weight"} <= {*names}


IMPORTS: dict[str, Map] = {
    "efficientnet-lite": Map(
        rules=(
            *conv_norm("conv_stem", "bn1", "stem"),
            *(rule for place in range(len(_BLOCKS)) for rule in _stage(place)),
            *conv_norm("conv_head", "bn2", "last"),
            *linear("classifier", "head"),
        ),
        config=_read,
        publish=_publish,
        skip=(r"num_batches_tracked$",),
        fresh=(r"^head/",),
        recognise=_is_lite,
    )
}
"""timm's weights, recognised by their tensors. `suite.weights.undescribed` gives those of efficientnet_lite_pytorch
these names."""
