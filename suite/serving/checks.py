"""Records of a request against the signature and the limits, before anything is decoded or encoded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from suite.contracts.kinds import Kind, checked, input_kind
from suite.contracts.signature import Input
from suite.contracts.values import Limits, Unfit, content, json_type
from suite.errors import closest
from suite.runtime import decoders
from suite.serving.errors import Refused, refused
from suite.serving.seeds import FIELD
from suite.serving.settings import Settings


@dataclass(frozen=True)
class Checks:
    """What may be asked of one version of a model.

    Attributes:
        inputs: the codec's.
        primary: the input that a bare value stands for.
        texts: columns of a table that are texts whatever they look like.
        settings: the limits.
        samples: whether answers are drawn, so that a request may give seeds.
        styles: columns of numbers -> how training's were written, see `Codec.styles`.
    """

    inputs: tuple[Input, ...]
    primary: str
    texts: tuple[str, ...]
    settings: Settings
    samples: bool = False
    styles: Mapping[str, str] = field(default_factory=dict)

    def records(self, values: Sequence[Any]) -> dict[str, list[Any]]:
        """JSON records, or bare values of the primary input, as columns; files as their bytes.

        Raises:
            Refused: more records than one request may have, or a value that the signature doesn't allow.
        """
        self.count(len(values))
        records = [self._record(value, place) for place, value in enumerate(values)]
        return self._columns(records, from_file=False)

    def written(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Columns as a file or a form holds them: those that are no inputs are left out, numbers may be texts.

        Raises:
            Refused: none of the inputs is there, or as for ``records``.
        """
        known = {entry.name for entry in self.inputs}
        known_columns = {name: list(values) for name, values in columns.items() if name in known}
        if not known_columns:
            raise Refused(
                400,
                "missing",
                f"none of the inputs is there (found: {', '.join(columns)})"[:300] + ".",
                fix=", ".join(sorted(known))[:300],
            )
        count = len(next(iter(known_columns.values())))
        self.count(count)
        return self._columns(
            [{name: known_columns[name][i] for name in known_columns} for i in range(count)], from_file=True
        )

    def unknown(self, name: str, field: str) -> Refused:
        """The refusal of a name that no input has, in the part ``field`` of a request."""
        names = [entry.name for entry in self.inputs]
        fix = closest(name[:100], names) or ", ".join(names)[:300]
        if name == FIELD and self.samples:
            fix = f'"{FIELD}" beside "inputs"'
        return Refused(400, "unknown", "is no input of this model.", field=field, fix=fix)

    def count(self, records: int) -> None:
        """Refuses more records than one request may have."""
        if records > self.settings.max_records:
            raise Refused(
                400,
                "too_many_records",
                f"{records} records, of at most {self.settings.max_records}.",
                field="inputs",
                fix="send several requests",
            )

    @property
    def files(self) -> bool:
        """Whether an input is a file, which takes long to decode."""
        return any(input_kind(entry.kind).file for entry in self.inputs)

    @property
    def primary_kind(self) -> Kind | None:
        """The kind of the primary input; None where that is no input but a whole record."""
        return next((input_kind(entry.kind) for entry in self.inputs if entry.name == self.primary), None)

    def _record(self, value: Any, place: int) -> dict[str, Any]:
        names = [entry.name for entry in self.inputs]
        if not isinstance(value, dict):
            if self.primary in names:
                return {self.primary: value}
            raise Refused(
                400,
                "wrong_type",
                f"must be an object, not {json_type(value)}.",
                field=f"inputs[{place}]",
                fix=", ".join(names)[:300],
            )
        unknown = next((name for name in value if name not in names), None)
        if unknown is not None:
            raise self.unknown(unknown, f"inputs[{place}].{unknown:.100}")
        if not value:
            raise Refused(400, "empty", "the record is empty.", field=f"inputs[{place}]", fix=", ".join(names)[:300])
        return value

    def _columns(self, records: Sequence[Mapping[str, Any]], from_file: bool) -> dict[str, list[Any]]:
        """Checked values by column; columns that no record has are left out."""
        columns: dict[str, list[Any]] = {}
        for entry in self.inputs:
            if entry.required or any(entry.name in record for record in records):
                columns[entry.name] = [
                    self._value(entry, record.get(entry.name), f"inputs[{place}].{entry.name}", from_file)
                    for place, record in enumerate(records)
                ]
        return columns

    def _value(self, entry: Input, value: Any, field: str, from_file: bool) -> Any:
        try:
            return _checked(entry, value, self.settings.limits, from_file)
        except decoders.Ended as error:
            raise refused(error, field) from None
        except Unfit as error:
            field += error.place
            raise Refused(error.status, error.code, str(error), field=field, fix=error.fix) from None


def _checked(entry: Input, value: Any, limits: Limits, from_file: bool) -> Any:
    """As `suite.contracts.kinds.checked`; the head of a file that is not plain is looked at in a decoder process."""
    plain = input_kind(entry.kind).plain
    if value is None or plain is None:
        return checked(entry, value, limits, from_file)
    data = content(value)
    if plain(data):
        return checked(entry, data, limits, from_file)
    decoders.call(input_kind(entry.kind).name, examine_file, entry, data, limits)
    return data


def examine_file(entry: Input, data: bytes, limits: Limits) -> None:
    """Checks a file, and returns nothing of it.

    Raises:
        Unfit: see `suite.contracts.kinds.checked`.
    """
    checked(entry, data, limits)
