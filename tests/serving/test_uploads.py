"""Tables as requests: typed as training's were, and bounded before anything is made of them."""

import json
import tracemalloc
from types import SimpleNamespace

import pytest

from suite.codecs.table import Clicks
from suite.data.preprocessing.tabular import Fields
from suite.data.sources.memory import Memory
from suite.serving.checks import Checks
from suite.serving.errors import Refused
from suite.serving.settings import Settings
from suite.serving.uploads import whole
from suite.workflow import folders

TRAINING = {
    "code": ["007", "A12", "1.50", "1e5"] * 20,
    "shop": [3, 12, 2, 9] * 20,
    "tags": ["01|x", "x", "01", "2"] * 20,
    "note": ["a", "b"] * 40,
    "label": [0, 1] * 40,
}


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    """Of clicks by codes that look like numbers one by one, and not as a column; and by numbers of shops."""
    fields = Fields(categorical=("code", "shop", "note"), lists=("tags",), hashed=(("note", 64),))
    file = tmp_path_factory.mktemp("fields") / "fields.json"
    fields.fit(Memory(TRAINING), "label", file)
    return Clicks(record="record", fields=Fields(**{**fields.__dict__, "file": str(file)}))


@pytest.fixture(scope="module")
def checks(codec):
    return Checks(codec.inputs, codec.primary, codec.texts, Settings())


def test_columns_are_typed_as_those_of_training(codec, checks):
    assert codec.texts == ("code", "note", "tags")
    made = whole(b"code,shop,tags,note\n007,3,01,1e5\n", "text/csv", checks)
    assert made == {"code": ["007"], "shop": [3], "note": ["1e5"], "tags": ["01"]}
    for code in ("007", "1.50", "1e5"):
        made = whole(f"code,shop,tags,note\n{code},3,01,a\n".encode(), "text/csv", checks)
        assert (
            codec.encode(made)["ids"].tolist()
            == codec.encode({"code": [code], "shop": [3], "tags": [["01"]], "note": ["a"]})["ids"].tolist()
        )


def test_a_file_to_predict_is_typed_alike(codec, tmp_path):
    asked = []
    program = SimpleNamespace(codec=codec)
    opened = SimpleNamespace(
        programs={"predict": program}, predict=lambda columns, seed, program: asked.append(columns) or [{}]
    )
    (tmp_path / "new.csv").write_text("code,shop,note,tags\n007,3,,\n")
    folders.predict_input(opened, str(tmp_path / "new.csv"))
    assert asked[0]["code"] == ["007"] and asked[0]["shop"].tolist() == [3]


def refusal(body, media, checks):
    with pytest.raises(Refused) as error:
        whole(body, media, checks)
    return error.value.status, error.value.code


def test_lines_inside_quotes_are_no_records(checks):
    text = "\n".join(["one"] * 6 + ['of ""seven"" lines'])
    made = whole(
        f"note,shop,code,tags\n{''.join(f'{chr(34)}{text}{chr(34)},{i},,{chr(10)}' for i in range(12))}".encode(),
        "text/csv",
        checks,
    )
    assert made["shop"] == list(range(12)) and set(made["note"]) == {text.replace('""', '"')}
    unended = b'shop,code,tags,note\n1,,,"' + b"\n" * 100
    assert whole(unended, "text/csv", checks)["shop"] == [1], "a quote that never ends"


@pytest.mark.parametrize(
    "body",
    [
        b"shop\n" + b"1\n" * 65,
        b"shop\r" + b"1\r" * 65,
        b"shop\r\n" + b"1\r\n" * 65,
        b'shop,note\n1,x"' + b"\n1,x" * 65 + b'"\n',  # a quote within a field is one of its characters
    ],
)
def test_more_records_than_a_request_may_have(checks, body):
    assert refusal(body, "text/csv", checks) == (400, "too_many_records")


@pytest.mark.parametrize("head", [b"", b"\n", b'"a\nb",', b'\n"",'])
def test_more_columns_than_a_table_may_have(checks, head):
    body = head + b",".join(b"c%d" % i for i in range(10_002)) + b"\n1\n"
    assert refusal(body, "text/csv", checks) == (413, "too_many_columns")


def test_lines_of_objects_that_share_no_name(checks):
    """What is made of them must not grow with the square of their number."""
    lines = b"\n".join(b'{"a%d": 0}' % i for i in range(4000))
    tracemalloc.start()
    assert refusal(lines, "application/jsonl", checks) == (400, "too_many_records")
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()
    wide = json.dumps({f"c{i}": 0 for i in range(10_001)}).encode()
    assert refusal(wide, "application/x-ndjson", checks) == (413, "too_many_columns")
    assert refusal(b"\n null \n", "application/jsonl", checks) == (400, "wrong_type")
    assert refusal(b"\n \n", "application/jsonl", checks) == (400, "empty")
    assert whole(b'{"shop": 3}\r\n\n {"shop": 4}', "application/jsonl", checks) == {"shop": [3, 4]}


def test_a_broken_line_is_named(checks):
    with pytest.raises(Refused) as refused:
        whole(b'{"shop": 3}\n\n{"shop" 3}\n', "application/jsonl", checks)
    error = refused.value.body["error"]
    assert error["message"] == "line 3 is not JSON: Expecting ':' delimiter (column 9)."
    assert error["fix"].startswith('{"') and error["fix"].endswith('": ...}')


def test_a_name_of_a_megabyte_is_not_compared_letter_by_letter(checks):
    name = "shop" * 500_000
    tracemalloc.start()
    with pytest.raises(Refused) as error:
        checks.records([{name: 1}])
    assert error.value.field == f"inputs[0].{name[:100]}" and tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
