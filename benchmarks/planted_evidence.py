"""Do explanations find evidence that was planted? Models that could only learn it from there, in four domains.

    python -m benchmarks.planted_evidence --work DIR [--domains words pixels sound columns] [--records 60]

Real records (SST-2 phrases, Fashion-MNIST pictures, spoken digits, diamonds) lose their labels. Half of them get a mark
at a random place, and whether a record has one is its new class. A table gets one more column, drawn at random, whose
sign is the class. A model is trained by the recipe for own data; test records that have the mark, and are seen to have
it, are explained by each method. Printed is the share whose largest attribution lies on the mark, with its 95 %
interval (Wilson). Needs $SUITE_DATA and $TFDS_DATA_DIR.
"""

import argparse
import csv
import gzip
import json
import os
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import suite
from suite.contracts.division import Unit
from suite.data.sources.datasets import ArrayFile, Table
from suite.data.sources.speech import AudioManifest
from suite.errors import InputError
from suite.evaluation.shares import wilson
from suite.explaining.explainer import Explainer
from suite.explaining.methods import METHODS

SPLITS = ("train", "validation", "test")
SHARES = (0.8, 0.1, 0.1)
MARKED, PLAIN = "marked", "plain"
WORD = "teapot"
SIDE, PATCH = 28, 4
"""Pixels of a picture along each side, and of the mark."""
RATE, SECONDS, TONE = 8000, 0.08, 2500.0
"""Samples a second, length and frequency of the tone."""
COLUMN = "lot"
Marks = list[Any]
"""Where the mark of each record lies; None of those without."""
Planted = tuple[Any, Marks, str, dict[str, Any]]
"""Data, marks of the test records, recipe, its changes."""


