"""Tables as model inputs: numbers normalised, categories and lists as row numbers of one stacked table.

Dims: b records, i numbers, s values an example (one a category, several a list), w values of lists.
"""

import functools
import json
import shlex
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from suite.contracts.batch import Columns
from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data import written
from suite.data.preprocessing.tabular_schema import Guess, Kind, guess, render
from suite.data.preprocessing.tabular_values import (
    BOOLEANS,
    Form,
    are_numbers,
    category,
    is_boolean,
    items,
    numbers,
    texts,
)
from suite.data.reading import changed
from suite.errors import InputError, closest

UNSEEN, MISSING = 0, 1
"""Rows that each field begins with: of values that were rare or absent in training, and of no value."""
NO_ROW = -1
"""The id that fills up a list; no row is read or changed for it."""
ROWS_MULTIPLE = 64
"""Of which the rows of the table are a multiple."""
CHUNK = 32_768
"""Records read at a time."""
MOST_VALUES = 1_000_000
"""A column with more values is hashed, so that no table of them has to be kept."""
_LARGEST = float(np.finfo(np.float32).max)
_SUMMABLE = 1e150
"""Numbers above it are summed on a smaller scale."""
KINDS_OF: dict[Kind, tuple[Kind, ...]] = {"both": ("dense", "categorical"), "ignored": ()}
"""What a column becomes, where that is not one of its kind."""
LONG_TAIL = 8.0
"""Numbers whose largest lies more deviations than this from the mean are put on a logarithmic scale."""


@dataclass(frozen=True)
class Number:
    """A column of numbers: ``(f(x) - mean) / std``, f being the identity or ``sign(x) log(1 + |x|)``.

    Attributes:
        name: of the column.
        log: whether f is the logarithm.
        mean: of f(x).
        std: deviation of f(x), 1 where it is 0.
        gaps: whether an indicator of missing values goes with it; a missing value itself becomes 0, the mean.
        style: how texts write the numbers, of `suite.data.written.STYLES`.
    """

    name: str
    log: bool
    mean: float
    std: float
    gaps: bool
    style: str = ""

    def encode(self, values: Any) -> np.ndarray:
        """(b, 1) or, with the indicator, (b, 2) float32."""
        x = numbers(values, self.name, self.style)
        missing = np.isnan(x)
        scaled = np.where(missing, 0.0, ((_log(x) if self.log else x) - self.mean) / self.std)
        columns = [scaled, missing] if self.gaps else [scaled]
        return np.clip(np.stack(columns, -1), -_LARGEST, _LARGEST).astype(np.float32)


