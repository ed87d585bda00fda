"""Image classification, from your own folder to a served answer.

command:  python scripts/tasks/vision.py [photos/] [--to work/vision]
One folder a class: photos/circle/1.png. Without a folder: made-up shapes. Copy this file and change what you need.
"""

import argparse
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import sample_data

import suite
from suite.data.sources.datasets import from_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="one folder a class, an archive of it, or arrays; default: shapes")
    parser.add_argument("--to", type=Path, default=Path("work/vision"), help="folder of run and bundle, not yet there")
    parser.add_argument("--epochs", type=float, default=20.0, help="passes over the training split")
    options = parser.parse_args()

    data = from_path(options.data or str(sample_data.photos(options.to / "data")))
    experiment = suite.replace(
        suite.load("vision.classify"),
        {"task.data": data, "task.statistics.size": (48, 48), "train.epochs": options.epochs, "train.batch_size": 16},
    )
    run = suite.train(experiment, options.to / "run")
    print(run.evaluate("test").metrics)

    images = run.experiment.task.source("test")[[0, 1]]["image"]  # paths or arrays, as the data holds them
    print(run.predict(images))

    bundle = suite.export(run, options.to / "bundle", name="photos")
    command = [sys.executable, "-m", "suite", "serve", str(bundle.folder), "--port", "0", "--sizes", "1", "8"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split()[-1]  # "serving photos at http://127.0.0.1:PORT/"
        for path in images:
            kind = {"Content-Type": "image/png"}
            request = urllib.request.Request(f"{address}v1/models/photos:predict", Path(path).read_bytes(), kind)
            print(path, json.load(urllib.request.urlopen(request))["answers"])
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
