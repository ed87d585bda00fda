"""Callbacks of an experiment, called with an error that names the one that failed."""

import dataclasses
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from suite.contracts.callback import Callback, Ended, Evaluated, Logged, Outcome, Saved, Started
from suite.errors import InputError, Interrupted, RunError


def outcome_of(error: BaseException | None) -> Outcome:
    """How a training came to its end, by what it raised; an exception may say so itself, as ``outcome``."""
    if error is None:
        return "finished"
    default: Outcome = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
    outcome: Outcome = getattr(error, "outcome", default)
    return outcome


class Callbacks:
    """Calls each callback of an experiment in turn; leaving the context tells those that were started of the end.

    Args:
        callbacks: see `suite.contracts.callback.Callback`.
        active: False for all but the first of several processes.

    Raises:
        InputError: one is not a dataclass, or not a Callback.
    """

    def __init__(self, callbacks: Sequence[Callback], active: bool = True):
        for callback in callbacks:
            _check(callback)
        self._callbacks = tuple(callbacks) if active else ()
        self._started: list[Callback] = []
        self._step, self._metrics = 0, dict[str, float]()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        event = Ended(self._step, outcome_of(error), self._metrics)
        failed: RunError | None = None
        for callback in self._started:
            try:
                _call(callback, "on_end", event)
            except RunError as raised:
                failed = failed or raised
        if failed is None:
            return
        if error is None:
            raise failed
        print(failed, file=sys.stderr, flush=True)  # and the first error goes on

    def start(self, event: Started) -> None:
        self._step = event.step
        for callback in self._callbacks:
            self._started.append(callback)
            _call(callback, "on_start", event)

    def log(self, event: Logged) -> None:
        self._all("on_log", event)

    def evaluation(self, event: Evaluated) -> None:
        self._all("on_evaluation", event)

    def checkpoint(self, event: Saved) -> None:
        self._all("on_checkpoint", event)

    def finish(self, step: int, metrics: Mapping[str, float]) -> None:
        """What is told of at the end, where training came to its own."""
        self._step, self._metrics = step, dict(metrics)

    def _all(self, method: str, event: Logged | Evaluated | Saved) -> None:
        self._step = max(self._step, event.step)
        for callback in self._callbacks:
            _call(callback, method, event)


def _call(callback: Callback, method: str, event: Any) -> None:
    try:
        getattr(callback, method)(event)
    except Interrupted:
        raise
    except Exception as error:
        kind, place = type(callback), traceback.extract_tb(error.__traceback__)[-1]
        raise RunError(
            f"the callback {kind.__module__}.{kind.__qualname__}.{method} failed at step {event.step}: "
            f"{type(error).__name__}: {error}\n  found: {place.filename}:{place.lineno}: {place.line}\n"
            "  try:   repair it, then suite train --resume RUN; or leave it out of the experiment's callbacks"
        ) from error


def _check(callback: Any) -> None:
    if dataclasses.is_dataclass(callback) and isinstance(callback, Callback):
        return
    kind = callback if isinstance(callback, type) else type(callback)
    raise InputError(
        "field callbacks",
        f"{kind.__name__} is not an object of a dataclass derived from suite.Callback.",
        found=repr(callback)[:80],
        fix=f"@dataclass(frozen=True) before class {kind.__name__}(suite.Callback), and {kind.__name__}() in callbacks",
    )
