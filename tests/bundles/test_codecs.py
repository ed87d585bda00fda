"""Codecs of bundles from strangers: names and numbers that fit the program, before a request is answered."""

import dataclasses
import json
import math

import numpy as np
import pytest

from suite.bundles import catalogue, codecs, manifest
from suite.bundles.answering import worded
from suite.bundles.bundle import Bundle
from suite.codecs.image import ImageClasses
from suite.codecs.items import NextItems
from suite.codecs.spans import TextSpans
from suite.codecs.text import Continuations, TextClasses, Translations
from suite.data.preprocessing.decision import Decision
from suite.data.preprocessing.image import PixelStatistics
from suite.data.preprocessing.items import Items
from suite.data.preprocessing.labels import Labels
from suite.data.preprocessing.ngrams import NGrams
from suite.data.preprocessing.spans import SpanLabels
from suite.data.preprocessing.tabular import Fields
from suite.data.recordings import Recordings
from suite.data.sources.memory import LeftOut
from suite.decoding.ctc import Beam
from suite.errors import InputError, RunError
from suite.runtime.json_files import parse
from tests.untrained import copied, resealed


def refusal(call, *arguments, **options):
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"names": ["a", "\\ud800"], "indexed": false}', "holds a lone surrogate"),
        (b'{"names": ["a", "\xed\xa0\x80"], "indexed": false}', "holds a lone surrogate"),
        (b'{"names": ["a", "b"], "names": ["b", "a"], "indexed": false}', "has a key twice in one object."),
        (b'{"indexed": false}', 'found: no field "names"'),
        (b'{"names": null, "indexed": false}', "found: no list of texts: None"),
        (b'{"names": ["a"], "indexed": false}', "output logits.\n  found: 1 names, 2 places"),
        (b'{"names": ["a", "b", "c"], "indexed": false}', "output logits.\n  found: 3 names, 2 places"),
        (b'{"names": ["a", "a"], "indexed": false}', "its names of logits repeat.\n  found: 'a' 2 times"),
        (b'{"names": ["a", "%s"], "indexed": false}' % (b"b" * 1001), "of 1,001 characters; at most 1,000"),
    ],
)
def test_class_names_that_are_none(exported, tmp_path, content, said):
    folder = copied(exported("texts")[1], tmp_path / "bundle")
    (folder / "assets" / "labels.json").write_bytes(content)
    assert said in refusal(Bundle.open, resealed(folder))


def test_numbers_of_a_codec_are_told_by_their_field(exported, tmp_path):
    folder = copied(exported("texts")[1], tmp_path / "bundle")
    codec = json.loads((folder / "bundle.json").read_text())["codec"]
    said = refusal(Bundle.open, resealed(folder, codec={**codec, "max_length": -5}))
    assert "field max_length of TextClasses must be an integer from 1 to 1,000,000.\n  found: -5" in said


def test_pairs_of_surrogates_are_characters():
    assert parse('["\\ud83d\\ude00"]', "x", strict=True) == ["\U0001f600"]


@pytest.mark.parametrize(
    ("kind", "field", "wrong"),
    [
        (TextClasses, "max_length", (-5, 0, 1.5, 10**9, True)),
        (TextSpans, "max_length", (0,)),
        (Translations, "max_length", (0,)),
        (Continuations, "room", (0,)),
        (NextItems, "max_length", (0,)),
        (NextItems, "max_seen", (0, 10**9)),
        (Recordings, "rate", (0, 10**9)),
        (Recordings, "hop", (0,)),
        (Recordings, "longest", (-1.0, math.nan, math.inf)),
        (Beam, "width", (0, 10**9)),
        (Beam, "alpha", (math.nan,)),
        (Fields, "list_length", (-1, 10**9)),
        (NGrams, "words", (-1, 30_000_000)),
        (NGrams, "characters", ((0,), (10**6,))),
        (NGrams, "max_words", (-5, 10**9)),
        (PixelStatistics, "size", ((0, 8),)),
    ],
)
def test_numbers_without_sense_are_refused_where_they_are_stated(kind, field, wrong):
    required = {one.name: None for one in dataclasses.fields(kind) if one.default is dataclasses.MISSING}
    right = {"max_length": 8, "max_seen": 8, "room": 8, "rate": 8000, "hop": 80}
    stated = {**required, **{name: value for name, value in right.items() if name in required}}
    stated = {name: value for name, value in stated.items() if name != "decision"}
    kind(**stated)
    for value in wrong:
        assert field in refusal(kind, **{**stated, field: value}).splitlines()[0]


def test_numbers_of_files_without_sense(tmp_path):
    path = tmp_path / "file.json"
    for content in ({"temperature": 0}, {"temperature": math.nan}, {"thresholds": ["a"]}):
        path.write_text(json.dumps(content))
        assert "has not the form" in refusal(lambda: Decision(file=str(path)).temperature)
    for shape in ([0, 8, 3], [8, 8, 0], [10**6, 10**6, 3]):
        path.write_text(json.dumps({"shape": shape, "mean": [0], "std": [1]}))
        assert f"found: shape {shape}" in refusal(lambda: PixelStatistics(file=str(path)).shape)


def signature(**shapes):
    return manifest.Signature({}, {name: manifest.Array(shape, "float32") for name, shape in shapes.items()})


def test_names_of_tags_and_of_a_catalogue(tmp_path):
    spans, items = tmp_path / "spans.json", tmp_path / "items.json"
    spans.write_text('["place", "person"]')
    tagger = TextSpans(text="text", tokenizer=None, labels=SpanLabels(file=str(spans)), max_length=8)
    codecs.check_names("bundle", tagger, signature(logits=("b", "length", 5)))
    assert "found: 5 names, 7 places" in refusal(
        codecs.check_names, "bundle", tagger, signature(logits=("b", "length", 7))
    )
    items.write_text('{"names": ["a", "b"], "counts": [2, 1]}')
    ranking = NextItems(history="history", items=Items(file=str(items)), max_length=8, max_seen=8)
    codecs.check_names("bundle", ranking, signature(), 2)
    assert "found: 2 names of 3" in refusal(codecs.check_names, "bundle", ranking, signature(), 3)


def test_an_output_without_a_name_is_told_in_words(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text('{"names": ["a"], "indexed": false}')
    codec = ImageClasses(image="image", statistics=None, labels=Labels(file=str(path)))
    with pytest.raises(RunError, match="the program gives what its codec has no name for"):
        worded(codec.decode, {"logits": np.array([[0.0, 1.0]])}, {})


def test_names_of_a_catalogue_that_no_bundle_may_hold():
    left_out = LeftOut()
    names = ["a", "b" * 1001, "\ud800", "a", "c"]
    assert catalogue._named({"item": names}, "item", 0, set(), left_out)[1] == [0, 4]
    said = "\n".join(left_out.lines())
    assert "more than 1,000 characters" in said and "lone surrogate" in said and "bbb" not in said
