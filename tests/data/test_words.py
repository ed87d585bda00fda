"""Words and units of texts: their places in the text as it was given, whatever cleaning and tokenizers make of it."""

import unicodedata

import numpy as np
import pytest

from suite.data.preprocessing.text import SentencePiece, clean
from suite.data.preprocessing.tokenizers import Published
from suite.data.preprocessing.units import units
from suite.data.preprocessing.words import cleaned, word_places
from suite.data.sources.datasets import Memory
from suite.errors import InputError

WORDS = {
    "Anna's  dog.": ["Anna", "'", "s", "dog", "."],
    "cafe\u0301 Ame\u0301lie": ["cafe\u0301", "Ame\u0301lie"],
    "na\u200bme <br/>\tx": ["na\u200bme", "x"],
    "👩\u200d🚀👍🏽ok ❤\ufe0f": ["👩\u200d🚀", "👍🏽", "ok", "❤\ufe0f"],
    "北京 in 東京": ["北", "京", "in", "東", "京"],
    "한국어 \u1112\u1161\u11ab नमस्ते": ["한국어", "\u1112\u1161\u11ab", "नमस्ते"],
    "می\u200cخواهم": ["می\u200cخواهم"],
    " \u200b\x00 ": [],
}


@pytest.mark.parametrize("text", WORDS)
def test_words_stand_where_they_are_in_the_text_as_given(text):
    places = word_places(text)
    assert [text[start:end] for start, end in places] == WORDS[text]
    tidy, inside = cleaned(text, places)
    assert tidy == clean(text)
    assert [tidy[start:end] for start, end in inside] == [clean(word) for word in WORDS[text]]


TEXTS = [
    "Zoë Müller\u00a0 met Ame\u0301lie 👩\u200d🚀 in  São Paulo.",
    "",
    "𝔘lm, e\u0301t\u00e9 ﬁne x" + "y" * 30 + " Oslo",
]


@pytest.fixture(params=["unigram", "bpe", "vocab.txt", "tokenizer.json", "t5"])
def tokenizer(request, tmp_path):
    """Each kind of tokenizer, which knows the texts' letters."""
    known = sorted({letter for text in TEXTS for letter in unicodedata.normalize("NFKC", text) if letter.isalnum()})
    source = Memory({"text": [*TEXTS, *known] * 20})
    file = tmp_path / "tokenizer"
    if request.param in ("unigram", "bpe", "t5"):
        SentencePiece(vocab_size=70, kind=request.param.replace("t5", "bpe")).fit(source, "text", file)
        if request.param != "t5":
            return SentencePiece(file=str(file), kind=request.param)
        file.rename(tmp_path / "spiece.model")
        (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    elif request.param == "vocab.txt":
        names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "oslo", *known, *(f"##{letter}" for letter in known)]
        (tmp_path / "vocab.txt").write_text("\n".join(names), encoding="utf-8")
    else:
        from tokenizers import Tokenizer, models, pre_tokenizers

        letters = pre_tokenizers.ByteLevel.alphabet()
        engine = Tokenizer(models.BPE({letter: place for place, letter in enumerate(sorted(letters))}, []))
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        engine.save(str(tmp_path / "tokenizer.json"))
    Published(source=str(tmp_path)).fit(source, "text", tmp_path / "kept")
    return Published(file=str(tmp_path / "kept"))


def test_units_cover_the_words_with_every_tokenizer(tokenizer):
    found = units(tokenizer, TEXTS, 200)
    rows = np.split(found.tokens.values, np.cumsum(found.tokens.lengths)[:-1])
    encoded = tokenizer.encode([clean(text) for text in TEXTS], 200)
    np.testing.assert_array_equal(found.tokens.values, encoded.values)  # the ids that other tasks give the model
    for text, row, at, places in zip(TEXTS, rows, found.at, found.places, strict=True):
        assert [text[start:end] for start, end in places] == [text[start:end] for start, end in word_places(text)]
        assert len(at) == len(places) and (np.diff(at) > 0).all() and (at < len(row)).all()
    assert not found.unread.any()


def test_words_behind_the_last_token_are_counted(tokenizer):
    found = units(tokenizer, ["Oslo Ulm " * 50], 12)
    assert len(found.tokens.values) <= 12
    assert found.unread.tolist() == [100 - len(found.at[0])] and len(found.at[0]) > 0


def test_words_that_share_a_token_are_one_unit(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    engine = Tokenizer(models.WordLevel({"don't": 0, "go": 1, "?": 2}, unk_token="?"))
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    engine.save(str(tmp_path / "tokenizer.json"))
    Published(source=str(tmp_path)).fit(Memory({"text": [""]}), "text", tmp_path / "kept")
    found = units(Published(file=str(tmp_path / "kept")), ["go don't  go"], 9)
    assert found.places[0].tolist() == [[0, 2], [3, 8], [10, 12]] and found.at[0].tolist() == [0, 1, 2]


def test_a_tokenizer_that_knows_no_places_says_so():
    from suite.data.preprocessing.tokenizers import Tokenizer

    with pytest.raises(InputError, match="does not say where its tokens stand"):
        Tokenizer.located(SentencePiece(), ["a"], 4)
