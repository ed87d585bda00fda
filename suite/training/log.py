"""What a run tells: metrics.jsonl and TensorBoard for programs, a progress line for people."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

METRICS = "metrics.jsonl"
PLAIN_SECONDS = 10.0
"""Seconds between progress lines where there is no terminal to redraw."""
DRAW_SECONDS = 0.1
"""Seconds between redraws of the bar: a step may take half a millisecond, drawing takes longer."""
EVENT_SECONDS = 2.0
"""Seconds between writes of TensorBoard events to the disk: its flush waits for the disk, some milliseconds."""


class Log:
    """The log of one run; use it as a context manager.

    Args:
        folder: the run folder.
        total: steps of the whole run.
        resume_step: last step whose lines stay, where a run goes on: what was logged after it is cut off.
        writing: False for all but the first of several processes, which neither write nor print.
    """

    def __init__(self, folder: Path | str, total: int, resume_step: int | None = None, writing: bool = True) -> None:
        self.folder = Path(folder)
        self.total = total
        self.writing = writing
        self._events: _Events | None = None
        self._file: TextIO | None = None
        if writing:
            self.folder.mkdir(parents=True, exist_ok=True)
            if resume_step is not None:
                _cut(self.folder / METRICS, resume_step)
            self._file = (self.folder / METRICS).open("a", encoding="utf-8")
        self._resumed = resume_step or 0
        self._pace = _Pace(total, self._resumed)
        self._bar: _Bar | _Lines | None = None
        self._complained = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line ``{"step": step, name: value, ...}``, and the same values to TensorBoard.

        A full disk loses lines, says so once, and stops no training.
        """
        if self._file is None:
            return
        numbers = {name: float(value) for name, value in values.items()}
        try:
            self._file.write(json.dumps({"step": int(step), **numbers}) + "\n")
            self._file.flush()
            if self._events is None:
                self._events = _Events(self.folder / "tensorboard", self._resumed)
            self._events.write(int(step), numbers)
        except OSError as error:
            self._complain(error)

    def progress(self, step: int, loss: float, examples_per_second: float) -> None:
        """Show how far the run is; cheap to call at every step, as most calls draw nothing."""
        if not self.writing:
            return
        if self._bar is None:
            self._bar = _Bar(self._pace) if _interactive() else _Lines(self._pace)
        self._bar.show(step, loss, examples_per_second)

    def say(self, text: str) -> None:
        """Print a line above the progress bar, to standard error."""
        if not self.writing:
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
        for file in (self._events, self._file):
            try:
                if file is not None:
                    file.close()
            except OSError as error:
                self._complain(error)
        self._events = None

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            self.say(f"metrics cannot be written, training goes on: {error}")


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


class _Events:
    """A TensorBoard event file, written in the calling thread.

    tensorboardX's own SummaryWriter hands each value to a thread through a short queue; where the disk is full the
    thread dies and the training loop waits for it for ever.
    """

    def __init__(self, folder: Path, resumed: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        folder.mkdir(parents=True, exist_ok=True)
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        # The file's name has whole seconds; a run resumed within one must not overwrite its first file.
        self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        self._next = 0.0
        if resumed:  # hides what earlier files hold of the steps to come
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._writer.write_event(self._event(step=resumed + 1, session_log=start, wall_time=time.time()))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        values = [self._summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
        self._writer.write_event(self._event(step=step, wall_time=time.time(), summary=self._summary(value=values)))
        now = time.monotonic()
        if now >= self._next:
            self._next = now + EVENT_SECONDS
            self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Pace:
    """Time left: from the steps since the first drawing, since what came before holds the compilation too."""

    def __init__(self, total: int, resumed: int) -> None:
        self.total = total
        self._step, self._start, self._first = resumed, time.monotonic(), True

    def left(self, step: int) -> str:
        now = time.monotonic()
        per_step = (now - self._start) / max(step - self._step, 1)
        if self._first:
            self._step, self._start, self._first = step, now, False
        return _clock(per_step * max(self.total - step, 0))


class _Lines:
    """Plain lines for a log file: the first, the last and one every few seconds."""

    def __init__(self, pace: _Pace) -> None:
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


class _Bar:
    """A bar that redraws itself in a terminal or a notebook."""

    def __init__(self, pace: _Pace) -> None:
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
