"""Versions that end, block or exhaust the process that tries them: the server answers on, and swaps other models."""

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from suite.errors import InputError
from suite.serving.nursery import Nursery
from suite.serving.trial import Passing, Trial
from tests import hostile_programs as hostile
from tests.serving.asking import Serving
from tests.serving.conftest import bundle


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """Another version of the model ``clicks``."""
    return bundle(tmp_path_factory.mktemp("second"), "clicks", version=2)


@pytest.fixture(scope="module")
def nursery():
    """What trials are forked from, as in a server: one for all."""
    with Nursery() as made:
        made.start()
        yield made


def tried(nursery, folder, cache, seconds=300.0, most=0, allow=()):
    """What a trial of the bundle in ``folder`` raises, as text; empty where nothing."""
    begun = []
    trial = Trial(f'bundle "{folder}"', folder, cache, allow, "", (1,), seconds, most)
    try:
        asyncio.run(trial.run(nursery, lambda: begun.append(time.monotonic())))
    except InputError as error:
        return type(error), str(error), len(begun)
    return None, "", len(begun)


def test_what_a_trial_compiles_is_compiled(nursery, bundles, tmp_path, monkeypatch):
    from suite.bundles.bundle import Bundle
    from suite.runtime.compilation import CompileWatch, disable_cache, enable_cache

    assert tried(nursery, bundles["clicks"], tmp_path) == (None, "", 1)
    enable_cache(tmp_path)
    try:
        opened = Bundle.open(bundles["clicks"], cache=False)
        with CompileWatch() as watch:
            opened.programs["predict"].warm((1,))
        assert watch.misses == 0 and watch.hits == watch.compilations > 0
    finally:
        disable_cache()


def test_a_program_without_end_has_a_clock(nursery, bundles, tmp_path):
    hostile.with_programs(bundles["clicks"], tmp_path / "bad", hostile.ENDLESS)
    begun = time.monotonic()
    kind, why, _ = tried(nursery, tmp_path / "bad", tmp_path, seconds=4.0)
    assert kind is Passing and "is not ready after 4 s.\n  try:   --warm-s 8" in why
    assert time.monotonic() - begun < 60 and not trials(nursery._process.pid)


def test_a_program_has_no_more_memory_than_it_is_given(nursery, bundles, tmp_path):
    hostile.with_programs(bundles["clicks"], tmp_path / "bad", hostile.HUGE)
    kind, why, begun = tried(nursery, tmp_path / "bad", tmp_path, most=4 << 30)
    assert begun == 1 and kind is Passing and "memory" in why.lower(), why


@pytest.mark.parametrize("damage", [b"", b"ML\xefR", b"\x00" * 64])
def test_what_cannot_be_read_is_refused_in_words(nursery, bundles, tmp_path, damage):
    hostile.with_programs(bundles["clicks"], tmp_path / "bad", lambda stored: damage + stored[64:])
    kind, why, _ = tried(nursery, tmp_path / "bad", tmp_path)
    assert kind is InputError and 'file "program/0.stablehlo": cannot be read: it is no program of jax' in why


@pytest.mark.parametrize(
    ("stored", "seconds"), [(hostile.CRASHING, 60.0), (hostile.ABORTING, 60.0), (hostile.HANGING, 5.0)]
)
def test_a_byte_that_ends_its_reader_ends_the_trial(nursery, bundles, tmp_path, stored, seconds):
    hostile.with_programs(bundles["clicks"], tmp_path / "bad", lambda _: stored())
    kind, why, begun = tried(nursery, tmp_path / "bad", tmp_path, seconds=seconds)
    assert kind in (InputError, Passing) and not begun, why
    assert any(word in why for word in ("SIGSEGV", "SIGABRT", "is not ready after", "cannot be read", "not fit")), why


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGSEGV, InputError), (signal.SIGKILL, Passing)])
def test_a_trial_that_dies_is_told_by_its_signal(bundles, tmp_path, number, kind):
    """Killed is what happens where memory runs out, which may pass; a crash does not."""
    hostile.with_programs(bundles["clicks"], tmp_path / "bad", hostile.ENDLESS)
    trial = Trial("it", tmp_path / "bad", tmp_path, (), "", (1,), 100.0)
    with Nursery() as nursery, pytest.raises(InputError) as raised:
        asyncio.run(trial.run(nursery, lambda: os.kill(*trials(nursery._process.pid), number)))
    assert raised.type is kind
    assert ("ends the process that tries it.\n  found: SIGSEGV" in str(raised.value)) == (number == signal.SIGSEGV)


