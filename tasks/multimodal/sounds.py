"""Sound-text matching: recordings and texts as vectors in one space, near each other where they belong together."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.matching import CatalogueRecording, RankedRecordings, RecordingLabels
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Source
from suite.data.preprocessing.audio import Perturbation, perturbed, without_unusable
from suite.data.preprocessing.picture_names import RecordingNames
from suite.data.preprocessing.text import SentencePiece
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.data.recordings import decode
from suite.data.sources.captions import RECORDINGS
from suite.evaluation.artifacts import Given, Sound
from suite.nn.audio.spectral import SpecAugment
from suite.nn.masking import masked_mean
from suite.tasks.audio_features import AudioFeatures, frame_vectors
from suite.tasks.multimodal.dual_encoder import NAME, Matching, Side


@dataclass(frozen=True, kw_only=True)
class SoundTextMatching(Matching):
    """A dual encoder: one of recordings, one of texts, and heads that bring both into one space (CLAP, `Elizalde et
    al., 2022 <https://arxiv.org/abs/2206.04769>`_).

    The encoder of recordings gives a vector for each frame, of which the mean is taken.
    """

    side: ClassVar[Side] = "audio"
    things: ClassVar[str] = RECORDINGS

    audio: str = "audio"
    """Name of the column of recordings."""
    text: str = "text"
    """Name of the column of texts."""
    features: AudioFeatures = field(default_factory=lambda: AudioFeatures(part="audio"))
    """Sample rate, front end, mean and deviation, learnt from the training split."""
    tokenizer: Tokenizer = field(
        default_factory=lambda: SentencePiece(kind="char", character_coverage=1.0, part="text")
    )
    """Pieces: learnt from the training split, or those of published weights."""
    recordings: RecordingNames = field(default_factory=RecordingNames)
    """Names of the recordings of the training split, the catalogue of prediction."""
    augment: tuple[Perturbation, ...] = ()
    """Applied in order to the samples of training recordings."""
    spec_augment: SpecAugment | None = None
    """Stretches of time and frequency that training hides."""
    max_seconds: float = 30.0
    """Longer recordings are left out, and refused in a request."""
    max_length: int = 96
    """Tokens a text is cut at."""

    @property
    def codec(self) -> RankedRecordings:
        return RankedRecordings(
            text=self.text, tokenizer=self.tokenizer, max_length=self.max_length, recordings=self.recordings
        )

    @property
    def catalogue(self) -> CatalogueRecording:
        return CatalogueRecording(audio=self.audio, recordings=self.features.recordings(self.max_seconds), name=NAME)

    @property
    def judge(self) -> RecordingLabels:
        return RecordingLabels(
            audio=self.audio,
            recordings=self.features.recordings(self.max_seconds),
            prompt=self.prompt,
            tokenizer=self.tokenizer,
            max_length=self.max_length,
            alone=self.objective == "sigmoid",
        )

    def usable(self, records: Source) -> Source:
        front_end = self.features.front_end
        return without_unusable(records, self.audio, front_end.sample_rate, front_end.hop, self.max_seconds)

    def media(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``audio`` float32 Ragged of samples or stored features."""
        return dict(perturbed(self.catalogue.encode(columns)["audio"], self.augment, self.features.rate, rng))

    def encoded(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        frames, mask = self.features.frames(batch["audio"], batch["audio_mask"])
        if rngs is not None and self.spec_augment is not None:
            frames = self.spec_augment(frames, mask, rngs.dropout())
        vectors, real = frame_vectors(model.audio, frames, mask, rngs)
        return masked_mean(vectors.astype(jnp.float32), real)

    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        return lambda place: Sound(decode(columns[self.audio][place], self.features.rate), self.features.rate)
