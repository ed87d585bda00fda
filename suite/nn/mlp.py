"""Activations and the position-wise feed-forward layer. Dims: d width, f feed-forward width."""

from collections.abc import Callable

import jax
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from suite.nn.dropout import Dropout
from suite.nn.linear import Linear


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x times the normal distribution function of x (`Hendrycks & Gimpel, 2016 <https://arxiv.org/abs/1606.08415>`_).

    Exact, by erf; `jax.nn.gelu` takes erfc, which gives the same to rounding and is slower on a CPU.
    """
    return 0.5 * x * (1 + lax.erf(x * 2**-0.5))


def gelu_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`gelu` with the distribution function approximated by tanh: GPT-2's and T5's."""
    return jax.nn.gelu(x, approximate=True)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}
GATED = {"swiglu": "silu", "geglu": "gelu_tanh"}
"""Gated forms and the activation of their gate."""


def activate(name: str, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The function of that name in `ACTIVATIONS`, of ``x``."""
    return ACTIVATIONS[name](x)


class FeedForward(nnx.Module):
    """Widen, activate, narrow.

    The gated forms ``"swiglu"`` and ``"geglu"`` multiply ``up`` by SiLU or GELU of a third projection, ``gate``,
    by default without biases (`Shazeer, 2020 <https://arxiv.org/abs/2002.05202>`_).

    Attributes:
        up: (d, f).
        down: (f, d).
        gate: (d, f), or None where the activation is not gated.
        dropout: acts on what is between.
    """

    def __init__(
        self,
        width: int,
        feed_forward: int,
        activation: str = "gelu",
        *,
        rngs: nnx.Rngs,
        use_bias: bool | None = None,
        dropout: float = 0.0,
    ):
        """``use_bias``: None for biases where nothing is gated."""
        gated = activation in GATED
        use_bias = not gated if use_bias is None else use_bias
        self.up = Linear(width, feed_forward, rngs=rngs, use_bias=use_bias)
        self.gate = Linear(width, feed_forward, rngs=rngs, use_bias=use_bias) if gated else None
        self.down = Linear(feed_forward, width, rngs=rngs, use_bias=use_bias)
        self.dropout = Dropout(dropout)
        self.activation = activation

    def __call__(self, x: Float[Array, "... d"], rngs: nnx.Rngs | None = None) -> Float[Array, "... d"]:
        if self.gate is not None:
            hidden = activate(GATED[self.activation], self.gate(x)) * self.up(x)
        else:
            hidden = activate(self.activation, self.up(x))
        return self.down(self.dropout(hidden, rngs))
