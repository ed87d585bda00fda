"""suite publish and names on the hub, against a hub that is a folder: what is sent, and that it is read back."""

import fnmatch
import shutil
import types

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import ModelCard

import suite
from suite.errors import InputError, RunError
from suite.runs.run import Run
from suite.weights import hub, pretrained
from suite.workflow import publishing


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A hub: ``repositories`` on the disk, ``calls`` that were made, ``refuse`` with a status."""
    state = types.SimpleNamespace(folder=tmp_path / "hub", calls=[], refuse=0)

    def create_repo(self, repo_id, *, private=None, exist_ok=False):
        state.calls.append(("create_repo", repo_id, private))
        if state.refuse:
            response = types.SimpleNamespace(status_code=state.refuse, headers={}, request=None)
            raise huggingface_hub.errors.HfHubHTTPError("refused by the hub", response=response)
        return f"https://hub.example/{repo_id}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        state.calls.append(("upload_folder", repo_id, commit_message))
        shutil.copytree(folder_path, state.folder / repo_id / "0123abc")

    def snapshot_download(repo_id, *, revision, local_files_only, allow_patterns, ignore_patterns):
        state.calls.append(("snapshot_download", repo_id, local_files_only))
        source = state.folder / repo_id / "0123abc"
        if not source.is_dir():
            raise OSError("no such repository")
        target = tmp_path / "snapshots" / repo_id / "0123abc"
        for path in source.rglob("*"):
            name = str(path.relative_to(source))
            wanted = allow_patterns is None or any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)
            ignored = any(fnmatch.fnmatch(name, pattern) for pattern in ignore_patterns or ())
            if path.is_file() and wanted and not ignored and not (target / name).exists():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (target / name).symlink_to(path)  # as in the hub's own cache
        return str(target)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return state


@pytest.fixture
def patches(exported, monkeypatch):
    """A run of a vision transformer, whose weights are in memory, and its bundle."""
    run, bundle = exported("patches")
    weights = run.variables
    plain = Run._weights.func
    monkeypatch.setattr(Run, "_weights", property(lambda self: weights if self.folder == run.folder else plain(self)))
    return run, bundle


def test_a_run_is_published_and_opened_again(fake, patches, command):
    run, _ = patches
    printed = command("publish", run.folder, "me/patches", "--private", "--licence", "apache-2.0")
    assert fake.calls == [
        ("create_repo", "me/patches", True),
        ("upload_folder", "me/patches", "Published by suite publish"),
    ]
    assert printed.endswith("https://hub.example/me/patches\n")
    sent = fake.folder / "me/patches/0123abc"
    names = sorted(str(path.relative_to(sent)) for path in sent.rglob("*") if path.is_file())
    assert f"files: {', '.join(names)}" in printed
    assert {"README.md", "config.json", "model.safetensors", "run/experiment.json"} <= {*names}
    # The card is one that the hub reads.
    card = ModelCard.load(sent / "README.md")
    assert card.data.license == "apache-2.0" and card.data.pipeline_tag == "image-classification"
    assert card.data.library_name == "jax-model-suite"
    assert 'suite.open("me/patches")' in card.text
    # What answers is what was published.
    images = run.experiment.task.source("test")[np.arange(3)]["image"]
    opened = suite.open("me/patches")
    assert opened.predict(images) == run.predict(images)
    # Training can begin from the name as from any published weights; classes stand in config.json.
    config, _ = pretrained.load("me/patches", offline=True)
    assert config.hidden == 16 and fake.calls[-1] == ("snapshot_download", "me/patches", True)


def test_metrics_are_in_the_card(fake, patches, monkeypatch):
    run, _ = patches
    (run.folder / "result.json").write_text('{"metrics": {"test/accuracy": 0.75, "train/steps": 9}}')
    try:
        publishing.compose(run.folder, fake.folder / "made", "me/patches")
    finally:
        (run.folder / "result.json").unlink()
    (result,) = ModelCard.load(fake.folder / "made" / "README.md").data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("accuracy", 0.75, "test")
    assert fake.calls == []


def test_a_bundle_is_published_opened_and_served(fake, exported, monkeypatch):
    _, bundle = exported("images")
    publishing.publish(bundle.folder, "me/digits")
    card = ModelCard.load(fake.folder / "me/digits/0123abc/README.md")
    assert card.data.pipeline_tag == "image-classification" and "## Intended use" in card.text
    opened = suite.open("me/digits")
    images = np.zeros((2, 8, 8, 1), np.uint8)
    assert opened.predict(images) == bundle.predict(images)
    from suite.serving import server, uvicorn_server

    served = []
    monkeypatch.setattr(uvicorn_server, "run", lambda bundles, settings, token, admin: served.extend(bundles))
    suite.serve(["me/digits", "mine=me/digits", str(bundle.folder)], offline=True)
    folder = str(opened.folder)
    assert served == [f"digits={folder}", f"mine={folder}", str(bundle.folder)]
    assert fake.calls[-1][2] is True and server


def test_a_run_is_not_served(fake, patches):
    run, _ = patches
    publishing.publish(run.folder, "me/patches")
    with pytest.raises(InputError, match=r'^"me/patches": is a run on the Hugging Face hub, and a bundle is served'):
        suite.serve(["me/patches"])


def test_names_that_hold_neither(fake, exported):
    with pytest.raises(
        InputError, match=r'^run or bundle "me/nothing": is no local folder, and the Hugging Face hub does not give it'
    ):
        suite.open("me/nothing")
    with pytest.raises(InputError, match="not in the local cache of the Hugging Face hub"):
        suite.open("me/nothing", offline=True)
    (fake.folder / "me/weights/0123abc").mkdir(parents=True)
    (fake.folder / "me/weights/0123abc/config.json").write_text("{}")
    with pytest.raises(InputError, match="is no run and no bundle that suite publish put there") as error:
        suite.open("me/weights")
    assert "suite evaluate me/weights --data PATH" in error.value.fix
    (fake.folder.parent / "own").mkdir()
    assert not hub.is_name("own/missing") and not hub.is_name("runs/missing") and hub.is_name("me/weights@main")
    assert not hub.is_name("runs/x/y") and not hub.is_name("plain")


def test_what_cannot_be_published(fake, exported, refused):
    run, _ = exported("images")  # a DNN, which no other library has
    run_folder = run.folder
    assert "OWNER/NAME: is no name on the Hugging Face hub." in refused("publish", run_folder, "digits")
    assert "is no run and no bundle" in refused("publish", fake.folder, "me/digits")
    assert fake.calls == []


def test_a_hub_that_refuses(fake, exported):
    _, bundle = exported("images")
    fake.refuse = 401
    with pytest.raises(InputError, match="may not be written by you") as error:
        publishing.publish(bundle.folder, "you/digits")
    assert error.value.fix == "hf auth login"
    fake.refuse = 500
    with pytest.raises(RunError, match="the Hugging Face hub did not take you/digits: refused by the hub"):
        publishing.publish(bundle.folder, "you/digits")
