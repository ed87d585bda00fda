"""The affine layer. Dims: i inputs, o outputs."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from suite.nn.dot import Computing, dot

_LECUN = nnx.initializers.lecun_normal()


class Linear(Computing):
    """``x @ kernel + bias``.

    Attributes:
        kernel: (inputs, outputs).
        bias: (outputs,), zero at first; None where ``use_bias`` is False.
        addition: what fine-tuning of part of a model adds, see `suite.nn.lora`; else None.
        compute: format of the operands, see `suite.nn.dot.dot`.
        narrow: it stands inside a block: on an accelerator its product is rounded to that format. No logits are.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        rngs: nnx.Rngs,
        use_bias: bool = True,
        init: Callable = _LECUN,
        narrow: bool = False,
    ):
        self.kernel = nnx.Param(init(rngs.params(), (inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((outputs,))) if use_bias else None
        self.addition: Callable | None = nnx.data(None)
        self.compute = "float32"
        self.narrow = narrow

    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        y = dot(x, self.kernel[...], self.compute, self.narrow)
        if self.bias is not None:
            y = y + self.bias[...]
        return y if self.addition is None else self.addition(x, y)
