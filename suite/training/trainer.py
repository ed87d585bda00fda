"""Training to the end: data, program, checkpoint and log are brought together, then one loop runs. Knows no domain."""

import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from suite.contracts import metric_meaning
from suite.contracts.callback import Saved, Started
from suite.contracts.data import Source
from suite.contracts.metric_meaning import check_metric, check_selection, undirected
from suite.contracts.task import Task
from suite.data.notes import notes
from suite.data.pipeline.dispatches import Dispatch, Encoder, Plan, dispatches, make_plan, to_device
from suite.errors import InputError
from suite.experiment.defaults import settled
from suite.experiment.sections import Experiment, Train
from suite.experiment.serialization import dump, to_json
from suite.parallel import hosts, sharding
from suite.parallel.batch_shards import Part, own_part, placer
from suite.runtime.compilation import CompileWatch, enable_cache
from suite.surgery import quantize
from suite.training import canaries, compile_ahead, course, fingerprint, privacy
from suite.training.assemble import assemble
from suite.training.callbacks import Callbacks
from suite.training.checkpoint import Checkpoints
from suite.training.conclusion import conclude
from suite.training.evaluator import BestTracker, Evaluator, best_metrics
from suite.training.initial_weights import check_runs
from suite.training.logging import loggers
from suite.training.logging.jsonl import METRICS, history
from suite.training.logging.log import Log
from suite.training.loop import Loop, OnEvaluation, crossed
from suite.training.metric_accumulator import Interval
from suite.training.optim import schedules, sparsity
from suite.training.preemption import Interruption
from suite.training.preprocessors import adopt, prepare, unbind
from suite.training.restore import begun, restore
from suite.training.solution import SOLUTION, check_solved, solve
from suite.weights import pretrained

OnDispatch = Callable[[Dispatch], None]
Enough = Callable[[int], bool]
"""Asked with the steps taken whether training ends there."""


def total_steps(train: Train, plan: Plan) -> int:
    """Optimiser steps of the whole run."""
    steps = train.steps or round(train.epochs * plan.batches_per_epoch)
    if steps < 1:
        raise InputError("field train.epochs", f"{train.epochs} makes no step.", fix="--train.steps 100")
    return steps


