"""Head of masked language models (`Devlin et al., 2018 <https://arxiv.org/abs/1810.04805>`_), tied to the token table.

Dims: k vectors, d size of a vector, v vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from suite.contracts.model import ModelConfig
from suite.models.checks import check_given, check_sizes
from suite.nn import Activation, Embedding, LayerNorm, Linear, activate


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """Sizes of the head; those at 0 are those of the encoder that feeds it."""

    inputs: int = 0
    """Size of the encoder's vectors. 0: from the encoder."""
    vocab_size: int = 0
    """Rows of the token table. 0: from the encoder."""
    activation: Activation = "gelu"
    """Function behind the layer."""
    epsilon: float = 1e-12
    """Added to variances."""

    def __post_init__(self):
        check_sizes(self, 0, "inputs", "vocab_size")

    def build(self, *, rngs: nnx.Rngs) -> "MaskedHead":
        check_given(self, "inputs", "vocab_size")
        return MaskedHead(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING


class MaskedHead(nnx.Module):
    """A layer, its activation and a norm; then the dot product with each row of the token table, and a bias.

    Attributes:
        dense: (d, d).
        norm: behind the activation.
        bias: (v,), zero at first.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.dense = Linear(config.inputs, config.inputs, rngs=rngs)
        self.norm = LayerNorm(config.inputs, epsilon=config.epsilon)
        self.bias = nnx.Param(jnp.zeros((config.vocab_size,), jnp.float32))
        self.activation = config.activation

    def __call__(self, vectors: Float[Array, "... d"], tokens: Embedding) -> Float[Array, "... v"]:
        """Logits float32 of each token of the table ``tokens``."""
        x = self.norm(activate(self.activation, self.dense(vectors)))
        return tokens.attend(x).astype(jnp.float32) + self.bias[...]


SHARDING = ((r"dense\Wkernel$", P("fsdp", None)),)

IMPORTS: dict[str, Any] = {}
