"""Assignment: each row of a table of costs gets a column of its own, so that the sum of the costs is least.

Dims: r rows, c columns, r at most c.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int


class _Matching(NamedTuple):
    """What is assigned so far, and the dual variables that prove it the best."""

    by_row: Float[Array, "r"]
    by_column: Float[Array, "c"]
    column_of: Int[Array, "r"]
    row_of: Int[Array, "c"]


class _Search(NamedTuple):
    """The shortest path from a row to a column that is free, as far as it is known."""

    distances: Float[Array, "c"]
    before: Int[Array, "c"]
    reached: Bool[Array, "c"]
    row: Int[Array, ""]
    length: Float[Array, ""]
    free: Int[Array, ""]


def assign(costs: Float[Array, "r c"], rows: Bool[Array, "r"] | None = None) -> Int[Array, "r"]:
    """The column of each row, all different, with the least sum of costs; -1 where ``rows`` is False.

    Shortest augmenting paths (Jonker & Volgenant, 1987, as in
    `Crouse, 2016 <https://doi.org/10.1109/TAES.2016.140952>`_), with static shapes: it runs under jit and vmap and on
    every device. The time grows with r squared times c at worst.

    Args:
        costs: finite; nobody learns through them.
        rows: which rows get a column; None: all.

    Raises:
        ValueError: more rows than columns.
    """
    n, m = costs.shape
    if n > m:
        raise ValueError(f"{n} rows, and {m} columns to assign them to")
    costs = lax.stop_gradient(costs).astype(jnp.float32)
    wanted = jnp.ones(n, bool) if rows is None else rows
    nothing = jnp.full(n, -1), jnp.full(m, -1)
    start = _Matching(jnp.zeros(n), jnp.zeros(m), *nothing)
    return lax.fori_loop(0, n, lambda row, matching: _with_row(costs, wanted[row], row, matching), start).column_of


def _with_row(costs: Array, wanted: Array, row: Array, matching: _Matching) -> _Matching:
    """The best assignment of one row more."""
    m = costs.shape[1]
    start = _Search(
        jnp.full(m, jnp.inf), jnp.full(m, -1), jnp.zeros(m, bool), row, jnp.float32(0), jnp.where(wanted, -1, m)
    )
    search = lax.while_loop(lambda search: search.free < 0, lambda search: _further(costs, matching, search), start)
    # The duals are moved so that the path costs nothing.
    shorter = jnp.where(search.reached, search.length - search.distances, 0.0)
    assigned = matching.column_of >= 0
    by_row = matching.by_row + jnp.where(assigned, shorter[matching.column_of], 0.0)
    moved = matching._replace(by_row=by_row.at[row].add(search.length), by_column=matching.by_column - shorter)
    return _along(search, row, moved)


def _further(costs: Array, matching: _Matching, search: _Search) -> _Search:
    """The nearest column that is not reached yet, and the row that has it."""
    reduced = search.length + costs[search.row] - matching.by_row[search.row] - matching.by_column
    nearer = ~search.reached & (reduced < search.distances)
    distances = jnp.where(nearer, reduced, search.distances)
    column = jnp.argmin(jnp.where(search.reached, jnp.inf, distances))
    owner = matching.row_of[column]
    return _Search(
        distances,
        jnp.where(nearer, search.row, search.before),
        search.reached.at[column].set(True),
        jnp.where(owner < 0, search.row, owner),
        distances[column],
        jnp.where(owner < 0, column, -1),
    )


def _along(search: _Search, row: Array, matching: _Matching) -> _Matching:
    """Each row of the path gets the column that it leads to."""
    m = search.reached.shape[0]

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        column, column_of, row_of = state
        owner = search.before[column]
        given = column_of[owner]
        return jnp.where(owner == row, m, given), column_of.at[owner].set(column), row_of.at[column].set(owner)

    start = search.free, matching.column_of, matching.row_of
    _, column_of, row_of = lax.while_loop(lambda state: state[0] < m, step, start)
    return matching._replace(column_of=column_of, row_of=row_of)
