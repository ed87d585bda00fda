"""Taking units out of layers: what every family's table says, and which units are the least important."""

import importlib
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.compression import structured
from suite.errors import InputError
from suite.evaluation.losses import cross_entropy
from suite.models import audio, decoder, deepfm, dnn, resnet, seq2seq, transformer, vit, wav2vec2, whisper
from suite.tree import map_paths, nest, paths
from suite.weights.imports import pattern
from tests import toy

ROWS, LENGTH = 3, 12
BODY = {"layers": 1, "width": 24, "heads": 4, "feed_forward": 32}
CONVS = {
    "conv_widths": (8, 8),
    "conv_kernels": (4, 3),
    "conv_strides": (2, 2),
    "position_kernel": 4,
    "position_groups": 2,
}
FAMILIES = {
    "dnn": dnn.Config(inputs=8, hidden=(32, 16), outputs=3),
    "transformer": transformer.Config(vocab_size=30, outputs=2, **BODY),
    "transformer rotary": transformer.Config(vocab_size=30, outputs=2, positions="rotary", activation="swiglu", **BODY),
    "decoder": decoder.Config(vocab_size=30, **BODY),
    "decoder shared keys": decoder.Config(vocab_size=30, kv_heads=2, activation="swiglu", positions="rotary", **BODY),
    "seq2seq": seq2seq.Config(vocab_size=30, **BODY),
    "seq2seq relative": seq2seq.Config(vocab_size=30, positions="relative", **BODY),
    "vit": vit.Config(height=8, width=8, channels=1, outputs=3, patch=4, layers=1, hidden=24, heads=4, feed_forward=32),
    "audio": audio.Config(inputs=5, outputs=4, **BODY),
    "audio rotary": audio.Config(inputs=5, outputs=4, positions="rotary", **BODY),
    "wav2vec2": wav2vec2.Config(outputs=4, **CONVS, **BODY),
    "whisper": whisper.Config(inputs=5, outputs=4, max_length=20, **BODY),
    "resnet": resnet.small(channels=1, outputs=3, blocks=(1, 1), widths=(16, 32), stem_width=16),
    "resnet bottleneck": resnet.small(channels=1, outputs=3, blocks=(1, 1), widths=(64, 128), block="bottleneck"),
    "deepfm": deepfm.Config(rows=20, fields=3, inputs=2, width=4, hidden=(32, 16)),
    "dcn": deepfm.Config(rows=20, fields=3, inputs=2, width=4, hidden=(32, 16), kind="dcn"),
}


def inputs(name):
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.standard_normal((ROWS, *shape)), jnp.float32)
    tokens = jnp.asarray(rng.integers(0, 30, (ROWS, LENGTH)), jnp.int32)
    mask = jnp.arange(LENGTH) < jnp.asarray([LENGTH, 7, 9])[:, None]
    return {
        "dnn": (normal(8),),
        "transformer": (tokens, mask),
        "decoder": (tokens, mask),
        "seq2seq": (tokens, mask, tokens[:, ::2]),
        "vit": (normal(8, 8, 1),),
        "audio": (normal(LENGTH, 5), mask),
        "wav2vec2": (normal(60), jnp.ones((ROWS, 60), bool)),
        "whisper": (normal(LENGTH, 5), mask),
        "resnet": (normal(8, 8, 1),),
        "deepfm": (normal(2), tokens[:, :3] % 20, jnp.zeros((ROWS, 0))),
        "dcn": (normal(2), tokens[:, :3] % 20, jnp.zeros((ROWS, 0))),
    }[name.split()[0]]


def built(config, seed=0):
    """(graph, params, rest), all of it drawn, so that no bias and no running mean is zero."""
    graph, params, model_state = nnx.split(abstract(config), nnx.Param, ...)
    rng = np.random.default_rng(seed)
    positive = lambda path: path.endswith(("variance", "scale", "gain"))

    def drawn(path, leaf):
        values = rng.standard_normal(leaf.shape) / np.sqrt(max(leaf.shape[-2:-1], default=1))
        return jnp.asarray(1 + 0.2 * np.abs(values) if positive(path) else values, leaf.dtype)

    return graph, *(map_paths(drawn, nnx.to_pure_dict(part)) for part in (params, model_state))


