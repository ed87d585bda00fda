"""Mutated bundles and programs put where a running server looks for new versions: it lives, answers for its other
models as before, and takes good versions afterwards. `FUZZ_OF` chooses "bundles" or "programs"; without it they
alternate."""

import itertools
import os
import re
import shutil
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

import suite
from tests.fuzz.mutations import mutated
from tests.fuzz.test_bundles import changed
from tests.fuzz.test_programs import TELLING
from tests.serving.asking import Serving
from tests.serving.conftest import png
from tests.untrained import images, resealed, untrained

SLOTS = 4
"""Models whose versions are replaced, of which as many are tried at a time as the server tries."""
SECONDS = 90
"""That a trial may take, on a machine that does much else: those that hang take all of them."""
PATIENCE = 600
"""Seconds after which the server is said to have forgotten a version."""
MIB = 2**20


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    return suite.export(untrained(images(folder), folder / "run"), folder / "bundle", platforms=("cpu",)).folder


def with_other_program(good, folder, generator):
    """A copy of ``good`` with its program changed; what was changed, as bytes."""
    shutil.copytree(good, folder)
    (file,) = (folder / "program").iterdir()
    content = bytearray(file.read_bytes())
    if generator.random() < 0.5:
        content = bytearray(mutated(bytes(content), generator, TELLING))
    else:  # a byte behind the head of the bytecode: what comes before is checked before it is read
        place = int(generator.integers(content.index(b"ML\xefR") + 22, len(content)))
        content[place] = int(generator.integers(256))
    file.write_bytes(content)
    resealed(folder)
    return bytes(content)


class Watched:
    """A server, the folders that it looks into, and clients that ask its steady model all the while."""

    def __init__(self, good, folder):
        self.good, self.folder = good, folder
        folder.mkdir()
        self.names = [f"slot{i}" for i in range(SLOTS)]
        for name in ("steady", *self.names):
            shutil.copytree(good, folder / name)
        given = [f"{name}={folder / name}" for name in ("steady", *self.names)]
        limits = ("--sizes", "1", "--watch-s", "0", "--warm-s", SECONDS)
        self.server = Serving(*given, *limits, SUITE_CACHE="off")
        self.process = psutil.Process(self.server.process.pid)
        self.wrong, self.asked, self.over = [], 0, threading.Event()
        self.expected = self.answer()
        self.client = threading.Thread(target=self.ask)
        self.client.start()

    def answer(self, name="steady"):
        return self.server.post(name, png(), "image/png")

    def ask(self):
        while not self.over.is_set():
            try:
                status, made = self.answer()
            except OSError as error:
                status, made = repr(error), None
            self.asked += 1
            if (status, made) != self.expected:
                self.wrong.append((status, made))
            self.over.wait(0.05)

    def put(self, name, source):
        """``source`` as the newest version of a model; it is moved."""
        os.rename(self.folder / name, self.folder / ".old")
        os.rename(source, self.folder / name)
        shutil.rmtree(self.folder / ".old")

    def done(self):
        """Model -> versions of it that were taken or refused so far, and all of these by their result."""
        text = self.server.request("GET", "/metrics")[2].decode()
        found = re.findall(r'suite_swaps_total\{model="(\w+)",result="(\w+)"\} ([\d.]+)', text)
        by_model, by_result = Counter(), Counter()
        for model, result, count in found:
            by_model[model] += int(float(count))
            by_result[result] += int(float(count))
        return by_model, by_result

    def take(self, sources):
        """Put versions into the first slots, and wait until each was taken or refused."""
        before, _ = self.done()
        names = self.names[: len(sources)]
        for name, source in zip(names, sources, strict=True):
            self.put(name, source)
        self.server.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + PATIENCE
        while True:
            now, _ = self.done()
            if all(now[name] > before[name] for name in names):
                return
            assert time.monotonic() < until and self.server.process.poll() is None, "".join(self.server.log)[-4000:]
            time.sleep(0.05)

    def close(self):
        self.over.set()
        self.client.join(60)
        self.server.__exit__()


def test_running_server(good, budget, tmp_path):
    watched = Watched(good, tmp_path / "served")
    kinds = {"bundles": (changed,), "programs": (with_other_program,)}.get(
        os.environ.get("FUZZ_OF", ""), (changed, with_other_program)
    )
    try:
        _put_all(watched, kinds, budget, tmp_path)
    finally:
        watched.close()


def _put_all(watched, kinds, budget, tmp_path):
    begun, settled, waiting, last = time.monotonic(), None, [], b""
    made = Counter()
    for number, generator in budget:
        make = kinds[number % len(kinds)]
        source = tmp_path / f"case{number}"
        last = make(watched.good, source, generator)
        made[make.__name__] += 1
        waiting.append(source)
        if len(waiting) == SLOTS:
            watched.take(waiting)
            waiting = []
            settled = settled or (number > 60 and _held(watched))
        if watched.wrong:
            budget.failed(f"another answer of the steady model: {watched.wrong[:3]}", last)
    if waiting:
        watched.take(waiting)
    seconds, (_, results) = time.monotonic() - begun, watched.done()
    held = _held(watched)
    copies = [shutil.copytree(watched.good, tmp_path / f"good{i}") for i in range(SLOTS)]
    watched.take(copies)
    assert all(watched.answer(name)[0] == 200 for name in watched.names), "good versions are taken afterwards"
    for name in watched.names:
        assert watched.answer(name)[1]["answers"] == watched.expected[1]["answers"]
    assert not watched.wrong and watched.asked > 1, watched.wrong[:3]
    assert "Traceback" not in "".join(watched.server.log), "".join(watched.server.log)[-4000:]
    print(f"{dict(made)} {dict(results)} in {seconds:.0f} s; {watched.asked} answers; held {settled} then {held}")
    if settled:
        for name, most in {"descriptors": 16, "threads": 8, "MiB": 100, "folders": 4}.items():
            assert held[name] <= settled[name] + most, (settled, held)


def _held(watched):
    """What the server holds."""
    folders = list(itertools.islice(Path(watched.server.folder).iterdir(), 1000))
    return {
        "MiB": watched.process.memory_info().rss // MIB,
        "descriptors": watched.process.num_fds(),
        "threads": watched.process.num_threads(),
        "folders": len(folders),
    }
