"""Products of features. Dims: b batch, f fields, d width of a field's vector, x width of all features together."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from suite.nn.linear import Linear


def pairwise_sum(vectors: Float[Array, "b f d"]) -> Float[Array, "b"]:
    """The sum of the dot products of all pairs of fields, the second order of a factorisation machine.

    `Rendle, 2010 <https://doi.org/10.1109/ICDM.2010.127>`_: half of the squared sum less the sum of squares, which
    costs f d instead of f^2 d.
    """
    total = vectors.sum(1)
    return 0.5 * (jnp.square(total).sum(-1) - jnp.square(vectors).sum((1, 2)))


class CrossNetwork(nnx.Module):
    """Layers ``x0 * (W x + b) + x``, each raising the degree of the products by one.

    DCN-v2 (`Wang et al., 2020 <https://arxiv.org/abs/2008.13535>`_), with full matrices.

    Attributes:
        layers: one (x, x) `Linear` each.
    """

    def __init__(self, width: int, depth: int, *, rngs: nnx.Rngs):
        self.layers = nnx.List([Linear(width, width, rngs=rngs, narrow=True) for _ in range(depth)])

    def __call__(self, features: Float[Array, "b x"]) -> Float[Array, "b x"]:
        x = features
        for layer in self.layers:
            x = features * layer(x) + x
        return x
