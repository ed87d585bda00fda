"""Programs and bundles of anyone, opened in a process that may crash or hang at them and is then started anew."""

import os
import select
import subprocess
import sys
from collections import Counter

from tests.conftest import ROOT

SECONDS = 20
"""In which a case is opened, else its process is ended."""


class Opener:
    """What opens cases; counts what became of them.

    Attributes:
        counts: "opened", "refused", "crashed", "hung" -> cases.
    """

    def __init__(self):
        self.counts = Counter()
        self._process = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._end()

    def _end(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _line(self, seconds):
        """The next line; empty where the process has ended, None where it takes longer."""
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        return self._process.stdout.readline() if ready else None

    def open(self, path):
        """What is wrong with how a case was opened; empty where nothing is: it was opened, refused in words, or ended
        its process, which is what such a process is for."""
        if self._process is None:
            command = [sys.executable, "-m", "tests.fuzz.opening_child"]
            given = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self._process = subprocess.Popen(command, text=True, cwd=ROOT, env=given, bufsize=1, **pipes)
            assert self._line(120) == "ready\n"
        self._process.stdin.write(f"{path}\n")
        said = self._line(SECONDS)
        kind = "hung" if said is None else said.split()[0] if said else "crashed"
        self.counts[kind] += 1
        if kind in ("hung", "crashed"):
            self._end()
        return said if kind == "raised" else ""
