"""Progress of predictions for people: a bar in a terminal or a notebook, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from suite.training.logging.bar import DRAW_SECONDS, PLAIN_SECONDS, Pace, interactive


class Progress:
    """Records answered so far, their speed, errors and the time left.

    Args:
        total: records of the input.
        resumed: of which this many were answered by an earlier command.
    """

    def __init__(self, total: int, resumed: int = 0):
        self._total, self._begun, self._from, self._next = total, time.monotonic(), min(resumed, total), 0.0
        self._pace, self._bar = Pace(total, self._from), _rich_bar() if interactive() else None
        self._task = self._bar.add_task("", total=total, completed=self._from, about="") if self._bar else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        if self._from:
            self._say(f"goes on after {self._from:,} of {self._total:,} records")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, done: int, failed: int) -> None:
        """Say it, if it is time to."""
        now = time.monotonic()
        if now < self._next and done < self._total:
            return
        self._next = now + (DRAW_SECONDS if self._bar else PLAIN_SECONDS)
        speed = (done - self._from) / max(now - self._begun, 1e-9)
        about = f"{speed:,.0f} records/s  {self._pace.left(done)} left" + (f"  {failed:,} errors" if failed else "")
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, about=about, refresh=True)
        else:
            self._say(f"{done:,}/{self._total:,} records  {about}")

    def _say(self, text: str) -> None:
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)


def _rich_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=None), MofNCompleteColumn(), TextColumn("{task.fields[about]}"))
    return Progress(*columns, console=Console(stderr=sys.stderr.isatty()), auto_refresh=False)