def fit(
    experiment: Experiment,
    folder: Path,
    *,
    on_dispatch: OnDispatch | None = None,
    on_evaluation: OnEvaluation | None = None,
    enough: Enough | None = None,
    accept_changed_data: bool = False,
) -> dict[str, float]:
    """Train to the end, going on from the folder's newest checkpoint if there is one.

    Args:
        experiment: the recipe, unbound.
        folder: the run folder; made if missing.
        on_dispatch: called with each Dispatch before it is trained on.
        on_evaluation: called with a step and its validation metrics, once its checkpoint is on its way; what it raises
            ends training.
        enough: asked after each dispatch; True ends training in good order: that step is evaluated and saved, and the
            best checkpoint is the outcome.
        accept_changed_data: go on with other data than the run was begun with.

    Returns:
        ``"train/steps"``; ``"train/seconds"`` and ``"train/seconds_before"``, of the loop: in all, and before this call
        went on; ``"train/examples_per_second"`` of this call, 0 where it took no step; of the best checkpoint, where
        there is one, ``"train/best_step"`` and its validation metrics.

    Raises:
        InputError: the experiment cannot be trained, or its data are not those that the run was begun with.
        Interrupted: the run was asked to stop; its state is saved.
        RunError: the loss or a parameter is not a finite number, or a callback failed.
    """
    sharding.check(experiment)  # before data are read
    quantize.check(experiment)
    check_solved(experiment)
    if privacy.is_private(experiment):
        privacy.check(experiment)
    loggers.check(experiment.train.loggers)
    callbacks = Callbacks(experiment.callbacks, active=hosts.is_first())
    fresh = hosts.agreed(lambda: not begun(folder))
    if fresh:
        check_selection(experiment.train.best)
    enable_cache()
    watch = CompileWatch()
    hosts.check_shared(folder)
    # What process 0 decodes, fetches and fits, the others find.
    experiment, settings = hosts.after_first(lambda: _settled(experiment, fresh))
    if privacy.is_private(experiment):
        privacy.check(experiment)
    source, held_out = hosts.after_first(lambda: tuple(map(experiment.task.source, ("train", "validation"))))
    data = {"train": source, "validation": held_out}
    if hosts.is_first():
        for line in notes(data):
            _print(line)
    hosts.agreed(lambda: _check_data(experiment.task, folder, data, accept_changed_data))
    asked, everyone = experiment.privacy, source
    source = hosts.after_first(lambda: canaries.trained_on(asked, folder, everyone))
    experiment, plan = hosts.after_first(lambda: _prepared(experiment, folder, source))
    if fresh:
        hosts.agreed(lambda: _say_remarks(experiment, data))
    train, pipe = experiment.train, experiment.pipeline
    steps = SOLUTION if experiment.task.solved else total_steps(train, plan)
    if train.on_nan == "skip":
        sparsity.check_spare(experiment.optim.sparsity, steps)
    private = None
    if privacy.is_private(experiment):
        full, mesh = plan, sharding.make_mesh(experiment.parallel)
        private = hosts.after_first(lambda: privacy.prepare(experiment, folder, source, full, steps, mesh, settings))
        _say_what_is_private(private, steps)
        plan, steps = private.plan, private.steps
    program, interruption = assemble(experiment, steps, None if private is None else private.rule), Interruption()
    part = own_part(program.mesh, plan.batch_size)
    ahead = compile_ahead.Ahead()
    guarded = interruption.guard(ahead.awaited(program.evaluate))
    make = lambda: Evaluator(experiment, guarded, program.embed, program.mesh, held_out, folder, plan)
    evaluator = hosts.after_first(make)
    encoder = Encoder(experiment.task, source, plan, augment=True, rows=None if part is None else part.rows)
    if fresh:
        _check_metrics(experiment, evaluator.names(program.abstract.params, program.abstract.model_state))
        if compile_ahead.serves(experiment, program):
            compile_ahead.begin(ahead, program, steps, train.steps_per_dispatch, encoder, evaluator)
    with ahead, callbacks, interruption, Checkpoints(folder / "checkpoints", experiment.checkpoint.keep) as checkpoints:
        checkpoints.check_start(program.abstract)
        ahead.wait("init")
        state, progress = restore(program, checkpoints, experiment)
        fields = loggers.flattened(to_json(unbind(experiment)))
        about = loggers.About(experiment.name, folder, fields, progress.next_batch)
        with Log(folder, steps, progress.next_batch, hosts.is_first(), train.loggers, about) as log:
            checkpoints.say = log.say
            checkpoints.on_saved = lambda step, path: callbacks.checkpoint(Saved(step, path))
            _say_what_is_assumed(experiment, steps, log)
            callbacks.start(Started(experiment, folder, progress.next_batch, steps))
            loop = Loop(
                experiment,
                folder,
                program,
                evaluator,
                BestTracker(train),
                checkpoints,
                log,
                callbacks,
                interruption,
                steps,
                state,
                progress,
                Interval(progress.tallied),
                on_evaluation,
            )
            if experiment.task.solved and (progress.due or not progress.next_batch):  # what was left begins anew
                solve(loop, source, plan)
            elif progress.due:
                loop.look()
            first = loop.progress.next_batch
            end = first if loop.out_of_patience() else steps  # a run that stopped early stays stopped
            items = dispatches(
                encoder,
                first,
                end,
                train.steps_per_dispatch,
                workers=pipe.workers,
                prefetch=pipe.prefetch,
                stopped=lambda: interruption.noted,
            )
            with contextlib.closing(items):
                _train(loop, ahead, items, plan, part, on_dispatch, enough)
            seconds = loop.seconds
            log.say(watch.summary())
            if hosts.is_first():
                for remark in course.remarks(history(folder), train):
                    log.say(remark.text)
        checkpoints.check_written()  # so that callbacks hear of the last checkpoint before the end
        loop.progress = checkpoints.known_best(loop.progress)  # one that was not written is no outcome
        best = {} if loop.progress.best is None else {"train/best_step": loop.progress.best_step}
        outcome = {
            "train/steps": loop.progress.next_batch,
            **best,
            "train/seconds": seconds,
            "train/seconds_before": progress.seconds,
            "train/examples_per_second": loop.examples / (seconds - progress.seconds),
            **hosts.agreed(lambda: best_metrics(folder, loop.progress)),
            **conclude(experiment, folder, program, evaluator, _print if hosts.is_first() else lambda line: None),
        }
        if private is not None and hosts.is_first():
            privacy.write(folder, private.guarantee.after(loop.progress.next_batch))
        callbacks.finish(loop.progress.next_batch, outcome)
    return outcome


def _check_data(task: Task, folder: Path, data: Mapping[str, Source], accept: bool) -> None:
    """A folder of weights that were only rounded, or pruned, has no log: nothing was trained there yet."""
    taken = fingerprint.fingerprint(task, data)
    fingerprint.check(folder, taken, begun=(folder / METRICS).exists(), accept=accept, say=_print)


def _check_metrics(experiment: Experiment, names: Collection[str]) -> None:
    """What a recipe names is a metric of its task, by all that is known before training."""
    if experiment.train.best:
        check_metric(experiment.train.best.removeprefix("-"), names, "train.best")
    goal = experiment.goal
    if goal is None or (goal.on != "validation" and goal.name in metric_meaning.METRICS):
        return  # of another split a task may measure more
    check_metric(goal.name, names, "goal.metric")


