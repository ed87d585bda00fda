"""Versions and their copies, without a server: whose turn it is, what is told to those who wait, what lies on disk."""

import asyncio
import fcntl
import os
import shutil
import socket
import tempfile
from types import SimpleNamespace

import pytest

from suite.errors import InputError
from suite.serving import models, uvicorn_server
from suite.serving.endpoint import Endpoint
from suite.serving.models import Model, Models, Version
from suite.serving.monitoring import Monitor
from suite.serving.settings import Settings
from suite.serving.snapshots import Copy


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
    program = SimpleNamespace(warm=lambda *given: {}, codec=codec, samples=False, lengths=(1,))
    return SimpleNamespace(name=name, version="1", folder=folder, programs={"predict": program})


class Closed:
    """A batcher, or a copy, that notes what it was told."""

    def __init__(self):
        self.said = []

    def close(self, why):
        self.said.append(why)

    def remove(self):
        self.said.append("removed")


def test_a_version_that_comes_while_models_compile_stays(tmp_path, monkeypatch):
    """What was opened first is slow to compile, and a look at the folder finds another meanwhile."""
    old, new, served = fake("words", tmp_path), fake("words", tmp_path), []
    all_, model = made(), Model("words", tmp_path, stated=False)
    all_.by_name["words"], all_._opened = model, [(model, old, Closed())]
    monkeypatch.setattr(models, "identity", lambda folder: (("bundle.json", 1, 1, 1),))
    monkeypatch.setattr(models, "opened", lambda folder, allow, trust: (new, Closed()))

    async def serve(model, bundle, copy):
        await asyncio.sleep(0.1 if bundle is old else 0)
        served.append(bundle)
        return 0.0

    async def both():
        monkeypatch.setattr(all_, "_serve", serve)
        await asyncio.gather(all_.warm(), all_.look(at_once=True))

    asyncio.run(both())
    assert served == [old, new]


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
    with pytest.raises(InputError, match="has another size than it was written with"):
        uvicorn_server.run([str(bundles["words"]), str(tmp_path / "bad")], Settings(), "")
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
    bundle, made = models.opened(tmp_path / "source")
    assert bundle.predict(["a film"]) and not (made.folder / "weights.safetensors").exists()
    made.remove()
    (tmp_path / "source").chmod(0o755)


def test_own_codecs_are_served_where_they_are_allowed(temporary, tmp_path):
    import suite
    from tests import toy
    from tests.untrained import untrained

    run = untrained(toy.experiment(), tmp_path / "run")
    suite.export(run, tmp_path / "toy", name="toy", platforms=("cpu",), allow=("tests",))
    with pytest.raises(InputError, match='names the class "tests'):
        made([str(tmp_path / "toy")]).open()
    served = made([str(tmp_path / "toy")], allow=("tests",))
    served.open()
    assert list(served.by_name) == ["toy"]
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


def opened_names(*given):
    """Names under which bundles are served."""
    all_ = made([str(item) for item in given])
    try:
        all_.open()
        return all_.by_name
    finally:
        for _, _, copy in all_._opened:
            copy.remove()


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
    bundle = lambda name, recipe: SimpleNamespace(name=name, manifest=SimpleNamespace(made={"recipe": recipe}))
    assert models._same_model(bundle(*before), bundle(*now)) is same
