"""Codec of pictures that are made: a class, a number of steps and a guidance in, a picture as a file out."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from suite.contracts.batch import Columns
from suite.contracts.bounds import Bounds
from suite.contracts.codec import Codec, File, Input, Output
from suite.data.preprocessing.image import MODES
from suite.data.preprocessing.labels import Labels
from suite.errors import InputError

STEPS, GUIDANCE, IMAGE = "steps", "guidance", "image"
MOST_GUIDANCE = 20.0
"""Beyond it a picture is nothing but edges."""


@dataclass(frozen=True, kw_only=True)
class GeneratedImages(Codec):
    """Pictures out of noise, which the request's seed draws."""

    number_bounds: ClassVar[Bounds] = {"steps": (1, 1000), "most_steps": (1, 1000), "guidance": (0, MOST_GUIDANCE)}

    label: str
    """Name of the input that is the class; empty where pictures have none."""
    labels: Labels | None
    """Class names, or None."""
    steps: int
    """Steps where a request says none."""
    most_steps: int
    """Most steps that a request may ask for."""
    guidance: float
    """Guidance where a request says none."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        steps = Input(
            name=STEPS,
            kind="number",
            required=False,
            example=self.steps,
            description=f"steps from noise to picture, 1 to {self.most_steps}; without, {self.steps}",
        )
        if self.labels is None:
            return (steps,)
        names = tuple(self.labels.names)
        about = "what the picture is to show; without, anything"
        guidance = Input(
            name=GUIDANCE,
            kind="number",
            required=False,
            example=self.guidance,
            description="how strongly the class counts: 0 not at all, 1 as it was learnt, more for pictures that are "
            f"typical and alike; without, {self.guidance:g}",
        )
        shown = Input(
            name=self.label, kind="category", required=False, description=about, choices=names[:100], example=names[0]
        )
        return shown, steps, guidance

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output(name=IMAGE, kind="image", description="the picture", media_types=("image/png",)),)

    @property
    def purpose(self) -> str:
        return "Makes pictures" if self.labels is None else "Makes pictures of a class"

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``steps`` int32 and ``guidance`` float32 (b,); with classes ``label`` int32 (b,), of which the number of
        classes stands for none."""
        rows = len(next(iter(columns.values()), ()))
        steps = np.array([self._steps(value) for value in _column(columns, STEPS, rows)], np.int32)
        if self.labels is None:
            return {STEPS: steps}
        guidance = [self._guidance(value) for value in _column(columns, GUIDANCE, rows)]
        label = [self._class(self.labels, value) for value in _column(columns, self.label, rows)]
        return {"label": np.array(label, np.int32), STEPS: steps, GUIDANCE: np.array(guidance, np.float32)}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return [{IMAGE: File("image/png", png(picture))} for picture in outputs[IMAGE]]

    def _steps(self, value: Any) -> int:
        number = _number(value, self.steps)
        if not (1 <= number <= self.most_steps and number == int(number)):
            raise InputError(
                f'input "{STEPS}"',
                f"must be a whole number from 1 to {self.most_steps}.",
                found=f"{value!r:.40}",
                fix=f"{STEPS} {self.steps}",
            )
        return int(number)

    def _guidance(self, value: Any) -> float:
        number = _number(value, self.guidance)
        if not 0 <= number <= MOST_GUIDANCE:
            raise InputError(
                f'input "{GUIDANCE}"',
                f"must be a number from 0 to {MOST_GUIDANCE:g}.",
                found=f"{value!r:.40}",
                fix=f"{GUIDANCE} {self.guidance:g}",
            )
        return number

    @staticmethod
    def _class(labels: Labels, value: Any) -> int:
        if _missing(value):
            return len(labels.names)
        return int(labels.encode([value])[0])


def _column(columns: Columns, name: str, rows: int) -> Sequence[Any]:
    return columns.get(name, [None] * rows)


def _missing(value: Any) -> bool:
    """Whether a cell is empty: None, an empty text, or nan."""
    return value is None or (isinstance(value, str) and not value.strip()) or value != value


def _number(value: Any, default: float) -> float:
    """A number, or ``default`` where nothing was given; nan where it is none."""
    if _missing(value):
        return default
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def png(pixels: np.ndarray) -> bytes:
    """A picture uint8 (h, w, c) of 1, 3 or 4 channels as a file."""
    from PIL import Image

    pixels = np.asarray(pixels, np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == min(MODES) else pixels).save(file, "PNG")
    return file.getvalue()
