"""Fuzz of folders: small trees of pictures or recordings, with faults, are read; nothing is lost or changed silently.

    python scripts/fuzz_folders.py --folders 500 [--seed 0]

Each file of a tree must be a record, be left out and counted, or be told of in a note. What training encodes of a file
must be what a request encodes of it, by its path on the command line and by its bytes at a server. What is refused must
be refused by an InputError with its place, its value and a way out.
"""

import argparse
import io
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from scripts.fuzz_tables import Outcome, check_refusal
from suite.contracts.codec import Codec
from suite.data import inspection
from suite.data.preprocessing.image import PixelStatistics
from suite.data.reading import is_hidden
from suite.data.sources.files import from_path, read_input
from suite.errors import InputError
from suite.serving.checks import Checks
from suite.serving.errors import Refused
from suite.serving.settings import Settings
from suite.tasks.speech.classification import AudioClassification
from suite.tasks.vision.classification import ImageClassification

SPLITS = ("train", "validation", "test")
STYLES = (SPLITS, ("Training", "Validation", "Testing"), ("train", "val"), ())
MODES = ("L", "RGB", "RGBA", "P", "1", "CMYK", "I;16", "LA")


def picture(rng: random.Random) -> tuple[str, bytes]:
    """A name's ending and the bytes of a small picture."""
    mode = rng.choice(MODES)
    size = (rng.randrange(3, 9), rng.randrange(3, 9))
    made = Image.new("L", size)
    made.putdata([rng.randrange(256) for _ in range(size[0] * size[1])])
    file = io.BytesIO()
    if mode == "I;16":
        image = Image.fromarray(np.asarray(made, np.uint16) * 257)
    else:
        image = made.convert("RGB").convert("RGBA").convert(mode) if mode in ("LA", "P") else made.convert(mode)
    ending = rng.choice(("jpg", "jpeg", "JPG")) if mode in ("L", "RGB", "CMYK") and rng.random() < 0.5 else "png"
    image = image.convert("RGB") if mode == "CMYK" and ending == "png" else image
    image.save(file, "PNG" if ending == "png" else "JPEG")
    return ending, file.getvalue()


def recording(rng: random.Random) -> tuple[str, bytes]:
    """A name's ending and the bytes of a short recording."""
    rate, channels = rng.choice((4000, 8000, 16000)), rng.choice((1, 1, 2))
    samples = np.random.default_rng(rng.randrange(1 << 30)).uniform(-0.5, 0.5, (rng.randrange(400, 1600), channels))
    if channels == 2 and rng.random() < 0.3:
        samples[:, 1] = -samples[:, 0]
    fault = rng.random()
    if fault < 0.05:
        samples[3] = np.nan
    file, kind = io.BytesIO(), rng.choice(("wav", "flac", "ogg"))
    if fault < 0.05:
        kind = "wav"
    options = {"subtype": "FLOAT"} if fault < 0.05 else {}
    soundfile.write(file, samples, rate, format=kind.upper(), **options)
    return kind, file.getvalue()


