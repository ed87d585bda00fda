"""Canonical correlation: linear maps of two kinds of vectors into one space, in closed form (host, float64).

Dims: n pairs, i and j widths, d width of the space.
"""

import numpy as np


def canonical_correlation(
    first: np.ndarray, second: np.ndarray, width: int, ridges: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Kernels and biases by which both sides of pairs correlate most (`Hotelling, 1936
    <https://doi.org/10.1093/biomet/28.3-4.321>`_), each direction scaled by its correlation.

    Args:
        first, second: (n, i) and (n, j).
        width: d; of fewer directions the others are zero.
        ridges: of each side, the share of its mean variance that is added to the variance of every feature.

    Returns:
        Kernel (i, d) and bias (d,) of the first side, and (j, d) and (d,) of the second, float32.
    """
    sides = [np.asarray(side, np.float64) for side in (first, second)]
    means = [side.mean(0) for side in sides]
    centred = [side - mean for side, mean in zip(sides, means, strict=True)]
    whitenings = [_inverse_root(side.T @ side / len(side), ridge) for side, ridge in zip(centred, ridges, strict=True)]
    cross = whitenings[0] @ (centred[0].T @ centred[1] / len(centred[0])) @ whitenings[1]
    left, correlations, right = np.linalg.svd(cross, full_matrices=False)
    rank = min(width, len(correlations))
    solution = []
    for whitening, directions, mean in zip(whitenings, (left, right.T), means, strict=True):
        kernel = np.zeros((len(mean), width))
        kernel[:, :rank] = whitening @ directions[:, :rank] * correlations[:rank]
        solution += [kernel.astype(np.float32), (-mean @ kernel).astype(np.float32)]
    return solution[0], solution[1], solution[2], solution[3]


def _inverse_root(covariance: np.ndarray, ridge: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(
        covariance + ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    )
    return (vectors / np.sqrt(values)) @ vectors.T
