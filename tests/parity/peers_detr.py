"""DETR of transformers, with a backbone of its own and with timm's; tiny but for timm's, which comes in its own sizes.

Two pictures, of which the second has filling around it. The scalar whose gradients are stored is the published loss of
the second picture; ``loss`` are its parts: of the classes, the boxes and their overlap, without weights.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.parity.golden import Golden, draw

SIZES = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "num_queries": 6,
    "num_labels": 3,
}
CONTENT = np.array([[0, 0, 66, 40], [8, 4, 58, 36]], np.float32)
"""Left, top, right and bottom of each picture within its filling."""
BOXES = np.array([[9, 6, 30, 20], [20, 10, 57, 35], [40, 5, 50, 30], [0, 0, 0, 0]], np.float32)
LABELS = np.array([2, 0, 1, -1], np.int32)
"""Boxes of the second picture, in pixels, and their classes."""
_SPELLED = (
    (r"\.backbone\.model\.", ".backbone.conv_encoder.model."),
    (r"\.o_proj\.", ".out_proj."),
    (r"\.mlp\.fc", ".fc"),
)
"""How transformers 5 names tensors in memory, and how its files do."""
_GRADS = (
    "model.query_position_embeddings.weight",
    "model.encoder.layers.0.self_attn.k_proj.weight",
    "model.decoder.layers.1.encoder_attn.v_proj.bias",
    "class_labels_classifier.weight",
    "bbox_predictor.layers.0.weight",
)


def _spelled(name: str) -> str:
    for ours, theirs in _SPELLED:
        name = re.sub(ours, theirs, name)
    return name


def answers(config: Any, grads: tuple[str, ...]) -> Golden:
    """The model's answers, and the gradients of the tensors ``grads``."""
    import torch
    from transformers import DetrForObjectDetection

    model = DetrForObjectDetection(config).eval()
    state = {_spelled(name): tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(torch.from_numpy(draw(name, tuple(tensor.shape))))
    images = np.random.default_rng(0).standard_normal((2, 40, 66, 3)).astype(np.float32)
    mask = np.zeros((2, 40, 66), np.int64)
    for place, (left, top, right, bottom) in enumerate(CONTENT.astype(int)):
        mask[place, top:bottom, left:right] = 1
    pixels = torch.from_numpy((images * mask[..., None]).transpose(0, 3, 1, 2).astype(np.float32))
    with torch.no_grad():
        both = model(pixels, pixel_mask=torch.from_numpy(mask))
    left, top, right, bottom = CONTENT[1]
    size = np.array([right - left, bottom - top] * 2)
    corners = (BOXES[:3] - np.array([left, top] * 2)) / size
    centres = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    truth = {"class_labels": torch.from_numpy(LABELS[:3]).long(), "boxes": torch.from_numpy(centres.astype(np.float32))}
    second = model(pixels[1:], pixel_mask=torch.from_numpy(mask[1:]), labels=[truth])
    second.loss.backward()
    parameters = {_spelled(name): value for name, value in model.named_parameters()}
    parts = ("loss_ce", "loss_bbox", "loss_giou")
    outputs = {"logits": both.logits, "boxes": both.pred_boxes}
    return Golden(
        config={**_plain(config.to_dict()), "architectures": ["DetrForObjectDetection"]},
        shapes={name: tuple(tensor.shape) for name, tensor in state.items()},
        inputs={"images": images, "content": CONTENT, "boxes": BOXES, "labels": LABELS},
        outputs={
            **{name: value.numpy().copy() for name, value in outputs.items()},
            "loss": np.array([float(second.loss_dict[part]) for part in parts], np.float32),
        },
        grads={name: parameters[name].grad.numpy().copy() for name in grads},
    )


def _plain(stated: Any) -> Any:
    """What config.json would say, without what is empty."""
    if not isinstance(stated, dict):
        return stated
    kept = {str(key): _plain(value) for key, value in stated.items()}
    return {key: value for key, value in kept.items() if isinstance(value, str | int | float | list | dict)}


def transformers() -> Golden:
    from transformers import DetrConfig, ResNetConfig

    sizes = {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    backbone = ResNetConfig(**sizes, out_features=["stage4"])
    grads = (*_GRADS, "model.input_projection.weight")  # the published class freezes the whole of this backbone
    return answers(DetrConfig(backbone_config=backbone, use_timm_backbone=False, **SIZES), grads)


def timm() -> Golden:
    from transformers import DetrConfig

    config = DetrConfig(backbone="resnet18", use_timm_backbone=True, use_pretrained_backbone=False, **SIZES)
    return answers(config, (*_GRADS, "model.backbone.conv_encoder.model.layer2.0.downsample.0.weight"))


CASES: dict[str, Callable[[], Golden]] = {"detr": transformers, "detr_timm": timm}
