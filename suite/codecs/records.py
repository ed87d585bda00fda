"""The codec of table prediction: records of numbers, categories, lists, dates, texts, pictures and recordings.

Dims: b records, s n-grams of a text, n columns of pictures or recordings.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from suite.codecs.prediction import Predictions
from suite.codecs.table import TableInputs
from suite.contracts.batch import Columns, Ragged
from suite.contracts.codec import Input
from suite.data.preprocessing.image import MAX_PIXELS, PixelStatistics, decode
from suite.data.preprocessing.ngrams import NGrams
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.data.reading import is_missing
from suite.data.recordings import Recordings, joined

MOST_NGRAMS = 512
"""N-grams of the texts of a record that are read."""


@dataclass(frozen=True, kw_only=True)
class RecordPredictions(TableInputs, Predictions):
    """What is predicted of a record, by all of its columns. Any value may be missing, but not all."""

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
        return (*texts, *images, *sounds, *self.table_inputs)

    @property
    def primary(self) -> str:
        return self.record

    @property
    def texts(self) -> tuple[str, ...]:
        """Categories and lists that are texts, dates, and texts."""
        return (*self.table_texts, *self.text_columns)

    @property
    def longest(self) -> int:
        return 0 if not self.text_columns else self.max_length if self.tokenizer is not None else MOST_NGRAMS

    @property
    def purpose(self) -> str:
        return f"Predicts {self.target} from records"

    def encode(self, columns: Columns) -> dict[str, Any]:
        """Model-ready rows.

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
        encoded = self._table(columns, any(name in columns for name in media))
        absent = [None] * len(encoded["dense"])
        if self.text_columns:
            texts = list(zip(*(columns.get(name, absent) for name in self.text_columns), strict=True))
            joined = ["\n".join(str(text) for text in row if not is_missing(text)) for row in texts]
            if self.ngrams is not None:
                ids, weights = self.ngrams.encode(joined)
                encoded["text_ids"], encoded["text_weights"] = _cut(ids), _cut(weights)
            if self.tokenizer is not None:
                encoded["text_tokens"] = self.tokenizer.encode(joined, self.max_length)
        if self.statistics is not None:
            pictures, there = zip(
                *(self._pictures(columns.get(name, absent)) for name in self.image_columns), strict=True
            )
            encoded["image"], encoded["image_there"] = np.stack(pictures, 1), np.stack(there, 1)
        if self.recordings is not None:
            there = []
            for place, name in enumerate(self.audio_columns):
                values = columns.get(name, absent)
                there.append(np.array([not is_missing(value) for value in values], bool))
                encoded[f"audio_{place}"] = self._sounds(values)
            encoded["audio_there"] = np.stack(there, 1)
        return encoded

    def _table(self, columns: Columns, others: bool) -> dict[str, Any]:
        """Numbers and categories; all of them missing where ``others`` are there alone."""
        encoded = self.fields.encode(columns, needed=not others)
        return {"dense": encoded["dense"], "table_ids": encoded["ids"], "table_weights": encoded["weights"]}

    def _pictures(self, values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Pictures uint8 (b, h, w, c), black where there is none, and which are there (b,)."""
        assert self.statistics is not None
        height, width, channels = self.statistics.shape
        pictures = np.zeros((len(values), height, width, channels), np.uint8)
        there = np.array([not is_missing(value) for value in values], bool)
        for place in np.flatnonzero(there).tolist():
            pictures[place] = decode(values[place], (height, width), channels, self.statistics.background)
        return pictures, there

    def _sounds(self, values: Sequence[Any]) -> Ragged:
        """Recordings, of one sample where there is none, all padded to one length."""
        assert self.recordings is not None
        silence = np.zeros(1, np.float32)
        rows = [silence if is_missing(value) else self.recordings.encode([value]).values for value in values]
        return replace(joined(rows), to=self.recordings.room, axis="audio")


def _cut(rows: Ragged) -> Ragged:
    """The rows, cut at `MOST_NGRAMS`, along the axis that decides which records share a batch; none is empty."""
    lengths = np.asarray(rows.lengths)
    starts = np.cumsum(lengths) - lengths
    kept = np.minimum(lengths, MOST_NGRAMS)
    places = np.repeat(starts - (np.cumsum(kept) - kept), kept) + np.arange(int(kept.sum()))
    return Ragged(rows.values[places], kept)
