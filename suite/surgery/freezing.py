"""Freezing: which parameters training leaves unchanged, by patterns on their paths."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from suite.errors import InputError, closest
from suite.experiment.sections import Optim
from suite.tree import paths


def matches(patterns: tuple[str, ...], path: str) -> bool:
    return any(re.search(pattern, path) for pattern in patterns)


def frozen_paths(optim: Optim, params: Mapping[Any, Any]) -> set[str]:
    """Paths that training leaves alone.

    Raises:
        InputError: a pattern matches no parameter.
    """
    check_named("frozen", optim.frozen, params)
    return {name for name in paths(params) if matches(optim.frozen, name)}


def check_named(field: str, patterns: Sequence[str], params: Mapping[Any, Any]) -> None:
    names = list(paths(params))
    for pattern in patterns:
        if any(re.search(pattern, name) for name in names):
            continue
        near = closest(pattern, names)
        raise InputError(
            f"field optim.{field}",
            f'"{pattern}" matches no parameter.',
            found=", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else ""),
            fix=f"--optim.{field} {shlex.quote(near)}" if near else "",
        )
