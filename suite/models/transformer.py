"""Transformer encoder with a classifier of texts or tokens (`Vaswani et al., 2017 <https://arxiv.org/abs/1706.03762>`_).

With ``norm="post"``, learned positions, GELU, ``embedding_norm`` and CLS pooling it is BERT
(`Devlin et al., 2018 <https://arxiv.org/abs/1810.04805>`_) and MiniLM
(`Wang et al., 2020 <https://arxiv.org/abs/2002.10957>`_) with ``token_types=2``; RoBERTa
(`Liu et al., 2019 <https://arxiv.org/abs/1907.11692>`_) with ``token_types=1, position_offset=2``; DistilBERT
(`Sanh et al., 2019 <https://arxiv.org/abs/1910.01108>`_) with ``pooler="relu"``.

Dims: b batch, t tokens, v vocabulary, d width, h heads, f feed-forward width, o outputs.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.units import Units
from suite.errors import InputError
from suite.models.activations import ALL, PLAIN, published_activation, published_name
from suite.models.blocks import BlockConfig
from suite.models.checks import check_choices, check_given, check_sizes
from suite.nn import (
    Dropout,
    Embedding,
    FeedForward,
    Inner,
    LayerNorm,
    LearnedPositions,
    Linear,
    Remat,
    SelfAttention,
    run_layers,
    sinusoidal,
)
from suite.nn.masking import masked_mean
from suite.parallel.layout import edge
from suite.surgery.units import feed_forward, heads
from suite.weights.imports import Map, Rule, linear, norm

_CHOICES = {
    "norm": ("pre", "post"),
    "positions": ("learned", "sinusoidal", "rotary", "none"),
    "activation": ALL,
    "pooling": ("mean", "cls", "none"),
    "pooler": ("tanh", "relu"),
    "remat": ("none", "full", "dots"),
}


@dataclass(frozen=True, kw_only=True)
class Config(BlockConfig):
    """A transformer encoder with a classifier on top."""

    published: ClassVar[str] = "BERT, MiniLM, RoBERTa or DistilBERT"
    own: ClassVar[tuple[str, ...]] = ("outputs", "pooling", "dropout", "attention_dropout", "remat", "scan_layers")

    vocab_size: int = 0
    """Rows of the token table. 0: from the task."""
    outputs: int = 0
    """Classes. 0: from the task; where it has none, the model returns the pooled vector."""
    layers: int = 4
    """Blocks of attention and feed-forward. 0: a classifier of the mean token vector."""
    width: int = 256
    """Size of a token's vector."""
    heads: int = 4
    """Attention heads; they divide the width unless head_width is set."""
    head_width: int = 0
    """Width of a head. 0: width / heads."""
    feed_forward: int = 1024
    """Width inside the feed-forward layer. 0: four times the width."""
    max_length: int = 512
    """Most tokens, where positions are learned."""
    norm: Literal["pre", "post"] = "pre"
    """Normalise before each sublayer, which trains without care, or after it, as BERT does."""
    positions: Literal["learned", "sinusoidal", "rotary", "none"] = "learned"
    """How a token's place enters."""
    activation: Inner = "gelu"
    """Function inside the feed-forward layer."""
    pooling: Literal["mean", "cls", "none"] = "mean"
    """What the classifier sees: the mean of all tokens; the first token through a layer, as in BERT; or each token by
    itself (none), as a tagger does."""
    pooler: Literal["tanh", "relu"] = "tanh"
    """Function of that layer. tanh: BERT's and RoBERTa's; relu: DistilBERT's, which only a classifier has."""
    token_types: int = 0
    """Kinds of tokens (first text, second text) that have a vector of their own. 0: none."""
    position_offset: int = 0
    """Rows of the table of places before that of the first token. RoBERTa: 2."""
    dropout: float = 0.1
    """Fraction of embeddings, sublayer outputs and pooled vector that training drops."""
    attention_dropout: float = 0.1
    """Fraction of attention weights that training drops."""
    embedding_norm: bool = False
    """Normalise embeddings, as BERT does."""
    epsilon: float = 1e-6
    """Added to variances. BERT: 1e-12."""
    remat: Remat = "none"
    """What the backward pass computes again to save memory: nothing, each layer, or all but its products."""
    scan_layers: bool = False
    """Compile one layer and scan it: quicker to compile, slower on a CPU. Other dropout masks than unrolled."""

    def __post_init__(self):
        _check_sizes(self)
        self._check_blocks()
        check_choices(self, _CHOICES)

    def build(self, *, rngs: nnx.Rngs) -> "TransformerClassifier":
        check_given(self, "vocab_size")
        return TransformerClassifier(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        # A rule that matches nothing is an error, and all but the first are about blocks.
        return SHARDING if self.layers else SHARDING[:1]

    @property
    def vector_sizes(self) -> dict[str, int]:
        return {"inputs": self.width, "vocab_size": self.vocab_size}

    def below(self, path: str) -> bool:
        return re.search(r"tokens|token_types|positions|embedding_norm", path) is not None

    @property
    def prunable(self) -> tuple[Units, ...]:
        return PRUNING


def _check_sizes(config: Config) -> None:
    check_sizes(
        config, 0, "vocab_size", "outputs", "layers", "head_width", "feed_forward", "token_types", "position_offset"
    )
    check_sizes(config, 1, "width", "heads", "max_length")
    if config.epsilon <= 0:
        raise InputError("field model.epsilon", "must be above 0", found=str(config.epsilon))


class Block(nnx.Module):
    """Attention, then feed-forward, each with dropout and a residual connection.

    Attributes:
        attention, attention_norm: first sublayer and its norm.
        mlp, mlp_norm: second sublayer and its norm.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        width, epsilon = config.width, config.epsilon
        self.attention = SelfAttention(
            width,
            config.heads,
            rngs=rngs,
            dropout=config.attention_dropout,
            turn=config.positions == "rotary",
            head_width=config.head_width,
        )
        self.attention_norm = LayerNorm(width, epsilon=epsilon)
        self.mlp = FeedForward(width, config.feed_forward or 4 * width, config.activation, rngs=rngs)
        self.mlp_norm = LayerNorm(width, epsilon=epsilon)
        self.dropout = Dropout(config.dropout)
        self.norm = config.norm

    def __call__(
        self, x: Float[Array, "b t d"], mask: Bool[Array, "b t"], rngs: nnx.Rngs | None
    ) -> Float[Array, "b t d"]:
        if self.norm == "pre":
            x = x + self.dropout(self.attention(self.attention_norm(x), mask, rngs), rngs)
            return x + self.dropout(self.mlp(self.mlp_norm(x)), rngs)
        x = self.attention_norm(x + self.dropout(self.attention(x, mask, rngs), rngs))
        return self.mlp_norm(x + self.dropout(self.mlp(x), rngs))


class Encoder(nnx.Module):
    """Tokens to one vector a token, each informed by all tokens that are no padding.

    Attributes:
        tokens: the token table.
        positions: the table of places, or None where they are not learned.
        token_types: the table of kinds of tokens, or None where there is one kind.
        embedding_norm: norm of the embeddings, or None.
        layers: the blocks.
        norm: norm after the last block; None where each block ends in one.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        width, epsilon = config.width, config.epsilon
        self.tokens = Embedding(config.vocab_size, width, rngs=rngs)
        learned = config.positions == "learned"
        places = config.max_length + config.position_offset
        self.positions = LearnedPositions(places, width, rngs=rngs) if learned else None
        self.token_types = Embedding(config.token_types, width, rngs=rngs) if config.token_types else None
        self.embedding_norm = LayerNorm(width, epsilon=epsilon) if config.embedding_norm else None
        self.layers = nnx.List([Block(config, rngs=rngs) for _ in range(config.layers)])
        self.norm = LayerNorm(width, epsilon=epsilon) if config.norm == "pre" and config.layers else None
        self.dropout = Dropout(config.dropout)
        self.sinusoidal = config.positions == "sinusoidal"
        self.offset = config.position_offset
        self.remat, self.scan_layers = config.remat, config.scan_layers

    def __call__(
        self,
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"],
        types: Int[Array, "b t"] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b t d"]:
        """Hidden vectors; those of padding (``mask`` False) mean nothing. ``types`` of tokens: None for all 0.

        Raises:
            InputError: more tokens than learned positions.
        """
        x = self._embed(tokens)
        if self.token_types is not None:
            x = x + self.token_types(jnp.int32(0) if types is None else types)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        x = self.dropout(x, rngs)
        if self.remat != "none" or self.scan_layers:
            x = run_layers(self.layers, x, mask, rngs=rngs, remat=self.remat, scan=self.scan_layers)
        else:
            for block in self.layers:
                x = block(edge(x), mask, rngs)
        return x if self.norm is None else self.norm(x)

    def _embed(self, tokens: Int[Array, "b t"]) -> Float[Array, "b t d"]:
        x = self.tokens(tokens)
        if self.positions is not None:
            return x + self.positions(tokens.shape[1] + self.offset)[self.offset :]
        # Sines have size 1 and the table is small at first: the paper scales it by the root of the width.
        return x * x.shape[-1] ** 0.5 + sinusoidal(*x.shape[1:]) if self.sinusoidal else x


class TransformerClassifier(nnx.Module):
    """Encoder, pooling, linear head.

    Attributes:
        encoder: see `Encoder`.
        pooler: the layer of CLS pooling, or None.
        head: (width, outputs), or None where the model has no outputs of its own.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        pooler = config.pooling == "cls" and (config.pooler == "tanh" or config.outputs)
        self.encoder = Encoder(config, rngs=rngs)
        self.pooler = Linear(config.width, config.width, rngs=rngs) if pooler else None
        self.dropout = Dropout(config.dropout)
        self.head = Linear(config.width, config.outputs, rngs=rngs) if config.outputs else None
        self.pooling = config.pooling
        self.squash = jnp.tanh if config.pooler == "tanh" else jax.nn.relu

    def __call__(
        self,
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"],
        types: Int[Array, "b t"] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b o"] | Float[Array, "b t o"]:
        """Logits of each row, or its pooled vector (b, d) where there is no head; without pooling, of each token.

        Dropout acts only where ``rngs`` is given. ``types`` of tokens: None for all 0.
        """
        hidden = self.encoder(tokens, mask, types, rngs=rngs)
        pooled = self._pooled(hidden, mask)
        if self.pooler is not None:
            pooled = self.squash(self.pooler(pooled))
        return pooled if self.head is None else self.head(edge(self.dropout(pooled, rngs)))

    def _pooled(self, hidden: Float[Array, "b t d"], mask: Bool[Array, "b t"]) -> jax.Array:
        if self.pooling == "none":
            return hidden
        return hidden[:, 0] if self.pooling == "cls" else masked_mean(hidden, mask)


SHARDING = (
    (r"tokens\Wembedding$", P("tensor", "fsdp")),
    (r"(query|key|value|up|gate)\Wkernel$", P("fsdp", "tensor")),
    (r"(query|key|value|up)\Wbias$", P("tensor")),
    (r"(out|down)\Wkernel$", P("tensor", "fsdp")),
)

PRUNING = (feed_forward("encoder/layers/{i}/mlp"), heads("encoder/layers/{i}/attention"))

_SIZES = {
    "vocab_size": "vocab_size",
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
    "max_length": "max_position_embeddings",
    "token_types": "type_vocab_size",
}
_REST = {
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "epsilon": "layer_norm_eps",
}
_DISTIL_SIZES = {
    "vocab_size": "vocab_size",
    "layers": "n_layers",
    "width": "dim",
    "heads": "n_heads",
    "feed_forward": "hidden_dim",
    "max_length": "max_position_embeddings",
}
_DISTIL_REST = {"activation": "activation", "dropout": "dropout", "attention_dropout": "attention_dropout"}
_TAGGER = "ForTokenClassification"
"""What the name of a published model ends in whose head sees each token by itself."""
_POST = {"norm": "post", "positions": "learned", "embedding_norm": True}
"""Fields that BERT and its descendants share."""


def _reader(sizes: dict[str, str], rest: dict[str, str], **fixed: Any) -> Callable[[Mapping[str, Any]], Config]:
    """The function from a published config to ours. ``sizes`` must be stated, ``rest`` may be left to the default."""

    def read(published: Mapping[str, Any]) -> Config:
        missing = [theirs for theirs in sizes.values() if theirs not in published]
        if missing:
            raise InputError("config.json", f"does not state {', '.join(missing)}.", fix="the one that was published")
        for name, known in (("position_embedding_type", "absolute"), ("is_decoder", False)):
            if published.get(name, known) != known:
                raise InputError(f"config.json, {name}", f'"{published[name]}" is not there.', fix=f'"{known}"')
        classes = published.get("id2label") or range(published.get("num_labels", 2))
        named = published.get("architectures") or ()
        heads = [name for name in named if name.endswith(("SequenceClassification", _TAGGER))]
        offset = 0
        if fixed.get("position_offset"):  # RoBERTa counts places from the id of padding on
            offset = 2 if published.get("pad_token_id") is None else published["pad_token_id"] + 1
        values = {ours: published[theirs] for ours, theirs in (sizes | rest).items() if theirs in published}
        values["activation"] = published_activation(published, rest["activation"])
        return Config(
            **{
                "epsilon": 1e-12,
                **_POST,
                "pooling": "none" if heads and heads[0].endswith(_TAGGER) else "cls",
                **values,
                **fixed,
                "position_offset": offset,
                "outputs": len(classes) if heads else 0,
                "max_length": values["max_length"] - offset,
            }
        )

    return read


def _writer(
    kind: str, stem: str, sizes: dict[str, str], rest: dict[str, str], offset: bool = False, **fixed: Any
) -> Callable[[Config], dict[str, Any]]:
    """The function from our config to a published one. ``offset``: places are counted from the id of padding on."""

    def publish(config: Config) -> dict[str, Any]:
        tags = _tags(config)
        needed = {**_POST, **fixed, **({"pooling": "cls"} if config.outputs and not tags else {})}
        wrong = [
            f"{name} {getattr(config, name)}, not {value}"
            for name, value in needed.items()
            if getattr(config, name) != value
        ]
        if config.activation not in PLAIN:
            wrong.append(f"activation {config.activation}")
        if config.head_width * config.heads not in (0, config.width):
            wrong.append(f"{config.heads} heads of width {config.head_width}")
        if bool(config.token_types) != ("token_types" in sizes):
            wrong.append(f"token_types {config.token_types}")
        if bool(config.position_offset) != offset:
            wrong.append(f"position_offset {config.position_offset}")
        if wrong:
            raise InputError("the model", f"has {', '.join(wrong)}.")
        values = {theirs: getattr(config, ours) for ours, theirs in (sizes | rest).items()}
        values[rest["activation"]] = published_name(config.activation)
        values[sizes["feed_forward"]] = config.feed_forward or 4 * config.width
        values["max_position_embeddings"] += config.position_offset
        labels = {str(i): f"LABEL_{i}" for i in range(config.outputs)}
        head = {"id2label": labels, "label2id": {name: int(i) for i, name in labels.items()}} if labels else {}
        return {
            "model_type": kind,
            "architectures": [stem + (_TAGGER if tags else "ForSequenceClassification" if labels else "Model")],
            **values,
            **head,
            "pad_token_id": max(config.position_offset - 1, 0),
        }

    return publish


def _headed(config: Config) -> bool:
    return config.outputs > 0 and config.pooling != "none"


def _tags(config: Config) -> bool:
    return config.outputs > 0 and config.pooling == "none"


def _headless(config: Config) -> bool:
    return not config.outputs


_BODY = (
    Rule("embeddings.word_embeddings.weight", "encoder/tokens/embedding"),
    Rule("embeddings.position_embeddings.weight", "encoder/positions/embedding"),
    *norm("embeddings.LayerNorm", "encoder/embedding_norm"),
)
_BERT = (
    *_BODY,
    Rule("embeddings.token_type_embeddings.weight", "encoder/token_types/embedding"),
    *linear("encoder.layer.{i}.attention.self.query", "encoder/layers/{i}/attention/query"),
    *linear("encoder.layer.{i}.attention.self.key", "encoder/layers/{i}/attention/key"),
    *linear("encoder.layer.{i}.attention.self.value", "encoder/layers/{i}/attention/value"),
    *linear("encoder.layer.{i}.attention.output.dense", "encoder/layers/{i}/attention/out"),
    *norm("encoder.layer.{i}.attention.output.LayerNorm", "encoder/layers/{i}/attention_norm"),
    *linear("encoder.layer.{i}.intermediate.dense", "encoder/layers/{i}/mlp/up"),
    *linear("encoder.layer.{i}.output.dense", "encoder/layers/{i}/mlp/down"),
    *norm("encoder.layer.{i}.output.LayerNorm", "encoder/layers/{i}/mlp_norm"),
)
_DISTILBERT = (
    *_BODY,
    *linear("transformer.layer.{i}.attention.q_lin", "encoder/layers/{i}/attention/query"),
    *linear("transformer.layer.{i}.attention.k_lin", "encoder/layers/{i}/attention/key"),
    *linear("transformer.layer.{i}.attention.v_lin", "encoder/layers/{i}/attention/value"),
    *linear("transformer.layer.{i}.attention.out_lin", "encoder/layers/{i}/attention/out"),
    *norm("transformer.layer.{i}.sa_layer_norm", "encoder/layers/{i}/attention_norm"),
    *linear("transformer.layer.{i}.ffn.lin1", "encoder/layers/{i}/mlp/up"),
    *linear("transformer.layer.{i}.ffn.lin2", "encoder/layers/{i}/mlp/down"),
    *norm("transformer.layer.{i}.output_layer_norm", "encoder/layers/{i}/mlp_norm"),
)
_FRESH = (r"^head/", r"^pooler/")
_RENAMES = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))

IMPORTS: dict[str, Map] = {
    "bert": Map(
        rules=(*_BERT, *linear("pooler.dense", "pooler"), *linear("classifier", "head", bare=True)),
        config=_reader(_SIZES, _REST),
        publish=_writer("bert", "Bert", _SIZES, _REST, pooler="tanh"),
        skip=(r"^cls\.", r"position_ids$", r"pooler\."),
        prefixes=("bert.", ""),
        prefix=lambda config: "bert." if config.outputs else "",
        fresh=_FRESH,
        renames=_RENAMES,
    ),
    "roberta": Map(
        rules=(
            *_BERT,
            *linear("pooler.dense", "pooler", when=_headless),
            *linear("classifier.dense", "pooler", bare=True, when=_headed),
            *linear("classifier.out_proj", "head", bare=True, when=_headed),
            *linear("classifier", "head", bare=True, when=_tags),
        ),
        config=_reader(_SIZES, _REST, position_offset=2),
        publish=_writer("roberta", "Roberta", _SIZES, _REST, offset=True, pooler="tanh"),
        skip=(r"^lm_head\.", r"position_ids$", r"pooler\.", r"^classifier\.(dense|out_proj)"),
        prefixes=("roberta.", ""),
        prefix=lambda config: "roberta." if config.outputs else "",
        fresh=_FRESH,
        renames=_RENAMES,
    ),
    "distilbert": Map(
        rules=(*_DISTILBERT, *linear("pre_classifier", "pooler", bare=True), *linear("classifier", "head", bare=True)),
        config=_reader(_DISTIL_SIZES, _DISTIL_REST, pooler="relu"),
        publish=_writer("distilbert", "DistilBert", _DISTIL_SIZES, _DISTIL_REST, pooler="relu", epsilon=1e-12),
        skip=(r"^vocab_", r"position_ids$", r"^pre_classifier\."),
        prefixes=("distilbert.", ""),
        prefix=lambda config: "distilbert." if config.outputs else "",
        fresh=_FRESH,
    ),
}
"""Published as ``model_type``; MiniLM is published as a BERT."""
