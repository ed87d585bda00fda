"""The one training loop: a jitted step over split NNX state, and the loop around it. Knows no domain."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from suite.contracts.data import Source
from suite.data.pipeline.dispatches import Dispatch, Encoder, Plan, dispatches, make_plan, to_device
from suite.errors import InputError
from suite.evaluation.evaluate import make_predict
from suite.experiment.sections import Experiment, Train
from suite.experiment.serialization import dump
from suite.parallel import hosts, sharding
from suite.parallel.batch_shards import Part, own_part, placer
from suite.parallel.layout import Layout
from suite.runtime import allocation
from suite.runtime.compilation import CompileWatch, enable_cache
from suite.surgery import lora, quantize
from suite.training import precision
from suite.training.checkpoint import Checkpoints, Progress
from suite.training.evaluator import Evaluator, best_metrics
from suite.training.initial_weights import best_weights, initial_weights
from suite.training.log import Log
from suite.training.loop import Loop, OnEvaluation, crossed
from suite.training.metric_accumulator import Interval
from suite.training.optim import optimizer, schedules, sparse_embeddings, sparsity
from suite.training.preemption import Interruption
from suite.training.preprocessors import prepare, unbind
from suite.training.step import Halves, State, make_step
from suite.weights import pretrained

OnDispatch = Callable[[Dispatch], None]


@dataclass(frozen=True)
class Program:
    """An experiment turned into functions, nothing allocated yet.

    Attributes:
        graph: the model's static part.
        abstract: shapes, dtypes and shardings of the state.
        mesh: the device mesh.
        init: () -> State.
        step: (State, batches (steps, b, ...)) -> (State, {name: MetricState}); donates the state. Jitted.
        halves: the same as two programs, see `Halves`; None where more than one device takes part.
        predict: (params, rest, batch) -> outputs. Jitted.
        learning_rate: step -> learning rate.
    """

    graph: Any
    abstract: State
    mesh: Mesh
    init: Callable[[], State]
    step: Any
    halves: Halves | None
    predict: Any
    learning_rate: Callable[[int], Any]


def assemble(experiment: Experiment, total_steps: int = 0) -> Program:
    """The program of a bound experiment (see assets.bind).

    Args:
        experiment: bound.
        total_steps: optimiser steps of the whole run; 0: any number that the schedule takes, for a program that is
            not trained.
    """
    train, model_config = experiment.train, experiment.model
    total_steps = total_steps or max(train.steps, experiment.optim.warmup_steps + 1)
    mesh = sharding.check(experiment)
    layout = sharding.layout(experiment.parallel, mesh)

    def build() -> nnx.Module:
        rngs = nnx.Rngs(train.seed)
        model = lora.attach(model_config.build(rngs=rngs), experiment.finetune, rngs)
        model = quantize.attach(model, experiment.compression)
        return precision.apply(model, experiment.precision)

    graph, params, _ = nnx.split(nnx.eval_shape(build), nnx.Param, ...)
    whole = experiment.finetune.kind == "full"  # else a table is frozen like the rest of the body
    tables = model_config.tables if whole and experiment.optim.tables != "dense" else {}
    _check_tables(tables, train)
    dense, _ = sparse_embeddings.split(nnx.to_pure_dict(params), tables)
    settings = lora.freeze(experiment.optim, experiment.finetune, dense)
    tx = optimizer.build(settings, dense, total_steps, model_config.layer_of, model_config.depth)
    update = sparse_embeddings.updater(tx, tables, settings, schedules.schedule(settings, total_steps))

    def init() -> State:
        _, params, rest = nnx.split(build(), nnx.Param, ...)
        params, rest = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)
        # Copies: two names for one buffer could not both be donated.
        ema = jax.tree.map(jnp.copy, params) if train.ema else None
        return State(jnp.int32(0), params, rest, sparse_embeddings.init(tx, params, tables, settings), ema)

    abstract = jax.eval_shape(init)
    placed = sharding.state_shardings(abstract, model_config.sharding, mesh)
    abstract = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), abstract, placed)
    shardings = placed if mesh.size > 1 else None  # on one device they would only cost time at each call
    replicated = experiment.parallel.engine == "pmap" and mesh.size > 1
    frozen = optimizer.frozen_paths(settings, dense)
    pruned = sparsity.pruned_paths(settings.sparsity, dense, frozen, model_config.layer_of, model_config.depth)
    step = make_step(
        graph,
        experiment.task,
        update,
        train,
        tables,
        frozen,
        pruned,
        Layout(axis=sharding.REPLICAS) if replicated else layout,
    )
    halves = step.halved() if mesh.size == 1 else None
    whole_step = sharding.replicate(step, mesh) if replicated else step
    return Program(
        graph=graph,
        abstract=abstract,
        mesh=mesh,
        init=jax.jit(init, out_shardings=shardings),
        step=jax.jit(whole_step, donate_argnums=0, out_shardings=None if shardings is None else (shardings, None)),
        halves=halves,
        predict=make_predict(graph, experiment.task, layout),
        learning_rate=jax.jit(schedules.schedule(experiment.optim, total_steps)),
    )


def _check_tables(tables: Mapping[str, str], train: Train) -> None:
    """What would cost a table's whole size at each step is refused where tables are row-sparse."""
    for name, off in (("ema", 0.0), ("accumulate", 1), ("on_nan", "stop")):
        value = getattr(train, name)
        if tables and value != off:
            plain = off if isinstance(off, str) else f"{off:g}"
            raise InputError(
                f"field train.{name}",
                f"is {value}, but {', '.join(tables)} is updated by rows.",
                found="optim.tables other than dense",
                fix=f"--train.{name} {plain}, or --optim.tables dense",
            )


