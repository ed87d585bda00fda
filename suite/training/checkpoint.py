"""Checkpoints: Orbax, asynchronous and atomic; the latest few and the best one are kept.

A checkpoint holds the whole training state and its ``Progress``: the next batch of the input pipeline, the best
score so far and how long ago it was. It is written beside the others and renamed when it is complete; checksums of
its files follow (see `suite.training.integrity`), both in a thread of their own. It is of no mesh: restoring names the
shapes and shardings that are wanted, so what 8 devices wrote 1 or 4 may read, in one process or several.

Several processes write one checkpoint together, each its own parts, into a folder that they share; process 0 alone
looks at the disk, renames and removes, and all do as it found.
"""

import contextlib
import functools
import math
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from suite.errors import InputError, Interrupted, RunError, StorageError
from suite.parallel import hosts
from suite.runtime import json_files
from suite.training import integrity, orbax_noise
from suite.tree import paths


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Progress:
    """Where a run stands, besides its arrays.

    Attributes:
        next_batch: the iterator state: global index of the first batch not yet trained on.
        best: best value of the selection metric so far, higher is better; None before the first evaluation.
        best_step: step it was reached at.
        best_loss: validation loss at that step; None where the task has none, or an earlier version wrote this.
        since_best: evaluations since.
        due: the evaluation of this very step is still to be done.
        tallied: sums since the last log line, name -> (total, count).
        seconds: that the run had been trained for when this was saved; 0 in checkpoints that knew of none. A clock's,
            so equal runs may differ in it.
    """

    next_batch: int = 0
    best: float | None = None
    best_step: int = 0
    best_loss: float | None = None
    since_best: int = 0
    due: bool = False
    tallied: dict[str, Any] = field(default_factory=dict)
    seconds: float = field(default=0.0, compare=False)


class Score(NamedTuple):
    """What an evaluation says of a checkpoint.

    Attributes:
        value: the selection metric, higher is better.
        loss: validation loss, which decides between equal values; None where there is none.
    """

    value: float
    loss: float | None = None

    def stored(self, step: int) -> dict[str, float]:
        """As a checkpoint's metrics hold it."""
        return {"best": self.value, **({} if self.loss is None else {"loss": self.loss}), "step": float(step)}


def rank(metrics: Mapping[str, float]) -> tuple[float, float, float]:
    """Order of the stored metrics of checkpoints, the best last: by score; of equal scores the lower loss, then the
    earlier step. Those of version 0.1 hold the score alone: of them, the later one is preferred by the caller."""
    return float(metrics["best"]), -float(metrics.get("loss", math.inf)), -float(metrics.get("step", 0.0))


_SAVES_FAILED = threading.Event()


def saves_failed() -> bool:
    """Whether a save has failed in this process. Threads of Orbax then wait for what it would have made, for up to 20
    minutes, and the interpreter's end waits for them."""
    return _SAVES_FAILED.is_set()


