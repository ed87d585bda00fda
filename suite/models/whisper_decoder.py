"""Whisper's decoder: tokens said one after the other, of what the encoder heard.

`Radford et al., 2022 <https://arxiv.org/abs/2212.04356>`_. Blocks of causal attention, attention on the memory and
feed-forward, each normalised before; learnt places; keys have no bias, and the output head is the token table.

Dims: b batch, t = q tokens, u frames of the memory, s slots of a cache, v vocabulary, d width.
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from suite.nn import (
    Activation,
    Cache,
    CrossAttention,
    Dropout,
    Embedding,
    FeedForward,
    LayerNorm,
    LearnedPositions,
    Linear,
    SelfAttention,
)
from suite.parallel.layout import edge
from suite.weights.imports import TRANSPOSED, Rule, linear, norm


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a decoder is built of.

    Attributes:
        vocab_size: rows of the token table.
        layers: blocks.
        width: size of a token's vector, and of the memory's.
        heads: attention heads of width ``head_width``.
        head_width: width of a head.
        feed_forward: width inside the feed-forward layer.
        max_length: most tokens.
        activation: function inside the feed-forward layer.
        dropout: fraction of embeddings and sublayer outputs that training drops.
        attention_dropout: fraction of attention weights that training drops.
    """

    vocab_size: int
    layers: int
    width: int
    heads: int
    head_width: int
    feed_forward: int
    max_length: int
    activation: Activation
    dropout: float
    attention_dropout: float


def without_key_bias(attention: SelfAttention | CrossAttention, width: int, inside: int, *, rngs: nnx.Rngs) -> None:
    """Takes the bias of the keys away, which would add the same to every score of a query."""
    attention.key = Linear(width, inside, rngs=rngs, use_bias=False)


class Block(nnx.Module):
    """Causal attention, attention on the memory, feed-forward; each normalised before and on a residual.

    Attributes:
        attention, attention_norm: first sublayer and its norm.
        cross, cross_norm: second sublayer and its norm.
        mlp, mlp_norm: third sublayer and its norm.
    """

    def __init__(self, sizes: Sizes, *, rngs: nnx.Rngs):
        width, heads, size = sizes.width, sizes.heads, sizes.head_width
        drop = sizes.attention_dropout
        self.attention = SelfAttention(width, heads, rngs=rngs, dropout=drop, head_width=size, causal=True)
        self.cross = CrossAttention(width, heads, rngs=rngs, dropout=drop, head_width=size)
        for attention in (self.attention, self.cross):
            without_key_bias(attention, width, heads * size, rngs=rngs)
        self.attention_norm, self.cross_norm, self.mlp_norm = (LayerNorm(width, epsilon=1e-5) for _ in range(3))
        self.mlp = FeedForward(width, sizes.feed_forward, sizes.activation, rngs=rngs)
        self.dropout = Dropout(sizes.dropout)

    def __call__(
        self,
        x: Float[Array, "b t d"],
        memory: Float[Array, "b u d"],
        memory_mask: Bool[Array, "b u"],
        rngs: nnx.Rngs | None,
    ) -> Float[Array, "b t d"]:
        x = x + self.dropout(self.attention(self.attention_norm(x), None, rngs), rngs)
        x = x + self.dropout(self.cross(self.cross_norm(x), memory, memory_mask, rngs), rngs)
        return x + self.dropout(self.mlp(self.mlp_norm(x)), rngs)

    def step(
        self, x: Float[Array, "b q d"], layer: int, cache: Cache, visible: Bool[Array, "b 1 q s"]
    ) -> tuple[Float[Array, "b q d"], tuple[Array, Array]]:
        """The call on new tokens, with the keys and values of those before; ``layer`` is this block's number."""
        assert cache.memory_mask is not None
        mixed, pair = self.attention.step(self.attention_norm(x), cache.layers[layer], cache.length, visible)
        x = x + mixed
        x = x + self.cross.step(self.cross_norm(x), cache.memory[layer], cache.memory_mask)
        return x + self.mlp(self.mlp_norm(x)), pair


