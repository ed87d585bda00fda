"""The words that a recogniser hears: texts in batches, silence, PocketSphinx on a recorded sentence."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from suite.data.pipeline.padding import batched
from suite.tasks.speech import hearing
from suite.tasks.speech.recognition import edits

ARCTIC = Path(os.environ.get("SUITE_DATA", "data")) / "arctic_fraser" / "arctic_fraser.tar.xz"


def test_texts_come_out_of_a_batch_as_they_went_in():
    texts = ["zwölf Äpfel", "", None, "\N{GRINNING FACE}!"]
    batch = batched({"text": hearing.as_codes(texts)}, {"text": (16,)})
    assert batch["text"].shape == (4, 16)
    assert hearing.from_codes(batch["text"], batch["text_mask"]) == [text or "" for text in texts]


def test_nothing_is_heard_in_silence_and_no_recogniser_is_asked():
    assert hearing.heard("nowhere", [np.zeros(100), np.zeros(0)], 8000) == ["", ""]


def test_words_are_compared_without_punctuation_and_capitals():
    assert hearing._words("Well, it's 5 O'Clock -- isn't it?") == "well it's 5 o'clock isn't it"


def test_pocketsphinx_hears_a_recorded_sentence_in_any_order():
    pytest.importorskip("pocketsphinx", reason="pip install pocketsphinx")
    if not ARCTIC.is_file():
        pytest.skip("needs SUITE_DATA/arctic_fraser")
    with tarfile.open(ARCTIC) as archive:  # the first members: nothing more is unpacked
        members = {}
        for member in archive:
            members[member.name] = archive.extractfile(member).read() if member.isfile() else b""
            if member.name.endswith("arctic_a0002.txt"):
                break
    names = ["arctic_a0001", "arctic_a0002"]
    said = [members[f"data/text/{name}.txt"].decode() for name in names]
    rows, rates = zip(*(soundfile.read(io.BytesIO(members[f"data/wav/{name}.wav"])) for name in names), strict=True)
    heard = hearing.heard("pocketsphinx", rows, rates[0])
    errors = edits([hearing._words(text) for text in said], heard, "words")
    assert 0 < errors.value() < 0.7
    assert hearing.heard("pocketsphinx", rows[::-1], rates[0]) == heard[::-1]
