"""Gated recurrent unit. Dims: b batch, t steps, i inputs, d width."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from suite.nn.linear import Linear


class GRU(nnx.Module):
    """One layer over time, from left to right (`Cho et al., 2014 <https://arxiv.org/abs/1406.1078>`_), with the reset
    gate after the product, as cuDNN and PyTorch have it.

    Attributes:
        inputs: from a step's input to its gates and candidate, (i, 3 d).
        state: the same of the state before.
    """

    def __init__(self, inputs: int, width: int, *, rngs: nnx.Rngs):
        self.inputs = Linear(inputs, 3 * width, rngs=rngs, narrow=True)
        self.state = Linear(width, 3 * width, rngs=rngs, narrow=True, init=nnx.initializers.orthogonal(column_axis=0))

    def __call__(self, x: Float[Array, "b t i"], mask: Bool[Array, "b t"]) -> Float[Array, "b t d"]:
        """States after each step; a step that is masked leaves the state as it was."""
        given = self.inputs(x).swapaxes(0, 1)  # one product for all steps: what is left to the scan is the state's
        start = jnp.zeros((x.shape[0], given.shape[-1] // 3), x.dtype)

        def step(before: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
            step_inputs, real = at
            reset, update, candidate = jnp.split(step_inputs, 3, -1)
            of_reset, of_update, of_candidate = jnp.split(self.state(before), 3, -1)
            kept = jax.nn.sigmoid(update + of_update)
            new = jnp.tanh(candidate + jax.nn.sigmoid(reset + of_reset) * of_candidate)
            state = jnp.where(real[:, None], kept * before + (1 - kept) * new, before)
            return state, state

        return jax.lax.scan(step, start, (given, mask.T))[1].swapaxes(0, 1)
