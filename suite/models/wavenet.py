"""WaveNet: each sample of a waveform from those before it, by dilated causal convolutions.

`van den Oord et al., 2016 <https://arxiv.org/abs/1609.03499>`_: gated layers whose dilation doubles from one to the
next, on a residual, all of which the output reads. Conditioned on features of frames, such as mels, on a speaker, on
both, or on nothing. Generation keeps the inputs of each convolution in a ring buffer (`Paine et al., 2016
<https://arxiv.org/abs/1611.09482>`_), so that a sample costs the same however many come before it.

Dims: b batch, n samples, t frames, f features a frame, c width of the condition, d width, k taps, l layers,
p parameters of a sample's distribution.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.model import ModelConfig
from suite.models.checks import check_choices, check_fractions, check_given, check_sizes
from suite.nn import Dropout, Embedding, Linear
from suite.nn.audio import waveform
from suite.nn.conv1d import Conv1d
from suite.nn.masking import silence
from suite.parallel.layout import edge


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """A causal stack of gated layers that says how the next sample is distributed."""

    inputs: int = 0
    """Features a frame. 0: from the task."""
    speakers: int = 0
    """Speakers. 0: from the task, where it names a column of them; else the model is conditioned on none."""
    framed: bool = True
    """Condition samples on the features of frames. Without, they come from the samples before them alone, and from
    the speaker where there is one."""
    output: Literal["mulaw", "logistics", "gaussian"] = "mulaw"
    """Distribution of a sample: categories of the mu-law, as in the paper; a mixture of logistics, or one Gaussian,
    both of 16 bits."""
    classes: int = 256
    """Categories of the mu-law."""
    mixtures: int = 10
    """Logistics in the mixture."""
    cycles: int = 2
    """How often the dilation starts anew at 1."""
    dilations: int = 9
    """Layers in a cycle, with dilations 1, 2, 4, ..."""
    taps: int = 2
    """Samples that a layer's convolution joins."""
    width: int = 48
    """Channels of the residual, and of each half of a gate."""
    skip: int = 96
    """Channels that the outputs of all layers are summed in."""
    condition: int = 64
    """Width of what a frame, or a speaker, becomes before the layers read it."""
    dropout: float = 0.0
    """Fraction of the layers' outputs that training drops."""

    def __post_init__(self):
        check_sizes(self, 0, "inputs", "speakers")
        check_sizes(self, 1, "mixtures", "cycles", "dilations", "width", "skip", "condition")
        check_sizes(self, 2, "classes", "taps")
        check_choices(self, {"output": ("mulaw", "logistics", "gaussian")})
        check_fractions(self, "dropout")

    @property
    def steps(self) -> tuple[int, ...]:
        """The dilation of each layer."""
        return tuple(2**i for i in range(self.dilations)) * self.cycles

    @property
    def receptive_field(self) -> int:
        """Samples that one sample is drawn from."""
        return (self.taps - 1) * sum(self.steps) + 1

    def build(self, *, rngs: nnx.Rngs) -> "WaveNet":
        if self.framed:
            check_given(self, "inputs")
        return WaveNet(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    def layer_of(self, path: str) -> int:
        parts = path.split("/")
        if parts[0] == "layers":
            return int(parts[1]) + 1
        return self.depth if parts[0] in ("skip", "hidden", "head") else 0

    @property
    def depth(self) -> int:
        return self.cycles * self.dilations + 1


class GatedLayer(nnx.Module):
    """``tanh(a) * sigmoid(g)`` of a dilated convolution; what goes on is the input plus a projection of it.

    Attributes:
        conv: (k d, 2 d), the taps of the convolution, the oldest first.
        condition: (c, 2 d); None where there is no condition.
        out: (d, d); None in the last layer, of which nothing goes on.
        dilation: samples from one tap to the next.
    """

    def __init__(self, width: int, taps: int, dilation: int, condition: int, last: bool, *, rngs: nnx.Rngs):
        self.conv = Linear(taps * width, 2 * width, rngs=rngs)
        self.condition = Linear(condition, 2 * width, rngs=rngs, use_bias=False) if condition else None
        self.out = None if last else Linear(width, width, rngs=rngs)
        self.taps = taps
        self.dilation = dilation

    @property
    def span(self) -> int:
        """Samples before the current one that the convolution reads."""
        return (self.taps - 1) * self.dilation

    def gated(
        self, taps: Float[Array, "... kd"], condition: Float[Array, "... 2d"] | None, x: Float[Array, "... d"]
    ) -> tuple[Float[Array, "... d"], Float[Array, "... d"]]:
        """What the output reads of this layer, and what the next layer reads.

        Args:
            taps: what the convolution joins.
            condition: what the condition adds to the gate.
            x: the layer's input.
        """
        joined = self.conv(taps)
        value, gate = jnp.split(joined if condition is None else joined + condition, 2, -1)
        z = jnp.tanh(value) * jax.nn.sigmoid(gate)
        return z, x if self.out is None else x + self.out(z)


def shifted(x: Float[Array, "b n d"], taps: int, dilation: int, ahead: int = 0) -> Float[Array, "b n kd"]:
    """What a convolution joins at each place, the oldest first; zeros beyond either end.

    ``ahead`` of the taps lie behind the place; of a causal convolution none does.
    """
    size, before = x.shape[1], (taps - 1 - ahead) * dilation
    padded = jnp.pad(x, ((0, 0), (before, ahead * dilation), (0, 0)))
    return jnp.concatenate([padded[:, i * dilation : i * dilation + size] for i in range(taps)], -1)


def upsampled(frames: Float[Array, "b t ..."], hop: int) -> Float[Array, "b n ..."]:
    """A value a sample by linear interpolation: frame i stands at sample i hop, so t frames give (t - 1) hop."""
    steps = frames[:, 1:] - frames[:, :-1]
    place = (jnp.arange(hop) / hop).reshape(1, 1, hop, *[1] * (frames.ndim - 2))
    between = frames[:, :-1, None] + place * steps[:, :, None]
    return between.reshape(frames.shape[0], (frames.shape[1] - 1) * hop, *frames.shape[2:])


class WaveNet(nnx.Module):
    """Samples, and what they are conditioned on, to the distribution of each sample.

    Attributes:
        levels: (2, d), from a sample and its place on the scale of the mu-law.
        samples: vectors of the categories of the mu-law, which are added; None where samples are of 16 bits.
        frames: convolution over the features of three frames; None where frames are not read.
        speakers: a vector of each speaker; None where there are none.
        layers: the gated layers.
        skip: (l d, skip), the sum of projections of all layers' gates.
        hidden: (skip, skip).
        head: (skip, p).
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.distribution = waveform.of(config.output, config.classes, config.mixtures)
        self.classes = config.classes
        width, condition = config.width, config.condition if config.framed or config.speakers else 0
        of_classes = config.output == "mulaw"
        self.levels = Linear(2, width, rngs=rngs)
        self.samples = Embedding(config.classes, width, rngs=rngs) if of_classes else None
        self.frames = Conv1d(config.inputs, condition, 3, padding=1, rngs=rngs) if config.framed else None
        self.speakers = Embedding(config.speakers, condition, rngs=rngs) if config.speakers else None
        steps = config.steps
        self.layers = nnx.List(
            [
                GatedLayer(width, config.taps, step, condition, i == len(steps) - 1, rngs=rngs)
                for i, step in enumerate(steps)
            ]
        )
        self.skip = Linear(len(steps) * width, config.skip, rngs=rngs)
        self.hidden = Linear(config.skip, config.skip, rngs=rngs)
        self.head = Linear(config.skip, self.distribution.size, rngs=rngs)
        self.dropout = Dropout(config.dropout)

    def __call__(
        self,
        samples: Float[Array, "b n"],
        frames: Float[Array, "b t f"],
        mask: Bool[Array, "b t"],
        speaker: Int[Array, "b"] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b n p"]:
        """Parameters of the distribution of each sample, given the samples before it.

        Args:
            samples: in -1..1; n is a multiple of t - 1.
            frames: features, frame i at sample i n / (t - 1).
            mask: True where a frame is real; a row's real frames come first.
            speaker: number of each row's.
            rngs: given in training.
        """
        x = self._enter(jnp.pad(samples, ((0, 0), (1, 0)))[:, :-1])
        condition = self.condition(frames, mask, speaker)
        hop = samples.shape[1] // (frames.shape[1] - 1)
        gates = []
        for layer in self.layers:
            added = None if condition is None else upsampled(layer.condition(condition), hop)
            z, x = layer.gated(shifted(edge(x), layer.taps, layer.dilation), added, x)
            gates.append(self.dropout(z, rngs))
        return self._leave(jnp.concatenate(gates, -1))

    def condition(
        self, frames: Float[Array, "b t f"], mask: Bool[Array, "b t"], speaker: Int[Array, "b"] | None
    ) -> Float[Array, "b t c"] | None:
        """What the layers read of each frame and of the speaker; None where they read nothing."""
        read = None if self.frames is None else jax.nn.silu(self.frames(silence(frames, mask)))
        if self.speakers is None:
            return read
        if speaker is None:
            raise ValueError("this model is conditioned on speakers, and no speaker is given")
        vectors = jnp.broadcast_to(
            self.speakers(speaker)[:, None], (*frames.shape[:2], self.speakers.embedding.shape[1])
        )
        return vectors if read is None else read + vectors

    def generate(
        self,
        frames: Float[Array, "b t f"],
        mask: Bool[Array, "b t"],
        hop: int,
        keys: Array,
        temperature: Float[Array, "b"],
        speaker: Int[Array, "b"] | None = None,
    ) -> Float[Array, "b n"]:
        """Draw n = (t - 1) hop samples of each row, one after the other.

        Args:
            frames: features.
            mask: True where a frame is real.
            hop: samples from one frame to the next.
            keys: (b,) what draws each row's; a frame's samples depend on its number and the row's key alone.
            temperature: 1 draws as the model says, below 1 nearer to the likeliest sample.
            speaker: number of each row's.
        """
        rows, condition = frames.shape[0], self.condition(frames, mask, speaker)
        added = None
        if condition is not None:
            added = jnp.stack([layer.condition(condition) for layer in self.layers], 2).swapaxes(0, 1)  # (t, b, l, 2 d)

        def frame(state: Any, number: Array) -> tuple[Any, Array]:
            drawn = jax.vmap(
                lambda key: jax.random.uniform(jax.random.fold_in(key, number), (hop, self.distribution.draws))
            )
            start = None if added is None else added[number]
            step = None if added is None else (added[number + 1] - added[number]) / hop

            def sample(state: Any, inputs: tuple[Array, Array]) -> tuple[Any, Array]:
                place, uniform = inputs
                now = None if start is None else start + place * step
                parameters, rings = self.step(state[0], now, state[1])
                samples = self.distribution.draw(parameters, uniform, temperature)
                return (samples, rings), samples

            return lax.scan(sample, state, (jnp.arange(hop), drawn(keys).swapaxes(0, 1)))

        start = jnp.zeros((rows,)), self.rings(rows)
        samples = lax.scan(frame, start, jnp.arange(frames.shape[1] - 1))[1]
        return samples.reshape(-1, rows).T

    def rings(self, rows: int) -> "Rings":
        """Buffers before the first sample."""
        width = self.skip.kernel.shape[0] // len(self.layers)
        return Rings(jnp.int32(0), tuple(jnp.zeros((layer.span, rows, width)) for layer in self.layers))

    def step(
        self, samples: Float[Array, "b"], condition: Float[Array, "b l 2d"] | None, rings: "Rings"
    ) -> tuple[Float[Array, "b p"], "Rings"]:
        """Parameters of the distribution of the sample behind ``samples``, and the buffers with them.

        Args:
            samples: the last of each row; 0 before the first.
            condition: what the condition adds to each layer's gate, at the sample to come.
            rings: the inputs of each layer before it.
        """
        x, gates, buffers = self._enter(samples), [], []
        for i, (layer, buffer) in enumerate(zip(self.layers, rings.buffers, strict=True)):
            # The oldest input stands where the current one is written.
            places = [(rings.count + tap * layer.dilation) % layer.span for tap in range(layer.taps - 1)]
            before = [lax.dynamic_index_in_dim(buffer, place, 0, keepdims=False) for place in places]
            buffers.append(lax.dynamic_update_slice_in_dim(buffer, x[None], places[0], 0))
            added = None if condition is None else condition[:, i]
            z, x = layer.gated(jnp.concatenate([*before, x], -1), added, x)
            gates.append(z)
        return self._leave(jnp.concatenate(gates, -1)), Rings(rings.count + 1, tuple(buffers))

    def _enter(self, samples: Float[Array, "..."]) -> Float[Array, "... d"]:
        x = self.levels(jnp.stack([samples, waveform.companded(samples)], -1))
        return x if self.samples is None else x + self.samples(waveform.to_mulaw(samples, self.classes))

    def _leave(self, gates: Float[Array, "... ld"]) -> Float[Array, "... p"]:
        return self.head(jax.nn.relu(self.hidden(jax.nn.relu(self.skip(gates)))))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rings:
    """What generation keeps: the inputs of each layer's convolution.

    Attributes:
        count: () samples so far.
        buffers: of each layer (span, b, d), sample i at place i modulo span.
    """

    count: Array
    buffers: tuple[Array, ...]


SHARDING = ((r"(conv|condition)\Wkernel$", P("fsdp", "tensor")), (r"(skip|hidden|out)\Wkernel$", P("tensor", "fsdp")))

IMPORTS: dict[str, Any] = {}
