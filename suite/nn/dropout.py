"""Dropout whose random bits cost next to nothing.

Drawing one threefry word an element takes a third of a small transformer's training step on a CPU. The masks need
not be of that quality, so by default each element hashes its index with a seed; the hash fuses with the code that
uses it. The seed is one 32-bit word drawn by threefry from the caller's key, so that masks differ by seed, step and
layer. Not for cryptography, nor for sampling.
"""

from math import prod

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, UInt32

from suite.parallel.layout import first_row, for_rows, replicas

_GOLDEN = 0x9E3779B1


def _mix(h: UInt32[Array, "..."], multiplier: int) -> UInt32[Array, "..."]:
    return (h ^ (h >> 16)) * jnp.uint32(multiplier)


def _index(shape: tuple[int, ...], axes: range, first: Array | int) -> UInt32[Array, "..."]:
    """The row-major index of each element of ``shape``, counted along ``axes`` only, modulo 2**32.

    ``first``: the place that the first of axis 0 has.
    """
    index, stride = jnp.zeros((), jnp.uint32), 1
    for axis in reversed(axes):
        place = lax.broadcasted_iota(jnp.uint32, shape, axis)
        if axis == 0 and not isinstance(first, int):
            place = place + first.astype(jnp.uint32)
        index = index + place * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    return index


def hash_bits(
    word: UInt32[Array, ""], shape: tuple[int, ...], first: Array | int = 0, rows: int = 0
) -> UInt32[Array, "..."]:
    """32 well mixed bits for each element of ``shape``, a function of ``word`` and the element's index alone.

    With ``rows``, those of a part of a larger array, which has so many rows: the part begins with row ``first``.

    Two rounds of the `lowbias32 <https://github.com/skeeto/hash-prospector>`_ multipliers. The seed enters before
    each round: entering once, two seeds would share stretches of bits. Leading axes beyond 2**32 elements enter
    through the seed, so large arrays don't repeat.
    """
    whole, split = (rows, *shape[1:]) if rows else shape, len(shape)
    while split and prod(whole[split - 1 :]) <= 2**32:
        split -= 1
    second = _mix(_mix(word, 0x7FEB352D), 0x846CA68B)
    if split:
        second = _mix(second ^ _index(shape, range(split), first) * jnp.uint32(_GOLDEN), 0x7FEB352D)
    h = _mix(_index(shape, range(split, len(shape)), first) * jnp.uint32(_GOLDEN) ^ word, 0x7FEB352D)
    h = _mix(h + second, 0x846CA68B)
    return h ^ (h >> 15)


def keep_mask(key: Array, rate: float, shape: tuple[int, ...], bits: str = "hash") -> Array:
    """Bool ``shape`` (b, ...), False with probability ``rate``; ``bits`` is ``"hash"`` or ``"threefry"``."""
    if bits == "threefry":
        return for_rows(lambda whole: jax.random.bernoulli(key, 1 - rate, whole), shape)
    word, rows = jax.random.bits(key, (), jnp.uint32), shape[0] if shape else 1
    drawn = hash_bits(word, shape, first_row(rows), rows * replicas())
    return drawn >= jnp.uint32(min(round(rate * 2**32), 2**32 - 1))


class Dropout(nnx.Module):
    """Zeroes elements with probability ``rate`` and scales the rest so that the mean stays.

    `Srivastava et al., 2014 <https://jmlr.org/papers/v15/srivastava14a.html>`_. No state: it acts only where the
    call is given ``rngs``, of which it draws one ``dropout`` key.

    Attributes:
        rate: in [0, 1).
        bits: source of the mask, ``"hash"`` or ``"threefry"``.
    """

    def __init__(self, rate: float):
        self.rate = rate
        self.bits = "hash"

    def set_view(self, bits: str | None = None) -> None:
        """Configure a view of the layer.

        Args:
          bits: source of the mask, "hash" or "threefry".
        """
        if bits is not None:
            self.bits = bits

    def __call__(self, x: Float[Array, "..."], rngs: nnx.Rngs | None = None) -> Float[Array, "..."]:
        if rngs is None or self.rate == 0:
            return x
        keep = keep_mask(rngs.dropout(), self.rate, x.shape, self.bits)
        return jnp.where(keep, x * (1 / (1 - self.rate)), 0)
