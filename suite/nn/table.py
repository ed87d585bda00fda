"""One table for all categorical fields. Dims: b batch, s values an example, n rows of the table, d width."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from suite.nn.ghost import gather

_NORMAL = nnx.initializers.normal(0.01)


class StackedTable(nnx.Module):
    """The rows of all fields end to end, so that one gather serves them all; a value is its row number in the stack.

    Training by rows (see `suite.training.optim.sparse_embeddings`) puts the rows of the batch, already gathered,
    in the table's place; the call then returns them as they are.

    Attributes:
        embedding: (rows, width), or (b, s, width) while training by rows.
    """

    def __init__(self, rows: int, width: int, *, rngs: nnx.Rngs, init: Callable = _NORMAL):
        self.embedding = nnx.Param(init(rngs.params(), (rows, width), jnp.float32))

    def __call__(self, ids: Int[Array, "b s"]) -> Float[Array, "b s d"]:
        """Rows ``ids``. A number outside the table, as padding has, gives some row: its weight must be 0."""
        table = self.embedding[...]
        return table if table.ndim > 2 else gather(table, ids)


def pooled(
    values: Float[Array, "b s d"], weights: Float[Array, "b w"], fields: int, lists: Sequence[int]
) -> Float[Array, "b f d"]:
    """One vector a column: those of the ``fields`` single values as they are, each list summed by its weights.

    Args:
        values: rows of the table, one of each field, then those of each list.
        weights: of the items of lists.
        fields: columns of single values.
        lists: items of each list.
    """
    if not lists:
        return values
    parts = [values[:, :fields]]
    for start, end in pairwise(accumulate(lists, initial=0)):
        many = values[:, fields + start : fields + end]
        parts.append((many * weights[:, start:end, None]).sum(1, keepdims=True))
    return jnp.concatenate(parts, 1)
