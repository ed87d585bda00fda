"""What a run tells: metrics.jsonl and TensorBoard for programs, a progress line for people."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.progress import Progress
    from tensorboardX import SummaryWriter

METRICS = "metrics.jsonl"
PLAIN_SECONDS = 10.0
"""Seconds between progress lines where there is no terminal to redraw."""
DRAW_SECONDS = 0.1
"""Seconds between redraws of the bar: a step may take half a millisecond, drawing takes longer."""


class Log:
    """The log of one run; use it as a context manager.

    Args:
        folder: the run folder.
        total: steps of the whole run.
        resume_step: last step whose lines stay, where a run goes on: what was logged after it is cut off.
        quiet: write the files, print nothing.
    """

    def __init__(self, folder: Path | str, total: int, resume_step: int | None = None, quiet: bool = False) -> None:
        self.folder = Path(folder)
        self.total = total
        self.quiet = quiet
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume_step is not None:
            _cut(self.folder / METRICS, resume_step)
        self._purge_step = None if resume_step is None else resume_step + 1
        self._file = (self.folder / METRICS).open("a", encoding="utf-8")
        self._writer: SummaryWriter | None = None
        self._bar: _Bar | _Lines | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line ``{"step": step, name: value, ...}``, and the same values to TensorBoard."""
        numbers = {name: float(value) for name, value in values.items()}
        self._file.write(json.dumps({"step": int(step), **numbers}) + "\n")
        self._file.flush()
        writer = self._tensorboard()
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)

    def progress(self, step: int, loss: float, examples_per_second: float) -> None:
        """Show how far the run is; cheap to call at every step, as most calls draw nothing."""
        if self.quiet:
            return
        if self._bar is None:
            self._bar = _Bar(self.total, step) if _interactive() else _Lines(self.total, step)
        self._bar.show(step, loss, examples_per_second)

    def say(self, text: str) -> None:
        """Print a line above the progress bar, to standard error."""
        if self.quiet:
            return
        if self._bar is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._bar.say(text)

    def close(self) -> None:
        """Finish the bar and the files."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._file.close()

    def _tensorboard(self) -> "SummaryWriter":
        if self._writer is None:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self._purge_step)
        return self._writer


def history(folder: Path | str) -> dict[str, list[Any]]:
    """The table of metrics.jsonl: column -> one value a line, None where the line lacks it; ``"step"`` comes first.

    A run folder without metrics has one empty column, ``"step"``.
    """
    path = Path(folder) / METRICS
    rows = _rows(path.read_text(encoding="utf-8")) if path.exists() else []
    names = dict.fromkeys(["step", *(name for row in rows for name in row)])
    return {name: [row.get(name) for row in rows] for name in names}


def _rows(text: str) -> list[dict[str, Any]]:
    """Lines that are whole: a process that was killed may have left half of its last one."""
    rows = []
    for line in text.splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _cut(path: Path, step: int) -> None:
    """Drop lines after ``step``, leaving either the old file or the new one whenever the power goes."""
    if not path.exists():
        return
    kept = [row for row in _rows(path.read_text(encoding="utf-8")) if row["step"] <= step]
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in kept)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _interactive() -> bool:
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


class _Pace:
    """Time left, from the steps done since this process started."""

    def __init__(self, total: int, first: int) -> None:
        self.total, self.first, self.start = total, max(first - 1, 0), time.monotonic()

    def left(self, step: int) -> str:
        done = step - self.first
        if done <= 0:
            return "?"
        return _clock((time.monotonic() - self.start) / done * max(self.total - step, 0))


class _Lines:
    """Plain lines for a log file: the first, the last and one every few seconds."""

    def __init__(self, total: int, first: int) -> None:
        self._pace = _Pace(total, first)
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


class _Bar:
    """A bar that redraws itself in a terminal or a notebook."""

    def __init__(self, total: int, first: int) -> None:
        self._pace = _Pace(total, first)
        self._next = 0.0
        self._progress = _rich_progress()
        self._task = self._progress.add_task("", total=total, loss="", speed="", left="")
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
