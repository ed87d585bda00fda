"""Experiment: one typed value that says everything about a run. Objects, not files; fork, don't inherit."""

import dataclasses
import functools
import importlib
import json
import types
import typing
from abc import ABC
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite.errors import InputError
from suite.experiment.former_names import FORMER_DEFAULTS, current_name, current_sections
from suite.experiment.local_paths import without_folders
from suite.runtime.files import write_text

OWN_PACKAGES = ("suite",)
"""Packages whose classes a stored experiment may name without being asked."""

EXPERIMENT = "suite.experiment.sections.Experiment"
"""The class whose fields may bear former names."""


def to_json(value: Any) -> Any:
    """Dataclasses as ``{"class": "module.Name", field: value, ...}``, tuples as lists, the rest as it is.

    Of fields whose metadata says ``secret`` the default is written: what is stored may be published.

    Raises:
        InputError: a value has no place in JSON, or a mapping would be read back as a dataclass or not at all.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {
            f.name: to_json(f.default if f.metadata.get("secret") else getattr(value, f.name))
            for f in dataclasses.fields(value)
            if f.init
        }
        return {"class": f"{kind.__module__}.{kind.__qualname__}", **fields}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, str) or key == "class"]
        if wrong:
            problem = f"a mapping with the key {wrong[0]!r} cannot be stored as JSON: it would not be read as one."
            raise InputError("experiment", problem, found=", ".join(map(repr, value)), fix='texts other than "class"')
        return {key: to_json(item) for key, item in value.items()}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    fix = "write arrays to an .npz file and name it: suite.data.sources.datasets.ArrayFile(path=...)"
    raise InputError("experiment", f"{type(value).__name__} cannot be stored as JSON: {value!r:.60}", fix=fix)


def from_json(value: Any, allow: tuple[str, ...] = (), own: tuple[str, ...] = OWN_PACKAGES) -> Any:
    """The inverse of ``to_json``; an object without ``class`` is a dict. Only dataclasses of the packages, or modules,
    ``own`` and ``allow`` are built.

    Raises:
        InputError: the JSON names another class, or fields the class does not have.
    """
    if isinstance(value, list):
        return tuple(from_json(item, allow, own) for item in value)
    if not isinstance(value, dict):
        return value
    if "class" not in value:
        return {name: from_json(item, allow, own) for name, item in value.items()}
    kind = _class(value["class"], (*own, *allow))
    known = {f.name for f in dataclasses.fields(kind) if f.init}
    if f"{kind.__module__}.{kind.__qualname__}" == EXPERIMENT:
        value = current_sections(value)
    value = {**FORMER_DEFAULTS.get(f"{kind.__module__}.{kind.__qualname__}", {}), **value}
    unknown = sorted(value.keys() - known - {"class"})
    if unknown:
        raise InputError(
            f"experiment, {kind.__name__}",
            f"has no field {', '.join(unknown)}.",
            found=", ".join(sorted(known)),
            fix="write the run again with this version",
        )
    fields = {name: from_json(item, allow, own) for name, item in value.items() if name != "class"}
    for name, wanted in _types_of(kind).items():
        if name in fields and not _fits(fields[name], wanted):
            raise InputError(
                f"experiment, {kind.__name__}",
                f"its {name} is no {_called(wanted)}.",
                found=f"{fields[name]!r:.60}",
                fix="restore the file, or write the run again",
            )
    return kind(**fields)


@functools.cache
def _types_of(kind: type) -> dict[str, Any]:
    """Fields of a dataclass, by the types that they are declared with."""
    try:
        hints = typing.get_type_hints(kind)
    except (NameError, TypeError):  # of a user's class, whose types are imported for the type checker alone
        return {}
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.name in hints}


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value that was read may stand in a field of a type. JSON parts no whole numbers from others, and what
    a field of another type may hold, such as a Mapping, is not looked at."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is typing.Literal:
        return isinstance(value, tuple({type(each) for each in arguments}))
    if origin is tuple:
        every = arguments[0] if arguments[1:] == (...,) else Any
        return isinstance(value, tuple) and all(_fits(item, every) for item in value)
    if wanted in (int, float):
        return isinstance(value, int | float)
    if wanted in (str, bool, tuple, types.NoneType):
        return isinstance(value, wanted)
    if isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
        return _alike(type(value), wanted)
    return True


def _alike(kind: type, wanted: type) -> bool:
    """Whether both are of one contract: a field that is declared as one tokenizer may hold another, such as that of
    published weights, and no text."""
    return bool({*kind.__mro__} & {*wanted.__mro__} - {object, ABC})


def _called(wanted: Any) -> str:
    """A type as people call it."""
    if typing.get_origin(wanted) is tuple or wanted is tuple:
        return "list of its kind"
    plain = {str: "text", bool: "truth value", int: "number", float: "number"}
    return plain.get(wanted) or getattr(wanted, "__name__", "") or str(wanted).replace("typing.", "")


def packages(value: Any) -> tuple[str, ...]:
    """Packages of all classes that (a part of) an experiment is made of, which ``allow`` takes: it is trusted."""
    left, names = [to_json(value)], set[str]()
    while left:
        item = left.pop()
        if isinstance(item, dict) and "class" in item:
            names.add(item["class"].split(".")[0])
        left += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return tuple(sorted(names))


def _class(name: Any, allowed: tuple[str, ...]) -> type:
    name = str(name)
    if name.split(".")[0] not in allowed or name.startswith("suite."):  # a user's own package may bear a former name
        name = current_name(name)
    module, _, kind = name.rpartition(".")
    if not any(module == package or module.startswith(f"{package}.") for package in allowed):
        raise InputError(
            "experiment",
            f'names the class "{name}", which is not one of the suite\'s.',
            found=f"allowed packages: {', '.join(allowed)}",
            fix="if you trust it: --allow PACKAGE, or allow=(...) in Python",
        )
    try:
        member = getattr(importlib.import_module(module), kind)
    except (ImportError, AttributeError):
        package = module.split(".")[0]
        fix = "" if package in OWN_PACKAGES else f"PYTHONPATH=FOLDER, the one that {package} lies in"
        raise InputError("experiment", f'names the class "{name}", which does not exist.', fix=fix) from None
    if not (isinstance(member, type) and dataclasses.is_dataclass(member)):
        raise InputError("experiment", f'names "{name}", which is no dataclass.')
    return member


def dump(experiment: Any, path: Path, *, local: bool = True) -> None:
    """Write the experiment as JSON, atomically; unless ``local``, without the folders of this machine."""
    stored = to_json(experiment)
    write_text(path, json.dumps(stored if local else without_folders(stored), indent=1) + "\n")
