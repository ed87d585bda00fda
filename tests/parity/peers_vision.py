"""ResNet and ConvNeXt of transformers and timm, torchvision's ResNet, timm's EfficientNet-Lite, ViT of both; tiny.

The scalar whose gradients are stored is the sum of the squares of the logits, in evaluation mode. For residual networks
``batch_logits`` are those of training mode, with the statistics of the batch, and ``updated`` the running averages of
the first norm after it, the mean above the variance.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.parity.golden import Golden, draw

SPELLED = (
    (r"^vit\.layers\.", "vit.encoder.layer."),
    (r"attention\.([qkv])_proj", r"attention.attention.\1"),
    (r"attention\.q\.", "attention.query."),
    (r"attention\.k\.", "attention.key."),
    (r"attention\.v\.", "attention.value."),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
)
"""How transformers 5 names the tensors of a ViT in memory, and how its files do."""


def spelled(name: str) -> str:
    """The name that a file would have."""
    if name.startswith("vit."):
        for pattern, better in SPELLED:
            name = re.sub(pattern, better, name)
    return name


def images(side: int, count: int = 3, channels: int = 3) -> np.ndarray:
    """(count, side, side, channels) of zero mean and unit deviation."""
    return np.random.default_rng(0).standard_normal((count, side, side, channels)).astype(np.float32)


def answers(
    model: Any, config: dict[str, Any], side: int, grads: tuple[str, ...], norm: str = "", channels: int = 3
) -> Golden:
    """The model's answers and the gradients of the tensors ``grads``; in training mode too where ``norm`` is given."""
    import torch

    names = {spelled(name): tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    shapes = {name: tuple(tensor.shape) for name, tensor in names.items()}
    with torch.no_grad():
        for name, tensor in names.items():
            tensor.copy_(torch.from_numpy(draw(name, shapes[name])))
    inputs = images(side, channels=channels)
    x = torch.from_numpy(inputs).permute(0, 3, 1, 2).contiguous()
    made = model.eval()(x)
    logits = getattr(made, "logits", made)
    logits.square().sum().backward()
    parameters = {spelled(name): value for name, value in model.named_parameters()}
    stored = {name: parameters[name].grad.numpy().copy() for name in grads}
    outputs = {"logits": logits.detach().numpy().copy()}
    if norm:
        with torch.no_grad():
            made = model.train()(x)
        outputs["batch_logits"] = getattr(made, "logits", made).numpy().copy()
        state = model.state_dict()
        outputs["updated"] = np.stack([state[f"{norm}.running_mean"].numpy(), state[f"{norm}.running_var"].numpy()])
    return Golden(config=config, shapes=shapes, inputs={"images": inputs}, outputs=outputs, grads=stored)


def plain(config: Any, kind: type) -> dict[str, Any]:
    """What config.json would say."""
    said = {**config.to_dict(), "architectures": [kind.__name__]}
    return {key: value for key, value in said.items() if isinstance(value, str | int | float | list | dict)}


def resnet(layer_type: str, **more: Any) -> Golden:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[16, 24], depths=[1, 2], layer_type=layer_type, num_labels=4, **more
    )
    grads = (
        "resnet.embedder.embedder.convolution.weight",
        "resnet.encoder.stages.1.layers.0.layer.1.convolution.weight",
        "resnet.encoder.stages.1.layers.0.shortcut.normalization.weight",
        "classifier.1.weight",
    )
    model = ResNetForImageClassification(config)
    norm = "resnet.embedder.embedder.normalization"
    return answers(model, plain(config, type(model)), 20, grads, norm)


CLASSIC = ("conv1.weight", "layer2.0.downsample.1.weight", "fc.bias")


def torchvision_resnet() -> Golden:
    from torchvision.models.resnet import BasicBlock, ResNet

    config = {"architecture": "resnet18", "num_classes": 4, "model_args": {"layers": [1, 1, 1, 1]}}
    return answers(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4), config, 33, CLASSIC, "bn1")


def timm_resnet(name: str) -> Golden:
    import timm

    said = {"layers": [1, 2, 1, 1], "channels": [8, 12, 16, 20], "in_chans": 1}
    config = {"architecture": f"{name}.a1_in1k", "num_classes": 4, "model_args": said}
    model = timm.create_model(name, num_classes=4, **said)
    return answers(model, config, 32, (*CLASSIC, "layer2.1.conv2.weight"), "bn1", channels=1)


