"""A search for a goal, trial after trial: which to train next, what comes of it, when to stop, and the verdict."""

import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from suite.data.pipeline.dispatches import Dispatch
from suite.errors import InputError, RunError, StorageError
from suite.experiment import sections
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment
from suite.runs import results, run, verbs
from suite.runtime import locks
from suite.runtime.locks import Claim
from suite.training.logging.jsonl import history
from suite.tuning import verdict
from suite.tuning.space import Dimension, shown
from suite.tuning.verdict import Verdict, lasted

if TYPE_CHECKING:
    from suite.tuning.study import Study, Trial

WAIT_SECONDS = 2.0
"""Between two looks at what other processes do."""
REFUSED = 5
"""Trials in a row whose input is refused, after which it is no matter of the values searched."""
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
"""In JAX's words."""


class Ended(Exception):
    """A trial is ended before its time; why."""

    outcome = "interrupted"


@dataclass
class Search:
    """A search that has no verdict yet."""

    experiment: Experiment
    goal: Goal
    folder: Path
    dimensions: tuple[Dimension, ...]
    study: "Study"
    keep_all: bool
    accept_changed_data: bool = False
    until: float = math.inf
    """On the clock of `time.monotonic`: a trial that reaches it ends there in good order, at its best checkpoint."""
    cut: set[int] = field(default_factory=set)
    """Trials that ended so."""

    def advance(self) -> "Trial | None":
        """Train one more trial, or one that a process left, for a caller who says himself when it is enough; None
        where other processes have all that are running."""
        with locks.held(self.folder / "lock"):
            claim = self._next(self.study.trials(), "")
        if claim is None:
            return None
        number = int(claim.folder.name)
        with claim:
            self._train(claim)
        return self.study.trials()[number]

    def conclude(self) -> Verdict:
        """Train trial after trial until there is a verdict, be it another process that comes to it."""
        waiting = False
        while True:
            with locks.held(self.folder / "lock"):
                if outcome := verdict.read(self.folder, self.experiment, self.dimensions):
                    return outcome
                trials = self.study.trials()
                self._sweep(trials)
                stop = self._stop(trials)
                claim = None if stop == "goal" else self._next(trials, stop)
                running = [trial.number for trial in trials if trial.state == "running"]
                if claim is None and (stop == "goal" or not running):
                    return self._decide(trials, stop)
            if claim is not None:
                with claim:
                    self._train(claim)
            elif not waiting:
                say(f"waiting for other processes, which have trial {', '.join(map(str, running))}")
            waiting = claim is None
            if waiting:
                time.sleep(WAIT_SECONDS)

    @property
    def metric(self) -> str:
        """What decides, always on validation."""
        return f"validation/{self.goal.name}"

    def at(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.folder / "trials" / f"{number:04d}"

    def best(self, trials: Sequence["Trial"]) -> "Trial | None":
        """The best of those that came to their end, on validation; of equal ones that with the lower loss, then the
        first."""
        whole = [trial for trial in trials if trial.state == "complete"]
        sign = -1 if self.goal.lower else 1

        def loss(trial: "Trial") -> float:
            value = trial.about.get("metrics", {}).get("validation/loss", math.inf)
            return value if math.isfinite(value) else math.inf

        return max(whole, key=lambda trial: (sign * trial.value, -loss(trial), -trial.number), default=None)

    def left(self) -> float:
        """Seconds until the budget's time is spent, by all trials so far; inf where there is no such limit, and before
        a trial has come to its end."""
        trials, seconds = self.study.trials(), self.goal.budget.hours * 3600
        if not seconds or self.best(trials) is None:
            return math.inf
        return seconds - sum(locks.seconds(self.at(trial.number)) for trial in trials)

    def why_end(self, number: int) -> str:
        """Why a trial should end at this evaluation; empty where it shouldn't."""
        best = self.best(self.study.trials())
        if best is not None and self._met(best):
            return f"trial {best.number} has met the goal"
        return f"{self.experiment.search.pruner} pruner" if self.study.falls_behind(number) else ""

    def _stop(self, trials: Sequence["Trial"]) -> str:
        """Why no further trial is to begin: goal, trials or hours; empty where one is."""
        best, budget = self.best(trials), self.goal.budget
        if best is not None and self._met(best):
            return "goal"
        if 0 < budget.trials <= len(trials):
            return "trials"
        spent = sum(locks.seconds(self.at(trial.number)) for trial in trials)
        return "hours" if 0 < budget.hours * 3600 <= spent else ""

    def _met(self, trial: "Trial") -> bool:
        """Whether a trial is good enough to end the search."""
        return not self.goal.open and self.goal.met(trial.value)

    def _next(self, trials: Sequence["Trial"], stop: str) -> Claim | None:
        """A trial whose process died; else a new one, unless there is to be none."""
        for trial in trials:
            claim = Claim.take(self.at(trial.number)) if trial.state == "running" else None
            if claim is None:
                continue
            if self.study.trials()[trial.number].state == "running":
                return claim
            claim.release()  # its process had not died: since the look at the trials it came to its end
        return None if stop else Claim.take(self.at(self.study.begin()))

    def _sweep(self, trials: Sequence["Trial"]) -> None:
        """Twenty trials of three checkpoints each would fill a disk."""
        best = self.best(trials)
        for trial in trials:
            if trial.state != "running" and trial is not best and not self.keep_all:
                shutil.rmtree(self.at(trial.number) / "checkpoints", ignore_errors=True)

    def _train(self, claim: Claim) -> None:
        """Train a trial to its end, whatever that is, and note it.

        Raises:
            InputError: the recipe's own values are refused.
            RunError: so are those of several trials in a row.
        """
        number = int(claim.folder.name)
        self.study.take_up(number)
        trials = self.study.trials()
        values = trials[number].values
        count = self.goal.budget.trials
        say(f"trial {number}{f' of {count}' if count else ''}: {shown(values)}")
        twin = next((trial for trial in trials if trial.state != "running" and trial.values == values), None)
        if twin is not None:  # as happens where all is a Choice; it would end alike
            about = {"metrics": twin.about.get("metrics", {}), "reason": f"trial {twin.number} had these values"}
            self._note(claim, twin.state, twin.value if twin.state == "complete" else None, **about)
            return
        try:
            metrics = Attempt(self, number, claim).train(sections.replace(self.experiment, values))
        except Ended as error:
            self._note(claim, "pruned", reason=str(error))
        except StorageError:  # says nothing of the trial's values: it goes on once there is room
            raise
        except RunError as error:
            self._note(claim, "failed", reason=_first_line(error))
        except InputError as error:
            if number == 0:
                raise
            self._note(claim, "failed", reason=_first_line(error), refused=True)
            self._check_refused(error)
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not isinstance(error, MemoryError) and OUT_OF_MEMORY not in str(error):
                raise
            self._note(claim, "failed", reason=f"out of memory: {_first_line(error)}")
        else:
            self._note_whole(claim, metrics)

    def _note_whole(self, claim: Claim, metrics: Mapping[str, float]) -> None:
        value = metrics.get(self.metric, math.nan)
        if math.isfinite(value):
            validated = {name: number for name, number in metrics.items() if name.startswith("validation/")}
            self._note(claim, "complete", value, metrics=validated)
        else:
            self._note(claim, "failed", reason=f"{self.metric} is {value}")

    def _note(self, claim: Claim, state: str, value: float | None = None, **about: Any) -> None:
        number, spent = int(claim.folder.name), claim.note(0.0)
        self.study.end(number, state, value, about)
        best = self.best(self.study.trials())
        how = f"{self.metric} {value:.6g}" if value is not None else f"{state}: {about['reason']}"
        so_far = f"the best so far is trial {best.number}, {best.value:.6g}" if best else "none has come to its end"
        say(f"trial {number}: {how} ({lasted(spent)}); {so_far}")

    def _check_refused(self, error: InputError) -> None:
        last = [trial for trial in self.study.trials() if trial.state != "running"][-REFUSED:]
        if len(last) == REFUSED and all(trial.about.get("refused") for trial in last):
            raise RunError(f"the values of {REFUSED} trials in a row were refused, the last with:\n{error}") from None

    def _decide(self, trials: Sequence["Trial"], stop: str) -> Verdict:
        """The verdict, with the one look at the test split."""
        chosen = self.best(trials)
        if chosen is None:
            reasons = "; ".join(f"trial {trial.number}: {trial.about.get('reason')}" for trial in trials[-3:])
            raise RunError(
                f"none of {len(trials)} trials came to its end.\n  found: {reasons}\n"
                "  try:   another space, and another --run-dir"
            )
        validation = _bare(chosen.about["metrics"])
        best = verdict.opened(self.experiment, self.at(chosen.number), chosen.values, validation)
        test, why = _test(best)
        margin = self._margin(validation if self.goal.on == "validation" else test)
        told = Verdict(
            goal=str(self.goal),
            met=self.goal.open or (margin is not None and margin >= 0),
            margin=margin,
            stopped_by=stop,
            trial=chosen.number,
            values=chosen.values,
            validation=validation,
            test=test,
            why_no_test=why,
            trials=tuple(map(self._told, trials)),
            run=verdict.opened(self.experiment, best.folder, chosen.values, validation, test),
        )
        spent = sum(trial["seconds"] for trial in told.trials)
        results.write_result(self.folder, "tune", self.experiment.name, told.run.metrics, spent, 0.0)
        verdict.write(told, self.folder)
        return told

    def _margin(self, metrics: Mapping[str, float] | None) -> float | None:
        value = math.nan if metrics is None else metrics[self.goal.name]
        over = self.goal.bound - value if self.goal.lower else value - self.goal.bound
        return over if math.isfinite(over) else None

    def _told(self, trial: "Trial") -> dict[str, Any]:
        """A trial as the verdict tells of it."""
        return {
            "number": trial.number,
            "state": trial.state,
            "value": None if math.isnan(trial.value) else trial.value,
            "values": verdict.plain(trial.values),
            "steps": max(trial.evaluations, default=0),
            "seconds": round(locks.seconds(self.at(trial.number)), 3),
            "reason": trial.about.get("reason", ""),
        }


class Attempt:
    """A trial that this process trains: what is reported of it, and what ends it before its time."""

    def __init__(self, search: Search, number: int, claim: Claim):
        self._search, self._number, self._claim = search, number, claim
        self._judged, self._why = 0, ""
        self._deadline = time.monotonic() + search.left()

    def train(self, experiment: Experiment) -> dict[str, float]:
        """Train to the end, going on where another process stopped.

        Raises:
            Ended: it is not worth the end.
        """
        logged = history(self._claim.folder)
        for step, value in zip(logged["step"], logged.get(self._search.metric, []), strict=False):
            if value is not None:  # and its process may have died before it reported it
                self._report(step, value)
        return verbs.train(
            experiment,
            self._claim.folder,
            resume=True,
            on_dispatch=self._on_dispatch,
            on_evaluation=self._on_evaluation,
            enough=self._enough,
            accept_changed_data=self._search.accept_changed_data,
            measure_baseline=False,
        ).metrics

    def _on_evaluation(self, step: int, metrics: dict[str, float]) -> None:
        if self._search.metric not in metrics:
            raise InputError(
                "field goal.metric",
                f'"{self._search.goal.name}" is no metric of this task.',
                found=", ".join(_bare(metrics)),
            )
        self._report(step, metrics[self._search.metric])

    def _report(self, step: int, value: float) -> None:
        self._search.study.report(self._number, step, value)
        self._judged, self._why = step, self._search.why_end(self._number)

    def _enough(self, step: int) -> bool:
        if time.monotonic() <= self._search.until:
            return False
        self._search.cut.add(self._number)
        return True

    def _on_dispatch(self, item: Dispatch) -> None:
        """A decision waits until training goes on behind its step: a trial that is at its end is complete."""
        self._claim.note()
        if time.monotonic() > self._deadline:
            raise Ended(f"the time is spent, at step {item.first}")
        if self._why and item.first >= self._judged:
            raise Ended(f"{self._why}, at step {self._judged}")


def say(text: str) -> None:
    """A line for people."""
    print(text, file=sys.stderr, flush=True)


def _bare(metrics: Mapping[str, float]) -> dict[str, float]:
    """Without the split."""
    return {name.partition("/")[2]: value for name, value in metrics.items()}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")


def _test(best: run.Run) -> tuple[dict[str, float] | None, str]:
    """The metrics on the test split; or why there are none, as where labels are withheld."""
    try:
        return _bare(best.evaluate("test").metrics), ""
    except InputError as error:
        return None, _first_line(error)
