"""Classes in every classification task: held-out records of classes that training does not have, and missing labels."""

import dataclasses

import numpy as np
import pytest

from suite.contracts.preprocessor import Postprocessor
from suite.data.preprocessing.characters import Characters
from suite.data.preprocessing.text import SentencePiece
from suite.data.sources.datasets import Table
from suite.data.sources.memory import Stacked
from suite.errors import InputError
from suite.evaluation.artifacts import class_artifacts
from suite.evaluation.metrics.classification import classification_scores
from suite.tasks.text.classification import TextClassification
from suite.training.preprocessors import preprocessors_of

ROWS = [f"the text number {i}" for i in range(60)]


def task_on(folder, validation, test):
    """A task whose training split has the classes no and yes, and other splits with the labels given."""
    for split, labels in {"train": ["no", "yes"] * 30, "dev": validation, "test": test}.items():
        lines = [f"{text},{label},{i}" for i, (text, label) in enumerate(zip(ROWS, labels, strict=False))]
        (folder / f"{split}.csv").write_text("\n".join(["text,label,number", *lines]) + "\n")
    return TextClassification(data=Table(path=str(folder)), tokenizer=SentencePiece(vocab_size=40), max_length=8)


def bound(task, folder):
    """The task with what it learns of its training split."""
    fitted = {}
    for name, asset in preprocessors_of(task).items():
        if isinstance(asset, Postprocessor):
            continue
        file, source, column = folder / f"{name}{asset.suffix}", task.source("train"), getattr(task, asset.column)
        if isinstance(column, tuple):
            source, column = Stacked(source, column), column[0]
        asset.fit(source, column, file)
        fitted[name] = dataclasses.replace(asset, file=str(file))
    return dataclasses.replace(task, **fitted)


def test_a_class_of_a_held_back_split_alone(tmp_path):
    """It is told at the start, of validation and of test; its records are wrong answers, and in no loss."""
    task = bound(task_on(tmp_path, ["no", "rare", "", "yes"], ["no", "odd"]), tmp_path)
    validation = task.source("validation")
    assert validation.dropped == {"no label": 1}
    said = "1 of {} records are of classes that training does not have ({}): they count as wrong answers, and are left "
    lines = task.remarks({"train": task.source("train"), "validation": validation})
    assert lines[0].startswith("validation: " + said.format(3, '"rare" 1'))
    assert lines[1].startswith("test: " + said.format(2, '"odd" 1'))
    assert lines[2:] == ['test: no record of "yes"', "columns that are not read: number"]
    assert task.remarks({"validation": validation}) == lines[:1]
    encoded = task.encode(validation[np.arange(3)])
    assert encoded["label"].tolist() == [0, -1, 1]
    logits = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    scores = classification_scores({"logits": logits}, {"mask": np.ones(3, bool), "label": encoded["label"]})
    assert scores["accuracy"].value() == pytest.approx(2 / 3) and scores["accuracy"].count == 3
    assert scores["loss"].value() == pytest.approx(np.log1p(np.exp(-2))) and scores["loss"].count == 2
    shown = class_artifacts(logits, encoded["label"], task.labels.names, lambda i: ROWS[i])
    assert shown["Confusion matrix"].counts.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(InputError, match="'rare' is not a class of the training split"):
        task.encode(validation[np.arange(3)], np.random.default_rng(0))


def test_balanced_classes_count_as_much(tmp_path):
    """Of 20 records of one class and 40 of the other, those of the first weigh twice as much; a record 1 on average."""
    task = task_on(tmp_path, ["no", "yes"], ["no"])
    (tmp_path / "train.csv").write_text(
        "text,label\n" + "".join(f"{text},{('no', 'yes', 'yes')[i % 3]}\n" for i, text in enumerate(ROWS))
    )
    task = bound(dataclasses.replace(task, class_weight="balanced"), tmp_path)
    logits, labels = np.zeros((3, 2), np.float32), np.array([0, 1, 1])
    np.testing.assert_allclose(task.cross_entropy(logits, labels), np.log(2) * np.array([1.5, 0.75, 0.75]), rtol=1e-6)
    assert np.bincount(task.strata(task.source("train"))).tolist() == [20, 40]
    plain = dataclasses.replace(task, class_weight="none")
    np.testing.assert_allclose(plain.cross_entropy(logits, labels), np.log(2), rtol=1e-6)
    (tmp_path / "labels.json").write_text('{"names": ["no", "yes"], "indexed": false}')  # of version 0.1
    with pytest.raises(InputError, match="the records of each class are not known"):
        task.remarks({"train": task.source("train")})


def test_a_split_of_unknown_classes_alone_is_refused(tmp_path):
    open_task = task_on(tmp_path, ["maybe"] * 3, ["?"] * 3)
    task = bound(open_task, tmp_path)
    with pytest.raises(InputError, match=r"'\?' is not a class of the training split"):
        task.source("test")
    with pytest.raises(InputError, match="'maybe' is not a class of the training split"):
        task.remarks({"train": task.source("train"), "validation": open_task.source("validation")})


def test_a_test_split_without_labels_is_no_hindrance(tmp_path):
    task = bound(task_on(tmp_path, ["no", "yes"], ["no"]), tmp_path)
    (tmp_path / "test.csv").write_text("text\nwithout a label\n")
    splits = {split: task.source(split) for split in ("train", "validation")}
    assert task.remarks(splits) == ["columns that are not read: number"]


def test_classes_of_one_record_each_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"text {i},class {i}\n" for i in range(15)))
    task = TextClassification(data=Table(path=str(tmp_path / "t.csv"), validation=0.3, test=0.3), max_length=8)
    splits = {split: task.source(split) for split in ("train", "validation")}
    with pytest.raises(
        InputError, match="column label: each class of train has one record, and validation none of them"
    ):
        task.remarks(splits)
    one_shot = task_on(tmp_path, ["no", "yes"], ["no"])
    (tmp_path / "train.csv").write_text("text,label\na,no\nb,yes\n")
    one_shot = bound(dataclasses.replace(one_shot, tokenizer=Characters()), tmp_path)
    assert one_shot.remarks({split: one_shot.source(split) for split in ("train", "validation")})
