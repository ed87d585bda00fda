"""Hashes of what five small recipes become in 50 steps: whether a change of the code changed any number.

    SUITE_DATA=DATA TFDS_DATA_DIR=DATA/tfds python scripts/parameter_hashes.py > before.txt
    ... change the code, or check out another revision ...
    SUITE_DATA=DATA TFDS_DATA_DIR=DATA/tfds python scripts/parameter_hashes.py | diff before.txt -

A line a recipe: its name, the SHA-256 of its parameters, and that of its other variables, such as batch statistics.
Equal only on one machine, with one JAX and the same flags. Only the public API is used, so that the same file runs
with either revision; the suite is that of the folder above, whichever is installed.
"""

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import suite

STEPS = 50
COMMON = {
    "train.steps": STEPS,
    "train.eval_every": STEPS,
    "train.log_every": STEPS,
    "train.best": "",
    "train.patience": 0,
    "train.ema": 0.0,
    "optim.warmup_steps": 10,
}
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "dnn": ("vision.fashion_mnist_dnn", {"train.steps_per_dispatch": 10}),
    "transformer": (
        "text.sst2_encoder",
        {"train.batch_size": 16, "task.tokenizer.vocab_size": 2000, "pipeline.buckets": (16, 64)},
    ),
    "resnet": ("vision.fashion_mnist_resnet", {"train.batch_size": 16}),
    "audio": ("speech.fsdd_keyword", {"train.batch_size": 8, "pipeline.buckets": (20480,)}),
    "deepfm": ("recommendation.criteo_deepfm", {"train.batch_size": 64, "task.bootstrap": 10}),
}
"""Recipe and what is smaller in it, by family."""


def main() -> None:
    """Print a line for each family that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(RECIPES)}; all")
    for family in parser.parse_args().families or RECIPES:
        recipe, changes = RECIPES[family]
        experiment = suite.replace(suite.load(recipe), {**COMMON, **changes})
        with tempfile.TemporaryDirectory() as folder:
            parameters, rest = suite.train(experiment, Path(folder) / "run").variables
        print(recipe, digest(parameters), digest(rest), flush=True)


def digest(tree: Any) -> str:
    """SHA-256 over path, type, shape and bytes of each array of nested dicts, in the order of their paths."""
    total = hashlib.sha256()
    for path, array in sorted(leaves(tree), key=lambda leaf: leaf[0]):
        total.update(f"{path} {array.dtype} {array.shape}\n".encode() + np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Path and array of each leaf of nested dicts."""
    if isinstance(node, Mapping):
        for name, inner in node.items():
            yield from leaves(inner, f"{path}/{name}" if path else str(name))
    else:
        yield path, np.asarray(node)


if __name__ == "__main__":
    main()
