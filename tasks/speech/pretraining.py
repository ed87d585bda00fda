"""Pre-training on recordings without transcripts or labels: frames are hidden, and their clusters said (HuBERT) or
their codes told from those of other frames (wav2vec 2.0).

Dims: b recordings, n samples, t frames, u vectors of the encoder, d size of a vector, k clusters, m other frames.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.audio import AudioVectors
from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.data.preprocessing.audio import Perturbation, perturbed, require_audio, without_unusable
from suite.data.preprocessing.columns import unread_columns, with_files
from suite.data.recordings import decode
from suite.data.sources.files import Folder
from suite.data.sources.unlabelled import unlabelled
from suite.decoding.generation import row_keys
from suite.errors import InputError
from suite.evaluation.artifacts import Example, Gallery, Sound, Spread
from suite.evaluation.contrast import unit
from suite.evaluation.metrics.codes import UsedCodes
from suite.nn.audio.spans import hidden_spans, uniform_frames, uniform_rows
from suite.nn.masking import masked_mean
from suite.parallel.layout import batch_sum
from suite.tasks.audio_clusters import AudioClusters
from suite.tasks.audio_features import AudioFeatures, frame_vectors


@dataclass(frozen=True, kw_only=True)
class SpeechPretraining(Task):
    """A model whose part ``audio`` is to carry on elsewhere, learnt from recordings alone; other parts are thrown away.

    Spans of frames are hidden, others in each epoch. Where the encoder is given features, hidden frames have their
    mean, which is 0; where it is given samples, a learned vector takes the place of what its convolutions say.
    """

    data: Data
    """Where the recordings come from."""
    audio: str = "audio"
    """Name of the column of recordings."""
    features: AudioFeatures = field(default_factory=lambda: AudioFeatures(part="audio"))
    """Sample rate, front end, mean and deviation, learnt from the training split."""
    augment: tuple[Perturbation, ...] = ()
    """Applied in order to the samples of training recordings."""
    max_seconds: float = 30.0
    """Longer recordings are left out, and refused in a request."""
    starts: float = 0.065
    """Share of the frames that begin a hidden span."""
    span: int = 10
    """Frames of a span."""
    seed: int = 0
    """Draws what is hidden of held-out recordings, together with the record's place."""

    def __post_init__(self) -> None:
        if not 0 < self.starts < 1:
            problem = "must lie between 0 and 1"
            raise InputError("field task.starts", problem, found=f"{self.starts:g}", fix="--task.starts 0.065")
        if self.span < 1:
            raise InputError("field task.span", "must be at least 1", found=str(self.span), fix="--task.span 10")
        if self.max_seconds <= 0:
            found = f"{self.max_seconds:g}"
            raise InputError("field task.max_seconds", "must be above 0", found=found, fix="--task.max_seconds 30")

    @property
    def codec(self) -> AudioVectors:
        return AudioVectors(audio=self.audio, recordings=self.features.recordings(self.max_seconds))

    @property
    def split_data(self) -> Data:
        return unlabelled(self.data) if isinstance(self.data, Folder) else self.data

    def source(self, split: str) -> Source:
        opened = self.split_data.open(split)
        require_audio(opened, {"audio": self.audio}, self.data)
        front_end = self.features.front_end
        return without_unusable(
            with_files(opened, self.audio, self.data),
            self.audio,
            front_end.sample_rate,
            front_end.hop,
            self.max_seconds,
        )

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        return unread_columns(splits["train"], {self.audio}, self.data) if "train" in splits else []

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``audio`` float32 Ragged of samples or stored features."""
        return dict(perturbed(self.codec.encode(columns)["audio"], self.augment, self.features.rate, rng))

    def seen(
        self, model: Any, batch: Batch, rngs: nnx.Rngs | None, keys: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What the encoder says of recordings of which frames are hidden: its vectors (b, u, d); which frames are
        hidden (b, t); and, where it is given samples, what its convolutions say of each frame (b, t, c), else the
        frames. Jitted."""
        frames, real = self.features.frames(batch["audio"], batch["audio_mask"])
        samples = self.features.kind == "samples"
        if samples:
            if not hasattr(model.audio.encoder, "extract"):
                family = type(model.audio).__module__
                problem = "is given samples, which wav2vec 2.0 and HuBERT take."
                raise InputError("field model.parts.audio", problem, found=family, fix="--task.features.kind spectral")
            frames, real = model.audio.encoder.extract(frames, real)
        shape = real.shape
        draws = uniform_frames(keys, shape[1]) if rngs is None else uniform_rows(keys, shape)
        hidden = hidden_spans(draws, real & batch["mask"][:, None], self.starts, self.span)
        if samples:
            return model.audio.encoder.contextual(frames, real, hidden=hidden, rngs=rngs), hidden, frames
        vectors, _ = frame_vectors(model.audio, jnp.where(hidden[..., None], 0, frames), real, rngs)
        return vectors, hidden, frames

    def keys(self, batch: Batch, rngs: nnx.Rngs | None) -> list[jax.Array]:
        """Two keys: of training for the whole batch, else (b,) of each row."""
        if rngs is not None:
            return list(jax.random.split(rngs.dropout()))
        own = row_keys(batch["seed"], self.seed)
        return [jax.vmap(jax.random.fold_in, (0, None))(own, number) for number in range(2)]

    @abstractmethod
    def judged(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> dict[str, jax.Array]:
        """Of each frame (b, t): whether it is ``counted``, its ``nats``, 0 where it is not, and whether the answer is
        ``right``; and ``used`` (b, g, v), how often each code of each book is answered at these frames. Jitted."""

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        judged = self.judged(model, batch, rngs)
        count = judged["counted"].sum().astype(jnp.float32)
        total = MetricState(judged["nats"].sum() + self.penalty(judged) * count, count)
        right = (judged["right"] & judged["counted"]).sum().astype(jnp.float32)
        return total.total / jnp.maximum(count, 1), {"loss": total, "accuracy": MetricState(right, count)}

    def penalty(self, judged: Mapping[str, jax.Array]) -> jax.Array | float:
        """Nats a frame that training adds to the loss. Jitted."""
        return 0.0

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        vectors, real = frame_vectors(model.audio, *self.features.frames(batch["audio"], batch["audio_mask"]))
        return {"vector": unit(masked_mean(vectors.astype(jnp.float32), real))}

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return self.judged(model, batch, None)

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """``loss`` in nats a hidden frame, ``accuracy`` of hidden frames, and ``codes_used``."""
        mask = np.asarray(batch["mask"])
        counted = np.asarray(outputs["counted"])[mask]
        right = np.asarray(outputs["right"])[mask] & counted
        nats, count = float(np.asarray(outputs["nats"], np.float64)[mask].sum()), int(counted.sum())
        return {
            "loss": MetricState(nats, count),
            "accuracy": MetricState(int(right.sum()), count),
            "codes_used": UsedCodes(np.asarray(outputs["used"], np.float64)[mask].sum(0), count),
        }

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        counted = np.asarray(outputs["counted"])
        count = np.maximum(counted.sum(1), 1)
        nats = np.asarray(outputs["nats"], np.float64).sum(1) / count
        right = (np.asarray(outputs["right"]) & counted).sum(1)

        def show(i: int) -> Example:
            sound = Sound(decode(columns[self.audio][i], self.features.rate), self.features.rate)
            note = f"{int(right[i])} of {int(count[i])} hidden frames are right"
            return Example(sound, "", "", float(nats[i]), note)

        about = "Recordings of the highest loss a hidden frame."
        return {
            "Loss of single recordings": Spread("nats a hidden frame", {"recordings": nats}),
            "Recordings of the highest loss": Gallery.worst(about, np.where(counted.any(1), nats, np.nan), show),
        }


@dataclass(frozen=True, kw_only=True)
class MaskedClusters(SpeechPretraining):
    """The clusters of hidden frames are said from what is left (HuBERT's first iteration, `Hsu et al., 2021
    <https://arxiv.org/abs/2106.07447>`_).

    The model has the parts ``audio``, the encoder, and ``predictor``, whose outputs are clusters. The loss is of hidden
    frames alone. A vector of the encoder may stand for several frames, and says the cluster of each.
    """

    clusters: AudioClusters = field(default_factory=AudioClusters)
    """k-means of the training frames. Its frames are as far apart as those of the features; for samples, as the vectors
    of the encoder: 320 samples for wav2vec 2.0, and no frames that are centred."""

    def source(self, split: str) -> Source:
        own, theirs = self.clusters.front_end, self.features.front_end
        names = ["sample_rate"] + (["hop"] if self.features.kind == "spectral" else [])
        for name in names:
            if getattr(own, name) != getattr(theirs, name):
                where = f"field task.clusters.front_end.{name}"
                wanted = getattr(theirs, name)
                problem = f"must be that of the features, {wanted}"
                fix = f"--task.clusters.front_end.{name} {wanted:d}"
                raise InputError(where, problem, found=str(getattr(own, name)), fix=fix)
        return super().source(split)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        lines = super().remarks(splits)
        if "train" in splits and self.clusters.file:
            frequencies = UsedCodes(self.clusters.frequencies[None], 1).value()
            lines.insert(0, f"train: frames are in {self.clusters.count:,} clusters, as {frequencies:.1f} equal ones")
        return lines

    def judged(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> dict[str, jax.Array]:
        key, _ = self.keys(batch, rngs)
        vectors, hidden, _ = self.seen(model, batch, rngs, key)
        logits = model.predictor(vectors)
        wanted, real = self.clusters.ids(batch["audio"], batch["audio_mask"])
        self._check_frames(logits.shape[1], wanted.shape[1], batch["audio"].shape[1])
        count = min(logits.shape[1], wanted.shape[1], hidden.shape[1])
        logits, wanted, counted = logits[:, :count], wanted[:, :count], hidden[:, :count] & real[:, :count]
        nats = jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, wanted[..., None], -1)[..., 0]
        answered = logits.argmax(-1).astype(jnp.int32)
        return {
            "counted": counted,
            "nats": jnp.where(counted, nats, 0),
            "right": answered == wanted,
            "used": jnp.where(counted[..., None], jax.nn.one_hot(answered, logits.shape[-1]), 0).sum(1)[:, None],
        }

    def _check_frames(self, said: int, wanted: int, length: int) -> None:
        """Both sides run at one rate; an encoder without padding ends up to a window earlier."""
        if abs(said - wanted) > max(4, 0.1 * wanted):
            hop = round(length / max(said, 1))
            samples = self.features.kind == "samples"
            fix = f"--task.clusters.front_end.hop {hop:d}" if samples else "--model.parts.predictor.frames 0"
            found = f"{wanted} frames of clusters, {said} of the predictor"
            raise InputError(
                "field task.clusters.front_end.hop", "is not the step of the encoder.", found=found, fix=fix
            )


@dataclass(frozen=True, kw_only=True)
class ContrastiveCodes(SpeechPretraining):
    """The code of a hidden frame is told from those of other hidden frames of its recording (wav2vec 2.0, `Baevski et
    al., 2020 <https://arxiv.org/abs/2006.11477>`_).

    The model has the parts ``audio``, a wav2vec 2.0 that gives hidden vectors, and ``quantizer``. Codes are learnt
    with it; a penalty keeps many of them in use.
    """

    features: AudioFeatures = field(default_factory=lambda: AudioFeatures(part="audio", kind="samples"))
    others: int = 100
    """Other hidden frames of the recording that a code is told from."""
    temperature: float = 0.1
    """What cosines are divided by."""
    diversity: float = 0.1
    """Weight of the penalty on codes that are not in use, in nats."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features.kind != "samples":
            fix = "--task.features.kind samples"
            raise InputError("field task.features.kind", "must be samples", found=self.features.kind, fix=fix)
        for name, right, least in (
            ("others", self.others >= 1, "at least 1"),
            ("temperature", self.temperature > 0, "above 0"),
            ("diversity", self.diversity >= 0, "at least 0"),
        ):
            if not right:
                fix, found = f"--task.{name} {getattr(type(self), name)}", f"{getattr(self, name):g}"
                raise InputError(f"field task.{name}", f"must be {least}", found=found, fix=fix)

    @property
    def coupled(self) -> str:
        return "codes in use are those of all records"

    def judged(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> dict[str, jax.Array]:
        """Besides, () ``penalty``, near 1 where one code is in use and 0 where all are as frequent."""
        key, other = self.keys(batch, rngs)
        vectors, hidden, features = self.seen(model, batch, rngs, key)
        config, noise = model.quantizer.config, None
        if rngs is None:
            draws = uniform_frames(other, hidden.shape[1], self.others)
        else:
            keys = jax.random.split(other)
            draws = uniform_rows(keys[0], (*hidden.shape, self.others))
            shape = (*hidden.shape, config.books, config.entries)
            noise = -jnp.log(-jnp.log(jnp.clip(uniform_rows(keys[1], shape), 1e-9, 1 - 1e-7)))
        others = other_places(draws, hidden)
        return contrasted(model.quantizer, vectors, features, hidden, others, noise, self.temperature)

    def penalty(self, judged: Mapping[str, jax.Array]) -> jax.Array | float:
        return self.diversity * judged["penalty"]

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        judged = self.judged(model, batch, None)
        return {name: value for name, value in judged.items() if name != "penalty"}


def other_places(draws: jax.Array, hidden: jax.Array) -> jax.Array:
    """Frames (b, t, m) of the recording that are hidden, drawn for each hidden frame from the others; -1 where there is
    none.

    Args:
        draws: (b, t, m), uniform numbers from 0 to 1.
        hidden: (b, t).
    """
    count = hidden.sum(1)[:, None, None]
    order = jnp.argsort(~hidden, axis=1, stable=True)
    own = (jnp.cumsum(hidden, 1) - 1)[..., None]
    rank = jnp.minimum((draws * (count - 1)).astype(jnp.int32), count - 2)
    rank = jnp.maximum(rank + (rank >= own), 0)
    places = jnp.take_along_axis(order, rank.reshape(len(order), -1), 1).reshape(rank.shape)
    return jnp.where(hidden[..., None] & (count > 1), places, -1)


def contrasted(
    quantizer: Any,
    vectors: jax.Array,
    features: jax.Array,
    hidden: jax.Array,
    others: jax.Array,
    noise: jax.Array | None,
    temperature: float,
) -> dict[str, jax.Array]:
    """Cross-entropy of finding the code of each hidden frame among those of other frames by its cosine with the vector,
    and the penalty on codes that are not in use.

    Args:
        quantizer: gives the codes.
        vectors: (b, t, d) of the encoder.
        features: (b, t, c) of its convolutions.
        hidden: (b, t), the frames that are counted.
        others: (b, t, m), as by `other_places`. A frame whose code is the same is left out.
        noise: of `Quantizer`.
        temperature: what cosines are divided by.

    Returns:
        As `ContrastiveCodes.judged` says.
    """
    codes, chosen, soft = quantizer(features, noise)
    context = unit(quantizer.context(vectors).reshape(-1, codes.shape[-1])).reshape(codes.shape)
    codes = unit(codes.reshape(-1, codes.shape[-1])).reshape(codes.shape)
    cosines = jnp.einsum("btw,bsw->bts", context, codes) / temperature
    own = jnp.einsum("btw,btw->bt", context, codes) / temperature
    theirs = jnp.take_along_axis(cosines, jnp.maximum(others, 0), -1)
    entries = chosen.argmax(-1).astype(jnp.int32)
    rows = jnp.arange(len(entries))[:, None, None]
    equal = (entries[rows, jnp.maximum(others, 0)] == entries[:, :, None]).all(-1)
    theirs = jnp.where((others < 0) | equal, -jnp.inf, theirs)
    nats = jax.nn.logsumexp(jnp.concatenate([own[..., None], theirs], -1), -1) - own
    shares = soft if noise is not None else chosen
    used = batch_sum(jnp.where(hidden[..., None, None], shares, 0).sum((0, 1)))
    used = used / jnp.maximum(batch_sum(hidden.sum()), 1)
    perplexity = jnp.exp(-(used * jnp.log(jnp.maximum(used, 1e-12))).sum(-1)).sum()
    size = chosen.shape[-2] * chosen.shape[-1]
    return {
        "counted": hidden,
        "nats": jnp.where(hidden, nats, 0),
        "right": own > theirs.max(-1),
        "used": jnp.where(hidden[..., None, None], chosen, 0).sum(1),
        "penalty": (size - perplexity) / size,
    }
