"""Run folders whose files are damaged: every verb answers, or says in words what cannot be read; never a traceback."""

import json
import shutil
import traceback
from pathlib import Path

import numpy as np
import pytest

import suite
from suite.errors import InputError, Interrupted, RunError
from suite.experiment import recipes
from suite.experiment.sections import replace
from suite.reporting.reports import report
from suite.training.logging.jsonl import history

VERBS = ("open", "history", "predict", "predict", "evaluate", "resume", "resume", "report")
STRANGE = (
    b"", b"{}", b"[]", b"null", b"0", b'""', b"{", b"\xff\xfe", b"\x00" * 100,
    b"[" * 50_000, b"9" * 6000, b'{"a": 1e999}',
    b'{"metrics": 3, "trained": []}', b'{"class": "os.system"}', b'{"step": "x"}\n{"step": null}\n[]\n3\n{}\n',
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a recipe whose columns and target are learnt, and a record for it."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    lines = [f"{rng.normal():.3f},{('x', 'y', 'z')[i % 3]},{rng.normal():.3f}" for i in range(100)]
    (folder / "data.csv").write_text("a,b,price\n" + "\n".join(lines) + "\n")
    experiment = replace(
        recipes.load("table.predict", smoke=True),
        {
            "task.data": suite.data.sources.datasets.from_path(str(folder / "data.csv")),
            "task.target": "price",
            "train.steps": 4,
            "checkpoint.every": 2,
        },
    )
    suite.train(experiment, folder / "run")
    return folder / "run"


def damage(path: Path, rng: np.random.Generator) -> str:
    """Change a file, or what stands in its place; says how."""
    kind = int(rng.integers(8))
    content = bytearray(path.read_bytes())
    place = int(rng.integers(len(content) + 1))
    if kind == 0:
        path.unlink()
        return "removed"
    if kind == 1:
        path.unlink()
        path.mkdir()
        return "a folder"
    if kind == 2:
        path.write_bytes(STRANGE[rng.integers(len(STRANGE))])
        return "other content"
    if kind == 3:
        del content[place:]
    elif kind == 4 and place < len(content):
        content[place] ^= 1 << int(rng.integers(8))
    elif kind == 5:
        del content[place : place + int(rng.integers(1, 30))]
    elif kind == 6:
        content[place:place] = content[place : place + int(rng.integers(1, 60))]
    else:
        path.write_bytes(_other_value(bytes(content), rng))
        return "another value"
    path.write_bytes(bytes(content))
    return "other bytes"


def _other_value(content: bytes, rng: np.random.Generator) -> bytes:
    """JSON with one value of another type; other content as it is."""
    try:
        value = json.loads(content)
    except ValueError:
        return content
    places: list[tuple] = []

    def walk(node):
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(value)
    if places:
        node, key = places[rng.integers(len(places))]
        node[key] = [None, 0, -1, 1e308, "x", [], {}, True, 10**30, [[]], {"class": "x.Y"}][rng.integers(11)]
    return json.dumps(value).encode()


def used(folder: Path, verb: str) -> None:
    if verb == "history":
        history(folder)
        return
    if verb == "resume":
        suite.resume(folder)
        return
    opened = suite.open(folder)
    if verb == "predict":
        opened.predict([{"a": 0.5, "b": "x"}])
    elif verb == "evaluate":
        opened.evaluate("validation")
    elif verb == "report":
        report(folder, "validation")


def test_run_folders(budget, trained, tmp_path):
    for number, rng in budget:
        folder = tmp_path / f"run{number}"
        shutil.copytree(trained, folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "claim")
        # Files of checkpoints are many, and have checksums: the others are met as often.
        inside = rng.random() < 0.3
        files = [path for path in files if ("checkpoints" in path.parts) == inside]
        path, verb = files[rng.integers(len(files))], VERBS[rng.integers(len(VERBS))]
        how = damage(path, rng)
        content = path.read_bytes() if path.is_file() else b""
        told = f"{verb} with {path.relative_to(folder)}: {how}"
        try:
            used(folder, verb)
        except (InputError, RunError) as error:
            if len(str(error)) > 4000:
                budget.failed(f"{told}\nno message for people: {str(error)[:300]}", content)
        except Interrupted:
            budget.failed(f"{told}\ninterrupted", content)
        except Exception:
            budget.failed(f"{told}\n{traceback.format_exc()}", content)
        shutil.rmtree(folder)
