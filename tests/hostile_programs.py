"""Bundles whose programs are weapons: every operation of them is allowed, and every checksum right."""

import shutil
from functools import partial

import jax
import jax.export
import jax.numpy as jnp

from tests.untrained import resealed


def with_programs(bundle, folder, change):
    """A copy of a bundle in which ``change`` has made other bytes of each program."""
    shutil.copytree(bundle, folder)
    for file in (folder / "program").iterdir():
        file.write_bytes(change(file.read_bytes()))
    return resealed(folder)


def endless(number):
    """A number that is never there."""
    step = lambda state: (state[0] * 0, state[1] + 1)
    return jax.lax.while_loop(lambda state: state[0] >= 0, step, (number, number))[1]


def huge(number):
    """A number that takes 64 GiB to compute."""
    grown = jnp.broadcast_to(number, (1 << 16, 1 << 18)) + jax.lax.iota(jnp.float32, 1 << 18)
    return jnp.sort(grown, 0)[3, 4]


def adding(weapon, stored):
    """A stored program that computes ``weapon`` besides: its outputs are those that it had."""
    before = jax.export.deserialize(bytearray(stored))
    (weights, batch, *rest), _ = jax.tree.unflatten(before.in_tree, before.in_avals)

    def both(weights, batch, *rest):
        total = sum(jnp.abs(jnp.sum(value).astype(jnp.float32)) for value in jax.tree.leaves(batch))
        nothing = weapon(total) * 0
        return jax.tree.map(lambda value: value + nothing.astype(value.dtype), before.call(weights, batch, *rest))

    made = jax.export.export(jax.jit(both), platforms=before.platforms)(weights, batch, *rest)
    return bytes(made.serialize())


ENDLESS, HUGE = partial(adding, endless), partial(adding, huge)


def damaged(place, value):
    """A small program with one byte of its bytecode changed, and no other fault."""
    array = jax.ShapeDtypeStruct((4, 4), jnp.float32)
    made = jax.export.export(jax.jit(lambda x, y: x + 1), platforms=("cpu",))(array, array)
    stored = bytearray(made.serialize())
    stored[stored.index(b"ML\xefR") + place] = value
    return bytes(stored)


CRASHING, ABORTING, HANGING = partial(damaged, 560, 13), partial(damaged, 44, 4), partial(damaged, 237, 0)
"""What its reader is ended by, or never ends at; where a later JAX reads these bytes otherwise, nothing but damaged."""
