"""Inception-v3: blocks of convolutions of several sizes side by side, whose features FID is defined by.

`Szegedy et al., 2015 <https://arxiv.org/abs/1512.00567>`_, as torchvision publishes it, and as TensorFlow's network of
2015-12-05 computes it, which the Fréchet Inception distance uses (`Heusel et al., 2017
<https://arxiv.org/abs/1706.08500>`_).

Dims: b images, h w height and width, c channels, i in, o out, n outputs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from suite.errors import InputError
from suite.models.checks import check_choices, check_fractions, check_given, check_sizes
from suite.models.pictures import PictureConfig
from suite.nn import Dropout, Linear
from suite.nn.batchnorm import BatchNorm
from suite.nn.conv import Conv
from suite.nn.conv_norm import ConvNorm
from suite.nn.pooling import max_pool
from suite.parallel.layout import edge
from suite.weights.imports import Map, Rule, conv_norm, linear

VECTOR = 2048
"""Numbers of a pooled vector."""
SIDE = 299
"""Height and width of the images that the published weights were trained on."""
LEAST = 75
"""Least height and width of an image: of smaller ones nothing is left."""


@dataclass(frozen=True, kw_only=True)
class Config(PictureConfig):
    """Inception-v3 with a linear classifier, in its published sizes; without the auxiliary one."""

    own: ClassVar[tuple[str, ...]] = ("outputs", "dropout", "momentum")

    channels: int = 0
    """Channels of an image. 0: from the task."""
    outputs: int = 0
    """Classes. 0: from the task; where it has none, the model returns the pooled features."""
    pooling: Literal["torchvision", "tensorflow"] = "torchvision"
    """Means of 3 x 3 places count zeros beyond the border, as torchvision's do; or they don't, and the last block has
    maxima in their place, as in TensorFlow's network of 2015-12-05."""
    momentum: float = 0.1
    """Share of a batch's statistics in the running ones."""
    epsilon: float = 1e-3
    """Added to variances."""
    dropout: float = 0.5
    """Fraction of the pooled features that training drops."""

    def __post_init__(self):
        check_sizes(self, 0, "channels", "outputs")
        check_choices(self, {"pooling": ("torchvision", "tensorflow")})
        check_fractions(self, "dropout")

    def build(self, *, rngs: nnx.Rngs) -> "Inception":
        check_given(self, "channels")
        return Inception(self, rngs=rngs)

    @property
    def vector_sizes(self) -> dict[str, int]:
        return {"inputs": VECTOR}

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING if self.outputs else SHARDING[:-1]  # a rule that matches nothing is an error

    def layer_of(self, path: str) -> int:
        """0 the stem, 1 to 11 the blocks, and then the head."""
        match = re.search(r"blocks\W(\d+)", path)
        if match:
            return int(match[1]) + 1
        return 0 if path.startswith("stem") else self.depth

    @property
    def depth(self) -> int:
        return len(_BLOCKS) + 1


class _Step(NamedTuple):
    """A convolution: what it is called in published weights, its channels, kernel and stride. With a stride, and where
    ``padded`` is False, it adds no zeros."""

    name: str
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padded: bool = True


class _Branch(NamedTuple):
    """Convolutions one after the other; then those of ``ends`` side by side, where there are any."""

    steps: tuple[_Step, ...]
    ends: tuple[_Step, ...] = ()


class _Plan(NamedTuple):
    """A block: its name, its branches, and which pooling stands beside them: ``mean`` with a convolution ``after`` it,
    or ``halving``."""

    name: str
    branches: tuple[_Branch, ...]
    pooling: Literal["mean", "halving"]
    after: int = 0


def _branch(name: str, *steps: tuple[Any, ...], ends: tuple[tuple[Any, ...], ...] = ()) -> _Branch:
    """The steps of a branch are numbered where there are several."""
    numbered = [_Step(f"{name}_{k}" if len(steps) + len(ends) > 1 else name, *step) for k, step in enumerate(steps, 1)]
    forked = [_Step(f"{name}_{len(steps) + 1}{letter}", *step) for letter, step in zip("ab", ends, strict=False)]
    return _Branch(tuple(numbered), tuple(forked))


_LINE, _COLUMN = (1, 7), (7, 1)


def _fine(name: str, after: int) -> _Plan:
    """At 35 x 35 places."""
    branches = (
        _branch("branch1x1", (64,)),
        _branch("branch5x5", (48,), (64, (5, 5))),
        _branch("branch3x3dbl", (64,), (96, (3, 3)), (96, (3, 3))),
    )
    return _Plan(name, branches, "mean", after)


def _middle(name: str, inner: int) -> _Plan:
    """At 17 x 17 places: kernels of 7 x 7 in two parts."""
    branches = (
        _branch("branch1x1", (192,)),
        _branch("branch7x7", (inner,), (inner, _LINE), (192, _COLUMN)),
        _branch("branch7x7dbl", (inner,), (inner, _COLUMN), (inner, _LINE), (inner, _COLUMN), (192, _LINE)),
    )
    return _Plan(name, branches, "mean", 192)


