"""Vision transformer (`Dosovitskiy et al., 2020 <https://arxiv.org/abs/2010.11929>`_): patches as tokens.

A class token before the patches, learned places, norms before the sublayers; the classifier sees the class token.

Dims: b images, h w height and width, c channels, p side of a patch, t tokens (patches and the class token), d size of a
token's vector, n outputs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.units import Units
from suite.errors import InputError
from suite.models.activations import PLAIN, published_activation, published_name
from suite.models.blocks import BlockConfig, check_published_heads, published_classes
from suite.models.checks import check_choices, check_given, check_sizes
from suite.models.pictures import PictureConfig
from suite.nn import Activation, Dropout, FeedForward, LayerNorm, Linear, SelfAttention
from suite.nn.conv import Conv
from suite.parallel.layout import edge
from suite.surgery.units import feed_forward, heads
from suite.weights.imports import CONV2D, TRANSPOSED, Map, Rule, Split, linear, norm


@dataclass(frozen=True, kw_only=True)
class Config(PictureConfig, BlockConfig):  # type: ignore[misc]  # it adopts any family of images
    """A vision transformer with a linear classifier. `tiny`, `small`, `base` and `large` make the published ones."""

    size: ClassVar[str] = "hidden"
    own: ClassVar[tuple[str, ...]] = ("outputs", "dropout", "attention_dropout")

    height: int = 0
    """Rows of an image; patches divide them. 0: from the task."""
    width: int = 0
    """Columns of an image; patches divide them. 0: from the task."""
    channels: int = 0
    """Channels of an image. 0: from the task."""
    outputs: int = 0
    """Classes. 0: from the task."""
    patch: int = 16
    """Side of a patch, in pixels."""
    layers: int = 12
    """Blocks of attention and feed-forward."""
    hidden: int = 768
    """Size of a token's vector."""
    heads: int = 12
    """Attention heads; they divide ``hidden`` unless head_width is set."""
    head_width: int = 0
    """Size of a head. 0: hidden / heads."""
    feed_forward: int = 0
    """Size inside the feed-forward layer. 0: four times ``hidden``."""
    activation: Activation = "gelu"
    """Function inside the feed-forward layer."""
    dropout: float = 0.0
    """Fraction of embeddings and sublayer outputs that training drops."""
    attention_dropout: float = 0.0
    """Fraction of attention weights that training drops."""
    epsilon: float = 1e-6
    """Added to variances. Hugging Face: 1e-12."""

    def __post_init__(self):
        check_sizes(self, 0, "height", "width", "channels", "outputs", "head_width", "feed_forward", "layers")
        check_sizes(self, 1, "patch", "hidden", "heads")
        check_choices(self, {"activation": PLAIN})
        self._check_blocks()
        if self.height % self.patch or self.width % self.patch:
            sides = [
                side
                for side in range(1, min(self.height, self.width) + 1)
                if not self.height % side and not self.width % side
            ]
            raise InputError(
                "field model.patch",
                "must divide height and width of the images",
                found=f"patch {self.patch}, images {self.width} wide, {self.height} high",
                fix=f"one of {', '.join(map(str, sides))}",
            )

    def build(self, *, rngs: nnx.Rngs) -> "ViT":
        check_given(self, "height", "width", "channels")
        return ViT(self, rngs=rngs)

    @property
    def tokens(self) -> int:
        """Patches of an image, and the class token."""
        return (self.height // self.patch) * (self.width // self.patch) + 1

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        # A rule that matches nothing is an error, and all but the first are about blocks.
        return SHARDING if self.layers else SHARDING[:1]

    @property
    def vector_sizes(self) -> dict[str, int]:
        sizes = ("patch", "height", "width", "channels")
        return {"inputs": self.hidden, **{name: getattr(self, name) for name in sizes}}

    def below(self, path: str) -> bool:
        return re.search(r"patches|embedding", path) is not None

    @property
    def prunable(self) -> tuple[Units, ...]:
        return PRUNING


def _made(changes: Mapping[str, Any], hidden: int, layers: int, heads: int) -> Config:
    return Config(**{"hidden": hidden, "layers": layers, "heads": heads, **changes})


def tiny(**changes: Any) -> Config:
    """5.7 M parameters with patches of 16 of 224 pixels."""
    return _made(changes, 192, 12, 3)


def small(**changes: Any) -> Config:
    """22 M parameters."""
    return _made(changes, 384, 12, 6)


def base(**changes: Any) -> Config:
    """86.6 M parameters."""
    return _made(changes, 768, 12, 12)


def large(**changes: Any) -> Config:
    """304 M parameters."""
    return _made(changes, 1024, 24, 16)


class Block(nnx.Module):
    """Attention, then feed-forward, each normalised before, with dropout and a residual connection.

    Attributes:
        attention, attention_norm: first sublayer and its norm.
        mlp, mlp_norm: second sublayer and its norm.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        size = config.hidden
        self.attention_norm = LayerNorm(size, epsilon=config.epsilon)
        self.attention = SelfAttention(
            size, config.heads, rngs=rngs, dropout=config.attention_dropout, head_width=config.head_width
        )
        self.mlp_norm = LayerNorm(size, epsilon=config.epsilon)
        self.mlp = FeedForward(size, config.feed_forward or 4 * size, config.activation, rngs=rngs)
        self.dropout = Dropout(config.dropout)

    def __call__(self, x: Float[Array, "b t d"], rngs: nnx.Rngs | None) -> Float[Array, "b t d"]:
        x = x + self.dropout(self.attention(self.attention_norm(x), None, rngs), rngs)
        return x + self.dropout(self.mlp(self.mlp_norm(x)), rngs)


class ViT(nnx.Module):
    """Patches, class token, places, blocks, norm, linear head on the class token.

    Attributes:
        patches: the projection of patches, a convolution whose stride is its size.
        class_embedding: (1, 1, d), zero at first.
        position_embedding: (1, t, d), normal with deviation 0.02 at first.
        layers: the blocks.
        norm: after the last block.
        head: (d, n), zero at first, or None where the model has no outputs of its own.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        size = config.hidden
        self.patches = Conv(
            config.channels, size, config.patch, stride=config.patch, padding=0, use_bias=True, rngs=rngs
        )
        self.class_embedding = nnx.Param(jnp.zeros((1, 1, size)))
        places = nnx.initializers.normal(0.02)(rngs.params(), (1, config.tokens, size), jnp.float32)
        self.position_embedding = nnx.Param(places)
        self.layers = nnx.List([Block(config, rngs=rngs) for _ in range(config.layers)])
        self.norm = LayerNorm(size, epsilon=config.epsilon)
        zeros = nnx.initializers.zeros_init()
        self.head = Linear(size, config.outputs, rngs=rngs, init=zeros) if config.outputs else None
        self.dropout = Dropout(config.dropout)

    def features(
        self, images: Float[Array, "b h w c"], rngs: nnx.Rngs | None = None, visible: Int[Array, "b k"] | None = None
    ) -> Float[Array, "b t d"]:
        """Normed vectors of the class token and, row by row, of the patches.

        ``visible``: places of the only patches that are looked at, in the order of the vectors. None: all of them.
        """
        x = self.patches(images)
        x = x.reshape(x.shape[0], -1, x.shape[3])
        places = self.position_embedding[...]
        first = jnp.broadcast_to(self.class_embedding[...], (x.shape[0], 1, x.shape[2]))
        if visible is None:
            x = jnp.concatenate([first, x], 1) + places
        else:
            seen = jnp.take_along_axis(x + places[:, 1:], visible[..., None], 1)
            x = jnp.concatenate([first + places[:, :1], seen], 1)
        x = self.dropout(x, rngs)
        for block in self.layers:
            x = block(edge(x), rngs)
        return self.norm(x)

    def __call__(
        self, images: Float[Array, "b h w c"], *, rows: Bool[Array, "b"] | None = None, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b n"]:
        """Logits of each image, or its class token's vector (b, d) where there is no head.

        Dropout acts only where ``rngs`` is given. No image depends on other ``rows``.
        """
        del rows
        first = self.features(images, rngs)[:, 0]
        return first if self.head is None else self.head(edge(first))


SHARDING = (
    (r"patches\Wkernel$", P(None, None, None, "tensor")),
    (r"(query|key|value|up)\Wkernel$", P("fsdp", "tensor")),
    (r"(query|key|value|up)\Wbias$", P("tensor")),
    (r"(out|down)\Wkernel$", P("tensor", "fsdp")),
)

PRUNING = (feed_forward("layers/{i}/mlp"), heads("layers/{i}/attention", "hidden"))

_SIZES = {
    "channels": "num_channels",
    "patch": "patch_size",
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
}
_REST = {
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "epsilon": "layer_norm_eps",
    "attention_dropout": "attention_probs_dropout_prob",
}
_TIMM = {"hidden": "embed_dim", "layers": "depth", "heads": "num_heads", "patch": "patch_size", "channels": "in_chans"}
_NAMED = {"tiny": tiny, "small": small, "base": base, "large": large}


def _square(size: Any) -> tuple[int, int]:
    """Height and width of one number, or of two."""
    height, width = size if isinstance(size, Sequence) else (size, size)
    return int(height), int(width)


def _read(published: Mapping[str, Any]) -> Config:
    """Hugging Face's ``vit``."""
    missing = [theirs for theirs in ("image_size", *_SIZES.values()) if theirs not in published]
    if missing:
        raise InputError("config.json", f"does not state {', '.join(missing)}.", fix="the one that was published")
    if not published.get("qkv_bias", True):
        raise InputError("config.json, qkv_bias", '"false" is not there.', fix='"true"')
    height, width = _square(published["image_size"])
    values = {ours: published[theirs] for ours, theirs in (_SIZES | _REST).items() if theirs in published}
    values["activation"] = published_activation(published, "hidden_act")
    classes = published_classes(published)
    return Config(**{"epsilon": 1e-12, **values, "height": height, "width": width, "outputs": classes})


def _publish(config: Config) -> dict[str, Any]:
    check_published_heads(config.hidden, config.heads, config.head_width)
    labels = {str(i): f"LABEL_{i}" for i in range(config.outputs)}
    side: Any = config.height if config.height == config.width else [config.height, config.width]
    values = {theirs: getattr(config, ours) for ours, theirs in (_SIZES | _REST).items()}
    return {
        "model_type": "vit",
        "architectures": ["ViTForImageClassification" if labels else "ViTModel"],
        "image_size": side,
        **values,
        "hidden_act": published_name(config.activation),
        "intermediate_size": config.feed_forward or 4 * config.hidden,
        "qkv_bias": True,
        "id2label": labels,
        "label2id": {name: int(i) for i, name in labels.items()},
    }


def _read_timm(published: Mapping[str, Any]) -> Config:
    """timm's config.json: ``{"architecture": "vit_base_patch16_224", "num_classes": 1000}``."""
    name = str(published.get("architecture", "")).partition(".")[0]
    match = re.match(r"vit_(\w+)_patch(\d+)_(\d+)\Z", name)
    if not match or match[1] not in _NAMED:
        known = ", ".join(f"vit_{size}_patch16_224" for size in _NAMED)
        raise InputError("config.json, architecture", f'"{name}" is not there.', fix=known)
    said = published.get("model_args") or {}
    height, width = _square(said.get("img_size", int(match[3])))
    changes = {ours: said[theirs] for ours, theirs in _TIMM.items() if theirs in said}
    config = _NAMED[match[1]](
        **{"patch": int(match[2]), "channels": 3, **changes},
        height=height,
        width=width,
        outputs=published.get("num_classes", 1000),
    )
    return replace(config, feed_forward=int(config.hidden * said.get("mlp_ratio", 4)))


def _publish_timm(config: Config) -> dict[str, Any]:
    check_published_heads(config.hidden, config.heads, config.head_width)
    if config.activation != "gelu" or config.epsilon != 1e-6:
        raise InputError("the model", f"has activation {config.activation} and epsilon {config.epsilon}.")
    given = {theirs: getattr(config, ours) for ours, theirs in _TIMM.items()}
    given |= {
        "img_size": [config.height, config.width],
        "mlp_ratio": (config.feed_forward or 4 * config.hidden) / config.hidden,
    }
    return {"architecture": "vit_base_patch16_224", "num_classes": config.outputs, "model_args": given}


def _is_timm(published: Mapping[str, Any], names: Sequence[str]) -> bool:
    return "model_type" not in published and "patch_embed.proj.weight" in names and "pos_embed" in names


_HEADS = ("layers/{i}/attention/query", "layers/{i}/attention/key", "layers/{i}/attention/value")

IMPORTS: dict[str, Map] = {
    "vit": Map(
        rules=(
            Rule("embeddings.cls_token", "class_embedding"),
            Rule("embeddings.position_embeddings", "position_embedding"),
            Rule("embeddings.patch_embeddings.projection.weight", "patches/kernel", CONV2D),
            Rule("embeddings.patch_embeddings.projection.bias", "patches/bias"),
            *linear("encoder.layer.{i}.attention.attention.query", "layers/{i}/attention/query"),
            *linear("encoder.layer.{i}.attention.attention.key", "layers/{i}/attention/key"),
            *linear("encoder.layer.{i}.attention.attention.value", "layers/{i}/attention/value"),
            *linear("encoder.layer.{i}.attention.output.dense", "layers/{i}/attention/out"),
            *linear("encoder.layer.{i}.intermediate.dense", "layers/{i}/mlp/up"),
            *linear("encoder.layer.{i}.output.dense", "layers/{i}/mlp/down"),
            *norm("encoder.layer.{i}.layernorm_before", "layers/{i}/attention_norm"),
            *norm("encoder.layer.{i}.layernorm_after", "layers/{i}/mlp_norm"),
            *norm("layernorm", "norm"),
            *linear("classifier", "head", bare=True),
        ),
        config=_read,
        publish=_publish,
        skip=(r"pooler\.", r"mask_token$"),
        prefixes=("vit.", ""),
        fresh=(r"^head/",),
    ),
    "vit-timm": Map(
        rules=(
            Rule("cls_token", "class_embedding"),
            Rule("pos_embed", "position_embedding"),
            Rule("patch_embed.proj.weight", "patches/kernel", CONV2D),
            Rule("patch_embed.proj.bias", "patches/bias"),
            Rule("blocks.{i}.attn.qkv.weight", tuple(f"{name}/kernel" for name in _HEADS), Split(3, then=TRANSPOSED)),
            Rule("blocks.{i}.attn.qkv.bias", tuple(f"{name}/bias" for name in _HEADS), Split(3)),
            *linear("blocks.{i}.attn.proj", "layers/{i}/attention/out"),
            *linear("blocks.{i}.mlp.fc1", "layers/{i}/mlp/up"),
            *linear("blocks.{i}.mlp.fc2", "layers/{i}/mlp/down"),
            *norm("blocks.{i}.norm1", "layers/{i}/attention_norm"),
            *norm("blocks.{i}.norm2", "layers/{i}/mlp_norm"),
            *norm("norm", "norm"),
            *linear("head", "head"),
        ),
        config=_read_timm,
        publish=_publish_timm,
        fresh=(r"^head/",),
        recognise=_is_timm,
    ),
}
"""Hugging Face's ``model_type`` and, recognised by their tensors, timm's weights."""
