"""Fit: from records and a column to a trained run, within a time: baselines, families of models, their settings, and
the best of them or the mean of several.

All that is known lies on the disk: each recipe's trials in a search of its own (`suite.tuning`), the time spent in a
lock's file, what came of it in ``leaderboard.json``. So a fit that was stopped anywhere goes on when it is called
again.
"""

import dataclasses
import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from suite.contracts.data import Data
from suite.contracts.task import Task
from suite.data.sources.datasets import from_path
from suite.data.sources.folds import Fold
from suite.errors import InputError, Interrupted, RunError
from suite.evaluation.baselines import TooSlow, measure
from suite.evaluation.evaluate import Answers
from suite.experiment import sections
from suite.experiment.goal import Budget, Goal
from suite.experiment.serialization import packages
from suite.fitting import ensembles, kept_run, leaderboard, request
from suite.fitting.candidates import Candidate, candidates
from suite.fitting.leaderboard import Leaderboard
from suite.fitting.ranking import Tried, best, ranked
from suite.fitting.request import Request
from suite.runs import results, run, verbs
from suite.runs.run import Run
from suite.runtime import locks
from suite.runtime.locks import Claim
from suite.training.preemption import stopped_by_sigterm
from suite.training.preprocessors import prepare
from suite.tuning import tuning, verdict
from suite.tuning.search import Search, say
from suite.tuning.space import shown
from suite.tuning.verdict import lasted
from suite.weights import pretrained

if TYPE_CHECKING:
    from suite.tuning.study import Trial

BEST = "best"
MEMBERS = 5
"""Most models of an ensemble, unless another number is asked for."""
BASELINES = 0.2
"""Share of the time after which baselines are given up."""
RESERVE = 0.1
"""Share of the time that is kept for the ensemble, the look at the test split and what is written; at most
`MOST_RESERVE` seconds."""
MOST_RESERVE = 120.0
REPEATED = 5
"""Trials in a row with settings that were tried before, after which there is nothing left to try."""
CONSIDERED = 12
"""Runs among which an ensemble is selected, the best on validation."""
WORTH = 0.5
"""A further trial begins where this share of the time that the last one took is left."""


def fit(
    data: str | Path | Data,
    target: str = "",
    budget: str | Budget = "20m",
    run_dir: str | Path = "",
    *,
    recipes: Sequence[str] = (),
    goal: str = "",
    folds: int = 0,
    members: int = MEMBERS,
) -> Leaderboard:
    """Find the best model for some records within a time: baselines, one or more families with their recipes' settings
    and with others, ranked on the validation split; the best, or the mean of several, is left as a run.

    Args:
        data: a table, a manifest or a folder; or a `Data`.
        target: the column to predict; empty: ``label``.
        budget: what it may cost, as ``"20m"`` or ``"2h, 30 trials"``.
        run_dir: the folder of the fit, by default ``runs/<date>-<name>-fit``. One that holds this fit goes on, or
            returns the leaderboard that it has. The chosen run is its ``best``.
        recipes: what to train; empty: what the columns call for.
        goal: a metric that decides, as ``"auc"``, or a value that is enough, as ``"auc>=0.9"``; empty: the metric by
            which the first recipe chooses its checkpoints.
        folds: at the end, train the best settings on that many folds of training and validation, and keep the mean of
            these models. 0: no cross-validation.
        members: most models of an ensemble; 1: none is made.

    Raises:
        InputError: the records cannot be read or fit no recipe, the folder holds something else, or the flags do not
            fit together.
        Interrupted: it was asked to stop; the same call goes on.
        RunError: no training came to its end.
    """
    opened = data if isinstance(data, Data) else from_path(str(data))
    _check(folds, members)
    spending = budget if isinstance(budget, Budget) else Budget(budget)
    asked = Request(opened, target, tuple(recipes), goal, folds, members)
    folder = Path(run_dir) if run_dir else results.new_folder(f"{stem(data)}-fit")
    claim = Claim.take(folder)
    if claim is None:
        raise locks.busy(folder, request.command(folder, str(data), target))
    try:
        with claim, stopped_by_sigterm():
            asked.begin(folder)
            if done := leaderboard.read(folder):
                return done
            chosen = candidates(opened, target, asked.recipes)
            return Fitting.begun(folder, asked, chosen, spending, claim).conclude()
    except Interrupted as stopped:
        raise stopped.within(folder, request.command(folder, str(data), target)) from None
    except KeyboardInterrupt:
        raise Interrupted(folder, None, None, again=request.command(folder, str(data), target)) from None
    except InputError:
        if not any(folder.glob("searches/*/trials/*/checkpoints/[0-9]*")):  # so that the corrected command begins anew
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _check(folds: int, members: int) -> None:
    if folds < 0 or folds == 1:
        raise InputError("flag --folds", f"{folds} is no number of folds.", fix="--folds 5")
    if members < 1:
        raise InputError("flag --members", f"{members} is no number of models.", fix="--members 5")


