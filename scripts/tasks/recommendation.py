"""Click prediction, from your own log to a served probability.

command:  python scripts/tasks/recommendation.py [clicks.parquet] [--label clicked] [--to work/clicks]
A record a row, and a column of 1 and 0. Without a file: a made-up log. Copy this file and change what you need.
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
    parser.add_argument("data", nargs="?", help="a table with a record a row; default: a made-up log")
    parser.add_argument("--label", default="clicked", help="column of 1 and 0 (default: %(default)s)")
    parser.add_argument("--to", type=Path, default=Path("work/clicks"), help="folder of run and bundle, not yet there")
    parser.add_argument("--epochs", type=float, default=10.0, help="passes over the training split")
    options = parser.parse_args()

    data = from_path(options.data or str(sample_data.clicks(options.to / "data")))
    experiment = suite.replace(
        suite.load("recommendation.click"),
        {"task.data": data, "task.label": options.label, "train.epochs": options.epochs, "train.batch_size": 64},
    )
    run = suite.train(experiment, options.to / "run")
    print(run.evaluate("test").metrics)

    columns = run.experiment.task.source("test")[[0, 1, 2]]
    records = [{name: values[i] for name, values in columns.items() if name != options.label} for i in range(3)]
    print(run.predict({"record": records}))

    bundle = suite.export(run, options.to / "bundle", name="clicks")
    command = [sys.executable, "-m", "suite", "serve", str(bundle.folder), "--port", "0", "--sizes", "1", "8"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split()[-1]  # "serving clicks at http://127.0.0.1:PORT/"
        body = json.dumps({"inputs": records}, default=lambda value: value.item()).encode()
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}v1/models/clicks:predict", body, kind)
        print(json.load(urllib.request.urlopen(request))["answers"])
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