def test_a_nursery_that_has_ended_is_replaced(bundles, tmp_path):
    trial = Trial("it", bundles["clicks"], tmp_path, (), "", (1,), 100.0, compile=False)
    with Nursery() as nursery:
        nursery.start()
        nursery._process.kill()
        nursery._process.wait()
        asyncio.run(trial.run(nursery))
        assert len(os.listdir(f"/proc/{nursery._process.pid}/task")) == 1, "a process with threads is not forked"


def test_a_nursery_that_cannot_start_says_why(bundles, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import os\nos.write(2, b'no library')\nos._exit(3)")
    monkeypatch.syspath_prepend(str(tmp_path))
    with Nursery() as one:
        kind, why, _ = tried(one, bundles["clicks"], tmp_path)
    assert kind is Passing and "cannot be tried: the process for it ended at once.\n  found: no library" in why


def test_only_what_a_child_needs_of_the_environment_reaches_it(monkeypatch):
    from suite.runtime.child import environment

    kept = {"JAX_PLATFORMS": "cpu", "LC_ALL": "C.UTF-8", "SUITE_CACHE": "/c"}
    for name, value in {**kept, "SUITE_TOKEN": "a", "JAX_API_KEY": "a", "DATABASE_URL": "postgres://u:a@h"}.items():
        monkeypatch.setenv(name, value)
    given = environment(ONE="1")
    assert not any(value == "a" or "postgres" in value for value in given.values())
    assert given.items() >= {**kept, "PATH": os.environ["PATH"], "ONE": "1"}.items()


def children(process):
    """Processes that another has started and that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == process and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def alive(process):
    """Whether a process runs."""
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


def trials(nursery):
    """Processes of trials, each below a watcher that the nursery has forked."""
    return [trial for watcher in children(nursery) for trial in children(watcher)]


def trial_of(server):
    """The process of the trial that is at work for a server."""
    (trial,) = [trial for nursery in children(server) for trial in trials(nursery)]
    return trial


def test_a_hostile_version_blocks_no_other_model(bundles, second, opened, tmp_path):
    """One without end, then one that cannot be read; meanwhile the other model is swapped, and at last this one."""
    for name in ("words", "clicks"):
        shutil.copytree(bundles[name], tmp_path / name)
    hostile.with_programs(bundles["words"], tmp_path / ".endless", hostile.ENDLESS)
    hostile.with_programs(bundles["words"], tmp_path / ".broken", lambda _: hostile.CRASHING())

    def put(name, source):
        os.rename(tmp_path / name, tmp_path / f".old-{time.monotonic()}")
        os.rename(source, tmp_path / name)

    def about(name):
        (found,) = (model for model in server.get("/v1/models")[1]["models"] if model["name"] == name)
        return found

    def wait(done):
        until = time.monotonic() + 120
        while not done():
            assert time.monotonic() < until, "".join(server.log)
            time.sleep(0.1)

    with Serving(tmp_path / "words", tmp_path / "clicks", "--sizes", "1", "--watch-s", "0.2") as server:
        first = about("words")["version"]
        put("words", tmp_path / ".endless")
        wait(lambda: about("words").get("warming", {}).get("compiling"))
        trying = trial_of(server.process.pid)
        before = about("clicks")["version"]
        put("clicks", shutil.copytree(second, tmp_path / ".second"))
        wait(lambda: about("clicks")["version"] != before)
        assert about("words")["version"] == first and alive(trying)
        assert server.ask("words", ["a fine film"]) == opened["words"].predict(["a fine film"])
        put("words", tmp_path / ".broken")  # it need not wait for the end of the one before
        wait(lambda: "refused" in about("words"))
        assert not alive(trying)
        why = about("words")["refused"]
        assert why.startswith(("ends the process that tries it. SIGSEGV", "program/")) and str(tmp_path) not in why
        metrics = server.request("GET", "/metrics")[2].decode()
        assert (
            'suite_model_refused{model="words"} 1.0' in metrics and 'suite_model_refused{model="clicks"} 0.0' in metrics
        )
        hostile.with_programs(bundles["words"], tmp_path / ".endless", hostile.ENDLESS)
        put("words", tmp_path / ".endless")
        wait(lambda: about("words").get("warming", {}).get("compiling"))
        trying = trial_of(server.process.pid)
        assert "Warning" not in "".join(server.log), "such as of a fork where threads run"
        server.process.kill()
        server.process.wait()
        until = time.monotonic() + 20
        while alive(trying):
            assert time.monotonic() < until, "it outlives its server"
            time.sleep(0.1)
