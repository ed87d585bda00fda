"""FastSpeech: all mel bands of a text at once, by a duration, a pitch and a loudness of each symbol.

`Ren et al., 2020 <https://arxiv.org/abs/2006.04558>`_, of convolutions alone: an encoder of symbols, three predictors,
each symbol's vector repeated as often as it has frames, and a decoder of frames. Without attention, what is said at one
place depends on its surroundings only, so a text of many sentences is spoken as its sentences are. Where training has
no durations, an aligner finds them (`Badlani et al., 2021 <https://arxiv.org/abs/2108.10447>`_).

Dims: b batch, u symbols, t frames, f mel bands, d width.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.model import ModelConfig
from suite.models.checks import check_fractions, check_given, check_sizes
from suite.nn import Dropout, Embedding, LayerNorm, Linear
from suite.nn.audio.durations import diagonal_prior, frame_symbols
from suite.nn.conv1d import Conv1d
from suite.nn.masking import silence
from suite.parallel.layout import edge

POSITIONS = 6
"""Numbers that say where in its symbol a frame is."""


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """An encoder of symbols, predictors, and a decoder to mel bands."""

    symbols: int = 0
    """Symbols of the spelling. 0: from the task."""
    bands: int = 0
    """Mel bands. 0: from the task."""
    speakers: int = 0
    """Speakers. 0: from the task, where it names a column of them; else there is one voice."""
    width: int = 192
    """Size of a symbol's vector."""
    layers: int = 3
    """Blocks of the encoder."""
    taps: int = 5
    """Symbols that a block of the encoder joins."""
    predictor: int = 128
    """Width inside the predictors of duration, pitch and loudness."""
    decoder_width: int = 256
    """Size of a frame's vector."""
    decoder_layers: int = 5
    """Blocks of the decoder."""
    decoder_taps: int = 5
    """Frames that a block of the decoder joins."""
    aligner: int = 64
    """Size of the vectors in which the aligner compares symbols with frames. Used where training has no durations."""
    dropout: float = 0.1
    """Fraction of the blocks' outputs that training drops."""
    predictor_dropout: float = 0.3
    """Fraction of the predictors' hidden values that training drops."""

    def __post_init__(self):
        check_sizes(self, 0, "symbols", "bands", "speakers", "layers", "decoder_layers")
        check_sizes(self, 1, "width", "taps", "predictor", "decoder_width", "decoder_taps", "aligner")
        check_fractions(self, "dropout", "predictor_dropout")

    def build(self, *, rngs: nnx.Rngs) -> "FastSpeech":
        check_given(self, "symbols", "bands")
        return FastSpeech(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    def layer_of(self, path: str) -> int:
        name, *rest = path.split("/")
        if name == "encoder":
            return int(rest[0]) + 1
        if name == "decoder":
            return self.layers + int(rest[0]) + 1
        return 0 if name in ("symbols", "aligner") else self.layers + 1 if name != "head" else self.depth

    @property
    def depth(self) -> int:
        return self.layers + self.decoder_layers + 1


class Block(nnx.Module):
    """Norm, convolution, ReLU and a linear layer, on a residual.

    Attributes:
        norm: of the input.
        conv: (k, d, d).
        out: (d, d).
    """

    def __init__(self, width: int, taps: int, dropout: float, *, rngs: nnx.Rngs):
        self.norm = LayerNorm(width, epsilon=1e-5)
        self.conv = Conv1d(width, width, taps, rngs=rngs)
        self.out = Linear(width, width, rngs=rngs)
        self.dropout = Dropout(dropout)

    def __call__(
        self, x: Float[Array, "b t d"], mask: Bool[Array, "b t"], rngs: nnx.Rngs | None
    ) -> Float[Array, "b t d"]:
        hidden = jax.nn.relu(_same(self.conv, silence(self.norm(x), mask)))
        return x + self.dropout(self.out(hidden), rngs)


def _same(conv: Conv1d, x: Float[Array, "b t i"]) -> Float[Array, "b t o"]:
    """As many places out as in, zeros beyond both ends."""
    taps = conv.kernel.shape[0]
    return conv(jnp.pad(x, ((0, 0), ((taps - 1) // 2, taps // 2), (0, 0))))


class Predictor(nnx.Module):
    """A number of each symbol: two convolutions of three symbols, each with ReLU, norm and dropout, and a linear layer.

    Attributes:
        convs, norms: of the two layers.
        head: (width, 1).
    """

    def __init__(self, inputs: int, width: int, dropout: float, *, rngs: nnx.Rngs):
        self.convs = nnx.List([Conv1d(size, width, 3, rngs=rngs) for size in (inputs, width)])
        self.norms = nnx.List([LayerNorm(width, epsilon=1e-5) for _ in range(2)])
        self.head = Linear(width, 1, rngs=rngs)
        self.dropout = Dropout(dropout)

    def __call__(
        self, x: Float[Array, "b u d"], mask: Bool[Array, "b u"], rngs: nnx.Rngs | None
    ) -> Float[Array, "b u"]:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.dropout(norm(jax.nn.relu(_same(conv, silence(x, mask)))), rngs)
        return self.head(x)[..., 0]


class Aligner(nnx.Module):
    """How likely each symbol is at each frame: by the distance of their vectors, beside the diagonal.

    Attributes:
        keys, key_out: of symbols; convolution of three, then linear.
        queries, query_out: of mel bands; the same.
    """

    def __init__(self, symbols: int, bands: int, width: int, *, rngs: nnx.Rngs):
        self.keys = Conv1d(symbols, 2 * width, 3, padding=1, rngs=rngs)
        self.key_out = Linear(2 * width, width, rngs=rngs)
        self.queries = Conv1d(bands, 2 * width, 3, padding=1, rngs=rngs)
        self.query_out = Linear(2 * width, width, rngs=rngs)

    def __call__(
        self,
        symbols: Float[Array, "b u d"],
        symbols_mask: Bool[Array, "b u"],
        mels: Float[Array, "b t f"],
        frames_mask: Bool[Array, "b t"],
    ) -> Float[Array, "b t u"]:
        keys = self.key_out(jax.nn.relu(self.keys(silence(symbols, symbols_mask))))
        queries = self.query_out(jax.nn.relu(self.queries(silence(mels, frames_mask))))
        apart = jnp.square(queries).sum(-1)[:, :, None] + jnp.square(keys).sum(-1)[:, None]
        apart = apart - 2 * jnp.einsum("btd,bud->btu", queries, keys, precision="highest")
        width = keys.shape[-1]
        scores = -jnp.maximum(apart, 0) / width + diagonal_prior(symbols_mask, frames_mask)
        return jax.nn.log_softmax(jnp.where(symbols_mask[:, None], scores, -1e9))


class Prosody(NamedTuple):
    """Of each symbol (b, u).

    Attributes:
        log_duration: natural logarithm of its frames.
        pitch: mean of its voiced frames, in deviations from the voice's mean; 0 without any.
        loudness: mean of its mel bands.
    """

    log_duration: Array
    pitch: Array
    loudness: Array


class FastSpeech(nnx.Module):
    """Symbols to mel bands.

    Attributes:
        symbols, entry: a vector of each symbol, and its norm.
        speakers: a vector of each speaker; None where there is one voice.
        encoder: the blocks of symbols.
        duration, pitch, loudness: the predictors.
        pitch_in, loudness_in: (3, 1, d), what the decoder is told of both.
        spread: (d, decoder width).
        position: (POSITIONS, decoder width).
        decoder: the blocks of frames.
        norm, head: to (decoder width, f).
        aligner: see `Aligner`.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        width, inner = config.width, config.decoder_width
        self.symbols = Embedding(config.symbols, width, rngs=rngs)
        self.entry = LayerNorm(width, epsilon=1e-5)
        self.speakers = Embedding(config.speakers, width, rngs=rngs) if config.speakers else None
        self.encoder = nnx.List([Block(width, config.taps, config.dropout, rngs=rngs) for _ in range(config.layers)])
        predictor = lambda: Predictor(width, config.predictor, config.predictor_dropout, rngs=rngs)
        self.duration, self.pitch, self.loudness = predictor(), predictor(), predictor()
        self.pitch_in = Conv1d(1, width, 3, padding=1, rngs=rngs)
        self.loudness_in = Conv1d(1, width, 3, padding=1, rngs=rngs)
        self.spread = Linear(width, inner, rngs=rngs)
        self.position = Linear(POSITIONS, inner, rngs=rngs)
        self.decoder = nnx.List(
            [Block(inner, config.decoder_taps, config.dropout, rngs=rngs) for _ in range(config.decoder_layers)]
        )
        self.norm = LayerNorm(inner, epsilon=1e-5)
        self.head = Linear(inner, config.bands, rngs=rngs)
        self.aligner = Aligner(width, config.bands, config.aligner, rngs=rngs)

    def encode(
        self,
        symbols: Int[Array, "b u"],
        mask: Bool[Array, "b u"],
        speaker: Int[Array, "b"] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b u d"]:
        """A vector of each symbol and its surroundings, in the voice of a speaker.

        Args:
            symbols: places in the spelling.
            mask: True where a symbol is real; a row's real symbols come first.
            speaker: number of each row's.
            rngs: given in training.
        """
        x = self.entry(self.symbols(symbols))
        for block in self.encoder:
            x = block(edge(x), mask, rngs)
        if self.speakers is None:
            return x
        if speaker is None:
            raise ValueError("this model has several speakers, and no speaker is given")
        return x + self.speakers(speaker)[:, None]

    def prosody(self, x: Float[Array, "b u d"], mask: Bool[Array, "b u"], *, rngs: nnx.Rngs | None = None) -> Prosody:
        """What the predictors say of encoded symbols."""
        return Prosody(*(part(x, mask, rngs) for part in (self.duration, self.pitch, self.loudness)))

    def align(
        self,
        symbols: Int[Array, "b u"],
        mask: Bool[Array, "b u"],
        mels: Float[Array, "b t f"],
        frames: Bool[Array, "b t"],
    ) -> Float[Array, "b t u"]:
        """Log probability of each symbol at each frame of a recording."""
        return self.aligner(self.entry(self.symbols(symbols)), mask, mels, frames)

    def decode(
        self,
        x: Float[Array, "b u d"],
        mask: Bool[Array, "b u"],
        durations: Int[Array, "b u"],
        pitch: Float[Array, "b u"],
        loudness: Float[Array, "b u"],
        frames: int,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[Float[Array, "b t f"], Bool[Array, "b t"]]:
        """Mel bands of so many frames, 0 behind a row's last one, and which frames are real.

        Args:
            x: encoded symbols.
            mask: True where a symbol is real.
            durations: frames of each symbol, 0 where it is not real.
            pitch, loudness: of each symbol, see `Prosody`.
            frames: places for frames; what is longer is cut.
            rngs: given in training.
        """
        for value, told in ((pitch, self.pitch_in), (loudness, self.loudness_in)):
            x = x + told(silence(value, mask)[..., None])
        owners, real = frame_symbols(durations, frames)
        spread = jnp.take_along_axis(self.spread(x), owners[..., None], 1)
        y = spread + self.position(_positions(durations, owners))
        for block in self.decoder:
            y = block(edge(y), real, rngs)
        return silence(self.head(self.norm(y)), real), real


def _positions(durations: Int[Array, "b u"], owners: Int[Array, "b t"]) -> Float[Array, "b t p"]:
    """Where in its symbol each frame is: as a share of it, and in frames from either end."""
    lasts = jnp.take_along_axis(durations, owners, 1)
    start = jnp.take_along_axis(jnp.cumsum(durations, 1) - durations, owners, 1)
    passed = jnp.clip(jnp.arange(owners.shape[1]) - start, 0, jnp.maximum(lasts - 1, 0))
    share = (passed + 0.5) / jnp.maximum(lasts, 1)
    near = lambda frames: jnp.exp(-frames / 2.0)
    rest = lasts - 1 - passed
    numbers = (share, jnp.sin(jnp.pi * share), jnp.cos(2 * jnp.pi * share), near(passed), near(rest), lasts / 10)
    return jnp.stack(numbers, -1).astype(jnp.float32)


SHARDING = (
    (r"(\bconv|queries|keys)\Wkernel$", P(None, "fsdp", "tensor")),
    (r"\bspread\Wkernel$", P("fsdp", "tensor")),
    (r"\b(key_|query_)?out\Wkernel$", P("tensor", "fsdp")),
)

IMPORTS: dict[str, Any] = {}
