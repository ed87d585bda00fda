"""Transformer with an encoder and a decoder that reads it: translation, summaries, text to text.

With RMSNorm before each sublayer, T5's distances and scores that are not scaled it is T5
(`Raffel et al., 2019 <https://arxiv.org/abs/1910.10683>`_); with LayerNorm after each sublayer, sinusoids and an
output bias it is Marian (`Junczys-Dowmunt et al., 2018 <https://arxiv.org/abs/1804.00344>`_), the plain transformer of
`Vaswani et al., 2017 <https://arxiv.org/abs/1706.03762>`_.

Dims: b batch, m source tokens, t = q target tokens, s slots of a cache, v vocabulary, d width, h heads.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.units import Units
from suite.errors import InputError
from suite.models.activations import ALL, PLAIN, activation, gated, published_activation, published_name
from suite.models.blocks import BlockConfig
from suite.models.checks import check_choices, check_given, check_sizes
from suite.models.decoder import fits, only
from suite.nn import (
    Cache,
    CrossAttention,
    Dropout,
    Embedding,
    FeedForward,
    Inner,
    Kernel,
    LayerNorm,
    Linear,
    RelativeBias,
    Remat,
    RMSNorm,
    SelfAttention,
    run_layers,
    sinusoids,
)
from suite.nn.mlp import GATED
from suite.parallel.layout import edge
from suite.surgery.units import feed_forward, heads
from suite.weights.imports import TRANSPOSED, Map, Rule, linear, norm
from suite.weights.published import Published

_CHOICES = {
    "norm": ("layer", "rms"),
    "order": ("pre", "post"),
    "positions": ("sinusoidal", "relative"),
    "activation": ALL,
    "attention": ("auto", "plain", "fused"),
    "remat": ("none", "full", "dots"),
}


@dataclass(frozen=True, kw_only=True)
class Config(BlockConfig):
    """An encoder-decoder. Source and target share one token table."""

    published: ClassVar[str] = "T5 or Marian"
    own: ClassVar[tuple[str, ...]] = (
        "dropout",
        "attention_dropout",
        "feed_forward_dropout",
        "attention",
        "remat",
        "scan_layers",
    )

    vocab_size: int = 0
    """Rows of the token table. 0: from the task."""
    layers: int = 6
    """Blocks of the encoder."""
    decoder_layers: int = 0
    """Blocks of the decoder. 0: as many as the encoder's."""
    width: int = 512
    """Size of a token's vector."""
    heads: int = 8
    """Attention heads; they divide the width unless head_width is set."""
    head_width: int = 0
    """Width of a head. 0: width / heads."""
    feed_forward: int = 0
    """Width inside the feed-forward layer. 0: four times the width."""
    max_length: int = 512
    """Most tokens that published weights say they were trained on; nothing here ends there."""
    norm: Literal["layer", "rms"] = "layer"
    """Kind of normalisation."""
    order: Literal["pre", "post"] = "pre"
    """Normalise before each sublayer and at the end, which trains without care, or after each sublayer."""
    positions: Literal["sinusoidal", "relative"] = "sinusoidal"
    """Sines added to the embeddings, or a bias of each head by the distance of two tokens."""
    buckets: int = 32
    """Distances told apart, where positions are relative."""
    furthest: int = 128
    """Distance from which on all are one, where positions are relative."""
    activation: Inner = "relu"
    """Function inside the feed-forward layer."""
    bias: bool = True
    """Whether linear layers have biases."""
    tied: bool = True
    """The output head is the token table."""
    output_bias: bool = False
    """Whether each token's logit has a bias."""
    scale_embedding: bool = True
    """Multiply embeddings by the root of the width, so that sines don't drown them."""
    scale_scores: bool = True
    """Divide attention scores by the root of a head's width."""
    scale_output: bool = False
    """Divide what the output head sees by the root of the width."""
    dropout: float = 0.1
    """Fraction of embeddings and sublayer outputs that training drops."""
    attention_dropout: float = 0.0
    """Fraction of attention weights that training drops; above 0 training takes the plain kernel."""
    feed_forward_dropout: float = 0.0
    """Fraction of what is inside the feed-forward layer that training drops."""
    epsilon: float = 1e-6
    """Added to variances."""
    start: int = 2
    """Token that a target is begun with."""
    attention: Kernel = "auto"
    """fused: one kernel, cuDNN's where it applies; plain: two products; auto: fused on an accelerator."""
    remat: Remat = "none"
    """What the backward pass computes again to save memory: nothing, each layer, or all but its products."""
    scan_layers: bool = False
    """Compile one layer of each side and scan it: same numbers, quicker to compile, slower on a CPU."""

    def __post_init__(self):
        _check_sizes(self)
        self._check_blocks("feed_forward_dropout")
        check_choices(self, _CHOICES)

    def build(self, *, rngs: nnx.Rngs) -> "Seq2Seq":
        check_given(self, "vocab_size")
        return Seq2Seq(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return tuple(
            rule
            for rule in SHARDING
            if (self.bias or "bias" not in rule[0]) and not (self.tied and rule[0].startswith("^head"))
        )

    def layer_of(self, path: str) -> int:
        """0 embeddings, then the blocks of the encoder and of the decoder, last the head."""
        block = re.search(r"(encoder|decoder)\Wlayers\W(\d+)", path)
        if block:
            return int(block[2]) + 1 + (self.layers if block[1] == "decoder" else 0)
        if re.search(r"encoder\Wdistances|^tokens", path):
            return 0
        return self.layers if path.startswith("encoder") else self.depth

    @property
    def depth(self) -> int:
        return self.layers + (self.decoder_layers or self.layers) + 1

    @property
    def prunable(self) -> tuple[Units, ...]:
        # The biases by distance belong to the heads of all layers, so none can lose a head alone.
        return tuple(units for units in PRUNING if units.kind != "heads" or self.positions != "relative")


def _check_sizes(config: Config) -> None:
    check_sizes(config, 0, "vocab_size", "decoder_layers", "head_width", "feed_forward", "start")
    check_sizes(config, 1, "layers", "width", "heads", "max_length")
    if config.buckets < 4 or config.furthest <= config.buckets // 2:
        raise InputError(
            "field model.buckets",
            "must be at least 4, and below twice the furthest distance",
            found=f"{config.buckets} buckets up to {config.furthest}",
        )
    if config.epsilon <= 0:
        raise InputError("field model.epsilon", "must be above 0", found=str(config.epsilon))


class EncoderBlock(nnx.Module):
    """Attention and feed-forward, each with a norm, dropout and a residual connection.

    Attributes:
        attention, attention_norm: first sublayer and its norm.
        mlp, mlp_norm: second sublayer and its norm.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs, causal: bool = False):
        self.attention = SelfAttention(config.width, config.heads, rngs=rngs, causal=causal, **_attention(config))
        self.attention_norm = _norm(config)
        self.mlp = FeedForward(
            config.width,
            config.feed_forward or 4 * config.width,
            config.activation,
            rngs=rngs,
            use_bias=config.bias,
            dropout=config.feed_forward_dropout,
        )
        self.mlp_norm = _norm(config)
        self.dropout = Dropout(config.dropout)
        self.order = config.order

    def __call__(
        self,
        x: Float[Array, "b m d"],
        mask: Bool[Array, "b m"],
        bias: Float[Array, "1 h m m"] | None,
        rngs: nnx.Rngs | None,
    ) -> Float[Array, "b m d"]:
        x = self._added(x, self.attention_norm, lambda y: self.attention(y, mask, rngs, bias=bias), rngs)
        return self._added(x, self.mlp_norm, lambda y: self.mlp(y, rngs), rngs)

    def _added(self, x: Array, norm: nnx.Module, sublayer: Any, rngs: nnx.Rngs | None = None) -> Array:
        """The residual connection around a sublayer."""
        if self.order == "pre":
            return x + self.dropout(sublayer(norm(x)), rngs)  # type: ignore[operator]
        return norm(x + self.dropout(sublayer(x), rngs))  # type: ignore[operator]


class DecoderBlock(EncoderBlock):
    """As an encoder's block, in causal order, with attention on the memory between the two sublayers.

    Attributes:
        cross, cross_norm: that sublayer and its norm.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs, causal=True)
        self.cross = CrossAttention(config.width, config.heads, rngs=rngs, **_attention(config))
        self.cross_norm = _norm(config)

    def __call__(  # type: ignore[override]
        self,
        x: Float[Array, "b t d"],
        mask: Bool[Array, "b t"] | None,
        bias: Float[Array, "1 h t t"] | None,
        memory: Float[Array, "b m d"],
        memory_mask: Bool[Array, "b m"],
        rngs: nnx.Rngs | None,
    ) -> Float[Array, "b t d"]:
        x = self._added(x, self.attention_norm, lambda y: self.attention(y, mask, rngs, bias=bias), rngs)
        x = self._added(x, self.cross_norm, lambda y: self.cross(y, memory, memory_mask, rngs), rngs)
        return self._added(x, self.mlp_norm, lambda y: self.mlp(y, rngs), rngs)

    def step(
        self,
        x: Float[Array, "b q d"],
        layer: int,
        cache: Cache,
        visible: Bool[Array, "b 1 q s"],
        bias: Float[Array, "1 h q s"] | None,
    ) -> tuple[Float[Array, "b q d"], tuple[Array, Array]]:
        """The call on new tokens, with the keys and values of those before; ``layer`` is this block's number."""
        cached: list[tuple[Array, Array]] = []

        def attend(y: Array) -> Array:
            y, pair = self.attention.step(y, cache.layers[layer], cache.length, visible, bias=bias)
            cached.append(pair)
            return y

        x = self._added(x, self.attention_norm, attend)
        x = self._added(x, self.cross_norm, lambda y: self.cross.step(y, cache.memory[layer], cache.memory_mask))
        return self._added(x, self.mlp_norm, self.mlp), cached[0]


