"""JSON from strangers: strict, bounded in what it can make of its bytes, each fault named."""

import json
import re
from collections.abc import Collection
from typing import Any, NoReturn

from suite.contracts.values import json_type
from suite.serving.errors import Refused

STRUCTURES = 100_000
"""Most arrays and objects of a body: each takes a hundred times the bytes it is written with."""
VALUES = 1_000_000
"""Most values of a body."""
KEYS = 10_000
"""Most keys of an object: it is made at once, while nothing else is."""
DIGITS = 400
"""Most digits of an integer; no float has more."""

_MARK = re.compile(rb'(?:[^"\[\]{}:,]++|"(?:[^"\\]++|\\.)*+"?)*+([\[\]{}:,]|\Z)', re.DOTALL)
"""The next mark that is in no string, or the end; possessive, the ends optional: linear whatever the bytes."""
EXAMPLE = '{"inputs": [...]}'


def request_of(body: bytes, optional: Collection[str] = ()) -> dict[str, Any]:
    """The fields of a request: the list ``inputs``, and those of ``optional`` that it gives.

    Raises:
        Refused: the body is not JSON, says more than JSON may, or holds no such list.
    """
    value = parsed(body)
    if not isinstance(value, dict):
        raise Refused(400, "wrong_type", f"the body must be an object, not {json_type(value)}.", fix=EXAMPLE)
    unknown = sorted(value.keys() - {"inputs", *optional})
    if "inputs" not in value:
        named = f" (found: {', '.join(unknown)})"[:200] if unknown else ""
        raise Refused(400, "missing", f"the list of inputs is missing{named}.", field="inputs", fix=EXAMPLE)
    if unknown:
        raise Refused(400, "unknown", "is not understood.", field=unknown[0][:100], fix=EXAMPLE)
    inputs = value["inputs"]
    if not isinstance(inputs, list):
        raise Refused(400, "wrong_type", f"must be a list, not {json_type(inputs)}.", field="inputs", fix=EXAMPLE)
    if not inputs:
        raise Refused(400, "empty", "the list is empty.", field="inputs", fix="send at least one record")
    return value


def parsed(body: bytes, what: str = "the body", fix: str = EXAMPLE) -> Any:
    """JSON as Python values.

    Args:
        body: what is read.
        what: it is, in an error's words.
        fix: what can be sent instead.

    Raises:
        Refused: not UTF-8, not JSON, NaN or Infinity, a key that occurs twice, an integer of more than ``DIGITS``
            digits, arrays and objects nested too deep or too many, or an object of more than ``KEYS`` keys.
    """
    _check_amount(body)
    try:
        return json.loads(
            body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_number, parse_int=_integer
        )
    except UnicodeDecodeError as error:
        raise Refused(400, "invalid_json", f"{what} is not UTF-8 (byte {error.start}).", fix=fix) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}" if b"\n" in body else f"column {error.colno}"
        raise Refused(400, "invalid_json", f"{what} is not JSON: {error.msg} ({where}).", fix=fix) from None
    except RecursionError:
        raise Refused(400, "invalid_json", "arrays or objects are nested too deep.") from None


def _check_amount(body: bytes) -> None:
    """Few bytes may stand for many objects: counted before any is made, without those inside strings."""
    brackets, commas, colons = body.count(b"[") + body.count(b"{"), body.count(b","), body.count(b":")
    if brackets <= STRUCTURES and commas <= VALUES and colons <= KEYS:
        return
    structures = values = 0
    around: list[int] = []  # keys of the objects around, 0 for arrays
    for found in _MARK.finditer(body):
        mark = found[1]
        if mark == b",":
            values += 1
        elif mark == b":":
            if not around:
                return  # no JSON, which the parser says
            around[-1] += 1
            if around[-1] > KEYS:
                message = f"an object of the body holds more than {KEYS:,} keys."
                raise Refused(413, "too_many_columns", message, fix="send the columns that the model takes")
        elif mark in (b"[", b"{"):
            structures += 1
            around.append(0)
        elif around and mark:
            around.pop()
        if structures > STRUCTURES or values > VALUES:
            message = f"the body holds more than {STRUCTURES:,} arrays and objects, or {VALUES:,} values."
            raise Refused(413, "too_many_values", message, fix="send fewer records a request")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Refused(400, "duplicate_key", f'the key "{twice:.100}" occurs twice in one object.')
    return content


def _no_number(name: str) -> NoReturn:
    raise Refused(400, "invalid_json", f"{name} is not JSON.", fix="null for a missing value")


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise Refused(400, "number_too_large", f"a number has {len(digits):,} digits.")
    return int(digits)
