"""Checkpoints: Orbax, asynchronous and atomic; the latest few and the best one are kept.

A checkpoint holds the whole training state and its ``Progress``: the next batch of the input pipeline, the best
score so far and how long ago it was. A step directory without its commit mark is never read.
"""

import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp

from suite.errors import InputError
from suite.tree import paths


def _news(record: logging.LogRecord) -> bool:
    """Waiting for the previous save is what a run of a few short epochs does; nobody need hear of it."""
    return not record.getMessage().startswith("Waiting for previous save")


@dataclass(frozen=True)
class Progress:
    """Where a run stands, besides its arrays.

    Attributes:
        next_batch: the iterator state: global index of the first batch not yet trained on.
        best: best value of the selection metric so far, higher is better; None before the first evaluation.
        best_step: step it was reached at.
        since_best: evaluations since.
    """

    next_batch: int = 0
    best: float | None = None
    best_step: int = 0
    since_best: int = 0


class Checkpoints:
    """The ``checkpoints`` folder of a run. Use as a context manager: leaving waits for saves under way.

    ``clean``: remove, in a thread of its own, what a save that was cut short left behind. Not for readers, which may
    end before that thread, and must not touch what another process is writing.
    """

    def __init__(self, folder: Path, keep: int = 2, clean: bool = True):
        from orbax.checkpoint.experimental import v1 as ocp

        logging.getLogger("absl").addFilter(_news)
        self.folder = folder.absolute()
        policies = ocp.training.preservation_policies
        best = policies.BestN(get_metric_fn=lambda m: m["best"], n=1, keep_checkpoints_without_metrics=False)
        self._orbax = ocp.training.Checkpointer(
            self.folder,
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(max(keep, 1)), best]),
            cleanup_tmp_directories=clean,
        )
        self._copy = jax.jit(lambda state: jax.tree.map(jnp.copy, state))

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._orbax.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest complete checkpoint, None where there is none."""
        return self._orbax.latest.step if self._orbax.latest else None

    @property
    def best(self) -> int | None:
        """Step of the checkpoint with the best score, else of the latest."""
        scored = [c for c in self._orbax.checkpoints if c.metrics]
        return max(scored, key=lambda c: (c.metrics["best"], c.step)).step if scored else self.latest

    def save(self, step: int, state: Any, progress: Progress, score: float | None = None) -> None:
        """Begin to write; training goes on. ``score`` (higher is better) takes part in the choice of the best.

        Raises:
            OSError: the disk has no room; nothing was written.
        """
        self._check_room(state)
        snapshot = self._copy(state)  # the state's own buffers are donated to the next step
        self._orbax.save_checkpointables_async(
            step,
            {"state": snapshot},
            custom_metadata=asdict(progress),
            metrics=None if score is None else {"best": score},
            force=True,
        )

    def restore(self, step: int, abstract: Any) -> Any:
        """The state saved at ``step``, in the shapes, dtypes and shardings of ``abstract``.

        Raises:
            InputError: the checkpoint is of another model.
        """
        self._check_same(step, abstract["params"])
        return self._orbax.load_checkpointables(step, {"state": abstract})["state"]

    def weights(self, step: int, params: Any, rest: Any) -> tuple[Any, Any]:
        """(params, rest) saved at ``step``, the moving average where there is one; nothing else is read.

        Args:
            step: see ``best``.
            params: shapes, dtypes and shardings. The run may have had another optimiser than the caller.
            rest: the same.

        Raises:
            InputError: the checkpoint is of another model.
        """
        self._check_same(step, params)
        abstract = jax.tree.map(lambda _: ..., self._saved(step))
        served = "params" if abstract["ema"] is None else "ema"
        restored = self._orbax.load_checkpointables(step, {"state": {**abstract, served: params, "rest": rest}})
        return restored["state"][served], restored["state"]["rest"]

    def parameters(self, step: int) -> dict[str, tuple[int, ...]]:
        """Path -> shape of the parameters saved at ``step``."""
        return {name: tuple(leaf.shape) for name, leaf in paths(self._saved(step)["params"]).items()}

    def progress(self, step: int) -> Progress:
        """What was saved beside the state at ``step``."""
        return Progress(**self._orbax.checkpointables_metadata(step).custom_metadata)

    def check_start(self, state: Any) -> None:
        """To be called with the state's shapes before training.

        Raises:
            InputError: the disk has no room for one checkpoint.
        """
        try:
            self._check_room(state)
        except OSError as error:
            raise InputError(f'disk of "{self.folder.parent}"', "has no room for a checkpoint.", found=str(error),
                             fix="free some space, or --run-dir DIR on another disk") from None  # fmt: skip

    def _check_room(self, state: Any) -> None:
        need = 1.2 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) + 2**20
        free = shutil.disk_usage(self.folder).free
        if free < need:
            raise OSError(f"{free / 2**20:.1f} MiB free, a checkpoint needs {need / 2**20:.1f}")

    def _saved(self, step: int) -> dict[str, Any]:
        """What is known of the state saved at ``step`` without reading it."""
        return dict(self._orbax.checkpointables_metadata(step).metadata["state"])

    def _check_same(self, step: int, params: Any) -> None:
        saved = self.parameters(step)
        wanted = {name: tuple(leaf.shape) for name, leaf in paths(params).items()}
        if saved == wanted:
            return
        wrong = [f"{name} {saved.get(name, 'missing')} (the model: {wanted.get(name, 'none')})"
                 for name in sorted(saved.keys() | wanted.keys()) if saved.get(name) != wanted.get(name)]  # fmt: skip
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise InputError(
            f"checkpoint {self.folder / str(step)}",
            "was written by another model.",
            found="; ".join(wrong[:5]) + more,
            fix="use the run folder's own experiment.json, or another --run-dir",
        )
