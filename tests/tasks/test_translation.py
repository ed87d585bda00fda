"""The translation task: rows, the loss by hand, BLEU of the whole set, requests, published tokenizers, bad input."""

import json
import shlex
import sys
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu
import sentencepiece
from flax import nnx

import suite
from suite.contracts import metric
from suite.contracts.data import Data, Source
from suite.data.pipeline.padding import pad
from suite.data.preprocessing.text import SentencePiece
from suite.data.preprocessing.tokenizers import Published
from suite.data.sources.datasets import Table
from suite.data.sources.memory import Memory
from suite.decoding.generation import Decoding
from suite.distribution import install
from suite.errors import InputError
from suite.evaluation.metrics import translation
from suite.experiment import recipes
from suite.models import seq2seq
from suite.tasks.text.translation import Translation
from suite.training.preprocessors import prepare
from tests import pages

NUMBERS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf", "six": "sechs"}


@dataclass(frozen=True, kw_only=True)
class Counting(Data):
    """Numbers in English and in German, two to six a sentence: a word stands for a word."""

    examples: int = 600

    def open(self, split: str) -> Source:
        rng = np.random.default_rng(("train", "validation", "test").index(split))
        chosen = [rng.choice(list(NUMBERS), rng.integers(2, 7)) for _ in range(self.examples)]
        columns = {
            "source": [" ".join(words) for words in chosen],
            "target": [" ".join(NUMBERS[word] for word in words) for words in chosen],
        }
        return Memory(columns, {"source": "text", "target": "text"})


MODEL = seq2seq.Config(layers=1, width=32, heads=2, feed_forward=64, dropout=0.0)


def recipe(**fields):
    """The recipe for own pairs, on numbers."""
    tokenizer = SentencePiece(vocab_size=40, kind="word", lowercase=False)
    task = Translation(
        data=Counting(), tokenizer=tokenizer, max_length=10, decoding=Decoding(tokens=10, beams=2), **fields
    )
    return replace(recipes.load("text.translate", smoke=True), task=task, model=MODEL)


@pytest.fixture(scope="module")
def bound(tmp_path_factory):
    made = recipe()
    return prepare(made, tmp_path_factory.mktemp("run"), made.task.source("train"))


def whole(task, columns, length=10, real=None):
    encoded = task.encode(columns)
    return pad(encoded, np.ones(len(columns["source"]), bool) if real is None else np.array(real), length)


def predicted(task, model, batch):
    function = task.evaluate if "target" in batch else task.predict
    return jax.device_get(jax.jit(lambda batch: function(model, batch))(batch))


def test_the_tokenizer_is_learnt_from_both_columns(bound):
    tokenizer = bound.task.tokenizer
    assert bound.model.vocab_size == 4 + 2 * len(NUMBERS)
    for text in ("one six", "eins sechs fünf"):
        row = tokenizer.targets([text], 10).values
        assert tokenizer.decode([row]) == [text] and 1 not in row.tolist()


def test_a_target_ends_and_a_source_begins(bound):
    encoded = bound.task.encode({"source": ["one two", "six"], "target": ["eins zwei", "sechs"]})
    source, target = encoded["source"], encoded["target"]
    assert source.lengths.tolist() == target.lengths.tolist() == [3, 2]
    assert source.values[[0, 3]].tolist() == [2, 2] and target.values[[2, 4]].tolist() == [3, 3]
    assert not source.to and not target.to  # both decide the bucket
    assert bytes(encoded["reference"].values[:9]).decode() == "eins zwei"


def test_a_target_that_is_cut_has_no_end(bound):
    long = " ".join(["eins"] * 30)
    row = bound.task.encode({"source": [long], "target": [long]})["target"]
    assert row.lengths.tolist() == [10] and len(set(row.values.tolist())) == 1


def test_training_carries_no_reference(bound):
    columns = {"source": ["one"], "target": ["eins"]}
    assert "reference" not in bound.task.encode(columns, np.random.default_rng(0))
    assert set(bound.task.encode({"source": ["one"]})) == {"source"}


class Told:
    """Gives each token but the right one the same logit, the right one ``more``."""

    start = 2

    def __init__(self, target, more, size):
        self.target, self.more, self.size = target, more, size

    def shifted(self, target):
        return jnp.concatenate([jnp.full_like(target[:, :1], self.start), target[:, :-1]], 1)

    def __call__(self, source, mask, given, rngs=None):
        assert (np.asarray(given)[:, 0] == self.start).all()
        return self.more * jax.nn.one_hot(self.target, self.size)


