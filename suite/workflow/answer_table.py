"""Answers as a table of typed columns: one an output, one for the score of each class, lists as lists, and errors."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.bundles.answering import BATCH
from suite.contracts.codec import Codec
from suite.contracts.kinds import output_kind
from suite.contracts.signature import File, Output
from suite.errors import InputError
from suite.workflow.folders import ERROR, codec_of, in_one_line
from suite.workflow.folders import open as open_folder
from suite.workflow.records import table_columns

if TYPE_CHECKING:
    import pyarrow as pa

    from suite.bundles.bundle import Bundle
    from suite.runs.run import Run

CLASSES = 100
"""Most classes that get a column each; of more, the scores are one list a record."""

Filed = Callable[[int, str, File], str]
"""(place of the record, output, file) -> its name in the table."""


@dataclass(frozen=True)
class Column:
    """A column of answers.

    Attributes:
        name: in the table.
        type: of its values.
        value: takes it from an answer; None where it has none.
        vector: whether its values are vectors.
    """

    name: str
    type: "pa.DataType"
    value: Callable[[Mapping[str, Any]], Any]
    vector: bool = False


class AnswerTable:
    """Turns answers of a codec into Arrow tables of one schema.

    Args:
        codec: whose answers they are.
        kept: schema of the columns of the input that stand before them. An answer's column of the same name is called
            ``predicted_<name>``.
        as_bytes: whether files of answers are columns of bytes, rather than of names.
    """

    def __init__(self, codec: Codec, kept: "pa.Schema", as_bytes: bool = False):
        import pyarrow as pa

        file = pa.binary() if as_bytes else pa.string()
        columns = [column for output in codec.outputs for column in _columns(output, codec.outputs, file)]
        columns.append(Column(ERROR, pa.string(), lambda answer: None))
        self.columns: list[Column] = []
        taken = set(kept.names)
        for column in columns:
            name = column.name
            while name in taken:
                name = f"predicted_{name}"
            taken.add(name)
            self.columns.append(replace(column, name=name))
        self.schema = pa.schema([*kept, *(pa.field(column.name, column.type) for column in self.columns)])
        self.error = self.columns[-1].name

    @property
    def vectors(self) -> list[str]:
        """Columns of vectors."""
        return [column.name for column in self.columns if column.vector]

    def table(
        self,
        kept: "pa.Table",
        answers: Sequence[Mapping[str, Any] | InputError],
        filed: Filed | None = None,
        first: int = 0,
    ) -> "pa.Table":
        """One row a record.

        Args:
            kept: (n,) columns of the input.
            answers: (n,) what `predict_each` says.
            filed: keeps a file of an answer; None: its bytes stand in the table.
            first: place of the first record in the input.
        """
        import pyarrow as pa

        rows: list[Mapping[str, Any]] = [
            {}
            if isinstance(answer, InputError)
            else {
                name: (filed(first + place, name, value) if filed else value.data) if isinstance(value, File) else value
                for name, value in answer.items()
            }
            for place, answer in enumerate(answers)
        ]
        arrays = [pa.array(map(column.value, rows), column.type) for column in self.columns[:-1]]
        errors = [in_one_line(answer) if isinstance(answer, InputError) else None for answer in answers]
        return pa.Table.from_arrays([*kept.columns, *arrays, pa.array(errors, pa.string())], schema=self.schema)


class TableOfAnswers:
    """Answers tables of records with tables of answers, for engines that read and distribute records by themselves.

    Args:
        source: a run, a bundle, or the folder of one.
        keep: columns of the records that stand before the answers.
        program: which of the model's programs answers.
        seed: what the random numbers of answers come from, where they are drawn.
        batch_size: records computed together.
        allow: packages whose classes the folder may name, besides the suite's.
    """

    def __init__(
        self,
        source: "str | Path | Run | Bundle",
        keep: Sequence[str] = (),
        *,
        program: str = "predict",
        seed: int = 0,
        batch_size: int = BATCH,
        allow: tuple[str, ...] = (),
    ):
        self._opened = open_folder(source, allow) if isinstance(source, str | Path) else source
        self._keep, self._asked = list(keep), (seed, program, batch_size)
        self._codec = codec_of(self._opened, program)

    def __call__(self, records: "pa.Table") -> "pa.Table":
        """One row a record. Answers that are files stand in the table as bytes.

        Raises:
            InputError: a column is missing.
        """
        columns = table_columns(records, self._codec, self._keep)
        kept = records.select(self._keep).replace_schema_metadata(None)
        answers = self._opened.predict_each(columns, *self._asked)
        return AnswerTable(self._codec, kept.schema, as_bytes=True).table(kept, answers)


def _columns(output: Output, outputs: Sequence[Output], file: "pa.DataType") -> list[Column]:
    import pyarrow as pa

    name, kind = output.name, output_kind(output.kind)
    if kind.file:
        return [Column(name, file, lambda answer: answer.get(name))]
    classes = output.choices or next((other.choices for other in outputs if other.name == output.of), ())
    if output.kind == "classes" and 0 < len(classes) <= CLASSES:
        several = sum(other.kind == "classes" for other in outputs) > 1
        score = f"{name}.score" if several else "score"
        return [Column(f"{score}.{label}", pa.float64(), _score(name, label)) for label in classes]
    assert kind.answer is not None  # as every output's
    schema = kind.answer(output)
    known = arrow_type(schema)
    plain = (lambda value: as_arrow(value, schema)) if known is not None else json.dumps
    value = lambda answer: None if answer.get(name) is None else plain(answer[name])
    return [Column(name, pa.string() if known is None else known, value, vector=output.kind == "vector")]


def _score(output: str, name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda answer: answer.get(output, {}).get(name)


def arrow_type(schema: Mapping[str, Any]) -> "pa.DataType | None":
    """The Arrow type of values of a JSON schema: objects with any keys are lists of names and values. None: the schema
    says too little."""
    import pyarrow as pa

    kind = schema.get("type", "string" if all(isinstance(choice, str) for choice in schema.get("enum", [0])) else "")
    kinds = set([kind] if isinstance(kind, str) else kind) - {"null"}
    if kinds == {"array"}:
        item = arrow_type(schema.get("items", {}))
        return None if item is None else pa.list_(item)
    if kinds == {"object"}:
        parts = {name: arrow_type(part) for name, part in schema.get("properties", {}).items()}
        if not parts and isinstance(schema.get("additionalProperties"), Mapping):
            parts = {"name": pa.string(), "value": arrow_type(schema["additionalProperties"])}
            return None if parts["value"] is None else pa.list_(pa.struct(list(parts.items())))
        return pa.struct(list(parts.items())) if parts and None not in parts.values() else None
    if kinds == {"number"} or kinds == {"number", "integer"}:
        return pa.float64()
    plain = {"string": pa.string(), "integer": pa.int64(), "boolean": pa.bool_()}
    return plain.get(kinds.pop()) if len(kinds) == 1 else pa.string() if "string" in kinds else None


def as_arrow(value: Any, schema: Mapping[str, Any]) -> Any:
    """A value of a JSON schema as Arrow takes it in its `arrow_type`."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        parts = schema.get("properties", {})
        if parts:
            return {name: as_arrow(value.get(name), part) for name, part in parts.items()}
        return [{"name": name, "value": as_arrow(item, schema["additionalProperties"])} for name, item in value.items()]
    if isinstance(value, list | tuple):
        return [as_arrow(item, schema.get("items", {})) for item in value]
    kinds = schema.get("type", "string")
    if isinstance(value, str) or "string" not in ([kinds] if isinstance(kinds, str) else kinds):
        return value
    return json.dumps(value)


def flat(table: "pa.Table") -> "pa.Table":
    """The table as a CSV file holds it: lists and structures are JSON, bytes base64."""
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if pa.types.is_nested(field.type) or pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            values = [
                None if value is None else value if isinstance(value, str) else json_text(value)
                for value in map(_plain, table.column(place).to_pylist())
            ]
            table = table.set_column(place, field.name, pa.array(values, pa.string()))
    return table


def json_line(row: Mapping[str, Any]) -> str:
    """A row as one line of JSON: a null stays where a column has no value."""
    return _dumped({name: _plain(value) for name, value in row.items()})


def json_text(value: Any) -> str:
    """JSON on one line; dates and decimals are texts, bytes base64, numbers that are not finite null."""
    return _dumped(_plain(value))


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):  # Arrow holds a key that a value lacks, such as of a box, as null
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and value - value != 0 else value
