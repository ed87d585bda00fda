"""Target: what is predicted (a number, one of several classes, ordered ones, several labels), learnt from a column."""

import functools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.class_names import MISSING, brief, class_name, class_names, spelled
from suite.data.preprocessing.columns import some_left
from suite.data.preprocessing.label_checks import is_numeric
from suite.data.preprocessing.labels import UNSEEN, class_places, places_of, unseen_class
from suite.data.preprocessing.tabular_values import numbers
from suite.data.preprocessing.target_problem import Judgement, Problem, Stated, are_lists, judge, label_rows
from suite.data.preprocessing.target_scale import LARGEST, Scale, Scaling, usual_scaling
from suite.data.reading import changed
from suite.data.sources.memory import cleaned
from suite.errors import InputError
from suite.runtime import json_files

COLUMN = "of targets"
"""How an error names the column where its name is not known."""
SHOWN = 12
"""Classes that a line counts."""
NO_NUMBER = "correct the record, or take the column for classes: --task.answer.problem classes"


@dataclass(frozen=True, kw_only=True)
class Target(Preprocessor):
    """What is predicted, learnt from the target column of the training split.

    `fit` prints what the column is taken for, why, and the flag that overrules it.
    """

    suffix: ClassVar[str] = ".json"

    column: str = "target"
    """Field of the task that names the column of targets."""
    problem: Literal["auto", "number", "binary", "classes", "ordered", "labels"] = "auto"
    """What is predicted: a number, one of two classes, of several, of several in an order, or several labels a record.
    auto: judged by the training split."""
    order: tuple[str, ...] = ()
    """Of ordered classes: all of them, the lowest first. Empty: numbers by their size."""
    separator: str = ""
    """What parts the labels of one record. Empty: judged; of stated labels, "|" where nothing else shows itself."""
    positive: str = ""
    """Of two classes: the value that is the event, which precision, recall and curves are of. Of more values: that one
    against all others. Empty: 1, true, yes or positive, else the rarer one."""
    scaling: Literal["auto", "standard", "log", "quantile"] = "auto"
    """How a number is learnt: with mean 0 and deviation 1, after a logarithm, or by its normal quantile. auto: the
    logarithm for numbers that are never negative and extremely skewed."""

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Prints what the column is taken for, and writes it to ``path``.

        Raises:
            InputError: the column poses no problem that can be learnt, or not the one that is stated.
        """
        content, lines = self._learn(source, column)
        for line in lines:
            print(line, file=sys.stderr)
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")

    def describe(self, source: Source, column: str) -> str:
        try:
            return "\n".join(self._learn(source, column)[1])
        except InputError as error:
            return str(error)

    def judged(self, source: Source, column: str) -> Judgement:
        """What the column of a training split is taken for.

        Raises:
            InputError: see ``fit``.
        """
        return self._judged(with_targets(source, column), column)

    def _judged(self, source: Source, column: str) -> Judgement:
        """See ``judged``; of records that all have a target."""
        stated = Stated(self.problem, tuple(self.order), self.separator, self.positive)
        return judge(source, column, stated, f"--task.{self.column}")

    def _learn(self, source: Source, column: str) -> tuple[dict[str, Any], list[str]]:
        """What is stored, and what is said of it."""
        source = with_targets(source, column)
        judged = self._judged(source, column)
        style = source.styles.get(column, "")
        content: dict[str, Any] = {
            "problem": judged.problem,
            "names": list(judged.names),
            "counts": list(judged.counts),
            "records": len(source),
            "indexed": judged.indexed,
            "separator": judged.separator,
            "style": style,
            "rest": judged.rest,
        }
        if judged.problem != "number":
            return content, [_said(judged, column, len(source))]
        values = numbers(source.column(column, np.arange(len(source))), column, style, NO_NUMBER)
        values = values[np.isfinite(values)]
        usual, why = usual_scaling(values)
        scaling: Scaling = usual if self.scaling == "auto" else self.scaling
        scale = Scale.fit(values, scaling)
        content["scale"] = scale.stored
        lines = [
            f"column {column}: a number from {scale.low:.6g} to {scale.high:.6g} ({judged.why}); other problems: "
            f"{judged.overrule}"
        ]
        if self.scaling == "auto" and why:
            lines.append(f"column {column}: learnt on a logarithmic scale, since {why}: --task.answer.scaling standard")
        return content, lines

    @property
    def kind(self) -> Problem:
        """The problem."""
        return _learnt(self.file, changed(self.file)).problem

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes or labels, by output of the answer; of ordered classes, the lowest first; of two, the
        event last; none of a number."""
        return _learnt(self.file, changed(self.file)).names

    @property
    def counts(self) -> tuple[int, ...]:
        """Training records of each of ``names``."""
        return _learnt(self.file, changed(self.file)).counts

    @property
    def records(self) -> int:
        """Training records with a target."""
        return _learnt(self.file, changed(self.file)).records

    @property
    def scale(self) -> Scale:
        """What a number is learnt as.

        Raises:
            InputError: the target is no number.
        """
        scale = _learnt(self.file, changed(self.file)).scale
        if scale is None:
            raise InputError("field task.answer", "no number is predicted.", found=self.kind)
        return scale

    @property
    def outputs(self) -> list[str]:
        """Names of the model's outputs, where each is of a class: those of several classes, and of labels."""
        return list(self.names) if self.kind in ("classes", "labels") else []

    @property
    def width(self) -> int:
        """Outputs of the model: one of a number and of two classes, one fewer than ordered classes (whether a class is
        passed, of each but the last), one a class or label otherwise."""
        kind, count = self.kind, len(self.names)
        return {"number": 1, "binary": 1, "ordered": count - 1}.get(kind, count)

    def sizes(self) -> dict[str, int]:
        """``outputs``: see ``width``."""
        return {"outputs": self.width}

    def encode(self, values: Sequence[Any] | np.ndarray, held_out: bool = False) -> np.ndarray:
        """Targets of b records as a model learns them.

        Args:
            values: the column.
            held_out: whether they are of records that nothing is learnt from: a class that training does not have is
                then `UNSEEN`, which no answer can be.

        Returns:
            Of a number float32 (b,), scaled; of classes int32 (b,), the place in ``names``; of labels float32 (b, c), 1
            for those that a record has.

        Raises:
            InputError: a value that is no number, or no class of the training split, unless ``held_out``.
        """
        learnt = _learnt(self.file, changed(self.file))
        if learnt.problem == "number":
            return self.scale.scaled(numbers(values, COLUMN, learnt.style, NO_NUMBER))
        if learnt.problem == "labels":
            return self._labels(values, learnt, held_out)
        places = class_places(values, len(learnt.names) if learnt.indexed else 0, learnt.place)
        if not held_out and len(unseen := np.flatnonzero(places == UNSEEN)):
            raise self.unseen(class_name(values[unseen[0]]))
        return places

    def _labels(self, values: Sequence[Any] | np.ndarray, learnt: "_Learnt", held_out: bool) -> np.ndarray:
        present = np.zeros((len(values), len(learnt.names)), np.float32)
        for row, names in enumerate(label_rows(values, learnt.separator)):
            for name in names:
                place = learnt.place(name)
                if place != UNSEEN:
                    present[row, place] = 1
                elif not held_out:
                    raise self.unseen(name)
        return present

    def unseen_names(self, names: Sequence[str]) -> list[str]:
        """Those of the names that are no class, or label, of the training split."""
        learnt = _learnt(self.file, changed(self.file))
        return [name for name in names if learnt.place(name) == UNSEEN]

    def unseen(self, value: str) -> InputError:
        """The error that a target is no class of the training split."""
        return unseen_class(value, self.names, f"column {COLUMN}")

    def separated(self, values: Any) -> list[list[str]]:
        """The labels of each record as the column writes them."""
        return label_rows(values, _learnt(self.file, changed(self.file)).separator)

    def with_targets(self, source: Source, column: str) -> Source:
        """The records that have a target; the others are dropped and counted.

        Raises:
            InputError: no record has one.
        """
        number = bool(self.file) and self.kind == "number"
        return with_targets(source, column, _learnt(self.file, changed(self.file)).style if number else None)


