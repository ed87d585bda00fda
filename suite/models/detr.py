"""DETR: boxes as a set, by learnt queries that read an encoded feature map (`Carion et al., 2020
<https://arxiv.org/abs/2005.12872>`_).

Each query answers with one box and its class, or with none: no anchors, and nothing to suppress. Training assigns each
true box to the query that answers it at the least cost, and all other queries learn to answer with nothing.

Dims: b images, h w height and width, c channels, y x those of the feature map, s places (y * x), q queries, d width,
l layers of the decoder, m boxes of a picture, n classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.model import ModelConfig
from suite.errors import InputError
from suite.models import resnet
from suite.models.activations import PLAIN, published_activation, published_name
from suite.models.blocks import adopted, check_heads
from suite.models.checks import check_choices, check_fractions, check_given, check_sizes
from suite.models.parts import Composite, Parts
from suite.nn import Activation, CrossAttention, Dropout, Embedding, FeedForward, LayerNorm, Linear
from suite.nn.assignment import assign
from suite.nn.boxes import centres, corners, giou, paired_giou
from suite.parallel.layout import edge
from suite.weights.imports import SAME, TRANSPOSED, Map, Rule, Transform, linear, norm

LEAST_SHARE = 0.1
"""Weight of the queries that are to answer with nothing, beside 1 of the others."""
BOX, OVERLAP = 5.0, 2.0
"""Weights of the distance of two boxes and of their generalised intersection over union, beside 1 of the class."""


@dataclass(frozen=True, kw_only=True)
class Config(Parts):
    """A residual network, an encoder of its last feature map, and a decoder that asks it."""

    published: ClassVar[str] = "DETR"
    own: ClassVar[tuple[str, ...]] = ("outputs", "dropout", "attention_dropout")

    parts: Mapping[str, ModelConfig] = field(default_factory=lambda: {"backbone": resnet.resnet50()})
    """The backbone. Its norms keep their statistics: the pictures of a batch are few."""
    outputs: int = 0
    """Classes. 0: from the task."""
    queries: int = 100
    """Most things that a picture can be answered with; of a picture with more, the others are not learnt."""
    layers: int = 6
    """Layers of the encoder."""
    decoder_layers: int = 6
    """Layers of the decoder; each is to answer by itself while it trains."""
    width: int = 256
    """Size of the vector of a place or a query."""
    heads: int = 8
    """Attention heads; they divide the width."""
    feed_forward: int = 2048
    """Width inside the feed-forward layers."""
    activation: Activation = "relu"
    """Function inside the feed-forward layers."""
    dropout: float = 0.1
    """Fraction of sublayer outputs that training drops."""
    attention_dropout: float = 0.0
    """Fraction of attention weights that training drops."""
    backbone_names: Literal["transformers", "timm"] = "timm"
    """Whose names the tensors of the backbone have where the model is published."""

    def __post_init__(self):
        super().__post_init__()
        check_sizes(self, 1, "queries", "layers", "decoder_layers", "width", "heads", "feed_forward")
        check_sizes(self, 0, "outputs")
        check_fractions(self, "dropout", "attention_dropout")
        check_choices(self, {"activation": PLAIN, "backbone_names": ("transformers", "timm")})
        check_heads(self.width, self.heads, 0)
        if self.width % 4:
            raise InputError("field model.width", "must be a multiple of 4", found=str(self.width))

    def build(self, *, rngs: nnx.Rngs) -> "Detr":
        check_given(self, "outputs")
        if set(self.parts) != {"backbone"} or not isinstance(self.parts["backbone"], resnet.Config):
            kinds = ", ".join(f"{name}: {type(part).__module__}" for name, part in self.parts.items())
            raise InputError("field model.parts", "must be a backbone, a residual network.", found=kinds)
        if self.parts["backbone"].outputs:
            raise InputError("field model.parts.backbone.outputs", "must be 0: queries have the classes.")
        return Detr(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return (*super().sharding, *SHARDING)

    @property
    def shared_by_tensor(self) -> dict[str, int]:
        return {"heads": self.heads, **super().shared_by_tensor}

    def adopt(self, published: ModelConfig) -> "Config":
        return adopted(self, published, self.published, self.own)


class EncoderLayer(nnx.Module):
    """Attention of places to each other, then a feed-forward layer, each added to its input and normalised.

    Attributes:
        attention: queries and keys know their places, values don't.
        attention_norm, mlp, mlp_norm: what follows.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.attention = _attention(config, rngs)
        self.attention_norm = LayerNorm(config.width, epsilon=1e-5)
        self.mlp = FeedForward(config.width, config.feed_forward, config.activation, rngs=rngs)
        self.mlp_norm = LayerNorm(config.width, epsilon=1e-5)
        self.dropout = Dropout(config.dropout)

    def __call__(
        self, x: Float[Array, "b s d"], places: Float[Array, "b s d"], seen: Bool[Array, "b s"], rngs: nnx.Rngs | None
    ) -> Float[Array, "b s d"]:
        placed = x + places
        x = self.attention_norm(x + self.dropout(self.attention(placed, x, seen, rngs, keyed=placed), rngs))
        return self.mlp_norm(x + self.dropout(self.mlp(x, rngs), rngs))


