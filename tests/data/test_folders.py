"""Folders of images, recordings and texts: which folder is a split and which a class, and what is left out."""

import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from suite.data import notes
from suite.data.sources.datasets import Folder, Table, from_path, read_input
from suite.data.sources.memory import named_split
from suite.data.sources.speech import AudioManifest
from suite.data.sources.split_names import split_of
from suite.errors import InputError


def picture(path, level=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(path)


def tree(root, *folders, count=3):
    for folder in folders:
        for i in range(count):
            picture(root / folder / f"{i}.png", i)
    return str(root)


def labels(source):
    columns = source[np.arange(len(source))]
    return {source.classes["label"][place] for place in columns["label"]}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *[
            (name, "train")
            for name in ("train", "Training", "TRAIN_SET", "trainset", "train images", "seg_train", "trn")
        ],
        *[(name, "validation") for name in ("val", "Valid", "dev", "development", "validation-set", "val2017")],
        *[(name, "test") for name in ("Testing", "test_data", "testset", "seg_test", "eval", "Evaluation")],
        *[(name, "") for name in ("trains", "valley", "device", "red", "tests", "latest", "training plan", "")],
    ],
)
def test_names_of_splits(name, split):
    assert split_of(name) == split
    assert (
        named_split([name, f" {name} "]).tolist()
        == [("train", "validation", "test", "").index(split) if split else -1] * 2
    )


@pytest.mark.parametrize(
    ("train", "test"),
    [("Training", "Testing"), ("train_set", "TEST_SET"), ("seg_train/seg_train", "seg_test/seg_test")],
)
def test_folders_of_splits_by_any_usual_name(tmp_path, train, test):
    path = tree(tmp_path / "photos", f"{train}/red", f"{train}/blue", f"{test}/red", f"{test}/blue", count=4)
    source = Folder(path=path, validation=0.0).open("train")
    assert len(source) == 8 and labels(source) == {"red", "blue"}
    assert len(Folder(path=path).open("test")) == 8
    first = train.partition("/")[0]
    assert [note for note in source.notes if f'"{first}" as train' in note]


def test_splits_within_the_folders_of_classes(tmp_path):
    path = tree(tmp_path, "red/train", "red/test", "blue/train", "blue/test")
    source = Folder(path=path, validation=0.0).open("train")
    assert labels(source) == {"red", "blue"} and len(source) == 6
    assert set(source[np.arange(6)]["file"]) == {
        f"{label}/train/{i}.png" for label in ("red", "blue") for i in range(3)
    }
    assert '"test", "train"' in source.notes[0]


def test_a_class_called_train_is_said_to_be_one(tmp_path):
    path = tree(tmp_path, "train", "bus", "car")
    source = Folder(path=path, validation=0.0, test=0.0).open("train")
    assert labels(source) == {"train", "bus", "car"}
    assert "taken for a class" in source.notes[0]


def test_a_split_without_classes_beside_classes_is_left_out(tmp_path):
    path = tree(tmp_path, "test", "bus", "car")
    source = Folder(path=path, validation=0.0, test=0.0).open("train")
    assert labels(source) == {"bus", "car"} and source.dropped == {"in no class folder": 3}
    assert source.dropped_names == {"in no class folder": [f"test/{i}.png" for i in range(3)]}


def test_splits_and_classes_side_by_side_are_refused_with_a_command_that_works(tmp_path):
    path = tree(tmp_path / "my photos", "Training/red", "Testing/red", "no split", count=1)
    with pytest.raises(InputError, match="side by side") as error:
        from_path(path).open("train")
    assert os.system(error.value.fix) == 0
    assert Folder(path=path, validation=0.0).open("train").classes == {"label": ["red"]}


def test_classes_that_a_split_lacks_and_that_look_alike_are_told(tmp_path):
    path = tree(tmp_path, "train/Red", "train/blue", "train/unsup", "test/red", "test/blue")
    notes = Folder(path=path, validation=0.0).open("train").notes
    assert 'no file of train is of the class "red"' in notes
    assert 'no file of test is of the class "Red", "unsup"' in notes
    assert 'different classes of nearly equal names: "Red", "red"' in notes


def litter(root):
    """Files that are left out: hidden ones, those of systems, other kinds, empty ones, links to nothing and above."""
    for name in ("._0.png", ".DS_Store", "Thumbs.db"):
        (root / "red" / name).write_bytes(b"x")
    picture(root / "@eaDir" / "0.png" / "SYNO.jpg")
    (root / "red" / "notes.pdf").write_bytes(b"x")
    (root / "blue" / "labels.txt").write_text("x")
    (root / "blue" / "none.png").write_bytes(b"")
    picture(root / "top.png")
    (root / "blue" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "blue" / "above").symlink_to(root)
    picture(root / "blue" / os.fsdecode(b"\xff.png"))


