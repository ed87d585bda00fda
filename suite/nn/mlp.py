"""Activations and the position-wise feed-forward layer. Dims: d width, f feed-forward width."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from suite.nn.cpu.switch import recomputed
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


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`gelu` with the distribution function approximated by a sigmoid: CLIP's."""
    return x * jax.nn.sigmoid(1.702 * x)


Activation = Literal[
    "gelu",
    "gelu_tanh",
    "quick_gelu",
    "gelu_10",
    "relu",
    "relu2",
    "relu6",
    "leaky_relu",
    "silu",
    "mish",
    "hardswish",
    "sigmoid",
    "tanh",
    "linear",
]
"""Functions without parameters that published transformers are made with."""
Gated = Literal["swiglu", "geglu", "geglu_exact", "reglu"]
"""Forms of a feed-forward layer with a gate."""
Inner = Literal[Activation, Gated]
"""All that a feed-forward layer can be built with."""
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "gelu_10": lambda x: jnp.clip(gelu(x), -10, 10),
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "silu": jax.nn.silu,
    "mish": jax.nn.mish,
    "hardswish": jax.nn.hard_swish,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "linear": lambda x: x,
}
GATED = {"swiglu": "silu", "geglu": "gelu_tanh", "geglu_exact": "gelu", "reglu": "relu"}
"""Gated forms and the activation of their gate."""


def activate(name: str, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The function of that name in `ACTIVATIONS`, of ``x``."""
    return ACTIVATIONS[name](x)


class FeedForward(nnx.Module):
    """Widen, activate, narrow.

    The gated forms (`GATED`) multiply ``up`` by SiLU, GELU or ReLU of a third projection, ``gate``, by default without
    biases (`Shazeer, 2020 <https://arxiv.org/abs/2002.05202>`_).

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
        self.up = Linear(width, feed_forward, rngs=rngs, narrow=True, use_bias=use_bias)
        self.gate = Linear(width, feed_forward, rngs=rngs, narrow=True, use_bias=use_bias) if gated else None
        self.down = Linear(feed_forward, width, rngs=rngs, narrow=True, use_bias=use_bias)
        self.dropout = Dropout(dropout)
        self.activation = activation

    def __call__(self, x: Float[Array, "... d"], rngs: nnx.Rngs | None = None) -> Float[Array, "... d"]:
        if self.gate is not None:
            gated = recomputed(lambda gate, up: activate(GATED[self.activation], gate) * up)
            hidden = gated(self.gate(x), self.up(x))
        else:
            hidden = recomputed(partial(activate, self.activation))(self.up(x))
        return self.down(self.dropout(hidden, rngs))
