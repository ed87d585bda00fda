"""JSON files that strangers or a full disk left: what is wrong with one is said in words that name the file."""

import json
import shutil

import numpy as np
import pytest

import suite
from suite.bundles.bundle import Bundle
from suite.data.preprocessing import tokenizer_files
from suite.errors import InputError
from suite.runtime import json_files
from suite.surgery import lora
from suite.weights import image_statistics, published
from suite.workflow import encoders
from tests.untrained import copied, images, resealed, untrained

DAMAGED = {
    "deep": (b'{"a":' * 100_000, "is nested too deeply.\n  found: more than 100 objects and arrays"),
    "deep and whole": (b"[" * 101 + b"]" * 101, "is nested too deeply.\n  found: more than 100 objects and arrays"),
    "digits": (b'{"hidden_size": ' + b"9" * 5000 + b"}", "holds an integer that is too long.\n  found: 5,000 digits"),
    "cut short": (b'{"hidden_size": 7', "is not JSON: Expecting"),
    "no text": (b'{"a": "\xff\xfe"}', "is not JSON: 'utf-8' codec can't decode"),
}
PUBLISHED = {
    "config.json": lambda folder: published.open(folder),
    "model.safetensors.index.json": lambda folder: published.open(folder),
    "preprocessor_config.json": lambda folder: image_statistics.image_statistics(published.Published(folder, {}, {})),
    "tokenizer_config.json": lambda folder: tokenizer_files.collected(folder, ""),
    "modules.json": lambda folder: encoders._modules(folder / "modules.json"),
    "delta.json": lambda folder: lora._about(folder),
}
"""What reads each file of published weights."""


def refusal(call, path):
    with pytest.raises(InputError) as error:
        call()
    assert error.value.where == str(path) and error.value.fix
    return str(error.value)


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("name", PUBLISHED)
def test_of_published_weights(name, damage, tmp_path):
    content, said = DAMAGED[damage]
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(content)
    assert said in refusal(lambda: PUBLISHED[name](tmp_path), tmp_path / name)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    untrained(images(folder), folder)
    (folder / "result.json").write_text('{"metrics": {}}')
    return folder


RUN = ["experiment.json", "result.json", "assets/labels.json", "assets/statistics.json"]


def used(folder):
    """Opens a run and reads all that its codec is made of."""
    codec = suite.open(folder).codec
    return codec.outputs, codec.encode({"image": np.zeros((1, 8, 8, 1), np.uint8)}), codec.answer_schema


def damaged_run(run, target, name, content):
    shutil.copytree(run, target)
    (target / name).write_bytes(content)
    return target


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("name", RUN)
def test_of_runs(name, damage, run, tmp_path):
    content, said = DAMAGED[damage]
    folder = damaged_run(run, tmp_path / "run", name, content)
    assert said in refusal(lambda: used(folder), folder / name)


@pytest.mark.parametrize("content", ["[]", "{}", "7", "null", '{"names": 3, "shape": [1], "metrics": 1, "class": 5}'])
@pytest.mark.parametrize("name", RUN)
def test_of_runs_with_another_content(name, content, run, tmp_path):
    folder = damaged_run(run, tmp_path / "run", name, content.encode())
    with pytest.raises(InputError) as error:
        used(folder)
    assert name in str(error.value) or (name == RUN[0] and error.value.where == "experiment")


@pytest.mark.parametrize("content", ["[]", '{"names": ["a", 7], "indexed": 1}'])
def test_of_bundles(content, exported, tmp_path):
    """Resealed, as whoever makes a bundle of strange files would."""
    folder = copied(exported("images")[1], tmp_path / "bundle")
    (folder / "assets/labels.json").write_text(content)
    resealed(folder)
    refusal(lambda: Bundle.open(folder).codec.outputs, folder / "assets/labels.json")


def test_what_others_publish_is_read():
    """Tokenizers without a limit state 10**30; a byte-order mark; a hundred levels."""
    assert json_files.parse(f"[{int(1e30)}]", "x") == [int(1e30)]
    assert json_files.parse(b"\xef\xbb\xbf{}", "x") == {}
    assert json.dumps(json_files.parse("[" * 100 + "]" * 100, "x")) == "[" * 100 + "]" * 100
