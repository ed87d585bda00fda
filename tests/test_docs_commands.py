"""Every command of README and docs, in order, in one folder that begins empty.

Commands are run as they are printed, except that a server gets a free port and two batch sizes, and that recipes are
shrunk to a few steps (``--smoke``): all of them in the quick tests, the long ones with -m slow.
"""

import contextlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from scripts.tasks import sample_data
from suite.cli.app import main
from tests.conftest import ROOT
from tests.documents import README, Block, blocks, pages
from tests.parity import golden
from tests.serving.asking import Serving

NEEDS = {"reports.md": ["compression.md"], "serving.md": ["tasks/image_classification.md", "tasks/click_prediction.md"]}
"""Pages that use what another page made; all of them use what README made."""
TRAINING = ("train", "tune", "run")
PAGES = [page for page in pages() if any(block.language in ("sh", "python") for block in blocks(page))]
OWN = ("--data", ".py", "digits")
"""What marks a recipe that trains within seconds."""


class Shell:
    """Runs commands as a shell would, in a folder of its own.

    Attributes:
        folder: where they run: it holds links to the scripts of the repository and a small BERT, nothing else.
        slow: run the slow ones too, and recipes for own data in full.
        unasked: lines of curl that were left out, since there is none.
    """

    def __init__(self, folder: Path, slow: bool):
        self.folder, self.slow = folder, slow
        self.done: set[Path] = set()
        self.server: Serving | None = None
        self.unasked = 0
        for name in ("scripts", "docs", "configs", "benchmarks"):
            (folder / name).symlink_to(ROOT / name)
        published(folder / "weights" / "bert")
        programs = folder / ".programs"
        programs.mkdir()
        for name, command in (("suite", "-m suite"), ("python", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {command} "$@"\n')
            (programs / name).chmod(0o755)
        path = os.pathsep.join([str(programs), os.environ["PATH"]])
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}

    def page(self, page: Path) -> None:
        """Runs the commands of a page, once, after those of the pages that it needs."""
        if page in self.done:
            return
        self.done.add(page)
        if page != README:
            for needed in (README, *(ROOT / "docs" / name for name in NEEDS.get(page.name, ()))):
                self.page(needed)
        try:
            for block in blocks(page):
                self.block(block)
        finally:
            self.stop()

    def block(self, block: Block) -> None:
        if block.tested == "parsed" or (block.tested == "slow" and not self.slow):
            return
        where = f"{block.page.name}, line {block.line}"
        if block.language == "sh":
            for command in block.commands:
                self.command(command, where)
        elif block.language == "python":
            self.python(block.text, where)

    def command(self, command: str, where: str) -> None:
        """Raises AssertionError where it fails, with what it printed."""
        words = shlex.split(command, comments=True)
        if words[0] == "suite" and words[1] == "serve":
            self.stop()
            self.server = Serving(*words[2:], "--sizes", "1", "4", cwd=self.folder)
        elif words[0] == "suite" and not {"|", "<", "&&"} & set(words):
            self.suite(words[1:], f"{where}: {command}")
        else:
            self.shell(command, f"{where}: {command}")

    def suite(self, words: list[str], where: str) -> None:
        """In this process, where programs are compiled already."""
        to = self.folder / words.pop() if ">" in words else None
        words = [word for word in words if word != ">"]
        printed = io.StringIO()
        code = 0
        with contextlib.redirect_stdout(printed):
            try:
                main(self.shrunk(words))
            except SystemExit as end:
                code = end.code
        assert code in ((0, 3) if words[0] in ("tune", "run", "compress") else (0,)), where
        assert printed.getvalue().strip() or words[0] == "convert", where
        if to is not None:
            to.write_text(printed.getvalue(), encoding="utf-8")

    def shrunk(self, words: list[str]) -> list[str]:
        """A recipe's smoke form, unless it is for own data and there is time."""
        own = any(mark in word for word in words for mark in OWN)
        if words[0] not in TRAINING or "--resume" in words or (self.slow and own):
            return words
        return [*words, "--smoke", *(["--goal.at_least", "0"] if words[0] in ("tune", "run") else [])]

    def shell(self, command: str, where: str) -> None:
        if command.startswith("curl "):
            assert self.server is not None, f"{where}: no server was started on this page"
            command = command.replace("localhost:8080", f"localhost:{self.server.port}")
            command = command.replace("curl ", "curl -sS --fail-with-body ", 1)
            if shutil.which("curl") is None:
                self.unasked += 1
                return
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{where}\n{done.stdout}\n{done.stderr}"

    def python(self, text: str, where: str) -> None:
        """Complete by itself, as a reader would paste it."""
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(text, where, "exec"), {"__name__": "__main__"})
        except Exception as error:
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error

    def stop(self) -> None:
        """The server stops as it should where it is asked to."""
        if self.server is None:
            return
        server, self.server = self.server, None
        with server:
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(60) == 0, "".join(server.log)


@pytest.fixture(scope="module")
def shells(tmp_path_factory):
    """Whether slow ones are run, too -> the shell that has run the pages so far."""
    begun: dict[bool, Shell] = {}

    def shell(slow: bool) -> Shell:
        if slow not in begun:
            begun[slow] = Shell(tmp_path_factory.mktemp("reader"), slow)
        return begun[slow]

    return shell


def published(folder: Path) -> None:
    """A tiny BERT with 128 positions and a tokenizer."""
    golden.folder(golden.load("bert_classifier"), folder)
    weights = {
        name: np.resize(value, (128, value.shape[1])) if "position_embeddings" in name else value
        for name, value in load_file(folder / "model.safetensors").items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 128}))
    words = [*["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], *sample_data.GOOD, *sample_data.BAD, "a", "film", "with"]
    words += [f"w{i}" for i in range(config["vocab_size"] - len(words))]
    (folder / "vocab.txt").write_text("\n".join([*words, ""]))


def run(shell: Shell, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shell.folder)
    shell.page(page)
    if shell.unasked:
        pytest.skip(f"curl is not installed: {shell.unasked} of its lines were left out, all others have run")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_commands_of_a_page(page, shells, monkeypatch):
    run(shells(False), page, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_commands_of_a_page_in_full(page, shells, monkeypatch):
    run(shells(True), page, monkeypatch)