def plant(rng: random.Random, folder: Path, sound: bool) -> Counter[str]:
    """A tree of classes, in splits or not, with faults; returns what faults there are."""
    faults: Counter[str] = Counter()
    classes = rng.sample(("cat", "dog", "two words", "größe", "None", "01"), rng.randrange(2, 4))
    for split in rng.choice(STYLES) or ("",):
        for name in classes:
            place = folder / split / name if split else folder / name
            place.mkdir(parents=True, exist_ok=True)
            for number in range(rng.randrange(3, 7)):
                ending, data = (recording if sound else picture)(rng)
                fault = rng.choice(("", "", "", "", "", "", "", "", "empty", "cut", "text", "hidden", "other", "alias"))
                file = place / f"{rng.choice(('a', 'ü', 'x y'))}{number}.{ending}"
                if fault == "empty":
                    data = b""
                elif fault == "cut":
                    data = data[: len(data) // 3]
                elif fault == "text":
                    data = b"no media"
                elif fault == "hidden":
                    file = place / f"._{file.name}"
                elif fault == "other":
                    file = file.with_suffix(".txt")
                elif fault == "alias":
                    (place / f"link{number}.{ending}").symlink_to(folder / "nowhere")
                file.write_bytes(data)
                faults[fault or "whole"] += 1
    return faults


def encodings(codec: Codec, name: str, value: Any, path: str) -> dict[str, Any]:
    """(way -> encoded) of one file as requests give it; a Refused where a server refuses it."""
    ways: dict[str, Any] = {"by its path": codec.encode({name: read_input(path, name)[name]})}
    checks = Checks(codec.inputs, codec.primary, codec.texts, Settings())
    data = Path(path).read_bytes()
    try:
        ways["by its bytes at a server"] = codec.encode(checks.written({name: [data]}))
    except Refused as error:
        ways["by its bytes at a server"] = error
    return ways


def plain(encoded: Any) -> np.ndarray:
    """An array of one record, or the values of a ragged one."""
    return np.asarray(encoded.values if hasattr(encoded, "lengths") else encoded)


def examine(seed: int, folder: Path, outcome: Outcome) -> None:
    """One tree through reading, inspection, cleaning, learning and requests."""
    rng = random.Random(seed)
    sound = bool(seed % 2)
    root = folder / "my data"
    outcome.counts.update({f"files: {fault}": count for fault, count in plant(rng, root, sound).items()})
    outcome.counts["recordings" if sound else "pictures"] += 1
    name = "audio" if sound else "image"
    try:
        data = replace(from_path(str(root)), validation=0.1, test=0.1)  # type: ignore[type-var]
        inspection.render(inspection.inspect(data.open))  # type: ignore[attr-defined]
        shape = PixelStatistics(size=(8, 8), channels=rng.choice((1, 3, 4)))
        task: Any = AudioClassification(data=data) if sound else ImageClassification(data=data, statistics=shape)
        sources = {}
        for split in SPLITS:
            try:
                sources[split] = task.source(split)
            except InputError as error:
                outcome.counts["splits refused"] += 1
                if bare := check_refusal(error):
                    outcome.fail(seed, bare)
        if "train" not in sources:
            return
        opened = {split: data.open(split) for split in sources}  # type: ignore[attr-defined]
        lost = len([file for file in root.rglob("*") if file.is_file() and not is_hidden(file.name)])
        lost -= sum(len(source) for source in opened.values()) + max(
            sum(source.dropped.values()) for source in opened.values()
        )
        if lost > 0 and len(sources) == len(SPLITS):
            outcome.fail(seed, f"{lost} files are neither records nor counted: {[s.dropped for s in opened.values()]}")
        for split, source in sources.items():
            if len(source) + sum(source.dropped.values()) < len(opened[split]):
                outcome.fail(seed, f"{split}: cleaning counts less than it drops")
        source = sources["train"]
        task.labels.fit(source, "label", folder / "labels.json")
        task = replace(task, labels=replace(task.labels, file=str(folder / "labels.json")))
        if not sound:
            task.statistics.fit(source, "image", folder / "statistics.npz")
            task = replace(task, statistics=replace(task.statistics, file=str(folder / "statistics.npz")))
        for row in rng.sample(range(len(source)), min(3, len(source))):
            columns = source[np.array([row])]
            trained = task.encode(columns)[name]
            if not np.isfinite(plain(trained)).all():
                outcome.fail(seed, f"not finite: {columns}")
            path = str(columns[name][0])
            for way, found in encodings(task.codec, name, columns[name][0], path).items():
                outcome.counts[way] += 1
                if isinstance(found, Refused):
                    outcome.fail(seed, f"{way}: refused, and learnt from: {found}: {path}")
                elif not np.array_equal(plain(found[name]), plain(trained)):
                    outcome.fail(seed, f"{way}: another array: {path}")
    except InputError as error:
        outcome.counts["refused"] += 1
        if bare := check_refusal(error):
            outcome.fail(seed, bare)


def fuzz(seeds: range) -> Outcome:
    """Examine a tree for each seed."""
    outcome = Outcome()
    for seed in seeds:
        with tempfile.TemporaryDirectory() as place:
            try:
                examine(seed, Path(place), outcome)
            except Exception:
                outcome.fail(seed, traceback.format_exc())
    return outcome


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="of the first folder")
    given = parser.parse_args()
    begun = time.perf_counter()
    outcome = fuzz(range(given.seed, given.seed + given.folders))
    for name, count in sorted(outcome.counts.items()):
        print(f"{name}: {count:,}")
    print(f"{given.folders:,} folders in {time.perf_counter() - begun:.0f} s, {len(outcome.failures)} failures")
    print("\n".join(outcome.failures[:20]))
    sys.exit(bool(outcome.failures))


if __name__ == "__main__":
    main()
