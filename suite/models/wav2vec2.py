"""wav2vec 2.0 and HuBERT: from a waveform to vectors of 20 ms, and a linear layer for CTC on top.

`Baevski et al., 2020 <https://arxiv.org/abs/2006.11477>`_; HuBERT (`Hsu et al., 2021
<https://arxiv.org/abs/2106.07447>`_) is the same network, trained otherwise. Strided convolutions turn samples into
features, a long grouped convolution tells each where it is, a transformer does the rest. What differs from the
published code: a row's padding never counts, not even in the normalisation over time of the first layer, unless
``padded_statistics`` asks for it; whole layers are never dropped in training.

Dims: b batch, n samples, t frames, c features, d width, o outputs.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from suite.contracts.units import Units
from suite.errors import InputError
from suite.models.activations import PLAIN, published_activation, published_name
from suite.models.blocks import BlockConfig, check_published_heads
from suite.models.checks import check_choices, check_given, check_sizes
from suite.nn import Activation, Dropout, FeedForward, LayerNorm, Linear, SelfAttention, activate
from suite.nn.conv1d import Conv1d, PositionalConv
from suite.nn.dropout import keep_mask
from suite.nn.masking import masked_mean, silence
from suite.parallel.layout import edge
from suite.surgery.units import feed_forward, heads
from suite.weights.imports import CONV1D, Map, Rule, linear, norm

_CHOICES: dict[str, tuple[Any, ...]] = {
    "feature_norm": ("group", "layer"),
    "norm": ("post", "pre"),
    "pooling": ("none", "mean", "hidden"),
    "activation": PLAIN,
    "feature_activation": PLAIN,
}


@dataclass(frozen=True, kw_only=True)
class Config(BlockConfig):
    """wav2vec 2.0 or HuBERT; the defaults are those of the base models."""

    published: ClassVar[str] = "wav2vec 2.0 or HuBERT"
    own: ClassVar[tuple[str, ...]] = (
        "outputs",
        "pooling",
        "dropout",
        "attention_dropout",
        "activation_dropout",
        "padded_statistics",
        "mask_time",
        "mask_time_length",
        "mask_features",
        "mask_features_length",
    )

    outputs: int = 0
    """Classes, for CTC with the blank. 0: from the task."""
    conv_widths: tuple[int, ...] = (512,) * 7
    """Features after each convolution."""
    conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    """Samples, then frames, that each convolution sees."""
    conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    """How far each convolution steps; their product is the samples a frame."""
    conv_bias: bool = False
    """Whether convolutions have a bias, as in large models."""
    feature_norm: Literal["group", "layer"] = "group"
    """Normalise each channel over time after the first convolution, or each frame after every one (large models)."""
    padded_statistics: bool = False
    """Let padding count in the normalisation over time, as the published code does."""
    projection_norm: bool = True
    """Normalise features before they are projected."""
    layers: int = 12
    """Blocks."""
    width: int = 768
    """Size of a frame's vector."""
    heads: int = 12
    """Attention heads; they divide the width unless head_width is set."""
    head_width: int = 0
    """Width of a head. 0: width / heads."""
    feed_forward: int = 3072
    """Width inside the feed-forward layer."""
    activation: Activation = "gelu"
    """Function inside the feed-forward layer."""
    feature_activation: Activation = "gelu"
    """Function after each convolution, and after that of positions."""
    norm: Literal["post", "pre"] = "post"
    """Normalise after each sublayer, or before it (large models: "stable layer norm")."""
    position_kernel: int = 128
    """Frames that the positional convolution sees."""
    position_groups: int = 16
    """Groups of its channels; they divide the width."""
    epsilon: float = 1e-5
    """Added to variances in the transformer."""
    pooling: Literal["none", "mean", "hidden"] = "none"
    """Outputs for each frame, or of the mean over a row's frames; or the hidden vectors, without a head."""
    dropout: float = 0.1
    """Fraction of sublayer outputs that training drops."""
    attention_dropout: float = 0.1
    """Fraction of attention weights that training drops."""
    activation_dropout: float = 0.1
    """Fraction of the values inside the feed-forward layer that training drops."""
    mask_time: float = 0.05
    """Share of the frames that training replaces by a learned vector, in spans (SpecAugment)."""
    mask_time_length: int = 10
    """Frames a span."""
    mask_features: float = 0.0
    """Share of the channels that training zeroes in a row, in spans."""
    mask_features_length: int = 10
    """Channels a span."""

    def __post_init__(self):
        check_sizes(self, 0, "outputs", "layers", "head_width")
        check_sizes(
            self,
            1,
            "width",
            "heads",
            "feed_forward",
            "position_kernel",
            "position_groups",
            "mask_time_length",
            "mask_features_length",
        )
        check_choices(self, _CHOICES)
        self._check_blocks("activation_dropout", "mask_time", "mask_features")
        if self.width % self.position_groups:
            raise InputError(
                "field model.position_groups",
                "must divide width",
                found=f"{self.position_groups} groups of width {self.width}",
            )
        lengths = {len(self.conv_widths), len(self.conv_kernels), len(self.conv_strides)}
        if lengths == {0} or len(lengths) > 1:
            raise InputError(
                "field model.conv_widths",
                "needs one entry a convolution, as its kernels and strides do",
                found=f"{self.conv_widths}, {self.conv_kernels}, {self.conv_strides}",
            )

    def build(self, *, rngs: nnx.Rngs) -> "SpeechModel":
        if self.pooling != "hidden":
            check_given(self, "outputs")
        return SpeechModel(self, rngs=rngs)

    def frames(self, samples: Any) -> Any:
        """Frames that a recording of so many samples gives; 0 where it is too short. Integers or an array."""
        for kernel, stride in zip(self.conv_kernels, self.conv_strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples * (samples > 0)

    @property
    def vector_sizes(self) -> dict[str, int]:
        return {"inputs": self.width, "frames": 1, "features": self.conv_widths[-1]}

    @property
    def masks(self) -> bool:
        """Whether training masks anything."""
        return self.mask_time > 0 or self.mask_features > 0

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    def below(self, path: str) -> bool:
        return re.search(r"^head" if self.norm == "post" else r"^head|encoder\Wnorm", path) is None

    @property
    def prunable(self) -> tuple[Units, ...]:
        return PRUNING


class TimeNorm(nnx.Module):
    """Each channel of each row to zero mean and unit variance over its frames, then scale and shift.

    Attributes:
        scale: (width,), one at first.
        bias: (width,), zero at first.
    """

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones((width,)))
        self.bias = nnx.Param(jnp.zeros((width,)))

    def __call__(self, x: Float[Array, "b t c"], mask: Bool[Array, "b t"]) -> Float[Array, "b t c"]:
        x = x.astype(jnp.float32)
        count = jnp.maximum(mask.sum(1), 1)[:, None, None]
        x = x - silence(x, mask).sum(1, keepdims=True) / count
        variance = jnp.square(silence(x, mask)).sum(1, keepdims=True) / count
        return x * (lax.rsqrt(variance + 1e-5) * self.scale[...]) + self.bias[...]


