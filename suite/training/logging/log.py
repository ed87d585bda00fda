"""Log of a run: metrics for programs (metrics.jsonl, TensorBoard), progress for people."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from suite.training.logging.bar import Bar, Lines, Pace, interactive
from suite.training.logging.jsonl import METRICS, cut
from suite.training.logging.tensorboard import Events


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
        self._events: Events | None = None
        self._file: TextIO | None = None
        if writing:
            self.folder.mkdir(parents=True, exist_ok=True)
            if resume_step is not None:
                cut(self.folder / METRICS, resume_step)
            self._file = (self.folder / METRICS).open("a", encoding="utf-8")
        self._resumed = resume_step or 0
        self._pace = Pace(total, self._resumed)
        self._bar: Bar | Lines | None = None
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
                self._events = Events(self.folder / "tensorboard", self._resumed)
            self._events.write(int(step), numbers)
        except OSError as error:
            self._complain(error)

    def progress(self, step: int, loss: float, examples_per_second: float) -> None:
        """Show how far the run is; cheap to call at every step, as most calls draw nothing."""
        if not self.writing:
            return
        if self._bar is None:
            self._bar = Bar(self._pace) if interactive() else Lines(self._pace)
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
