"""A task in a package of its own, outside the repository's, through every verb: nothing of the suite knows it.

The package (tests/plugin) has a model of two towers, a reference pass, two inputs a record, a picture as answer, a
metric that does not split by record and two programs.
"""

import base64
import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import suite
from suite.cli.app import main
from suite.experiment.sections import Parallel
from suite.tree import paths
from tests import forked
from tests.conftest import ROOT, simulated
from tests.serving.asking import Serving
from tests.serving.browser import PHONE, answer, chromium, show, tab

PLUGIN = Path(__file__).parent / "plugin"
ALLOW = ("--allow", "captioned_shapes")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that the package is installed into, as pip would: by setuptools, without the network."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("site")
    source = shutil.copytree(PLUGIN, folder / "source", ignore=shutil.ignore_patterns("recipe.py"))
    build = [sys.executable, "-c", "from setuptools import setup; setup()", "-q", "install_lib", "-d", str(folder)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    shutil.rmtree(source)
    assert (folder / "captioned_shapes" / "task.py").is_file()
    return folder


@pytest.fixture(scope="module")
def installed(site):
    """The package can be imported here, as in a process of its own, and by the end of the file no longer."""
    folders = [str(site), str(PLUGIN)]
    sys.path[:0] = folders
    yield
    for folder in folders:
        sys.path.remove(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("captioned_shapes", "recipe", "student")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def run(site, installed):
    """Runs ``suite`` with the package installed, in a folder; returns what it printed to standard output. In this
    process, but for several devices."""

    def command(*arguments, where, devices=1, code=0):
        if devices > 1:
            return alone(*arguments, where=where, devices=devices)
        out, err, ended = io.StringIO(), io.StringIO(), 0
        with contextlib.chdir(where), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(list(map(str, arguments)))
            except SystemExit as stop:
                ended = stop.code
        assert ended == code, out.getvalue() + err.getvalue()
        return out.getvalue()

    def alone(*arguments, where, devices):
        done = forked.run(
            [sys.executable, "-m", "suite", *map(str, arguments)],
            cwd=where,
            env=environment(site, devices),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    return command


def environment(site, devices=1):
    return {**os.environ, **simulated(devices), "PYTHONPATH": os.pathsep.join(map(str, (site, PLUGIN, ROOT)))}


@pytest.fixture(scope="module")
def recipe():
    return PLUGIN / "recipe.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run, recipe):
    """Holds ``run``, trained on one device, and ``bundle``, exported of it."""
    folder = tmp_path_factory.mktemp("plugin")
    printed = run("train", recipe, "--run-dir", "run", where=folder)
    assert "validation/coverage" in printed
    run("export", "run", "--to", "bundle", "--platforms", "cpu", *ALLOW, where=folder)
    return folder


def parameters(path):
    """Hash of the parameters that a run serves, and the parameters by path."""
    opened = suite.open(path, allow=("captioned_shapes",))
    here = suite.replace(opened.experiment, {"parallel": Parallel()})  # on one device
    found = paths(dataclasses.replace(opened, experiment=here).variables[0])
    made = hashlib.sha256()
    for name, leaf in sorted(found.items()):
        made.update(name.encode() + np.asarray(leaf).tobytes())
    return made.hexdigest(), {name: np.asarray(leaf) for name, leaf in found.items()}


# By SGD: Adam makes of a gradient that is but rounding a step like any other.
SHORT = ["--train.steps", "12", "--train.eval_every", "6", "--optim.name", "sgd", "--optim.learning_rate", "0.05"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, run, recipe):
    """Parameters that a short training on one device ends with."""
    folder = tmp_path_factory.mktemp("alone")
    run("train", recipe, "--run-dir", "one", *SHORT, where=folder)
    return parameters(folder / "one")[1]


@pytest.mark.parametrize("ways", [("data", 8), ("fsdp", 8), ("pmap", 8)], ids=lambda ways: ways[0])
def test_eight_devices_train_as_one(alone, run, recipe, tmp_path, ways):
    kind, devices = ways
    flags = {
        "data": [],
        "fsdp": ["--parallel.data", "2", "--parallel.fsdp", "4"],
        "pmap": ["--parallel.engine", "pmap"],
    }[kind]
    run("train", recipe, "--run-dir", "several", *SHORT, *flags, where=tmp_path, devices=devices)
    _, ours = parameters(tmp_path / "several")
    assert ours.keys() == alone.keys()
    for name, value in alone.items():
        np.testing.assert_allclose(ours[name], value, rtol=2e-3, atol=2e-4, err_msg=name)


def test_a_kill_and_a_resumed_run_is_the_same_to_the_bit(folder, run, recipe, site, tmp_path):
    command = [sys.executable, "-m", "suite", "train", str(recipe), "--run-dir", "killed", "--checkpoint.every", "5"]
    process = forked.process(command, cwd=tmp_path, env=environment(site), stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not list(tmp_path.glob("killed/checkpoints/2[05]/checksums.json")) and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run("train", "--resume", "killed", *ALLOW, where=tmp_path)
    assert parameters(tmp_path / "killed")[0] == parameters(folder / "run")[0]


def test_evaluate_with_intervals(folder, run):
    printed = run("evaluate", "run", "--split", "test", *ALLOW, where=folder)
    values = dict(re.findall(r"test/(\w+)\s+([\d.]+)", printed))
    assert {"accuracy", "loss", "coverage"} <= values.keys()
    assert 0 < float(values["coverage"]) <= 1
    scores = suite.open(folder / "run", allow=("captioned_shapes",)).scores("test")
    accuracy, coverage = scores.interval("accuracy"), scores.interval("coverage")
    assert accuracy.low < accuracy.value < accuracy.high, accuracy
    assert np.isnan(coverage.low), "a metric that does not split by record has no interval"
    assert accuracy.value == pytest.approx(float(values["accuracy"]), abs=1e-5)
    assert coverage.value == pytest.approx(float(values["coverage"]), abs=1e-5)


@pytest.fixture(scope="module")
def asked(folder, installed):
    """A request of two records, as a JSON file with pictures as files beside it."""
    from captioned_shapes.data import drawn

    pictures = []
    for caption in ("a red square", "a blue cross"):
        file = io.BytesIO()
        Image.fromarray(drawn(caption)).save(file, "PNG")
        pictures.append(file.getvalue())
    rows = []
    for number, (picture, caption) in enumerate(zip(pictures, ("a red square", "a green bar"), strict=True)):
        (folder / f"{number}.png").write_bytes(picture)
        rows.append({"image": f"{number}.png", "caption": caption})
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows, pictures


def test_predict_writes_pictures(folder, run, asked):
    answers = {}
    for opened in ("run", "bundle"):
        run("predict", opened, "--input", "asked.jsonl", "--to", f"from-{opened}", *ALLOW, where=folder)
        lines = (folder / f"from-{opened}" / "answers.jsonl").read_text().splitlines()
        answers[opened] = [json.loads(line) for line in lines]
    assert len(answers["run"]) == 2
    for ours, theirs in zip(answers["run"], answers["bundle"], strict=True):
        assert ours["match"] == pytest.approx(theirs["match"], abs=1e-5)
        pictures = [
            np.asarray(Image.open(next((folder / f"from-{name}").glob(f"*{Path(file).name}"))))
            for name, file in (("run", _file(ours["best"])), ("bundle", _file(theirs["best"])))
        ]
        assert pictures[0].shape == (12, 12, 3) and np.array_equal(*pictures)


def _file(value):
    return value["file"] if isinstance(value, dict) else value


def test_the_second_program(folder, run, asked):
    (folder / "pictures.jsonl").write_text('{"image": "0.png"}\n')
    ours, theirs = (
        json.loads(run("predict", name, "--program", "image", "--input", "pictures.jsonl", *ALLOW, where=folder))
        for name in ("run", "bundle")
    )
    assert len(ours["vector"]) == 16
    np.testing.assert_allclose(ours["vector"], theirs["vector"], atol=1e-5)
    assert np.linalg.norm(ours["vector"]) == pytest.approx(1, abs=1e-4)


def test_tune(run, recipe, tmp_path):
    short = ["--train.steps", "20", "--train.eval_every", "10", "--goal.budget.trials", "2", "--goal.at_least", "0.999"]
    printed = run("tune", recipe, "--run-dir", "search", *short, where=tmp_path, code=3)
    verdict = json.loads((tmp_path / "search" / "verdict.json").read_text())
    assert len(list((tmp_path / "search" / "trials").iterdir())) == 2, printed
    assert verdict


@pytest.mark.parametrize("way", ["int8", "distil"])
def test_compress(folder, run, recipe, site, tmp_path, way):
    shutil.copytree(folder / "run", tmp_path / "run")
    if way == "int8":
        flags = ["--quantize", "int8"]
    else:
        student = tmp_path / "student.py"
        student.write_text(
            "import suite\nfrom recipe import experiment as whole\n\n\ndef experiment():\n"
            '    return suite.replace(whole(), {"model.parts.image.hidden": (16,), "train.steps": 20})\n'
        )
        flags = ["--distill", student]
    run("compress", "run", *flags, "--run-dir", "small", "--max-drop", "0.5", *ALLOW, where=tmp_path)
    outcome = json.loads((tmp_path / "small" / "compression.json").read_text())
    assert outcome["met"] and outcome["metric"] == "accuracy"
    run("export", "small", "--to", "bundle", "--platforms", "cpu", *ALLOW, where=tmp_path)


def test_export_holds_two_programs_and_the_catalogue(folder):
    about = json.loads((folder / "bundle" / "bundle.json").read_text())
    assert set(about["programs"]) == {"image"}  # besides "predict"
    assert (folder / "bundle" / "reference.safetensors").is_file()
    card = (folder / "bundle" / "model_card.md").read_text()
    assert "caption" in card and "match" in card


def test_pictures_of_the_catalogue_are_replaced(folder, run, asked):
    """By a folder of pictures, which no answer names."""
    _, pictures = asked
    (folder / "pictures").mkdir()
    (folder / "pictures" / "only.png").write_bytes(pictures[1])
    printed = run("export", "bundle", "--catalogue", "pictures", "--to", "other-pictures", *ALLOW, where=folder)
    assert "catalogue of 1 records" in printed
    opened = suite.Bundle.open(folder / "other-pictures", ("captioned_shapes",))
    answers = opened.predict({"image": pictures, "caption": ["a red square", "a green bar"]})
    wanted = np.asarray(Image.open(io.BytesIO(pictures[1])))
    for one in answers:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(one["best"].data))), wanted)


@pytest.fixture(scope="module")
def server(folder, site):
    before = dict(os.environ)
    os.environ.update(environment(site))
    try:
        with Serving(folder / "bundle", "--allow", "captioned_shapes") as serving:
            yield serving
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_serve(server, run, folder, asked):
    rows, pictures = asked
    record = {"image": base64.b64encode(pictures[0]).decode(), "caption": rows[0]["caption"]}
    (answer,) = server.ask("picture_captions", [record])
    assert 0 <= answer["match"] <= 1 and answer["best"]["media_type"] == "image/png"
    assert Image.open(io.BytesIO(base64.b64decode(answer["best"]["data"]))).size == (12, 12)
    body = json.dumps({"inputs": [{"image": record["image"]}]}).encode()
    status, _, said = server.request(
        "POST", "/v1/models/picture_captions:image", body, {"Content-Type": "application/json"}
    )
    assert status == 200, said
    assert len(json.loads(said)["answers"][0]["vector"]) == 16


def test_its_page_shows_the_picture_answered(server, asked):
    """The page knows nothing of the package: two inputs are asked by their kinds, and a second program by its own."""
    _, pictures = asked
    name = server.get("/v1/models")[1]["models"][0]["name"]
    with chromium() as browser, tab(browser, server) as page:
        show(page, name)
        page.fill("#input-caption", "a green bar")
        page.click("#send")
        assert page.inner_text("#error") == "Choose a picture first."
        page.set_input_files("input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": pictures[0]})
        page.wait_for_selector(".field figure img")
        page.click("#send")
        said = answer(page)
        record = {"image": base64.b64encode(pictures[0]).decode(), "caption": "a green bar"}
        (expected,) = server.ask(name, [record])
        assert f"{100 * expected['match']:.1f} %" in said
        address = page.get_attribute("#answer img", "src")
        assert address == f"data:image/png;base64,{expected['best']['data']}"
        page.wait_for_function("document.querySelector('#answer img').naturalWidth === 12")
        assert page.get_attribute("#answer img", "alt") == "The picture that fits the caption best"
        page.set_viewport_size(PHONE)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.select_option("#program", "image")
        assert page.locator("#input-caption").count() == 0 and page.locator(".answered").count() == 0
        page.set_input_files("input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": pictures[0]})
        page.wait_for_selector(".field figure img")
        page.click("#send")
        assert "16" in answer(page).split("\n")[1], "a vector of 16 numbers"


def test_report_and_compare(folder, run, recipe):
    run("report", "run", *ALLOW, where=folder)
    page = (folder / "run" / "report.html").read_text()
    assert "coverage" in page and "data:image/png" in page
    run("train", recipe, "--run-dir", "other", "--train.steps", "20", where=folder)
    printed = run("compare", "run", "other", "--split", "test", *ALLOW, where=folder)
    assert "accuracy" in printed and "coverage" in printed


def test_plan(run, recipe, tmp_path):
    printed = run("plan", recipe, "--devices", "tpu-v5e-8", where=tmp_path)
    assert "parameters" in printed
