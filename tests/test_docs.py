"""The documentation: its sizes, links and names, and the complete task that ARCHITECTURE.md shows."""

import re
from pathlib import Path

import numpy as np
import pytest

import suite
from tests.conftest import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "regression.py"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_architecture_is_short_and_shows_the_tested_task():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 12 * 1024
    assert f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


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
