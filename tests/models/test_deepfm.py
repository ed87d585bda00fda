"""Click models: against explicit sums over pairs and lists, against PyTorch, and what their parts are."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.models import deepfm
from suite.nn.interaction import CrossNetwork, pairwise_sum
from suite.nn.table import StackedTable

KINDS = ("lr", "fm", "dnn", "wide_deep", "deepfm", "dcn")


def config(kind):
    return deepfm.Config(kind=kind, rows=50, fields=3, lists=(2, 3), inputs=2, width=4, hidden=(6, 5), cross_layers=2)


def filled(kind, seed=0):
    """A model whose parameters are all random, so that nothing hides behind a zero."""
    model = config(kind).build(rngs=nnx.Rngs(seed))
    rng = np.random.default_rng(seed)
    draw = lambda p: jnp.asarray(0.5 * rng.standard_normal(p.shape), jnp.float32)
    state = jax.tree.map(draw, nnx.state(model, nnx.Param))
    nnx.update(model, state)
    return model


def inputs(seed=0, b=7):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 50, (b, 8)).astype(np.int32)
    ids[0, -1] = -1
    weights = rng.random((b, 5)).astype(np.float32)
    weights[0, -1] = 0
    return rng.standard_normal((b, 2)).astype(np.float32), ids, weights


def test_pairwise_sum_is_the_sum_over_pairs():
    vectors = np.random.default_rng(0).standard_normal((5, 6, 3)).astype(np.float32)
    pairs = sum((vectors[:, i] * vectors[:, j]).sum(-1) for i, j in itertools.combinations(range(6), 2))
    np.testing.assert_allclose(pairwise_sum(vectors), pairs, atol=2e-5)


def test_cross_network_is_its_formula():
    network = CrossNetwork(4, 3, rngs=nnx.Rngs(0))
    x0 = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    x = x0
    for layer in network.layers:
        x = x0 * (x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])) + x
    np.testing.assert_allclose(network(x0), x, atol=2e-5)


def test_rows_put_in_the_tables_place_give_the_same():
    table = StackedTable(20, 3, rngs=nnx.Rngs(0))
    ids = np.array([[1, 19], [4, 4]])
    expected = table(ids)
    table.embedding = nnx.Param(np.asarray(table.embedding[...])[ids])
    np.testing.assert_array_equal(table(ids), expected)


def by_hand(model, kind, dense, ids, weights):
    """The formulas, row by row, in float64."""
    made = []
    table = np.asarray(model.table.embedding[...], np.float64)
    for x, row, w in zip(dense.astype(np.float64), ids, weights, strict=True):
        fields = [table[i] for i in row[:3]] + [table[row[3:5]].T @ w[:2], table[row[5:]].T @ w[2:]]
        logit = float(model.bias[...])
        if kind in ("lr", "fm", "wide_deep", "deepfm"):
            logit += sum(field[-1] for field in fields) + x @ np.asarray(model.linear[...])
            fields = [field[:-1] for field in fields]
        if kind in ("fm", "deepfm"):
            vectors = fields + [v * value for v, value in zip(np.asarray(model.vectors[...]), x, strict=True)]
            logit += sum(a @ b for a, b in itertools.combinations(vectors, 2))
        if kind in ("dnn", "wide_deep", "deepfm", "dcn"):
            h = x0 = c = np.concatenate([*fields, x])
            for layer in model.layers:
                h = np.maximum(h @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...]), 0)
            if kind == "dcn":
                for layer in model.cross.layers:
                    c = x0 * (c @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])) + c
                h = np.concatenate([c, h])
            logit += (h @ np.asarray(model.head.kernel[...])).item()
        made.append(logit)
    return np.array(made)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_the_sum_of_its_parts(kind):
    model, args = filled(kind), inputs()
    np.testing.assert_allclose(model(*args), by_hand(model, kind, *args), atol=2e-5, rtol=2e-5)


@pytest.mark.peers
@pytest.mark.parametrize("kind", KINDS)
def test_equals_pytorch(kind):
    """Logits to 2e-5 and gradients to 1e-4 of the same formulas in PyTorch."""
    torch = pytest.importorskip("torch")
    model, (dense, ids, weights) = filled(kind), inputs()
    graph, state = nnx.split(model)
    params = nnx.to_pure_dict(state)
    peer = jax.tree.map(lambda p: torch.tensor(np.asarray(p), requires_grad=True), params)

    def forward(p, x, w):
        rows = torch.nn.functional.embedding(torch.tensor(ids).long() % 50, p["table"]["embedding"])
        lists = [(rows[:, 3:5] * w[:, :2, None]).sum(1), (rows[:, 5:] * w[:, 2:, None]).sum(1)]
        fields = torch.cat([rows[:, :3], torch.stack(lists, 1)], 1)
        logits = p["bias"] + torch.zeros(len(x))
        if "linear" in p:
            logits = logits + fields[..., -1].sum(1) + x @ p["linear"]
            fields = fields[..., :-1]
        if "vectors" in p:
            vectors = torch.cat([fields, x[..., None] * p["vectors"]], 1)
            products = torch.einsum("bfd,bgd->bfg", vectors, vectors)
            logits = logits + torch.triu(products, 1).sum((1, 2))
        if "head" in p:
            h = x0 = c = torch.cat([fields.flatten(1), x], 1)
            for i in range(len(p["layers"])):
                h = torch.relu(h @ p["layers"][i]["kernel"] + p["layers"][i]["bias"])
            if "cross" in p:
                for i in range(len(p["cross"]["layers"])):
                    c = x0 * (c @ p["cross"]["layers"][i]["kernel"] + p["cross"]["layers"][i]["bias"]) + c
                h = torch.cat([c, h], 1)
            logits = logits + (h @ p["head"]["kernel"])[:, 0]
        return logits

    theirs = forward(peer, torch.tensor(dense), torch.tensor(weights))
    theirs.square().sum().backward()
    ours = model(dense, ids, weights)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=2e-5, rtol=2e-5)
    loss = lambda p: (nnx.merge(graph, p)(dense, ids, weights) ** 2).sum()
    gradients = jax.grad(loss)(params)
    for got, wanted in zip(jax.tree.leaves(gradients), jax.tree.leaves(peer), strict=True):
        scale = wanted.grad.abs().max().item()
        np.testing.assert_allclose(got, wanted.grad.numpy(), atol=1e-4 * scale)


def test_padding_of_lists_has_no_influence():
    model, (dense, ids, weights) = filled("deepfm"), inputs()
    other = ids.copy()
    other[0, -1] = 17
    np.testing.assert_array_equal(model(dense, ids, weights)[0], model(dense, other, weights)[0])


def test_first_order_weights_are_zero_at_first_and_vectors_are_not():
    for kind, first in (("lr", True), ("deepfm", True), ("dnn", False)):
        table = np.asarray(config(kind).build(rngs=nnx.Rngs(0)).table.embedding[...])
        assert table.shape == (50, {"lr": 1, "deepfm": 5, "dnn": 4}[kind])
        assert (table[:, -1] == 0).all() == first
        assert kind == "lr" or table[:, 0].std() > 0.005


def test_dropout_acts_in_training_alone():
    model = deepfm.Config(rows=50, fields=3, lists=(2, 3), inputs=2, width=4, hidden=(64,), dropout=0.5)
    built, args = model.build(rngs=nnx.Rngs(0)), inputs()
    np.testing.assert_array_equal(built(*args), built(*args))
    assert not np.array_equal(built(*args), built(*args, rngs=nnx.Rngs(dropout=1)))


@pytest.mark.parametrize("kind", KINDS)
def test_only_categories_or_only_numbers(kind):
    for sizes in ({"fields": 3, "inputs": 0}, {"fields": 0, "inputs": 3}):
        model = deepfm.Config(kind=kind, rows=9, width=2, hidden=(3,), **sizes).build(rngs=nnx.Rngs(0))
        dense = np.ones((2, sizes["inputs"]), np.float32)
        made = model(dense, np.ones((2, sizes["fields"]), np.int32), np.zeros((2, 0), np.float32))
        assert made.shape == (2,) and np.isfinite(made).all()


def test_the_table_of_the_published_size_is_built_as_shapes_alone():
    """Criteo Terabyte as in the DLRM benchmark: 187.8 M rows would take 12.8 GB."""
    made = nnx.eval_shape(lambda: deepfm.Config(rows=187_767_399, fields=26, inputs=13).build(rngs=nnx.Rngs(0)))
    assert made.table.embedding.shape == (187_767_399, 17)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "deep"}, "field model.kind: no such choice"),
        ({"width": 0}, "field model.width: must be at least 1"),
        ({"rows": -1}, "field model.rows: must not be negative"),
        ({"hidden": (4, 0)}, "field model.hidden: sizes must be at least 1"),
        ({"dropout": 1.0}, "field model.dropout: must be at least 0 and below 1"),
    ],
)
def test_wrong_sizes_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        deepfm.Config(**fields)


def test_open_sizes_are_refused_by_build():
    with pytest.raises(InputError, match=r"field model\.rows: is 0"):
        deepfm.Config().build(rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="nothing to predict from"):
        deepfm.Config(rows=1).build(rngs=nnx.Rngs(0))
