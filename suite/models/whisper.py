"""Whisper: from log-mel frames to vectors of 20 ms, and with its decoder to what is said in them.

`Radford et al., 2022 <https://arxiv.org/abs/2212.04356>`_. Two convolutions, fixed sinusoidal positions, and a
transformer whose keys have no bias. The published model reads 30 s at a time, silence included: to do as it does, pad
the features with those of silence and mark every frame as real. With a mask of real frames, padding is not read, and
shorter inputs cost less; that is what to train an encoder with.

Dims: b batch, t frames in, u frames out, f features a frame, d width, o outputs, n tokens, v vocabulary.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.model import ModelConfig
from suite.contracts.units import Units
from suite.errors import InputError
from suite.models.activations import PLAIN, published_activation, published_name
from suite.models.blocks import BlockConfig, check_heads, check_published_heads
from suite.models.checks import check_choices, check_given, check_sizes
from suite.models.decoder import only
from suite.models.whisper_decoder import RULES as DECODER_RULES
from suite.models.whisper_decoder import Decoder, Sizes, block_rules, without_key_bias
from suite.nn import Activation, Dropout, FeedForward, LayerNorm, Linear, SelfAttention, gelu
from suite.nn.conv1d import Conv1d
from suite.nn.masking import masked_mean, silence
from suite.parallel.layout import edge
from suite.surgery.units import feed_forward, heads
from suite.weights.imports import CONV1D, Map, Rule, norm
from suite.weights.published import Published


@dataclass(frozen=True, kw_only=True)
class Config(BlockConfig):
    """Whisper's encoder with a linear layer on top or none, or with its decoder; the defaults are those of the base
    model, whose decoder has 6 layers, too."""

    published: ClassVar[str] = "Whisper"
    own: ClassVar[tuple[str, ...]] = ("outputs", "pooling", "dropout", "attention_dropout")

    inputs: int = 0
    """Features a frame: 80, or 128 in large-v3. 0: from the task."""
    outputs: int = 0
    """Classes, for CTC with the blank. 0: from the task."""
    layers: int = 6
    """Blocks."""
    width: int = 512
    """Size of a frame's vector."""
    heads: int = 8
    """Attention heads; they divide the width unless head_width is set."""
    head_width: int = 0
    """Width of a head. 0: width / heads."""
    feed_forward: int = 2048
    """Width inside the feed-forward layer."""
    max_length: int = 1500
    """Most frames out; twice as many come in."""
    activation: Activation = "gelu"
    """Function inside the feed-forward layer."""
    pooling: Literal["none", "mean", "hidden"] = "none"
    """Outputs for each frame, or of the mean over a row's frames; or the hidden vectors, without a head."""
    dropout: float = 0.0
    """Fraction of sublayer outputs that training drops."""
    attention_dropout: float = 0.0
    """Fraction of attention weights that training drops."""
    decoder_layers: int = 0
    """Blocks of the decoder, which takes the place of the linear layer. 0: there is none."""
    decoder_heads: int = 0
    """Attention heads of the decoder. 0: as many as the encoder's."""
    decoder_feed_forward: int = 0
    """Width inside the decoder's feed-forward layer. 0: the encoder's."""
    decoder_length: int = 448
    """Most tokens of the decoder, those of its prompt among them."""
    vocab_size: int = 0
    """Rows of the decoder's token table. 0: from the task."""

    def __post_init__(self):
        decoder = ("decoder_layers", "decoder_heads", "decoder_feed_forward", "vocab_size")
        check_sizes(self, 0, "inputs", "outputs", "layers", "head_width", *decoder)
        check_sizes(self, 1, "width", "heads", "feed_forward", "max_length", "decoder_length")
        check_choices(self, {"pooling": ("none", "mean", "hidden"), "activation": PLAIN})
        self._check_blocks()
        if self.width % 2:
            raise InputError("field model.width", "must be even, for sines and cosines", found=str(self.width))
        if self.decoder_layers:
            check_heads(self.width, self.decoder_heads or self.heads, self.head_width)

    def build(self, *, rngs: nnx.Rngs) -> "SpeechModel":
        above = "vocab_size" if self.decoder_layers else "outputs"
        check_given(self, "inputs", *([above] if self.decoder_layers or self.pooling != "hidden" else []))
        return SpeechModel(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return (*SHARDING, *DECODER_SHARDING) if self.decoder_layers else SHARDING

    @property
    def vector_sizes(self) -> dict[str, int]:
        return {"inputs": self.width, "frames": 2}

    def below(self, path: str) -> bool:
        return re.search(r"^head|encoder\Wnorm", path) is None

    def layer_of(self, path: str) -> int:
        """0 what lies below the blocks, then the blocks of the encoder and of the decoder, last what lies above."""
        block = re.match(r"decoder\Wlayers\W(\d+)", path)
        if block:
            return self.layers + 1 + int(block[1])
        if path.startswith("decoder"):
            return self.depth if re.match(r"decoder\Wnorm", path) else 0
        return self.layers if self.decoder_layers and re.match(r"encoder\Wnorm", path) else super().layer_of(path)

    @property
    def depth(self) -> int:
        return self.layers + self.decoder_layers + 1

    @property
    def headless(self) -> bool:
        return not self.decoder_layers and super().headless

    @property
    def omitted(self) -> str:
        return r"(?!)" if self.decoder_layers else r"^decoder/"

    @property
    def shared_by_tensor(self) -> dict[str, int]:
        heads = {"decoder_heads": self.decoder_heads} if self.decoder_heads else {}
        return {**super().shared_by_tensor, **heads}

    @property
    def prunable(self) -> tuple[Units, ...]:
        return (*PRUNING, *DECODER_PRUNING) if self.decoder_layers else PRUNING

    def adopt(self, published: ModelConfig) -> "Config":
        """As of any family. A configuration without a decoder takes the encoder alone.

        Raises:
            InputError: the weights are of another family, or this has a decoder and they have none.
        """
        theirs = super().adopt(published)
        if not self.decoder_layers:
            return _encoder(theirs)
        if not theirs.decoder_layers:
            where, problem = "field checkpoint.init_from", "names weights of Whisper's encoder alone."
            raise InputError(where, problem, found="no decoder", fix="weights of a WhisperForConditionalGeneration")
        return theirs


class Block(nnx.Module):
    """Attention, then feed-forward, each normalised before and on a residual.

    Attributes:
        attention, attention_norm: first sublayer and its norm.
        mlp, mlp_norm: second sublayer and its norm.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        width, size = config.width, config.head_width or config.width // config.heads
        self.attention = SelfAttention(
            width, config.heads, rngs=rngs, dropout=config.attention_dropout, head_width=size
        )
        without_key_bias(self.attention, width, config.heads * size, rngs=rngs)
        self.attention_norm = LayerNorm(width, epsilon=1e-5)
        self.mlp = FeedForward(width, config.feed_forward, config.activation, rngs=rngs)
        self.mlp_norm = LayerNorm(width, epsilon=1e-5)
        self.dropout = Dropout(config.dropout)

    def __call__(
        self, x: Float[Array, "b u d"], mask: Bool[Array, "b u"], rngs: nnx.Rngs | None
    ) -> Float[Array, "b u d"]:
        x = x + self.dropout(self.attention(self.attention_norm(x), mask, rngs), rngs)
        return x + self.dropout(self.mlp(self.mlp_norm(x)), rngs)


class Encoder(nnx.Module):
    """Features to one vector for every two frames.

    Attributes:
        first, second: the convolutions, the second with stride 2.
        positions: (max_length, width) sines and cosines, which training leaves as they are.
        layers: the blocks.
        norm: norm after the last block.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        width = config.width
        self.first = Conv1d(config.inputs, width, 3, padding=1, rngs=rngs)
        self.second = Conv1d(width, width, 3, stride=2, padding=1, rngs=rngs)
        self.positions = nnx.Variable(sinusoids(config.max_length, width))
        self.layers = nnx.List([Block(config, rngs=rngs) for _ in range(config.layers)])
        self.norm = LayerNorm(width, epsilon=1e-5)
        self.dropout = Dropout(config.dropout)

    def __call__(
        self, features: Float[Array, "b t f"], mask: Bool[Array, "b t"], *, rngs: nnx.Rngs | None = None
    ) -> tuple[Float[Array, "b u d"], Bool[Array, "b u"]]:
        """Hidden vectors, and which of them are real; the others mean nothing.

        Raises:
            InputError: more frames than there are positions for.
        """
        x = gelu(self.first(silence(features, mask)))
        x = gelu(self.second(silence(x, mask)))
        mask = mask[:, ::2]
        frames, limit = x.shape[1], self.positions.shape[0]
        if frames > limit:
            problem = f"input of {features.shape[1]} frames, but the model has positions for {2 * limit}."
            raise InputError("field task.max_seconds", problem, fix="a lower --task.max_seconds, or shorter recordings")
        x = self.dropout(x + self.positions[:frames], rngs)
        for block in self.layers:
            x = block(edge(x), mask, rngs)
        return self.norm(x), mask


class SpeechModel(nnx.Module):
    """Encoder and linear head, or encoder and decoder.

    Attributes:
        encoder: see `Encoder`.
        decoder: see `Decoder`, or None.
        head: (width, outputs), or None where hidden vectors are asked for or there is a decoder.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.encoder = Encoder(config, rngs=rngs)
        headless = config.pooling == "hidden" or config.decoder_layers
        self.head = None if headless else Linear(config.width, config.outputs, rngs=rngs)
        self.decoder = Decoder(_sizes(config), rngs=rngs) if config.decoder_layers else None
        self.dropout = Dropout(config.dropout)
        self.pooling = config.pooling

    def __call__(
        self,
        features: Float[Array, "b t f"],
        mask: Bool[Array, "b t"],
        tokens: Int[Array, "b n"] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[Float[Array, "b u o"], Bool[Array, "b u"]] | Float[Array, "b o"] | Float[Array, "b n v"]:
        """Outputs of each frame and which frames are real; with ``pooling="mean"``, logits of each row alone; where
        ``tokens`` are given to a decoder, the logits of the token that follows each.

        ``mask`` is True where a frame is real; a row's real frames come first. Dropout acts only where ``rngs`` is
        given.
        """
        hidden, mask = self.encoder(features, mask, rngs=rngs)
        if tokens is not None and self.decoder is not None:
            return self.decoder(tokens, edge(hidden), mask, rngs=rngs)
        if self.head is None:
            return hidden, mask
        hidden = self.dropout(hidden, rngs)
        return (self.head(edge(hidden)), mask) if self.pooling == "none" else self.head(edge(masked_mean(hidden, mask)))


def sinusoids(length: int, width: int) -> Float[Array, "u d"]:
    """Sines, then cosines, of each place, at frequencies falling geometrically from 1 to exactly 1 / 10,000."""
    frequency = 10_000.0 ** -(jnp.arange(width // 2) / max(width // 2 - 1, 1))
    angles = jnp.arange(length)[:, None] * frequency
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], 1)


def _encoder(config: Config) -> Config:
    """The configuration without its decoder."""
    names = ("decoder_layers", "decoder_heads", "decoder_feed_forward", "decoder_length", "vocab_size")
    return replace(config, **{name: getattr(Config, name) for name in names})


def _sizes(config: Config) -> Sizes:
    heads = config.decoder_heads or config.heads
    return Sizes(
        vocab_size=config.vocab_size,
        layers=config.decoder_layers,
        width=config.width,
        heads=heads,
        head_width=config.head_width or config.width // heads,
        feed_forward=config.decoder_feed_forward or config.feed_forward,
        max_length=config.decoder_length,
        activation=config.activation,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
    )


SHARDING = (
    (r"(query|key|value|up)\Wkernel$", P("fsdp", "tensor")),
    (r"(query|value|up)\Wbias$", P("tensor")),
    (r"(out|down)\Wkernel$", P("tensor", "fsdp")),
)
DECODER_SHARDING = ((r"tokens\Wembedding$", P("tensor", "fsdp")),)

PRUNING = (feed_forward("encoder/layers/{i}/mlp"), heads("encoder/layers/{i}/attention"))
DECODER_PRUNING = (
    feed_forward("decoder/layers/{i}/mlp"),
    heads("decoder/layers/{i}/attention"),
    heads("decoder/layers/{i}/cross"),
)

RULES = (
    Rule("encoder.conv1.weight", "encoder/first/kernel", CONV1D),
    Rule("encoder.conv1.bias", "encoder/first/bias"),
    Rule("encoder.conv2.weight", "encoder/second/kernel", CONV1D),
    Rule("encoder.conv2.bias", "encoder/second/bias"),
    Rule("encoder.embed_positions.weight", "encoder/positions"),
    *block_rules("encoder.layers.{i}", "encoder/layers/{i}", cross=False),
    *norm("encoder.layer_norm", "encoder/norm"),
    *DECODER_RULES,
)


def _config(theirs: Mapping[str, Any]) -> Config:
    """Whisper's config.json as ours."""
    only(theirs, {"scale_embedding": False, "tie_word_embeddings": True})
    return Config(
        inputs=theirs.get("num_mel_bins", 80),
        layers=theirs.get("encoder_layers", 4),
        width=theirs.get("d_model", 384),
        heads=theirs.get("encoder_attention_heads", 6),
        feed_forward=theirs.get("encoder_ffn_dim", 1536),
        max_length=theirs.get("max_source_positions", 1500),
        activation=published_activation(theirs, "activation_function"),  # type: ignore[arg-type]
        pooling="hidden",
        dropout=theirs.get("dropout", 0.0),
        attention_dropout=theirs.get("attention_dropout", 0.0),
        decoder_layers=theirs.get("decoder_layers", 4),
        decoder_heads=theirs.get("decoder_attention_heads", theirs.get("encoder_attention_heads", 6)),
        decoder_feed_forward=theirs.get("decoder_ffn_dim", 1536),
        decoder_length=theirs.get("max_target_positions", 448),
        vocab_size=theirs.get("vocab_size", 51865),
    )


def _settled(config: Config, weights: Published) -> Config:
    """Without a decoder where the tensors are those of an encoder alone, and are said to be no more."""
    has = any(re.match(r"(model\.)?decoder\.", name) for name in weights.readers)
    said = "WhisperForConditionalGeneration" in (weights.config.get("architectures") or ())
    return config if has or said else _encoder(config)


def _publish(config: Config) -> dict[str, Any]:
    if config.pooling != "hidden" and not config.decoder_layers:
        raise InputError("field model.pooling", "has no published counterpart.", found=config.pooling, fix="hidden")
    check_published_heads(config.width, config.heads, config.head_width)
    published = {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration" if config.decoder_layers else "WhisperModel"],
        "activation_function": published_name(config.activation),
        "num_mel_bins": config.inputs,
        "encoder_layers": config.layers,
        "d_model": config.width,
        "encoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.feed_forward,
        "max_source_positions": config.max_length,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
    }
    if not config.decoder_layers:
        return published
    return published | {
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "decoder_layers": config.decoder_layers,
        "decoder_attention_heads": config.decoder_heads or config.heads,
        "decoder_ffn_dim": config.decoder_feed_forward or config.feed_forward,
        "max_target_positions": config.decoder_length,
    }


IMPORTS: dict[str, Map] = {
    "whisper": Map(
        rules=RULES,
        config=_config,
        publish=_publish,
        settle=_settled,  # type: ignore[arg-type]
        prefixes=("model.", ""),
        prefix=lambda config: "model." if config.decoder_layers else "",
        fresh=(r"^head/",),
        tied={"proj_out.weight": "decoder.embed_tokens.weight"},
    )
}
