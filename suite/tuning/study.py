"""The trials of a search in a database, by Optuna: what was proposed, what came of it, what to try next.

What is proposed for a trial depends on the seed, its number and the trials before it, and on nothing that a process
remembers; so does the decision to end one early. A search that is killed anywhere, and goes on, is therefore the one
that was left alone.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from suite.errors import InputError, first_line
from suite.experiment.goal import Choice, Goal, Search
from suite.tuning.space import Dimension

Direction = Literal["maximize", "minimize"]
Lost = optuna.exceptions.StorageInternalError
"""The database answers no more."""
STARTUP = 5
"""Trials that are drawn at random, the recipe's own among them, before the estimator proposes."""
MIDDLE = 3
"""Trials that must have come to their end before others are compared with the middle one of them."""
FACTOR = 3
"""Successive halving keeps one trial in so many at each rung, and rungs are so many times further apart."""
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
"""End of a trial; any other state is running."""


@dataclass(frozen=True)
class Trial:
    """What is known of a trial.

    Attributes:
        number: from 0, the recipe's own.
        state: running, complete, pruned or failed.
        value: the goal's metric on validation: of the weights that its run would serve, or of the last evaluation where
            it was pruned; nan where there is none.
        values: field -> value, of each field that is searched.
        evaluations: step -> the goal's metric on validation.
        about: what was noted at its end: metrics, reason, and refused where its values were.
    """

    number: int
    state: str
    value: float
    values: dict[str, Any]
    evaluations: dict[int, float]
    about: dict[str, Any]


class Proposals(BaseSampler):
    """Tree-structured Parzen estimators, seeded anew for each trial and each field of it."""

    def __init__(self, seed: int, space: Mapping[str, BaseDistribution]):
        self._seed, self._space = seed, dict(space)

    def _estimator(self, trial: FrozenTrial, name: str = "") -> TPESampler:
        entropy = np.random.SeedSequence([self._seed, trial.number, zlib.crc32(name.encode())])
        return TPESampler(seed=int(entropy.generate_state(1)[0]), n_startup_trials=STARTUP)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, also where the first trial lies outside it."""
        return {name: part for name, part in self._space.items() if not part.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """All fields together; none before there are enough trials."""
        return self._estimator(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """One field, at random."""
        estimator = self._estimator(trial, param_name)
        return estimator.sample_independent(study, trial, param_name, param_distribution)


class Study:
    """A search's trials. Only one process at a time may call ``begin``.

    Args:
        url: the database.
        name: of the study in it; it is made where there is none.
        dimensions: what is searched.
        goal: what decides which trial is better.
        search: the seed and what ends trials early.

    Raises:
        InputError: there is no such database.
    """

    def __init__(self, url: str, name: str, dimensions: Sequence[Dimension], goal: Goal, search: Search):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._dimensions, self._pruner = tuple(dimensions), search.pruner
        self._space = {part.field: _distribution(part) for part in dimensions}
        self._direction: Direction = "minimize" if goal.lower else "maximize"
        self._study = optuna.create_study(
            storage=_opened(url),
            study_name=name,
            direction=self._direction,
            load_if_exists=True,
            sampler=Proposals(search.seed, self._space),
            pruner=optuna.pruners.NopPruner(),
        )

    def begin(self) -> int:
        """The number of a new trial, whose values are chosen. The first has the recipe's own."""
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial({part.field: part.stored for part in self._dimensions if part.inside})
        trial = self._study.ask()
        self._propose(trial)
        return trial.number

    def take_up(self, number: int) -> None:
        """Choose what a process that died may have left open of a trial's values."""
        self._propose(self._trial(number))

    def _propose(self, trial: optuna.Trial) -> None:
        for part in self._dimensions:
            if trial.number or part.inside:
                _suggest(trial, part)

    def trials(self) -> list[Trial]:
        """All trials that have begun, by number."""
        trials = self._study.get_trials(deepcopy=False)
        return [self._plain(trial) for trial in trials if trial.state != TrialState.WAITING]

    def _plain(self, trial: FrozenTrial) -> Trial:
        values = {
            part.field: part.read(trial.params[part.field]) if part.field in trial.params else part.own
            for part in self._dimensions
        }
        value = math.nan if trial.value is None else trial.value
        return Trial(
            trial.number,
            STATES.get(trial.state, "running"),
            value,
            values,
            dict(sorted(trial.intermediate_values.items())),
            dict(trial.user_attrs),
        )

    def report(self, number: int, step: int, value: float) -> None:
        """Note the goal's metric after ``step`` steps; what was noted of that step before stays."""
        trial = self._trial(number)
        if step not in self._study.get_trials(deepcopy=False)[number].intermediate_values:
            trial.report(value, step)

    def falls_behind(self, number: int) -> bool:
        """Whether a trial should end, by what all have reported. The first never should."""
        trials = self._study.get_trials(deepcopy=False)
        whole = next((len(trial.intermediate_values) for trial in trials if trial.state == TrialState.COMPLETE), 0)
        if number == 0 or not whole or self._pruner == "none":
            return False
        return _judged(trials, number, self._direction, _pruner(self._pruner, whole))

    def end(self, number: int, state: str, value: float | None, about: Mapping[str, Any]) -> None:
        """A running trial is complete, with its value; or it is pruned or failed."""
        trial = self._trial(number)
        for name, what in about.items():
            trial.set_user_attr(name, what)
        self._study.tell(trial, value, next(key for key, name in STATES.items() if name == state))

    def _trial(self, number: int) -> optuna.Trial:
        """A running trial as a process that has not begun it goes on with it."""
        return optuna.Trial(self._study, self._study.get_trials(deepcopy=False)[number]._trial_id)