class FeatureLayer(nnx.Module):
    """Convolution, norm or none, GELU.

    Attributes:
        conv: the convolution.
        norm: `TimeNorm`, `LayerNorm` or None.
    """

    def __init__(self, config: Config, place: int, *, rngs: nnx.Rngs):
        inputs, outputs = (1, *config.conv_widths)[place : place + 2]
        self.conv = Conv1d(
            inputs,
            outputs,
            config.conv_kernels[place],
            stride=config.conv_strides[place],
            rngs=rngs,
            use_bias=config.conv_bias,
            init=nnx.initializers.he_normal(),
        )
        self.activation = config.feature_activation
        self.norm: nnx.Module | None
        if config.feature_norm == "layer":
            self.norm = LayerNorm(outputs, epsilon=1e-5)
        else:
            self.norm = TimeNorm(outputs) if place == 0 else None

    def __call__(self, x: Float[Array, "b n i"], mask: Bool[Array, "b t"]) -> Float[Array, "b t c"]:
        """``mask`` is of the frames that come out."""
        x = self.conv(x)
        if isinstance(self.norm, TimeNorm):
            x = self.norm(x, mask)
        elif self.norm is not None:
            x = self.norm(x)
        return activate(self.activation, x)


class Block(nnx.Module):
    """Attention, then feed-forward, each on a residual.

    Attributes:
        attention, attention_norm: first sublayer and its norm.
        mlp, mlp_norm: second sublayer and its norm.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        width, epsilon = config.width, config.epsilon
        self.attention = SelfAttention(
            width, config.heads, rngs=rngs, dropout=config.attention_dropout, head_width=config.head_width
        )
        self.attention_norm = LayerNorm(width, epsilon=epsilon)
        self.mlp = FeedForward(
            width, config.feed_forward, config.activation, rngs=rngs, dropout=config.activation_dropout
        )
        self.mlp_norm = LayerNorm(width, epsilon=epsilon)
        self.dropout = Dropout(config.dropout)
        self.norm = config.norm

    def __call__(
        self, x: Float[Array, "b t d"], mask: Bool[Array, "b t"], rngs: nnx.Rngs | None
    ) -> Float[Array, "b t d"]:
        if self.norm == "pre":
            x = x + self.dropout(self.attention(self.attention_norm(x), mask, rngs), rngs)
            return x + self.dropout(self.mlp(self.mlp_norm(x), rngs), rngs)
        x = self.attention_norm(x + self.dropout(self.attention(x, mask, rngs), rngs))
        return self.mlp_norm(x + self.dropout(self.mlp(x, rngs), rngs))


class SpanMask(nnx.Module):
    """Replaces spans of frames by a learned vector and zeroes spans of channels, where ``rngs`` is given.

    `Park et al., 2019 <https://arxiv.org/abs/1904.08779>`_ on features; each place starts a span with the
    probability share / length, so that spans may overlap.

    Attributes:
        vector: (width,), what stands for a masked frame.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.vector = nnx.Param(nnx.initializers.uniform(1.0)(rngs.params(), (config.width,), jnp.float32))
        self.time = config.mask_time, config.mask_time_length
        self.features = config.mask_features, config.mask_features_length

    def hide(self, x: Float[Array, "b t d"], hidden: Bool[Array, "b t"]) -> Float[Array, "b t d"]:
        """The vector in the place of the frames that are hidden."""
        return jnp.where(hidden[..., None], self.vector[...], x)

    def __call__(self, x: Float[Array, "b t d"], rngs: nnx.Rngs | None) -> Float[Array, "b t d"]:
        if rngs is None:
            return x
        batch, frames, width = x.shape
        if self.time[0]:
            x = self.hide(x, _spans(rngs, (batch, frames), *self.time))
        if self.features[0]:
            x = jnp.where(_spans(rngs, (batch, width), *self.features)[:, None], 0, x)
        return x


