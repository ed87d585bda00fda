"""Children of a process run the suite that it runs, from wherever it was imported and wherever it stands."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

ASK = """
import os, subprocess, sys
from suite.runtime import child, decoders
os.chdir({folder!r})
print(decoders.call("it", eval, "__import__('suite').__file__"), flush=True)
told = "import suite, suite.tasks; print(suite.__file__); print(suite.tasks.__path__[0])"
subprocess.run([sys.executable, "-P", "-c", told], env=child.environment(), check=True)
"""


@pytest.mark.parametrize("imported", ["from the folder it stood in", "from PYTHONPATH", "from a relative PYTHONPATH"])
def test_children_import_the_suite_of_their_parent(tmp_path, imported):
    ours = tmp_path / "checkout"
    ours.mkdir()
    (ours / "suite").symlink_to(ROOT / "suite")
    paths = {"from the folder it stood in": "", "from PYTHONPATH": str(ours), "from a relative PYTHONPATH": "checkout"}
    start = {"from the folder it stood in": ours}.get(imported, tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if paths[imported]:
        environment["PYTHONPATH"] = paths[imported]
    script = ASK.format(folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=start, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    files = ["suite/__init__.py", "suite/__init__.py", "suite/tasks"]
    assert done.stdout.splitlines() == [str(ours / file) for file in files]
