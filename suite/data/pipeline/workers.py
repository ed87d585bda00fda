"""Worker processes that encode, by Grain; one that dies is replaced, and what killed it twice is named."""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grain

from suite.errors import InputError

Span = tuple[int, int]
Encode = Callable[[Span], dict[str, Any]]


@dataclass(frozen=True)
class Noted:
    """``encode`` that leaves a note of what its process works on: one file a process, empty between two spans."""

    encode: Encode
    notes: str

    def __call__(self, span: Span) -> dict[str, Any]:
        note = Path(self.notes) / str(os.getpid())
        note.write_text(f"{span[0]} {span[1]}")
        encoded = self.encode(span)
        note.write_text("")
        return encoded


def in_workers(
    encode: Encode, spans: Sequence[Span], workers: int, prefetch: int
) -> Generator[dict[str, Any], None, None]:
    """``encode`` of each span, in order.

    A worker that is killed, as by the system when memory runs out, or that crashes in compiled code, is replaced
    together with the others, from the first span that has not arrived.

    Raises:
        InputError: one span killed its worker twice; its records are named.
    """
    blamed: set[Span | None] = set()
    done = 0
    while done < len(spans):
        with tempfile.TemporaryDirectory(prefix="suite-workers-") as notes:
            iterator = _start(Noted(encode, notes), spans[done:], workers, prefetch)
            try:
                for element in iterator:
                    yield element
                    done += 1
                    blamed -= {spans[done - 1], None}  # what arrived kills no worker
                return
            except RuntimeError as error:
                if "terminated unexpectedly" not in str(error):
                    raise
                span = _last_work(Path(notes))
                if span in blamed:
                    raise _deadly(encode, span, error) from None
                blamed.add(span)
                where = f"at batch {span[0]}" if span else "between batches"
                print(
                    f"a data worker died {where}; all are started again from batch {spans[done][0]}",
                    file=sys.stderr,
                    flush=True,
                )
            finally:
                iterator.close()


def _start(encode: Encode, spans: Sequence[Span], workers: int, prefetch: int) -> Any:
    _parse_flags()
    # Arrays in nested dicts travel through shared memory.
    several = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=prefetch)
    read = grain.ReadOptions(num_threads=0, prefetch_buffer_size=prefetch)
    dataset = grain.MapDataset.source(spans).map(encode).to_iter_dataset(read)
    return iter(dataset.mp_prefetch(several, worker_init_fn=_leave_signals))


def _leave_signals(worker: int, workers: int) -> None:
    """The trainer decides what a signal to the whole group of processes means, and ends its workers itself; they end
    of their own accord where it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(trainer: Any) -> None:
    trainer.join()
    os._exit(1)


def _last_work(notes: Path) -> Span | None:
    """What a process that is no more was working on."""
    alive = {str(process.pid) for process in multiprocessing.active_children()}
    dead = [note.read_text().split() for note in sorted(notes.iterdir()) if note.name not in alive]
    return next(((int(span[0]), int(span[1])) for span in dead if span), None)


def _deadly(encode: Encode, span: Span | None, error: RuntimeError) -> InputError:
    plan = getattr(encode, "plan", None)
    if span is None or plan is None:
        return InputError(
            "data worker",
            "died twice in a row.",
            found=str(error),
            fix="--pipeline.workers 0 shows why; fewer workers take less memory",
        )
    ids = [int(i) for step in range(span[0], sum(span)) for i in plan.batch(step)[0] if i >= 0]
    more = f" and {len(ids) - 20} more" if len(ids) > 20 else ""
    return InputError(
        "data worker",
        f"died twice at batch {span[0]}.",
        found=f"training records {', '.join(map(str, ids[:20]))}{more}; {error}",
        fix="--pipeline.workers 0 shows what happens there",
    )


def _parse_flags() -> None:
    """Grain's worker processes read absl flags, which stay unreadable where no absl app has parsed them."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
