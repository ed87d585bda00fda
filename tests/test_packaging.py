"""Packaging: the wheel and the source distribution hold all that is shipped, and run from any folder."""

import importlib.util
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from suite.experiment import recipes
from tests.conftest import ROOT

BUILD = """
import json, sys
from setuptools import build_meta
print(json.dumps(getattr(build_meta, sys.argv[1])(sys.argv[2])))
"""
SHIPPED = (".py", ".html", ".css", ".js")

pytestmark = pytest.mark.skipif(importlib.util.find_spec("setuptools") is None, reason="needs setuptools to build")


def build(source, kind, target):
    """The path of a distribution of the folder ``source``, built by setuptools as pip would, without a network."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, f"build_{kind}", str(target)], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return target / json.loads(done.stdout.splitlines()[-1])


def shipped():
    """Paths below ``suite`` of every file of the package, with tasks and configs where they are imported from."""
    tops = {ROOT / "suite": Path("suite"), ROOT / "tasks": Path("suite/tasks"), ROOT / "configs": Path("suite/configs")}
    return {
        (inside / path.relative_to(top)).as_posix()
        for top, inside in tops.items()
        for path in top.rglob("*")
        if path.suffix in SHIPPED and path.is_file()
    }


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """(wheel, source distribution) of a copy of what a checkout holds."""
    source = tmp_path_factory.mktemp("checkout")
    for name in ("suite", "tasks", "configs"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    target = tmp_path_factory.mktemp("built")
    return build(source, "wheel", target), build(source, "sdist", target)


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory):
    """The folder of the wheel's packages, as pip unpacks them."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(distributions[0]) as wheel:
        wheel.extractall(folder)
    return folder


def test_a_checkout_has_what_is_looked_for():
    names = shipped()
    assert {"suite/tasks/vision/classification.py", "suite/configs/vision/digits_dnn.py"} <= names
    assert {"suite/serving/page/index.html", "suite/reporting/page.css"} <= names
    assert not any("/tasks/tasks/" in name for name in names)


def test_the_wheel_holds_every_file(distributions):
    with zipfile.ZipFile(distributions[0]) as wheel:
        names = set(wheel.namelist())
    packed = {name for name in names if name.startswith("suite/")}
    assert packed == shipped() | {"suite/py.typed"}
    tops = {name.split("/")[0] for name in names}
    assert len(tops) == 2 and "suite" in tops  # the other describes it; no top-level tasks or configs
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    with zipfile.ZipFile(distributions[0]) as wheel:
        assert "suite = suite.cli.app:main" in wheel.read(entry_points).decode()


def test_the_source_distribution_makes_the_same_wheel(distributions, tmp_path):
    wheel, archive = distributions
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    again = build(source, "wheel", tmp_path)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert set(one.namelist()) == set(other.namelist())


def test_packages_in_the_working_directory_hide_none_of_ours(installed, tmp_path):
    """Folders called tasks and configs are common; ours are found below ``suite``."""
    for name in ("configs", "tasks"):
        (tmp_path / name / "vision").mkdir(parents=True)
        for package in (tmp_path / name, tmp_path / name / "vision"):
            (package / "__init__.py").write_text("raise RuntimeError('the user's own')")
    (tmp_path / "configs" / "vision" / "mine.py").write_text('"""A recipe of another project."""')

    def asked(*arguments):
        environment = {"PYTHONPATH": str(installed), "PATH": ""}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = {line.split(" ")[0] for line in asked("-m", "suite", "list").splitlines()}
    assert {name for name in listed if "." in name} == set(recipes.names())
    code = (
        "import suite; e = suite.load('vision.digits_dnn', smoke=True); print(suite.__file__, type(e.task).__module__)"
    )
    assert asked("-c", code).split() == [str(installed / "suite" / "__init__.py"), "suite.tasks.vision.classification"]
