"""CLIP of transformers, tiny; in memory its tensors are called as in its files.

The scalar whose gradients are stored is the sum of the squares of the logits, in evaluation mode.
"""

import numpy as np

from tests.parity import golden
from tests.parity.golden import Golden, draw

SIDE, LENGTH, VOCABULARY = 16, 7, 40
GRADS = (
    "vision_model.embeddings.patch_embedding.weight",
    "vision_model.encoder.layers.0.self_attn.k_proj.weight",
    "text_model.embeddings.token_embedding.weight",
    "text_model.encoder.layers.1.mlp.fc2.weight",
    "visual_projection.weight",
    "logit_scale",
)


def inputs() -> dict[str, np.ndarray]:
    """Three images, and four texts of different lengths that end in the last id."""
    rng = np.random.default_rng(0)
    lengths = np.array([7, 3, 5, 2])
    tokens = rng.integers(3, VOCABULARY - 1, (len(lengths), LENGTH)).astype(np.int32)
    mask = np.arange(LENGTH) < lengths[:, None]
    tokens[np.arange(len(lengths)), lengths - 1] = VOCABULARY - 1
    images = rng.standard_normal((3, SIDE, SIDE, 3)).astype(np.float32)
    return {"images": images, "tokens": np.where(mask, tokens, VOCABULARY - 1).astype(np.int32), "mask": mask}


def clip() -> Golden:
    """`CLIPModel`."""
    golden.mend_torch()
    import torch
    from transformers import CLIPConfig, CLIPModel

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": 12,
        "vision_config": {**sizes, "image_size": SIDE, "patch_size": 8, "num_channels": 3, "projection_dim": 12},
        "text_config": {
            **sizes,
            "hidden_size": 20,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 9,
            "projection_dim": 12,
            "bos_token_id": 1,
            "eos_token_id": VOCABULARY - 1,
        },
    }
    model = CLIPModel(CLIPConfig(**config)).eval()
    names = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    shapes = {name: tuple(tensor.shape) for name, tensor in names.items()}
    with torch.no_grad():
        for name, tensor in names.items():
            tensor.copy_(torch.from_numpy(draw(name, shapes[name])))
    given = inputs()
    answer = model(
        input_ids=torch.from_numpy(given["tokens"]).long(),
        attention_mask=torch.from_numpy(given["mask"]).long(),
        pixel_values=torch.from_numpy(given["images"]).permute(0, 3, 1, 2).contiguous(),
    )
    answer.logits_per_image.square().sum().backward()
    parameters = dict(model.named_parameters())
    outputs = {
        "image": answer.image_embeds.detach().numpy().copy(),
        "text": answer.text_embeds.detach().numpy().copy(),
        "logits": answer.logits_per_image.detach().numpy().copy(),
    }
    grads = {name: parameters[name].grad.numpy().copy() for name in GRADS}
    return Golden(config=config, shapes=shapes, inputs=given, outputs=outputs, grads=grads)


CASES = {"clip": clip}
