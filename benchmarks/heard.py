"""What classifiers of recordings hear in speech that was made, beside what they hear in the recordings themselves.

    python -m benchmarks.heard RUN CLASSIFIER [CLASSIFIER ...] [--split test] [--keep FOLDER]

RUN is of speech synthesis, which speaks the texts of the split's records in their voices, each text and voice once; or
of a vocoder, which makes the recordings anew. Each CLASSIFIER is a run of speech.classify, or of a recipe like it; its
label is a column of RUN's data, too, such as what is said, or who says it. Printed is how often it is right, with its
95 % interval (Wilson), of what was made and of the same records' recordings. --keep writes what was made.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, cast

import numpy as np

from suite.evaluation.shares import wilson
from suite.runs.run import open as open_run

AT_A_TIME = 32


def right(names: list[str], labels: list[str]) -> dict[str, float | int]:
    share = float(np.mean([name == label for name, label in zip(names, labels, strict=True)]))
    low, high = wilson(np.array([share]), np.array([len(labels)]))[0].round(3).tolist()
    return {"records": len(labels), "right": round(share, 4), "low": low, "high": high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("classifiers", nargs="+")
    parser.add_argument("--split", default="test")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    run = open_run(given.run)
    source = run.experiment.task.data.open(given.split)
    asked = [entry.name for entry in run.codec.inputs if entry.name in source.schema]
    everyone = np.arange(len(source))
    columns = {name: list(source.column(name, everyone)) for name in {*asked, "audio"}}
    keys = [tuple(columns[name][place] for name in asked) for place in range(len(source))]
    places = sorted({key: place for place, key in reversed(list(enumerate(keys)))}.values())
    begun, sounds = time.perf_counter(), []
    for start in range(0, len(places), AT_A_TIME):
        some = places[start : start + AT_A_TIME]
        answers = run.predict({name: [columns[name][place] for place in some] for name in asked})
        sounds += [answer["audio"].data for answer in answers]
    print(json.dumps({"made": len(sounds), "seconds": round(time.perf_counter() - begun, 1)}), flush=True)
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
        for place, sound in zip(places, sounds, strict=True):
            (given.keep / f"{place}.wav").write_bytes(sound)
    for folder in given.classifiers:
        classifier = open_run(folder)
        label = cast(Any, classifier.experiment.task).label
        output, values = classifier.codec.outputs[0], source.column(label, np.array(places))
        # Where classes are stored as numbers, a number is the place of a name.
        labels = [output.choices[value] if isinstance(value, np.integer) else str(value) for value in values]
        for kind, heard in (("made", sounds), ("recordings", [columns["audio"][place] for place in places])):
            answers = classifier.predict({"audio": heard})
            names = [str(answer[output.name]) for answer in answers]
            print(json.dumps({"label": label, "of": kind, **right(names, labels)}), flush=True)


if __name__ == "__main__":
    main()
