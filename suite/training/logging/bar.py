"""Progress of a run for people: a bar in a terminal or a notebook, plain lines elsewhere."""

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

PLAIN_SECONDS = 10.0
"""Seconds between progress lines where there is no terminal to redraw."""
DRAW_SECONDS = 0.1
"""Seconds between redraws of the bar: a step may take half a millisecond, drawing takes longer."""


def interactive() -> bool:
    """Whether a bar can be redrawn: a terminal or a notebook."""
    return sys.stderr.isatty() or _notebook()


def _notebook() -> bool:
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell else None
    return running is not None and "IPKernelApp" in running.config


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


class Pace:
    """Time left, by the steps since `begin`, pauses left out."""

    def __init__(self, total: int, resumed: int) -> None:
        self.total = total
        self._resumed, self._start = resumed, time.monotonic()

    def begin(self) -> None:
        """The first step is about to be taken."""
        self._start = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Seconds that have passed and will not come again, such as those of compilation."""
        self._start += seconds

    def left(self, step: int) -> str:
        per_step = (time.monotonic() - self._start) / max(step - self._resumed, 1)
        return _clock(per_step * max(self.total - step, 0))


class Lines:
    """Plain lines for a log file: the first, the last and one every few seconds."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._next = 0.0

    def show(self, step: int, loss: float, examples_per_second: float) -> None:
        now = time.monotonic()
        if now < self._next and step < self._pace.total:
            return
        self._next = now + PLAIN_SECONDS
        self.say(
            f"step {step}/{self._pace.total}  loss {float(loss):.4f}  {float(examples_per_second):,.0f} examples/s"
            f"  {self._pace.left(step)} left"
        )

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        return


class Bar:
    """A bar that redraws itself in a terminal or a notebook."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._next = 0.0
        self._progress = _rich_progress()
        self._task = self._progress.add_task("", total=self._pace.total, loss="", speed="", left="")
        self._progress.start()

    def show(self, step: int, loss: float, examples_per_second: float) -> None:
        now = time.monotonic()
        if now < self._next and step < self._pace.total:
            return
        self._next = now + DRAW_SECONDS
        self._progress.update(
            self._task,
            completed=step,
            loss=f"loss {float(loss):.4f}",
            speed=f"{float(examples_per_second):,.0f} examples/s",
            left=f"{self._pace.left(step)} left",
            refresh=True,
        )

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


def _rich_progress() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=not _notebook()),
        # Its own thread would compete with the training loop for the processor.
        auto_refresh=False,
    )
