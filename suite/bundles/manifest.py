"""``bundle.json``: what a bundle is."""

import dataclasses
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suite.errors import InputError
from suite.runtime import json_files
from suite.runtime.files import write_text

FORMATS = (1, 2, 3)
"""That are read. A bundle is written in the second where the first could not hold it: several programs, reference
arrays, seeds; in the third where its catalogue can be replaced."""
NAME, WEIGHTS, CARD, EXPERIMENT = "bundle.json", "weights.safetensors", "model_card.md", "experiment.json"
REFERENCE = "reference.safetensors"
"""Reference arrays of the task; only some tasks have any."""
SIGNATURE = "signature.json"
"""Over ``bundle.json``, and so over the checksums of all else; only signed bundles have one."""
CATALOGUE = "catalogue"
"""The program that embeds a catalogue's records, which answers no requests; only bundles whose catalogue can be
replaced have one."""
ENGINES = "engines"
"""The field of ``bundle.json`` on models in ONNX; only bundles for several engines have it."""
PREDICT = "predict"
"""The program that answers where none is named."""
SEED = "seed"
"""The input (b,) uint32 of a program that draws random numbers: each row's come from its seed."""
MADE = ("by", "catalogue", "checked", "date", "from", "licence", "recipe", "refreshed", "revision")
"""Texts of ``made``, the part of ``bundle.json`` that says what a bundle was made of and by."""
AGAIN = "fetch the bundle again, or export the run again"
MOST, MOST_PROGRAM, MOST_ASSET, MOST_MODEL = 16 << 20, 256 << 20, 1 << 30, 2 << 30
"""Bytes of the largest text, such as ``bundle.json``, of the largest program, of the largest asset and of the largest
model in ONNX."""


@dataclass(frozen=True)
class Array:
    """An array that a program takes or gives.

    Attributes:
        shape: sizes; ``"b"`` for the rows, ``"length"`` for the padded length, None where it depends on that.
        dtype: name of the type of its values.
    """

    shape: tuple[int | str | None, ...]
    dtype: str

    def sized(self, rows: Any, length: int) -> tuple[Any, ...]:
        """The shape for so many rows, a number or a symbol, of a padded length."""
        known = {"b": rows, "length": length}
        return tuple(known[side] if isinstance(side, str) else side for side in self.shape)


@dataclass(frozen=True)
class Signature:
    """What programs take and give, by name."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


@dataclass(frozen=True)
class Program:
    """What ``bundle.json`` says of one program.

    Attributes:
        codec: as `suite.experiment.serialization.to_json` writes it, its files by their names in the bundle.
        signature: what it takes and gives.
        lengths: padded lengths, rising, each with a file of its own; (0,) where rows are of one shape.
    """

    codec: dict[str, Any]
    signature: Signature
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """What ``bundle.json`` says.

    Attributes:
        name: of the model.
        version: a digest of all else; of two bundles that differ it differs.
        experiment: dotted name of the recipe.
        programs: by name, ``predict`` first.
        platforms: that the programs are for.
        metrics: ``"<split>/<metric>"`` -> ``value``, and its interval ``low`` and ``high`` where it is known.
        made: by what, of what, and how it was checked.
        files: name -> ``bytes`` and ``sha256``.
        catalogue: the program that embeds the records of a catalogue; None where it cannot be replaced.
        engines: of bundles with models in ONNX beside the programs: ``models``, a program -> the padded lengths of its
            models, 0 of one that takes any; ``tolerance``, a program -> how far its outputs may be from those of XLA;
            ``precision``, that products may be computed in.
    """

    name: str
    version: str
    experiment: str
    programs: dict[str, Program]
    platforms: tuple[str, ...]
    metrics: dict[str, dict[str, float]]
    made: dict[str, Any]
    files: dict[str, dict[str, Any]]
    catalogue: Program | None = None
    engines: dict[str, Any] = field(default_factory=dict)

    @property
    def models(self) -> dict[tuple[str, int], str]:
        """(program, padded length) -> the file of its model in ONNX."""
        stated = self.engines.get("models", {})
        return {(name, length): model(length, name) for name, lengths in stated.items() for length in lengths}


def program(length: int, name: str = PREDICT) -> str:
    """The file of a program for rows of a padded length."""
    return f"program/{length}.stablehlo" if name == PREDICT else f"program/{name}-{length}.stablehlo"


def model(length: int, name: str = PREDICT) -> str:
    """The file of a program as a model in ONNX for rows of a padded length; of the length 0, of any."""
    return program(length, name).removesuffix("stablehlo") + "onnx"


def check_program_name(name: str) -> None:
    """Raises ValueError: a name that a program of a bundle may not have."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name):
        raise ValueError(f"program {name!r:.100}")


