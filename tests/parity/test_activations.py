"""Activations that published configs name: each is its formula, in every family that transformers accepts it in."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.models import decoder, resnet, seq2seq, transformer, vit, wav2vec2, whisper
from suite.models.activations import activation, gated, published_activation, published_name
from suite.nn.mlp import ACTIVATIONS, GATED
from suite.weights import pretrained
from tests.parity import golden

X = np.linspace(-12, 12, 97)
_TANH = 0.5 * X * (1 + np.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3)))
_EXACT = np.array([0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in X])
_SOFTPLUS = np.log1p(np.exp(-abs(X))) + np.maximum(X, 0)
FORMULAS = {
    "gelu": _EXACT,
    "gelu_python": _EXACT,
    "gelu_new": _TANH,
    "gelu_pytorch_tanh": _TANH,
    "gelu_python_tanh": _TANH,
    "gelu_fast": _TANH,
    "gelu_accurate": _TANH,
    "gelu_10": np.clip(_EXACT, -10, 10),
    "quick_gelu": X / (1 + np.exp(-1.702 * X)),
    "relu": np.maximum(X, 0),
    "relu2": np.maximum(X, 0) ** 2,
    "relu6": np.clip(X, 0, 6),
    "leaky_relu": np.where(X > 0, X, 0.01 * X),
    "silu": X / (1 + np.exp(-X)),
    "swish": X / (1 + np.exp(-X)),
    "mish": X * np.tanh(_SOFTPLUS),
    "hardswish": X * np.clip(X + 3, 0, 6) / 6,
    "sigmoid": 1 / (1 + np.exp(-X)),
    "tanh": np.tanh(X),
    "linear": X,
}
BERT = golden.load("bert_classifier")


@pytest.mark.parametrize("name", FORMULAS)
def test_a_published_name_is_its_formula(name):
    ours = ACTIVATIONS[activation("hidden_act", name)](jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(ours, FORMULAS[name], rtol=1e-5, atol=2e-6)
    assert activation("hidden_act", published_name(activation("hidden_act", name))) == activation("hidden_act", name)


def test_every_activation_of_ours_has_a_published_name():
    for name in ACTIVATIONS:
        assert published_activation({"act": published_name(name)}, "act") == name
    for form, gate in GATED.items():
        assert published_name(form) == published_name(gate)
    assert {*(gated("hidden_act", name) for name in ("silu", "gelu_new", "gelu", "relu"))} == set(GATED)
    with pytest.raises(InputError, match=r"config\.json, hidden_act: is not something the gate of this family can do"):
        gated("hidden_act", "tanh")


def test_bert_reads_gelu_new(tmp_path):
    """Other than the exact GELU's answers, and the tanh GELU of its fields; published again under its name."""
    folder = golden.folder(BERT, tmp_path / "bert")
    tokens, mask = (jnp.asarray(BERT.inputs[name]) for name in ("tokens", "mask"))
    (folder / "config.json").write_text(json.dumps({**BERT.config, "hidden_act": "gelu_new"}))
    config, model = pretrained.load(folder)
    assert config.activation == "gelu_tanh"
    assert not np.allclose(model(tokens, mask), BERT.outputs["logits"], atol=1e-6)
    assert pretrained.formats()["bert"].publish(config)["hidden_act"] == "gelu_new"


