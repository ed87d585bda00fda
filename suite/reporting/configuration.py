"""The configuration beside the recipe's, the packages and machines, and the commands that do it all again."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suite.experiment import recipes, serialization
from suite.reporting.blocks import Block, Code, Folded, Table, Text
from suite.reporting.evidence import Evidence
from suite.runtime import json_files


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Fields of a configuration by dotted name; lists are values, and a class is a field like any other."""
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: leaf
        for part, inner in value.items()
        for key, leaf in flat(inner, f"{name}.{part}" if name else part).items()
    }


def differing(first: Mapping[str, Any], *others: Mapping[str, Any]) -> list[str]:
    """Dotted names of fields that are not the same in all."""
    names = dict.fromkeys(name for fields in (first, *others) for name in fields)
    return [name for name in names if any(first.get(name) != other.get(name) for other in others)]


def stored(folder: Path) -> dict[str, Any]:
    """Fields of ``experiment.json`` by dotted name."""
    return flat(json_files.read_object(folder / "experiment.json"))


def configuration(evidence: Evidence) -> list[Block]:
    """What differs from the recipe as it is now, and all of it."""
    own, recipe = stored(evidence.folder), _recipe(evidence.experiment.name)
    whole = Folded(
        "The whole configuration", (Code((evidence.folder / "experiment.json").read_text(encoding="utf-8")),)
    )
    if recipe is None:
        return [
            Text(
                f"No recipe named {evidence.experiment.name} comes with the suite: there is nothing to compare it with."
            ),
            whole,
        ]
    names = differing(recipe, own)
    if not names:
        return [Text(f"The recipe {evidence.experiment.name}, with nothing changed."), whole]
    rows = tuple((name, written(recipe.get(name)), written(own.get(name))) for name in names)
    caption = f"Fields that are not those of the recipe {evidence.experiment.name} as it is today."
    return [Table(("field", "recipe", "this run"), rows, caption, frozenset({0, 1, 2})), whole]


def _recipe(name: str) -> dict[str, Any] | None:
    return flat(serialization.to_json(recipes.load(name))) if name in recipes.names() else None


def written(value: Any) -> str:
    """A field's value for people."""
    if value is None:
        return "–"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def environment(evidence: Evidence) -> list[Block]:
    """Packages, devices and revision that training had, and the commands that do it again."""
    trained = evidence.trained
    rows = [
        ("devices", trained.get("devices", "not noted")),
        ("revision", trained.get("revision") or "not noted"),
        *evidence.versions.items(),
    ]
    table = Table(("", "in training"), tuple((name, str(value)) for name, value in rows), words=frozenset({0, 1}))
    return [table, Text("The commands that do it again:"), Code("\n".join(_commands(evidence)))]


def _commands(evidence: Evidence) -> Sequence[str]:
    name, folder = evidence.experiment.name, str(evidence.folder)
    evaluate = shlex.join(["suite", "evaluate", folder, "--split", evidence.split or "test"])
    flags = None if (recipe := _recipe(name)) is None else _flags(recipe, stored(evidence.folder))
    if flags is not None:
        return [shlex.join(["suite", "train", name, *flags]), evaluate]
    again = f"import suite.runs.run; suite.train(suite.runs.verbs.stored({folder!r}))"
    return [shlex.join(["python", "-c", again]), evaluate]


def _flags(recipe: Mapping[str, Any], own: Mapping[str, Any]) -> list[str] | None:
    """Flags that make this run's configuration of the recipe's; None where flags cannot."""
    flags: list[str] = []
    for name in differing(recipe, own):
        value = own.get(name)
        values = value if isinstance(value, list) else [value]
        simple = all(isinstance(value, str | int | float) and value != "" for value in values)
        minus = any(isinstance(value, str) and value.startswith("-") for value in values)  # would be read as a flag
        several = isinstance(value, list)
        if (
            name not in own
            or name not in recipe
            or name.endswith("class")
            or not values
            or not simple
            or (minus and several)
        ):
            return None
        flags += [f"--{name}={value}"] if minus else [f"--{name}", *map(str, values)]
    return flags
