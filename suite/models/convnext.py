"""ConvNeXt (`Liu et al., 2022 <https://arxiv.org/abs/2201.03545>`_): a convolutional network in the form of a
transformer, with depthwise 7x7 convolutions in the place of attention.

Dims: b images, h w height and width, c channels, d width of a stage, n outputs.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

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
from suite.nn import Activation, Dropout, FeedForward, LayerNorm, Linear
from suite.nn.conv import Conv
from suite.parallel.layout import edge
from suite.weights.imports import CONV2D, Map, Rule, linear, norm

_KERNEL = 7
_WIDER = 4
"""How much wider a block is inside."""
_EPSILON = 1e-6
"""Of all norms but the last."""
_MOST_STAGES = 8


@dataclass(frozen=True, kw_only=True)
class Config(PictureConfig):
    """A ConvNeXt with a linear classifier. `tiny`, `small`, `base` and `large` make the published ones."""

    after: ClassVar[tuple[str, ...]] = ("norm",)

    channels: int = 0
    """Channels of an image. 0: from the task."""
    outputs: int = 0
    """Classes. 0: from the task; where it has none, the model returns the normed, pooled features."""
    blocks: tuple[int, ...] = (3, 3, 9, 3)
    """Blocks of each stage."""
    widths: tuple[int, ...] = (96, 192, 384, 768)
    """Channels of each stage. All stages but the first begin with a convolution that halves height and width."""
    patch: int = 4
    """Side and stride of the first convolution."""
    activation: Activation = "gelu"
    """Function inside the blocks."""
    layer_scale: float = 1e-6
    """What the factors on what a block adds begin at."""
    epsilon: float = 1e-6
    """Added to variances of the last norm. Hugging Face: 1e-12."""
    dropout: float = 0.0
    """Fraction of the pooled features that training drops."""
    coarsest: int = 0
    """Stride of the coarsest feature maps that are built, where feature maps alone are wanted, as by a detector: deeper
    stages, what follows them and the head are left out. 0: everything is built."""

    def __post_init__(self):
        check_sizes(self, 0, "channels", "outputs", "coarsest")
        check_sizes(self, 1, "patch")
        check_choices(self, {"activation": PLAIN})
        check_fractions(self, "dropout")
        stated = f"blocks {self.blocks}, widths {self.widths}"
        if len(self.blocks) != len(self.widths) or min((*self.blocks, *self.widths), default=0) < 1:
            raise InputError("field model.widths", "needs one width of at least 1 for each stage", found=stated)
        if len(self.blocks) > _MOST_STAGES:
            raise InputError("field model.blocks", f"has more than {_MOST_STAGES} stages", found=stated)
        self._check_coarsest()

    def build(self, *, rngs: nnx.Rngs) -> "ConvNeXt":
        check_given(self, "channels")
        return ConvNeXt(self, rngs=rngs)

    @property
    def vector_sizes(self) -> dict[str, int]:
        return {"inputs": self.widths[-1]}

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING if self.outputs else SHARDING[:-1]  # a rule that matches nothing is an error

    @property
    def stage_strides(self) -> tuple[int, ...]:
        return cumulative_strides(self.patch, [2 if place else 1 for place in range(len(self.blocks))])

    def _stage_path(self, place: int) -> str:
        return f"stages/{place}|halvings/{place - 1}"

    def layer_of(self, path: str) -> int:
        """0 the first convolution, 1 to ``sum(blocks)`` the blocks, each stage's first with what halves its input, and
        then the last norm and the head."""
        block = re.search(r"stages\W(\d+)\W(\d+)", path)
        if block:
            return sum(self.blocks[: int(block[1])]) + int(block[2]) + 1
        halving = re.search(r"halvings\W(\d+)", path)
        if halving:
            return sum(self.blocks[: int(halving[1]) + 1]) + 1
        return 0 if path.startswith("stem") else self.depth

    @property
    def depth(self) -> int:
        return sum(self.blocks[: self.built]) + 1

    @property
    def prunable(self) -> tuple[Units, ...]:
        return ()


def tiny(**changes: Any) -> Config:
    """28.6 M parameters with 1,000 outputs."""
    return Config(**changes)


def small(**changes: Any) -> Config:
    """50.2 M parameters."""
    return Config(**{"blocks": (3, 3, 27, 3), **changes})


def base(**changes: Any) -> Config:
    """88.6 M parameters."""
    return small(**{"widths": (128, 256, 512, 1024), **changes})


def large(**changes: Any) -> Config:
    """197.8 M parameters."""
    return small(**{"widths": (192, 384, 768, 1536), **changes})


class Block(nnx.Module):
    """A depthwise convolution, a norm and a feed-forward layer, scaled a channel and added to their input.

    Attributes:
        depthwise: the convolution of each channel.
        norm: over the channels of a place.
        mlp: widens and narrows.
        scale: (d,).
    """

    def __init__(self, config: Config, width: int, *, rngs: nnx.Rngs):
        self.depthwise = Conv(width, width, _KERNEL, groups=width, use_bias=True, rngs=rngs)
        self.norm = LayerNorm(width, epsilon=_EPSILON)
        self.mlp = FeedForward(width, _WIDER * width, config.activation, rngs=rngs)
        self.scale = nnx.Param(jnp.full((width,), config.layer_scale, jnp.float32))

    def __call__(self, x: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
        return x + self.mlp(self.norm(self.depthwise(x))) * self.scale[...]


class Halving(nnx.Module):
    """A norm, and a convolution that halves height and width.

    Attributes:
        norm, conv: see there.
    """

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.norm = LayerNorm(inputs, epsilon=_EPSILON)
        self.conv = Conv(inputs, outputs, 2, stride=2, padding=0, use_bias=True, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b y x o"]:
        return self.conv(self.norm(x))


class ConvNeXt(nnx.Module):
    """Patches, stages of blocks, mean over places, norm, linear head.

    Attributes:
        stem: the projection of patches.
        stem_norm: after it.
        halvings: before each stage but the first.
        stages: lists of `Block`.
        norm: of the pooled features; None where deeper stages are left out.
        head: (d, n), or None where the model has no outputs of its own.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        widths, patch = config.widths[: config.built], config.patch
        self.stem = Conv(config.channels, widths[0], patch, stride=patch, padding=0, use_bias=True, rngs=rngs)
        self.stem_norm = LayerNorm(widths[0], epsilon=_EPSILON)
        self.halvings = nnx.List([Halving(i, o, rngs=rngs) for i, o in zip(widths, widths[1:], strict=False)])
        self.stages = nnx.List(
            [
                nnx.List([Block(config, width, rngs=rngs) for _ in range(count)])
                for count, width in zip(config.blocks, widths, strict=False)
            ]
        )
        self.norm = None if config.coarsest else LayerNorm(widths[-1], epsilon=config.epsilon)
        self.strides = config.stage_strides
        self.dropout = Dropout(config.dropout)
        self.head = Linear(widths[-1], config.outputs, rngs=rngs) if config.outputs else None

    def features(self, images: Float[Array, "b h w c"]) -> Float[Array, "b y x d"]:
        """The last stage's feature maps."""
        *_, x = self._stages(images)
        return x

    def maps(
        self, images: Float[Array, "b h w c"], rows: Bool[Array, "b"] | None = None, *, training: bool = False
    ) -> dict[int, Float[Array, "b y x o"]]:
        """Stride -> feature maps, finest first; see `Config.maps`. Neither ``rows`` nor ``training`` changes any."""
        del rows, training
        return by_stride(self.strides, self._stages(images))

    def _stages(self, images: Float[Array, "b h w c"]) -> Iterator[Array]:
        """The feature maps that each stage returns."""
        x = self.stem_norm(self.stem(images))
        for place, stage in enumerate(self.stages):
            x = self.halvings[place - 1](x) if place else x
            for block in stage:
                x = block(edge(x))
            yield x

    def __call__(
        self, images: Float[Array, "b h w c"], *, rows: Bool[Array, "b"] | None = None, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b n"]:
        """Logits of each image, or its normed, pooled features (b, d) where there is no head.

        Dropout acts only where ``rngs`` is given. No image depends on other ``rows``.
        """
        del rows
        x = self.features(images).mean((1, 2), dtype=jnp.float32)
        x = x if self.norm is None else self.norm(x)
        return x if self.head is None else self.head(edge(self.dropout(x, rngs)))


SHARDING = (
    (r"(depthwise|stem)\Wkernel$", P(None, None, None, "tensor")),
    (r"up\Wkernel$", P("fsdp", "tensor")),
    (r"up\Wbias$", P("tensor")),
    (r"down\Wkernel$", P("tensor", "fsdp")),
    (r"head\Wkernel$", P("fsdp", "tensor")),
)

_NAMED = {"tiny": tiny, "small": small, "base": base, "large": large}
_SIZES = {"channels": "num_channels", "widths": "hidden_sizes", "blocks": "depths", "patch": "patch_size"}
_REST = {"epsilon": "layer_norm_eps", "layer_scale": "layer_scale_init_value"}


def _read(published: Mapping[str, Any]) -> Config:
    """Hugging Face's ``convnext``."""
    missing = [theirs for theirs in ("hidden_sizes", "depths") if theirs not in published]
    if missing:
        raise InputError("config.json", f"does not state {', '.join(missing)}.", fix="the one that was published")
    stated = {ours: published[theirs] for ours, theirs in (_SIZES | _REST).items() if theirs in published}
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stated.items()}
    usual: dict[str, Any] = {"channels": 3, "epsilon": 1e-12}
    return Config(
        **(usual | values),
        activation=published_activation(published, "hidden_act"),  # type: ignore[arg-type]
        outputs=published_classes(published),
    )