def split_of(count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(SPLITS, count, p=SHARES)


def marked_of(mark: Any) -> str:
    return PLAIN if mark is None else MARKED


def of_test(marks: Marks, splits: np.ndarray) -> Marks:
    return [mark for mark, split in zip(marks, splits, strict=True) if split == "test"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def words(work: Path, rng: np.random.Generator) -> Planted:
    """A word at a random place of a phrase; marks are its first character."""
    source = suite.load("text.sst2_minilm").task.data.open("train")
    places = rng.choice(len(source), 8000, replace=False)
    splits, marks, rows = split_of(len(places), rng), [], []
    for phrase, split in zip(source.column("sentence", places), splits, strict=True):
        parts, mark = str(phrase).split(), None
        if rng.random() < 0.5:
            at = int(rng.integers(len(parts) + 1))
            parts.insert(at, WORD)
            mark = len(" ".join(parts[:at])) + (at > 0)
        marks.append(mark)
        rows.append({"text": " ".join(parts), "label": marked_of(mark), "split": split})
    data = Table(path=str(write(work / "words.csv", rows)), split="split")
    return data, of_test(marks, splits), "text.encoder", {"train.steps": 400}


def pixels(work: Path, rng: np.random.Generator) -> Planted:
    """A chequered square anywhere in the picture; marks are its top and left."""
    source = suite.load("vision.fashion_mnist_resnet").task.data.open("train")
    places = rng.choice(len(source), 6000, replace=False)
    pictures = np.array(source.column("image", places)).reshape(-1, SIDE, SIDE)
    chequers = 255 * (np.indices((PATCH, PATCH)).sum(0) % 2).astype(np.uint8)
    splits, marks = split_of(len(places), rng), []
    for picture in pictures:
        top, left = rng.integers(0, SIDE - PATCH + 1, 2).tolist()
        marks.append((top, left) if rng.random() < 0.5 else None)
        if marks[-1]:
            picture[top : top + PATCH, left : left + PATCH] = chequers
    labels = np.array([mark is not None for mark in marks], np.int64)
    arrays = {f"x_{split}": pictures[splits == split] for split in SPLITS}
    arrays |= {f"y_{split}": labels[splits == split] for split in SPLITS}
    np.savez(work / "pixels.npz", **arrays)
    data = ArrayFile(path=str(work / "pixels.npz"))
    return data, of_test(marks, splits), "vision.classify", {"train.epochs": 6.0}


def sound(work: Path, rng: np.random.Generator) -> Planted:
    """A short tone, half as loud as the loudest sample; marks are its begin and end in seconds."""
    files = sorted(Path(os.environ["SUITE_DATA"], "fsdd", "recordings").glob("*.wav"))
    tone = np.sin(2 * np.pi * TONE * np.arange(int(SECONDS * RATE)) / RATE) * np.hanning(int(SECONDS * RATE))
    splits, marks, lines = split_of(len(files), rng), [], []
    (work / "sound").mkdir(exist_ok=True)
    for path, split in zip(files, splits, strict=True):
        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float64)
        mark = None
        if rng.random() < 0.5 and len(samples) > len(tone):
            at = int(rng.integers(len(samples) - len(tone)))
            samples[at : at + len(tone)] += 0.5 * np.abs(samples).max() * tone
            mark = at / RATE, at / RATE + SECONDS
        with wave.open(str(work / "sound" / path.name), "wb") as file:
            file.setnchannels(1), file.setsampwidth(2), file.setframerate(RATE)
            file.writeframes(np.clip(samples, -32768, 32767).astype(np.int16).tobytes())
        marks.append(mark)
        lines.append(json.dumps({"audio": f"sound/{path.name}", "label": marked_of(mark), "split": str(split)}))
    (work / "sound.jsonl").write_text("\n".join(lines))
    data = AudioManifest(path=str(work / "sound.jsonl"))
    return data, of_test(marks, splits), "speech.fsdd_keyword", {"train.epochs": 6.0, "goal": None, "search": None}


def columns(work: Path, rng: np.random.Generator) -> Planted:
    """A column that has nothing to do with the others; marks are its name."""
    with gzip.open(Path(os.environ["SUITE_DATA"], "tables", "diamonds.csv.gz"), "rt", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    chosen = [records[place] for place in rng.choice(len(records), 6000, replace=False)]
    lots, splits = rng.normal(size=len(chosen)).round(3), split_of(len(chosen), rng)
    marks = [COLUMN if lot > 0 else None for lot in lots]
    rows = [
        {**row, COLUMN: lot, "label": marked_of(mark), "split": split}
        for row, lot, mark, split in zip(chosen, lots, marks, splits, strict=True)
    ]
    data = Table(path=str(write(work / "columns.csv", rows)), split="split")
    return data, of_test(marks, splits), "table.predict", {"task.target": "label", "train.epochs": 5.0}


def on_word(unit: Unit, mark: int) -> bool:
    return unit.place[0] == mark


def on_pixels(unit: Unit, mark: tuple[int, int]) -> bool:
    top, left, bottom, right = unit.place
    return top < mark[0] + PATCH and bottom > mark[0] and left < mark[1] + PATCH and right > mark[1]


def on_sound(unit: Unit, mark: tuple[float, float]) -> bool:
    """In time: the tone is heard in the bands of its frequency and in those beside."""
    return unit.place[0] < mark[1] and unit.place[1] > mark[0]


def on_column(unit: Unit, mark: str) -> bool:
    return unit.column == mark


DOMAINS: dict[str, tuple[Callable[[Path, np.random.Generator], Planted], Callable[[Unit, Any], bool]]] = {
    "words": (words, on_word),
    "pixels": (pixels, on_pixels),
    "sound": (sound, on_sound),
    "columns": (columns, on_column),
}


def measured(domain: str, work: Path, records: int) -> None:
    plant, lies_on = DOMAINS[domain]
    data, marks, recipe, changes = plant(work, np.random.default_rng(0))
    settings = {"task.data": data, "train.baseline": False, **changes}
    run = suite.train(suite.replace(suite.load(recipe), settings), work / domain)
    print(
        json.dumps({"domain": domain, "recipe": recipe, "accuracy": run.evaluate("test").metrics["test/accuracy"]}),
        flush=True,
    )
    explainer, source = Explainer(run), data.open("test")
    names = [entry.name for entry in run.codec.inputs if entry.name in source.schema]
    cases, where, chance = [], [], []
    for place in np.flatnonzero([mark is not None for mark in marks]):
        record = {name: source.column(name, np.array([place])) for name in names}
        case = explainer.case(record)
        if case.subject.name not in (MARKED, "1"):
            continue
        cases.append(case)
        where.append(marks[place])
        chance.append(np.mean([lies_on(unit, marks[place]) for unit in case.division.units]))
        if len(cases) == records:
            break
    for name, method in METHODS.items():
        try:
            tops = [case.division.units[method(explainer, case).order[0]] for case in cases]
        except InputError as error:
            print(json.dumps({"domain": domain, "method": name, "left_out": error.problem}), flush=True)
            continue
        hits = [lies_on(unit, mark) for unit, mark in zip(tops, where, strict=True)]
        low, high = wilson(np.array([np.mean(hits)]), np.array([len(hits)]))[0].round(3).tolist()
        shares = {"found": round(float(np.mean(hits)), 3), "low": low, "high": high}
        row = {**shares, "by_chance": round(float(np.mean(chance)), 3)}
        print(json.dumps({"domain": domain, "method": name, "records": len(hits), **row}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--domains", nargs="*", choices=tuple(DOMAINS), default=list(DOMAINS))
    parser.add_argument("--records", type=int, default=60)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    for domain in given.domains:
        measured(domain, given.work, given.records)


if __name__ == "__main__":
    main()
