"""Fine-tuning of part of a model: what is trained, what it costs, what can be folded, saved and put back."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import suite
from suite.cli.fields import apply_flags
from suite.errors import InputError
from suite.experiment.sections import Checkpoint, Finetune, Optim, replace
from suite.models import dnn, transformer
from suite.nn.lora import training
from suite.surgery.freezing import frozen_paths
from suite.surgery.lora import attach, base, fold, freeze, nest, read_delta, with_additions, write_delta
from suite.training.assemble import assemble
from suite.tree import paths
from suite.weights import pretrained
from tests import toy
from tests.parity import golden

ENCODER = transformer.Config(vocab_size=50, outputs=2, layers=2, width=16, heads=2, feed_forward=32, max_length=8)
TOKENS = jnp.arange(24).reshape(3, 8), jnp.ones((3, 8), bool)


def attached(finetune, config=ENCODER, scale=0.0):
    """(graph, params, rest) of the model with additions; what starts as zero is drawn, times ``scale``."""
    model = attach(config.build(rngs=nnx.Rngs(0)), finetune, nnx.Rngs(1))
    graph, params, model_state = nnx.split(model, nnx.Param, ...)
    flat, rng = paths(nnx.to_pure_dict(params)), np.random.default_rng(0)
    for name, leaf in flat.items():
        if "/addition/" in name and not np.any(leaf):
            flat[name] = jnp.asarray(scale * rng.normal(size=leaf.shape), jnp.float32)
    return graph, nest(flat), nnx.to_pure_dict(model_state)


def answer(graph, params, model_state, *inputs):
    return nnx.merge(graph, params, model_state)(*(inputs or TOKENS))


LORA = Finetune(kind="lora", rank=4, alpha=6.0)
ADAPTERS = Finetune(kind="adapters", rank=4)


@pytest.mark.parametrize("finetune", [LORA, ADAPTERS])
def test_additions_begin_as_nothing(finetune):
    plain = ENCODER.build(rngs=nnx.Rngs(0))(*TOKENS)
    np.testing.assert_array_equal(answer(*attached(finetune)), plain)
    assert np.abs(answer(*attached(finetune, scale=1.0)) - plain).max() > 1e-2


def test_lora_is_its_formula():
    config = dnn.Config(inputs=5, hidden=(7,), outputs=3)
    graph, params, model_state = attached(replaced(LORA, targets=("layers/0",), trained=()), config, scale=1.0)
    flat = {name: np.asarray(leaf) for name, leaf in paths(params).items()}
    (layer,) = [name.removesuffix("/addition/a") for name in flat if name.endswith("/addition/a")]
    x = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
    a, b = flat[f"{layer}/addition/a"], flat[f"{layer}/addition/b"]
    assert a.shape == (5, 4) and b.shape == (4, 7)
    hidden = x @ flat[f"{layer}/kernel"] + flat[f"{layer}/bias"] + 6.0 / 4 * x @ a @ b
    (head,) = [name.removesuffix("/kernel") for name in flat if name.endswith("/kernel") and layer not in name]
    expected = np.maximum(hidden, 0) @ flat[f"{head}/kernel"] + flat[f"{head}/bias"]
    np.testing.assert_allclose(answer(graph, params, model_state, jnp.asarray(x)), expected, atol=1e-5)


def replaced(finetune, **changes):
    return replace(finetune, changes)


def test_folded_low_rank_products_answer_the_same():
    wide = replaced(LORA, targets=("encoder",))
    graph, params, model_state = attached(wide, scale=0.3)
    folded = fold(params, wide)
    plain = nnx.split(ENCODER.build(rngs=nnx.Rngs(5)), nnx.Param, ...)[0]
    assert paths(folded).keys() == paths(base(params)).keys()
    np.testing.assert_allclose(answer(plain, folded, {}), answer(graph, params, model_state), atol=1e-5)
    assert np.abs(answer(plain, base(params), {}) - answer(graph, params, model_state)).max() > 1e-2


def test_layers_that_are_stacked_get_stacked_additions():
    @nnx.vmap(in_axes=0, out_axes=0)
    def build(key):
        return suite.nn.linear.Linear(3, 4, rngs=nnx.Rngs(key))

    class Stack(nnx.Module):
        def __init__(self):
            self.layers = build(jax.random.split(jax.random.key(0), 5))

    model = attach(Stack(), replaced(LORA, targets=("layers",)), nnx.Rngs(0))
    assert model.layers.addition.a.shape == (5, 3, 4) and model.layers.addition.b.shape == (5, 4, 4)
    finetune = replaced(LORA, targets=("layers",))
    folded = fold(nnx.to_pure_dict(nnx.state(model, nnx.Param)), finetune)
    assert folded["layers"]["kernel"].shape == (5, 3, 4)


# What is trained, and what the rest costs


@pytest.mark.parametrize(
    ("finetune", "expected"),
    [
        (LORA, r"addition|^head"),
        (ADAPTERS, r"addition|^head"),
        (Finetune(kind="head"), r"^head"),
        (Finetune(kind="head", trained=("^head", "norm")), r"^head|norm"),
        (Finetune(kind="lora", trained=()), r"addition"),
    ],
)
def test_everything_else_is_frozen(finetune, expected):
    params = attached(finetune)[1]
    optim = freeze(Optim(), finetune, params)
    trained = paths(params).keys() - frozen_paths(optim, params)
    assert trained == {name for name in paths(params) if re.search(expected, name)}
    assert freeze(Optim(), Finetune(), params) == Optim()


def test_what_is_frozen_by_name_stays_so_but_for_additions():
    params = attached(LORA)[1]
    optim = freeze(Optim(frozen=("layers/0", "bias$")), LORA, params)
    trained = paths(params).keys() - frozen_paths(optim, params)
    assert trained == {name for name in paths(params) if "addition" in name or name == "head/kernel"}


def program(finetune, **changes):
    """A step of the encoder on rows of 8 tokens, compiled."""
    from suite.data.preprocessing.text import SentencePiece
    from suite.data.sources.datasets import SyntheticSentiment
    from suite.tasks.text.classification import TextClassification

    task = TextClassification(data=SyntheticSentiment(), tokenizer=SentencePiece())
    model = transformer.Config(vocab_size=500, outputs=2, layers=1, width=64, heads=2, feed_forward=256, max_length=16)
    made = suite.experiment.sections.Experiment(name="x", task=task, model=model, finetune=finetune)
    made = assemble(replace(made, {"train.batch_size": 32, **changes}), 10)
    batch = {
        "tokens": ((1, 32, 16), jnp.int32),
        "tokens_mask": ((1, 32, 16), bool),
        "label": ((1, 32), jnp.int32),
        "mask": ((1, 32), bool),
    }
    shapes = {name: jax.ShapeDtypeStruct(*each) for name, each in batch.items()}
    return made, made.step.lower(made.abstract, shapes).compile()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_frozen_parameters_cost_no_gradient(accumulate):
    full, head, lora = (
        program(Finetune(kind=kind), **{"gradient.accumulate": accumulate}) for kind in ("full", "head", "lora")
    )
    flops = [compiled.cost_analysis()["flops"] for _, compiled in (full, head, lora)]
    assert flops[1] < 0.45 * flops[0]  # the forward pass is a third
    assert flops[2] < 0.85 * flops[0]  # two thirds, and the additions
    if accumulate > 1:  # no sums of gradients of what is frozen
        assert head[1].memory_analysis().temp_size_in_bytes < 0.6 * full[1].memory_analysis().temp_size_in_bytes
    states = [sum(leaf.size for leaf in jax.tree.leaves(made.abstract.opt)) for made, _ in (full, head)]
    assert states[1] < 0.01 * states[0]


def test_dropout_of_additions_acts_in_training_only():
    graph, params, model_state = attached(replaced(LORA, dropout=0.5), scale=1.0)
    plain = answer(*attached(LORA, scale=1.0))
    np.testing.assert_array_equal(answer(graph, params, model_state), plain)
    with training(jax.random.key(0)):
        first, again = answer(graph, params, model_state), answer(graph, params, model_state)
    with training(jax.random.key(1)):
        other = answer(graph, params, model_state)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - plain).max() > 1e-3 and np.abs(first - other).max() > 1e-3


# Runs


def tuned(**changes):
    return replace(
        toy.experiment(),
        {
            "finetune": Finetune(kind="lora", rank=2, targets=("hidden",), dropout=0.1),
            "train.steps": 20,
            "train.eval_every": 20,
            **changes,
        },
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of the whole model, and one that tunes it by another optimiser and without a moving average."""
    folder = tmp_path_factory.mktemp("adaptation")
    first = suite.train(toy.experiment(steps=30), folder / "first")
    changes = {"checkpoint.init_from": str(first.folder), "optim.name": "sgd", "train.ema": 0.0}
    return first, suite.train(tuned(**changes), folder / "second")


