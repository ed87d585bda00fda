"""wav2vec 2.0, HuBERT and Whisper of transformers, small, on drawn weights.

Gradients are of the sum of ``probe * output`` over real frames, ``probe`` being an input of the case.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests import tiny_whisper
from tests.parity import golden
from tests.parity.golden import Golden

CONVS = {"conv_dim": [12, 10, 8], "conv_kernel": [10, 3, 2], "conv_stride": [5, 2, 2], "num_feat_extract_layers": 3}
SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 36,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 11,
    **CONVS,
}
QUANTISER = {"codevector_dim": 8, "proj_codevector_dim": 8, "num_codevectors_per_group": 4}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
LENGTHS = (700, 431)


def waves() -> dict[str, np.ndarray]:
    """Two recordings, the second padded with zeros as the published feature extractor does."""
    rng = np.random.default_rng(0)
    mask = np.arange(LENGTHS[0]) < np.array(LENGTHS)[:, None]
    return {"waves": (rng.standard_normal(mask.shape) * mask).astype(np.float32), "mask": mask}


def speech(model: str, fields: dict[str, Any], graded: tuple[str, ...]) -> Golden:
    """A model of transformers by the name of its class."""
    import torch
    import transformers

    kind = getattr(transformers, model)
    config = kind.config_class(**{**SMALL, **fields})
    net = kind(config)
    shapes = golden.into(net)
    if model == "Wav2Vec2ForPreTraining":  # its first output is about the quantised features
        net = net.wav2vec2
    inputs = waves()
    x, mask = torch.from_numpy(inputs["waves"]), torch.from_numpy(inputs["mask"]).long()
    made = net(x, attention_mask=mask)[0]
    alone = net(x[1:, : LENGTHS[1]])[0]
    rng = np.random.default_rng(1)
    inputs["probe"] = rng.standard_normal(tuple(made.shape)).astype(np.float32)
    inputs["probe"][1, alone.shape[1] :] = 0
    (made * torch.from_numpy(inputs["probe"])).sum().backward()
    grads = {name: p.grad.numpy() for name, p in net.named_parameters() if name.endswith(graded)}
    outputs = {"padded": made.detach().numpy(), "alone": alone.detach().numpy()}
    return Golden(config=_said(config, model), shapes=shapes, inputs=inputs, outputs=outputs, grads=grads)


def _said(config: Any, model: str) -> dict[str, Any]:
    """What config.json of such a model says, without the defaults of generation."""
    return {**config.to_diff_dict(), "model_type": config.model_type, "architectures": [model]}


def whisper(model: str) -> Golden:
    """The encoder of a Whisper model."""
    import torch
    import transformers

    kind = getattr(transformers, model)
    config = kind.config_class(
        vocab_size=60,
        num_mel_bins=10,
        d_model=24,
        encoder_layers=2,
        encoder_attention_heads=3,
        encoder_ffn_dim=40,
        decoder_layers=1,
        decoder_attention_heads=3,
        decoder_ffn_dim=20,
        max_source_positions=20,
        max_target_positions=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    net = kind(config)
    shapes = golden.into(net)
    rng = np.random.default_rng(0)
    inputs = {"features": rng.standard_normal((2, 40, 10)).astype(np.float32)}
    encoder = net.get_encoder()
    made = encoder(torch.from_numpy(inputs["features"]).transpose(1, 2))[0]
    inputs["probe"] = rng.standard_normal(tuple(made.shape)).astype(np.float32)
    (made * torch.from_numpy(inputs["probe"])).sum().backward()
    graded = (
        "encoder.conv1.weight",
        "encoder.conv2.bias",
        "encoder.layers.0.self_attn.q_proj.weight",
        "encoder.layers.1.self_attn.v_proj.bias",
        "encoder.layers.1.fc1.weight",
    )
    grads = {name: p.grad.numpy() for name, p in net.named_parameters() if name.endswith(graded)}
    return Golden(
        config=_said(config, model),
        shapes=shapes,
        inputs=inputs,
        outputs={"hidden": made.detach().numpy()},
        grads=grads,
    )


def whisper_transcription() -> Golden:
    """Logits of Whisper's decoder, and what it writes down: of windows and of recordings that are longer.

    ``greedy``, ``beams`` and ``timed`` hold tokens behind the prompt, -1 behind the last one; ``long`` holds
    (recording, start, end, token) a row for each token of each segment.
    """
    import torch
    import transformers

    config = transformers.WhisperConfig(**tiny_whisper.SIZES, suppress_tokens=None, begin_suppress_tokens=None)
    net = transformers.WhisperForConditionalGeneration(config)
    shapes = golden.into(net)
    net.generation_config = transformers.GenerationConfig(**tiny_whisper.GENERATION)
    rng = np.random.default_rng(0)
    window = 2 * tiny_whisper.POSITIONS
    inputs = {
        "features": rng.standard_normal((4, window, tiny_whisper.BINS)).astype(np.float32),
        "long": rng.standard_normal((3, 3 * window + 17, tiny_whisper.BINS)).astype(np.float32),
        "tokens": rng.integers(0, tiny_whisper.SIZE, (4, 9)).astype(np.int32),
    }
    features, long = (torch.from_numpy(inputs[name]).transpose(1, 2) for name in ("features", "long"))
    logits = net(features, decoder_input_ids=torch.from_numpy(inputs["tokens"]).long()).logits
    outputs = {"logits": logits.detach().numpy(), "language": net.detect_language(features).numpy()}
    asked = {"language": "de", "task": "translate"}
    outputs["greedy"] = _padded(net.generate(features, **asked))
    outputs["beams"] = _padded(net.generate(features, **asked, num_beams=3))
    outputs["heard"] = _padded(net.generate(features, task="transcribe"))
    outputs["timed"] = _segments(
        [net.generate(features[i : i + 1], return_timestamps=True, return_segments=True, **asked) for i in range(4)]
    )
    outputs["long"] = _segments(
        [net.generate(long[i : i + 1], return_timestamps=True, return_segments=True, **asked) for i in range(3)]
    )
    return Golden(config=_said(config, type(net).__name__), shapes=shapes, inputs=inputs, outputs=outputs)


def _padded(tokens: Any) -> np.ndarray:
    """int32 (b, n): tokens without the end and what follows it, -1 behind them."""
    rows = [row[: row.index(tiny_whisper.END)] if tiny_whisper.END in row else row for row in tokens.tolist()]
    return np.array([row + [-1] * (max(map(len, rows)) - len(row)) for row in rows], np.int32)


def _segments(answers: list[Any]) -> np.ndarray:
    """(n, 4): recording, start and end in seconds, and a token, for each token of each segment."""
    return np.array(
        [
            (number, float(segment["start"]), float(segment["end"]), int(token))
            for number, answer in enumerate(answers)
            for segment in answer["segments"][0]
            for token in segment["tokens"]
        ],
        np.float64,
    )


GRADED = (
    "conv_layers.0.conv.weight",
    "conv_layers.0.layer_norm.weight",
    "conv_layers.1.conv.weight",
    "weight.original0",
    "weight.original1",
    "pos_conv_embed.conv.bias",
    "layers.0.attention.q_proj.weight",
    "layers.1.feed_forward.output_dense.bias",
    "lm_head.weight",
)

CASES: dict[str, Callable[[], Golden]] = {
    "wav2vec2_base_ctc": lambda: speech("Wav2Vec2ForCTC", {}, GRADED),
    "wav2vec2_large_ctc": lambda: speech("Wav2Vec2ForCTC", LARGE, GRADED),
    "wav2vec2_base": lambda: speech("Wav2Vec2Model", {}, ()),
    "wav2vec2_pretraining": lambda: speech("Wav2Vec2ForPreTraining", QUANTISER, ()),
    "hubert_base_ctc": lambda: speech("HubertForCTC", {"feat_proj_layer_norm": False}, GRADED),
    "hubert_large": lambda: speech("HubertModel", LARGE, GRADED),
    "whisper": lambda: whisper("WhisperModel"),
    "whisper_generation": lambda: whisper("WhisperForConditionalGeneration"),
    "whisper_transcription": whisper_transcription,
}
