"""Speech recognition, from your own recordings to a served transcript.

command:  python scripts/tasks/speech.py [manifest.jsonl] [--to work/speech]
A line a recording: {"audio": "a.wav", "text": "what is said"}. Without a manifest: tones whose names are the words.
Copy this file and change what you need.
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
    parser.add_argument("data", nargs="?", help="a manifest, or a folder in LJSpeech's layout; default: tones")
    parser.add_argument("--to", type=Path, default=Path("work/speech"), help="folder of run and bundle, not yet there")
    parser.add_argument("--epochs", type=float, default=60.0, help="passes over the training split")
    options = parser.parse_args()

    data = from_path(options.data or str(sample_data.dictation(options.to / "data")))
    experiment = suite.replace(
        suite.load("speech.recognize"),
        # Few recordings: a small model, small batches, no averaged weights.
        {
            "task.data": data,
            "model.layers": 2,
            "model.width": 64,
            "train.batch_size": 8,
            "train.ema": 0.0,
            "train.epochs": options.epochs,
        },
    )
    run = suite.train(experiment, options.to / "run")
    print(run.evaluate("test").metrics)

    recordings = run.experiment.task.source("test")[[0, 1]]["audio"]  # paths
    print(run.predict(recordings))

    bundle = suite.export(run, options.to / "bundle", name="dictation")
    command = [sys.executable, "-m", "suite", "serve", str(bundle.folder), "--port", "0", "--sizes", "1", "8"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split()[-1]  # "serving dictation at http://127.0.0.1:PORT/"
        for path in recordings:
            kind = {"Content-Type": "audio/wav"}
            request = urllib.request.Request(f"{address}v1/models/dictation:predict", Path(path).read_bytes(), kind)
            print(path, json.load(urllib.request.urlopen(request))["answers"])
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