class Stack(nnx.Module):
    """The blocks of one side.

    Attributes:
        distances: bias of the scores by distance, or None.
        layers: the blocks.
        norm: norm after the last block, or None where each ends in one.
    """

    def __init__(self, config: Config, block: type[EncoderBlock], count: int, *, rngs: nnx.Rngs):
        relative = config.positions == "relative"
        self.distances = (
            RelativeBias(
                config.buckets, config.heads, rngs=rngs, furthest=config.furthest, both_ways=block is EncoderBlock
            )
            if relative
            else None
        )
        self.layers = nnx.List([block(config, rngs=rngs) for _ in range(count)])
        self.norm = _norm(config) if config.order == "pre" else None
        self.dropout = Dropout(config.dropout)
        self.remat = config.remat
        self.scan_layers = config.scan_layers

    def __call__(self, x: Float[Array, "b t d"], mask: Any, *memory: Array, rngs: nnx.Rngs | None) -> Array:
        """``mask`` (b, t), and for a decoder the memory (b, m, d) and its mask (b, m)."""
        there = jnp.arange(x.shape[1])
        bias = None if self.distances is None else self.distances(there, there)
        x = self.dropout(x, rngs)
        x = run_layers(self.layers, x, mask, bias, *memory, rngs=rngs, remat=self.remat, scan=self.scan_layers)
        return x if self.norm is None else self.dropout(self.norm(x), rngs)


