"""Completion in shells, and the command reference."""

import shlex
import shutil
import subprocess

import pytest

from suite.cli import app, reference
from suite.experiment import recipes


def completed(command, *words):
    """What bash offers for the last of ``words``."""
    script = command("completion", "bash")
    ask = f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; _suite; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_verbs_flags_fields_and_experiments(command):
    assert completed(command, "suite", "tr") == ["train"]
    assert completed(command, "suite", "train", "text.c") == ["text.classify"]
    assert set(completed(command, "suite", "list", "vision.")) == {n for n in recipes.names() if n[:7] == "vision."}
    assert completed(command, "suite", "train", "text.classify", "--run") == ["--run-dir"]
    assert completed(command, "suite", "train", "x", "--optim.learning") == ["--optim.learning_rate"]
    assert completed(command, "suite", "evaluate", "runs/a", "--batch") == ["--batch-size"]
    assert completed(command, "suite", "data", "in") == ["inspect"]
    assert completed(command, "suite", "data", "inspect", "text.cl") == ["text.classify"]
    assert completed(command, "suite", "completion", "f") == ["fish"]


def test_another_shell_is_refused(refused):
    assert refused("completion", "fsh").endswith("  try:   suite completion fish\n")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_know_every_verb(shell, command):
    script = command("completion", shell)
    assert all(name.split()[0] in script for name in app.VERBS) and "text.classify" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n", "-c", script], check=True)


def test_the_command_reference_is_fresh():
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "python -m suite.cli.reference"