def _spans(rngs: nnx.Rngs, shape: tuple[int, int], share: float, length: int) -> Bool[Array, "b t"]:
    starts = jnp.cumsum(~keep_mask(rngs.dropout(), min(share / length, 1.0), shape), 1)
    before = jnp.pad(starts, ((0, 0), (length, 0)))[:, : shape[1]]
    return starts > before


class Encoder(nnx.Module):
    """Waveform to one vector a frame.

    Attributes:
        features: the convolutions.
        projection_norm: norm of the features, or None.
        projection: (features, width).
        masked: `SpanMask`, or None where training masks nothing.
        positions: the positional convolution.
        layers: the blocks.
        norm: before the first block, or after the last where blocks normalise before each sublayer.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        features, width = config.conv_widths[-1], config.width
        self.features = nnx.List([FeatureLayer(config, place, rngs=rngs) for place in range(len(config.conv_widths))])
        self.projection_norm = LayerNorm(features, epsilon=config.epsilon) if config.projection_norm else None
        self.projection = Linear(features, width, rngs=rngs)
        self.masked = SpanMask(config, rngs=rngs) if config.masks else None
        self.positions = PositionalConv(width, config.position_kernel, config.position_groups, rngs=rngs)
        self.layers = nnx.List([Block(config, rngs=rngs) for _ in range(config.layers)])
        self.norm = LayerNorm(width, epsilon=config.epsilon)
        self.dropout = Dropout(config.dropout)
        self.config = config

    def __call__(
        self, waves: Float[Array, "b n"], mask: Bool[Array, "b n"], *, rngs: nnx.Rngs | None = None
    ) -> tuple[Float[Array, "b t d"], Bool[Array, "b t"]]:
        """Hidden vectors, and which of them are real; the others mean nothing.

        Raises:
            InputError: not one frame fits into n samples.
        """
        x, mask = self.extract(waves, mask)
        return self.contextual(x, mask, rngs=rngs), mask

    def contextual(
        self,
        features: Float[Array, "b t c"],
        mask: Bool[Array, "b t"],
        *,
        hidden: Bool[Array, "b t"] | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b t d"]:
        """Hidden vectors of what `extract` gave.

        Args:
            features: of each frame.
            mask: which frames are real.
            hidden: frames that the learned vector takes the place of. None: training draws them.
            rngs: given in training.

        Raises:
            InputError: frames are to be hidden, and the model has no vector for them.
        """
        x = self.projection(features)
        if hidden is not None:
            if self.masked is None:
                problem = "masks nothing, so that there is no vector for frames that are hidden."
                raise InputError("field model.mask_time", problem, found="0", fix="0.05")
            x = self.masked.hide(x, hidden)
        elif self.masked is not None:
            x = self.masked(x, rngs)
        x = silence(x, mask)
        x = x + activate(self.config.feature_activation, self.positions(x))
        x = self.dropout(x if self.config.norm == "pre" else self.norm(x), rngs)
        for block in self.layers:
            x = block(edge(x), mask, rngs)
        return self.norm(x) if self.config.norm == "pre" else x

    def extract(
        self, waves: Float[Array, "b n"], mask: Bool[Array, "b n"]
    ) -> tuple[Float[Array, "b t c"], Bool[Array, "b t"]]:
        """What the convolutions make of each frame, normalised, and which frames are real.

        Raises:
            InputError: not one frame fits into n samples.
        """
        config, x = self.config, waves[..., None]
        if config.frames(waves.shape[1]) < 1:
            problem = f"recordings of {waves.shape[1]} samples give not one frame."
            raise InputError("column of recordings", problem, fix="leave out such short ones")
        lengths, real = mask.sum(1), jnp.ones((1, 1), bool)
        for layer, kernel, stride in zip(self.features, config.conv_kernels, config.conv_strides, strict=True):
            lengths = jnp.maximum((lengths - kernel) // stride + 1, 0)
            frames = jnp.arange((x.shape[1] - kernel) // stride + 1)
            real = frames < lengths[:, None]
            x = layer(x, jnp.ones_like(real) if config.padded_statistics else real)
        return (x if self.projection_norm is None else self.projection_norm(x)), real


class SpeechModel(nnx.Module):
    """Encoder and linear head.

    Attributes:
        encoder: see `Encoder`.
        head: (width, outputs), or None where hidden vectors are asked for.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.encoder = Encoder(config, rngs=rngs)
        self.head = None if config.pooling == "hidden" else Linear(config.width, config.outputs, rngs=rngs)
        self.dropout = Dropout(config.dropout)
        self.pooling = config.pooling

    def __call__(
        self, waves: Float[Array, "b n"], mask: Bool[Array, "b n"], *, rngs: nnx.Rngs | None = None
    ) -> tuple[Float[Array, "b t o"], Bool[Array, "b t"]] | Float[Array, "b o"]:
        """Outputs of each frame and which frames are real; with ``pooling="mean"``, logits of each row alone.

        ``waves`` have 16,000 samples a second; large models expect each row at zero mean and unit variance. ``mask``
        is True where a sample is real; a row's real samples come first. Dropout and masking act only where ``rngs``
        is given.
        """
        hidden, mask = self.encoder(waves, mask, rngs=rngs)
        if self.head is None:
            return hidden, mask
        hidden = self.dropout(hidden, rngs)
        return (self.head(edge(hidden)), mask) if self.pooling == "none" else self.head(edge(masked_mean(hidden, mask)))


