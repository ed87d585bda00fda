"""Everything at once: a hostile version, a full disk for temporary files, a new version and the end of the server.

Clients ask meanwhile, DRILL_REQUESTS times, 300 by default: nothing is lost, nothing answered wrongly."""

import json
import os
import resource
import signal
import time

import pytest

from tests import hostile_programs as hostile
from tests.serving.asking import Serving
from tests.serving.conftest import bundle
from tests.serving.test_stopping import Asking

REQUESTS = int(os.environ.get("DRILL_REQUESTS", "300"))
TEXT = "a fine and moving film number 3"


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """Another version of the model ``words``."""
    return bundle(tmp_path_factory.mktemp("second"), "words", version=2)


def test_nothing_is_lost_whatever_happens(bundles, second, opened, tmp_path):
    from suite.bundles.bundle import Bundle

    expected = {made.version: made.predict([TEXT])[0] for made in (opened["words"], Bundle.open(second))}
    assert len({json.dumps(each) for each in expected.values()}) == 2, "the two answer differently"
    link = tmp_path / "current"
    link.symlink_to(bundles["words"])

    def put(source):
        (tmp_path / "next").symlink_to(source)
        os.replace(tmp_path / "next", link)

    def wait(done):
        until = time.monotonic() + 300
        while not done():
            assert time.monotonic() < until, "".join(server.log)
            time.sleep(0.05)

    def about():
        return server.get("/v1/models")[1]["models"][0]

    with Serving(f"film={link}", "--sizes", "1", "4", "--watch-s", "0.2") as server:
        asking = Asking(server, "film", TEXT)
        put(hostile.with_programs(bundles["words"], tmp_path / "hostile", lambda _: hostile.CRASHING()))
        wait(lambda: "refused" in about())
        assert about()["version"] == opened["words"].version
        wait(lambda: len(asking.answers) >= REQUESTS // 3)

        unbounded = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (100, unbounded[1]))  # as a disk without room
        put(second)
        wait(lambda: "cannot be copied" in about().get("refused", ""))
        assert about()["version"] == opened["words"].version
        wait(lambda: len(asking.answers) >= 2 * REQUESTS // 3)

        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unbounded)
        server.process.send_signal(signal.SIGHUP)
        wait(lambda: about()["version"] != opened["words"].version)
        wait(lambda: len(asking.answers) >= REQUESTS and asking.answers[-1][1]["version"] != opened["words"].version)
        assert server.stop() == 0, "".join(server.log)
        asking.end()
    assert asking.lost == 0 and not asking.others
    assert {made["version"] for _, made in asking.answers} == set(expected)
    for _, made in asking.answers:
        wanted = expected[made["version"]]
        assert made["answers"][0]["label"] == wanted["label"]
        assert made["answers"][0]["top"] == pytest.approx(wanted["top"], abs=1e-4)
    print(f"{len(asking.answers)} requests answered")
