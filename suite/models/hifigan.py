"""HiFi-GAN: a waveform from the features of its frames in one pass, learnt against discriminators.

`Kong et al., 2020 <https://arxiv.org/abs/2010.05646>`_: a generator of transposed convolutions, each followed by the
mean of residual blocks of several kernel sizes, and discriminators that see the waveform folded by periods, and at
several scales. With ``spectral_hop`` the last samples of a frame come from an inverse Fourier transform
(`iSTFTNet, Kaneko et al., 2022 <https://arxiv.org/abs/2203.02395>`_), which costs a processor a fraction of the
convolutions that it stands for. Unlike the published models no layer has a weight norm, and the discriminators of
scales have no groups.

Dims: b batch, n samples, t frames, f features a frame, h samples a frame, d channels, u frames of a stage, q
frequencies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.model import ModelConfig
from suite.errors import InputError
from suite.models.checks import check_given, check_sizes
from suite.nn import Embedding
from suite.nn.conv1d import Conv1d, ConvTranspose1d
from suite.nn.masking import silence
from suite.parallel.layout import edge

_OVERLAP = 4
"""Windows of the inverse transform that cover a sample."""
_LOUDEST = 8.0
"""Largest logarithm of a magnitude, so that nothing overflows."""


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """A generator, and the discriminators that it is trained against."""

    inputs: int = 0
    """Features a frame. 0: from the task."""
    speakers: int = 0
    """Speakers. 0: from the task, where it names a column of them; else the model is conditioned on none."""
    channels: int = 128
    """Channels of a frame; each upsampling halves them."""
    upsampling: tuple[int, ...] = (5, 5, 4, 2)
    """Factors by which the transposed convolutions raise the rate, one after the other."""
    spectral_hop: int = 1
    """Samples from one window to the next of the inverse Fourier transform that ends the generator; a window is four
    of them. 1: the last layer gives samples, as in the paper."""
    kernels: tuple[int, ...] = (3, 7, 11)
    """Odd sizes of the kernels of the residual blocks whose mean a stage is."""
    dilations: tuple[int, ...] = (1, 3, 5)
    """Dilations of the layers of a residual block."""
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    """Periods by which discriminators fold the waveform."""
    scales: int = 3
    """Discriminators of the waveform as it is, at half the rate, at a quarter, ..."""
    discriminator_width: int = 8
    """Channels of the first layer of each discriminator; 32 in the paper."""
    discriminators: bool = True
    """Build the discriminators. A bundle has none."""

    def __post_init__(self):
        check_sizes(self, 0, "inputs", "speakers", "scales")
        check_sizes(self, 1, "channels", "spectral_hop", "discriminator_width")
        for name, least in (("upsampling", 2), ("kernels", 2), ("dilations", 1), ("periods", 2)):
            values = getattr(self, name)
            if not values or min(values) < least or (name == "kernels" and any(size % 2 == 0 for size in values)):
                problem = f"must be {'odd numbers' if name == 'kernels' else 'numbers'} of at least {least}"
                raise InputError(f"field model.{name}", problem, found=str(values), fix=f"--model.{name} {least + 1}")
        most = 2 ** len(self.upsampling)
        if self.channels % most:
            problem = f"must be a multiple of {most}, since each of {len(self.upsampling)} upsamplings halves it"
            fix = f"--model.channels {-(-self.channels // most) * most}"
            raise InputError("field model.channels", problem, found=str(self.channels), fix=fix)

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return prod(self.upsampling) * self.spectral_hop

    @property
    def omitted(self) -> str:
        return super().omitted if self.discriminators else r"^discriminators/"

    @property
    def served(self) -> "Config":
        return replace(self, discriminators=False)

    def build(self, *, rngs: nnx.Rngs) -> "HiFiGAN":
        check_given(self, "inputs")
        return HiFiGAN(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    def layer_of(self, path: str) -> int:
        parts = path.split("/")
        if parts[:2] == ["generator", "stages"]:
            return int(parts[2]) + 1
        return self.depth if parts[1:2] == ["head"] or parts[0] == "discriminators" else 0

    @property
    def depth(self) -> int:
        return len(self.upsampling) + 1

    @property
    def head(self) -> str:
        return r"^generator/head/"


def leaky(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The activation of every layer."""
    return jax.nn.leaky_relu(x, 0.1)


class ResidualBlock(nnx.Module):
    """For each dilation, the input plus two convolutions of it, of which the first is dilated.

    Attributes:
        dilated: convolutions (k, d, d).
        plain: convolutions (k, d, d).
    """

    def __init__(self, channels: int, taps: int, dilations: Sequence[int], *, rngs: nnx.Rngs):
        def same(dilation: int) -> Conv1d:
            return Conv1d(
                channels, channels, taps, padding=(taps - 1) // 2 * dilation, dilation=dilation, rngs=rngs, init=_SMALL
            )

        self.dilated = nnx.List([same(dilation) for dilation in dilations])
        self.plain = nnx.List([same(1) for _ in dilations])

    def __call__(self, x: Float[Array, "b u d"], mask: Bool[Array, "b u"]) -> Float[Array, "b u d"]:
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            x = x + silence(plain(leaky(silence(dilated(leaky(x)), mask))), mask)
        return x


