"""Threefry for a CPU: the random bits of `jax.random`, by rounds that XLA compiles in a fifth of the time.

JAX emits the rounds as a loop on a CPU, and XLA compiles that loop anew for each array that is drawn, which is most of
the work of compiling a model's initial values. Written out one after another the rounds are one kernel an array. Keys
are JAX's: they are folded before that program, see `suite.training.initial_state`.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.extend.random import define_prng_impl, threefry_prng_impl
from jaxtyping import Array, UInt32

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def _bits(key: UInt32[Array, "2"], width: int, shape: tuple[int, ...]) -> Array:
    """Those that JAX draws: of each element the hash of its index, both of whose words are joined.

    `Salmon et al., 2011 <https://doi.org/10.1145/2063384.2063405>`_, Threefry-2x32-20.
    """
    size = math.prod(shape)
    if width != 32 or not size < 2**32 or not jax.config.jax_threefry_partitionable:  # type: ignore[attr-defined]
        return threefry_prng_impl.random_bits(key, width, shape)
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    low = lax.iota(jnp.uint32, size).reshape(shape) + keys[1]
    high = jnp.full(shape, keys[0])
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            high = high + low
            low = high ^ (low << distance | low >> (32 - distance))
        high = high + keys[(group + 1) % 3]
        low = low + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return high ^ low


@functools.cache
def _impl() -> Any:
    """Registered once, when it is first asked for: JAX has one table of implementations a process."""
    jaxs = threefry_prng_impl
    return define_prng_impl(
        key_shape=jaxs.key_shape,
        seed=jaxs.seed,
        split=jaxs.split,
        random_bits=_bits,
        fold_in=jaxs.fold_in,
        name="threefry2x32_written_out",
        tag="fryw",
    )


def key(seed: int) -> Array:
    """As `jax.random.key`: what is drawn from it is the same to the bit."""
    return jax.random.key(seed, impl=_impl())


def with_own_keys(model: nnx.Module) -> nnx.Module:
    """``model``, whose keys, where it keeps any, are again of JAX's default: a checkpoint holds those."""
    kept = nnx.state(model, nnx.RngKey)
    if jax.tree.leaves(kept):
        nnx.update(model, jax.tree.map(lambda own: jax.random.wrap_key_data(jax.random.key_data(own)), kept))
    return model
