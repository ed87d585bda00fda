"""JSON files of runs, bundles and published weights: read within bounds, their faults told in words."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from suite.errors import InputError

T = TypeVar("T")

MOST_LEVELS = 100
"""Objects and arrays within one another. What reads a value goes down to its leaves by recursion."""
MOST_DIGITS = 40
"""Digits of an integer. Published tokenizers state 10**30 where they mean no limit."""
FIX = "restore the file, or make or fetch the folder that it lies in again"
CONTENT_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What code raises that takes the content of a file to be of its usual form."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
"""How a surrogate can stand in a JSON text. Two in a row, escaped, are one character."""


class Malformed(TypeError, ValueError):
    """Content that has not the form it should have; the message says which value, in words."""


def parse(text: str | bytes, where: str, fix: str = FIX, strict: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        text: of the file, UTF-8 where it is bytes.
        where: how errors call it.
        fix: what errors advise.
        strict: refuse what parsers read differently: a key that an object has twice, and half a character (a lone
            surrogate), which no UTF-8 holds.

    Raises:
        InputError: it is not JSON, is nested deeper than MOST_LEVELS, holds an integer longer than MOST_DIGITS, or what
            ``strict`` refuses.
    """
    try:
        value = json.loads(text, parse_int=_integer, object_pairs_hook=_unique if strict else None)
    except RecursionError:
        raise _too_deep(where, fix) from None
    except InputError as error:
        raise InputError(where, error.problem, found=error.found, fix=fix) from None
    except ValueError as error:
        raise InputError(where, f"is not JSON: {error}", fix=fix) from None
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [inner for outer in level for inner in _within(outer)]
        if not level:
            break
    else:
        raise _too_deep(where, fix)
    if strict:
        _check_characters(text, value, where, fix)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys and values."""
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise InputError("", "has a key twice in one object.", found=repr(counts.most_common(1)[0][0])[:100])
    return content


def _check_characters(text: str | bytes, value: Any, where: str, fix: str) -> None:
    """Raises InputError: a text in ``value`` holds half a character."""
    written = text.decode(json.detect_encoding(text), "surrogatepass") if isinstance(text, bytes) else text
    if not _SURROGATE.search(written):
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        found = repr(error.object[max(error.start - 20, 0) : error.end])
        raise InputError(where, "holds a lone surrogate, which is no character.", found=found, fix=fix) from None


def in_words(error: BaseException) -> str:
    """What one of CONTENT_ERRORS says of the content, without the names that Python has for it."""
    if isinstance(error, KeyError):
        return f'no field "{error.args[0] if error.args else ""!s:.100}"'
    if isinstance(error, ValueError) and str(error):
        return f"{error!s:.200}"
    if isinstance(error, IndexError):
        return "a list that is too short"
    if isinstance(error, MemoryError | RecursionError | ArithmeticError):
        return "a value that is too large"
    return "a value of another type than its field has"


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        found = f"{len(digits):,} digits; at most {MOST_DIGITS}"
        raise InputError("", "holds an integer that is too long.", found=found)
    return int(digits)


def _within(value: Any) -> list[Any]:
    """Objects and arrays that are items of ``value``."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, dict | list)]


def _too_deep(where: str, fix: str) -> InputError:
    found = f"more than {MOST_LEVELS} objects and arrays within one another"
    return InputError(where, "is nested too deeply.", found=found, fix=fix)


def read(path: str | Path, fix: str = FIX) -> Any:
    """The value of a JSON file, see `parse`.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: its content cannot be read.
    """
    try:
        content = Path(path).read_bytes()
    except IsADirectoryError:
        raise InputError(str(path), "is a folder, not a file.", fix=fix) from None
    return parse(content, str(path), fix)


def read_object(path: str | Path, fix: str = FIX) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: its content cannot be read, or is no object.
    """
    value = read(path, fix)
    if not isinstance(value, dict):
        raise InputError(str(path), "is no JSON object.", found=type(value).__name__, fix=fix)
    return value


def load(path: str | Path, build: Callable[[Any], T], fix: str = FIX) -> T:
    """What ``build`` makes of the value of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: its content cannot be read, or ``build`` raises one of CONTENT_ERRORS.
    """
    return made_of(read(path, fix), build, str(path), fix)


def made_of(value: Any, build: Callable[[Any], T], where: str, fix: str = FIX) -> T:
    """What ``build`` makes of a value that was read; ``where`` is how errors call it.

    Raises:
        InputError: ``build`` raises one of CONTENT_ERRORS.
    """
    try:
        return build(value)
    except InputError:
        raise
    except CONTENT_ERRORS as error:
        found = in_words(error)
        raise InputError(where, "has not the form that it was written in.", found=found, fix=fix) from None


def texts(value: Any) -> list[str]:
    """``value`` as a list of texts. Raises Malformed: it is none."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Malformed(f"no list of texts: {value!r:.60}")
    return value


def built_by_name(kind: type[T], content: Mapping[str, Any]) -> dict[str, T]:
    """Dataclasses by name, each as `built` makes it."""
    return {str(name): built(kind, value) for name, value in dict(content).items()}


def built(kind: type[T], content: Mapping[str, Any]) -> T:
    """A dataclass of plain values from an object, lists as tuples.

    Raises:
        Malformed: a value is not of its field's type: a text, a truth value, a number, one of a Literal, or a tuple of
            these; or the object lacks a field, or has others.
    """
    hints = get_type_hints(kind)
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
    for name, value in fields.items():
        if name in hints and not _fits(value, hints[name]):
            raise Malformed(f"{name} is {value!r:.60}")
    try:
        return kind(**fields)
    except TypeError:
        has, known = ", ".join(map(str, fields)), ", ".join(hints)
        raise Malformed(f"an object with the fields {has:.100}, not {known:.100}") from None


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(item, get_args(hint)[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, hint)
