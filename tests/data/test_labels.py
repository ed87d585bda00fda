"""Labels: which columns hold classes, which records have one, and what is said of classes before training."""

from collections import Counter

import numpy as np
import pytest

from suite.data.preprocessing.columns import unread_columns, without_missing_labels
from suite.data.preprocessing.label_checks import counted, remarks, several
from suite.data.preprocessing.labels import UNSEEN, Labels
from suite.data.sources.datasets import Memory, Table
from suite.errors import InputError


def fitted(tmp_path, values, classes=None, **others):
    Labels().fit(Memory({"label": values, **others}, classes=classes), "label", tmp_path / "l.json")
    return Labels(file=str(tmp_path / "l.json"))


@pytest.mark.parametrize("word", ["None", "NA", "N/A", "null", "nan", "NaN"])
def test_a_class_may_be_called_so(tmp_path, word):
    """A text of a CSV is no gap; an empty cell and a null are."""
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"text {i},{(word, 'mild')[i % 2]}\n" for i in range(40)))
    source = Table(path=str(tmp_path / "t.csv"), validation=0, test=0).open("train")
    assert len(without_missing_labels(source, "label")) == 40
    assert fitted(tmp_path, source.column("label", np.arange(40))).names == sorted([word, "mild"])


@pytest.mark.parametrize("missing", [None, "", "  "])
def test_records_without_a_label_are_dropped_and_counted(missing):
    source = without_missing_labels(Memory({"label": ["a", missing, "None"]}), "label")
    assert source[np.arange(2)]["label"] == ["a", "None"] and source.dropped == {"no label": 1}
    numbers = without_missing_labels(Memory({"label": np.array([1, np.nan, 2])}), "label")
    assert numbers[np.arange(2)]["label"].tolist() == [1, 2]
    told = r"column label: no record has a label\.\n  found: 2 left out, no label: record 1, record 2"
    with pytest.raises(InputError, match=told):
        without_missing_labels(Memory({"label": [missing, missing]}), "label")


def test_a_quantity_is_no_label(tmp_path):
    rng = np.random.default_rng(0)
    kinds = [("calm", "angry")[i % 2] for i in range(120)]
    with pytest.raises(InputError) as error:
        fitted(tmp_path, rng.random(120).round(3) * 10, id=np.arange(120), kind=kinds)
    assert str(error.value).splitlines()[0] == (
        "column label: holds 113 different numbers in 120 training records: a quantity, not classes"
    )
    assert error.value.fix == "--task.label kind"
    with pytest.raises(InputError) as error:
        fitted(tmp_path, rng.random(120))
    assert error.value.fix.endswith("or predict the quantity itself: text.regress, vision.regress and table.predict do")
    with pytest.raises(InputError, match="40 different numbers in 4,000 training records: a quantity"):
        fitted(tmp_path, np.arange(4000) % 40 / 8)


def test_the_records_of_each_class_are_kept(tmp_path):
    labels = fitted(tmp_path, ["b", "a", "b", "True", "true"])
    assert dict(zip(labels.names, labels.counts, strict=True)) == {"a": 1, "b": 2, "True": 2}
    assert fitted(tmp_path, np.array([0, 2, 2, 1, 2]), classes={"label": ["x", "y", "z"]}).counts == [1, 1, 3]
    (tmp_path / "old.json").write_text('{"names": ["a", "b"], "indexed": false}')
    assert Labels(file=str(tmp_path / "old.json")).counts == []


def test_ids_and_free_texts_are_no_labels(tmp_path):
    for values, kind in (
        (np.arange(100), "100 different numbers in 100 training records: a quantity or an identifier, not classes"),
        ([f"text {i}" for i in range(100)], "100 different texts in 100 training records: free text or identifiers"),
    ):
        with pytest.raises(InputError, match=kind):
            fitted(tmp_path, values)
    with pytest.raises(InputError, match="holds lists: several labels a record") as error:
        fitted(tmp_path, [["a", "b"], ["a"]] * 20, **{"main genre": ["a", "b"] * 20})
    assert error.value.fix == "--task.label 'main genre'"
    others = {"said": ["one", "two", "three", "four"] * 10, "who": ["a", "b"] * 20}
    for name, proposed in (("note", "who"), ("a label", "'a label'")):  # the name decides, then the fewest classes
        with pytest.raises(InputError) as error:
            fitted(tmp_path, np.arange(40) / 7, **others, **{name: ["x", "y", "z", "w", "v"] * 8})
        assert error.value.fix == f"--task.label {proposed}"


def test_quantities_of_a_manifest_are_no_labels(tmp_path):
    """Whose columns are lists, of numbers as JSON has them."""
    with pytest.raises(InputError, match="40 different numbers in 40 training records: a quantity, not classes"):
        fitted(tmp_path, [i / 7 for i in range(40)])


def test_many_classes_of_few_records_are_classes(tmp_path):
    assert len(fitted(tmp_path, [f"intent {i % 30}" for i in range(42)]).names) == 30


