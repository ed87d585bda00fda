"""Transformer encoder and classifier (`Vaswani et al., 2017 <https://arxiv.org/abs/1706.03762>`_).

With ``norm="post"``, learned positions, GELU, ``embedding_norm`` and CLS pooling it is BERT
(`Devlin et al., 2018 <https://arxiv.org/abs/1810.04805>`_) to the last operation, save that the vector of BERT's
token type 0, a constant, belongs to the positions.

Dims: b batch, t tokens, v vocabulary, d width, h heads, f feed-forward width, o outputs.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.base import ModelConfig
from suite.errors import InputError
from suite.nn import Dropout, Embedding, FeedForward, LayerNorm, LearnedPositions, Linear, SelfAttention, sinusoidal

_CHOICES = {
    "norm": ("pre", "post"),
    "positions": ("learned", "sinusoidal", "rotary", "none"),
    "activation": ("gelu", "relu", "swiglu"),
    "pooling": ("mean", "cls"),
}


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """A transformer encoder with a classifier on top."""

    vocab_size: int = 0
    """Rows of the token table. 0: from the task."""
    outputs: int = 0
    """Classes. 0: from the task."""
    layers: int = 4
    """Blocks of attention and feed-forward. 0: a classifier of the mean token vector."""
    width: int = 256
    """Size of a token's vector."""
    heads: int = 4
    """Attention heads; they divide the width."""
    feed_forward: int = 1024
    """Width inside the feed-forward layer. 0: four times the width."""
    max_length: int = 512
    """Most tokens, where positions are learned."""
    norm: Literal["pre", "post"] = "pre"
    """Normalise before each sublayer, which trains without care, or after it, as BERT does."""
    positions: Literal["learned", "sinusoidal", "rotary", "none"] = "learned"
    """How a token's place enters."""
    activation: Literal["gelu", "relu", "swiglu"] = "gelu"
    """Function inside the feed-forward layer."""
    pooling: Literal["mean", "cls"] = "mean"
    """What the classifier sees: the mean of all tokens, or the first token through a tanh layer, as in BERT."""
    dropout: float = 0.1
    """Fraction of embeddings, sublayer outputs and pooled vector that training drops."""
    attention_dropout: float = 0.1
    """Fraction of attention weights that training drops."""
    embedding_norm: bool = False
    """Normalise embeddings, as BERT does."""
    epsilon: float = 1e-6
    """Added to variances. BERT: 1e-12."""

    def __post_init__(self):
        _check_sizes(self)
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(
                    f"field model.{name}", "no such choice", found=str(getattr(self, name)), fix=", ".join(known)
                )
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(
                    f"field model.{name}", "must be at least 0 and below 1", found=str(getattr(self, name))
                )

    def build(self, *, rngs: nnx.Rngs) -> "TransformerClassifier":
        for name in ("vocab_size", "outputs"):
            if not getattr(self, name):
                raise InputError(f"field model.{name}", "is 0, and the task did not give it", fix="set it by hand")
        return TransformerClassifier(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        # A rule that matches nothing is an error, and all but the first are about blocks.
        return SHARDING if self.layers else SHARDING[:1]

    def layer_of(self, path: str) -> int:
        """0 embeddings, 1 to ``layers`` the blocks, ``layers + 1`` final norm, pooler and head."""
        block = re.search(r"layers\W(\d+)", path)
        if block:
            return int(block[1]) + 1
        return 0 if re.search(r"tokens|positions|embedding_norm", path) else self.depth

    @property
    def depth(self) -> int:
        return self.layers + 1


def _check_sizes(config: Config) -> None:
    for name in ("vocab_size", "outputs", "layers", "feed_forward"):
        if getattr(config, name) < 0:
            raise InputError(f"field model.{name}", "must not be negative", found=str(getattr(config, name)))
    for name in ("width", "heads", "max_length"):
        if getattr(config, name) < 1:
            raise InputError(f"field model.{name}", "must be at least 1", found=str(getattr(config, name)))
    width, heads = config.width, config.heads
    if width % heads:
        raise InputError(
            "field model.heads",
            "must divide width",
            found=f"{heads} heads of width {width}",
            fix=f"one of {', '.join(str(n) for n in range(1, min(width, 32) + 1) if width % n == 0)}",
        )
    if config.positions == "rotary" and width // heads % 2:
        raise InputError("field model.heads", "rotary positions need an even width a head", found=f"{width} / {heads}")
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
            width, config.heads, rngs=rngs, dropout=config.attention_dropout, turn=config.positions == "rotary"
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
        embedding_norm: norm of the embeddings, or None.
        layers: the blocks.
        norm: norm after the last block; None where each block ends in one.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        width, epsilon = config.width, config.epsilon
        self.tokens = Embedding(config.vocab_size, width, rngs=rngs)
        learned = config.positions == "learned"
        self.positions = LearnedPositions(config.max_length, width, rngs=rngs) if learned else None
        self.embedding_norm = LayerNorm(width, epsilon=epsilon) if config.embedding_norm else None
        self.layers = nnx.List([Block(config, rngs=rngs) for _ in range(config.layers)])
        self.norm = LayerNorm(width, epsilon=epsilon) if config.norm == "pre" and config.layers else None
        self.dropout = Dropout(config.dropout)
        self.sinusoidal = config.positions == "sinusoidal"

    def __call__(
        self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b t d"]:
        """Hidden vectors; those of padding (``mask`` False) mean nothing.

        Raises:
            ValueError: more tokens than learned positions.
        """
        x = self._embed(tokens)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        x = self.dropout(x, rngs)
        for block in self.layers:
            x = block(x, mask, rngs)
        return x if self.norm is None else self.norm(x)

    def _embed(self, tokens: Int[Array, "b t"]) -> Float[Array, "b t d"]:
        x = self.tokens(tokens)
        if self.positions is not None:
            return x + self.positions(tokens.shape[1])
        # Sines have size 1 and the table is small at first: the paper scales it by the root of the width.
        return x * x.shape[-1] ** 0.5 + sinusoidal(*x.shape[1:]) if self.sinusoidal else x


class TransformerClassifier(nnx.Module):
    """Encoder, pooling, linear head.

    Attributes:
        encoder: see `Encoder`.
        pooler: the tanh layer of CLS pooling, or None.
        head: (width, outputs).
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.encoder = Encoder(config, rngs=rngs)
        self.pooler = Linear(config.width, config.width, rngs=rngs) if config.pooling == "cls" else None
        self.dropout = Dropout(config.dropout)
        self.head = Linear(config.width, config.outputs, rngs=rngs)

    def __call__(
        self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b o"]:
        """Logits of each row; dropout acts only where ``rngs`` is given."""
        hidden = self.encoder(tokens, mask, rngs=rngs)
        if self.pooler is not None:
            pooled = jnp.tanh(self.pooler(hidden[:, 0]))
        else:
            pooled = masked_mean(hidden, mask)
        return self.head(self.dropout(pooled, rngs))


def masked_mean(x: Float[Array, "b t d"], mask: Bool[Array, "b t"]) -> Float[Array, "b d"]:
    """Mean over the real tokens of each row; zero for a row without any."""
    real = mask[..., None]
    return jnp.where(real, x, 0).sum(1) / jnp.maximum(real.sum(1), 1)


SHARDING = (
    (r"tokens\Wembedding$", P("tensor", "fsdp")),
    (r"(query|key|value|up|gate)\Wkernel$", P("fsdp", "tensor")),
    (r"(query|key|value|up)\Wbias$", P("tensor")),
    (r"(out|down)\Wkernel$", P("tensor", "fsdp")),
)

IMPORTS: dict[str, Any] = {}