def _publish(config: Config) -> dict[str, Any]:
    labels = {str(i): f"LABEL_{i}" for i in range(config.outputs)}
    values = {theirs: getattr(config, ours) for ours, theirs in (_SIZES | _REST).items()}
    return {
        "model_type": "convnext",
        "architectures": ["ConvNextForImageClassification" if labels else "ConvNextModel"],
        **{name: list(value) if isinstance(value, tuple) else value for name, value in values.items()},
        "num_stages": len(config.blocks),
        "hidden_act": published_name(config.activation),
        "id2label": labels,
        "label2id": {name: int(i) for i, name in labels.items()},
    }


def _read_timm(published: Mapping[str, Any]) -> Config:
    """timm's config.json: ``{"architecture": "convnext_tiny", "num_classes": 1000}``."""
    name = str(published.get("architecture", "")).partition(".")[0]
    size = name.removeprefix("convnext_")
    if size == name or size not in _NAMED:
        known = ", ".join(f"convnext_{size}" for size in _NAMED)
        raise InputError("config.json, architecture", f'"{name}" is not there.', fix=known)
    said = published.get("model_args") or {}
    names = {"channels": "in_chans", "blocks": "depths", "widths": "dims"}
    stated = {ours: said[theirs] for ours, theirs in names.items() if theirs in said}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in stated.items()}
    return _NAMED[size](**{"channels": 3, **values}, outputs=published.get("num_classes", 1000))


