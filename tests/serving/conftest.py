"""One small model of each kind of input, exported as any run is, and a server for them."""

import io
import os
import time

import numpy as np
import pytest
from PIL import Image

from tests.serving.asking import Serving


def tone(hertz=300, seconds=0.5, rate=2000):
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


def clicks(folder):
    rng = np.random.default_rng(0)
    lines = [f"{rng.normal(3, 1):.3f},{'abc'[i % 3]},x{i % 4}|y{i % 3},{int(i % 3 == 0)}" for i in range(400)]
    (folder / "clicks.csv").write_text("\n".join(["price,shop,tags,clicked", *lines]) + "\n")
    return folder / "clicks.csv"


def recipes(folder):
    """Name -> a small experiment."""
    import suite
    from suite.data.sources.datasets import from_path
    from tests.untrained import images, keywords

    body = {"model.width": 16, "model.heads": 2, "model.feed_forward": 32}
    words = {
        "task.data": from_path(str(reviews(folder))),
        "task.text": "review",
        "task.label": "verdict",
        "task.tokenizer.vocab_size": 60,
        "task.max_length": 16,
        "pipeline.buckets": (8,),
        **body,
    }
    asked = {"task.data": from_path(str(clicks(folder))), "task.label": "clicked", "task.fields.lists": ("tags",)}
    return {
        "words": lambda: suite.replace(suite.load("text.encoder", smoke=True), words),
        "digits": lambda: images(folder),
        "sounds": lambda: keywords(folder),
        "clicks": lambda: suite.replace(suite.load("recommendation.click", smoke=True), asked),
    }


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


def bundle(root, name, version=1):
    """The bundle of a small model as training would begin with; another ``version`` answers otherwise."""
    import suite
    from tests.untrained import untrained

    folder = root / f"data-{name}-{version}"
    folder.mkdir()
    experiment = suite.replace(recipes(folder)[name](), {"train.seed": version})
    target = root / (name if version == 1 else f"{name}-{version}")
    suite.export(untrained(experiment, folder / "run"), target, name=name, platforms=("cpu",))
    return target


@pytest.fixture(scope="session")
def server(bundles):
    """All of them behind one address."""
    with Serving(*bundles.values(), "--sizes", "1", "4") as made:
        yield made


@pytest.fixture(scope="session")
def opened(bundles):
    """Name -> the bundle, opened here, for the answers that the server must give."""
    from suite.bundles.bundle import Bundle

    return {name: Bundle.open(folder) for name, folder in bundles.items()}
