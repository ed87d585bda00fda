"""Compilation ahead of need: the programs of a training, compiled in threads while data are read and steps are taken.

A program that was lowered and compiled for the shapes that it will be called with is in JAX's own cache, where its call
finds it; one called with other shapes, or before its turn, compiles as ever. Nothing else differs.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import jax
from jax.sharding import Mesh

from suite.contracts.batch import Batch
from suite.data.pipeline.dispatches import Encoder, spans
from suite.experiment.sections import Experiment
from suite.parallel.sharding import batch_sharding
from suite.runtime.files import is_run
from suite.training.assemble import Program
from suite.training.evaluator import Evaluator
from suite.training.step import Halves

LOOKED_AT = 100
"""Dispatches whose shapes are looked for, at the beginning of a training and of an evaluation."""
COMPILERS = 2
"""Programs compiled at a time. The compiler has threads of its own, too, and each program takes its memory."""


def batch_shape(batch: Batch) -> Hashable:
    """What of a batch decides for which program it is."""
    return tuple((name, value.shape) for name, value in sorted(batch.items()))


class Ahead:
    """Programs under way, by name. Use as a context manager: leaving drops those whose turn has not come.

    Programs are traced one after another, in a thread: Python does one thing at a time, and what is noted while a model
    is traced may be noted for the whole process. Compiling has no use for Python, and goes on beside.
    """

    def __init__(self) -> None:
        self._tracing = ThreadPoolExecutor(1, "trace")
        self._compiling = ThreadPoolExecutor(COMPILERS, "compile")
        self._programs: dict[Hashable, Future[Future[Any]]] = {}
        self._later: list[tuple[Hashable, Callable[[], Any]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for threads in (self._tracing, self._compiling):
            threads.shutdown(wait=False, cancel_futures=True)

    def add(self, name: Hashable, lower: Callable[[], Any], later: bool = False) -> None:
        """Compile what ``lower`` gives, a `jax.stages.Lowered`, after those that were added before; ``later``: from
        `release` on."""
        if later:
            self._later.append((name, lower))
            return
        context = contextvars.copy_context()
        self._programs[name] = self._tracing.submit(
            lambda: self._compiling.submit(contextvars.copy_context().run, context.run(lower).compile)
        )

    def release(self) -> None:
        """The first step was taken: what is needed later no longer delays it."""
        later, self._later = self._later, []
        for name, lower in later:
            self.add(name, lower)

    def wait(self, name: Hashable) -> None:
        """Wait for a program that is under way. One that failed says why where it is called."""
        program = self._programs.pop(name, None)
        if program is not None:
            with contextlib.suppress(Exception):
                program.result().result()

    def awaited(self, predict: Callable[..., Any]) -> Callable[..., Any]:
        """``predict`` (params, model_state, batch, reference), which first waits for its program."""

        def ready(params: Any, model_state: Any, batch: Batch, reference: Any = None) -> Any:
            if self._programs:
                self.wait(("evaluate", batch_shape(batch)))
            return predict(params, model_state, batch, reference)

        return ready


def serves(experiment: Experiment, program: Program) -> bool:
    """Whether programs of a run that begins can be compiled ahead: where it is known before what state they are called
    with.

    Not where several processes take part, which must do everything in one order. Not on GPUs, whose compiler chooses
    between kernels by timing them, which a step beside would disturb. Not where nothing is trained in steps. Nor, on
    one device, with the weights of another run: these are bound to the device, where fresh arrays are not.
    """
    if jax.process_count() > 1 or program.layout.platform in ("cuda", "rocm") or experiment.task.solved:
        return False
    start = experiment.checkpoint.init_from
    sources = [start] if isinstance(start, str) else start.values()
    bound = bool(experiment.finetune.delta) or any(source and is_run(source) for source in sources)
    return program.mesh.size > 1 or not bound


def begin(ahead: Ahead, program: Program, steps: int, at_once: int, encoder: Encoder, evaluator: Evaluator) -> None:
    """Compile what a training needs, in the order of its need.

    Args:
        ahead: takes the programs, as ``"init"``, ``("step", shape)``, ``"apply"`` and ``("evaluate", shape)``.
        program: the functions.
        steps: of the whole run.
        at_once: steps a dispatch.
        encoder: makes the batches that are trained on.
        evaluator: knows those that are scored.
    """
    mesh, state = program.mesh, program.abstract if program.mesh.size > 1 else program.init.abstract
    try:
        most = LOOKED_AT if encoder.plan.shapes > 1 else 1
        trained = list(encoder.forms(spans(0, min(steps, most * at_once), at_once)))
        evaluated = list(evaluator.forms(most))
    except Exception:  # of a record that cannot be encoded its batch will tell
        return
    weights = state.params if state.ema is None else state.ema
    step = program.stepper(encoder.plan.shapes, at_once)
    ahead.add("init", program.init.lower)
    for batch in trained:
        later, described = batch is not trained[0], _described(batch, mesh, leading=1)
        halves = isinstance(step, Halves)
        lower = functools.partial(step.lower_first if halves else step.lower, state, described)
        ahead.add(("step", batch_shape(batch)), lower, later)
        if halves and not later:
            ahead.add("apply", functools.partial(step.lower_second, state, described))
    for batch in evaluated:
        described = _described(batch, mesh, leading=0)
        lower = functools.partial(program.evaluate.lower, weights, state.model_state, described, None)
        ahead.add(("evaluate", batch_shape(batch)), lower, later=True)


def _described(batch: Batch, mesh: Mesh, leading: int) -> dict[str, Any]:
    where = batch_sharding(mesh, leading) if mesh.size > 1 else None
    dtype = jax.dtypes.canonicalize_dtype
    return {name: jax.ShapeDtypeStruct(a.shape, dtype(a.dtype), sharding=where) for name, a in batch.items()}
