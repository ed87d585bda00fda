"""A classifier of few labels, from scratch and from a run that was pre-trained without them, on the same draws.

    python -m benchmarks.few_labels --work DIR [--recipe speech.fsdd_pretrain] [--pretrained RUN] [FIELD=VALUE ...]

Trains the recipe (or takes the run that is named; --minutes 24 as many steps as fit), then the classifier of its domain
on a few training labels of each class, three draws, each from fresh parameters and from the run. Prints the accuracy on
test records, and the mean of the differences with its 95 % interval (Student's t over the draws).
"""

import argparse
import csv
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import suite
from suite.contracts.data import Data
from suite.data.preprocessing.image import decode_batch
from suite.data.sources.datasets import ArrayFile, Table
from suite.data.sources.speech import AudioManifest

SPLITS = ("train", "validation", "test")
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""The 97.5 % quantile of Student's t by the number of draws."""
Drawn = dict[str, tuple[Any, np.ndarray]]
"""Split -> values of the column, and the number of the class of each."""


def paired(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """By how much the first figures exceed the second, on average over the draws, and its 95 % interval."""
    differences = np.subtract(first, second)
    draws, gain = len(differences), float(differences.mean())
    half = STUDENT.get(draws, 1.96) * float(differences.std(ddof=1)) / draws**0.5 if draws > 1 else np.nan
    return gain, gain - half, gain + half


def pretrained(recipe: Any, minutes: float, work: Path, tried: int) -> suite.Run:
    """A run of the recipe, of as many steps as fit into the minutes; 0: as it is."""
    if not minutes:
        return suite.train(recipe, work / "pretrained")
    short = {"train.steps": tried, "train.log_every": tried // 3, "train.eval_every": tried}
    trial = suite.train(suite.replace(recipe, short), work / "trial")
    rate = [value for value in trial.history["train/examples_per_second"] if value][-1]
    steps = int(minutes * 60 * rate / recipe.train.batch_size)
    print(json.dumps({"examples_per_second": rate, "steps": steps}), flush=True)
    evaluated = {"train.steps": steps, "train.eval_every": max(steps // 6, 1)}
    return suite.train(suite.replace(recipe, evaluated), work / "pretrained")


def drawn(data: Data, column: str, label: str, draw: int, each: int, test: int) -> Drawn:
    """As many records of each class of training, up to 500 of validation, and as many of test; 0: all."""
    rng, splits = np.random.default_rng(draw), {}
    for split in SPLITS:
        source = data.open(split)
        _, labels = np.unique(np.asarray(source.column(label, np.arange(len(source)))), return_inverse=True)
        count = labels.max() + 1
        most = {"train": each, "validation": 500 // count}.get(split, test // count or len(source))
        places = [rng.permutation(np.flatnonzero(labels == number))[:most] for number in range(count)]
        chosen = np.sort(np.concatenate(places))
        splits[split] = source.column(column, chosen), labels[chosen]
    return splits


def images(splits: Drawn, path: Path) -> Data:
    """Of 32 x 32 pixels."""
    arrays = {}
    for split, (values, labels) in splits.items():
        arrays[f"x_{split}"], arrays[f"y_{split}"] = decode_batch(values, (32, 32), 3), labels
    np.savez(path.with_suffix(".npz"), **arrays)
    return ArrayFile(path=str(path.with_suffix(".npz")))


def recordings(splits: Drawn, path: Path) -> Data:
    rows = [
        {"audio": str(Path(value).resolve()), "label": f"{label}", "split": split}
        for split, (values, labels) in splits.items()
        for value, label in zip(values, labels.tolist(), strict=True)
    ]
    path.with_suffix(".jsonl").write_text("\n".join(map(json.dumps, rows)))
    return AudioManifest(path=str(path.with_suffix(".jsonl")))


def texts(splits: Drawn, path: Path) -> Data:
    with open(path.with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "split"])
        for split, (values, labels) in splits.items():
            writer.writerows([value, f"class {label}", split] for value, label in zip(values, labels, strict=True))
    return Table(path=str(path.with_suffix(".csv")))


DOMAINS: dict[str, tuple[str, str, Callable[[Drawn, Path], Data], str, dict[str, Any]]] = {
    "vision": ("image", "image", images, "vision.classify", {"task.augmentation": ("shift", "flip")}),
    "speech": ("audio", "audio", recordings, "speech.fsdd_keyword", {"goal": None}),
    "text": ("text", "text", texts, "text.encoder", {"defaults": None}),
    "text.adapt": ("text", "text", texts, "text.finetune", {}),
}
"""Recipe, or else its domain -> column, part of the pre-trained model, what writes a draw, recipe of the classifier and
its changes. What that recipe begins with, fresh parameters or published weights, is called scratch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="vision.cifar10_simclr")
    parser.add_argument("--minutes", type=float, default=0.0, help="of pre-training; 0: as the recipe says")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pretrained", default="", help="a run, in the place of training one")
    parser.add_argument("--tried", type=int, default=30, help="steps by which the speed is measured first")
    parser.add_argument("--each", type=int, default=50, help="labels of a class")
    parser.add_argument("--test", type=int, default=0, help="records of the test split; 0: all")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000, help="of the classifier")
    parser.add_argument(
        "--classifier", default="", help="JSON of its fields, such as '{\"optim.learning_rate\": 0.001}'"
    )
    parser.add_argument("changes", nargs="*", help="FIELD=VALUE of the pre-training")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    changes = {name: json.loads(value) for name, _, value in (entry.partition("=") for entry in given.changes)}
    recipe = suite.replace(suite.load(given.recipe), changes)
    column, part, write, classifier, fields = DOMAINS.get(given.recipe) or DOMAINS[given.recipe.partition(".")[0]]
    run = (
        suite.open(given.pretrained) if given.pretrained else pretrained(recipe, given.minutes, given.work, given.tried)
    )
    print(json.dumps({name: value for name, value in run.metrics.items() if "accuracy" in name}), flush=True)
    model = run.experiment.model.parts[part]
    plain = suite.load(classifier).model
    of_data = ("outputs", "pooling", "inputs", "vocab_size")
    own = {name: getattr(plain, name) for name in of_data if hasattr(plain, name)}
    results: dict[str, list[float]] = {"scratch": [], "pretrained": []}
    for draw in range(given.draws):
        records = drawn(run.experiment.task.data, column, "label", draw, given.each, given.test)
        data = write(records, given.work / f"draw{draw}")
        for kind in results:
            settings = {
                "task.data": data,
                "train.steps": given.steps,
                "train.eval_every": max(given.steps // 4, 1),
                "train.baseline": False,
                "train.seed": draw,
                "model": suite.replace(model, own),
            }
            settings |= {**fields, **json.loads(given.classifier or "{}")}
            if kind == "pretrained":
                settings["checkpoint.init_from"] = str(run.folder)
            begun = time.process_time()
            trained = suite.train(suite.replace(suite.load(classifier), settings), given.work / f"{kind}{draw}")
            accuracy = trained.evaluate("test").metrics["test/accuracy"]
            results[kind].append(accuracy)
            spent = time.process_time() - begun
            print(json.dumps({"draw": draw, "from": kind, "accuracy": accuracy, "cpu_s": round(spent)}), flush=True)
    gain, low, high = paired(results["pretrained"], results["scratch"])
    mean = {kind: float(np.mean(values)) for kind, values in results.items()}
    print(json.dumps({**mean, "gain": gain, "low": low, "high": high}))
    measured = run.evaluate("test").metrics
    print(json.dumps({name: value for name, value in measured.items() if "accuracy" in name}))


if __name__ == "__main__":
    main()
