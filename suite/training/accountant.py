"""Accountant of differential privacy: what steps of the sampled Gaussian mechanism tell, and the noise that a budget
asks for. By dp-accounting, whose privacy loss distributions are tight and whose Rényi divergences are an upper bound.
"""

import functools
import logging
import math
from typing import Any

from suite.distribution import missing

FINEST = 1e-3
"""Noise multipliers are found to this share of themselves."""


def epsilon(noise: float, rate: float, steps: int, delta: float) -> float:
    """Epsilon of ``steps`` steps by privacy loss distributions (`Koskela et al., 2020
    <https://arxiv.org/abs/1906.03049>`_); neighbours differ by one unit, added or removed.

    Args:
        noise: standard deviation of the noise in units of the clipping norm.
        rate: probability that a unit is in a batch.
        steps: taken.
        delta: probability that they tell more.

    Raises:
        InputError: dp-accounting is not installed.
    """
    return _epsilon("pld", noise, rate, steps, delta)


def renyi_epsilon(noise: float, rate: float, steps: int, delta: float) -> float:
    """The same by Rényi divergences (`Mironov et al., 2019 <https://arxiv.org/abs/1908.10530>`_): never below it."""
    return _epsilon("rdp", noise, rate, steps, delta)


@functools.lru_cache(maxsize=256)
def _epsilon(kind: str, noise: float, rate: float, steps: int, delta: float) -> float:
    if steps == 0:
        return 0.0
    if noise == 0:
        return math.inf
    accounting = _accounting()
    accountant = accounting.pld.PLDAccountant() if kind == "pld" else accounting.rdp.RdpAccountant()
    step = accounting.PoissonSampledDpEvent(rate, accounting.GaussianDpEvent(noise))
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)  # of orders that do not converge and are left out, which loosens the bound a little
    try:
        return float(accountant.compose(step, steps).get_epsilon(delta))
    finally:
        absl.setLevel(level)


def solve_noise(target: float, rate: float, steps: int, delta: float) -> float:
    """The least noise multiplier whose epsilon is at most ``target``, to a share of `FINEST` above it.

    Raises:
        InputError: dp-accounting is not installed.
    """
    # Rényi divergences cost a tenth and are above the true value, so that what they allow bounds the search.
    high = _bisected(lambda noise: renyi_epsilon(noise, rate, steps, delta) <= target, 0.1, 1.0, 0.05)
    low = high / 2
    while epsilon(low, rate, steps, delta) <= target and low > 1e-3:
        high, low = low, low / 2
    return _bisected(lambda noise: epsilon(noise, rate, steps, delta) <= target, low, high, FINEST)


def _bisected(enough: Any, low: float, high: float, finest: float) -> float:
    """A value that is enough, and at most a share of ``finest`` above one that is not."""
    while not enough(high):
        low, high = high, 2 * high
    while high - low > finest * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def steps_within(target: float, noise: float, rate: float, most: int, delta: float) -> int:
    """How many of ``most`` steps epsilon stays at or below ``target`` for."""
    if epsilon(noise, rate, most, delta) <= target:
        return most
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if epsilon(noise, rate, middle, delta) <= target else (low, middle - 1)
    return low


def _accounting() -> Any:
    try:
        import dp_accounting
        from dp_accounting import pld, rdp  # noqa: F401 (submodules)
    except ImportError as error:
        raise missing("dp-accounting", "to account for private training", "privacy") from error
    return dp_accounting
