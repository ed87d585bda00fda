"""The codec of explained answers: the answer, and what it is owed to, unit by unit. Dims: b records."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite.codecs.heatmaps import over_time, overlay
from suite.contracts.batch import Columns, Ragged
from suite.contracts.codec import Codec, File, Input, Output
from suite.contracts.division import KEPT, Division, NumberScale, fitted, summed
from suite.errors import InputError

OTHER, FOUND = "other_", "explained_"
"""Before the name of a row that stands for an absent one, and before what an explanation adds to a program's outputs.
"""
DIGITS = 7
"""Significant digits of scores and attributions: those of a float32."""
EVENT = "the log odds of the event"
MOST = 256
"""Units that an answer lists, those of the largest attributions."""


@dataclass(frozen=True, kw_only=True)
class ExplainedAnswers(Codec):
    """What a codec answers, and the attributions of the units that it divides a record into."""

    codec: Codec
    """Of the program that is explained."""
    kind: str
    """What is explained: logits, log_odds or value."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        return self.codec.inputs

    @property
    def outputs(self) -> tuple[Output, ...]:
        about = "where it speaks for the answer, red, and against it, blue"
        drawn = Output(name="map", kind="heatmap", description=about, media_types=("image/png",))
        return (
            *self.codec.outputs,
            Output(name="explained", kind="text", description="what is explained"),
            Output(name="score", kind="number", description="of what was asked"),
            Output(name="blank_score", kind="number", description="with everything absent"),
            Output(name="attributed", kind="number", description="all parts together, nearly the difference"),
            Output(name="completeness_error", kind="number", description="share of the difference that they miss"),
            Output(name="attributions", kind="attributions", description="what each part adds to it"),
            *((drawn,) if self._mapped else ()),
        )

    @property
    def _mapped(self) -> bool:
        """Whether each answer has a picture."""
        return any(entry.kind in ("image", "audio") and entry.required for entry in self.inputs)

    @property
    def primary(self) -> str:
        return self.codec.primary

    @property
    def texts(self) -> tuple[str, ...]:
        return self.codec.texts

    @property
    def styles(self) -> dict[str, str]:
        return self.codec.styles

    @property
    def longest(self) -> int:
        return self.codec.longest

    @property
    def purpose(self) -> str:
        return f"{self.codec.purpose}, and says why"

    @property
    def place_names(self) -> Mapping[str, Sequence[str]]:
        return self.codec.place_names

    def opened(self, columns: Columns) -> Columns:
        return self.codec.opened(columns)

    def encode(self, columns: Columns) -> dict[str, Any]:
        """The rows of the codec, and of each array that is looked up what stands for its absence."""
        rows = self.codec.encode(columns)
        divisions = divided(self.codec, self.codec.opened(columns), rows)
        blanks = {name: [one.blank[name] for one in divisions] for name in (divisions[0].blank if divisions else {})}
        return {**rows, **{f"{OTHER}{name}": _as(rows[name], of) for name, of in blanks.items() if of[0] is not None}}

    def divide(self, columns: Columns, rows: Mapping[str, Any]) -> Sequence[Division]:
        return self.codec.divide(columns, rows)

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return self._explained(self.codec.decode(_said(outputs), columns), outputs, columns)

    def decode_all(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return self._explained(self.codec.decode_all(_said(outputs), columns), outputs, columns)

    def _explained(
        self, answers: Sequence[dict[str, Any]], outputs: Mapping[str, np.ndarray], columns: Columns
    ) -> list[dict[str, Any]]:
        rows = self.codec.encode(columns)
        divisions = self.codec.divide(self.codec.opened(columns), rows)
        return [
            {**answer, **self._of_record(place, division, outputs, rows)}
            for place, (answer, division) in enumerate(zip(answers, divisions, strict=True))
        ]

    def _of_record(
        self, place: int, division: Division, outputs: Mapping[str, np.ndarray], rows: Mapping[str, Any]
    ) -> dict[str, Any]:
        maps = {
            name.removeprefix(f"{FOUND}attribution_"): np.asarray(value[place], np.float64)
            for name, value in outputs.items()
            if name.startswith(f"{FOUND}attribution_")
        }
        values = np.zeros(len(division.units))
        drawn: bytes | None = None
        for name, found in maps.items():
            filled = float(outputs[f"{FOUND}filled_{name}"][place]) if name in division.scaled else 0.0
            labels = fitted(division.labels[name], found.shape, filled)
            values += summed(found, labels, len(values))
            if drawn is None and name in division.scaled and found.ndim == 2:
                drawn = over_time(found[: int((labels[:, 0] != KEPT).sum())])
            elif drawn is None and found.ndim == 3 and division.shapes:
                pixels = np.asarray(rows[name][place])
                drawn = overlay(pixels.reshape(pixels.shape[-3:]), found.sum(-1))
        target, _, scale = told(self.codec, self.kind, int(outputs[f"{FOUND}answered"][place]))
        scale = scale or NumberScale()
        values *= scale.factor
        score, blank = (scale.read(float(outputs[f"{FOUND}{name}"][place])) for name in ("score", "blank_score"))
        answer: dict[str, Any] = {
            "explained": f"{target}, by integrated gradients; {division.about}",
            "score": rounded(score),
            "blank_score": rounded(blank),
            "attributed": rounded(values.sum()),
            "completeness_error": rounded(completeness(values, score - blank)),
            "attributions": _listed(division, values),
        }
        return {**answer, "map": File("image/png", drawn)} if drawn and self._mapped else answer


def divided(codec: Codec, columns: Columns, rows: Mapping[str, Any]) -> Sequence[Division]:
    """The divisions of records that are to be explained; arguments as of `Codec.divide`.

    Raises:
        InputError: a record has no unit that could be absent.
    """
    divisions = codec.divide(columns, rows)
    if not all(one.units for one in divisions):
        entry = next(entry for entry in codec.inputs if entry.name == codec.primary)
        example = f", such as {json.dumps(entry.example, ensure_ascii=False)}" if entry.example else ""
        problem = "holds nothing that an answer could be owed to, such as a word."
        raise InputError(f'input "{entry.name}"', problem, fix=f"give a record with content{example}")
    return divisions


def completeness(values: np.ndarray, difference: float) -> float:
    """By which share of the difference of two scores the sum of attributions (u,) misses it."""
    return float(abs(values.sum() - difference) / max(abs(difference), 1e-12))


def rounded(value: float) -> float:
    """A number of an explanation in JSON."""
    return float(f"{float(value):.{DIGITS}g}")


def explained_names(codec: Codec) -> Sequence[str]:
    """Of the classes that are explained, or of the records of a catalogue; empty where there is one number."""
    return codec.place_names.get("logits", ()) or codec.catalogue_names


def told(codec: Codec, kind: str, place: int) -> tuple[str, str, NumberScale | None]:
    """What the explained number is called; the name of the class, empty of a number; and how it is read, None of log
    odds.

    Args:
        codec: of the answer.
        kind: key of what `Task.explained` gives.
        place: of the class, label or goal; 0 of a single number.
    """
    names = () if kind == "value" else explained_names(codec)
    scale = codec.number_scale(place) or (NumberScale() if kind == "value" else None)
    if scale is not None:
        target = str(names[place]) if names else codec.outputs[0].name
        return f"{scale.of} of {target}" if scale.of else target, "", scale
    return (f'the log odds of "{names[place]}"', str(names[place]), None) if names else (EVENT, "", None)


def _said(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in outputs.items() if not name.startswith(FOUND)}


def _listed(division: Division, values: np.ndarray) -> list[dict[str, Any]]:
    """The units of the largest attributions, in the order of the record."""
    chosen = np.sort(np.argsort(-np.abs(values), kind="stable")[:MOST])
    listed = []
    for place in chosen.tolist():
        unit = division.units[place]
        entry = {"unit": unit.name, "column": unit.column, "attribution": rounded(values[place])}
        if unit.place and unit.column in division.texts:
            entry |= {"start": int(unit.place[0]), "end": int(unit.place[1])}
        listed.append(entry)
    return listed


def _as(rows: Any, blanks: Sequence[np.ndarray | None]) -> Any:
    """Blanks of records in the form of the rows that they stand for."""
    whole = [blank for blank in blanks if blank is not None]
    if isinstance(rows, Ragged):
        return Ragged(np.concatenate(whole).astype(rows.values.dtype), rows.lengths, rows.to, rows.axis)
    return np.stack(whole).astype(np.asarray(rows).dtype)
