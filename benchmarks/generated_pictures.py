"""Figures of a run of image generation by steps, guidance and method, beside those of a normal distribution of pixels.

command:  python -m benchmarks.generated_pictures RUN --features FEATURES [--pictures 2000] [--steps 1 5 20 50]
          [--guidance 1.5] [--method heun] [--gaussian] [--split test]

FEATURES is a run of an image classifier, such as of vision.fashion_mnist_resnet, or a folder of published weights of
images, such as Inception's. Figures of one number of pictures
compare: beside each stands its floor, that of as many training pictures (fid_real). A line of JSON a row.
"""

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import suite
from suite.evaluation.baselines import measure
from suite.runs.run import Run
from suite.runs.run import open as open_run
from suite.tasks.vision.picture_features import name_of


def changed(run: Run, fields: dict[str, Any]) -> Run:
    """The run with other fields of its task, and the same weights."""
    other = replace(run, experiment=suite.replace(run.experiment, fields))
    other.__dict__["_weights"] = run._weights
    return other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--features", required=True)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--steps", type=int, nargs="*", default=[1, 5, 20, 50])
    parser.add_argument("--guidance", type=float, nargs="*", default=[1.5])
    parser.add_argument("--method", nargs="*", default=["heun"])
    parser.add_argument("--split", default="test", help="whose records are compared with")
    parser.add_argument("--gaussian", action="store_true", help="the normal distribution of pixels, too")
    given = parser.parse_args()
    run = open_run(given.run)
    features = name_of(given.features)
    common = {"task.features": given.features, "task.pictures": given.pictures, "task.measured": (given.split,)}
    if given.gaussian:
        task = changed(run, common).experiment.task
        for baseline in measure(task, task.source("train"), task.source(given.split)):
            row = {"model": baseline.name, "pictures": given.pictures, "features": features}
            print(json.dumps({**row, **baseline.scores.values()}), flush=True)
    for method in given.method:
        for guidance in given.guidance:
            for steps in given.steps:
                begun = time.perf_counter()
                fields = {**common, "task.steps": steps, "task.guidance": guidance, "task.method": method}
                metrics = changed(run, fields).evaluate(given.split).metrics
                row = {"method": method, "steps": steps, "guidance": guidance, "pictures": given.pictures}
                row["features"] = features
                row |= {name.removeprefix(f"{given.split}/"): round(value, 5) for name, value in metrics.items()}
                print(json.dumps({**row, "seconds": round(time.perf_counter() - begun, 1)}), flush=True)


if __name__ == "__main__":
    main()
