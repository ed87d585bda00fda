"""Data workers: processes that encode. One that dies is replaced, and the records that killed it twice are named.

Each worker has a socket of which it alone holds the other end, so the death of a worker, at its start or at work, ends
every read from it and every write to it: nothing waits for a process that is no more.
"""

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.util import Finalize
from typing import Any

import cloudpickle
import numpy as np

from suite.errors import InputError
from suite.runtime import child

Span = tuple[int, int]
Encode = Callable[[Span], dict[str, Any]]
STARTING, BETWEEN = -2, -1
"""What a worker does that encodes no span."""
LOOK_SECONDS = 0.5
"""How often a wait for a worker looks whether the run is to stop."""
END_SECONDS = 1.0
"""That workers are given to end by themselves."""


def in_workers(
    encode: Encode, spans: Sequence[Span], workers: int, prefetch: int, stopped: Callable[[], bool] = lambda: False
) -> Generator[dict[str, Any], None, None]:
    """``encode`` of each span, in order.

    A worker that is killed, as by the system when memory runs out, or that crashes in compiled code, is replaced from
    the first of its spans that has not arrived.

    Args:
        encode: encodes a span; its arrays arrive writable.
        spans: what is encoded, in this order.
        workers: processes; each encodes every ``workers``-th span.
        prefetch: encoded spans that wait for each worker here.
        stopped: whether the run is to stop: then a wait ends, and with it the generator, before all spans have come.

    Raises:
        InputError: one span killed its worker twice; its records are named. Or no process can be started.
    """
    count = min(workers, len(spans))
    blamed: set[Span | int] = set()  # an int: a worker that died between two spans
    pool: list[_Worker] = []
    with contextlib.ExitStack() as stack:
        stack.callback(_end, pool)
        whole = cloudpickle.dumps(encode)
        for first in range(count):
            pool.append(_Worker(whole, spans[first::count], prefetch))
        del whole  # it may hold a whole table
        for place, span in enumerate(spans):
            which = place % count
            while (arrived := pool[which].next(stopped)) is None:
                if stopped():
                    return
                deadly = pool[which].working_on()
                code = pool[which].exit_code()
                if (deadly or which) in blamed:
                    raise _deadly(encode, deadly, f"its process ended with exit code {code}")
                blamed.add(deadly or which)
                where = f"at batch {deadly[0]}" if deadly else "between batches"
                print(
                    f"a data worker died {where}; it is started again from batch {span[0]}", file=sys.stderr, flush=True
                )
                _end([pool[which]])
                pool[which] = _Worker(cloudpickle.dumps(encode), spans[place::count], prefetch)
            if isinstance(arrived, Exception):
                raise arrived
            yield arrived
            blamed -= {span, which}  # what arrived kills no worker


def _deadly(encode: Encode, span: Span | None, ended: str) -> InputError:
    plan = getattr(encode, "plan", None)
    if span is None or plan is None:
        return InputError(
            "data worker",
            "died twice in a row.",
            found=ended,
            fix="--pipeline.workers 0 shows why; fewer workers take less memory",
        )
    ids = [int(i) for step in range(span[0], sum(span)) for i in plan.batch(step)[0] if i >= 0]
    more = f" and {len(ids) - 20} more" if len(ids) > 20 else ""
    return InputError(
        "data worker",
        f"died twice at batch {span[0]}.",
        found=f"training records {', '.join(map(str, ids[:20]))}{more}; {ended}",
        fix="--pipeline.workers 0 shows what happens there",
    )