def test_the_loss_is_that_of_a_hand_computation(bound):
    """Five tokens, the end among them, each of probability e / (e + 15); padding and the padded row count nowhere."""
    columns = {"source": ["one two", "six"], "target": ["eins zwei", "sechs"]}
    batch = whole(bound.task, columns, real=[True, True, False])
    size, more = bound.model.vocab_size, 1.0
    model = Told(batch["target"], more, size)
    normaliser = np.log(np.exp(more) + size - 1)
    loss, tallies = bound.task.loss(model, batch, None)
    assert size == 16 and float(tallies["loss"].count) == 5 and float(tallies["accuracy"].total) == 5
    np.testing.assert_allclose(loss, normaliser - 0.9 * more - 0.1 * more / size, rtol=1e-6)
    np.testing.assert_allclose(
        replace(bound.task, label_smoothing=0.0).loss(model, batch, None)[0], normaliser - more, rtol=1e-6
    )


def test_padding_changes_no_loss_and_its_gradient_is_finite(bound):
    columns = {"source": ["one two", "six"], "target": ["eins zwei", "sechs"]}
    graph, params = nnx.split(bound.model.build(rngs=nnx.Rngs(0)))
    loss = jax.jit(lambda p, batch: bound.task.loss(nnx.merge(graph, p), batch, None)[0])
    short, long = whole(bound.task, columns, 3), whole(bound.task, columns, 8, [True, True, False])
    np.testing.assert_allclose(loss(params, short), loss(params, long), rtol=2e-6)
    made = jax.jit(jax.grad(loss))(params, long)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(made))


def test_numbers_are_translated(tmp_path):
    """A few hundred steps, then requests: a bare list of strings, one alone, and the whole test split."""
    experiment = suite.replace(
        recipe(),
        {
            "optim.learning_rate": 5e-3,
            "optim.warmup_steps": 20,
            "train.steps": 240,
            "train.eval_every": 120,
            "train.ema": 0.9,
            "train.batch_size": 64,
            "train.eval_batch_size": 64,
            "pipeline.buckets": (8,),
            "precision.compute": "float32",
        },
    )
    run = suite.train(experiment, tmp_path / "run")
    found = run.evaluate("test").metrics
    assert found["test/bleu"] > 90 and found["test/chrf"] > 90 and found["test/accuracy"] > 0.95
    assert run.predict(["one two three"]) == [{"translation": "eins zwei drei"}]
    several = ["six five", "four four one two", "", "three two one six"]
    assert [answer["translation"] for answer in run.predict(several)][:2] == ["sechs fünf", "vier vier eins zwei"]
    assert run.predict({"source": several[:2]}) == run.predict(several)[:2]
    again = suite.open(run.folder, (Counting.__module__.split(".")[0],))
    assert again.evaluate("test", batch_size=7).metrics["test/bleu"] == found["test/bleu"]


SENTENCES = (
    "Ein Hund läuft über den Rasen .",
    "Zwei Männer stehen am Fenster , und essen .",
    "Ein Kind",
    "",
    "Ein kleiner Junge spielt im Sand .",
    "Eine Frau liest .",
    "Zwei Hunde spielen im Schnee .",
)
REFERENCES = (
    "Ein Hund rennt über den Rasen .",
    "Zwei Männer stehen an einem Fenster und essen .",
    "Ein Kind schläft",
    "Niemand ist da .",
    "Ein Junge spielt im Sand .",
    "Eine Frau liest .",
    "Hunde im Schnee .",
)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_bleu_and_chrf_are_those_of_the_whole_set(size):
    sums: dict[str, Any] = {}
    for i in range(0, 7, size):
        sums = metric.add(sums, translation.translation_scores(SENTENCES[i : i + size], REFERENCES[i : i + size]))
    sums = metric.add(sums, translation.translation_scores([], []))
    assert sums["bleu"].value() == sacrebleu.corpus_bleu(SENTENCES, [REFERENCES], force=True).score
    assert sums["chrf"].value() == sacrebleu.corpus_chrf(SENTENCES, [REFERENCES]).score
    assert 10 < sums["bleu"].value() < 90 and sums["bleu"].count == 7