def about_programs(programs: Mapping[str, Program], catalogue: Program | None = None) -> dict[str, Any]:
    """Fields of ``bundle.json``: those of ``predict`` are where bundles of one program have always had them."""
    entries = {name: _entry(about) for name, about in programs.items()}
    first = entries.pop(PREDICT)
    more = {} if catalogue is None else {CATALOGUE: _entry(catalogue)}
    return {**first, **({"programs": entries} if entries else {}), **more}


def _entry(about: Program) -> dict[str, Any]:
    return {"codec": about.codec, "signature": dataclasses.asdict(about.signature), "lengths": list(about.lengths)}


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``bundle.json`` of a folder that is complete.

    Args:
        folder: with all other files in it.
        content: the fields of `Manifest` as JSON, but for ``version`` and ``files``; of programs, see
            `about_programs`.
    """
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": digest_of(folder / name)}
        for name in sorted(inside(folder))
        if name not in (NAME, SIGNATURE)
    }
    more = "programs" in content or REFERENCE in files or SEED in content["signature"]["inputs"]
    whole = {"format": 3 if CATALOGUE in content else FORMATS[more], **content, "files": files}
    whole["version"] = _version(whole)
    write_text(folder / NAME, json.dumps(whole, indent=1, ensure_ascii=False) + "\n")


def _version(content: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in content.items() if name != "version"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def read_bytes(folder: Path) -> bytes:
    """The bytes of ``bundle.json``, of which nothing is parsed.

    Raises:
        InputError: ``folder`` holds no bundle.
    """
    where = f'bundle "{folder}"'
    if not (folder / NAME).is_file():
        inside = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else ""
        to = f"bundles/{folder.resolve().name}"
        is_run = (folder / "experiment.json").is_file()
        export = shlex.join(["suite", "export", str(folder), "--to", to])
        fix = f"{export} && {shlex.join(['suite', 'serve', to])}" if is_run else "suite export RUN --to BUNDLE"
        raise InputError(where, f"is none: it has no {NAME}.", found=inside or "nothing", fix=fix)
    if (folder / NAME).is_symlink():
        raise no_plain_file(folder, NAME, "a link")
    return content_of(folder, NAME, MOST)


def read(folder: Path, stored: bytes | None = None) -> Manifest:
    """What the bundle in ``folder`` says of itself; nothing else of it is looked at.

    Args:
        folder: of the bundle.
        stored: what `read_bytes` gave; None: it is read.

    Raises:
        InputError: it is no bundle, of another format, or its ``bundle.json`` was changed.
    """
    where = f'bundle "{folder}"'
    content = _parsed(read_bytes(folder) if stored is None else stored, where)
    if content.get("format") not in FORMATS:
        raise InputError(
            where,
            "is of another format than this version reads.",
            found=f"format {content.get('format')!r}, not {' or '.join(map(str, FORMATS))}",
            fix="the version of the suite that wrote it, or export the run again",
        )
    if content.get("version") != _version(content):
        raise InputError(
            where,
            f"its {NAME} was changed: it does not give its own version.",
            found=repr(content.get("version")),
            fix=AGAIN,
        )
    try:
        return _manifest(content)
    except json_files.CONTENT_ERRORS as error:
        raise InputError(
            where, f"its {NAME} is not as suite export writes it.", found=json_files.in_words(error), fix=AGAIN
        ) from None


def _parsed(stored: bytes, where: str) -> dict[str, Any]:
    try:
        content = json_files.parse(stored, NAME, AGAIN, strict=True)
    except InputError as error:
        raise InputError(where, f"its {NAME} {error.problem}", found=error.found, fix=AGAIN) from None
    if not isinstance(content, dict):
        raise InputError(where, f"its {NAME} is no JSON object.", found=type(content).__name__, fix=AGAIN)
    return content


def _manifest(content: Mapping[str, Any]) -> Manifest:
    """Raises one of several kinds where a field is missing, or not of its type."""
    texts = {name: _of(str, content[name], name) for name in ("name", "version", "experiment")}
    objects = {name: _of(dict, content[name], name) for name in ("metrics", "made", "files")}
    programs = {PREDICT: _program(content)}
    for name, about in _of(dict, content.get("programs", {}), "programs").items():
        check_program_name(name)
        if name in programs:
            raise ValueError(f"program {name!r}, twice")
        programs[name] = _program(about)
    platforms = tuple(_of(str, platform, "platforms") for platform in _of(list, content["platforms"], "platforms"))
    for name, about in objects["files"].items():
        size, digest = (_of(dict, about, f"file {name:.60}")[part] for part in ("bytes", "sha256"))
        _of(int, size, f"bytes of file {name:.60}")
        _of(str, digest, f"sha256 of file {name:.60}")
    for name, about in objects["metrics"].items():
        for value in (_of(dict, about, f"metric {name:.60}")["value"], *about.values()):
            _of((int, float), value, f"metric {name:.60}")
    for version in _of(dict, objects["made"].get("versions", {}), "versions").values():
        _of(str, version, "versions")
    for name in MADE:
        _of(str, objects["made"].get(name, ""), f"made.{name}")
    catalogue = _program(_of(dict, content[CATALOGUE], CATALOGUE)) if CATALOGUE in content else None
    engines = _engines(_of(dict, content.get(ENGINES, {}), ENGINES), programs)
    return Manifest(**texts, **objects, programs=programs, platforms=platforms, catalogue=catalogue, engines=engines)


def _engines(content: Mapping[str, Any], programs: Mapping[str, Program]) -> dict[str, Any]:
    """What a bundle says of its models in ONNX."""
    if not content:
        return {}
    models, tolerance = (_of(dict, content[name], name) for name in ("models", "tolerance"))
    if content["precision"] not in ("float32", "bfloat16") or models.keys() != tolerance.keys():
        raise ValueError(f"engines {content!s:.60}")
    for name, lengths in models.items():
        known = programs[name].lengths
        stated = {_of(int, length, "lengths of models") for length in _of(list, lengths, "models")}
        if stated not in ({0}, set(known)) or not 0 <= float(_of((int, float), tolerance[name], "tolerance")) < 1e3:
            raise ValueError(f"models of {name:.60}")
    return {**content}


def _program(content: Any) -> Program:
    about = _of(dict, content, "program")
    codec, signature = (_of(dict, about[name], name) for name in ("codec", "signature"))
    inputs, outputs = (_arrays(_of(dict, signature[part], part), part) for part in ("inputs", "outputs"))
    lengths = tuple(_of(int, length, "lengths") for length in _of(list, about["lengths"], "lengths"))
    if any(isinstance(length, bool) or not 0 <= length < 10**9 for length in lengths):
        raise ValueError(f"lengths {lengths!s:.60}")
    if not lengths or list(lengths) != sorted(set(lengths)):
        raise ValueError(f"lengths {lengths!s:.60}")
    return Program(codec, Signature(inputs, outputs), lengths)


def _arrays(content: Mapping[str, Any], part: str) -> dict[str, Array]:
    """The arrays of a signature's part."""
    arrays = {}
    for name, about in content.items():
        called = f"{part} {name:.60}"
        shape, dtype = (_of(dict, about, called)[field] for field in ("shape", "dtype"))
        sides = tuple(_side(side, called) for side in _of(list, shape, f"shape of {called}"))
        arrays[name] = Array(sides, _of(str, dtype, f"dtype of {called}"))
    return arrays


