"""Two towers: a picture and a text as unit vectors of one space. Dims: b rows, d width of the space."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from suite.models.parts import Composite, Parts

SCALE = 8.0
"""Logit of a match for equal vectors."""


@dataclass(frozen=True, kw_only=True)
class Towers(Parts):
    """Parts ``image`` and ``text``, with as many outputs each."""

    def build(self, *, rngs: nnx.Rngs) -> "TwoTowers":
        return TwoTowers(self, rngs=rngs)


class TwoTowers(Composite):
    """Called with both inputs, it returns both vectors; each tower may be called alone."""

    def __call__(
        self, pixels: jax.Array, tokens: jax.Array, mask: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> tuple[jax.Array, jax.Array]:
        return unit(self.image(pixels, rngs=rngs)), unit(self.text(tokens, mask, rngs=rngs))


def unit(x: jax.Array) -> jax.Array:
    """Rows (b, d) of length 1."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)


def logits(vectors: Any) -> jax.Array:
    """Log odds (b,) that picture and text belong together."""
    image, text = vectors
    return SCALE * (image * text).sum(-1) - SCALE / 2
