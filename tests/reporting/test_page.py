"""The page: everything in it is escaped, nothing comes from outside, and plots are sound SVG."""

import re
import sys

import numpy as np
import pytest

from suite.errors import InputError
from suite.evaluation.artifacts import Example, Gallery, Image, Sound, class_artifacts
from suite.evaluation.bootstrap import Interval
from suite.reporting import pictures, svg
from suite.reporting.blocks import (
    Card,
    Cards,
    Cell,
    Code,
    Figure,
    Folded,
    Matrix,
    Page,
    Part,
    Plot,
    Section,
    Table,
    Terms,
    Text,
    Verdict,
)
from suite.reporting.curves import average_precision, precision_recall, roc
from suite.reporting.drawings import drawn
from suite.reporting.page import render, write
from tests import pages
from tests.serving.browser import DESK, PHONE, chromium

EVIL = '"><script>alert("x")</script>&amp;\'<img src=x onerror=alert(1)>'


def page(*blocks, title="A title"):
    return Page(
        title, "Report of a run", (("run", "r"),), (Text("in short", "lead"),), (Section("one", "One", blocks),)
    )


def test_whatever_is_said_is_text():
    plot = Plot(
        EVIL,
        svg.chart(
            [svg.Series(EVIL, np.arange(3.0), np.arange(3.0))], svg.Axis(EVIL), svg.Axis(), EVIL, mark=(1.0, EVIL)
        ),
        Table((EVIL,), ((EVIL,),)),
    )
    card = Card(EVIL, EVIL, EVIL, EVIL, fields=((EVIL, EVIL),), pairs=((EVIL, ""), (EVIL, EVIL)))
    blocks = (
        Text(EVIL),
        Table((EVIL, EVIL), ((EVIL, EVIL),), EVIL),
        Figure((plot,), EVIL),
        Code(EVIL),
        Matrix((EVIL,), ((Cell(3, 2, True),),), EVIL),
        Cards((card,), EVIL),
        Terms(((EVIL, EVIL),)),
        Folded(EVIL, (Text(EVIL),)),
        Verdict(EVIL, EVIL),
        Part(EVIL, (Text(EVIL),)),
    )
    html = render(page(*blocks, title=EVIL))
    assert "<script" not in html and "<img src=x" not in html
    made = pages.Page(html)
    assert made.text.count(EVIL) >= 20
    assert EVIL in made.titles and EVIL in made.alts
    half = render(page(Text("half a pair: \ud800, and \x00")))
    assert "half a pair: ?, and" in pages.Page(half).words


def test_a_page_is_written_whole_or_refused(tmp_path, monkeypatch):
    write(page(Text("said")), tmp_path / "new" / "report.html")
    assert "said" in pages.read(tmp_path / "new" / "report.html").words
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as refused:
        write(page(), tmp_path / "file" / "report.html")
    assert str(refused.value).splitlines()[0] == f'file "{tmp_path}/file/report.html": cannot be written.'
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError) as refused:
        render(page())
    assert str(refused.value).splitlines() == [
        "package jinja2: is needed to write reports, and not installed.",
        "  try:   pip install -e '.[report]'",
    ]


@pytest.mark.parametrize(
    ("bounds", "marks", "labels"),
    [
        ((0.0, 1.0), [0, 0.2, 0.4, 0.6, 0.8, 1.0], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ((0.0, 40_000.0), [0, 10_000, 20_000, 30_000, 40_000], ["0", "10k", "20k", "30k", "40k"]),
        ((3.0, 3.0), [3.0], ["3"]),
        ((0.81, 0.89), [0.82, 0.84, 0.86, 0.88], ["0.82", "0.84", "0.86", "0.88"]),
    ],
)
def test_ticks_are_round_numbers(bounds, marks, labels):
    found = svg.ticks(*bounds)
    assert found == pytest.approx(marks)
    assert svg.tick_labels(found) == labels


def numbers(html):
    return [float(n) for n in re.findall(r"-?\d+\.?\d*", " ".join(re.findall(r' d="([^"]*)"', html)))]


@pytest.mark.parametrize("y", [[1.0, 2.0, 4.0], [np.nan, 2.0, np.nan], [np.nan] * 3, [5.0] * 3, [1e-9, 2e-9, 3e-9]])
def test_a_chart_holds_its_lines(y):
    line = svg.Series("", np.arange(3.0), np.array(y), kind="dotted line")
    made = svg.chart([line], svg.Axis("step"), svg.Axis(), "alt")
    assert "nan" not in made and "inf" not in made
    assert all(-1 <= n <= max(svg.WIDTH, svg.HEIGHT) + 1 for n in numbers(made))
    assert made.count("<circle") == int(np.isfinite(y).sum())
    pages.Page(render(page(Figure((Plot("t", made),), ""))))


def test_a_chart_of_nothing_is_a_frame():
    empty = svg.chart([], svg.Axis("step"), svg.Axis(), "nothing")
    pages.Page(render(page(Figure((Plot("t", empty),), ""))))


def test_intervals_are_drawn_where_they_are():
    rows = [("a", Interval(0.5, 0.4, 0.6)), ("b" * 40, Interval(0.7, float("nan"), float("nan")))]
    made = svg.ranges(rows, "accuracy", "two")
    assert made.count("<circle") == 2 and made.count('class="line first"') == 1 and "b…" in made
    begin, end = (float(n) for n in re.search(r'd="M([\d.]+) 20H([\d.]+)" class="line first"', made).groups())
    middle = float(re.search(r'<circle cx="([\d.]+)"', made)[1])
    assert middle == pytest.approx((begin + end) / 2, abs=0.2)


def test_curves_are_those_of_every_threshold():
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 6, 60) / 5.0, rng.random(60) < 0.4
    recall, precision = precision_recall(scores, truth)
    for place, threshold in enumerate(sorted(set(scores), reverse=True)):
        said = scores >= threshold
        assert precision[place] == pytest.approx((truth & said).sum() / said.sum())
        assert recall[place] == pytest.approx((truth & said).sum() / truth.sum())
    assert average_precision(scores, truth) == pytest.approx((np.diff(np.concatenate([[0], recall])) * precision).sum())
    false, found = roc(scores, truth)
    assert (false[0], found[0], false[-1], found[-1]) == (0, 0, 1, 1)
    x, y = precision_recall(rng.random(5000), rng.random(5000) < 0.5)
    assert len(x) == len(y) == 160 and x[-1] == 1


