"""Models: sizes, masks, errors, gradients, and tables that match their parameters."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.experiment.sections import Precision
from suite.models import dnn, transformer
from suite.training import precision


def parameter_paths(model: nnx.Module) -> dict[str, tuple[int, ...]]:
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {"/".join(map(str, path)): value.shape for path, value in flat}


def size(model: nnx.Module) -> int:
    return sum(int(np.prod(shape)) for shape in parameter_paths(model).values())


def tiny(**fields) -> transformer.Config:
    sizes = dict(vocab_size=50, outputs=3, layers=1, width=16, heads=2, feed_forward=32, max_length=24)
    return transformer.Config(**{**sizes, **fields})


CONFIGS = {
    "dnn": dnn.Config(inputs=12, hidden=(8, 6), outputs=3, dropout=0.2),
    "linear": dnn.Config(inputs=12, hidden=(), outputs=3),
    "pre": tiny(),
    "bert": tiny(layers=2, norm="post", pooling="cls", embedding_norm=True, epsilon=1e-12),
    "rotary swiglu": tiny(positions="rotary", activation="swiglu"),
    "sinusoidal": tiny(positions="sinusoidal", feed_forward=0),
    "no positions": tiny(positions="none", activation="relu"),
    "bag of words": tiny(layers=0, positions="none"),
}


def inputs(config) -> tuple[jax.Array, ...]:
    if isinstance(config, dnn.Config):
        return (jax.random.normal(jax.random.key(0), (4, 3, 4)),)
    tokens = jax.random.randint(jax.random.key(0), (4, 10), 0, 50)
    return tokens, jnp.arange(10) < jnp.array([10, 7, 3, 0])[:, None]


def test_the_784_128_10_network():
    model = dnn.Config(inputs=784, hidden=(128,), outputs=10).build(rngs=nnx.Rngs(0))
    assert size(model) == 101_770
    assert model(jnp.ones((2, 28, 28, 1))).shape == (2, 10)


def test_the_512_512_2_transformer_by_shape():
    config = transformer.Config(vocab_size=30_000, outputs=2, width=512, max_length=512, heads=8, feed_forward=0)
    model = nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0)))
    paths = parameter_paths(model)
    assert paths["encoder/positions/embedding"] == (512, 512)
    assert paths["encoder/layers/3/mlp/up/kernel"] == (512, 2048)
    assert paths["head/kernel"] == (512, 2)
    graph, state = nnx.split(model)
    call = lambda state, tokens, mask: nnx.merge(graph, state)(tokens, mask)
    tokens = jax.ShapeDtypeStruct((8, 512), jnp.int32)
    logits = jax.eval_shape(call, state, tokens, jax.ShapeDtypeStruct((8, 512), bool))
    assert (logits.shape, logits.dtype) == ((8, 2), jnp.float32)


def test_bert_base_has_its_parameters():
    config = transformer.Config(
        vocab_size=30_522,
        outputs=2,
        layers=12,
        width=768,
        heads=12,
        feed_forward=3072,
        norm="post",
        pooling="cls",
        embedding_norm=True,
    )
    model = nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0)))
    # transformers' BertForSequenceClassification has 109,483,778; the two token types are 1,536 of them.
    assert size(model) == 109_483_778 - 2 * 768


@pytest.mark.parametrize(
    ("name", "compute"), [(name, "float32") for name in CONFIGS] + [("dnn", "bfloat16"), ("bert", "bfloat16")]
)
def test_gradients_are_finite_and_reach_every_parameter(name, compute):
    config = CONFIGS[name]
    model = precision.apply(config.build(rngs=nnx.Rngs(0)), Precision(compute=compute))
    graph, params = nnx.split(model)

    def loss(params, key, *args):
        logits = nnx.merge(graph, params)(*args, rngs=nnx.Rngs(dropout=key))
        return -jax.nn.log_softmax(logits)[jnp.arange(3), jnp.arange(3)].sum()

    value, grads = jax.jit(jax.value_and_grad(loss))(params, jax.random.key(1), *inputs(config))
    assert bool(jnp.isfinite(value))
    for path, grad in nnx.to_flat_state(grads):
        assert bool(jnp.isfinite(grad[...]).all()), path
        assert grad[...].dtype == jnp.float32
        # Adding a constant to every key of a row changes no softmax, so that gradient is nothing but rounding.
        assert "key" in path or bool((grad[...] != 0).any()), path


@pytest.mark.parametrize("name", CONFIGS)
def test_dropout_acts_only_where_rngs_are_given(name):
    config = CONFIGS[name]
    model, args = config.build(rngs=nnx.Rngs(0)), inputs(config)
    np.testing.assert_array_equal(model(*args), model(*args))
    if config.dropout:
        assert (model(*args, rngs=nnx.Rngs(dropout=1)) != model(*args, rngs=nnx.Rngs(dropout=2))).any()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "none"])
def test_padding_changes_no_logits(pooling, positions):
    model = tiny(pooling=pooling, positions=positions).build(rngs=nnx.Rngs(0))
    tokens = jax.random.randint(jax.random.key(0), (3, 8), 0, 50)
    lengths = jnp.array([8, 5, 1])
    mask = jnp.arange(8) < lengths[:, None]
    short = model(tokens, mask)
    longer = jnp.concatenate([tokens, jnp.full((3, 6), 7)], 1)
    padded = model(jnp.where(jnp.arange(14) < lengths[:, None], longer, 9), jnp.arange(14) < lengths[:, None])
    np.testing.assert_allclose(short, padded, atol=2e-6)
    alone = model(tokens[1:2, :5], jnp.ones((1, 5), bool))
    np.testing.assert_allclose(short[1:2], alone, atol=2e-6)


def test_positions_matter_unless_there_are_none():
    tokens, mask = jnp.array([[1, 2, 3], [3, 2, 1]]), jnp.ones((2, 3), bool)
    for positions in ("learned", "sinusoidal", "rotary", "none"):
        a, b = tiny(positions=positions).build(rngs=nnx.Rngs(0))(tokens, mask)
        assert bool(jnp.allclose(a, b, atol=1e-6)) == (positions == "none"), positions


def test_more_tokens_than_positions_is_refused():
    model = tiny().build(rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"25 tokens.*max_length = 24"):
        jax.eval_shape(model, jnp.zeros((1, 25), int), jnp.ones((1, 25), bool))
    assert tiny(positions="rotary").build(rngs=nnx.Rngs(0))(jnp.zeros((1, 25), int), jnp.ones((1, 25), bool)).any()


def test_bfloat16_agrees_with_float32():
    config = tiny(width=64, feed_forward=128)
    model, args = config.build(rngs=nnx.Rngs(0)), inputs(config)
    narrow = precision.apply(model, Precision(compute="bfloat16"))
    np.testing.assert_allclose(model(*args), narrow(*args), atol=0.03)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_sharding_rule_matches_a_parameter_of_its_rank(name):
    config = CONFIGS[name]
    paths = parameter_paths(nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0))))
    for rule, spec in config.sharding:
        found = [shape for path, shape in paths.items() if re.search(rule, path)]
        assert found, rule
        assert all(len(spec) <= len(shape) for shape in found), rule


@pytest.mark.parametrize("name", CONFIGS)
def test_layers_count_from_the_input_to_the_head(name):
    config = CONFIGS[name]
    paths = parameter_paths(nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0))))
    layers = {path: config.layer_of(path) for path in paths}
    assert min(layers.values()) == 0 and max(layers.values()) == config.depth
    head = "head/kernel" if isinstance(config, transformer.Config) else f"layers/{config.depth}/kernel"
    assert layers[head] == config.depth
    if name == "bert":
        assert layers["encoder/layers/0/attention/query/kernel"] == 1
        assert layers["encoder/embedding_norm/scale"] == 0


@pytest.mark.parametrize(
    ("build", "where"),
    [
        (lambda: tiny(heads=3), "model.heads"),
        (lambda: tiny(heads=0), "model.heads"),
        (lambda: tiny(width=6, positions="rotary"), "model.heads"),
        (lambda: tiny(layers=-1), "model.layers"),
        (lambda: tiny(dropout=1.0), "model.dropout"),
        (lambda: tiny(attention_dropout=-0.1), "model.attention_dropout"),
        (lambda: tiny(norm="before"), "model.norm"),
        (lambda: tiny(epsilon=0.0), "model.epsilon"),
        (lambda: tiny(vocab_size=0).build(rngs=nnx.Rngs(0)), "model.vocab_size"),
        (lambda: dnn.Config(hidden=(4, 0)), "model.hidden"),
        (lambda: dnn.Config(inputs=-1), "model.inputs"),
        (lambda: dnn.Config(activation="tanh"), "model.activation"),
        (lambda: dnn.Config(dropout=2.0), "model.dropout"),
        (lambda: dnn.Config(inputs=4).build(rngs=nnx.Rngs(0)), "model.outputs"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(build, where):
    with pytest.raises(InputError, match=f"field {where}"):
        build()


def bert_weights(theirs: dict[str, np.ndarray], layers: int) -> dict[str, np.ndarray]:
    """Weights of transformers' BERT by our paths."""
    names = {"encoder/embedding_norm": "bert.embeddings.LayerNorm", "pooler": "bert.pooler.dense", "head": "classifier"}
    parts = {
        "attention/query": "attention.self.query",
        "attention/key": "attention.self.key",
        "attention/value": "attention.self.value",
        "attention/out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "mlp/up": "intermediate.dense",
        "mlp/down": "output.dense",
        "mlp_norm": "output.LayerNorm",
    }
    for i in range(layers):
        names |= {f"encoder/layers/{i}/{a}": f"bert.encoder.layer.{i}.{b}" for a, b in parts.items()}
    table = "bert.embeddings.{}_embeddings.weight"
    places = theirs[table.format("position")] + theirs[table.format("token_type")][0]
    weights = {"encoder/tokens/embedding": theirs[table.format("word")], "encoder/positions/embedding": places}
    for ours, name in names.items():
        weights[f"{ours}/bias"] = theirs[f"{name}.bias"]
        matrix = theirs[f"{name}.weight"]
        weights[f"{ours}/{'scale' if matrix.ndim == 1 else 'kernel'}"] = matrix.T
    return weights


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_post_norm_with_cls_is_bert():
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        num_labels=3,
        initializer_range=0.3,
    )
    bert = transformers.BertForSequenceClassification(sizes).eval()
    model = CONFIGS["bert"].build(rngs=nnx.Rngs(0))
    weights = bert_weights({name: value.numpy() for name, value in bert.state_dict().items()}, 2)
    for path, param in nnx.to_flat_state(nnx.state(model)):
        param[...] = jnp.asarray(weights.pop("/".join(map(str, path))))
    assert not weights
    tokens, mask = inputs(CONFIGS["bert"])
    with torch.no_grad():
        expected = bert(torch.tensor(np.array(tokens)), torch.tensor(np.array(mask))).logits.numpy()
    np.testing.assert_allclose(model(tokens, mask)[:3], expected[:3], atol=2e-5)


def test_scanned_and_recomputed_encoder_layers_change_no_number():
    model = tiny(layers=3).build(rngs=nnx.Rngs(0))
    _, state = nnx.split(model)
    arguments = inputs(CONFIGS["pre"])

    def value(state, fields):
        graph = nnx.split(nnx.eval_shape(lambda: tiny(layers=3, **fields).build(rngs=nnx.Rngs(0))))[0]
        return nnx.merge(graph, state)(*arguments).sum()

    expected, grads = jax.jit(jax.value_and_grad(lambda s: value(s, {})))(state)
    for fields in ({"remat": "full"}, {"scan_layers": True, "remat": "dots"}):
        found, others = jax.jit(jax.value_and_grad(lambda s, f=fields: value(s, f)))(state)
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-3), grads, others)
