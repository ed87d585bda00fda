"""Each notebook runs from its first cell to its last, in its smallest form, and is what Colab is given."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from scripts import notebooks
from suite.data.sources.datasets import Tfds
from suite.data.sources.speech import SpokenDigits
from suite.errors import InputError

ROOT = Path(__file__).parent.parent
DATA = {
    "text": Tfds(name="glue/sst2"),
    "vision": Tfds(name="fashion_mnist"),
    "speech": SpokenDigits(path=f"{os.environ.get('SUITE_DATA', 'data')}/fsdd"),
    "recommendation": Tfds(name="movielens/100k-ratings"),
}
"""What a notebook cannot do without."""
SAYS = {
    "text": (r"test accuracy (0\.\d+), validation", 4),
    "vision": (r"test accuracy (0\.\d+)", 5),
    "speech": (r"test word error rate (\d\.\d+)", 4),
    "recommendation": (r"test auc (0\.\d+)", 3),
    "laptop_to_pod": (r"data 2, fsdp 2, tensor 2 +loss (\d\.\d+)", 1),
}
"""What a notebook prints of its result, and how many figures it draws at the least."""


@pytest.mark.parametrize("source", notebooks.sources(), ids=lambda path: path.stem)
def test_the_notebook_is_what_its_source_gives(source):
    made = source.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert made == notebooks.notebook(source), "scripts/notebooks write"
    cells = json.loads(made)["cells"]
    nbformat.validate(json.loads(made))
    assert [cell["cell_type"] for cell in cells[:2]] == ["markdown", "code"]
    assert all(not cell.get("outputs") for cell in cells)


def executed(name, folder):
    """(standard output, figures) of a notebook run in ``folder``."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    # Compiling is most of what a few steps cost.
    environment = {**os.environ, "SMOKE": "1", "PYTHONPATH": path, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    command = [sys.executable, "-W", "error::UserWarning", "-W", "error::RuntimeWarning"]
    done = subprocess.run(
        [*command, ROOT / "scripts/notebooks.py", "run", name, "--figures", "figures"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout, sorted((folder / "figures").glob("*.png"))


@pytest.mark.parametrize("name", SAYS)
def test_a_notebook_runs(name, tmp_path):
    if name in DATA:
        try:
            DATA[name].open("train")
        except InputError as error:
            pytest.skip(f"the data is missing: {error.where}: {error.problem}")
    said, figures = executed(name, tmp_path)
    pattern, least = SAYS[name]
    (value,) = re.findall(pattern, said)
    assert np.isfinite(float(value))
    assert len(figures) >= least
    for figure in figures:
        pixels = np.asarray(Image.open(figure).convert("L"))
        assert pixels.std() > 5, f"{figure.name} is blank"
    results = [json.loads(path.read_text()) for path in tmp_path.glob("runs/**/result.json")]
    assert results and all(np.isfinite(value) for result in results for value in result["metrics"].values())
    assert "no faults" in said or "fault:" in said  # what suite doctor says
    if name == "laptop_to_pod":
        assert float(re.search(r"one device +loss (\d\.\d+)", said)[1]) == pytest.approx(float(value), rel=1e-4)
        assert "the same parameters: True" in said and "the same log: True" in said


def test_every_notebook_is_run():
    assert sorted(SAYS) == [source.stem for source in notebooks.sources()]


def first(source):
    """The cell that installs."""
    return notebooks.code(source)[0]


def test_the_first_cell_is_the_same_in_all():
    cells = {re.sub(r"^EXTRAS = .*$", "", first(source), flags=re.MULTILINE) for source in notebooks.sources()}
    assert len(cells) == 1


def test_the_first_cell_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "suite", None)  # not installed
    with pytest.raises(RuntimeError, match="Set REPOSITORY"):
        exec(first(notebooks.sources()[0]), {})


@pytest.mark.parametrize("source", notebooks.sources(), ids=lambda path: path.stem)
def test_the_first_cell_installs_from_where_it_lies(source, monkeypatch):
    monkeypatch.chdir(source.parent)
    monkeypatch.setitem(sys.modules, "suite", None)
    asked = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: asked.append(command))
    with pytest.raises(ImportError):  # as nothing was installed
        exec(first(source), {})
    (command,) = asked
    assert command[:6] == [sys.executable, "-m", "pip", "install", "-q", "-c"]
    folder, extras = re.fullmatch(r"(.*)\[(.*)\]", command[7]).groups()
    assert (Path(command[6]), Path(folder)) == (ROOT / "constraints.txt", ROOT)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= known.keys()
