"""Paths of this machine in a stored experiment: what leaves the machine names files, not the folders they lie in."""

import os
import re
from collections.abc import Mapping
from typing import Any

_ABSOLUTE = re.compile(r"(?P<scheme>(?:file|sqlite):/{2,3})?(?P<path>/[^\0\n]*)")
_INSIDE = re.compile(r"(?<![\w.:/])/(?:[^\s/'\",;]+/)+(?P<name>[^\s/'\",;]+)")


def without_folders(value: Any) -> Any:
    """A stored value with the name of the file in the place of each text that is an absolute path."""
    if isinstance(value, Mapping):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    return _name(value) if isinstance(value, str) else value


def text_without_folders(text: str) -> str:
    """A sentence with the name of the file in the place of each absolute path in it."""
    return _INSIDE.sub(lambda found: found["name"], text)


def _name(text: str) -> str:
    """A single part, such as the separator ``/`` or the label ``/s``, is a path only where such a file exists."""
    found = _ABSOLUTE.fullmatch(text)
    if found is None or not (found["scheme"] or "/" in found["path"].strip("/") or _exists(text)):
        return text
    return (found["scheme"] or "") + os.path.basename(found["path"].rstrip("/"))


def _exists(path: str) -> bool:
    return path != "/" and os.path.exists(path)
