"""Splits that data make themselves: each class in each split where it can be, in every format, and as before in runs
of before."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from suite.data.class_names import class_name
from suite.data.sources import tables
from suite.data.sources.datasets import SPLITS, ArrayFile, Folder, Table
from suite.data.sources.sampling import Sample
from suite.data.sources.speech import AudioManifest
from suite.data.sources.splitting import own_split, small_classes
from suite.errors import InputError
from suite.experiment.serialization import from_json, to_json

SHARES = (0.1, 0.1)
COUNTS = {"often": 300, "seldom": 30, "three": 3, "two": 2, "one": 1}


def records():
    """(text, label) of classes of very different sizes."""
    return [(f"text {i} of {name}", name) for name, count in COUNTS.items() for i in range(count)]


def labels_by_split(data, column="label"):
    """Split -> how often each class is in it."""
    counts = {}
    for split in SPLITS:
        source = data.open(split)
        counts[split] = Counter(source[np.arange(len(source))][column])
    return counts


def test_each_class_is_in_each_split_where_it_can_be():
    keys, names = zip(*records(), strict=True)
    part = own_split(keys, 0, SHARES, names)
    counts = {name: np.bincount(part[np.array(names) == name], minlength=3).tolist() for name in COUNTS}
    assert counts["seldom"] == [24, 3, 3] and counts["three"] == [1, 1, 1]
    assert counts["two"] == [1, 1, 0] and counts["one"] == [1, 0, 0]
    large = np.array(names) == "often"
    np.testing.assert_array_equal(part[large], own_split(keys, 0, SHARES)[large])  # by the hash alone


@pytest.mark.parametrize("seed", range(5))
def test_no_order_of_records_and_no_repetition_changes_the_split(seed):
    keys, names = map(list, zip(*records(), strict=True))
    part = dict(zip(keys, own_split(keys, seed, SHARES, names), strict=True))
    order = np.random.default_rng(seed).permutation(len(keys))
    again = own_split([keys[i] for i in order], seed, SHARES, [names[i] for i in order])
    assert dict(zip([keys[i] for i in order], again, strict=True)) == part
    twice = own_split(keys * 2, seed, SHARES, names * 2)
    np.testing.assert_array_equal(twice[: len(keys)], twice[len(keys) :])


def test_a_class_of_equal_records_is_trained_on():
    """Its records share a split, whatever their number, and that is train."""
    keys = [f"text {i}" for i in range(1000)] + ["again"] * 500
    names = ["other"] * 1000 + ["same"] * 500
    for seed in range(20):
        assert not own_split(keys, seed, (0.4, 0.4), names)[1000:].any()


def test_quantities_and_ids_are_no_classes():
    keys = [f"text {i}" for i in range(120)]
    plain = own_split(keys, 0, SHARES)
    for names in (keys, ["one"] * 120, [""] * 120):
        np.testing.assert_array_equal(own_split(keys, 0, SHARES, names), plain)
    assert small_classes(Counter({("a", 0): 5, ("b", 0): 5, ("", 1): 5}), SHARES) == {"a", "b"}


def test_many_small_classes_do_not_empty_training():
    names = [f"class {i % 100}" for i in range(300)]
    part = own_split([f"text {i}" for i in range(300)], 0, SHARES, names)
    assert (part == 0).mean() > 0.5 and {names[i] for i in np.flatnonzero(part == 0)} == set(names)


def test_splits_are_not_emptied_for_the_sake_of_classes():
    """Of classes of one record each all would be trained on."""
    keys = [f"text {i}" for i in range(18)]
    plain = own_split(keys, 0, (0.3, 0.3))
    assert set(plain) == {0, 1, 2}
    np.testing.assert_array_equal(own_split(keys, 0, (0.3, 0.3), [f"class {i}" for i in range(18)]), plain)


def written(path):
    """A table of the records in the format that its name says."""
    texts, names = zip(*records(), strict=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts, "label": names}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in records()))
    else:
        comma = "\t" if path.suffix == ".tsv" else ","
        path.write_text("".join(f"{t}{comma}{n}\n" for t, n in [("text", "label"), *records()]))
    return str(path)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
def test_tables_of_every_format(tmp_path, name):
    counts = labels_by_split(Table(path=written(tmp_path / name)).with_classes("label"))
    assert counts["train"]["one"] == 1 and all(counts[split]["three"] == 1 for split in SPLITS)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_table_that_is_not_held_in_memory_has_the_same_splits(tmp_path, monkeypatch, name):
    monkeypatch.setattr(tables, "CHUNK", 50)
    path = written(tmp_path / name)
    whole = Table(path=path).with_classes("label")
    streamed = Table(path=path, in_memory=10).with_classes("label")
    assert [list(map(list, streamed.open(s)[np.arange(30)].values())) for s in SPLITS] == [
        list(map(list, whole.open(s)[np.arange(30)].values())) for s in SPLITS
    ]
    assert labels_by_split(streamed) == labels_by_split(whole)


def test_validation_that_is_held_out_of_train(tmp_path):
    """A folder of tables and an .npz that have no validation of their own."""
    (tmp_path / "d").mkdir()
    for split in ("train", "test"):
        written(tmp_path / "d" / f"{split}.csv")
    counts = labels_by_split(Table(path=str(tmp_path / "d")).with_classes("label"))
    assert counts["validation"]["three"] == 1 and counts["train"]["one"] == 1 and counts["test"]["one"] == 1
    classes = np.repeat(np.arange(5), list(COUNTS.values()))
    arrays = {"x": np.arange(len(classes)), "y": classes}
    np.savez(tmp_path / "a.npz", **{f"{name}_{s}": array for name, array in arrays.items() for s in ("train", "test")})
    counts = labels_by_split(ArrayFile(path=str(tmp_path / "a.npz")).with_classes("label"))
    assert counts["validation"][2] == 1 and counts["train"][4] == 1
    np.savez(tmp_path / "b.npz", **arrays)
    counts = labels_by_split(ArrayFile(path=str(tmp_path / "b.npz")).with_classes("label"))
    assert [counts[split][2] for split in SPLITS] == [1, 1, 1] and counts["train"][4] == 1


def test_folders_and_manifests(tmp_path):
    for name, count in {"cat": 3, "dog": 12, "eel": 1}.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("L", (2, 2)).save(tmp_path / "photos" / name / f"{i}.png")
    counts = labels_by_split(Folder(path=str(tmp_path / "photos")))
    assert [counts[split][0] for split in SPLITS] == [1, 1, 1] and counts["train"][2] == 1
    rows = [{"audio": f"{text}.wav", "label": name} for text, name in records()]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    manifest = AudioManifest(path=str(tmp_path / "m.jsonl"))
    counts = labels_by_split(Sample(data=manifest).with_classes("label"))
    assert [counts[split]["three"] for split in SPLITS] == [1, 1, 1] and counts["train"]["one"] == 1


def test_data_of_a_stored_experiment_keep_the_splits_they_had(tmp_path):
    path = written(tmp_path / "t.csv")
    for kind, plain in ((Table, ""), (ArrayFile, ""), (AudioManifest, ""), (Folder, False)):
        stored = to_json(kind(path=path))
        assert from_json(stored) == kind(path=path)
        del stored["stratify"]
        assert from_json(stored) == kind(path=path, stratify=plain)
    of_before = Table(path=path, stratify="").with_classes("label")
    part = own_split(list(tables.keys(tables.load(tmp_path / "t.csv"))), 0, SHARES)
    assert [len(of_before.open(split)) for split in SPLITS] == np.bincount(part).tolist()


def test_a_column_that_is_stated_is_not_changed_by_the_task(tmp_path):
    assert Table(path="t.csv", stratify="kind").with_classes("label").stratify == "kind"


def test_a_split_without_a_share_is_empty_as_ever(tmp_path):
    with pytest.raises(InputError, match="the test split is empty"):
        Table(path=written(tmp_path / "t.csv"), test=0).with_classes("lable").open("test")


def test_class_names_tell_missing_labels_from_words():
    assert [class_name(value) for value in (None, float("nan"), "", " ")] == [""] * 4
    assert [class_name(value) for value in ("None", "NA", "nan", "null", " a ")] == ["None", "NA", "nan", "null", "a"]
    assert [class_name(value) for value in (1, 1.0, np.float64(1), np.int8(1), b"1")] == ["1"] * 5
