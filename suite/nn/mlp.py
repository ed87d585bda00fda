"""Activations and the position-wise feed-forward layer. Dims: d width, f feed-forward width."""

import jax
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from suite.nn.linear import Linear


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x times the normal distribution function of x (`Hendrycks & Gimpel, 2016 <https://arxiv.org/abs/1606.08415>`_).

    Exact, by erf; `jax.nn.gelu` takes erfc, which gives the same to rounding and is slower on a CPU.
    """
    return 0.5 * x * (1 + lax.erf(x * 2**-0.5))


def activate(name: str, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``"gelu"`` or ``"relu"`` of ``x``."""
    return {"gelu": gelu, "relu": jax.nn.relu}[name](x)


class FeedForward(nnx.Module):
    """Widen, activate, narrow.

    ``"swiglu"`` multiplies ``up`` by SiLU of a third projection, ``gate``, without biases
    (`Shazeer, 2020 <https://arxiv.org/abs/2002.05202>`_).

    Attributes:
        up: (d, f).
        down: (f, d).
        gate: (d, f), or None where the activation is gelu or relu.
    """

    def __init__(self, width: int, feed_forward: int, activation: str = "gelu", *, rngs: nnx.Rngs):
        gated = activation == "swiglu"
        self.up = Linear(width, feed_forward, rngs=rngs, use_bias=not gated)
        self.gate = Linear(width, feed_forward, rngs=rngs, use_bias=False) if gated else None
        self.down = Linear(feed_forward, width, rngs=rngs, use_bias=not gated)
        self.activation = activation

    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        if self.gate is not None:
            return self.down(jax.nn.silu(self.gate(x)) * self.up(x))
        return self.down(activate(self.activation, self.up(x)))
