"""Published weights, in and out: what is read, and where it goes."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from safetensors.numpy import save_file

from suite.experiment.sections import Parallel
from suite.models import dnn, transformer
from suite.parallel.sharding import make_mesh
from suite.tree import paths
from suite.weights import pretrained, published
from suite.weights.correspondence import Filling
from suite.weights.imports import Map, linear
from tests.conftest import simulated
from tests.parity import golden
from tests.tiny_bert import CASE, folder, refusal, rewritten, variables

__all__ = ["folder"]


def same(model, other):
    mine, yours = (paths(nnx.to_pure_dict(nnx.state(m, nnx.Param))) for m in (model, other))
    return mine.keys() == yours.keys() and all(np.array_equal(mine[name], yours[name]) for name in mine)


# What is read.


def test_tensors_are_float32_whatever_they_are_published_in(folder):
    _, model = pretrained.load(folder)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        narrow = {name: value.astype(dtype) for name, value in golden.weights(CASE.shapes).items()}
        rewritten(folder, lambda _, narrow=narrow: narrow)
        _, found = pretrained.load(folder)
        wanted = narrow["bert.encoder.layer.0.attention.self.query.weight"].astype(np.float32).T
        kernel = found.encoder.layers[0].attention.query.kernel[...]
        assert kernel.dtype == jnp.float32
        np.testing.assert_array_equal(kernel, wanted)
        assert not same(model, found)


def test_npz_and_a_single_file(folder, tmp_path):
    config, model = pretrained.load(folder)
    other = tmp_path / "npz"
    other.mkdir()
    shutil.copyfile(folder / "config.json", other / "config.json")
    np.savez(other / "weights.npz", **golden.weights(CASE.shapes))
    for source in (other, other / "weights.npz", folder / "model.safetensors", str(folder)):
        found, again = pretrained.load(source)
        assert found == config
        assert same(model, again)


def shards(folder):
    """The same weights in two files with an index."""
    weights = golden.weights(CASE.shapes)
    names, half = list(weights), len(weights) // 2
    places = {}
    for number, part in enumerate((names[:half], names[half:]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return places


def test_shards(folder):
    _, model = pretrained.load(folder)
    places = shards(folder)
    assert same(model, pretrained.load(folder)[1])
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert refusal(pretrained.load, folder) == (
        f'weights "{folder}": lack shards that model.safetensors.index.json names.\n'
        "  found: missing model-00002-of-00002.safetensors\n"
        "  try:   fetch them again"
    )
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {**places, "x": "../../secret.safetensors"}}))
    assert refusal(pretrained.load, folder) == (
        f"{index}: names files outside its folder.\n  found: ../../secret.safetensors"
    )
    first = {name: file for name, file in places.items() if file.startswith("model-00001")}
    index.write_text(json.dumps({"weight_map": {**first, "x": "model-00001-of-00002.safetensors"}}))
    assert refusal(pretrained.load, folder) == (
        f'weights "{folder}": lack tensors that model.safetensors.index.json names.\n'
        "  found: x in model-00001-of-00002.safetensors\n"
        "  try:   fetch them again"
    )


def test_older_names_and_tensors_of_other_heads(folder):
    """As bert-base-uncased is published: gamma and beta, a head of masked words, position ids."""
    _, model = pretrained.load(folder)

    def older(weights):
        names = {
            name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            for name in weights
        }
        more = {"cls.predictions.bias": np.zeros(40, np.float32), "bert.embeddings.position_ids": np.arange(12)}
        return {**{names[name]: value for name, value in weights.items()}, **more}

    assert same(model, pretrained.load(rewritten(folder, older))[1])


def test_changes_of_the_config(folder):
    config, model = pretrained.load(folder, pooling="mean")
    assert config.pooling == "mean"
    assert model.pooler is None and model.head is not None


# Filling a model that is there.


def test_fill_keeps_places_and_frees_what_it_replaces(folder):
    config, model = pretrained.load(folder)
    params, model_state = variables(config)
    mesh = make_mesh(Parallel())
    where = NamedSharding(mesh, P())
    params = jax.tree.map(lambda leaf: jax.device_put(leaf, where), params)
    before = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    others = sum(array.nbytes for array in jax.live_arrays()) - before
    most, place = [], jax.device_put

    def watched(array, *args, **options):
        most.append(sum(leaf.nbytes for leaf in jax.live_arrays()) + array.nbytes)
        return place(array, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "device_put", watched)
        filled, _ = pretrained.fill(config, params, model_state, folder)
    assert len(most) == len(CASE.shapes)
    assert max(most) <= others + before  # never more than the one model
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(params))
    assert all(leaf.sharding == where and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(filled))
    wanted = paths(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    for name, leaf in paths(filled).items():
        np.testing.assert_array_equal(leaf, wanted[name])


def test_a_new_head_and_additions_keep_their_values(folder, caplog):
    published_config, _ = pretrained.load(folder)
    config = transformer.Config(outputs=5, pooling="cls", dropout=0.3).adopt(published_config)
    params, model_state = variables(config)
    head = np.asarray(params["head"]["kernel"])
    params["encoder"]["layers"][0]["attention"]["query"]["addition"] = {"a": jnp.ones((16, 2))}
    filled, _ = pretrained.fill(config, params, model_state, folder)
    np.testing.assert_array_equal(filled["head"]["kernel"], head)
    assert bool((filled["encoder"]["layers"][0]["attention"]["query"]["addition"]["a"] == 1).all())
    wanted = golden.draw("bert.encoder.layer.0.attention.self.query.weight", (16, 16)).T
    np.testing.assert_array_equal(filled["encoder"]["layers"][0]["attention"]["query"]["kernel"], wanted)
    assert caplog.messages == [f"{folder}: initial values for head/bias, head/kernel"]


def test_a_headless_model_gets_a_head(tmp_path, caplog):
    case = golden.load("distilbert")
    source = golden.folder(case, tmp_path / "distilbert")
    theirs, _ = pretrained.load(source)
    config = transformer.Config(outputs=2, pooling="cls").adopt(theirs)
    filled, _ = pretrained.fill(config, *variables(config), source)
    assert filled["pooler"]["kernel"].shape == (16, 16)
    assert caplog.messages == [f"{source}: initial values for head/bias, head/kernel, pooler/bias, pooler/kernel"]


TOY = Map(
    rules=(*linear("in", "layers/0"), *linear("out", "layers/1")),
    config=lambda config: dnn.Config(inputs=3, hidden=(3,), outputs=3),
    publish=lambda config: {},
    tied={"again.weight": "in.weight"},
)


def toy_weights(**more):
    names = ("in.weight", "in.bias", "out.weight", "out.bias")
    shapes = {name: (3, 3) if name.endswith("weight") else (3,) for name in names}
    tensors = golden.weights(shapes) | more
    readers = {name: lambda value=value: value for name, value in tensors.items() if value is not None}
    return published.Published(Path("toy"), {}, readers)


def filled_toy(weights):
    config = TOY.config({})
    _, params, model_state = pretrained.abstract(config)
    return paths(Filling(TOY, config, weights, exact=True)(params, model_state)[0])


def test_a_tensor_that_repeats_another():
    """An output head tied to the embedding may be there, be absent, or stand for both; but it must be the same."""
    first = golden.draw("in.weight", (3, 3))
    for weights in (
        toy_weights(),
        toy_weights(**{"again.weight": first}),
        toy_weights(**{"again.weight": first, "in.weight": None}),
    ):
        np.testing.assert_array_equal(filled_toy(weights)["layers/0/kernel"], first.T)
    assert refusal(filled_toy, toy_weights(**{"again.weight": first + 1})) == (
        'weights "toy": don\'t fit suite.models.dnn.\n'
        "  found: unused: again.weight (differs from in.weight, with which the model shares it)\n"
        "  try:   tensors and config.json of one and the same model"
    )


def test_a_table_with_two_rules_for_one_name(monkeypatch):
    twice = dataclasses.replace(TOY, rules=(*TOY.rules, *linear("in", "x")))
    monkeypatch.setattr(f"{__name__}.TOY", twice)
    assert "ambiguous: in.bias (fits in.bias, in.bias), in.weight (fits in.weight, in.weight)" in refusal(
        filled_toy, toy_weights()
    )


def test_tensors_go_to_their_shards(forked_child, folder):
    """On two devices that share the parameters, each gets its half."""
    forked_child(
        f"""
import jax, numpy as np
from flax import nnx
from suite.parallel import sharding
from suite.weights import pretrained, published
from suite.experiment.sections import Parallel
from suite.tree import map_paths, paths
config = pretrained.formats()["bert"].config(published.open({str(folder)!r}).config)
_, params, rest = nnx.split(config.build(rngs=nnx.Rngs(0)), nnx.Param, ...)
params, rest = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)
mesh = sharding.make_mesh(Parallel(fsdp=2))
specs = sharding.param_specs(params, config.sharding, mesh)
params = map_paths(lambda path, leaf: jax.device_put(leaf, jax.NamedSharding(mesh, specs[path])), params)
before = {{path: leaf.sharding for path, leaf in paths(params).items()}}
filled, _ = pretrained.fill(config, params, rest, {str(folder)!r})
assert {{path: leaf.sharding for path, leaf in paths(filled).items()}} == before
kernel = filled["encoder"]["layers"][0]["attention"]["query"]["kernel"]
assert [shard.data.shape for shard in kernel.addressable_shards] == [(8, 16), (8, 16)]
_, model = pretrained.load({str(folder)!r})
np.testing.assert_array_equal(kernel, model.encoder.layers[0].attention.query.kernel[...])
""",
        **simulated(2),
    )
