"""Protocol: how a request for answers is read and how its answer is written. What lies between is the same for all."""

import math
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.serving.endpoint import Endpoint
from suite.serving.errors import Headers, Refused, encoded
from suite.serving.versions import Version

Written = tuple[bytes, Headers, bytes]
"""An answer: its content, its headers, its media type."""
JSON = b"application/json"
_DECIMAL = re.compile(rb"\d{1,12}(?:\.\d{0,12})?|\.\d{1,12}")


@dataclass(slots=True)
class Question:
    """What one request asks.

    Attributes:
        columns: checked values, one a record.
        write: (version, one answer a record, their seeds) -> the answer.
        seeds: that the records' random numbers come from; empty: none are given.
        every: whether an answer names all classes where it would name the likeliest few.
        seconds: in which it is to be answered, if that is less than the server's deadline.
    """

    columns: dict[str, list[Any]]
    write: Callable[[Version, list[Any], list[int]], Written]
    seeds: Sequence[int] = ()
    every: bool = False
    seconds: float = math.inf


class Protocol(typing.Protocol):
    """One way to ask."""

    def read(self, endpoint: Endpoint, headers: Mapping[bytes, bytes], data: bytes) -> Question:
        """The question in a body.

        Raises:
            Refused: it holds none, or one that the endpoint does not answer.
        """

    def refusal(self, error: Refused) -> bytes:
        """The body that says why there is no answer, as JSON."""


def media_of(headers: Mapping[bytes, bytes]) -> bytes:
    """Media type of a body, in small letters and without parameters; empty: none is given.

    Raises:
        Refused: 415, the body is compressed.
    """
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding != b"identity":
        message = f"a body that is packed by {coding.decode('latin-1'):.20} is not read."
        raise Refused(415, "unsupported_encoding", message, fix="send it unpacked")
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def decimal(value: bytes) -> float | None:
    """A number in a header, in decimal digits as HTTP writes them; None where it is written otherwise, such as
    ``1_0``, ``1e9``, ``inf`` or ``nan``, which Python reads."""
    value = value.strip(b" \t")
    return float(value) if _DECIMAL.fullmatch(value) else None


def records_in(columns: Mapping[str, Sequence[Any]]) -> int:
    """How many records the columns hold."""
    return len(next(iter(columns.values())))


def not_finite(answers: Sequence[Any]) -> Refused:
    """The refusal of a request with an answer that JSON does not hold, since a number of it is not finite."""
    place = next((place for place, answer in enumerate(answers) if not _is_json(answer)), 0)
    message = "lies so far from what the model was trained on that its answer is no number."
    return Refused(422, "no_number", message, field=f"inputs[{place}]")


def _is_json(answer: Any) -> bool:
    try:
        encoded(answer)
    except ValueError:
        return False
    return True
