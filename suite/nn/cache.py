"""Decoding cache: keys and values of earlier tokens, in arrays of fixed shape.

Dims: b batch, q new tokens, s slots, g key and value heads, k head width, m tokens of a memory.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from suite.nn.attention import Pair


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cache:
    """Keys and values of the tokens so far. All rows write the same slot, so rows are aligned at their last token:
    a shorter row has its padding in front. Donate a cache to the step that takes it, and it is written in place.

    Attributes:
        layers: for each layer, keys and values (b, g, s, k).
        mask: (b, s) which slots hold a real token.
        length: () slots filled.
        memory: for each layer, keys and values (b, g, m, k) of what is read besides; none in a decoder alone.
        memory_mask: (b, m) which of it is real, or None.
    """

    layers: tuple[Pair, ...]
    mask: Bool[Array, "b s"]
    length: Int[Array, ""]
    memory: tuple[Pair, ...] = ()
    memory_mask: Bool[Array, "b m"] | None = None

    @property
    def size(self) -> int:
        """Tokens it has room for."""
        return self.mask.shape[1]

    def added(self, mask: Bool[Array, "b q"]) -> Bool[Array, "b s"]:
        """Which slots are real once the new tokens, real where ``mask``, are in."""
        return lax.dynamic_update_slice(self.mask, mask, (0, self.length))

    def visible(self, mask: Bool[Array, "b q"]) -> Bool[Array, "b 1 q s"]:
        """Which slots each new token sees: the real ones up to itself."""
        order = jnp.arange(self.size)[None, :] <= self.length + jnp.arange(mask.shape[1])[:, None]
        return (self.added(mask)[:, None, :] & order)[:, None]

    def places(self, mask: Bool[Array, "b q"]) -> Int[Array, "b q"]:
        """Each new token's place among the real tokens of its row."""
        return jnp.maximum(self.mask.sum(1, keepdims=True) + jnp.cumsum(mask, 1) - 1, 0)

    def rows(self, index: Int[Array, "b"]) -> "Cache":
        """The cache with the tokens of rows ``index``; each row keeps its memory."""
        layers = jax.tree.map(lambda a: a[index], self.layers)
        return Cache(layers, self.mask[index], self.length, self.memory, self.memory_mask)

    def repeat(self, times: int) -> "Cache":
        """Every row ``times`` times over."""
        again = lambda tree: jax.tree.map(lambda a: jnp.repeat(a, times, 0), tree)
        return Cache(again(self.layers), again(self.mask), self.length, again(self.memory), again(self.memory_mask))
