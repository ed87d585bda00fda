"""Tables as model inputs: numbers normalised, categories and lists as row numbers of one stacked table.

Dims: b records, i numbers, s values an example (one a category, several a list), w values of lists.
"""

import functools
import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from suite.contracts.batch import Columns
from suite.contracts.bounds import LENGTH, Bounds
from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor, padded_rows
from suite.data.preprocessing.tabular_columns import UNSEEN, Field, Number
from suite.data.preprocessing.tabular_histories import HistoryStatistics
from suite.data.preprocessing.tabular_schema import MEDIA, Guess, Kind, guess, render
from suite.data.preprocessing.tabular_statistics import CHUNK, CategoryStatistics, NumberStatistics, of_dates
from suite.data.preprocessing.tabular_values import items, texts
from suite.data.reading import changed
from suite.errors import InputError, closest
from suite.runtime import json_files

_NEVER = -2
"""A row that no value has."""
KINDS_OF: dict[Kind, tuple[Kind, ...]] = {
    "both": ("dense", "categorical"),
    "ignored": (),
    "text": (),
    "image": (),
    "audio": (),
}
"""What a column becomes here, where that is not one of its kind; other parts of a model read texts and files."""

FIELD_OF = {"list": "lists", "date": "dates", "text": "texts", "image": "images", "audio": "recordings"}
"""Kind -> the field of `Fields` that names columns of it, where that is called otherwise."""


