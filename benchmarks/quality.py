"""Quality of a recipe over seeds, and of number formats side by side: mean and spread of a metric on a split.

python benchmarks/quality.py vision.fashion_mnist_dnn --split test --seeds 3
python benchmarks/quality.py text.sst2_encoder --split validation --policies bfloat16+hash float32+threefry
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import suite
from suite.runs.verbs import train

RECIPE = "recipe"


def policy_fields(policy: str) -> dict[str, Any]:
    """``"bfloat16+hash"`` as fields of the experiment; ``"recipe"`` leaves it as it is."""
    if policy == RECIPE:
        return {}
    compute, dropout = policy.split("+")
    return {"precision.compute": compute, "precision.dropout": dropout}


def measure(name: str, split: str, metric: str, seed: int, fields: dict[str, Any]) -> tuple[float, float]:
    """(metric on the split, seconds of training with start-up) of one run."""
    experiment = suite.replace(suite.load(name), {**fields, "train.seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        run = train(experiment, Path(folder) / "run")
        seconds = time.perf_counter() - begun
        return run.evaluate(split).metrics[f"{split}/{metric}"], seconds


def main() -> None:
    """Print a line a run, then mean, deviation and range for each policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("--split", default="test")
    parser.add_argument("--metric", default="accuracy")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=0.0, help="instead of the recipe's")
    parser.add_argument("--policies", nargs="*", default=[RECIPE])
    chosen = parser.parse_args()
    epochs = {"train.epochs": chosen.epochs} if chosen.epochs else {}
    found: dict[str, list[float]] = {policy: [] for policy in chosen.policies}
    for seed in range(chosen.seeds):
        for policy in chosen.policies:
            fields = {**epochs, **policy_fields(policy)}
            value, seconds = measure(chosen.experiment, chosen.split, chosen.metric, seed, fields)
            found[policy].append(value)
            print(f"{policy} seed {seed}: {chosen.split}/{chosen.metric} {value:.4f} in {seconds:.0f} s", flush=True)
    for policy, values in found.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        what = f"{chosen.experiment} {policy}: {chosen.split}/{chosen.metric}"
        print(
            f"{what} mean {statistics.mean(values):.4f}, standard deviation {spread:.4f}, "
            f"{min(values):.4f} to {max(values):.4f}, {len(values)} seeds"
        )


if __name__ == "__main__":
    main()