def test_no_sentence_has_no_score():
    assert np.isnan(translation.translation_scores([], [])["bleu"].value())


def test_references_are_what_was_written(bound):
    """What the tokenizer cannot spell, and would fold, still counts as it was written; the masked row does not."""
    columns = {"source": ["one", "two"], "target": ["Ein ½ „Zitat“ über 漢字 .", "zwei"]}
    batch = whole(bound.task, columns, real=[True, True, False])
    outputs = predicted(bound.task, bound.model.build(rngs=nnx.Rngs(0)), batch)
    made = bound.task.score(outputs, batch)
    answers = [
        answer["translation"] for answer in bound.task.codec.decode({"translation": outputs["translation"][:2]}, {})
    ]
    assert made["chrf"].value() == sacrebleu.corpus_chrf(answers, [columns["target"]]).score
    assert made["bleu"].count == 2 and made["loss"].count == batch["target_mask"].sum()


def test_rows_that_fill_up_a_batch_change_no_translation(bound):
    model = bound.model.build(rngs=nnx.Rngs(0))
    columns = {"source": ["one two three", "six"]}
    alone, filled = whole(bound.task, columns, 8), whole(bound.task, columns, 8, [True, True, False, False])
    made = [predicted(bound.task, model, batch)["translation"] for batch in (alone, filled)]
    np.testing.assert_array_equal(made[0], made[1][:2])
    np.testing.assert_array_equal(made[1][2:], made[1][[0, 0]])


def test_greedy_and_drawn_translations(bound):
    model, batch = bound.model.build(rngs=nnx.Rngs(0)), whole(bound.task, {"source": ["one two", "six"]}, 8)
    for decoding in (Decoding(tokens=6), Decoding(tokens=6, temperature=1.0, top_k=3)):
        task = replace(bound.task, decoding=decoding)
        made = predicted(task, model, batch)["translation"]
        assert made.shape == (2, 6) and (made != model.start).all()
        np.testing.assert_array_equal(made, predicted(task, model, batch)["translation"])


@pytest.fixture(scope="module")
def marian(tmp_path_factory):
    """Two SentencePiece models with one table of ids, as Marian is published."""
    folder = tmp_path_factory.mktemp("marian")
    known = {"</s>": 0, "<unk>": 1}
    for side, words in (("source", NUMBERS), ("target", NUMBERS.values())):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(words),
            model_prefix=str(folder / side),
            vocab_size=40,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{side}.model"))
        for i in range(3, pieces.get_piece_size()):
            known.setdefault(pieces.id_to_piece(i), len(known))
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
    (folder / "vocab.json").write_text(json.dumps({**known, "<pad>": len(known)}))
    (folder / "config.json").write_text('{"model_type": "marian"}')
    return folder


def test_published_tokenizers_of_two_languages(marian, tmp_path):
    made = recipe()
    task = replace(
        made.task,
        tokenizer=Published(source=str(marian)),
        target_tokenizer=Published(source=str(marian), side="target"),
    )
    made = prepare(replace(made, task=task), tmp_path, task.source("train"))
    size = len(json.loads((marian / "vocab.json").read_text()))
    task, config = made.task, replace(made.model, start=size - 1)
    assert config.vocab_size == size
    encoded = task.encode({"source": ["three four"], "target": ["drei vier"]})
    assert encoded["source"].values[-1] == encoded["target"].values[-1] == 0 == task.target_tokenizer.end
    assert task.codec.decode({"translation": np.append(encoded["target"].values, 0)[None]}, {}) == [
        {"translation": "drei vier"}
    ]
    batch = pad(encoded, np.ones(1, bool), 32)
    assert config.start not in predicted(task, config.build(rngs=nnx.Rngs(0)), batch)["translation"]


def refusal(function, *args):
    with pytest.raises(InputError) as error:
        function(*args)
    return str(error.value)


