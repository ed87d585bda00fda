"""Masked language modelling: passages, what is hidden, metrics, and what carries on in a classifier."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import suite
from suite.data.preprocessing.tokenizers import Published
from suite.data.sources.datasets import Table
from suite.data.sources.memory import Memory
from suite.data.sources.passages import Passages, passages
from suite.errors import InputError
from suite.parallel.layout import Layout, laid_out
from suite.tasks.text.pretraining import Perplexity, _hidden_words
from suite.training.assemble import assemble
from suite.training.initial_weights import initial_weights
from suite.training.preprocessors import prepare
from suite.tree import paths
from suite.weights import pretrained
from tests.parity import golden
from tests.untrained import untrained

WORDS = ("one", "two", "three", "four", "five", "six", "seventeen", "eighteen")


def test_passages_leave_nothing_out():
    text = "one two three four five six seven eight nine ten"
    cut = lambda text, length: [text[start:end] for start, end in passages(text, length)]
    assert cut(text, 12) == ["one two", "three four", "five six", "seven eight", "nine ten"]
    assert cut("ab", 5) == ["ab"] and cut("  ", 5) == [] and cut("a\nb " * 3, 3) == ["a\nb"] * 3
    rng = np.random.default_rng(0)
    for length in (1, 7, 20, 1000):
        made = " ".join("x" * size for size in rng.integers(1, 12, 60))
        parts = cut(made, length)
        assert "".join(parts).replace(" ", "") == made.replace(" ", "") and max(map(len, parts)) <= length
    source = Passages(Memory({"text": [text, "ab"]}), "text", 12)
    columns = source[np.arange(len(source))]
    assert columns["record"].tolist() == [0] * 5 + [1] and columns["text"][-1] == "ab" and source.texts == 2


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("texts") / "texts.csv"
    rows = [" ".join(rng.choice(WORDS, rng.integers(6, 14))) for _ in range(120)]
    path.write_text("text,label\n" + "\n".join(f"{row},{i % 2}" for i, row in enumerate(rows)) + "\n")
    return path


def experiment(path, **changes):
    small = {"train.steps": 2, "train.batch_size": 8, "task.max_length": 24, "pipeline.buckets": (24,)}
    fields = {"task.data.path": str(path), "task.tokenizer.vocab_size": 40, **small, **changes}
    return suite.replace(suite.load("text.pretrain", smoke=True), fields)


@pytest.fixture(scope="module")
def run(texts, tmp_path_factory):
    return untrained(experiment(texts), tmp_path_factory.mktemp("mlm") / "run")


def said_by(run, batch, seed=None):
    """What the task says of a batch, in training where there is a seed, as arrays of the host."""

    def said(weights, batch):
        rngs = None if seed is None else nnx.Rngs(dropout=seed)
        return run.experiment.task.said(nnx.merge(run._program.graph, *weights), batch, rngs)

    return {name: np.asarray(value) for name, value in jax.jit(said)(run._weights, batch).items()}


def batch_of(task, rows=6, length=24):
    columns = task.source("train")[np.arange(rows)]
    batch = {"mask": np.ones(rows, bool), "seed": np.arange(rows, dtype=np.uint32)}
    for name, value in task.encode(columns).items():
        batch[name], batch[f"{name}_mask"] = value.padded(length)
    return {name: jnp.asarray(value) for name, value in batch.items()}


def test_what_is_hidden_is_a_share_of_the_text_and_nothing_else(run):
    task, batch = run.experiment.task, batch_of(run.experiment.task)
    said = said_by(run, batch)
    batch = {name: np.asarray(value) for name, value in batch.items()}
    specials = set(task._special)
    for i in range(len(batch["mask"])):
        hidden = said["places"][i][said["counted"][i]]
        tokens = batch["tokens"][i]
        open_ = [place for place in range(batch["tokens_mask"][i].sum()) if tokens[place] not in specials]
        assert set(hidden) <= set(open_) and len(hidden) == max(round(0.15 * len(open_)), 1)
        np.testing.assert_array_equal(said["wanted"][i][said["counted"][i]], tokens[hidden])
    assert (said["nats"][~said["counted"]] == 0).all() and (said["nats"][said["counted"]] > 0).all()


def test_eight_of_ten_hidden_tokens_are_masked_one_random_and_one_kept(run):
    task = run.experiment.task
    batch = {name: jnp.concatenate([value] * 40) for name, value in batch_of(task).items()}
    batch["seed"] = jnp.arange(len(batch["mask"]), dtype=jnp.uint32)
    said = said_by(run, batch)
    given, wanted = (said[name][said["counted"]] for name in ("given", "wanted"))
    shares = np.array([(given == task.tokenizer.mask).mean(), (given == wanted).mean()])
    assert abs(shares[0] - 0.8) < 0.08 and 0.05 < shares[1] < 0.2 and len(given) > 300
    assert (
        said_by(run, batch, 0)["places"] != said_by(run, batch, 1)["places"]
    ).any()  # another selection at each step


def test_what_is_hidden_of_a_row_is_the_same_alone(run):
    batch = batch_of(run.experiment.task)
    whole, alone = said_by(run, batch), said_by(run, {name: value[2:3] for name, value in batch.items()})
    for name in ("places", "given"):
        np.testing.assert_array_equal(whole[name][2], alone[name][0])
    np.testing.assert_allclose(whole["nats"][2], alone["nats"][0], rtol=1e-5)


def test_what_training_hides_is_the_same_on_all_devices(run):
    """Under pmap a device sees its own rows."""
    task, batch = run.experiment.task, batch_of(run.experiment.task)
    whole = said_by(run, batch, 3)["places"]
    parts = {name: jnp.reshape(value, (2, 3, *value.shape[1:])) for name, value in batch.items()}

    def shared(batch):
        with laid_out(Layout(axis="devices")):
            return task.said(nnx.merge(run._program.graph, *run._weights), batch, nnx.Rngs(dropout=3))["places"]

    split = jax.jit(jax.vmap(shared, axis_name="devices"))
    np.testing.assert_array_equal(split(parts).reshape(whole.shape), whole)


def test_whole_words_are_hidden_together(texts, tmp_path):
    run = untrained(
        experiment(texts, **{"task.whole_words": True, "task.hidden_share": 0.3, "task.tokenizer.vocab_size": 26}),
        tmp_path / "run",
    )
    task = run.experiment.task
    batch = batch_of(task)
    said = said_by(run, batch)
    batch = {name: np.asarray(value) for name, value in batch.items()}
    together = 0
    for i in range(len(batch["mask"])):
        real, hidden = batch["tokens_mask"][i], set(said["places"][i][said["counted"][i]])
        text = task.tokenizer.decode([batch["tokens"][i][real]])[0]
        assert len(set(batch["words"][i][real][1:])) == len(text.split())
        for word in set(batch["words"][i][real][1:]):
            places = {place for place in np.flatnonzero(real) if batch["words"][i][place] == word} - {0}
            assert places <= hidden or not places & hidden
            together += len(places) > 1 and places <= hidden
    assert together  # some words of several pieces
    words, real = jnp.array([[4, 4, 2, 2, 2, 7]]), jnp.ones((1, 6), bool)
    assert _hidden_words(words, real, jnp.array([3])).tolist() == [[True] * 5 + [False]]


def test_metrics_and_report(run):
    metrics = run.evaluate("validation").metrics
    assert metrics["validation/pseudo_perplexity"] == pytest.approx(np.exp(metrics["validation/loss"]))
    assert (Perplexity(2.0, 1) + Perplexity(0.0, 1)).value() == pytest.approx(np.e)
    assert np.isnan(Perplexity(0.0, 0).value()) and Perplexity(1e6, 1).value() == np.inf
    _, artifacts = run.examine("validation")
    shown = artifacts["Hidden tokens"].examples[0]
    assert "[…]" in " ".join(example.given for example in artifacts["Hidden tokens"].examples) and shown.wanted
    task = run.experiment.task
    (line,) = task.remarks({"train": task.source("train")})[:1]
    assert "texts in" in line and "passages of at most 96 characters" in line
    vector = run.predict(["one two three"])[0]["vector"]
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_fields_are_checked(texts):
    for changes, said in (({"task.hidden_share": 0.0}, "hidden_share"), ({"task.max_length": 2}, "max_length")):
        with pytest.raises(InputError, match=said):
            experiment(texts, **changes)


def carried(recipe, run, folder, **changes):
    """(params, those of the run's part, fresh ones) of a classifier that starts from a run."""
    fields = {"checkpoint.init_from": str(run.folder), "defaults": None, **changes}
    experiment = pretrained.adopt(suite.replace(suite.load(recipe), fields))
    experiment = prepare(experiment, folder, experiment.task.source("train"))
    program = assemble(experiment, 1)
    state, abstract = program.init(), program.abstract
    weights = (abstract.params, abstract.model_state), (state.params, state.model_state)
    params, _ = initial_weights(experiment, *weights)
    return experiment, paths(params), paths(state.params)


def test_an_encoder_carries_on_in_a_classifier(texts, tmp_path):
    """Its tokenizer, sizes and parameters; the predictor stays behind and the head is new."""
    run = suite.train(experiment(texts), tmp_path / "run")
    assert np.isfinite(run.metrics["validation/loss"])
    theirs = paths(run._weights[0]["text"])
    made, found, fresh = carried("text.encoder", run, tmp_path / "new", **{"task.data": Table(path=str(texts))})
    assert made.model.width == 32 and made.model.dropout == 0.2
    assert made.task.tokenizer.sizes() == run.experiment.task.tokenizer.sizes()
    assert found.keys() == fresh.keys() == {*theirs, "head/kernel", "head/bias"}
    for name, leaf in found.items():
        np.testing.assert_array_equal(leaf, theirs.get(name, fresh[name]))


def test_published_weights_go_on_learning(texts, tmp_path):
    """The encoder is that of a published BERT, with its tokenizer and mask; what it has learnt carries on."""
    folder = golden.folder(golden.load("bert"), tmp_path / "bert")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *WORDS,
        *(f"[unused{i}]" for i in range(40 - 5 - len(WORDS))),
    ]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    changes = {
        "task.tokenizer": Published(part="text"),
        "checkpoint.init_from": {"text": str(folder)},
        "task.max_length": 10,
        "pipeline.buckets": (10,),
    }
    made = suite.replace(experiment(texts), changes)
    run = suite.train(made, tmp_path / "run")
    assert run.experiment.model.parts["text"].token_types == 2 and run.experiment.task.tokenizer.mask == 4
    batch = batch_of(run.experiment.task, length=10)
    said = said_by(run, batch)
    assert (said["wanted"][said["counted"]] >= 5).all() and (said["given"][said["counted"]] == 4).any()
    same = {"task.data": Table(path=str(texts)), "task.max_length": 10, "task.tokenizer": Published()}
    _, found, fresh = carried("text.finetune", run, tmp_path / "new", **same)
    theirs = paths(run._weights[0]["text"])
    assert fresh.keys() - theirs.keys() == {"head/kernel", "head/bias"}
    for name in theirs:
        np.testing.assert_array_equal(found[name], theirs[name])


def test_a_tokenizer_without_a_mask_is_refused(texts, tmp_path):
    folder = golden.folder(golden.load("bert"), tmp_path / "bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    tokenizer = Published(source=str(folder), part="text")
    file = tmp_path / "tokenizer.json"
    tokenizer.fit(Memory({"text": ["one"]}), "text", file)
    with pytest.raises(InputError, match="no token that stands for a hidden one"):
        _ = Published(file=str(file)).mask
