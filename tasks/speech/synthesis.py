"""Speech synthesis: texts spoken, in one voice or several.

Dims: b records, u symbols, t frames, f mel bands, n samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.speech import SpokenTexts
from suite.contracts.artifact import Artifact
from suite.contracts.baseline import Baseline
from suite.contracts.batch import Batch, Columns, Ragged
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.contracts.task import Task
from suite.data.preprocessing.audio import require_audio, without_unusable
from suite.data.preprocessing.columns import unread_columns, with_files
from suite.data.preprocessing.speakers import Speakers
from suite.data.preprocessing.spelling import Spelling, with_spoken_texts
from suite.decoding.generation import row_keys
from suite.errors import InputError
from suite.evaluation.artifacts import Remade, Sound, Spread
from suite.evaluation.losses import masked_mean, tally
from suite.evaluation.metrics.speech_quality import distances, duration_error, mel_distortion
from suite.nn.audio.durations import alignment_loss, by_symbol, frame_symbols, likeliest_durations, whole_durations
from suite.nn.audio.griffin_lim import check_invertible, griffin_lim
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.hearing import as_codes, check_recogniser, from_codes, round_trip
from suite.tasks.speech.phone_times import frames_of, without_unaligned
from suite.tasks.speech.symbol_means import SymbolMeans
from suite.tasks.speech.voice import VoiceFeatures, pitch_of, without_silence

ACOUSTIC, VOCODER = "acoustic", "vocoder"
"""Parts of the model."""
SPARE = 64
"""Frames that an answer has room for besides those of its symbols."""
_COMPARED = ("mcd13", "log_f0_error", "voicing_error", "mcd13_dtw", "duration_error")
"""Metrics of single records, in the order of their columns."""


@dataclass(frozen=True, kw_only=True)
class SpeechSynthesis(Task):
    """Symbols of a text become mel bands, and those samples: by the model's vocoder, else by Griffin and Lim.

    Training knows the durations of symbols from the data, or finds them by an alignment that it learns beside. It is
    scored twice: with the recording's durations, frame by frame, and with durations of the model's own.
    """

    data: Data
    """Where recordings with their texts come from."""
    audio: str = "audio"
    """Name of the column of recordings."""
    text: str = "text"
    """Name of the column of texts."""
    speaker: str = ""
    """Name of the column of speakers. Empty: there is one voice."""
    durations: str = ""
    """Name of a column with the seconds of each symbol of the text, a list. Empty: they are found by alignment, and the
    silence at the ends of recordings is cut off."""
    features: VoiceFeatures = field(default_factory=lambda: VoiceFeatures(part=ACOUSTIC))
    """Sample rate, mel bands and pitch, with mean and deviation, learnt from the training split."""
    spelling: Spelling = field(default_factory=lambda: Spelling(part=ACOUSTIC))
    """Symbols of texts, learnt from the training split."""
    speakers: Speakers = field(default_factory=lambda: Speakers(part=ACOUSTIC))
    """Names of the speakers, learnt from the training split."""
    vocoder: str = ""
    """Folder of a run of ``speech.vocode`` on the same mel bands, whose weights become the part ``vocoder`` of the
    model. Empty: Griffin and Lim."""
    vocoder_features: AudioFeatures | None = None
    """How the vocoder scales its mel bands: taken from its run."""
    iterations: int = 60
    """Of Griffin and Lim, where there is no vocoder."""
    max_seconds: float = 15.0
    """Longer recordings are left out."""
    max_symbols: int = 400
    """Longer texts are left out, and refused in a request."""
    symbol_frames: int = 12
    """Frames that an answer has room for, a symbol: at 12.5 ms a frame, 12 of them are a symbol of 0.15 s, twice the
    usual one of a text in characters."""
    temperature: float = 0.8
    """Of a vocoder that draws samples."""
    seed: int = 0
    """Draws the samples of such a vocoder, together with the request's own."""
    recogniser: str = ""
    """What listens where a split is evaluated: the folder of a run of speech recognition or of a bundle of one, or
    pocketsphinx, for English. Empty: nothing does."""
    words: str = ""
    """Name of the column of what is said in words, which a recogniser's are compared with. Empty: the text."""
    variance_weight: float = 0.3
    """Weight of the predictors' losses beside that of the mel bands."""

    def __post_init__(self):
        check_invertible(self.features.front_end)
        if self.features.kind != "spectral" or self.features.normalise != "split":
            found = f"kind {self.features.kind}, normalise {self.features.normalise}"
            problem = "must be mel bands that are scaled by the training split, from which a waveform can be made"
            raise InputError("field task.features", problem, found=found, fix="VoiceFeatures(front_end=LogMel())")
        if self.durations and self.spelling.unit != "phones":
            problem = 'must be "phones" where durations are given: sentences in characters are spelt anew'
            raise InputError(
                "field task.spelling.unit", problem, found=self.spelling.unit, fix="--task.spelling.unit phones"
            )
        for name, least in (("max_symbols", 3), ("symbol_frames", 1), ("iterations", 1), ("max_seconds", 0.1)):
            if getattr(self, name) < least:
                raise InputError(
                    f"field task.{name}", f"must be at least {least}", found=str(getattr(self, name)), fix=str(least)
                )

    @property
    def codec(self) -> SpokenTexts:
        front_end = self.features.front_end
        return SpokenTexts(
            text=self.text,
            spelling=self.spelling,
            max_symbols=self.max_symbols,
            rate=front_end.sample_rate,
            hop=front_end.hop,
            speaker=self.speaker,
            speakers=self.speakers,
        )

    @property
    def continuous(self) -> bool:
        """Not: durations are whole frames, which the smallest difference may round otherwise."""
        return False

    def source(self, split: str) -> Source:
        if self.recogniser:
            check_recogniser(self.recogniser, "task.recogniser")
        opened, front_end = self.data.open(split), self.features.front_end
        named = {"audio": self.audio, "text": self.text}
        named |= {name: getattr(self, name) for name in ("speaker", "durations", "words") if getattr(self, name)}
        require_audio(opened, named, self.data)
        located = with_files(opened, self.audio, self.data)
        heard = without_unusable(located, self.audio, front_end.sample_rate, front_end.hop, self.max_seconds)
        spoken = with_spoken_texts(heard, self.text, self.spelling, self.max_symbols)
        return without_unaligned(spoken, self.audio, self.text, self.durations, self.spelling, front_end)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        used = {self.audio, self.text, self.speaker, self.durations, self.words}
        lines = unread_columns(splits["train"], used, self.data) if "train" in splits else []
        for split, source in splits.items():
            lines += self.spelling.remark(source, self.text, split)
        return lines

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """What the codec makes of a request, and what is learnt of a recording: ``audio`` float32 Ragged (t, hop), in
        whole hops; ``pitch`` float32 Ragged (t,), logarithms of Hz, 0 without voice; and where the data have them
        ``durations`` int32 Ragged, frames of each symbol. Where a recogniser listens, ``words``, characters as numbers.

        Raises:
            InputError: recordings are stored as features, or durations and symbols do not go together.
        """
        encoded = self.codec.encode(columns)
        if self.audio not in columns:
            return encoded
        rate, hop = self.features.rate, self.features.front_end.hop
        audio = self.features.recordings(self.max_seconds).encode(columns[self.audio])
        if audio.values.ndim > 1:
            problem = "holds features that were computed before, from which no pitch can be learnt."
            raise InputError(f"column {self.audio}", problem, fix="a column of recordings")
        rows = np.split(audio.values, np.cumsum(audio.lengths)[:-1])
        if not self.durations:
            rows = [without_silence(row, rate, hop) for row in rows]
        # What does not fill a hop at the end is left out; a recording shorter than one is filled up.
        rows = [row[: len(row) // hop * hop] if len(row) >= hop else np.pad(row, (0, hop - len(row))) for row in rows]
        frames = np.array([len(row) // hop for row in rows], np.int64)
        pitch = [pitch_of(row, rate, hop)[:count] for row, count in zip(rows, frames, strict=True)]
        encoded["audio"] = Ragged(np.concatenate(rows).reshape(-1, hop), frames, axis="frames")
        encoded["pitch"] = Ragged(np.concatenate(pitch), frames, axis="frames")
        if self.durations:
            given = zip(columns[self.text], columns[self.durations], (frames + 1).tolist(), strict=True)
            values = [frames_of(text, seconds, count, self.spelling, rate / hop) for text, seconds, count in given]
            encoded["durations"] = Ragged(np.concatenate(values), encoded["symbols"].lengths)
        if self.recogniser and rng is None:
            encoded["words"] = as_codes(columns[self.words or self.text])
        return encoded

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        """Distance of mel bands, in their deviations, with those of durations, pitch and loudness; and the alignment's
        nats a frame where it is learnt. Means of a record's frames and symbols, averaged over records."""
        losses = self._spoken(model, batch, rngs)[0]
        total = _total(losses)
        metrics = {name: tally(values, batch["mask"]) for name, values in losses.items()}
        return masked_mean(total, batch["mask"]), {"loss": tally(total, batch["mask"]), **metrics}

    def _spoken(
        self, model: Any, batch: Batch, rngs: nnx.Rngs | None
    ) -> tuple[dict[str, jax.Array], jax.Array, jax.Array, jax.Array, jax.Array]:
        """Losses (b,) by name; mel bands (b, t, f) with the durations (b, u) of the recording, and those of the
        recording; which frames are real (b, t), and those durations."""
        acoustic, symbols, mask = model.acoustic, batch["symbols"], batch["symbols_mask"]
        hop, rows = self.features.front_end.hop, batch["mask"].shape[0]
        wanted, real = self.features.frames(
            batch["audio"].reshape(rows, -1), jnp.repeat(batch["audio_mask"], hop, axis=1)
        )
        losses = {}
        if self.durations:
            durations = batch["durations"]
        else:
            likely = acoustic.align(symbols, mask, wanted, real)
            losses["alignment"] = alignment_loss(likely, real, mask)
            durations = likeliest_durations(jax.lax.stop_gradient(likely), real, mask)
        durations = jnp.where(mask, durations, 0)
        owners, _ = frame_symbols(durations, wanted.shape[1])
        pitch = jnp.pad(batch["pitch"], ((0, 0), (0, 1)))
        mean, deviation = self.features.pitch
        size = symbols.shape[1]
        truth = (
            jnp.log(jnp.maximum(durations, 0.5)),
            by_symbol((pitch - mean) / deviation, (pitch > 0) & real, owners, size),
            by_symbol(wanted.mean(-1), real, owners, size),
        )
        encoded = acoustic.encode(symbols, mask, batch.get("speaker"), rngs=rngs)
        said = acoustic.prosody(encoded, mask, rngs=rngs)
        told = truth[1:] if rngs is not None else said[1:]
        made, _ = acoustic.decode(encoded, mask, durations, *told, wanted.shape[1], rngs=rngs)
        both = real[:, 1:] & real[:, :-1]
        apart, steps = jnp.abs(made - wanted), jnp.abs(jnp.diff(made, axis=1) - jnp.diff(wanted, axis=1))
        losses["mel"] = _mean(apart.mean(-1), real) + 0.1 * _mean(steps.mean(-1), both)
        for name, ours, theirs in zip(("duration", "pitch", "loudness"), said, truth, strict=True):
            losses[name] = self.variance_weight * _mean(jnp.square(ours - theirs), mask)
        return losses, made, wanted, real, durations

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """``samples`` float32 (b, n); ``lengths`` int32 (b,), whole hops; ``wanted`` int32 (b,), what the lengths are
        where nothing is cut; and ``frames`` int32 (b, u) of each symbol."""
        acoustic, symbols, mask = model.acoustic, batch["symbols"], batch["symbols_mask"]
        encoded = acoustic.encode(symbols, mask, batch.get("speaker"))
        said = acoustic.prosody(encoded, mask)
        lasts = jnp.exp(jnp.minimum(said.log_duration.astype(jnp.float32), 8.0)) / batch["speed"][:, None]
        durations = whole_durations(jnp.where(mask, lasts, 0))
        pitch = said.pitch + batch["semitones"][:, None] * (np.log(2) / 12) / self.features.pitch[1]
        room = symbols.shape[1] * self.symbol_frames + SPARE
        made, real = acoustic.decode(encoded, mask, durations, pitch, said.loudness, room)
        hop = self.features.front_end.hop
        of = lambda frames: jnp.maximum(frames - 1, 0).astype(jnp.int32) * hop
        samples = self._samples(model, made.astype(jnp.float32), real, batch["seed"])
        return {"samples": samples, "lengths": of(real.sum(1)), "wanted": of(durations.sum(1)), "frames": durations}

    def _samples(self, model: Any, mels: jax.Array, real: jax.Array, seeds: jax.Array) -> jax.Array:
        """(b, n) of scaled mel bands (b, t, f), n = (t - 1) hop; 0 behind a row's end."""
        front_end = self.features.front_end
        logs = self._logs(mels)
        if self.vocoder_features is None:
            return griffin_lim(front_end, jnp.where(real[..., None], logs, 0), real, self.iterations)
        theirs = self.vocoder_features
        scaled = (logs - jnp.asarray(theirs.mean)) / jnp.asarray(theirs.std)
        frames = jnp.where(real[..., None], scaled, 0)
        keys = row_keys(seeds, self.seed)
        heat = jnp.full(seeds.shape, self.temperature, jnp.float32)
        made = model.vocoder.generate(frames, real, front_end.hop, keys, heat)
        return jnp.where(jnp.repeat(real[:, 1:], front_end.hop, 1), made, 0)

    def _logs(self, mels: jax.Array) -> jax.Array:
        """Mel bands (b, t, f) as the front end has them, of scaled ones."""
        return mels * jnp.asarray(self.features.std) + jnp.asarray(self.features.mean)

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """What ``predict`` gives; ``timed`` (b, n), spoken with the ``durations`` (b, u) of the recording;
        ``mel_mcd13`` (b,) of its mel bands; and the losses (b,)."""
        losses, made, wanted, real, durations = self._spoken(model, batch, None)
        timed = self._samples(model, made.astype(jnp.float32), real, batch["seed"])
        outputs = {**self.predict(model, batch), "timed": timed, "durations": durations, "loss": _total(losses)}
        mels = self._logs(wanted), self._logs(made.astype(jnp.float32))
        outputs["mel_mcd13"] = mel_distortion(self.features.front_end, mels[0], mels[1], real)
        return {**outputs, **{f"loss_{name}": values for name, values in losses.items()}}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """``loss``; with the recording's durations ``mel_mcd13``, ``mcd13``, ``log_f0_error`` and ``voicing_error``;
        with those of the model ``mcd13_dtw``, ``duration_error`` and, where a recogniser listens, `round_trip`."""
        mask = np.asarray(batch["mask"])
        losses = {name: np.asarray(values, np.float64)[mask] for name, values in outputs.items() if "loss" in name}
        metrics = {name.removeprefix("loss_"): MetricState(row.sum(), len(row)) for name, row in losses.items()}
        metrics["mel_mcd13"] = MetricState(float(np.asarray(outputs["mel_mcd13"])[mask].sum()), int(mask.sum()))
        for name, values in zip(_COMPARED, self._compared(outputs, batch).T, strict=True):
            known = values[~np.isnan(values)]
            metrics[name] = MetricState(float(known.sum()), len(known))
        if "words" in batch:
            texts = from_codes(np.asarray(batch["words"])[mask], np.asarray(batch["words_mask"])[mask])
            rows = [row for row, is_real in zip(_sounds(outputs, batch), mask, strict=True) if is_real]
            natural, made = [row[0] for row in rows], [row[2] for row in rows]
            metrics |= round_trip(self.recogniser, texts, natural, made, self.features.rate)
        return metrics

    def _compared(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> np.ndarray:
        """(b, 5) `_COMPARED` of each row; nan where it is padding or nothing was made."""
        apart = np.full((len(batch["mask"]), len(_COMPARED)), np.nan)
        rate, second = self.features.rate, self.features.rate / self.features.front_end.hop
        for place, (original, timed, made) in enumerate(_sounds(outputs, batch)):
            if not batch["mask"][place]:
                continue
            same = distances(original, timed, rate)
            warped = distances(original, made, rate, "dtw").mcd13 if len(made) else np.nan
            count = int(np.asarray(batch["symbols_mask"][place]).sum())
            times = [np.asarray(outputs[name][place])[:count] for name in ("durations", "frames")]
            wrong = 1000 * duration_error(*times) / second
            apart[place] = same.mcd13, same.log_f0_error, same.voicing_error, warped, wrong
        return apart

    def baselines(self) -> Mapping[str, Baseline]:
        if not self.durations:  # without them nothing says which frames are a symbol's
            return {}
        means = SymbolMeans(self.features.front_end, self.iterations)
        return {"means of each symbol's thirds, between its neighbours": means}

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        """How far what is spoken is from the recordings; and the farthest, seen with their symbols and heard."""
        apart, rate = self._compared(outputs, batch), self.features.rate
        second, texts = rate / self.features.front_end.hop, columns[self.text]

        def show(place: int) -> tuple[str, tuple[tuple[str, Sound], ...]]:
            original, timed, made = list(_sounds(outputs, batch))[place]
            count = int(np.asarray(batch["symbols_mask"][place]).sum())
            symbols = self.spelling.spell(np.asarray(batch["symbols"][place])[:count].tolist())
            theirs, own = (_times(outputs[name][place][:count], symbols, second) for name in ("durations", "frames"))
            sounds = (
                ("recording", Sound(original, rate, theirs)),
                ("spoken, with the recording's durations", Sound(timed, rate, theirs)),
                ("spoken", Sound(made, rate, own)),
            )
            return f"{texts[place]:.100}, {apart[place, 0]:.1f} dB", sounds

        spread = {"durations of the recordings": apart[:, 0], "own durations": apart[:, 3]}
        return {
            "Distance of what is spoken": Spread("mel-cepstral distortion, dB", spread),
            "Texts spoken": Remade.farthest(
                "Recordings beside what is spoken, with the places of symbols.", apart[:, 0], show
            ),
        }


def _total(losses: Mapping[str, jax.Array]) -> jax.Array:
    """(b,) the sum of losses (b,)."""
    return jnp.stack([*losses.values()]).sum(0)


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """(b,) of what is real in each row (b, t)."""
    return jnp.where(mask, values, 0).sum(1) / jnp.maximum(mask.sum(1), 1)


def _times(frames: np.ndarray, symbols: list[str], second: float) -> tuple[tuple[float, str], ...]:
    """Where each symbol begins, in seconds, and what it is."""
    starts = (np.cumsum(frames) - frames) / second
    return tuple((float(start), symbol) for start, symbol in zip(starts, symbols, strict=True))


def _sounds(outputs: Mapping[str, np.ndarray], batch: Batch) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each row the samples of its recording, as many with its durations, and those with durations of the model's."""
    audio, mask = np.asarray(batch["audio"]), np.asarray(batch["audio_mask"])
    sizes, lengths = mask.sum(1) * audio.shape[2], np.asarray(outputs["lengths"])
    originals, timed, made = audio.reshape(len(audio), -1), np.asarray(outputs["timed"]), np.asarray(outputs["samples"])
    return [
        (originals[i, : sizes[i]], timed[i, : sizes[i]].astype(np.float32), made[i, : lengths[i]].astype(np.float32))
        for i in range(len(audio))
    ]


register_metric("mel", "Mean distance of scaled mel bands, and a tenth of that of their steps. 0 is best.", "lower")
register_metric("alignment", "Nats a frame of the alignment of symbols and frames that is learnt.", "lower")
for _name, _of in (("duration", "logarithms of durations"), ("pitch", "scaled pitches"), ("loudness", "loudnesses")):
    register_metric(_name, f"Mean squared error of the {_of} of symbols, as it is weighed in the loss.", "lower")