def abstract(config):
    """The model's shapes."""
    return nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0)))


def answer(graph, params, model_state, name):
    made = jax.jit(lambda params, model_state: nnx.merge(graph, params, model_state)(*inputs(name)))(
        params, model_state
    )
    return made[0] if isinstance(made, tuple) else made


def kinds(config):
    return tuple({units.kind for units in config.prunable})


@pytest.mark.parametrize("name", FAMILIES)
def test_the_smaller_model_is_the_whole_with_its_units_at_zero(name):
    config = FAMILIES[name]
    graph, params, model_state = built(config)
    found = structured.find(config, params, model_state, kinds(config))
    rng = np.random.default_rng(1)
    scores = [rng.random(layer.count) for layer in found]
    made = structured.without(config, params, model_state, found, scores, 0.5)
    assert {layer.units.kind for layer in found} == set(kinds(config))
    zeroed = dict(paths(params))
    for layer, score in zip(found, scores, strict=True):
        kept = made.kept[layer.name]
        assert len(kept) == layer.count // 2 and set(kept) == set(np.argsort(-score)[: layer.count // 2])
        for path, axis in layer.used:
            whole = np.moveaxis(np.array(zeroed[path]), axis, 0)
            each = len(whole) // layer.count
            gone = np.setdiff1d(np.arange(layer.count), kept)
            whole.reshape(layer.count, each, *whole.shape[1:])[gone] = 0
            zeroed[path] = jnp.asarray(np.moveaxis(whole, 0, axis))
    smaller = nnx.split(abstract(made.config), nnx.Param, ...)[0]
    before, after = answer(graph, nest(zeroed), model_state, name), answer(smaller, made.params, made.model_state, name)
    np.testing.assert_allclose(after, before, atol=1e-5 * max(1, float(jnp.abs(before).max())))
    whole, half = ({**paths(params), **paths(model_state)}, {**paths(made.params), **paths(made.model_state)})
    for path, axis in {each for layer in found for each in (*layer.made, *layer.used)}:
        assert 2 * half[path].shape[axis] == whole[path].shape[axis]


def test_every_rule_matches():
    """In some model of the family what makes a unit first and what uses it; of the rest, which are shared by families,
    each in some family."""
    seen = {}
    for config in FAMILIES.values():
        names = list(paths(nnx.to_pure_dict(nnx.state(abstract(config)))))
        seen.setdefault(type(config).__module__, []).extend(names)
    everywhere = [name for names in seen.values() for name in names]
    for family, names in seen.items():
        for units in importlib.import_module(family).PRUNING:
            for template, _ in (units.made[0], *units.used):
                assert any(pattern(template.replace("{i+1}", "{n}")).match(name) for name in names), template
            for template, _ in units.made:
                last = "/".join(part for part in template.split("/")[-2:] if "{" not in part)
                assert any(name.endswith(last) for name in everywhere), template


@pytest.mark.parametrize(
    "count, rate, multiple, expected",
    [(1536, 0.5, 8, 768), (100, 0.5, 8, 48), (12, 0.5, 1, 6), (4, 0.9, 1, 1), (10, 0.5, 8, 5), (64, 0.01, 8, 64)],
)
def test_how_many_units_stay(count, rate, multiple, expected):
    layer = structured.find(FAMILIES["dnn"], *built(FAMILIES["dnn"])[1:])[0]
    layer = replace(layer, count=count, units=replace(layer.units, multiple=multiple))
    assert structured.remaining(layer, rate) == expected