class Decoder(nnx.Module):
    """Tokens and a memory to the logits of the token that follows each.

    Attributes:
        tokens: the token table, which is the output head too.
        positions: one vector a place, learnt.
        layers: the blocks.
        norm: norm after the last block.
    """

    def __init__(self, sizes: Sizes, *, rngs: nnx.Rngs):
        self.tokens = Embedding(sizes.vocab_size, sizes.width, rngs=rngs)
        self.positions = LearnedPositions(sizes.max_length, sizes.width, rngs=rngs)
        self.layers = nnx.List([Block(sizes, rngs=rngs) for _ in range(sizes.layers)])
        self.norm = LayerNorm(sizes.width, epsilon=1e-5)
        self.dropout = Dropout(sizes.dropout)

    @property
    def max_length(self) -> int:
        """Most tokens, those of the prompt among them."""
        return self.positions.embedding.shape[0]

    def __call__(
        self,
        tokens: Int[Array, "b t"],
        memory: Float[Array, "b u d"],
        memory_mask: Bool[Array, "b u"],
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b t v"]:
        """Logits at every token; padding at the end is read by no token before it.

        Raises:
            InputError: more tokens than places.
        """
        x = self.dropout(self.tokens(tokens) + self.positions(tokens.shape[1]), rngs)
        for block in self.layers:
            x = block(edge(x), memory, memory_mask, rngs)
        return self.tokens.attend(edge(self.norm(x)))

    def cache(
        self, memory: Float[Array, "b u d"], mask: Bool[Array, "b u"], length: int, dtype: str = "float32"
    ) -> Cache:
        """A cache for at most ``length`` tokens, with what each block reads of the memory."""
        rows = memory.shape[0]
        layers = tuple(block.attention.empty(rows, length, dtype) for block in self.layers)
        remembered = tuple(block.cross.remember(memory) for block in self.layers)
        return Cache(layers, jnp.zeros((rows, length), bool), jnp.int32(0), remembered, mask)

    def step(
        self, tokens: Int[Array, "b q"], mask: Bool[Array, "b q"], cache: Cache
    ) -> tuple[Float[Array, "b v"], Cache]:
        """Logits of the token that follows the last of ``tokens``, and the cache with all of them in it."""
        visible = cache.visible(mask)
        x = self.tokens(tokens) + self.positions.at(cache.places(mask))
        layers = []
        for number, block in enumerate(self.layers):
            x, pair = block.step(x, number, cache, visible)
            layers.append(pair)
        cache = replace(cache, layers=tuple(layers), mask=cache.added(mask), length=cache.length + tokens.shape[1])
        return self.tokens.attend(edge(self.norm(x[:, -1:])))[:, 0], cache


def _attention(theirs: str, ours: str) -> tuple[Rule, ...]:
    """The rules of one attention, whose keys have no bias."""
    return (
        *linear(f"{theirs}.q_proj", f"{ours}/query"),
        Rule(f"{theirs}.k_proj.weight", f"{ours}/key/kernel", TRANSPOSED),
        *linear(f"{theirs}.v_proj", f"{ours}/value"),
        *linear(f"{theirs}.out_proj", f"{ours}/out"),
    )


def block_rules(theirs: str, ours: str, cross: bool) -> tuple[Rule, ...]:
    """The rules of the blocks of one side; ``cross``: with attention on a memory."""
    attentions = {"self_attn": "attention", **({"encoder_attn": "cross"} if cross else {})}
    named = {f"{name}_layer_norm": f"{part}_norm" for name, part in attentions.items()}
    return (
        *(rule for name, part in attentions.items() for rule in _attention(f"{theirs}.{name}", f"{ours}/{part}")),
        *linear(f"{theirs}.fc1", f"{ours}/mlp/up"),
        *linear(f"{theirs}.fc2", f"{ours}/mlp/down"),
        *(
            rule
            for name, part in {**named, "final_layer_norm": "mlp_norm"}.items()
            for rule in norm(f"{theirs}.{name}", f"{ours}/{part}")
        ),
    )


RULES = (
    Rule("decoder.embed_tokens.weight", "decoder/tokens/embedding"),
    Rule("decoder.embed_positions.weight", "decoder/positions/embedding"),
    *block_rules("decoder.layers.{i}", "decoder/layers/{i}", cross=True),
    *norm("decoder.layer_norm", "decoder/norm"),
)
