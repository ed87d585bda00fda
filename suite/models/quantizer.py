"""Quantiser of wav2vec 2.0: frames to entries of code books, and both sides of its contrast in one space.

`Baevski et al., 2020 <https://arxiv.org/abs/2006.11477>`_; entries are drawn by Gumbel noise in training, with
gradients of the softmax (`Jang et al., 2017 <https://arxiv.org/abs/1611.01144>`_).

Dims: b batch, t frames, c features of the convolutions, d size of the encoder's vectors, g code books, v entries of
each, w width.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from suite.contracts.model import ModelConfig
from suite.errors import InputError
from suite.models.checks import check_given, check_sizes
from suite.nn import Linear


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """Sizes of the code books and of the space; those at 0 are those of the encoder that feeds it. The defaults are
    those of the base model."""

    inputs: int = 0
    """Size of the encoder's vectors. 0: from the encoder."""
    features: int = 0
    """Features of a frame behind the convolutions, which are quantised. 0: from the encoder."""
    books: int = 2
    """Code books; a code is an entry of each."""
    entries: int = 320
    """Entries of a book."""
    code: int = 256
    """Size of a code's vector; the books divide it."""
    width: int = 256
    """Size of the space in which vectors and codes are compared."""
    warmest: float = 2.0
    """What logits are divided by at first, where entries are drawn."""
    coolest: float = 0.5
    """The same in the end."""
    cooling: float = 0.999995
    """What that is multiplied by at each step."""

    def __post_init__(self):
        check_sizes(self, 0, "inputs", "features")
        check_sizes(self, 1, "books", "entries", "code", "width")
        if self.code % self.books:
            found = f"{self.books} books of codes of {self.code}"
            raise InputError("field model.parts.quantizer.books", "must divide code", found=found)
        if not 0 < self.coolest <= self.warmest or not 0 < self.cooling <= 1:
            found = f"warmest {self.warmest:g}, coolest {self.coolest:g}, cooling {self.cooling:g}"
            problem = "must be above 0 and at most warmest, and cooling above 0 and at most 1"
            raise InputError("field model.parts.quantizer.coolest", problem, found=found, fix="0.5")

    def build(self, *, rngs: nnx.Rngs) -> "Quantizer":
        check_given(self, "inputs", "features")
        return Quantizer(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING


class Quantizer(nnx.Module):
    """Code books, and the linear maps of both sides.

    Attributes:
        choose: (c, g v), the logits of entries.
        entries: (g v, code / g).
        temperature: () what logits are divided by where entries are drawn; training cools it.
        code: (code, w).
        context: (d, w).
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        normal, uniform = nnx.initializers.normal(1.0), nnx.initializers.uniform(1.0)
        rows = config.books * config.entries
        self.choose = Linear(config.features, rows, rngs=rngs, init=normal)
        self.entries = nnx.Param(uniform(rngs.params(), (rows, config.code // config.books), jnp.float32))
        self.temperature = nnx.BatchStat(jnp.float32(config.warmest))
        self.code = Linear(config.code, config.width, rngs=rngs)
        self.context = Linear(config.inputs, config.width, rngs=rngs)
        self.config = config

    def __call__(
        self, features: Float[Array, "b t c"], noise: Float[Array, "b t g v"] | None = None
    ) -> tuple[Float[Array, "b t w"], Float[Array, "b t g v"], Float[Array, "b t g v"]]:
        """The code of each frame in the common space; which entries it has, one of each book; and their probabilities.

        Args:
            features: of the convolutions.
            noise: Gumbel noise, of training: entries are drawn, have gradients, and the temperature cools. None: the
                likeliest entries.
        """
        config, shape = self.config, features.shape[:2]
        logits = self.choose(features).astype(jnp.float32).reshape(*shape, config.books, config.entries)
        if noise is None:
            chosen = jax.nn.one_hot(logits.argmax(-1), config.entries)
        else:
            warm = self.temperature[...]
            soft = jax.nn.softmax((logits + noise) / warm)
            hard = jax.nn.one_hot(soft.argmax(-1), config.entries)
            chosen = hard + soft - jax.lax.stop_gradient(soft)
            self.temperature[...] = jnp.maximum(warm * config.cooling, config.coolest)
        books = self.entries[...].reshape(config.books, config.entries, -1)
        codes = jnp.einsum("btgv,gvk->btgk", chosen, books).reshape(*shape, config.code)
        return self.code(codes), jax.lax.stop_gradient(chosen), jax.nn.softmax(logits)


SHARDING = ((r"(choose|code|context)\Wkernel$", P("fsdp", "tensor")),)

IMPORTS: dict[str, Any] = {}