class DecoderLayer(nnx.Module):
    """Attention of queries to each other and to places, then a feed-forward layer.

    Attributes:
        attention, attention_norm: among queries.
        cross, cross_norm: of queries to places.
        mlp, mlp_norm: what follows.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.attention = _attention(config, rngs)
        self.attention_norm = LayerNorm(config.width, epsilon=1e-5)
        self.cross = _attention(config, rngs)
        self.cross_norm = LayerNorm(config.width, epsilon=1e-5)
        self.mlp = FeedForward(config.width, config.feed_forward, config.activation, rngs=rngs)
        self.mlp_norm = LayerNorm(config.width, epsilon=1e-5)
        self.dropout = Dropout(config.dropout)

    def __call__(
        self,
        x: Float[Array, "b q d"],
        queries: Float[Array, "q d"],
        memory: Float[Array, "b s d"],
        placed: Float[Array, "b s d"],
        seen: Bool[Array, "b s"],
        rngs: nnx.Rngs | None,
    ) -> Float[Array, "b q d"]:
        """``placed`` is ``memory`` plus its positions."""
        asking = x + queries
        x = self.attention_norm(x + self.dropout(self.attention(asking, x, None, rngs, keyed=asking), rngs))
        x = self.cross_norm(x + self.dropout(self.cross(x + queries, memory, seen, rngs, keyed=placed), rngs))
        return self.mlp_norm(x + self.dropout(self.mlp(x, rngs), rngs))


def _attention(config: Config, rngs: nnx.Rngs) -> CrossAttention:
    return CrossAttention(config.width, config.heads, rngs=rngs, dropout=config.attention_dropout)


class Detr(Composite):
    """A detector, see `suite.tasks.vision.detection`.

    Attributes:
        backbone: a residual network.
        projection: (c, d) of its last feature map.
        encoder, decoder: lists of layers.
        norm: of what the decoder answers.
        queries: (q, d).
        head: (d, n).
        nothing: (d, 1), the logit of answering with nothing.
        box: three layers, to the middle, width and height of a box.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        width, backbone = config.width, config.parts["backbone"]
        assert isinstance(backbone, resnet.Config)  # as `build` saw
        self.projection = Linear(backbone.widths[-1], width, rngs=rngs)
        self.encoder = nnx.List([EncoderLayer(config, rngs=rngs) for _ in range(config.layers)])
        self.decoder = nnx.List([DecoderLayer(config, rngs=rngs) for _ in range(config.decoder_layers)])
        self.norm = LayerNorm(width, epsilon=1e-5)
        self.queries = Embedding(config.queries, width, rngs=rngs)
        self.head = Linear(width, config.outputs, rngs=rngs)
        self.nothing = Linear(width, 1, rngs=rngs)
        self.box = nnx.List([Linear(width, size, rngs=rngs) for size in (width, width, 4)])
        self.dropout = Dropout(config.dropout)

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        *,
        rows: Bool[Array, "b"] | None = None,
        content: Float[Array, "b 4"] | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> dict[str, Array]:
        """Answers of every layer of the decoder, the last one's last.

        Args:
            images: normalised.
            rows: True where an image is real; it changes nothing.
            content: left, top, right, bottom of the part that is picture, not filling, in pixels; None: all is.
            rngs: of dropout, in training.

        Returns:
            ``logits`` (b, l, q, n + 1), of answering with nothing last; ``boxes`` (b, l, q, 4), middle, width and
            height as shares of ``content`` (b, 4).
        """
        if content is None:
            whole = jnp.array([0.0, 0.0, images.shape[2], images.shape[1]])
            content = jnp.broadcast_to(whole, (images.shape[0], 4))
        pixels = _within(content, *images.shape[1:3])
        maps = self.backbone.features(images * pixels[..., None], rows)
        b, y, x = maps.shape[:3]
        # Every so many pixels one tells whether a place is picture, as the published model has it.
        below, right = (np.arange(n) * size // n for n, size in zip((y, x), images.shape[1:3], strict=True))
        seen = pixels[:, below][:, :, right]
        places = positions(seen, self.norm.scale.shape[0]).reshape(b, y * x, -1)
        seen, memory = seen.reshape(b, -1), self.projection(maps.reshape(b, y * x, -1))
        memory = self.dropout(memory, rngs)
        for layer in self.encoder:
            memory = layer(edge(memory), places, seen, rngs)
        placed, queries = memory + places, self.queries.embedding[...]
        answer = jnp.zeros((b, *queries.shape))
        answers = []
        for layer in self.decoder:
            answer = layer(edge(answer), queries, memory, placed, seen, rngs)
            answers.append(self.norm(answer))
        hidden = jnp.stack(answers, 1)
        logits = jnp.concatenate([self.head(hidden), self.nothing(hidden)], -1)
        for layer in self.box[:-1]:
            hidden = jax.nn.relu(layer(hidden))
        return {"logits": logits, "boxes": jax.nn.sigmoid(self.box[-1](hidden)), "content": content}

    def loss(
        self,
        predictions: Mapping[str, Array],
        boxes: Float[Array, "b m 4"],
        labels: Int[Array, "b m"],
        crowd: Bool[Array, "b m"],
        mask: Bool[Array, "b"],
    ) -> dict[str, Float[Array, "b"]]:
        """Terms of the loss of each image, summed over the layers of the decoder: ``class_loss`` a query, ``box_loss``
        and ``overlap_loss`` a true box, weighted; 0 for padding rows.

        Args:
            predictions: of a call.
            boxes: left, top, right, bottom in pixels of the image.
            labels: -1 where there is no box.
            crowd: boxes around many things, which no query is to answer.
            mask: True where a picture is real.
        """
        logits, answered = predictions["logits"], predictions["boxes"]
        content, real = predictions["content"], (labels >= 0) & ~crowd & mask[:, None]
        size = jnp.maximum(content[:, 2:] - content[:, :2], 1)
        share = (boxes - jnp.tile(content[:, :2], 2)[:, None]) / jnp.tile(size, 2)[:, None]
        wanted, classes = centres(share), jnp.maximum(labels, 0)
        costs, queries = self._costs(logits, answered, wanted, classes), answered.shape[2]
        if (more := boxes.shape[1] - queries) > 0:  # boxes beyond the queries get none, those that cost most
            dear = (jnp.ptp(costs, (2, 3), keepdims=True) + 1) * queries + costs.max((2, 3), keepdims=True)
            costs = jnp.concatenate([costs, jnp.broadcast_to(dear, (*costs.shape[:3], more))], -1)
        at = jax.vmap(jax.vmap(assign, (0, None)))(costs, real)
        count = jnp.maximum(jnp.minimum(real.sum(-1), queries), 1)

        def each(picture: Any, layer: Array) -> tuple[Array, Array, Array]:
            logits, answered, at = layer
            wanted, classes = picture
            real, at = (at >= 0) & (at < queries), jnp.clip(at, 0, queries - 1)
            nothing = logits.shape[-1] - 1
            target = jnp.full(logits.shape[0], nothing).at[jnp.where(real, at, logits.shape[0])].set(classes)
            weights = jnp.where(target == nothing, LEAST_SHARE, 1.0)
            nats = -jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], -1)[:, 0]
            given = answered[at]
            apart = jnp.abs(given - wanted).sum(-1)
            overlap = 1 - paired_giou(corners(given), corners(wanted))
            return (nats * weights).sum() / weights.sum(), (apart * real).sum(), (overlap * real).sum()

        of_layers = jax.vmap(each, (None, 0))
        terms = jax.vmap(of_layers)((wanted, classes), (logits, answered, at))
        by_class, apart, overlap = (term.sum(1) for term in terms)
        losses = {"class": by_class, "box": BOX * apart / count, "overlap": OVERLAP * overlap / count}
        return {f"{name}_loss": jnp.where(mask, values, 0) for name, values in losses.items()}

    @staticmethod
    def _costs(
        logits: Float[Array, "b l q n1"],
        answered: Float[Array, "b l q 4"],
        wanted: Float[Array, "b m 4"],
        classes: Int[Array, "b m"],
    ) -> Float[Array, "b l m q"]:
        """What it costs that a query answers a true box."""
        shares = jax.nn.softmax(logits)
        by_class = jnp.take_along_axis(shares, classes[:, None, None], -1).swapaxes(2, 3)
        wanted = wanted[:, None]
        apart = jnp.abs(wanted[..., :, None, :] - answered[..., None, :, :]).sum(-1)
        return BOX * apart - by_class - OVERLAP * giou(corners(wanted), corners(answered))

    def detections(
        self, predictions: Mapping[str, Array]
    ) -> tuple[Float[Array, "b q 4"], Float[Array, "b q"], Int[Array, "b q"]]:
        """Boxes (left, top, right, bottom in pixels of the image), scores, which fall, and classes of the last layer's
        queries: of each the likeliest class, however likely nothing is."""
        shares = jax.nn.softmax(predictions["logits"][:, -1])[..., :-1]
        scores, order = jax.lax.top_k(shares.max(-1), shares.shape[1])
        content = predictions["content"]
        size = jnp.tile(content[:, 2:] - content[:, :2], 2)[:, None]
        boxes = corners(predictions["boxes"][:, -1]) * size + jnp.tile(content[:, :2], 2)[:, None]
        labels = jnp.take_along_axis(shares.argmax(-1).astype(jnp.int32), order, 1)
        return jnp.take_along_axis(boxes, order[..., None], 1), scores, labels


