"""Each notebook runs from its first cell to its last, in its smallest form, and is what Colab is given."""

import gzip
import importlib.metadata
import io
import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from PIL import Image

import suite
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
LONG = ("laptop_to_pod", "speech")
"""Those that take most of a minute: with -m slow. What they call, the tests of meshes and of speech call too."""


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
    environment = {**os.environ, "SMOKE": "1", "PYTHONPATH": path}
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


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in SAYS])
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


@pytest.fixture
def installing(monkeypatch):
    """Runs the first cell where the suite is not installed; returns what pip was asked, and the error."""
    monkeypatch.setitem(sys.modules, "suite", None)

    def run(source, code=0, then=lambda: None):
        asked = []

        def pip(command):
            asked.append(command)
            then()
            return SimpleNamespace(returncode=code)

        monkeypatch.setattr(subprocess, "run", pip)
        with pytest.raises((RuntimeError, ImportError)) as error:  # an ImportError, as nothing was installed
            exec(first(source), {})
        return asked, str(error.value)

    return run


def test_the_first_cell_stands_alone(installing, tmp_path, monkeypatch):
    """Far from a checkout it installs from the index, or says what it needs."""
    monkeypatch.chdir(tmp_path)
    (command,), error = installing(notebooks.sources()[0], code=1)
    assert command[4] == "-q" and command[5].startswith("jax-model-suite[") and "Set REPOSITORY" in error


def test_a_session_that_holds_other_versions_is_restarted(installing, tmp_path, monkeypatch):
    """A kernel that loaded a package before another version of it was installed mixes both."""
    monkeypatch.chdir(tmp_path)
    real = importlib.metadata.distributions
    other = SimpleNamespace(name="numpy", version="0.0.1")
    _, error = installing(notebooks.sources()[0])
    assert "restart" not in error
    later = lambda: monkeypatch.setattr(importlib.metadata, "distributions", lambda: [*real(), other])
    _, error = installing(notebooks.sources()[0], then=later)
    assert "had loaded numpy in another version" in error and "restart the session" in error


@pytest.mark.parametrize("source", notebooks.sources(), ids=lambda path: path.stem)
def test_the_first_cell_installs_from_where_it_lies(source, installing, monkeypatch):
    """Without TensorFlow, and without pins that would replace what a session has loaded."""
    monkeypatch.chdir(source.parent)
    (command,), _ = installing(source)
    assert command[:5] == [sys.executable, "-m", "pip", "install", "-q"] and len(command) == 6
    folder, extras = re.fullmatch(r"(.*)\[(.*)\]", command[5]).groups()
    assert Path(folder) == ROOT and not {"prepare", "tfds"} & set(extras.split(","))
    assert "tensorflow" not in source.read_text(encoding="utf-8")
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= known.keys()


def cells(name, archive, folder, monkeypatch):
    """Runs the cells up to the one that writes the data, where nothing is prepared; ``archive`` is what is fetched."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder / "nothing"))
    monkeypatch.setattr(urllib.request, "urlretrieve", lambda address, path: Path(path).write_bytes(archive(address)))
    code = notebooks.code(ROOT / "notebooks" / f"{name}.py")
    found = {"suite": suite, "Path": Path, "SMOKE": False, "sys": sys, "subprocess": subprocess}
    for cell in code[1:3]:
        exec(cell, found)
    return found


def packed(files):
    """A zip archive as bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text.encode("latin-1"))
    return content.getvalue()


def test_texts_are_fetched_where_none_are_prepared(tmp_path, monkeypatch):
    lines = "sentence\tlabel\na fine film \t1\na dull film \t0\n"
    archive = packed({"SST-2/train.tsv": lines, "SST-2/dev.tsv": lines})
    cells("text", lambda address: archive, tmp_path, monkeypatch)
    written = (tmp_path / "own_data" / "reviews.csv").read_text(encoding="utf-8").splitlines()
    assert written[0] == "review,label,split"
    assert sorted(written[1:3]) == ["a dull film,negative,train", "a fine film,positive,train"]
    assert written[3:] == ["a fine film,positive,test", "a dull film,negative,test"]


def test_pictures_are_fetched_where_none_are_prepared(tmp_path, monkeypatch):
    pixels = (np.arange(3 * 784) % 251).astype(np.uint8)
    parts = {"images": bytes(16) + pixels.tobytes(), "labels": bytes(8) + bytes([0, 9, 3])}
    archive = lambda address: gzip.compress(next(part for name, part in parts.items() if name in address))
    cells("vision", archive, tmp_path, monkeypatch)
    folder = tmp_path / "own_data" / "clothes"
    np.testing.assert_array_equal(Image.open(folder / "Ankle boot" / "1.png"), pixels[784:1568].reshape(28, 28))
    assert (folder / "T-shirt or top" / "0.png").is_file() and (folder / "Dress" / "2.png").is_file()


def test_ratings_are_fetched_where_none_are_prepared(tmp_path, monkeypatch):
    flags = "|".join("1" if i in (1, 3) else "0" for i in range(19))
    files = {
        "u.genre": "".join(f"genre{i}|{i}\n" for i in range(19)) + "\n",
        "u.item": f"7|Caf\xe9 (1995)|01-Jan-1995||http://x|{flags}\n8|unknown||||{flags}\n",
        "u.user": "1|24|M|technician|85711\n",
        "u.data": "".join(f"1\t{7 + i % 2}\t{1 + i % 5}\t{100 + i}\n" for i in range(10)),
    }
    archive = packed({f"ml-100k/{name}": text for name, text in files.items()})
    found = cells("recommendation", lambda address: archive, tmp_path, monkeypatch)
    written = (tmp_path / "own_data" / "clicks.csv").read_text(encoding="utf-8").splitlines()
    assert written[0] == "user_id,movie_id,genres,year,age,gender,occupation,clicked,split" and len(written) == 11
    assert written[1] == "1,7,genre1|genre3,1995,24,1,technician,0,train"
    assert written[9] == "1,7,genre1|genre3,1995,24,1,technician,1,validation"
    assert written[10] == "1,8,genre1|genre3,,24,1,technician,1,test"
    assert found["titles"]["7"] == "Caf\xe9 (1995)"
