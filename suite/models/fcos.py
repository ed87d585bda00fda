"""FCOS (`Tian et al., 2019 <https://arxiv.org/abs/1904.01355>`_): a detector without anchors, on feature maps of any
family of images that has them.

Every place of a pyramid says of which class the object around it is, how far the sides of its box are, and how well
that box fits. An object is learnt at the places near its middle, on the levels that are made for its size. Where the
paper learns how central a place is, this predicts the overlap of box and object, as
`PAA <https://arxiv.org/abs/2007.08103>`_ does.

Dims: b images, h w their height and width, c channels, p places of all levels, m boxes that are looked for, n classes,
k detections, d width.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.models import efficientnet
from suite.models.checks import check_fractions, check_given, check_sizes
from suite.models.fpn import CHANNELS, Pyramid, cut_backbone
from suite.models.parts import Composite, Parts
from suite.nn.batchnorm import GroupNorm
from suite.nn.boxes import best_detections, paired_giou, paired_iou
from suite.nn.conv import Conv
from suite.nn.conv_norm import ConvNorm
from suite.parallel.layout import edge

Predictions = dict[str, Array]
"""``logits`` (b, p, n) of each class, ``boxes`` (b, p, 4) left, top, right and bottom in pixels, ``quality`` (b, p) log
odds of the overlap, ``places`` (b, p, 3) x, y and stride."""

_ALPHA, _GAMMA = 0.25, 2.0
"""Weight of what is there, and how fast what is sure already counts less, in the focal loss
(`Lin et al., 2017 <https://arxiv.org/abs/1708.02002>`_)."""
_PRIOR = 0.01
"""Probability of each class at each place at first."""
_RADIUS = 1.5
"""How far from the middle of an object a place learns it, in strides."""
_REACH = 8
"""Half of the longer side of the largest object of a level, in strides."""
_SHARED = 0.75
"""Objects that have more than this share of the level below's reach are of both levels."""
_FURTHEST = 6.0
"""Largest logarithm of a side's distance, in strides."""