def total_steps(train: Train, plan: Plan) -> int:
    """Optimiser steps of the whole run."""
    steps = train.steps or round(train.epochs * plan.batches_per_epoch)
    if steps < 1:
        raise InputError("field train.epochs", f"{train.epochs} makes no step.", fix="--train.steps 100")
    return steps


def restore(program: Program, checkpoints: Checkpoints, experiment: Experiment) -> tuple[State, Progress]:
    """The state to begin with. Precedence, first that applies:

    1. the newest complete checkpoint of this run folder (a resumed run);
    2. fresh state, with the parameters of ``init_from``: the best checkpoint of a run, or published weights; what
       fine-tuning adds to them is fresh, or that of ``finetune.delta``;
    3. fresh state.
    """
    newest = checkpoints.newest(_fields(program.abstract))
    if newest is not None:
        return State(**newest[0]), newest[1]
    state = program.init()
    finetune = experiment.finetune
    if experiment.checkpoint.init_from:
        abstract = program.abstract
        params, rest = initial_weights(experiment, (abstract.params, abstract.rest), (state.params, state.rest))
        if finetune.delta:
            params, rest = lora.read_delta(params, rest, finetune, finetune.delta)
        ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
        state = dataclasses.replace(state, params=params, rest=rest, ema=ema)
    return state, Progress()


def _fields(state: State) -> dict[str, Any]:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}


def read_weights(program: Program, folder: Path) -> tuple[Any, Any]:
    """(params, rest) to evaluate and serve from the run in ``folder``: of its best checkpoint, averaged if it has EMA.

    Raises:
        InputError: there is no checkpoint, or it is of another model.
    """
    return best_weights(folder, program.abstract.params, program.abstract.rest)


def begun(folder: Path) -> bool:
    """Whether the run in ``folder`` has written a checkpoint, whole or not."""
    return any(folder.glob("checkpoints/[0-9]*"))


