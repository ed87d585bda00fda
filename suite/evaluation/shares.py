"""Intervals of shares: how many of so many records."""

import numpy as np


def wilson(shares: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The 95 % interval of each share (`Wilson, 1927, doi:10.1080/01621459.1927.10502953`).

    Args:
        shares: (n,), from 0 to 1.
        counts: (n,), of how many records each is.

    Returns:
        (n, 2) lower and upper ends.
    """
    z = 1.96
    middle = (shares + z**2 / (2 * counts)) / (1 + z**2 / counts)
    reach = z * np.sqrt(shares * (1 - shares) / counts + (z / (2 * counts)) ** 2) / (1 + z**2 / counts)
    return np.clip(np.stack([middle - reach, middle + reach], -1), 0.0, 1.0)
