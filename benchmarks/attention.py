"""Attention by itself on a CPU: forward, forward with gradients, and one token that reads a cache.

Peer: PyTorch's scaled_dot_product_attention. "axes apart" is the form of other platforms (`SUITE_CPU_FORMS=off`).

    python -m benchmarks.attention
    python -m benchmarks.attention "16 x 256" --rounds 3
"""

import os
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks.harness import keep_pages, main, variant


class Shape(NamedTuple):
    """Rows, tokens, heads and their width; tokens of the cache, 0 where the tokens read themselves."""

    rows: int
    tokens: int
    heads: int
    width: int
    cache: int = 0

    def arrays(self) -> list[np.ndarray]:
        """Queries, keys and values (b, t, h, k)."""
        rng = np.random.default_rng(0)
        keys = self.cache or self.tokens
        lengths = self.tokens, keys, keys
        return [rng.normal(size=(self.rows, t, self.heads, self.width)).astype(np.float32) for t in lengths]


SHAPES = {
    "8 x 128 tokens, 12 heads of 64": Shape(8, 128, 12, 64),
    "8 x 128 tokens, 12 heads of 32": Shape(8, 128, 12, 32),
    "16 x 256 tokens, 8 heads of 32": Shape(16, 256, 8, 32),
    "128 x 49 places, 4 heads of 24": Shape(128, 49, 4, 24),
    "a token of 1,024 in a cache, 12 heads of 64": Shape(1, 1, 12, 64, 1024),
}


def ours(shape: Shape, gradient: bool, forms: str):
    os.environ["SUITE_CPU_FORMS"] = forms
    import jax
    import jax.numpy as jnp

    from suite.nn.attention import attend
    from suite.runtime import allocation

    allocation.keep_memory()
    operands = [jnp.asarray(array) for array in shape.arrays()]
    visible = jnp.ones((shape.rows, 1, 1, operands[1].shape[1]), bool)

    def mixed(q, k, v, visible):
        return attend(q, k, v, visible=visible, scale=shape.width**-0.5, kernel="plain")

    function = jax.grad(lambda *of: jnp.square(mixed(*of)).sum(), argnums=(0, 1, 2)) if gradient else mixed
    step = jax.jit(function)
    return lambda: jax.block_until_ready(step(*operands, visible))


def peer(shape: Shape, gradient: bool):
    keep_pages()
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    operands = [torch.from_numpy(array).transpose(1, 2) for array in shape.arrays()]
    visible = torch.ones((shape.rows, 1, 1, operands[1].shape[2]), dtype=torch.bool)

    def run():
        with torch.set_grad_enabled(gradient):
            given = [array.detach().requires_grad_(gradient) for array in operands]
            mixed = scaled_dot_product_attention(*given, attn_mask=visible)
            if gradient:
                mixed.square().sum().backward()
        return mixed

    return run


for name, shape in SHAPES.items():
    for gradient in (False, True):
        if gradient and shape.cache:
            continue
        case = f"attention, {name}" + (", gradients" if gradient else "")
        variant(case, "ours")(partial(ours, shape, gradient, "on"))
        variant(case, "ours, axes apart")(partial(ours, shape, gradient, "off"))
        variant(case, "torch eager")(partial(peer, shape, gradient))

if __name__ == "__main__":
    main()