def _publish_timm(config: Config) -> dict[str, Any]:
    if (config.activation, config.epsilon, config.patch) != ("gelu", _EPSILON, 4):
        found = f"activation {config.activation}, epsilon {config.epsilon}, patch {config.patch}"
        raise InputError("the model", "is not one of timm's.", found=found)
    given = {"in_chans": config.channels, "depths": list(config.blocks), "dims": list(config.widths)}
    return {"architecture": "convnext_tiny", "num_classes": config.outputs, "model_args": given}


def _conv(theirs: str, ours: str) -> tuple[Rule, ...]:
    return Rule(f"{theirs}.weight", f"{ours}/kernel", CONV2D), Rule(f"{theirs}.bias", f"{ours}/bias")


def _halvings(theirs: str) -> tuple[Rule, ...]:
    """The rules of what halves the input of stages, which are counted from 0."""
    return tuple(
        rule
        for stage in range(1, _MOST_STAGES)
        for rule in (
            *norm(f"{theirs.format(stage)}.0", f"halvings/{stage - 1}/norm"),
            *_conv(f"{theirs.format(stage)}.1", f"halvings/{stage - 1}/conv"),
        )
    )


def _is_timm(published: Mapping[str, Any], names: Sequence[str]) -> bool:
    return "model_type" not in published and {"stem.0.weight", "stages.0.blocks.0.conv_dw.weight"} <= {*names}


IMPORTS: dict[str, Map] = {
    "convnext": Map(
        rules=(
            *_conv("embeddings.patch_embeddings", "stem"),
            *norm("embeddings.layernorm", "stem_norm"),
            *_halvings("encoder.stages.{}.downsampling_layer"),
            *_conv("encoder.stages.{i}.layers.{j}.dwconv", "stages/{i}/{j}/depthwise"),
            *norm("encoder.stages.{i}.layers.{j}.layernorm", "stages/{i}/{j}/norm"),
            *linear("encoder.stages.{i}.layers.{j}.pwconv1", "stages/{i}/{j}/mlp/up"),
            *linear("encoder.stages.{i}.layers.{j}.pwconv2", "stages/{i}/{j}/mlp/down"),
            Rule("encoder.stages.{i}.layers.{j}.layer_scale_parameter", "stages/{i}/{j}/scale"),
            *norm("layernorm", "norm"),
            *linear("classifier", "head", bare=True),
        ),
        config=_read,
        publish=_publish,
        prefixes=("convnext.", ""),
        fresh=(r"^head/",),
    ),
    "convnext-timm": Map(
        rules=(
            *_conv("stem.0", "stem"),
            *norm("stem.1", "stem_norm"),
            *_halvings("stages.{}.downsample"),
            *_conv("stages.{i}.blocks.{j}.conv_dw", "stages/{i}/{j}/depthwise"),
            *norm("stages.{i}.blocks.{j}.norm", "stages/{i}/{j}/norm"),
            *linear("stages.{i}.blocks.{j}.mlp.fc1", "stages/{i}/{j}/mlp/up"),
            *linear("stages.{i}.blocks.{j}.mlp.fc2", "stages/{i}/{j}/mlp/down"),
            Rule("stages.{i}.blocks.{j}.gamma", "stages/{i}/{j}/scale"),
            *norm("head.norm", "norm"),
            *linear("head.fc", "head"),
        ),
        config=_read_timm,
        publish=_publish_timm,
        fresh=(r"^head/",),
        recognise=_is_timm,
    ),
}
"""Hugging Face's ``model_type`` and, recognised by their tensors, timm's weights."""
