"""Table prediction: a number, a class or labels, from columns of any kind."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.records import RecordPredictions
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Source
from suite.data.preprocessing.audio import without_unusable
from suite.data.preprocessing.columns import origin, require, with_files
from suite.data.preprocessing.decoded_images import decoded_images
from suite.data.preprocessing.image import Augmentation, PixelStatistics, examine
from suite.data.preprocessing.ngrams import NGrams
from suite.data.preprocessing.tabular import Fields
from suite.data.preprocessing.target import Target
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.data.reading import is_missing
from suite.data.sources.memory import cleaned, not_empty
from suite.evaluation.artifacts import Given, Image, record
from suite.evaluation.prediction import Prediction
from suite.models.tabular import piecewise_linear
from suite.tasks.audio_features import AudioFeatures

MOST_SECONDS = 10.0
"""Of recordings, unless a task says otherwise."""


@dataclass(frozen=True, kw_only=True)
class TablePrediction(Prediction):
    """Every column but the target may be read. The model has a part for each kind: ``table`` for numbers, dates,
    categories and lists, whose outputs are the answer, and ``text``, ``image`` and ``audio``, which make vectors."""

    record: str = "record"
    """Name of a column that holds whole records, as mappings or JSON: ``run.predict([{"price": 3.5}])``."""
    answer: Target = field(default_factory=lambda: Target(part="table"))
    """What the target is, learnt from the training split."""
    fields: Fields = field(default_factory=lambda: Fields(column="target", part="table", all_kinds=True, bins=48))
    """What the columns are, learnt from the training split."""
    text_columns: tuple[str, ...] = ()
    """Columns of texts, read as one text. Empty: chosen with ``fields``."""
    image_columns: tuple[str, ...] = ()
    """Columns of pictures. Empty: chosen with ``fields``."""
    audio_columns: tuple[str, ...] = ()
    """Columns of recordings. Empty: chosen with ``fields``."""
    ngrams: NGrams | None = None
    """N-grams that texts become; None where there are none, or a tokenizer reads them."""
    tokenizer: Tokenizer | None = None
    """Tokens that texts become, as published encoders take them; None where there are none, or n-grams do."""
    max_length: int = 128
    """Tokens that the texts of a record are cut at."""
    statistics: PixelStatistics | None = None
    """Size and channels of pictures; None where there are none."""
    features: AudioFeatures | None = None
    """Features of recordings; None where there are none."""
    max_seconds: float = 0.0
    """Records with longer recordings are left out, and refused in a request. 0: as the longest of the training split,
    up to `MOST_SECONDS`."""
    augment: tuple[Augmentation, ...] = ()
    """Applied in order to training pictures."""

    @property
    def codec(self) -> RecordPredictions:
        return RecordPredictions(
            **self.answering,
            record=self.record,
            fields=self.fields,
            text_columns=self.text_columns if self.ngrams is not None or self.tokenizer is not None else (),
            ngrams=self.ngrams,
            tokenizer=self.tokenizer,
            max_length=self.max_length,
            image_columns=self.image_columns if self.statistics is not None else (),
            statistics=self.statistics,
            audio_columns=self.audio_columns if self.features is not None else (),
            recordings=None if self.features is None else self.features.recordings(self.max_seconds or MOST_SECONDS),
        )

    def source(self, split: str) -> Source:
        opened = self.opened(self.data, split)
        require(opened, {"target": self.target}, origin(self.data))
        for name in (*self.image_columns, *self.audio_columns):
            opened = with_files(opened, name, self.data)
        for name in self.image_columns:
            opened = cleaned(opened, _broken(opened, name))
        if self.features is not None:
            front_end = self.features.front_end
            for name in self.audio_columns:
                longest = self.max_seconds or MOST_SECONDS
                opened = without_unusable(opened, name, front_end.sample_rate, front_end.hop, longest)
        return not_empty(opened, split, f"column {self.target}", "name another target column")

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """What the codec says, and ``target`` as `Target.encode` says."""
        columns = self.codec.opened(columns)
        encoded = self.codec.encode(columns, None if self.statistics is None else decoded_images(self.statistics))
        if rng is not None and "image" in encoded:
            rows, count = encoded["image"].shape[:2]
            pictures = encoded["image"].reshape(rows * count, *encoded["image"].shape[2:])
            for augmentation in self.augment:
                pictures = augmentation(pictures, rng)
            encoded["image"] = pictures.reshape(rows, count, *pictures.shape[1:])
        return {**encoded, **self.encoded_target(columns, rng)}

    def logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        vectors = []
        if self.ngrams is not None:
            ids, mask = batch["text_ids"], batch["text_ids_mask"]
            vectors.append(model.text(ids, batch["text_weights"], mask, rngs=rngs))
        if self.tokenizer is not None:
            vectors.append(model.text(batch["text_tokens"], batch["text_tokens_mask"], rngs=rngs))
        if self.statistics is not None:
            vectors.append(self._of_images(model, batch, rngs))
        if self.features is not None:
            vectors += self._of_recordings(model, batch, rngs)
        dense = batch["dense"]
        bins = piecewise_linear(dense, jnp.asarray(self.fields.edges))
        return model.table(dense, bins, batch["table_ids"], batch["table_weights"], vectors, rngs=rngs)

    def _of_images(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> jax.Array:
        """Vectors (b, n d) of n pictures a record, 0 where there is none."""
        assert self.statistics is not None
        there, (rows, count, *shape) = batch["image_there"], batch["image"].shape
        pixels = self.statistics.normalised(batch["image"].reshape(rows * count, *shape))
        real = (there & batch["mask"][:, None]).reshape(-1)
        vectors = model.image(pixels, rows=real, rngs=rngs).reshape(rows, count, -1)
        return jnp.where(there[..., None], vectors, 0).reshape(rows, -1)

    def _of_recordings(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> list[jax.Array]:
        """Vectors (b, d) of the recordings of each column, 0 where there is none."""
        assert self.features is not None
        vectors = []
        for place in range(batch["audio_there"].shape[1]):
            frames, mask = self.features.frames(batch[f"audio_{place}"], batch[f"audio_{place}_mask"])
            vector = model.audio(frames, mask, rngs=rngs)
            vectors.append(jnp.where(batch["audio_there"][:, place, None], vector, 0))
        return vectors

    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        names = [name for name in columns if name != self.target and name not in self.fields.ignored]

        def shown(i: int) -> Given:
            pictures = {
                name: Image(batch["image"][i, place].copy())
                for place, name in enumerate(self.image_columns if "image" in batch else ())
                if batch["image_there"][i, place]
            }
            return {**record(columns, names, i), **pictures}

        return shown


def _broken(source: Source, name: str) -> dict[str, np.ndarray]:
    """Fault of the pictures of a column -> which of n records have it; a missing picture is none."""
    values = source.column(name, np.arange(len(source)))
    faults = [("" if is_missing(value) else examine(value)[0]) for value in values]
    return {
        f"{reason}, {name}": np.array([fault == reason for fault in faults], bool)
        for reason in dict.fromkeys(filter(None, faults))
    }
