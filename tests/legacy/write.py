"""Writes the stored runs and bundles of this folder, by the revision that it is run with.

``python -m tests.legacy.write`` at the root of the repository. They stand for what users have on disk, so they are
written once: a later revision must read what is here, not write it again. ``NAME.tar.xz`` holds a folder of that name
with

- ``run``: a run that was stopped after 4 of 8 steps, with its checkpoint;
- ``bundle``: the same run trained to its end and exported, for CPUs alone.

``NAME.json`` says what both are asked, what this revision answered, what the run became when it went on, and with which
JAX on which processor. The folders lie in archives since most of a small checkpoint is metadata that compress well, and
since nobody should edit them.
"""

import base64
import dataclasses
import json
import os
import shutil
import signal
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Any

os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # programs name no files of this machine
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["SUITE_CACHE"] = "off"

import suite
from tests.legacy import asking, data

STOP, STEPS = 4, 8
COMMON = {
    "train.steps": STEPS,
    "train.eval_every": STOP,
    "train.batch_size": 8,
    "train.eval_batch_size": 8,
    "train.log_every": 2,
    "optim.warmup_steps": 2,
    "train.steps_per_dispatch": 1,
    "train.patience": 0,
    "train.best": "",
    "train.ema": 0.0,
    "checkpoint.keep": 1,
    "precision.compute": "float32",
}
FEATURES = {"sample_rate": data.RATE, "window": 50, "hop": 20, "fft": 64, "bins": 8}
RECIPES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "texts": (
        "text.encoder",
        {"layers": 1, "width": 8, "heads": 2, "feed_forward": 8, "max_length": 16},
        {
            "task.data.path": "texts.csv",
            "task.data.split": "split",
            "task.tokenizer.file": "own.model",
            "task.max_length": 16,
            "pipeline.buckets": (16,),
            "train.ema": 0.9,
        },
    ),
    "images": (
        "vision.classify",
        {"stem_width": 4, "stem_stride": 1, "blocks": (1, 1), "widths": (4, 6)},
        {"task.data.path": "images", "task.statistics.size": (data.SIDE, data.SIDE), "train.best": "accuracy"},
    ),
    "speech": (
        "speech.recognize",
        {"layers": 1, "width": 8, "heads": 2, "kernel": 3, "feed_forward": 8, "subsampling": 2},
        {
            "task.data.path": "speech/manifest.jsonl",
            "task.max_seconds": 1.0,
            "task.max_text": 8,
            "pipeline.buckets": (2000,),
            **{f"task.features.front_end.{name}": value for name, value in FEATURES.items()},
        },
    ),
    "clicks": (
        "recommendation.click",
        {"width": 2, "hidden": (4,)},
        {"task.data.path": "clicks.csv", "task.data.split": "split"},
    ),
    "running": (
        "text.shakespeare_gpt",
        {"layers": 1, "width": 8, "heads": 2, "feed_forward": 8, "max_length": 24},
        {
            "task.data.path": "running.txt",
            "task.data.test": 0.1,
            "task.decoding.tokens": 8,
            "task.context": 24,
            "task.overlap": 2,
            "pipeline.buckets": (25,),
            "goal": None,
        },
    ),
}
"""Recipe, what is smaller in its model, and other changes, by the name of the folder and of what `data` writes."""

PLAIN: dict[str, dict[str, list[Any]]] = {
    "texts": {"text": ["the film was good", "a dull plot, and the cast was slow", "unheard words"]},
    "clicks": {"city": ["Rome", "Oslo", "Paris"], "tags": ["sale|red", "", "new|blue"], "price": [1.5, 8.25, 3.0]},
    "running": {"text": ["the film was", "the c", "good."]},
}
"""Requests."""
FILES = {
    "images": ("image", ("images/test/standing/10.png", "images/test/lying/11.png", "images/test/lying/23.png")),
    "speech": ("audio", ("speech/10.wav", "speech/11.wav", "speech/22.wav")),
}
"""Requests whose values are files of the data."""


def inputs(name: str) -> dict[str, list[Any]]:
    """Three requests, of data in the current folder; files as base64."""
    if name in FILES:
        column, paths = FILES[name]
        return {column: [{"base64": base64.b64encode(Path(path).read_bytes()).decode()} for path in paths]}
    return PLAIN[name]


def tokenizer(path: Path) -> None:
    """A SentencePiece model of the texts without tables of Unicode, which would be most of its size."""
    import csv

    import sentencepiece

    with open("texts.csv", encoding="utf-8") as file:
        said = [row["text"] for row in csv.DictReader(file)]
    with open(path, "wb") as made:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(said),
            model_writer=made,
            vocab_size=40,
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            minloglevel=2,
        )


def write(name: str) -> dict[str, list[Any]]:
    """The archive of one name; returns what its run and bundle are to be asked."""
    before = Path.cwd()
    recipe, model, changes = RECIPES[name]
    with tempfile.TemporaryDirectory() as place:
        try:
            os.chdir(place)
            data.WRITERS[name](Path("."))
            if name == "texts":
                tokenizer(Path("own.model"))
            stop = lambda item: os.kill(os.getpid(), signal.SIGTERM) if item.first == STOP - 1 else None
            loaded = suite.load(recipe)
            smaller: Any = dataclasses.replace(loaded.model, **model)  # type: ignore[type-var]
            experiment = suite.replace(loaded, {**COMMON, "model": smaller, **changes})
            try:
                suite.train(experiment, "run", on_dispatch=stop)
            except suite.Interrupted:
                shutil.copytree("run", "stopped", ignore=shutil.ignore_patterns("tensorboard"))
            suite.export(suite.resume("run"), "bundle", platforms=("cpu",))
            neutral(Path("stopped"))
            archive(name)
            return inputs(name)
        finally:
            os.chdir(before)


def neutral(run: Path) -> None:
    """Cuts off the path that Orbax notes where a checkpoint was written, and nobody reads; with checksums to match."""
    for sums in run.glob("checkpoints/*/checksums.json"):
        content = json.loads(sums.read_text(encoding="utf-8"))
        for path in sums.parent.rglob("commit_success.txt"):
            path.write_text("Checkpoint commit was successful\n", encoding="utf-8")
            written = path.read_bytes()
            content["files"][path.relative_to(sums.parent).as_posix()] = [len(written), zlib.crc32(written)]
        sums.write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")


def archive(name: str) -> None:
    """The run and the bundle in the current folder, without owners and times."""
    plain = lambda entry: entry.replace(uid=0, gid=0, uname="", gname="", mtime=0, deep=False)
    with tarfile.open(asking.HERE / f"{name}.tar.xz", "w:xz", preset=9) as file:
        file.add("stopped", f"{name}/run", filter=plain)
        file.add("bundle", f"{name}/bundle", filter=plain)


def note(name: str, asked: dict[str, list[Any]], expected: dict[str, Any]) -> None:
    """``NAME.json``, a line an entry."""
    content = {"made": asking.setting(), "inputs": asked, **expected}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    asking.about(name).write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    requests = {name: write(name) for name in sys.argv[1:] or RECIPES}
    for each, request in requests.items():
        note(each, request, {})
    for each, said in asking.asked(list(requests)).items():
        note(each, requests[each], said)