@dataclass(frozen=True)
class Field:
    """A column of categories, or of lists of them, and its rows of the table.

    Attributes:
        name: of the column.
        start: its first row; then come ``UNSEEN``, ``MISSING`` and one row a value.
        size: its rows.
        values: the values that have a row of their own, in the order of their rows; none where they are hashed.
        length: most items of a list; 0 for a single category.
        form: what its values are, by which a value is the same however it is written.
        style: how its numbers are written, of `suite.data.written.STYLES`.
    """

    name: str
    start: int
    size: int
    values: tuple[str, ...] = ()
    length: int = 0
    form: Form = ""
    style: str = ""

    @property
    def hashed(self) -> bool:
        """Whether values share rows by their hash."""
        return not self.values and self.size > 2

    @functools.cached_property
    def _places(self) -> dict[str | None, int]:
        return {None: self.start + MISSING, **{v: self.start + 2 + i for i, v in enumerate(self.values)}}

    def rows(self, values: Sequence[str | None]) -> np.ndarray:
        """Row of the table (b,) int32 of each value."""
        if not self.hashed:
            places, unseen = self._places, self.start + UNSEEN
            return np.fromiter((places.get(value, unseen) for value in values), np.int32, len(values))
        buckets = {value: self._bucket(value) for value in set(values)}
        return np.fromiter(map(buckets.__getitem__, values), np.int32, len(values))

    def _bucket(self, value: str | None) -> int:
        if value is None:
            return self.start + MISSING
        return self.start + 2 + zlib.crc32(f"{self.name}\x1f{value}".encode("utf-8", "surrogatepass")) % (self.size - 2)

    def lists(self, values: Sequence[list[str]], mean: bool) -> tuple[np.ndarray, np.ndarray]:
        """Rows (b, length) and weights (b, length) of the first items of each list; no items: ``MISSING``."""
        lists: list[list[Any]] = [row[: self.length] or [None] for row in values]
        lengths = np.array([len(row) for row in lists], np.int64)
        real = np.arange(self.length) < lengths[:, None]
        ids = np.full(real.shape, NO_ROW, np.int32)
        ids[real] = self.rows([item for row in lists for item in row])
        return ids, (real / lengths[:, None] if mean else real).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Fields(Preprocessor):
    """What the columns of a table are and how they are encoded, learnt from the training split.

    Columns that are named nowhere are judged by their type, their name, their number of different values and, of whole
    numbers, the order of the label along them; ``fit`` prints what each is taken for, and why.
    """

    suffix: ClassVar[str] = ".json"

    column: str = "label"
    """Field of the task that names the column of labels."""

    dense: tuple[str, ...] = ()
    """Columns of numbers."""
    categorical: tuple[str, ...] = ()
    """Columns of categories. A column that is also named in ``dense`` is both."""
    lists: tuple[str, ...] = ()
    """Columns that hold several categories a record."""
    ignored: tuple[str, ...] = ()
    """Columns that say nothing, or too much."""
    infer: bool = True
    """Judge columns that are named nowhere; otherwise they are ignored."""
    min_count: int = 2
    """Training records below which a category shares the row of what was never seen."""
    hashed: tuple[tuple[str, int], ...] = ()
    """(column, rows): categories that share so many rows by their hash, instead of a vocabulary."""
    normalise: Literal["auto", "standard", "log"] = "auto"
    """How numbers are scaled: to mean 0 and deviation 1, after a logarithm, or (auto) after one for long tails."""
    list_length: int = 16
    """Items that a list is cut at."""
    separator: str = "|"
    """What parts the items of a list that is written as a text."""
    pooling: Literal["mean", "sum"] = "mean"
    """How the vectors of a list's items become one."""

    def describe(self, source: Source, column: str) -> str:
        """What each column is taken for."""
        return render(self._guesses(source, column), column)

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Prints what columns are taken for, and writes numbers' statistics and categories to ``path``.

        Raises:
            InputError: a named column is not there, or none is left to predict from.
        """
        guesses = self._guesses(source, column)
        print(render(guesses, column), file=sys.stderr)
        taken = [replace(g, kind=kind) for g in guesses for kind in KINDS_OF.get(g.kind, (g.kind,))]
        learnt = [_Learnt(g, dict(self.hashed).get(g.name, 0), self, source) for g in taken]
        if not learnt:
            raise InputError("field task.fields", "no column is left to predict from", fix="--task.fields.categorical")
        for begin in range(0, len(source), CHUNK):
            indices = np.arange(begin, min(begin + CHUNK, len(source)))
            for learner in learnt:
                learner.add(source.column(learner.name, indices))
        if bare := [learner.name for learner in learnt if learner.blanks]:
            print(f"blanks around values do not count: {', '.join(bare)}", file=sys.stderr)
        fields: list[Number | Field] = [learner.number() for learner in learnt if learner.kind == "dense"]
        start = 0
        for learner in sorted((e for e in learnt if e.kind != "dense"), key=lambda e: e.kind == "list"):
            fields.append(learner.field(start))
            start += fields[-1].size  # type: ignore[union-attr]
        stored = {
            "numbers": [asdict(m) for m in fields if isinstance(m, Number)],
            "fields": [asdict(m) for m in fields if isinstance(m, Field)],
        }
        path.write_text(json.dumps(stored, ensure_ascii=False), encoding="utf-8")

    def _guesses(self, source: Source, label: str) -> list[Guess]:
        kinds: dict[str, tuple[str, ...]] = {"dense": self.dense, "list": self.lists, "ignored": self.ignored}
        kinds["categorical"] = (*self.categorical, *(n for n, _ in self.hashed if n not in self.lists))
        stated: dict[str, Kind] = {name: kind for kind, names in kinds.items() for name in names}  # type: ignore[misc]
        stated |= dict.fromkeys({*self.dense} & {*kinds["categorical"]}, "both")
        for kind, names in kinds.items():
            for name in names:
                if name not in source.schema:
                    field = "lists" if kind == "list" else kind
                    near, given = closest(name, source.schema), getattr(self, field)
                    meant = [near if one == name else one for one in given]
                    raise InputError(
                        f"field task.fields.{field}",
                        f'column "{name}" is not in the data.',
                        found=", ".join(source.schema),
                        fix=f"--task.fields.{field} {shlex.join(meant)}" if near and name in given else near,
                    )
        return guess(source, (label,), stated, self.separator, self.infer)

    @property
    def numbers(self) -> tuple[Number, ...]:
        """Columns of numbers, in the order of the model's inputs."""
        return _stored(self.file, changed(self.file))[0]

    @property
    def fields(self) -> tuple[Field, ...]:
        """Columns of categories, then those of lists, in the order of the table's rows."""
        return _stored(self.file, changed(self.file))[1]

    @property
    def unseen_rows(self) -> np.ndarray:
        """(s,) int32 row of a value never seen, by the place of a value in ``ids``."""
        return np.array([f.start + UNSEEN for f in self.fields for _ in range(max(f.length, 1))], np.int32)

    def sizes(self) -> dict[str, Any]:
        """``rows`` of the table, ``fields`` of one category, ``lists``: items of each list, ``inputs``: numbers.

        A few rows more than are used, so that any usual number of devices can share the table by its rows.
        """
        fields = self.fields
        return {
            "rows": -(-max(sum(field.size for field in fields), 1) // ROWS_MULTIPLE) * ROWS_MULTIPLE,
            "fields": sum(not field.length for field in fields),
            "lists": tuple(field.length for field in fields if field.length),
            "inputs": sum(1 + number.gaps for number in self.numbers),
        }

    def encode(self, columns: Columns) -> dict[str, np.ndarray]:
        """``dense`` float32 (b, i), ``ids`` int32 (b, s), ``weights`` float32 (b, w).

        A column that is absent has missing values only, but not all may be absent.

        Raises:
            InputError: none of the columns is there, or a number is none.
        """
        names = [number.name for number in self.numbers] + [field.name for field in self.fields]
        if not any(name in columns for name in names):
            raise InputError(
                "columns",
                "none of those that the model was trained on is there",
                found=", ".join(columns) or "none",
                fix=", ".join(names[:10]),
            )
        count = len(next(iter(columns.values())))
        absent = [None] * count
        dense = [number.encode(columns.get(number.name, absent)) for number in self.numbers]
        ids, weights = [], []
        for field in self.fields:
            values = columns.get(field.name, absent)
            if field.length:
                rows, weight = field.lists(items(values, self.separator, field.form), self.pooling == "mean")
                weights.append(weight)
            else:
                rows = field.rows(texts(values, field.form, field.style))[:, None]
            ids.append(rows)
        empty = np.zeros((count, 0), np.float32)
        return {
            "dense": np.concatenate([empty, *dense], 1),
            "ids": np.concatenate([empty.astype(np.int32), *ids], 1),
            "weights": np.concatenate([empty, *weights], 1),
        }


def _log(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.log1p(np.abs(x))


class _Moments:
    """Mean and deviation, chunk by chunk, without the difference of large sums (Chan et al., 1979).

    Numbers so large that their squares overflow have an infinite deviation.
    """

    def __init__(self):
        self.count, self.mean, self.squares, self.low, self.high = 0, 0.0, 0.0, np.inf, -np.inf

    @np.errstate(over="ignore", invalid="ignore")
    def add(self, x: np.ndarray) -> None:
        if not len(x):
            return
        largest = float(np.abs(x).max())
        scale = largest if largest > _SUMMABLE else 1.0
        mean, count = float((x / scale).mean() * scale), self.count + len(x)
        gap = mean - self.mean
        self.squares += float(np.square(x - mean).sum()) + gap * gap * self.count * len(x) / count
        self.mean += gap * len(x) / count
        self.count, self.low, self.high = count, min(self.low, float(x.min())), max(self.high, float(x.max()))

    @property
    def std(self) -> float:
        return float(np.sqrt(self.squares / self.count)) if self.count else 0.0


class _Learnt:
    """What is counted of one column while the training split passes by."""

    def __init__(self, guess: Guess, rows: int, how: Fields, source: Source):
        self.name, self.kind, self.rows, self._how = guess.name, guess.kind, rows, how
        self.style = source.styles.get(guess.name, "")
        first = source.column(guess.name, np.arange(min(len(source), CHUNK)))
        number = source.schema[guess.name] != "text" or self.style == written.DIGITS or are_numbers(first)
        self._form: Form = "number" if number and guess.kind != "list" else "text"
        self._seen: set[str] = set()  # some values, until they are not all booleans
        self.blanks = 0
        self._plain, self._logs, self._gaps = _Moments(), _Moments(), False
        self._counts: Counter[str] = Counter()
        self._length = 1
        if 0 < rows < 3:
            raise InputError("field task.fields.hashed", "a hashed column needs at least 3 rows", found=str(rows))

    def add(self, values: Any) -> None:
        if self.kind == "dense":
            x = numbers(values, self.name, self.style)
            real = x[~np.isnan(x)]
            self._gaps |= len(real) < len(x)
            self._plain.add(real)
            self._logs.add(_log(real))
            return
        if not isinstance(values, np.ndarray):
            self.blanks += sum(isinstance(value, str) and value != value.strip() for value in values)
        if self.kind == "list":
            rows = items(values, self._how.separator, self._form)
            self._length = max(self._length, *(len(row) for row in rows))
            values_seen = [item for row in rows for item in set(row)]
        else:
            values_seen = [value for value in texts(values, self._form) if value is not None]
        if len(self._seen) <= len(BOOLEANS):
            self._seen.update(values_seen)
        if not self.rows:
            self._counts.update(values_seen)
            if len(self._counts) > MOST_VALUES:
                self.rows, self._counts = MOST_VALUES, Counter()

    def number(self) -> Number:
        plain = self._plain
        huge = not np.isfinite(plain.std)
        tail = plain.std and max(plain.high - plain.mean, plain.mean - plain.low) > LONG_TAIL * plain.std
        log = self._how.normalise == "log" or (self._how.normalise == "auto" and bool(huge or tail))
        if huge and not log:
            found = f"{plain.low:g} to {plain.high:g}"
            problem = "holds numbers too large for a deviation"
            raise InputError(f"column {self.name}", problem, found=found, fix="--task.fields.normalise log")
        used = self._logs if log else plain
        return Number(self.name, log, used.mean, used.std or 1.0, self._gaps, self.style)

    def field(self, start: int) -> Field:
        length = min(self._length, self._how.list_length) if self.kind == "list" else 0
        form: Form = "boolean" if self._form == "text" and is_boolean(self._seen) else self._form
        if self.rows:
            return Field(self.name, start, self.rows, (), length, form, self.style)
        counts: Counter[str] = Counter()
        for value, count in self._counts.items():
            counts[category(value, form) or value] += count
        frequent = ((value, count) for value, count in counts.items() if count >= self._how.min_count)
        values = tuple(value for value, _ in sorted(frequent, key=lambda pair: (-pair[1], pair[0])))
        return Field(self.name, start, 2 + len(values), values, length, form, self.style)


@functools.lru_cache(maxsize=8)
def _stored(file: str, written: int) -> tuple[tuple[Number, ...], tuple[Field, ...]]:
    content = json.loads(Path(file).read_text(encoding="utf-8"))
    fields = tuple(Field(**{**field, "values": tuple(field["values"])}) for field in content["fields"])
    return tuple(Number(**number) for number in content["numbers"]), fields
