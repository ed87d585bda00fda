"""A request to stop: SIGTERM, Ctrl-C or a cluster's notice of preemption, noted at once, obeyed between batches."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Left(Exception):
    """An evaluation was left, as the run is to stop."""


class Interruption:
    """Takes the signals while it is entered, in the main thread only; what handled them before does so again after.

    The first signal is noted. A second Ctrl-C does what it always did; further SIGTERMs are one and the same request.
    Where ``jax.distributed`` runs, the notice goes to its preemption service instead, which makes all hosts stop at one
    step: a process that stopped at its own would leave the others waiting in their next collective.
    """

    def __init__(self) -> None:
        self._requested = False
        self._distributed = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._distributed = jax.distributed.is_initialized()
        if not self._distributed and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell sets it for what runs in the background
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        for number in list(self._before):
            self._restore(number)

    @property
    def noted(self) -> bool:
        """Whether a signal came that this process obeys by itself."""
        return self._requested and not self._distributed

    def after(self, before: int, step: int) -> bool:
        """Whether to stop, having taken the steps from ``before`` to ``step``; the same on every host.

        The service names the step to stop at and knows no dispatches, so it is asked about each step.
        """
        if self._distributed and jax.config.jax_enable_preemption_service:
            reached = [multihost_utils.reached_preemption_sync_point(i) for i in range(before + 1, step + 1)]
            self._requested = self._requested or any(reached)
        return self._requested

    def guard(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` of a batch that raises Left, before the next batch, once a signal came."""

        def guarded(*arguments: Any) -> Any:
            if self._requested:
                raise Left
            return function(*arguments)

        return guarded

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        self._restore(signal.SIGINT)

    def _restore(self, number: int) -> None:
        if number in self._before:
            before = self._before.pop(number)
            signal.signal(number, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """While this lasts SIGTERM is as Ctrl-C, a KeyboardInterrupt; a training within notes both, and saves its step."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else signal.SIG_IGN
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if before is not signal.SIG_IGN:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
