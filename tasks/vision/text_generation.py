"""Image generation from texts: pictures out of noise, of what a text says.

Dims: b rows, t tokens of a text, s size of a text's vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.generation import DescribedImages
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.data.preprocessing.captioned import CaptionedRows, captioned, remark_on_shared
from suite.data.preprocessing.columns import without_broken_images
from suite.data.preprocessing.image import PixelStatistics
from suite.data.preprocessing.text import clean
from suite.data.preprocessing.tokenizers import Published, Tokenizer
from suite.errors import InputError
from suite.tasks.kept_vectors import Kept, kept_texts, text_vectors
from suite.tasks.vision.conditional_generation import Condition, ConditionalGeneration


@dataclass(frozen=True, kw_only=True)
class TextToImage(ConditionalGeneration):
    """Pictures of what a text says, by the vector that an encoder of texts makes of it.

    Rows are of a picture and a text of it; those of one picture are one record, of which training draws one text a
    time. The model has the parts ``text``, which runs as in prediction, and ``network``.
    """

    conditions: ClassVar[tuple[str, ...]] = ("tokens", "tokens_mask", "text_vector", "said")
    kind: ClassVar[str] = "text"

    data: Data
    """Where the rows come from."""
    text: str = "caption"
    """Name of the column of texts."""
    tokenizer: Tokenizer = field(default_factory=lambda: Published(part="text"))
    """Pieces: those of published weights, or learnt from the training split."""
    max_length: int = 32
    """Tokens a text is cut at."""
    text_dropout: float = 0.1
    """Share of training records whose text is withheld, so that the model knows both; guidance needs it."""
    text_weights: str = ""
    """Published weights that the encoder of texts is frozen at: its vectors are computed once, and kept. Empty: it is
    computed in each step."""
    statistics: PixelStatistics = field(default_factory=lambda: PixelStatistics(part="network"))
    """Image size and channels."""
    guidance: float = 3.0
    """How strongly the text counts, where a request says nothing: 0 not at all, 1 as it was learnt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.text_dropout < 1:
            found = f"{self.text_dropout:g}"
            raise InputError("field task.text_dropout", "must be at least 0 and below 1", found=found)
        if self.max_length < 1:
            raise InputError("field task.max_length", "must be at least 1", found=str(self.max_length))

    @property
    def codec(self) -> DescribedImages:
        return DescribedImages(
            text=self.text,
            tokenizer=self.tokenizer,
            max_length=self.max_length,
            steps=self.steps,
            most_steps=self.most_steps,
            guidance=self.guidance,
        )

    @property
    def conditional(self) -> bool:
        return True

    @property
    def dropout(self) -> float:
        return self.text_dropout

    @property
    def split_data(self) -> Data:
        return CaptionedRows(rows=self.data, side="image", medium=self.image, text=self.text)

    def source(self, split: str) -> Source:
        records = captioned(self.data, split, "image", self.image, self.text)
        return self.measurable(without_broken_images(records, self.image, *self.handling), split)

    def remarks(self, splits: Any) -> list[str]:
        return super().remarks(splits) + remark_on_shared(list(splits.values()))

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``image`` uint8 (b, h, w, c), and of one text of each record, the first or one that is drawn, what the codec
        makes of it, or where vectors are kept ``text_vector`` float32 (b, s); of requests what the codec makes of
        them."""
        if self.image not in columns:
            return self.codec.encode(columns)
        lists = [list(row) for row in columns[self.text]]
        texts = [row[0] if rng is None else row[rng.integers(len(row))] for row in lists]
        encoded: dict[str, Any] = {"image": self.pixels(columns, rng)}
        kept = self._kept
        if kept is None:
            return encoded | self.codec.read(texts)
        if rng is not None:  # of all texts at once, be they drawn in this epoch or in a later one
            self._vectors(kept, [text for row in lists for text in row])
        return encoded | {"text_vector": self._vectors(kept, texts), "said": np.array([bool(clean(t)) for t in texts])}

    def _vectors(self, kept: Kept, texts: Sequence[str]) -> np.ndarray:
        """Vectors (b, s)."""
        return text_vectors(kept, texts, self.tokenizer, self.max_length)

    @property
    def _kept(self) -> Kept | None:
        """Vectors of texts, where the encoder is frozen at published weights."""
        if not self.text_weights or not self.tokenizer.file:
            return None
        return kept_texts(self.text_weights, self.tokenizer.file, self.max_length)

    def condition(self, model: Any, batch: Batch) -> Condition:
        """Vectors (b, s) of the texts, where there is one (b,), and which rows are real (b,)."""
        vectors = batch["text_vector"] if "text_vector" in batch else model.text(batch["tokens"], batch["tokens_mask"])
        said = batch["said"]
        return vectors, said, batch.get("mask", jnp.ones_like(said))

    def withheld(self, condition: Condition, rows: jax.Array) -> Condition:
        vectors, said, real = condition
        return vectors, said & ~rows, real

    def predicted(
        self, model: Any, noisy: jax.Array, time: jax.Array, condition: Condition, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        vectors, said, real = condition
        about = {"text": vectors.astype(jnp.float32), "said": said, "rows": real}
        predicted: jax.Array = model.network(noisy, time, **about, rngs=rngs)
        return predicted

    def titles(self, columns: Columns, batch: Batch) -> Sequence[str]:
        return [row[0] for row in columns[self.text]]
