"""The documentation: sizes, links, anchors and names, and the complete task that ARCHITECTURE.md shows.

tests/test_docs_commands.py runs its commands.
"""

import json
import re
import shlex
from dataclasses import MISSING
from pathlib import Path

import numpy as np
import pytest

import suite
from suite.cli.app import VERBS
from suite.cli.fields import apply_flags
from suite.cli.flags import options, parse
from suite.experiment import recipes
from tests.conftest import ROOT
from tests.documents import INDEX, README, anchors, blocks, command_lines, headings, links, pages, prose

EXAMPLE = ROOT / "docs" / "examples" / "regression.py"
DESCRIBED = pages()
"""Pages about commands."""
REFERENCE = ROOT / "docs" / "command_line.md"
"""The generated one."""
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


@pytest.mark.parametrize("page", DESCRIBED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_are_understood(page):
    """Verbs, flags, recipes and fields of fenced commands, those that are never run included, by the real parser."""
    for line in command_lines(page):
        words = shlex.split(line, comments=True)[1:]
        name = next(name for name in (" ".join(words[:2]), words[0]) if name in VERBS)
        given = parse(VERBS[name].flags, words[len(name.split()) :])
        recipe = getattr(given, "experiment", "")
        if recipe and not recipe.endswith(".py") and not recipe.startswith("runs/"):
            experiment = recipes.load(recipe)
            apply_flags(experiment, list(given.fields), line)


@pytest.mark.parametrize(
    "page", [page for page in DESCRIBED if page != REFERENCE], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_flags_in_prose_are_flags(page):
    """A flag or a field that a sentence or a table names is one of some verb, or of some experiment."""
    text = re.sub(r"`(scripts|python|XLA_FLAGS=)[^`]*`", "", prose(page))
    for name in set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", text)):
        assert name in FLAGS or is_field(name), f"{page.name} names {name}"


FLAGS = {option.name for verb in VERBS.values() for option in options(verb.flags)} | {"--help", "--dry-run", "--peers"}
RECIPES = (
    "multimodal.match",
    "text.classify",
    "text.language_model",
    "text.translate",
    "vision.classify",
    "vision.detect",
    "vision.generate",
    "vision.generate_text",
    "vision.pretrain",
    "vision.pretrain_masked",
    "text.pretrain",
    "speech.fsdd_ctc",
    "speech.synthesize",
    "speech.transcribe",
    "speech.vocode",
    "speech.vocode_hifigan",
    "speech.pretrain",
    "speech.pretrain_contrast",
    "recommendation.retrieve",
    "recommendation.movielens_din",
    "recommendation.sequence",
    "recommendation.linear",
    "recommendation.sequence_tags",
)
TARGETS = (
    "recommendation.click",
    "recommendation.multitask",
    "multimodal.match",
    "table.predict",
    "text.pair",
    "vision.label",
    "vision.segment",
)
TEXTS = ("multimodal.match", "text.embed", "text.encoder", "text.tag")
SECTIONS = [recipes.load(name) for name in (*RECIPES, *TARGETS, *TEXTS)]


def is_field(name):
    """Whether an experiment has a field of this dotted name; those of methods of compression are their own."""
    path = name.removeprefix("--").split(".")
    path = ["compression", *path] if path[0] in ("prune", "distill") else path
    path = ["finetune", "kind"] if path == ["finetune"] else path
    path = ["compression", "prune", *path] if path in (["criterion"], ["pattern"], ["units"]) else path
    for value in SECTIONS:
        for part in path:
            value = value.get(part, MISSING) if isinstance(value, dict) else getattr(value, part, MISSING)
        if value is not MISSING:
            return True
    return False


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


def test_the_page_of_speed_is_what_its_figures_make():
    from benchmarks import page

    cases = page.read()
    assert page.PAGE.read_text() == page.page(cases), "python -m benchmarks.page"
    assert page.DRAWING.read_text() == page.drawing(cases), "python -m benchmarks.page"


def test_of_two_figures_of_a_case_the_page_has_the_later_one(tmp_path):
    from benchmarks import page

    row = dict(case="a", kind="training", date="2026-01-01", ms=1, ratio=0.9, low=0.8, high=0.95, peer="p", command="c")
    (tmp_path / "r.jsonl").write_text("".join(json.dumps({**row, **new}) + "\n" for new in ({}, {"high": 1.2})))
    (case,) = page.read(tmp_path / "r.jsonl")
    assert case.verdict == "even" and page.Case(**row).verdict == "behind"
