"""The encoder-decoder: padding, cached steps, options that change no number, errors, tables."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.models import seq2seq


def tiny(**fields):
    sizes = dict(vocab_size=31, layers=1, decoder_layers=2, width=16, heads=4, feed_forward=24, dropout=0.1)
    return seq2seq.Config(**{**sizes, **fields})


T5 = dict(
    norm="rms",
    positions="relative",
    buckets=8,
    furthest=12,
    activation="geglu",
    bias=False,
    tied=False,
    scale_embedding=False,
    scale_scores=False,
)
CONFIGS = {"plain": tiny(), "t5": tiny(**T5), "marian": tiny(order="post", activation="silu", output_bias=True)}
SOURCE = jax.random.randint(jax.random.key(0), (3, 7), 0, 31)
MASK = jnp.arange(7) < jnp.array([7, 4, 1])[:, None]
TARGET = jax.random.randint(jax.random.key(1), (3, 5), 0, 31)


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def near(a, b):
    np.testing.assert_allclose(a, b, atol=1e-5 * float(abs(a).max()) + 1e-5)


def paths(config):
    state = nnx.state(nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0))), nnx.Param)
    return {"/".join(map(str, path)): value.shape for path, value in nnx.to_flat_state(state)}


def test_padding_and_what_follows_change_no_logits(config):
    model = config.build(rngs=nnx.Rngs(0))
    call = jax.jit(lambda *a: model(*a))
    whole = call(SOURCE, MASK, TARGET)
    np.testing.assert_allclose(call(jnp.where(MASK, SOURCE, 9), MASK, TARGET), whole, atol=2e-6)
    changed = call(SOURCE, MASK, TARGET.at[:, 3:].set(5))
    np.testing.assert_allclose(changed[:, :3], whole[:, :3], atol=2e-6)
    assert not np.allclose(changed[:, 3:], whole[:, 3:])
    assert not np.allclose(call(SOURCE.at[:, 0].set(3), MASK, TARGET), whole)


def test_steps_with_a_cache_give_the_logits_of_the_whole(config):
    model = config.build(rngs=nnx.Rngs(0))
    whole = jax.jit(lambda *a: model(*a))(SOURCE, MASK, TARGET)
    cache = jax.jit(lambda *a: model.cache(*a, 6))(SOURCE, MASK)
    step = jax.jit(lambda *a: model.step(*a))
    logits, cache = step(TARGET[:, :2], jnp.ones((3, 2), bool), cache)
    np.testing.assert_allclose(logits, whole[:, 1], atol=5e-6)
    for i in (2, 3, 4):
        logits, cache = step(TARGET[:, i : i + 1], jnp.ones((3, 1), bool), cache)
        np.testing.assert_allclose(logits, whole[:, i], atol=5e-6)


def test_gradients_reach_every_parameter_and_no_form_changes_them(config):
    model = config.build(rngs=nnx.Rngs(0))
    _, params = nnx.split(model)

    def loss(params, **fields):
        changed = seq2seq.replace(config, attention_dropout=0.1, **fields)
        graph = nnx.split(nnx.eval_shape(lambda: changed.build(rngs=nnx.Rngs(0))))[0]
        logits = nnx.merge(graph, params)(SOURCE, MASK, TARGET, rngs=nnx.Rngs(dropout=1))
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), TARGET[..., None], 2).sum()

    grads = jax.jit(jax.grad(loss))(params)
    for path, grad in nnx.to_flat_state(grads):
        assert bool(jnp.isfinite(grad[...]).all()), path
        assert path[-2:] == ("key", "bias") or bool((grad[...] != 0).any()), path
    if config.positions != "relative":  # one of them is enough for this
        return
    others = jax.jit(jax.grad(lambda p: loss(p, scan_layers=True, remat="full")))(params)
    jax.tree.map(near, grads, others)


def test_a_target_is_shifted_behind_its_start():
    model = tiny(start=4).build(rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(model.shifted(jnp.array([[7, 8, 9]])), [[4, 7, 8]])


def test_every_sharding_rule_matches_a_parameter_of_its_rank(config):
    shapes = paths(config)
    for rule, spec in config.sharding:
        found = [shape for path, shape in shapes.items() if re.search(rule, path)]
        assert found and all(len(spec) <= len(shape) for shape in found), rule


def test_layers_count_from_the_input_to_the_head(config):
    layers = {path: config.layer_of(path) for path in paths(config)}
    assert min(layers.values()) == 0 and max(layers.values()) == config.depth == 4
    assert layers["encoder/layers/0/mlp/up/kernel"] == 1 and layers["decoder/layers/1/cross/key/kernel"] == 3


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"heads": 3}, "model.heads"),
        ({"layers": 0}, "model.layers"),
        ({"order": "both"}, "model.order"),
        ({"positions": "learned"}, "model.positions"),
        ({"buckets": 2}, "model.buckets"),
        ({"furthest": 9, "buckets": 32}, "model.buckets"),
        ({"feed_forward_dropout": 1.0}, "model.feed_forward_dropout"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(fields, where):
    with pytest.raises(InputError, match=where):
        tiny(**fields)
