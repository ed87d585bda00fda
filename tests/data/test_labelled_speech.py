"""Recordings with the times of their phones: a folder and an archive, what is cut off, and labels that are refused."""

import io
import tarfile

import numpy as np
import pytest
import soundfile

from suite.data.sources.labelled_speech import LabelledSpeech, labels
from suite.errors import InputError

RATE = 1000
HEADER = "separator ;\nnfields 1\n#\n"


def label_file(*rows):
    return HEADER + "".join(f"\t{end:f} 26\t{phone}\n" for end, phone in rows)


@pytest.fixture
def folder(tmp_path):
    """Two voices' recordings of a second, whose samples count up; phones from 0.4 to 0.8 s."""
    samples = (np.arange(RATE) / RATE / 2).astype(np.float32)
    for kind in ("wav", "lab", "text"):
        (tmp_path / "speech" / kind).mkdir(parents=True)
    for i in range(12):
        name = f"{'test' if i > 9 else 'own'}_{i}"
        soundfile.write(tmp_path / "speech" / "wav" / f"{name}.wav", samples, RATE)
        rows = label_file((0.4, "_"), (0.5, "h"), (0.55, "pau"), (0.6, "sil"), (0.8, "I"), (0.99, "_"))
        (tmp_path / "speech" / "lab" / f"{name}.lab").write_text(rows)
        (tmp_path / "speech" / "text" / f"{name}.txt").write_text(f"Hi {i}\n")
    return tmp_path / "speech"


def test_silence_at_the_ends_is_cut_and_durations_add_up(folder):
    data = LabelledSpeech(path=str(folder), test="test", silence=0.05)
    source = data.open("test")
    assert len(source) == 2 and len(data.open("train")) + len(data.open("validation")) == 10
    row = source[np.arange(1)]
    assert row["phones"] == ["_ h _ I _"] and row["text"] == ["Hi 10"] and row["file"] == ["test_10"]
    np.testing.assert_allclose(row["durations"][0], [0.05, 0.1, 0.1, 0.2, 0.05], atol=1e-9)
    samples, rate = soundfile.read(io.BytesIO(row["audio"][0]))
    assert rate == RATE and len(samples) == 500
    np.testing.assert_allclose(samples[0], 0.35 / 2, atol=1e-3)
    assert source.notes == ("silence at the ends of recordings is cut to 0.05 s, by their labels",)


def test_an_archive_is_read_as_the_folder(folder, tmp_path):
    archive = tmp_path / "speech.tar.xz"
    with tarfile.open(archive, "w:xz") as file:
        file.add(folder, "data/en_US")
    ours, theirs = (LabelledSpeech(path=str(path), test="test").open("test") for path in (folder, archive))
    assert ours[np.arange(2)] == theirs[np.arange(2)]


def test_recordings_without_labels_or_phones_are_counted(folder):
    (folder / "lab" / "own_1.lab").unlink()
    (folder / "lab" / "own_2.lab").write_text(label_file((0.9, "_")))
    dropped = LabelledSpeech(path=str(folder), test="test").open("train").dropped
    assert dropped == {"no labels": 1, "no phone but pauses": 1}


def test_phones_at_the_very_ends_get_pauses_beside_them(folder):
    (folder / "lab" / "test_10.lab").write_text(label_file((0.5, "h"), (1.0, "I")))
    row = LabelledSpeech(path=str(folder), test="test").open("test")[np.arange(1)]
    assert row["phones"] == ["_ h I _"]
    np.testing.assert_allclose(row["durations"][0], [0, 0.5, 0.5, 0], atol=1e-9)


@pytest.mark.parametrize("rows", ["\t0.5 26\th\n\t0.4 26\tI\n", "\tsoon 26\th\n", "0.5\n"])
def test_a_line_that_is_no_label_is_named(rows):
    with pytest.raises(InputError, match=r"(?s)a\.lab, line \d.*END NUMBER PHONE"):
        labels(HEADER + rows, "a.lab")


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no recording"):
        LabelledSpeech(path=str(tmp_path)).open("train")
