"""BERT as a classifier of texts of 128 tokens: training step and inference, mini on 16 texts and base on 8.

Mini has 4 layers, width 256 and 4 heads, base 12, 768 and 12.

Training: dropout 0.1, AdamW, all parameters. Random weights. Peer: transformers' BertForSequenceClassification,
eager and compiled. Both sides get the allocator setting of ``suite.runtime.allocation.keep_memory`` where it helps
them. Arithmetic is the same but for BERT's token types (two vectors of a table, all of type 0 here), which we don't
have.

    python -m benchmarks.encoder mini
    python -m benchmarks.encoder base --only ours ", keep"     # all variants at once would take 20 GiB
"""

from typing import NamedTuple

import numpy as np

from benchmarks.harness import keep_pages, main, variant

LENGTH, VOCAB = 128, 30_522


class Size(NamedTuple):
    """A network, and how many texts it is given at once."""

    batch: int
    layers: int
    width: int
    heads: int


CASES = {"BERT-mini b16x128": Size(16, 4, 256, 4), "BERT-base b8x128": Size(8, 12, 768, 12)}


def data(batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, VOCAB, (batch, LENGTH))
    return tokens, np.ones((batch, LENGTH), bool), rng.integers(0, 2, (batch,))


# Ours


def ours(size: Size, compute: str):
    import jax
    from flax import nnx

    from suite.experiment.sections import Precision
    from suite.models.transformer import Config
    from suite.runtime import allocation
    from suite.training import precision

    allocation.keep_memory()
    config = Config(
        vocab_size=VOCAB,
        outputs=2,
        layers=size.layers,
        width=size.width,
        heads=size.heads,
        feed_forward=4 * size.width,
        norm="post",
        pooling="cls",
        embedding_norm=True,
        epsilon=1e-12,
    )
    model = precision.apply(config.build(rngs=nnx.Rngs(0)), Precision(compute=compute))
    graph, params = nnx.split(model, nnx.Param)
    tokens, mask, labels = data(size.batch)
    return graph, nnx.to_pure_dict(params), tuple(map(jax.numpy.asarray, (tokens, mask, labels)))


def our_training(size: Size, compute: str):
    import jax
    import optax
    from flax import nnx

    graph, params, (tokens, mask, labels) = ours(size, compute)
    tx = optax.adamw(1e-5)

    def loss(params, key, tokens, mask, labels):
        logits = nnx.merge(graph, params)(tokens, mask, rngs=nnx.Rngs(dropout=key))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(state, *batch):
        i, params, opt = state
        key = jax.random.fold_in(jax.random.key(0), i)
        value, grads = jax.value_and_grad(loss)(params, key, *batch)
        updates, opt = tx.update(grads, opt, params)
        return (i + 1, optax.apply_updates(params, updates), opt), value

    step = jax.jit(step, donate_argnums=0)
    state = jax.numpy.int32(0), params, tx.init(params)

    def run():
        nonlocal state
        state, value = step(state, tokens, mask, labels)
        return float(value)

    return run


def our_inference(size: Size, compute: str):
    import jax
    from flax import nnx

    graph, params, (tokens, mask, _) = ours(size, compute)
    if compute == "bfloat16":
        # Matrices are rounded once, not at each call.
        params = jax.tree.map(lambda a: a.astype(compute) if a.ndim > 1 else a, params)
    predict = jax.jit(lambda params, tokens, mask: nnx.merge(graph, params)(tokens, mask))
    return lambda: np.asarray(predict(params, tokens, mask))


# Peer


def torch_model(size: Size, keep: bool):
    if keep:
        keep_pages()
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.width,
    )
    tokens, mask, labels = map(torch.tensor, data(size.batch))
    return BertForSequenceClassification(config), dict(input_ids=tokens, attention_mask=mask.long()), labels


def torch_training(size: Size, narrow: bool, compiled: bool, keep: bool):
    model, inputs, labels = torch_model(size, keep)
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, weight_decay=1e-4, fused=True)
    forward = torch.compile(model) if compiled else model

    def run():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            loss = forward(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


def torch_inference(size: Size, narrow: bool, compiled: bool, keep: bool):
    model, inputs, _ = torch_model(size, keep)
    import torch

    model.eval()
    if narrow:
        model.bfloat16()
    forward = torch.compile(model) if compiled else model

    def run():
        with torch.inference_mode():
            return forward(**inputs).logits.float().numpy()

    return run


for title, size in CASES.items():
    for work, mine, peer in (("train", our_training, torch_training), ("inference", our_inference, torch_inference)):
        for compute, narrow in (("float32", False), ("bfloat16", True)):
            case = f"{title} {work} {compute}"
            variant(case, "ours")(lambda mine=mine, size=size, compute=compute: mine(size, compute))
            for compiled in (False, True):
                for keep in (False, True):
                    name = ("torch.compile" if compiled else "torch eager") + (", keep" if keep else "")
                    variant(case, name)(lambda peer=peer, size=size, a=(narrow, compiled, keep): peer(size, *a))

if __name__ == "__main__":
    main()
