"""Texts as n-grams: what is chosen from the texts, what is encoded, and the advice."""

import dataclasses
import shlex

import numpy as np
import pytest

import suite
from suite.codecs.text import TextClasses
from suite.data.preprocessing.labels import Labels
from suite.data.preprocessing.ngrams import NGrams
from suite.data.sources.datasets import Table
from suite.data.sources.memory import Memory
from suite.errors import InputError
from suite.experiment.defaults import settled
from suite.tasks.text.classification import TextClassification


def own(texts):
    return Memory({"text": texts, "label": [str(i % 2) for i in range(len(texts))]})


def chosen(texts):
    experiment, lines = settled(suite.load("text.classify"), own(texts))
    return experiment, "\n".join(lines)


def test_short_texts_are_read_by_ngrams_of_characters_too():
    experiment, lines = chosen([f"a fine film, number {i}" for i in range(1000)])
    assert experiment.task.ngrams.characters == (3, 4, 5)
    assert (experiment.train.batch_size, experiment.train.epochs, experiment.task.ngrams.min_count) == (16, 20, 1)
    assert "--task.ngrams.characters 3 4 5: 1,000 texts of 23 characters" in lines


def test_long_texts_are_read_by_words_alone():
    experiment, lines = chosen([f"a fine film, number {i}" * 40 for i in range(60)])
    assert experiment.task.ngrams.characters == () and "characters 3" not in lines


def test_many_texts_are_read_less_often_in_larger_batches():
    experiment, _ = chosen(["a fine film"] * 60_000)
    assert (experiment.train.batch_size, experiment.train.epochs, experiment.task.ngrams.min_count) == (128, 3, 2)


def test_what_is_stated_is_not_chosen():
    recipe = suite.replace(suite.load("text.classify"), {"train.epochs": 2, "task.ngrams.characters": (2,)})
    experiment, _ = settled(recipe, own(["a fine film"] * 100))
    assert experiment.train.epochs == 2 and experiment.task.ngrams.characters == (2,)


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    path = tmp_path_factory.mktemp("ngrams") / "ngrams.json"
    NGrams(min_count=1).fit(own(["a fine film", "a dull film"]), "text", path)
    ngrams = NGrams(min_count=1, max_words=4, axis="", file=str(path))
    return TextClasses(text="text", tokenizer=None, labels=None, max_length=8, ngrams=ngrams)


def test_texts_are_encoded_as_ngrams_of_the_default_axis(codec):
    encoded = codec.encode({"text": ["a fine film", "unheard"]})
    assert encoded["ids"].lengths.tolist() == [5, 0] and encoded["ids"].axis == ""
    np.testing.assert_array_equal(encoded["weights"].lengths, encoded["ids"].lengths)


def test_no_row_is_longer_than_the_codec_says(codec):
    assert codec.longest == 8 and codec.inputs[0].limit == 400
    ngrams = dataclasses.replace(codec.ngrams, max_ngrams=3)
    ids, _ = ngrams.encode(["a fine film", "a dull film", "a"])
    assert ids.lengths.tolist() == [3, 3, 1]
    assert 0 in ids.values[:3]  # the rarest are left out


def test_texts_are_read_in_one_way():
    for fields in ({"ngrams": NGrams()}, {"tokenizer": None}):
        with pytest.raises(InputError, match="one of them reads the texts"):
            TextClassification(data=Table(path="x.csv"), **fields)


def test_the_recipe_of_published_weights_is_named_with_its_command(tmp_path):
    path = tmp_path / "my reviews.csv"
    path.write_text("review,label\n" + "\n".join(f"a {('fine', 'dull')[i % 2]} film {i},{i % 2}" for i in range(200)))
    recipe = suite.replace(suite.load("text.classify"), {"task.data": Table(path=str(path), test=0.2)})
    task = dataclasses.replace(recipe.task, text="review")
    train = task.source("train")
    task.labels.fit(train, "label", tmp_path / "labels.json")
    task = dataclasses.replace(task, labels=Labels(file=str(tmp_path / "labels.json")))
    *_, advice = task.remarks({"train": train})
    flags = ["--data", str(path), "--task.text", "review", "--task.label", "label", "--task.data.test", "0.2"]
    assert advice.endswith(shlex.join(["suite", "train", "text.finetune", *flags]))