def _floats(params: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _finite(params: Any) -> jax.Array:
    return jnp.array([jnp.isfinite(leaf).all() for leaf in _floats(params)], bool).all()


def _is_on_host(leaf: Any) -> bool:
    """Whether an array lies in the memory of this process as a whole, where NumPy reads it without a copy."""
    if isinstance(leaf, np.ndarray):
        return True
    devices = leaf.sharding.device_set
    return len(devices) == 1 and next(iter(devices)).platform == "cpu" and leaf.is_fully_addressable


class OtherModel(InputError):
    """A checkpoint is of another model than the one that it is read for."""


class Checkpoints:
    """The ``checkpoints`` folder of a run. Use as a context manager: leaving waits for saves under way.

    Entering a folder to write there, every file of its checkpoints is compared with its checksum; a damaged checkpoint
    is told of and renamed, so that the one before is the latest.

    Args:
        folder: where they lie, each in a folder named after its step.
        keep: how many of the latest are kept.
        writing: False for readers, which touch nothing: another process may be writing there.

    Raises:
        InputError: there are checkpoints, and all are damaged.
    """

    def __init__(self, folder: Path, keep: int = 2, writing: bool = True):
        self.folder = folder.absolute()
        self.say: Callable[[str], None] = _print if hosts.is_first() else lambda text: None
        """What takes the lines for people."""
        self.on_saved: Callable[[int, Path], None] = lambda step, path: None
        """Called with step and folder of a checkpoint that is found complete, in the thread that saves."""
        self._writing, self._keep = writing, keep
        self._orbax: Any = None
        self._under_way: tuple[int, threading.Thread] | None = None
        self._failed: Exception | None = None
        self._unwritten: set[int] = set()
        self._missed: list[int] = []
        self._why = ""
        self._copy = jax.jit(lambda state: jax.tree.map(jnp.copy, state))
        self._finite = jax.jit(_finite)
        if writing:
            hosts.agreed(self._tidy)

    @functools.cached_property
    def _reader(self) -> Any:
        """Orbax, loaded where it first reads or writes: that takes as long as compiling a small model's step."""
        from orbax.checkpoint.experimental import v1 as ocp

        orbax_noise.quieten()
        return ocp

    def _writer(self) -> Any:
        """What writes, made for the first save."""
        if self._orbax is None:
            ocp = self._reader
            policies = ocp.training.preservation_policies
            best = policies.BestN(get_metric_fn=rank, n=1, keep_checkpoints_without_metrics=False)
            self._orbax = ocp.training.Checkpointer(
                self.folder,
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(max(self._keep, 1)), best]),
                cleanup_tmp_directories=True,  # what a save that was cut short left behind
            )
        return self._orbax

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if not self._writing:
            return
        if hosts.several() and kind is not None and not issubclass(kind, Interrupted | RunError):
            # This process's own error: the others may be anywhere, so nothing that waits for them.
            if self._under_way is not None:
                self._under_way[1].join()
            return
        try:
            self.settle()
        finally:
            try:
                if self._orbax is not None:
                    self._orbax.close()
            except Exception:  # that of a save that failed, once more, which was told
                if not self._missed:
                    raise
        if hosts.is_first():
            self._discard()

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint, be it on its way; None where there is none."""
        return hosts.agreed(self._latest)

    @property
    def best(self) -> int | None:
        """Step of the checkpoint with the best score, else of the latest."""
        ranks = self._ranks()
        return max(ranks, key=lambda step: (ranks[step], step)) if ranks else self._latest()

    def _latest(self) -> int | None:
        return max([*self._steps, *([self._under_way[0]] if self._under_way else [])], default=None)

    @property
    def served(self) -> int | None:
        """``best``; where that is damaged, which is told, the latest that is not.

        Raises:
            InputError: there are checkpoints, and all are damaged.
        """
        return hosts.agreed(self._served)

    def _served(self) -> int | None:
        faults: dict[int, str] = {}
        best = self.best
        for step in [best, *(step for step in reversed(self._steps) if step != best)] if best is not None else []:
            wrong = integrity.fault(self._at(step))
            if not wrong:
                self._tell(faults, step)
                return step
            faults[step] = wrong
        if faults:
            raise self._all_damaged(faults)
        return None

    def finite(self, params: Any) -> bool:
        """Whether all parameters are finite numbers: one pass over them, on the device. On a CPU by NumPy: to compile
        the program takes seconds where there are hundreds of arrays, longer than a small run."""
        floats = _floats(params)
        if all(map(_is_on_host, floats)):
            return all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in floats)
        return bool(self._finite(params))

    def save(self, step: int, state: Any, progress: Progress, score: Score | None = None) -> None:
        """Begin to write; training goes on. Checkpoints with a ``score`` take part in the choice of the best.

        A checkpoint that this step already has stays until the new one is complete.

        A save that fails is told in a line, and so is the first that is written again; training goes on between them.
        ``check_written`` says what is lost at the end.
        """
        assert self._writing, "opened for reading"
        self.settle()
        try:
            writer = self._writer()
            way_made = hosts.agreed(lambda: self._make_way(step, state))
        except OSError as error:
            self._miss(step, str(error))
            return
        if way_made:
            writer.reload()
        snapshot = self._copy(state)  # the state's own buffers are donated to the next step
        response = writer.save_checkpointables_async(
            step,
            {"state": snapshot},
            custom_metadata=asdict(progress),
            metrics=None if score is None else score.stored(step),
            force=True,
        )
        thread = threading.Thread(target=self._seal, args=(step, response), name=f"seal-{step}")
        thread.start()
        self._under_way = step, thread

    def _make_way(self, step: int, state: Any) -> bool:
        """Whether this step had a checkpoint, which is renamed."""
        self._check_room(state)
        old = self._at(step)
        if there := old.exists():
            old.rename(self.folder / f"replaced-{step}")
        return there

    def _seal(self, step: int, response: Any) -> None:
        """In a thread of its own: wait until a save is complete, then write its checksums."""
        try:
            response.result()
            if jax.process_index() == 0:
                with contextlib.suppress(OSError):  # it is complete, and no worse than one without checksums
                    integrity.seal(self._at(step))
                shutil.rmtree(self.folder / f"replaced-{step}", ignore_errors=True)
        except Exception as error:  # of the disk, of the file system's client or of the array library
            self._failed = error

    def settle(self) -> None:
        """Wait for the save under way; where it failed, say so and give back the room that it took."""
        if self._under_way is None or self._orbax is None:
            return
        step, thread = self._under_way
        thread.join()
        self._under_way, error, self._failed = None, self._failed, None
        own = "" if error is None else next(iter(str(error).splitlines()), "") or type(error).__name__
        told = [reason.decode() for reason in hosts.exchanged(own.encode())]
        reason = next((f"process {i}: {text}" if len(told) > 1 else text for i, text in enumerate(told) if text), "")
        if reason:
            self._unwritten.add(step)
            with contextlib.suppress(Exception):  # Orbax raises it once more in this thread
                self._orbax.wait()
        hosts.agreed(functools.partial(self._tidy_failed, bool(reason)))
        if reason:
            self._orbax.reload()
            self._miss(step, reason)
            return
        if self._missed:
            self.say(f"checkpoints are written again, from step {step}; lost: {self._missed_steps()}")
            self._missed = []
        self.on_saved(step, self._at(step))

    def _miss(self, step: int, reason: str) -> None:
        if not self._missed:
            self.say(f"checkpoint at step {step} not written, training goes on: {reason}")
        self._missed.append(step)
        _SAVES_FAILED.set()
        self._why = reason

    def _missed_steps(self) -> str:
        first, last, count = self._missed[0], self._missed[-1], len(self._missed)
        return f"that of step {first}" if count == 1 else f"{count} from step {first} to step {last}"

    def check_written(self) -> None:
        """To be called at the end of training, which waits for the save under way.

        Raises:
            StorageError: the last checkpoint could not be written: what is lost, and what training goes on from.
        """
        self.settle()
        if not self._missed:
            return
        run, latest = self.folder.parent, self.latest
        kept = "no checkpoint is" if latest is None else f"the checkpoint of step {latest} is"
        raise StorageError(
            f"the checkpoint of step {self._missed[-1]}, the last, was not written: what was trained after step "
            f"{latest or 0} is lost, {kept} there.\n  found: {self._why}\n"
            f"  try:   free some space on the disk of {run}; then suite train --resume {shlex.quote(str(run))}"
        )

    def _tidy(self) -> None:
        """What a run finds that begins or goes on: process 0 alone does this."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._put_back()
        self._set_aside({step: wrong for step in self._steps if (wrong := integrity.fault(self._at(step)))})

    def _tidy_failed(self, failed: bool) -> None:
        self._discard()
        if failed:
            self._put_back()

    def _discard(self) -> None:
        """Remove what saves that failed have written. Repeated: the first error ends a save, and other threads of Orbax
        may still be at their files then, which makes their folders anew."""
        for step in self._unwritten:
            for partial in self.folder.glob(f"{step}.orbax-checkpoint-tmp*"):
                shutil.rmtree(partial, ignore_errors=True)

    def _put_back(self) -> None:
        """A checkpoint that was being replaced counts again, unless the new one is complete."""
        for aside in self.folder.glob("replaced-*"):
            there = self._at(int(aside.name.removeprefix("replaced-")))
            shutil.rmtree(aside) if there.exists() else aside.rename(there)

    def _set_aside(self, faults: dict[int, str]) -> None:
        """Rename damaged checkpoints, unless there are no others: then nothing is touched."""
        sound = [step for step in self._steps if step not in faults]
        if faults and not sound:
            raise self._all_damaged(faults)
        self._tell(faults, max(sound, default=0))
        for step in faults:
            names = (f"damaged-{step}", *(f"damaged-{step}-{i}" for i in range(2, 10_000)))
            self._at(step).rename(next(path for name in names if not (path := self.folder / name).exists()))

    def _tell(self, faults: dict[int, str], instead: int) -> None:
        for step, wrong in faults.items():
            self.say(f"checkpoint at step {step} is damaged: {wrong}; going on from step {instead}")

    def _all_damaged(self, faults: dict[int, str]) -> InputError:
        return InputError(
            f"checkpoints in {self.folder}",
            "are damaged, all of them."
            if len(faults) > 1
            else "are damaged: there is one, and no other to go on from.",
            found="; ".join(f"step {step}, {wrong}" for step, wrong in faults.items()),
            fix=f"put one back from a copy; or remove {self.folder}, and suite train --resume {self.folder.parent} "
            "begins anew",
        )

    def newest(self, abstract: Any) -> tuple[Any, Progress] | None:
        """The state and progress to go on from, None where there is no checkpoint.

        A checkpoint that was written without checksums, as its process was killed, may turn out damaged only here.
        """
        while (step := self.latest) is not None:
            restore = functools.partial(self.restore, step, abstract)
            try:
                return hosts.together(restore), self.known_best(self.progress(step))
            except InputError:
                raise
            except Exception as error:
                if hosts.agreed(functools.partial(integrity.is_sealed, self._at(step))):
                    raise
                first = next(iter(str(error).splitlines()), "")
                faults = {step: f"{type(error).__name__}: {first[:200]}"}
                hosts.agreed(functools.partial(self._set_aside, faults))
                if self._orbax is not None:
                    self._orbax.reload()
        return None

    def known_best(self, progress: Progress) -> Progress:
        """With the best step that there is, where that of ``progress`` was set aside, or could not be written."""
        ranks = self._ranks()
        if progress.best is None or progress.best_step in ranks or not ranks:
            return progress
        step = max(ranks, key=lambda step: (ranks[step], step))
        value, loss, _ = ranks[step]
        return replace(progress, best=value, best_step=step, best_loss=-loss if math.isfinite(loss) else None)

    def restore(self, step: int, abstract: Any) -> Any:
        """The state saved at ``step``, in the shapes, dtypes and shardings of ``abstract``.

        Raises:
            InputError: the checkpoint is of another model.
        """
        self._check_same(step, abstract["params"])
        return self._reader.load_checkpointables(self._at(step), {"state": abstract})["state"]

    def weights(self, step: int, params: Any, model_state: Any, part: str = "", without: str = "") -> tuple[Any, Any]:
        """(params, model_state) saved at ``step``, the moving average where there is one; nothing else is read.

        Args:
            step: see ``best``.
            params: shapes, dtypes and shardings. The run may have had another optimiser than the caller.
            model_state: the same.
            part: name of the part of a composite model that they are of; empty: of the whole.
            without: regular expression on the paths of parameters that are saved and not wanted, such as of a head.

        Raises:
            InputError: the checkpoint is of another model.
        """
        self._check_same(step, params, part, without)
        abstract = jax.tree.map(lambda _: ..., self._saved(step))
        served = "params" if abstract["ema"] is None else "ema"
        saved = {kind: abstract[kind].get(part, {}) if part else abstract[kind] for kind in (served, "rest")}
        both = {served: _with(params, saved[served]), "rest": _with(model_state, saved["rest"])}
        if part:
            both = {kind: {**abstract[kind], part: tree} if tree else abstract[kind] for kind, tree in both.items()}
        restored = self._reader.load_checkpointables(self._at(step), {"state": {**abstract, **both}})["state"]
        rest = restored["rest"]
        if part:
            restored, rest = {served: restored[served][part]}, rest[part] if model_state else model_state
        return _like(params, restored[served]), _like(model_state, rest)

    def parameters(self, step: int) -> dict[str, tuple[int, ...]]:
        """Path -> shape of the parameters saved at ``step``."""
        return {name: tuple(leaf.shape) for name, leaf in paths(self._saved(step)["params"]).items()}

    def progress(self, step: int) -> Progress:
        """What was saved beside the state at ``step``."""
        return Progress(**self._reader.checkpointables_metadata(self._at(step)).custom_metadata)

    def check_start(self, state: Any) -> None:
        """To be called with the state's shapes before training.

        Raises:
            InputError: the disk has no room for one checkpoint.
        """
        try:
            hosts.agreed(lambda: self._check_room(state))
        except OSError as error:
            raise InputError(
                f'disk of "{self.folder.parent}"',
                "has no room for a checkpoint.",
                found=str(error),
                fix="free some space, or --run-dir DIR on another disk",
            ) from None

    def _check_room(self, state: Any) -> None:
        need = 1.2 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) + 2**20
        free = shutil.disk_usage(self.folder).free
        if free < need:
            raise OSError(f"{free / 2**20:.1f} MiB free, a checkpoint needs {need / 2**20:.1f}")

    def _saved(self, step: int) -> dict[str, Any]:
        """What is known of the state saved at ``step`` without reading it."""
        return dict(self._reader.checkpointables_metadata(self._at(step)).metadata["state"])

    @property
    def _steps(self) -> list[int]:
        """Steps of complete checkpoints, rising: Orbax names the folder so when all is written."""
        entries = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(int(path.name) for path in entries if path.name.isdecimal() and path.is_dir())

    def _at(self, step: int) -> Path:
        return self.folder / str(step)

    def _ranks(self) -> dict[int, tuple[float, float, float]]:
        """Step -> rank, of those with a score. A damaged file has none; reading it is not what finds that out."""
        ranks: dict[int, tuple[float, float, float]] = {}
        for step in self._steps:
            with contextlib.suppress(OSError, InputError):
                ranks[step] = json_files.load(self._at(step) / "metrics" / "metrics", rank)
        return ranks

    def _check_same(self, step: int, params: Any, part: str = "", without: str = "") -> None:
        saved = self.parameters(step)
        if part:
            inner = {name: shape for name, shape in saved.items() if name.startswith(f"{part}/")}
            saved = {name.removeprefix(f"{part}/"): shape for name, shape in inner.items()}
        wanted = {name: tuple(leaf.shape) for name, leaf in paths(params).items()}
        if without:
            saved = {name: shape for name, shape in saved.items() if name in wanted or not re.search(without, name)}
        if saved == wanted:
            return
        wrong = [
            f"{name} {saved.get(name, 'missing')} (the model: {wanted.get(name, 'none')})"
            for name in sorted(saved.keys() | wanted.keys())
            if saved.get(name) != wanted.get(name)
        ]
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise OtherModel(
            f"checkpoint {self.folder / str(step)}",
            "was written by another model.",
            found="; ".join(wrong[:5]) + more,
            fix="use the run folder's own experiment.json, or another --run-dir",
        )


def _with(wanted: Any, saved: Any) -> Any:
    """``wanted``, and what ``saved`` has besides: of layers that the model leaves out."""
    if not (isinstance(wanted, Mapping) and isinstance(saved, Mapping)):
        return wanted
    stored = {str(name): tree for name, tree in saved.items()}  # layers in a list have numbers, and texts on the disk
    own = {name: _with(tree, stored.pop(str(name), None)) for name, tree in wanted.items()}
    numbered = any(isinstance(name, int) for name in wanted)
    return {**own, **{int(name) if numbered else name: tree for name, tree in stored.items()}}


def _like(wanted: Any, restored: Any) -> Any:
    """Of ``restored`` what ``wanted`` has."""
    if not isinstance(wanted, Mapping):
        return restored
    return {name: _like(tree, restored[name]) for name, tree in wanted.items()}
