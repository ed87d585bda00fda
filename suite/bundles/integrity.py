"""Files of a bundle: all are there and untouched, before any of them is parsed."""

import hashlib
import mmap
import re
from pathlib import Path

import numpy as np

from suite.bundles.manifest import (
    AGAIN,
    CATALOGUE,
    EXPERIMENT,
    MOST,
    MOST_ASSET,
    MOST_MODEL,
    MOST_PROGRAM,
    NAME,
    REFERENCE,
    SIGNATURE,
    WEIGHTS,
    Manifest,
    content_of,
    digest_of,
    inside,
    program,
    too_large,
)
from suite.errors import InputError
from suite.runtime import json_files

_PLAIN = re.compile(
    r"weights\.safetensors|reference\.safetensors|model_card\.md|experiment\.json"
    r"|program/([A-Za-z][A-Za-z0-9_]{0,63}-)?[0-9]{1,9}\.(stablehlo|onnx)"
    r"|assets/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
)


def check(folder: Path, manifest: Manifest) -> tuple[dict[str, bytes], dict[str, np.ndarray]]:
    """Compares every file with the manifest; returns the programs and models by file, and by file the bytes (n,)
    of the weights and of the reference arrays where there are any, as they were compared: what is used of them is never
    read again, whatever becomes of the files meanwhile.

    Raises:
        InputError: a name that leads elsewhere, a link, a file that is missing, changed, or named nowhere.
    """
    where, named = f'bundle "{folder}"', manifest.files
    odd = next((name for name in named if not _PLAIN.fullmatch(name)), None)
    if odd is not None:
        raise InputError(where, f"its {NAME} names a file that no bundle has.", found=repr(odd), fix=AGAIN)
    present = set(inside(folder))
    programs = {**manifest.programs, **({CATALOGUE: manifest.catalogue} if manifest.catalogue else {})}
    files = {program(length, name) for name, about in programs.items() for length in about.lengths}
    wanted = {*named, WEIGHTS, EXPERIMENT, *files, *manifest.models.values()}
    missing, extra = sorted(wanted - present), sorted(present - {*named, NAME, SIGNATURE})
    if missing:
        raise InputError(where, "is not complete.", found=f"no {', '.join(missing)}", fix=AGAIN)
    if extra or wanted - set(named):
        fix = f"take them out, or {AGAIN}"
        strange = ", ".join(extra or sorted(wanted - set(named)))
        raise InputError(where, f"holds files that its {NAME} does not name.", found=strange, fix=fix)
    contents, arrays = {}, {}
    for name, about in named.items():
        _check_size(folder, name, about["bytes"])
        if name in (WEIGHTS, REFERENCE):
            arrays[name] = _arrays(folder, name, about["bytes"])
            digest = hashlib.sha256(arrays[name].data).hexdigest()
        elif name.startswith("program/"):
            contents[name] = content_of(folder, name, _most_program(name))
            digest = hashlib.sha256(contents[name]).hexdigest()
        else:
            digest = digest_of(folder / name)
        if digest != about["sha256"]:
            raise InputError(
                f'{where}, file "{name}"',
                "was changed: its checksum differs.",
                found=f"sha256 {digest[:16]}..., not {about['sha256'][:16]}...",
                fix=AGAIN,
            )
    return contents, arrays


def check_json(folder: Path, manifest: Manifest) -> None:
    """Raises InputError: a JSON file of a bundle cannot be read, or parsers may read it differently."""
    for name in manifest.files:
        if name.endswith(".json"):
            content = content_of(folder, name, MOST_ASSET)
            json_files.parse(content, f'bundle "{folder}", file "{name}"', AGAIN, strict=True)


def _arrays(folder: Path, name: str, size: int) -> np.ndarray:
    """The first ``size`` bytes of a file of arrays; zeros where the file has become shorter.

    In pages of their own, which the system gets back however the C library keeps what it is given.
    """
    if not size:
        return np.zeros(0, np.uint8)
    try:
        data = np.frombuffer(mmap.mmap(-1, size), np.uint8)
    except (OSError, OverflowError) as error:
        raise InputError(
            f'bundle "{folder}", file "{name}"',
            "is larger than this machine's memory.",
            found=f"{size:,} bytes",
            fix="a machine with more",
        ) from error
    room = data.data
    with open(folder / name, "rb", buffering=0) as file:
        while room and (count := file.readinto(room)):
            room = room[count:]
    return data


def _most_program(name: str) -> int:
    """Bytes of the largest file of a program; a model in ONNX holds its weights."""
    return MOST_MODEL if name.endswith(".onnx") else MOST_PROGRAM


def _check_size(folder: Path, name: str, wanted: int) -> None:
    size = (folder / name).stat().st_size
    most = {"program": _most_program(name), "assets": MOST_ASSET, WEIGHTS: size, REFERENCE: size}.get(
        name.partition("/")[0], MOST
    )
    if size > most:
        raise too_large(folder, name, size, most)
    if size != wanted:
        raise InputError(
            f'bundle "{folder}", file "{name}"',
            "has another size than it was written with.",
            found=f"{size:,} bytes, not {wanted:,}",
            fix=AGAIN,
        )
