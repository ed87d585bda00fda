"""Fuzz of image and sound folders: generated ones go through inspection, training's encoding and requests.

Checked of each folder: no traceback, every refusal names where, what and a fix; every file is a record or is counted
as left out; what training keeps is finite; a file by its path and its bytes as the server takes them give the same
rows, or both are refused; what training keeps is answered, and what a request refuses is left out.

command:  python scripts/fuzz_folders.py --count 500 --seed 0
"""

import argparse
import collections
import io
import json
import os
import random
import tarfile
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from suite.contracts.kinds import checked
from suite.contracts.values import Unfit
from suite.data import inspection
from suite.data.preprocessing.image import PixelStatistics
from suite.data.reading import AUDIO, IMAGES, is_hidden
from suite.data.sources.datasets import from_path, read_input
from suite.data.sources.memory import SPLITS
from suite.errors import InputError
from suite.nn.audio.spectral import LogMel
from suite.tasks.speech.classification import AudioClassification
from suite.tasks.speech.features import AudioFeatures
from suite.tasks.vision.classification import ImageClassification

RATE = 8000
CLASSES = (
    *("red", "Blue", "new york", "日本", "हिन्दी", "café", "a.b", "it's", '"quoted"', "-dash", "%s", "None", "nan"),
    *("1", "01", "🙂", "train set", "bus & car", "tab\tin", "x" * 120, "Red", "label", "class", "{braces}", "$HOME"),
    *(" blank", "val", "train"),
)
TRAIN = ("train", "Training", "TRAIN", "train_set", "seg_train", "train images")
HELD_OUT = ("test", "Testing", "test_data", "val", "Validation", "dev", "eval")
LITTER = ("._x.png", ".DS_Store", "Thumbs.db", "notes.pdf", "README", "a.tif", "labels.txt", "x.heic", "desktop.ini")