def test_a_run_tunes_another_ones_model(runs):
    first, second = (paths(run._weights[0]) for run in runs)
    np.testing.assert_array_equal(first["hidden/kernel"], second["hidden/kernel"])
    assert np.any(second["hidden/addition/b"]) and np.any(first["head/kernel"] != second["head/kernel"])


def test_moving_averages_of_frozen_parameters_stand_still(runs, tmp_path):
    run = suite.train(tuned(**{"checkpoint.init_from": str(runs[0].folder), "train.ema": 0.5}), tmp_path / "run")
    first, averaged = (paths(made._weights[0]) for made in (runs[0], run))
    np.testing.assert_array_equal(first["hidden/kernel"], averaged["hidden/kernel"])
    assert np.any(averaged["hidden/addition/b"])


def test_a_delta_goes_back_onto_its_base(runs, tmp_path):
    first, second = runs
    params, model_state = second._weights
    experiment = second.experiment
    parts = experiment.finetune, experiment.optim
    write_delta(params, model_state, *parts, experiment.checkpoint, tmp_path / "delta")
    about = json.loads((tmp_path / "delta" / "delta.json").read_text())
    assert about["base"] == str(first.folder) and about["kind"] == "lora"
    assert (tmp_path / "delta" / "delta.safetensors").stat().st_size < 2000
    fresh = with_additions(first._weights[0], jax.tree.map(jnp.zeros_like, params))
    made, _ = read_delta(fresh, model_state, experiment.finetune, tmp_path / "delta")
    for name, leaf in paths(params).items():
        np.testing.assert_array_equal(paths(made)[name], leaf, err_msg=name)
    again = tuned(
        **{
            "checkpoint.init_from": str(first.folder),
            "finetune.delta": str(tmp_path / "delta"),
            "optim.learning_rate": 0.0,
        }
    )
    run = suite.train(again, tmp_path / "again")
    for name, leaf in paths(params).items():
        np.testing.assert_array_equal(paths(run._weights[0])[name], leaf, err_msg=name)