def test_pictures_and_sounds_are_within_the_page():
    small = pictures.image(Image(np.zeros((8, 8, 1), np.uint8)), "digit")
    large = pictures.image(Image(np.zeros((500, 900, 3), np.uint8)), "photo")
    clear = pictures.image(Image(np.zeros((80, 80, 4), np.uint8)), "drawing")
    assert small.kind == "small" and small.uri.startswith("data:image/png") and clear.uri.startswith("data:image/png")
    assert large.kind == "photo" and large.uri.startswith("data:image/jpeg") and len(large.uri) < 20_000
    tone = np.sin(np.arange(8000) * 2 * np.pi * 1000 / 8000).astype(np.float32)
    levels = pictures._levels(Sound(tone, 8000))
    assert abs(levels.mean(0).argmax() / (levels.shape[1] - 1) * 4000 - 1000) < 40
    assert pictures.audible(Sound(tone, 8000)).startswith("data:audio/wav;base64,UklGR")
    assert pictures.audible(Sound(np.zeros(8000 * 16, np.float32), 8000)) == ""
    features = Sound(np.random.default_rng(0).normal(size=(50, 13)), 100)
    assert pictures.spectrogram(features, "cepstra").uri.startswith("data:image/png")
    assert pictures.audible(features) == ""
    assert pictures._levels(Sound(np.zeros(10, np.float32), 8000)).shape[0] >= 1


def test_a_classifier_is_readable_on_a_desk_and_on_a_phone(tmp_path):
    """Nothing is cut: tables fit, and of a matrix that does not, the names of its rows stay in view."""
    rng = np.random.default_rng(0)
    blocks = []
    for names in (["T-shirt/top", "Ankle boot", *map(str, range(8))], [f"an intent of number {i}" for i in range(26)]):
        labels, logits = rng.integers(0, len(names), 500), rng.normal(size=(500, len(names)))
        blocks += [
            block
            for title, artifact in class_artifacts(logits, labels, names, str).items()
            if title != "Most confident errors"
            for block in drawn(artifact)
        ]
    write(page(*blocks), tmp_path / "report.html")
    with chromium() as browser:
        for size, cut in ((DESK, []), (PHONE, [26])):
            tab = browser.new_page(viewport=size)
            tab.goto((tmp_path / "report.html").as_uri())
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
            wide = """() => [...document.querySelectorAll(".scroll:has(.matrix)")]
                .filter((each) => each.scrollWidth > each.clientWidth)
                .map((each) => { each.scrollLeft = 1000; return each.querySelectorAll("tbody tr").length; })"""
            assert tab.evaluate(wide) == cut
            left = "each => each.getBoundingClientRect().left"
            assert all(tab.eval_on_selector(f".{kind} tbody th", left) >= 0 for kind in ("matrix", "many"))
            small = """() => [...document.querySelectorAll(".matrix td")].filter((each) => each.textContent)
                .filter((each) => each.scrollWidth > each.clientWidth + 1).length"""
            assert tab.evaluate(small) == 0, "counts fit their cells"


def test_records_with_pictures_are_cards_that_show_them():
    """A picture in a cell would be a path; what stands beside it is told by column."""
    picture = Image(np.full((4, 4, 3), 200, np.uint8))
    examples = (
        Example({"caption": "a dog", "photo": picture, "width": "200"}, "yes (1 %)", "no (99 %)", 4.6),
        Example({"caption": "a cat", "width": "333"}, "no", "yes", 2.0),  # its picture is missing
    )
    (cards,) = drawn(Gallery("The worst.", examples, 9))
    first, second = cards.cards
    assert first.picture is not None and second.picture is None
    assert first.fields == (("caption", "a dog"), ("width", "200")) and second.fields[0] == ("caption", "a cat")
    assert (first.wanted, first.answered, cards.caption) == ("yes (1 %)", "no (99 %)", "The worst. 2 of 9.")
    (table, _) = drawn(Gallery("The worst.", examples[1:], 1))
    assert table.rows == (("yes", "no", "a cat", "333"),)