_SMALL = nnx.initializers.variance_scaling(0.1, "fan_in", "normal")
"""Residual blocks begin near the identity."""


class Stage(nnx.Module):
    """A transposed convolution and the mean of residual blocks.

    Attributes:
        up: (2 s, d, d / 2), s the factor of the rate.
        blocks: one a kernel size.
    """

    def __init__(self, channels: int, factor: int, config: Config, *, rngs: nnx.Rngs):
        self.up = ConvTranspose1d(channels, channels // 2, 2 * factor, stride=factor, rngs=rngs)
        self.blocks = nnx.List(
            [ResidualBlock(channels // 2, taps, config.dilations, rngs=rngs) for taps in config.kernels]
        )
        self.factor = factor

    def __call__(
        self, x: Float[Array, "b u d"], mask: Bool[Array, "b u"]
    ) -> tuple[Float[Array, "b v d2"], Bool[Array, "b v"]]:
        """Frames of this stage and which of them are real, v = u times the factor."""
        mask = jnp.repeat(mask, self.factor, 1)
        x = silence(self.up(leaky(x)), mask)
        outputs = [block(edge(x), mask) for block in self.blocks]
        return sum(outputs[1:], outputs[0]) / len(outputs), mask


class Generator(nnx.Module):
    """Features of frames to samples.

    Attributes:
        entry: convolution (7, f, d).
        speakers: a vector of each speaker, added to every frame; None where there are none.
        stages: one an upsampling.
        head: convolution (7, d, 1); of an inverse transform (7, d, 2 q), logarithms of magnitudes and phases.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        last = config.channels >> len(config.upsampling)
        self.hop, self.spectral_hop = config.hop, config.spectral_hop
        outputs = 1 if config.spectral_hop == 1 else 2 * (_OVERLAP * config.spectral_hop // 2 + 1)
        self.entry = Conv1d(config.inputs, config.channels, 7, padding=3, rngs=rngs)
        self.speakers = Embedding(config.speakers, config.channels, rngs=rngs) if config.speakers else None
        self.stages = nnx.List(
            [Stage(config.channels >> i, factor, config, rngs=rngs) for i, factor in enumerate(config.upsampling)]
        )
        self.head = Conv1d(last, outputs, 7, padding=3, rngs=rngs)

    def __call__(
        self, frames: Float[Array, "b t f"], mask: Bool[Array, "b t"], speaker: Int[Array, "b"] | None
    ) -> Float[Array, "b n"]:
        x = self.entry(silence(frames, mask))
        if self.speakers is not None:
            if speaker is None:
                raise ValueError("this model is conditioned on speakers, and no speaker is given")
            x = x + self.speakers(speaker)[:, None]
        x, real = silence(x, mask), mask
        for stage in self.stages:
            x, real = stage(x, real)
        x = self.head(leaky(x))
        samples = jnp.tanh(x[..., 0]) if self.spectral_hop == 1 else overlapped(silence(x, real), real)
        # Frame i stands in the middle of its samples, and at sample i h of the recording.
        start = self.hop // 2
        samples = samples[:, start : start + (frames.shape[1] - 1) * self.hop]
        return silence(samples, jnp.repeat(mask[:, 1:], self.hop, 1))


def overlapped(x: Float[Array, "b u 2q"], mask: Bool[Array, "b u"]) -> Float[Array, "b n"]:
    """Samples of the inverse Fourier transforms of frames, each a window of four hops in the middle of its hop.

    Args:
        x: logarithms of magnitudes, then phases, of q frequencies.
        mask: True where a frame is real.
    """
    logs, phases = jnp.split(x, 2, -1)
    size = 2 * (logs.shape[-1] - 1)
    hop = size // _OVERLAP
    magnitude = jnp.exp(jnp.minimum(logs, _LOUDEST))
    spectrum = jnp.concatenate([magnitude * jnp.cos(phases), magnitude * jnp.sin(phases)], -1)
    windows = jnp.matmul(silence(spectrum, mask), _inverse(size), precision="highest")
    parts = windows.reshape(*windows.shape[:2], _OVERLAP, hop)
    end = lambda i: ((0, 0), (i, _OVERLAP - 1 - i), (0, 0))
    added = sum(jnp.pad(parts[:, :, i], end(i)) for i in range(_OVERLAP)).reshape(x.shape[0], -1)
    start = (_OVERLAP - 1) * hop // 2
    return added[:, start : start + x.shape[1] * hop]


def _inverse(size: int) -> np.ndarray:
    """(2 q, size) float32: the inverse Fourier transform of real parts and imaginary parts, times Hann's window, scaled
    so that overlapping windows sum to 1."""
    unit = np.eye(size // 2 + 1)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)) / (_OVERLAP / 2)
    return (np.concatenate([np.fft.irfft(unit, size), np.fft.irfft(1j * unit, size)]) * window).astype(np.float32)


class Discriminator(nnx.Module):
    """Whether a waveform is a recording: convolutions over it, folded or slowed down.

    Attributes:
        layers: convolutions (k, i, o).
        head: convolution (3, i, 1).
        period: samples that are laid side by side, each column being seen alone. 1: the waveform as it is.
        scale: samples that are averaged into one.
    """

    def __init__(self, period: int, scale: int, width: int, *, rngs: nnx.Rngs):
        self.period, self.scale = period, scale
        channels = [1, *(width * factor for factor in (1, 4, 16, 32, 32))]
        shapes = [(5, 3)] * 4 + [(5, 1)] if period > 1 else [(15, 1), (21, 4), (21, 4), (21, 4), (5, 1)]
        self.layers = nnx.List(
            [
                Conv1d(inputs, outputs, taps, stride=stride, padding=taps // 2, rngs=rngs)
                for inputs, outputs, (taps, stride) in zip(channels[:-1], channels[1:], shapes, strict=True)
            ]
        )
        self.head = Conv1d(channels[-1], 1, 3, padding=1, rngs=rngs)

    def __call__(self, samples: Float[Array, "b n"]) -> list[Float[Array, "b m d"]]:
        """What each layer says, of which the last (b, m, 1) is the verdict: near 1 of a recording, near 0 else."""
        rows, unit = samples.shape[0], self.period * self.scale
        x = jnp.pad(samples, ((0, 0), (0, -samples.shape[1] % unit)))
        x = x.reshape(rows, -1, self.scale).mean(-1) if self.scale > 1 else x
        x = x.reshape(rows, -1, self.period).swapaxes(1, 2).reshape(rows * self.period, -1, 1)
        features = []
        for layer in self.layers:
            x = leaky(layer(edge(x)))
            features.append(x)
        features.append(self.head(x))
        return [feature.reshape(rows, -1, feature.shape[-1]) for feature in features]


class HiFiGAN(nnx.Module):
    """The generator, and the discriminators it is trained against.

    Attributes:
        generator: what answers.
        discriminators: those of periods, then those of scales; None where the model only answers.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.generator = Generator(config, rngs=rngs)
        shapes = [(period, 1) for period in config.periods] + [(1, 2**i) for i in range(config.scales)]
        width = config.discriminator_width
        self.discriminators = (
            nnx.List([Discriminator(period, scale, width, rngs=rngs) for period, scale in shapes])
            if config.discriminators
            else None
        )

    def __call__(
        self,
        frames: Float[Array, "b t f"],
        mask: Bool[Array, "b t"],
        speaker: Int[Array, "b"] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b n"]:
        """Samples, n = (t - 1) h; 0 behind a row's last frame.

        Args:
            frames: features, frame i at sample i h.
            mask: True where a frame is real; a row's real frames come first.
            speaker: number of each row's.
            rngs: given in training, which nothing here depends on.
        """
        return self.generator(frames, mask, speaker)

    def judge(self, samples: Float[Array, "b n"]) -> list[list[Float[Array, "b m d"]]]:
        """What each discriminator's layers say of waveforms, see `Discriminator`."""
        if self.discriminators is None:
            raise ValueError("this model was built without discriminators")
        return [discriminator(samples) for discriminator in self.discriminators]

    def generate(
        self,
        frames: Float[Array, "b t f"],
        mask: Bool[Array, "b t"],
        hop: int,
        keys: Array | None = None,
        temperature: Float[Array, "b"] | None = None,
        speaker: Int[Array, "b"] | None = None,
    ) -> Float[Array, "b n"]:
        """The samples of each row, as `suite.models.wavenet.WaveNet.generate` is asked for them; none is drawn.

        Raises:
            InputError: the frames are ``hop`` samples apart, and the model's are not.
        """
        self.check_hop(hop)
        return self.generator(frames, mask, speaker)

    def check_hop(self, hop: int) -> None:
        """InputError unless the model makes ``hop`` samples of a frame."""
        check_hop(self.generator.hop, hop)


def check_hop(made: int, hop: int) -> None:
    """InputError unless the model makes as many samples of a frame, ``made``, as there are, ``hop``."""
    if made != hop:
        problem = f"times model.spectral_hop must be the samples from one frame to the next, {hop}."
        fix = f"--model.upsampling {' '.join(map(str, _factors(hop)))} --model.spectral_hop 1"
        raise InputError("field model.upsampling", problem, found=str(made), fix=fix)


def _factors(hop: int) -> list[int]:
    """Factors of at most 8 that give ``hop``, where its prime factors allow it, the largest first."""
    factors = []
    while hop > 1:
        factor = max((each for each in range(2, 9) if hop % each == 0), default=hop)
        factors.append(factor)
        hop //= factor
    return factors


# The input channels of transposed convolutions and of the first layers are few or odd: outputs are split.
SHARDING = ((r"(entry|up|head|dilated|plain|layers)\W.*kernel$", P(None, None, "fsdp")),)

IMPORTS: dict[str, Any] = {}
