"""Matrix products under the precision policy: float32, or bfloat16 operands with float32 sums.

On every platform a bfloat16 product keeps the sum in float32. On a CPU one that returns float32 is also the only
form that reaches the bfloat16 instructions: XLA first widens a product that *returns* bfloat16 to float32. On an
accelerator the sum stays in the unit, and its result is what memory has to take: there the products inside a block
(``narrow``) and the gradients by inputs are rounded to bfloat16, which halves that; gradients by weights, logits and
scores are not. The
backward products must keep the same form, hence the custom derivatives. Each of them is written against the
stored operand, never against a transpose of it: XLA folds a transpose into the product, and its CPU backend
(jaxlib 0.10) has no kernel for some of the folded forms.

Dims: i inputs, o outputs; "..." any leading axes.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int8

from suite.nn import ghost
from suite.nn.cpu import dot as on_cpu
from suite.nn.cpu.switch import by_platform, by_target

Compute = str
"""``"float32"`` or ``"bfloat16"``, the format of the operands."""


class Computing(nnx.Module):
    """A layer whose operands have a format that a view sets."""

    compute: str

    def set_view(self, compute: str | None = None) -> None:
        """Configure a view of the layer.

        Args:
          compute: format of matrix operands, "float32" or "bfloat16".
        """
        if compute is not None:
            self.compute = compute


def dot(
    x: Float[Array, "... i"], w: Float[Array, "i o"], compute: Compute = "float32", narrow: bool = False
) -> Float[Array, "... o"]:
    """``x @ w``, float32 whatever the format of the operands.

    With ``compute="bfloat16"`` both operands are rounded to bfloat16, forward and backward, and every sum is
    float32; derivatives have the formats of ``x`` and ``w``. With ``narrow`` the values of the result are rounded to
    bfloat16 on an accelerator, as the gradient by ``x`` always is there.
    """
    return ghost.reported(_Matrix(0, compute), x, w, _matmul(x, w, compute, narrow))


def dot_nt(x: Float[Array, "... i"], w: Float[Array, "o i"], compute: Compute = "float32") -> Float[Array, "... o"]:
    """``x @ w.T`` in the manner of `dot`, for an output head that shares the matrix of an embedding."""
    return ghost.reported(_Matrix(1, compute), x, w, _matmul_nt(x, w, compute))


def einsum(
    spec: str, a: Float[Array, "..."], b: Float[Array, "..."], compute: Compute = "float32", narrow: bool = False
) -> Array:
    """``jnp.einsum`` of two operands in the manner of `dot`.

    ``spec`` is explicit (``"bqhk,bshk->bhqs"``) and each letter occurs in two of its three parts, so that the
    derivatives are products of the same kind.
    """
    if compute == "bfloat16":
        # XLA's CPU backend lacks some batched bfloat16 forms. Rounding operands only to widen them again would cost
        # passes over memory, so there the product stays float32.
        return by_platform(a, b, cpu=partial(_product, spec), default=partial(_einsum, spec, narrow))
    return _product(spec, a, b)


def dot_integers(x: Int8[Array, "... i"], w: Int8[Array, "i o"]) -> Float[Array, "... o"]:
    """``x @ w`` of integers, summed as integers of 32 bits, as float32."""
    product = lax.dot_general(x, w, (((x.ndim - 1,), (0,)), ((), ())), preferred_element_type=jnp.int32)
    return product.astype(jnp.float32)


@dataclass(frozen=True)
class _Matrix(ghost.Product):
    """`dot` with weights (i, o), and with ``axis`` 1 `dot_nt` with weights (o, i)."""

    axis: int
    compute: Compute

    def apply(self, given: Array, weight: Array) -> Array:
        return _matmul_nt(given, weight, self.compute) if self.axis else _matmul(given, weight, self.compute, False)

    def squared_norms(self, given: Array, grad: Array) -> Array:
        # Rounded like the operands of the gradient itself.
        x, g = (a.reshape(len(a), -1, a.shape[-1]).astype(self.compute).astype(jnp.float32) for a in (given, grad))
        return ghost.outer_squared_norms(x, g)


def _matmul(x: Array, w: Array, compute: Compute, narrow: bool) -> Array:
    if compute == "bfloat16":
        return _dot(0, narrow, x, w)
    return jnp.matmul(x, w, preferred_element_type=jnp.float32)


def _matmul_nt(x: Array, w: Array, compute: Compute) -> Array:
    if compute == "bfloat16":
        return _dot(1, False, x, w)
    return _contract(x, w, x.ndim - 1, 1)


def _narrow(x: Array) -> Array:
    return x.astype(jnp.bfloat16)


def _contract(x: Array, w: Array, x_axis: int, w_axis: int, result: Any = jnp.float32) -> Array:
    """Sum of products over one axis of each operand, rounded to ``result``, as float32."""
    product = lax.dot_general(x, w, (((x_axis,), (w_axis,)), ((), ())), preferred_element_type=result)
    return product.astype(jnp.float32)


def _rounded(x: Array, w: Array, x_axis: int, w_axis: int) -> Array:
    """`_contract`, rounded to bfloat16 where the program is for an accelerator."""
    summed = partial(_contract, x_axis=x_axis, w_axis=w_axis)
    return by_target(x, w, cpu=summed, default=partial(summed, result=jnp.bfloat16))


def _outer(x: Array, g: Array) -> Array:
    """(i, o): the sum over all leading axes of x (..., i) times g (..., o), in float32."""
    lead = tuple(range(x.ndim - 1))
    return lax.dot_general(x, g, ((lead, lead), ((), ())), preferred_element_type=jnp.float32)


# Residuals carry empty arrays for the formats of the operands: the operands themselves are kept in bfloat16.
def _format(x: Array) -> Array:
    return jnp.zeros((0,), x.dtype)


# w_axis is the axis of w that is summed over: 0 for w (i, o), 1 for w (o, i).
@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _dot(w_axis: int, narrow: bool, x: Array, w: Array) -> Array:
    return _dot_forward(w_axis, narrow, x, w)[0]


def _dot_forward(w_axis: int, narrow: bool, x: Array, w: Array) -> tuple[Array, tuple]:
    a, b = _narrow(x), _narrow(w)
    product = _rounded if narrow else _contract
    return product(a, b, a.ndim - 1, w_axis), (a, b, _format(x), _format(w))


def _dot_backward(w_axis: int, narrow: bool, residuals: tuple, g: Array) -> tuple[Array, Array]:
    a, b, x, w = residuals
    g = _narrow(g)
    dw = by_platform(*((a, g) if w_axis == 0 else (g, a)), cpu=partial(on_cpu.outer, _outer), default=_outer)
    return _rounded(g, b, g.ndim - 1, 1 - w_axis).astype(x.dtype), dw.astype(w.dtype)


_dot.defvjp(_dot_forward, _dot_backward)


def _product(spec: str, a: Array, b: Array, result: Any = jnp.float32) -> Array:
    """The einsum of two arrays of one format, rounded to ``result``, as float32."""
    return jnp.einsum(spec, a, b, preferred_element_type=result).astype(jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _einsum(spec: str, narrow: bool, a: Array, b: Array) -> Array:
    return _einsum_forward(spec, narrow, a, b)[0]


def _einsum_forward(spec: str, narrow: bool, a: Array, b: Array) -> tuple[Array, tuple]:
    x, y = _narrow(a), _narrow(b)
    return _product(spec, x, y, jnp.bfloat16 if narrow else jnp.float32), (x, y, _format(a), _format(b))


def _einsum_backward(spec: str, narrow: bool, residuals: tuple, g: Array) -> tuple[Array, Array]:
    x, y, a, b = residuals
    operands, result = spec.split("->")
    left, right = operands.split(",")
    g = _narrow(g)
    d_left = _product(f"{result},{right}->{left}", g, y, jnp.bfloat16)
    d_right = _product(f"{result},{left}->{right}", g, x, jnp.bfloat16)
    return d_left.astype(a.dtype), d_right.astype(b.dtype)


_einsum.defvjp(_einsum_forward, _einsum_backward)
