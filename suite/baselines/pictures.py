"""Pictures as principal components of their pixels, scaled to a small size."""

from typing import Any

import numpy as np

from suite.baselines.features import Feature, Values, column, register_feature, size
from suite.contracts.baseline import Rows
from suite.contracts.batch import Columns
from suite.data.preprocessing.image import decode
from suite.data.reading import is_missing

SIDE = 28
"""Height and width in pixels that pictures are scaled down to."""
COMPONENTS = 100
"""Principal components that are kept."""


class Pictures(Feature):
    """Pixels of a small version of the picture, in colour where training has colours."""

    form = "dense"

    def read(self, columns: Columns, rows: Rows) -> list[np.ndarray]:
        encoded = rows.get(self.name)
        if isinstance(encoded, np.ndarray) and encoded.dtype == np.uint8 and encoded.ndim == 4:
            values: Values = encoded  # decoded already
        else:
            values = column(columns, self.name, size(columns))
        return [_small(value) for value in values]

    def fit(self, values: Values) -> str:
        from sklearn.decomposition import PCA

        self._grey = all(_is_grey(picture) for picture in values)
        pixels = self._pixels(values)
        self._analysis = PCA(min(COMPONENTS, *pixels.shape), random_state=0, svd_solver="randomized").fit(pixels)
        kept = self._analysis.explained_variance_ratio_.sum()
        return (
            f"{self._analysis.n_components_} components of {SIDE} x {SIDE} pixels, {100 * kept:.0f} % of the variance"
        )

    def matrix(self, values: Values) -> np.ndarray:
        return self._analysis.transform(self._pixels(values))

    def _pixels(self, values: Values) -> np.ndarray:
        shown = np.stack(values)
        shown = shown[..., :1] if self._grey else shown
        return shown.reshape(len(shown), -1).astype(np.float32) / 255


def _small(value: Any) -> np.ndarray:
    """A picture as uint8 (h, w, 3); white where there is none."""
    if is_missing(value):
        return np.full((SIDE, SIDE, 3), 255, np.uint8)
    return decode(value, (SIDE, SIDE), 3)


def _is_grey(picture: np.ndarray) -> bool:
    return bool((picture[..., 0] == picture[..., 1]).all() and (picture[..., 0] == picture[..., 2]).all())


register_feature("image", Pictures)