@dataclass(frozen=True, kw_only=True)
class Fields(Preprocessor):
    """What the columns of a table are and how they are encoded, learnt from the training split.

    Columns that are named nowhere are judged by their type, their name, their number of different values and, of whole
    numbers, the order of the label along them; ``fit`` prints what each is taken for, and why.
    """

    suffix: ClassVar[str] = ".json"
    number_bounds: ClassVar[Bounds] = {"list_length": LENGTH, "history_length": LENGTH}
    stacks: ClassVar[bool] = False

    column: str = "label"
    """Field of the task that names the column of labels."""

    dense: tuple[str, ...] = ()
    """Columns of numbers."""
    categorical: tuple[str, ...] = ()
    """Columns of categories. A column that is also named in ``dense`` is both."""
    lists: tuple[str, ...] = ()
    """Columns that hold several categories a record."""
    dates: tuple[str, ...] = ()
    """Columns of dates, each of which becomes several numbers."""
    texts: tuple[str, ...] = ()
    """Columns of texts, which a part of the model for texts reads."""
    images: tuple[str, ...] = ()
    """Columns of pictures, their paths or bytes."""
    recordings: tuple[str, ...] = ()
    """Columns of paths of recordings."""
    ignored: tuple[str, ...] = ()
    """Columns that say nothing, or too much."""
    infer: bool = True
    """Judge columns that are named nowhere; otherwise they are ignored."""
    all_kinds: bool = False
    """Judge dates, texts, pictures and recordings as what they are; otherwise dates are categories, and the others are
    ignored."""
    min_count: int = 2
    """Training records below which a category shares the row of what was never seen."""
    hashed: tuple[tuple[str, int], ...] = ()
    """(column, rows): categories that share so many rows by their hash, instead of a vocabulary."""
    normalise: Literal["auto", "standard", "log"] = "auto"
    """How numbers are scaled: to mean 0 and deviation 1, after a logarithm, or (auto) after one for long tails."""
    bins: int = 0
    """Most bins of a number, of equally many training records each, that a model may tell its values apart by. 0:
    none."""
    bins_as_categories: bool = False
    """Give the bin of each number as a category, beside its value."""
    list_length: int = 16
    """Items that a list is cut at."""
    histories: tuple[tuple[str, str], ...] = ()
    """(column of histories, column of the candidate): lists of earlier items, the latest last, that share the rows of
    the candidate's column, which a model compares them with."""
    history_length: int = 50
    """Items of a history that are read, the latest ones."""
    separator: str = "|"
    """What parts the items of a list that is written as a text."""
    pooling: Literal["mean", "sum"] = "mean"
    """How the vectors of a list's items become one."""

    def describe(self, source: Source, column: str | tuple[str, ...]) -> str:
        """What each column is taken for."""
        return self._rendered(self.judged(source, column), column)

    @staticmethod
    def _rendered(guesses: list[Guess], column: str | tuple[str, ...]) -> str:
        return render(guesses, column if isinstance(column, str) else ", ".join(column))

    def fit(self, source: Source, column: str | tuple[str, ...], path: Path) -> None:
        """Prints what columns are taken for, and writes numbers' statistics and categories to ``path``.

        Raises:
            InputError: a named column is not there, or none is left to predict from.
        """
        guesses = self.judged(source, column)
        print(self._rendered(guesses, column), file=sys.stderr)
        taken = [(g.name, kind) for g in guesses for kind in KINDS_OF.get(g.kind, (g.kind,))]
        numbers = [NumberStatistics(source, name) for name, kind in taken if kind == "dense"]
        parts = [part for name, kind in taken if kind == "date" for part in of_dates(source, name)]
        rows = dict(self.hashed)
        candidates = dict(self.histories)
        categories = [
            CategoryStatistics(source, name, kind == "list", self.separator, rows.get(name, 0))
            for name, kind in sorted(taken, key=lambda pair: pair[1] == "list")
            if kind in ("categorical", "list") and name not in candidates
        ]
        if not (numbers or parts or categories) and not any(g.kind in MEDIA for g in guesses):
            raise InputError("field task.fields", "no column is left to predict from", fix="--task.fields.categorical")
        single = {entry.name: entry for entry in categories if not entry.several}
        histories = [
            HistoryStatistics(name, self._candidate(candidate, single), self.separator)
            for name, candidate in self.histories
        ]
        learners: tuple[NumberStatistics | CategoryStatistics | HistoryStatistics, ...]
        learners = (*numbers, *parts, *categories, *histories)
        for begin in range(0, len(source), CHUNK):
            indices = np.arange(begin, min(begin + CHUNK, len(source)))
            for learner in learners:
                learner.add(source.column(learner.name, indices))
        if bare := [learner.name for learner in categories if learner.blanks]:
            print(f"blanks around values do not count: {', '.join(bare)}", file=sys.stderr)
        used = (*numbers, *(part for part in parts if not part.constant))
        fields: list[Number | Field] = [number.number(self.normalise, self.bins) for number in used]
        start = 0
        for several in categories:
            fields.append(several.field(start, self.min_count, self.list_length))
            start += fields[-1].size  # type: ignore[union-attr]
        known = {entry.name: entry for entry in fields if isinstance(entry, Field) and not entry.length}
        fields += [history.field(known[candidates[history.name]], self.history_length) for history in histories]
        for history in histories:
            print(history.told(known[candidates[history.name]], self.history_length), file=sys.stderr)
        stored = {
            "numbers": [asdict(m) for m in fields if isinstance(m, Number)],
            "fields": [asdict(m) for m in fields if isinstance(m, Field)],
        }
        path.write_text(json.dumps(stored, ensure_ascii=False), encoding="utf-8")

    @staticmethod
    def _candidate(name: str, single: Mapping[str, CategoryStatistics]) -> CategoryStatistics:
        """The column that a history's items are of.

        Raises:
            InputError: it is no column of single categories.
        """
        if name not in single:
            raise InputError(
                "field task.fields.histories",
                f'column "{name}", whose values the items of a history are, is no column of categories.',
                found=", ".join(single) or "no column of categories",
                fix=shlex.join(["--task.fields.categorical", *single, name]),
            )
        return single[name]

    def judged(self, source: Source, label: str | tuple[str, ...]) -> list[Guess]:
        """What each column but the label, or the labels, is.

        Raises:
            InputError: a named column is not there.
        """
        kinds: dict[str, tuple[str, ...]] = {
            "dense": self.dense,
            "list": (*self.lists, *(history for history, _ in self.histories)),
            "date": self.dates,
            "text": self.texts,
            "image": self.images,
            "audio": self.recordings,
            "ignored": self.ignored,
        }
        kinds["categorical"] = (*self.categorical, *(n for n, _ in self.hashed if n not in self.lists))
        stated: dict[str, Kind] = {name: kind for kind, names in kinds.items() for name in names}  # type: ignore[misc]
        stated |= dict.fromkeys({*self.dense} & {*kinds["categorical"]}, "both")
        for kind, names in kinds.items():
            for name in names:
                if name not in source.schema:
                    field = "histories" if name in dict(self.histories) else FIELD_OF.get(kind, kind)
                    near, given = closest(name, source.schema), _flat(getattr(self, field))
                    meant = [near if one == name else one for one in given]
                    raise InputError(
                        f"field task.fields.{field}",
                        f'column "{name}" is not in the data.',
                        found=", ".join(source.schema),
                        fix=f"--task.fields.{field} {shlex.join(meant)}" if near and name in given else near,
                    )
        labels = (label,) if isinstance(label, str) else label
        return guess(source, labels, stated, self.separator, self.infer, self.all_kinds)

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
        unseen = [f.start + UNSEEN for f in self.fields for _ in range(max(f.length, 1))]
        single = sum(not f.length for f in self.fields)
        return np.array([*unseen[:single], *([_NEVER] * len(self._binned)), *unseen[single:]], np.int32)

    @property
    def _end(self) -> int:
        """The row behind those of all fields."""
        return max((field.start + field.size for field in self.fields), default=0)

    @property
    def _binned(self) -> tuple[Number, ...]:
        """Numbers whose bins are categories; their rows lie behind those of all fields."""
        return self.numbers if self.bins and self.bins_as_categories else ()

    def sizes(self) -> dict[str, Any]:
        """``rows`` of the table, ``fields`` of one category, ``lists``: items of each list, ``inputs``: numbers;
        ``histories``: (place of the list, place of its candidate's field), where there are such.

        A few rows more than are used, so that any usual number of devices can share the table by its rows.
        """
        fields, binned = self.fields, self._binned
        rows = self._end + sum(number.places for number in binned)
        single = [field.name for field in fields if not field.length]
        lists = [field for field in fields if field.length]
        histories = tuple((place, single.index(field.of)) for place, field in enumerate(lists) if field.of)
        return {
            "rows": padded_rows(max(rows, 1)),
            "fields": sum(not field.length for field in fields) + len(binned),
            "lists": tuple(field.length for field in lists),
            "inputs": sum(number.width for number in self.numbers),
            **({"bins": self.edges.shape[1] - 1} if self.bins else {}),
            **({"histories": histories} if histories else {}),
        }

    @property
    def edges(self) -> np.ndarray:
        """(i, k) float32 edges of the bins of each model input, rising; the last one is repeated where there are fewer.
        The indicator of a missing value has one bin."""
        rows = [edges for number in self.numbers for edges in (number.edges or (0.0,), (0.0, 1.0))[: number.width]]
        most = max([len(row) for row in rows], default=2)
        return np.array([(*row, *row[-1:] * (max(most, 2) - len(row))) for row in rows], np.float32).reshape(
            len(rows), max(most, 2)
        )

    def encode(self, columns: Columns, needed: bool = True) -> dict[str, np.ndarray]:
        """``dense`` float32 (b, i), ``ids`` int32 (b, s), ``weights`` float32 (b, w).

        A column that is absent has missing values only, but not all may be absent where they are ``needed``.

        Raises:
            InputError: none of the columns is there, or a number is none.
        """
        names = [number.name for number in self.numbers] + [field.name for field in self.fields]
        if needed and not any(name in columns for name in names):
            raise InputError(
                "columns",
                "none of those that the model was trained on is there",
                found=", ".join(columns) or "none",
                fix=", ".join(names[:10]),
            )
        count = len(next(iter(columns.values())))
        absent = [None] * count
        dense = [number.encode(columns.get(number.name, absent)) for number in self.numbers]
        single, several, weights = [], [], []
        for field in self.fields:
            values = columns.get(field.name, absent)
            if field.length:
                rows, weight = field.lists(items(values, self.separator, field.form), self.pooling == "mean")
                several.append(rows)
                weights.append(weight)
            else:
                single.append(field.rows(texts(values, field.form, field.style))[:, None])
        start = self._end
        for number in self._binned:
            single.append(start + number.place(columns.get(number.name, absent))[:, None])
            start += number.places
        empty = np.zeros((count, 0), np.float32)
        return {
            "dense": np.concatenate([empty, *dense], 1),
            "ids": np.concatenate([empty.astype(np.int32), *single, *several], 1),
            "weights": np.concatenate([empty, *weights], 1),
        }


def _flat(names: Iterable[str | tuple[str, ...]]) -> list[str]:
    """Names, and those of pairs of them, in a row as the command line takes them."""
    return [part for name in names for part in ((name,) if isinstance(name, str) else name)]


@functools.lru_cache(maxsize=8)
def _stored(file: str, written: int) -> tuple[tuple[Number, ...], tuple[Field, ...]]:
    def build(content: Any) -> tuple[tuple[Number, ...], tuple[Field, ...]]:
        fields = tuple(json_files.built(Field, field) for field in content["fields"])
        long = next((field for field in fields if not 0 <= field.length <= LENGTH[1]), None)
        if long is not None:
            raise json_files.Malformed(f"length {long.length} of the list {long.name:.60}")
        return tuple(json_files.built(Number, number) for number in content["numbers"]), fields

    return json_files.load(file, build)
