"""FCOS on EfficientNet-Lite0, 8 images of 240 x 320 with up to 32 boxes: training step.

As the recipe vision.bccd_lite0 trains it: the backbone to stride 16 with the statistics of its weights, its stem and
first two stages frozen, a pyramid of strides 8 and 16 and two towers of 64 channels; focal loss, GIoU and quality;
gradients cut at a norm of 10, AdamW. Random weights. Peer: timm's backbone and the same layers and loss in PyTorch,
eager and compiled, in the memory format "channels last". Both sides get the allocator setting of
``suite.runtime.allocation.keep_memory``.

    python -m benchmarks.detection
"""

import re
from functools import partial

import numpy as np

from benchmarks.harness import keep_pages, main, variant

BATCH, SIZE, BOXES, CLASSES, WIDTH, DEPTH, STRIDES = 8, (240, 320), 32, 3, 64, 2, (8, 16)
FROZEN = r"^backbone/(stem|stages/[01])/"


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, boxes and classes, of which one in four is no box."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, (SIZE[1] - 100, SIZE[0] - 100), (BATCH, BOXES, 2))
    boxes = np.concatenate([low, low + rng.uniform(15, 100, (BATCH, BOXES, 2))], -1).astype(np.float32)
    images = rng.standard_normal((BATCH, *SIZE, 3)).astype(np.float32)
    return images, boxes, rng.integers(-1, CLASSES, (BATCH, BOXES)).astype(np.int32)


# Ours


def ours(compute: str):
    import jax
    from flax import nnx

    from suite.experiment.sections import Precision
    from suite.models import efficientnet, fcos
    from suite.runtime import allocation
    from suite.training import precision

    allocation.keep_memory()
    config = fcos.Config(
        parts={"backbone": efficientnet.lite0(channels=3)}, outputs=CLASSES, strides=STRIDES, width=WIDTH, depth=DEPTH
    )

    def build():
        return precision.apply(config.build(rngs=nnx.Rngs(0)), Precision(compute=compute))

    graph, _, _ = nnx.split(nnx.eval_shape(build), nnx.Param, ...)
    return graph, *jax.jit(lambda: tuple(map(nnx.to_pure_dict, nnx.split(build(), nnx.Param, ...)[1:])))()


def our_training(compute: str):
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from suite.tree import nest, paths

    graph, params, rest = ours(compute)
    images, boxes, classes = map(jnp.asarray, data())
    still = {path: leaf for path, leaf in paths(params).items() if re.search(FROZEN, path)}
    moving = {path: leaf for path, leaf in paths(params).items() if path not in still}
    tx = optax.chain(optax.clip_by_global_norm(10.0), optax.adamw(1e-3, weight_decay=0.05))
    rows, crowd = jnp.ones(BATCH, bool), jnp.zeros((BATCH, BOXES), bool)

    def loss(moving, still, rest, images):
        model = nnx.merge(graph, nest({**still, **moving}), rest)
        predictions = model(images, rows=rows, rngs=nnx.Rngs(dropout=0))
        return sum(model.loss(predictions, boxes, classes, crowd, rows).values()).mean()

    def step(state, still, rest, images):
        moving, opt = state
        value, grads = jax.value_and_grad(loss)(moving, still, rest, images)
        updates, opt = tx.update(grads, opt, moving)
        return (optax.apply_updates(moving, updates), opt), value

    step = jax.jit(step, donate_argnums=0)
    state = moving, jax.jit(tx.init)(moving)

    def run():
        nonlocal state
        state, value = step(state, still, rest, images)
        return float(value)

    return run


# Peer


