"""Address of a server: the bound socket, and how a browser on this machine finds it."""

import ipaddress
import socket

from suite.errors import InputError


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound, and not yet listened at.

    Raises:
        InputError: the address is taken, or not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise InputError(
            f"address {host}:{port}",
            "cannot be listened at.",
            found=error.strerror or str(error),
            fix=f"--port {port + 1}",
        ) from None
    return bound


def url(bound: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def is_local(bound: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(bound.getsockname()[0]).is_loopback
