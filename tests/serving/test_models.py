"""Versions and their copies, without a server: whose turn it is, what is told to those who wait, what lies on disk."""

import asyncio
import errno
import fcntl
import logging
import math
import os
import shutil
import socket
import tempfile
import threading
from types import SimpleNamespace

import pytest

from suite.bundles.bundle import Bundle
from suite.errors import InputError, RunError
from suite.serving import models, uvicorn_server
from suite.serving.batching import Batcher
from suite.serving.endpoint import Endpoint
from suite.serving.errors import Refused
from suite.serving.logs import LineFormatter
from suite.serving.model import Model, same_model
from suite.serving.models import Models
from suite.serving.monitoring import Monitor
from suite.serving.settings import Settings
from suite.serving.snapshots import Copy
from suite.serving.trial import Passing
from suite.serving.versions import Version
from tests.untrained import resealed


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where copies are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies"


def made(given=(), **settings):
    return Models(given, Settings(**settings), Monitor((1,)))


def fake(name, folder):
    """A bundle as far as it is asked for one here."""
    codec = SimpleNamespace(inputs=(), primary="", texts=(), styles={})
    program = SimpleNamespace(warm=lambda *given: {}, codec=codec, samples=False, lengths=(1,), models={}, engine="xla")
    return SimpleNamespace(
        name=name, version="1", folder=folder, programs={"predict": program}, signed_by="", catalogue=None
    )


class Closed:
    """A batcher, or a copy, that notes what it was told."""

    def __init__(self):
        self.said = []

    def close(self, why):
        self.said.append(why)

    def remove(self):
        self.said.append("removed")


def test_a_version_that_comes_while_models_compile_stays(tmp_path, monkeypatch):
    """What came first is slow to compile, and a look at the folder finds another meanwhile: it is not waited for."""
    taken, others = [], []
    all_, model = models_of(tmp_path, monkeypatch, "words", "clicks")

    async def tried(self, model, copy):
        (taken if model.name == "words" else others).append(copy)
        await asyncio.sleep(60 if len(taken) == 1 and model.name == "words" else 0)

    async def both():
        monkeypatch.setattr(Models, "_tried", tried)
        first = asyncio.create_task(all_.warm())
        await until(lambda: taken and all_.by_name["clicks"].current)
        assert not all_.ready and model.current is None
        model.folder = tmp_path / "another"
        await all_.look(at_once=True)
        await until(lambda: model.current)
        await asyncio.wait([first])

    asyncio.run(both())
    assert [len(copy.said) for copy in taken] == [1, 0] and taken[0].said == ["removed"]
    assert model.current.copy is taken[1] and all_.ready and len(others) == 1


async def until(done):
    for _ in range(1000):
        if done():
            return
        await asyncio.sleep(0.01)
    raise AssertionError


def models_of(folder, monkeypatch, *names):
    """Models whose versions are fakes, and the first of them."""
    all_ = made()
    all_.by_name = {name: Model(name, folder / name, stated=True) for name in names}

    async def copied(self, folder):
        return Closed()

    monkeypatch.setattr(Models, "_copied", copied)
    monkeypatch.setattr(Models, "_opened", lambda self, model, copy: fake(model.name, folder))
    monkeypatch.setattr(models, "identity", lambda folder: ((str(folder), 1, 1, 1),))
    for model in all_.by_name.values():
        model.tried = model.seen = models.identity(model.folder)
    return all_, all_.by_name[names[0]]