class Seq2Seq(nnx.Module):
    """Source and target tokens to the logits of the token that follows each target token.

    Attributes:
        tokens: the token table.
        encoder, decoder: see `Stack`.
        head: (width, vocab_size) without bias, or None where it is the token table.
        output_bias: (1, vocab_size), or None.
        start: token that a target is begun with.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.tokens = Embedding(config.vocab_size, config.width, rngs=rngs)
        self.encoder = Stack(config, EncoderBlock, config.layers, rngs=rngs)
        self.decoder = Stack(config, DecoderBlock, config.decoder_layers or config.layers, rngs=rngs)
        self.head = None if config.tied else Linear(config.width, config.vocab_size, rngs=rngs, use_bias=False)
        self.output_bias = nnx.Param(jnp.zeros((1, config.vocab_size))) if config.output_bias else None
        self.start = config.start
        self.sinusoidal = config.positions == "sinusoidal"
        self.embedding_factor = config.width**0.5 if config.scale_embedding else 1.0
        self.output_factor = config.width**-0.5 if config.scale_output else 1.0

    def __call__(
        self,
        source: Int[Array, "b m"],
        source_mask: Bool[Array, "b m"],
        target: Int[Array, "b t"],
        target_mask: Bool[Array, "b t"] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b t v"]:
        """Logits at every target token; those at padding mean nothing.

        Args:
            source: ids.
            source_mask: True where a source token is real.
            target: what the decoder is given: ``start``, then the target but for its last token (see `shifted`).
            target_mask: True where a target token is real; None where padding lies at the end only.
            rngs: given in training.
        """
        memory = self.encode(source, source_mask, rngs=rngs)
        x = self._embed(target, jnp.arange(target.shape[1]))
        return self._logits(self.decoder(x, target_mask, memory, source_mask, rngs=rngs))

    def encode(
        self, source: Int[Array, "b m"], mask: Bool[Array, "b m"], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b m d"]:
        """The memory: one vector a source token."""
        return self.encoder(self._embed(source, jnp.arange(source.shape[1])), mask, rngs=rngs)

    def shifted(self, target: Int[Array, "b t"]) -> Int[Array, "b t"]:
        """What the decoder is given in order to say ``target``."""
        return jnp.concatenate([jnp.full_like(target[:, :1], self.start), target[:, :-1]], 1)

    def cache(self, source: Int[Array, "b m"], mask: Bool[Array, "b m"], length: int, dtype: str = "float32") -> Cache:
        """A cache for targets of at most ``length`` tokens, with what the decoder reads of each source."""
        memory = self.encode(source, mask)
        layers = tuple(block.attention.empty(source.shape[0], length, dtype) for block in self.decoder.layers)
        remembered = tuple(block.cross.remember(memory) for block in self.decoder.layers)
        return Cache(layers, jnp.zeros((source.shape[0], length), bool), jnp.int32(0), remembered, mask)

    def step(
        self, tokens: Int[Array, "b q"], mask: Bool[Array, "b q"], cache: Cache
    ) -> tuple[Float[Array, "b v"], Cache]:
        """Logits of the token that follows the last of ``tokens``, and the cache with all of them in it."""
        visible, decoder = cache.visible(mask), self.decoder
        slots = cache.length + jnp.arange(tokens.shape[1])
        bias = None if decoder.distances is None else decoder.distances(slots, jnp.arange(cache.size))
        x = self._embed(tokens, cache.places(mask))
        layers = []
        for number, block in enumerate(decoder.layers):
            x, cached = block.step(x, number, cache, visible, bias)
            layers.append(cached)
        x = x if decoder.norm is None else decoder.norm(x)
        cache = replace(cache, layers=tuple(layers), mask=cache.added(mask), length=cache.length + tokens.shape[1])
        return self._logits(x[:, -1:])[:, 0], cache

    def _embed(self, tokens: Int[Array, "b t"], places: Int[Array, "..."]) -> Float[Array, "b t d"]:
        x = self.tokens(tokens) * self.embedding_factor
        return x + sinusoids(places, x.shape[-1]) if self.sinusoidal else x

    def _logits(self, x: Float[Array, "b q d"]) -> Float[Array, "b q v"]:
        x = edge(x * self.output_factor)
        logits = self.tokens.attend(x) if self.head is None else self.head(x)
        return logits if self.output_bias is None else logits + self.output_bias[...]


def _norm(config: Config) -> LayerNorm | RMSNorm:
    return (LayerNorm if config.norm == "layer" else RMSNorm)(config.width, epsilon=config.epsilon)


def _attention(config: Config) -> dict[str, Any]:
    """What both kinds of attention are told."""
    return dict(
        dropout=config.attention_dropout,
        head_width=config.head_width,
        use_bias=config.bias,
        scaled=config.scale_scores,
        kernel=config.attention,
    )


SHARDING = (
    (r"tokens\Wembedding$", P("tensor", "fsdp")),
    (r"(query|key|value|up|gate)\Wkernel$", P("fsdp", "tensor")),
    (r"(query|key|value|up)\Wbias$", P("tensor")),
    (r"(out|down)\Wkernel$", P("tensor", "fsdp")),
    (r"^head\Wkernel$", P("fsdp", "tensor")),
)

PRUNING = (
    feed_forward("encoder/layers/{i}/mlp"),
    feed_forward("decoder/layers/{i}/mlp"),
    heads("encoder/layers/{i}/attention"),
    heads("decoder/layers/{i}/attention"),
    heads("decoder/layers/{i}/cross"),
)


def _t5(published: Mapping[str, Any]) -> Config:
    """T5's config.json as ours."""
    # Version 1.1 does not scale what the head sees. Older files say so by tie_word_embeddings alone, newer ones by
    # scale_decoder_outputs. Whether its head is the token table the tensors say, see _t5_head.
    scaled = published.get("scale_decoder_outputs", published.get("tie_word_embeddings") is not False)
    width, heads, rate = published["d_model"], published["num_heads"], published.get("dropout_rate", 0.1)
    return Config(
        vocab_size=published["vocab_size"],
        layers=published["num_layers"],
        decoder_layers=published.get("num_decoder_layers") or published["num_layers"],
        width=width,
        heads=heads,
        head_width=published["d_kv"],
        feed_forward=published["d_ff"],
        max_length=published.get("n_positions", 512),
        norm="rms",
        positions="relative",
        buckets=published.get("relative_attention_num_buckets", 32),
        furthest=published.get("relative_attention_max_distance", 128),
        activation=_t5_activation(str(published.get("feed_forward_proj", "relu"))),  # type: ignore[arg-type]
        bias=False,
        tied=bool(scaled),
        scale_embedding=False,
        scale_scores=False,
        scale_output=scaled,
        dropout=rate,
        attention_dropout=rate,
        feed_forward_dropout=rate,
        epsilon=published.get("layer_norm_epsilon", 1e-6),
        start=published.get("decoder_start_token_id") or 0,
    )