def test_the_command_line_has_a_short_form():
    for arguments in (["--finetune", "lora"], ["--finetune=lora"], ["--finetune.kind", "lora"]):
        made = apply_flags(toy.experiment(), [*arguments, "--finetune.rank", "3"], "suite train x")
        assert made.finetune == Finetune(kind="lora", rank=3)


VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "was", "good", "bad", "not", "very", "."]


def test_own_texts_from_a_published_folder(command, tmp_path):
    """The verbs of a person with weights and texts of their own: train, predict, convert, convert --delta."""
    weights, data, folder = tmp_path / "bert", tmp_path / "my.csv", tmp_path / "run"
    golden.folder(golden.load("bert"), weights)
    (weights / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    words = [f"the film {'very ' * (i % 3)}{('bad', 'good')[i % 2]} .,{('no', 'yes')[i % 2]}" for i in range(200)]
    data.write_text("\n".join(["text,label", *words]) + "\n")
    command(
        "train",
        "text.finetune",
        "--data",
        data,
        "--checkpoint.init_from",
        weights,
        "--model.pooling",
        "cls",
        "--finetune",
        "lora",
        "--finetune.targets",
        "encoder",
        "--task.max_length",
        "12",
        "--train.steps",
        "60",
        "--train.eval_every",
        "60",
        "--optim.learning_rate",
        "1e-2",
        "--precision.compute",
        "float32",
        "--pipeline.buckets",
        "12",
        "--run-dir",
        folder,
    )
    run = suite.open(folder)
    assert run.metrics["validation/accuracy"] > 0.9
    published = paths(nnx.to_pure_dict(nnx.state(pretrained.load(weights)[1], nnx.Param)))
    tuned = paths(run._weights[0])
    for name in published.keys() - {"pooler/kernel", "pooler/bias"}:
        np.testing.assert_array_equal(tuned[name], published[name], err_msg=name)
    texts = ["the film good .", "the film very bad ."]
    assert [answer["label"] for answer in run.predict(texts)] == ["yes", "no"]

    command("convert", folder, "--to", tmp_path / "delta", "--delta")
    assert {path.name for path in (tmp_path / "delta").iterdir()} == {"delta.json", "delta.safetensors"}
    printed = command("convert", folder, "--to", tmp_path / "merged")
    assert "model.safetensors" in printed and (tmp_path / "merged" / "tokenizer.json").is_file()
    model = pretrained.load(tmp_path / "merged")[1]
    rows = run.experiment.task.encode({"text": texts})["tokens"].padded(12)
    np.testing.assert_allclose(model(*rows), run.model(*rows), atol=1e-5)


# Refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, "field finetune.rank: must be at least 1.\n  found: 0\n  try:   --finetune.rank 8"),
        ({"alpha": 0.0}, "field finetune.alpha: must be above 0.\n  found: 0.0"),
        ({"dropout": 1.0}, "field finetune.dropout: must be at least 0 and below 1.\n  found: 1.0"),
        (
            {"targets": ("quary$",)},
            'field finetune.targets: "quary$" matches no linear layer.\n'
            "  found: encoder/layers/0/attention/key, encoder/layers/0/attention/out, "
            "encoder/layers/0/attention/query, "
            "encoder/layers/0/attention/value, encoder/layers/0/mlp/down, encoder/layers/0/mlp/up, "
            "encoder/layers/1/attention/key, encoder/layers/1/attention/out and 5 more\n"
            "  try:   --finetune.targets query",
        ),
        ({"targets": ("(",)}, "field finetune.targets: not a regular expression: "),
    ],
)
def test_refused_additions(change, message):
    with pytest.raises(InputError) as error:
        attached(replaced(LORA, **change))
    assert str(error.value).startswith(message)


