"""The table of kinds: what each asks of a request, says in a schema, and what a plug-in may add."""

import base64
import dataclasses
import json
import zlib

import jsonschema
import pytest

from suite.codecs.answers import class_outputs, probability
from suite.contracts.kinds import (
    KINDS,
    Kind,
    answer_schema,
    checked,
    file_types,
    input_kind,
    input_schema,
    output_kind,
    purpose,
    register_kind,
)
from suite.contracts.signature import File, Input, Output
from suite.contracts.values import Unfit
from suite.errors import InputError
from suite.reporting.drawings.values import VALUES
from tests.serving.conftest import png, tone

LIMITS = {"characters": 10, "pixels": 100, "seconds": 1.0}
SHARE = {"type": "number", "minimum": 0, "maximum": 1}


def test_schemas_of_answers_are_those_of_before():
    """To the byte: programs that read bundles and OpenAPI keep what they know."""
    label = {"type": "string", "description": "the likeliest class", "enum": ["no", "yes"]}
    top = {"type": "object", "description": "probabilities of the likeliest classes, falling"}
    expected = {
        "type": "object",
        "properties": {
            "label": label,
            "probability": {**SHARE, "description": "of that class"},
            "top": {**top, "additionalProperties": SHARE},
        },
        "required": ["label", "probability", "top"],
        "additionalProperties": False,
    }
    assert json.dumps(answer_schema(class_outputs(["no", "yes"]))) == json.dumps(expected)
    unseen = Output(name="unseen", kind="number", description="values", low=0, whole=True)
    made = answer_schema((probability("of the event"), unseen))["properties"]
    assert json.dumps(made) == json.dumps(
        {
            "probability": {**SHARE, "description": "of the event"},
            "unseen": {"type": "integer", "minimum": 0, "description": "values"},
        }
    )


PICTURE = File("image/png", b"p").to_json()


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("text", ["", "a"], [1, None]),
        ("class", ["a"], [0]),
        ("classes", [{"a": 0.5}], [{"a": 2}, ["a"]]),
        ("number", [0, 1.5], ["1"]),
        ("list", [[], ["a", "b"]], ["a", [1]]),
        ("spans", [[], [{"start": 0, "end": 2, "label": "x", "probability": 0.5}]], [[{"start": -1, "end": 2}], {}]),
        ("segments", [[], [{"start": 0.5, "end": 2, "text": "x"}]], [[{"start": -1, "end": 2, "text": "x"}], [{}]]),
        ("boxes", [[{"box": [0, 1, 2.5, 3], "label": "cat"}]], [[{"box": [0, 1, 2], "label": "cat"}]]),
        ("ranking", [[{"item": 3, "score": 0.5}, {"item": "a"}]], [[{"score": 1}]]),
        ("attributions", [[{"unit": "a", "column": "b", "attribution": -0.5}]], [[{"unit": "a"}]]),
        ("vector", [[0.5, 1]], [["a"], 1]),
        ("image", [PICTURE], [{"media_type": "text/html", "data": ""}, {"media_type": "image/png"}, "cA=="]),
        ("mask", [PICTURE], [File("image/jpeg", b"p").to_json()]),
        ("heatmap", [PICTURE], [b"".hex()]),
        ("audio", [File("audio/wav", b"s").to_json()], [PICTURE]),
    ],
)
def test_each_kind_of_output_has_a_schema_a_widget_and_a_drawing(kind, right, wrong):
    output = Output(name="value", kind=kind)
    schema = answer_schema([output])
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    assert all(check.is_valid({"value": value}) for value in right)
    assert not any(check.is_valid({"value": value}) for value in wrong)
    assert output_kind(kind).shown_by(output) and output_kind(kind).drawing in VALUES


def test_every_kind_of_output_is_listed_above():
    listed = {case[0] for case in test_each_kind_of_output_has_a_schema_a_widget_and_a_drawing.pytestmark[0].args[1]}
    assert {kind.name for kind in KINDS.values() if kind.answer} - {"digits"} == listed  # digits: tests/plugin_answers