def _within(content: Float[Array, "b 4"], height: int, width: int) -> Bool[Array, "b h w"]:
    """Whether the middle of a pixel lies in the part that is picture."""
    left, top, right, bottom = (content[:, side, None] for side in range(4))
    down, along = jnp.arange(height) + 0.5, jnp.arange(width) + 0.5
    return ((top <= down) & (down < bottom))[:, :, None] & ((left <= along) & (along < right))[:, None]


def positions(seen: Bool[Array, "b y x"], width: int) -> Float[Array, "b y x d"]:
    """Sines and cosines of where a place lies in its picture: half of the channels for its height, half for its
    column, sine and cosine by turns."""
    half = width // 2
    frequencies = jnp.asarray(10_000.0 ** -(np.arange(0, half, 2) / half), jnp.float32)

    def along(axis: int) -> Array:
        place = jnp.cumsum(seen.astype(jnp.float32), axis)
        last = jax.lax.slice_in_dim(place, place.shape[axis] - 1, None, axis=axis)
        angles = (place / (last + 1e-6) * (2 * math.pi))[..., None] * frequencies
        return jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1).reshape(*place.shape, half)

    return jnp.concatenate([along(1), along(2)], -1)


SHARDING = ((r"(query|key|value|up)\Wkernel$", P("fsdp", "tensor")), (r"(out|down)\Wkernel$", P("tensor", "fsdp")))


