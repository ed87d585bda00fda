"""The one training loop: a pure jitted step over split NNX state, and the loop around it. Knows no domain."""

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from suite import adaptation, optim, precision, pretrained, rows, sharding
from suite.assets import prepare, unbind
from suite.base import Batch, Source, Tally, Task
from suite.checkpoint import Checkpoints, Progress
from suite.compilation import CompileWatch, enable_cache
from suite.config import Experiment, Train, dump, is_run
from suite.data.pipeline import Dispatch, Encoder, Plan, dispatches, make_plan, to_device
from suite.errors import InputError, RunError
from suite.evaluation import evaluate, make_predict
from suite.log import Log, history
from suite.tree import map_paths, paths

OnDispatch = Callable[[Dispatch], None]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Everything that training changes. Nested dicts of arrays, so that a step costs little Python.

    Attributes:
        step: () int32, optimiser steps taken.
        params: trainable parameters, float32.
        rest: the model's other variables (running statistics).
        opt: optimiser state.
        ema: moving average of ``params``, or None.
    """

    step: Any
    params: Any
    rest: Any
    opt: Any
    ema: Any


@dataclass(frozen=True)
class Program:
    """An experiment turned into functions, nothing allocated yet.

    Attributes:
        graph: the model's static part.
        abstract: shapes, dtypes and shardings of the state.
        mesh: the device mesh.
        init: () -> State.
        step: (State, batches (steps, b, ...)) -> (State, {name: Tally}); donates the state. Jitted.
        predict: (params, rest, batch) -> outputs. Jitted.
        learning_rate: step -> learning rate.
    """

    graph: Any
    abstract: State
    mesh: Mesh
    init: Callable[[], State]
    step: Any
    predict: Any
    learning_rate: Callable[[int], Any]


def assemble(experiment: Experiment, total_steps: int) -> Program:
    """The program of a bound experiment (see assets.bind)."""
    train, model_config = experiment.train, experiment.model
    mesh = sharding.make_mesh(experiment.parallel)
    sharding.check_divisible(train.batch_size, train.accumulate, mesh)

    def build() -> nnx.Module:
        rngs = nnx.Rngs(train.seed)
        model = adaptation.attach(model_config.build(rngs=rngs), experiment.finetune, rngs)
        return precision.apply(model, experiment.precision)

    graph, params, _ = nnx.split(nnx.eval_shape(build), nnx.Param, ...)
    whole = experiment.finetune.kind == "full"  # else a table is frozen like the rest of the body
    tables = model_config.tables if whole and experiment.optim.tables != "dense" else {}
    _check_tables(tables, train)
    dense, _ = rows.split(nnx.to_pure_dict(params), tables)
    settings = adaptation.freeze(experiment.optim, experiment.finetune, dense)
    tx = optim.build(settings, dense, total_steps, model_config.layer_of, model_config.depth)
    update = rows.updater(tx, tables, settings, optim.schedule(settings, total_steps))

    def init() -> State:
        _, params, rest = nnx.split(build(), nnx.Param, ...)
        params, rest = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)
        # Copies: two names for one buffer could not both be donated.
        ema = jax.tree.map(jnp.copy, params) if train.ema else None
        return State(jnp.int32(0), params, rest, rows.init(tx, params, tables, settings), ema)

    abstract = jax.eval_shape(init)
    placed = sharding.state_shardings(abstract, model_config.sharding, mesh)
    abstract = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), abstract, placed)
    shardings = placed if mesh.size > 1 else None  # on one device they would only cost time at each call
    step = make_step(graph, experiment.task, update, train, tables, optim.frozen_paths(settings, dense))
    return Program(
        graph=graph,
        abstract=abstract,
        mesh=mesh,
        init=jax.jit(init, out_shardings=shardings),
        step=jax.jit(step, donate_argnums=0, out_shardings=None if shardings is None else (shardings, None)),
        predict=make_predict(graph, experiment.task),
        learning_rate=jax.jit(optim.schedule(experiment.optim, total_steps)),
    )


def _check_tables(tables: Mapping[str, str], train: Train) -> None:
    """What would cost a table's whole size at each step is refused where tables are row-sparse."""
    for name, value, off in (("ema", train.ema, 0.0), ("accumulate", train.accumulate, 1)):
        if tables and value != off:
            raise InputError(f"field train.{name}", f"is {value}, but {', '.join(tables)} is updated by rows.",
                             found="optim.tables other than dense",
                             fix=f"--train.{name} {off:g}, or --optim.tables dense")  # fmt: skip


