"""The task scripts of scripts/tasks: from data to a served answer in one process, as a person copies them."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SCRIPTS = {
    "text": ("accuracy", "'label'"),
    "vision": ("accuracy", "'label'"),
    "speech": ("wer", "'text'"),
    "recommendation": ("auc", "'probability'"),
}
"""A metric and a part of the answers that each prints."""
GOALS = {"text": ("accuracy", 0.9), "vision": ("accuracy", 0.7), "speech": ("wer", 0.5), "recommendation": ("auc", 0.7)}
"""Reached with the default number of epochs on the made-up data, which can be learnt almost without error."""


def executed(name, folder, *arguments):
    """Lines that a script prints: metrics, answers of the run, answers over HTTP."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "tasks" / f"{name}.py", "--to", folder / "work", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.strip()]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("speech", "text", "vision"))) for name in SCRIPTS]
)
def test_a_script_goes_from_data_to_an_answer_over_http(name, tmp_path):
    metric, answer = SCRIPTS[name]
    lines = executed(name, tmp_path, "--epochs", "1")
    assert any(f"'test/{metric}'" in line for line in lines)
    answered = [line for line in lines if answer in line]
    assert len(answered) >= 2, lines  # by the run, and by the server


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_learns_its_made_up_data(name, tmp_path):
    (metric, bound), lines = GOALS[name], executed(name, tmp_path)
    (metrics,) = [eval(line) for line in lines if f"'test/{metric}'" in line]
    reached = metrics[f"test/{metric}"]
    assert reached <= bound if metric == "wer" else reached >= bound


def test_the_scripts_are_short_and_linked():
    for name in SCRIPTS:
        assert len((ROOT / "scripts" / "tasks" / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 65
        assert f"scripts/tasks/{name}.py" in (ROOT / "README.md").read_text(encoding="utf-8")