def batches(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        x, label = rng.standard_normal((16, 4)), rng.integers(0, 2, 16)
        yield {"x": jnp.asarray(x, jnp.float32), "label": jnp.asarray(label)}


class Classes:
    """The cross-entropy of two classes."""

    def loss(self, model, batch, rngs):
        return cross_entropy(model(batch["x"], rngs=rngs), batch["label"]).mean(), {}


def test_taylor_finds_the_units_that_the_loss_depends_on():
    """Units 0 to 3 are the largest and raise both classes alike; 4 to 7 tell them apart."""
    config = dnn.Config(inputs=4, hidden=(8,), outputs=2)
    graph, params, model_state = built(config)
    sign = np.array([1, -1, 1, -1])
    head = np.concatenate([np.full((4, 2), 5.0), 0.5 * np.stack([sign, -sign], 1)])
    params["layers"][1]["kernel"] = jnp.asarray(head, jnp.float32)
    (layer,) = found = structured.find(config, params, model_state)
    (scores,) = structured.taylor(found, graph, params, model_state, Classes(), batches(4))
    assert set(np.argsort(-scores)[:4]) == {4, 5, 6, 7} and scores[4:].min() > 100 * scores[:4].max()
    (sizes,) = structured.magnitude(found, params)
    assert set(np.argsort(-sizes)[:4]) == {0, 1, 2, 3}
    kernel, used = (np.asarray(params["layers"][i]["kernel"], np.float64) for i in (0, 1))
    made = np.sqrt((kernel**2).sum(0) + np.asarray(params["layers"][0]["bias"]) ** 2)
    np.testing.assert_allclose(sizes, made * np.sqrt((used**2).sum(1)), rtol=1e-5)
    smaller = structured.without(config, params, model_state, found, [scores], 0.5)
    assert list(smaller.kept[layer.name]) == [4, 5, 6, 7] and smaller.config.hidden == (4,)


def test_taylor_is_the_change_of_the_loss_to_first_order():
    """The sum over batches of the derivative by a factor on each unit."""
    config = dnn.Config(inputs=4, hidden=(16,), outputs=2)
    graph, params, model_state = built(config)
    (scores,) = structured.taylor(
        structured.find(config, params, model_state), graph, params, model_state, Classes(), batches(3)
    )

    def loss(factor, batch):
        scaled = {
            0: params["layers"][0],
            1: {**params["layers"][1], "kernel": params["layers"][1]["kernel"] * factor[:, None]},
        }
        return Classes().loss(nnx.merge(graph, {"layers": scaled}, model_state), batch, None)[0]

    expected = sum(np.abs(jax.grad(loss)(jnp.ones(16), batch)) for batch in batches(3))
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-7)


def test_heads_stay_unless_they_are_named():
    config = FAMILIES["decoder shared keys"]
    _, params, model_state = built(config)
    assert {layer.units.kind for layer in structured.find(config, params, model_state)} == {"feed_forward"}
    found = structured.find(config, params, model_state, ("heads",))
    assert [layer.count for layer in found] == [2]  # a key and the two queries that share it
    made = structured.without(config, params, model_state, found, structured.magnitude(found, params), 0.5)
    assert (made.config.heads, made.config.kv_heads, made.config.head_width, made.config.feed_forward) == (2, 1, 6, 32)


def refused(call, *lines):
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value).splitlines() == list(lines)


def test_what_is_refused():
    config = FAMILIES["transformer"]
    _, params, model_state = built(config)
    refused(
        lambda: structured.find(config, params, model_state, ("head",)),
        'field compression.prune.units: "head" is no kind of units of this model.',
        "  found: feed_forward, heads",
        "  try:   --units heads",
    )
    refused(
        lambda: structured.narrowed(config, structured.find(config, params, model_state), 0.1),
        "flag --prune: 0.1 takes out no unit.",
        "  found: 32 feed_forward",
        "  try:   --prune 0.5",
    )
    plain = toy.Config()
    refused(
        lambda: structured.find(plain, *built(plain)[1:]),
        "field compression.prune.pattern: the model of tests.toy has no units that could be taken out.",
        "  found: structured",
        "  try:   --pattern unstructured",
    )
    grouped = resnet.small(channels=1, outputs=3, blocks=(1,), widths=(32,), stem_width=32, norm="group", groups=8)
    assert grouped.prunable == ()


def test_published_formats_say_how_many_values_a_layer_has_and_refuse_fewer_heads():
    config = transformer.Config(
        vocab_size=30, norm="post", embedding_norm=True, token_types=2, pooling="cls", outputs=2, **BODY
    )
    publish = transformer.IMPORTS["bert"].publish
    assert publish(replace(config, feed_forward=16))["intermediate_size"] == 16
    refused(lambda: publish(replace(config, heads=2, head_width=6)), "the model: has 2 heads of width 6.")
    refused(
        lambda: vit.IMPORTS["vit"].publish(replace(FAMILIES["vit"], heads=2, head_width=6)),
        "the model: has 2 heads of width 6, which this format cannot say.",
        "  found: width 24",
    )
