"""table.predict against boosted trees with their defaults, on the same rows of seven tables.

command:  python -m benchmarks.tables --seeds 0 1 2 [--tables diamonds hdma] [--models ours histgb lightgbm]

Each seed draws 20 % of the rows for the test. The trees learn from all other rows; of these the network holds out a
tenth of all for its validation split, which ends its training and chooses its checkpoint. Nothing is tuned on the test
rows. Needs SUITE_DATA, and for ``lightgbm`` the package of that name (MIT). ``autogluon`` is run by the Python of
an environment of its own: ``pip install "autogluon.tabular[lightgbm,catboost,xgboost]"``.
"""

import argparse
import csv
import gzip
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

MINUTES = 2
"""Of AutoGluon's training."""
GENRES = ("Action", "Animation", "Comedy", "Drama", "Documentary", "Romance", "Short")


@dataclass(frozen=True)
class Problem:
    """A table and what is predicted of it.

    Attributes:
        file: of ``SUITE_DATA/tables``.
        target: the column.
        kind: "number", "binary" or "labels".
        without: columns that tell the target, and are left out.
        texts: columns that trees cannot read.
    """

    file: str
    target: str
    kind: str
    without: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


PROBLEMS = {
    "diamonds": Problem("diamonds", "price", "number"),
    "computers": Problem("Computers", "price", "number"),
    "forbes": Problem("Forbes2000", "marketvalue", "number", texts=("name",)),
    "hdma": Problem("Hdma", "deny", "binary"),
    "flchain": Problem("flchain", "death", "binary", without=("futime", "chapter")),
    "movies": Problem("movies", "rating", "number", without=tuple(f"r{i}" for i in range(1, 11)), texts=("title",)),
    "genres": Problem(
        "movies", "genres", "labels", without=("rating", *(f"r{i}" for i in range(1, 11)), *GENRES), texts=("title",)
    ),
}
Rows = list[dict[str, str]]
Scores = dict[str, float]


def rows_of(problem: Problem) -> Rows:
    """The rows of a table without the nameless index in front and what is left out; "NA" is a gap."""
    path = Path(os.environ["SUITE_DATA"]) / "tables" / f"{problem.file}.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = [{key: value for key, value in row.items() if key} for row in csv.DictReader(file)]
    rows = [{key: "" if value == "NA" else value for key, value in row.items()} for row in rows]
    if problem.target == "genres":
        rows = [{**row, "genres": "|".join(name for name in GENRES if row[name] == "1")} for row in rows]
    rows = [row for row in rows if row[problem.target]]
    return [{key: value for key, value in row.items() if key not in problem.without} for row in rows]


def parts_of(rows: Rows, seed: int) -> dict[str, Rows]:
    """70 % to learn from, 10 % to choose by, 20 % for the test."""
    order = np.random.default_rng(seed).permutation(len(rows))
    fifth, tenth = len(rows) // 5, len(rows) // 10
    places = {"test": order[:fifth], "validation": order[fifth : fifth + tenth], "train": order[fifth + tenth :]}
    return {name: [rows[place] for place in chosen] for name, chosen in places.items()}


