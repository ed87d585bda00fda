"""Running text: splits by position, stretches, and characters as tokens."""

import numpy as np
import pytest

from suite.data.preprocessing.characters import Characters
from suite.data.sources.memory import Memory
from suite.data.sources.running_text import RunningText, Stretches, joined
from suite.errors import InputError


def texts(data, split):
    return data.open(split)[np.arange(1)]["text"][0]


def test_a_file_is_split_by_position(tmp_path):
    file = tmp_path / "my.txt"
    file.write_text("abcdefghij" * 10, encoding="utf-8")
    data = RunningText(path=str(file), validation=0.2, test=0.1)
    parts = [texts(data, split) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [70, 20, 10] and "".join(parts) == "abcdefghij" * 10


def test_a_folder_has_a_file_a_split(tmp_path):
    (tmp_path / "train.txt").write_text("0123456789")
    (tmp_path / "test.txt").write_text("tested")
    data = RunningText(path=str(tmp_path))
    assert [texts(data, split) for split in ("train", "validation", "test")] == ["012345678", "9", "tested"]


@pytest.mark.parametrize(
    ("fields", "split", "message"),
    [
        ({}, "test", "there is no split 'test'"),
        ({"validation": 1.0}, "train", "sum to less than 1"),
        ({"validation": 0.001}, "validation", "the validation split is empty"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, fields, split, message):
    file = tmp_path / "my.txt"
    file.write_text("abcdefghij")
    with pytest.raises(InputError, match=message):
        RunningText(path=str(file), **fields).open(split)


@pytest.mark.parametrize(("length", "stride"), [(5, 4), (5, 1), (100, 99), (11, 10)])
def test_stretches_cover_the_text(length, stride):
    text = "the quick brown fox jumps over the lazy dog"
    source = Stretches(text, length, stride, "line")
    columns = source[np.arange(len(source))]
    for start, part in zip(columns["stretch"], columns["line"], strict=True):
        assert part == text[start : start + length]
    covered = {
        start + i for start, part in zip(columns["stretch"], columns["line"], strict=True) for i in range(len(part))
    }
    assert covered == set(range(len(text)))
    assert source.schema == {"line": "text", "stretch": "int"}
    assert len(set(columns["stretch"].tolist())) == len(source)


def test_records_become_lines_of_one_text():
    assert joined(Memory({"t": ["a", "b c"]}), "t") == "a\nb c"


@pytest.fixture
def characters(tmp_path):
    Characters().fit(Memory({"text": ["abba\n", "c é"]}), "text", tmp_path / "c.json")
    return Characters(file=str(tmp_path / "c.json"))


def test_characters_come_back(characters):
    assert characters.names == sorted("abc\n é") and characters.sizes() == {"vocab_size": 10}
    rows = characters.encode(["cab é\n", "", "abcabc"], 4)
    assert rows.lengths.tolist() == [4, 0, 4] and rows.values.dtype == np.int32
    assert characters.decode(np.split(rows.values, [4])) == ["cab ", "abca"]


def test_an_unknown_character_is_marked(characters):
    (row,) = np.split(characters.encode(["axb"], 9).values, [])
    assert row.tolist()[1] == 1
    assert characters.decode([[*row.tolist(), 0, 2, 3]]) == ["a\ufffdb"]


def test_the_frequent_characters_are_kept(tmp_path):
    Characters(most=2).fit(Memory({"text": ["aabbc"]}), "text", tmp_path / "c.json")
    assert Characters(file=str(tmp_path / "c.json")).names == ["a", "b"]
    with pytest.raises(InputError, match="no text"):
        Characters().fit(Memory({"text": [""]}), "text", tmp_path / "d.json")