def test_everything_that_a_folder_leaves_out_is_counted_and_named(tmp_path):
    path = tree(tmp_path, "red", "blue")
    litter(tmp_path)
    source = Folder(path=path, validation=0.0, test=0.0).open("train")
    assert len(source) == 6
    assert source.dropped == {
        "hidden file": 4,
        "not image": 2,
        "empty file": 1,
        "in no class folder": 1,
        "cannot be opened": 1,
        "link to a folder above": 1,
        "name that is not UTF-8": 1,
    }
    assert source.dropped_names["hidden file"] == ["@eaDir/", "red/.DS_Store", "red/._0.png"]
    assert source.dropped_names["not image"] == ["blue/labels.txt", "red/notes.pdf"]
    said = notes.notes({"train": source, "validation": source})
    assert "train, validation: 4 left out, hidden file: @eaDir/, red/.DS_Store, red/._0.png, ..." in said
    assert r"train, validation: 1 left out, name that is not UTF-8: blue/\udcff.png" in said


def test_what_an_archive_leaves_out_is_counted_and_named(tmp_path):
    tree(tmp_path / "photos", "red", "blue")
    litter(tmp_path / "photos")
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "photos", "photos")
    source = Folder(path=str(tmp_path / "photos.tar.gz"), validation=0.0, test=0.0).open("train")
    assert len(source) == 6
    assert source.dropped["hidden file"] == 4 and source.dropped["not image"] == 2 and source.dropped["link"] == 2
    assert source.dropped["empty file"] == source.dropped["name that is not UTF-8"] == 1


def test_predicting_a_folder_leaves_out_what_training_does(tmp_path):
    tree(tmp_path, "red", "blue")
    litter(tmp_path)
    (tmp_path / "red" / "a.wav").write_bytes(b"x")
    said = []
    files = read_input(str(tmp_path), "image", kind="image", say=said.append)["file"]
    assert files == [
        str(tmp_path / name) for name in (*(f"{c}/{i}.png" for c in ("blue", "red") for i in range(3)), "top.png")
    ]
    assert "4 left out, hidden file: @eaDir/, red/.DS_Store, red/._0.png, ..." in said
    assert "3 left out, of another kind: blue/labels.txt, red/a.wav, red/notes.pdf" in said
    with pytest.raises(InputError, match="no recording in this folder") as error:
        read_input(tree(tmp_path / "more", "blue"), "audio", kind="audio", say=said.append)
    assert "left out" in error.value.found


@pytest.mark.parametrize("names", [("Training", "TESTING"), ("train_set", "test_set"), ("mnist_train", "mnist_test")])
def test_files_of_splits_by_any_usual_name(tmp_path, names):
    for place, name in enumerate(names):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + f"some words,{place}\n" * 5)
    (tmp_path / f"._{names[0]}.csv").write_bytes(b"of a Mac")
    (tmp_path / "sample_submission.csv").write_text("id\n1\n")
    data = from_path(str(tmp_path))
    assert isinstance(data, Table)
    test = data.open("test")
    assert set(test[np.arange(len(test))]["label"]) == {1}
    assert f"{names[1]}.csv as test" in test.notes[0]
    assert test.notes[1] == "files that name no split, and are not read: sample_submission.csv"


def test_columns_of_splits_by_any_usual_name(tmp_path):
    path = tmp_path / "d.csv"
    names = ("Training", "training", "Testing", "extra", "Dev")
    path.write_text("text,part\n" + "".join(f"words {i},{name}\n" for i, name in enumerate(names)))
    source = Table(path=str(path), split="part").open("train")
    assert source[np.arange(len(source))]["text"] == ["words 0", "words 1"]
    assert source.dropped == {"names no split": 1} and source.dropped_names == {"names no split": ["record 4"]}
    path.write_text("text,part\n" + "".join(f"words {i},{('Training', 'Testing')[i % 3 == 0]}\n" for i in range(60)))
    (note,) = Table(path=str(path)).open("train").notes
    assert note.endswith("--task.data.split part")
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio": "a.wav", "split": "TRAINING"}\n{"audio": "b.wav", "split": "Testing"}\n')
    assert AudioManifest(path=str(manifest)).open("test")[np.arange(1)]["file"] == ["b.wav"]


def test_lines_arrays_and_pairs_of_splits_by_any_usual_name(tmp_path):
    pairs, arrays, lines = tmp_path / "pairs", tmp_path / "a.npz", tmp_path / "lines"
    pairs.mkdir(), lines.mkdir()
    for name in ("Training.de", "Training.en", "Development.de", "Development.en"):
        (pairs / name).write_text(f"{name}\n")
    data = from_path(str(pairs))
    assert {split: data.open(split)[np.arange(1)]["source"] for split in ("train", "validation")} == {
        "train": ["Training.de"],
        "validation": ["Development.de"],
    }
    np.savez(arrays, x_training=np.zeros((4, 2)), x_testing=np.ones((3, 2)))
    assert from_path(str(arrays)).open("test")[np.arange(3)]["x"].sum() == 6
    for name in ("Training.txt", "Testing.txt"):
        (lines / name).write_text(f"{name}\n" * 30)
    test = from_path(str(lines)).open("test")
    assert test[np.arange(1)]["text"] == ["Testing.txt"] and "Testing.txt as test" in test.notes[0]