def stem(data: str | Path | Data) -> str:
    return "data" if isinstance(data, Data) else Path(data).resolve().name.partition(".")[0] or "data"


@dataclass
class Fitting:
    """A fit that has no leaderboard yet."""

    folder: Path
    asked: Request
    budget: Budget
    claim: Claim
    goal: Goal
    searches: tuple[Search, ...]
    tried: dict[str, Tried] = field(default_factory=dict)
    baselines: list[Tried] = field(default_factory=list)
    answers: dict[str, tuple[Run, Answers]] = field(default_factory=dict)
    fixed: float = 0.0

    @classmethod
    def begun(
        cls, folder: Path, asked: Request, chosen: Sequence[Candidate], budget: Budget, claim: Claim
    ) -> "Fitting":
        """With a search for each candidate; all see the same records, since the first one says how they are split."""
        first = chosen[0].experiment
        goal = Goal(asked.goal) if asked.goal else Goal(metric=first.train.best, at_least=None)
        if goal.on != "validation":
            raise InputError("flag --goal", "must be on validation: the test split is looked at once, at the end.")
        goal = dataclasses.replace(goal, budget=budget)
        searches = []
        say(f"to be tried: {', '.join(candidate.recipe for candidate in chosen)}")
        for candidate in chosen:
            changes = {"task.data": first.task.split_data, "goal": goal}
            changes |= {"train.best": goal.metric} if asked.goal else {}
            experiment = sections.replace(candidate.experiment, changes)
            name = Path(candidate.recipe).stem if candidate.recipe.endswith(".py") else candidate.recipe
            searches.append(tuning.begun(experiment, folder / "searches" / name))
        return cls(folder, asked, budget, claim, goal, tuple(searches))

    def conclude(self) -> Leaderboard:
        """Train as long as the budget lasts, then rank, choose, and look at the test split."""
        self._baselines()
        self._as_they_are()
        self._others()
        return self._decide()

    # Time

    @property
    def metric(self) -> str:
        """Name of the metric that decides."""
        return self.goal.name

    @property
    def seconds(self) -> float:
        """The budget's; inf where it names no time."""
        return self.budget.hours * 3600 or math.inf

    def left(self) -> float:
        """Seconds for training."""
        reserve = min(RESERVE * self.seconds, MOST_RESERVE) if math.isfinite(self.seconds) else 0.0
        folds = 0.5 * self.seconds if self.asked.folds and math.isfinite(self.seconds) else 0.0
        return self.seconds - self.claim.note() - reserve - folds - self.fixed

    def _trials_left(self) -> bool:
        trials = sum(len(search.study.trials()) for search in self.searches)
        return not self.budget.trials or trials < self.budget.trials

    # Training

    def _baselines(self) -> None:
        """Classical models, on the same records; what goes wrong with them is told, and stops nothing."""
        begun, experiment = time.monotonic(), self.searches[0].experiment
        limit = BASELINES * self.seconds if math.isfinite(self.seconds) else 0.0
        train = experiment.task.source("train")
        try:
            with tempfile.TemporaryDirectory() as folder:
                task = prepare(pretrained.adopt(experiment), Path(folder), train).task
                measured = measure(task, train, task.source("validation"), limit)
        except TooSlow:
            say(f"baselines: given up after {lasted(limit)}")
            measured = []
        except InputError as error:
            say(f"baselines: not measured: {error}")
            measured = []
        self.fixed = time.monotonic() - begun  # that of the strongest is measured on the test split, too
        for one in measured:
            about = one.chosen if one.fitted == one.of else f"{one.chosen}; {one.fitted:,} of {one.of:,} records"
            self.baselines.append(Tried(f"baseline: {one.name}", "baseline", one.scores, one.seconds, "", about))
            say(f"baseline, {one.name}: {self.metric} {one.scores.values().get(self.metric, math.nan):.6g}")

    def _as_they_are(self) -> None:
        """Each recipe once, with its own settings; those that share the time are given equal parts of what is left."""
        for place, search in enumerate(self.searches):
            done = [trial for trial in search.study.trials() if trial.state != "running"]
            for trial in done:
                self._note(search, trial)
            if done:
                continue
            if place and (self.left() <= 0 or not self._trials_left()):
                say(f"{search.experiment.name}: not tried, since the budget is spent")
                continue
            self._advance(search, self.left() / (len(self.searches) - place))

    def _others(self) -> None:
        """Other settings of the recipe that leads, as long as the budget lasts."""
        repeated = 0
        while repeated < REPEATED and self._trials_left():
            leading = self._leading()
            if leading is None:
                return
            search, trial = leading
            if not self.goal.open and self.goal.met(trial.value):
                say(f"{self.goal}: met by {self._named(search, trial)}")
                return
            if self.left() < max(WORTH * locks.seconds(search.at(trial.number)), 1.0):
                return
            repeated = repeated + 1 if self._advance(search, self.left()).about.get("reason") else 0

    def _leading(self) -> "tuple[Search, Trial] | None":
        """The best trial so far, and its search."""
        found = [(search, trial) for search in self.searches if (trial := search.best(search.study.trials()))]
        sign = -1 if self.goal.lower else 1
        return max(found, key=lambda pair: sign * pair[1].value, default=None)

    def _advance(self, search: Search, seconds: float) -> "Trial":
        """One more trial of a search, which ends after so many seconds at its best checkpoint."""
        search.until = time.monotonic() + max(seconds, 1.0)
        trial = search.advance()
        if trial is None:
            raise InputError(f'--run-dir "{search.folder}"', "is being worked on by another process.", fix="wait")
        if trial.number in search.cut:
            request.note_cut(self.folder, self._folder(search, trial))
            say(f"  {self._named(search, trial)} was ended by the budget, at its best checkpoint")
        self._note(search, trial)
        say(f"  {lasted(self.claim.note(0.0))} spent{self._of_time()}")
        return trial

    def _of_time(self) -> str:
        return f" of {lasted(self.seconds)}" if math.isfinite(self.seconds) else ""

    def _note(self, search: Search, trial: "Trial") -> None:
        """Measure a trial on validation, record by record."""
        folder, name = self._folder(search, trial), self._named(search, trial)
        about = shown(trial.values) if trial.number else "its own settings"
        seconds = locks.seconds(search.at(trial.number))
        if trial.state != "complete":
            reason = str(trial.about.get("reason", trial.state))
            self.tried[folder] = Tried(name, "unfinished", None, seconds, "", f"{about}; {reason}")
            return
        if trial.about.get("reason"):  # the settings of an earlier one
            return
        begun = time.monotonic()
        opened = verdict.opened(search.experiment, search.at(trial.number), trial.values, {})
        averages = type(opened.experiment.task).averaged is not Task.averaged
        answers = opened.collect() if averages else Answers(opened.scores("validation"), {}, {})
        self.fixed = max(self.fixed, 2 * (time.monotonic() - begun))  # the test split and an ensemble take as long
        self.answers[folder] = opened, answers
        if folder in request.cut(self.folder):
            about += "; ended by the budget"
        self.tried[folder] = Tried(name, "model", answers.scores, seconds, folder, about)

    def _folder(self, search: Search, trial: "Trial") -> str:
        return str(search.at(trial.number).relative_to(self.folder))

    def _named(self, search: Search, trial: "Trial") -> str:
        name = search.experiment.name
        return f"{name}, trial {trial.number}" if trial.number else name

    # The end

    def _decide(self) -> Leaderboard:
        """The leaderboard, with the one look at the test split."""
        metric, lower = self.goal.name, self.goal.lower
        models = [one for one in self.tried.values() if one.kind == "model"]
        if not models:
            reasons = "; ".join(f"{one.name}: {one.about}" for one in self.tried.values())
            raise RunError(f"no training came to its end.\n  found: {reasons}\n  try:   a larger --budget")
        single = best(models, metric, lower)
        kept, why = single, "it is the best on validation"
        joined = self._folded(single) if self.asked.folds else self._ensemble(single)
        if joined is not None:
            self.tried[joined.folder] = joined
            if self.asked.folds:
                kept, why = joined, f"its settings are the best on validation ({single.name})"
            elif best([single, joined], metric, lower) is joined:
                kept, why = joined, "the mean of its members is better on validation than each of them"
        kept_run.copy(self.folder / kept.folder, self.folder / BEST)
        entries = ranked([*self.tried.values(), *self.baselines], metric, lower)
        records = len(single.scores or ())
        board = Leaderboard(
            target=self.asked.target or "label",
            metric=metric,
            lower=lower,
            split="validation",
            records=records,
            entries=entries,
            chosen=kept.name,
            why=why,
            seconds=0.0,
            budget=self.seconds if math.isfinite(self.seconds) else 0.0,
            best=BEST,
        )
        board = self._tested(board)
        board = dataclasses.replace(board, seconds=round(self.claim.note(0.0), 3))
        leaderboard.write(board, self.folder / BEST)
        leaderboard.write(board, self.folder)
        return board

    def _ensemble(self, single: Tried) -> Tried | None:
        """The mean of several runs, where that is better than the best one; the selection looks at validation."""
        if self.asked.members == 1:
            return None
        lead = self.answers[single.folder]
        sign = 1 if self.goal.lower else -1
        fellows = [pair for pair in self.answers.values() if pair is lead or ensembles.compatible(lead, pair)]
        fellows.sort(key=lambda pair: sign * pair[1].scores.values().get(self.goal.name, math.inf))
        fellows = fellows[:CONSIDERED]
        if len(fellows) < 2 or not lead[1].outputs:
            return None
        task, metric, lower = lead[0].experiment.task, self.goal.name, self.goal.lower
        shares = ensembles.select(task, [answers for _, answers in fellows], metric, lower, self.asked.members)
        picked = [(pair[0], share) for pair, share in zip(fellows, shares, strict=True) if share]
        if len(picked) < 2:
            return None
        folder = self.folder / "ensemble"
        runs, shares = [one for one, _ in picked], [share for _, share in picked]
        written = ensembles.write(runs, shares, folder, lead[0].experiment.task.data)
        names = {str(self.folder / one.folder): one for one in self.tried.values()}
        about = ", ".join(f"{share:.0%} {names[str(one.folder)].name}" for one, share in picked)
        seconds = sum(names[str(one.folder)].seconds for one in runs)
        return Tried("ensemble", "ensemble", written.scores("validation"), seconds, "ensemble", about)

    def _folded(self, single: Tried) -> Tried:
        """The best settings trained on folds of training and validation, and the mean of these models."""
        lead, count = self.answers[single.folder][0], self.asked.folds
        data, begun, runs, answers = lead.experiment.task.data, time.monotonic(), [], []
        for place in range(count):
            say(f"fold {place + 1} of {count}")
            share = (self.left() + 0.5 * self.seconds) / (count - place) if math.isfinite(self.seconds) else math.inf
            until = time.monotonic() + max(share, 1.0)
            fold = Fold(data=data, fold=place, folds=count)
            experiment = ensembles.of_folds(lead.experiment, {"task.data": fold, "goal": None})
            trained = verbs.train(
                experiment,
                self.folder / "folds" / str(place),
                resume=True,
                enough=lambda step, until=until: time.monotonic() > until,  # type: ignore[misc]
                measure_baseline=False,
            )
            runs.append(trained)
            answers.append(trained.collect())
        held_out = ensembles.joined_answers(answers)
        ensembles.write(runs, [1 / count] * count, self.folder / "ensemble", data, held_out)
        about = f"{single.about}; each record is answered by the model that was not trained on it"
        name = f"{single.name}, mean of {count} folds"
        return Tried(name, "ensemble", held_out.scores, time.monotonic() - begun, "ensemble", about)

    def _tested(self, board: Leaderboard) -> Leaderboard:
        """With the chosen run's metrics on the test split, and those of the strongest baseline beside it."""
        folder = self.folder / BEST
        chosen = run.open(folder, packages(self.searches[0].experiment))
        entry = next(entry for entry in board.entries if entry.name == board.chosen)
        metrics = {f"validation/{name}": interval.value for name, interval in entry.metrics.items()}
        try:
            board = kept_run.with_test(board, chosen, bool(self.baselines))
        except InputError as error:
            board = dataclasses.replace(board, why_no_test=f"{error.where}: {error.problem}")
        metrics |= {f"test/{name}": interval.value for name, interval in board.test.items()}
        results.write_result(folder, "fit", chosen.experiment.name, metrics, self.claim.note(0.0), 0.0)
        return board
