"""Runs and bundles that an earlier revision wrote: they are read, answer as they did, and go on as they would.

Where JAX and the processor are those of that day, equal means to the bit; elsewhere numbers may differ by 1e-5, since
compilers and processors add in other orders. See tests/legacy/write.py.
"""

import json
import tarfile

import pytest

from tests.conftest import ROOT
from tests.legacy import asking
from tests.legacy.data import WRITERS

NAMES = tuple(WRITERS)
NEAR = 1e-5
SAMPLED = ("running",)
"""Runs whose answers are drawn. Random numbers come by record now, so a run draws other tokens than it did; a bundle,
which carries its program, draws the same."""
ATTENDING = ("running", "speech", "texts")
"""Runs with attention, which sums in another order now: nowhere to the bit. Of a key's bias only rounding decides, as
the softmax takes no notice of it."""


@pytest.fixture(scope="module")
def found():
    """What is said today, by name; one process asks all, with settings of its own."""
    return asking.asked(list(NAMES))


def stored(name):
    """What was said, and whether today's must be equal to the bit."""
    content = json.loads(asking.about(name).read_text(encoding="utf-8"))
    return content, content["made"] == asking.setting()


def same(ours, theirs, exact):
    """Asserts that two values made of dicts, lists and numbers are equal, or near."""
    if exact or not isinstance(theirs, dict | list | float):
        assert ours == theirs
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=NEAR, abs=NEAR)
    else:
        assert len(ours) == len(theirs)
        keys = theirs if isinstance(theirs, dict) else range(len(theirs))
        for key in keys:
            same(ours[key], theirs[key], exact)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["run", "bundle"])
def test_it_answers_as_it_did(found, name, kind):
    expected, exact = stored(name)
    if kind == "bundle" or name not in SAMPLED:
        same(found[name][kind], expected[kind], exact and (kind == "bundle" or name not in ATTENDING))
    assert found[name][kind]["by folder"] == found[name][kind]["answers"]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_was_stopped_goes_on_to_the_same_end(found, name):
    """Parameters and other variables, what was measured on the way and on the test split, and answers; what is
    measured besides today is new."""
    expected, exact = stored(name)
    exact = exact and name not in ATTENDING
    hashes = () if exact else ("parameters", "rest")  # the norms of all arrays stand for them
    hashes += ("answers",) if name in SAMPLED else ()
    without = lambda values: {name: value for name, value in values.items() if name not in hashes}
    now, then = without(found[name]["resumed"]), without(expected["resumed"])
    for norms in (now["norms"], then["norms"]):
        for key in [key for key in norms if key.endswith("attention/key/bias")]:
            assert norms.pop(key) < 0.1
    for measured in ("metrics", "test"):
        now[measured] = {metric: now[measured][metric] for metric in then[measured]}
    same(now, then, exact)


def test_they_name_nothing_of_the_machine_that_wrote_them():
    """Whatever is stored is without paths of that day."""
    for name in NAMES:
        with tarfile.open(asking.HERE / f"{name}.tar.xz") as file:
            entries = [entry for entry in file if entry.isfile()]
            assert not [entry.name for entry in entries if _names_a_path(file.extractfile(entry).read())]
        assert not _names_a_path(asking.about(name).read_bytes())


def _names_a_path(content):
    places = (str(ROOT).encode(), b"/root/", b"/tmp/", b"/home/", b"site-packages")
    return any(place in content for place in places)