def _t5_activation(form: str) -> str:
    """Our name of ``feed_forward_proj``: an activation, or ``gated-`` and that of the gate. T5 gates with tanh GELU."""
    kind, dash, name = form.rpartition("-")
    if dash and kind == "gated":
        return "geglu" if name == "gelu" else gated("feed_forward_proj", name)
    return activation("feed_forward_proj", form)


def _t5_head(config: Config, weights: Published) -> Config:
    """With a head of its own where, and only where, the file holds one that differs from the token table."""
    head, table = "lm_head.weight", "shared.weight"
    own = {head, table} <= weights.readers.keys() and not np.array_equal(weights.read(head), weights.read(table))
    return replace(config, tied=not own)


def _publish_t5(config: Config) -> dict[str, Any]:
    """Ours as T5's config.json."""
    fits(
        config,
        "t5",
        {
            "norm": "rms",
            "order": "pre",
            "positions": "relative",
            "bias": False,
            "output_bias": False,
            "scale_embedding": False,
            "scale_scores": False,
            "activation": tuple(name for name in ALL if name != "geglu_exact"),
        },
    )
    return {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "num_layers": config.layers,
        "num_decoder_layers": config.decoder_layers or config.layers,
        "d_model": config.width,
        "num_heads": config.heads,
        "d_kv": config.head_width or config.width // config.heads,
        "d_ff": config.feed_forward or 4 * config.width,
        "n_positions": config.max_length,
        "relative_attention_num_buckets": config.buckets,
        "relative_attention_max_distance": config.furthest,
        "feed_forward_proj": _t5_form(config.activation),
        "tie_word_embeddings": config.tied,
        "scale_decoder_outputs": config.scale_output,
        "dropout_rate": config.dropout,
        "layer_norm_epsilon": config.epsilon,
        "decoder_start_token_id": config.start,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }


