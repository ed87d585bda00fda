"""Text classification, from your own table to a served answer.

command:  python scripts/tasks/text.py [reviews.csv] [--text review --label verdict] [--to work/text]
Without a file: made-up reviews. Tables: CSV, TSV, JSONL, JSON, Parquet. Copy this file and change what you need.
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
    parser.add_argument("data", nargs="?", help="a table with a text and a label a row; default: made-up reviews")
    parser.add_argument("--text", default="review", help="column of texts (default: %(default)s)")
    parser.add_argument("--label", default="verdict", help="column of classes (default: %(default)s)")
    parser.add_argument("--to", type=Path, default=Path("work/text"), help="folder of run and bundle, not yet there")
    parser.add_argument("--epochs", type=float, default=6.0, help="passes over the training split")
    options = parser.parse_args()

    data = from_path(options.data or str(sample_data.reviews(options.to / "data")))
    experiment = suite.replace(
        suite.load("text.classify"),
        {"task.data": data, "task.text": options.text, "task.label": options.label, "train.epochs": options.epochs},
    )
    run = suite.train(experiment, options.to / "run")
    print(run.evaluate("test").metrics)

    texts = ["a moving film with a witty plot", "a dull story"]
    print(run.predict(texts))

    bundle = suite.export(run, options.to / "bundle", name="texts")
    command = [sys.executable, "-m", "suite", "serve", str(bundle.folder), "--port", "0", "--sizes", "1", "8"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split()[-1]  # "serving texts at http://127.0.0.1:PORT/"
        body = json.dumps({"inputs": [{options.text: text} for text in texts]}).encode()
        request = urllib.request.Request(
            f"{address}v1/models/texts:predict", body, {"Content-Type": "application/json"}
        )
        print(json.load(urllib.request.urlopen(request))["answers"])
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
