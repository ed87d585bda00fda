"""Tables of items: one record an item, joined by name; and the tags of items."""

import gzip
import json

import numpy as np
import pytest

from suite.data.preprocessing.item_tags import ItemTags
from suite.data.sources.datasets import Table
from suite.data.sources.item_columns import TagsOfItems, read_items
from suite.data.sources.memory import Memory
from suite.errors import InputError

TRAIN = Memory({"events": [["01", "a"], ["a", "b"], ["c"]]})
"""Histories with four items."""
REPEATED = "item,tags\n01,x\na,y\n,z\n01,w\n"
"""A table in which a row has no item, and another the item of the first."""


def table(folder, text, name="items.csv"):
    (folder / name).write_text(text)
    return Table(path=str(folder / name))


def fitted(tags, folder):
    tags.fit(TRAIN, "events", folder / "tags.json")
    return ItemTags(data=tags.data, file=str(folder / "tags.json"))


def test_an_item_is_read_once_and_what_is_left_out_is_counted(tmp_path):
    source = read_items(table(tmp_path, REPEATED), "item", "tags.item")
    columns = source[np.arange(len(source))]
    assert columns["item"] == ["01", "a"] and list(columns["tags"]) == ["x", "y"]
    assert source.dropped == {"no item": 1, "an item that stands there before": 1}
    assert any("no item" in line for line in fitted(ItemTags(data=table(tmp_path, REPEATED)), tmp_path).notes)


def test_tags_are_those_of_the_training_items_by_frequency(tmp_path):
    tags = fitted(ItemTags(data=table(tmp_path, "item,tags\n01,new|red\na,red\nb,\nother,gold|red\n")), tmp_path)
    assert tags.sizes() == {"size": 2}  # gold is of an item that nobody had
    items, numbers, weights = tags.pairs(["01", "a", "b", "c", "other"])
    assert (items.tolist(), numbers.tolist()) == ([0, 0, 1, 4], [1, 0, 0, 0])  # red is more frequent than new
    assert weights.tolist() == [0.5, 0.5, 1, 1]
    assert tags.notes == ["tags: 2 of 4 items, 2 of which have none"]


def test_tags_of_several_columns_are_told_apart(tmp_path):
    data = table(tmp_path, "item,brand,colour\n01,rose,rose\na,rose,red\n")
    tags = fitted(ItemTags(data=data, columns=("brand", "colour")), tmp_path)
    assert json.loads((tmp_path / "tags.json").read_text())["tags"] == ["brand: rose", "colour: red", "colour: rose"]
    assert tags.pairs(["a"])[1].tolist() == [0, 1]


def test_codes_of_tags_stay_texts(tmp_path):
    fitted(ItemTags(data=table(tmp_path, "item,tags\n01,007\na,7\nb,7.0\n")), tmp_path)
    assert json.loads((tmp_path / "tags.json").read_text())["tags"] == ["007", "7", "7.0"]


@pytest.mark.parametrize("name", ["items.jsonl", "tags.json.gz"])
def test_lists_of_tags_are_read_from_json(tmp_path, name):
    file = tmp_path / name
    if name == "items.jsonl":
        file.write_text('{"item": "a", "tags": ["red", "new"]}\n{"item": "b", "tags": ["red"]}\n')
        data = Table(path=str(file))
    else:
        file.write_bytes(gzip.compress(json.dumps({"a": ["red", "new"], "b": ["red"]}).encode()))
        data = TagsOfItems(path=str(file))
    tags = fitted(ItemTags(data=data), tmp_path)
    assert [part.tolist() for part in tags.pairs(["a", "b"])] == [[0, 0, 1], [0, 1, 0], [0.5, 0.5, 1]]


def test_items_that_no_event_names_are_refused(tmp_path):
    data = table(tmp_path, "item,name,tags\nx,a,red\n")
    with pytest.raises(InputError, match=r"(?s)no item of the training split has a tag.*x; in the events 01") as caught:
        fitted(ItemTags(data=data), tmp_path)
    assert caught.value.fix == "--task.tags.item name"


def test_a_missing_column_of_items_or_tags_is_named(tmp_path):
    data = table(tmp_path, "name,genres\na,red\n")
    with pytest.raises(InputError, match=r"task\.tags\.item"):
        fitted(ItemTags(data=data), tmp_path)
    with pytest.raises(InputError, match=r"task\.tags\.columns"):
        fitted(ItemTags(data=data, item="name"), tmp_path)


@pytest.mark.parametrize("text", ["[1, 2]", '{"a": 1}', "{"])
def test_tags_that_are_no_lists_are_refused(tmp_path, text):
    (tmp_path / "tags.json").write_text(text)
    with pytest.raises(InputError, match=r"tags\.json"):
        TagsOfItems(path=str(tmp_path / "tags.json")).open("train")
