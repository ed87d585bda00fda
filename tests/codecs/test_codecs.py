"""Codecs: what is asked and answered, apart from any task; and recordings that are too much."""

import io
import json

import numpy as np
import pytest
import soundfile

from suite.codecs.answers import class_answers, class_outputs
from suite.codecs.audio import AudioClasses
from suite.codecs.columns import check_columns
from suite.codecs.image import ImageClasses
from suite.codecs.table import CHOICES, Clicks
from suite.codecs.text import Continuations, TextClasses, Translations
from suite.contracts.kinds import answer_schema
from suite.contracts.schemas import LISTED
from suite.contracts.signature import Input
from suite.data import recordings
from suite.data.preprocessing.characters import Characters
from suite.data.preprocessing.image import PixelStatistics
from suite.data.preprocessing.labels import Labels
from suite.data.preprocessing.tabular import Fields
from suite.data.preprocessing.text import SentencePiece
from suite.data.recordings import Recordings
from suite.data.sources.memory import Memory
from suite.errors import InputError
from suite.experiment.serialization import from_json, to_json
from suite.runtime import decoders

TEXTS = [f"the film was {word}" for word in ("good", "bad", "fine", "dull")] * 5


def fitted(asset, tmp_path, column, values):
    file = tmp_path / f"{type(asset).__name__}{asset.suffix}"
    asset.fit(Memory(values if isinstance(values, dict) else {column: values}), column, file)
    return type(asset)(**{**asset.__dict__, "file": str(file)})


@pytest.fixture
def labels(tmp_path):
    return fitted(Labels(), tmp_path, "label", ["no", "yes"])


@pytest.fixture
def texts(tmp_path, labels):
    tokenizer = fitted(SentencePiece(vocab_size=20, kind="word"), tmp_path, "text", TEXTS)
    return TextClasses(text="review", tokenizer=tokenizer, labels=labels, max_length=6)


def test_a_codec_survives_json(texts):
    assert from_json(json.loads(json.dumps(to_json(texts)))) == texts


def test_texts(texts):
    (asked,) = texts.inputs
    assert (asked.name, asked.kind, asked.required, asked.limit) == ("review", "text", True, 600)
    assert texts.primary == "review" and texts.longest == 6
    tokens = texts.encode({"review": ["the film <br/> was\tgood", 7, "the " * 50], "stars": [1, 2, 3]})["tokens"]
    assert tokens.lengths.tolist() == [5, 2, 6] and tokens.values.dtype == np.int32
    logits = np.log(np.array([[0.25, 0.75], [0.9, 0.1]], np.float32))
    assert texts.decode({"logits": logits}, {})[0] == {
        "label": "yes",
        "probability": 0.75,
        "top": {"yes": 0.75, "no": 0.25},
    }


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": ["good"]}, 'input "review": is missing.\n  found: text\n  try:   a column, or key, "review"'),
        ({}, 'input "review": is missing.\n  found: nothing\n  try:   a column, or key, "review"'),
        (
            {"review": ["good", None]},
            'input "review": holds no text.\n  found: nothing in record 2 of 2\n'
            "  try:   leave the record out, or fill it in",
        ),
    ],
)
def test_texts_that_are_missing(texts, columns, said):
    with pytest.raises(InputError) as error:
        texts.encode(columns)
    assert str(error.value) == said


def test_beginnings_keep_their_end(tmp_path):
    vocabulary = fitted(Characters(), tmp_path, "text", ["abc"])
    codec = Continuations(text="text", vocabulary=vocabulary, room=4)
    prompt = codec.encode({"text": ["abcabcab", "c", ""]})["prompt"]
    assert prompt.lengths.tolist() == [4, 1, 1] and prompt.to == 4 and codec.longest == 0
    assert vocabulary.decode([prompt.values[:4]]) == ["bcab"]
    assert codec.decode({"continuation": prompt.values[:4].reshape(2, 2)}, {}) == [
        {"continuation": "bc"},
        {"continuation": "ab"},
    ]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_beginnings_of_few_characters_and_more_pieces(tmp_path, kind):
    """The end of each is the last that the model reads: what is no piece of its own, and what NFKC makes longer."""
    corpus = [f"song {i % 3} of film {i}" for i in range(50)]
    vocabulary = fitted(SentencePiece(vocab_size=30, kind=kind), tmp_path, "text", corpus)
    codec = Continuations(text="text", vocabulary=vocabulary, room=8)
    for beginning, said in (
        ("7", "7"),
        ("42", "42"),
        ("film 7 of 42", "42"),
        ("\u2460\u2461", "12"),
        ("\u3373", "au"),
        ("\ufb03\ufb03 film", "film"),
    ):
        prompt = codec.encode({"text": [beginning]})["prompt"]
        whole = vocabulary.encode([beginning], 1000).values
        assert prompt.values.tolist() == whole[-8:].tolist()
        if "u" not in said:  # a letter of the corpus
            assert vocabulary.decode([prompt.values])[0].endswith(said)


def test_translations_are_said_by_the_second_tokenizer(tmp_path, texts):
    codec = Translations(source_text="en", tokenizer=texts.tokenizer, max_length=5)
    assert codec.says is texts.tokenizer and codec.longest == 5 and codec.inputs[0].limit == 500
    row = texts.tokenizer.targets(["the film was fine"], 5).values
    assert codec.decode({"translation": row[None]}, {}) == [{"translation": "the film was fine"}]


