"""Codecs of a bundle: they are read, and compared with the program that they are of, before a request is answered."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from suite.bundles.manifest import AGAIN, Manifest, Signature
from suite.contracts.codec import Codec
from suite.contracts.preprocessor import Preprocessor
from suite.errors import InputError
from suite.experiment import serialization
from suite.runtime import json_files

CODECS = ("suite.codecs", "suite.data.preprocessing", "suite.data.recordings", "suite.decoding")
"""Rooms whose classes a bundle's codec may name without being asked."""
LONGEST_NAME = 1_000
"""Characters of the name of a class, an item, a column or an output. Titles of films and products have hundreds."""
LONGEST_CHOICE = 10_000
"""Characters of a value that an input or output lists."""


def rebased(value: Any, place: Callable[[str], str]) -> Any:
    """A codec with ``place(file)`` for the file of each Preprocessor in it that has one, and in the codecs that it
    holds by name."""
    if isinstance(value, Mapping):
        return {name: rebased(inner, place) for name, inner in value.items()}
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    changes = {field.name: rebased(getattr(value, field.name), place) for field in dataclasses.fields(value)}
    if isinstance(value, Preprocessor) and value.file:
        changes["file"] = place(value.file)
    return dataclasses.replace(value, **changes)


def read_codec(folder: Path, about: Manifest, stored: Mapping[str, Any], allow: tuple[str, ...]) -> Codec:
    """A codec of a bundle, its files those in ``folder``.

    Raises:
        InputError: it is none, names a class that is not allowed, or a file that is no asset of the bundle.
    """
    where = f'bundle "{folder}"'

    def place(file: str) -> str:
        if file not in about.files or not file.startswith("assets/"):
            raise InputError(where, "its codec names a file that is no asset of it.", found=repr(file), fix=AGAIN)
        return str(folder / file)

    try:
        member = serialization.from_json(stored, allow, CODECS)
    except InputError as error:
        said = error.problem
        if error.where.startswith("field "):  # a number out of its bounds
            said = f"is not as suite export writes it: {error.where} {error.problem}."
        raise InputError(where, f"its codec {said}", found=error.found, fix=error.fix or AGAIN) from None
    except json_files.CONTENT_ERRORS as error:
        raise InputError(
            where, "its codec is not as suite export writes it.", found=json_files.in_words(error), fix=AGAIN
        ) from None
    if not isinstance(member, Codec):
        raise InputError(where, "its codec is none.", found=type(member).__name__, fix=AGAIN)
    try:
        codec: Codec = rebased(member, place)
        _check_preprocessors(codec)
        # Fields of other types than the class states show when they are used: here, rather than at a request.
        _ = codec.inputs, codec.outputs, codec.answer_schema
    except InputError:
        raise
    except json_files.CONTENT_ERRORS as error:
        problem = "its codec is not as suite export writes it."
        raise InputError(where, problem, found=json_files.in_words(error), fix=AGAIN) from None
    return codec


def _check_preprocessors(value: Any) -> None:
    """Raises InputError: a file of a codec's preprocessors cannot be used, or would end the process."""
    if isinstance(value, Preprocessor) and value.file:
        value.check()
    if isinstance(value, Mapping):
        inner = list(value.values())
    else:
        inner = [getattr(value, field.name) for field in dataclasses.fields(value)] if _is_part(value) else []
    for part in inner:
        _check_preprocessors(part)


def _is_part(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def check_names(where: str, codec: Codec, signature: Signature, records: int = 0) -> None:
    """Compares what a codec calls things by with what its program gives.

    Args:
        where: how errors call the bundle.
        codec: of a program.
        signature: of the program.
        records: of the bundle's catalogue; 0: it has none.

    Raises:
        InputError: names are too few or too many, repeat, or are too long.
    """
    for output, names in codec.place_names.items():
        _check_list(where, f"its names of {output}", names)
        shape = signature.outputs[output].shape if output in signature.outputs else ()
        if not shape or shape[-1] != len(names):
            places = f"{shape[-1]} places" if shape else "no such output"
            problem = f"its names are not those of the program's output {output}."
            raise InputError(where, problem, found=f"{len(names):,} names, {places}", fix=AGAIN)
    names = codec.catalogue_names
    _check_list(where, "its names of the catalogue", names)
    if names and len(names) < records:
        problem, found = "names fewer records of its catalogue than it has.", f"{len(names):,} names of {records:,}"
        raise InputError(where, problem, found=found, fix=AGAIN)
    for what, entries in (("inputs", codec.inputs), ("outputs", codec.outputs)):
        _check_list(where, f"its names of {what}", [entry.name for entry in entries])
        for entry in entries:
            for choice in entry.choices:
                _check_length(where, f"its choices of {entry.name}", choice, LONGEST_CHOICE)


def _check_list(where: str, what: str, names: Iterable[str]) -> None:
    for name in names:
        _check_length(where, what, name, LONGEST_NAME)
    name, count = next(iter(Counter(filter(None, names)).most_common(1)), ("", 0))
    if count > 1:
        raise InputError(where, f"{what} repeat.", found=f"{name!r:.60} {count} times", fix=AGAIN)


def _check_length(where: str, what: str, text: str, most: int) -> None:
    if len(text) > most:
        fix = "shorten it in the data, train and export again"
        found = f"{text[:40]!r}... of {len(text):,} characters; at most {most:,}"
        raise InputError(where, f"{what} hold one that is too long.", found=found, fix=fix)
