"""Rate limit: how many requests a second one client may make."""

import ipaddress
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable

from suite.serving.admission import credentials
from suite.serving.errors import Refused
from suite.serving.request_body import Scope

CLIENTS = 65_536
"""Most clients that are remembered; of more, those that asked longest ago are forgotten."""
_ADDRESS = re.compile(r"\[([0-9A-Fa-f:.]+)(?:%[^\]]*)?\](?::\d{1,5})?|([0-9.]+)(?::\d{1,5})?|([0-9A-Fa-f:.]+)(?:%.*)?")
"""An address with a port or without, as headers of proxies write it: of the sixth version in brackets or bare."""


class Rates:
    """Judges a request by those of the same client before it (the generic cell rate algorithm, ITU-T I.371: one time a
    client, that at which it has its whole burst again).

    Args:
        rate: requests a second.
        burst: requests that may come at once.
        header: that names a client; empty, or where a request has none: its address.
        clock: seconds, never falling.
    """

    def __init__(self, rate: float, burst: int, header: str = "", clock: Callable[[], float] = time.monotonic):
        self._gap, self._burst = 1 / rate, burst
        self._header, self._clock = header.lower().encode("latin-1"), clock
        self._whole: OrderedDict[int | str, float] = OrderedDict()

    def check(self, scope: Scope) -> None:
        """Count a request.

        Raises:
            Refused: 429, its client has made too many.
        """
        client, now = self._client(scope), self._clock()
        whole = max(self._whole.get(client, now), now) + self._gap
        wait = whole - now - self._burst * self._gap
        if wait > 1e-9:
            message = f"more than {1 / self._gap:g} requests a second, and {self._burst} at once."
            raise Refused(429, "too_many_requests", message, fix="send it again later", retry=math.ceil(wait))
        self._whole[client] = whole
        self._whole.move_to_end(client)
        if len(self._whole) > CLIENTS:
            self._whole.popitem(last=False)

    def _client(self, scope: Scope) -> int | str:
        """A client by its header, of which a hash is kept where it is no address, or by the address that asks. A header
        may list addresses, each proxy adding the one that it was asked from: the last is the only one that a client
        cannot make up."""
        if self._header:
            value = next((value for name, value in reversed(scope["headers"]) if name == self._header), b"")
            if value := value.rpartition(b",")[2].strip():
                return client_of(value.decode("latin-1")) or hash(credentials(value))
        address = str(scope["client"][0]) if scope.get("client") else ""
        return client_of(address) or address


def client_of(text: str) -> str:
    """The client with this address, in one spelling and without its port: the address; of the sixth version the
    network, since one client has all addresses of a /64. Empty where ``text`` is no address."""
    matched = _ADDRESS.fullmatch(text) if len(text) <= 100 else None
    try:
        address = ipaddress.ip_address(next(filter(None, matched.groups())) if matched else "")
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
