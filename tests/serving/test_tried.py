"""Versions that a former server has tried: what its record is of, and when it is believed."""

import asyncio
import json
import os

import pytest

from suite.serving import tried
from suite.serving.models import Models
from suite.serving.monitoring import Monitor
from suite.serving.settings import Settings
from suite.serving.tried import Took, record_of


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def stands(stated=b"one", sizes=(1, 4), device="cpu"):
    return record_of(stated, sizes).stands(lambda: device)


def test_a_record_stands_for_what_was_tried_and_for_nothing_else(cache, monkeypatch):
    assert not stands()
    record_of(b"one", (1, 4)).keep(Took(1000, "cpu"))
    assert stands() and not stands(b"two") and not stands(sizes=(1,)) and not stands(device="gpu")
    monkeypatch.setenv("XLA_FLAGS", "--another")
    assert not stands()


def test_a_trial_that_took_more_memory_than_there_is_is_done_again(cache):
    record_of(b"one", (1, 4)).keep(Took(10**18, "cpu"))
    assert not stands()


@pytest.mark.parametrize("change", [{"bytes": 1}, {"device": "gpu"}, {"code": ""}, {"bytes": "x"}])
def test_a_record_that_was_changed_is_none(cache, change):
    record_of(b"one", (1, 4)).keep(Took(1000, "cpu"))
    (file,) = (cache / tried.FOLDER).glob("*.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert not stands(device=change.get("device", "cpu"))


def test_records_made_with_another_key_are_none(cache):
    record_of(b"one", (1, 4)).keep(Took(1000, "cpu"))
    (cache / tried.FOLDER / tried.KEY).unlink()
    assert not stands()


def test_a_key_that_others_may_read_is_none(cache):
    record_of(b"one", (1, 4)).keep(Took(1000, "cpu"))
    assert oct(os.stat(cache / tried.FOLDER / tried.KEY).st_mode)[-3:] == "600"
    os.chmod(cache / tried.FOLDER / tried.KEY, 0o644)
    assert not stands()


def test_without_a_cache_nothing_is_kept(monkeypatch):
    monkeypatch.setenv("SUITE_CACHE", "off")
    assert record_of(b"one", (1, 4)) is None


def test_a_version_is_tried_once_on_a_machine(bundles, cache, caplog):
    """The second server starts no process for it; one with classes of other packages does."""
    for allow, started, told in (((), True, False), ((), False, True), (("tests",), True, False)):
        caplog.clear()
        models = Models([f"it={bundles['clicks']}"], Settings(sizes=(1,), allow=allow), Monitor((1,)))
        models.open()
        caplog.set_level("INFO", "suite.serving")
        asyncio.run(models.warm())
        assert models.ready and (models.nursery._process is not None) == started
        assert ("it: this version was tried before on this machine" in caplog.text) == told
        models.let_go()
