"""Predictions from one text and from two: every problem, pairs as each tokenizer joins them, own data, bad input."""

import json
from dataclasses import replace

import numpy as np
import pytest

import suite
from suite.data.preprocessing.ngrams import NGrams
from suite.data.preprocessing.target import Target
from suite.data.preprocessing.text import SentencePiece
from suite.data.preprocessing.tokenizer_engines import cut_pair
from suite.data.preprocessing.tokenizers import Published
from suite.data.sources.datasets import Memory, Table
from suite.errors import InputError
from suite.tasks.text.pairs import PairPrediction
from suite.tasks.text.prediction import TextPrediction
from tests.tasks.test_classes import bound

WORDS = ["good", "bad", "slow", "funny", "long", "sad"]


@pytest.fixture
def table(tmp_path):
    """Opinions of two words with a number, a class, an order and labels that follow from them."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(200):
        first, second = rng.choice(WORDS, 2, replace=False)
        stars = 1 + WORDS.index(first) + 0.5 * (i % 2)
        level = ["low", "mid", "high"][WORDS.index(first) // 2]
        rows.append(
            {
                "review": f"{first} and {second}",
                "reply": f"{second} indeed {i}",
                "stars": stars,
                "level": level,
                "tags": [str(first), str(second)],
                "same": "yes" if i % 2 else "no",
            }
        )
    path = tmp_path / "reviews.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return Table(path=str(path))


PROBLEMS = {
    "number": ("stars", Target(problem="number"), {"stars"}, np.float32),
    "binary": ("same", Target(), {"label", "probability", "top"}, np.int32),
    "classes": ("level", Target(), {"label", "probability", "top"}, np.int32),
    "ordered": (
        "level",
        Target(problem="ordered", order=("low", "mid", "high")),
        {"label", "probability", "top"},
        np.int32,
    ),
    "labels": ("tags", Target(problem="labels"), {"labels", "top"}, np.float32),
}


@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize("reads", ["pieces", "ngrams", "pairs"])
def test_every_problem_is_posed_to_texts_and_pairs(table, tmp_path, reads, kind):
    target, answer, keys, dtype = PROBLEMS[kind]
    shared = {"data": table, "text": "review", "target": target, "answer": answer}
    pieces = SentencePiece(vocab_size=40)
    open_task = {
        "pieces": TextPrediction(**shared, tokenizer=pieces, max_length=8),
        "ngrams": TextPrediction(**shared, tokenizer=None, ngrams=NGrams(min_count=1)),
        "pairs": PairPrediction(**shared, other="reply", tokenizer=replace(pieces, column="both"), max_length=12),
    }[reads]
    task = bound(open_task, tmp_path)
    assert task.answer.kind == kind
    source = task.source("train")
    columns = source[np.arange(4)]
    encoded = task.encode(columns)
    assert encoded["target"].dtype == dtype and len(encoded["target"]) == 4
    names = {"pieces": {"tokens"}, "ngrams": {"ids", "weights"}, "pairs": {"tokens", "types"}}[reads]
    asked = {entry.name: columns[entry.name] for entry in task.codec.inputs}
    assert set(task.encode(asked)) == names and set(encoded) == {*names, "target"}
    outputs = {"value": np.zeros(4)} if kind == "number" else {"logits": np.zeros((4, len(task.answer.names)))}
    assert all(set(answer) == keys for answer in task.codec.decode(outputs, asked))
    lines = task.remarks({"train": source})
    assert any("columns that are not read" in line for line in lines)


def texts_of(tokenizer, tokens, types):
    """The two texts of the first row, by the types of its tokens."""
    row = tokens.values[: tokens.lengths[0]].tolist()
    of = types.values[: types.lengths[0]].tolist()
    assert of == sorted(of)
    first = [i for i, which in zip(row, of, strict=True) if which == 0]
    second = [i for i, which in zip(row, of, strict=True) if which == 1]
    return tokenizer.decode([first, second])


@pytest.fixture(params=["pieces", "vocab.txt", "t5"])
def tokenizer(request, tmp_path):
    if request.param == "vocab.txt":
        (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    else:
        learnt = SentencePiece(vocab_size=40, kind="word", file="")
        learnt.fit(Memory({"text": [" ".join(WORDS)] * 20}), "text", tmp_path / "spiece.model")
        if request.param == "pieces":
            return replace(learnt, file=str(tmp_path / "spiece.model"))
        (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    Published(source=str(tmp_path)).fit(Memory({"text": [""]}), "text", tmp_path / "kept")
    return Published(file=str(tmp_path / "kept"))


def test_two_texts_are_one_row_with_types(tokenizer):
    tokens, types = tokenizer.pairs(["good slow", "bad"], ["bad", ""], 16)
    assert texts_of(tokenizer, tokens, types) == ["good slow", "bad"]
    assert tokens.lengths.tolist() == types.lengths.tolist()
    assert tokens.values.dtype == types.values.dtype == np.int32
    alone = tokenizer.encode(["good slow"], 16).values
    np.testing.assert_array_equal(tokens.values[: len(alone)], alone)  # the first text is what it is by itself
    empty, _ = tokenizer.pairs([], [], 16)
    assert len(empty.lengths) == 0


def test_the_longer_text_of_a_pair_is_cut(tokenizer):
    tokens, types = tokenizer.pairs(["good " * 30], ["bad sad"], 10)
    first, second = texts_of(tokenizer, tokens, types)
    assert second == "bad sad" and set(first.split()) == {"good"} and tokens.lengths.tolist() == [10]
    with pytest.raises(InputError, match="leaves no room"):
        tokenizer.pairs(["good"], ["bad"], 3)


@pytest.mark.parametrize(
    ("first", "second", "room", "kept"),
    [(3, 4, 9, (3, 4)), (9, 2, 6, (4, 2)), (2, 9, 6, (2, 4)), (9, 9, 7, (4, 3)), (0, 9, 4, (0, 4)), (9, 0, 4, (4, 0))],
)
def test_what_is_kept_of_a_pair(first, second, room, kept):
    assert tuple(map(len, cut_pair(range(first), range(second), room))) == kept


def test_a_tokenizer_of_roberta_knows_one_type(tmp_path):
    names = ["<s>", "<pad>", "</s>", "<unk>", "a", "b", "\u0120"]
    (tmp_path / "vocab.json").write_text(json.dumps({name: place for place, name in enumerate(names)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    Published(source=str(tmp_path)).fit(Memory({"text": [""]}), "text", tmp_path / "kept")
    tokens, types = Published(file=str(tmp_path / "kept")).pairs(["ab"], ["b"], 16)
    assert tokens.values.tolist() == [0, 4, 5, 2, 2, 5, 2] and not types.values.any()


def test_pairs_may_change_places_in_training_alone(table, tmp_path):
    shared = {"data": table, "text": "review", "other": "reply", "target": "same", "max_length": 12}
    task = bound(PairPrediction(**shared, tokenizer=SentencePiece(column="both", vocab_size=40), swaps=0.5), tmp_path)
    columns = task.source("train")[np.arange(40)]
    plain, again = (
        task.encode(columns),
        task.encode({**columns, "review": columns["reply"], "reply": columns["review"]}),
    )
    mixed = task.encode(columns, np.random.default_rng(0))
    rows = [np.split(part["tokens"].values, np.cumsum(part["tokens"].lengths)[:-1]) for part in (plain, again, mixed)]
    turned = [list(row) == list(other) for row, other in zip(rows[2], rows[1], strict=True)]
    kept = [list(row) == list(other) for row, other in zip(rows[2], rows[0], strict=True)]
    assert 8 < sum(turned) < 32 and all(a or b for a, b in zip(turned, kept, strict=True))
    np.testing.assert_array_equal(mixed["target"], plain["target"])


@pytest.mark.parametrize(
    ("recipe", "flags", "advice"),
    [
        ("text.regress", [], "--task.text reply"),
        ("text.label", ["--task.text", "review"], 'column "target" is not in reviews.jsonl'),
        ("text.pair", ["--task.text", "review", "--target", "same"], 'column "other" is not in reviews.jsonl'),
    ],
)
def test_a_missing_column_is_named(table, refused, recipe, flags, advice):
    assert advice in refused("train", recipe, "--data", table.path, *flags)


@pytest.mark.parametrize(("recipe", "target"), [("text.regress", "stars"), ("text.label", "tags")])
def test_own_texts_with_numbers_and_labels(table, command, tmp_path, recipe, target):
    folder = tmp_path / "run"
    flags = ["--task.text", "review", "--target", target, "--train.epochs", "5", "--optim.learning_rate", "0.3"]
    command("train", recipe, "--data", table.path, "--run-dir", folder, *flags)
    metrics = suite.evaluate(folder, "test").metrics
    (line,) = command("predict", folder, "--input", "sad and good").splitlines()
    answer = json.loads(line)
    if recipe == "text.regress":
        assert metrics["test/r2"] > 0.6 and answer["stars"] > 4
    else:
        assert metrics["test/macro_auc"] > 0.95 and set(answer["labels"]) == {"sad", "good"}