SHARDING = (
    (r"(query|key|value|up)\Wkernel$", P("fsdp", "tensor")),
    (r"(query|key|value|up)\Wbias$", P("tensor")),
    (r"(out|down)\Wkernel$", P("tensor", "fsdp")),
)

PRUNING = (feed_forward("encoder/layers/{i}/mlp"), heads("encoder/layers/{i}/attention"))

_CONV, _FEATURES = "feature_extractor.conv_layers.{i}.", "encoder/features/{i}/"
_LAYER, _BLOCK = "encoder.layers.{i}.", "encoder/layers/{i}/"
_POSITIONS = "encoder.pos_conv_embed.conv."
RULES = (
    Rule(f"{_CONV}conv.weight", f"{_FEATURES}conv/kernel", CONV1D),
    Rule(f"{_CONV}conv.bias", f"{_FEATURES}conv/bias"),
    *norm(f"{_CONV}layer_norm", f"{_FEATURES}norm"),
    *norm("feature_projection.layer_norm", "encoder/projection_norm"),
    *linear("feature_projection.projection", "encoder/projection"),
    Rule("masked_spec_embed", "encoder/masked/vector"),
    Rule(f"{_POSITIONS}parametrizations.weight.original0", "encoder/positions/gain", CONV1D),
    Rule(f"{_POSITIONS}parametrizations.weight.original1", "encoder/positions/direction", CONV1D),
    Rule(f"{_POSITIONS}bias", "encoder/positions/bias"),
    *norm("encoder.layer_norm", "encoder/norm"),
    *linear(f"{_LAYER}attention.q_proj", f"{_BLOCK}attention/query"),
    *linear(f"{_LAYER}attention.k_proj", f"{_BLOCK}attention/key"),
    *linear(f"{_LAYER}attention.v_proj", f"{_BLOCK}attention/value"),
    *linear(f"{_LAYER}attention.out_proj", f"{_BLOCK}attention/out"),
    *norm(f"{_LAYER}layer_norm", f"{_BLOCK}attention_norm"),
    *linear(f"{_LAYER}feed_forward.intermediate_dense", f"{_BLOCK}mlp/up"),
    *linear(f"{_LAYER}feed_forward.output_dense", f"{_BLOCK}mlp/down"),
    *norm(f"{_LAYER}final_layer_norm", f"{_BLOCK}mlp_norm"),
    *linear("lm_head", "head", bare=True),
)
_SPELLING = (
    (r"(pos_conv_embed\.conv\.)weight_g$", r"\1parametrizations.weight.original0"),
    (r"(pos_conv_embed\.conv\.)weight_v$", r"\1parametrizations.weight.original1"),
)
"""Of PyTorch's weight norm before version 2."""
_PLAIN = {"add_adapter": False, "adapter_attn_dim": None, "conv_pos_batch_norm": False}
"""Fields that a published config may not change."""


