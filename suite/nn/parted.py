"""A model applied to a batch part by part, for losses over the whole batch that need the memory of a part alone."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from suite.nn.rngs import streams


def in_parts(
    model: Any,
    call: Callable[[Any, dict[str, jax.Array], nnx.Rngs | None], jax.Array],
    batch: Any,
    parts: int,
    key: Any,
) -> jax.Array:
    """``call(model, batch, rngs)``, of the rows of a batch, part by part in their order.

    The backward pass computes each part again, so no more than the activations of one part are held, and the gradient
    is that of the whole batch (`Gao et al., 2021 <https://arxiv.org/abs/2101.06983>`_). Batch norms normalise by the
    statistics of a part, and their running averages see one part after the other.

    Args:
        model: variables that ``call`` changes, such as running statistics, are changed.
        call: gives one row for each row.
        batch: arrays (b, ...), b a multiple of ``parts``.
        parts: how many; 1 is a plain call.
        key: of dropout; None: the model does not train.
    """
    rngs = lambda key: None if key is None else streams(dropout=key)
    if parts == 1:
        return call(model, batch, rngs(key))
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.checkpoint
    def one(params: Any, rest: Any, part: Any, key: Any) -> tuple[Any, jax.Array]:
        copy = nnx.merge(graph, params, rest)
        rows = call(copy, part, rngs(key))
        return nnx.state(copy, nnx.Not(nnx.Param)), rows

    keys = None if key is None else jax.random.split(key, parts)
    split = jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), batch)
    rest, rows = jax.lax.scan(lambda rest, item: one(params, rest, *item), rest, (split, keys))
    nnx.update(model, rest)
    return rows.reshape(-1, *rows.shape[2:])
