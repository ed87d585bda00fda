"""TensorBoard: an event file in the run folder."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping

from suite.contracts.callback import Outcome
from suite.training.logging.loggers import About

EVENT_SECONDS = 2.0
"""Seconds between writes of TensorBoard events to the disk: its flush waits for the disk, some milliseconds."""


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """tensorboardX imports PyTorch where it is installed: two seconds and 200 MB for what no line here uses."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # an import of it fails as if it were not installed
    try:
        yield
    finally:
        del sys.modules["torch"]


class TensorBoard:
    """A TensorBoard event file, written in the calling thread; the experiment's fields are its text "experiment".

    tensorboardX's own SummaryWriter hands each value to a thread through a short queue; where the disk is full the
    thread dies and the training loop waits for it for ever.
    """

    def start(self, about: About) -> None:
        with _without_torch():
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto import event_pb2, summary_pb2
            from tensorboardX.summary import text

        folder = about.folder / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        # The file's name has whole seconds; a run resumed within one must not overwrite its first file.
        self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        self._next = 0.0
        if about.step:  # hides what earlier files hold of the steps to come
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._writer.write_event(self._event(step=about.step + 1, session_log=start, wall_time=time.time()))
        if about.fields:
            rows = [f"| {name} | `{json.dumps(value)}` |" for name, value in about.fields.items()]
            table = "\n".join(["| field | value |", "|---|---|", *rows])
            self._writer.write_event(
                self._event(step=about.step, wall_time=time.time(), summary=text("experiment", table))
            )

    def metrics(self, step: int, numbers: Mapping[str, float]) -> None:
        values = [self._summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
        self._writer.write_event(self._event(step=step, wall_time=time.time(), summary=self._summary(value=values)))
        now = time.monotonic()
        if now >= self._next:
            self._next = now + EVENT_SECONDS
            self._writer.flush()

    def close(self, outcome: Outcome) -> None:
        self._writer.close()
