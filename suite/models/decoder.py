"""Transformer decoder: a causal language model.

With LayerNorm, learned positions, tanh GELU and a tied head it is GPT-2
("Language Models are Unsupervised Multitask Learners", Radford et al., 2019);
with RMSNorm, rotary positions, SwiGLU and no biases it is Llama (`Touvron et al., 2023 <https://arxiv.org/abs/2302.13971>`_).

Dims: b batch, t = q tokens, s slots of a cache, v vocabulary, d width, h heads, f feed-forward width.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.model import ModelConfig
from suite.contracts.units import Units
from suite.errors import InputError
from suite.models.activations import ALL, PLAIN, gated, published_activation, published_name
from suite.models.blocks import BlockConfig
from suite.models.checks import check_choices, check_given, check_sizes, divisors
from suite.nn import (
    Cache,
    Dropout,
    Embedding,
    FeedForward,
    Inner,
    Kernel,
    LayerNorm,
    LearnedPositions,
    Linear,
    Remat,
    RMSNorm,
    SelfAttention,
    run_layers,
)
from suite.nn.mlp import GATED
from suite.parallel.layout import edge
from suite.surgery.units import feed_forward, heads
from suite.weights.imports import SAME, TRANSPOSED, Map, Rule, Split, Transform, linear, norm

Norm = LayerNorm | RMSNorm

_CHOICES = {
    "norm": ("layer", "rms"),
    "positions": ("learned", "rotary"),
    "activation": ALL,
    "attention": ("auto", "plain", "fused"),
    "remat": ("none", "full", "dots"),
}


@dataclass(frozen=True, kw_only=True)
class Config(BlockConfig):
    """A causal language model. The defaults are GPT-2's of 124 million parameters, but for the vocabulary."""

    published: ClassVar[str] = "GPT-2, Llama or their like"
    own: ClassVar[tuple[str, ...]] = ("dropout", "attention_dropout", "attention", "remat", "scan_layers")

    vocab_size: int = 0
    """Rows of the token table. 0: from the task."""
    layers: int = 12
    """Blocks of attention and feed-forward."""
    width: int = 768
    """Size of a token's vector."""
    heads: int = 12
    """Attention heads; they divide the width unless head_width is set."""
    kv_heads: int = 0
    """Heads of keys and values, each shared by as many queries (arXiv 2305.13245). 0: as many as heads."""
    head_width: int = 0
    """Width of a head. 0: width / heads."""
    feed_forward: int = 0
    """Width inside the feed-forward layer. 0: four times the width."""
    max_length: int = 1024
    """Most tokens, prompt and continuation, where positions are learned."""
    norm: Literal["layer", "rms"] = "layer"
    """Kind of normalisation, before each sublayer and at the end."""
    positions: Literal["learned", "rotary"] = "learned"
    """How a token's place enters."""
    theta: float = 10_000.0
    """Base of the rotary frequencies."""
    activation: Inner = "gelu_tanh"
    """Function inside the feed-forward layer."""
    bias: bool = True
    """Whether the projections of attention have biases; those of the feed-forward layer, see feed_forward_bias."""
    feed_forward_bias: bool = True
    """Whether the feed-forward layer has biases."""
    tied: bool = True
    """The output head is the token table."""
    dropout: float = 0.1
    """Fraction of embeddings and sublayer outputs that training drops."""
    attention_dropout: float = 0.1
    """Fraction of attention weights that training drops; above 0 training takes the plain kernel."""
    epsilon: float = 1e-5
    """Added to variances."""
    attention: Kernel = "auto"
    """fused: one kernel, cuDNN's where it applies; plain: two products; auto: fused on an accelerator."""
    remat: Remat = "none"
    """What the backward pass computes again to save memory: nothing, each layer, or all but its products."""
    scan_layers: bool = False
    """Compile one layer and scan it: same numbers, quicker to compile, slower on a CPU."""

    def __post_init__(self):
        _check_sizes(self)
        self._check_blocks()
        check_choices(self, _CHOICES)

    def build(self, *, rngs: nnx.Rngs) -> "Decoder":
        check_given(self, "vocab_size")
        return Decoder(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        rules = [rule for rule in SHARDING if self.bias or self.feed_forward_bias or "bias" not in rule[0]]
        return tuple(rule for rule in rules if not (self.tied and rule[0].startswith("^head")))

    def below(self, path: str) -> bool:
        return re.search(r"tokens|positions", path) is not None

    @property
    def shared_by_tensor(self) -> dict[str, int]:
        return {"heads": self.heads, "kv_heads": self.kv_heads or self.heads}

    @property
    def prunable(self) -> tuple[Units, ...]:
        return PRUNING


def _check_sizes(config: Config) -> None:
    check_sizes(config, 0, "vocab_size", "kv_heads", "head_width", "feed_forward")
    check_sizes(config, 1, "layers", "width", "heads", "max_length")
    if config.kv_heads and config.heads % config.kv_heads:
        raise InputError(
            "field model.kv_heads",
            "must divide heads",
            found=f"{config.kv_heads} of {config.heads} heads",
            fix=f"one of {divisors(config.heads)}",
        )
    if config.epsilon <= 0 or config.theta <= 0:
        raise InputError(
            "fields model.epsilon and model.theta", "must be above 0", found=f"{config.epsilon}, {config.theta}"
        )


class Block(nnx.Module):
    """Norm and attention, norm and feed-forward, each with dropout and a residual connection.

    Attributes:
        attention, attention_norm: first sublayer and its norm.
        mlp, mlp_norm: second sublayer and its norm.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        width = config.width
        self.attention = SelfAttention(
            width,
            config.heads,
            rngs=rngs,
            dropout=config.attention_dropout,
            turn=config.positions == "rotary",
            theta=config.theta,
            kv_heads=config.kv_heads,
            head_width=config.head_width,
            use_bias=config.bias,
            causal=True,
            kernel=config.attention,
        )
        self.attention_norm = _norm(config)
        self.mlp = FeedForward(
            width, config.feed_forward or 4 * width, config.activation, rngs=rngs, use_bias=config.feed_forward_bias
        )
        self.mlp_norm = _norm(config)
        self.dropout = Dropout(config.dropout)

    def __call__(
        self,
        x: Float[Array, "b t d"],
        mask: Bool[Array, "b t"] | None,
        places: Int[Array, "b t"] | None,
        rngs: nnx.Rngs | None,
    ) -> Float[Array, "b t d"]:
        x = x + self.dropout(self.attention(self.attention_norm(x), mask, rngs, places=places), rngs)
        return x + self.dropout(self.mlp(self.mlp_norm(x)), rngs)

    def step(
        self,
        x: Float[Array, "b q d"],
        cached: tuple[Array, Array],
        slot: Int[Array, ""],
        visible: Bool[Array, "b 1 q s"],
        places: Int[Array, "b q"],
    ) -> tuple[Float[Array, "b q d"], tuple[Array, Array]]:
        """The call on new tokens, with the keys and values of those before."""
        mixed, cached = self.attention.step(self.attention_norm(x), cached, slot, visible, places=places)
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), cached


class Decoder(nnx.Module):
    """Tokens to the logits of the token that follows each of them.

    Attributes:
        tokens: the token table.
        positions: the table of places, or None where they are rotary.
        layers: the blocks.
        norm: norm after the last block.
        head: (width, vocab_size) without bias, or None where it is the token table.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.tokens = Embedding(config.vocab_size, config.width, rngs=rngs)
        learned = config.positions == "learned"
        self.positions = LearnedPositions(config.max_length, config.width, rngs=rngs) if learned else None
        self.layers = nnx.List([Block(config, rngs=rngs) for _ in range(config.layers)])
        self.norm = _norm(config)
        self.head = None if config.tied else Linear(config.width, config.vocab_size, rngs=rngs, use_bias=False)
        self.dropout = Dropout(config.dropout)
        self.remat = config.remat
        self.scan_layers = config.scan_layers

    def __call__(
        self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"] | None = None, *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b t v"]:
        """Logits at every token; those at padding mean nothing.

        Args:
            tokens: ids.
            mask: True where a token is real; padding may lie on either side. None: no padding.
            rngs: given in training.

        Raises:
            InputError: more tokens than learned positions.
        """
        return self.logits(self.hidden(tokens, mask, rngs=rngs))

    def hidden(
        self,
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"] | None = None,
        *,
        added: Float[Array, "b t d"] | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b t d"]:
        """What the logits of the next token are made of, at every token. See the call.

        ``added`` is what else is known of each token, which is added to its vector.
        """
        places = None if mask is None else jnp.maximum(jnp.cumsum(mask, 1) - 1, 0)
        x = self.tokens(tokens) if added is None else self.tokens(tokens) + added
        if self.positions is not None:
            there = self.positions(tokens.shape[1])
            x = x + (there if places is None else self.positions.at(places))
        x = self.dropout(x, rngs)
        x = run_layers(self.layers, x, mask, places, rngs=rngs, remat=self.remat, scan=self.scan_layers)
        return edge(self.norm(x))

    def output_table(self) -> Float[Array, "v d"]:
        """The vectors whose products with `hidden` are the logits."""
        return self.tokens.embedding[...] if self.head is None else self.head.kernel[...].T

    def cache(self, rows: int, length: int, dtype: str = "float32") -> Cache:
        """An empty cache for ``rows`` sequences of at most ``length`` tokens.

        Raises:
            InputError: more tokens than learned positions.
        """
        if self.positions is not None:
            self.positions(length)
        layers = tuple(block.attention.empty(rows, length, dtype) for block in self.layers)
        return Cache(layers, jnp.zeros((rows, length), bool), jnp.int32(0))

    def step(
        self, tokens: Int[Array, "b q"], mask: Bool[Array, "b q"], cache: Cache
    ) -> tuple[Float[Array, "b v"], Cache]:
        """Logits of the token that follows the last of ``tokens``, and the cache with all of them in it."""
        places, visible = cache.places(mask), cache.visible(mask)
        x = self.tokens(tokens)
        if self.positions is not None:
            x = x + self.positions.at(places)
        layers = []
        for block, cached in zip(self.layers, cache.layers, strict=True):
            x, cached = block.step(x, cached, cache.length, visible, places)
            layers.append(cached)
        cache = Cache(tuple(layers), cache.added(mask), cache.length + tokens.shape[1])
        return self.logits(edge(self.norm(x[:, -1:])))[:, 0], cache

    def logits(self, hidden: Float[Array, "... d"]) -> Float[Array, "... v"]:
        """Logits of what `hidden` gives."""
        return self.tokens.attend(hidden) if self.head is None else self.head(hidden)


def _norm(config: Config) -> Norm:
    return (LayerNorm if config.norm == "layer" else RMSNorm)(config.width, epsilon=config.epsilon)


SHARDING = (
    (r"tokens\Wembedding$", P("tensor", "fsdp")),
    (r"(query|key|value|up|gate)\Wkernel$", P("fsdp", "tensor")),
    (r"(query|key|value|up)\Wbias$", P("tensor")),
    (r"(out|down)\Wkernel$", P("tensor", "fsdp")),
    (r"^head\Wkernel$", P("fsdp", "tensor")),
)

PRUNING = (feed_forward("layers/{i}/mlp"), heads("layers/{i}/attention"))


def _gpt2(published: Mapping[str, Any]) -> Config:
    """GPT-2's config.json as ours."""
    plain = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
    only(published, plain)
    return Config(
        vocab_size=published["vocab_size"],
        layers=published["n_layer"],
        width=published["n_embd"],
        heads=published["n_head"],
        feed_forward=published.get("n_inner") or 0,
        max_length=published["n_positions"],
        activation=published_activation(published, "activation_function", "gelu_new"),  # type: ignore[arg-type]
        tied=published.get("tie_word_embeddings", True),
        dropout=published.get("resid_pdrop", 0.1),
        attention_dropout=published.get("attn_pdrop", 0.1),
        epsilon=published.get("layer_norm_epsilon", 1e-5),
    )


def _publish_gpt2(config: Config) -> dict[str, Any]:
    """Ours as GPT-2's config.json."""
    fixed = {"norm": "layer", "positions": "learned", "bias": True, "feed_forward_bias": True, "head_width": 0}
    fits(config, "gpt2", {**fixed, "kv_heads": (0, config.heads), "activation": PLAIN})
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_layer": config.layers,
        "n_embd": config.width,
        "n_head": config.heads,
        "n_inner": config.feed_forward or None,
        "n_positions": config.max_length,
        "activation_function": published_name(config.activation),
        "tie_word_embeddings": config.tied,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.attention_dropout,
        "layer_norm_epsilon": config.epsilon,
    }


def _llama(published: Mapping[str, Any]) -> Config:
    """Llama's config.json as ours."""
    rope = {**(published.get("rope_scaling") or {}), **(published.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise unknown("rope_parameters.rope_type", kind, ("default",))
    heads, width = published["num_attention_heads"], published["hidden_size"]
    kv_heads, head_width = published.get("num_key_value_heads") or heads, published.get("head_dim") or width // heads
    return Config(
        vocab_size=published["vocab_size"],
        layers=published["num_hidden_layers"],
        width=width,
        heads=heads,
        kv_heads=0 if kv_heads == heads else kv_heads,
        head_width=0 if head_width * heads == width else head_width,
        feed_forward=published["intermediate_size"],
        max_length=published.get("max_position_embeddings", 2048),
        norm="rms",
        positions="rotary",
        theta=rope.get("rope_theta", published.get("rope_theta", 10_000.0)),
        activation=gated("hidden_act", published.get("hidden_act", "silu")),
        bias=published.get("attention_bias", False),
        feed_forward_bias=published.get("mlp_bias", False),
        tied=published.get("tie_word_embeddings", False),
        dropout=0.0,
        attention_dropout=published.get("attention_dropout", 0.0),
        epsilon=published.get("rms_norm_eps", 1e-6),
    )


def _publish_llama(config: Config) -> dict[str, Any]:
    """Ours as Llama's config.json."""
    fits(config, "llama", {"norm": "rms", "positions": "rotary", "activation": tuple(GATED)})
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": config.vocab_size,
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads or config.heads,
        "head_dim": config.head_width or config.width // config.heads,
        "intermediate_size": config.feed_forward or 4 * config.width,
        "max_position_embeddings": config.max_length,
        "hidden_act": published_name(config.activation),
        "rope_theta": config.theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.theta},
        "attention_bias": config.bias,
        "mlp_bias": config.feed_forward_bias,
        "tie_word_embeddings": config.tied,
        "attention_dropout": config.attention_dropout,
        "rms_norm_eps": config.epsilon,
    }


def unknown(name: str, value: Any, known: Iterable[Any]) -> InputError:
    return InputError(
        f"config.json, {name}",
        "is not something this family can do",
        found=str(value),
        fix=f"weights with one of {', '.join(map(str, known))}",
    )


def only(published: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Every key has the one value that we compute, or is absent."""
    for name, value in wanted.items():
        if published.get(name, value) != value:
            raise unknown(name, published[name], (value,))


def fits(config: ModelConfig, name: str, wanted: Mapping[str, Any]) -> None:
    """Every field has the value, or one of the values, that the published format knows."""
    for key, value in wanted.items():
        allowed = value if isinstance(value, tuple) else (value,)
        if getattr(config, key) not in allowed:
            raise InputError(
                f"field model.{key}",
                f"is {getattr(config, key)}, which {name} cannot say",
                fix=f"one of {', '.join(map(str, allowed))}",
            )


def _affine(theirs: str, ours: str, transform: Transform = SAME) -> tuple[Rule, ...]:
    """A kernel and its bias, where the published kernel is read by ``transform``."""
    return Rule(f"{theirs}.weight", f"{ours}/kernel", transform), Rule(f"{theirs}.bias", f"{ours}/bias")


_QKV = tuple(f"layers/{{i}}/attention/{part}" for part in ("query", "key", "value"))

IMPORTS: dict[str, Map] = {
    # GPT-2's Conv1D keeps its kernels as we do, (inputs, outputs), and query, key and value side by side.
    "gpt2": Map(
        rules=(
            Rule("wte.weight", "tokens/embedding"),
            Rule("wpe.weight", "positions/embedding"),
            *norm("h.{i}.ln_1", "layers/{i}/attention_norm"),
            Rule("h.{i}.attn.c_attn.weight", tuple(f"{part}/kernel" for part in _QKV), Split(3)),
            Rule("h.{i}.attn.c_attn.bias", tuple(f"{part}/bias" for part in _QKV), Split(3)),
            *_affine("h.{i}.attn.c_proj", "layers/{i}/attention/out"),
            *norm("h.{i}.ln_2", "layers/{i}/mlp_norm"),
            *_affine("h.{i}.mlp.c_fc", "layers/{i}/mlp/up"),
            *_affine("h.{i}.mlp.c_proj", "layers/{i}/mlp/down"),
            *norm("ln_f", "norm"),
            Rule("lm_head.weight", "head/kernel", TRANSPOSED, bare=True),
        ),
        config=_gpt2,
        publish=_publish_gpt2,
        skip=(r"\.attn\.(masked_)?bias$",),
        prefixes=("transformer.", ""),
        tied={"lm_head.weight": "wte.weight"},
    ),
    "llama": Map(
        rules=(
            Rule("embed_tokens.weight", "tokens/embedding"),
            *(
                rule
                for theirs, ours in {
                    "self_attn.q_proj": "attention/query",
                    "self_attn.k_proj": "attention/key",
                    "self_attn.v_proj": "attention/value",
                    "self_attn.o_proj": "attention/out",
                    "mlp.gate_proj": "mlp/gate",
                    "mlp.up_proj": "mlp/up",
                    "mlp.down_proj": "mlp/down",
                }.items()
                for rule in linear(f"layers.{{i}}.{theirs}", f"layers/{{i}}/{ours}")
            ),
            Rule("layers.{i}.input_layernorm.weight", "layers/{i}/attention_norm/scale"),
            Rule("layers.{i}.post_attention_layernorm.weight", "layers/{i}/mlp_norm/scale"),
            Rule("norm.weight", "norm/scale"),
            Rule("lm_head.weight", "head/kernel", TRANSPOSED, bare=True),
        ),
        config=_llama,
        publish=_publish_llama,
        skip=(r"rotary_emb\.inv_freq$",),
        prefixes=("model.", ""),
        tied={"lm_head.weight": "embed_tokens.weight"},
    ),
}
