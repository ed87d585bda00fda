"""A watch over the other processes of a run, so that the end of one ends all, with a line that says which and why.

A process that waits in a collective for one that is no more would wait for ever, or be ended by the runtime minutes
later. So the connections over which the processes found each other stay open, each to process 0: the system closes
those of a process that ends, however it ends, and gives up those to a host that is silent.
"""

import json
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LOST = 75
"""Exit code where another process was lost: EX_TEMPFAIL, the run can go on from its last checkpoint."""
ORDERLY = (0, LOST)
"""Codes with which all processes leave, each when it is done."""
GRACE_SECONDS = 3.0
"""How long a process may take to come to the error of another by itself."""


@dataclass
class Peer:
    """Another process, and the connection to it.

    Attributes:
        process: its number.
        host: where it runs.
        socket: the connection.
        seconds: after how many of silence its host counts as lost. The system asks it, so no thread need be scheduled
            for that, neither there nor here.
        said: the code that it left with; None before it has.
        text: why it left.
        over: whether the connection has ended.
        rest: what has been read of messages not yet heard.
    """

    process: int
    host: str
    socket: socket.socket
    seconds: float
    said: int | None = None
    text: str = ""
    over: bool = False
    rest: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        keep = {"TCP_KEEPIDLE": self.seconds / 3, "TCP_KEEPINTVL": self.seconds / 6, "TCP_KEEPCNT": 4}
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in keep.items():
            if hasattr(socket, name):
                self.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), max(int(value), 1))

    def gone(self) -> bool:
        """Whether the connection has ended; to be asked before the other may speak."""
        self.socket.setblocking(False)
        try:
            return self.socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.socket.setblocking(True)

    def heard(self) -> list[dict[str, Any]] | None:
        """Messages that have arrived; None where the connection has ended."""
        try:
            data = self.socket.recv(65536)
        except OSError:
            return None
        if not data:
            return None
        self.rest += data
        return self.pending()

    def pending(self) -> list[dict[str, Any]]:
        """Messages that have been read and not yet heard."""
        *lines, self.rest = self.rest.split(b"\n")
        return [message for line in lines if isinstance(message := _parsed(line), dict)]

    def __str__(self) -> str:
        return f"process {self.process} ({self.host})"


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """One message: a line of JSON."""
    connection.sendall(json.dumps(message).encode() + b"\n")


def reply(connection: socket.socket, message: dict[str, Any]) -> None:
    """The last message on a connection, to one who may have gone."""
    try:
        send(connection, message)
        connection.close()
    except OSError:
        return


def first_message(connection: socket.socket, seconds: float) -> tuple[dict[str, Any], bytes]:
    """The first message, and what has come after it; empty where none comes within ``seconds``, or something else."""
    connection.settimeout(seconds)
    data = b""
    while b"\n" not in data and len(data) < 65536:
        try:
            more = connection.recv(4096)
        except OSError:
            return {}, b""
        if not more:
            return {}, b""
        data += more
    line, _, rest = data.partition(b"\n")
    connection.settimeout(None)
    message = _parsed(line)
    return (message, rest) if isinstance(message, dict) else ({}, b"")


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


class FailureDetector:
    """What this process knows of the others while a run lasts; process 0 of all, the others of process 0.

    Args:
        process: the number of this one.
        peers: see `suite.parallel.rendezvous.muster`.
        processes: how many there are.
    """

    def __init__(self, process: int, peers: list[Peer], processes: int):
        self.process, self.processes = process, processes
        self._peers = {peer.process: peer for peer in peers}
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._stop = threading.Event()
        self._leaving = threading.Lock()

    def start(self) -> None:
        """Begin to watch, in a thread."""
        self._thread.start()

    def done(self) -> None:
        """Tell the others that this process comes to its end as it should."""
        self._tell({"left": 0, "text": ""})

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()
        for peer in self._peers.values():
            peer.socket.close()

    def leave(self, text: str, code: int) -> bool:
        """Tell the others of an error that ends this process; whether process 0 told the user the same.

        The errors of what all do alike reach every process: one message is enough. Process 0 returns when the others
        have come to theirs, or have gone: with it goes the runtime's service, whose end they would take for the cause.
        """
        if not self._leaving.acquire(blocking=False):
            time.sleep(2 * GRACE_SECONDS)  # another has ended, and so does this process meanwhile
            return False
        self._tell({"left": code, "text": text})
        first = self._peers.get(0)
        if first is None:
            self._await(lambda peer: peer.over or (code in ORDERLY and peer.said is not None), GRACE_SECONDS + 2)
            return False
        self._await(lambda peer: peer.said is not None, GRACE_SECONDS + 2)
        return first.said is not None and first.text == text

    def explain(self) -> None:
        """Called with an error that may only be what the loss of another process looks like from here: where it is,
        this does not return."""
        time.sleep(GRACE_SECONDS)

    def _await(self, reached: Callable[[Peer], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not all(map(reached, self._peers.values())) and time.monotonic() < until:
            time.sleep(0.01)

    def _tell(self, message: dict[str, Any]) -> None:
        for peer in self._peers.values():
            try:
                send(peer.socket, message)
            except OSError:
                continue

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for peer in self._peers.values():
                selector.register(peer.socket, selectors.EVENT_READ, peer)
                for message in peer.pending():
                    self._hear(peer, message)
            while not self._stop.is_set():
                for key, _ in selector.select(0.1):
                    heard = key.data.heard()
                    for message in heard or ():
                        self._hear(key.data, message)
                    if heard is None:
                        selector.unregister(key.fileobj)
                        self._over(key.data)

    def _hear(self, peer: Peer, message: dict[str, Any]) -> None:
        if "ended" in message and peer.said is None:
            peer.text, peer.said = str(message["ended"]), int(message["code"])
            self._end(peer.text, peer.said)
        if "left" in message and peer.said is None:
            peer.text, peer.said = str(message.get("text", "")), int(message["left"])
            if peer.said not in ORDERLY:  # unless this process comes to its own end before
                self._end(f"{peer} ended: {peer.text}", peer.said, after=GRACE_SECONDS)

    def _over(self, peer: Peer) -> None:
        """A connection has ended; that of one who said nothing was lost."""
        peer.over = True
        if peer.said is None:
            self._end(
                f"{peer} is gone; the other {self.processes - 1} of {self.processes} processes stop\n"
                "  try:   the same command with --continue, or suite train --resume RUN: both go on from the\n"
                "         last checkpoint",
                LOST,
            )

    def _end(self, text: str, code: int, after: float = 0.0) -> None:
        """End this process, whose main thread may wait in a collective that never ends."""

        def end() -> None:
            time.sleep(after)
            if not self._leaving.acquire(blocking=False):
                return
            self._tell({"ended": text, "code": code})
            print(f"suite: {text}", file=sys.stderr, flush=True)
            if self.process == 0:  # see leave
                self._await(lambda peer: peer.over, 2.0)
            os._exit(code)

        threading.Thread(target=end, name="end", daemon=True).start()