FAMILIES = {
    # name of the format: (our config of that activation, the field that its published config says it in)
    "bert": (
        lambda act: transformer.Config(
            vocab_size=9, norm="post", embedding_norm=True, token_types=2, pooling="cls", activation=act
        ),
        "hidden_act",
    ),
    "distilbert": (
        lambda act: transformer.Config(
            vocab_size=9, norm="post", embedding_norm=True, epsilon=1e-12, pooler="relu", pooling="cls", activation=act
        ),
        "activation",
    ),
    "gpt2": (lambda act: decoder.Config(vocab_size=9, activation=act), "activation_function"),
    "marian": (
        lambda act: seq2seq.Config(vocab_size=9, order="post", output_bias=True, epsilon=1e-5, activation=act),
        "activation_function",
    ),
    "vit": (lambda act: vit.Config(height=16, width=16, channels=3, outputs=2, activation=act), "hidden_act"),
    "resnet": (lambda act: resnet.resnet18(channels=3, outputs=2, activation=act), "hidden_act"),
    "wav2vec2": (lambda act: wav2vec2.Config(outputs=4, activation=act, feature_activation=act), "hidden_act"),
    "whisper": (lambda act: whisper.Config(inputs=80, pooling="hidden", activation=act), "activation_function"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_reads_and_writes_every_activation(family):
    make, field = FAMILIES[family]
    table = pretrained.formats()[family]
    for name in ACTIVATIONS:
        published = table.publish(make(name))
        assert published[field] == published_name(name)
        assert table.config(published).activation == name
    with pytest.raises(InputError, match=f"config.json, {field}: is not something this family can do"):
        table.config({**published, field: "prelu"})


@pytest.mark.parametrize(
    ("form", "ours"),
    [
        ("relu", "relu"),
        ("gated-gelu", "geglu"),
        ("gated-silu", "swiglu"),
        ("gated-relu", "reglu"),
        ("gelu_new", "gelu_tanh"),
    ],
)
def test_t5_reads_and_writes_every_form(form, ours):
    config = seq2seq.Config(
        vocab_size=9,
        norm="rms",
        positions="relative",
        bias=False,
        scale_embedding=False,
        scale_scores=False,
        activation=ours,
        feed_forward_dropout=0.1,
        attention_dropout=0.1,
    )
    table = pretrained.formats()["t5"]
    assert table.publish(config)["feed_forward_proj"] == form
    assert table.config(table.publish(config)).activation == ours


# Live, beside transformers


@pytest.mark.peers
def test_formulas_are_those_of_transformers():
    import torch
    from transformers.activations import ACT2CLS, ACT2FN

    for name, wanted in FORMULAS.items():
        np.testing.assert_allclose(ACT2FN[name](torch.from_numpy(X)).numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert set(ACT2CLS) - set(FORMULAS) == {"laplace", "sqrtsoftplus", "prelu", "xielu"}


def _peer(family, act):
    """(a tiny model of transformers, its inputs, our inputs)"""
    import torch
    import transformers as t

    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 20, (2, 5))
    ids = torch.from_numpy(tokens)
    mask = np.ones((2, 5), bool)
    bert = dict(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=12,
    )
    image = rng.normal(size=(2, 3, 32, 32)).astype(np.float32)
    pixels, ours = {"pixel_values": torch.from_numpy(image)}, (jnp.asarray(image.transpose(0, 2, 3, 1)),)
    if family in ("bert", "roberta"):
        kind = {"bert": "Bert", "roberta": "Roberta"}[family]
        config = getattr(t, f"{kind}Config")(**bert, hidden_act=act, num_labels=3)
        model = getattr(t, f"{kind}ForSequenceClassification")(config)
        return model, {"input_ids": ids}, (jnp.asarray(tokens), jnp.asarray(mask))
    if family == "distilbert":
        config = t.DistilBertConfig(
            vocab_size=20,
            dim=8,
            n_layers=1,
            n_heads=2,
            hidden_dim=12,
            activation=act,
            max_position_embeddings=12,
            num_labels=3,
        )
        return (
            t.DistilBertForSequenceClassification(config),
            {"input_ids": ids},
            (jnp.asarray(tokens), jnp.asarray(mask)),
        )
    if family == "vit":
        config = t.ViTConfig(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=12,
            image_size=32,
            patch_size=16,
            hidden_act=act,
            num_labels=3,
        )
        return t.ViTForImageClassification(config), pixels, ours
    if family == "resnet":
        config = t.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", hidden_act=act, num_labels=3
        )
        return t.ResNetForImageClassification(config), pixels, ours
    if family == "llama":
        config = t.LlamaConfig(
            vocab_size=20,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=12,
            hidden_act=act,
        )
        return t.LlamaForCausalLM(config), {"input_ids": ids}, (jnp.asarray(tokens),)
    if family == "wav2vec2":
        config = t.Wav2Vec2Config(
            vocab_size=12,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=12,
            conv_dim=(8, 8),
            conv_stride=(5, 2),
            conv_kernel=(10, 3),
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2,
            hidden_act=act,
            feat_extract_activation=act,
            num_feat_extract_layers=2,
        )
        wave = rng.normal(size=(1, 400)).astype(np.float32)
        return (
            t.Wav2Vec2ForCTC(config),
            {"input_values": torch.from_numpy(wave)},
            (jnp.asarray(wave), jnp.ones((1, 400), bool)),
        )
    raise AssertionError(family)


LIVE = [(family, act) for family in ("bert", "vit", "resnet", "wav2vec2") for act in ("gelu_new", "quick_gelu", "silu")]
LIVE += [("roberta", "gelu_fast"), ("distilbert", "gelu_pytorch_tanh"), ("distilbert", "relu"), ("bert", "mish")]
LIVE += [("llama", name) for name in ("silu", "gelu", "gelu_new", "relu")]


@pytest.mark.peers
@pytest.mark.parametrize(("family", "act"), LIVE)
def test_answers_are_those_of_transformers(family, act, tmp_path):
    import torch

    model, theirs, ours = _peer(family, act)
    golden.into(model)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        wanted = model(**theirs).logits.numpy()
    _, own = pretrained.load(tmp_path)
    own.eval() if isinstance(own, nnx.Module) else None
    outputs = own(*ours)
    np.testing.assert_allclose(outputs[0] if isinstance(outputs, tuple) else outputs, wanted, atol=2e-5)
