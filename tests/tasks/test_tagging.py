"""Token classification: tags, the loss and entity scores by hand, answers in the text as it was given, bad input."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import suite
from suite.data.pipeline.padding import pad
from suite.data.preprocessing.text import SentencePiece
from suite.data.preprocessing.tokenizers import Published
from suite.data.sources.datasets import Table
from suite.errors import InputError
from suite.evaluation.metrics.spans import span_counts, span_scores
from suite.tasks.text.tagging import TextTagging
from tests.tasks.test_classes import bound

PEOPLE = ["Ada Lovelace", "Bob", "Zoë Müller", "Farid", "Ame\u0301lie O'Neil", "Ute"]
CITIES = ["Oslo", "New York", "Ulm", "São Paulo", "Lagos", "Bad Homburg"]
FRAMES = ["{P} lives in {L}.", "{P}, said {P}, went to {L}.", "Nothing in {L} \U0001f680 today.", "It rained."]


def record(rng):
    """A text from a template, with the spans of its names."""
    text, spans = "", []
    for part in str(rng.choice(FRAMES)).replace("{", "\0{").replace("}", "}\0").split("\0"):
        label = {"{P}": "PER", "{L}": "LOC"}.get(part)
        filled = str(rng.choice(PEOPLE if label == "PER" else CITIES)) if label else part
        if label:
            spans.append({"start": len(text), "end": len(text) + len(filled), "label": label})
        text += filled
    return {"text": text, "spans": spans}


def written(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagging")
    rng = np.random.default_rng(0)
    path = written(folder / "names.jsonl", [record(rng) for _ in range(200)])
    return bound(
        TextTagging(data=Table(path=str(path)), tokenizer=SentencePiece(vocab_size=120, lowercase=False)), folder
    )


def batch_of(task, rows, real=None):
    columns = {"text": [row["text"] for row in rows], "spans": [json.dumps(row["spans"]) for row in rows]}
    return columns, pad(task.encode(columns), np.ones(len(rows), bool) if real is None else np.array(real), 64)


def sure(batch, tags=5):
    """Logits of a model that knows the tags that are wanted."""
    return 20.0 * np.eye(tags, dtype=np.float32)[np.maximum(batch["tags"] - 2, 0)]


GIVEN = [
    {
        "text": "  Zoë\u00a0 Mu\u0308ller \U0001f469\u200d\U0001f680 in  New\tYork",
        "spans": [[2, 14, "PER"], [23, 31, "LOC"]],
    },
    {"text": "Ada Bob", "spans": [[0, 3, "PER"], [4, 7, "PER"]]},
    {"text": "It rained.", "spans": []},
]


def test_answers_are_places_in_the_text_as_it_was_given(task):
    """Of a model that is sure of what is right, whatever cleaning made of the text: no-break and double blanks, letters
    with combining marks, an emoji of three code points."""
    columns, batch = batch_of(task, GIVEN)
    answers = task.codec.decode({"logits": sure(batch)}, columns)
    found = [[[span["start"], span["end"], span["label"]] for span in answer["spans"]] for answer in answers]
    assert found == [row["spans"] for row in GIVEN]
    assert answers[0]["spans"][0]["text"] == "Zoë\u00a0 Mu\u0308ller"
    assert all(span["probability"] > 0.99 for answer in answers for span in answer["spans"])
    scores = task.score({"logits": sure(batch)}, batch)
    assert all(scores[name].value() == 1 for name in ("entity_f1", "entity_precision", "entity_recall", "accuracy"))


def test_a_request_needs_no_spans(task):
    assert set(task.encode({"text": ["Ada"]})) == {"tokens"}
    assert task.codec.decode({"logits": np.zeros((1, 4, 5), np.float32)}, {"text": [""]}) == [{"spans": []}]


def test_entity_scores_by_hand(task):
    """One of four right: a span with a wrong end, one with a wrong label and one too many count for nothing."""
    rows = [{"text": "Ada Lovelace met Bob in Oslo", "spans": [[0, 12, "PER"], [17, 20, "PER"], [24, 28, "LOC"]]}]
    _, wanted = batch_of(task, rows)
    rows[0]["spans"] = [[0, 3, "PER"], [13, 16, "LOC"], [17, 20, "LOC"], [24, 28, "LOC"]]
    _, answered = batch_of(task, rows)
    scores = task.score({"logits": sure(answered)}, wanted)
    assert scores["entity_precision"].value() == pytest.approx(1 / 4)
    assert scores["entity_recall"].value() == pytest.approx(1 / 3)
    assert scores["entity_f1"].value() == pytest.approx(2 / 7)
    assert scores["accuracy"].value() == pytest.approx(3 / 6)
    assert span_counts([((0, 1), 0)], [((0, 1), 1), ((3, 3), 0)], 2).tolist() == [[0, 1, 1], [0, 0, 1]]
    assert np.isnan(span_scores(np.zeros((2, 3)))["entity_f1"].value())


def test_scores_add_over_batches_and_leave_padding_out(task):
    _, batch = batch_of(task, GIVEN[:2], [True, True, False])
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, sure(batch).shape).astype(np.float32)
    part = lambda rows: {name: value[rows] for name, value in batch.items() if isinstance(value, np.ndarray)}
    whole = task.score({"logits": logits}, batch)
    halves = [task.score({"logits": logits[rows]}, part(rows)) for rows in ([0], [1])]
    for name, state in whole.items():
        added = halves[0][name] + halves[1][name]
        assert added.value() == pytest.approx(state.value(), nan_ok=True) and added.count == state.count


CANNOT = {
    "overlapping": ([[0, 12, "PER"], [4, 12, "LOC"]], 1),
    "within a word": ([[0, 2, "PER"]], 1),
    "of an unknown label": ([[0, 12, "DATE"]], 1),
    "said": ([[0, 12, "PER"], [13, 16, "LOC"]], 0),
}


@pytest.mark.parametrize("case", CANNOT)
def test_spans_that_cannot_be_said_count_as_missed(task, case):
    spans, missed = CANNOT[case]
    _, batch = batch_of(task, [{"text": "Ada Lovelace met Bob", "spans": spans}])
    assert batch["missed"].sum() == missed
    scores = task.score({"logits": sure(batch)}, batch)
    assert scores["entity_recall"].count == len(spans)
    assert scores["entity_recall"].total == len(spans) - missed


def test_spans_behind_the_last_token_count_as_missed_and_are_told(tmp_path):
    rows = [{"text": "word " * 30 + f"Ada {i}", "spans": [[150, 153, "PER"]]} for i in range(40)]
    data = Table(path=str(written(tmp_path / "t.jsonl", rows)))
    short = bound(TextTagging(data=data, tokenizer=SentencePiece(vocab_size=40), max_length=8), tmp_path)
    splits = {split: short.source(split) for split in ("train", "validation")}
    lines = short.remarks(splits)
    count = len(splits["train"])
    assert f"train: {count} of {count} texts have more than 8 tokens" in lines[0] and "words are left out" in lines[0]
    assert lines[1].startswith(f"train: {count} spans of {count} texts cannot be said, and count as missed")
    _, batch = batch_of(short, rows[:2])
    assert short.score({"logits": sure(batch, 3)}, batch)["entity_recall"].value() == 0


class Told:
    """Gives the logits it was made with."""

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, tokens, mask, rngs=None):
        return jnp.asarray(self.logits)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_over_units(task, smoothing):
    rows = [GIVEN[0], {"text": "Adam", "spans": [[0, 3, "PER"]]}]  # a span within a word says nothing of it
    _, batch = batch_of(task, rows, [True, False, True])
    logits = np.random.default_rng(1).normal(size=sure(batch).shape).astype(np.float32)
    loss, tallies = replace(task, label_smoothing=smoothing).loss(Told(logits), batch, None)
    at = np.argwhere(batch["tags"] >= 2)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nats = [
        -(1 - smoothing) * log_probs[row, token, batch["tags"][row, token] - 2]
        - smoothing * log_probs[row, token].mean()
        for row, token in at
    ]
    assert len(at) == tallies["loss"].count == 6
    assert float(loss) == pytest.approx(np.mean(nats), rel=1e-5)
    apart = task.distillation_loss(jnp.asarray(logits), jnp.asarray(logits[::-1]), batch, 1.0)
    assert apart.shape == (3,) and apart[1] == 0 and apart[0] > 0 == apart[2]


def test_a_model_of_whole_texts_is_refused(task):
    _, batch = batch_of(task, GIVEN)
    with pytest.raises(InputError, match=r"--model\.pooling none"):
        task.loss(Told(np.zeros((3, 5))), batch, None)


def test_records_without_readable_spans_are_dropped_and_counted(tmp_path):
    rows = [{"text": f"Ada {i}", "spans": [[0, 3, "PER"]]} for i in range(60)]
    rows[::10] = [
        {"text": f"Bob {i}", "spans": spans} for i, spans in enumerate([None, [[0, 99, "PER"]], "x", [[1]], {}, []])
    ]
    sources = [
        TextTagging(data=Table(path=str(written(tmp_path / "t.jsonl", rows)))).source(split)
        for split in ("train", "validation", "test")
    ]
    dropped = {reason: sum(source.dropped.get(reason, 0) for source in sources[:1]) for reason in sources[0].dropped}
    assert set(dropped) <= {
        "no spans",
        "a span outside its text",
        "spans that are no JSON",
        "a span without start, end and label",
        "spans that are no list",
    }
    assert sum(map(len, sources)) == 55
    with pytest.raises(InputError, match=r"no record states spans of its text") as refusal:
        TextTagging(
            data=Table(path=str(written(tmp_path / "t.jsonl", [{"text": f"a {i}", "spans": None} for i in range(50)])))
        ).source("train")
    assert "no spans" in str(refusal.value)


def test_training_without_a_single_span_is_refused(tmp_path):
    data = Table(path=str(written(tmp_path / "t.jsonl", [{"text": f"a {i}", "spans": []} for i in range(50)])))
    with pytest.raises(InputError, match="no training record has a span"):
        bound(TextTagging(data=data, tokenizer=SentencePiece(vocab_size=20)), tmp_path)


def test_a_missing_column_is_named(tmp_path, refused):
    path = written(tmp_path / "t.jsonl", [{"text": f"a {i}", "entities": [[0, 1, "A"]]} for i in range(50)])
    printed = refused("train", "text.tag", "--data", path)
    assert 'column "spans" is not in t.jsonl' in printed and "--task.target entities" in printed


def test_own_tagged_words(command, tmp_path):
    """Trained on files as CoNLL's, asked with texts, explained in the report."""
    rng = np.random.default_rng(0)
    sentences = []
    for _ in range(400):
        person, city = str(rng.choice(PEOPLE)).split(), str(rng.choice(CITIES)).split()
        tagged = lambda words, label: [f"{word} {'B' if i == 0 else 'I'}-{label}" for i, word in enumerate(words)]
        sentences.append("\n".join([*tagged(person, "PER"), "lives O", "in O", *tagged(city, "LOC"), ". O"]))
    (tmp_path / "names.conll").write_text("\n\n".join(sentences), encoding="utf-8")
    folder = tmp_path / "run"
    smoke = ["--smoke", "--train.steps", "60", "--train.eval_every", "60", "--optim.learning_rate", "1e-2"]
    command(
        "train", "text.tag", "--data", tmp_path / "names.conll", "--run-dir", folder, *smoke, "--pipeline.buckets", "32"
    )
    assert suite.evaluate(folder, "test").metrics["test/entity_f1"] > 0.9
    (answer,) = command("predict", folder, "--input", "Zoë  Müller lives in Ulm .").splitlines()
    spans = json.loads(answer)["spans"]
    assert [(span["start"], span["end"], span["label"]) for span in spans] == [(0, 11, "PER"), (21, 24, "LOC")]
    page = suite.report(folder).read_text(encoding="utf-8")
    assert "Entities by label" in page and "<mark>" in page and "entity F1" in page


def test_the_tokenizer_is_that_of_the_weights_training_starts_from(tmp_path):
    """Where it starts from none, or from a run, it is the recipe's own; a stated one stays."""
    experiment = suite.load("text.tag")
    at = lambda start: suite.replace(experiment, {"checkpoint.init_from": start})
    chosen = lambda start: [choice.value for choice in experiment.defaults.choose(at(start), None)]
    (tmp_path / "experiment.json").write_text("{}")
    assert chosen("") == chosen(str(tmp_path)) == [SentencePiece(vocab_size=4000, lowercase=False)]
    assert chosen("owner/bert") == [Published()]
