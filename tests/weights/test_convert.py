"""From published weights to a run, and back: init_from, convert, and what transformers makes of it."""

import json
import shutil
from fnmatch import fnmatch

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import suite
from suite.data.preprocessing.tokenizers import Published as PublishedTokenizer
from suite.errors import RunError
from suite.experiment.sections import replace
from suite.models import transformer
from suite.weights import pretrained, published
from tests.parity import golden
from tests.tiny_bert import CASE, folder, refusal, rewritten, variables

__all__ = ["folder"]


WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "was", "good", "bad", "fine", "dull")


def with_tokenizer(folder):
    (folder / "vocab.txt").write_text("\n".join([*WORDS, *(f"w{i}" for i in range(40 - len(WORDS)))]) + "\n")
    return folder


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """(run, source) of a fine-tuning of the tiny BERT on two classes; the source is gone afterwards."""
    home = tmp_path_factory.mktemp("tuned")
    source = with_tokenizer(golden.folder(CASE, home / "bert"))
    words = ("bad,no", "dull,no", "good,yes", "fine,yes")
    (home / "reviews.csv").write_text("text,label\n" + "\n".join(f"the film was {words[i % 4]}" for i in range(120)))
    experiment = replace(
        suite.load("text.encoder", smoke=True),
        {
            "task.data.path": str(home / "reviews.csv"),
            "task.tokenizer": PublishedTokenizer(),
            "task.max_length": 10,
            "task.token_dropout": 0.0,
            "model.pooling": "cls",
            "model.vocab_size": 0,
            "checkpoint.init_from": str(source),
        },
    )
    run = suite.train(experiment, home / "run")
    shutil.rmtree(source)
    return run


def test_a_run_takes_its_sizes_from_the_weights(tuned):
    model = suite.open(tuned.folder).experiment.model
    assert (model.width, model.layers, model.vocab_size, model.outputs) == (16, 2, 40, 2)
    assert (model.pooling, model.dropout, model.epsilon) == ("cls", 0.2, 1e-12)
    tokens = np.asarray(tuned.model.encoder.tokens.embedding[...])
    assert np.abs(tokens - golden.draw("bert.embeddings.word_embeddings.weight", (40, 16))).max() < 0.05


def test_a_run_outlives_the_weights_it_began_with(tuned):
    more = suite.resume(tuned.folder)
    assert more.folder == tuned.folder
    assert len(tuned.predict(["the film was good"])) == 1


def test_small_files_go_along(folder, tmp_path):
    """Marian's tokenizer is two files of SentencePiece."""
    for name in ("source.spm", "target.spm", "spiece.model", "vocab.json", "pytorch_model.bin"):
        (folder / name).write_text("{}")
    written = pretrained.rewrite(folder, tmp_path / "out")
    besides = {"source.spm", "target.spm", "spiece.model", "vocab.json"}
    assert set(written.files) == besides | {"config.json", "model.safetensors"}
    assert all(any(fnmatch(name, pattern) for pattern in published.WANTED) for name in besides)


class Stop(Exception):
    """Ends training from within, as a kill would."""


def test_a_run_that_was_stopped_goes_on_with_the_recipe_and_without_the_weights(tuned, tmp_path):
    """The recipe leaves the sizes to the weights; what has begun has them from its own folder."""
    source = with_tokenizer(golden.folder(CASE, tmp_path / "bert"))
    stored = suite.runs.verbs.stored(tuned.folder)
    experiment = replace(
        stored,
        {
            "checkpoint.init_from": str(source),
            "train.steps": 8,
            "train.eval_every": 4,
            "model.width": 64,
            "model.layers": 3,
            "model.vocab_size": 0,
            "pipeline.buckets": (10,),
        },
    )

    def stop(step, metrics):
        raise Stop

    with pytest.raises(Stop):
        suite.train(experiment, tmp_path / "run", on_evaluation=stop)
    shutil.rmtree(source)
    run = suite.train(experiment, tmp_path / "run", resume=True)
    assert run.metrics["train/steps"] == 8
    assert (run.experiment.model.width, run.experiment.model.layers) == (16, 2)


