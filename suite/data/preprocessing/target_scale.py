"""Scale of a numeric target: what a model learns instead of the number itself, and the way back.

A network learns a target of mean 0 and deviation 1 best. Where a few records are larger than all others together, the
squared errors are those of these records alone; a logarithm, or normal quantiles, spread the others out.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from suite.contracts.division import NumberScale
from suite.runtime import json_files

Scaling = Literal["standard", "log", "quantile"]
LARGEST = 1e100
"""Numbers beyond it are no targets: their squares cannot be summed."""
EXTREME_SKEW = 8.0
"""Skewness from which a number that is never negative is learnt on a logarithmic scale."""
QUANTILES = 501
"""Points of the stored distribution of a quantile scale."""
WIDEST = 5.2
"""Normal quantile of the outermost point: scikit-learn's QuantileTransformer ends there, too."""


@dataclass(frozen=True)
class Scale:
    """``(f(x) - mean) / std``: f is the identity, ``sign(x) log(1 + |x| / unit)``, or the normal quantile of x.

    Attributes:
        scaling: which f.
        mean: of f(x) over the training split.
        std: deviation of f(x), 1 where it is 0.
        low, high: least and largest training target. Where f is not the identity, no prediction lies farther beyond
            them than a tenth of their distance: an error of the model would be raised to a power there.
        unit: size of a typical target, for the logarithm.
        points: (q,) training quantiles, rising, of a quantile scale.
    """

    scaling: Scaling
    mean: float
    std: float
    low: float
    high: float
    unit: float = 1.0
    points: tuple[float, ...] = ()

    @classmethod
    def fit(cls, values: np.ndarray, scaling: Scaling) -> "Scale":
        """From the finite targets (n,) of the training split."""
        values = np.asarray(values, np.float64)
        unit = float(np.median(np.abs(values))) or 1.0
        points: tuple[float, ...] = ()
        if scaling == "quantile":
            points = tuple(np.quantile(values, np.linspace(0, 1, min(QUANTILES, len(values)))).tolist())
        bare = cls(scaling, 0.0, 1.0, float(values.min()), float(values.max()), unit, points)
        learnt = bare.scaled(values, np.float64)
        return cls(scaling, float(learnt.mean()), float(learnt.std()) or 1.0, bare.low, bare.high, unit, points)

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> "Scale":
        """As ``stored`` writes it."""
        scale = json_files.built(cls, stored)
        if not scale.std > 0 or (scale.scaling == "quantile" and not scale.points):
            raise ValueError("a scale without an extent")
        return scale

    @property
    def stored(self) -> dict[str, Any]:
        """The scale in JSON."""
        return asdict(self)

    @property
    def centre(self) -> float:
        """A raw number in the middle of the training targets."""
        return float(self.raw(np.zeros(1))[0])

    @property
    def explained(self) -> NumberScale:
        """How an explained prediction is read: attributions add up in the target's unit where f is the identity."""
        if self.scaling == "standard":
            return NumberScale(self.std, self.mean)
        return NumberScale(of="the standardised logarithm" if self.scaling == "log" else "the standardised quantile")

    def scaled(self, values: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
        """What the model learns (n,) of raw numbers (n,); nan stays nan."""
        values = np.asarray(values, np.float64)
        if self.scaling == "log":
            values = np.sign(values) * np.log1p(np.abs(values) / self.unit)
        elif self.scaling == "quantile":
            beyond = self._beyond(values, self.low, self.high) / ((self.high - self.low) or 1.0)
            values = np.interp(values, *self._points()) + beyond
        return ((values - self.mean) / self.std).astype(dtype)

    def raw(self, scaled: np.ndarray, bounded: bool = True) -> np.ndarray:
        """Raw numbers (...) float64 of what the model says (...).

        Args:
            scaled: predictions, or targets.
            bounded: whether they are predictions, which are kept near the training targets where f is not the identity.
        """
        values = np.asarray(scaled, np.float64) * self.std + self.mean
        if self.scaling == "standard":
            return values
        if self.scaling == "log":
            values = np.sign(values) * self.unit * np.expm1(np.minimum(np.abs(values), 300.0))
        else:
            points, normal = self._points()
            beyond = self._beyond(values, normal[0], normal[-1]) * ((self.high - self.low) or 1.0)
            values = np.interp(values, normal, points) + beyond
        room = 0.1 * (self.high - self.low)
        return np.clip(values, self.low - room, self.high + room) if bounded else values

    @staticmethod
    def _beyond(values: np.ndarray, low: float, high: float) -> np.ndarray:
        """How far values (n,) lie outside of an interval, below 0 under it; nan of nan."""
        return values - np.clip(values, low, high)

    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct raw numbers, rising, and the normal quantile of each."""
        points, first, counts = np.unique(np.array(self.points), return_index=True, return_counts=True)
        middle = (first + (counts - 1) / 2) / max(len(self.points) - 1, 1)
        return points, normal_quantiles(middle)


def normal_quantiles(shares: np.ndarray) -> np.ndarray:
    """Quantiles (n,) of the standard normal distribution at shares (n,) of it, within ``WIDEST`` of 0."""
    from statistics import NormalDist

    edge = NormalDist().cdf(-WIDEST)
    quantile = NormalDist().inv_cdf
    return np.array([quantile(min(max(float(share), edge), 1 - edge)) for share in shares])


def skewness(values: np.ndarray) -> float:
    """Third standardised moment; 0 of equal numbers."""
    deviations = np.asarray(values, np.float64) - np.mean(values)
    spread = deviations.std()
    return float(((deviations / spread) ** 3).mean()) if spread else 0.0


def usual_scaling(values: np.ndarray) -> tuple[Scaling, str]:
    """The scale that a number is learnt on where none is stated, and why; no reason for the number as it is."""
    skew = skewness(values)
    if skew >= EXTREME_SKEW and values.min() >= 0:
        return "log", f"few records are far larger than the others (skewness {skew:.1f})"
    return "standard", ""