def test_images(tmp_path, labels):
    pictures = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3)).astype(np.uint8)
    statistics = fitted(PixelStatistics(), tmp_path, "image", pictures)
    codec = ImageClasses(image="photo", statistics=statistics, labels=labels)
    (asked,) = codec.inputs
    about = "an image, scaled to 5 x 6 pixels, colour; of an animation the first frame"
    assert (asked.kind, asked.description) == ("image", about)
    assert codec.encode({"photo": [np.zeros((12, 10), np.uint8)]})["image"].shape == (1, 6, 5, 3)
    assert codec.answer_schema["properties"]["label"]["enum"] == ["no", "yes"]


def test_records(tmp_path):
    rng = np.random.default_rng(0)
    columns = {
        "city": [f"city {i}" for i in rng.integers(0, 150, 3000)],
        "price": rng.random(3000) * 9,
        "tags": [("a|b", "b", "a|c")[i] for i in rng.integers(0, 3, 3000)],
        "label": rng.integers(0, 2, 3000),
        "visits": np.exp(rng.random(3000) * 12),
    }
    codec = Clicks(record="record", fields=fitted(Fields(), tmp_path, "label", columns))
    asked = {each.name: each for each in codec.inputs}
    assert {name: each.kind for name, each in asked.items()} == {
        "price": "number",
        "visits": "number",
        "city": "category",
        "tags": "list",
    }
    assert not any(each.required for each in asked.values()) and codec.primary == "record"
    assert len(asked["city"].choices) == CHOICES == 100 and set(asked["tags"].choices) == {"a", "b", "c"}
    assert 3 < asked["price"].example < 6 and 1 < asked["visits"].example < np.exp(12)
    whole = codec.encode({"record": ['{"city": "city 3", "price": 2.5}', {"tags": ["a", "z"]}]})
    parts = codec.encode({"city": ["city 3", None], "price": [2.5, None], "tags": [None, "a|z"]})
    for name, values in whole.items():
        np.testing.assert_array_equal(values, parts[name])
    examples = {name: [each.example] for name, each in asked.items()}
    assert all(np.isfinite(values).all() for values in codec.encode(examples).values())
    assert codec.decode({"logits": np.zeros(1), "unseen": np.array([2])}, {}) == [{"probability": 0.5, "unseen": 2}]


def test_a_schema_lists_no_thousands_of_classes():
    names = [f"class {i}" for i in range(LISTED + 1)]
    assert "enum" not in answer_schema(class_outputs(names))["properties"]["label"]
    (answer,) = class_answers(np.arange(LISTED + 1.0)[None], names)
    assert list(answer["top"]) == names[:-4:-1] and answer.keys() == set(
        answer_schema(class_outputs(names))["required"]
    )


def flac(samples, rate):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC")
    return file.getvalue()


def test_recordings(labels):
    codec = AudioClasses(audio="audio", recordings=Recordings(rate=4000, hop=40, longest=2.0), labels=labels)
    assert codec.longest == 8000 and codec.inputs[0].limit == 2.0
    rows = codec.encode({"audio": [flac(np.zeros(8000), 8000), np.zeros(7, np.float32)]})["audio"]
    assert rows.lengths.tolist() == [4000, 7]
    stored = Recordings(rate=4000, hop=40, features=3, longest=2.0)
    assert stored.room == 200 and stored.encode([np.zeros((5, 3), np.float32)]).values.shape == (5, 3)


def test_a_recording_is_not_unpacked_before_its_length_is_known(monkeypatch):
    """A day of silence in a few kilobytes: its header is enough to refuse it."""
    content = flac(np.zeros((2_000_000, 8), np.int16), 100)
    monkeypatch.setattr(decoders, "_inside", True)  # as in a decoder process
    monkeypatch.delattr(soundfile.SoundFile, "read")
    with pytest.raises(InputError) as error:
        Recordings(rate=4000, hop=40, longest=30.0).encode([content])
    assert str(error.value) == (
        "recording: this recording lasts 20000.0 s, longer than the model takes.\n  found: limit 30 s\n"
        "  try:   cut it, or train with a larger --task.max_seconds"
    )
    monkeypatch.setattr(recordings, "MAX_SAMPLES", 1000)
    with pytest.raises(InputError) as error:
        recordings.decode(content, 4000)
    assert str(error.value) == (
        "recording: this recording has more than 1,000 samples\n  found: 2,000,000 in 8 channels"
    )


INPUTS = (
    Input(name="member", kind="category", required=False),
    Input(name="price", kind="number", required=False),
    Input(name="review", kind="text"),
)


@pytest.mark.parametrize(
    ("given", "whole", "where", "fix"),
    [
        (("membr", "price", "review"), True, 'input "membr": is no input of this model.', "member"),
        (("membr", "price", "review"), False, 'input "membr": is no input of this model.', "member"),
        (("member", "price", "Review"), False, 'input "Review": is no input of this model.', "review"),
        (("member", "price"), False, 'input "review": is missing.', 'a column, or key, "review"'),
        (
            ("price", "review", "id"),
            True,
            'input "member": is missing.',
            'a column, or key, "member", empty where it is not known',
        ),
        ((), False, 'input "review": is missing.', 'a column, or key, "review"'),
    ],
)
def test_a_misspelt_or_missing_column_is_refused(given, whole, where, fix):
    with pytest.raises(InputError) as error:
        check_columns(INPUTS, given, whole)
    assert str(error.value).startswith(where) and error.value.fix == fix


def test_columns_beside_the_inputs_are_named():
    assert check_columns(INPUTS, ("id", "member", "price", "review", "label"), whole=True) == ["id", "label"]
    option = Input(name="speed", kind="number", required=False, option=True)
    assert check_columns((*INPUTS, option), ("member", "price", "review"), whole=True) == []
    assert check_columns(INPUTS, ("review",)) == []
