"""Models of noisy pictures, U-Net and DiT: shapes, starting as nothing, what time and class change, rows by
themselves, gradients of the modulated norm, and what is refused."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.models import dit, unet
from suite.models.denoising import packed, unpacked
from suite.nn.modulation import ModulatedNorm, norm_silu
from suite.tree import paths

CONFIGS = {
    "unet": unet.Config(channels=3, outputs=4, widths=(8, 16), blocks=1, attention=(1,), heads=2, embedding=16),
    "unet of squares": unet.Config(
        channels=1, outputs=4, patch=2, widths=(8, 16), blocks=2, attention=(), embedding=16
    ),
    "dit": dit.Config(channels=3, outputs=4, patch=2, layers=2, hidden=16, heads=2),
}


def parameters(config):
    return nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0))), nnx.Param))


def moving(config):
    """The model with no parameter left at zero, so that everything says something."""
    model = config.build(rngs=nnx.Rngs(0))
    state = nnx.state(model, nnx.Param)
    keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(state))))
    nnx.update(model, jax.tree.map(lambda a: a + 0.1 * jax.random.normal(next(keys), a.shape), state))
    return model


def noisy(config, rows=3, side=10):
    images = jax.random.normal(jax.random.key(2), (rows, side, side, config.channels))
    return images, jnp.linspace(0.1, 0.9, rows), jnp.arange(rows) % config.outputs


@pytest.mark.parametrize("name", CONFIGS)
def test_a_fresh_model_predicts_nothing(name):
    config = CONFIGS[name]
    given = noisy(config)
    predicted = jax.jit(lambda *given: config.build(rngs=nnx.Rngs(0))(*given))(*given)
    assert predicted.shape == given[0].shape and predicted.dtype == jnp.float32
    np.testing.assert_array_equal(predicted, 0)


@pytest.mark.parametrize("name", CONFIGS)
def test_time_and_class_count_and_rows_stand_by_themselves(name):
    model = moving(CONFIGS[name])
    images, time, label = noisy(CONFIGS[name])
    call = jax.jit(lambda images, time, label: model(images, time, label))
    whole = call(images, time, label)
    np.testing.assert_allclose(call(images[1:2], time[1:2], label[1:2]), whole[1:2], rtol=1e-4, atol=1e-5)
    assert jnp.abs(call(images, time + 0.05, label) - whole).max() > 1e-4
    assert jnp.abs(call(images, time, label + 1) - whole).max() > 1e-4
    none = call(images, time, jnp.full_like(label, CONFIGS[name].outputs))
    np.testing.assert_allclose(jax.jit(lambda a, b: model(a, b))(images, time), none, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_tables_match_parameters(name):
    config = CONFIGS[name]
    leaves = paths(parameters(config))
    for rule, spec in config.sharding:
        shapes = [leaf.shape for path, leaf in leaves.items() if re.search(rule, path)]
        if shapes:  # of a U-Net whose attention is left out but for the middle, all rules still match
            assert all(len(spec) <= len(shape) for shape in shapes), rule
        else:
            raise AssertionError(rule)
    layers = {path: config.layer_of(path) for path in leaves}
    assert layers["head/kernel"] == config.depth == max(layers.values()) and min(layers.values()) == 0


def test_levels_count_from_the_stem_down_and_up():
    config = CONFIGS["unet of squares"]
    layers = {path: config.layer_of(path) for path in paths(parameters(config))}
    order = ["stem/kernel", "down/0/0/first/kernel", "down/1/0/kernel", "middle/0/first/kernel"]
    order += ["up/0/0/first/kernel", "up/1/0/kernel", "head/kernel"]
    found = [layers[path] for path in order]
    assert found == sorted(set(found))


def test_squares_of_pixels_come_back():
    images = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    squares = packed(images, 2)
    assert squares.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(squares[0, 1, 2, :6].reshape(2, 3), images[0, 2, 4:6])
    np.testing.assert_array_equal(unpacked(squares, 2), images)


def by_definition(x, scale, shift, groups):
    split = x.reshape(*x.shape[:3], groups, -1)
    mean = split.mean((1, 2, 4), keepdims=True)
    normed = ((split - mean) / jnp.sqrt(split.var((1, 2, 4), keepdims=True) + 1e-5)).reshape(x.shape)
    return jax.nn.silu(normed * scale[:, None, None] + shift[:, None, None])


def test_the_modulated_norm_and_its_derivatives_are_those_of_its_definition():
    keys = jax.random.split(jax.random.key(0), 4)
    x = 2 + jax.random.normal(keys[0], (3, 5, 4, 8))
    scale, shift, grad = (
        jax.random.normal(key, shape) for key, shape in zip(keys[1:], ((3, 8), (3, 8), x.shape), strict=True)
    )
    ours, pull = jax.vjp(lambda *operands: norm_silu(*operands, 2), x, scale, shift)
    theirs, pull_theirs = jax.vjp(lambda *operands: by_definition(*operands, 2), x, scale, shift)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    for own, wanted in zip(pull(grad), pull_theirs(grad), strict=True):
        np.testing.assert_allclose(own, wanted, rtol=1e-3, atol=1e-4)
    assert norm_silu(x.astype(jnp.bfloat16), scale, shift, 2).dtype == jnp.bfloat16


def test_a_fresh_modulation_changes_nothing():
    x = jax.random.normal(jax.random.key(0), (2, 3, 3, 8))
    norm = ModulatedNorm(8, 4, groups=2, rngs=nnx.Rngs(0))
    plain = by_definition(x, jnp.ones((2, 8)), jnp.zeros((2, 8)), 2)
    np.testing.assert_allclose(norm(x, jnp.ones((2, 4))), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "where"),
    [
        (lambda: unet.Config(widths=(8, 12), groups=8), "model.groups"),
        (lambda: unet.Config(widths=(8, 16), attention=(2,)), "model.attention"),
        (lambda: unet.Config(widths=(8, 16), attention=(), heads=3), "model.heads"),
        (lambda: unet.Config(widths=(8,), patch=-1), "model.patch"),
        (lambda: unet.Config(widths=(), attention=(), channels=1).build(rngs=nnx.Rngs(0)), "model.widths"),
        (lambda: unet.Config(dropout=1.0), "model.dropout"),
        (lambda: dit.Config(hidden=16, heads=3), "model.heads"),
        (lambda: dit.Config().build(rngs=nnx.Rngs(0)), "model.channels"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(build, where):
    with pytest.raises(InputError, match=f"field {where}"):
        build()


@pytest.mark.parametrize(
    ("config", "where"),
    [
        (CONFIGS["unet of squares"], "model.patch"),
        (replace(CONFIGS["dit"], patch=4), "model.patch"),
        (replace(CONFIGS["unet"], widths=(8, 8, 8, 8, 16), attention=()), "model.widths"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(config, where):
    model = nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    images = jax.ShapeDtypeStruct((1, 9, 9, config.channels), jnp.float32)
    with pytest.raises(InputError, match=f"field {where}"):
        jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x, jnp.zeros(1)), state, images)