def make_step(graph: Any, task: Task, update: rows.Update, train: Train, tables: Mapping[str, str],
              frozen: Collection[str] = ()) -> Callable[..., Any]:  # fmt: skip
    """The pure step over (State, batches (steps, b, ...)): one optimiser step for each leading entry.

    The gradient of ``frozen`` parameters (by path) is used nowhere, so the compiler leaves out the work for it.
    """

    def loss(params: Any, rest: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, tuple[dict[str, Tally], Any]]:
        model = nnx.merge(graph, params, rest)
        with adaptation.training(key):
            value, tallies = task.loss(model, batch, nnx.Rngs(dropout=key))
        return value, (tallies, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param))))

    gradient = jax.grad(loss, has_aux=True)

    def accumulated(params: Any, rest: Any, batch: Batch, key: jax.Array) -> Any:
        """The gradient of the mean over the whole batch, from micro-batches weighted by their unmasked rows."""
        micro = jax.tree.map(lambda a: a.reshape(train.accumulate, -1, *a.shape[1:]), batch)
        share = batch["mask"].sum().astype(jnp.float32)

        def add(carry: Any, item: Any) -> Any:
            total, rest = carry
            i, part = item
            grads, (tallies, rest) = gradient(params, rest, part, jax.random.fold_in(key, i))
            weight = part["mask"].sum() / share
            return (jax.tree.map(lambda t, g: t + weight * g, total, grads), rest), tallies

        zero = jax.tree.map(jnp.zeros_like, params)
        (grads, rest), tallies = jax.lax.scan(add, (zero, rest), (jnp.arange(train.accumulate), micro))
        return grads, (jax.tree.map(lambda t: t.sum(0), tallies), rest)

    def step(state: State, batch: Batch) -> tuple[State, dict[str, Tally]]:
        key = jax.random.fold_in(jax.random.key(train.seed), state.step)
        differentiate = accumulated if train.accumulate > 1 else gradient
        picked = rows.pick(state.params, batch, tables)
        grads, (tallies, rest) = differentiate(picked, state.rest, batch, key)
        params, opt = update(grads, state.opt, state.params, picked, batch, state.step)
        ema = _average(state.ema, params, state.step, train.ema, frozen) if train.ema else None
        return State(state.step + 1, params, rest, opt, ema), tallies

    def dispatch(state: State, batches: Batch) -> tuple[State, dict[str, Tally]]:
        if batches["mask"].shape[0] == 1:
            return step(state, jax.tree.map(lambda a: a[0], batches))
        state, tallies = jax.lax.scan(step, state, batches)
        return state, jax.tree.map(lambda t: t.sum(0), tallies)

    return dispatch


def _average(ema: Any, params: Any, step: jax.Array, decay: float, frozen: Collection[str]) -> Any:
    """The moving average; early on its decay is (1 + step) / (10 + step), so that it forgets the initial values."""
    kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    now = paths(params)
    return map_paths(lambda name, e: e if name in frozen else e + (1 - kept) * (now[name] - e), ema)


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
    step = checkpoints.latest
    if step is not None:
        restored = checkpoints.restore(step, _fields(program.abstract))
        return State(**restored), checkpoints.progress(step)
    state = program.init()
    init_from, finetune = experiment.checkpoint.init_from, experiment.finetune
    if init_from:
        if is_run(init_from):
            params, rest = read_weights(program, Path(init_from), state.params)
        else:
            params, rest = pretrained.fill(experiment.model, state.params, state.rest, init_from,
                                           offline=experiment.checkpoint.offline)  # fmt: skip
        if finetune.delta:
            params, rest = adaptation.read_delta(params, rest, finetune, finetune.delta)
        ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
        state = dataclasses.replace(state, params=params, rest=rest, ema=ema)
    return state, Progress()


def _fields(state: State) -> dict[str, Any]:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}


def read_weights(program: Program, folder: Path, fresh: Any = None) -> tuple[Any, Any]:
    """(params, rest) to evaluate and serve from the run in ``folder``: of its best checkpoint, averaged if it has EMA.

    ``fresh``: parameters that give the additions of fine-tuning, where the run in ``folder`` has none.

    Raises:
        InputError: there is no checkpoint, or it is of another model.
    """
    with Checkpoints(folder / "checkpoints", clean=False) as checkpoints:
        step = checkpoints.best
        if step is None:
            raise InputError(f"run {folder}", "has no complete checkpoint.", fix=f"suite train --resume {folder}")
        params = program.abstract.params
        plain = adaptation.base(params)
        if fresh is None or checkpoints.parameters(step).keys() != paths(plain).keys():
            return checkpoints.weights(step, params, program.abstract.rest)
        found, rest = checkpoints.weights(step, plain, program.abstract.rest)
    return adaptation.with_additions(found, fresh), rest