def ours(problem: Problem, parts: dict[str, Rows], seed: int) -> Scores:
    """`suite train table.predict`, with no flag but the data and the target."""
    import suite
    from suite.data.sources.datasets import from_path
    from suite.experiment import recipes, sections

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        for name, rows in parts.items():
            with open(data / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        changes: dict[str, Any] = {
            "task.data": from_path(str(data)),
            "task.target": problem.target,
            "train.seed": seed,
            "train.loggers": (),
            "train.baseline": False,  # the trees of this script are
        }
        experiment = sections.replace(recipes.load("table.predict"), changes)
        run = suite.train(experiment, Path(folder) / "run")
        metrics = suite.evaluate(run.folder, "test").metrics
    return {name.removeprefix("test/"): value for name, value in metrics.items()}


def trees(make: Callable[[str], Any]) -> Callable[[Problem, dict[str, Rows], int], Scores]:
    """Boosted trees: numbers as they are, categories as categories, no texts."""

    def scores(problem: Problem, parts: dict[str, Rows], seed: int) -> Scores:
        import pandas

        train, test = pandas.DataFrame([*parts["train"], *parts["validation"]]), pandas.DataFrame(parts["test"])
        train, test = (frame.drop(columns=list(problem.texts)) for frame in (train, test))
        features = [name for name in train if name != problem.target]
        for name in features:
            try:
                train[name], test[name] = (
                    pandas.to_numeric(frame[name].replace("", np.nan)) for frame in (train, test)
                )
            except ValueError:
                known = pandas.CategoricalDtype(train[name].value_counts().index[:250])
                train[name], test[name] = train[name].astype(known), test[name].astype(known)
        if problem.kind == "labels":
            said = [
                make("binary").fit(train[features], _has(train, name)).predict_proba(test[features])[:, 1]
                for name in GENRES
            ]
            return _label_scores(np.stack(said, 1), np.stack([_has(test, name) for name in GENRES], 1))
        model = make(problem.kind)
        if problem.kind == "number":
            model.fit(train[features], train[problem.target].astype(float))
            return _number_scores(model.predict(test[features]), test[problem.target].astype(float).to_numpy())
        positive = train[problem.target].value_counts().index[-1]
        model.fit(train[features], train[problem.target] == positive)
        said = model.predict_proba(test[features])[:, 1]
        return _event_scores(said, (test[problem.target] == positive).to_numpy())

    return scores


def _histgb(kind: str) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    return (HistGradientBoostingRegressor if kind == "number" else HistGradientBoostingClassifier)(
        categorical_features="from_dtype"
    )


def _lightgbm(kind: str) -> Any:
    import lightgbm

    return (lightgbm.LGBMRegressor if kind == "number" else lightgbm.LGBMClassifier)(verbose=-1, n_jobs=2)


def linear(problem: Problem, parts: dict[str, Rows], seed: int) -> Scores:
    """Labels by tf-idf of words and pairs of the text, and by the other columns scaled: logistic regressions."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import MaxAbsScaler

    if problem.kind != "labels":
        return {}
    train, test = [*parts["train"], *parts["validation"]], parts["test"]
    words, others, scaled = TfidfVectorizer(ngram_range=(1, 2), min_df=2), DictVectorizer(), MaxAbsScaler()

    def features(rows: Rows, fit: bool) -> Any:
        texts = [" ".join(row[name] for name in problem.texts) for row in rows]
        plain = [_plain(row, (*problem.texts, problem.target)) for row in rows]
        if fit:
            return hstack([words.fit_transform(texts), scaled.fit_transform(others.fit_transform(plain))]).tocsr()
        return hstack([words.transform(texts), scaled.transform(others.transform(plain))]).tocsr()

    x, y = features(train, True), features(test, False)
    said = []
    for name in GENRES:
        truth = np.array([name in row["genres"].split("|") for row in train])
        said.append(LogisticRegression(max_iter=300).fit(csr_matrix(x), truth).predict_proba(y)[:, 1])
    truth = np.array([[name in row["genres"].split("|") for name in GENRES] for row in test])
    return _label_scores(np.stack(said, 1), truth)


def autogluon(problem: Problem, parts: dict[str, Rows], seed: int) -> Scores:
    """AutoGluon's ``medium_quality``, texts included, for at most `MINUTES`; of an environment of its own."""
    import pandas
    from autogluon.tabular import TabularPredictor

    if problem.kind == "labels":
        return {}
    train, test = (_typed(pandas, rows, problem) for rows in ([*parts["train"], *parts["validation"]], parts["test"]))
    kind = "regression" if problem.kind == "number" else "binary"
    metric = "r2" if problem.kind == "number" else "roc_auc"
    with tempfile.TemporaryDirectory() as folder:
        predictor = TabularPredictor(
            problem.target, problem_type=kind, eval_metric=metric, path=folder, verbosity=0
        ).fit(train, presets="medium_quality", time_limit=60 * MINUTES, num_cpus=2)
        if problem.kind == "number":
            return _number_scores(predictor.predict(test).to_numpy(), test[problem.target].to_numpy())
        positive = predictor.positive_class
        said = predictor.predict_proba(test)[positive].to_numpy()
    return _event_scores(said, (test[problem.target] == positive).to_numpy())


def _typed(pandas: Any, rows: Rows, problem: Problem) -> Any:
    """A frame whose columns of numbers are numbers."""
    frame = pandas.DataFrame(rows)
    for name in frame:
        try:
            frame[name] = pandas.to_numeric(frame[name].replace("", np.nan))
        except ValueError:
            frame[name] = frame[name].replace("", None)
    return frame


def _plain(row: dict[str, str], but: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in row.items():
        if name in but or not value:
            continue
        try:
            values[name] = float(value)
            if abs(values[name]) > 100:
                values[f"log {name}"] = np.log1p(abs(values[name]))
        except ValueError:
            values[name] = value
    return values


def _has(frame: Any, name: str) -> np.ndarray:
    return np.array([name in value.split("|") for value in frame["genres"]])


def _number_scores(said: np.ndarray, truth: np.ndarray) -> Scores:
    from sklearn.metrics import mean_absolute_error, r2_score

    return {"r2": float(r2_score(truth, said)), "mae": float(mean_absolute_error(truth, said))}


def _event_scores(said: np.ndarray, truth: np.ndarray) -> Scores:
    from sklearn.metrics import roc_auc_score

    return {"auc": float(roc_auc_score(truth, said)), "accuracy": float(((said > 0.5) == truth).mean())}


def _label_scores(said: np.ndarray, truth: np.ndarray) -> Scores:
    from sklearn.metrics import f1_score, roc_auc_score

    return {
        "macro_auc": float(roc_auc_score(truth, said, average="macro")),
        "macro_f1": float(f1_score(truth, said > 0.5, average="macro")),
        "micro_f1": float(f1_score(truth, said > 0.5, average="micro")),
    }


MODELS: dict[str, Callable[[Problem, dict[str, Rows], int], Scores]] = {
    "ours": ours,
    "histgb": trees(_histgb),
    "lightgbm": trees(_lightgbm),
    "linear": linear,
    "autogluon": autogluon,
}
OURS = ("ours", "histgb", "lightgbm", "linear")
"""Models of the suite's own environment."""
SHOWN = {"number": ("r2", "mae"), "binary": ("auc", "accuracy"), "labels": ("macro_auc", "macro_f1")}


def main() -> None:
    """Train, test and print each, a line as JSON each, then means and spreads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--models", nargs="+", default=list(OURS), choices=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--on", default="test", choices=["test", "validation"], help="validation: while tuning")
    options = parser.parse_args()
    for name in options.tables:
        problem, found = PROBLEMS[name], dict[str, list[Scores]]()
        rows = rows_of(problem)
        for seed in options.seeds:
            parts = parts_of(rows, seed)
            if options.on == "validation":  # the test rows are not touched: others of the training rows stand in
                parts = parts_of([*parts["train"], *parts["validation"]], 100 + seed)
            for model in options.models:
                begun = time.perf_counter()
                scores = MODELS[model](replace(problem), parts, seed)
                if not scores:
                    continue
                seconds = time.perf_counter() - begun
                shown = {key: round(scores[key], 5) for key in SHOWN[problem.kind]}
                print(
                    json.dumps({"table": name, "model": model, "seed": seed, **shown, "seconds": round(seconds, 1)}),
                    flush=True,
                )
                found.setdefault(model, []).append(scores)
        for model, several in found.items():
            words = []
            for key in SHOWN[problem.kind]:
                values = [scores[key] for scores in several]
                words.append(f"{key} {np.mean(values):.4f} +- {np.std(values):.4f}")
            print(f"{name:10} {model:9} {', '.join(words)}", flush=True)


if __name__ == "__main__":
    main()