def fit(
    experiment: Experiment,
    folder: Path,
    *,
    on_dispatch: OnDispatch | None = None,
    on_evaluation: OnEvaluation | None = None,
) -> dict[str, float]:
    """Train to the end, going on from the folder's newest checkpoint if there is one.

    Args:
        experiment: the recipe, unbound.
        folder: the run folder; made if missing.
        on_dispatch: called with each Dispatch before it is trained on.
        on_evaluation: called with a step and its validation metrics, once its checkpoint is on its way; what it raises
            ends training.

    Returns:
        ``"train/steps"``; ``"train/seconds"`` and ``"train/seconds_before"``, of the loop: in all, and before this call
        went on; ``"train/examples_per_second"`` of this call, 0 where it took no step; of the best checkpoint, where
        there is one, ``"train/best_step"`` and its validation metrics.

    Raises:
        Interrupted: the run was asked to stop; its state is saved.
        RunError: the loss or a parameter is no number.
    """
    sharding.check(experiment)  # before data are read
    quantize.check(experiment)
    allocation.keep_memory()
    enable_cache()
    watch = CompileWatch()
    hosts.check_shared(folder)
    # What process 0 decodes, fetches and fits, the others find.
    source, held_out = hosts.after_first(lambda: tuple(map(experiment.task.source, ("train", "validation"))))
    experiment, plan = hosts.after_first(lambda: _prepared(experiment, folder, source))
    train, pipe = experiment.train, experiment.pipeline
    steps = total_steps(train, plan)
    if train.on_nan == "skip":
        sparsity.check_spare(experiment.optim.sparsity, steps)
    program, interruption = assemble(experiment, steps), Interruption()
    part = own_part(program.mesh, train.batch_size)
    guarded = interruption.guard(program.predict)
    judge = hosts.after_first(lambda: Evaluator(experiment, guarded, program.mesh, held_out, folder, plan))
    with interruption, Checkpoints(folder / "checkpoints", experiment.checkpoint.keep) as checkpoints:
        checkpoints.check_start(program.abstract)
        state, progress = restore(program, checkpoints, experiment)
        with Log(folder, steps, resume_step=progress.next_batch, writing=hosts.is_first()) as log:
            checkpoints.say = log.say
            loop = Loop(
                experiment,
                folder,
                program,
                judge,
                checkpoints,
                log,
                interruption,
                steps,
                state,
                progress,
                Interval(progress.tallied),
                on_evaluation,
            )
            if progress.due:
                loop.look()
            end = progress.next_batch if loop.out_of_patience() else steps  # a run that stopped early stays stopped
            encoder = Encoder(experiment.task, source, plan, augment=True, rows=None if part is None else part.rows)
            items = dispatches(
                encoder,
                progress.next_batch,
                end,
                train.steps_per_dispatch,
                workers=pipe.workers,
                prefetch=pipe.prefetch,
            )
            with contextlib.closing(items):
                _train(loop, items, plan, part, on_dispatch)
            seconds = loop.seconds
            log.say(watch.summary())
    best = {} if loop.progress.best is None else {"train/best_step": loop.progress.best_step}
    return {
        "train/steps": loop.progress.next_batch,
        **best,
        "train/seconds": seconds,
        "train/seconds_before": progress.seconds,
        "train/examples_per_second": loop.examples / (seconds - progress.seconds),
        **hosts.agreed(lambda: best_metrics(folder, loop.progress)),
    }


def _prepared(experiment: Experiment, folder: Path, source: Source) -> tuple[Experiment, Plan]:
    """The experiment stored and bound, and its batch plan."""
    if not begun(folder):  # a resumed run has its sizes, and its source may be gone
        experiment = pretrained.adopt(experiment)
    if hosts.is_first():
        dump(unbind(experiment), folder / "experiment.json")
    experiment = prepare(experiment, folder, source)
    train = experiment.train
    return experiment, make_plan(
        experiment.task,
        source,
        train.batch_size,
        seed=train.seed,
        buckets=experiment.pipeline.buckets,
        cache=folder / "assets" / "lengths-train.npy",
    )


def _train(
    loop: Loop, items: Iterator[Dispatch], plan: Plan, part: Part | None, on_dispatch: OnDispatch | None
) -> None:
    """Until the items end, patience does, or the run is interrupted."""
    program = loop.program
    shapes_in_all, at_once = plan.shapes, loop.experiment.train.steps_per_dispatch
    step = program.halves if program.halves and shapes_in_all > 1 and at_once == 1 else program.step
    shapes: set[Any] = set()
    loop.since = time.perf_counter()
    for item, batch in to_device(items, placer(program.mesh, part, leading=1)):
        if on_dispatch is not None:
            on_dispatch(item)
        compiles, called = _compiles(loop.log, shapes, item, plan), time.perf_counter()
        loop.state, tallies = step(loop.state, batch)
        if compiles:  # examples/s are those of training
            loop.since += time.perf_counter() - called
        loop.interval.add(item, tallies)
        loop.examples += int((item.indices >= 0).sum())
        before, after = item.first, item.first + item.steps
        loop.progress = dataclasses.replace(loop.progress, next_batch=after)
        if crossed(loop.experiment.train.log_every, before, after) or after == loop.steps:
            loop.write()
        if loop.tend(before):
            return
        if loop.interruption.after(before, after) and after < loop.steps:
            loop.leave()


def _compiles(log: Log, shapes: set[Any], item: Dispatch, plan: Plan) -> bool:
    """Each new shape compiles once. Those of the buckets are expected; any other after the second step is news."""
    shape = tuple((name, value.shape) for name, value in sorted(item.batch.items()))
    if shape in shapes:
        return False
    shapes.add(shape)
    expected = plan.shapes + 1  # and the shorter dispatch at the end
    if item.first >= 2 and len(shapes) > expected:
        log.say(f"warning: step {item.first} compiles again, for shapes {dict(shape)}")
    return True
