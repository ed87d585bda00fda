"""GPT-2 of 124 million parameters: a training step on 2 texts of 256 tokens, and greedy continuation of 1 and 8 texts.

Training: dropout 0.1, AdamW, all parameters. Continuation: 32 tokens are given, 64 made, with a cache; the time is of
one token of every text, prompt included. Random weights. Peer: transformers' GPT2LMHeadModel, eager and compiled (in
continuation with its static cache). Both sides get the allocator setting of ``suite.runtime.allocation.keep_memory``.

    python -m benchmarks.decoder
"""

import numpy as np

from benchmarks.harness import keep_pages, main, variant

VOCAB, ROWS, LENGTH = 50_257, 2, 256
PROMPT, NEW = 32, 64


def data(rows: int, length: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, VOCAB, (rows, length))


# Ours


def ours(compute: str):
    from flax import nnx

    from suite.experiment.sections import Precision
    from suite.models.decoder import Config
    from suite.runtime import allocation
    from suite.training import precision

    allocation.keep_memory()
    model = Config(vocab_size=VOCAB).build(rngs=nnx.Rngs(0))
    return precision.apply(model, Precision(compute=compute))


def our_training(compute: str):
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    graph, params = nnx.split(ours(compute), nnx.Param)
    params, tokens = nnx.to_pure_dict(params), jnp.asarray(data(ROWS, LENGTH + 1))
    tx = optax.adamw(1e-5)

    def loss(params, key, tokens):
        logits = nnx.merge(graph, params)(tokens[:, :-1], rngs=nnx.Rngs(dropout=key))
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    def step(state, tokens):
        i, params, opt = state
        value, grads = jax.value_and_grad(loss)(params, jax.random.fold_in(jax.random.key(0), i), tokens)
        updates, opt = tx.update(grads, opt, params)
        return (i + 1, optax.apply_updates(params, updates), opt), value

    step = jax.jit(step, donate_argnums=0)
    state = jnp.int32(0), params, tx.init(params)

    def run():
        nonlocal state
        state, value = step(state, tokens)
        return float(value)

    return run


def our_continuation(compute: str, rows: int):
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from suite.decoding.generation import Decoding, generate
    from suite.nn.quant.bfloat16_weights import narrowed

    model = ours(compute)
    graph, params = nnx.split(narrowed(model) if compute == "bfloat16" else model, nnx.Param)
    tokens, decoding = jnp.asarray(data(rows, PROMPT)), Decoding(tokens=NEW)

    @jax.jit
    def go_on(params, tokens):
        model = nnx.merge(graph, params)
        cache = model.cache(rows, PROMPT + NEW, compute)
        return generate(model, cache, tokens, jnp.ones(tokens.shape, bool), decoding).tokens

    return (lambda: np.asarray(go_on(params, tokens))), NEW


# Peer


def torch_model():
    keep_pages()
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return torch, GPT2LMHeadModel(GPT2Config())


def torch_training(narrow: bool, compiled: bool):
    torch, model = torch_model()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, weight_decay=1e-4, fused=True)
    forward = torch.compile(model) if compiled else model
    tokens = torch.tensor(data(ROWS, LENGTH + 1))

    def run():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            logits = forward(input_ids=tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


def torch_continuation(narrow: bool, compiled: bool, rows: int):
    torch, model = torch_model()
    model.eval()
    if narrow:
        model.bfloat16()
    if compiled:
        model.forward = torch.compile(model.forward)
    tokens = torch.tensor(data(rows, PROMPT))
    asked = dict(
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        **({"cache_implementation": "static"} if compiled else {}),
    )

    def run():
        with torch.inference_mode():
            return model.generate(tokens, **asked).numpy()

    return run, NEW


for compute, narrow in (("float32", False), ("bfloat16", True)):
    case = f"GPT-2 124M b{ROWS}x{LENGTH} train {compute}"
    variant(case, "ours")(lambda compute=compute: our_training(compute))
    for compiled in (False, True):
        name = "torch.compile" if compiled else "torch eager"
        variant(case, name)(lambda a=(narrow, compiled): torch_training(*a))
    for rows in (1, 8):
        case = f"GPT-2 124M greedy b{rows} {compute}"
        variant(case, "ours")(lambda compute=compute, rows=rows: our_continuation(compute, rows))
        for compiled in (False, True):
            name = "torch.compile" if compiled else "torch eager"
            variant(case, name)(lambda a=(narrow, compiled, rows): torch_continuation(*a))

if __name__ == "__main__":
    main()
