"""suite list: a table of recipes, those for own data first, within the width of the terminal."""

import pytest

from suite.cli import list as module
from suite.experiment import recipes


@pytest.mark.parametrize("width", [80, 120, 160])
def test_the_table_fits_the_terminal(width, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    printed = command("list").splitlines()
    assert max(map(len, printed)) <= width
    named = [line.split()[0] for line in printed if line.split()[:1] and line.split()[0] in recipes.names()]
    assert sorted(named) == recipes.names()
    own = [entry["name"] for entry in recipes.describe() if module.is_own(entry)]
    assert set(named[: len(own)]) == set(own) and "text.classify" in own


def test_a_row_has_metric_time_model_and_data(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    lines = command("list", "speech").splitlines()
    (row,) = (place for place, line in enumerate(lines) if line.startswith("speech.fsdd_keyword "))
    assert "test accuracy 98.0 % 2 min Spoken digits as ten keywords" in " ".join(lines[row].split())
    assert lines[row + 1].startswith("    data: 3,000 recordings of 6 speakers")
    assert not any(line.startswith(("text.", "vision.")) for line in lines)


def test_one_recipe_is_printed_whole(command):
    printed = " ".join(command("list", "text.multi30k_translation").split())
    (entry,) = (entry for entry in recipes.describe() if entry["name"] == "text.multi30k_translation")
    assert all(value in printed for value in entry.values())
    assert "arXiv 2105.14462" in entry["source"]  # on the second line of its entry


@pytest.mark.parametrize(
    ("expected", "time", "short"),
    [
        ("test wer 13.3 % with the words, 18.4 % without", "22 minutes on 2 CPU cores", ("test wer 13.3 %", "22 min")),
        ("test auc 0.797 (three seeds)", "half a minute on 2 cores", ("test auc 0.797", "0.5 min")),
        ("not run; 76 %", "not run; mean of 8 GPUs", ("not run", "not run")),
        ("validation accuracy of the next character 56.3 %", "5 to 7 hours", ("validation accuracy 56.3 %", "5-7 h")),
    ],
)
def test_metric_and_time_are_short(expected, time, short):
    entry = {"expected": expected, "time": time}
    assert (module._metric(entry), module._time(entry)) == short


def test_the_three_nearest_names_on_a_typo(refused):
    printed = refused("train", "classfy", "--data", "my file.csv").splitlines()
    assert printed[1].removeprefix("  found: ").split(", ") == ["text.classify", "vision.classify", "speech.classify"]
    assert printed[2] == "  try:   suite train text.classify --data 'my file.csv'"
    assert refused("list", "visoin").splitlines()[-1] == "  try:   suite list vision"
    assert refused("train", "qqqqqqq").splitlines()[-1] == "  try:   suite list"
