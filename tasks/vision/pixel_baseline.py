"""Gaussian of pixels: the least model of pictures, to compare with. Dims: b pictures, p pixels times channels."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from suite.contracts.baseline import Baseline, Rows
from suite.contracts.batch import Columns


class GaussianPixels(Baseline):
    """A normal distribution with the mean and covariance of the training pictures' pixels, from which each record has a
    picture drawn by a seed."""

    most = 20_000

    def __init__(self, compared: Callable[[Any, Any], Mapping[str, Any]], seed: int):
        """``compared``: (pictures uint8 (b, h, w, c), batch) -> what a task says of them."""
        self._compared, self._seed = compared, seed
        self._kept: list[np.ndarray] = []
        self._mean = self._spread = np.zeros(0)
        self._drawn = 0

    def add(self, columns: Columns, rows: Rows) -> None:
        images = np.asarray(rows["image"])
        self._kept.append(images.reshape(len(images), -1))

    def fit(self) -> str:
        pixels = np.concatenate(self._kept).astype(np.float32)
        self._mean = pixels.mean(0)
        centred = (pixels - self._mean) / np.sqrt(max(len(pixels) - 1, 1))
        if centred.shape[0] > centred.shape[1]:  # of more pictures than pixels a root of the covariance is smaller
            values, vectors = np.linalg.eigh(centred.T @ centred)
            centred = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
        self._spread = centred
        self._kept = []
        return f"mean and covariance of {len(self._mean):,} pixels"

    def outputs(self, columns: Columns, rows: Rows) -> dict[str, np.ndarray]:
        images = np.asarray(rows["image"])
        rng = np.random.default_rng((self._seed, self._drawn))
        self._drawn += len(images)
        drawn = self._mean + rng.standard_normal((len(images), len(self._spread)), np.float32) @ self._spread
        made = np.clip(np.round(drawn), 0, 255).astype(np.uint8).reshape(images.shape)
        batch = {name: np.asarray(value) for name, value in rows.items()}
        return {name: np.asarray(value) for name, value in self._compared(made, batch).items()}
