"""Transcription: what is said in recordings of any length, by an encoder and a decoder of tokens, as Whisper is.

Dims: b recordings, s samples, t frames, f features, n tokens, p tokens that steer the decoder, v vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from suite.codecs.transcription import LANGUAGE, TASK, SpokenText
from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch, Columns, Ragged
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.contracts.task import Task
from suite.data.preprocessing.audio import require_audio, without_unusable
from suite.data.preprocessing.columns import unread_columns, with_files
from suite.data.preprocessing.speech_tokens import SpeechTokens
from suite.data.preprocessing.text import clean
from suite.data.preprocessing.transcripts import Characters, with_transcripts
from suite.data.recordings import Recordings, decode
from suite.decoding.generation import Decoding, row_keys
from suite.decoding.transcription import Quiet, most_windows, prefix, transcribe
from suite.errors import InputError
from suite.evaluation import alignment
from suite.evaluation.artifacts import Edits, Example, Gallery, Sound
from suite.evaluation.losses import distillation_loss
from suite.nn.audio.spectral import SpecAugment, whisper
from suite.tasks.speech.recognition import edits

RATE, HOP = 16_000, 160
"""Samples a second and samples a frame, of every published model."""


@dataclass(frozen=True, kw_only=True)
class Transcription(Task):
    """A window of a recording, 30 s in published models, becomes log-mel features on the device, silence included. The
    decoder learns the transcript behind the tokens of its language and of what is to be done, without times.

    Evaluation writes down every recording as a request would be: word errors are those of what is served.
    """

    data: Data
    """Where the recordings come from."""
    audio: str = "audio"
    """Name of the column of recordings."""
    text: str = "text"
    """Name of the column of transcripts."""
    tokens: SpeechTokens = field(default_factory=SpeechTokens)
    """Tokens: those of published weights, or learnt from the training split."""
    language: str = ""
    """Code of the language of recordings whose column ``language`` names none, such as "en". Empty: it is heard, which
    training cannot do."""
    action: Literal["transcribe", "translate"] = "transcribe"
    """What is done where the column ``task`` says nothing: to write down in the language that is spoken, or in English;
    then transcripts are English."""
    timestamps: bool = False
    """Whether answers have segments with times where a request doesn't say it. Recordings of more than a window are
    written down by timestamps all the same, where the model knows them."""
    max_seconds: float = 30.0
    """Longer recordings are left out of training; no more than the window of the model."""
    longest: float = 300.0
    """Seconds of the longest recording that is evaluated or asked for."""
    max_text: int = 1000
    """Records with more characters are left out."""
    spec_augment: SpecAugment | None = None
    """Stretches of time and frequency that training hides."""
    label_smoothing: float = 0.0
    """Share of each token that is spread over the vocabulary."""
    decoding: Decoding = field(default_factory=lambda: Decoding(tokens=224))
    """How the tokens of a window are chosen; ``end``, ``pad`` and ``suppress`` are those of ``tokens``."""
    no_speech: float = 0.6
    """Probability that nothing is spoken, above which a window is left out. 1: none is."""
    least_log_prob: float = -1.0
    """Mean log probability of a window's tokens from which on it is kept all the same."""
    seed: int = 0
    """Draws the tokens, together with the request's own, where decoding has a temperature."""

    def __post_init__(self):
        for name, usual in (("max_seconds", 30), ("longest", 300)):
            if not 0 < (value := getattr(self, name)) <= 86_400:
                fix = f"--task.{name} {usual:d}"
                raise InputError(f"field task.{name}", "must be above 0 and at most a day", found=f"{value:g}", fix=fix)
        for name in ("label_smoothing", "no_speech"):
            value = getattr(self, name)
            if not (0 <= value <= 1) or (name == "label_smoothing" and value == 1):
                problem = "must be from 0 to 1" if name == "no_speech" else "must be at least 0 and below 1"
                raise InputError(f"field task.{name}", problem, found=str(value))

    @property
    def codec(self) -> SpokenText:
        return SpokenText(
            audio=self.audio,
            recordings=Recordings(rate=RATE, hop=HOP, longest=self.longest),
            tokens=self.tokens,
            language=self.language,
            action=self.action,
            timestamps=self.timestamps,
        )

    def source(self, split: str) -> Source:
        opened = self.data.with_texts((self.text,)).open(split)
        require_audio(opened, {"audio": self.audio, "text": self.text}, self.data)
        located = with_files(opened, self.audio, self.data)
        spoken = with_transcripts(located, self.text, _NORMAL, self.max_text)
        longest = min(self.max_seconds, self.longest) if split == "train" else self.longest
        return without_unusable(spoken, self.audio, RATE, HOP, longest)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        if "train" not in splits:
            return []
        train = splits["train"]
        if self.tokens.special.languages and not self.language:
            named = train.column(LANGUAGE, np.arange(len(train))) if LANGUAGE in train.schema else []
            unnamed = sum(not str("" if value is None else value).strip() for value in named)
            if unnamed or not len(named):
                problem = f"is empty, and {unnamed or len(train):,} training recordings have no language of their own"
                raise InputError("field task.language", problem, fix="--task.language en")
        texts = train.column(self.text, np.arange(len(train)))
        cut = int((self.tokens.longest(texts) > self._room).sum())
        lines = [f"train: {cut:,} transcripts are cut at {self._room} tokens (task.decoding.tokens)"] if cut else []
        return [*lines, *unread_columns(train, {self.audio, self.text, LANGUAGE, TASK}, self.data)]

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """What the codec makes of a request; of records ``said`` int32 Ragged, the pieces of the transcript and the
        end, and of what is not trained on, ``written``: the transcript in UTF-8."""
        codec = self.codec
        encoded = codec.encode(columns)
        texts = columns.get(self.text)
        if texts is None or any(text is None for text in texts):
            return encoded
        texts = [clean(str(text)) for text in texts]
        said = self.tokens.targets(texts, self._room)
        encoded["said"] = replace(said, to=self._room)
        if rng is None:
            rows = [np.frombuffer(text.encode("utf-8", "replace"), np.uint8) for text in texts]
            lengths = np.array([len(row) for row in rows], np.int64)
            values = np.concatenate(rows) if rows else np.zeros(0, np.uint8)
            encoded["written"] = Ragged(values, lengths, to=4 * self.max_text)
        return encoded

    @property
    def _room(self) -> int:
        """Tokens of a transcript, the end among them: as many as a window is given."""
        return self.decoding.tokens

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        """Nats a token of transcripts and their ends."""
        said = self._said(model, batch, rngs, self.label_smoothing)
        total = MetricState(said["nats"].sum(), said["count"].sum())
        tallies = {"loss": total, "accuracy": MetricState(said["right"].sum(), said["count"].sum())}
        return total.total / jnp.maximum(total.count, 1), tallies

    def _logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> Float[Array, "b n v"]:
        """Logits of each token of a transcript, told those before it."""
        special = self.tokens.special
        window = self._window(model)
        features, frames = self._features(model, batch)
        if rngs is not None and features.shape[1] > window:
            seconds = window * HOP / RATE
            problem = f"recordings of more than {seconds:g} s do not fit into the window of the model."
            raise InputError("field task.max_seconds", problem, fix=f"--task.max_seconds {seconds:g}")
        features = features[:, :window]
        if rngs is not None and self.spec_augment is not None:
            spoken = batch["audio_mask"].sum(1) // HOP
            shown = jnp.arange(window) < jnp.minimum(spoken, frames)[:, None]
            features = self.spec_augment(features, shown, rngs.dropout())
        fixed = prefix(batch["language"], batch["action"], special)
        untimed = [jnp.full((fixed.shape[0], 1), special.untimed, jnp.int32)] if special.untimed >= 0 else []
        given = jnp.concatenate([fixed, *untimed, batch["said"][:, :-1]], 1)
        logits = model(features, jnp.ones(features.shape[:2], bool), given, rngs=rngs)
        return logits[:, given.shape[1] - batch["said"].shape[1] :].astype(jnp.float32)

    def _said(self, model: Any, batch: Batch, rngs: nnx.Rngs | None, smoothing: float) -> dict[str, jax.Array]:
        """Of each row: nats of its tokens, how many they are, and how many were the likeliest ones. Recordings of more
        than a window count as none."""
        said, real = batch["said"], self._counted(model, batch)
        logits = self._logits(model, batch, rngs)
        picked = jnp.take_along_axis(logits, said[..., None], -1)[..., 0]
        wanted = (1 - smoothing) * picked + smoothing * logits.mean(-1) if smoothing else picked
        nats = jnp.where(real, jax.nn.logsumexp(logits, -1) - wanted, 0)
        count = lambda x: x.sum(1).astype(jnp.float32)
        return {"nats": nats.sum(1), "count": count(real), "right": count((logits.argmax(-1) == said) & real)}

    def _counted(self, model: Any, batch: Batch) -> Bool[Array, "b n"]:
        fits = batch["audio_mask"].sum(1) <= self._window(model) * HOP
        return batch["said_mask"] & (batch["mask"] & fits)[:, None]

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """Outputs of `suite.decoding.transcription.transcribe`; ``seconds`` float32 (b,), and ``timed`` int32 (b,)."""
        special, window = self.tokens.special, self._window(model)
        features, frames = self._features(model, batch)
        timed = (batch["timed"] > 0) | (frames > window)
        asked = {"mask": batch["mask"], "language": batch["language"], "action": batch["action"], "timed": timed}
        most = most_windows(self.longest, window * HOP / RATE, special.begin > 0)
        quiet = Quiet(self.no_speech, self.least_log_prob)
        keys = row_keys(batch["seed"], self.seed) if self.decoding.temperature else None
        made = transcribe(model, features, frames, asked, special, self.decoding, most, quiet, keys)
        seconds = batch["audio_mask"].sum(1).astype(jnp.float32) / RATE
        return {**made, "seconds": seconds, "timed": batch["timed"]}

    def _window(self, model: Any) -> int:
        """Frames of a window of the model.

        Raises:
            InputError: it has no decoder, or that has no room for the tokens of a window.
        """
        if getattr(model, "decoder", None) is None:
            problem = "the model has no decoder that says what it hears."
            raise InputError("field model.decoder_layers", problem, fix="--model.decoder_layers 4")
        special = self.tokens.special
        prompt = 1 + bool(special.languages) + bool(special.actions) + (special.untimed >= 0)
        if prompt + self._room - 1 > model.decoder.max_length:
            problem = f"leaves no room for the {prompt} tokens that steer the decoder, of {model.decoder.max_length}."
            room = model.decoder.max_length - prompt + 1
            found, fix = str(self._room), f"--task.decoding.tokens {room}"
            raise InputError("field task.decoding.tokens", problem, found=found, fix=fix)
        return 2 * int(model.encoder.positions.shape[0])

    def _features(self, model: Any, batch: Batch) -> tuple[Float[Array, "b t f"], Int[Array, "b"]]:
        """Log-mel features as the model was trained on, and frames of each recording. One that fits into a window has
        the frames of a window, filled up with silence."""
        samples, lengths, least = batch["audio"], batch["audio_mask"].sum(1), self._window(model) * HOP
        samples = jnp.pad(samples, ((0, 0), (0, max(least - samples.shape[1], 0))))
        lengths = jnp.maximum(lengths, least)
        front_end = whisper(int(model.encoder.first.kernel.shape[1]))
        features, real = front_end(samples, jnp.arange(samples.shape[1]) < lengths[:, None])
        return features, real.sum(1).astype(jnp.int32)

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return {**self._said(model, batch, None, 0.0), **self.predict(model, batch)}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """``wer`` and ``cer`` of lowercase letters and digits, ``wer_written`` with case and punctuation; where the
        outputs tell, ``loss`` in nats a token and ``accuracy``, told the tokens before."""
        mask = np.asarray(batch["mask"])
        said = [text for text, real in zip(_written(batch), mask, strict=True) if real]
        answers = self.codec.decode({name: np.asarray(value)[mask] for name, value in outputs.items()}, {})
        heard = [answer["text"] for answer in answers]
        plain, other = ([_NORMAL.normalise(text) for text in texts] for texts in (said, heard))
        metrics = {
            "wer": edits(plain, other, "words"),
            "cer": edits(plain, other, "characters"),
            "wer_written": edits(said, heard, "words"),
        }
        if "nats" in outputs:
            sums = {name: np.asarray(outputs[name], np.float64)[mask].sum() for name in ("nats", "count", "right")}
            metrics["loss"] = MetricState(sums["nats"], sums["count"])
            metrics["accuracy"] = MetricState(sums["right"], sums["count"])
        return metrics

    def distillation_loss(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> jax.Array:
        """Sum over a transcript's tokens."""
        size = batch["said"].shape[1]
        real = batch["said_mask"] & batch["mask"][:, None]
        return jnp.where(real, distillation_loss(ours[:, -size:], theirs[:, -size:], temperature), 0).sum(1)

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        """Word errors, and the recordings of the highest word error rate."""
        answers = self.codec.decode(outputs, columns)
        said, heard = ([_NORMAL.normalise(t) for t in texts] for texts in (_written(batch), _texts(answers)))
        wrong = [alignment.edits(alignment.align(s.split(), h.split())) for s, h in zip(said, heard, strict=True)]
        share = np.array([n / max(len(s.split()), 1) if n else np.nan for n, s in zip(wrong, said, strict=True)])

        def show(i: int) -> Example:
            sound = Sound(decode(columns[self.audio][i], RATE), RATE)
            return Example(sound, said[i], heard[i], float(share[i]), f"edits {wrong[i]}, words {len(said[i].split())}")

        worst = Gallery.worst("Recordings with the most edits a word.", share, show, aligned=True)
        return {"Word errors": Edits.of(said, heard), "Transcripts of the highest error rate": worst}


_NORMAL = Characters()
"""How transcripts are compared: by lowercase letters and digits."""


def _texts(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    return [answer["text"] for answer in answers]


def _written(batch: Batch) -> list[str]:
    """The transcripts of a batch."""
    rows = zip(np.asarray(batch["written"]), np.asarray(batch["written_mask"]), strict=True)
    return [row[real].tobytes().decode("utf-8", "replace") for row, real in rows]


register_metric(
    "wer_written",
    "Word error rate of the texts as they are written, with case and punctuation. 0 % is best.",
    "lower",
    title="word error rate, as written",
    share=True,
)