def timm_lite() -> Golden:
    """timm's own sizes, but for the channels of an image and the classes."""
    import timm

    name = "tf_efficientnet_lite0"
    config = {"architecture": f"{name}.in1k", "num_classes": 4, "model_args": {"in_chans": 1}}
    model = timm.create_model(name, num_classes=4, in_chans=1)
    grads = ("conv_stem.weight", "blocks.0.0.conv_dw.weight", "blocks.1.0.conv_pw.weight", "blocks.6.0.bn3.weight")
    return answers(model, config, 33, (*grads, "classifier.bias"), channels=1)


def convnext() -> Golden:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(hidden_sizes=[8, 12, 16], depths=[1, 2, 1], num_stages=3, num_labels=4)
    grads = (
        "convnext.embeddings.patch_embeddings.weight",
        "convnext.encoder.stages.1.downsampling_layer.1.weight",
        "convnext.encoder.stages.1.layers.1.dwconv.weight",
        "convnext.encoder.stages.2.layers.0.layer_scale_parameter",
        "convnext.layernorm.weight",
    )
    model = ConvNextForImageClassification(config)
    return answers(model, plain(config, type(model)), 37, grads)


def timm_convnext() -> Golden:
    import timm

    said = {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 20], "in_chans": 1}
    config = {"architecture": "convnext_tiny.fb_in1k", "num_classes": 4, "model_args": said}
    model = timm.create_model("convnext_tiny", num_classes=4, **said)
    grads = ("stem.0.weight", "stages.1.downsample.0.bias", "stages.2.blocks.1.gamma", "head.norm.weight")
    return answers(model, config, 33, grads, channels=1)


def vit() -> Golden:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        image_size=12,
        patch_size=4,
        num_labels=4,
    )
    grads = (
        "vit.embeddings.cls_token",
        "vit.embeddings.patch_embeddings.projection.weight",
        "vit.encoder.layer.0.attention.attention.key.weight",
        "vit.encoder.layer.1.output.dense.weight",
        "vit.embeddings.position_embeddings",
    )
    model = ViTForImageClassification(config)
    return answers(model, plain(config, type(model)), 12, grads)


def timm_vit() -> Golden:
    import timm

    said = {"embed_dim": 16, "depth": 2, "num_heads": 4, "patch_size": 4, "img_size": [12, 12], "mlp_ratio": 2.0}
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 4, "model_args": said}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=4, **{**said, "img_size": (12, 12)})
    return answers(model, config, 12, ("cls_token", "blocks.1.attn.qkv.weight", "blocks.0.mlp.fc1.bias"))


INCEPTION = ("Conv2d_1a_3x3.conv.weight", "Mixed_6b.branch7x7_2.bn.weight", "Mixed_7c.branch3x3dbl_3b.bn.weight")


def torchvision_inception() -> Golden:
    from torchvision.models.inception import Inception3

    config = {"architecture": "inception_v3", "num_classes": 4}
    model = Inception3(num_classes=4, aux_logits=False, init_weights=False)
    return answers(model, config, 80, (*INCEPTION, "fc.bias"))


def fid_inception() -> Golden:
    """Torchvision's network with the poolings of TensorFlow's, as pytorch-fid has them."""
    from types import SimpleNamespace

    from torch.nn import functional
    from torchvision.models import inception

    def pooled(x: Any, kernel_size: int, stride: int, padding: int) -> Any:
        if x.shape[1] == 2048:
            return functional.max_pool2d(x, kernel_size, stride, padding)
        return functional.avg_pool2d(x, kernel_size, stride, padding, count_include_pad=False)

    parts = {name: getattr(functional, name) for name in ("relu", "max_pool2d", "adaptive_avg_pool2d")}
    before, inception.F = inception.F, SimpleNamespace(avg_pool2d=pooled, **parts)
    try:
        model = inception.Inception3(num_classes=4, aux_logits=False, init_weights=False)
        config = {"architecture": "inception_v3_fid", "num_classes": 4}
        return answers(model, config, 80, (*INCEPTION, "fc.bias"))
    finally:
        inception.F = before


CASES: dict[str, Callable[[], Golden]] = {
    "resnet_basic": lambda: resnet("basic"),
    "resnet_bottleneck": lambda: resnet("bottleneck"),
    "resnet_v1": lambda: resnet("bottleneck", downsample_in_bottleneck=True),
    "resnet_torchvision": torchvision_resnet,
    "resnet_timm": lambda: timm_resnet("resnet18"),
    "resnet_timm_bottleneck": lambda: timm_resnet("resnet50"),
    "efficientnet_timm": timm_lite,
    "convnext": convnext,
    "convnext_timm": timm_convnext,
    "inception_torchvision": torchvision_inception,
    "inception_fid": fid_inception,
    "vit": vit,
    "vit_timm": timm_vit,
}
