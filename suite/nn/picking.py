"""One value of each row, such as the logit of the class that is right. Dims: c classes."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from suite.nn.cpu.switch import by_target


def value_at(x: Float[Array, "... c"], index: Int[Array, "..."]) -> Float[Array, "..."]:
    """``x[..., index]``.

    On an accelerator by comparing all places with the index, which is part of the kernels around it. A gather is not,
    and its derivative is a scatter into zeros of the size of ``x``: of logits over a vocabulary, the largest array
    of a step. An index outside ``x`` picks 0 there.
    """
    return by_target(x, index, cpu=_gathered, default=_compared)


def _gathered(x: Array, index: Array) -> Array:
    return jnp.take_along_axis(x, index[..., None], -1)[..., 0]


def _compared(x: Array, index: Array) -> Array:
    return jnp.where(index[..., None] == jnp.arange(x.shape[-1]), x, 0).sum(-1)
