"""Log of a run: metrics for programs (metrics.jsonl and loggers), progress for people."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from suite.contracts.callback import Outcome
from suite.errors import InputError
from suite.training.callbacks import outcome_of
from suite.training.logging import jsonl
from suite.training.logging.bar import Bar, Lines, Pace, interactive
from suite.training.logging.jsonl import METRICS, cut
from suite.training.logging.loggers import About, Logger
from suite.training.logging.mlflow_logger import MLflow
from suite.training.logging.tensorboard import TensorBoard
from suite.training.logging.wandb_logger import WeightsAndBiases


class Log:
    """The log of one run; use it as a context manager.

    Args:
        folder: the run folder.
        total: steps of the whole run.
        resume_step: last step whose lines stay, where a run goes on: what was logged after it is cut off.
        writing: False for all but the first of several processes, which neither write nor print.
        names: loggers that get the same metrics, see `suite.training.logging.loggers`.
        about: what they are told of the run.

    Raises:
        InputError: a logger of a run that begins cannot be started. Where a run goes on it does so without.
    """

    def __init__(
        self,
        folder: Path | str,
        total: int,
        resume_step: int | None = None,
        writing: bool = True,
        names: Sequence[str] = ("tensorboard",),
        about: About | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.total = total
        self.writing = writing
        self._loggers: dict[str, Logger] = {}
        self._file: jsonl.Lines | None = None
        self._resumed = resume_step or 0
        self._pace = Pace(total, self._resumed)
        self._bar: Bar | Lines | None = None
        self._complained: set[str] = set()
        if writing:
            self.folder.mkdir(parents=True, exist_ok=True)
            if resume_step is not None:
                cut(self.folder / METRICS, resume_step)
            self._file = jsonl.Lines(self.folder / METRICS)
            self._start(names, about or About("", self.folder, {}, self._resumed))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(outcome_of(error))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line ``{"step": step, name: value, ...}``, and give the same values to the loggers.

        A full disk, which is given the lines once it has room, or a server that is gone, which loses them, is told of
        once and stops no training.
        """
        if self._file is None:
            return
        file, numbers = self._file, {name: float(value) for name, value in values.items()}

        self._try(METRICS, lambda: file.add({"step": int(step), **numbers}))
        for name, logger in self._loggers.items():
            self._try(name, lambda logger=logger: logger.metrics(int(step), numbers))  # type: ignore[misc]

    def begin(self) -> None:
        """The first step is about to be taken: the time left is reckoned from here."""
        self._pace.begin()

    def pause(self, seconds: float) -> None:
        """Leave out of the time left seconds that have passed and will not come again, such as those of compilation."""
        self._pace.pause(seconds)

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

    def close(self, outcome: Outcome = "finished") -> None:
        """Finish the bar, the loggers and the file."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        for name, logger in self._loggers.items():
            self._try(name, lambda logger=logger: logger.close(outcome))  # type: ignore[misc]
        self._loggers = {}
        if self._file is not None:
            file, self._file = self._file, None
            self._try(METRICS, file.close)

    def _start(self, names: Sequence[str], about: About) -> None:
        for name in names:
            try:
                logger = _make(name)
                logger.start(about)
            except Exception as error:
                reason = next(iter(str(error).splitlines()), "") or type(error).__name__
                if about.step or isinstance(error, OSError):
                    self._complain(name, reason)
                    continue
                others = [other for other in names if other != name]
                fix = f"--train.loggers {' '.join(others)}" if others else "--train.loggers tensorboard"
                problem = f"{name} cannot be started."
                raise InputError("field train.loggers", problem, found=reason[:300], fix=fix) from error
            self._loggers[name] = logger

    def _try(self, name: str, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:  # of the disk, or of a server's client, which has errors of its own
            self._complain(name, next(iter(str(error).splitlines()), "") or type(error).__name__)

    def _complain(self, name: str, reason: str) -> None:
        name = "metrics" if name in (METRICS, "tensorboard") else name  # both lie on the run's disk
        if name not in self._complained:
            self._complained.add(name)
            self.say(f"{name} cannot be written, training goes on: {reason}")


def _make(name: str) -> Logger:
    """The logger of a name; its package is loaded where it starts."""
    kinds: dict[str, type[Logger]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WeightsAndBiases}
    return kinds[name]()