def _side(side: Any, name: str) -> int | str | None:
    if side not in ("b", "length", None) and not (type(side) is int and 0 <= side < 2**31):
        raise ValueError(f"shape of {name} {side!r:.60}")
    return side  # type: ignore[no-any-return]


def _of(kind: type | tuple[type, ...], value: Any, name: str) -> Any:
    if not isinstance(value, kind):
        raise json_files.Malformed(f"{name} {value!r:.60}")
    return value


def inside(folder: Path, folders: tuple[str, ...] = ("assets", "program")) -> Iterator[str]:
    """Names of all files in a bundle, and in its two folders.

    Raises:
        InputError: a link, or something else that is no plain file.
    """
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False) and entry.name in folders:
                yield from (f"{entry.name}/{name}" for name in inside(Path(entry.path), ()))
            elif entry.is_file(follow_symlinks=False):
                yield entry.name
            else:
                raise no_plain_file(folder, entry.name, "a link" if entry.is_symlink() else "no plain file")


def no_plain_file(folder: Path, name: str, kind: str) -> InputError:
    problem = "holds something that is no plain file."
    return InputError(f'bundle "{folder}"', problem, found=f"{name}: {kind}", fix=AGAIN)


def content_of(folder: Path, name: str, most: int) -> bytes:
    """A file's bytes. Raises InputError: there are more than ``most``."""
    with open(folder / name, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise too_large(folder, name, (folder / name).stat().st_size, most)
    return content


def too_large(folder: Path, name: str, size: int, most: int) -> InputError:
    return InputError(
        f'bundle "{folder}", file "{name}"',
        "is too large for what it is.",
        found=f"{size:,} bytes; at most {most:,}",
        fix=AGAIN,
    )


def digest_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
