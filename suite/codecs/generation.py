"""Codecs of pictures that are made: a class or a text, a number of steps and a guidance in, a picture as a file out."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from suite.codecs.columns import option_input, option_numbers, optional, request_classes, text_input, told
from suite.contracts.batch import Columns
from suite.contracts.bounds import LENGTH, Bounds
from suite.contracts.codec import Codec, File, Input, Output
from suite.data.preprocessing.image import MODES
from suite.data.preprocessing.labels import Labels
from suite.data.preprocessing.text import clean
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.errors import InputError

STEPS, GUIDANCE, IMAGE = "steps", "guidance", "image"
MOST_GUIDANCE = 20.0
"""Beyond it a picture is nothing but edges."""


@dataclass(frozen=True, kw_only=True)
class MadeImages(Codec):
    """Pictures out of noise, which the request's seed draws: what all requests may say of how they are made."""

    number_bounds: ClassVar[Bounds] = {"steps": (1, 1000), "most_steps": (1, 1000), "guidance": (0, MOST_GUIDANCE)}

    steps: int
    """Steps where a request says none."""
    most_steps: int
    """Most steps that a request may ask for."""
    guidance: float
    """Guidance where a request says none."""

    @property
    def steps_input(self) -> Input:
        """How many steps lead from noise to picture."""
        about = f"steps from noise to picture, 1 to {self.most_steps}; without, {self.steps}"
        return option_input(STEPS, about, 1, self.most_steps, self.steps, whole=True)

    def guidance_input(self, of: str) -> Input:
        """How strongly ``of``, such as the class, counts."""
        about = (
            f"how strongly the {of} counts: 0 not at all, 1 as it was learnt, up to {MOST_GUIDANCE:g} for "
            f"pictures that are typical and alike; without, {self.guidance:g}"
        )
        return option_input(GUIDANCE, about, 0, MOST_GUIDANCE, self.guidance)

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output(name=IMAGE, kind="image", description="the picture", media_types=("image/png",)),)

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return [{IMAGE: File("image/png", png(picture))} for picture in outputs[IMAGE]]

    def options(self, columns: Columns, of: str = "") -> dict[str, np.ndarray]:
        """``steps`` int32 and, where ``of`` names what counts, ``guidance`` float32 (b,).

        Raises:
            InputError: no number, or out of its bounds.
        """
        rows = len(next(iter(columns.values()), ()))
        steps = {STEPS: option_numbers(columns, self.steps_input, rows).astype(np.int32)}
        return steps | ({GUIDANCE: option_numbers(columns, self.guidance_input(of), rows)} if of else {})


@dataclass(frozen=True, kw_only=True)
class GeneratedImages(MadeImages):
    """Pictures of a class, or of any."""

    label: str
    """Name of the input that is the class; empty where pictures have none."""
    labels: Labels | None
    """Class names, or None."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        if self.labels is None:
            return (self.steps_input,)
        names = tuple(self.labels.names)
        about = "what the picture is to show; without, anything"
        shown = Input(
            name=self.label,
            kind="category",
            required=False,
            description=about,
            choices=names[:100],
            example=names[0],
            absent="any",
        )
        return shown, self.steps_input, self.guidance_input("class")

    @property
    def purpose(self) -> str:
        return "Makes pictures" if self.labels is None else "Makes pictures of a class"

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``steps`` int32 and ``guidance`` float32 (b,); with classes ``label`` int32 (b,), of which the number of
        classes stands for none."""
        if self.labels is None:
            return self.options(columns)
        options = self.options(columns, "class")
        classes = [self._class(value) for value in optional(columns, self.label, len(options[STEPS]))]
        return {"label": np.array(classes, np.int32), **options}

    def _class(self, value: Any) -> int:
        assert self.labels is not None
        return len(self.labels.names) if value is None else int(request_classes(self.labels, self.label, [value])[0])


@dataclass(frozen=True, kw_only=True)
class DescribedImages(MadeImages):
    """Pictures of what a text says. Dims: t tokens of a text."""

    number_bounds: ClassVar[Bounds] = {**MadeImages.number_bounds, "max_length": LENGTH}
    example: ClassVar[str] = "a red house by the sea"
    """A text that can be asked."""

    text: str
    """Name of the input."""
    tokenizer: Tokenizer
    """Pieces."""
    max_length: int
    """t: tokens a text is cut at."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        about = f"what the picture is to show, of which {self.max_length} tokens are read; without, anything"
        said = replace(text_input(self.text, self.max_length, self.example, about), required=False)
        return said, self.steps_input, self.guidance_input("text")

    @property
    def purpose(self) -> str:
        return "Makes pictures of what a text says"

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``steps`` int32 and ``guidance`` float32 (b,), and what `read` makes of the texts."""
        options, texts = self.options(columns, "text"), []
        for value in optional(columns, self.text, len(options[STEPS])):
            if value != value:  # nan
                raise InputError(f'input "{self.text}"', "must be a text.", found=told(value), fix=f'"{self.text}": ""')
            texts.append("" if value is None else str(value))
        return {**self.read(texts), **options}

    def read(self, given: Sequence[str]) -> dict[str, np.ndarray]:
        """``tokens`` int32 (b, t), ``tokens_mask`` (b, t), and ``said`` (b,), False where a text is empty."""
        cleaned = [clean(text) for text in given]
        rows = self.tokenizer.encode(cleaned, self.max_length)
        tokens, mask = rows.padded(self.max_length)
        mask[:, 0] = True  # an encoder takes the mean over one token at least
        return {"tokens": tokens, "tokens_mask": mask, "said": np.array([bool(text) for text in cleaned], bool)}


def png(pixels: np.ndarray) -> bytes:
    """A picture uint8 (h, w, c) of 1, 3 or 4 channels as a file."""
    from PIL import Image

    pixels = np.asarray(pixels, np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == min(MODES) else pixels).save(file, "PNG")
    return file.getvalue()
