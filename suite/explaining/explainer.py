"""Explainer: asks a run with parts of a record absent. Dims: n questions, u units."""

import copy
import dataclasses
import functools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from suite.codecs.columns import check_columns
from suite.codecs.explained import divided, explained_names, told
from suite.contracts.batch import Columns, Ragged
from suite.contracts.division import KEPT, Division, fitted
from suite.data.pipeline.padding import pad, padded_lengths
from suite.errors import InputError, closest
from suite.evaluation.evaluate import make_answer
from suite.evaluation.reference import on_devices
from suite.explaining.entries import Entries, find, shapes_of
from suite.explaining.explanation import Subject
from suite.explaining.programs import ANSWERED, CLASS, KEEP, OTHER, Explained
from suite.parallel.layout import Layout
from suite.runs.run import Run

ROWS = 32
"""Questions that are computed together."""


@dataclass(frozen=True)
class Case:
    """One record that is explained.

    Attributes:
        columns: the record, one entry a column.
        division: its units.
        batch: the record encoded, one row.
        labels: array -> the unit of each element as the model is given it, or `KEPT`.
        blank: array -> what stands in its place where all is absent; zeros of those that are not named.
        subject: what is explained.
    """

    columns: Columns
    division: Division
    batch: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    blank: Mapping[str, np.ndarray]
    subject: Subject

    @property
    def count(self) -> int:
        """How many units there are."""
        return len(self.division.units)