def _coarse(name: str) -> _Plan:
    """At 8 x 8 places: kernels of 3 x 3 in two parts side by side."""
    ends = ((384, (1, 3)), (384, (3, 1)))
    branches = (
        _branch("branch1x1", (320,)),
        _branch("branch3x3", (384,), ends=ends),
        _branch("branch3x3dbl", (448,), (384, (3, 3)), ends=ends),
    )
    return _Plan(name, branches, "mean", 192)


_STEM = (
    _Step("Conv2d_1a_3x3", 32, (3, 3), 2),
    _Step("Conv2d_2a_3x3", 32, (3, 3), 1, False),
    _Step("Conv2d_2b_3x3", 64, (3, 3)),
    _Step("Conv2d_3b_1x1", 80),
    _Step("Conv2d_4a_3x3", 192, (3, 3), 1, False),
)
_POOLED = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")
"""After which of the stem every second place is kept."""
_BLOCKS = (
    _fine("Mixed_5b", 32),
    _fine("Mixed_5c", 64),
    _fine("Mixed_5d", 64),
    _Plan(
        "Mixed_6a",
        (_branch("branch3x3", (384, (3, 3), 2)), _branch("branch3x3dbl", (64,), (96, (3, 3)), (96, (3, 3), 2))),
        "halving",
    ),
    _middle("Mixed_6b", 128),
    _middle("Mixed_6c", 160),
    _middle("Mixed_6d", 160),
    _middle("Mixed_6e", 192),
    _Plan(
        "Mixed_7a",
        (
            _branch("branch3x3", (192,), (320, (3, 3), 2)),
            _branch("branch7x7x3", (192,), (192, _LINE), (192, _COLUMN), (192, (3, 3), 2)),
        ),
        "halving",
    ),
    _coarse("Mixed_7b"),
    _coarse("Mixed_7c"),
)


def _conv_norm(config: Config, inputs: int, step: _Step, *, rngs: nnx.Rngs) -> ConvNorm:
    conv = Conv(inputs, step.width, step.kernel, stride=step.stride, padding=0, narrow=True, rngs=rngs)
    same = step.padded and step.stride == 1 and step.kernel != (1, 1)
    return ConvNorm(conv, BatchNorm(step.width, momentum=config.momentum, epsilon=config.epsilon), same=same)


def mean_pool(x: Float[Array, "b h w i"], zeros: bool) -> Float[Array, "b h w i"]:
    """The mean of each place and the eight around it; those beyond the border count as zeros, or not at all."""

    def summed(values: Array) -> Array:
        rows = jnp.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
        rows = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
        return rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]

    count = 9.0 if zeros else summed(jnp.ones((1, *x.shape[1:3], 1)))
    return (summed(x.astype(jnp.float32)) / count).astype(x.dtype)


class Block(nnx.Module):
    """Branches beside a pooling, joined by channels.

    Attributes:
        branches: lists of convolutions one after the other.
        ends: of each branch the convolutions side by side that it ends in; mostly none.
        pool: the convolution after the means, or None where maxima of every second place are kept as they are.
        outputs: channels.
    """

    def __init__(self, config: Config, inputs: int, plan: _Plan, maximum: bool, *, rngs: nnx.Rngs):
        branches, ends, self.outputs = [], [], 0
        for branch in plan.branches:
            width, chain = inputs, []
            for step in branch.steps:
                chain.append(_conv_norm(config, width, step, rngs=rngs))
                width = step.width
            branches.append(nnx.List(chain))
            ends.append(nnx.List([_conv_norm(config, width, step, rngs=rngs) for step in branch.ends]))
            self.outputs += sum(step.width for step in branch.ends) or width
        self.branches, self.ends = nnx.List(branches), nnx.List(ends)
        after = _Step("branch_pool", plan.after)
        self.pool = _conv_norm(config, inputs, after, rngs=rngs) if plan.pooling == "mean" else None
        self.outputs += plan.after or inputs
        self.maximum, self.zeros = maximum, config.pooling == "torchvision"

    def __call__(
        self, x: Float[Array, "b h w i"], rows: Bool[Array, "b"] | None, training: bool
    ) -> Float[Array, "b y x o"]:
        parts = []
        for branch, ends in zip(self.branches, self.ends, strict=True):
            y = x
            for step in branch:
                y = step(y, rows, training, then="relu")
            parts += [end(y, rows, training, then="relu") for end in ends] or [y]
        if self.pool is None:
            return jnp.concatenate([*parts, max_pool(x, 3, 2)], -1)
        pooled = max_pool(x, 3, 1, 1) if self.maximum else mean_pool(x, self.zeros)
        return jnp.concatenate([*parts, self.pool(pooled, rows, training, then="relu")], -1)