def torch_model():
    import timm
    import torch
    from torch import nn

    class Peer(nn.Module):
        """The same network, loss and answers."""

        def __init__(self):
            super().__init__()
            places = [int(np.log2(stride)) - 1 for stride in STRIDES]
            self.backbone = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=places)
            self.backbone.blocks = self.backbone.blocks[:5]  # to stride 16
            widths = self.backbone.feature_info.channels()
            self.laterals = nn.ModuleList(nn.Conv2d(inputs, WIDTH, 1) for inputs in widths)
            self.outputs = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in widths)
            self.class_tower, self.box_tower = self._tower(), self._tower()
            self.classes, self.boxes, self.quality = (nn.Conv2d(WIDTH, n, 3, padding=1) for n in (CLASSES, 4, 1))
            for layer, bias in ((self.classes, -np.log(99.0)), (self.boxes, 0.0), (self.quality, 0.0)):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.constant_(layer.bias, bias)
            self.scales = nn.Parameter(torch.ones(len(widths)))
            for place, stride in enumerate(STRIDES):
                rows, columns = (side // stride for side in SIZE)
                y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
                places = torch.stack([x, y], -1).reshape(-1, 2).add(0.5).mul(stride).float()
                self.register_buffer(f"places{place}", places)

        @staticmethod
        def _tower():
            layers = []
            for _ in range(DEPTH):
                conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
                layers += [conv, nn.GroupNorm(WIDTH // 8, WIDTH), nn.ReLU(inplace=True)]
            return nn.Sequential(*layers)

        def forward(self, images):
            fine, coarse = self.backbone(images)
            coarse = self.laterals[1](coarse)
            fine = self.laterals[0](fine) + nn.functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
            logits, boxes, quality = [], [], []
            for place, level in enumerate((self.outputs[0](fine), self.outputs[1](coarse))):
                kinds, sides = self.class_tower(level), self.box_tower(level)
                centres = getattr(self, f"places{place}")
                far = self.flat(self.boxes(sides)) * self.scales[place]
                distances = STRIDES[place] * far.clamp(max=6.0).exp()
                boxes.append(torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], -1))
                logits.append(self.flat(self.classes(kinds)))
                quality.append(self.flat(self.quality(sides))[..., 0])
            return torch.cat(logits, 1), torch.cat(boxes, 1), torch.cat(quality, 1)

        @staticmethod
        def flat(maps):
            return maps.float().permute(0, 2, 3, 1).flatten(1, 2)

        def assigned(self, boxes, classes):
            points = torch.cat([self.places0, self.places1])[:, None]
            stride = torch.cat([torch.full((len(self.places0),), 8.0), torch.full((len(self.places1),), 16.0)])[:, None]
            boxes, classes = boxes[:, None], classes[:, None]
            inside = ((points > boxes[..., :2]) & (points < boxes[..., 2:])).all(-1)
            away = (points - (boxes[..., :2] + boxes[..., 2:]) / 2).abs().amax(-1)
            around = (inside & (away < 1.5 * stride)) | (away <= stride / 2)
            sides = boxes[..., 2:] - boxes[..., :2]
            half = sides.amax(-1) / 2
            fits = torch.where(stride == 8, half < 64, half >= 48)
            learnt = around & fits & (classes >= 0)
            areas, chosen = torch.where(learnt, sides.prod(-1), torch.inf).min(-1)
            return chosen, areas < torch.inf

        def loss(self, images, boxes, classes):
            logits, found, quality = self(images)
            chosen, positive = self.assigned(boxes, classes)
            wanted = boxes.gather(1, chosen[..., None].expand(-1, -1, 4))
            kinds = classes.gather(1, chosen)
            targets = positive[..., None] & (kinds[..., None] == torch.arange(CLASSES))
            signed = torch.where(targets, logits, -logits)
            weight = torch.where(targets, 0.25, 0.75)
            focal = -weight * torch.sigmoid(-signed) ** 2 * nn.functional.logsigmoid(signed)
            overlap, generalised = self.overlaps(found, wanted)
            unsure = nn.functional.binary_cross_entropy_with_logits(quality, overlap.detach(), reduction="none")
            count = positive.sum(1).clamp(min=1)
            per_place = torch.where(positive, 2 * (1 - generalised) + unsure, 0.0)
            return ((focal.sum((1, 2)) + per_place.sum(1)) / count).mean()

        @staticmethod
        def overlaps(one, other):
            area = lambda low, high: (high - low).clamp(min=0).prod(-1)
            both = area(torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:]))
            union = area(one[..., :2], one[..., 2:]) + area(other[..., :2], other[..., 2:]) - both
            hull = area(torch.minimum(one[..., :2], other[..., :2]), torch.maximum(one[..., 2:], other[..., 2:]))
            overlap = both / union.clamp(min=1e-7)
            return overlap, overlap - (hull - union) / hull.clamp(min=1e-7)

    keep_pages()
    torch.manual_seed(0)
    model = Peer().to(memory_format=torch.channels_last).eval()  # norms keep their statistics
    images, boxes, classes = map(torch.from_numpy, data())
    return model, images.permute(0, 3, 1, 2), boxes, classes.long()


def torch_training(narrow: bool, compiled: bool):
    model, images, boxes, classes = torch_model()
    import torch

    for name, parameter in model.backbone.named_parameters():
        parameter.requires_grad_(not re.match(r"(conv_stem|bn1|blocks\.[01]\.)", name))
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(moving, 1e-3, weight_decay=0.05, fused=True)
    loss_of = torch.compile(model.loss) if compiled else model.loss

    def run():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            loss = loss_of(images, boxes, classes)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(moving, 10.0)
        optimizer.step()
        return loss.item()

    return run


for compute, narrow in (("float32", False), ("bfloat16", True)):
    case = f"FCOS-Lite0 240x320 b8 train {compute}"
    variant(case, "ours")(partial(our_training, compute))
    for compiled in (False, True):
        variant(case, "torch.compile" if compiled else "torch eager")(partial(torch_training, narrow, compiled))

if __name__ == "__main__":
    main()
