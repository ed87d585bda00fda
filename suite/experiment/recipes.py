"""Finding experiments: a dotted name under ``configs``, or any .py file with ``experiment()``."""

import ast
import dataclasses
import difflib
import importlib
import importlib.util
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from suite.errors import InputError

if TYPE_CHECKING:
    from suite.experiment.sections import Experiment


def domains() -> list[str]:
    """The folders of the recipes, such as "text"."""
    return list(dict.fromkeys(name.partition(".")[0] for name in names()))


def names() -> list[str]:
    """Dotted names of all experiments that come with the suite."""
    root = _root()
    return sorted(
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in root.glob("*/*.py")
        if not path.stem.startswith("_")
    )


def describe(domain: str = "") -> list[dict[str, str]]:
    """For each experiment: name, title and the ``key: value`` lines that open its file. Imports nothing of it."""
    known = domains()
    if domain and domain not in known:
        near = near_names(domain, (*known, *names()))
        fix = f"suite list {shlex.quote(near[0])}" if near else "suite list"
        raise InputError("domain", f'"{domain}" is unknown.', found=", ".join(near or known), fix=fix)
    chosen = [name for name in names() if name.startswith(domain)]
    return [{"name": name, **_header(_root() / Path(*name.split(".")).with_suffix(".py"))} for name in chosen]


def load(name: str, smoke: bool = False) -> "Experiment":
    """The experiment of a dotted name or a .py file; ``smoke`` gives the same recipe shrunk to seconds.

    A file may define tasks, models and data of its own. It is then a module of its name, unless another is called so;
    a later process reads such a run where that module can be imported and is allowed.

    Raises:
        InputError: no such experiment, or the file has no ``experiment()``.
    """
    module = _from_file(Path(name)) if name.endswith(".py") else _from_name(name)
    function = "smoke" if smoke else "experiment"
    if not hasattr(module, function):
        raise InputError(
            f"experiment {name}",
            f"has no function {function}().",
            fix=f"def {function}() -> suite.experiment.sections.Experiment: ...",
        )
    recipe: Experiment = getattr(module, function)()
    if smoke and recipe.train.baseline:  # nothing is measured against a model of a few steps
        recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, baseline=False))
    return recipe


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """The three known names most like ``name``, the best first; also by the last part, as ``classfy`` alone."""
    known = list(known)
    tails = {entry.rpartition(".")[2]: entry for entry in reversed(known)}
    whole = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    by_tail = [tails[tail] for tail in difflib.get_close_matches(name.rpartition(".")[2], tails, n=3, cutoff=0.7)]
    return list(dict.fromkeys([*whole, *by_tail]))[:3]


def _root() -> Path:
    spec = importlib.util.find_spec("suite.configs")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def _from_name(name: str) -> ModuleType:
    known = names()
    if name not in known:
        near = near_names(name, known)
        fix = near[0] if near else "suite list"
        raise InputError(f'experiment "{name}"', "is unknown.", found=", ".join(near), fix=fix)
    return importlib.import_module(f"suite.configs.{name}")


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f'experiment "{path}"', "is not a file.", fix="suite list")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if not _is_free(path):
        spec.loader.exec_module(module)
        return module
    import cloudpickle

    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module  # where dataclasses look, and what a stored experiment is read with
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        if before is not None:
            sys.modules[path.stem] = before
        raise
    cloudpickle.register_pickle_by_value(module)  # other processes cannot import it
    return module


def _is_free(path: Path) -> bool:
    """Whether no other module than this file is imported by its name."""
    name = path.stem
    if not name.isidentifier() or name.startswith("__"):
        return False
    located = next((spec for finder in sys.meta_path if (spec := finder.find_spec(name, None))), None)
    return located is None or (located.origin is not None and Path(located.origin).resolve() == path.resolve())


def _header(path: Path) -> dict[str, str]:
    lines = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()
    header = {"title": lines[0] if lines else ""}
    key = ""
    for line in lines[1:]:
        if key and line.startswith(" "):
            header[key] += f" {line.strip()}"
        elif ":" in line:
            key, _, value = line.partition(":")
            header[key] = value.strip()
    return header
