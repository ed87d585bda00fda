"""Feature maps at strides, of every family of images that has them; networks that are built no deeper than needed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.models import convnext, efficientnet, resnet, vit
from suite.tree import map_paths, paths
from suite.weights import pretrained, published

FAMILIES = {
    "resnet": resnet.Config(channels=3, blocks=(1, 1, 1), widths=(8, 12, 16), stem_width=8),
    "bottlenecks": resnet.Config(channels=3, blocks=(1, 1), widths=(8, 16), stem_width=8, block="bottleneck"),
    "small images": resnet.cifar20(channels=3, blocks=(1, 1, 1)),
    "efficientnet": efficientnet.Config(
        channels=3,
        blocks=(1, 2, 1, 1),
        widths=(8, 12, 16, 8),
        kernels=(3, 5, 3, 3),
        strides=(1, 2, 1, 2),
        stem_width=8,
        head_width=16,
    ),
    "convnext": convnext.Config(channels=3, blocks=(1, 2, 1), widths=(8, 12, 16)),
}


def variables(config):
    """Path -> array, the same for a path however deep the network is."""
    _, params, rest = pretrained.abstract(config)
    shapes = paths(params) | paths(rest)
    return {path: 0.1 + jax.random.uniform(jax.random.key(len(path)), leaf.shape) for path, leaf in shapes.items()}


def built(config):
    graph, params, rest = pretrained.abstract(config)
    values = variables(config)
    return nnx.merge(graph, *(map_paths(lambda path, _: values[path], tree) for tree in (params, rest)))


@pytest.mark.parametrize("name", FAMILIES)
def test_maps_have_the_strides_and_channels_that_the_configuration_states(name):
    config = FAMILIES[name]
    images = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
    maps = nnx.eval_shape(lambda x: config.build(rngs=nnx.Rngs(0)).maps(x), images)
    assert list(maps) == list(config.maps) == sorted(maps)
    for stride, width in config.maps.items():
        assert maps[stride].shape == (2, 64 // stride, 96 // stride, width)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_without_its_deeper_stages_gives_the_same_maps_with_fewer_parameters(name):
    whole = FAMILIES[name]
    coarsest = list(whole.maps)[-2]
    cut = dataclasses.replace(whole, coarsest=coarsest)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 64, 3)), jnp.float32)
    maps, expected = (jax.jit(built(config).maps)(images) for config in (cut, whole))
    assert list(maps) == list(cut.maps) == list(whole.maps)[:-1]
    for stride, made in maps.items():
        np.testing.assert_allclose(made, expected[stride], rtol=1e-5)
    left_out = variables(whole).keys() - variables(cut).keys()
    assert left_out and variables(cut).keys() < variables(whole).keys()
    assert cut.depth < whole.depth and {cut.layer_of(path) for path in variables(cut)} <= {*range(cut.depth)}


@pytest.mark.parametrize("name", ["bottlenecks", "convnext"])
def test_published_weights_fill_a_network_that_leaves_its_deeper_stages_out(name, tmp_path):
    whole = dataclasses.replace(FAMILIES[name], outputs=4)
    if name == "convnext":
        _, params, rest = nnx.split(whole.build(rngs=nnx.Rngs(0)), nnx.Param, ...)
    else:
        whole = resnet.Config(channels=3, outputs=4, blocks=(1, 1, 1, 1), widths=(8, 16, 24, 32), block="bottleneck")
        _, params, rest = nnx.split(whole.build(rngs=nnx.Rngs(0)), nnx.Param, ...)
    pretrained.save(whole, nnx.to_pure_dict(params), nnx.to_pure_dict(rest), tmp_path / "weights")
    coarsest = list(whole.maps)[-2]
    cut = dataclasses.replace(whole, outputs=0, coarsest=coarsest)
    adopted = cut.adopt(pretrained.config_of(published.open(tmp_path / "weights")))
    assert (adopted.coarsest, adopted.outputs, adopted.widths) == (coarsest, 0, whole.widths)
    _, fresh, others = nnx.split(cut.build(rngs=nnx.Rngs(1)), nnx.Param, ...)
    filled = pretrained.fill(adopted, nnx.to_pure_dict(fresh), nnx.to_pure_dict(others), tmp_path / "weights")
    theirs = paths(nnx.to_pure_dict(params)) | paths(nnx.to_pure_dict(rest))
    for path, leaf in (paths(filled[0]) | paths(filled[1])).items():
        np.testing.assert_array_equal(leaf, theirs[path])


def test_a_stride_that_no_stage_has_is_refused():
    with pytest.raises(InputError, match="5, and strides are 4, 8, 16, 32"):
        resnet.resnet18(coarsest=5)
    with pytest.raises(InputError, match="the model has classes"):
        efficientnet.lite0(outputs=3, coarsest=16)
    assert vit.tiny(height=32, width=32).maps == {}
