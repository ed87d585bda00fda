"""Gradients of single records, clipped and summed, beside the gradients themselves, for a model of each family."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import suite
from suite.data.pipeline.dispatches import Encoder, dispatches, make_plan
from suite.parallel.layout import alone
from suite.surgery import lora
from suite.surgery.freezing import frozen_paths
from suite.training import gradients, record_gradients
from suite.training.assemble import assemble
from suite.training.preprocessors import prepare
from suite.tree import paths
from tests.families import need_data, small

CLIP = 0.3
CASES = {
    "dnn": ({}, 0.95),
    "transformer": ({}, 0.95),
    "resnet": ({"model.groups": 4, "model.norm": "group"}, 0.95),
    "audio": ({}, 0.9),
    "deepfm": ({"optim.tables": "dense"}, 0.95),
    "transformer, low rank": ({"finetune.kind": "lora", "finetune.rank": 4}, 0.9),
    "transformer, frozen": ({"optim.frozen": ("^encoder/layers/0/", "tokens")}, 0.95),
    "transformer, scanned and recomputed": ({"model.remat": "full", "model.scan_layers": True}, 0.1),
}
"""Family and what differs -> the changes, and the least share of trained numbers that are used in one product each."""


def _case(name, folder):
    """A loss of one unit, the parameters that are trained, and four units of two rows; the last unit is padding."""
    family = name.split(",")[0]
    need_data(family)
    experiment = suite.replace(small(family), CASES[name][0])
    source = experiment.task.source("train")
    experiment = prepare(experiment, folder, source)
    plan = make_plan(experiment.task, source, 8, seed=0, buckets=experiment.pipeline.buckets)
    item = next(iter(dispatches(Encoder(experiment.task, source, plan, augment=True), 0, 1)))
    units = {key: value[0].reshape(4, 2, *value.shape[2:]) for key, value in item.batch.items()}
    units["mask"] = units["mask"] & (np.arange(8) < 5).reshape(4, 2)
    program = assemble(experiment, 10)
    state = program.init()
    frozen = frozen_paths(lora.freeze(experiment.optim, experiment.finetune, state.params), state.params)
    loss = gradients.make_loss(program.graph, experiment.task)
    loss, params = gradients.split_trained(loss, state.params, paths(state.params).keys() - frozen)

    def value(params, unit, place):
        with alone():
            mean, (metrics, _) = loss(params, state.model_state, unit, jax.random.fold_in(jax.random.key(3), place))
        return mean, metrics

    # Away from zeros, with which additions begin and a residual branch ends: there some gradients vanish.
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(4), len(leaves))
    moved = [leaf + 0.02 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return value, jax.tree.unflatten(tree, moved), units


@pytest.mark.parametrize("name", CASES)
def test_the_clipped_sum_is_that_of_the_gradients_of_single_units(name, tmp_path, monkeypatch):
    if "scanned" in name:  # these are too many to be held
        monkeypatch.setattr(record_gradients, "HELD", 0)
    value, params, units = _case(name, tmp_path)
    places, found = jnp.arange(4), []

    @jax.jit
    def both(params, units):
        found.append(record_gradients.uses(value, params, units, places))
        real = jax.tree.map(lambda a: a[:3], units)
        grads = jax.vmap(jax.grad(value, has_aux=True), (None, 0, 0))(params, real, places[:3])[0]
        norms = jax.vmap(optax.global_norm)(grads)
        clipped = jax.tree.map(lambda g: jnp.tensordot(jnp.minimum(1, CLIP / norms), g, 1), grads)
        return norms, clipped, record_gradients.clipped_sum(value, params, units, places, CLIP, found[0])[0]

    norms, expected, ours = both(params, units)
    assert (norms > CLIP).any()
    sizes = {path: leaf.size for path, leaf in paths(params).items()}
    assert sum(sizes[path] for path in found[0].products) >= CASES[name][1] * sum(sizes.values()), found[0].others
    for path, leaf in paths(expected).items():
        np.testing.assert_allclose(paths(ours)[path], leaf, atol=1e-6, err_msg=path)
