"""Recurrent network over a sequence of tokens, which says what follows: GRU4Rec for items (`Hidasi et al., 2016
<https://arxiv.org/abs/1511.06939>`_), here with the softmax over all of them.

Dims: b batch, t tokens, v vocabulary, d width of a token's vector, s width of the state.
"""

from dataclasses import dataclass
from typing import Any

from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.model import ModelConfig
from suite.models.checks import check_fractions, check_given, check_sizes
from suite.nn import Dropout, Embedding, Linear
from suite.nn.gru import GRU
from suite.parallel.layout import edge


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """Sizes of the table of tokens and of the recurrent layers."""

    vocab_size: int = 0
    """Rows of the token table. 0: from the task."""
    width: int = 64
    """Size of a token's vector."""
    state: int = 128
    """Size of the state of each layer."""
    layers: int = 1
    """Recurrent layers."""
    dropout: float = 0.2
    """Fraction of the tokens' vectors, and of the states, that training drops."""

    def __post_init__(self):
        check_sizes(self, 0, "vocab_size")
        check_sizes(self, 1, "width", "state", "layers")
        check_fractions(self, "dropout")

    def build(self, *, rngs: nnx.Rngs) -> "Recurrent":
        check_given(self, "vocab_size")
        return Recurrent(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    def layer_of(self, path: str) -> int:
        return int(path.split("/")[1]) + 1 if path.startswith("layers/") else 0 if "tokens" in path else self.depth

    @property
    def depth(self) -> int:
        return self.layers + 1

    @property
    def head(self) -> str:
        return r"^out/"


class Recurrent(nnx.Module):
    """Tokens to the logits of the token that follows each of them.

    Attributes:
        tokens: the token table, also that of the logits.
        layers: the recurrent layers.
        out: from the state to the width of the table.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.tokens = Embedding(config.vocab_size, config.width, rngs=rngs)
        inputs = (config.width, *[config.state] * (config.layers - 1))
        self.layers = nnx.List([GRU(size, config.state, rngs=rngs) for size in inputs])
        self.out = Linear(config.state, config.width, rngs=rngs)
        self.dropout = Dropout(config.dropout)

    def __call__(
        self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b t v"]:
        """Logits at every token.

        Args:
            tokens: ids.
            mask: True where a token is real.
            rngs: given in training.
        """
        return self.logits(self.hidden(tokens, mask, rngs=rngs))

    def hidden(
        self,
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"],
        *,
        added: Float[Array, "b t d"] | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b t d"]:
        """What the logits of the next token are made of, at every token.

        ``added`` is what else is known of each token, which is added to its vector.
        """
        x = self.tokens(tokens) if added is None else self.tokens(tokens) + added
        x = self.dropout(x, rngs)
        for layer in self.layers:
            x = self.dropout(edge(layer(x, mask)), rngs)
        return self.out(x)

    def logits(self, hidden: Float[Array, "... d"]) -> Float[Array, "... v"]:
        """Logits of what `hidden` gives."""
        return self.tokens.attend(hidden)

    def output_table(self) -> Float[Array, "v d"]:
        """The vectors whose products with `hidden` are the logits."""
        return self.tokens.embedding[...]


SHARDING = ((r"tokens\Wembedding$", P("tensor", "fsdp")),)

IMPORTS: dict[str, Any] = {}
