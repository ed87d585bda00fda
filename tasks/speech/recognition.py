"""Speech recognition: what is said in each recording, by connectionist temporal classification."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.audio import Transcripts
from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.contracts.task import Task
from suite.data.preprocessing.audio import Perturbation, perturbed, require_audio, without_unusable
from suite.data.preprocessing.columns import unread_columns, with_files
from suite.data.preprocessing.transcripts import Characters, Transcriber, with_transcripts
from suite.data.recordings import decode
from suite.decoding import Decoder, Greedy, NGrams
from suite.distribution import missing
from suite.evaluation import alignment
from suite.evaluation.artifacts import Edits, Example, Gallery, Sound
from suite.evaluation.losses import distillation_loss, masked_mean, tally
from suite.nn.audio.ctc import ctc_loss
from suite.nn.audio.spectral import SpecAugment
from suite.tasks.audio_features import AudioFeatures


@dataclass(frozen=True, kw_only=True)
class SpeechRecognition(Task):
    """Recordings are padded as samples, and become features on the device; transcripts are padded to ``max_text``.

    The model gives log probabilities of symbols for each frame, of which the first is CTC's blank.
    """

    data: Data
    """Where the recordings come from."""
    audio: str = "audio"
    """Name of the column of recordings."""
    text: str = "text"
    """Name of the column of transcripts."""
    features: AudioFeatures = field(default_factory=AudioFeatures)
    """Sample rate, front end, mean and deviation, learnt from the training split."""
    transcriber: Transcriber = field(default_factory=Characters)
    """Symbols, learnt from the training split."""
    augment: tuple[Perturbation, ...] = ()
    """Applied in order to the samples of training recordings."""
    spec_augment: SpecAugment | None = None
    """Stretches of time and frequency that training hides."""
    max_seconds: float = 30.0
    """Longer recordings are left out, and refused in a request."""
    max_text: int = 200
    """Records with more characters are left out; transcripts are padded to this."""
    decoder: Decoder = field(default_factory=Greedy)
    """How transcripts are found."""
    language_model: NGrams | None = None
    """Words that a ``Beam`` expects."""

    @property
    def codec(self) -> Transcripts:
        return Transcripts(
            audio=self.audio,
            recordings=self.features.recordings(self.max_seconds),
            transcriber=self.transcriber,
            decoder=self.decoder,
            language_model=self.language_model,
        )

    def source(self, split: str) -> Source:
        opened = self.data.with_texts((self.text,)).open(split)
        require_audio(opened, {"audio": self.audio, "text": self.text}, self.data)
        located = with_files(opened, self.audio, self.data)
        spoken = with_transcripts(located, self.text, self.transcriber, self.max_text)
        front_end = self.features.front_end
        return without_unusable(spoken, self.audio, front_end.sample_rate, front_end.hop, self.max_seconds)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        return unread_columns(splits["train"], {self.audio, self.text}, self.data) if "train" in splits else []

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``audio`` float32 Ragged of samples or stored features, and ``symbols`` int32 Ragged."""
        audio = self.codec.encode(columns)["audio"]
        encoded: dict[str, Any] = dict(perturbed(audio, self.augment, self.features.rate, rng))
        texts = columns.get(self.text)
        if texts is not None and all(text is not None for text in texts):
            encoded["symbols"] = self.transcriber.encode(texts, self.max_text)
        return encoded

    def _log_probs(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, jax.Array]:
        frames, mask = self.features.frames(batch["audio"], batch["audio_mask"])
        if rngs is not None and self.spec_augment is not None:
            frames = self.spec_augment(frames, mask, rngs.dropout())
        logits, real = model(frames, mask, rngs=rngs)
        return jax.nn.log_softmax(logits.astype(jnp.float32)), real

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        """Nats a symbol, averaged over rows. Recordings too short for their transcript count as ``too_short`` alone."""
        log_probs, real = self._log_probs(model, batch, rngs)
        losses, fits = ctc_loss(log_probs, real, batch["symbols"], batch["symbols_mask"])
        losses = losses / jnp.maximum(batch["symbols_mask"].sum(1), 1)
        counted, short = batch["mask"] & fits, (~fits).astype(jnp.float32)
        return masked_mean(losses, counted), {"loss": tally(losses, counted), "too_short": tally(short, batch["mask"])}

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        log_probs, real = self._log_probs(model, batch, None)
        return {"log_probs": log_probs, "frames": real.sum(1)}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """``wer`` and ``cer``: edits a word and a character of the transcripts; ``loss``; ``too_short``, a share.

        Where the decoder is not greedy, ``wer_greedy`` says what it is worth.
        """
        mask = np.asarray(batch["mask"])
        symbols, symbols_mask = np.asarray(batch["symbols"])[mask], np.asarray(batch["symbols_mask"])[mask]
        log_probs, frames = np.asarray(outputs["log_probs"])[mask], np.asarray(outputs["frames"])[mask]
        said = [self.transcriber.spell(row[real]) for row, real in zip(symbols, symbols_mask, strict=True)]
        heard = self.codec.transcripts(log_probs, frames)
        real = np.arange(log_probs.shape[1]) < frames[:, None]
        losses, fits = (np.asarray(array) for array in _losses()(log_probs, real, symbols, symbols_mask))
        losses = (losses.astype(np.float64) / np.maximum(symbols_mask.sum(1), 1))[fits]
        metrics = {
            "wer": edits(said, heard, "words"),
            "cer": edits(said, heard, "characters"),
            "loss": MetricState(losses.sum(), len(losses)),
            "too_short": MetricState(float((~fits).sum()), len(fits)),
        }
        if not isinstance(self.decoder, Greedy):
            greedy = replace(self.codec, decoder=Greedy(), language_model=None)
            metrics["wer_greedy"] = edits(said, greedy.transcripts(log_probs, frames), "words")
        return metrics

    def distillation_loss(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> jax.Array:
        """Mean over a recording's frames."""
        (logits, real), told = ours, theirs[0]
        apart = jnp.where(real, distillation_loss(logits, told, temperature), 0).sum(1) / jnp.maximum(real.sum(1), 1)
        return jnp.where(batch["mask"], apart, 0)

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        """Word errors, and the recordings of the highest word error rate."""
        rows = zip(batch["symbols"], batch["symbols_mask"], strict=True)
        said = [self.transcriber.spell(row[real]) for row, real in rows]
        heard = [answer["text"] for answer in self.codec.decode(outputs, columns)]
        wrong = [alignment.edits(alignment.align(s.split(), h.split())) for s, h in zip(said, heard, strict=True)]
        share = np.array([n / max(len(s.split()), 1) if n else np.nan for n, s in zip(wrong, said, strict=True)])

        def show(i: int) -> Example:
            sound = Sound(decode(columns[self.audio][i], self.features.rate), self.features.rate)
            return Example(sound, said[i], heard[i], float(share[i]), f"edits {wrong[i]}, words {len(said[i].split())}")

        worst = Gallery.worst("Recordings with the most edits a word.", share, show, aligned=True)
        return {"Word errors": Edits.of(said, heard), "Transcripts of the highest error rate": worst}


@functools.cache
def _losses() -> Any:
    return jax.jit(ctc_loss)


def edits(said: Sequence[str], heard: Sequence[str], unit: str) -> MetricState:
    """Least insertions, deletions and substitutions that turn ``heard`` into ``said``, and what ``said`` counts.

    Args:
        said: b transcripts, which may be empty.
        heard: b answers.
        unit: ``"words"`` or ``"characters"``.
    """
    try:
        import jiwer
    except ImportError as error:
        raise missing("jiwer", "for word error rates", "speech") from error
    split = str.split if unit == "words" else list
    wrong = sum(len(split(h)) for s, h in zip(said, heard, strict=True) if not s)
    count = sum(len(split(s)) for s in said)
    pairs = [(s, h) for s, h in zip(said, heard, strict=True) if s]
    if pairs:
        compare = jiwer.process_words if unit == "words" else jiwer.process_characters
        edited = compare([s for s, _ in pairs], [h for _, h in pairs])
        wrong += edited.substitutions + edited.deletions + edited.insertions
    return MetricState(float(wrong), count)


register_metric(
    "wer",
    "Substituted, deleted and inserted words over the words that were said. 0 % is best; it may pass 100 %.",
    "lower",
    title="word error rate",
    share=True,
)
register_metric(
    "wer_greedy",
    "The same without the search: what the decoder is worth.",
    "lower",
    title="word error rate, greedy",
    share=True,
)
register_metric(
    "cer",
    "Substituted, deleted and inserted characters over those that were said. 0 % is best.",
    "lower",
    title="character error rate",
    share=True,
)
register_metric(
    "too_short", "Share of recordings with fewer frames than their transcript needs. 0 % is best.", "lower", share=True
)
