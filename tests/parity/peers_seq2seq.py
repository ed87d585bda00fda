"""transformers' encoder-decoders: T5 as first published, T5 1.1, Marian.

The scalar whose gradients are stored is the mean cross-entropy of the target tokens that are no padding.
"""

from typing import Any

import numpy as np

from tests.parity import golden
from tests.parity.golden import Golden

NEW = 12
"""Tokens that are generated."""
PAD, END = 0, 7


def inputs(vocab: int, start: int) -> dict[str, np.ndarray]:
    """Three sources, two of them padded, and what they are to become; ``target`` is what the decoder is given."""
    rng = np.random.default_rng(1)
    tokens, labels = rng.integers(1, vocab, (3, 10)), rng.integers(1, vocab, (3, 6))
    return {
        "tokens": tokens,
        "mask": np.arange(10) < np.array([10, 7, 3])[:, None],
        "target": np.concatenate([np.full((3, 1), start), labels[:, :-1]], 1),
        "labels": labels,
        "labels_mask": np.arange(6) < np.array([6, 4, 5])[:, None],
    }


def text_to_text(
    model: Any, about: dict[str, Any], start: int, grads: tuple[str, ...], shapes: dict[str, tuple[int, ...]]
) -> Golden:
    """Logits, gradients, and what greedy and beam search make of each source."""
    import torch

    given = inputs(about["vocab_size"], start)
    held = {name: torch.tensor(value) for name, value in given.items()}
    logits = model(
        input_ids=held["tokens"], attention_mask=held["mask"].long(), decoder_input_ids=held["target"]
    ).logits
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), held["labels"], reduction="none")
    ((losses * held["labels_mask"]).sum() / held["labels_mask"].sum()).backward()
    named = dict(model.named_parameters())
    model.generation_config.forced_eos_token_id = None
    asked = dict(
        attention_mask=held["mask"].long(),
        max_new_tokens=NEW,
        do_sample=False,
        pad_token_id=PAD,
        decoder_start_token_id=start,
    )
    greedy = model.generate(held["tokens"], eos_token_id=None, **asked)
    beams = model.generate(held["tokens"], eos_token_id=END, num_beams=4, length_penalty=1.3, **asked)
    return Golden(
        config={key: value for key, value in about.items() if not key.startswith("_")},
        shapes=shapes,
        inputs=given,
        outputs={"logits": logits.detach().numpy(), "greedy": greedy[:, 1:].numpy(), "beams": beams[:, 1:].numpy()},
        grads={name: named[name].grad.numpy() for name in grads},
    )


def t5(gated: bool = False) -> Golden:
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    form = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False} if gated else {}
    config = T5Config(
        vocab_size=37,
        d_model=16,
        d_kv=6,
        d_ff=24,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=12,
        decoder_start_token_id=0,
        dropout_rate=0.0,
        **form,
    )
    model = T5ForConditionalGeneration(config)
    if gated:  # published weights of this version bring a head of their own, which ends the tie
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    attention = "decoder.block.1.layer.1.EncDecAttention.q.weight"
    dense = "encoder.block.1.layer.1.DenseReluDense." + ("wi_0.weight" if gated else "wi.weight")
    relative = "{}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    grads = (
        "shared.weight",
        attention,
        dense,
        relative.format("encoder"),
        relative.format("decoder"),
        *(("lm_head.weight",) if gated else ()),
    )
    return text_to_text(model, {**config.to_dict(), **form}, 0, grads, golden.into(model))


def marian() -> Golden:
    import torch
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        vocab_size=37,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_position_embeddings=32,
        pad_token_id=36,
        decoder_start_token_id=36,
        eos_token_id=0,
        scale_embedding=True,
        activation_function="swish",
        dropout=0.0,
    )
    model = MarianMTModel(config)
    tables = {name: value.clone() for name, value in model.state_dict().items() if "embed_positions" in name}
    shapes = golden.into(model)
    with torch.no_grad():  # the sinusoids are no weights, and not in published files
        for name, value in tables.items():
            model.state_dict()[name].copy_(value)
            del shapes[name]
    # PyTorch gives the row of the padding, which is the start token too, no gradient; here it is a row like any other.
    for table in (model.model.shared, model.model.encoder.embed_tokens, model.model.decoder.embed_tokens):
        table.padding_idx = None
    grads = (
        "model.shared.weight",
        "model.encoder.layers.0.self_attn.q_proj.weight",
        "model.decoder.layers.1.encoder_attn.v_proj.bias",
        "model.decoder.layers.0.fc1.weight",
        "model.decoder.layers.1.final_layer_norm.weight",
    )
    return text_to_text(model, config.to_dict(), 36, grads, shapes)


CASES = {"t5": t5, "t5_gated": lambda: t5(gated=True), "marian": marian}
