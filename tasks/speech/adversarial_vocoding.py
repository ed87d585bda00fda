"""Adversarial vocoding: the waveform behind the mel bands of a recording, in one pass, against discriminators."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.contracts.batch import Batch, Columns
from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.data.recordings import joined
from suite.errors import InputError
from suite.evaluation.losses import masked_mean, tally
from suite.tasks.speech.vocoding import Vocoder


@dataclass(frozen=True, kw_only=True)
class AdversarialVocoding(Vocoder):
    """A generator learns by the mel bands of what it makes, and by discriminators that learn to tell it from
    recordings (`Kong et al., 2020 <https://arxiv.org/abs/2010.05646>`_); ``gradient`` is `Alternating`.

    Training reads a stretch of each recording, evaluation all of it.
    """

    mel_weight: float = 45.0
    """Weight of the mean absolute difference of log mel amplitudes in the generator's loss."""
    feature_weight: float = 2.0
    """Weight of the difference of what the discriminators' layers say of the recording and of what was made."""
    adversarial_weight: float = 1.0
    """Weight of what the discriminators' verdicts lack to that of a recording. 0, with a feature_weight of 0: the
    generator learns by mel bands alone."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("mel_weight", "feature_weight", "adversarial_weight"):
            if getattr(self, name) < 0:
                raise InputError(f"field task.{name}", "must not be negative", found=str(getattr(self, name)))

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """What the codec makes of a request; in training ``audio`` is a stretch.

        Raises:
            InputError: recordings are stored as features, or a speaker is not one of training.
        """
        encoded = super().encode(columns, rng)
        if rng is None:
            return encoded
        stretches = joined([stretch for stretch, _, _ in self._stretches(encoded["audio"], rng)])
        # All batches of training have one length, whatever that of the recordings is.
        return {**encoded, "audio": type(stretches)(stretches.values, stretches.lengths, to=self._most)}

    def _made(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What the model makes of the mel bands (b, n), the recordings that it should be, and which samples are
        real."""
        frames, mask = self.features.frames(batch["audio"], batch["audio_mask"])
        model.check_hop(self.features.front_end.hop)
        made = model(frames, mask, batch.get("speaker"), rngs=rngs)
        real = jnp.repeat(mask[:, 1:], self.features.front_end.hop, 1)
        return made, jnp.where(real, batch["audio"][:, : made.shape[1]], 0), real

    def _mel_error(self, made: jax.Array, wanted: jax.Array, real: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Sum (b,) over frames of the mean absolute difference of log mel amplitudes, and how many frames."""
        front_end = self.features.front_end
        ours, mask = front_end(made, real)
        theirs, _ = front_end(wanted, real)
        return jnp.abs(ours - theirs).mean(-1).sum(1) / front_end.power, mask.sum(1).astype(jnp.float32)

    def discriminator_loss(
        self, model: Any, batch: Batch, rngs: nnx.Rngs | None
    ) -> tuple[jax.Array, dict[str, MetricState]]:
        """Squared distance of the verdicts from 1 of recordings and from 0 of what was made, summed over
        discriminators (`Mao et al., 2017 <https://arxiv.org/abs/1611.04076>`_)."""
        made, wanted, _ = self._made(model, batch, rngs)
        said = model.judge(jnp.concatenate([wanted, jax.lax.stop_gradient(made)]))
        verdicts = [_halves(features[-1]) for features in said]
        losses = sum(_row_mean((real - 1) ** 2) + _row_mean(other**2) for real, other in verdicts)
        return masked_mean(losses, batch["mask"]), {"loss": tally(losses, batch["mask"])}

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        """The generator's: difference of mel bands, of what the discriminators' layers say, and their verdicts."""
        made, wanted, real = self._made(model, batch, rngs)
        total, frames = self._mel_error(made, wanted, real)
        mel = total / jnp.maximum(frames, 1)
        losses = self.mel_weight * mel
        if self.adversarial_weight or self.feature_weight:
            for features in model.judge(jnp.concatenate([wanted, made])):
                pairs = [_halves(feature) for feature in features]
                losses += self.adversarial_weight * _row_mean((pairs[-1][1] - 1) ** 2)
                losses += self.feature_weight * sum(_row_mean(jnp.abs(theirs - ours)) for theirs, ours in pairs)
        metrics = {"loss": tally(losses, batch["mask"]), "mel_error": tally(mel, batch["mask"])}
        return masked_mean(losses, batch["mask"]), metrics

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """``samples`` float32 (b, n) and ``lengths`` int32 (b,): whole hops of what was given."""
        hop = self.features.front_end.hop
        frames, mask = self.features.frames(batch["audio"], batch["audio_mask"])
        samples = model.generate(frames, mask, hop, speaker=batch.get("speaker"))
        return {"samples": samples, "lengths": jnp.maximum(mask.sum(1) - 1, 0).astype(jnp.int32) * hop}

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """What ``predict`` says, and of each row the sum of ``_mel_error`` and its frames."""
        made, wanted, real = self._made(model, batch)
        mel, frames = self._mel_error(made, wanted, real)
        return {"samples": made, "lengths": real.sum(1).astype(jnp.int32), "mel": mel, "frames": frames}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """``mel_error``; and of what was made `Distances` from the recordings."""
        metrics = super().score(outputs, batch)
        if "mel" in outputs:  # which Griffin-Lim has not
            mask = np.asarray(batch["mask"])
            total, frames = (np.asarray(outputs[name], np.float64)[mask].sum() for name in ("mel", "frames"))
            metrics["mel_error"] = MetricState(float(total), float(frames))
        return metrics


def _halves(said: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What is said of the recordings and of what was made (b, m, d), which stand one behind the other."""
    rows = said.shape[0] // 2
    return said[:rows], said[rows:]


def _row_mean(values: jax.Array) -> jax.Array:
    """(b,): mean over all axes but the first."""
    return values.mean(tuple(range(1, values.ndim)))


register_metric(
    "mel_error",
    "Mean absolute difference of the natural logarithms of the mel amplitudes of what was made and of the recording, "
    "in the mel bands that the model is given. 0 is best; 0.1 is 0.9 dB.",
    "lower",
    title="mel error (nats)",
)