def test_one_bad_version_keeps_no_model_from_its_start(tmp_path, monkeypatch):
    """Whichever way it is bad; where none can be served, the reason of the first ends the server."""
    errors = [InputError('bundle "/home/me/b"', "was changed."), RuntimeError("of XLA"), Passing("b", "is too slow.")]
    for error in errors:
        all_, model = models_of(tmp_path, monkeypatch, "words", "clicks")

        async def tried(self, model, copy, error=error):
            if model.name == "words":
                raise error

        monkeypatch.setattr(Models, "_tried", tried)
        asyncio.run(all_.warm())
        assert all_.ready and all_.by_name["clicks"].current and model.error is error
        with pytest.raises(Refused, match="words cannot be served: "):
            all_.version("words")
        all_, model = models_of(tmp_path, monkeypatch, "words")
        with pytest.raises(InputError if isinstance(error, InputError) else RunError, match=str(error)):
            asyncio.run(all_.warm())
        assert not all_.ready


def test_what_failed_for_a_passing_reason_is_tried_again(tmp_path, monkeypatch):
    """After a pause that grows, and at once where it is asked for; what is damaged only in the second case."""
    all_, model = models_of(tmp_path, monkeypatch, "words")
    reasons = []

    async def tried(self, model, copy):
        if reasons:
            raise reasons.pop()

    async def life():
        monkeypatch.setattr(Models, "_tried", tried)
        all_._begin(model)
        for at_once in (False, True):
            await until(lambda: not model.is_being_taken)
            first = model.current
            reasons.append(OSError(errno.ENOSPC, "No space left on device", "/tmp/of/this/machine"))
            model.folder = tmp_path / f"next-{at_once}"
            await all_.look(at_once=True)
            await until(lambda: not model.is_being_taken)
            assert model.problem == "No space left on device" and model.current is first
            await all_.look()
            await all_.tend()
            assert not model.is_being_taken, "the pause is not over"
            if not at_once:
                assert model.again > 0
                model.again = 0.0
            await (all_.look(at_once=True) if at_once else all_.tend())
            await until(lambda: not model.is_being_taken)
            assert model.current is not first
            assert model.problem == "" and model.failures == 0
        reasons.append(InputError("b", "was changed."))
        model.folder = tmp_path / "damaged"
        await all_.look(at_once=True)
        await until(lambda: not model.is_being_taken)
        assert model.again == math.inf and model.problem == "was changed."
        await all_.look(at_once=True)
        await until(lambda: model.problem == "")

    asyncio.run(life())
    assert [Model("", tmp_path, False).pause(spent) for spent in (0, 600)] == [5, 600]
    again = [model.pause(1) for _ in range(30)]
    assert again[:4] == [5, 10, 20, 40] and again[-1] == 3600
    metrics = all_.monitor.text(
        engines={}, versions={}, catalogues={}, refused={}, waiting={}, computing={}, in_flight=0, held=0, ready=True
    ).decode()
    assert 'suite_swaps_total{model="words",result="postponed"} 2.0' in metrics
    assert 'suite_swaps_total{model="words",result="refused"} 1.0' in metrics


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            InputError('bundle "/srv/a b"', "cannot be copied.", found="No space: /tmp/x/y", fix="see /srv"),
            "cannot be copied. No space: ...",
        ),
        (
            InputError('bundle "/srv/b", file "program/0.stablehlo"', "was changed.", found="sha256 1"),
            "program/0.stablehlo was changed. sha256 1",
        ),
        (OSError(13, "Permission denied", "/srv/b"), "Permission denied"),
        (RuntimeError('in "/home/a b/c.py" and (/usr/lib/d.so)'), "in ... and (...)"),
        (InputError("b", "has 3/4 of files."), "has 3/4 of files."),
    ],
)
def test_clients_are_told_no_path_of_the_machine(error, told, tmp_path):
    assert Model("words", tmp_path, False, error=error).problem == told


