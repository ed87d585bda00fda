"""Streams of random keys draw what Flax's draw, and ask nothing of a trace."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from suite.nn.rngs import streams


def drawn(rngs):
    first = [jax.random.key_data(rngs.params()), jax.random.key_data(rngs.dropout()), jax.random.key_data(rngs())]
    forked = rngs.fork()
    return jnp.stack([*first, jax.random.key_data(forked.params()), jax.random.key_data(rngs.params())])


@pytest.mark.parametrize("given", [{"default": 3}, {"default": 0, "dropout": 7}])
def test_the_keys_are_those_of_flax(given):
    of_flax = drawn(nnx.Rngs(**given))
    assert (drawn(streams(**given)) == of_flax).all()
    assert (jax.jit(lambda: drawn(streams(**given)))() == of_flax).all()


def test_layers_of_flax_are_built_with_them():
    theirs, ours = (
        nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)) for rngs in (nnx.Rngs(1), streams(1))
    )
    x = jnp.ones((5, 3))
    for _ in range(2):
        assert (theirs(x) == ours(x)).all()


def test_a_draw_does_not_ask_a_tracer_where_it_lies(monkeypatch):
    """The answer costs a walk through all that was traced."""
    asked = []
    monkeypatch.setattr(jax.core.Tracer, "sharding", property(lambda tracer: asked.append(tracer)))
    jax.make_jaxpr(lambda: [jax.random.key_data(rngs()) for rngs in [streams(0)] for _ in range(3)])()
    assert not asked
    jax.make_jaxpr(lambda: jax.random.key_data(nnx.Rngs(0)()))()
    assert asked, "Flax no longer asks: streams of our own are needless"
