"""Image prediction: numbers, ordered classes and labels of pictures whose paths stand in a table."""

import json

import numpy as np
import pytest
from PIL import Image

import suite
from suite.data.preprocessing.target import Target
from suite.data.sources.datasets import Folder
from suite.evaluation.artifacts import Image as Picture
from suite.evaluation.artifacts import Scatter
from suite.tasks.vision.prediction import ImagePrediction
from tests.tasks.test_classes import bound

COLOURS = {"red": 0, "green": 1, "blue": 2}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Pictures with a number of bright rows, in colours; paths are relative to the table."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    (folder / "photos").mkdir()
    records = []
    for place in range(120):
        pixels = rng.integers(0, 40, (16, 16, 3), dtype=np.uint8)
        rows, colours = int(rng.integers(1, 12)), [name for name in COLOURS if rng.random() < 0.5]
        for name in colours or COLOURS:
            pixels[:rows, :, COLOURS[name]] = 220
        Image.fromarray(pixels).save(folder / "photos" / f"{place}.png")
        size = ("small", "middle", "large")[rows // 4]
        records.append({"photo": f"photos/{place}.png", "rows": rows, "tags": colours, "size": size})
    (folder / "table.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    return folder / "table.jsonl", records


def recipe(name, table, target, **changes):
    own = {"task.data.path": str(table), "task.image": "photo", "task.target": target}
    return suite.replace(suite.load(name), {**own, **changes})


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    experiment = recipe(
        "vision.regress",
        table[0],
        "rows",
        **{"train.epochs": 12.0, "train.batch_size": 16, "model.widths": (8, 16), "model.stem_width": 8},
    )
    return suite.train(experiment, tmp_path_factory.mktemp("run") / "run")


def test_a_number_of_pictures_is_learnt(run):
    metrics = run.evaluate("test").metrics
    assert metrics["test/r2"] > 0.5
    assert {"test/mae", "test/rmse", "test/spearman"} <= metrics.keys()


def test_paths_relative_to_a_table_are_answered(run, table, command):
    printed = command("predict", run.folder, "--input", table[0]).splitlines()
    answers = [json.loads(line)["rows"] for line in printed]
    assert np.corrcoef(answers, [record["rows"] for record in table[1]])[0, 1] > 0.8


def test_a_report_shows_pictures_with_their_numbers(run):
    task = suite.open(run.folder).experiment.task
    source = task.source("validation")
    columns = source[np.arange(len(source))]
    encoded = task.encode(columns)
    outputs = {"value": np.zeros(len(source), np.float32)}
    artifacts = task.artifacts(columns, outputs, encoded)
    assert any(isinstance(artifact, Scatter) for artifact in artifacts.values())
    examples = [example for artifact in artifacts.values() for example in getattr(artifact, "examples", ())]
    assert examples and all(isinstance(example.given, Picture) for example in examples)


def encoded(experiment, folder):
    task = bound(experiment.task, folder)
    assert isinstance(task, ImagePrediction)
    source = task.source("train")
    columns = source[np.arange(len(source))]
    return task, columns, task.encode(columns)


def test_labels_of_pictures(table, tmp_path):
    experiment = recipe("vision.label", table[0], "tags")
    task, columns, rows = encoded(experiment, tmp_path)
    assert task.answer.kind == "labels" and task.answer.names == ("blue", "green", "red")
    wanted = [[name in tags for name in task.answer.names] for tags in columns["tags"]]
    np.testing.assert_array_equal(rows["target"], wanted)
    assert rows["image"].shape == (len(wanted), 16, 16, 3) and rows["image"].dtype == np.uint8


def test_ordered_classes_of_pictures(table, tmp_path):
    order = {"task.answer.problem": "ordered", "task.answer.order": ("small", "middle", "large")}
    task, columns, rows = encoded(recipe("vision.regress", table[0], "size", **order), tmp_path)
    assert task.answer.names == ("small", "middle", "large")
    np.testing.assert_array_equal(rows["target"], [task.answer.names.index(size) for size in columns["size"]])


@pytest.mark.parametrize(("names", "order"), [(("low", "middle", "high"),) * 2, (("0", "2", "10"), ())])
def test_ordered_classes_of_folders(names, order, tmp_path):
    """Folders are sorted by their names; the classes are in the order that is stated, or that of their numbers."""
    for name in names:
        (tmp_path / "data" / name).mkdir(parents=True)
        for place in range(6):
            Image.fromarray(np.full((8, 8), place, np.uint8)).save(tmp_path / "data" / name / f"{place}.png")
    own = {"task.data": Folder(path=str(tmp_path / "data")), "task.target": "label"}
    stated = {"task.answer.problem": "ordered", "task.answer.order": order}
    task, columns, rows = encoded(suite.replace(suite.load("vision.regress"), {**own, **stated}), tmp_path)
    assert task.answer.names == names
    folders = [path.split("/")[0] for path in columns["file"]]
    np.testing.assert_array_equal(rows["target"], [names.index(folder) for folder in folders])


def test_pictures_as_bytes_in_a_table(table, tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path, records = table
    stored = [(path.parent / record["photo"]).read_bytes() for record in records]
    columns = {"photo": stored, "rows": [record["rows"] for record in records]}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    task, _, rows = encoded(recipe("vision.regress", tmp_path / "t.parquet", "rows"), tmp_path)
    assert task.answer.kind == "number" and rows["image"].shape[1:] == (16, 16, 3)


def test_folders_named_by_numbers_are_numbers(tmp_path):
    """The data know classes 1, 10, 2 by their places in the alphabet; the number is what the folder is called."""
    for name in ("1", "2", "10"):
        (tmp_path / "cells" / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(np.full((9, 9), 10 * int(name) + i, np.uint8)).save(tmp_path / "cells" / name / f"{i}.png")
    data = Folder(path=str(tmp_path / "cells"))
    for fields, expected in (
        ({"problem": "number"}, {"1", "2", "10"}),
        ({"order": ("1", "2", "10")}, {"1", "2", "10"}),
        ({"problem": "labels"}, {"1", "2", "10"}),
    ):
        task = ImagePrediction(data=data, target="label", answer=Target(**fields))
        source = task.source("train")
        assert set(source.column("label", np.arange(len(source)))) == expected