def test_a_run_becomes_a_published_folder(tuned, command, tmp_path):
    out = tmp_path / "out"
    printed = command("convert", tuned.folder, "--to", out)
    assert printed == (
        f"bert: 41 tensors, {sum(leaf.size for leaf in jax.tree.leaves(tuned._weights[0])):,} values\n"
        f"files: config.json, model.safetensors, tokenizer.json\n{out}\n"
    )
    about = json.loads((out / "config.json").read_text())
    assert about["architectures"] == ["BertForSequenceClassification"]
    assert about["id2label"] == {"0": "no", "1": "yes"}
    config, model = pretrained.load(out)
    assert config == tuned.experiment.model
    encoded = tuned.experiment.task.encode({"text": ["the film was good", "dull"]})["tokens"]
    tokens, mask = encoded.padded(8)
    made = tuned.model(jnp.asarray(tokens), jnp.asarray(mask))
    np.testing.assert_allclose(model(jnp.asarray(tokens), jnp.asarray(mask)), made, atol=2e-6)


def test_export_writes_the_same_folder(tuned, command, tmp_path):
    printed = command("export", tuned.folder, "--format", "huggingface", "--to", tmp_path / "out").splitlines()
    assert printed[0].startswith("bert: 41 tensors, ") and printed[1] == str(tmp_path / "out")
    command("convert", tuned.folder, "--to", tmp_path / "again")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert command("export", tuned.folder, "--to", "huggingface").splitlines()[1] == str(tuned.folder / "huggingface")


@pytest.mark.peers
def test_transformers_takes_a_converted_run(tuned, tmp_path):
    import torch
    import transformers

    suite.convert(tuned.folder, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    texts = ["the film was good", "dull"]
    with torch.no_grad():
        probabilities = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits.softmax(-1).numpy()
    for answer, row in zip(tuned.predict(texts), probabilities, strict=True):
        best = int(row.argmax())
        assert answer["label"] == model.config.id2label[best]
        assert abs(answer["probability"] - row[best]) < 1e-5


def test_a_model_that_no_library_has(folder, tmp_path):
    config = transformer.Config(vocab_size=9, outputs=2, layers=1, width=8, heads=2)
    said = refusal(pretrained.save, config, *variables(config), tmp_path / "out")
    assert said == (
        "model of suite.models.transformer: fits none of its published formats.\n"
        "  found: bert: the model has norm pre, not post, embedding_norm False, not True, pooling mean, not cls, "
        "token_types 0. roberta: the model has norm pre, not post, embedding_norm False, not True, pooling mean, "
        "not cls, token_types 0, position_offset 0. distilbert: the model has norm pre, not post, "
        "embedding_norm False, not True, pooler tanh, not relu, epsilon 1e-06, not 1e-12, pooling mean, not cls."
    )
    assert not (tmp_path / "out").exists()


def test_convert_rewrites_a_published_folder(folder, command, tmp_path):
    with_tokenizer(folder)
    rewritten(folder, lambda weights: {**weights, "bert.embeddings.position_ids": np.arange(12)})
    out = tmp_path / "out"
    printed = command("convert", folder, "--to", out)
    count = sum(int(np.prod(shape)) for shape in CASE.shapes.values())
    assert printed == (
        f"bert: {len(CASE.shapes)} tensors, {count:,} values\n"
        "files: config.json, model.safetensors, vocab.txt\n"
        f"left out: bert.embeddings.position_ids\n{out}\n"
    )
    written = load_file(out / "model.safetensors")
    assert written.keys() == CASE.shapes.keys()
    for name, value in golden.weights(CASE.shapes).items():
        np.testing.assert_array_equal(written[name], value)
    about = json.loads((out / "config.json").read_text())
    assert all(about[key] == value for key, value in CASE.config.items() if key != "dtype")


def test_convert_leaves_a_full_folder_alone(folder, refused, tmp_path):
    assert refused("convert", folder, "--to", folder) == (
        f'suite convert: --to "{folder}": is there and not empty.\n  try:   suite convert {folder} --to {folder}-2\n'
    )
    assert refused("convert", folder) == (
        f"suite convert: flag --to: is missing.\n  try:   suite convert {folder} --to published/mine\n"
    )


def test_convert_notices_a_tensor_that_changed(folder, tmp_path, monkeypatch):
    write = published.write

    def spoiled(target, config, arrays):
        write(target, config, lambda: ((name, value + (name == "classifier.bias")) for name, value in arrays()))

    monkeypatch.setattr(published, "write", spoiled)
    with pytest.raises(RunError, match=r"written tensors differ from those read: classifier\.bias"):
        pretrained.rewrite(folder, tmp_path / "out")
