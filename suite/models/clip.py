"""CLIP (`Radford et al., 2021 <https://arxiv.org/abs/2103.00020>`_): a vision transformer and a causal text encoder.

Each has a linear map into the common space.

The vision transformer has no bias in its patches and a norm before its blocks; the text's vector is that of its end
token. As parts of a dual encoder their vectors are those of the common space; heads on top of them may be trained.

Dims: b batch, h w height and width, c channels, t tokens, d size of a token's vector, o width of the common space.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.model import ModelConfig
from suite.errors import InputError
from suite.models.activations import PLAIN, published_activation, published_name
from suite.models.blocks import adopted, check_heads
from suite.models.checks import check_choices, check_fractions, check_given, check_sizes
from suite.models.pairing import SHARPEST
from suite.nn import Activation, Dropout, Embedding, FeedForward, LayerNorm, Linear, SelfAttention
from suite.nn.conv import Conv
from suite.parallel.layout import edge
from suite.weights.imports import CONV2D, TRANSPOSED, Map, Rule, linear, norm

SIDES = ("image", "text")


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """Both encoders, and the common space. Published weights state all sizes."""

    own: ClassVar[tuple[str, ...]] = ("dropout",)

    height: int = 0
    """Rows of an image; patches divide them. 0: from the task."""
    width: int = 0
    """Columns of an image; patches divide them. 0: from the task."""
    channels: int = 0
    """Channels of an image. 0: from the task."""
    patch: int = 32
    """Side of a patch, in pixels."""
    image_layers: int = 12
    """Blocks of the encoder of images."""
    image_hidden: int = 768
    """Size of a patch's vector."""
    image_heads: int = 12
    """Attention heads of the encoder of images."""
    image_feed_forward: int = 3072
    """Size inside its feed-forward layers."""
    vocab_size: int = 0
    """Rows of the token table. 0: from the task."""
    max_length: int = 77
    """Most tokens of a text."""
    text_layers: int = 12
    """Blocks of the encoder of texts."""
    text_hidden: int = 512
    """Size of a token's vector."""
    text_heads: int = 8
    """Attention heads of the encoder of texts."""
    text_feed_forward: int = 2048
    """Size inside its feed-forward layers."""
    space: int = 512
    """Width of the common space."""
    activation: Activation = "quick_gelu"
    """Function inside the feed-forward layers."""
    epsilon: float = 1e-5
    """Added to variances."""
    dropout: float = 0.0
    """Fraction of sublayer outputs that training drops."""

    def __post_init__(self):
        check_sizes(self, 0, "height", "width", "channels", "vocab_size")
        sizes = ("layers", "hidden", "heads", "feed_forward")
        check_sizes(self, 1, "patch", "max_length", "space", *(f"{side}_{size}" for side in SIDES for size in sizes))
        check_choices(self, {"activation": PLAIN})
        check_fractions(self, "dropout")
        for side in SIDES:
            check_heads(getattr(self, f"{side}_hidden"), getattr(self, f"{side}_heads"), 0, f"{side}_hidden")
        if self.height % self.patch or self.width % self.patch:
            found = f"patch {self.patch}, images {self.width} wide, {self.height} high"
            raise InputError("field model.patch", "must divide height and width of the images", found=found)

    def build(self, *, rngs: nnx.Rngs) -> "CLIP":
        check_given(self, "height", "width", "channels", "vocab_size")
        return CLIP(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    @property
    def depth(self) -> int:
        """Blocks of the deeper encoder, and the projections above."""
        return max(self.image_layers, self.text_layers) + 1

    def layer_of(self, path: str) -> int:
        """Counted from the top: projections ``depth``, the last block of each encoder one less, embeddings 0."""
        block = re.match(r"(image|text)/layers\W(\d+)", path)
        if block:
            return self.depth - int(getattr(self, f"{block[1]}_layers")) + int(block[2])
        return self.depth if re.search(r"^heads/|/norm/", path) else 0

    @property
    def shared_by_tensor(self) -> dict[str, int]:
        return {"image_heads": self.image_heads, "text_heads": self.text_heads}

    def adopt(self, published: ModelConfig) -> "Config":
        return adopted(self, published, "CLIP", self.own)


class Block(nnx.Module):
    """Attention, then feed-forward, each normalised before, with dropout and a residual connection.

    Attributes:
        attention, attention_norm: first sublayer and its norm.
        mlp, mlp_norm: second sublayer and its norm.
    """

    def __init__(self, config: Config, side: str, *, rngs: nnx.Rngs):
        size, heads, inner = (getattr(config, f"{side}_{name}") for name in ("hidden", "heads", "feed_forward"))
        self.attention_norm = LayerNorm(size, epsilon=config.epsilon)
        self.attention = SelfAttention(size, heads, rngs=rngs, causal=side == "text")
        self.mlp_norm = LayerNorm(size, epsilon=config.epsilon)
        self.mlp = FeedForward(size, inner, config.activation, rngs=rngs)
        self.dropout = Dropout(config.dropout)

    def __call__(
        self, x: Float[Array, "b t d"], mask: Bool[Array, "b t"] | None, rngs: nnx.Rngs | None
    ) -> Float[Array, "b t d"]:
        x = x + self.dropout(self.attention(self.attention_norm(x), mask, rngs), rngs)
        return x + self.dropout(self.mlp(self.mlp_norm(x)), rngs)


class ImageEncoder(nnx.Module):
    """Patches, class token, places, norm, blocks, norm of the class token.

    Attributes:
        patches: the projection of patches, a convolution whose stride is its size.
        class_embedding: (d,).
        position_embedding: (t, d).
        first_norm: before the blocks.
        layers: the blocks.
        norm: of the class token after the last block.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        size = config.image_hidden
        tokens = (config.height // config.patch) * (config.width // config.patch) + 1
        self.patches = Conv(
            config.channels, size, config.patch, stride=config.patch, padding=0, use_bias=False, rngs=rngs
        )
        normal = nnx.initializers.normal(size**-0.5)
        self.class_embedding = nnx.Param(normal(rngs.params(), (size,), jnp.float32))
        self.position_embedding = nnx.Param(normal(rngs.params(), (tokens, size), jnp.float32))
        self.first_norm = LayerNorm(size, epsilon=config.epsilon)
        self.layers = nnx.List([Block(config, "image", rngs=rngs) for _ in range(config.image_layers)])
        self.norm = LayerNorm(size, epsilon=config.epsilon)

    def __call__(
        self, images: Float[Array, "b h w c"], *, rows: Bool[Array, "b"] | None = None, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b d"]:
        """The vector of each image; none depends on other ``rows``."""
        del rows
        x = self.patches(images)
        x = x.reshape(x.shape[0], -1, x.shape[3])
        first = jnp.broadcast_to(self.class_embedding[...], (x.shape[0], 1, x.shape[2]))
        x = self.first_norm(jnp.concatenate([first, x], 1) + self.position_embedding[...])
        for block in self.layers:
            x = block(edge(x), None, rngs)
        return self.norm(x[:, 0])


class TextEncoder(nnx.Module):
    """Tokens, places, causal blocks, norm; the vector is that of the last token, which ends the text.

    Attributes:
        tokens: the token table.
        position_embedding: (t, d).
        layers: the blocks.
        norm: after the last block.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        size = config.text_hidden
        self.tokens = Embedding(config.vocab_size, size, rngs=rngs)
        places = nnx.initializers.normal(0.01)(rngs.params(), (config.max_length, size), jnp.float32)
        self.position_embedding = nnx.Param(places)
        self.layers = nnx.List([Block(config, "text", rngs=rngs) for _ in range(config.text_layers)])
        self.norm = LayerNorm(size, epsilon=config.epsilon)
        self.longest = config.max_length

    def __call__(
        self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b d"]:
        """The vector of each text.

        Raises:
            InputError: more tokens than places.
        """
        if tokens.shape[1] > self.longest:
            where, problem = "field task.max_length", f"exceeds the {self.longest} places of the encoder of texts."
            raise InputError(where, problem, found=str(tokens.shape[1]), fix=f"--task.max_length {self.longest:d}")
        x = self.tokens(tokens) + self.position_embedding[: tokens.shape[1]]
        for block in self.layers:
            x = block(edge(x), mask, rngs)
        last = jnp.maximum(mask.sum(-1) - 1, 0)
        return self.norm(jnp.take_along_axis(x, last[:, None, None], 1)[:, 0])


class Projections(nnx.Module):
    """Linear maps into the common space, and the scale and shift of the logits.

    Attributes:
        image, text: (d, o).
        scale: () logarithm of what cosines are multiplied by.
        bias: () added to logits.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.image = Projection(config.image_hidden, config.space, rngs=rngs)
        self.text = Projection(config.text_hidden, config.space, rngs=rngs)
        self.scale = nnx.Param(jnp.log(jnp.float32(1 / 0.07)))
        self.bias = nnx.Param(jnp.float32(0))

    def sharpness(self) -> Float[Array, ""]:
        """What cosines are multiplied by."""
        return jnp.exp(jnp.minimum(self.scale[...], jnp.log(SHARPEST)))


class Projection(nnx.Module):
    """A linear map.

    Attributes:
        project: (d, o).
    """

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.project = Linear(inputs, outputs, use_bias=False, rngs=rngs)

    def __call__(self, vectors: Float[Array, "... d"], rngs: nnx.Rngs | None = None) -> Float[Array, "... o"]:
        del rngs
        return self.project(vectors)


class CLIP(nnx.Module):
    """Both encoders and their projections, called as the parts of a dual encoder are.

    Attributes:
        image, text: the encoders.
        heads: the projections.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.image = ImageEncoder(config, rngs=rngs)
        self.text = TextEncoder(config, rngs=rngs)
        self.heads = Projections(config, rngs=rngs)


SHARDING = (
    (r"tokens\Wembedding$", P("tensor", "fsdp")),
    (r"patches\Wkernel$", P(None, None, None, "tensor")),
    (r"(query|key|value|up)\Wkernel$", P("fsdp", "tensor")),
    (r"(query|key|value|up)\Wbias$", P("tensor")),
    (r"(out|down)\Wkernel$", P("tensor", "fsdp")),
)

_SIZES = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
}
_BLOCK = {
    "self_attn.q_proj": "attention/query",
    "self_attn.k_proj": "attention/key",
    "self_attn.v_proj": "attention/value",
    "self_attn.out_proj": "attention/out",
    "mlp.fc1": "mlp/up",
    "mlp.fc2": "mlp/down",
}


def _read(published: Mapping[str, Any]) -> Config:
    """Hugging Face's ``clip``, whose two configurations leave out what is as in CLIP ViT-B/32."""
    sides = {"image": published.get("vision_config") or {}, "text": published.get("text_config") or {}}
    plain = Config()
    values: dict[str, Any] = {
        f"{side}_{ours}": sides[side].get(theirs, getattr(plain, f"{side}_{ours}"))
        for side in SIDES
        for ours, theirs in _SIZES.items()
    }
    both = {
        name: {side: config.get(theirs, default) for side, config in sides.items()}
        for name, theirs, default in (("activation", "hidden_act", "quick_gelu"), ("epsilon", "layer_norm_eps", 1e-5))
    }
    for name, stated in both.items():
        if stated["image"] != stated["text"]:
            raise InputError(f"config.json, {name}", "differs between the two encoders.", found=f"{stated}")
    values["activation"] = published_activation({"hidden_act": both["activation"]["text"]}, "hidden_act")
    side = sides["image"].get("image_size", 224)
    return Config(
        **values,
        height=side,
        width=side,
        channels=sides["image"].get("num_channels", 3),
        patch=sides["image"].get("patch_size", 32),
        vocab_size=sides["text"].get("vocab_size", 49408),
        max_length=sides["text"].get("max_position_embeddings", 77),
        space=published.get("projection_dim", 512),
        epsilon=both["epsilon"]["text"],
    )


def _publish(config: Config) -> dict[str, Any]:
    if config.height != config.width:
        raise InputError(
            "the model", "has images that are no squares.", found=f"{config.width} wide, {config.height} high"
        )
    rest = {
        "hidden_act": published_name(config.activation),
        "layer_norm_eps": config.epsilon,
        "projection_dim": config.space,
    }
    sides = {
        side: {**{theirs: getattr(config, f"{side}_{ours}") for ours, theirs in _SIZES.items()}, **rest}
        for side in SIDES
    }
    sides["image"] |= {"image_size": config.height, "patch_size": config.patch, "num_channels": config.channels}
    sides["text"] |= {"vocab_size": config.vocab_size, "max_position_embeddings": config.max_length}
    return {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": config.space,
        "vision_config": {"model_type": "clip_vision_model", **sides["image"]},
        "text_config": {"model_type": "clip_text_model", **sides["text"]},
    }


def _blocks(theirs: str, ours: str) -> tuple[Rule, ...]:
    """The rules of the blocks of an encoder."""
    layer, own = f"{theirs}.encoder.layers.{{i}}", f"{ours}/layers/{{i}}"
    linears = (linear(f"{layer}.{name}", f"{own}/{path}") for name, path in _BLOCK.items())
    norms = (norm(f"{layer}.layer_norm1", f"{own}/attention_norm"), norm(f"{layer}.layer_norm2", f"{own}/mlp_norm"))
    return tuple(rule for rules in (*linears, *norms) for rule in rules)


IMPORTS: dict[str, Map] = {
    "clip": Map(
        rules=(
            Rule("vision_model.embeddings.class_embedding", "image/class_embedding"),
            Rule("vision_model.embeddings.patch_embedding.weight", "image/patches/kernel", CONV2D),
            Rule("vision_model.embeddings.position_embedding.weight", "image/position_embedding"),
            *norm("vision_model.pre_layrnorm", "image/first_norm"),  # so spelt where they are published
            *_blocks("vision_model", "image"),
            *norm("vision_model.post_layernorm", "image/norm"),
            Rule("text_model.embeddings.token_embedding.weight", "text/tokens/embedding"),
            Rule("text_model.embeddings.position_embedding.weight", "text/position_embedding"),
            *_blocks("text_model", "text"),
            *norm("text_model.final_layer_norm", "text/norm"),
            Rule("visual_projection.weight", "heads/image/project/kernel", TRANSPOSED),
            Rule("text_projection.weight", "heads/text/project/kernel", TRANSPOSED),
            Rule("logit_scale", "heads/scale"),
        ),
        config=_read,
        publish=_publish,
        skip=(r"position_ids$",),
        fresh=(r"^heads/bias$",),
    )
}
"""Hugging Face's ``model_type``."""
