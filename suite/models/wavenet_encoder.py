"""WaveNet as a recogniser: its gated layers, not causal, over the frames of a recording.

`van den Oord et al., 2016, 3.4 <https://arxiv.org/abs/1609.03499>`_ recognise speech by dilated convolutions; here they
read features instead of samples, see frames on both sides, and have a norm before each layer. Padding never changes
what comes out at a real frame.

Dims: b batch, t frames in, u frames out, f features a frame, d width, l layers, o outputs.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from suite.contracts.model import ModelConfig
from suite.errors import InputError
from suite.models.checks import check_choices, check_fractions, check_given, check_sizes
from suite.models.wavenet import GatedLayer, shifted
from suite.nn import Dropout, LayerNorm, Linear
from suite.nn.conv1d import Conv1d
from suite.nn.masking import masked_mean, silence
from suite.parallel.layout import edge


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """Gated layers over frames with a linear layer on top: for each frame, or for the mean of all."""

    inputs: int = 0
    """Features a frame. 0: from the task."""
    outputs: int = 0
    """Classes, for CTC with the blank. 0: from the task."""
    cycles: int = 3
    """How often the dilation starts anew at 1."""
    dilations: int = 6
    """Layers in a cycle, with dilations 1, 2, 4, ..."""
    taps: int = 3
    """Frames that a layer's convolution joins, as many before the frame as behind it."""
    width: int = 96
    """Channels of the residual, and of each half of a gate."""
    skip: int = 192
    """Channels that the outputs of all layers are summed in."""
    subsampling: int = 1
    """Frames in that one frame out stands for: 1, 2 or 4."""
    pooling: str = "none"
    """Outputs for each frame (none), or of the mean over a row's frames (mean)."""
    dropout: float = 0.1
    """Fraction of the layers' outputs that training drops."""

    def __post_init__(self):
        check_sizes(self, 0, "inputs", "outputs")
        check_sizes(self, 1, "cycles", "dilations", "width", "skip", "taps")
        check_choices(self, {"subsampling": (1, 2, 4), "pooling": ("none", "mean")})
        check_fractions(self, "dropout")
        if self.taps % 2 == 0:
            raise InputError(
                "field model.taps", "must be odd: as many before a frame as behind it", found=str(self.taps)
            )

    def build(self, *, rngs: nnx.Rngs) -> "Recogniser":
        check_given(self, "inputs", "outputs")
        return Recogniser(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    def layer_of(self, path: str) -> int:
        parts = path.split("/")
        if parts[0] in ("layers", "norms"):
            return int(parts[1]) + 1
        return 0 if parts[0] == "stem" else self.depth

    @property
    def depth(self) -> int:
        return self.cycles * self.dilations + 1


class Recogniser(nnx.Module):
    """Features to outputs of each frame.

    Attributes:
        stem: convolution over frames, which joins ``subsampling`` of them.
        norms: of each layer's input.
        layers: the gated layers.
        skip: (l d, skip), the sum of projections of all layers' gates.
        norm: of that sum.
        head: (skip, outputs).
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        width, count, stride = config.width, config.cycles * config.dilations, config.subsampling
        self.stem = Conv1d(config.inputs, width, 2 * stride + 1, stride=stride, padding=stride, rngs=rngs)
        self.norms = nnx.List([LayerNorm(width, epsilon=1e-5) for _ in range(count)])
        self.layers = nnx.List(
            [
                GatedLayer(width, config.taps, 2 ** (i % config.dilations), 0, i == count - 1, rngs=rngs)
                for i in range(count)
            ]
        )
        self.skip = Linear(count * width, config.skip, rngs=rngs)
        self.norm = LayerNorm(config.skip, epsilon=1e-5)
        self.head = Linear(config.skip, config.outputs, rngs=rngs)
        self.dropout = Dropout(config.dropout)
        self.pooling = config.pooling

    def __call__(
        self, features: Float[Array, "b t f"], mask: Bool[Array, "b t"], *, rngs: nnx.Rngs | None = None
    ) -> tuple[Float[Array, "b u o"], Bool[Array, "b u"]] | Float[Array, "b o"]:
        """Outputs of each frame and which frames are real; with ``pooling="mean"``, logits of each row alone.

        ``mask`` is True where a frame is real; a row's real frames come first. Dropout acts only where ``rngs`` is
        given.
        """
        x = self.stem(silence(features, mask))
        mask = mask[:, :: self.stem.stride]
        gates = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            read = silence(norm(edge(x)), mask)
            z, x = layer.gated(shifted(read, layer.taps, layer.dilation, layer.taps // 2), None, x)
            gates.append(self.dropout(z, rngs))
        hidden = self.norm(jax.nn.relu(self.skip(jnp.concatenate(gates, -1))))
        return (self.head(edge(hidden)), mask) if self.pooling == "none" else self.head(edge(masked_mean(hidden, mask)))


SHARDING = ((r"layers\W\d+\Wconv\Wkernel$", P("fsdp", "tensor")), (r"(skip|out)\Wkernel$", P("tensor", "fsdp")))

IMPORTS: dict[str, Any] = {}
