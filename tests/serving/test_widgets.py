"""The page's widgets without a browser: each kind of output drawn by the name that the server gives."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from suite.codecs.answers import class_outputs, probability
from suite.contracts.kinds import output_kind
from suite.contracts.signature import File, Input, Output
from suite.serving.app import PAGE
from suite.serving.descriptions import field_of

NODE = shutil.which("node")
EVIL = "<img src=x onerror=alert(1)>"

pytestmark = pytest.mark.skipif(not NODE, reason="there is no node (apt-get install nodejs)")


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """The page's modules where node takes them for modules."""
    folder = shutil.copytree(PAGE, tmp_path_factory.mktemp("page") / "page")
    (folder / "package.json").write_text('{"type": "module"}')
    return folder / "answers.js"


def drawn(module, answer, outputs, **context):
    described = [{**dataclasses.asdict(each), "widget": output_kind(each.kind).shown_by(each)} for each in outputs]
    return html_of(module, {"answer": answer, "context": {"outputs": described, **context}})


def html_of(module, given):
    given = json.dumps(given)
    script = str(Path(__file__).with_name("widgets.mjs"))
    done = subprocess.run([NODE, script, str(module), given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_classes(module):
    answer = {"label": EVIL, "probability": 0.75, "top": {EVIL: 0.75, "b": 0.25}}
    html = drawn(module, answer, class_outputs([EVIL, "b"]))
    assert '<p class="verdict">&lt;img src=x' in html and "<img src=x" not in html
    assert html.count("75.0 %") == 1 and html.index("75.0 %") < html.index("25.0 %"), "the bars say it, once"
    alone = drawn(module, {"label": "a", "probability": 0.75}, class_outputs(["a"]))
    assert '<p class="verdict">a, 75.0 %</p>' in alone
    event = drawn(
        module, {"probability": 0.5, "unseen": 2}, (probability("of the event"), Output(name="unseen", kind="number"))
    )
    assert '<p class="verdict">50.0 %</p>' in event and "<dt>Unseen</dt><dd>2</dd>" in event


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("text", EVIL, '<p class="said">&lt;img src=x onerror=alert(1)></p>'),
        ("text", " ", '<p class="said empty">Nothing.</p>'),
        ("ranking", [{"item": 3, "title": EVIL, "score": 0.5}], "&lt;img src=x"),
        (
            "attributions",
            [{"unit": EVIL, "column": "a", "attribution": -0.5}],
            '&lt;img src=x onerror=alert(1)><span class="share">−0.500',
        ),
        (
            "attributions",
            [{"unit": "no", "column": "a", "attribution": 2, "start": 0, "end": 2}],
            '<mark class="why" title="2.00">no</mark>',
        ),
        ("spans", [{"start": 1, "end": 3, "label": "PLACE"}], "PLACE: nc"),
        ("spans", [{"start": 1, "end": 3, "label": "PLACE"}], "O<mark>nc<small>PLACE</small></mark>e"),
        ("spans", [{"start": 0, "end": 3, "label": "A"}, {"start": 1, "end": 4, "label": EVIL}], "Onc<small>A</small>"),
        ("segments", [{"start": 61.5, "end": 62, "text": EVIL}], '<span class="share">1:01.50 – 1:02.00</span>'),
        ("segments", [{"start": 0, "end": 2, "text": ""}], "nothing was heard"),
        ("boxes", [{"box": [0, 0, 1, 1], "label": "cat", "probability": 0.8}], "80.0 %"),
        ("boxes", [{"box": [0, 0, 1, 1], "label": EVIL, "score": 0.8}], '<span class="share">0.800</span>'),
        (
            "boxes",
            [{"box": [0, 0, 1, 1], "label": name} for name in "ba"],
            '<i class="swatch tone1" aria-hidden="true">',
        ),
        ("boxes", [], '<p class="said empty">Nothing is found.</p>'),
        ("vector", [3, 4], "<dt>Length</dt><dd>5.000</dd>"),
        ("image", File("image/png", b"p").to_json(), '<img src="data:image/png;base64,cA==" alt="Value">'),
        ("mask", {"media_type": "text/html", "data": "cA=="}, "Value cannot be shown."),
        ("heatmap", {"media_type": "image/png", "data": '"><b>'}, "Value cannot be shown."),
        ("audio", File("audio/wav", b"s").to_json(), 'src="data:audio/wav;base64,cw=="'),
        ("audio", None, "<dt>Value</dt><dd>null</dd>"),
        ("number", 12345.678, '<p class="verdict">Value: 12,345.68</p>'),
        ("list", ["a", EVIL], '<ul class="names"><li>a</li><li>&lt;img src=x'),
        ("list", [], '<p class="said empty">None is likely enough.</p>'),
    ],
)
def test_each_kind(module, kind, value, expected):
    html = drawn(module, {"value": value}, [Output(name="value", kind=kind)], given={"text": "Once"})
    assert expected in html and "<b>" not in html and "<img src=x" not in html


def test_a_mask_stands_with_the_classes_that_it_shows(module):
    outputs = (
        Output(name="value", kind="mask", choices=("background", EVIL, "cat")),
        Output(name="shares", kind="classes"),
    )
    answer = {"value": File("image/png", b"p").to_json(), "shares": {"background": 0.9, EVIL: 0.1}}
    html = drawn(module, answer, outputs)
    assert '<img src="data:image/png;base64,cA==" class="mask"' in html
    assert "&lt;img src=x onerror=alert(1)></li>" in html and "cat" not in html and "<img src=x" not in html


def test_a_continuation_follows_what_was_asked(module):
    html = drawn(module, {"value": " upon"}, [Output(name="value", kind="text", after="text")], given={"text": "Once"})
    assert '<span class="given">Once</span> upon' in html


def test_what_no_output_names_is_shown_as_it_is(module):
    assert "<dt>More of it</dt><dd>{&quot;a&quot;:1}</dd>" in drawn(module, {"more_of_it": {"a": 1}}, [])


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            Input(name="steps", kind="number", required=False, option=True, low=1, high=100, whole=True, default=20),
            '<input type="number" min="1" max="100" step="1" inputmode="numeric" placeholder="20"',
        ),
        (
            Input(name="speed", kind="number", required=False, option=True, low=0.5, high=2, default=1.0),
            '<input type="number" min="0.5" max="2" step="any" inputmode="decimal" placeholder="1"',
        ),
        (Input(name="age", kind="number", required=False), 'step="any" inputmode="decimal" placeholder="not known"'),
        (
            Input(name="label", kind="category", required=False, choices=("cat",), absent="any"),
            '<option value="">any</option><option value="cat">cat</option>',
        ),
        (Input(name="speaker", kind="category", choices=("ann",)), '<option value="">choose one</option>'),
        (Input(name="shop", kind="category", required=False), 'placeholder="not known"'),
    ],
)
def test_a_field_says_what_can_be_given_and_what_counts_without(module, entry, expected):
    entry = dataclasses.replace(entry, description="what it is")
    described = {**dataclasses.asdict(entry), **field_of(entry)}
    html = html_of(module.with_name("fields.js"), {"input": described})
    assert expected in html and "What it is." in html
    own = entry.option or entry.absent == "any"
    assert ('class="field explained"' in html) == own, "a table's many columns are not explained one by one"
