"""The documentation: sizes, links, anchors and names, and the complete task that ARCHITECTURE.md shows.

tests/test_docs_commands.py runs its commands.
"""

import re
from pathlib import Path

import numpy as np
import pytest

import suite
from tests.conftest import ROOT
from tests.documents import INDEX, README, anchors, blocks, headings, links

EXAMPLE = ROOT / "docs" / "examples" / "regression.py"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_architecture_is_short_and_shows_the_tested_task():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 12 * 1024
    assert f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```" in text


def test_the_readme_is_short():
    assert 6_000 <= len(README.read_bytes()) <= 8_192


def test_the_image_of_the_readme_is_small():
    (image,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    assert (ROOT / image).stat().st_size < 150_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link in links(page):
        name, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


def test_every_page_is_reachable_from_the_index():
    reached, waiting = set(), [INDEX]
    while waiting:
        page = waiting.pop().resolve()
        if page not in reached and page.suffix == ".md" and page.is_relative_to(ROOT / "docs"):
            reached.add(page)
            waiting += [page.parent / link.partition("#")[0] for link in links(page) if "://" not in link]
    assert reached == set((ROOT / "docs").rglob("*.md"))
    assert (INDEX.parent / "../docs/README.md").resolve() in [(ROOT / link).resolve() for link in links(README)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_headings_are_nouns(page):
    """None begins with a question word, and there is one of the first level."""
    assert not [heading for heading in headings(page) if re.match(r"(What|Why|How|Where|When|Who)\b", heading)]
    levels = re.findall(r"^(#+) ", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL), re.M)
    assert levels.count("#") == 1 and levels[0] == "#"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_say_how_they_are_tested(page):
    for block in blocks(page):
        assert block.tested in ("", "slow", "parsed"), f"{page.name}, line {block.line}: {block.tested}"


@pytest.mark.parametrize(
    "page",
    ["ARCHITECTURE.md", "docs/walks.md", *(f"docs/decisions/{p.name}" for p in PAGES if p.parent.name == "decisions")],
)
def test_files_that_are_named_exist(page):
    """A path such as `training/step.py` is one of the repository's or of the package's."""
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for name in set(re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.py)`", text)):
        assert (ROOT / name).is_file() or (ROOT / "suite" / name).is_file(), f"{page} names {name}"


def test_every_decision_is_listed():
    folder = ROOT / "docs" / "decisions"
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8")))
    assert listed == {path.name for path in folder.glob("*.md")} - {"README.md"}


def test_the_complete_task_learns_and_answers(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    size, age = rng.uniform(0, 1, 400), rng.uniform(0, 1, 400)
    price = 3 * size - age + rng.normal(0, 0.05, 400)
    rows = [f"{s:.4f},{a:.4f},{p:.4f}" for s, a, p in zip(size, age, price, strict=True)]
    (tmp_path / "houses.csv").write_text("\n".join(["size,age,price", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    run = suite.train(suite.load(str(EXAMPLE)), Path("run"))
    assert run.evaluate("test").metrics["test/mae"] < 0.15
    (answer,) = run.predict({"size": [0.5], "age": [0.5]})
    assert answer["price"] == pytest.approx(1.0, abs=0.2)
    bundle = suite.export(run, "bundle", platforms=("cpu",), allow=("regression",))
    assert bundle.predict({"size": [0.5], "age": [0.5]})[0]["price"] == pytest.approx(answer["price"], abs=1e-5)
