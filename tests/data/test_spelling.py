"""Spelling: which symbols a text becomes, what is left out, and numbers, abbreviations and signs as they are spoken."""

import pytest

from suite.data.preprocessing import spoken_numbers
from suite.data.preprocessing.spelling import PAUSE, Spelling, with_spoken_texts
from suite.data.sources.memory import Memory
from suite.errors import InputError


def fitted(tmp_path, texts, **fields):
    path = tmp_path / "spelling.json"
    Spelling(**fields).fit(Memory({"text": texts}), "text", path)
    return Spelling(file=str(path), **fields)


def spelt(spelling, text):
    (symbols,), (left_out,) = [[row] for row in (spelling.encode([text])[0].values,)], spelling.encode([text])[1]
    return "".join(spelling.spell(symbols[0].tolist())), dict(left_out)


def test_each_sentence_has_a_pause_at_both_ends(tmp_path):
    spelling = fitted(tmp_path, ["Who? Ben, he said.", "“No” – so"])
    assert spelling.symbols[0] == PAUSE and spelling.sizes() == {"symbols": len(set('who? ben, he said."no" - so')) + 1}
    assert spelt(spelling, "Ben.  Who?") == ("_ben._who?_", {})
    assert spelt(spelling, "\u201cNo.\u201d He")[0] == '_"no._he_'
    assert spelling.length("Ben. Who?") == len("_ben._who?_")


def test_what_training_does_not_have_is_left_out_and_counted(tmp_path):
    spelling = fitted(tmp_path, ["a bead"])
    assert spelt(spelling, "A zebra, zz") == ("_a eba _", {"z": 3, "r": 1, ",": 1})
    (line,) = spelling.remark(Memory({"text": ["zebra", "bad", "z"]}), "text", "test")
    assert line == 'test: characters that training does not have are not spoken: "z" 2, "r" 1'
    assert spelling.remark(Memory({"text": ["bad"]}), "text", "test") == []


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        ("two one", {}),  # blanks are not spoken, and no record of single words has one
        ("one 12 €, two 日", {"12 €": 1, ",": 1, "日": 1}),
        ("1 2", {}),
        ("One, 50%", {",": 1, "50%": 1}),
    ],
)
def test_what_is_left_out_is_named_as_it_is_written(tmp_path, text, left_out):
    """And not by the letters of the words that numbers and signs are spoken as."""
    assert spelt(fitted(tmp_path, ["one", "two", "twelve"]), text)[1] == left_out


@pytest.mark.parametrize(
    ("text", "symbols"),
    [("_ h E _ l @U _", "_hE_l@U_"), ("h E l @U", "_hEl@U_"), ("X h _", "_h_"), ("X", "_"), ("_", "_")],
)
def test_phones_are_between_blanks_and_bring_their_own_pauses(tmp_path, text, symbols):
    spelling = fitted(tmp_path, ["h E l @U _"], unit="phones", language="")
    assert spelt(spelling, text)[0] == symbols


def test_records_without_anything_to_be_spoken_are_dropped_and_counted(tmp_path):
    source = with_spoken_texts(Memory({"text": ["ab", None, " ", "abc"]}), "text", Spelling(), 4)
    assert len(source) == 1 and source.dropped == {"no text": 2, "text longer than 4 symbols": 1}
    with pytest.raises(InputError, match="no record has a text that can be spoken"):
        with_spoken_texts(Memory({"text": ["_ _"]}), "text", Spelling(unit="phones"), 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Dr. Lee owes $1,250 & 3%.", "doctor Lee owes one thousand, two hundred and fifty dollars and three percent."),
        ("the 21st at 7.5", "the twenty-first at seven point five"),
        ("a4b", "a four b"),
        ("No numbers.", "No numbers."),
        ("9" * 19, " ".join(["nine"] * 19)),
        ("agent 007", "agent zero zero seven"),
        ("it was -5", "it was minus five"),
        ("5-6", "five-six"),
        ("$1.2 billion", "one point two billion dollars"),
        ("$1, £2.50 and 5€", "one dollar, two pounds and fifty pence and five euros"),
        ("1,00,000", "one hundred thousand"),
        ("Main St. is near St. Paul", "Main street is near saint Paul"),
        ("10 ms. later", "ten ms. later"),
        ("I like etc. Then we go, etc.", "I like et cetera. Then we go, et cetera."),
        ("in the 1990s", "in the nineteen nineties"),
        ("10:30, 9:05, 8:00", "ten thirty, nine oh five, eight o'clock"),
        ("version 1.2.3", "version one point two point three"),
    ],
)
def test_numbers_abbreviations_and_signs_are_spoken_in_english(text, said):
    pytest.importorskip("num2words", reason="the extra speech-text is not installed")
    for language in ("en", "en_GB"):
        assert " ".join(spoken_numbers.spoken(text, language).split()) == said


def test_numbers_of_other_languages_are_read_as_they_write_them():
    pytest.importorskip("num2words", reason="the extra speech-text is not installed")
    assert spoken_numbers.spoken("1.250,5 & 3", "de") == "eintausendzweihundertfünfzig Komma fünf & drei"
    with pytest.raises(InputError, match='num2words has no language "xx"'):
        spoken_numbers.spoken("3", "xx")


def test_a_text_without_numbers_needs_no_package_and_one_with_them_says_which(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "num2words", None)
    assert spoken_numbers.spoken("Mr. Lee", "en") == "mister Lee"
    with pytest.raises(InputError, match=r"(?s)num2words.*speech-text"):
        spoken_numbers.spoken("3 bees", "en")