@pytest.mark.parametrize(
    ("kind", "value", "status", "code", "place"),
    [
        ("text", 7, 400, "wrong_type", ""),
        ("text", "a" * 11, 400, "text_too_long", ""),
        ("text", "\ud800", 400, "invalid_text", ""),
        ("number", True, 400, "wrong_type", ""),
        ("number", 10**400, 400, "number_too_large", ""),
        ("category", [], 400, "wrong_type", ""),
        ("list", ["a", {}], 400, "wrong_type", "[1]"),
        ("list", ["a", "b" * 11], 400, "text_too_long", "[1]"),
        ("image", png(0, (11, 10)), 413, "too_many_pixels", ""),
        ("image", b"nothing", 400, "unreadable_image", ""),
        ("image", "?", 400, "invalid_base64", ""),
        ("audio", tone(seconds=1.5), 413, "recording_too_long", ""),
        ("audio", 3, 400, "wrong_type", ""),
        ("text", None, 400, "missing", ""),
    ],
)
def test_values_that_do_not_fit(kind, value, status, code, place):
    with pytest.raises(Unfit) as error:
        checked(Input(name="x", kind=kind), value, LIMITS)
    assert (error.value.status, error.value.code, error.value.place) == (status, code, place)


def test_values_that_fit():
    wav, image = tone(), png(0)
    data = base64.b64encode(image).decode()
    for kind, value, made in (
        ("text", "ü", "ü"),
        ("number", 3, 3.0),
        ("category", True, True),
        ("list", ["a", 1], ["a", 1]),
        ("audio", wav, wav),
        ("image", data, image),
        ("image", f"data:image/png;base64,{data}", image),
    ):
        assert checked(Input(name="x", kind=kind), value, LIMITS) == made
    optional = Input(name="x", kind="number", required=False)
    assert checked(optional, None, LIMITS) is None
    assert checked(optional, "3.5", LIMITS, from_file=True) == "3.5", "the codec reads what a table writes"
    assert input_schema(optional, LIMITS)["type"] == ["number", "null"]


def test_bodies_that_are_one_value():
    takes = {kind: [each for each in BODIES if input_kind(kind).takes(each)] for kind in ("text", "image", "list")}
    assert takes == {"text": ["text/plain"], "image": ["image/bmp"], "list": []}


BODIES = ("text/plain", "text/html", "image/bmp", "imagery/png", "")


def test_purposes_by_kind():
    photo, words = Input(name="a", kind="image"), Input(name="b", kind="text")
    assert purpose([photo], class_outputs(["a"])) == "Puts pictures into classes"
    assert purpose([photo, words], [Output(name="v", kind="vector")]) == "Makes vectors of pictures and texts"
    assert purpose([Input(name="n", kind="number")], [Output(name="i", kind="ranking")]) == "Ranks items for records"


def test_media_types_of_answers():
    outputs = (Output(name="a", kind="audio"), Output(name="m", kind="mask"), Output(name="t", kind="text"))
    assert file_types(outputs) == ("audio/wav", "audio/flac", "image/png")
    for media in ("image/PNG", "image", "a/b\r\nx: y", "text/html;x"):
        with pytest.raises(ValueError, match="is not a media type"):
            File(media, b"")


def test_kinds_that_are_refused():
    with pytest.raises(InputError) as error:
        input_kind("imag")
    assert str(error.value).splitlines()[0] == 'kind "imag": is unknown.' and error.value.fix == "image"
    with pytest.raises(InputError, match="is unknown"):
        input_kind("boxes")
    assert register_kind(KINDS["text"]) is KINDS["text"], "the same twice is once"
    with pytest.raises(InputError, match="is there already"):
        register_kind(dataclasses.replace(KINDS["text"], plural="words"))
    with pytest.raises(InputError, match="neither an input's nor an output's"):
        register_kind(Kind(name="nothing", plural="nothing"))
    assert "nothing" not in KINDS


def test_pictures_that_unpack_to_too_much_are_refused_in_words_of_ours():
    """Pillow refuses them itself, before any limit of ours is asked."""
    entry = Input(name="image", kind="image")
    head = lambda name, content: (
        len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")
    )
    picture = png()
    wide = picture[:8] + head(b"IHDR", (2**31 - 1).to_bytes(4, "big") * 2 + picture[24:29]) + picture[33:]
    with pytest.raises(Unfit) as unfit:
        checked(entry, wide, LIMITS)
    assert str(unfit.value) == "the image has 4,611,686,014,132,420,609 pixels, of at most 100."
    with pytest.raises(Unfit, match=r"of at most [0-9,]+\.$"):
        checked(entry, wide, {})
    for name, before in ((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0")):
        packed = head(name, before + zlib.compress(bytes(1 << 25)))
        with pytest.raises(Unfit, match="damaged: a text or colour profile in it is too large when it is unpacked"):
            checked(entry, picture[:33] + packed + picture[33:], LIMITS)
