"""Accountant of differential privacy: what steps of the sampled Gaussian mechanism tell, and the noise that a budget
asks for. By dp-accounting, whose privacy loss distributions are tight and whose Rényi divergences are an upper bound.
"""

import functools
import logging
import math
from collections.abc import Callable
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
    # Little noise spreads the losses wide: a tenth of the values then costs a millionth of epsilon, which stays an
    # upper bound.
    interval = 1e-4 if noise >= 0.5 else 1e-3
    accountant = (
        accounting.pld.PLDAccountant(value_discretization_interval=interval)
        if kind == "pld"
        else accounting.rdp.RdpAccountant()
    )
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
    low = 0.7 * high
    while epsilon(low, rate, steps, delta) <= target and low > 1e-2:
        high, low = low, 0.7 * low
    return _least(lambda noise: epsilon(noise, rate, steps, delta) / target, low, high)


def _least(spent: Callable[[float], float], low: float, high: float) -> float:
    """The least noise that spends at most 1, to a share of `FINEST` above it; ``low`` spends more.

    What is spent is nearly a power of the noise, so that its logarithm is interpolated: each value costs seconds.
    """
    excess = lambda noise: math.log(min(max(spent(noise), 1e-300), 1e300))
    above, below = excess(low), excess(high)
    while below > 0:
        low, high, above, below = high, 2 * high, below, excess(2 * high)
    side = 0
    while high - low > FINEST * low:
        # Regula falsi of the Illinois kind, a third of the tolerance towards the end that has not moved, which then
        # moves, too.
        share = above / (above - below)
        middle = low * (high / low) ** share * (1 + FINEST / 3) ** (-1 if side < 0 else 1)
        middle = min(max(middle, low * (1 + FINEST / 3)), high / (1 + FINEST / 3))
        found = excess(middle)
        if found > 0:
            below /= 2 if side > 0 else 1
            low, above, side = middle, found, 1
        else:
            above /= 2 if side < 0 else 1
            high, below, side = middle, found, -1
    return high


def _bisected(enough: Callable[[float], bool], low: float, high: float, finest: float) -> float:
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
