"""A model's matrices in bfloat16, laid out for products with few rows: what generation reads at each token.

Dims: i inputs, o outputs.
"""

from typing import TypeVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from suite.nn.dot import dot_nt
from suite.nn.embedding import Embedding
from suite.nn.linear import Linear

Model = TypeVar("Model", bound=nnx.Module)


class NarrowLinear(nnx.Module):
    """A `Linear` that is not trained any more.

    Attributes:
        kernel: (outputs, inputs) bfloat16: each output's weights lie side by side.
        bias: (outputs,), or None.
    """

    def __init__(self, layer: Linear):
        self.kernel = nnx.Param(layer.kernel[...].T.astype(jnp.bfloat16))
        self.bias = layer.bias

    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        y = dot_nt(x, self.kernel[...], "bfloat16")
        return y if self.bias is None else y + self.bias[...]


def narrowed(model: Model) -> Model:
    """A copy of the model for generation in bfloat16: half the bytes a token, and read in order.

    Norms, biases and tables of positions are shared with ``model``, which stays as it is. Linear layers with an
    addition of fine-tuning stay as they are: merge it first.
    """
    copy = nnx.merge(*nnx.split(model))
    for _, module in list(nnx.iter_modules(copy)):
        for name, part in list(vars(module).items()):
            if isinstance(part, Linear) and getattr(part, "addition", None) is None:
                setattr(module, name, NarrowLinear(part))
            elif isinstance(part, Embedding):
                part.embedding = nnx.Param(part.embedding[...].astype(jnp.bfloat16))
    return nnx.view(copy, compute="bfloat16", raise_if_not_found=False)
