"""Attention on a CPU: rows and heads are one axis of both products, and what hides keys is added to the scores.

Two products with a softmax between them are one operation of XLA's CPU backend (jaxlib 0.10), which is two to three
times as fast with a single axis of rows. A choice between scores and a constant would part it. Where nobody asks for
the weights, the sums are divided and not they: for long rows that is two to three times as fast again.

Dims: see `suite.nn.attention`; n = b * g, m = r * q.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

Product = Callable[[str, Array, Array], Array]
"""Of an einsum's description and two arrays."""


def attend(
    product: Product,
    hidden: float,
    layout: str,
    weigh: Callable[[Array], Array] | None,
    q: Float[Array, "b q h k"],
    k: Array,
    v: Array,
    visible: Bool[Array, "#b 1 #q s"] | None,
    bias: Float[Array, "#b h q s"] | None,
) -> Float[Array, "b q h k"]:
    """Values averaged by the softmax of ``q . k + bias`` over the keys that are visible.

    Args:
        product: of two arrays of three axes.
        hidden: added to the score of a key that is not visible.
        layout: axes of keys and values, ``"bsgk"`` or ``"bgsk"``.
        weigh: what the weights (b, h, q, s) go through; None for nothing.
        q, k, v, visible, bias: see `suite.nn.attention.attend`; queries are scaled.
    """
    q = q.swapaxes(1, 2)
    k, v = (x.swapaxes(1, 2) if layout == "bsgk" else x for x in (k, v))
    b, h, asked, size = q.shape
    g, s = k.shape[1:3]
    shape = b, h, asked, s
    scores = product("nmk,nsk->nms", q.reshape(b * g, h // g * asked, size), k.reshape(b * g, s, size))
    added = partial(_added, shape=shape, groups=g)
    if bias is not None:
        scores = scores + added(bias)
    if visible is not None:
        scores = scores + added(jnp.where(visible, 0, hidden).astype(scores.dtype))
    values = v.reshape(b * g, s, size)
    if weigh is not None:
        weights = weigh(jax.nn.softmax(scores, -1).reshape(shape)).reshape(scores.shape)
        mixed = product("nms,nsk->nmk", weights, values)
    else:
        parts = jnp.exp(scores - lax.stop_gradient(scores.max(-1, keepdims=True)))
        mixed = product("nms,nsk->nmk", parts, values) / parts.sum(-1, keepdims=True)
    return mixed.reshape(q.shape).swapaxes(1, 2)


def _added(
    values: Float[Array, "#b #h #q s"], shape: tuple[int, int, int, int], groups: int
) -> Float[Array, "#n #m s"]:
    """Values for the scores of such a shape (b, h, q, s), as they are added to scores (n, m, s): repeated only where an
    axis of theirs is part of one here."""
    b, h, asked, s = shape
    rows, heads, places, _ = values.shape
    shared = h // groups  # heads that read one key, laid beside the tokens that ask
    if rows == heads == 1 and (shared == 1 or places == 1):
        return values.reshape(1, places, s)
    if heads == 1 and places == 1:
        return jnp.broadcast_to(values, (b, groups, 1, s)).reshape(b * groups, 1, s)
    return jnp.broadcast_to(values, shape).reshape(b * groups, shared * asked, s)
