"""The pre-training losses of wav2vec 2.0 of transformers, small, on drawn weights, with the hidden frames and the other
frames given.

Gradients are of the whole loss in training, without dropout, and with Gumbel noise that is 0: what is drawn else is
fixed by that alone.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.parity import golden
from tests.parity.golden import Golden
from tests.parity.peers_audio import QUANTISER, SMALL

ROWS, SAMPLES, OTHERS = 2, 700, 5
PLAIN = dict.fromkeys(
    (
        "hidden_dropout",
        "attention_dropout",
        "activation_dropout",
        "feat_proj_dropout",
        "final_dropout",
        "feat_quantizer_dropout",
        "layerdrop",
    ),
    0.0,
)
GRADED = (
    "quantizer.codevectors",
    "quantizer.weight_proj.weight",
    "project_hid.weight",
    "project_q.bias",
    "masked_spec_embed",
    "layers.0.attention.q_proj.weight",
)


def without_noise(logits: Any, tau: float = 1.0, hard: bool = False) -> Any:
    """As ``torch.nn.functional.gumbel_softmax`` where its noise is 0."""
    import torch

    soft = (logits / tau).softmax(-1)
    chosen = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
    return chosen - soft.detach() + soft if hard else soft


def contrast() -> Golden:
    """Losses of both modes as sums over hidden frames."""
    import torch
    import transformers

    config = transformers.Wav2Vec2Config(**{**SMALL, **QUANTISER, **PLAIN})
    net = transformers.Wav2Vec2ForPreTraining(config)
    shapes = golden.into(net)
    rng = np.random.default_rng(0)
    waves = rng.standard_normal((ROWS, SAMPLES)).astype(np.float32)
    frames = int(net._get_feat_extract_output_lengths(torch.tensor(SAMPLES)))
    hidden = rng.random((ROWS, frames)) < 0.4
    others = np.zeros((ROWS, frames, OTHERS), np.int64)
    for row, frame in zip(*np.nonzero(hidden), strict=True):
        places = np.setdiff1d(np.flatnonzero(hidden[row]), [frame])
        others[row, frame] = rng.choice(places, OTHERS)
    flat = others + frames * np.arange(ROWS)[:, None, None]
    outputs, grads, plain = {}, {}, torch.nn.functional.gumbel_softmax
    torch.nn.functional.gumbel_softmax = without_noise
    try:
        for mode in ("eval", "train"):
            made = net.train(mode == "train")(
                torch.from_numpy(waves),
                mask_time_indices=torch.from_numpy(hidden),
                sampled_negative_indices=torch.from_numpy(flat),
            )
            losses = (made.contrastive_loss, made.diversity_loss, made.loss)
            outputs[mode] = np.array([float(loss) for loss in losses], np.float32)
        made.loss.backward()
        grads = {name: p.grad.numpy() for name, p in net.named_parameters() if name.endswith(GRADED)}
    finally:
        torch.nn.functional.gumbel_softmax = plain
    said = {**config.to_diff_dict(), "model_type": "wav2vec2", "architectures": ["Wav2Vec2ForPreTraining"]}
    inputs = {"waves": waves, "hidden": hidden, "others": others.astype(np.int32)}
    return Golden(config=said, shapes=shapes, inputs=inputs, outputs=outputs, grads=grads)


CASES: dict[str, Callable[[], Golden]] = {"wav2vec2_contrast": contrast}
