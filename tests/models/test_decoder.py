"""The decoder: sizes, padding, cached steps, options that change no number, errors, tables."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.experiment.sections import Precision
from suite.models import decoder, dnn
from suite.training import precision


def tiny(**fields):
    sizes = dict(vocab_size=31, layers=2, width=16, heads=4, feed_forward=24, max_length=16)
    return decoder.Config(**{**sizes, **fields})


LLAMA = dict(
    norm="rms",
    positions="rotary",
    activation="swiglu",
    bias=False,
    feed_forward_bias=False,
    tied=False,
    kv_heads=2,
    theta=500.0,
)
CONFIGS = {"gpt": tiny(), "llama": tiny(**LLAMA)}
TOKENS = jax.random.randint(jax.random.key(0), (3, 9), 0, 31)
LENGTHS = jnp.array([9, 5, 2])


def near(a, b):
    np.testing.assert_allclose(a, b, atol=1e-5 * float(abs(a).max()) + 1e-5)


def paths(config):
    state = nnx.state(nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0))), nnx.Param)
    return {"/".join(map(str, path)): value.shape for path, value in nnx.to_flat_state(state)}


def compiled(config):
    """The call, the step, and an empty cache."""
    model = config.build(rngs=nnx.Rngs(0))
    call = jax.jit(lambda tokens, mask: model(tokens, mask))
    return call, jax.jit(lambda *a: model.step(*a)), model.cache(3, 12)


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def test_padding_on_either_side_changes_no_logits(config):
    model = compiled(config)[0]
    behind = jnp.arange(9) < LENGTHS[:, None]
    whole, padded = model(TOKENS, None), model(TOKENS, behind)
    front = jnp.stack(
        [jnp.roll(row, 9 - n).at[: 9 - n].set(7) for row, n in zip(TOKENS, LENGTHS.tolist(), strict=True)]
    )
    turned = model(front, jnp.arange(9) >= 9 - LENGTHS[:, None])
    for row, length in enumerate(LENGTHS.tolist()):
        np.testing.assert_allclose(padded[row, :length], whole[row, :length], atol=2e-6)
        np.testing.assert_allclose(turned[row, 9 - length :], whole[row, :length], atol=2e-6)


def test_prompt_and_single_steps_give_the_logits_of_the_whole(config):
    model, step, cache = compiled(config)
    whole = model(TOKENS, None)
    # Rounding in float32: sums of 9 rows and of 1 are taken in another order. With jax 0.12 both llama's whole and its
    # steps are up to 1.7e-6 from the same in float64, where logits reach 3.1; gpt's are a tenth as large.
    same = partial(np.testing.assert_allclose, rtol=0, atol=1.5e-6 * float(abs(whole).max()))
    logits, cache = step(TOKENS[:, :4], jnp.ones((3, 4), bool), cache)
    same(logits, whole[:, 3])
    for i in range(4, 9):
        logits, cache = step(TOKENS[:, i : i + 1], jnp.ones((3, 1), bool), cache)
        same(logits, whole[:, i])
    assert int(cache.length) == 9


def test_scanning_and_recomputing_change_no_number():
    model = CONFIGS["llama"].build(rngs=nnx.Rngs(0))
    _, state = nnx.split(model)

    def value(state, **fields):
        other = tiny(**LLAMA, dropout=0.1, attention_dropout=0.1, **fields)
        graph = nnx.split(nnx.eval_shape(lambda: other.build(rngs=nnx.Rngs(0))))[0]
        return nnx.merge(graph, state)(TOKENS, rngs=nnx.Rngs(dropout=3)).sum()

    expected, grads = jax.jit(jax.value_and_grad(value))(state)
    for fields in ({"scan_layers": True}, {"remat": "full"}, {"scan_layers": True, "remat": "dots"}):
        found, others = jax.jit(jax.value_and_grad(lambda s, f=fields: value(s, **f)))(state)
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * float(abs(a).max()) + 1e-5), grads, others
        )


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_gradients_are_finite_and_reach_every_parameter(config, compute):
    model = precision.apply(config.build(rngs=nnx.Rngs(0)), Precision(compute=compute))
    graph, params = nnx.split(model)

    def loss(params):
        logits = nnx.merge(graph, params)(TOKENS, rngs=nnx.Rngs(dropout=1))
        return -jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), TOKENS[:, 1:, None], 2).sum()

    for path, grad in nnx.to_flat_state(jax.jit(jax.grad(loss))(params)):
        assert bool(jnp.isfinite(grad[...]).all()), path
        assert path[-2:] == ("key", "bias") or bool((grad[...] != 0).any()), path


def test_fewer_keys_are_smaller():
    shapes = paths(CONFIGS["llama"])
    assert shapes["layers/0/attention/query/kernel"] == (16, 16)
    assert shapes["layers/0/attention/key/kernel"] == (16, 8)
    assert shapes["head/kernel"] == (16, 31) and "layers/0/mlp/up/bias" not in shapes
    assert "head/kernel" not in paths(CONFIGS["gpt"])


def test_more_tokens_than_learned_positions_are_refused():
    model = CONFIGS["gpt"].build(rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"17 tokens.*max_length = 16"):
        jax.eval_shape(model, jnp.zeros((1, 17), int))
    with pytest.raises(ValueError, match="17 tokens"):
        model.cache(1, 17)


def test_every_sharding_rule_matches_a_parameter_of_its_rank(config):
    shapes = paths(config)
    for rule, spec in config.sharding:
        found = [shape for path, shape in shapes.items() if re.search(rule, path)]
        assert found and all(len(spec) <= len(shape) for shape in found), rule


def test_layers_count_from_the_input_to_the_head(config):
    layers = {path: config.layer_of(path) for path in paths(config)}
    assert min(layers.values()) == 0 and max(layers.values()) == config.depth == 3
    assert layers["layers/1/mlp/up/kernel"] == 2 and layers["tokens/embedding"] == 0


def test_published_weights_decide_the_body_and_training_the_rest():
    adopted = tiny(dropout=0.3, remat="full").adopt(tiny(**LLAMA))
    assert (adopted.kv_heads, adopted.norm, adopted.dropout, adopted.remat) == (2, "rms", 0.3, "full")
    with pytest.raises(InputError, match=r"names weights of suite\.models\.dnn"):
        tiny().adopt(dnn.Config(inputs=3))


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"heads": 3}, "model.heads"),
        ({"kv_heads": 3}, "model.kv_heads"),
        ({"layers": 0}, "model.layers"),
        ({"width": 12, "positions": "rotary"}, "model.heads"),
        ({"norm": "batch"}, "model.norm"),
        ({"remat": "some"}, "model.remat"),
        ({"attention": "flash"}, "model.attention"),
        ({"dropout": 1.0}, "model.dropout"),
        ({"epsilon": 0.0}, "model.epsilon"),
        ({"vocab_size": -1}, "model.vocab_size"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(fields, where):
    with pytest.raises(InputError, match=where):
        tiny(**fields)


def test_a_model_without_a_vocabulary_is_refused():
    with pytest.raises(InputError, match=r"model\.vocab_size"):
        tiny(vocab_size=0).build(rngs=nnx.Rngs(0))