def test_a_tokenizer_without_an_end_is_refused(marian, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes((marian / "source.spm").read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    tokenizer = Published(source=str(tmp_path))
    tokenizer.fit(Memory({"a": []}), "a", tmp_path / "kept.json")
    assert refusal(lambda: replace(tokenizer, file=str(tmp_path / "kept.json")).end) == (
        "field task.tokenizer: its rows end with no token of their own, so that a decoder would never be done.\n"
        f"  found: {tmp_path}\n"
        "  try:   the tokenizer of an encoder-decoder, such as T5's or Marian's"
    )


@pytest.mark.parametrize("fields", [{"max_length": 1}, {"label_smoothing": 1.0}])
def test_what_cannot_be_is_refused(fields):
    assert f"field task.{next(iter(fields))}" in refusal(lambda: Translation(data=Counting(), **fields))


def table(tmp_path, lines):
    (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Translation(data=Table(path=str(tmp_path / "pairs.tsv"), validation=0.0, test=0.0))


def test_pairs_with_an_empty_side_are_dropped_and_counted(tmp_path):
    task = table(tmp_path, ["source\ttarget", "a dog\tein Hund", " \tnichts", "nothing\t", "\t", "a cat\teine Katze"])
    source = task.source("train")
    assert len(source) == 2 and source.dropped == {"empty source": 2, "empty target": 1}
    assert source[np.arange(2)]["target"] == ["ein Hund", "eine Katze"]


def test_no_pair_is_left(tmp_path):
    assert refusal(table(tmp_path, ["source\ttarget", " \tnichts", "nothing\t "]).source, "train") == (
        "column source and target: no record has both texts.\n"
        "  found: 1 left out, empty source: record 1; 1 left out, empty target: record 2\n"
        "  try:   check the data, or name another column"
    )


def test_a_column_that_is_missing(tmp_path, refused):
    table(tmp_path, ["english\tgerman", *(f"dog {i}\tHund {i}" for i in range(50))])
    arguments = ("train", "text.translate", "--data", tmp_path / "pairs.tsv", "--run-dir", tmp_path / "run")
    assert refused(*arguments) == (
        'suite train: field task.source_text: column "source" is not in pairs.tsv.\n'
        "  found: english, german\n"
        f"  try:   {shlex.join(map(str, ['suite', *arguments]))} --task.source_text english\n"
    )
    assert 'field task.target_text: column "germn" is not in pairs.tsv.\n' in refused(
        *arguments, "--task.source_text", "english", "--task.target_text", "germn"
    )


def test_own_pairs_from_the_command_line(command, tmp_path):
    """A folder of two files a split is trained on; a table is answered."""
    pairs = Counting(examples=200).open("train")[np.arange(200)]
    both = list(zip(pairs["source"], pairs["target"], strict=True))
    (tmp_path / "pairs.tsv").write_text("source\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in both))
    lines = tmp_path / "lines"
    lines.mkdir()
    for name, part in (("train", both[:150]), ("test", both[150:])):
        (lines / f"{name}.de").write_text("\n".join(b for _, b in part))
        (lines / f"{name}.en").write_text("\n".join(a for a, _ in part))
    folder = tmp_path / "run"
    command(
        "train",
        "text.translate",
        "--data",
        lines,
        "--task.data.source",
        "en",
        "--task.data.target",
        "de",
        "--run-dir",
        folder,
        "--smoke",
        "--task.tokenizer.vocab_size",
        60,
        "--pipeline.buckets",
        32,
        "--train.steps",
        4,
        "--train.eval_every",
        4,
    )
    assert np.isfinite(suite.evaluate(folder, "test", batch_size=64).metrics["test/bleu"])
    answers = [json.loads(line) for line in command("predict", folder, "--input", tmp_path / "pairs.tsv").splitlines()]
    assert len(answers) == 200 and answers[0].keys() == {"input", "translation"}
    assert answers[0]["input"] == pairs["source"][0]
    page = pages.read(suite.report(folder, "test"))
    assert "BLEU on test is" in page.words and "Translations of the lowest chrF" in page.titles
    assert page.table("test, 50 records").column("value").keys() == {"BLEU", "chrF", "loss", "accuracy"}
    spread = next(table for table in page.tables if table.rows[0][1:3] == ["records", "mean"])
    assert spread.column("records") == {"translations": "50"}
    assert any(text in page.words for text in lines.joinpath("test.en").read_text().splitlines())


def test_without_sacrebleu_training_does_not_begin(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    translation.sacrebleu_metrics.cache_clear()
    assert refusal(Translation(data=Counting()).source, "train") == (
        f"package sacrebleu: is needed for BLEU and chrF, and not installed.\n  try:   {install('text')}"
    )