def _config(theirs: Mapping[str, Any]) -> Config:
    for name, value in _PLAIN.items():
        if theirs.get(name, value) != value:
            raise InputError(
                f"config.json {name}",
                "asks for what this family cannot do.",
                found=str(theirs[name]),
                fix=f"weights with {name} {value}",
            )
    headed = any(name.endswith("ForCTC") for name in theirs.get("architectures") or ())
    get = lambda name, ours: theirs.get(name, getattr(Config, ours))
    return Config(
        outputs=theirs.get("vocab_size", 32) if headed else 0,
        conv_widths=tuple(get("conv_dim", "conv_widths")),
        conv_kernels=tuple(get("conv_kernel", "conv_kernels")),
        conv_strides=tuple(get("conv_stride", "conv_strides")),
        conv_bias=get("conv_bias", "conv_bias"),
        feature_norm=get("feat_extract_norm", "feature_norm"),
        projection_norm=get("feat_proj_layer_norm", "projection_norm"),
        layers=get("num_hidden_layers", "layers"),
        width=get("hidden_size", "width"),
        heads=get("num_attention_heads", "heads"),
        feed_forward=get("intermediate_size", "feed_forward"),
        activation=published_activation(theirs, "hidden_act"),  # type: ignore[arg-type]
        feature_activation=published_activation(theirs, "feat_extract_activation"),  # type: ignore[arg-type]
        norm="pre" if theirs.get("do_stable_layer_norm") else "post",
        position_kernel=get("num_conv_pos_embeddings", "position_kernel"),
        position_groups=get("num_conv_pos_embedding_groups", "position_groups"),
        epsilon=get("layer_norm_eps", "epsilon"),
        pooling="none" if headed else "hidden",
        dropout=get("hidden_dropout", "dropout"),
        attention_dropout=get("attention_dropout", "attention_dropout"),
        activation_dropout=get("activation_dropout", "activation_dropout"),
        mask_time=get("mask_time_prob", "mask_time"),
        mask_time_length=get("mask_time_length", "mask_time_length"),
        mask_features=get("mask_feature_prob", "mask_features"),
        mask_features_length=get("mask_feature_length", "mask_features_length"),
    )


