"""Errors of the server: status, a code for programs, a sentence and a fix for people."""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from suite.contracts.signature import file_to_json
from suite.errors import InputError
from suite.runtime.decoders import Ended

K = TypeVar("K")
T = TypeVar("T")
log = logging.getLogger("suite.serving")

Headers = list[tuple[bytes, bytes]]
"""Names, in small letters, and values."""


class Refused(Exception):
    """A request that is not answered, for a reason that its sender can read.

    Args:
        status: of HTTP; 4xx where the request is at fault, 503 and 504 where the server can't answer in time.
        code: the reason as one word, for programs.
        message: the reason as a sentence.
        field: the part of the request at fault, e.g. ``"inputs[2].text"``; left out when empty.
        fix: what the sender can change; left out when empty.
        retry: seconds after which the same request may be answered; 0: it won't be.
        close: whether the connection ends with this answer, since what follows on it can't be trusted.
        allow: the methods that the address knows.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str = "",
        fix: str = "",
        retry: int = 0,
        close: bool = False,
        allow: str = "",
    ):
        self.status, self.code, self.message, self.field, self.fix = status, code, message, field, fix
        self.retry, self.close, self.allow = retry, close, allow
        super().__init__(message)

    def within(self, field: str) -> "Refused":
        """The same, said of ``field``."""
        return Refused(
            self.status,
            self.code,
            self.message,
            field=field,
            fix=self.fix,
            retry=self.retry,
            close=self.close,
            allow=self.allow,
        )

    @property
    def body(self) -> dict[str, Any]:
        """``{"error": {"code", "message", "field"?, "fix"?}}``."""
        error = {"code": self.code, "message": self.message}
        error.update({key: value for key, value in (("field", self.field), ("fix", self.fix)) if value})
        return {"error": error}

    @property
    def headers(self) -> Headers:
        """Those that go with the status."""
        headers: Headers = []
        if self.retry:
            headers.append((b"retry-after", str(self.retry).encode()))
        if self.close:
            headers.append((b"connection", b"close"))
        if self.allow:
            headers.append((b"allow", self.allow.encode()))
        if self.status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="suite"'))
        return headers


def refused(error: InputError, field: str = "") -> Refused:
    """What preparing a record, the ``field`` of a request, found wrong with it, as an answer; its field is the input at
    fault, where that is known."""
    shown = f" (found: {error.found})" if error.found else ""
    named = field and error.input
    message = error.problem if named and error.where == f'input "{error.input}"' else f"{error.where}: {error.problem}"
    status, code = (422, "undecodable") if isinstance(error, Ended) else (400, "invalid_input")
    return Refused(status, code, message + shown, field=f"{field}.{error.input}" if named else field, fix=error.fix)


def failed() -> Refused:
    """The answer to a request at which the server made a mistake, which its log tells."""
    return Refused(500, "failed", "the server made a mistake; its log says which.")


def of_each(things: Mapping[str, K], describe: Callable[[K], T]) -> tuple[dict[str, T], list[str]]:
    """What ``describe`` says of each of several models, by name, and the names of those of which nothing can be said in
    JSON: what is wrong with one of them, which the log tells, keeps no other from being described."""
    described: dict[str, T] = {}
    for name, thing in things.items():
        try:
            said = describe(thing)
            encoded(said)
        except Exception:
            log.exception("%s cannot be described", name)
        else:
            described[name] = said
    return described, [name for name in things if name not in described]


def encoded(value: Any) -> bytes:
    """JSON as UTF-8, on one line. Files are ``{"media_type", "data"}``; half of a surrogate pair, such as of a name
    that is refused, is its escape.

    Raises:
        ValueError: a number that JSON doesn't have.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=file_to_json)
    return text.encode("utf-8", "backslashreplace")
