"""Checkpoints: weights that are read of them alone, by models that have all of the layers, or some."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from suite.errors import InputError
from suite.runtime.compilation import CompileWatch
from suite.training.checkpoint import Checkpoints, Progress, _finite
from suite.training.state import State, to_stored
from suite.tree import paths


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Of three layers in a list, whose keys are numbers, and a head; each with statistics."""
    values = iter(range(8))
    layer = lambda: {"kernel": jnp.full(2, next(values), jnp.float32)}
    params = {"layers": {0: layer(), 1: layer(), 2: layer()}, "head": layer()}
    rest = {"layers": {0: layer(), 1: layer(), 2: layer()}, "head": layer()}
    folder = tmp_path_factory.mktemp("checkpoints")
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, to_stored(State(jnp.int32(1), params, rest, {}, None)), Progress(next_batch=1))
    return folder, params, rest


@pytest.mark.parametrize(("layers", "head"), [(3, True), (3, False), (2, True), (1, False)])
def test_weights_are_read_with_the_layers_that_the_model_has(saved, layers, head):
    folder, params, rest = saved

    def part(tree):
        own = {"layers": {place: tree["layers"][place] for place in range(layers)}}
        return {**own, "head": tree["head"]} if head else own

    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (part(params), part(rest)))
    with Checkpoints(folder) as checkpoints:
        read = checkpoints.weights(1, *shapes, without="" if (layers, head) == (3, True) else "layers/[12]|head")
    for ours, theirs in zip(read, (part(params), part(rest)), strict=True):
        assert jax.tree.structure(ours) == jax.tree.structure(theirs)
        for name, leaf in paths(theirs).items():
            np.testing.assert_array_equal(paths(ours)[name], leaf)


def test_a_layer_that_nobody_left_out_is_missed(saved):
    folder, params, rest = saved
    smaller = {**params, "layers": {0: params["layers"][0]}}
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (smaller, rest))
    with Checkpoints(folder) as checkpoints, pytest.raises(InputError, match="layers/1"):
        checkpoints.weights(1, *shapes)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_parameters_are_finite_by_numpy_and_by_a_program_alike(wrong, dtype, tmp_path):
    """NumPy looks where the arrays are in its memory, which spares the program."""
    whole = {"a": jnp.ones((3, 2), dtype), "b": {"c": jnp.zeros(4, dtype), "count": jnp.arange(3)}}
    broken = {**whole, "a": whole["a"].at[2, 1].set(wrong)}
    with Checkpoints(tmp_path) as checkpoints, CompileWatch() as watch:
        before = watch.compilations
        assert checkpoints.finite(whole) and not checkpoints.finite(broken)
        assert watch.compilations == before
        assert bool(_finite(whole)) and not bool(_finite(broken))