@dataclass(frozen=True, kw_only=True)
class Config(Parts):
    """A backbone, a feature pyramid and two towers of convolutions that all levels share."""

    parts: Any = field(default_factory=lambda: {"backbone": efficientnet.lite0()})
    """The family that gives the feature maps, which stands without head, and without stages that are coarser than the
    coarsest level: ``checkpoint.init_from backbone=SOURCE`` names its weights."""
    outputs: int = 0
    """Classes. 0: from the task."""
    strides: tuple[int, ...] = (8, 16, 32)
    """Strides of the levels, each twice the one before."""
    width: int = 64
    """Channels of the pyramid and the towers."""
    depth: int = 2
    """Convolutions of each tower. The paper: 4, of 256 channels."""
    frozen_statistics: bool = True
    """Whether the backbone's batch norms keep the statistics of its weights in training, as batches of few large images
    need it. From fresh parameters: False."""
    box_weight: float = 2.0
    """Weight of the boxes' loss beside those of classes and quality."""
    overlap: float = 0.6
    """Intersection over union with a better box of its class above which a box is no answer."""
    candidates: int = 300
    """Best boxes of an image that are compared with each other."""
    most: int = 100
    """Most boxes of an answer."""

    def __post_init__(self):
        super().__post_init__()
        check_sizes(self, 0, "outputs", "depth")
        check_sizes(self, 1, "width", "candidates", "most")
        check_fractions(self, "overlap")
        object.__setattr__(self, "parts", cut_backbone(self.parts, self.strides, self.width))

    def build(self, *, rngs: nnx.Rngs) -> "FCOS":
        check_given(self, "outputs")
        return FCOS(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return (*super().sharding, *SHARDING) if self.depth else super().sharding + SHARDING[:1]

    @property
    def head(self) -> str:
        return r"^classes/"


class FCOS(Composite):
    """Backbone, pyramid, towers, and a convolution for each thing that a place says.

    Attributes:
        backbone: gives maps by stride.
        pyramid: see there.
        class_tower, box_tower: lists of convolutions with group norm and ReLU.
        classes: (3, 3, d, n), whose bias makes every class improbable at first.
        boxes: (3, 3, d, 4) logarithms of the distances to the sides, in strides.
        quality: (3, 3, d, 1) log odds of the overlap.
        scales: (levels,) factors on those logarithms.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        widths = config.parts["backbone"].maps
        self.pyramid = Pyramid([widths[stride] for stride in config.strides], config.width, rngs=rngs)
        self.class_tower = _tower(config, rngs)
        self.box_tower = _tower(config, rngs)
        self.classes = _said(config.width, config.outputs, -math.log((1 - _PRIOR) / _PRIOR), rngs)
        self.boxes = _said(config.width, 4, 0.0, rngs)
        self.quality = _said(config.width, 1, 0.0, rngs)
        self.scales = nnx.Param(jnp.ones(len(config.strides)))
        self.strides, self.frozen_statistics = config.strides, config.frozen_statistics
        self.box_weight, self.overlap = config.box_weight, config.overlap
        self.candidates, self.most = config.candidates, config.most

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        *,
        rows: Bool[Array, "b"] | None = None,
        content: Float[Array, "b 4"] | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Predictions:
        """What each place says. Where ``rngs`` is given and statistics are not frozen, the backbone's norms use and
        keep those of the real ``rows``. What of an image is ``content`` changes nothing."""
        del content
        training = rngs is not None and not self.frozen_statistics
        maps = self.backbone.maps(images, rows, training=training)
        levels = self.pyramid([maps[stride] for stride in self.strides])
        said = [self._said(place, level) for place, level in enumerate(levels)]
        return {name: jnp.concatenate([one[name] for one in said], 1) for name in said[0]}

    def _said(self, place: int, level: Float[Array, "b y x d"]) -> Predictions:
        """Of one level."""
        stride = self.strides[place]
        kinds, sides = _through(self.class_tower, level), _through(self.box_tower, level)
        rows = level.shape[0]
        logits = self.classes(edge(kinds)).astype(jnp.float32)
        far = self.boxes(edge(sides)).astype(jnp.float32) * self.scales[place]
        quality = self.quality(edge(sides)).astype(jnp.float32)
        centres = np.stack(np.meshgrid(*(np.arange(n) for n in level.shape[2:0:-1])), -1).reshape(1, -1, 2)
        centres = jnp.asarray((centres + 0.5) * stride, jnp.float32)
        distances = stride * jnp.exp(jnp.minimum(far.reshape(rows, -1, 4), _FURTHEST))
        places = jnp.concatenate([centres, jnp.full((*centres.shape[:2], 1), stride, jnp.float32)], -1)
        return {
            "logits": logits.reshape(rows, -1, logits.shape[-1]),
            "boxes": jnp.concatenate([centres - distances[..., :2], centres + distances[..., 2:]], -1),
            "quality": quality.reshape(rows, -1),
            "places": jnp.broadcast_to(places, (rows, *places.shape[1:])),
        }

    def loss(
        self,
        predictions: Predictions,
        boxes: Float[Array, "b m 4"],
        labels: Int[Array, "b m"],
        crowd: Bool[Array, "b m"],
        mask: Bool[Array, "b"],
    ) -> dict[str, Float[Array, "b"]]:
        """Terms of the loss of each image, over the number of places that learn an object in it; 0 for padding rows.

        Args:
            predictions: of the model.
            boxes: left, top, right, bottom in pixels of the image.
            labels: class of each; -1: no box.
            crowd: whether a box holds more than one object: places in it learn nothing of what is there.
            mask: whether a row is an image.
        """
        low, high = _ranges(self.strides)
        assign = functools.partial(_assigned, low=low, high=high)
        chosen, positive, ignored = jax.vmap(assign)(predictions["places"], boxes, labels, crowd)
        wanted = jnp.take_along_axis(boxes, chosen[..., None], 1)
        kinds = jnp.take_along_axis(labels, chosen, 1)
        targets = positive[..., None] & (kinds[..., None] == jnp.arange(predictions["logits"].shape[-1]))
        focal = jnp.where(ignored, 0, focal_loss(predictions["logits"], targets).sum(-1))
        fit = 1 - paired_giou(predictions["boxes"], wanted)
        overlap = lax.stop_gradient(paired_iou(predictions["boxes"], wanted))
        unsure = jax.nn.softplus(predictions["quality"]) - overlap * predictions["quality"]
        count = jnp.maximum(positive.sum(1), 1).astype(jnp.float32)
        terms = {
            "class_loss": focal.sum(1) / count,
            "box_loss": self.box_weight * jnp.where(positive, fit, 0).sum(1) / count,
            "quality_loss": jnp.where(positive, unsure, 0).sum(1) / count,
        }
        return {name: jnp.where(mask, values, 0) for name, values in terms.items()}

    def detections(
        self, predictions: Predictions
    ) -> tuple[Float[Array, "b k 4"], Float[Array, "b k"], Int[Array, "b k"]]:
        """Boxes, scores and classes of each image, best first; a score of 0: nothing.

        A score is the geometric mean of the class's probability and the overlap that the place expects.
        """
        logits, boxes = predictions["logits"], predictions["boxes"]
        classes = logits.shape[-1]
        odds = jax.nn.log_sigmoid(logits) + jax.nn.log_sigmoid(predictions["quality"])[..., None]
        flat = odds.reshape(odds.shape[0], -1)
        best, places = lax.top_k(flat, min(self.candidates, flat.shape[1]))
        candidates = jnp.take_along_axis(boxes, places[..., None] // classes, 1)
        scores, labels = jnp.exp(best / 2), (places % classes).astype(jnp.int32)
        best_of_one = functools.partial(best_detections, most_overlap=self.overlap, most=self.most)
        return jax.vmap(best_of_one)(candidates, scores, labels)


def _tower(config: Config, rngs: nnx.Rngs) -> nnx.List:
    """The convolutions of one tower."""
    width = config.width
    norm = lambda: GroupNorm(width, groups=width // CHANNELS)
    return nnx.List([ConvNorm(Conv(width, width, 3, narrow=True, rngs=rngs), norm()) for _ in range(config.depth)])


def _through(tower: Sequence[ConvNorm], x: Float[Array, "b y x d"]) -> Float[Array, "b y x d"]:
    for layer in tower:
        x = layer(edge(x), None, False, then="relu")
    return x


def _said(width: int, outputs: int, bias: float, rngs: nnx.Rngs) -> Conv:
    """A convolution that says nearly ``bias`` everywhere at first."""
    conv = Conv(width, outputs, 3, use_bias=True, rngs=rngs)
    conv.kernel = nnx.Param(0.01 * jax.random.normal(rngs.params(), conv.kernel.shape, jnp.float32))
    conv.bias = nnx.Param(jnp.full((outputs,), bias, jnp.float32))
    return conv


def _ranges(strides: Sequence[int]) -> tuple[dict[int, float], dict[int, float]]:
    """Half of the longer side of the smallest and of the largest object of a level, by its stride."""
    high = {stride: float(_REACH * stride) for stride in strides[:-1]} | {strides[-1]: math.inf}
    low = {stride: _SHARED * high[before] for before, stride in zip(strides, strides[1:], strict=False)}
    return {strides[0]: 0.0, **low}, high


def _assigned(
    places: Array, boxes: Array, labels: Array, crowd: Array, low: dict[int, float], high: dict[int, float]
) -> tuple[Array, Array, Array]:
    """Of each place of an image the box that it learns, whether it learns one, and whether it lies in a crowd alone.

    A place learns the smallest of the boxes that it may: those of its level's sizes around it whose middle is near. A
    box whose middle lies in the place's own cell counts as around it, so that there is no box that nothing learns.

    Args:
        places: (p, 3) x, y and stride.
        boxes, labels, crowd: (m, 4) and (m,), see `FCOS.loss`.
        low, high: see `_ranges`.
    """
    points, stride = places[:, None, :2], places[:, None, 2]
    inside = ((points > boxes[:, :2]) & (points < boxes[:, 2:])).all(-1)
    away = jnp.abs(points - (boxes[:, :2] + boxes[:, 2:]) / 2).max(-1)
    around = (inside & (away < _RADIUS * stride)) | (away <= stride / 2)
    half = (boxes[:, 2:] - boxes[:, :2]).max(-1) / 2
    fits = [(stride == one) & (half >= low[one]) & (half < high[one]) for one in low]
    areas = jnp.prod(jnp.maximum(boxes[:, 2:] - boxes[:, :2], 0), -1)
    learnt = around & jnp.stack(fits).any(0) & (labels >= 0) & ~crowd
    areas = jnp.where(learnt, areas, jnp.inf)
    positive = learnt.any(-1)
    ignored = (inside & crowd & (labels >= 0)).any(-1) & ~positive
    return areas.argmin(-1), positive, ignored


def focal_loss(logits: Float[Array, "..."], targets: Bool[Array, "..."]) -> Float[Array, "..."]:
    """Cross-entropy of each class by itself, in which what is sure already counts less
    (`Lin et al., 2017 <https://arxiv.org/abs/1708.02002>`_), with alpha 0.25 and gamma 2."""
    signed = jnp.where(targets, logits, -logits)
    weight = jnp.where(targets, _ALPHA, 1 - _ALPHA)
    return -weight * jax.nn.sigmoid(-signed) ** _GAMMA * jax.nn.log_sigmoid(signed)


SHARDING = (
    (r"^pyramid\W.*\Wkernel$", P(None, None, "fsdp", "tensor")),
    (r"^(class|box)_tower\W.*\Wkernel$", P(None, None, "fsdp", "tensor")),
)
"""What says something has few outputs, and lies whole on each device."""