def _t5_form(activation: str) -> str:
    """``feed_forward_proj`` of our ``activation``."""
    if activation == "geglu":
        return "gated-gelu"
    name = published_name(activation)
    return f"gated-{name}" if activation in GATED else name


def _marian(published: Mapping[str, Any]) -> Config:
    """Marian's config.json as ours."""
    only(
        published,
        {
            "share_encoder_decoder_embeddings": True,
            "tie_word_embeddings": True,
            "normalize_before": False,
            "normalize_embedding": False,
            "add_final_layer_norm": False,
            "decoder_attention_heads": published["encoder_attention_heads"],
            "decoder_ffn_dim": published["encoder_ffn_dim"],
        },
    )
    return Config(
        vocab_size=published["vocab_size"],
        layers=published["encoder_layers"],
        decoder_layers=published["decoder_layers"],
        width=published["d_model"],
        heads=published["encoder_attention_heads"],
        feed_forward=published["encoder_ffn_dim"],
        max_length=published.get("max_position_embeddings", 1024),
        order="post",
        activation=published_activation(published, "activation_function"),  # type: ignore[arg-type]
        output_bias=True,
        scale_embedding=published.get("scale_embedding", False),
        dropout=published.get("dropout", 0.1),
        attention_dropout=published.get("attention_dropout", 0.0),
        feed_forward_dropout=published.get("activation_dropout", 0.0),
        epsilon=1e-5,
        start=published["decoder_start_token_id"],
    )