def _say_what_is_assumed(experiment: Experiment, steps: int, log: Log) -> None:
    optim, best = experiment.optim, experiment.train.best
    if optim.warmup_steps >= steps:
        rising = schedules.warmup(optim, steps)
        log.say(f"warm-up shortened from {optim.warmup_steps:,} steps to {rising:,}: the run has {steps:,}")
    if undirected(best):
        log.say(
            f'train.best: nothing says which way "{best}" is better, so the highest is kept; '
            f"--train.best=-{best} keeps the lowest"
        )


def _say_what_is_private(private: privacy.Prepared, wanted: int) -> None:
    if not hosts.is_first():
        return
    _print(f"privacy: {private.guarantee}; a batch has at most {private.plan.batch_size:,} rows")
    _print(f"privacy: not covered: {', '.join(private.guarantee.outside)}")
    if private.steps < wanted:
        _print(f"privacy: the run ends at step {private.steps:,} of {wanted:,}, where its budget is spent")


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _say_remarks(experiment: Experiment, splits: Mapping[str, Source]) -> None:
    for line in experiment.task.remarks(splits):
        _print(line)


def _settled(experiment: Experiment, fresh: bool) -> tuple[Experiment, list[str]]:
    """With the sizes of published weights, and open fields chosen, and what was chosen; a run that goes on has both."""
    if not fresh:
        return experiment, []
    check_runs(experiment)
    experiment, lines = adopt(pretrained.adopt(experiment))
    chosen: list[str] = []
    if experiment.defaults is not None:
        experiment, chosen = settled(experiment, experiment.task.source("train"))
    for line in [*lines, *chosen] if hosts.is_first() else ():
        _print(line)
    return experiment, chosen


def _prepared(experiment: Experiment, folder: Path, source: Source) -> tuple[Experiment, Plan]:
    """The experiment stored and bound, and its batch plan."""
    if hosts.is_first():
        dump(unbind(experiment), folder / "experiment.json")
    experiment = prepare(experiment, folder, source)
    if hosts.is_first():
        fingerprint.note_assets(folder)
    train = experiment.train
    return experiment, make_plan(
        experiment.task,
        source,
        train.batch_size,
        seed=train.seed,
        buckets=experiment.pipeline.buckets,
        cache=folder / "assets" / "lengths-train.npy",
        balanced=experiment.pipeline.sampling == "balanced",
        passes=train.passes(len(source)),
    )


def _train(
    loop: Loop,
    ahead: compile_ahead.Ahead,
    items: Iterator[Dispatch],
    plan: Plan,
    part: Part | None,
    on_dispatch: OnDispatch | None,
    enough: Enough | None,
) -> None:
    """Until the items end, patience does, it is enough, or the run is interrupted."""
    program = loop.program
    step = program.stepper(plan.shapes, loop.experiment.train.steps_per_dispatch)
    shapes: set[Any] = set()
    loop.since = time.perf_counter()
    for item, batch in to_device(items, placer(program.mesh, part, leading=1)):
        if on_dispatch is not None:
            on_dispatch(item)
        if not shapes:
            loop.log.begin()
        compiles, called = _compiles(loop.log, shapes, item, plan), time.perf_counter()
        if compiles:
            ahead.wait(("step", compile_ahead.batch_shape(item.batch)))
            ahead.wait("apply")
        loop.state, tallies = step(loop.state, batch)
        if compiles:  # examples/s are those of training, as is the time left
            spent = time.perf_counter() - called
            loop.since += spent
            loop.log.pause(spent)
            ahead.release()
        loop.interval.add(item, tallies)
        loop.examples += int((item.indices >= 0).sum())
        before, after = item.first, item.first + item.steps
        loop.progress = dataclasses.replace(loop.progress, next_batch=after)
        if crossed(loop.experiment.train.log_every, before, after) or after == loop.steps:
            loop.write()
        if loop.tend(before):
            return
        if enough is not None and after < loop.steps and hosts.agreed(functools.partial(enough, after)):
            loop.close(before)
            return
        if loop.interruption.after(before, after) and after < loop.steps:
            loop.leave()
    if loop.interruption.noted and loop.progress.next_batch < loop.steps and not loop.out_of_patience():
        loop.leave()  # it waited for a data worker


def _compiles(log: Log, shapes: set[Any], item: Dispatch, plan: Plan) -> bool:
    """Each new shape compiles once. Those of the buckets are expected; any other after the second step is news."""
    shape: Any = compile_ahead.batch_shape(item.batch)
    if shape in shapes:
        return False
    shapes.add(shape)
    expected = plan.shapes + 1  # and the shorter dispatch at the end
    if item.first >= 2 and len(shapes) > expected:
        log.say(f"warning: step {item.first} compiles again, for shapes {dict(shape)}")
    return True