def _published(config: Config) -> dict[str, Any]:
    if config.pooling == "mean":
        raise InputError("field model.pooling", "has no published counterpart.", found="mean", fix="none or hidden")
    check_published_heads(config.width, config.heads, config.head_width)
    return {
        "conv_dim": list(config.conv_widths),
        "conv_kernel": list(config.conv_kernels),
        "conv_stride": list(config.conv_strides),
        "conv_bias": config.conv_bias,
        "num_feat_extract_layers": len(config.conv_widths),
        "feat_extract_norm": config.feature_norm,
        "feat_extract_activation": published_name(config.feature_activation),
        "hidden_act": published_name(config.activation),
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feed_forward,
        "do_stable_layer_norm": config.norm == "pre",
        "num_conv_pos_embeddings": config.position_kernel,
        "num_conv_pos_embedding_groups": config.position_groups,
        "layer_norm_eps": config.epsilon,
        "hidden_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "mask_time_prob": config.mask_time,
        "mask_time_length": config.mask_time_length,
        "mask_feature_prob": config.mask_features,
        "mask_feature_length": config.mask_features_length,
        **({"vocab_size": config.outputs} if config.outputs else {}),
    }


def _of_wav2vec2(config: Config) -> dict[str, Any]:
    if not config.projection_norm:
        raise InputError("field model.projection_norm", "wav2vec2 always normalises features.", fix="format hubert")
    kind = "Wav2Vec2Model" if config.pooling == "hidden" else "Wav2Vec2ForCTC"
    return {"model_type": "wav2vec2", "architectures": [kind], **_published(config)}


def _of_hubert(config: Config) -> dict[str, Any]:
    kind = "HubertModel" if config.pooling == "hidden" else "HubertForCTC"
    own = {"feat_proj_layer_norm": config.projection_norm}
    return {"model_type": "hubert", "architectures": [kind], **own, **_published(config)}


def _map(prefix: str, publish: Callable[[Config], dict[str, Any]]) -> Map:
    return Map(
        rules=RULES,
        config=_config,
        publish=publish,
        # What only pre-training uses, the quantiser and the projections beside it; and heads of other kinds, which
        # classify a projection of the frames or a sum of all layers.
        skip=(
            r"^(quantizer|project_hid|project_q)\.",
            r"^lm_head\.",
            r"masked_spec_embed$",
            r"^(projector|classifier)\.|^layer_weights$",
        ),
        prefixes=(f"{prefix}.", ""),
        prefix=lambda config: "" if config.pooling == "hidden" else f"{prefix}.",
        fresh=(r"^head/", r"^encoder/masked/"),
        renames=_SPELLING,
    )


IMPORTS: dict[str, Map] = {"wav2vec2": _map("wav2vec2", _of_wav2vec2), "hubert": _map("hubert", _of_hubert)}