def test_a_model_that_computes_without_end_is_said_to(tmp_path, monkeypatch):
    """Its requests are refused at once, until the batch ends after all or another version comes."""
    all_, model = models_of(tmp_path, monkeypatch, "words")
    over = threading.Event()

    async def life():
        queue = Batcher(lambda rows, length, size: [over.wait(20)] * size, (1,), wait=0.0, capacity=9)
        model.current = Version("words", fake("words", tmp_path), {"predict": Endpoint(None, None, queue)}, Closed())
        ticket = queue.submit([(1, 1)])
        await until(lambda: queue.computing > 0)
        await all_.tend()
        assert all_.version("words") is model.current, "it may still answer in time"
        object.__setattr__(all_.settings, "deadline_s", 0.01)
        await asyncio.sleep(0.02)
        await all_.tend()
        with pytest.raises(Refused, match="takes no requests: a batch has been computed for 0 s"):
            all_.version("words")
        over.set()
        assert await ticket.answers(20, 20) == [True]
        await all_.tend()
        assert all_.version("words") is model.current

    asyncio.run(life())


def test_who_waits_at_a_version_that_is_no_longer_served_is_told_too(tmp_path):
    queue, unused = ({"predict": Endpoint(None, None, Closed())} for _ in range(2))
    old, idle = (Version("words", fake("words", tmp_path), each, Closed()) for each in (queue, unused))
    all_, model = made(), Model("words", tmp_path, stated=False)
    all_.by_name["words"] = model

    async def replaced():
        for version in (idle, old):
            model.current, version.users = version, int(version is old)
            await all_._serve(model, fake("words", tmp_path), Closed())
        all_.close("the server is stopping.")
        all_.let_go()

    asyncio.run(replaced())
    assert queue["predict"].batcher.said == ["the server is stopping."] and old.copy.said == ["removed"]
    assert unused["predict"].batcher.said == ["this version is no longer served."] and idle.copy.said == ["removed"]


def test_a_start_that_fails_leaves_no_copy(bundles, temporary, tmp_path):
    shutil.copytree(bundles["clicks"], tmp_path / "bad")
    (tmp_path / "bad" / "model_card.md").write_text("another")
    all_ = made([str(tmp_path / "bad")])
    all_.open()
    with pytest.raises(InputError, match=f'bundle "{tmp_path}/bad.* has another size than it was written with'):
        asyncio.run(all_.warm())
    all_.let_go()
    with pytest.raises(InputError, match="is none for an address"):
        uvicorn_server.run([f"a b={bundles['words']}"], Settings(), "")
    with socket.socket() as taken, pytest.raises(InputError, match="cannot be listened at"):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        uvicorn_server.run([str(bundles["words"])], Settings(port=taken.getsockname()[1]), "")
    assert list(temporary.iterdir()) == []


