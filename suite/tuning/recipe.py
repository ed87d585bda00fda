"""The recipe that a folder of trials belongs to: written when a search begins, compared whenever it goes on."""

import json
import uuid
from pathlib import Path
from typing import Any

from suite.errors import InputError, unused
from suite.experiment.sections import Experiment
from suite.experiment.serialization import from_json, packages, to_json
from suite.runtime import files, json_files

RECIPE = "recipe.json"
"""The experiment. Under this name, since the folder of a search is no run folder."""
STUDY = "study.json"
"""Where the trials are kept, and under which name."""
SHOWN = 5
"""Differences named in a message."""


def claim(folder: Path, experiment: Experiment, storage: str, *, decided: bool) -> str:
    """The name of the study of this recipe in ``folder``, which is begun, or found to be of the same recipe.

    What a search may cost is no part of its recipe, until it is ``decided``. To be called by one process at a time.

    Args:
        folder: the folder of the search.
        experiment: the recipe.
        storage: what is to be told of the database: its address without a password.
        decided: whether there is a verdict.

    Raises:
        InputError: the folder holds something else, another recipe's search, or one with another database.
    """
    given = json.loads(json.dumps(to_json(experiment)))
    if not (folder / RECIPE).exists():
        _check_free(folder)
    elif differing := _differing(_stored(folder, experiment), given, decided):
        named = [f"{name} {_brief(there)} there, {_brief(here)} here" for name, (there, here) in differing.items()]
        fields = "; ".join(named[:SHOWN]) + (f"; and {len(named) - SHOWN} more" if len(named) > SHOWN else "")
        raise InputError(
            f'--run-dir "{folder}"',
            "holds the search of another recipe.",
            found=fields,
            fix="the same fields, or another --run-dir",
        )
    study = _study(folder, experiment.name, storage)
    if not decided:
        files.write_text(folder / RECIPE, json.dumps(given, indent=1) + "\n")
    return study


def stored(folder: Path, experiment: Experiment) -> Experiment | None:
    """The experiment of the search in ``folder``; None where there is none, or one of classes that are not here."""
    try:
        recipe: Experiment = from_json(json_files.read(folder / RECIPE), packages(experiment))
    except (OSError, InputError):
        return None
    return recipe


def _stored(folder: Path, experiment: Experiment) -> Any:
    """The recipe of the search as this version writes it: a search begun by an earlier one goes on."""
    stored = json_files.read_object(folder / RECIPE)
    try:
        return json.loads(json.dumps(to_json(from_json(stored, packages(experiment)))))
    except InputError:  # another recipe's, of classes that are not here
        return stored


def _check_free(folder: Path) -> None:
    if files.is_run(folder):
        raise InputError(f'--run-dir "{folder}"', "is the folder of a run.", fix=f"--run-dir {unused(folder)}")
    others = [path.name for path in folder.iterdir() if path.name not in ("lock", STUDY)]
    others = sorted(name for name in others if not name.startswith("partial-"))
    if others:
        raise InputError(
            f'--run-dir "{folder}"',
            "holds something else.",
            found=", ".join(others[:8]),
            fix=f"--run-dir {unused(folder)}",
        )


def _differing(stored: Any, given: Any, decided: bool) -> dict[str, tuple[Any, Any]]:
    changed = differences(stored, given)
    return {name: pair for name, pair in changed.items() if decided or not name.startswith("goal.budget.")}


def _study(folder: Path, name: str, storage: str) -> str:
    """One database may hold many studies, so a name is drawn for each."""
    file = folder / STUDY
    if not file.exists():
        files.write_text(file, json.dumps({"name": f"{name}-{uuid.uuid4().hex[:8]}", "storage": storage}) + "\n")
    stored = json_files.read_object(file)
    if stored["storage"] != storage:
        raise InputError(
            "flag --storage",
            f'is "{storage}", but this search has its trials elsewhere.',
            found=stored["storage"] or "no --storage: study.db in its folder",
            fix="the same --storage, or another --run-dir",
        )
    named: str = stored["name"]
    return named


def _brief(value: Any) -> str:
    return f"{json.dumps(value):.60}"


def differences(one: Any, other: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted name -> both values, of each field that differs between two values that ``config.to_json`` gave."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return {} if one == other else {name: (one, other)}
    changed: dict[str, tuple[Any, Any]] = {}
    for key in {**one, **other}:
        changed |= differences(one.get(key), other.get(key), f"{name}.{key}" if name else key)
    return changed
