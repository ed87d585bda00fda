"""Parallel lines: how the two files of a split are found and read, and what is refused."""

import gzip

import numpy as np
import pytest

from suite.data.sources.datasets import ParallelLines, Table, from_path
from suite.data.sources.memory import Memory, Stacked
from suite.errors import InputError

ENGLISH = [f"the dog {i} runs" for i in range(40)]
GERMAN = [f"der Hund {i} läuft" for i in range(40)]


@pytest.fixture
def folder(tmp_path):
    """One split packed, one with .txt, one plain."""
    (tmp_path / "train.en.gz").write_bytes(gzip.compress("\n".join(ENGLISH).encode() + b"\n"))
    (tmp_path / "train.de").write_text("\n".join(GERMAN) + "\n", encoding="utf-8")
    for name, lines in (
        ("val.en.txt", ENGLISH[:3]),
        ("val.de.txt", GERMAN[:3]),
        ("test_2016.en", ENGLISH[:2]),
        ("test_2016.de", GERMAN[:2]),
    ):
        (tmp_path / name).write_text("\r\n".join(lines), encoding="utf-8", newline="")
    return tmp_path


def all_of(source):
    return source[np.arange(len(source))]


def test_files_are_found_packed_and_by_their_other_names(folder):
    data = ParallelLines(path=str(folder), test_name="test_2016")
    assert all_of(data.open("train")) == {"source": ENGLISH, "target": GERMAN}
    assert all_of(data.open("validation")) == {"source": ENGLISH[:3], "target": GERMAN[:3]}
    assert all_of(data.open("test")) == {"source": ENGLISH[:2], "target": GERMAN[:2]}
    back = ParallelLines(path=str(folder), source="de", target="en")
    assert all_of(back.open("train")) == {"source": GERMAN, "target": ENGLISH}


def test_validation_is_carved_from_train_and_pairs_stay_together(folder):
    (folder / "val.en.txt").unlink()
    (folder / "val.de.txt").unlink()
    data = ParallelLines(path=str(folder), validation=0.3)
    train, held_out = all_of(data.open("train")), all_of(data.open("validation"))
    assert sorted(train["source"] + held_out["source"]) == sorted(ENGLISH) and held_out["source"]
    assert dict(zip(ENGLISH, GERMAN, strict=True)).items() >= dict(zip(*held_out.values(), strict=True)).items()


def test_only_a_line_feed_ends_a_line(folder):
    """str.splitlines would part the first line in three, and every later pair would be a wrong one."""
    (folder / "val.en.txt").write_text("one\u2028sentence\x85with odd characters\n\nlast", encoding="utf-8")
    pairs = all_of(ParallelLines(path=str(folder)).open("validation"))
    assert pairs["source"] == ["one\u2028sentence\x85with odd characters", "", "last"]


def refusal(data, split="train"):
    with pytest.raises(InputError) as error:
        data.open(split)
    return str(error.value)


def test_files_of_different_length(folder):
    (folder / "val.de.txt").write_text("eins\nzwei\n")
    assert refusal(ParallelLines(path=str(folder)), "validation") == (
        "val.en.txt and val.de.txt: line i of one must say what line i of the other says.\n"
        "  found: 3 and 2 lines\n"
        "  try:   remove the lines that have no translation"
    )


def test_a_file_without_its_counterpart(folder):
    (folder / "val.de.txt").unlink()
    assert refusal(ParallelLines(path=str(folder)), "validation") == (
        f"{folder / 'val.en.txt'}: has no counterpart val.de.\n  try:   add it, or remove this one"
    )


def test_other_languages_than_those_of_the_files(folder):
    assert refusal(ParallelLines(path=str(folder), source="fr", target="it")) == (
        f"{folder}: no train.fr and train.it in this folder: data.source and data.target say the endings.\n"
        "  found: test_2016.de, test_2016.en, train.de, train.en.gz, val.de.txt, val.en.txt\n"
        "  try:   --task.data.source SOURCE --task.data.target TARGET"
    )


def test_a_split_that_is_not_there(folder):
    assert "there is no split 'test'" in refusal(ParallelLines(path=str(folder)), "test")


def test_a_path_is_taken_for_parallel_lines_where_two_files_are_named_train(folder, tmp_path_factory):
    assert from_path(str(folder)) == ParallelLines(path=str(folder), source="de", target="en")
    tables = tmp_path_factory.mktemp("tables")
    (tables / "train.csv").write_text("source,target\na,b\n")
    (tables / "train.info").write_text("a table with a note beside it")
    assert from_path(str(tables)) == Table(path=str(tables))


def test_columns_are_stacked_in_any_order_of_reading():
    source = Memory({"a": ["a0", "a1", "a2"], "b": ["b0", "b1", "b2"], "n": np.arange(3)})
    stacked = Stacked(source, ("a", "b"))
    assert len(stacked) == 6 and stacked.schema == {"a": "text"}
    assert stacked[np.array([4, 0, 5, 2])] == {"a": ["b1", "a0", "b2", "a2"]}
