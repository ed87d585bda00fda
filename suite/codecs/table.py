"""The codec of clicks: records of named columns. Dims: b records, s values of categories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from suite.codecs.answers import add_sureness, probability, sureness_outputs
from suite.codecs.table_units import column_units
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec, Input, Output
from suite.contracts.division import Division
from suite.data.preprocessing import dates
from suite.data.preprocessing.decision import Decision, event_probabilities
from suite.data.preprocessing.tabular import Fields
from suite.data.preprocessing.tabular_columns import Field, Number
from suite.data.preprocessing.tabular_values import from_records, items, text
from suite.data.written import DIGITS

CHOICES = 100
EVENT = ("no", "yes")
"""What an event may be, where an answer has a set."""
"""Values of a category that an input lists."""


@dataclass(frozen=True, kw_only=True)
class TableInputs(Codec):
    """What codecs share that are given the columns of a table: a number, a date, a category or a list each."""

    record: str
    """Name of a column that holds whole records, as mappings or JSON."""
    fields: Fields
    """What the columns are."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        """One for each column, also where it is a number and a category, or several numbers of a date."""
        numbers = {number.name: _number(number) for number in self.fields.numbers}
        return (*numbers.values(), *(_category(field) for field in self.fields.fields if field.name not in numbers))

    @property
    def primary(self) -> str:
        return self.record

    @property
    def texts(self) -> tuple[str, ...]:
        """Dates, and categories and lists that are texts."""
        dates = dict.fromkeys(number.name for number in self.fields.numbers if number.part)
        return (*dates, *(field.name for field in self.fields.fields if _is_text(field)))

    @property
    def styles(self) -> dict[str, str]:
        """Numbers, also as categories, that training's data wrote in another way than Python does."""
        columns: tuple[Number | Field, ...] = (*self.fields.numbers, *self.fields.fields)
        return {column.name: column.style for column in columns if column.style not in ("", DIGITS)}

    @property
    def histories(self) -> tuple[Field, ...]:
        """Columns of earlier items."""
        return tuple(field for field in self.fields.fields if field.of)

    def cut_output(self) -> tuple[Output, ...]:
        """The output ``cut``, where there are histories."""
        about = "items of histories that were too long and so not read, the earliest ones"
        return (Output(name="cut", kind="number", description=about, low=0, whole=True),) if self.histories else ()

    def cut(self, columns: Columns, count: int) -> list[dict[str, int]]:
        """``{"cut"}`` of each of ``count`` records: items of histories that are not read; nothing without histories."""
        histories, columns = self.histories, self.opened(columns)
        if not histories:
            return [{}] * count
        excess = np.zeros(count, np.int64)
        for history in histories:
            if history.name in columns:
                rows = items(columns[history.name], self.fields.separator, history.form)
                excess += np.array([max(len(row) - history.length, 0) for row in rows], np.int64)
        return [{"cut": int(number)} for number in excess]

    def opened(self, columns: Columns) -> Columns:
        """The columns of whole records, where those are given."""
        return from_records(columns[self.record]) if self.record in columns else columns

    def divide(self, columns: Columns, rows: Mapping[str, Any]) -> Sequence[Division]:
        return [column_units(self.fields, ("dense", "ids", "weights"))] * len(rows["dense"])


@dataclass(frozen=True, kw_only=True)
class Clicks(TableInputs):
    """How likely an event is, from the columns of its record."""

    decision: Decision = field(default_factory=Decision)
    """Temperature of the probability, and how sure an answer is."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        about = "values that training had not, or too rarely"
        unseen = Output(name="unseen", kind="number", description=about, low=0, whole=True)
        return (probability("of the event"), unseen, *self.cut_output(), *sureness_outputs(self.decision, EVENT))

    @property
    def purpose(self) -> str:
        return "Says how likely an event is, from records"

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``dense`` float32 (b, i), ``ids`` int32 (b, s), ``weights`` float32 (b, w): see `Fields.encode`."""
        return dict(self.fields.encode(self.opened(columns)))

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        """``{"probability", "unseen"}``: of a click, and the number of values that training had not; with histories
        ``"cut"``, the number of items that were not read."""
        logits = np.asarray(self.decision.applied(outputs)["logits"], np.float64)
        probabilities = event_probabilities(logits)
        answers = [
            {"probability": round(float(p), 6), "unseen": int(n), **cut}
            for p, n, cut in zip(probabilities, outputs["unseen"], self.cut(columns, len(probabilities)), strict=True)
        ]
        add_sureness(answers, np.stack([np.zeros_like(logits), logits], 1), EVENT, self.decision)
        return answers


def _number(number: Number) -> Input:
    if number.part:
        example = dates.example(number.date)
        about = f"a date, as {example}; none, where it is not known"
        return Input(name=number.name, kind="date", required=False, example=example, description=about)
    usual = float(np.sign(number.mean) * np.expm1(abs(number.mean))) if number.log else number.mean
    return Input(
        name=number.name,
        kind="number",
        required=False,
        example=float(f"{usual:.3g}"),
        description="a number; none, where it is not known",
    )


def _is_text(field: Field) -> bool:
    """Whether the column is one of texts; of runs begun with version 0.1, whether training had a value that no number
    is written as. Of hashed ones they kept no value; as texts, whole numbers are the same."""
    if field.form:
        return field.form == "text"
    return field.hashed or not all(map(_is_number, field.values))


def _is_number(value: str) -> bool:
    """Whether a column of numbers gives this value."""
    try:
        return value == text(float(value)) or value == str(int(value))
    except ValueError:
        return False


def _category(field: Field) -> Input:
    known = field.values[:CHOICES]
    if field.length:
        end = "last" if field.of else "first"
        about = f"several values, of which the {end} {field.length} are read"
        about += f": earlier values of {field.of}, the latest last" if field.of else ""
        return Input(
            name=field.name, kind="list", required=False, example=list(known[:2]), choices=known, description=about
        )
    return Input(
        name=field.name,
        kind="category",
        required=False,
        example=known[0] if known else None,
        choices=known,
        description="one value; none, where it is not known",
    )
