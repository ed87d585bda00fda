"""Who may come in: by its token, by the name that it calls the server, and by the page that a browser asks from."""

import functools
import hmac
import ipaddress
import re
import shlex
from collections.abc import Collection

from suite.serving.errors import Refused
from suite.serving.request_body import Scope

_HOST = re.compile(rb"(?:\[([0-9a-fA-F:.]+)\]|([^\s:/?#@\[\]\\,]*))(?::\d{0,5})?")
_LOOKED_AT = frozenset({b"host", b"authorization", b"origin", b"sec-fetch-site"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change and compute nothing; a page of another origin is not shown their answers by the browser."""


class Admission:
    """Judges a request by its headers alone.

    A local server that asks for no token is open to the pages that a browser on this machine shows. A page whose own
    name is made to lead to this machine ("DNS rebinding") gives itself away by the header Host, any other page by
    Sec-Fetch-Site or Origin.

    Args:
        token: that requests must carry; empty: none.
        local: whether the server listens to this machine alone.
        hosts: names that Host may be, besides ``localhost`` and addresses; none: of a local server without a token no
            other, of others any.
        admin: token that requests which change what is served must carry; empty: none may.
    """

    def __init__(self, token: str, local: bool, hosts: Collection[str], admin: str = ""):
        self._token, self._admin = (f"bearer {known}".encode() if known else b"" for known in (token, admin))
        self._hosts = frozenset({*(name.lower() for name in hosts), "localhost"})
        self._named = self._hosts - {"localhost"}
        self._any_host = not hosts and (bool(token) or not local)
        self._name = functools.lru_cache(maxsize=64)(_name)

    def check(self, scope: Scope, open_to_all: bool, changes: bool = False) -> None:
        """Args:
            scope: the request.
            open_to_all: whether what it asks for needs no token.
            changes: whether it changes what is served.

        Raises:
            Refused: 400, Host is missing, occurs twice or is none; 401; 403, a browser asks for a page of another
                origin, or nothing is changed here; 421, the server is not called by this name.
        """
        host, authorization, origin, site = None, b"", None, None
        for name, value in scope["headers"]:
            if name not in _LOOKED_AT:
                continue
            if name == b"host":
                if host is not None:
                    raise _wrong_host("the request has two headers Host.")
                host = value
            elif name == b"authorization":
                authorization = value
            elif name == b"origin":
                origin = value
            else:
                site = value
        if host is not None:
            self._check_host(host)
        elif scope["http_version"] != "1.0":
            raise _wrong_host("the request has no header Host.")
        if changes and not self._admin:
            message = "no request changes what this server serves: it was given no token for that."
            raise Refused(403, "not_allowed", message, fix="--admin-token-file admin.txt", close=True)
        token = self._admin if changes else self._token
        if not token:
            if scope["method"] not in _READING and not (origin is None and site is None):
                self._check_origin(site, origin, host or b"")
        elif not open_to_all and not hmac.compare_digest(credentials(authorization), token):
            message = "the bearer token is missing or wrong."
            raise Refused(401, "unauthorized", message, fix="Authorization: Bearer TOKEN")

    def _check_host(self, value: bytes) -> None:
        name = self._name(value)
        if name is None:
            raise _wrong_host("is no name of a host.")
        if self._any_host or name in self._hosts or _is_address(name):
            return
        fix = f"--hosts {shlex.quote(name)}" if name else "Host: localhost"
        message = f'this server is not called "{name:.100}".'
        raise Refused(421, "unknown_host", message, field="Host", fix=fix, close=True)

    def _check_origin(self, site: bytes | None, origin: bytes | None, host: bytes) -> None:
        """A page of another origin could have its visitor's machine compute; what it would ask needs no permission."""
        if site is not None:
            field, own = "Sec-Fetch-Site", site in (b"same-origin", b"none")
        else:
            field, own = "Origin", origin is None or self._is_own(origin, host)
        if not own:
            message = "a page of another origin asks, and no token is needed here."
            raise Refused(403, "cross_site", message, field=field, fix="--token-file token.txt", close=True)

    def _is_own(self, origin: bytes, host: bytes) -> bool:
        """Whether a page of ``origin`` is the server's; behind a proxy that puts another Host in, by ``--hosts``."""
        authority = origin.partition(b"://")[2]
        return authority.lower() == host.lower() or self._name(authority) in self._named


def credentials(value: bytes) -> bytes:
    """The value of a header Authorization in one spelling: the scheme in small letters, one space, no others around
    (RFC 9110, sections 5.5 and 11.4)."""
    scheme, _, rest = value.strip(b" \t").partition(b" ")
    return scheme.lower() + b" " + rest.lstrip(b" ")


def _wrong_host(message: str) -> Refused:
    return Refused(400, "invalid_host", message, field="Host", close=True)


def _name(value: bytes) -> str | None:
    """The name or address in a header Host, in small letters and without the port; None where it is not of its form."""
    matched = _HOST.fullmatch(value)
    if matched is None:
        return None
    address, name = matched[1], matched[2]
    return (name if address is None else address).decode("latin-1").lower()


@functools.lru_cache(maxsize=64)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
