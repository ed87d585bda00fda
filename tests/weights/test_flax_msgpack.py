"""``flax_model.msgpack``: folders of Flax models, of every family that has one, give their PyTorch twins' models."""

import json
import re

import jax
import jax.numpy as jnp
import ml_dtypes
import msgpack
import numpy as np
import pytest
from flax import nnx
from flax.serialization import msgpack_serialize
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file

from suite.errors import InputError
from suite.tree import paths
from suite.weights import pretrained
from tests.parity import golden

CASES = [
    "bert",
    "bert_classifier",
    "roberta_classifier",
    "distilbert_classifier",
    "gpt2",
    "llama",
    "t5",
    "t5_gated",
    "marian",
    "vit",
    "resnet_basic",
    "resnet_bottleneck",
    "wav2vec2_large_ctc",
    "whisper",
]
NORMS = re.compile(r"(LayerNorm|layer_?norm\w*|ln_\w|\w+_norm|normalization|norm)$")
TABLES = re.compile(r"(\w+_embeddings|embed_\w+|wte|wpe|shared|relative_attention_bias)$")


def as_flax(name, array, rms):
    """(path, array) in Flax, by the rules of Transformers before version 5."""
    name = name.replace("parametrizations.weight.original0", "weight_g")
    *modules, leaf = name.replace("parametrizations.weight.original1", "weight_v").split(".")
    module = modules[-1] if modules else ""
    if leaf.startswith("running_"):
        return ("batch_stats", *modules, {"running_mean": "mean", "running_var": "var"}[leaf]), array
    if leaf == "weight" and NORMS.search(module):
        leaf = "weight" if rms else "scale"
    elif leaf == "weight" and TABLES.search(module):
        leaf = "embedding"
    elif leaf == "weight":
        leaf, array = (
            "kernel",
            {2: lambda a: a.T, 3: lambda a: a.transpose(2, 1, 0), 4: lambda a: a.transpose(2, 3, 1, 0)}[array.ndim](
                array
            ),
        )
    return ("params", *modules, leaf), array


def flat(folder):
    """Flax's arrays by path of the published folder, whose safetensors go."""
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    made = dict(as_flax(name, value, config["model_type"] in ("t5", "llama")) for name, value in tensors.items())
    # Only models with running statistics keep the names of collections.
    headed = any(path[0] == "batch_stats" for path in made)
    return {path if headed else path[1:]: np.ascontiguousarray(value) for path, value in made.items()}


def write(folder, arrays):
    (folder / "flax_model.msgpack").write_bytes(msgpack_serialize(unflatten_dict(dict(arrays))))


def variables(model):
    _, params, rest = nnx.split(model, nnx.Param, ...)
    return paths(nnx.to_pure_dict(params)) | paths(nnx.to_pure_dict(rest))


@pytest.mark.parametrize("name", CASES)
def test_the_same_model_as_of_safetensors(name, tmp_path):
    folder = golden.folder(golden.load(name), tmp_path / "w")
    config, model = pretrained.load(folder)
    write(folder, flat(folder))
    again, twin = pretrained.load(folder)
    assert again == config
    ours, theirs = variables(model), variables(twin)
    assert ours.keys() == theirs.keys()
    for path, value in ours.items():
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            continue
        np.testing.assert_array_equal(theirs[path], value, err_msg=path)


@pytest.fixture
def bert(tmp_path):
    """(folder, arrays of Flax by path, the model)"""
    folder = golden.folder(golden.load("bert_classifier"), tmp_path / "bert")
    model = pretrained.load(folder)[1]
    return folder, flat(folder), model


def same(folder, model):
    theirs = variables(pretrained.load(folder)[1])
    return all(np.array_equal(theirs[path], value) for path, value in variables(model).items())


def test_shards_and_a_file_by_name(bert):
    folder, arrays, model = bert
    places = {}
    for number, part in enumerate((list(arrays)[::2], list(arrays)[1::2]), 1):
        file = f"flax_model-{number:05}-of-00002.msgpack"
        (folder / file).write_bytes(msgpack_serialize(unflatten_dict({path: arrays[path] for path in part})))
        places |= {"/".join(path): file for path in part}
    index = folder / "flax_model.msgpack.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert same(folder, model)
    index.write_text(json.dumps({"weight_map": {**places, "x/kernel": "../x.msgpack"}}))
    with pytest.raises(InputError, match=r"names files outside its folder"):
        pretrained.load(folder)
    index.unlink()
    write(folder, arrays)
    assert same(folder / "flax_model.msgpack", model)


def test_safetensors_go_first_and_bfloat16_is_read(bert):
    folder, arrays, model = bert
    write(folder, {path: value.astype(ml_dtypes.bfloat16) for path, value in arrays.items()})
    narrow = pretrained.load(folder)[1]
    kernel, wanted = (m.encoder.layers[0].attention.query.kernel[...] for m in (narrow, model))
    np.testing.assert_array_equal(kernel, np.asarray(wanted).astype(ml_dtypes.bfloat16).astype(np.float32))
    golden.folder(golden.load("bert_classifier"), folder)
    assert same(folder, model)


def test_pieces_of_large_arrays_are_joined(bert):
    folder, arrays, model = bert
    path = max(arrays, key=lambda path: arrays[path].size)
    whole, tree = arrays[path], unflatten_dict(dict(arrays))
    parent = tree
    for step in path[:-1]:
        parent = parent[step]
    chunks = {str(i): part for i, part in enumerate(np.array_split(whole.reshape(-1), 3))}
    shape = {str(i): size for i, size in enumerate(whole.shape)}
    parent[path[-1]] = {"__msgpack_chunked_array__": True, "shape": shape, "chunks": chunks}
    (folder / "flax_model.msgpack").write_bytes(msgpack_serialize(tree))
    assert same(folder, model)


def test_every_array_is_used_or_named(bert):
    folder, arrays, _ = bert
    write(folder, {**arrays, ("bert", "surplus", "kernel"): np.ones((2, 2), np.float32)})
    with pytest.raises(InputError, match=r"unused: bert\.surplus\.weight"):
        pretrained.load(folder)
    lost = next(path for path in arrays if "query" in path)
    write(folder, {path: value for path, value in arrays.items() if path != lost})
    with pytest.raises(InputError, match=r"missing: bert\.encoder\.layer\.\d\.attention\.self\.query"):
        pretrained.load(folder)


HOSTILE = {
    "cut": lambda data: data[: len(data) // 2],
    "no arrays": lambda data: msgpack.packb({"a": "text"}),
    "a list": lambda data: msgpack.packb([1, 2]),
    "a pickle's type": lambda data: msgpack.packb({"a": msgpack.ExtType(7, b"x")}),
    "objects": lambda data: msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(((1,), "object", b"12345678")))}),
    "larger than its bytes": lambda data: msgpack.packb(
        {"a": msgpack.ExtType(1, msgpack.packb(((2**40,), "float32", b"1234")))}
    ),
    "negative": lambda data: msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(((-1, -1), "float32", b"1234")))}),
    "nested without end": lambda data: b"\x81\xa1a" * 5000,
    "a map that claims more than it has": lambda data: b"\xdf\xff\xff\xff\xff",
    "twins": lambda data: msgpack_serialize({"a": {"kernel": np.ones((1, 1)), "scale": np.ones(1)}}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_weights_is_refused(bert, kind):
    folder, arrays, _ = bert
    write(folder, arrays)
    file = folder / "flax_model.msgpack"
    file.write_bytes(HOSTILE[kind](file.read_bytes()))
    with pytest.raises(InputError, match="are cut short or tampered with"):
        pretrained.load(folder)