@dataclass
class Loop:
    """What the loop carries from dispatch to dispatch."""

    state: State
    progress: Progress
    examples: int = 0
    pending: list[dict[str, Tally]] = dataclasses.field(default_factory=list)
    since: float = dataclasses.field(default_factory=time.perf_counter)
    logged_examples: int = 0


def fit(experiment: Experiment, folder: Path, *, on_dispatch: OnDispatch | None = None) -> dict[str, float]:
    """Train to the end, going on from the folder's newest checkpoint if there is one.

    Args:
        experiment: the recipe, unbound.
        folder: the run folder; made if missing.
        on_dispatch: called with each Dispatch before it is trained on.

    Returns:
        ``"train/examples_per_second"``, ``"train/steps"`` and the validation metrics of the best checkpoint.
    """
    precision.keep_memory()
    enable_cache()
    watch = CompileWatch()
    source, held_out = experiment.task.source("train"), experiment.task.source("validation")
    if not any(folder.glob("checkpoints/[0-9]*")):  # a resumed run has its sizes, and its source may be gone
        experiment = pretrained.adopt(experiment)
    dump(unbind(experiment), folder / "experiment.json")
    experiment = prepare(experiment, folder, source)
    train, pipe = experiment.train, experiment.pipeline
    plan = make_plan(experiment.task, source, train.batch_size, seed=train.seed, buckets=pipe.buckets,
                     cache=folder / "assets" / "lengths-train.npy")  # fmt: skip
    steps = total_steps(train, plan)
    program = assemble(experiment, steps)
    judge = Judge(experiment, program, held_out, folder, plan)
    with Checkpoints(folder / "checkpoints", experiment.checkpoint.keep) as checkpoints:
        checkpoints.check_start(program.abstract)
        state, progress = restore(program, checkpoints, experiment)
        loop, begun = Loop(state, progress), progress.next_batch
        with Log(folder, steps, resume_step=begun) as log:
            encoder = Encoder(experiment.task, source, plan, augment=True)
            end = begun if _out_of_patience(train, progress) else steps  # a run that stopped early stays stopped
            items = dispatches(encoder, begun, end, train.steps_per_dispatch,
                               workers=pipe.workers, prefetch=pipe.prefetch)  # fmt: skip
            where = sharding.batch_sharding(program.mesh, leading=1) if program.mesh.size > 1 else None
            shapes: set[Any] = set()
            start = loop.since = time.perf_counter()
            for item, batch in to_device(items, where):
                if on_dispatch is not None:
                    on_dispatch(item)
                compiles, called = _compiles(log, shapes, item, plan), time.perf_counter()
                loop.state, tallies = program.step(loop.state, batch)
                if compiles:  # examples/s are those of training
                    loop.since += time.perf_counter() - called
                loop.pending.append(tallies)
                loop.examples += int((item.indices >= 0).sum())
                before, after = item.first, item.first + item.steps
                loop.progress = dataclasses.replace(loop.progress, next_batch=after)
                if _crossed(train.log_every, before, after) or after == steps:
                    _log(loop, log, program, after)
                if _tend(loop, judge, checkpoints, log, experiment, before, after, steps):
                    break
            seconds = time.perf_counter() - start
            log.say(watch.summary())
    rate = loop.examples / seconds if loop.examples else 0.0
    return {"train/steps": loop.progress.next_batch, "train/examples_per_second": rate, "train/seconds": seconds,
            **best_metrics(folder, loop.progress)}  # fmt: skip


