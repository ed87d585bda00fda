"""The codec of table prediction: records of numbers, categories, lists, dates, texts, pictures and recordings.

Dims: b records, s n-grams of a text, n columns of pictures or recordings.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from suite.codecs.columns import reading
from suite.codecs.grid_units import picture_units, sound_divisions
from suite.codecs.prediction import Predictions
from suite.codecs.table import TableInputs
from suite.codecs.table_units import column_units
from suite.codecs.text_units import ngram_divisions, text_divisions
from suite.contracts.batch import Columns, Ragged
from suite.contracts.bounds import LENGTH, Bounds
from suite.contracts.codec import Input
from suite.contracts.division import Division, Unit, joint
from suite.data.preprocessing.image import MAX_PIXELS, PixelStatistics, decode_batch
from suite.data.preprocessing.ngrams import NGrams
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.data.reading import is_missing, present
from suite.data.recordings import Recordings, joined

Decode = Callable[[Sequence[Any]], np.ndarray]
"""Pictures -> uint8 (b, h, w, c), of the size of the run."""


@dataclass(frozen=True, kw_only=True)
class RecordPredictions(TableInputs, Predictions):
    """What is predicted of a record, by all of its columns. Any value may be missing, but not all."""

    number_bounds: ClassVar[Bounds] = {"max_length": LENGTH}

    text_columns: tuple[str, ...] = ()
    """Columns of texts, which are read as one."""
    ngrams: NGrams | None = None
    """N-grams that texts become; None where there are none, or a tokenizer reads them."""
    tokenizer: Tokenizer | None = None
    """Tokens that texts become; None where there are none, or n-grams do."""
    max_length: int = 128
    """Tokens that the texts of a record are cut at."""
    image_columns: tuple[str, ...] = ()
    """Columns of pictures."""
    statistics: PixelStatistics | None = None
    """Size and channels of pictures; None where there are none."""
    audio_columns: tuple[str, ...] = ()
    """Columns of recordings."""
    recordings: Recordings | None = None
    """How recordings are read; None where there are none."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        about = "none, where it is not known"
        texts = (
            Input(name=name, kind="text", required=False, description=f"a text; {about}") for name in self.text_columns
        )
        images = (
            Input(name=name, kind="image", required=False, limit=MAX_PIXELS, description=f"a picture; {about}")
            for name in self.image_columns
        )
        longest = 0.0 if self.recordings is None else self.recordings.longest
        sounds = (
            Input(
                name=name,
                kind="audio",
                required=False,
                limit=longest,
                description=f"a recording of at most {longest:g} seconds; {about}",
            )
            for name in self.audio_columns
        )
        return (*texts, *images, *sounds, *super().inputs)

    @property
    def texts(self) -> tuple[str, ...]:
        """Categories and lists that are texts, dates, and texts."""
        return (*super().texts, *self.text_columns)

    @property
    def longest(self) -> int:
        return self.max_length if self.tokenizer is not None else self.ngrams.longest if self.ngrams is not None else 0

    @property
    def purpose(self) -> str:
        return f"Predicts {self.target} from records"

    def encode(self, columns: Columns, decoded: Decode | None = None) -> dict[str, Any]:
        """Model-ready rows.

        Args:
            columns: records.
            decoded: what decodes pictures, such as `DecodedImages`, which keeps them; None: `decode_batch`.

        Returns:
            ``dense``, ``table_ids`` and ``table_weights`` as of `Fields.encode`; of texts ``text_ids`` int32 and
            ``text_weights`` float32, or ``text_tokens`` int32, Ragged; of pictures ``image`` uint8 (b, n, h, w, c) and
            ``image_there`` bool (b, n); of recordings ``audio_0`` float32 Ragged and so on, and ``audio_there`` bool
            (b, n).

        Raises:
            InputError: no column is there, or a value cannot be read.
        """
        columns = self.opened(columns)
        media = (*self.text_columns, *self.image_columns, *self.audio_columns)
        # Where only texts or files are given, all numbers and categories are missing.
        table = self.fields.encode(columns, needed=not any(name in columns for name in media))
        encoded: dict[str, Any] = {
            "dense": table["dense"],
            "table_ids": table["ids"],
            "table_weights": table["weights"],
        }
        absent = [None] * len(table["dense"])
        if self.text_columns:
            lines = self._lines(columns, len(absent))
            if self.ngrams is not None:
                encoded["text_ids"], encoded["text_weights"] = self.ngrams.encode(lines)
            if self.tokenizer is not None:
                encoded["text_tokens"] = self.tokenizer.encode(lines, self.max_length)
        if self.statistics is not None:
            columns_seen = [columns.get(name, absent) for name in self.image_columns]
            pictures = []
            for name, values in zip(self.image_columns, columns_seen, strict=True):
                with reading(name):
                    pictures.append(self._pictures(values, decoded))
            encoded["image"] = np.stack(pictures, 1)
            encoded["image_there"] = np.stack(list(map(_there, columns_seen)), 1)
        if self.recordings is not None:
            columns_heard = [columns.get(name, absent) for name in self.audio_columns]
            for place, values in enumerate(columns_heard):
                with reading(self.audio_columns[place]):
                    encoded[f"audio_{place}"] = self._sounds(values)
            encoded["audio_there"] = np.stack(list(map(_there, columns_heard)), 1)
        return encoded

    def _lines(self, columns: Columns, count: int) -> list[str]:
        """All texts of each record as one."""
        absent = [None] * count
        rows = zip(*(columns.get(name, absent) for name in self.text_columns), strict=True)
        return ["\n".join(str(text) for text in row if not is_missing(text)) for row in rows]

    def divide(self, columns: Columns, rows: Mapping[str, Any]) -> Sequence[Division]:
        """Columns of the table, words of the texts, patches of the pictures and moments of the recordings."""
        columns, count = self.opened(columns), len(rows["dense"])
        parts: list[Sequence[Division]] = [[column_units(self.fields, ("dense", "table_ids", "table_weights"))] * count]
        if self.text_columns:
            lines, name = self._lines(columns, count), " + ".join(self.text_columns)
            if self.ngrams is not None:
                parts.append(ngram_divisions(lines, name, self.ngrams, rows["text_ids"], "text_weights"))
            if self.tokenizer is not None:
                parts.append(text_divisions(lines, name, self.tokenizer, rows["text_tokens"], "text_tokens"))
        parts += self._media(rows, count)
        return [joint(list(of_record)) for of_record in zip(*parts, strict=True)]

    def _media(self, rows: Mapping[str, Any], count: int) -> list[list[Division]]:
        """Divisions of pictures, then of recordings."""
        parts = []
        if self.statistics is not None:
            height, width, _ = self.statistics.shape
            units: list[Unit] = []
            labels = []
            for name in self.image_columns:
                own, patches = picture_units(name, height, width)
                labels.append(patches + len(units))
                units += own
            about = "an absent pixel has the mean colour of the training pictures"
            shapes = dict.fromkeys(self.image_columns, (height, width))
            one = Division(tuple(units), {"image": np.stack(labels)}, {"image": None}, about, shapes=shapes)
            parts.append([one] * count)
        if self.recordings is not None:
            for place, name in enumerate(self.audio_columns):
                lengths = rows[f"audio_{place}"].lengths.tolist()
                parts.append(sound_divisions(name, lengths, self.recordings, f"audio_{place}"))
        return parts

    def _pictures(self, values: Sequence[Any], decoded: Decode | None) -> np.ndarray:
        """Pictures uint8 (b, h, w, c), black where there is none."""
        assert self.statistics is not None
        height, width, channels = self.statistics.shape
        pictures = np.zeros((len(values), height, width, channels), np.uint8)
        shown, statistics = present(values), self.statistics
        if len(shown):
            pictures[_there(values)] = (
                decoded(shown)
                if decoded
                else decode_batch(shown, (height, width), channels, statistics.background, statistics.white)
            )
        return pictures

    def _sounds(self, values: Sequence[Any]) -> Ragged:
        """Recordings, of one sample where there is none, all padded to one length."""
        assert self.recordings is not None
        silence = np.zeros(1, np.float32)
        rows = [silence if is_missing(value) else self.recordings.encode([value]).values for value in values]
        return replace(joined(rows), to=self.recordings.room, axis="audio")


def _there(values: Sequence[Any]) -> np.ndarray:
    """Which of b records have a picture, or a recording, bool (b,)."""
    return np.array([not is_missing(value) for value in values], bool)
