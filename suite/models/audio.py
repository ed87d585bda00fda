"""Conformer: convolution and attention over the frames of a recording.

`Gulati et al., 2020 <https://arxiv.org/abs/2005.08100>`_: a convolutional stem that joins frames, then blocks of half
a feed-forward layer, self-attention by distance, a convolution module and the other half. Padding never changes what
comes out at a real frame, nor, with batch normalisation, the statistics.

Dims: b batch, t frames in, u frames out, f features a frame, d width, k taps, o outputs.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from suite.contracts.units import Units
from suite.errors import InputError
from suite.models.blocks import BlockConfig
from suite.models.checks import check_choices, check_given, check_sizes
from suite.nn import Dropout, LayerNorm, Linear, SelfAttention
from suite.nn.batchnorm import BatchNorm
from suite.nn.conv import Conv
from suite.nn.conv1d import Conv1d, DepthwiseConv1d
from suite.nn.masking import masked_mean, silence
from suite.nn.relative_attention import RelativeAttention
from suite.parallel.layout import edge
from suite.surgery.units import feed_forward, heads

_HE = nnx.initializers.he_normal()
_CHOICES: dict[str, tuple[Any, ...]] = {
    "subsampling": (1, 2, 4, 8),
    "stem": ("conv1d", "conv2d"),
    "positions": ("relative", "rotary", "none"),
    "norm": ("batch", "layer"),
    "pooling": ("none", "mean", "hidden"),
}


@dataclass(frozen=True, kw_only=True)
class Config(BlockConfig):
    """A Conformer with a linear layer on top: for each frame, or for the mean of all."""

    published: ClassVar[str] = "a run of a Conformer"
    own: ClassVar[tuple[str, ...]] = ("outputs", "pooling", "dropout", "attention_dropout")

    inputs: int = 0
    """Features a frame. 0: from the task."""
    outputs: int = 0
    """Classes, for CTC with the blank. 0: from the task."""
    layers: int = 4
    """Blocks."""
    width: int = 144
    """Size of a frame's vector."""
    heads: int = 4
    """Attention heads; they divide the width unless head_width is set."""
    head_width: int = 0
    """Width of a head. 0: width / heads."""
    feed_forward: int = 0
    """Width inside the feed-forward halves. 0: four times the width."""
    kernel: int = 15
    """Frames that the convolution of a block sees. The paper: 32."""
    subsampling: int = 4
    """Frames in that one frame out stands for: 1, 2, 4 or 8."""
    stem: Literal["conv1d", "conv2d"] = "conv1d"
    """Convolutions that join frames: over time, or over time and features as in the paper, which costs more."""
    positions: Literal["relative", "rotary", "none"] = "relative"
    """How places enter the attention: scores by distance, as in the paper, turned queries and keys, or not."""
    norm: Literal["batch", "layer"] = "batch"
    """Normalisation inside the convolution module: over the real frames of a batch, as in the paper, or of a frame."""
    pooling: Literal["none", "mean", "hidden"] = "none"
    """Outputs for each frame, or of the mean over a row's frames; or the hidden vectors, without a head."""
    dropout: float = 0.1
    """Fraction of sublayer outputs that training drops."""
    attention_dropout: float = 0.1
    """Fraction of attention weights that training drops."""

    def __post_init__(self):
        check_sizes(self, 0, "inputs", "outputs", "layers", "head_width", "feed_forward")
        check_sizes(self, 1, "width", "heads", "kernel")
        check_choices(self, _CHOICES)
        self._check_blocks()
        if self.stem == "conv2d" and self.subsampling == 1:
            raise InputError("field model.subsampling", 'must be 2, 4 or 8 where the stem is "conv2d"', found="1")

    def build(self, *, rngs: nnx.Rngs) -> "AudioEncoder":
        check_given(self, "inputs", *([] if self.pooling == "hidden" else ["outputs"]))
        return AudioEncoder(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    @property
    def vector_sizes(self) -> dict[str, int]:
        return {"inputs": self.width, "frames": self.subsampling}

    def below(self, path: str) -> bool:
        return "head" not in path

    @property
    def prunable(self) -> tuple[Units, ...]:
        return PRUNING


class Stem(nnx.Module):
    """Convolutions of 3 frames, each halving their number (but one where none are to be joined), and a linear layer.

    Attributes:
        convs: with a ReLU after each; over time, all features being channels, or over time and features.
        out: what a frame then holds to ``width``.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        halvings, width = config.subsampling.bit_length() - 1, config.width
        self.plane = config.stem == "conv2d"
        widths = [1 if self.plane else config.inputs] + [width] * (max(halvings, 1) - 1)
        stride, held = 2 if halvings else 1, width
        if self.plane:
            held = width * -(-config.inputs // config.subsampling)

        def conv(inputs: int) -> Conv | Conv1d:
            if self.plane:
                return Conv(inputs, width, 3, stride=2, padding=1, rngs=rngs, use_bias=True)
            return Conv1d(inputs, width, 3, stride=stride, padding=1, rngs=rngs, init=_HE)

        self.convs = nnx.List([conv(inputs) for inputs in widths])
        self.out = Linear(held, width, rngs=rngs)
        self.dropout = Dropout(config.dropout)

    def __call__(
        self, x: Float[Array, "b t f"], mask: Bool[Array, "b t"], rngs: nnx.Rngs | None
    ) -> tuple[Float[Array, "b u d"], Bool[Array, "b u"]]:
        x = x[..., None] if self.plane else x
        for conv in self.convs:
            x = jax.nn.relu(conv(silence(x, mask)))
            mask = mask[:, :: conv.stride]
        x = x.reshape(*x.shape[:2], -1)
        return self.dropout(self.out(x), rngs), mask


class HalfFeedForward(nnx.Module):
    """Norm, widen, swish, narrow; the caller adds half of it.

    Attributes:
        norm: of the input.
        up: (d, feed-forward width).
        down: (feed-forward width, d).
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        inner = config.feed_forward or 4 * config.width
        self.norm = LayerNorm(config.width, epsilon=1e-5)
        self.up = Linear(config.width, inner, rngs=rngs)
        self.down = Linear(inner, config.width, rngs=rngs)
        self.dropout = Dropout(config.dropout)

    def __call__(self, x: Float[Array, "b t d"], rngs: nnx.Rngs | None) -> Float[Array, "b t d"]:
        inner = self.dropout(jax.nn.silu(self.up(self.norm(x))), rngs)
        return self.dropout(self.down(inner), rngs)


class ConvModule(nnx.Module):
    """Norm, gated pointwise layer, depthwise convolution, norm, swish, pointwise layer.

    Attributes:
        norm: of the input.
        value, gate: (d, d), the halves of the gated linear unit.
        depthwise: the convolution, ``kernel`` frames wide.
        inner_norm: after it.
        out: (d, d).
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        width = config.width
        self.norm = LayerNorm(width, epsilon=1e-5)
        self.value = Linear(width, width, rngs=rngs)
        self.gate = Linear(width, width, rngs=rngs)
        # A bias before batch normalisation is taken off again; all that could train it is rounding.
        self.depthwise = DepthwiseConv1d(width, config.kernel, rngs=rngs, use_bias=config.norm != "batch")
        self.inner_norm = BatchNorm(width) if config.norm == "batch" else LayerNorm(width, epsilon=1e-5)
        self.out = Linear(width, width, rngs=rngs)
        self.dropout = Dropout(config.dropout)

    def __call__(
        self, x: Float[Array, "b t d"], mask: Bool[Array, "b t"], rngs: nnx.Rngs | None
    ) -> Float[Array, "b t d"]:
        x = self.norm(x)
        x = self.value(x) * jax.nn.sigmoid(self.gate(x))
        x = self.depthwise(silence(x, mask))
        if isinstance(self.inner_norm, BatchNorm):
            frames = x.reshape(-1, 1, 1, x.shape[-1])
            x = self.inner_norm(frames, mask.reshape(-1), training=rngs is not None).reshape(x.shape)
        else:
            x = self.inner_norm(x)
        return self.dropout(self.out(jax.nn.silu(x)), rngs)


class Block(nnx.Module):
    """Half a feed-forward layer, attention, convolution, the other half; each on a residual, then a norm.

    Attributes:
        before, after: the feed-forward halves.
        attention, attention_norm: attention and the norm of its input.
        conv: the convolution module.
        norm: of what the block returns.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        width, heads = config.width, config.heads
        sizes: dict[str, Any] = {"dropout": config.attention_dropout, "head_width": config.head_width}
        self.before = HalfFeedForward(config, rngs=rngs)
        self.attention_norm = LayerNorm(width, epsilon=1e-5)
        self.attention: nnx.Module
        if config.positions == "relative":
            self.attention = RelativeAttention(width, heads, rngs=rngs, **sizes)
        else:
            self.attention = SelfAttention(width, heads, rngs=rngs, turn=config.positions == "rotary", **sizes)
        self.conv = ConvModule(config, rngs=rngs)
        self.after = HalfFeedForward(config, rngs=rngs)
        self.norm = LayerNorm(width, epsilon=1e-5)
        self.dropout = Dropout(config.dropout)

    def __call__(
        self, x: Float[Array, "b t d"], mask: Bool[Array, "b t"], rngs: nnx.Rngs | None
    ) -> Float[Array, "b t d"]:
        x = x + 0.5 * self.before(x, rngs)
        x = x + self.dropout(self.attention(self.attention_norm(x), mask, rngs), rngs)
        x = x + self.conv(x, mask, rngs)
        return self.norm(x + 0.5 * self.after(x, rngs))


class Encoder(nnx.Module):
    """Features to one vector for each ``subsampling`` frames.

    Attributes:
        stem: joins frames.
        layers: the blocks.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.stem = Stem(config, rngs=rngs)
        self.layers = nnx.List([Block(config, rngs=rngs) for _ in range(config.layers)])

    def __call__(
        self, features: Float[Array, "b t f"], mask: Bool[Array, "b t"], *, rngs: nnx.Rngs | None = None
    ) -> tuple[Float[Array, "b u d"], Bool[Array, "b u"]]:
        """Hidden vectors, and which of them are real; the others mean nothing."""
        x, mask = self.stem(features, mask, rngs)
        for block in self.layers:
            x = block(edge(x), mask, rngs)
        return x, mask


class AudioEncoder(nnx.Module):
    """Encoder and linear head.

    Attributes:
        encoder: see `Encoder`.
        head: (width, outputs), or None where hidden vectors are asked for.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.encoder = Encoder(config, rngs=rngs)
        self.head = None if config.pooling == "hidden" else Linear(config.width, config.outputs, rngs=rngs)
        self.pooling = config.pooling

    def __call__(
        self, features: Float[Array, "b t f"], mask: Bool[Array, "b t"], *, rngs: nnx.Rngs | None = None
    ) -> tuple[Float[Array, "b u o"], Bool[Array, "b u"]] | Float[Array, "b o"]:
        """Outputs of each frame and which frames are real; with ``pooling="mean"``, logits of each row alone.

        ``mask`` is True where a frame is real; a row's real frames come first. Dropout acts only where ``rngs`` is
        given.
        """
        hidden, mask = self.encoder(features, mask, rngs=rngs)
        if self.head is None:
            return hidden, mask
        return (self.head(edge(hidden)), mask) if self.pooling == "none" else self.head(edge(masked_mean(hidden, mask)))


SHARDING = (
    (r"(query|key|value|gate|up)\Wkernel$", P("fsdp", "tensor")),
    (r"(query|key|value|gate|up)\Wbias$", P("tensor")),
    (r"(attention\Wout|conv\Wout|down)\Wkernel$", P("tensor", "fsdp")),
)

_ATTENTION = "encoder/layers/{i}/attention"
_BY_DISTANCE = (
    (f"{_ATTENTION}/distance/kernel", 1),
    (f"{_ATTENTION}/content_bias", 0),
    (f"{_ATTENTION}/distance_bias", 0),
)
PRUNING = (
    feed_forward("encoder/layers/{i}/before"),
    feed_forward("encoder/layers/{i}/after"),
    heads(_ATTENTION, besides=_BY_DISTANCE),
)

IMPORTS: dict[str, Any] = {}
