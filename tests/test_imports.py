"""Who may import whom, and what ``import suite`` costs."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOADER = "suite.experiments"  # finds the recipes by name, for the command line and for suite.load
NN = ("suite.nn", "suite.errors")
MODELS = (*NN, "suite.base", "suite.imports", "suite.models", "suite.precision", "suite.units")


def modules():
    """Module name -> its file, for everything that is shipped."""
    files = [path for top in ("suite", "tasks", "configs") for path in (ROOT / top).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


MODULES = modules()


def imports(name, nodes):
    """Our own modules that these statements import; each name of ``from x import y`` may be a module."""
    for node in nodes:
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [each if each in MODULES else node.module for each in names]
        else:
            continue
        yield from (each for each in found if each.split(".")[0] in ("suite", "tasks", "configs"))


def allowed(name, other):
    top, part = name.split(".")[0], ".".join(name.split(".")[:2])
    if top == "configs" or (name == LOADER and other == "configs"):
        return True
    if other.startswith("configs"):
        return False
    if top == "tasks":
        return other.startswith("suite") or ".".join(other.split(".")[:2]) == part == other
    if other.startswith("tasks"):
        return False
    if part == "suite.nn":
        return other.startswith(NN)
    if part == "suite.models":
        return other.startswith(MODELS)
    return not other.startswith("suite.models")


@pytest.mark.parametrize("name", sorted(MODULES))
def test_direction(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    wrong = [other for other in imports(name, ast.walk(tree)) if not allowed(name, other)]
    assert not wrong, f"{name} must not import {wrong}"


def test_no_cycles():
    """Among imports that run when a module is loaded; those inside functions and for the type checker don't."""
    graph = {}
    for name, path in MODULES.items():
        graph[name] = set(imports(name, ast.parse(path.read_text(encoding="utf-8")).body)) - {name}
        if path.name == "__init__.py":  # a package that gathers its modules is loaded before them anyway
            graph[name] = {other for other in graph[name] if not other.startswith(name + ".")}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", ["tensorflow", "torch", "jax", "flax"])
def test_import_suite_is_light(name):
    code = f"import suite, sys; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_trainer_loads_no_tensorflow_and_no_torch():
    code = "import suite.trainer, suite.run, sys; sys.exit(any(x in sys.modules for x in ('tensorflow', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
