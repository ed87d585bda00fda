"""One small model of each kind of input, really trained and exported, and a server for them."""

import io
import os
import time

import numpy as np
import pytest
from PIL import Image

from tests.serving.asking import Serving

ONE, TWO = 440, 880
"""Hertz of the two kinds of recordings."""


def tone(hertz, seconds=0.5, rate=8000):
    """A WAV file with a tone."""
    import soundfile

    samples = 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    return file.getvalue()


def png(value=255, size=(8, 8)):
    """A grey PNG file."""
    file = io.BytesIO()
    Image.fromarray(np.full(size, value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def reviews(folder):
    words = [("a fine and moving film", "good"), ("a dull and tired film", "bad")]
    lines = [f"{words[i % 2][0]} number {i},{words[i % 2][1]}" for i in range(120)]
    (folder / "reviews.csv").write_text("\n".join(["review,verdict", *lines]) + "\n")
    return folder / "reviews.csv"


def recordings(folder):
    for name, hertz in (("low", ONE), ("high", TWO)):
        (folder / "sounds" / name).mkdir(parents=True)
        for i in range(30):
            (folder / "sounds" / name / f"{i}.wav").write_bytes(tone(hertz + i, 0.3 + 0.01 * i))
    return folder / "sounds"


def clicks(folder):
    rng = np.random.default_rng(0)
    lines = [f"{rng.normal(3, 1):.3f},{'abc'[i % 3]},x{i % 4}|y{i % 3},{int(i % 3 == 0)}" for i in range(400)]
    (folder / "clicks.csv").write_text("\n".join(["price,shop,tags,clicked", *lines]) + "\n")
    return folder / "clicks.csv"


def recipes(folder):
    """Name -> recipe and its changes."""
    from suite.data.sources import from_path

    return {
        "words": ("text.classify", {"task.data": from_path(str(reviews(folder))), "task.text": "review",
                                    "task.label": "verdict", "task.tokenizer.vocab_size": 60,
                                    "pipeline.buckets": (8, 16), "train.steps": 30}),
        "digits": ("vision.digits_dnn", {"train.steps": 60}),
        "sounds": ("speech.classify", {"task.data": from_path(str(recordings(folder))), "train.steps": 3,
                                       "task.max_seconds": 2.0, "pipeline.buckets": (8000, 16000)}),
        "clicks": ("recommendation.click", {"task.data": from_path(str(clicks(folder))), "task.label": "clicked",
                                            "task.fields.lists": ("tags",), "train.steps": 20}),
    }  # fmt: skip


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """Name -> bundle, made once by whichever process comes first."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "served"
    names = ("words", "digits", "sounds", "clicks")
    try:
        root.mkdir()
    except FileExistsError:
        until = time.monotonic() + 300
        while not (root / "done").exists():
            assert time.monotonic() < until and not (root / "failed").exists(), "the bundles were not made"
            time.sleep(0.2)
        return {name: root / name for name in names}
    try:
        made = {name: bundle(root, name) for name in names}
    except BaseException:
        (root / "failed").touch()
        raise
    (root / "done").touch()
    return made


def bundle(root, name, version=1, **changes):
    """The bundle of a small model, trained here; another ``version`` answers otherwise."""
    import suite
    from suite.experiments import load

    folder = root / f"data-{name}-{version}"
    folder.mkdir()
    recipe, fields = recipes(folder)[name]
    experiment = suite.replace(load(recipe, smoke=True), {**fields, "train.seed": version, **changes})
    run = suite.train(experiment, folder / "run")
    target = root / (name if version == 1 else f"{name}-{version}")
    suite.export(run, target, name=name, platforms=("cpu",))
    return target


@pytest.fixture(scope="session")
def server(bundles):
    """All of them behind one address."""
    with Serving(*bundles.values(), "--sizes", "1", "4") as made:
        yield made


@pytest.fixture(scope="session")
def opened(bundles):
    """Name -> the bundle, opened here, for the answers that the server must give."""
    from suite.bundle import Bundle

    return {name: Bundle.open(folder) for name, folder in bundles.items()}
