"""Request: what a fit was asked for, noted in its folder, so that it goes on only with the same."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.contracts.data import Data
from suite.errors import InputError, unused
from suite.experiment.serialization import to_json
from suite.runtime import files, json_files

FILE = "fit.json"
OWN = ("claim", FILE)


@dataclass(frozen=True)
class Request:
    """What a fit was asked for; what it may cost is no part of it.

    Attributes:
        data, target: the records and the column to predict.
        recipes: named ones; empty: those that the columns call for.
        goal: in words; empty: the best by the first recipe's metric.
        folds: of cross-validation; 0: none.
        members: most models of an ensemble.
    """

    data: Data
    target: str
    recipes: tuple[str, ...]
    goal: str
    folds: int
    members: int

    def begin(self, folder: Path) -> None:
        """Note the request in a folder, or find the same one there. To be called by one process at a time.

        Raises:
            InputError: the folder holds something else, or another fit.
        """
        asked = {name: json.loads(json.dumps(to_json(value))) for name, value in vars(self).items()}
        noted = _noted(folder)
        if noted is None:
            others = sorted(path.name for path in folder.iterdir() if path.name not in OWN)
            if others:
                found = ", ".join(others[:8])
                raise InputError(f'--run-dir "{folder}"', "holds something else.", found=found, fix=_another(folder))
            files.write_text(folder / FILE, json.dumps({"asked": asked, "cut": []}, indent=1) + "\n")
            return
        differing = [name for name in asked if noted["asked"].get(name) != asked[name]]
        if differing:
            name = differing[0]
            found = f"{name}: {_brief(noted['asked'].get(name))} there, {_brief(asked[name])} here"
            raise InputError(f'--run-dir "{folder}"', "holds another fit.", found=found, fix=_another(folder))


def cut(folder: Path) -> list[str]:
    """Runs that the budget ended before their time."""
    return list((_noted(folder) or {}).get("cut", []))


def note_cut(folder: Path, run: str) -> None:
    """Note that the budget ended a run before its time."""
    noted = _noted(folder) or {}
    files.write_text(folder / FILE, json.dumps({**noted, "cut": [*noted.get("cut", []), run]}, indent=1) + "\n")


def _noted(folder: Path) -> dict[str, Any] | None:
    try:
        noted: dict[str, Any] = json_files.read_object(folder / FILE)
    except (OSError, ValueError):
        return None
    return noted


def _another(folder: Path) -> str:
    return f"--run-dir {unused(folder)}"


def _brief(value: Any) -> str:
    return f"{json.dumps(value):.60}"


def command(folder: Path, data: str, target: str) -> str:
    """The command that goes on with a fit."""
    parts = ["suite", "fit", "--data", data, *(["--target", target] if target else []), "--run-dir", str(folder)]
    return shlex.join(parts)
