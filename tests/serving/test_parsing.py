"""JSON from strangers: what is refused, in which words."""

import json

import pytest

from suite.contracts.signature import File, Output
from suite.serving import json_body
from suite.serving.errors import Refused
from suite.serving.predict_protocol import asked_file
from suite.serving.protocol import decimal


def said(body):
    with pytest.raises(Refused) as refused:
        json_body.request_of(body)
    return refused.value.status, refused.value.body["error"]


def test_inputs():
    assert json_body.request_of(b'{"inputs": ["a", {"text": "b"}, 3]}')["inputs"] == ["a", {"text": "b"}, 3]


@pytest.mark.parametrize(
    "body, error",
    [
        (
            b"",
            {
                "code": "invalid_json",
                "message": "the body is not JSON: Expecting value (column 1).",
                "fix": '{"inputs": [...]}',
            },
        ),
        (
            b'{"inputs": [1 2]}',
            {
                "code": "invalid_json",
                "message": "the body is not JSON: Expecting ',' delimiter (column 15).",
                "fix": '{"inputs": [...]}',
            },
        ),
        (
            b'{"inputs": ["\xff"]}',
            {"code": "invalid_json", "message": "the body is not UTF-8 (byte 13).", "fix": '{"inputs": [...]}'},
        ),
        (
            b'{"inputs": [NaN]}',
            {"code": "invalid_json", "message": "NaN is not JSON.", "fix": "null for a missing value"},
        ),
        (
            b'{"inputs": [-Infinity]}',
            {"code": "invalid_json", "message": "-Infinity is not JSON.", "fix": "null for a missing value"},
        ),
        (b"[" * 100_000, {"code": "invalid_json", "message": "arrays or objects are nested too deep."}),
        (b'{"inputs": [1' + b"0" * 500 + b"]}", {"code": "number_too_large", "message": "a number has 501 digits."}),
        (
            b'{"inputs": [1], "inputs": [2]}',
            {"code": "duplicate_key", "message": 'the key "inputs" occurs twice in one object.'},
        ),
        (
            b'{"inputs": [{"a": 1, "b": 2, "a": 3}]}',
            {"code": "duplicate_key", "message": 'the key "a" occurs twice in one object.'},
        ),
        (
            b'["a"]',
            {"code": "wrong_type", "message": "the body must be an object, not an array.", "fix": '{"inputs": [...]}'},
        ),
        (
            b'{"instances": ["a"]}',
            {
                "code": "missing",
                "message": "the list of inputs is missing (found: instances).",
                "field": "inputs",
                "fix": '{"inputs": [...]}',
            },
        ),
        (
            b'{"inputs": "a"}',
            {
                "code": "wrong_type",
                "message": "must be a list, not a string.",
                "field": "inputs",
                "fix": '{"inputs": [...]}',
            },
        ),
        (
            b'{"inputs": []}',
            {"code": "empty", "message": "the list is empty.", "field": "inputs", "fix": "send at least one record"},
        ),
        (
            b'{"inputs": [1], "parameters": {}}',
            {"code": "unknown", "message": "is not understood.", "field": "parameters", "fix": '{"inputs": [...]}'},
        ),
    ],
)
def test_what_is_refused(body, error):
    assert said(body) == (400, error)


def test_few_bytes_that_would_become_many_objects():
    expected = {
        "code": "too_many_values",
        "fix": "send fewer records a request",
        "message": "the body holds more than 100,000 arrays and objects, or 1,000,000 values.",
    }
    assert said(b'{"inputs": [' + b"[]," * 200_000 + b"1]}") == (413, expected)
    assert said(b'{"inputs": [' + b"1," * 2_000_000 + b"1]}") == (413, expected)
    assert said(b"[" * 200_000 + rb"\"" * 2_000_000) == (413, expected), "quotes that never end"


def test_an_object_of_too_many_keys_is_refused_before_it_is_made(monkeypatch):
    """Each in an object of its own: those of the records, and of lines of JSONL."""
    keys = b",".join(b'"k%d":1' % i for i in range(json_body.KEYS + 1))
    most = keys.rpartition(b",")[0]
    assert len(json_body.request_of(b'{"inputs": [{' + most + b"}, {" + most + b"}]}")["inputs"]) == 2
    monkeypatch.setattr(json_body.json, "loads", lambda *_, **__: pytest.fail("it was made"))
    expected = {
        "code": "too_many_columns",
        "fix": "send the columns that the model takes",
        "message": "an object of the body holds more than 10,000 keys.",
    }
    for body in (b'{"inputs": [{' + keys + b"}]}", b'{"inputs": [1], "a": {"b": [{}], ' + keys, b"{" + keys + b"}"):
        assert said(body) == (413, expected)


def test_colons_outside_objects_are_left_to_the_parser():
    assert said(b":" * 20_000)[1]["message"].startswith("the body is not JSON: Expecting value")


def test_brackets_inside_a_text_are_no_arrays():
    text = '[{:, \\" ' * 300_000
    assert json_body.request_of(json.dumps({"inputs": [text]}).encode())["inputs"] == [text]


@pytest.mark.parametrize("value", [b"1", b"0.5", b".5", b"5.", b" 2 ", b"007"])
def test_a_number_in_a_header(value):
    assert decimal(value) == float(value)


@pytest.mark.parametrize(
    "value", [b"", b".", b"1_0", b"inf", b"nan", b"1e3", b"-1", b"+1", b"0x1", "\u0663".encode(), b"1" * 30]
)
def test_what_is_no_decimal_number_in_a_header(value):
    assert decimal(value) is None


@pytest.mark.parametrize("quality, wanted", [("0.5", True), ("1", True), ("0", False), ("nan", False), ("inf", False)])
def test_a_quality_is_a_decimal_number(quality, wanted):
    outputs, answers = [Output(name="picture", kind="image")], [{"picture": File("image/png", b"p")}]
    assert (asked_file(answers, outputs, f"image/png;q={quality}".encode()) is not None) is wanted