def with_targets(source: Source, column: str, style: str | None = None) -> Source:
    """The records that have a target; the others are dropped and counted.

    Args:
        source: records.
        column: of targets.
        style: of numbers that are written as texts; None where texts are classes.

    Raises:
        InputError: no record has a target.
    """
    if source.schema.get(column) not in ("text", "float"):  # integers cannot be missing
        return source
    values = source.column(column, np.arange(len(source)))
    if are_lists(values):
        missing = np.array([value is None for value in values], bool)
        return some_left(cleaned(source, {"no target": missing}), column, "no record has a target.")
    if is_numeric(values) or style is not None:
        array = _as_floats(values) if is_numeric(values) else numbers(values, column, style or "", NO_NUMBER)
        faults = {
            "no target": np.isnan(array),
            "an infinite target": np.isinf(array),
            f"a target beyond {LARGEST:g}": np.abs(array) > LARGEST,
        }
    else:
        faults = {"no target": np.array([name == MISSING for name in class_names(values)], bool)}
    return some_left(cleaned(source, faults), column, "no record has a target.")


def _as_floats(values: Any) -> np.ndarray:
    """Numbers (n,) float64, nan where one is missing; infinite ones stay."""
    if isinstance(values, np.ndarray):
        return values.astype(np.float64)
    return np.array([np.nan if value is None else _float(value) for value in values], np.float64)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _said(judged: Judgement, column: str, records: int) -> str:
    """What a column of classes or labels is taken for, a line."""
    if judged.problem == "binary":
        (other, event), (rest, events) = judged.names, judged.counts
        turned = f"; {judged.overrule} turns it round" if judged.overrule else ""
        return (
            f"column {column}: two classes, {brief(event)} ({events:,} records) against {brief(other)} ({rest:,}); "
            f"{brief(event)} is the event, {judged.why}{turned}"
        )
    order = range(len(judged.names))
    if judged.problem == "labels":
        order = sorted(order, key=lambda place: -judged.counts[place])  # type: ignore[assignment]
    shown = ", ".join(f"{brief(judged.names[place])} {judged.counts[place]:,}" for place in list(order)[:SHOWN])
    more = f", and {len(judged.names) - SHOWN:,} more" if len(judged.names) > SHOWN else ""
    what = {"labels": "labels, several a record", "ordered": "ordered classes"}.get(judged.problem, "classes")
    why = f" ({judged.why})" if judged.why else ""
    mean = f"; {sum(judged.counts) / max(records, 1):.1f} a record" if judged.problem == "labels" else ""
    other = f"; otherwise: {judged.overrule}" if judged.overrule else ""
    return f"column {column}: {len(judged.names):,} {what}{why}: {shown}{more}{mean}{other}"


@dataclass(frozen=True)
class _Learnt:
    """A fitted file, read."""

    problem: Problem
    names: tuple[str, ...]
    counts: tuple[int, ...]
    records: int
    indexed: bool
    separator: str
    style: str
    rest: bool
    scale: Scale | None
    places: Mapping[str, int]
    aliases: Mapping[str, int]

    def place(self, name: str) -> int:
        """Of a class or label by its name; `UNSEEN` of one that training does not have."""
        place = self.places.get(name, self.aliases.get(spelled(name), UNSEEN))
        return 0 if place == UNSEEN and self.rest and name != MISSING else place


@functools.lru_cache(maxsize=32)
def _learnt(file: str, written: int) -> _Learnt:
    return json_files.load(file, _of_content)


def _of_content(content: Any) -> _Learnt:
    assert content["problem"] in get_args(Problem)
    names = tuple(json_files.texts(content["names"]))
    scale = Scale.read(content["scale"]) if "scale" in content else None
    return _Learnt(
        content["problem"],
        names,
        tuple(content["counts"]),
        content["records"],
        content["indexed"],
        content["separator"],
        content["style"],
        content["rest"],
        scale,
        *places_of(names),
    )
