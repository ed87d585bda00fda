"""Goals: several labels of a record that one model predicts, each an event or a number, learnt from their columns.

Dims: b records, g goals.
"""

import functools
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.contracts.batch import Columns
from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data import written
from suite.data.preprocessing.decision import Decision
from suite.data.preprocessing.tabular_values import FALSE, TRUE, category, clicks, event, listed_values, numbers, texts
from suite.data.preprocessing.target_scale import Scale, usual_scaling
from suite.data.reading import changed
from suite.errors import InputError, closest
from suite.runtime import json_files


@dataclass(frozen=True)
class Goal:
    """One of several labels.

    Attributes:
        name: of its column.
        records: training records that have the label.
        mean: of the training labels: of an event its frequency, of a number its mean on the scale that is learnt, 0.
        positive: the value that is the event; empty: 1, true or yes.
        style: how texts write the numbers, of `suite.data.written.STYLES`.
        scale: of a number; None of an event.
    """

    name: str
    records: int
    mean: float
    positive: str = ""
    style: str = ""
    scale: Scale | None = None

    @property
    def is_event(self) -> bool:
        """Whether the label says that something happened; otherwise it is a number."""
        return self.scale is None

    def read(self, values: Any) -> np.ndarray:
        """Labels float64 (b,), nan where one is missing: 0 or 1 of an event, the number itself otherwise.

        Raises:
            InputError: a value that is neither.
        """
        if self.is_event:
            try:
                return clicks(values, self.name, self.positive).astype(np.float64)
            except InputError as error:
                raise InputError(
                    error.where,
                    "is an event, and holds a label that is neither 1 nor 0.",
                    found=error.found,
                    fix="correct the record",
                ) from None
        return numbers(values, self.name, self.style, "correct the record")

    def encode(self, values: Any) -> np.ndarray:
        """Labels float32 (b,) as a model learns them, nan where one is missing."""
        read = self.read(values)
        return (read if self.scale is None else self.scale.scaled(read, np.float64)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Goals(Preprocessor):
    """What the labels are, learnt from their columns of the training split.

    ``fit`` prints what each is taken for, and how many records have it.
    """

    suffix: ClassVar[str] = ".json"
    stacks: ClassVar[bool] = False

    column: str = "labels"
    """Field of the task that names the columns of labels."""
    positive: tuple[str, ...] = ()
    """``COLUMN=VALUE``: the value of a label that is the event, every other being none. Else 1, true or yes is the
    event against 0, false or no, and other numbers are learnt as numbers."""
    funnel: tuple[str, ...] = ()
    """Labels of events that can only happen one after the other, such as a click, then a conversion: where an earlier
    one did not happen, the later ones did not. Their model is of each after the one before it, and learns its
    probability over all records (ESMM)."""

    def fit(self, source: Source, column: str | tuple[str, ...], path: Path) -> None:
        """Prints what the labels are, and writes it to ``path``.

        Raises:
            InputError: a label is neither an event nor a number, or has nothing to tell apart.
        """
        goals, lines = self._learn(source, (column,) if isinstance(column, str) else column)
        for line in lines:
            print(line, file=sys.stderr)
        stored = [{**vars(goal), "scale": goal.scale and goal.scale.stored} for goal in goals]
        path.write_text(json.dumps({"goals": stored, "records": len(source)}, ensure_ascii=False), encoding="utf-8")

    def describe(self, source: Source, column: str | tuple[str, ...]) -> str:
        try:
            return "\n".join(self._learn(source, (column,) if isinstance(column, str) else column)[1])
        except InputError as error:
            return str(error)

    def _learn(self, source: Source, names: Sequence[str]) -> tuple[list[Goal], list[str]]:
        """The goals, and what is said of them, a line each."""
        events = self._positives(names)
        columns = {name: source.column(name, np.arange(len(source))) for name in names}
        goals = [
            _judged(name, values, events.get(name, ""), source.styles.get(name, "")) for name, values in columns.items()
        ]
        self._check_funnel(goals)
        labels = np.stack([goal.read(columns[goal.name]) for goal in goals], 1)
        given = ~np.isnan(labels)
        contradicting = self._follow(labels, [goal.name for goal in goals])
        lines = []
        for place, goal in enumerate(goals):
            known = labels[:, place][~np.isnan(labels[:, place])]
            goals[place] = replace(
                goal, records=len(known), mean=float(known.mean()) if goal.is_event and len(known) else 0.0
            )
            lines.append(_told(goals[place], known, len(source), int(given[:, place].sum())))
            if count := contradicting.get(goal.name, 0):
                lines.append(
                    f"column {goal.name}: {count:,} records have it without what comes before it, which counts as none "
                    "(task.goals.funnel says what comes before what)"
                )
            if not len(known):
                fix = "name another label column, or take it out of --task.labels"
                raise InputError(f"column {goal.name}", "no training record has this label.", fix=fix)
            if goal.is_event and not 0 < known.sum() < len(known):
                every = (
                    f"each of the {len(known):,} training records with it is {'an event' if known.any() else 'none'}"
                )
                fix = "name another label column, or add records of the other kind"
                raise InputError(f"column {goal.name}", f"{every}: there is nothing to tell apart.", fix=fix)
        return goals, lines

    def _positives(self, names: Sequence[str]) -> dict[str, str]:
        """Label -> the value that is its event.

        Raises:
            InputError: something else than a label and a value.
        """
        stated = {}
        for entry in self.positive:
            name = max((name for name in names if entry.startswith(f"{name}=")), key=len, default="")
            if not name:
                problem = "is a label and the value that is its event, as COLUMN=VALUE."
                fix = shlex.join(["--task.goals.positive", f"{names[0]}={entry.rpartition('=')[2] or 'yes'}"])
                raise InputError("field task.goals.positive", problem, found=entry, fix=fix)
            stated[name] = entry[len(name) + 1 :]
        return stated

    def _check_funnel(self, goals: Sequence[Goal]) -> None:
        known = [goal.name for goal in goals if goal.is_event]
        wrong = [name for name in self.funnel if name not in known]
        if wrong or len(self.funnel) == 1 or len({*self.funnel}) < len(self.funnel):
            meant = list(dict.fromkeys(name if name in known else closest(name, known) or "" for name in self.funnel))
            meant = meant if len(meant) > 1 and all(meant) else known
            raise InputError(
                "field task.goals.funnel",
                "names at least two different labels that are events, the earlier one first.",
                found=" ".join(self.funnel),
                fix=shlex.join(["--task.goals.funnel", *meant]) if len(meant) > 1 else "--task.goals.funnel",
            )

    def _follow(self, labels: np.ndarray, names: Sequence[str]) -> dict[str, int]:
        """Make the labels (b, g) of a funnel follow from each other, in place: what comes before it did not happen, so
        it did not either. Returns label -> records that said otherwise."""
        contradicting = {}
        places = [names.index(name) for name in self.funnel]
        for before, after in zip(places, places[1:], strict=False):
            never = labels[:, before] == 0
            contradicting[names[after]] = int((labels[never, after] == 1).sum())
            labels[never, after] = 0
            labels[np.isnan(labels[:, before]), after] = np.nan  # whether it could happen is not known
        return contradicting

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The labels, in the order of the model's outputs."""
        return _learnt(self.file, changed(self.file))[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(goal.name for goal in self.goals)

    @property
    def records(self) -> int:
        """Training records."""
        return _learnt(self.file, changed(self.file))[1]

    @property
    def events(self) -> np.ndarray:
        """(g,) bool, which goals are events."""
        return np.array([goal.is_event for goal in self.goals])

    @property
    def chain(self) -> tuple[int, ...]:
        """Places of the labels of the funnel, the earliest first."""
        return tuple(self.names.index(name) for name in self.funnel)

    @property
    def steps(self) -> tuple[tuple[str, int, int], ...]:
        """Of each event of the funnel but the first: what it is called where only records are meant in which the one
        before it happened, the place of that one, and its own."""
        pairs = zip(self.chain, self.chain[1:], strict=False)
        return tuple((f"{self.names[place]}_after_{self.names[before]}", before, place) for before, place in pairs)

    @property
    def outputs(self) -> list[str]:
        """Names of the model's outputs."""
        return list(self.names)

    def sizes(self) -> dict[str, int]:
        """``outputs``: the goals."""
        return {"outputs": len(self.goals)}

    def encode(self, columns: Columns) -> dict[str, np.ndarray]:
        """``labels`` float32 (b, g), 0 where one is missing, and ``known`` bool (b, g), where it is not.

        Raises:
            InputError: a label that is no event, or no number, where it should be one.
        """
        labels = np.stack([goal.encode(columns[goal.name]) for goal in self.goals], 1)
        self._follow(labels, self.names)
        known = ~np.isnan(labels)
        return {"labels": np.where(known, labels, 0).astype(np.float32), "known": known}


def have_none(source: Source, names: Sequence[str]) -> np.ndarray:
    """Which records (n,) have none of these labels."""
    missing = np.ones(len(source), bool)
    for name in names:
        values = source.column(name, np.arange(len(source)))
        if isinstance(values, np.ndarray) and values.dtype.kind in "iufb":
            missing &= ~np.isfinite(values.astype(np.float64))
        else:
            missing &= np.array([category(value, "text") is None for value in values], bool)
    return missing


def shares_after(logits: np.ndarray, before: int, place: int) -> np.ndarray:
    """Probability (b,) float64 of an event of a funnel where the one before it happens, of log odds (b, g) over all
    records."""
    earlier, later = (-np.logaddexp(0, -np.asarray(logits[:, one], np.float64)) for one in (before, place))
    return np.exp(np.minimum(later - earlier, 0))


def _judged(name: str, values: Any, positive: str, style: str) -> Goal:
    """What a column of labels is taken for.

    Raises:
        InputError: it holds neither events nor numbers, or the stated event is no value of it.
    """
    said = [value.lower() for value in texts(values, "text") if value is not None]
    if positive or not {*said} - {*TRUE, *FALSE}:
        if positive and (category(positive, "text") or "").lower() not in said:
            problem = f'"{positive}" is no value of column {name}.'
            fix = shlex.join(["--task.goals.positive", f"{name}={said[0]}"]) if said else "name another column"
            raise InputError("field task.goals.positive", problem, found=listed_values(said), fix=fix)
        return Goal(name, 0, 0.0, positive, style)
    if not isinstance(values, np.ndarray) and any(written.number(value, style) is None for value in said):
        rarest = shlex.split(event(said))[-1]
        problem = (
            "holds labels that are neither 1 nor 0, nor numbers; task.goals.positive names the value that is an event."
        )
        fix = shlex.join(["--task.goals.positive", f"{name}={rarest}"])
        raise InputError(f"column {name}", problem, found=listed_values(said), fix=fix)
    read = numbers(values, name, style)
    read = read[~np.isnan(read)]
    if not len(read) or read.min() == read.max():
        problem = "all training records that have the label have the same number: there is nothing to learn."
        raise InputError(f"column {name}", problem, found=listed_values(said), fix="name another label column")
    return Goal(name, 0, 0.0, "", style, Scale.fit(read, usual_scaling(read)[0]))


def _told(goal: Goal, known: np.ndarray, records: int, given: int) -> str:
    """What a label is taken for and how many records have it."""
    if goal.scale is None:
        what = f"an event{f' ({goal.positive})' if goal.positive else ''}, {goal.mean:.1%} of {len(known):,} records"
    else:
        what = f"a number from {goal.scale.low:.6g} to {goal.scale.high:.6g}, of {len(known):,} records"
        what += ", learnt on a logarithmic scale" if goal.scale.scaling == "log" else ""
    inferred = f"; {len(known) - given:,} of them follow from the funnel" if len(known) > given else ""
    missing = records - len(known)
    return f"column {goal.name}: {what}{inferred}" + (
        f"; {missing:,} records have none, and teach the other labels alone" if missing else ""
    )


@functools.lru_cache(maxsize=32)
def _learnt(file: str, written_at: int) -> tuple[tuple[Goal, ...], int]:
    return json_files.load(file, _of_content)


def _of_content(content: Any) -> tuple[tuple[Goal, ...], int]:
    goals = []
    for stored in content["goals"]:
        scale = None if stored["scale"] is None else Scale.read(stored["scale"])
        goals.append(replace(json_files.built(Goal, {**stored, "scale": None}), scale=scale))
    return tuple(goals), int(content["records"])


@dataclass(frozen=True, kw_only=True)
class GoalDecisions(Decision):
    """A temperature and a threshold of each goal that is an event, learnt on the validation split."""

    @property
    def parts(self) -> Sequence[Mapping[str, Any]]:
        """What was learnt of each goal; empty before the end of training."""
        return self._content.get("goals", ())

    @property
    def temperatures(self) -> np.ndarray | float:
        """What the logits of each goal (g,) are divided by; 1 where nothing was learnt."""
        return np.array([part.get("temperature", 1.0) for part in self.parts]) if self.parts else 1.0

    def threshold_of(self, place: int) -> float:
        """The probability from which the event of a goal is answered."""
        chosen = self.parts[place].get("thresholds") if self.parts else ()
        return float(chosen[0]) if chosen else self.event

    def applied(self, outputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The outputs with calibrated ``logits`` (b, g)."""
        if not self.parts or "logits" not in outputs:
            return outputs
        return {**outputs, "logits": np.asarray(outputs["logits"], np.float64) / self.temperatures}