def storage_url(folder: Path, storage: str) -> str:
    """The address of the database; by default a file in the folder."""
    return storage or f"sqlite:///{(folder / 'study.db').absolute()}"


def without_password(storage: str) -> str:
    """The address of a database as it may be shown.

    Raises:
        InputError: it is no address.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(storage).render_as_string(hide_password=True) if storage else ""
    except ArgumentError:
        raise InputError(
            "flag --storage", "is no address of a database.", fix="--storage postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from None


def _opened(url: str) -> optuna.storages.RDBStorage:
    """Writers of SQLite wait for each other."""
    from sqlalchemy.exc import SQLAlchemyError

    options = {"connect_args": {"timeout": 100}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=options)
    except (SQLAlchemyError, ImportError, RuntimeError) as error:
        reason = first_line(error.__cause__ or error)
        raise InputError(
            "flag --storage",
            "is no database that can be opened.",
            found=reason,
            fix="--storage postgresql://USER:PASSWORD@HOST/DATABASE",
        ) from None


def _distribution(part: Dimension) -> BaseDistribution:
    values = part.values
    if isinstance(values, Choice):
        return CategoricalDistribution(part.labels)
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _suggest(trial: optuna.Trial, part: Dimension) -> None:
    values = part.values
    if isinstance(values, Choice):
        trial.suggest_categorical(part.field, part.labels)
    elif values.whole:
        trial.suggest_int(part.field, int(values.low), int(values.high), log=values.log)
    else:
        trial.suggest_float(part.field, values.low, values.high, log=values.log)


def _pruner(name: str, evaluations: int) -> optuna.pruners.BasePruner:
    """``evaluations``: of a whole training, which are what Hyperband shares out."""
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=MIDDLE)
    return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=evaluations, reduction_factor=FACTOR)


def _judged(
    trials: Sequence[FrozenTrial], number: int, direction: Direction, pruner: optuna.pruners.BasePruner
) -> bool:
    """Whether ``pruner`` ends the trial now.

    Optuna's Hyperband remembers what it has judged, partly in the process and partly in the database, so that a kill
    between the two would change its mind. Here all is judged again, in memory, in the order of the trials; a place is
    that of an evaluation, not its step, so that trials of other batch sizes are compared.
    """
    memory = optuna.create_study(study_name="search", direction=direction, pruner=pruner)
    asked = []
    for trial in trials:
        asked.append(copy := memory.ask())
        values = [value for _, value in sorted(trial.intermediate_values.items())]
        for place, value in enumerate(values, 1):
            copy.report(value, place)
            if trial.number != number or place < len(values):
                copy.should_prune()
        if trial.state.is_finished():
            memory.tell(copy, trial.value if trial.state == TrialState.COMPLETE else None, trial.state)
    return asked[number].should_prune()
