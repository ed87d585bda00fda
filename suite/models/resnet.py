"""Residual networks (`He et al., 2015 <https://arxiv.org/abs/1512.03385>`_), for ImageNet and for small images.

The stride of a bottleneck sits in its 3x3 convolution ("v1.5", as torchvision, timm and Hugging Face have it) or, as in
the paper, in the first 1x1. The last norm of each block starts with a scale of zero
(`Goyal et al., 2017 <https://arxiv.org/abs/1706.02677>`_).

Dims: b images, h w height and width, c channels, i in, o out, d width of the last stage, n outputs.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from suite.contracts.units import Units
from suite.errors import InputError
from suite.models.activations import PLAIN, published_activation, published_name
from suite.models.blocks import published_classes
from suite.models.checks import check_choices, check_fractions, check_given, check_sizes
from suite.models.pictures import PictureConfig, by_stride, cumulative_strides
from suite.nn import Activation, Dropout, Linear
from suite.nn.batchnorm import BatchNorm, GroupNorm
from suite.nn.conv import Conv
from suite.nn.conv_norm import ConvNorm
from suite.nn.pooling import max_pool
from suite.parallel.layout import edge
from suite.weights.imports import Map, Rule, conv_norm, linear

_CHOICES = {
    "block": ("basic", "bottleneck"),
    "shortcut": ("projection", "padding", "padding_around"),
    "stride_in": ("3x3", "1x1"),
    "norm": ("batch", "group"),
    "activation": PLAIN,
}
_NARROWING = 4
"""How much narrower a bottleneck is than what it returns."""


@dataclass(frozen=True, kw_only=True)
class Config(PictureConfig):
    """A residual network with a linear classifier. `resnet18`, `resnet50`, `cifar20` ... make the published ones."""

    own: ClassVar[tuple[str, ...]] = ("outputs", "dropout", "momentum", "zero_init", "coarsest")

    channels: int = 0
    """Channels of an image. 0: from the task."""
    outputs: int = 0
    """Classes. 0: from the task; where it has none, the model returns the pooled features."""
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    """Blocks of each stage. All stages but the first begin with stride 2. (): chosen by the recipe's defaults, as are a
    stem and widths that are left open."""
    widths: tuple[int, ...] = (64, 128, 256, 512)
    """Channels that each stage returns."""
    block: Literal["basic", "bottleneck"] = "basic"
    """Two 3x3 convolutions, or 1x1, 3x3 and 1x1 with a quarter of the channels between them."""
    inner: tuple[int, ...] = ()
    """Channels between the convolutions of a block, of each stage. (): as many as it returns, or a quarter."""
    stem_width: int = 64
    """Channels after the first convolution."""
    stem_kernel: int = 7
    """Side of the first convolution's kernel: 7 for ImageNet, 3 for small images."""
    stem_stride: int = 2
    """Stride of the first convolution; 1 for small images."""
    stem_pool: bool | None = True
    """Max pooling, 3x3 with stride 2, after the first convolution. None: left open."""
    shortcut: Literal["projection", "padding", "padding_around"] = "projection"
    """Where a block changes the shape: a 1x1 convolution beside it (option B), or zero channels added (option A):
    after its own, or half of them before and half after, as in the published CIFAR networks."""
    stride_in: Literal["3x3", "1x1"] = "3x3"
    """Which convolution of a bottleneck has the stride."""
    norm: Literal["batch", "group"] = "batch"
    """Batch normalisation, or group normalisation, which doesn't depend on the batch."""
    groups: int = 32
    """Groups of group normalisation; they divide every width."""
    momentum: float = 0.1
    """Share of a batch's statistics in the running ones."""
    epsilon: float = 1e-5
    """Added to variances."""
    activation: Activation = "relu"
    """Function after the first convolution and after each sum. Between the convolutions of a block it is ReLU."""
    zero_init: bool = True
    """Start the last norm of each block at zero, so that the block is the identity at first."""
    dropout: float = 0.0
    """Fraction of the pooled features that training drops."""
    coarsest: int = 0
    """Stride of the coarsest feature maps that are built, where feature maps alone are wanted, as by a detector: deeper
    stages, what follows them and the head are left out. 0: everything is built."""

    def __post_init__(self):
        check_sizes(self, 0, "channels", "outputs", "coarsest", "stem_width", "stem_kernel", "stem_stride")
        check_choices(self, _CHOICES)
        check_fractions(self, "dropout")
        if self.blocks and self.widths and len(self.blocks) != len(self.widths):
            stated = f"blocks {self.blocks}, widths {self.widths}"
            raise InputError("field model.widths", "needs one width for each stage that blocks names", found=stated)
        if min(sizes := (*self.blocks, *self.widths), default=1) < 1:
            raise InputError("field model", "sizes must be at least 1", found=str(sizes))
        if self.inner and (len(self.inner) != len(self.blocks) or min(self.inner) < 1):
            stated = f"blocks {self.blocks}, inner {self.inner}"
            raise InputError("field model.inner", "needs one width of at least 1 for each stage", found=stated)
        if self.block == "bottleneck" and any(width % _NARROWING for width in self.widths):
            raise InputError(
                "field model.widths", f"bottlenecks need multiples of {_NARROWING}", found=str(self.widths)
            )
        self._check_coarsest()
        if self.norm == "group" and any(width % self.groups for width in self._normed()):
            raise InputError(
                "field model.groups",
                "must divide every width that is normalised",
                found=f"{self.groups} groups of {sorted(set(self._normed()))}",
            )

    @property
    def stage_strides(self) -> tuple[int, ...]:
        first = self.stem_stride * (2 if self.stem_pool else 1)
        return cumulative_strides(first, [2 if place else 1 for place in range(len(self.blocks))])

    @property
    def between(self) -> tuple[int, ...]:
        """Channels between the convolutions of a block, of each stage."""
        share = _NARROWING if self.block == "bottleneck" else 1
        return self.inner or tuple(width // share for width in self.widths)

    def _normed(self) -> list[int]:
        return [self.stem_width, *self.widths, *self.between]

    def build(self, *, rngs: nnx.Rngs) -> "ResNet":
        check_given(self, "channels", "blocks", "widths", "stem_width", "stem_kernel", "stem_stride")
        return ResNet(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING if self.outputs else SHARDING[:1]  # a rule that matches nothing is an error

    @property
    def vector_sizes(self) -> dict[str, int]:
        return {"inputs": self.widths[-1]}

    def layer_of(self, path: str) -> int:
        """0 the stem, 1 to ``sum(blocks)`` the blocks, and then the head."""
        match = re.search(r"stages\W(\d+)\W(\d+)", path)
        if match:
            return sum(self.blocks[: int(match[1])]) + int(match[2]) + 1
        return 0 if re.match(r"stem", path) else self.depth

    @property
    def depth(self) -> int:
        return sum(self.blocks[: self.built]) + 1

    @property
    def prunable(self) -> tuple[Units, ...]:
        # Channels that are normalised in groups know of each other.
        return PRUNING if self.norm == "batch" else ()


def _made(changes: Mapping[str, Any], **fields: Any) -> Config:
    return Config(**{**fields, **changes})


def resnet18(**changes: Any) -> Config:
    """11.7 M parameters with 1,000 outputs."""
    return _made(changes, blocks=(2, 2, 2, 2))


def resnet34(**changes: Any) -> Config:
    """21.8 M parameters with 1,000 outputs."""
    return _made(changes, blocks=(3, 4, 6, 3))


def _bottlenecks(blocks: tuple[int, ...], changes: Mapping[str, Any]) -> Config:
    return _made(changes, blocks=blocks, widths=(256, 512, 1024, 2048), block="bottleneck")


def resnet50(**changes: Any) -> Config:
    """25.6 M parameters with 1,000 outputs."""
    return _bottlenecks((3, 4, 6, 3), changes)


def resnet101(**changes: Any) -> Config:
    """44.5 M parameters with 1,000 outputs."""
    return _bottlenecks((3, 4, 23, 3), changes)


def resnet152(**changes: Any) -> Config:
    """60.2 M parameters with 1,000 outputs."""
    return _bottlenecks((3, 8, 36, 3), changes)


def small(**changes: Any) -> Config:
    """`resnet18` for images of some 32 pixels: 3x3 stem, no early reduction."""
    return resnet18(**{"stem_kernel": 3, "stem_stride": 1, "stem_pool": False, **changes})


def _cifar(n: int, changes: Mapping[str, Any]) -> Config:
    return small(**{"blocks": (n, n, n), "widths": (16, 32, 64), "stem_width": 16, "shortcut": "padding", **changes})


def cifar20(**changes: Any) -> Config:
    """The paper's network of 6n + 2 layers for CIFAR-10 with n = 3: 0.27 M parameters."""
    return _cifar(3, changes)


def cifar32(**changes: Any) -> Config:
    """n = 5: 0.46 M parameters."""
    return _cifar(5, changes)


def cifar56(**changes: Any) -> Config:
    """n = 9: 0.85 M parameters."""
    return _cifar(9, changes)


def _published_cifar(n: int, changes: Mapping[str, Any]) -> Config:
    return _cifar(n, {"shortcut": "padding_around", **changes})


def resnet20(**changes: Any) -> Config:
    """`cifar20` as its weights are published: half of the added channels before the block's own, half after."""
    return _published_cifar(3, changes)


def resnet32(**changes: Any) -> Config:
    """n = 5."""
    return _published_cifar(5, changes)


def resnet44(**changes: Any) -> Config:
    """n = 7: 0.66 M parameters."""
    return _published_cifar(7, changes)


def resnet56(**changes: Any) -> Config:
    """n = 9."""
    return _published_cifar(9, changes)


def resnet110(**changes: Any) -> Config:
    """n = 18: 1.7 M parameters."""
    return _published_cifar(18, changes)


def _norm(config: Config, channels: int, scale: float = 1.0) -> BatchNorm | GroupNorm:
    if config.norm == "group":
        return GroupNorm(channels, groups=config.groups, scale=scale, epsilon=config.epsilon)
    return BatchNorm(channels, scale=scale, momentum=config.momentum, epsilon=config.epsilon)


def _conv_norm(
    config: Config, inputs: int, outputs: int, size: int, stride: int = 1, scale: float = 1.0, *, rngs: nnx.Rngs
) -> ConvNorm:
    conv = Conv(inputs, outputs, size, stride=stride, narrow=True, rngs=rngs)
    return ConvNorm(conv, _norm(config, outputs, scale))


class Block(nnx.Module):
    """Convolutions with ReLU between them, added to their input, and an activation of the sum.

    Attributes:
        layers: two or three `ConvNorm`s.
        shortcut: the projection of the input, or None where it needs none or is padded.
    """

    def __init__(self, config: Config, inputs: int, inner: int, outputs: int, stride: int, *, rngs: nnx.Rngs):
        last = 0.0 if config.zero_init else 1.0
        if config.block == "basic":
            plan = [(inputs, inner, 3, stride, 1.0), (inner, outputs, 3, 1, last)]
        else:
            first, middle = (stride, 1) if config.stride_in == "1x1" else (1, stride)
            plan = [(inputs, inner, 1, first, 1.0), (inner, inner, 3, middle, 1.0), (inner, outputs, 1, 1, last)]
        self.layers = nnx.List([_conv_norm(config, *row, rngs=rngs) for row in plan])
        projected = config.shortcut == "projection" and (stride > 1 or inputs != outputs)
        self.shortcut = _conv_norm(config, inputs, outputs, 1, stride, rngs=rngs) if projected else None
        self.stride, self.added = stride, outputs - inputs
        self.activation = config.activation
        self.before = self.added // 2 if config.shortcut == "padding_around" and self.added > 0 else 0

    def __call__(
        self, x: Float[Array, "b h w i"], rows: Bool[Array, "b"] | None, training: bool
    ) -> Float[Array, "b y x o"]:
        y = x
        for layer in self.layers[:-1]:
            y = edge(layer(y, rows, training, then="relu"))
        return self.layers[-1](y, rows, training, self._beside(x, rows, training), self.activation)

    def _beside(self, x: Float[Array, "b h w i"], rows: Bool[Array, "b"] | None, training: bool) -> Array:
        if self.shortcut is not None:
            return self.shortcut(x, rows, training)
        x = x[:, :: self.stride, :: self.stride] if self.stride > 1 else x
        # Narrower than its input, a padded block keeps the first channels.
        if self.added <= 0:
            return x[..., : x.shape[3] + self.added]
        return jnp.pad(x, ((0, 0),) * 3 + ((self.before, self.added - self.before),))


class ResNet(nnx.Module):
    """Stem, stages of blocks, mean over places, linear head.

    Attributes:
        stem: the first convolution and its norm.
        stages: lists of `Block`.
        head: (d, n), or None where the model has no outputs of its own.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.stem = _conv_norm(
            config, config.channels, config.stem_width, config.stem_kernel, config.stem_stride, rngs=rngs
        )
        stages, width = [], config.stem_width
        sizes = zip(config.blocks, config.between, config.widths, strict=True)
        for place, (count, inner, outputs) in enumerate(islice(sizes, config.built)):
            blocks = []
            for step in range(count):
                blocks.append(Block(config, width, inner, outputs, 2 if place and not step else 1, rngs=rngs))
                width = outputs
            stages.append(nnx.List(blocks))
        self.stages = nnx.List(stages)
        self.dropout = Dropout(config.dropout)
        self.head = Linear(width, config.outputs, rngs=rngs) if config.outputs else None
        self.pooled = config.stem_pool
        self.strides = config.stage_strides
        self.activation = config.activation

    def features(
        self, images: Float[Array, "b h w c"], rows: Bool[Array, "b"] | None = None, *, training: bool = False
    ) -> Float[Array, "b y x d"]:
        """The last stage's feature maps."""
        *_, x = self._stages(self._start(images, rows, training), rows, training)
        return x

    def maps(
        self, images: Float[Array, "b h w c"], rows: Bool[Array, "b"] | None = None, *, training: bool = False
    ) -> dict[int, Float[Array, "b y x o"]]:
        """Stride -> feature maps, finest first; see `Config.maps`. Norms use the batch's statistics in training."""
        return by_stride(self.strides, self._stages(self._start(images, rows, training), rows, training))

    def _start(self, images: Float[Array, "b h w c"], rows: Bool[Array, "b"] | None, training: bool) -> Array:
        x = self.stem(images, rows, training, then=self.activation)
        return max_pool(x, 3, 2, 1) if self.pooled else x

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


SHARDING = ((r"conv\Wkernel$", P(None, None, "fsdp", "tensor")), (r"head\Wkernel$", P("fsdp", "tensor")))


def _narrower(config: Config, count: int, stage: int) -> Config:
    """With ``count`` channels between the convolutions of the blocks of a stage."""
    return replace(config, inner=(*config.between[:stage], count, *config.between[stage + 1 :]))


def _between(first: int) -> Units:
    """The channels that convolution ``first`` of a block makes and the next one uses."""
    making, used = (f"stages/{{i}}/{{j}}/layers/{place}" for place in (first, first + 1))
    norm = tuple((f"{making}/norm/{part}", 0) for part in ("scale", "bias", "mean", "variance"))
    return Units(
        kind="channels",
        field="inner",
        made=((f"{making}/conv/kernel", 3), *norm),
        used=((f"{used}/conv/kernel", 2),),
        fewer=_narrower,
    )


PRUNING = (_between(0), _between(1))
"""The second is that of a bottleneck: a basic block has no third convolution to use its channels."""

_CLASSIC = {"blocks": "layers", "widths": "channels", "channels": "in_chans"}
"""Our fields as arguments of timm's model."""
_NAMED = {
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "resnet152": resnet152,
}
_CIFAR = {
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet44": resnet44,
    "resnet56": resnet56,
    "resnet110": resnet110,
}


def _classic_stage(stage: int) -> tuple[Rule, ...]:
    """torchvision and timm count stages and convolutions from 1."""
    theirs, ours = f"layer{stage}.{{i}}", f"stages/{stage - 1}/{{i}}"
    convs = [conv_norm(f"{theirs}.conv{n}", f"{theirs}.bn{n}", f"{ours}/layers/{n - 1}") for n in (1, 2, 3)]
    beside = conv_norm(f"{theirs}.downsample.0", f"{theirs}.downsample.1", f"{ours}/shortcut")
    return (*(rule for rules in convs for rule in rules), *beside)


def _refuse(config: Config, **needed: Any) -> None:
    """What no published ResNet has."""
    needed = {
        "norm": "batch",
        "shortcut": "projection",
        "stem_kernel": 7,
        "stem_stride": 2,
        "stem_pool": True,
        "epsilon": 1e-5,
        **needed,
    }
    wrong = [
        f"{name} {getattr(config, name)}, not {value}"
        for name, value in needed.items()
        if getattr(config, name) != value
    ]
    if config.between != replace(config, inner=()).between:
        wrong.append(f"inner {config.inner}")
    if wrong:
        raise InputError("the model", f"has {', '.join(wrong)}.")


def _read(published: Mapping[str, Any]) -> Config:
    """Hugging Face's ``resnet``."""
    if published.get("downsample_in_first_stage"):
        raise InputError("config.json, downsample_in_first_stage", '"True" is not there.', fix='"False"')
    missing = [name for name in ("depths", "hidden_sizes", "embedding_size") if name not in published]
    if missing:
        raise InputError("config.json", f"does not state {', '.join(missing)}.", fix="the one that was published")
    return Config(
        channels=published.get("num_channels", 3),
        outputs=published_classes(published),
        blocks=tuple(published["depths"]),
        widths=tuple(published["hidden_sizes"]),
        stem_width=published["embedding_size"],
        block=published.get("layer_type", "bottleneck"),
        stride_in="1x1" if published.get("downsample_in_bottleneck") else "3x3",
        activation=published_activation(published, "hidden_act", "relu"),  # type: ignore[arg-type]
    )


def _publish(config: Config) -> dict[str, Any]:
    _refuse(config)
    labels = {str(i): f"LABEL_{i}" for i in range(config.outputs)}
    return {
        "model_type": "resnet",
        "architectures": ["ResNetForImageClassification" if labels else "ResNetModel"],
        "num_channels": config.channels,
        "embedding_size": config.stem_width,
        "hidden_sizes": list(config.widths),
        "depths": list(config.blocks),
        "layer_type": config.block,
        "hidden_act": published_name(config.activation),
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": config.stride_in == "1x1",
        "id2label": labels,
        "label2id": {name: int(i) for i, name in labels.items()},
    }


def _read_classic(published: Mapping[str, Any]) -> Config:
    """timm's config.json, which a folder of torchvision's weights needs too: ``{"architecture": "resnet50"}``."""
    name = str(published.get("architecture", "")).partition(".")[0]
    if name not in _NAMED:
        raise InputError("config.json, architecture", f'"{name}" is not there.', fix=", ".join(_NAMED))
    said = published.get("model_args") or {}
    changes: dict[str, Any] = {
        ours: tuple(said[theirs]) if isinstance(said[theirs], list) else said[theirs]
        for ours, theirs in _CLASSIC.items()
        if theirs in said
    }
    config = _NAMED[name](**{"channels": 3, "outputs": published.get("num_classes", 1000)})
    if config.block == "bottleneck" and "widths" in changes:  # timm states what is between
        changes["widths"] = tuple(_NARROWING * width for width in changes["widths"])
    return replace(config, **changes)


def _publish_classic(config: Config) -> dict[str, Any]:
    _refuse(config, stride_in="3x3", stem_width=64, activation="relu")
    alike = [name for name, make in _NAMED.items() if make().block == config.block]
    name = next((name for name in alike if _NAMED[name]().blocks == config.blocks), alike[0])
    inner = _NARROWING if config.block == "bottleneck" else 1
    given = {
        "layers": list(config.blocks),
        "channels": [width // inner for width in config.widths],
        "in_chans": config.channels,
    }
    return {"architecture": name, "num_classes": config.outputs, "model_args": given}


def _is_classic(published: Mapping[str, Any], names: Sequence[str]) -> bool:
    return "model_type" not in published and "layer1.0.conv1.weight" in names and not _is_cifar(published, names)


def _read_cifar(published: Mapping[str, Any]) -> Config:
    """The config.json that a folder of CIFAR weights needs: ``{"architecture": "resnet20", "num_classes": 10}``."""
    name = str(published.get("architecture", "")).partition(".")[0]
    if name not in _CIFAR:
        raise InputError("config.json, architecture", f'"{name}" is not there.', fix=", ".join(_CIFAR))
    return _CIFAR[name](channels=published.get("in_chans", 3), outputs=published.get("num_classes", 10))


def _publish_cifar(config: Config) -> dict[str, Any]:
    needed = _CIFAR["resnet20"]()
    same = ("widths", "stem_width", "stem_kernel", "stem_stride", "stem_pool", "shortcut", "activation", "inner")
    _refuse(config, **{name: getattr(needed, name) for name in same}, block="basic")
    name = next((name for name, make in _CIFAR.items() if make().blocks == config.blocks), "")
    if not name:
        raise InputError("the model", f"has blocks {config.blocks}, for which the published networks have no name.")
    return {"architecture": name, "num_classes": config.outputs, "in_chans": config.channels}


def _is_cifar(published: Mapping[str, Any], names: Sequence[str]) -> bool:
    plain = {name.removeprefix("module.") for name in names}
    headed = "linear.weight" in plain or published.get("architecture") in _CIFAR  # without a head, the name tells
    return "model_type" not in published and headed and "layer1.0.conv1.weight" in plain


IMPORTS: dict[str, Map] = {
    "resnet": Map(
        rules=(
            *conv_norm("embedder.embedder.convolution", "embedder.embedder.normalization", "stem"),
            *conv_norm(
                "encoder.stages.{i}.layers.{j}.layer.{k}.convolution",
                "encoder.stages.{i}.layers.{j}.layer.{k}.normalization",
                "stages/{i}/{j}/layers/{k}",
            ),
            *conv_norm(
                "encoder.stages.{i}.layers.{j}.shortcut.convolution",
                "encoder.stages.{i}.layers.{j}.shortcut.normalization",
                "stages/{i}/{j}/shortcut",
            ),
            *linear("classifier.1", "head", bare=True),
        ),
        config=_read,
        publish=_publish,
        skip=(r"num_batches_tracked$",),
        prefixes=("resnet.", ""),
        fresh=(r"^head/",),
    ),
    "resnet-classic": Map(
        rules=(
            *conv_norm("conv1", "bn1", "stem"),
            *(rule for stage in (1, 2, 3, 4) for rule in _classic_stage(stage)),
            *linear("fc", "head"),
        ),
        config=_read_classic,
        publish=_publish_classic,
        skip=(r"num_batches_tracked$",),
        fresh=(r"^head/",),
        recognise=_is_classic,
    ),
    "resnet-cifar": Map(
        rules=(
            *conv_norm("conv1", "bn1", "stem"),
            *(rule for stage in (1, 2, 3) for rule in _classic_stage(stage)),
            *linear("linear", "head"),
        ),
        config=_read_cifar,
        publish=_publish_cifar,
        skip=(r"num_batches_tracked$",),
        prefixes=("", "module."),
        fresh=(r"^head/",),
        recognise=_is_cifar,
    ),
}
"""Hugging Face's ``model_type`` and, recognised by their tensors, torchvision's and timm's weights and those of
the paper's CIFAR networks (`akamaster/pytorch_resnet_cifar10 <https://github.com/akamaster/pytorch_resnet_cifar10>`_)."""
