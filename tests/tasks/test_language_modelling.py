"""The language modelling task: what is said of which token, requests, and own text from the command line."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import suite
from suite.data.pipeline.padding import pad
from suite.data.preprocessing.characters import Characters
from suite.data.preprocessing.text import SentencePiece
from suite.data.sources.datasets import Lines
from suite.data.sources.memory import Memory
from suite.data.sources.running_text import RunningText
from suite.decoding.generation import Decoding
from suite.errors import InputError
from suite.tasks.text.language_modelling import LanguageModelling
from tests import pages


@pytest.fixture
def task(tmp_path):
    (tmp_path / "my.txt").write_text("abcd" * 30)
    Characters().fit(Memory({"text": ["abcd"]}), "text", tmp_path / "c.json")
    return LanguageModelling(
        data=RunningText(path=str(tmp_path / "my.txt")),
        context=8,
        decoding=Decoding(tokens=3),
        vocabulary=Characters(file=str(tmp_path / "c.json")),
    )


class Next:
    """Says with certainty that b follows a, c follows b, and so on."""

    def __call__(self, tokens, rngs=None):
        return 50.0 * jax.nn.one_hot((tokens - 3) % 4 + 4, 8)


def batch_of(task, split):
    source = task.source(split)
    return pad(task.encode(source[np.arange(len(source))]), np.ones(len(source), bool), 9)


def test_each_token_is_said_once(task):
    batch = batch_of(task, "validation")
    outputs = {name: np.asarray(value) for name, value in task.evaluate(Next(), batch).items()}
    scores = {name: tally.value() for name, tally in task.score(outputs, batch).items()}
    assert scores["accuracy"] == 1 and scores["loss"] < 1e-6
    # 12 characters of validation in stretches of 9: the last one ends the text.
    assert outputs["count"].tolist() == [8, 8] and batch["tokens"].shape == (2, 9)


def uniform(tokens, rngs=None):
    """Says that every one of 64 tokens is as likely."""
    return jax.numpy.zeros((*tokens.shape, 64))


@pytest.mark.parametrize("pieces", [False, True])
def test_bits_are_counted_a_character_and_a_byte_whatever_the_tokens(task, tmp_path, pieces):
    text = "größer oder kleiner, größer oder kleiner"  # ö and ß are two bytes each
    (tmp_path / "my.txt").write_text(text * 20)
    vocabulary = SentencePiece(vocab_size=40) if pieces else Characters()
    vocabulary.fit(Memory({"text": [text] * 9}), "text", tmp_path / "v")
    vocabulary = dataclasses.replace(vocabulary, file=str(tmp_path / "v"))
    own = dataclasses.replace(task, vocabulary=vocabulary, context=64, stretch=40)
    batch = batch_of(own, "validation")
    outputs = {name: np.asarray(value) for name, value in own.evaluate(uniform, batch).items()}
    scores = {name: state.value() for name, state in own.score(outputs, batch).items()}
    stretches = own.source("validation")[np.arange(len(batch["mask"]))]["text"]
    read = [stretch if pieces else stretch[1:] for stretch in stretches]  # pieces begin with one of no character
    bits = 6 * outputs["count"].sum()  # of 64 tokens
    assert scores["bits_per_character"] == pytest.approx(bits / sum(map(len, read)))
    assert scores["bits_per_byte"] == pytest.approx(bits / sum(len(each.encode()) for each in read))
    cut = dataclasses.replace(own, context=8, decoding=Decoding(tokens=3))
    rows = batch_of(cut, "validation")
    assert rows["characters"].tolist() == [
        len(row) for row in vocabulary.decode([tokens[1:] for tokens in rows["tokens"]])
    ]


def test_padding_counts_nowhere(task):
    batch = batch_of(task, "validation")
    batch["tokens_mask"][:, 5:] = False
    batch["mask"][1] = False
    wrong = {**batch, "tokens": np.where(batch["tokens_mask"], batch["tokens"], 4)}
    loss, tallies = task.loss(Next(), wrong, None)
    assert float(tallies["loss"].count) == 4 and float(loss) < 1e-6


def test_a_request_keeps_its_last_tokens(task):
    encoded = task.encode({"text": ["abcdabcdab", "c", ""]})
    rows = pad(encoded, np.ones(3, bool), 99)
    assert rows["prompt"].shape == (3, 5)
    assert task.vocabulary.decode(rows["prompt"])[:2] == ["bcdab"[-5:], "c"]
    assert rows["prompt_mask"].sum(1).tolist() == [5, 1, 1]
    assert task.codec.decode({"continuation": rows["prompt"]}, {})[1] == {"continuation": "c"}


def test_lines_of_a_text_file_are_running_text(task, tmp_path):
    lines = LanguageModelling(data=Lines(path=str(tmp_path / "my.txt")), context=8, decoding=Decoding(tokens=3))
    both = [t.source("validation")[np.arange(1)]["text"] for t in (task, lines)]
    assert both[0] == both[1]


def test_a_share_of_a_text_file_is_held_out_for_each_split(tmp_path):
    (tmp_path / "my.txt").write_text("a" * 60 + "b" * 40 + "c" * 20)
    data = Lines(path=str(tmp_path / "my.txt"), validation=1 / 3, test=1 / 6)
    task = LanguageModelling(data=data, context=8, decoding=Decoding(tokens=3))
    said = {split: task.source(split) for split in ("train", "validation", "test")}
    assert [set("".join(s[np.arange(len(s))]["text"])) for s in said.values()] == [{"a"}, {"b"}, {"c"}]


@pytest.mark.parametrize("fields", [{"context": 1}, {"overlap": 0}, {"decoding": Decoding(tokens=256)}])
def test_what_cannot_be_is_refused(fields):
    with pytest.raises(InputError, match="field task"):
        LanguageModelling(data=RunningText(path=""), **fields)


def test_own_text(command, tmp_path):
    """The alphabet over and over, told from the command line: the model goes on with it."""
    (tmp_path / "my.txt").write_text("abcdefghijklmnopqrstuvwxyz " * 400)
    folder = tmp_path / "run"
    command(
        "train",
        "text.shakespeare_gpt",
        "--data",
        tmp_path / "my.txt",
        "--run-dir",
        folder,
        "--smoke",
        "--train.steps",
        "60",
        "--train.eval_every",
        "60",
        "--optim.learning_rate",
        "1e-2",
        "--task.decoding.temperature",
        "0",
    )
    run = suite.open(folder)
    assert run.evaluate("validation").metrics["validation/accuracy"] > 0.9
    (answer,) = [json.loads(line) for line in command("predict", folder, "--input", "lmnop").splitlines()]
    assert answer["continuation"] == "qrstuvwx"
    page = pages.read(suite.report(folder))
    loss = run.evaluate("validation").metrics["validation/loss"]
    stretches = len(run.experiment.task.source("validation"))
    assert float(page.table("validation, ").column("value")["loss"]) == pytest.approx(loss, rel=0.02)
    spread = next(table for table in page.tables if table.rows[0][1:3] == ["records", "mean"])
    assert spread.column("records") == {"stretches": str(stretches)}
    # Every stretch is read at its end and goes on with what follows.
    assert "→ continuation" in page.words and "qrstuvwx" in page.words
