"""Bundles with anything changed and sealed again, as whoever makes a bundle can: opened, refused in words, or the end
of the process that tries them."""

import json
import shutil

import pytest

import suite
from suite.bundles import manifest
from tests.fuzz.mutations import TELLING, mutated
from tests.fuzz.opening import Opener
from tests.untrained import resealed, untrained


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A bundle of the suite's own codec, small enough to be changed all over."""
    from tests.untrained import images

    folder = tmp_path_factory.mktemp("good")
    return suite.export(untrained(images(folder), folder / "run"), folder / "bundle", platforms=("cpu",)).folder


def changed(good, folder, generator):
    """A copy of ``good`` with a file changed; what was changed, as bytes."""
    shutil.copytree(good, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    file = files[int(generator.integers(len(files)))]
    content = mutated(file.read_bytes(), generator, (*TELLING, b"null", b"-1", b"1e999", b'{"":0}', b"[]"))
    if file.name == manifest.NAME:
        try:
            whole = json.loads(content)
            whole["version"] = manifest._version(whole)
            content = json.dumps(whole).encode()
        except Exception:
            pass  # no JSON, or none that has a version: as it is
        file.write_bytes(content)
    else:
        file.write_bytes(content)
        resealed(folder)
    return f"{file.name}\n".encode() + content


def test_bundles(good, budget, tmp_path):
    folder = tmp_path / "bundle"
    with Opener() as opener:
        for _, generator in budget:
            content = changed(good, folder, generator)
            if why := opener.open(folder):
                budget.failed(why, content)
            shutil.rmtree(folder)
        assert not opener.open(good) and opener.counts["opened"], "the good one is opened"
        print(dict(opener.counts))
