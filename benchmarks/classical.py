"""Classical baselines of the recipes, by scikit-learn, on the recipes' own splits.

command:  python benchmarks/classical.py text.sst2_encoder vision.fashion_mnist_dnn ...

Texts: words and pairs of words, tf-idf, logistic regression. Images: pixels, logistic regression. Keywords: mean and
deviation over time of log-mel bands, logistic regression. Records of clicks: gradient-boosted trees on ordinal
categories. Running text: a model of character 7-grams, interpolated (Witten-Bell). Nothing is tuned.
"""

import argparse
import collections
import math
import time
from typing import Any

import numpy as np

from suite.contracts.data import Source
from suite.experiment.recipes import load


def main() -> None:
    """Fit and print each baseline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", help="dotted names")
    parser.add_argument("--split", default="", help="default: validation of SST-2 and Shakespeare, otherwise test")
    options = parser.parse_args()
    for name in options.recipes:
        task: Any = load(name).task
        held_out = "validation" if name.startswith(("text.sst2", "text.shakespeare")) else "test"
        split, begun = options.split or held_out, time.perf_counter()
        method, metric, value = baseline(task, task.source("train"), task.source(split))
        print(f"{name:34} {split} {metric} {value:.4f}  {method}  ({time.perf_counter() - begun:.0f} s)", flush=True)


def baseline(task: Any, train: Source, held_out: Source) -> tuple[str, str, float]:
    """(method, metric, value) of the baseline for the kind of task."""
    kind = type(task).__name__
    if kind == "LanguageModelling":
        return (
            "character 7-grams, Witten-Bell",
            "nats a character",
            ngrams(running(task, "train"), running(task, "validation")),
        )
    if kind == "ClickPrediction":
        return "gradient-boosted trees", "auc", boosted(task, columns(train), columns(held_out))
    first, second = columns(train), columns(held_out)
    labels, truth = np.asarray(first[task.label]), np.asarray(second[task.label])
    if kind == "TextClassification":
        method, (x, y) = "tf-idf of words and pairs, logistic regression", words(first[task.text], second[task.text])
    elif kind == "ImageClassification":
        method, (x, y) = "pixels, logistic regression", (pixels(task, first), pixels(task, second))
    elif kind == "AudioClassification":
        method, (x, y) = "mean and deviation of log-mel, logistic regression", (bands(task, first), bands(task, second))
    else:
        raise SystemExit(f"no classical baseline for {kind}")
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(max_iter=100 if kind == "ImageClassification" else 1000).fit(x, labels)
    return method, "accuracy", float((fitted.predict(y) == truth).mean())


def columns(source: Source) -> dict[str, Any]:
    """All records."""
    return source[np.arange(len(source))]


def words(train: Any, held_out: Any) -> tuple[Any, Any]:
    """tf-idf of words and pairs of words, learnt from the first texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"\S+")
    return vectorizer.fit_transform(map(str, train)), vectorizer.transform(map(str, held_out))


def pixels(task: Any, records: dict[str, Any]) -> np.ndarray:
    """(n, h w c) on a scale of 0..1."""
    from suite.data.preprocessing.image import decode_batch

    values = records[task.image]
    first = np.asarray(values[0]) if isinstance(values, np.ndarray) else None
    size = task.statistics.size or (first.shape[:2] if first is not None else None)
    channels = task.statistics.channels or (first.shape[2] if first is not None and first.ndim == 3 else 1)
    return decode_batch(values, size, channels).reshape(len(values), -1) / 255.0


def bands(task: Any, records: dict[str, Any]) -> np.ndarray:
    """Mean and deviation over time of the recipe's own log-mel bands, (n, 2 f)."""
    import jax

    from suite.data.recordings import decode

    front_end, rows = task.features.front_end, []
    computed, longest = jax.jit(front_end), int(task.max_seconds * front_end.sample_rate)
    for value in records[task.audio]:
        samples = decode(value, front_end.sample_rate)
        real = np.arange(longest) < len(samples)
        frames, said = computed(np.pad(samples, (0, longest - len(samples)))[None], real[None])
        frames = np.asarray(frames)[np.asarray(said)]
        rows.append(np.concatenate([frames.mean(0), frames.std(0)]))
    x = np.stack(rows)
    return (x - x.mean(0)) / (x.std(0) + 1e-6)


def boosted(task: Any, train: dict[str, Any], held_out: dict[str, Any]) -> float:
    """AUC of gradient-boosted trees with their defaults; categories by their order of appearance."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    from suite.data.preprocessing.tabular_values import clicks

    names = [name for name in train if name != task.label]
    x, y = [], []
    for name in names:
        first, second = train[name], held_out[name]
        if isinstance(first, np.ndarray) and first.dtype.kind in "if":
            x.append(first.astype(float)), y.append(np.asarray(second, float))
            continue
        places = {value: place for place, value in enumerate(dict.fromkeys(map(str, first)))}
        x.append([float(places[str(value)]) for value in first])
        y.append([float(places.get(str(value), math.nan)) for value in second])
    labels = [clicks(part[task.label], task.label, task.positive) for part in (train, held_out)]
    fitted = HistGradientBoostingClassifier(random_state=0).fit(np.stack(x, 1), labels[0])
    return float(roc_auc_score(labels[1], fitted.predict_proba(np.stack(y, 1))[:, 1]))


def running(task: Any, split: str) -> str:
    """The text of a split."""
    return "\n".join(map(str, columns(task.data.open(split))[task.text]))


def ngrams(train: str, held_out: str, order: int = 7) -> float:
    """Nats a character of an interpolated model of n-grams (Witten-Bell), the first of them uniform."""
    follow: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for n in range(order):
        for i in range(n, len(train)):
            follow[train[i - n : i]][train[i]] += 1
    letters, nats = len(set(train)) + 1, 0.0
    totals = {context: (counts.total(), len(counts)) for context, counts in follow.items()}
    for i, letter in enumerate(held_out):
        share = 1 / letters
        for n in range(min(order, i + 1)):
            context = held_out[i - n : i]
            if context in totals:
                total, kinds = totals[context]
                share = (follow[context][letter] + kinds * share) / (total + kinds)
        nats -= math.log(share)
    return nats / len(held_out)


if __name__ == "__main__":
    main()
