"""Packaging: the wheel and the source distribution hold all that is shipped, and run from any folder."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
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


def test_what_the_index_shows(distributions):
    """Name, extras, classifiers and keywords, by which the distribution is found."""
    with zipfile.ZipFile(distributions[0]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        about = wheel.read(name).decode()
    assert "\nName: jax-model-suite\n" in about and "\nLicense-Expression: Apache-2.0\n" in about
    for field in ("Keywords: jax,", "Classifier: Topic :: Scientific/Engineering", "Requires-Python: <3.14,>=3.11"):
        assert f"\n{field}" in about
    core = [line for line in about.splitlines() if line.startswith("Requires-Dist: ") and "extra ==" not in line]
    assert core and not any("tensorflow" in line or "array_record" in line for line in core)
    assert "\nProvides-Extra: tfds\n" in about


def test_extras_name_extras_that_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for texts in extras.values():
        for text in texts:
            if text.startswith(f"{project['name']}["):
                assert set(text.partition("[")[2].rstrip("]").split(",")) <= extras.keys()


def test_the_image_for_serving():
    """What docker build would need, since no image is built here: files, extras, verb and flags exist; no root; a check
    of health."""
    from suite.cli.app import VERBS
    from suite.cli.flags import parse

    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    of = lambda word: [rest for first, rest in lines if first == word]
    assert len(of("FROM")) == 2 and all(re.fullmatch(r"python:3\.1[123]-slim( AS \w+)?", base) for base in of("FROM"))
    kept = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    for copied in of("COPY"):
        sources = [] if copied.startswith("--from=build") else shlex.split(copied)[:-1]
        assert all((ROOT / source).exists() and source in kept for source in sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = (line.removeprefix("EXTRAS=") for line in of("ARG"))
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    python = [tuple(map(int, base.split(":")[1].split("-")[0].split("."))) for base in of("FROM")]
    assert all((3, 11) <= version < (3, 14) for version in python)
    last_user = of("USER")[-1]
    assert last_user != "root" and f" {last_user}" in "".join(of("RUN"))
    assert [first for first, _ in lines].index("USER") < [first for first, _ in lines].index("ENTRYPOINT")
    (health,) = of("HEALTHCHECK")
    command = json.loads(health[health.index("[") :])
    compile(command[2], "healthcheck", "exec")
    assert "/readyz" in command[2]
    entry, rest = json.loads(of("ENTRYPOINT")[0]), json.loads(of("CMD")[0])
    assert entry[:2] == ["suite", "serve"]
    given = parse(VERBS["serve"].flags, [*entry[2:], *rest])
    assert (given.host, given.port, given.bundles) == ("0.0.0.0", 8080, ("/bundles",)) and of("EXPOSE") == ["8080"]


@pytest.mark.slow
def test_an_install_into_an_empty_environment(distributions, tmp_path):
    """From the wheel, with its requirements from the index: it runs, and what is missing is told."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    wheel, pins = distributions[0], ROOT / "constraints.txt"
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", pins, wheel], check=True)

    def asked(*arguments):
        command = [tmp_path / "venv" / "bin" / "suite", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert asked("--version").stdout == f"suite {version}\n"
    rows = [f"text number {i},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    done = asked("train", "text.classify", "--smoke", "--data", "rows.csv", "--run-dir", "run")
    assert done.returncode == 0, done.stderr
    done = asked("serve", "run")
    assert done.returncode == 2 and done.stderr.endswith("  try:   pip install 'jax-model-suite[serve]'\n")
    listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout.lower()
    assert "tensorflow" not in listed
