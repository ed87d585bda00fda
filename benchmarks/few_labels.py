"""A classifier of few labels, from scratch and from a run that was pre-trained without them, on the same draws.

    python -m benchmarks.few_labels --minutes 24 --work DIR [--pretrained RUN] [FIELD=VALUE ...]

Trains vision.cifar10_simclr for the minutes that are given (or takes the run that is named), then vision.classify on a
share of the training labels, three draws, each from fresh parameters and from the run. Prints the accuracy on all test
images, and the mean of the differences with its 95 % interval (Student's t over the draws).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import suite
from suite.data.preprocessing.image import decode_batch
from suite.data.sources.datasets import ArrayFile

STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""The 97.5 % quantile of Student's t by the number of draws."""


def pretrained(minutes: float, work: Path, tried: int, changes: dict) -> suite.Run:
    """A run of as many steps as fit into the minutes."""
    recipe = suite.replace(suite.load("vision.cifar10_simclr"), changes)
    short = {"train.steps": tried, "train.log_every": tried // 3, "train.eval_every": tried}
    trial = suite.train(suite.replace(recipe, short), work / "trial")
    rate = [value for value in trial.history["train/examples_per_second"] if value][-1]
    steps = int(minutes * 60 * rate / recipe.train.batch_size)
    print(json.dumps({"examples_per_second": rate, "steps": steps}), flush=True)
    evaluated = {"train.steps": steps, "train.eval_every": max(steps // 6, 1)}
    return suite.train(suite.replace(recipe, evaluated), work / "pretrained")


def drawn(task, work: Path, draw: int, share: float) -> Path:
    """An .npz of a share of the training labels, as many of each class, 500 records of validation and all of test."""
    rng, arrays = np.random.default_rng(draw), {}
    for split in ("train", "validation", "test"):
        source = task.source(split)
        labels = np.asarray(source.column("label", np.arange(len(source))))
        each = round(share * len(source) / 10) if split == "train" else 50 if split == "validation" else len(source)
        places = [rng.permutation(np.flatnonzero(labels == label))[:each] for label in range(10)]
        chosen = np.sort(np.concatenate(places))
        arrays[f"x_{split}"] = decode_batch(source.column("image", chosen), (32, 32), 3)
        arrays[f"y_{split}"] = labels[chosen]
    np.savez(work / f"draw{draw}.npz", **arrays)
    return work / f"draw{draw}.npz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=24.0)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pretrained", default="", help="a run, in the place of training one")
    parser.add_argument("--tried", type=int, default=30, help="steps by which the speed is measured first")
    parser.add_argument("--share", type=float, default=0.0105, help="of the training images: 500 of 47,500")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000, help="of the classifier")
    parser.add_argument("changes", nargs="*", help="FIELD=VALUE of the pre-training")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    changes = {name: json.loads(value) for name, _, value in (entry.partition("=") for entry in given.changes)}
    run = (
        suite.open(given.pretrained)
        if given.pretrained
        else pretrained(given.minutes, given.work, given.tried, changes)
    )
    print(json.dumps({name: value for name, value in run.metrics.items() if "accuracy" in name}), flush=True)
    results: dict[str, list[float]] = {"scratch": [], "pretrained": []}
    for draw in range(given.draws):
        data = ArrayFile(path=str(drawn(run.experiment.task, given.work, draw, given.share)))
        for kind in results:
            fields = {
                "task.data": data,
                "task.augmentation": ("shift", "flip"),
                "train.steps": given.steps,
                "train.eval_every": given.steps // 4,
                "train.baseline": False,
                "train.seed": draw,
                "checkpoint.init_from": str(run.folder) if kind == "pretrained" else "",
                "model": run.experiment.model.parts["image"],
            }
            begun = time.perf_counter()
            classifier = suite.train(suite.replace(suite.load("vision.classify"), fields), given.work / f"{kind}{draw}")
            accuracy = classifier.evaluate("test").metrics["test/accuracy"]
            results[kind].append(accuracy)
            print(
                json.dumps({"draw": draw, "from": kind, "accuracy": accuracy, "s": time.perf_counter() - begun}),
                flush=True,
            )
    differences = np.subtract(results["pretrained"], results["scratch"])
    half = STUDENT.get(given.draws, 1.96) * differences.std(ddof=1) / given.draws**0.5 if given.draws > 1 else np.nan
    mean = {kind: float(np.mean(values)) for kind, values in results.items()}
    print(
        json.dumps(
            {**mean, "gain": differences.mean(), "low": differences.mean() - half, "high": differences.mean() + half}
        )
    )
    measured = run.evaluate("test").metrics
    print(json.dumps({name: value for name, value in measured.items() if "accuracy" in name}))


if __name__ == "__main__":
    main()
