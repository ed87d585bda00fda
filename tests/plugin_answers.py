"""A plug-in of answers: a kind, files, a metric and an artifact of its own, on the toy task. For tests."""

import io
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite.codecs.answers import class_answers, class_outputs
from suite.contracts import values
from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch, Columns
from suite.contracts.codec import Codec, File, Input, Output
from suite.contracts.kinds import Kind, register_kind
from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed
from suite.reporting.blocks import Block, Text
from suite.reporting.drawings import draws
from tests import toy


def _digits(each: Input, value: Any, limits: values.Limits) -> list[int]:
    if not isinstance(value, list) or not all(isinstance(digit, int) and 0 <= digit <= 3 for digit in value):
        raise values.Unfit("wrong_digits", "must be digits from 0 to 3.", fix="[0, 3, 1]")
    if len(value) > (most := values.least(each.limit)):
        raise values.Unfit("too_many_digits", f"has {len(value)} digits, of at most {most:.0f}.", status=413)
    return value


DIGITS = register_kind(
    Kind(
        name="digits",
        plural="rows of digits",
        check=_digits,
        wanted="an array of digits",
        schema=lambda each, limits: {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 3},
            "maxItems": int(each.limit),
        },
        unit="digits",
        parsed=True,
        field="list",
        large=True,
        answer=lambda output: {"type": "array", "items": {"type": "integer"}},
        printed=lambda value: "-".join(map(str, value)),
    )
)

register_metric("evenness", "Share of rows that are called even.", "higher", share=True)


@dataclass(frozen=True)
class Count(Artifact):
    """How many rows there are; brings its own blocks."""

    rows: int

    def __add__(self, other: "Count") -> "Count":
        return Count(self.rows + other.rows)

    def blocks(self) -> Sequence[Block]:
        return [Text(f"There are {self.rows} rows, <b>all</b> told.")]


@dataclass(frozen=True)
class Sum(Artifact):
    """The sum of all digits; its drawing is registered."""

    total: int

    def __add__(self, other: "Sum") -> "Sum":
        return Sum(self.total + other.total)


@draws(Sum)
def _sum(artifact: Sum) -> list[Block]:
    return [Text(f"All digits together are {artifact.total}.")]


def png(digits: Sequence[int]) -> bytes:
    """A grey picture, a row of pixels that are 60 times the digits."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(60 * np.array([digits] * 2, np.uint8)).save(file, "PNG")
    return file.getvalue()


def wav(digits: Sequence[int]) -> bytes:
    """A recording of as many frames as there are digits."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        writer.writeframes(np.array(digits, "<i2").tobytes())
    return file.getvalue()


def rows(column: Sequence[Any]) -> list[list[int]]:
    """Rows of digits as arrays, lists or, in tables, as ``1|2|3``."""
    return [[int(digit) for digit in (row.split("|") if isinstance(row, str) else row)] for row in column]


@dataclass(frozen=True, kw_only=True)
class Shows(Codec):
    """Odd or even, and what was asked as a picture, as a recording and as it was."""

    digits: str = "digits"
    """Name of the input."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (Input(name=self.digits, kind="digits", description="1 to 12 digits", example=[1, 2], limit=12),)

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (
            *class_outputs(["even", "odd"]),
            Output(name="picture", kind="image", description="the digits in grey", media_types=("image/png",)),
            Output(name="sound", kind="audio"),
            Output(name="order", kind="ranking"),
            Output(name="same", kind="digits"),
            Output(name="logits", kind="vector", size=2),
        )

    @property
    def longest(self) -> int:
        return 12

    def encode(self, columns: Columns) -> dict[str, Any]:
        return toy.Digits(digits=self.digits).encode({self.digits: rows(columns[self.digits])})

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        asked = rows(columns[self.digits])
        said = class_answers(outputs["logits"], ["even", "odd"])
        return [
            {
                **answer,
                "picture": File("image/png", png(row)),
                "sound": File("audio/wav", wav(row)),
                "order": [{"item": digit, "score": float(row.count(digit))} for digit in sorted(set(row))],
                "same": row,
                "logits": [round(float(number), 4) for number in logits],
            }
            for answer, row, logits in zip(said, asked, outputs["logits"], strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Shown(toy.Parity):
    """The toy task with these answers, a metric and artifacts of its own."""

    @property
    def codec(self) -> Shows:  # type: ignore[override]
        return Shows(digits=self.digits)

    def score(self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Any = None) -> dict[str, MetricState]:
        even = (np.asarray(outputs["logits"]).argmax(-1) == 0)[np.asarray(batch["mask"])]
        return {**super().score(outputs, batch), "evenness": MetricState(float(even.sum()), len(even))}

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        rows = columns[self.digits]
        return {"How many": Count(len(rows)), "Their sum": Sum(int(sum(map(sum, rows))))}


def experiment(**train: Any) -> Experiment:
    """As the toy's."""
    return changed(toy.experiment(**train), {"task": Shown()})
