"""Vocoding: the waveform behind the mel bands of a recording, sample by sample."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.audio import HOTTEST, Waveforms
from suite.contracts.artifact import Artifact
from suite.contracts.baseline import Baseline, Rows
from suite.contracts.batch import Batch, Columns, Ragged
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.data.preprocessing.audio import require_audio, without_unusable
from suite.data.preprocessing.columns import unread_columns, with_files
from suite.data.preprocessing.speakers import Speakers
from suite.data.recordings import joined
from suite.decoding.generation import row_keys
from suite.errors import InputError
from suite.evaluation.artifacts import Remade, Sound, Spread
from suite.evaluation.metrics.speech_quality import Distances, distances
from suite.nn.audio.griffin_lim import check_invertible, griffin_lim
from suite.nn.audio.spectral import LogMel
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.hearing import as_codes, check_recogniser, from_codes, round_trip


@dataclass(frozen=True, kw_only=True)
class Vocoder(Task):
    """What tasks share that make recordings anew: they are padded as samples, and become mel bands on the device, from
    which the model makes samples again.
    """

    data: Data
    """Where the recordings come from."""
    audio: str = "audio"
    """Name of the column of recordings."""
    speaker: str = ""
    """Name of the column of speakers, on which the model is then conditioned too. Empty: on none."""
    features: AudioFeatures = field(default_factory=AudioFeatures)
    """Sample rate, mel bands, mean and deviation, learnt from the training split."""
    speakers: Speakers = field(default_factory=Speakers)
    """Names of the speakers, learnt from the training split."""
    seconds: float = 1.0
    """Stretch of a longer recording that training reads, at a random place."""
    max_seconds: float = 30.0
    """Longer recordings are left out, and refused in a request."""
    recogniser: str = ""
    """What listens where a split is evaluated: the folder of a run of speech recognition or of a bundle of one, or
    pocketsphinx, for English. Empty: nothing does."""
    text: str = "text"
    """Name of the column of what is said, which a recogniser's words are compared with."""

    def __post_init__(self):
        front_end = self.features.front_end
        check_invertible(front_end)
        if self.features.kind != "spectral" or self.features.normalise != "split":
            found = f"kind {self.features.kind}, normalise {self.features.normalise}"
            problem = "must be mel bands that are scaled by the training split, from which a waveform can be made"
            raise InputError("field task.features", problem, found=found, fix="AudioFeatures(front_end=LogMel())")
        shortest = 2 * (self._margin + front_end.hop) / front_end.sample_rate
        if not shortest <= self.seconds <= self.max_seconds:
            problem = f"must be from {shortest:g} to max_seconds, {self.max_seconds:g}"
            raise InputError("field task.seconds", problem, found=str(self.seconds))

    @property
    def _margin(self) -> int:
        """Samples beside a cut whose mel bands differ from those of the whole recording."""
        return self.features.front_end.fft // 2 + 2 * self.features.front_end.hop

    @property
    def codec(self) -> Waveforms:
        return Waveforms(
            audio=self.audio,
            recordings=self.features.recordings(self.max_seconds),
            speaker=self.speaker,
            speakers=self.speakers,
            drawn=False,
        )

    @property
    def _named(self) -> tuple[str, ...]:
        """Fields that name a column that is read."""
        return ("audio", *(("speaker",) if self.speaker else ()), *(("text",) if self.recogniser else ()))

    def source(self, split: str) -> Source:
        if self.recogniser:
            check_recogniser(self.recogniser, "task.recogniser")
        opened = self.data.open(split)
        require_audio(opened, {name: getattr(self, name) for name in self._named}, self.data)
        located, front_end = with_files(opened, self.audio, self.data), self.features.front_end
        return without_unusable(located, self.audio, front_end.sample_rate, front_end.hop, self.max_seconds)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        read = {getattr(self, name) for name in self._named}
        return unread_columns(splits["train"], read, self.data) if "train" in splits else []

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """What the codec makes of a request; and, where a recogniser listens, ``text``, characters as numbers.

        Raises:
            InputError: recordings are stored as features, or a speaker is not one of training.
        """
        encoded = self.codec.encode(columns)
        if encoded["audio"].values.ndim > 1:
            problem = "holds features that were computed before, of which no sample can be learnt."
            raise InputError(f"column {self.audio}", problem, fix="a column of recordings")
        if self.recogniser and self.text in columns:
            encoded["text"] = as_codes(columns[self.text])
        return encoded

    @property
    def _most(self) -> int:
        """Samples of the longest stretch."""
        return int(self.seconds * self.features.rate)

    def _stretches(self, audio: Ragged, rng: np.random.Generator | None) -> Iterator[tuple[np.ndarray, int, int]]:
        """A stretch of each recording, its first sample, and how many samples lie behind its last. Without ``rng``, it
        is at the beginning."""
        for row in np.split(audio.values, np.cumsum(audio.lengths)[:-1]):
            spare = max(len(row) - self._most, 0)
            start = int(rng.integers(spare + 1)) if rng is not None else 0
            yield row[start : start + self._most], start, spare - start

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """`Distances` of what was made from the recordings; and, where a recogniser listens, `round_trip`."""
        apart, metrics = self._distances(outputs, batch), {}
        for name, values in zip(Distances._fields, apart.T, strict=True):
            known = values[~np.isnan(values)]
            metrics[name] = MetricState(float(known.sum()), len(known))
        if "text" in batch:
            mask = np.asarray(batch["mask"])
            pairs = [pair for pair, is_real in zip(_pairs(outputs, batch), mask, strict=True) if is_real]
            texts = from_codes(np.asarray(batch["text"])[mask], np.asarray(batch["text_mask"])[mask])
            natural, made = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            metrics |= round_trip(self.recogniser, texts, natural, made, self.features.rate)
        return metrics

    def _distances(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> np.ndarray:
        """(b, 4) `Distances` of each row; nan where it is padding or has no frame."""
        apart = np.full((len(batch["mask"]), len(Distances._fields)), np.nan)
        for place, (original, made) in enumerate(_pairs(outputs, batch)):
            if batch["mask"][place] and len(made):
                apart[place] = distances(original, made, self.features.rate)
        return apart

    def baselines(self) -> Mapping[str, Baseline]:
        return {"Griffin-Lim of the same mel bands, 60 iterations": GriffinLim(self.features.front_end)}

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        """How far what was made is from the recordings; and the farthest, to be seen and heard beside them."""
        apart, rate = self._distances(outputs, batch)[:, 0], self.features.rate
        names = columns.get("file", columns[self.audio])

        def show(place: int) -> tuple[str, tuple[tuple[str, Sound], ...]]:
            original, made = list(_pairs(outputs, batch))[place]
            name = names[place] if isinstance(names[place], str) else "recording"
            sounds = (("recording", Sound(original, rate)), ("made anew", Sound(made, rate)))
            return f"{name.rpartition('/')[2]}, {apart[place]:.1f} dB", sounds

        farthest = Remade.farthest("Recordings beside what was made of their mel bands.", apart, show)
        return {
            "Distance of what was made": Spread("mel-cepstral distortion, dB", {"recordings": apart}),
            "Recordings made anew": farthest,
        }


@dataclass(frozen=True, kw_only=True)
class Vocoding(Vocoder):
    """Samples are drawn one after the other, from the mel bands and the samples before.

    It is learnt and scored on a stretch of each recording, in evaluation its beginning, by the samples before each
    sample; and made from the mel bands alone where it is heard.
    """

    temperature: float = 1.0
    """Of requests that name none, and of what evaluation makes: 1 draws samples as the model says, below 1 nearer to
    the likeliest ones, 0 takes those."""
    seed: int = 0
    """Draws the samples, together with the request's own."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.temperature <= HOTTEST:
            problem = f"must be from 0 to {HOTTEST:g}"
            raise InputError("field task.temperature", problem, found=str(self.temperature))

    @property
    def codec(self) -> Waveforms:
        return replace(super().codec, temperature=self.temperature, drawn=True)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """What the codec makes of a request, ``audio`` being a stretch; and ``counted`` int32 (b, 2), the first of its
        samples that are scored and the one behind the last: those beside a cut aren't.

        Raises:
            InputError: recordings are stored as features, or a speaker is not one of training.
        """
        encoded = super().encode(columns, rng)
        rows, counted = [], []
        for stretch, start, behind in self._stretches(encoded["audio"], rng):
            rows.append(stretch)
            counted.append((self._margin if start else 0, len(stretch) - (self._margin if behind else 0)))
        return {**encoded, "audio": joined(rows), "counted": np.array(counted, np.int32).reshape(-1, 2)}

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        """Nats a sample."""
        nats, counts = self._nats(model, batch, rngs)
        total = MetricState(nats.sum(), counts.sum())
        return total.total / jnp.maximum(total.count, 1), {"loss": total}

    def _nats(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, jax.Array]:
        """Nats of each row's samples, and how many they are (b,)."""
        frames, mask = self.features.frames(batch["audio"], batch["audio_mask"])
        samples = batch["audio"][:, : (frames.shape[1] - 1) * self.features.front_end.hop]
        parameters = model(samples, frames, mask, batch.get("speaker"), rngs=rngs)
        place = jnp.arange(samples.shape[1])
        first, end = batch["counted"][:, :1], batch["counted"][:, 1:]
        counted = (place >= first) & (place < end) & batch["mask"][:, None]
        nats = jnp.where(counted, model.distribution.nats(parameters, samples), 0)
        return nats.sum(1), counted.sum(1).astype(jnp.float32)

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """``samples`` float32 (b, n) and ``lengths`` int32 (b,): whole hops of what was given."""
        hop = self.features.front_end.hop
        frames, mask = self.features.frames(batch["audio"], batch["audio_mask"])
        keys = row_keys(batch["seed"], self.seed)
        samples = model.generate(frames, mask, hop, keys, batch["temperature"], batch.get("speaker"))
        return {"samples": samples, "lengths": jnp.maximum(mask.sum(1) - 1, 0).astype(jnp.int32) * hop}

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        nats, counts = self._nats(model, batch, None)
        return {**self.predict(model, batch), "nats": nats, "counts": counts}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """``loss`` in nats a sample; and of what was made `Distances` from the recordings."""
        metrics = super().score(outputs, batch)
        if "nats" in outputs:  # which Griffin-Lim has not
            nats, counts = (np.asarray(outputs[name], np.float64).sum() for name in ("nats", "counts"))
            metrics["loss"] = MetricState(nats, counts)
        return metrics


def _pairs(outputs: Mapping[str, np.ndarray], batch: Batch) -> list[tuple[np.ndarray, np.ndarray]]:
    """The samples of each row and those that were made, as many."""
    audio, mask = np.asarray(batch["audio"]), np.asarray(batch["audio_mask"])
    made, lengths = np.asarray(outputs["samples"]), np.asarray(outputs["lengths"])
    sizes = np.minimum(lengths, mask.sum(1))
    return [(row[:size], other[:size]) for row, other, size in zip(audio, made, sizes, strict=True)]


class GriffinLim(Baseline):
    """Waveforms of the same mel bands by Griffin and Lim's iteration. Nothing is learnt."""

    most = 1

    def __init__(self, front_end: LogMel):
        self._front_end = front_end

    def add(self, columns: Columns, rows: Rows) -> None:
        return

    def fit(self) -> str:
        return "60 iterations, momentum 0.99"

    def outputs(self, columns: Columns, rows: Rows) -> dict[str, np.ndarray]:
        samples, mask = rows["audio"].padded(int(rows["audio"].lengths.max(initial=1)))
        features, real = jax.jit(self._front_end)(samples, mask)
        lengths = np.maximum(np.asarray(real).sum(1) - 1, 0) * self._front_end.hop
        made = griffin_lim(self._front_end, features, real)
        return {"samples": np.asarray(made), "lengths": lengths.astype(np.int32)}
