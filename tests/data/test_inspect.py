"""The report on a dataset."""

import json
from collections import Counter

import numpy as np
import pytest

from suite.data.inspection import inspect, render
from suite.data.preprocessing.labels import Labels
from suite.data.sources.datasets import Digits, Memory
from suite.data.sources.detection import BoxFolder
from suite.data.sources.speech import AudioManifest
from suite.errors import InputError
from tests.boxes import drawn, write_coco
from tests.hostile import wav

SPLITS = {
    "train": Memory(
        {"text": ["a b", "a b", "c", "", None], "label": np.array([0, 0, 1, 1, 1])},
        {"text": "text", "label": "class"},
        {"label": ["no", "yes"]},
        {"wrong number of fields": 3},
    ),
    "test": Memory({"text": ["c", "d e f"], "label": np.array([1, 0])}),
}


def opener(split):
    if split not in SPLITS:
        raise InputError("data", f"there is no split '{split}'")
    return SPLITS[split]


def test_report_counts_what_is_there():
    report = inspect(opener)
    train = report["splits"]["train"]
    assert train["count"] == 5 and train["classes"] == {"label": {"yes": 3, "no": 2}}
    assert train["dropped"] == {"wrong number of fields": 3}
    assert train["broken"] == {"empty text": 1, "broken text": 1}
    assert train["duplicates"] == 1 and report["shared"] == {"train/test": 1}
    assert train["lengths"]["text"] == {"min": 0, "median": 1, "95%": 2, "max": 2}
    assert len(train["samples"]) == 3 and train["samples"][0] == {"text": "a b", "label": "no"}


def test_missing_split_does_not_stop_the_report():
    report = inspect(opener)
    assert report["splits"]["validation"]["missing"] == "data: there is no split 'validation'"
    text = render(report)
    assert "validation: not there\n  data: there is no split 'validation'" in text
    assert "records of test that are also in train: 1" in text
    assert "label: yes 3 (60.0%), no 2 (40.0%)" in text


def test_what_all_splits_share_is_said_once():
    left = lambda count: Memory({"text": ["a", "b"]}, None, None, {"blank line": count}, {}, ("read as latin-1",))
    text = render(inspect(lambda split: left(3)))
    assert text.startswith("all splits together:\n  read as latin-1\n  dropped: blank line 3\ntrain: 2 records\n")
    assert text.count("blank line") == text.count("latin-1") == 1
    apart = render(inspect(lambda split: left(len(split))))
    assert [apart.count(f"dropped: blank line {len(split)}") for split in ("train", "validation", "test")] == [1, 1, 1]


def test_a_label_that_is_empty_is_shown():
    source = Memory({"text": ["a", "b"], "label": ["x", ""]}, {"text": "text", "label": "text"})
    assert "label: x 1 (50.0%), (empty) 1 (50.0%)" in render(inspect(lambda split: source, labels=("label",)))


def test_a_line_break_in_a_label_is_a_blank():
    source = Memory({"text": ["a", "b", "c", "d"], "label": ["x\ny", "z"] * 2}, {"text": "text", "label": "text"})
    assert "label: x y 2 (50.0%), z 2 (50.0%)" in render(inspect(lambda split: source, labels=("label",)))
    assert Labels().describe(source, "label") == "column label: 2 classes: x y 2, z 2"


def test_images_are_measured():
    report = inspect(Digits().open)
    count = report["splits"]["test"]["count"]
    assert report["splits"]["test"]["sizes"] == {"image": {"8x8x1": count}}
    assert "image, sizes: 8x8x1" in render(report)


def test_broken_images_are_counted():
    source = Memory({"image": [b"no image"], "label": [1]}, {"image": "image", "label": "int"})
    assert inspect(lambda split: source)["splits"]["train"]["broken"] == {"broken image": 1}


