"""Classical baselines of a task that predicts a number, classes or labels: by its inputs and its problem."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from suite.baselines import cells, pictures, sounds
from suite.baselines.estimators import RARE, Constant, Estimator, Kernel, Linear, Problem, Trees, require_sklearn
from suite.baselines.features import Feature, features_of, has_feature
from suite.baselines.texts import Texts, pair_features
from suite.contracts.baseline import Baseline, Rows
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec

__all__ = ["cells", "pictures", "sounds"]  # loaded for the features that they register
Answer = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Probabilities (b, c) or numbers (b,) -> outputs in the form of `Task.evaluate`."""

Mean = Callable[[np.ndarray], float]

MOST_COUNTS, MOST_DENSE, MOST_CELLS = 100_000, 20_000, 500_000
"""Training records that a linear model, a kernel and trees are fitted to at most: about a minute on two cores."""


class Classical(Baseline):
    """Features of the inputs, and one estimator for what they suit.

    Args:
        codec: whose inputs are read.
        problem: what is predicted.
        outputs: classes or labels; 1 of a number and of two classes that have one output.
        target: of the encoded rows what is to be predicted.
        answer: makes outputs of predictions.
    """

    def __init__(self, codec: Codec, problem: Problem, outputs: int, target: str, answer: Answer):
        self._codec, self._features = codec, features_of(codec)
        self._problem, self._outputs = problem, outputs
        self._target, self._answer = target, answer
        forms = {feature.form for feature in self._features}
        self._form = forms.pop() if len(forms) == 1 else "cells"
        if self._form == "cells" and problem == "labels":  # a label is a problem of its own, which trees are slow at
            self._form = "counts"
        self.most = {"counts": MOST_COUNTS, "dense": MOST_DENSE, "cells": MOST_CELLS}[self._form]
        self._read: list[list[Any]] = [[] for _ in self._features]
        self._targets: list[np.ndarray] = []
        self._estimator: Estimator | None = None

    @property
    def title(self) -> str:
        """Features and estimator, in words."""
        kinds = {type(feature) for feature in self._features}
        if self._form == "counts":
            first = "tf-idf" if kinds == {Texts} else "tf-idf and columns" if Texts in kinds else "binned columns"
        elif self._form == "dense":
            named = {pictures.Pictures: "pixels", sounds.Sounds: "log-mel statistics"}
            first = " and ".join(name for kind, name in named.items() if kind in kinds) or "features"
        else:
            first = ""
        estimator = self._made(np.zeros(0, bool)).title
        return f"{first} + {estimator}" if first else estimator

    def _made(self, categorical: np.ndarray) -> Estimator:
        if self._form == "counts":
            return Linear(self._problem, self._outputs)
        if self._form == "dense":
            return Kernel(self._problem, self._outputs)
        return Trees(self._problem, self._outputs, categorical)

    def add(self, columns: Columns, rows: Rows) -> None:
        if not self._targets:  # before all records are read
            require_sklearn()
        columns = self._codec.opened(columns)
        for feature, values in zip(self._features, self._read, strict=True):
            values.extend(feature.read(columns, rows))
        self._targets.append(np.asarray(rows[self._target]))

    def fit(self) -> str:
        kept, y = self._read, np.concatenate(self._targets)
        if self._is_pair:
            first, second = self._features
            learnt = [first.fit([*kept[0], *kept[1]])]
            self._features[1] = _renamed(first, second)
        else:
            learnt = [feature.fit(values) for feature, values in zip(self._features, kept, strict=True)]
        x = self._matrix(kept)
        self._estimator = self._made(self._categorical(kept))
        return ", ".join(part for part in (*learnt, self._estimator.fit(x, y)) if part)

    @property
    def _is_pair(self) -> bool:
        return self._form == "counts" and len(self._features) == 2 and all(type(f) is Texts for f in self._features)

    def _matrix(self, values: list[list[Any]]) -> Any:
        read = list(zip(self._features, values, strict=True))
        if self._form == "cells":
            return np.concatenate([feature.cells(own) for feature, own in read], 1)
        if self._form == "dense":
            return np.concatenate([feature.matrix(own) for feature, own in read], 1)
        from scipy.sparse import csr_matrix, hstack

        parts = [csr_matrix(feature.counts(own)) for feature, own in read]
        return pair_features(*parts) if self._is_pair else hstack(parts, format="csr")

    def _categorical(self, values: list[list[Any]]) -> np.ndarray:
        """Which features of ``cells`` are codes of categories."""
        if self._form != "cells":
            return np.zeros(0, bool)
        widths = [feature.cells(own[:1]).shape[1] for feature, own in zip(self._features, values, strict=True)]
        return np.concatenate([np.repeat(f.categorical, n) for f, n in zip(self._features, widths, strict=True)])

    def outputs(self, columns: Columns, rows: Rows) -> dict[str, np.ndarray]:
        assert self._estimator is not None, "fit comes first"
        columns = self._codec.opened(columns)
        return self._answer(
            self._estimator.predict(self._matrix([list(f.read(columns, rows)) for f in self._features]))
        )


def _renamed(fitted: Feature, other: Feature) -> Feature:
    """A feature of another column, with the vocabulary of one that is fitted."""
    other.__dict__.update({key: value for key, value in vars(fitted).items() if key != "name"})
    return other


class Prior(Baseline):
    """The same answer to every record: shares of the classes in training, or the mean number.

    Args:
        mean: of targets (n,), where a plain one on the scale that is learnt is not the number's own.
        problem, outputs, target, answer: as of `Classical`.
    """

    def __init__(self, problem: Problem, outputs: int, target: str, answer: Answer, mean: Mean | None = None):
        self._estimator, self._target, self._answer = Constant(problem, outputs, mean), target, answer
        self._targets: list[np.ndarray] = []

    def add(self, columns: Columns, rows: Rows) -> None:
        self._targets.append(np.asarray(rows[self._target]))

    def fit(self) -> str:
        return self._estimator.fit(None, np.concatenate(self._targets))

    def outputs(self, columns: Columns, rows: Rows) -> dict[str, np.ndarray]:
        return self._answer(self._estimator.predict(np.zeros((len(rows[self._target]), 0))))


def classical(
    codec: Codec, problem: Problem, outputs: int, target: str, answer: Answer, mean: Mean | None = None
) -> Mapping[str, Baseline]:
    """By title: the constant answer, then the strongest cheap model of these inputs; arguments as of `Classical` and
    `Prior`. Empty where no input has features."""
    if not any(map(has_feature, codec.inputs)):
        return {}
    names: dict[Problem, str] = {"number": "mean", "labels": "frequency of each label"}
    strongest = Classical(codec, problem, outputs, target, answer)
    return {
        names.get(problem, "most frequent class"): Prior(problem, outputs, target, answer, mean),
        strongest.title: strongest,
    }


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Logits of independent probabilities."""
    clipped = np.clip(probabilities, RARE, 1 - RARE)
    return np.log(clipped) - np.log1p(-clipped)


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Logits (b, c) of classes."""
    return np.log(np.maximum(probabilities, RARE))