class Explainer:
    """Explains answers of a run's ``predict``.

    Args:
        run: opened, with its weights.
    """

    def __init__(self, run: Run):
        self.run = run = _exact(run)
        self._codec = run.codec
        self._explained: Explained | None = None
        self._programs: dict[tuple[str, str], Any] = {}
        self._shapes: dict[tuple[Any, ...], dict[str, tuple[int, ...]]] = {}
        self.weights = run.variables
        self.kind = ""

    def case(self, columns: Columns, chosen: str = "") -> Case:
        """A record to be explained.

        Args:
            columns: one entry a column.
            chosen: name of the class that is explained; empty: the answered one.

        Raises:
            InputError: a value cannot be read, there is no such class, or the task does not say what is explained.
        """
        columns = self._codec.opened(columns)
        check_columns(self._codec.inputs, columns)
        rows = self._codec.encode(columns)
        batch = self.batch(rows)
        self._check(batch)
        division = divided(self._codec, columns, rows)[0]
        self._prepare(batch, division)
        shapes = self._shapes_of(batch)
        labels = {}
        for name, shape in shapes.items():
            if name in division.labels:
                filled = float(batch[f"{name}_mask"].mean()) if name in division.scaled else 0.0
                labels[name] = fitted(division.labels[name], shape, filled)
        blank = {
            name: self._as_row(row, batch[name].shape[1:])
            for name, row in division.blank.items()
            if row is not None and name in labels
        }
        bare = Case(columns, division, batch, labels, blank, Subject("", "", ANSWERED, 0.0, 0.0))
        place = self._place(chosen)
        whole = self._asked("scores", bare, np.ones((1, bare.count)), place)
        place = int(whole["answered"][0]) if place == ANSWERED else place
        without = self._asked("scores", bare, np.zeros((1, bare.count)), place)
        target, name, scale = told(self._codec, self.kind, place)
        subject = Subject(target, name, place, 0.0, 0.0, scale)
        score, none = (float(subject.read(float(ends["score"][0]))) for ends in (whole, without))
        return dataclasses.replace(bare, subject=dataclasses.replace(subject, score=score, blank=none))

    @property
    def names(self) -> Sequence[str]:
        """Of the classes; empty where there is one number."""
        return explained_names(self._codec)

    def _place(self, chosen: str) -> int:
        if not chosen:
            return ANSWERED
        names = [str(name) for name in self.names]
        if not names:
            problem = "names a class, and this model answers with one number."
            raise InputError("flag --class", problem, found=chosen, fix="the same command without --class")
        if chosen not in names:
            fix = f"--class {shlex.quote(closest(chosen, names) or names[0])}"
            raise InputError("flag --class", f'"{chosen}" is no class.', found=", ".join(names[:20]), fix=fix)
        return names.index(chosen)

    def batch(self, rows: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Encoded rows as the model is given them."""
        count = len(next(iter(v.lengths if isinstance(v, Ragged) else v for v in rows.values())))
        return pad(dict(rows), np.ones(count, bool), padded_lengths(rows, self.run.buckets))

    @staticmethod
    def _as_row(row: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """(1, ...) of the padded shape."""
        whole = np.zeros(shape, row.dtype)
        kept = tuple(slice(min(own, side)) for own, side in zip(row.shape, shape, strict=True))
        whole[kept] = row[kept]
        return whole[None]

    def _check(self, batch: Mapping[str, np.ndarray]) -> None:
        """Finds what kind of number is explained, once, before anything is asked of the record.

        Raises:
            InputError: the task's answers are not explained.
        """
        if self.kind:
            return
        _ = self._reference  # made outside the trace, as it is kept

        def keys(params: Any, state: Any, rows: Any) -> dict[str, Any]:
            from flax import nnx

            return self._run(nnx.merge(self.run.graph, params, state), rows)

        self.kind = next(iter(jax.eval_shape(keys, *self.weights, shapes_of(batch))))

    def _run(self, model: Any, rows: Any) -> dict[str, Any]:
        return dict(self.run.experiment.task.explained(model, rows, self._reference))

    def _prepare(self, batch: Mapping[str, np.ndarray], division: Division) -> None:
        """Finds where the batch enters the model, once."""
        if self._explained is not None:
            return
        entries = find(self.run.graph, self.weights, shapes_of(batch), self._run, tuple(division.labels))
        self._explained = Explained(self.run.experiment.task, entries)

    @property
    def entries(self) -> Entries:
        """Where the batch enters; once there was a case."""
        assert self._explained is not None
        return self._explained.entries

    @functools.cached_property
    def _reference(self) -> Any:
        return on_devices(self.run.reference_arrays)

    def program(self, name: str, path: str = "") -> Any:
        """A function of `Explained`, jitted."""
        assert self._explained is not None
        if (name, path) not in self._programs:
            function = getattr(self._explained, name)
            function = function(path) if path else function
            self._programs[name, path] = make_answer(self.run.graph, function, Layout(portable=True))
        return self._programs[name, path]

    def with_weights(self, params: Any, state: Any) -> "Explainer":
        """The same programs with other weights; once there was a case."""
        other = copy.copy(self)
        other.weights = (params, state)
        return other

    def again(self, case: Case) -> Case:
        """A case of the same class with these weights."""
        ends = self.scores(case, np.stack([np.ones(case.count), np.zeros(case.count)]))
        subject = dataclasses.replace(case.subject, score=float(ends[0]), blank=float(ends[1]))
        return dataclasses.replace(case, subject=subject)

    def _shapes_of(self, batch: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
        """Array -> shape of one row of what says how far its elements are present."""
        key = tuple((name, value.shape[1:]) for name, value in batch.items())
        if key not in self._shapes:
            made = jax.eval_shape(self.program("shapes"), *self.weights, dict(batch), self._reference)
            self._shapes[key] = {name: tuple(one.shape[1:]) for name, one in made.items()}
        return self._shapes[key]

    def scores(self, case: Case, present: np.ndarray, others: Sequence[Case] | None = None) -> np.ndarray:
        """The explained number (n,) with some units absent.

        Args:
            case: the record.
            present: (n, u), 1 where a unit is there and 0 where it is absent.
            others: n records whose values stand in the place of what is absent; None: the blank.
        """
        outputs = self._asked("scores", case, np.asarray(present, np.float32), case.subject.place, others)
        return np.asarray(case.subject.read(outputs["score"].astype(np.float64)))

    def gradients(self, case: Case, places: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Array -> derivatives (n, ...) by how far each element is present, at places (n,) on the way from the blank,
        0, to the record, 1; and the scores there (n,)."""
        places = np.asarray(places, np.float32)

        def keep(rows: np.ndarray) -> dict[str, np.ndarray]:
            return {
                name: np.broadcast_to(places[rows].reshape(-1, *(1 for _ in one.shape)), (len(rows), *one.shape))
                for name, one in case.labels.items()
            }

        outputs = self._computed("gradients", case, len(places), keep, case.subject.place)
        factor = case.subject.scale.factor if case.subject.scale else 1.0
        slopes = {name: factor * outputs[f"gradient_{name}"].astype(np.float64) for name in case.labels}
        return slopes, np.asarray(case.subject.read(outputs["score"].astype(np.float64)))

    def inside(self, case: Case, name: str, path: str = "") -> dict[str, np.ndarray]:
        """What a program on the record as it is says, such as ``attention``."""
        batch = {**case.batch, CLASS: np.full(1, case.subject.place, np.int32)}
        outputs = jax.device_get(self.program(name, path)(*self.weights, batch, self._reference))
        return {key: np.asarray(value)[0] for key, value in outputs.items()}

    def _asked(
        self, name: str, case: Case, present: np.ndarray, place: int, others: Sequence[Case] | None = None
    ) -> dict[str, np.ndarray]:
        present = np.asarray(present, np.float32)

        def keep(rows: np.ndarray) -> dict[str, np.ndarray]:
            return {
                array: np.where(labels == KEPT, np.float32(1), present[rows][:, np.maximum(labels, 0)])
                for array, labels in case.labels.items()
            }

        return self._computed(name, case, len(present), keep, place, others)

    def _computed(
        self,
        name: str,
        case: Case,
        count: int,
        keep: Callable[[np.ndarray], Mapping[str, np.ndarray]],
        place: int,
        others: Sequence[Case] | None = None,
    ) -> dict[str, np.ndarray]:
        """Outputs of a program for ``count`` questions, each array (n, ...); ``keep`` says of some of them how far each
        element is present."""
        function, parts = self.program(name), []
        fixed = {key: np.repeat(value, ROWS, 0) for key, value in case.batch.items()}
        fixed[CLASS] = np.full(ROWS, place, np.int32)
        if others is None:
            fixed |= {f"{OTHER}{key}": np.repeat(row, ROWS, 0) for key, row in case.blank.items()}
        for start in range(0, count, ROWS):
            rows = np.minimum(np.arange(start, start + ROWS), count - 1)  # the last one again fills the batch
            batch = {**fixed, **{f"{KEEP}{key}": value for key, value in keep(rows).items()}}
            if others is not None:
                batch |= _of_others(case, [others[row] for row in rows])
            outputs = jax.device_get(function(*self.weights, batch, self._reference))
            parts.append({key: np.asarray(value)[: count - start] for key, value in outputs.items()})
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _exact(run: Run) -> Run:
    """The run with operands of 32 bits: derivatives of rounded numbers are not those of the score."""
    if run.experiment.precision.compute == "float32":
        return run
    return run.in_float32


def _of_others(case: Case, others: Sequence[Case]) -> dict[str, np.ndarray]:
    """The arrays of other records, cut or filled up to the shape of the record's own."""
    rows: dict[str, np.ndarray] = {}
    for name in case.labels:
        shape = case.batch[name].shape[1:]
        rows[f"{OTHER}{name}"] = np.concatenate([Explainer._as_row(other.batch[name][0], shape) for other in others])
    return rows