def test_broken_files_are_named_with_the_reason(tmp_path):
    """Recordings as training looks at them, pictures by decoding, the first three of a reason by name."""
    soundfile = pytest.importorskip("soundfile")
    (tmp_path / "a.wav").write_bytes(wav(np.zeros(800), 8000))
    (tmp_path / "b.wav").write_bytes(b"nothing")
    rows = [{"audio": "a.wav"}, {"audio": "a.wav", "offset": 100}, {"audio": "a.wav", "duration": 400}]
    rows += [{"audio": "b.wav"}] + [{"audio": f"{place}.wav"} for place in range(4)]
    (tmp_path / "cut.wav").write_bytes(wav(np.zeros(8000), 8000)[:8000])
    (tmp_path / "empty.wav").write_bytes(wav(np.zeros(0), 8000))
    soundfile.write(tmp_path / "nan.wav", np.full(800, np.nan), 8000, subtype="FLOAT")
    rows += [{"audio": f"{name}.wav"} for name in ("cut", "empty", "nan")]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n".join(json.dumps({**row, "split": "train"}) for row in rows))
    report = inspect(AudioManifest(path=str(manifest)).open)
    part, audio = report["splits"]["train"], tmp_path / "a.wav"
    assert part["broken"] == {
        "piece past the end of its recording": 2,
        "format that is not read": 1,
        "no such recording": 4,
        "recording that is cut off": 1,
        "empty recording": 1,
        "samples that are not finite": 1,
    }
    assert part["recordings"]["audio"]["seconds"]["max"] == 0.1
    text = render(report)
    assert f"({audio} from 100 s, {audio} from 0 to 400 s)" in text and "format that is not read 1 (b.wav)" in text
    assert "no such recording 4 (0.wav, 1.wav, 2.wav, ...)" in text and "broken: none" not in text
    pictures = Memory({"image": [str(tmp_path / "b.wav"), str(tmp_path / "no.png")]}, {"image": "image"})
    text = render(inspect(lambda split: pictures))
    assert f"broken: broken image 1 ({tmp_path / 'b.wav'}), no such image file 1 ({tmp_path / 'no.png'})" in text


def test_a_target_of_sentences_is_no_class():
    source = Memory({"source": [f"dog {i}" for i in range(60)], "target": [f"Hund {i}" for i in range(60)]})
    numbers = Memory({"target": [str(i % 3) for i in range(60)]})
    assert inspect(lambda split: source)["splits"]["train"]["classes"] == {}
    assert inspect(lambda split: numbers)["splits"]["train"]["classes"] == {"target": {"0": 20, "1": 20, "2": 20}}


def test_duplicates_are_whole_rows_and_equal_content_with_another_label_is_told():
    """Of a table, of texts and of files: the price tells rows apart, the label tells of a contradiction."""
    table = Memory(
        {
            "city": ["Rome", "Rome", "Oslo", "Oslo", "Rome"],
            "price": np.array([1.5, 2.5, 3.5, 3.5, 1.5]),
            "clicked": np.array([0, 0, 0, 1, 0]),
        }
    )
    report = inspect(lambda split: table, labels=("clicked",))
    train = report["splits"]["train"]
    assert (train["duplicates"], train["conflicts"]) == (1, 2) and report["shared"]["train/test"] == 5
    assert "records whose content occurs with another label: 2" in render(report)
    said = [f"a rather long opinion {place}" for place in (1, 1, 2, 3)]
    texts = Memory({"idx": np.arange(4), "text": said, "label": np.array([0, 1, 0, 0])})
    train = inspect(lambda split: texts)["splits"]["train"]
    assert (train["duplicates"], train["conflicts"]) == (0, 2)
    pixels = np.zeros((3, 2, 2), np.uint8)
    pictures = Memory({"image": pixels, "label": np.array([0, 0, 1]), "file": ["a.png", "b.png", "c.png"]})
    train = inspect(lambda split: pictures)["splits"]["train"]
    assert (train["duplicates"], train["conflicts"]) == (1, 3)
    assert "another label" not in render(inspect(lambda split: Memory({"text": ["a", "b"]})))


def test_boxes_are_counted_by_class_and_picture(tmp_path):
    data = BoxFolder(path=str(write_coco(tmp_path, drawn(6))), validation=0.0, test=0.0)
    report = inspect(data.open)
    things = [thing for picture in drawn(6) for thing in picture.things]
    about = report["splits"]["train"]["boxes"]["boxes"]
    assert about["labels"] == dict(Counter(thing.label for thing in things).most_common())
    assert about["numbers"]["max"] == max(len(picture.things) for picture in drawn(6))
    assert about["sides"]["max"] == max(thing.box[2] - thing.box[0] for thing in things)
    assert "boxes a picture: min" in render(report)