def test_a_copy(bundles, temporary, tmp_path):
    """It can be removed whatever the modes of its source, no cleaner takes it, and opened it has no weights."""
    shutil.copytree(bundles["words"], tmp_path / "source")
    for folder in (tmp_path / "source" / "assets", tmp_path / "source"):
        folder.chmod(0o555)
    made = Copy(tmp_path / "source")
    assert {path.stat().st_mode & 0o777 for path in (made.folder, made.folder / "assets")} == {0o700}
    (root,) = temporary.iterdir()
    another = os.open(root, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(another, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(another)
    made.remove()
    made.remove()
    assert list(temporary.iterdir()) == []
    made = Copy(tmp_path / "source")
    bundle = Bundle.open(made.folder)
    made.opened()
    assert bundle.predict(["a film"]) and not (made.folder / "weights.safetensors").exists()
    made.remove()
    (tmp_path / "source").chmod(0o755)


def test_own_codecs_are_served_where_they_are_allowed(temporary, tmp_path):
    import suite
    from tests import toy
    from tests.untrained import untrained

    run = untrained(toy.experiment(), tmp_path / "run")
    suite.export(run, tmp_path / "toy", name="toy", platforms=("cpu",), allow=("tests",))
    for allow in ((), ("tests",)):
        served = made([str(tmp_path / "toy")], allow=allow, sizes=(1,))
        served.open()
        try:
            asyncio.run(served.warm())
        except InputError as error:
            assert 'names the class "tests' in str(error) and not allow
        else:
            assert allow and served.by_name["toy"].current
        served.let_go()
    assert list(temporary.iterdir()) == []


def test_bundles_of_one_name_are_told_apart_by_their_folders(bundles, temporary, tmp_path):
    """As of old, when bundles were called after their recipes."""
    for name in ("reviews", "photos", "other/photos"):
        shutil.copytree(bundles["words"], tmp_path / name)  # each is called "words"
    names = lambda *given: list(opened_names(*given))
    assert names(tmp_path / "reviews") == ["words"]
    assert names(tmp_path / "reviews", tmp_path / "photos") == ["reviews", "photos"]
    assert names(bundles["words"], tmp_path / "photos") == ["words", "photos"]
    assert names(f"mood={bundles['words']}", tmp_path / "photos", tmp_path / "reviews") == ["mood", "photos", "reviews"]
    with pytest.raises(InputError, match='model name "photos": is that of two bundles'):
        names(tmp_path / "photos", tmp_path / "other" / "photos")


@pytest.mark.parametrize("name", ["a\x1b[31m\n\0", "a" * 100_000, "", "a/b", "unreadable"])
def test_one_bundle_with_a_bad_name_keeps_no_other_from_being_served(bundles, temporary, tmp_path, caplog, name):
    """It is called after its folder, or left out where that is no name either; what cannot be read is refused later."""
    for folder in ("good", "bad", "no name"):
        copied = shutil.copytree(bundles["words"], tmp_path / "all" / folder)
        if folder != "good" and name == "unreadable":
            (copied / "bundle.json").write_text("{")
        elif folder != "good":
            resealed(copied, name=name)
    assert list(opened_names(tmp_path / "all")) == ["bad", "words"]
    assert f"{tmp_path / 'all' / 'no name'} is not served: " in caplog.text
    assert ('is served as "bad": model name' in caplog.text) == (name != "unreadable")
    assert len(caplog.text) < 5_000
    if name != "unreadable":
        assert list(opened_names(tmp_path / "all" / "bad")) == ["bad"]
    shutil.rmtree(tmp_path / "all" / "good")
    shutil.rmtree(tmp_path / "all" / "bad")
    with pytest.raises(InputError) as error:
        opened_names(tmp_path / "all")
    assert str(error.value).isprintable() or set(filter(lambda letter: not letter.isprintable(), str(error.value))) == {
        "\n"
    }


def test_of_two_bundles_of_one_name_that_is_served_whose_folder_has_it(bundles, temporary, tmp_path, caplog):
    for folder in ("! first", "words"):
        shutil.copytree(bundles["words"], tmp_path / folder)
    served = opened_names(tmp_path)
    assert {name: model.folder.name for name, model in served.items()} == {"words": "words"}
    assert "! first is not served: " in caplog.text


def test_the_log_shows_what_names_hold_and_obeys_none_of_it():
    line = LineFormatter("%(message)s").format(
        logging.LogRecord(
            "x", logging.INFO, "x", 1, "%s: %s (%d)", ("a\x1b[31m\nb\x9b\u202e\ud800", "c" * 30_000, 3), None
        )
    )
    assert line.startswith("a\\x1b[31m\\nb\\x9b\\u202e\\ud800: ccc") and line.endswith("c... (30,000 characters) (3)")


def opened_names(*given):
    """Names under which bundles are served."""
    all_ = made([str(item) for item in given])
    all_.open()
    return all_.by_name


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        (("reviews", "text.classify"), ("reviews-2", "text.classify"), True),
        (("reviews", "text.classify"), ("reviews", "vision.classify"), False),
        (("classify", None), ("reviews", "text.classify"), True),
        (("words", None), ("words", None), True),
        (("words", None), ("clicks", None), False),
    ],
)
def test_a_new_version_is_of_the_same_recipe(before, now, same):
    bundle = lambda name, recipe: SimpleNamespace(name=name, made={"recipe": recipe})
    assert same_model(bundle(*before), bundle(*now)) is same