def _crossed(every: int, before: int, after: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, after]."""
    return before // every != after // every


def _log(loop: Loop, log: Log, program: Program, step: int) -> None:
    """Reading the tallies waits for the device, so this is done once in ``log_every`` steps."""
    sums = jax.device_get(loop.pending)
    loop.pending = []
    totals = {name: sum((t[name] for t in sums[1:]), sums[0][name]).value() for name in sums[0]}
    now = time.perf_counter()
    rate = (loop.examples - loop.logged_examples) / max(now - loop.since, 1e-9)
    loop.since, loop.logged_examples = now, loop.examples
    totals_now = {**totals, "learning_rate": float(program.learning_rate(step - 1)), "examples_per_second": rate}
    log.metrics(step, {f"train/{name}": value for name, value in totals_now.items()})
    log.progress(step, totals["loss"], rate)
    if not np.isfinite(totals["loss"]):
        raise RunError(
            f"the loss is {totals['loss']} at step {step}.\n"
            "  try:   a lower --optim.learning_rate, --optim.clip_norm 1.0, or more --optim.warmup_steps"
        )


def _tend(loop: Loop, judge: "Judge", checkpoints: Checkpoints, log: Log, experiment: Experiment,
          before: int, after: int, steps: int) -> bool:  # fmt: skip
    """Evaluate and save when it is time; True when training should stop early."""
    evaluating = _crossed(judge.every, before, after) or after == steps
    every = experiment.checkpoint.every
    if not evaluating and not (every and _crossed(every, before, after)):
        return False
    jax.block_until_ready(loop.state.step)  # what is still computed is time spent training
    paused, score = time.perf_counter(), None
    if evaluating:
        metrics = judge(loop.state)
        log.metrics(after, metrics)
        score = judge.score(metrics)
        loop.progress = _judged(loop.progress, score, after)
        log.say(f"step {after}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
    try:
        checkpoints.save(after, _fields(loop.state), loop.progress, score)
    except OSError as error:
        log.say(f"checkpoint at step {after} not written, training goes on: {error}")
    loop.since += time.perf_counter() - paused
    return _out_of_patience(experiment.train, loop.progress)


def _out_of_patience(train: Train, progress: Progress) -> bool:
    return 0 < train.patience <= progress.since_best


def _judged(progress: Progress, score: float, step: int) -> Progress:
    """Of equal scores the later is kept, as Orbax keeps it, but only a higher one resets the patience."""
    if progress.best is None or score > progress.best:
        return dataclasses.replace(progress, best=score, best_step=step, since_best=0)
    best_step = step if score == progress.best else progress.best_step
    return dataclasses.replace(progress, best_step=best_step, since_best=progress.since_best + 1)


class Judge:
    """Evaluates the state on the validation split."""

    def __init__(self, experiment: Experiment, program: Program, source: Source, folder: Path, train_plan: Plan):
        train = experiment.train
        self.every = train.eval_every or train_plan.batches_per_epoch
        self._best = train.best.removeprefix("-")
        self._sign = -1.0 if train.best.startswith("-") else 1.0
        self._program, self._task, self._source = program, experiment.task, source
        size, cache = train.eval_batch_size or train.batch_size, folder / "assets" / "lengths-validation.npy"
        self._plan = make_plan(experiment.task, source, size, seed=None, buckets=train_plan.buckets, cache=cache)

    def __call__(self, state: State) -> dict[str, float]:
        weights = state.params if state.ema is None else state.ema
        metrics = evaluate(self._program.predict, weights, state.rest, self._task, self._source, self._plan,
                           mesh=self._program.mesh)  # fmt: skip
        return {f"validation/{name}": value for name, value in metrics.items()}

    def score(self, metrics: dict[str, float]) -> float:
        """The selection metric, higher is better; without one, every evaluation is the best so far."""
        if not self._best:
            return time.time()
        name = f"validation/{self._best}"
        if name not in metrics:
            raise InputError("field train.best", f'"{self._best}" is no metric of this task.',
                             found=", ".join(n.removeprefix("validation/") for n in metrics))  # fmt: skip
        return self._sign * metrics[name]


def best_metrics(folder: Path, progress: Progress) -> dict[str, float]:
    """The validation metrics logged at the best step."""
    table = history(folder)
    rows = [i for i, step in enumerate(table.get("step", [])) if step == progress.best_step]
    found = {name: column[i] for i in rows for name, column in table.items() if name.startswith("validation/")}
    return {name: value for name, value in found.items() if value is not None} if rows else {}


def _compiles(log: Log, shapes: set[Any], item: Dispatch, plan: Plan) -> bool:
    """Each new shape compiles once. Those of the buckets are expected; any other after the second step is news."""
    shape = tuple((name, value.shape) for name, value in sorted(item.batch.items()))
    if shape in shapes:
        return False
    shapes.add(shape)
    expected = max(len(plan.buckets), 1) + 1  # and the shorter dispatch at the end
    if item.first >= 2 and len(shapes) > expected:
        log.say(f"warning: step {item.first} compiles again, for shapes {dict(shape)}")
    return True
