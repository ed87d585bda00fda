"""Estimators of baselines, by the problem: linear for n-grams, a kernel for pictures and sounds, trees for tables.

Dims: b records, f features, c classes or labels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from suite.data.preprocessing.target_problem import Problem
from suite.distribution import missing

GRID = (1.0, 10.0)
"""Inverse strengths of regularisation that linear models choose from."""
TRIED = 5_000
"""Training records on which they choose."""
FOLDS = 3
ENOUGH = 500
"""Training records of which trees leave out a tenth, to know when to stop."""
RARE = 1e-6
"""Probability of a class that training doesn't have."""
SEED = 0


def require_sklearn(purpose: str = "for baselines") -> None:
    """Raises InputError: scikit-learn is not installed."""
    import importlib.util
    import sys

    if ("sklearn" in sys.modules and sys.modules["sklearn"] is None) or importlib.util.find_spec("sklearn") is None:
        raise missing("scikit-learn", purpose, "baseline")


class Estimator(ABC):
    """From features to what is predicted: probabilities (b, c), of ``binary`` and ``labels`` each by itself, or
    numbers (b,).

    Attributes:
        problem: what is predicted.
        outputs: c; of ``binary`` and ``number`` 1.
    """

    title: str

    def __init__(self, problem: Problem, outputs: int):
        self.problem, self.outputs = problem, outputs

    @abstractmethod
    def fit(self, x: Any, y: np.ndarray) -> str:
        """Fit to features (b, f) and targets: numbers (b,), classes (b,) or labels (b, c). Returns what was chosen."""

    @abstractmethod
    def predict(self, x: Any) -> np.ndarray:
        """Probabilities (b, c), or numbers (b,)."""

    def _spread(self, probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Probabilities (b, k) of the classes of training -> (b, c); of two classes (b, 1), of the second."""
        if self.problem == "binary":
            present = np.flatnonzero(classes == 1)
            return probabilities[:, present] if len(present) else np.zeros((len(probabilities), 1))
        whole = np.zeros((len(probabilities), self.outputs))
        whole[:, classes.astype(int)] = probabilities
        return whole


class Constant(Estimator):
    """The share of each class or label in training, or the mean number, whatever the record."""

    title = "constant"

    def __init__(self, problem: Problem, outputs: int, mean: Callable[[np.ndarray], float] | None = None):
        super().__init__(problem, outputs)
        self._mean = mean or np.mean

    def fit(self, x: Any, y: np.ndarray) -> str:
        if self.problem == "number":
            self._answer = self._mean(y)
        elif self.problem == "labels":
            self._answer = y.mean(0)
        else:
            classes, counts = np.unique(y, return_counts=True)
            self._answer = self._spread(counts[None] / counts.sum(), classes)[0]
        return ""

    def predict(self, x: Any) -> np.ndarray:
        return np.repeat(np.asarray(self._answer)[None], x.shape[0], 0)


class Linear(Estimator):
    """Logistic regression, one for each label of several, or ridge regression; regularisation by cross-validation."""

    @property
    def title(self) -> str:  # type: ignore[override]
        return "ridge regression" if self.problem == "number" else "logistic regression"

    def fit(self, x: Any, y: np.ndarray) -> str:
        tried = np.random.default_rng(SEED).permutation(x.shape[0])[:TRIED]
        scores = [self._cross_validated(x[tried], y[tried], strength) for strength in GRID]
        strength = GRID[int(np.argmax(scores))]
        self._models = self._fitted(x, y, strength)
        return f"{'1 / alpha' if self.problem == 'number' else 'C'} {strength:g}"

    def _cross_validated(self, x: Any, y: np.ndarray, strength: float) -> float:
        """How good it is on records left out: minus the squared error, or the share of right answers."""
        fold = np.arange(len(y)) % FOLDS
        right = []
        for held_out in range(min(FOLDS, len(y) - 1)):
            self._models = self._fitted(x[fold != held_out], y[fold != held_out], strength)
            said, wanted = self.predict(x[fold == held_out]), y[fold == held_out]
            if self.problem == "number":
                right.append(-np.square(said - wanted).mean())
            elif self.problem == "labels":
                right.append(-_log_loss(said, wanted))
            else:
                answers = said[:, 0] > 0.5 if self.problem == "binary" else said.argmax(1)
                right.append((answers == wanted).mean())
        return float(np.mean(right)) if right else 0.0

    def _fitted(self, x: Any, y: np.ndarray, strength: float) -> list[Any]:
        from sklearn.linear_model import Ridge

        if self.problem == "number":
            return [Ridge(alpha=1 / strength, random_state=SEED).fit(x, y)]
        return [_logistic(x, own, strength) for own in (y.T if self.problem == "labels" else [y])]

    def predict(self, x: Any) -> np.ndarray:
        if self.problem == "number":
            return np.asarray(self._models[0].predict(x))
        if self.problem == "labels":
            return np.stack([_of_one(model, x) for model in self._models], 1)
        return self._spread(self._models[0].predict_proba(x), self._models[0].classes_)


class Kernel(Estimator):
    """A support vector machine with a Gaussian kernel, its probabilities by a temperature; of several labels logistic
    regressions."""

    @property
    def title(self) -> str:  # type: ignore[override]
        return "logistic regression" if self.problem == "labels" else "support vector machine"

    def fit(self, x: Any, y: np.ndarray) -> str:
        from sklearn.svm import SVC, SVR

        self._temperature = 1.0
        if self.problem == "labels":
            self._linear = Linear(self.problem, self.outputs)
            return self._linear.fit(x, y)
        if self.problem == "number":
            self._mean, self._std = float(y.mean()), float(y.std()) or 1.0
            self._model = SVR(C=10).fit(x, (y - self._mean) / self._std)
            return "C 10"
        if len(np.unique(y)) > 1:
            aside = np.random.default_rng(SEED).random(len(y)) < 0.2
            if len(np.unique(y[~aside])) > 1 and aside.any():
                self._model = SVC(C=10).fit(x[~aside], y[~aside])
                self._temperature = self._coolest(x[aside], y[aside])
            self._model = SVC(C=10).fit(x, y)
        else:
            self._model = _logistic(x, y, 1.0)
        return f"C 10, temperature {self._temperature:.2g}"

    def _coolest(self, x: Any, y: np.ndarray) -> float:
        """The temperature of the lowest loss on records that were left out."""
        known = np.isin(y, self._model.classes_)
        places = np.searchsorted(self._model.classes_, y[known])
        margins, losses = self._margins(x[known]), {}
        for temperature in np.geomspace(0.02, 10, 28):
            chances = _softmax(margins / temperature)[np.arange(len(places)), places]
            losses[float(temperature)] = -np.log(np.maximum(chances, RARE)).mean()
        return min(losses, key=losses.__getitem__) if known.any() else 1.0

    def _margins(self, x: Any) -> np.ndarray:
        """How far records are on the side of each class of training (b, k)."""
        margins = self._model.decision_function(x)
        return np.stack([np.zeros(len(margins)), margins], 1) if margins.ndim == 1 else margins

    def predict(self, x: Any) -> np.ndarray:
        if self.problem == "labels":
            return self._linear.predict(x)
        if self.problem == "number":
            return self._model.predict(x) * self._std + self._mean
        single = isinstance(self._model, _One)
        chances = self._model.predict_proba(x) if single else _softmax(self._margins(x) / self._temperature)
        return self._spread(chances, self._model.classes_)


class Trees(Estimator):
    """Gradient boosting of trees over histograms, until a tenth of the training records is predicted no better."""

    title = "gradient boosting"

    def __init__(self, problem: Problem, outputs: int, categorical: np.ndarray):
        super().__init__(problem, outputs)
        self._categorical = categorical

    def fit(self, x: Any, y: np.ndarray) -> str:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        few = self.outputs > 20 or len(y) < ENOUGH  # of many classes each round is a tree a class
        settings: dict[str, Any] = {
            "max_iter": 100 if few else 400,
            "learning_rate": 0.1 if few else 0.06,
            "early_stopping": len(y) >= ENOUGH,
            "random_state": SEED,
            "categorical_features": self._categorical,
        }
        if self.problem == "number":
            self._model: Any = HistGradientBoostingRegressor(**settings).fit(x, y)
        elif len(np.unique(y)) < 2:
            self._model = _logistic(x, y, 1.0)
            return ""
        else:
            rarest = np.unique(y, return_counts=True)[1].min()
            if rarest < 10:  # a class that the tenth may not have
                settings.update(early_stopping=False, max_iter=100)
            self._model = HistGradientBoostingClassifier(**settings).fit(x, y)
        return f"{self._model.n_iter_} rounds"

    def predict(self, x: Any) -> np.ndarray:
        if self.problem == "number":
            return np.asarray(self._model.predict(x))
        return self._spread(self._model.predict_proba(x), self._model.classes_)


class _One:
    """A model of training records of one class."""

    def __init__(self, value: Any):
        self.classes_ = np.array([value])

    def predict_proba(self, x: Any) -> np.ndarray:
        return np.ones((x.shape[0], 1))


def _softmax(logits: np.ndarray) -> np.ndarray:
    chances = np.exp(logits - logits.max(1, keepdims=True))
    return chances / chances.sum(1, keepdims=True)


def _logistic(x: Any, y: np.ndarray, strength: float) -> Any:
    """Logistic regression on classes (b,)."""
    from sklearn.linear_model import LogisticRegression

    classes = np.unique(y)
    if len(classes) < 2:
        return _One(classes[0])
    model = LogisticRegression(C=strength, max_iter=200, random_state=SEED)
    with np.errstate(all="ignore"):
        import warnings

        with warnings.catch_warnings():  # where it has not converged it is no worse a baseline
            warnings.simplefilter("ignore")
            return model.fit(x, y)


def _of_one(model: Any, x: Any) -> np.ndarray:
    """Probability (b,) of 1 by a model of 0 and 1."""
    place = np.flatnonzero(model.classes_ == 1)
    return model.predict_proba(x)[:, place[0]] if len(place) else np.zeros(x.shape[0])


def _log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    clipped = np.clip(probabilities, RARE, 1 - RARE)
    return float(-(labels * np.log(clipped) + (1 - labels) * np.log(1 - clipped)).mean())
