"""Codecs of pictures, or recordings, and texts in one space. Dims: b records, k texts of a record, t tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from suite.codecs.audio import AudioInput
from suite.codecs.columns import column
from suite.codecs.image import ImageInput
from suite.codecs.text import ReadText
from suite.codecs.vectors import vector_answers
from suite.contracts.batch import Columns
from suite.contracts.bounds import LENGTH, Bounds
from suite.contracts.codec import Codec, Input, Output
from suite.contracts.division import Division
from suite.data.preprocessing import tabular_values
from suite.data.preprocessing.items import FIRST, Items
from suite.data.preprocessing.partners import row_keys
from suite.data.preprocessing.text import clean
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.data.sources.captions import LABELS, PICTURES, RECORDINGS
from suite.errors import InputError

MOST = 16
"""Most labels of a request."""


def token_rows(tokenizer: Tokenizer, lists: Sequence[Sequence[str]], length: int, most: int) -> dict[str, np.ndarray]:
    """Texts (b, k) as arrays of one shape.

    Args:
        tokenizer: cuts texts into pieces.
        lists: the texts of each record; those beyond ``most`` are left out.
        length: t, tokens of a text that are read.
        most: k.

    Returns:
        ``texts`` int32 (b, k, t), ``texts_mask`` (b, k, t), which tokens there are, ``texts_real`` (b, k), which texts,
        and ``texts_content`` int32 (b, k, 2), keys of what the model is given.
    """
    flat = [clean(text) for row in lists for text in row[:most]]
    real = np.arange(most) < np.array([min(len(row), most) for row in lists], np.int64)[:, None]
    tokens, mask = np.zeros((*real.shape, length), np.int32), np.zeros((*real.shape, length), bool)
    content = np.zeros((*real.shape, 2), np.int32)
    if flat:
        rows = tokenizer.encode(flat, length)
        tokens[real], mask[real] = rows.padded(length)
        content[real] = row_keys(rows)
    mask[~real, 0] = True  # an encoder takes the mean over one token at least
    return {"texts": tokens, "texts_mask": mask, "texts_real": real, "texts_content": content}


@dataclass(frozen=True, kw_only=True)
class Ranked(ReadText):
    """A text in, the records of a catalogue that fit best out."""

    things: ClassVar[str]
    """What is ranked: the name of the output, and of the field that holds the names of training."""

    catalogue: Items | None = None
    """Those of another catalogue, where there is one."""

    @property
    def ranked(self) -> Items:
        """What is ranked, by name."""
        known: Items = getattr(self, self.things)
        return known if self.catalogue is None else self.catalogue

    @property
    def names_catalogue(self) -> bool:
        return True

    @property
    def catalogue_names(self) -> Sequence[str]:
        return self.ranked.names

    def with_catalogue(self, names: Sequence[str], file: Path) -> Self:
        return replace(self, catalogue=getattr(self, self.things).write(names, file))

    @property
    def outputs(self) -> tuple[Output, ...]:
        about = f"the {self.things} that fit best, the best first"
        return (Output(name=self.things, kind="ranking", description=about),)

    @property
    def purpose(self) -> str:
        return f"Ranks the {self.things} of a catalogue for a text"

    def encode(self, columns: Columns) -> dict[str, Any]:
        return super().encode(self.asked(columns))

    def divide(self, columns: Columns, rows: Mapping[str, Any]) -> Sequence[Division]:
        return super().divide(self.asked(columns), rows)

    def asked(self, columns: Columns) -> Columns:
        """The columns as a request has them: records of the data have several texts, of which the first is asked."""
        first = lambda value: value[0] if isinstance(value, list | tuple) and value else value
        return {**columns, self.text: list(map(first, columns[self.text]))} if self.text in columns else columns

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        """``{things: [{"item", "score"}, ...]}`` for each text; the score is the cosine."""
        names = self.ranked.names
        return [
            {
                self.things: [
                    {"item": names[place - FIRST], "score": round(float(score), 6)}
                    for place, score in zip(places.tolist(), scores.tolist(), strict=True)
                    if place >= FIRST
                ]
            }
            for places, scores in zip(outputs["top"], outputs["score"], strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class RankedPictures(Ranked):
    """A text in, the pictures of a catalogue that fit best out."""

    example: ClassVar[str] = "a dog runs on the beach"
    things: ClassVar[str] = PICTURES

    pictures: Items
    """The pictures of the catalogue, by name."""


@dataclass(frozen=True, kw_only=True)
class RankedRecordings(Ranked):
    """A text in, the recordings of a catalogue that fit best out."""

    example: ClassVar[str] = "one two three"
    things: ClassVar[str] = RECORDINGS

    recordings: Items
    """The recordings of the catalogue, by name."""

    @property
    def longest(self) -> int:
        return 0

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``tokens`` int32 Ragged, of one length: buckets are those of recordings."""
        return {"tokens": replace(self.tokens(self.asked(columns)), to=self.max_length)}


