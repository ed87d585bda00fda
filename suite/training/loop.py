"""Training loop between dispatches: it writes a log line, evaluates, saves and stops."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import jax

from suite.contracts.callback import Evaluated, Logged
from suite.contracts.metric_meaning import register_metric
from suite.errors import Interrupted, RunError
from suite.experiment.sections import Experiment
from suite.parallel import hosts
from suite.training.assemble import Program
from suite.training.callbacks import Callbacks
from suite.training.checkpoint import Checkpoints, Progress, Score
from suite.training.evaluator import BestTracker, Evaluator
from suite.training.logging.log import Log
from suite.training.metric_accumulator import Interval
from suite.training.optim import sparsity
from suite.training.preemption import Interruption, Left
from suite.training.state import State, to_stored

SHOWN = 4
"""Metrics of an evaluation that its line names; metrics.jsonl has all."""
OnEvaluation = Callable[[int, dict[str, float]], None]
"""Called with a step and its validation metrics; what it raises ends training."""


def crossed(every: int, before: int, after: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, after]."""
    return before // every != after // every


@dataclass
class Loop:
    """What the loop works with, and what it carries from dispatch to dispatch."""

    experiment: Experiment
    folder: Path
    program: Program
    evaluator: Evaluator
    best: BestTracker
    checkpoints: Checkpoints
    log: Log
    callbacks: Callbacks
    interruption: Interruption
    steps: int
    state: State
    progress: Progress
    interval: Interval
    on_evaluation: OnEvaluation | None = None
    examples: int = 0
    begun: float = dataclasses.field(default_factory=time.perf_counter)
    since: float = dataclasses.field(default_factory=time.perf_counter)
    logged_examples: int = 0

    @property
    def seconds(self) -> float:
        """That the run has been trained for, with evaluations, those of earlier calls included."""
        return self.progress.seconds + time.perf_counter() - self.begun

    def write(self) -> None:
        """Reading the tallies waits for the device, so this is done once in ``log_every`` steps."""
        step = self.progress.next_batch
        totals = {name: tally.value() for name, tally in self.interval.totals().items()}
        now = time.perf_counter()
        rate = (self.examples - self.logged_examples) / max(now - self.since, 1e-9)
        self.since, self.logged_examples = now, self.examples
        rates = {"learning_rate": float(self.program.learning_rate(step - 1)), "examples_per_second": rate}
        metrics = {f"train/{name}": value for name, value in {**totals, **rates}.items()}
        self.log.metrics(step, metrics)
        self.log.progress(step, totals["loss"], rate)
        if totals.get("skipped") == 1.0:
            raise self._not_finite(f"all steps since the last line of the log were skipped, at step {step}.")
        if self.interval.fault:
            raise self._not_finite(self.interval.fault)
        self.interval.clear()
        self.callbacks.log(Logged(step, metrics))

    def tend(self, before: int) -> bool:
        """Evaluate and save when it is time; True when training should stop early."""
        after, every = self.progress.next_batch, self.experiment.checkpoint.every
        evaluating = crossed(self.evaluator.every, before, after) or after == self.steps
        if not evaluating and not (every and crossed(every, before, after)):
            return False
        jax.block_until_ready(self.state.step)  # what is still computed is time spent training
        paused = time.perf_counter()
        self.check()
        if evaluating:
            self.look()
        else:
            self.save()
        self.since += time.perf_counter() - paused
        return self.out_of_patience()

    def close(self, before: int) -> None:
        """Log, evaluate and save this step as the last one, unless `tend` has evaluated it."""
        step = self.progress.next_batch
        if crossed(self.evaluator.every, before, step):
            return
        if not crossed(self.experiment.train.log_every, before, step):
            self.write()
        self.check()
        self.look()

    def check(self) -> None:
        """What is evaluated and saved is sound.

        Raises:
            RunError: the loss was no number since the last log line, or a parameter is none now.
        """
        self.interval.totals()
        if self.interval.fault:
            raise self._not_finite(self.interval.fault)
        if not self.checkpoints.finite(self.state.params):
            raise self._not_finite(f"a parameter is no finite number after step {self.progress.next_batch}.")

    def look(self, before_saving: Callable[[], None] = lambda: None) -> None:
        """Evaluate this step, save it with its score, then tell what was found. To be called after ``check``."""
        metrics, score = self.evaluate()
        before_saving()
        self.save(score)
        step, best = self.progress.next_batch, self.progress.best_step
        self.callbacks.evaluation(Evaluated(step, metrics, score is not None and best == step))
        if self.on_evaluation is not None:
            self.on_evaluation(self.progress.next_batch, metrics)

    def evaluate(self) -> tuple[dict[str, float], Score | None]:
        """The metrics and the score of this step; None where the metric is not a number, and before all weights that
        are pruned have gone. An evaluation that the run is asked to leave is due when it goes on."""
        step, state = self.progress.next_batch, self.state
        try:
            metrics = self.evaluator(state.params if state.ema is None else state.ema, state.model_state)
        except Left:
            self.progress = dataclasses.replace(self.progress, due=True)
            self.leave()
        metrics |= {f"train/{name}": value for name, value in self.program.rule.told(step).items()}
        self.log.metrics(step, metrics)
        counts = sparsity.complete(self.experiment.optim.sparsity, self.steps, state.opt)
        told = hosts.agreed(lambda: self.best.score(metrics))  # without a metric it is a clock's
        score = Score(*told) if told and counts else None
        progress = self.progress if score is None else self.best.track(self.progress, score, step)
        self.progress = dataclasses.replace(progress, due=False)
        self.log.say(f"step {step}: {_shown(metrics, self.experiment.train.best)}")
        return metrics, score

    def save(self, score: Score | None = None) -> None:
        """Begin to write a checkpoint, if the disk has room. To be called after ``check``."""
        step = self.progress.next_batch
        progress = dataclasses.replace(self.progress, tallied=self.interval.carried, seconds=self.seconds)
        self.checkpoints.save(step, to_stored(self.state), progress, score)

    def leave(self) -> NoReturn:
        """Save what was reached, unless it is saved, and stop."""
        step = self.progress.next_batch
        if self.checkpoints.latest != step:
            self.check()
            self.save()
        self.checkpoints.settle()  # so that what is named is there
        raise Interrupted(self.folder, step, self.checkpoints.latest)

    def out_of_patience(self) -> bool:
        """Whether too many evaluations have been no better."""
        return self.best.out_of_patience(self.progress)

    def _not_finite(self, what: str) -> RunError:
        latest = self.checkpoints.latest
        before = f"the last checkpoint before is that of step {latest}" if latest else "there is no checkpoint before"
        return RunError(
            f"{what}\n  found: {before}\n"
            "  try:   a lower --optim.learning_rate, --optim.clip_norm 1.0, or more --optim.warmup_steps;\n"
            "         --train.on_nan skip, which leaves such steps out; or a look at these examples"
        )


register_metric("learning_rate", "How far the optimiser goes at each step.")
register_metric(
    "examples_per_second",
    "Training records a second, without evaluation and compilation.",
    "higher",
    title="examples/s",
)


def _shown(metrics: dict[str, float], best: str) -> str:
    """The metrics that a line has room for: the one that chooses checkpoints, the loss, then others in their order."""
    first = [name for name in (f"validation/{best.removeprefix('-')}", "validation/loss") if name in metrics]
    names = list(dict.fromkeys([*first, *metrics]))
    told = ", ".join(f"{name} {metrics[name]:.4f}" for name in names[:SHOWN])
    return told + (", ..." if len(names) > SHOWN else "")
