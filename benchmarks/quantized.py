"""Inference of an encoder of MiniLM's size in float32, bfloat16 and with rounded weights, of one text and of 64.

Six layers, width 384, 12 heads, texts of 28 tokens, random weights: what a call takes, not what it says. Both of the
others count as peers, so the ratio says how much faster rounded weights are than the faster of the two.

    python -m benchmarks.quantized
    python -m benchmarks.quantized 1x28 --only int8 float32
"""

import numpy as np

from benchmarks.harness import main, variant

TOKENS, VOCAB = 28, 30_522
KINDS = ("int8", "int8-dynamic", "int8-static", "int4")


def setup(rows: int, compute: str, kind: str = "none"):
    """A function that answers ``rows`` texts."""
    import jax
    from flax import nnx

    from suite.experiment.compression import Compression
    from suite.experiment.sections import Precision
    from suite.models.transformer import Config
    from suite.runtime import allocation
    from suite.surgery import quantize, quantize_weights
    from suite.training import precision

    allocation.keep_memory()
    config = Config(
        vocab_size=VOCAB,
        outputs=2,
        layers=6,
        width=384,
        heads=12,
        feed_forward=1536,
        norm="post",
        embedding_norm=True,
        token_types=2,
        epsilon=1e-12,
    )
    model = config.build(rngs=nnx.Rngs(0))
    model = quantize.attach(model, Compression(quantize=kind), quantize_weights.rounded)  # type: ignore[arg-type]
    graph, params = nnx.split(precision.apply(model, Precision(compute=compute)), nnx.Param)  # type: ignore[arg-type]
    params, rng = nnx.to_pure_dict(params), np.random.default_rng(0)
    tokens, mask = rng.integers(0, VOCAB, (rows, TOKENS)), np.ones((rows, TOKENS), bool)
    predict = jax.jit(lambda params, tokens, mask: nnx.merge(graph, params)(tokens, mask))
    return lambda: jax.block_until_ready(predict(params, tokens, mask))


def cases() -> None:
    for rows in (1, 64):
        case = f"MiniLM's encoder {rows}x{TOKENS}"
        for compute in ("float32", "bfloat16"):
            variant(case, compute)(lambda rows=rows, compute=compute: setup(rows, compute))
        for kind in KINDS:
            variant(case, f"ours {kind}")(lambda rows=rows, kind=kind: setup(rows, "bfloat16", kind))


cases()

if __name__ == "__main__":
    main()