class Inception(nnx.Module):
    """Stem, blocks, mean over places, linear head.

    Attributes:
        stem: convolutions, after two of which every second place is kept.
        blocks: see `Block`.
        head: (2048, n), or None where the model has no outputs of its own.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        stem, width = [], config.channels
        for step in _STEM:
            stem.append(_conv_norm(config, width, step, rngs=rngs))
            width = step.width
        self.stem = nnx.List(stem)
        blocks = []
        for plan in _BLOCKS:
            last = plan is _BLOCKS[-1] and config.pooling == "tensorflow"
            blocks.append(Block(config, width, plan, last, rngs=rngs))
            width = blocks[-1].outputs
        self.blocks = nnx.List(blocks)
        self.dropout = Dropout(config.dropout)
        self.head = Linear(VECTOR, config.outputs, rngs=rngs) if config.outputs else None

    def features(
        self, images: Float[Array, "b h w c"], rows: Bool[Array, "b"] | None = None, *, training: bool = False
    ) -> Float[Array, "b y x 2048"]:
        """The last block's feature maps.

        Raises:
            InputError: images of less than 75 pixels a side.
        """
        if min(images.shape[1:3]) < LEAST:
            raise InputError(
                "images",
                f"must have at least {LEAST} pixels a side for Inception-v3.",
                found=f"{images.shape[2]} x {images.shape[1]}",
                fix=f"--task.statistics.size {SIDE:d} {SIDE:d}",
            )
        x = images
        for step, layer in zip(_STEM, self.stem, strict=True):
            x = layer(edge(x), rows, training, then="relu")
            x = max_pool(x, 3, 2) if step.name in _POOLED else x
        for block in self.blocks:
            x = block(edge(x), rows, training)
        return x

    def __call__(
        self, images: Float[Array, "b h w c"], *, rows: Bool[Array, "b"] | None = None, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b n"]:
        """Logits of each image, or its pooled features (b, 2048) where there is no head.

        Where ``rngs`` is given, norms use and keep the statistics of the batch's real ``rows``.
        """
        x = self.features(images, rows, training=rngs is not None).mean((1, 2), dtype=jnp.float32)
        return x if self.head is None else self.head(edge(self.dropout(x, rngs)))


SHARDING = ((r"conv\Wkernel$", P(None, None, "fsdp", "tensor")), (r"head\Wkernel$", P("fsdp", "tensor")))

_ARCHITECTURES = {"inception_v3": "torchvision", "inception_v3_fid": "tensorflow"}


def _read(published: Mapping[str, Any]) -> Config:
    """timm's config.json: ``{"architecture": "inception_v3", "num_classes": 1000}``."""
    name = str(published.get("architecture", "")).partition(".")[0]
    if name.removeprefix("tf_") not in _ARCHITECTURES:
        raise InputError("config.json, architecture", f'"{name}" is not there.', fix=", ".join(_ARCHITECTURES))
    said = published.get("model_args") or {}
    return Config(
        channels=said.get("in_chans", published.get("in_chans", 3)),
        outputs=published.get("num_classes", 1000),
        dropout=said.get("drop_rate", 0.0),
        pooling=_ARCHITECTURES[name.removeprefix("tf_")],  # type: ignore[arg-type]
    )


def _publish(config: Config) -> dict[str, Any]:
    (name,) = [name for name, pooling in _ARCHITECTURES.items() if pooling == config.pooling]
    return {"architecture": name, "num_classes": config.outputs, "model_args": {"in_chans": config.channels}}


def _layer(theirs: str, ours: str) -> tuple[Rule, ...]:
    """The rules of one convolution and its norm."""
    return conv_norm(f"{theirs}.conv", f"{theirs}.bn", ours)


def _block(place: int, plan: _Plan) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for number, branch in enumerate(plan.branches):
        for list_name, steps in (("branches", branch.steps), ("ends", branch.ends)):
            for k, step in enumerate(steps):
                rules += _layer(f"{plan.name}.{step.name}", f"blocks/{place}/{list_name}/{number}/{k}")
    if plan.pooling == "mean":
        rules += _layer(f"{plan.name}.branch_pool", f"blocks/{place}/pool")
    return tuple(rules)


def _is_inception(published: Mapping[str, Any], names: Sequence[str]) -> bool:
    return "model_type" not in published and {"Conv2d_1a_3x3.conv.weight", "Mixed_7c.branch1x1.conv.weight"} <= {*names}


IMPORTS: dict[str, Map] = {
    "inception-v3": Map(
        rules=(
            *(rule for place, step in enumerate(_STEM) for rule in _layer(step.name, f"stem/{place}")),
            *(rule for place, plan in enumerate(_BLOCKS) for rule in _block(place, plan)),
            *linear("fc", "head"),
        ),
        config=_read,
        publish=_publish,
        skip=(r"num_batches_tracked$", r"^AuxLogits\."),
        fresh=(r"^head/",),
        recognise=_is_inception,
    )
}
"""torchvision's and timm's weights, and those of pytorch-fid, recognised by their tensors: see
`suite.weights.undescribed` where no config.json is beside them."""
