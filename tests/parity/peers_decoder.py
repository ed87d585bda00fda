"""transformers' decoders: GPT-2, and Llama with shared key heads, tied and not.

The scalar whose gradients are stored is the mean cross-entropy of each next token that is no padding.
"""

from typing import Any

import numpy as np

from tests.parity import golden
from tests.parity.golden import Golden

PROMPT, CONTINUATION, PAD = 5, 12, 3


def inputs(vocab: int) -> dict[str, np.ndarray]:
    """Three rows, two of them padded at the end."""
    tokens = np.random.default_rng(0).integers(0, vocab, (3, 9))
    return {"tokens": tokens, "mask": np.arange(9) < np.array([9, 6, 2])[:, None]}


def language_model(model: Any, config: Any, grads: tuple[str, ...]) -> Golden:
    """Logits, gradients, and the greedy continuation of prompts of 5, 4 and 3 tokens, padded in front."""
    import torch

    shapes = golden.into(model)
    given = inputs(config.vocab_size)
    tokens, mask = torch.tensor(given["tokens"]), torch.tensor(given["mask"])
    logits = model(input_ids=tokens, attention_mask=mask.long()).logits
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
    ((losses * mask[:, 1:]).sum() / mask[:, 1:].sum()).backward()
    named = dict(model.named_parameters())
    prompt_mask = (torch.arange(PROMPT) >= torch.tensor([0, 1, 2])[:, None]).long()
    made = model.generate(
        tokens[:, :PROMPT],
        attention_mask=prompt_mask,
        max_new_tokens=CONTINUATION,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=PAD,
    )
    beams = model.generate(
        tokens[:, :PROMPT],
        attention_mask=prompt_mask,
        max_new_tokens=CONTINUATION,
        num_beams=4,
        do_sample=False,
        eos_token_id=7,
        pad_token_id=PAD,
        length_penalty=0.6,
    )
    about = config.to_dict()
    return Golden(
        config={key: about[key] for key in about if not key.startswith("_")},
        shapes=shapes,
        inputs=given,
        outputs={
            "logits": logits.detach().numpy(),
            "greedy": made[:, PROMPT:].numpy(),
            "beams": beams[:, PROMPT:].numpy(),
        },
        grads={name: named[name].grad.numpy() for name in grads},
    )


def gpt2() -> Golden:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=41, n_embd=16, n_layer=2, n_head=4, n_positions=24, attn_implementation="eager")
    grads = (
        "transformer.wte.weight",
        "transformer.wpe.weight",
        "transformer.h.0.attn.c_attn.weight",
        "transformer.h.1.mlp.c_fc.bias",
        "transformer.ln_f.weight",
    )
    return language_model(GPT2LMHeadModel(config), config, grads)


def llama(tied: bool = False) -> Golden:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=41,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        attention_bias=tied,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        attn_implementation="eager",
    )
    grads = (
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.1.mlp.gate_proj.weight",
        "model.layers.1.input_layernorm.weight",
        *(() if tied else ("lm_head.weight",)),
    )
    return language_model(LlamaForCausalLM(config), config, grads)


CASES = {"gpt2": gpt2, "llama": llama, "llama_tied": lambda: llama(tied=True)}