class Wrong(AssertionError):
    """The suite did what it should not."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz_folders.py", description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="folders, default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the first one, default: %(default)s")
    parser.add_argument("--train", type=int, default=0, help="train every so many for 3 steps; 0: none")
    options = parser.parse_args()
    totals: collections.Counter[str] = collections.Counter()
    failed = []
    for seed in range(options.seed, options.seed + options.count):
        try:
            totals += run(seed, bool(options.train) and seed % options.train == 0)
        except Exception:
            failed.append(seed)
            print(f"--- folder {seed}\n{traceback.format_exc()}", flush=True)
    print(json.dumps({"folders": options.count, "failed": failed, **dict(sorted(totals.items()))}))
    raise SystemExit(bool(failed))


def run(seed: int, train: bool = False) -> "collections.Counter[str]":
    """Makes a folder, checks it, and returns counts of what was seen.

    Raises:
        Wrong: the suite did what it should not; and whatever it raises but refusals.
    """
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    kind = rng.choice(("image", "audio"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / rng.choice(("data", "my photos", "δεδομένα", "it's"))
        layout(root, kind, rng, numbers)
        seen = collections.Counter({kind: 1})
        path = packed(root, rng) if rng.random() < 0.15 else root
        check(path, kind, rng, Path(folder), seen, train)
    return seen


def layout(root: Path, kind: str, rng: random.Random, numbers: np.random.Generator) -> None:
    """A tree of files in one of the ways that users arrange them."""
    classes = rng.sample(CLASSES, rng.choice((1, 2, 2, 3, 5)))
    splits = [rng.choice(TRAIN), *rng.sample(HELD_OUT, rng.choice((0, 1, 1, 2)))]
    above = rng.choice((root, root, root / "inner", root / "a" / "b"))
    form = rng.choice(("classes", "classes", "classes", "splits", "splits", "within", "flat", "mixed", "repeated"))
    places = {
        "classes": [above / label for label in classes],
        "splits": [above / split / label for split in splits for label in classes],
        "within": [above / label / split for split in splits for label in classes],
        "flat": [above],
        "mixed": [above / splits[0] / classes[0], above / classes[-1]],
        "repeated": [above / split / split / label for split in splits for label in classes],
    }[form]
    for place in places:
        for number in range(rng.choice((1, 3, 6, 12))):
            inside = place / rng.choice(("", "", "", "deeper", "deeper/still"))
            inside.mkdir(parents=True, exist_ok=True)
            name, data = (picture if kind == "image" else sound)(number, rng, numbers)
            (inside / name).write_bytes(data)
    folders = [path for path in (root, *root.rglob("*")) if path.is_dir()]
    for _ in range(rng.choice((0, 0, 1, 4))):
        (rng.choice(folders) / rng.choice(LITTER)).write_bytes(b"of a system, or of another kind")
    if rng.random() < 0.1:
        (rng.choice(folders) / "gone.png").symlink_to(root / "nowhere.png")
    if rng.random() < 0.1:
        (rng.choice(folders) / os.fsdecode(b"\xff\xfe.png")).write_bytes(b"x")
    if rng.random() < 0.1:
        (rng.choice(folders) / ".git").mkdir()
        (rng.choice(folders) / "@eaDir").mkdir(exist_ok=True)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The file as it is, or cut short, empty, with a few bytes changed, or something else."""
    way = rng.random()
    if way < 0.8 or not data:
        return data
    if way < 0.87:
        return data[: rng.randrange(len(data))]
    if way < 0.9:
        return b""
    if way < 0.93:
        return rng.randbytes(60)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 20))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def picture(number: int, rng: random.Random, numbers: np.random.Generator) -> tuple[str, bytes]:
    """Name and content of a picture: of any mode and format, with transparency, orientation, frames; maybe damaged."""
    height, width = rng.choice((1, 2, 7, 20)), rng.choice((1, 3, 8, 21))
    colours = Image.fromarray(numbers.integers(0, 256, (height, width, 4), np.uint8), "RGBA")
    mode = rng.choice(("1", "L", "LA", "P", "RGB", "RGB", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"))
    how: dict[str, Any] = {}
    if mode == "I;16":
        image = Image.fromarray(numbers.integers(0, 1 << 16, (height, width)).astype(np.uint16))
    else:
        image = colours.quantize(8) if mode == "P" else colours.convert(mode)
    format = {"CMYK": "JPEG", "YCbCr": "JPEG", "I;16": "PNG"}.get(mode) or rng.choice(
        ("PNG", "JPEG", "GIF", "WEBP", "BMP")
    )
    if format == "JPEG" and mode in ("RGBA", "LA", "P", "1"):
        format = "PNG"
    if format == "BMP" and mode in ("LA", "RGBA"):
        image = image.convert("RGB")
    if format in ("PNG", "GIF") and mode in ("L", "RGB", "P") and rng.random() < 0.3:
        how["transparency"] = (1, 2, 3) if mode == "RGB" and format == "PNG" else 1
        image = image.convert("P") if format == "GIF" else image
    if format in ("GIF", "WEBP", "PNG") and mode in ("L", "RGB", "P") and rng.random() < 0.2:
        how |= {"save_all": True, "append_images": [image.copy().transpose(Image.Transpose.ROTATE_180)]}
    if format in ("JPEG", "PNG", "WEBP") and rng.random() < 0.2:
        exif = Image.Exif()
        exif[0x0112] = rng.randrange(10)
        how["exif"] = exif
    file = io.BytesIO()
    image.save(file, format, **how)
    ending = {"JPEG": rng.choice((".jpg", ".jpeg", ".JPG"))}.get(format, f".{format.lower()}")
    if rng.random() < 0.05:
        ending = rng.choice(IMAGES)  # not what the file is
    return f"{rng.choice(('', 'IMG ', 'ß', 'a.b.'))}{number}{ending}", damaged(file.getvalue(), rng)


def sound(number: int, rng: random.Random, numbers: np.random.Generator) -> tuple[str, bytes]:
    """Name and content of a recording: of any format, rate and channels, with samples of any kind; maybe damaged."""
    rate = rng.choice((RATE, RATE, 16_000, 44_100, 11_025, 37, 1, 900_000, 2_000_000))
    channels, count = rng.choice((1, 1, 1, 2, 2, 6, 9)), rng.choice((0, 1, 5, 400, 3000))
    samples = np.tile(0.3 * numbers.standard_normal((count, 1)), channels)
    way = rng.random()
    if way < 0.1 and count:
        samples[rng.randrange(count), 0] = rng.choice((np.nan, np.inf, 1e20, 1e300))
    elif way < 0.2 and channels == 2:
        samples[:, 1] *= -1
    elif way < 0.3:
        samples[:, 0] = 0
    format = rng.choice(("WAV", "WAV", "WAV", "WAV", "FLAC", "OGG", "MP3"))
    format = format if count or format in ("WAV", "FLAC") else "WAV"  # encoders crash where there are no samples
    subtype = rng.choice(("PCM_16", "PCM_24", "PCM_U8", "FLOAT", "DOUBLE", "ULAW", "GSM610", "IMA_ADPCM"))
    how = {"subtype": subtype} if format == "WAV" else {}
    if format != "WAV" or subtype in ("GSM610", "IMA_ADPCM"):
        rate, channels = rng.choice((8000, 16_000, 44_100)), min(channels, 2)
        samples = samples[:, : 1 if subtype == "GSM610" else channels]
    if format != "WAV" or subtype not in ("FLOAT", "DOUBLE"):
        samples = np.nan_to_num(samples).clip(-1, 1)  # encoders crash on others
    file = io.BytesIO()
    try:
        soundfile.write(file, samples, rate, format=format, **how)
    except (soundfile.LibsndfileError, ValueError):
        soundfile.write(file, np.zeros(400), RATE, format="WAV")
        format = "WAV"
    return f"{rng.choice(('', 'take ', 'ß', 'a.b.'))}{number}.{format.lower()}", damaged(file.getvalue(), rng)


def packed(root: Path, rng: random.Random) -> Path:
    """The tree as an archive."""
    archive = root.with_name(root.name + rng.choice((".tar", ".tar.gz")))
    with tarfile.open(archive, "w:gz" if archive.name.endswith(".gz") else "w") as file:
        file.add(root, root.name)
    return archive


def refused(call: Callable[[], Any], seen: "collections.Counter[str]") -> Any:
    """What a call returns; None where it refuses its input as it should: where, what is wrong, and what to do."""
    try:
        return call()
    except InputError as error:
        if not (error.where and error.problem and error.fix):
            raise Wrong(f"a refusal without a fix: {error}") from error
        seen[f"refused: {error.problem.partition(':')[0][:60]}"] += 1
        return None


def task_of(path: Path, kind: str, rng: random.Random) -> Any:
    """The task of a recipe, on this folder."""
    data = replace(from_path(str(path)), validation=0.2, test=0.2)  # type: ignore[type-var]
    if kind == "image":
        statistics = PixelStatistics(size=(8, 8), channels=rng.choice((1, 3, 3, 4)))
        return ImageClassification(data=data, statistics=statistics, background=rng.choice(("", "white", "#102030")))
    front_end = LogMel(sample_rate=RATE, window=200, hop=80, fft=256, bins=8)
    return AudioClassification(
        data=data, features=AudioFeatures(front_end=front_end), max_seconds=rng.choice((1.0, 30.0))
    )


def check(path: Path, kind: str, rng: random.Random, work: Path, seen: "collections.Counter[str]", train: bool) -> None:
    """All that the module promises, of one folder."""
    report = refused(lambda: inspection.render(inspection.inspect(from_path(str(path)).open)), seen)
    if report is not None:
        report.encode("utf-8")
    task = refused(lambda: task_of(path, kind, rng), seen)
    if task is None:
        return
    opened = {split: refused(lambda split=split: task.data.open(split), seen) for split in SPLITS}
    present = [source for source in opened.values() if source is not None]
    if (
        present
        and kind in present[0].schema
        and len({*opened} - {s for s in opened if opened[s] is None}) == len(SPLITS)
    ):
        everything_is_counted(path, present)
    kept = {split: refused(lambda split=split: task.source(split), seen) for split, source in opened.items() if source}
    for split, source in kept.items():
        if source is not None and kind in source.schema:
            before, after = opened[split], source
            gone = sum(after.dropped.values()) - sum(before.dropped.values())
            if len(before) - len(after) != gone:
                raise Wrong(f"{split}: {len(before) - len(after)} records went, {gone} are counted")
    trained = kept.get("train")
    if trained is None or kind not in trained.schema:
        return
    bound = refused(lambda: fitted(task, trained, kind, work), seen)
    if bound is None:
        return
    seen["fitted"] += 1
    for split, source in kept.items():
        if source is not None:
            agree(bound, kind, opened[split], source, seen)
    steps(bound, trained, kind, seen)
    if path.is_dir():
        asked(bound, kind, path, seen)
    if train:
        trained_for_three_steps(task, kind, work, seen)


def everything_is_counted(path: Path, sources: list[Any]) -> None:
    """Records of all splits and what was left out are all files; a hidden folder counts as one."""
    if path.is_file():
        with tarfile.open(path) as archive:
            total = sum(not member.isdir() for member in archive)
    else:
        total = 0
        for _, folders, files in os.walk(path):
            hidden = [name for name in folders if is_hidden(name)]
            folders[:] = [name for name in folders if not is_hidden(name)]
            total += len(files) + len(hidden)
    counted = sum(map(len, sources)) + sum(sources[0].dropped.values())
    if counted != total:
        raise Wrong(f"{total} files, {counted} records and left out: {sources[0].dropped}")


def fitted(task: Any, source: Any, kind: str, work: Path) -> Any:
    """The task with its preprocessors fitted on the training split."""
    fields = {
        "labels": task.labels,
        **({"statistics": task.statistics} if kind == "image" else {"features": task.features}),
    }
    bound = {}
    for name, asset in fields.items():
        file = work / f"{name}.json"
        asset.fit(source, getattr(task, asset.column), file)
        bound[name] = replace(asset, file=str(file))
    done = replace(task, **bound)
    known = done.statistics if kind == "image" else done.features
    if not (np.isfinite(known.mean).all() and np.isfinite(known.std).all()):
        raise Wrong("statistics that are not finite")
    return done


def rows(task: Any, kind: str, value: Any) -> np.ndarray:
    """What the model is given of one file."""
    encoded = task.codec.encode({kind: [value]})[kind]
    return np.asarray(encoded if kind == "image" else encoded.values)


def agree(task: Any, kind: str, opened: Any, kept: Any, seen: "collections.Counter[str]") -> None:
    """By path as training and the command line read it, and by bytes as the server does: the same, or both refused."""
    (entry,) = task.codec.inputs
    values = opened.column(kind, np.arange(len(opened)))
    names = set(kept.record_names(np.arange(len(kept))))
    for value, name in zip(values, opened.record_names(np.arange(len(opened))), strict=True):
        data = value if isinstance(value, bytes) else Path(value).read_bytes()
        by_path, problem = None, ""
        try:
            by_path = rows(task, kind, value)
        except InputError as error:
            if not (error.where and error.problem and (error.fix or error.found)):
                raise Wrong(f"a refusal that names nothing: {error}") from error
            problem = str(error)
        try:
            by_bytes = rows(task, kind, checked(entry, data, {}))
        except InputError:
            by_bytes = None
        except Unfit as error:
            by_bytes, problem = None, f"{problem} | server: {error.code} {error}"
        if (by_path is None) != (by_bytes is None) or (by_path is not None and not np.array_equal(by_path, by_bytes)):
            raise Wrong(f"{name}: by path and by bytes differ: {problem}")
        if by_path is None and name in names:
            if kind == "image" or name.endswith(".wav"):
                raise Wrong(f"{name}: training keeps what a request refuses: {problem}")
            seen["damaged in the middle"] += 1
        if by_path is not None and name not in names:
            raise Wrong(f"{name}: training leaves out what a request answers: {kept.dropped}")
        seen["answered" if by_path is not None else "not answered"] += 1


def steps(task: Any, source: Any, kind: str, seen: "collections.Counter[str]") -> None:
    """Three batches as training encodes them, finite as the model is given them."""
    rng = np.random.default_rng(0)
    for step in range(3):
        columns = source[np.arange(step, step + 4) % len(source)]
        encoded = refused(lambda columns=columns: task.encode(columns, rng), seen)
        if encoded is None:  # damaged in the middle
            return
        given = task.normalise(encoded["image"]) if kind == "image" else encoded["audio"].values
        if not np.isfinite(np.asarray(given)).all() or encoded["label"].min() < 0:
            raise Wrong("a batch that is not finite")
        seen["batches"] += 1


def asked(task: Any, kind: str, path: Path, seen: "collections.Counter[str]") -> None:
    """``suite predict --input FOLDER``: the files of the kind, and a line on those that are left out."""
    said: list[str] = []
    columns = refused(lambda: read_input(str(path), kind, kind=kind, say=said.append), seen)
    if columns is None:
        return
    endings = IMAGES if kind == "image" else AUDIO
    wrong = [file for file in columns["file"] if not file.lower().endswith(endings) or is_hidden(Path(file).name)]
    if wrong:
        raise Wrong(f"asked for {wrong}")
    "\n".join((*said, *columns["file"])).encode("utf-8")
    seen["asked"] += len(columns["file"])


def trained_for_three_steps(task: Any, kind: str, work: Path, seen: "collections.Counter[str]") -> None:
    """``suite train`` on the folder."""
    import suite
    from suite.experiment import recipes, sections

    recipe = recipes.load("vision.classify" if kind == "image" else "speech.classify", smoke=True)
    changes = {"task.data": task.data, "train.steps": 3, "train.batch_size": 2, "optim.warmup_steps": 0}
    changes |= {"task.statistics": task.statistics} if kind == "image" else {"task.features": task.features}
    run = refused(lambda: suite.train(sections.replace(recipe, changes), work / "run"), seen)
    seen["trained" if run is not None else "not trained"] += 1


if __name__ == "__main__":
    main()
