"""Folds: each record of training and validation is held out once, with its like and a share of each class."""

import numpy as np
import pytest

from suite.data.sources.files import Table
from suite.data.sources.folds import Fold, Joined
from suite.data.sources.memory import Memory
from suite.errors import InputError


@pytest.fixture
def rows(tmp_path):
    lines = [f"{place},{'rare' if place % 10 == 0 else 'usual'}" for place in range(100)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["number,kind", *lines, *lines[:20]]) + "\n")
    return Table(path=str(path))


def numbers(source):
    return source.column("number", np.arange(len(source))).tolist()


def test_each_record_is_held_out_once(rows):
    folds = [Fold(data=rows, fold=fold, folds=4) for fold in range(4)]
    held_out = [numbers(fold.open("validation")) for fold in folds]
    known = [*numbers(rows.open("train")), *numbers(rows.open("validation"))]
    assert sorted(number for part in held_out for number in part) == sorted(known)
    assert numbers(folds[0].open("test")) == numbers(rows.open("test"))
    for fold, part in zip(folds, held_out, strict=True):
        assert not set(part) & set(numbers(fold.open("train")))  # equal records are on one side


def test_classes_are_shared_out(rows):
    folds = [Fold(data=rows, fold=fold, folds=4).with_classes("kind") for fold in range(4)]
    held_out = [fold.open("validation") for fold in folds]
    rare = [{number for number in numbers(part) if number % 10 == 0} for part in held_out]
    assert max(map(len, rare)) - min(map(len, rare)) <= 1 < max(map(len, rare))


def test_more_folds_than_records(rows):
    with pytest.raises(InputError, match="2 or more"):
        Fold(data=rows, fold=0, folds=1000).open("train")


def test_joined_sources_keep_their_order():
    one = Memory({"text": ["a", "b"], "size": np.arange(2)})
    other = Memory({"text": ["c"], "size": np.array([7])})
    both = Joined([one, other])
    taken = both[np.array([2, 0, 2, 1])]
    assert taken["text"] == ["c", "a", "c", "b"] and taken["size"].tolist() == [7, 0, 7, 1]