def test_refused_parts():
    params = attached(Finetune())[1]
    with pytest.raises(InputError, match=r'^field finetune.trained: "\^haed" matches no parameter') as error:
        freeze(Optim(), Finetune(kind="head", trained=("^haed",)), params)
    assert error.value.fix == "--finetune.trained head"
    with pytest.raises(InputError, match=r"^field finetune.trained: names nothing"):
        freeze(Optim(), Finetune(kind="head", trained=()), params)
    with pytest.raises(InputError, match=r"^field finetune.kind: adapters are not linear"):
        fold(attached(ADAPTERS)[1], ADAPTERS)


def test_refused_deltas(runs, tmp_path):
    params, model_state = runs[1]._weights
    finetune, optim = runs[1].experiment.finetune, runs[1].experiment.optim
    with pytest.raises(InputError, match=r'^field finetune.delta: ".*none" is not what suite convert --delta writes'):
        read_delta(params, model_state, finetune, tmp_path / "none")
    folder = tmp_path / "delta"
    write_delta(params, model_state, finetune, optim, Checkpoint(), folder)
    with pytest.raises(InputError, match=r"^field finetune.rank: is 3, but the delta was trained with 2"):
        read_delta(params, model_state, replaced(finetune, rank=3), folder)
    other = base(params)
    with pytest.raises(InputError, match=r"hidden/addition/a does not fit the model"):
        read_delta(other, model_state, finetune, folder)
    whole = (folder / "delta.safetensors").read_bytes()
    (folder / "delta.safetensors").write_bytes(whole[:-10])
    with pytest.raises(InputError, match="is damaged: "):
        read_delta(params, model_state, finetune, folder)


def test_a_delta_is_refused_on_another_base(runs, tmp_path, caplog):
    """By the tensors that it left alone, so that a folder that was moved is the same base; the head is its own."""
    params, model_state = runs[1]._weights
    finetune, optim = runs[1].experiment.finetune, runs[1].experiment.optim
    folder = tmp_path / "delta"
    write_delta(params, model_state, finetune, optim, Checkpoint(init_from="old place/A"), folder)
    flat = paths(params)
    frozen = json.loads((folder / "delta.json").read_text())["base_tensors"]
    assert frozen and not [name for name in frozen if "/addition/" in name or name.startswith("head")]
    read_delta(params, model_state, finetune, folder, "moved/A")
    own = {name: leaf + 1 for name, leaf in flat.items() if name not in frozen}
    read_delta(nest({**flat, **own}), model_state, finetune, folder, "moved/A")
    other = min(frozen)
    with pytest.raises(InputError) as error:
        read_delta(nest({**flat, other: flat[other] + 1e-3}), model_state, finetune, folder, "B")
    assert str(error.value) == (
        f'field finetune.delta: "{folder}" was trained on "old place/A", and means nothing on "B": '
        f"its tensors are others.\n  found: 1 of {len(frozen)} differ: {other}\n"
        "  try:   --checkpoint.init_from 'old place/A'"
    )
    about = json.loads((folder / "delta.json").read_text())
    del about["base_tensors"]
    (folder / "delta.json").write_text(json.dumps(about))
    caplog.clear()
    read_delta(nest({**flat, other: flat[other] + 1e-3}), model_state, finetune, folder, "B")
    assert "before deltas held fingerprints of their base (old place/A): not checked against B" in caplog.text


def test_a_delta_without_a_base_is_refused(runs, tmp_path):
    with pytest.raises(InputError, match=r"^field finetune\.delta: needs the weights that it was trained on"):
        suite.train(tuned(**{"finetune.delta": str(tmp_path)}), tmp_path / "run")


def test_weights_that_are_not_there(tmp_path):
    missing = replace(toy.experiment(steps=2), {"checkpoint.init_from": str(tmp_path / "nowhere")})
    with pytest.raises(InputError, match="nowhere"):
        suite.train(missing, tmp_path / "run")
    assert not (tmp_path / "run").exists()
