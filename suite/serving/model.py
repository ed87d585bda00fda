"""A model: a name, the folder its versions are put into, and the version that answers; as the command line names it."""

import asyncio
import logging
import math
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.bundles import manifest
from suite.bundles.manifest import Manifest
from suite.errors import InputError, beside, cut
from suite.serving.snapshots import Identity, identity
from suite.serving.versions import Version
from suite.serving.warming import Warming

log = logging.getLogger("suite.serving")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PATH = re.compile(r'"/[^"\n]*"|(?<![\w./:])/[^\s"\',;:()]+')
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 3600.0
"""Before a version that could not be served is tried again."""


@dataclass(eq=False)
class Model:
    """A name, where its versions are put, and the one that answers.

    Attributes:
        name: in addresses.
        folder: where new versions are looked for.
        stated: whether the user gave the name, whatever the bundle calls itself.
        current: the version that answers; None until the first is warm.
        error: why the newest version in the folder is not served; None where it is.
        warming: of the version that is being compiled, if one is.
        taking: the work on a new version, while there is some.
        tried: identity of the folder when it was last opened.
        seen: the same at the last look.
        failures: in turn, for reasons that may pass.
        again: on the monotonic clock, when the newest version is tried again.
    """

    name: str
    folder: Path
    stated: bool
    current: Version | None = None
    error: Exception | None = None
    warming: Warming | None = None
    taking: asyncio.Task[Any] | None = None
    tried: Identity = ()
    seen: Identity = ()
    failures: int = 0
    again: float = math.inf

    @property
    def problem(self) -> str:
        """Why the newest version in the folder is not served, for clients: without paths of this machine."""
        return "" if self.error is None else told_to_clients(self.error)

    @property
    def is_being_taken(self) -> bool:
        """Whether a version is being copied, tried or warmed."""
        return self.taking is not None and not self.taking.done()

    @property
    def is_refused(self) -> bool:
        """Whether the newest version in the folder cannot be served, and no other is being taken."""
        return self.error is not None and not self.is_being_taken

    def pause(self, spent: float) -> float:
        """Seconds until a version that failed after ``spent`` of them is tried again: longer each time."""
        self.failures += 1
        return float(min(max(spent, _FIRST_PAUSE_S) * 2 ** min(self.failures - 1, 20), _LONGEST_PAUSE_S))


def told_to_clients(error: Exception) -> str:
    """Why a version is not served, without paths of this machine."""
    if isinstance(error, InputError):
        text = f"{error.problem} {error.found}".strip()
        file = re.search(r'file "(program/[\w.-]+|assets/[\w.-]+|[\w-]+\.\w+)"', error.where)
        text = f"{file[1]} {text}" if file else text
    else:
        text = getattr(error, "strerror", "") or str(error)
    return without_paths(cut(text))


def without_paths(text: str) -> str:
    """A text for clients, with an ellipsis for each path of this machine."""
    return _PATH.sub("...", text)


