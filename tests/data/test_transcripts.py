"""Transcripts: what is kept of texts of any script, and what runs of before keep."""

import json

import pytest

from suite.data.preprocessing.transcripts import Characters
from suite.data.sources.memory import Memory
from suite.experiment.serialization import from_json, to_json

WORDS = {
    "Hindi": "हिन्दी में",
    "Tamil": "தமிழ்",
    "Malayalam": "മലയാളം",
    "pointed Arabic": "عَرَبِيّ",
    "pointed Hebrew": "שָׁלוֹם",
    "Thai": "น้ำ",
    "Lao": "ນ້ຳ",
    "Bengali": "বাংলা",
    "Persian, with a joiner": "می\u200cخواهم",
    "Sinhala, with a joiner": "ශ්\u200dරී",
}


@pytest.mark.parametrize("text", WORDS.values(), ids=WORDS)
def test_letters_keep_their_marks_in_targets_alphabet_and_answers(tmp_path, text):
    transcriber = Characters(file=str(tmp_path / "transcriber.json"))
    assert transcriber.normalise(f"{text}! ({text})") == f"{text} {text}"
    transcriber.fit(Memory({"text": [text]}), "text", tmp_path / "transcriber.json")
    symbols = transcriber.encode([text], 40)
    assert 1 not in symbols.values.tolist() and transcriber.spell(symbols.values.tolist()) == text


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Don\u2019t stop_now!", "don't stop now"),
        ("cafe\u0301", "café"),
        ("\u0301alone \u200d", "alone"),
        ("1\ufe0f\u20e3 \u2764\ufe0f one", "1 one"),
    ],
)
def test_marks_of_no_letter_are_not_kept(text, normal):
    assert Characters().normalise(text) == normal


def test_a_transcriber_stored_before_marks_were_kept_does_as_it_did():
    stored = to_json(Characters())
    assert from_json(stored).normalise("हिन्दी") == "हिन्दी"
    del stored["marks"]
    former = from_json(json.loads(json.dumps(stored)))
    assert not former.marks and former.normalise("हिन्दी") == "ह न द"
