"""Weights between items in closed form, from who had what. Dims: u users, n items."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BLOCK = 1024
"""Items whose products with all others are held at a time."""


def ease(had: "csr_matrix", strength: float) -> np.ndarray:
    """The weights (n, n) float64 with a zero diagonal by which users' items are best said by their others, in least
    squares with the penalty ``strength`` on the sum of the squared weights (`Steck, 2019
    <https://arxiv.org/abs/1905.03375>`_): one Cholesky decomposition, in place.

    Args:
        had: (u, n), 1 where a user had an item.
        strength: more than 0.
    """
    from scipy.linalg.lapack import dpotrf, dpotri

    transposed, size = had.T.tocsr(), had.shape[1]
    gram: Any = np.empty((size, size), np.float64, order="F")
    for start in range(0, size, BLOCK):
        gram[start : start + BLOCK] = (transposed[start : start + BLOCK] @ had).toarray()
    gram[np.diag_indices_from(gram)] += strength
    factor, failed = dpotrf(gram, lower=1, overwrite_a=1)
    if not failed:
        inverse, failed = dpotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise ArithmeticError(f"the matrix of {size:,} items has no Cholesky decomposition")
    for start in range(0, size, BLOCK):  # dpotri leaves the upper triangle as it was
        stop = min(start + BLOCK, size)
        inverse[start:stop, stop:] = inverse[stop:, start:stop].T
        square = inverse[start:stop, start:stop]
        square[...] = np.tril(square) + np.tril(square, -1).T
    inverse /= -np.diag(inverse)[None, :].copy()
    inverse[np.diag_indices_from(inverse)] = 0
    return inverse


def filter_blocks(
    had: "csr_matrix", user_power: float = 0.5, history_power: float = 0.5, candidate_power: float = 0.5
) -> Iterator[tuple[int, "csr_matrix"]]:
    """The product of the normalised matrix with itself, D_i^-q had' D_u^-2p had D_i^-s, which lets through what varies
    slowly between items that the same users had (`Shen et al., 2021 <https://arxiv.org/abs/2108.07567>`_): rows
    (`BLOCK`, n) at a time, each with the number of its first. Rows are items of a history, columns what is ranked.

    Args:
        had: (u, n), 1 where a user had an item.
        user_power, history_power, candidate_power: p, q and s, by which those with many entries count less.
    """
    from scipy.sparse import diags

    users, items = (np.maximum(np.asarray(had.sum(axis)).ravel(), 1) for axis in (1, 0))
    shared = diags(users**-user_power) @ had
    normalised = (shared @ diags(items**-candidate_power)).tocsr().astype(np.float32)
    transposed = (shared @ diags(items**-history_power)).T.tocsr().astype(np.float32)
    for start in range(0, had.shape[1], BLOCK):
        yield start, (transposed[start : start + BLOCK] @ normalised).tocsr()


def largest(start: int, rows: "csr_matrix | np.ndarray", most: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (r, most) int64 and values (r, most) float32 of the largest entries of each row, falling, the diagonal
    left out; 0 both where a row has fewer.

    Args:
        start: number of the first of the rows.
        rows: (r, n).
        most: entries kept.
    """
    from scipy.sparse import csr_matrix

    sparse = csr_matrix(rows)
    numbers, values = np.zeros((sparse.shape[0], most), np.int64), np.zeros((sparse.shape[0], most), np.float32)
    for row in range(sparse.shape[0]):
        begin, end = sparse.indptr[row : row + 2]
        number, value = sparse.indices[begin:end], sparse.data[begin:end]
        number, value = number[number != start + row], value[number != start + row]
        if len(number) > most:
            kept = np.argpartition(-value, most - 1)[:most]
            number, value = number[kept], value[kept]
        order = np.lexsort((number, -value))
        numbers[row, : len(order)], values[row, : len(order)] = number[order], value[order]
    return numbers, values


def gigabytes(items: int) -> float:
    """Memory that `ease` takes at its most: the matrix in double precision, and the weights in single."""
    return math.ceil(1.2e-8 * items**2 * 10) / 10
