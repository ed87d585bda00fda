"""Distribution of the suite: its name on the package index, its version, and the command that installs an extra.

The distribution is not called after the package: ``suite`` on the public index belongs to others.
"""

import functools
import shlex
from pathlib import Path
from typing import Any

from suite.errors import InputError

NAME = "jax-model-suite"
_ROOT = Path(__file__).parents[1]


@functools.cache
def project() -> dict[str, Any]:
    """The ``[project]`` table of the checkout that the package lies in; empty where it is installed without one."""
    import tomllib

    path = _ROOT / "pyproject.toml"
    if not path.is_file():
        return {}
    table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    return table if table.get("name") == NAME else {}


def version() -> str:
    """Version of the suite."""
    if stated := project().get("version"):
        return str(stated)
    import importlib.metadata

    try:
        return importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def requirements() -> list[str]:
    """All requirements, those of extras with their marker."""
    if not project():
        import importlib.metadata

        try:
            return importlib.metadata.requires(NAME) or []
        except importlib.metadata.PackageNotFoundError:
            return []
    extras = project()["optional-dependencies"].items()
    return project()["dependencies"] + [
        f'{text} {"and" if ";" in text else ";"} extra == "{name}"' for name, texts in extras for text in texts
    ]


def install(extra: str = "") -> str:
    """The command that installs the suite, with an extra: of the checkout, where the package lies in one."""
    behind = f"[{extra}]" if extra else ""
    if not project():
        return shlex.join(["pip", "install", f"{NAME}{behind}"])
    where = "." if Path.cwd() == _ROOT else str(_ROOT)
    return shlex.join(["pip", "install", "-e", f"{where}{behind}"])


def missing(package: str, purpose: str, extra: str = "") -> InputError:
    """The error of whoever needs a package that is not installed.

    Args:
        package: the missing package, by its name on the index.
        purpose: what needs it, such as ``"to read recordings"``.
        extra: the extra that brings it; empty: the suite's own requirements.
    """
    return InputError(f"package {package}", f"is needed {purpose}, and not installed.", fix=install(extra))


PACKAGES = {"PIL": "pillow", "google": "protobuf", "orbax": "orbax-checkpoint", "sklearn": "scikit-learn"}
"""Packages by the modules that are not called after them."""


def of_module(name: str) -> InputError | None:
    """The error of a module that cannot be imported; None where it is of no package that the suite asks for.

    Args:
        name: dotted name of the module.
    """
    import re

    package = PACKAGES.get(name.partition(".")[0], name.partition(".")[0]).replace("_", "-").lower()
    extras: list[str] = []
    for requirement in requirements():
        asked = re.split(r"[^A-Za-z0-9_.-]", requirement.strip())[0].replace("_", "-").lower()
        if asked == package:
            extra = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", requirement)
            extras.append(extra[1] if extra else "")
    return missing(package, "for this", min(extras, key=bool)) if extras else None