@dataclass(frozen=True)
class _Apart(Transform):
    """The last output of a published head, that of nothing, which ours holds apart."""

    then: Transform = SAME

    def read(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        (whole,) = self.then.read(arrays)
        return [whole[..., :-1], whole[..., -1:]]

    def write(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self.then.write([np.concatenate(arrays, -1)])


@dataclass(frozen=True)
class _Pointwise(Transform):
    """A PyTorch ``Conv2d`` weight (o, i, 1, 1) and our kernel (i, o)."""

    def read(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [array[:, :, 0, 0].T for array in arrays]

    def write(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [array.T[:, :, None, None] for array in arrays]


_LAYOUTS = {"transformers": "resnet", "timm": "resnet-classic"}
"""Whose names -> the format of the backbone's tensors."""
_BODY = "backbone.conv_encoder.model."


def _of_backbone(names: str) -> tuple[Rule, ...]:
    rules = resnet.IMPORTS[_LAYOUTS[names]].rules
    return tuple(
        replace(
            rule,
            source=tuple(_BODY + source for source in rule.sources),
            path=tuple(f"backbone/{path}" for path in rule.paths),
            when=lambda config: config.backbone_names == names,
        )
        for rule in rules
        if not rule.paths[0].startswith("head/")
    )


def _attends(theirs: str, ours: str) -> tuple[Rule, ...]:
    parts = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
    return tuple(rule for name, part in parts.items() for rule in linear(f"{theirs}.{name}", f"{ours}/{part}"))


def _blocks(theirs: str, ours: str, attentions: Mapping[str, str]) -> tuple[Rule, ...]:
    attention = [
        rule
        for name, part in attentions.items()
        for rule in (
            *_attends(f"{theirs}.{name}", f"{ours}/{part}"),
            *norm(f"{theirs}.{name}_layer_norm", f"{ours}/{part}_norm"),
        )
    ]
    return (
        *attention,
        *linear(f"{theirs}.fc1", f"{ours}/mlp/up"),
        *linear(f"{theirs}.fc2", f"{ours}/mlp/down"),
        *norm(f"{theirs}.final_layer_norm", f"{ours}/mlp_norm"),
    )


def _head(part: str, transform: Transform) -> Rule:
    theirs = {"kernel": "weight"}.get(part, part)
    return Rule(f"class_labels_classifier.{theirs}", (f"head/{part}", f"nothing/{part}"), transform, bare=True)


_SAME_IN_BOTH = {"attention_heads": "heads", "ffn_dim": "feed_forward"}
"""What a published encoder and decoder state each, and our field for both."""


def _read(published: Mapping[str, Any]) -> Config:
    """Hugging Face's ``detr``."""
    if published.get("dilation"):
        raise InputError("config.json, dilation", '"True" is not there.', fix="weights without dilation (no DC5)")
    if published.get("position_embedding_type", "sine") != "sine":
        kind = published["position_embedding_type"]
        raise InputError("config.json, position_embedding_type", f'"{kind}" is not there.', fix="sine")
    sizes = {}
    for name, ours in _SAME_IN_BOTH.items():
        default = {"heads": 8, "feed_forward": 2048}[ours]
        both = [published.get(f"{side}_{name}", default) for side in ("encoder", "decoder")]
        if both[0] != both[1]:
            raise InputError(f"config.json, decoder_{name}", "differs from the encoder's.", found=f"{both}")
        sizes[ours] = both[0]
    names, backbone = _backbone(published)
    return Config(
        parts={"backbone": backbone},
        outputs=len(published.get("id2label") or range(published.get("num_labels", 2))),
        queries=published.get("num_queries", 100),
        layers=published.get("encoder_layers", 6),
        decoder_layers=published.get("decoder_layers", 6),
        width=published.get("d_model", 256),
        activation=published_activation(published, "activation_function", "relu"),  # type: ignore[arg-type]
        dropout=published.get("dropout", 0.1),
        attention_dropout=published.get("attention_dropout", 0.0),
        backbone_names=names,
        **sizes,
    )


def _backbone(published: Mapping[str, Any]) -> tuple[Literal["transformers", "timm"], resnet.Config]:
    """Whose names its tensors have, and the backbone."""
    stated = published.get("backbone_config") or {}
    kind = stated.get("model_type", "timm_backbone")
    if kind == "resnet":
        made = resnet.IMPORTS["resnet"].config({**stated, "architectures": ["ResNetModel"]})
        return "transformers", made  # type: ignore[return-value]
    if kind != "timm_backbone":
        raise InputError("config.json, backbone_config", f'"{kind}" is not there.', fix="resnet, timm_backbone")
    name = stated.get("backbone") or published.get("backbone") or "resnet50"
    channels = stated.get("num_channels", published.get("num_channels", 3))
    about = {"architecture": name, "num_classes": 0, "model_args": {"in_chans": channels}}
    return "timm", resnet.IMPORTS["resnet-classic"].config(about)  # type: ignore[return-value]


def _publish(config: Config) -> dict[str, Any]:
    backbone = config.parts["backbone"]
    stated = resnet.IMPORTS[_LAYOUTS[config.backbone_names]].publish(backbone)
    if config.backbone_names == "timm":
        name, channels = stated["architecture"], stated["model_args"]["in_chans"]
        if _backbone({"backbone": name, "num_channels": channels})[1] != backbone:
            problem = f"has a backbone that is no {name} of timm's, which this format can only name."
            raise InputError("the model", problem, fix="--model.backbone_names transformers")
        stated = {
            "model_type": "timm_backbone",
            "backbone": name,
            "num_channels": channels,
            "features_only": True,
            "use_pretrained_backbone": False,
            "out_indices": [1, 2, 3, 4],
        }
    else:
        stated = {**stated, "out_features": [f"stage{len(backbone.blocks)}"]}  # type: ignore[attr-defined]
    labels = {str(i): f"LABEL_{i}" for i in range(config.outputs)}
    return {
        "model_type": "detr",
        "architectures": ["DetrForObjectDetection"],
        "backbone_config": stated,
        "num_channels": backbone.channels,  # type: ignore[attr-defined]
        "num_queries": config.queries,
        "encoder_layers": config.layers,
        "decoder_layers": config.decoder_layers,
        "d_model": config.width,
        "activation_function": published_name(config.activation),
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "use_timm_backbone": config.backbone_names == "timm",
        "use_pretrained_backbone": False,
        "id2label": labels,
        "label2id": {name: int(i) for i, name in labels.items()},
        **{f"{side}_{name}": getattr(config, ours) for name, ours in _SAME_IN_BOTH.items() for side in _SIDES},
    }


_SIDES = ("encoder", "decoder")

IMPORTS: dict[str, Map] = {
    "detr": Map(
        rules=(
            *_of_backbone("transformers"),
            *_of_backbone("timm"),
            Rule("input_projection.weight", "projection/kernel", _Pointwise()),
            Rule("input_projection.bias", "projection/bias"),
            *_blocks("encoder.layers.{i}", "encoder/{i}", {"self_attn": "attention"}),
            *_blocks("decoder.layers.{i}", "decoder/{i}", {"self_attn": "attention", "encoder_attn": "cross"}),
            *norm("decoder.layernorm", "norm"),
            Rule("query_position_embeddings.weight", "queries/embedding"),
            _head("kernel", _Apart(TRANSPOSED)),
            _head("bias", _Apart()),
            *linear("bbox_predictor.layers.{i}", "box/{i}", bare=True),
        ),
        config=_read,
        publish=_publish,
        skip=(r"num_batches_tracked$",),
        prefixes=("model.", ""),
        fresh=(r"^(head|nothing)/",),
    )
}
"""Hugging Face's ``model_type``. Its backbone has the names of transformers or of timm."""