def found(given: Sequence[str]) -> dict[str, Model]:
    """What the command line names, by the names that addresses have; nothing is opened but ``bundle.json``.

    What is wrong with one bundle keeps no other from being served. One that cannot be read has the name of its folder,
    as has one whose own name is none for an address: what is put there later may be served. Of a folder of bundles, one
    that has no name of its own is left out, and the log says so.

    Raises:
        InputError: nothing is named, there is no such folder, no bundle in it, or none that can be served; a name on
            the command line is none for an address, or that of two bundles.
    """
    models, listed = _folders(given)
    problems: dict[Path, InputError] = {}
    for model in models:
        model.tried = model.seen = identity(model.folder)
        try:
            own = manifest.read(model.folder).name
        except InputError as error:
            if not (model.folder / manifest.NAME).is_file():
                raise
            problems[model.folder], own = error, ""
        if not model.stated:
            model.name = own
    if len(problems) == len(models):
        raise problems[models[0].folder]
    for model in models:
        if not _NAME.fullmatch(model.name):
            problem = _bad_name(model)
            if model.stated or not _named_after_its_folder(model, models):
                problems.setdefault(model.folder, problem)
            elif model.folder not in problems:
                log.warning('%s is served as "%s": %s', model.folder, model.name, _on_one_line(problem))
    _tell_apart(models)
    by_name: dict[str, Model] = {}
    for model in sorted(models, key=lambda model: not (model.stated or model.folder.name == model.name)):
        fault: InputError | None = None
        if not _NAME.fullmatch(model.name):
            fault = problems[model.folder]
        elif model.name in by_name:
            fault = _same_name(by_name[model.name], model)
        if fault is None:
            by_name[model.name] = model
        elif model.folder in listed:
            problems[model.folder] = fault
            log.error("%s is not served: %s", model.folder, _on_one_line(fault))
        else:
            raise fault
    if not by_name:
        raise problems[models[0].folder]
    return {model.name: model for model in models if by_name.get(model.name) is model}


def _bad_name(model: Model) -> InputError:
    fix = f"suite serve NAME={shlex.quote(str(model.folder))}"
    return InputError(f'model name "{model.name:.100}"', "is none for an address.", fix=fix)


def _same_name(one: Model, other: Model) -> InputError:
    return InputError(
        f'model name "{one.name}"',
        "is that of two bundles.",
        found=f"{one.folder}, {other.folder}",
        fix=f"suite serve OTHER_NAME={shlex.quote(str(other.folder))}",
    )


def _named_after_its_folder(model: Model, models: Sequence[Model]) -> bool:
    """Gives a model the name of its folder, where that is one for an address and no other's; says whether it is."""
    name = model.folder.absolute().name
    if not _NAME.fullmatch(name) or name in {other.name for other in models}:
        return False
    model.name = name
    return True


def _on_one_line(error: InputError) -> str:
    return f"{error.where} {error.problem}"


def _folders(given: Sequence[str]) -> tuple[list[Model], set[Path]]:
    """Models of what the command line names, not yet called after their bundles, and which of their folders it does not
    name itself, but the folder that they lie in."""
    models: list[Model] = []
    listed: set[Path] = set()
    for item in given:
        name, equals, path = item.partition("=")
        folder = Path(path if equals else item)
        if not folder.is_dir():
            fix = beside(folder, manifest.NAME) or "the folder that suite export printed last"
            raise InputError(f'bundle "{folder}"', "is no folder.", fix=fix)
        inside = sorted(path.parent for path in folder.glob(f"*/{manifest.NAME}"))
        if (folder / manifest.NAME).is_file() or equals or not inside:
            models.append(Model(name if equals else "", folder, bool(equals)))
        else:
            models += [Model("", bundle, False) for bundle in inside]
            listed.update(inside)
    if not models:
        raise InputError("BUNDLE", "is missing.", fix="suite serve BUNDLE")
    return models, listed


def _tell_apart(models: Sequence[Model]) -> None:
    """Bundles that were given no name on the command line and share theirs with others are named after their folders,
    where these differ."""
    count = Counter(model.name for model in models)
    for model in models:
        name = model.folder.absolute().name
        if count[model.name] > 1 and not model.stated and not count[name] and _NAME.fullmatch(name):
            log.info('%s is served as "%s": other bundles are called "%s", too', model.folder, name, model.name)
            model.name = name


def same_model(before: Manifest, now: Manifest) -> bool:
    """Whether a bundle may take the place of another: both have one recipe, or one name where either doesn't say it."""
    recipes = [about.made.get("recipe") for about in (before, now)]
    if all(recipes):
        return bool(recipes[0] == recipes[1])
    tails = [str(recipe or "").rpartition(".")[2] for recipe in recipes]
    return bool({before.name, tails[0]} & {now.name, tails[1]} - {""})