def _publish_marian(config: Config) -> dict[str, Any]:
    """Ours as Marian's config.json; its padding is the token that begins a target."""
    fits(
        config,
        "marian",
        {
            "norm": "layer",
            "order": "post",
            "positions": "sinusoidal",
            "bias": True,
            "tied": True,
            "output_bias": True,
            "scale_scores": True,
            "scale_output": False,
            "epsilon": 1e-5,
            "head_width": (0, config.width // config.heads),
            "activation": PLAIN,
        },
    )
    inner = config.feed_forward or 4 * config.width
    return {
        "model_type": "marian",
        "architectures": ["MarianMTModel"],
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "decoder_vocab_size": config.vocab_size,
        "encoder_layers": config.layers,
        "decoder_layers": config.decoder_layers or config.layers,
        "d_model": config.width,
        "encoder_attention_heads": config.heads,
        "decoder_attention_heads": config.heads,
        "encoder_ffn_dim": inner,
        "decoder_ffn_dim": inner,
        "max_position_embeddings": config.max_length,
        "activation_function": published_name(config.activation),
        "scale_embedding": config.scale_embedding,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
        "static_position_embeddings": True,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.feed_forward_dropout,
        "decoder_start_token_id": config.start,
        "pad_token_id": config.start,
        "eos_token_id": 0,
    }


def _t5_rules(side: str, last: int) -> tuple[Rule, ...]:
    """The rules of one side, whose feed-forward layer is sublayer number ``last``."""
    block, ours = f"{side}.block.{{i}}.layer", f"{side}/layers/{{i}}"
    sublayers = {"attention": (0, "SelfAttention"), **({"cross": (1, "EncDecAttention")} if last == 2 else {})}
    attention = [
        Rule(f"{block}.{number}.{name}.{theirs}.weight", f"{ours}/{part}/{mine}/kernel", TRANSPOSED)
        for part, (number, name) in sublayers.items()
        for theirs, mine in {"q": "query", "k": "key", "v": "value", "o": "out"}.items()
    ]
    norms = [
        Rule(f"{block}.{number}.layer_norm.weight", f"{ours}/{part}_norm/scale")
        for part, number in {**{part: number for part, (number, _) in sublayers.items()}, "mlp": last}.items()
    ]
    dense = f"{block}.{last}.DenseReluDense"
    with_gate = lambda config: config.activation in GATED
    return (
        *attention,
        *norms,
        Rule(f"{dense}.wi.weight", f"{ours}/mlp/up/kernel", TRANSPOSED, when=lambda config: not with_gate(config)),
        Rule(f"{dense}.wi_0.weight", f"{ours}/mlp/gate/kernel", TRANSPOSED, when=with_gate),
        Rule(f"{dense}.wi_1.weight", f"{ours}/mlp/up/kernel", TRANSPOSED, when=with_gate),
        Rule(f"{dense}.wo.weight", f"{ours}/mlp/down/kernel", TRANSPOSED),
        Rule(f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", f"{side}/distances/embedding"),
        Rule(f"{side}.final_layer_norm.weight", f"{side}/norm/scale"),
    )


def _marian_rules(side: str) -> tuple[Rule, ...]:
    """The rules of one side."""
    block, ours = f"{side}.layers.{{i}}", f"{side}/layers/{{i}}"
    sublayers = {"self_attn": "attention", **({"encoder_attn": "cross"} if side == "decoder" else {})}
    projections = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
    norms = {f"{theirs}_layer_norm": f"{part}_norm" for theirs, part in sublayers.items()}
    return (
        *(
            rule
            for name, part in sublayers.items()
            for theirs, mine in projections.items()
            for rule in linear(f"{block}.{name}.{theirs}", f"{ours}/{part}/{mine}")
        ),
        *(
            rule
            for theirs, mine in {**norms, "final_layer_norm": "mlp_norm"}.items()
            for rule in norm(f"{block}.{theirs}", f"{ours}/{mine}")
        ),
        *linear(f"{block}.fc1", f"{ours}/mlp/up"),
        *linear(f"{block}.fc2", f"{ours}/mlp/down"),
    )


_COPIES = {f"{name}.weight": "shared.weight" for name in ("lm_head", "encoder.embed_tokens", "decoder.embed_tokens")}

IMPORTS: dict[str, Map] = {
    "t5": Map(
        rules=(
            Rule("shared.weight", "tokens/embedding"),
            *_t5_rules("encoder", 1),
            *_t5_rules("decoder", 2),
            Rule("lm_head.weight", "head/kernel", TRANSPOSED),
        ),
        config=_t5,
        publish=_publish_t5,
        settle=_t5_head,
        # A table that T5 never read, left over in its first weights.
        skip=(r"EncDecAttention\.relative_attention_bias",),
        tied=_COPIES,
    ),
    # The tables of positions are sinusoids, which need not be stored.
    "marian": Map(
        rules=(
            Rule("shared.weight", "tokens/embedding"),
            *_marian_rules("encoder"),
            *_marian_rules("decoder"),
            Rule("final_logits_bias", "output_bias", bare=True),
        ),
        config=_marian,
        publish=_publish_marian,
        skip=(r"embed_positions\.weight$",),
        prefixes=("model.",),
        tied=_COPIES,
    ),
}