def test_few_numbers_are_classes(tmp_path):
    assert fitted(tmp_path, np.array([0.5, 1.0, 10, 2.0] * 5)).names == ["0.5", "1", "2", "10"]
    assert fitted(tmp_path, np.array([1, -1])).names == ["-1", "1"]
    assert len(fitted(tmp_path, np.arange(300) % 100).names) == 100


def test_truth_values_are_two_classes_however_they_are_written(tmp_path):
    for values in (["True", "false", "TRUE"], [True, False, True], np.array([True, False])):
        labels = fitted(tmp_path, values)
        assert labels.names == ["False", "True"]
        for same in (["true", "FALSE"], [True, False], [1, 0], ["1", "0"], np.array([True, False])):
            assert labels.encode(same).tolist() == [1, 0]
    assert fitted(tmp_path, np.array([0, 1])).encode([True, "false"]).tolist() == [1, 0]


def test_blanks_around_labels_do_not_count(tmp_path):
    labels = fitted(tmp_path, [" spam", "spam ", "ham"])
    assert labels.names == ["ham", "spam"] and labels.encode(["\tspam"]).tolist() == [1]


def test_a_class_of_held_out_records_alone(tmp_path):
    labels = fitted(tmp_path, ["spam", "ham"])
    assert labels.encode(["ham", "rare"], held_out=True).tolist() == [0, UNSEEN]
    named = fitted(tmp_path, np.array([1, 0]), {"label": ["cat", "dog"]})
    assert named.encode(np.array([1, -1, 2]), held_out=True).tolist() == [1, UNSEEN, UNSEEN]
    with pytest.raises(InputError, match="'2' is not a class of the training split"):
        named.encode(np.array([1, 2]))


def test_what_is_said_of_classes():
    train = Counter({"a": 9, "b": 8, "B ": 1, "one": 1})
    assert remarks("label", {"train": train, "validation": Counter(a=2, rare=1, odd=1)}) == [
        'column label: different classes of nearly equal names: "b" 8, "B " 1',
        'column label: classes of one record, which is trained on and leaves none to measure: "B ", "one"',
        'validation: 2 of 4 records are of classes that training does not have ("rare" 1, "odd" 1): they count as '
        "wrong answers, and are left out of the loss",
        'validation: no record of "b"',
    ]
    assert remarks("label", {"train": Counter(a=5, b=5), "test": Counter(a=1, b=1, c=2)}, answers=("a", "b", "c")) == [
        'test: nothing is learnt of classes that training has no record of: "c" 2'
    ]
    many = Counter({f"class {i}": 2 for i in range(30)})
    assert remarks("label", {"train": many, "test": Counter()}) == [
        "column label: 30 classes with 2.0 training records each, on average"
    ]
    halves = counted(np.arange(40) % 4 / 2)
    assert remarks("stars", {"train": halves}, numeric=True) == [
        'column stars: numbers with fractions, each of which is a class of its own: "0", "0.5", "1", "1.5"'
    ]
    assert remarks("label", {"train": Counter(a=5, b=5), "validation": Counter(a=1, b=1)}) == []


def test_several_labels_of_a_record_are_told():
    assert several(Counter(["drama|comedy", "drama", "comedy|horror", "horror"])) == "|"
    assert several(Counter(["Rome, Italy", "Oslo, Norway", "Lima, Peru"])) == ""
    lines = remarks("genre", {"train": Counter({"a,b": 5, "a": 5, "b,c": 5})})
    assert lines == [
        "column genre: labels with ',' look like several labels of a record; each combination is a class of its own: "
        '"a,b", "b,c"'
    ]


def test_columns_that_are_not_read_are_told():
    texts = [f"a text of some words {i}" for i in range(50)]
    source = Memory(
        {"text": texts, "title": [f"the title of {i}" for i in range(50)], "label": [0] * 50, "file": texts}
    )
    assert unread_columns(source, {"text", "label"}, Table(path="t.csv")) == [
        "columns that are not read: title",
        'column "title" holds texts as "text" does, and is not read: one column of texts is',
    ]
    assert unread_columns(source, {"text", "label", "title"}, Table(path="t.csv")) == []
    assert unread_columns(source, {"text", "label"}, Table(path="t.csv", split="title")) == []


def test_inspection_tells_the_classes(tmp_path):
    source = Memory({"label": ["a", "b", "a", "one"], "score": np.arange(4) / 3, "kind": np.array([0, 1, 0, 1])})
    assert Labels().describe(source, "label").splitlines() == [
        "column label: 3 classes: a 2, b 1, one 1",
        'column label: classes of one record, which is trained on and leaves none to measure: "b", "one"',
    ]
    many = Memory({"label": np.arange(100), "kind": np.arange(100) % 2})
    assert "100 different numbers" in Labels().describe(many, "label")
    assert Labels().describe(Memory({"label": np.array([0])}, classes={"label": ["a", "b"]}), "label") == ""


def test_data_that_name_one_class_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is only one class"):
        fitted(tmp_path, np.zeros(4, int), {"label": ["cat"]})
