"""The masked language model's loss, logits and gradients are those of transformers' BertForMaskedLM."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.models import masked_head
from suite.models.parts import Composite, Parts
from suite.weights import pretrained
from tests.parity import golden

HEAD = "cls.predictions."


def model_of(case, folder):
    """The encoder as it is imported, and the head filled by hand."""
    config, encoder = pretrained.load(golden.folder(case, folder), pooling="mean")
    parts = Parts(parts={"text": config, "predictor": masked_head.Config()}, feeds={"predictor": "text"})
    model, drawn = parts.build(rngs=nnx.Rngs(0)), golden.weights(case.shapes)
    assert isinstance(model, Composite)
    model.text = encoder
    model.predictor.dense.kernel[...] = jnp.asarray(drawn[f"{HEAD}transform.dense.weight"].T)
    model.predictor.dense.bias[...] = jnp.asarray(drawn[f"{HEAD}transform.dense.bias"])
    model.predictor.norm.scale[...] = jnp.asarray(drawn[f"{HEAD}transform.LayerNorm.weight"])
    model.predictor.norm.bias[...] = jnp.asarray(drawn[f"{HEAD}transform.LayerNorm.bias"])
    model.predictor.bias[...] = jnp.asarray(drawn[f"{HEAD}bias"])
    return model


def compare(case, folder):
    inputs, model = case.inputs, model_of(case, folder)
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params):
        model = nnx.merge(graph, params, rest)
        vectors = model.text.encoder(jnp.asarray(inputs["tokens"]), jnp.asarray(inputs["mask"]))
        picked = jnp.take_along_axis(vectors, jnp.asarray(inputs["hidden"])[..., None], 1)
        logits = model.predictor(picked, model.text.encoder.tokens)
        said = jax.nn.log_softmax(logits)
        nats = -jnp.take_along_axis(said, jnp.asarray(inputs["wanted"])[..., None], 2)[..., 0]
        return (nats * inputs["counted"]).sum() / inputs["counted"].sum(), logits

    (value, logits), grads = jax.value_and_grad(loss, has_aux=True)(params)
    theirs = np.take_along_axis(case.outputs["logits"], inputs["hidden"][..., None], 1)
    np.testing.assert_allclose(logits, theirs, atol=2e-5)
    np.testing.assert_allclose(value, case.outputs["loss"][0], atol=2e-5)
    ours = {
        f"{HEAD}bias": grads["predictor"]["bias"][...],
        "bert.embeddings.word_embeddings.weight": grads["text"]["encoder"]["tokens"]["embedding"][...],
        f"{HEAD}transform.dense.weight": grads["predictor"]["dense"]["kernel"][...].T,
    }
    for name, wanted in case.grads.items():
        assert np.abs(np.asarray(ours[name]) - wanted).max() <= 1e-4 * np.abs(wanted).max(), name


def test_equal_to_the_stored_answers(tmp_path):
    compare(golden.load("bert_masked"), tmp_path)


@pytest.mark.peers
def test_equal_to_transformers(tmp_path):
    compare(golden.cases()["bert_masked"](), tmp_path)