@dataclass(frozen=True, kw_only=True)
class InWords(Codec):
    """The end of a codec that judges labels in any words; with a picture or a recording at the other."""

    number_bounds: ClassVar[Bounds] = {"max_length": LENGTH}
    examples: ClassVar[tuple[str, ...]] = ("a dog", "a child", "a mountain")

    labels: str = LABELS
    """Name of the input of labels."""
    prompt: str
    """Text that a label is put into, in the place of {}."""
    tokenizer: Tokenizer
    """Pieces of texts."""
    max_length: int
    """Tokens of a label in its prompt that are read."""
    alone: bool = False
    """Whether each label is judged by itself, as the sigmoid loss does; else the probabilities add up to 1."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        about = f"what it may be, in words: at most {MOST}"
        example = list(self.examples)
        labels = Input(name=self.labels, kind="list", description=about, example=example, limit=MOST)
        return (*super().inputs, labels)  # type: ignore[safe-super]

    @property
    def outputs(self) -> tuple[Output, ...]:
        about = "how well each label fits" + ("" if self.alone else "; they add up to 1")
        return (
            Output(name="label", kind="class", description="the label that fits best"),
            Output(name="probabilities", kind="classes", description=about),
        )

    def encode(self, columns: Columns) -> dict[str, Any]:
        """What the picture or recording becomes, and `token_rows` of the labels in their prompts.

        Raises:
            InputError: a record has no label, or too many.
        """
        lists = self._lists(columns)
        for row in lists:
            if not 0 < len(row) <= MOST:
                problem = f"takes 1 to {MOST} labels."
                raise InputError(
                    f'input "{self.labels}"', problem, found=f"{len(row)}", fix=f'"{self.labels}": ["a dog", "a child"]'
                )
        prompts = [[self.prompt.replace("{}", label) for label in row] for row in lists]
        texts = token_rows(self.tokenizer, prompts, self.max_length, MOST)
        return {**super().encode(columns), **texts}  # type: ignore[safe-super]

    def _lists(self, columns: Columns) -> list[list[str]]:
        """The labels of each record, none twice: equal ones would share their probability."""
        return [list(dict.fromkeys(row)) for row in tabular_values.items(column(columns, self.labels), "|")]

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        """``{"label", "probabilities": {label: probability, ...}}``, the likeliest first."""
        answers = []
        for row, shares in zip(self._lists(columns), outputs["probability"], strict=True):
            order = np.argsort(-shares[: len(row)], kind="stable").tolist()
            answers.append(
                {
                    "label": row[order[0]],
                    "probabilities": {row[place]: round(float(shares[place]), 6) for place in order},
                }
            )
        return answers


@dataclass(frozen=True, kw_only=True)
class PictureLabels(InWords, ImageInput):
    """A picture and labels in any words in, how well each label fits out."""

    @property
    def purpose(self) -> str:
        return "Says which of some labels fits a picture"


@dataclass(frozen=True, kw_only=True)
class RecordingLabels(InWords, AudioInput):
    """A recording and texts in any words in, how well each text fits out."""

    examples: ClassVar[tuple[str, ...]] = ("one", "two", "three")

    @property
    def purpose(self) -> str:
        return "Says which of some texts fits a recording"


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry(Codec):
    """A record of a catalogue and its name in, its vector out."""

    thing: ClassVar[str]
    """What a record is."""

    name: str
    """Name of the input of names."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        name = Input(name=self.name, kind="text", description=f"what the {self.thing} is called")
        return (name, *super().inputs)  # type: ignore[safe-super]

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output(name="vector", kind="vector", description="what texts are compared with"),)

    @property
    def purpose(self) -> str:
        return f"Gives the vectors of {self.thing}s"

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return vector_answers(outputs["vector"])


@dataclass(frozen=True, kw_only=True)
class CataloguePicture(CatalogueEntry, ImageInput):
    """A picture of a catalogue and its name in, its vector out."""

    thing: ClassVar[str] = "picture"


@dataclass(frozen=True, kw_only=True)
class CatalogueRecording(CatalogueEntry, AudioInput):
    """A recording of a catalogue and its name in, its vector out."""

    thing: ClassVar[str] = "recording"