class _Worker:
    """A process that encodes some spans in order, and the thread that takes them from it."""

    def __init__(self, encode: bytes, spans: Sequence[Span], prefetch: int):
        context = multiprocessing.get_context("spawn")
        self._spans, self._payload = spans, [encode, pickle.dumps(spans)]
        self._socket, theirs = socket.socketpair()
        self._room, self._arrived = threading.Semaphore(prefetch), queue.SimpleQueue[Any]()
        self._closed = False
        self._working = context.RawValue("q", STARTING)
        self._process = context.Process(target=_work, args=(theirs, self._working), daemon=True)
        try:
            with theirs, _signals_held():
                self._process.start()
        except OSError as error:
            self._socket.close()
            raise InputError(
                "data worker", "cannot be started.", found=str(error), fix="--pipeline.workers 0"
            ) from None
        # Before the interpreter waits for its children, which leave SIGTERM to the trainer.
        self._finalize = Finalize(self, _kill, args=(self._process,), exitpriority=10)
        self._thread = threading.Thread(target=self._take, name="data-worker", daemon=True)
        self._thread.start()

    def next(self, stopped: Callable[[], bool]) -> Any:
        """The next span, encoded, or the error that it raised; None where the process died, or the run is to stop."""
        while True:
            try:
                arrived = self._arrived.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if stopped():
                    return None
                continue
            self._room.release()
            return arrived

    def working_on(self) -> Span | None:
        """What a process that died was encoding."""
        place = self._working.value
        return self._spans[place] if place >= 0 else None

    def exit_code(self) -> int | None:
        """Of a process that died; negative: the signal that ended it."""
        self._process.join(END_SECONDS)
        return self._process.exitcode

    def close(self) -> None:
        """Take nothing more from the process, which ends of itself at its next word."""
        self._closed = True
        self._room.release()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self, until: float) -> None:
        """Wait for the end of the process, or kill it at ``until``, on the clock of `time.monotonic`."""
        self._process.join(max(until - time.monotonic(), 0.0))
        self._finalize()
        self._thread.join()
        self._socket.close()

    def _take(self) -> None:
        try:
            _send(self._socket, self._payload)
            self._payload = []
            for _ in self._spans:
                self._room.acquire()
                if self._closed:
                    return
                pickled, *buffers = _receive(self._socket)
                self._arrived.put(pickle.loads(pickled, buffers=buffers))
        except (OSError, EOFError):
            self._arrived.put(None)


def _end(pool: Sequence[_Worker]) -> None:
    """End workers, all at once."""
    for worker in pool:
        worker.close()
    until = time.monotonic() + END_SECONDS
    for worker in pool:
        worker.end(until)


def _kill(process: Any) -> None:
    process.kill()
    process.join()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Processes started within inherit that Ctrl-C and SIGTERM wait, until they have said what these mean to them."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


# In the process of a worker


def _work(channel: socket.socket, working: Any) -> None:
    _leave_signals()
    with contextlib.suppress(OSError, EOFError), channel:  # the trainer has enough, or is no more
        encode, spans = _receive(channel)
        try:
            encode = cloudpickle.loads(encode)
            for place, span in enumerate(pickle.loads(spans)):
                working.value = place
                encoded = _packed(encode(span))
                working.value = BETWEEN
                try:
                    _send(channel, encoded)
                except OSError:
                    return
        except Exception as error:
            working.value = BETWEEN
            _send(channel, _packed(_portable(error)))


def _leave_signals() -> None:
    """The trainer decides what a signal to the whole group of processes means, and ends its workers itself; they end
    with it where it was killed, be they stopped then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    trainer: Any = multiprocessing.parent_process()
    child.end_with(trainer.pid)
    threading.Thread(target=_end_with, args=(trainer,), daemon=True).start()


def _end_with(trainer: Any) -> None:
    trainer.join()
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """The error as another process can read it, with where it was raised."""
    if not isinstance(error, InputError):
        error.add_note("".join(traceback.format_exception(error)).rstrip())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an error whose constructor takes something else
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


# Messages: how many parts, how long each is, and the parts


def _packed(value: Any) -> list[Any]:
    """A value without its arrays, and these as they lie in memory."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return [pickled, *(buffer.raw() for buffer in buffers)]


def _send(channel: socket.socket, parts: Sequence[Any]) -> None:
    sizes = [memoryview(part).nbytes for part in parts]
    channel.sendall(struct.pack(f"!{1 + len(parts)}Q", len(parts), *sizes))
    for part in parts:
        channel.sendall(part)


def _receive(channel: socket.socket) -> list[Any]:
    (count,) = struct.unpack("!Q", _read(channel, 8))
    return [_read(channel, size) for size in struct.unpack(f"!{count}Q", _read(channel, 8 * count))]


def _read(channel: socket.socket, size: int) -> Any:
    """So many bytes. Raises EOFError: the other end is closed."""
    content, done = np.empty(size, np.uint8), 0
    while done < size:
        taken = channel.recv_into(memoryview(content)[done:])  # type: ignore[arg-type]
        if not taken:
            raise EOFError
        done += taken
    return content
