"""suite fit: what is tried on which columns, one small fit from a table to a run, and the mean of several runs."""

import dataclasses
import json
import random

import numpy as np
import pytest

from suite.data.sources.files import Folder, Table
from suite.errors import InputError
from suite.experiment.goal import Budget
from suite.exporting.exporting import export
from suite.fitting import ensembles, fitting, leaderboard, table
from suite.fitting.candidates import candidates
from suite.reporting import verdicts
from suite.runs import run, verbs
from tests import toy

RECIPE = """
from suite.configs.table import predict
from suite.experiment.sections import replace


def experiment():
    return replace(predict.smoke(), {"name": "small", "train.eval_every": 3, "optim.rates": ()})
"""


def written(path, rows, head):
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def houses(path, count=60):
    rng = random.Random(0)
    rows = [(rng.randint(20, 200), rng.choice("AB"), rng.randint(0, 9)) for _ in range(count)]
    return written(
        path, [f"{size},{city},{age},{900 * size - 50 * age}" for size, city, age in rows], "size,city,age,price"
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A fit of two trainings: folder, the arguments that made it, and what it said."""
    folder = tmp_path_factory.mktemp("fit")
    (folder / "small.py").write_text(RECIPE)
    given = {"data": houses(folder / "houses.csv"), "target": "price", "recipes": [str(folder / "small.py")]}
    given |= {"run_dir": folder / "fit", "budget": Budget("2 trials")}
    return given, fitting.fit(**given)


def test_columns_call_for_recipes(tmp_path):
    named = lambda path, target: [one.recipe for one in candidates(Table(path=str(path)), target)]
    assert named(houses(tmp_path / "a.csv"), "price") == ["table.predict"]
    answers = [f"{place},{place % 7},{'yes' if place % 2 else 'no'}" for place in range(40)]
    assert named(written(tmp_path / "b.csv", answers, "a,b,bought"), "bought") == [
        "table.predict",
        "recommendation.click",
    ]
    texts = [f"this film was really number {place},{'good' if place % 2 else 'bad'}" for place in range(40)]
    path = written(tmp_path / "c.csv", texts, "review,verdict")
    found = candidates(Table(path=str(path)), "verdict")
    assert found[0].recipe == "text.classify" and "table.predict" in [one.recipe for one in found]
    assert (found[0].experiment.task.text, found[0].experiment.task.label) == ("review", "verdict")


def test_a_folder_of_pictures_goes_to_its_recipe(tmp_path):
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for place in range(6):
            Image.new("L", (8, 8), 20 * place).save(tmp_path / name / f"{place}.png")
    assert candidates(Folder(path=str(tmp_path)), "")[0].recipe == "vision.classify"


def test_columns_that_are_not_there(tmp_path):
    path = Table(path=str(houses(tmp_path / "a.csv")))
    with pytest.raises(InputError, match='no column "prize"') as error:
        candidates(path, "prize")
    assert error.value.fix == "--target price"
    with pytest.raises(InputError, match="which column") as error:
        candidates(path, "")
    assert error.value.fix == "--target price"


def test_what_a_fit_leaves(fitted):
    given, board = fitted
    best = run.open(given["run_dir"] / "best")
    kept = next(entry for entry in board.entries if entry.name == board.chosen)
    metric, loss = kept.metrics["loss"], best.collect().scores.values()["loss"]
    assert metric.value == pytest.approx(loss, rel=1e-6) and metric.low <= metric.value <= metric.high
    assert board.test["loss"].value == pytest.approx(best.scores("test").values()["loss"], rel=1e-6)
    values = [entry.metrics["loss"].value for entry in board.entries if entry.metrics]
    assert values == sorted(values)
    assert sum(entry.kind == "model" for entry in board.entries) == 2
    assert board.entries[0].kind == "baseline"  # six steps of training are not worth much, and that is said
    assert any("kept model is a network all the same" in line for line in table.lines(board, given["run_dir"]))
    assert board.baseline_name and board.ahead["loss"].value == pytest.approx(
        board.test["loss"].value - board.baseline["loss"].value, rel=1e-6
    )
    assert leaderboard.read(given["run_dir"]) == board == leaderboard.read(best.folder)
    shown = table.lines(board, given["run_dir"])
    assert shown[-1] == str(best.folder) and any(line.startswith("suite export") for line in shown)
    assert [block.rows for block in verdicts.fit(board)] == [tuple(table.rows(board))]


def test_a_fit_that_is_called_again(fitted):
    given, board = fitted
    assert fitting.fit(**given) == board
    with pytest.raises(InputError, match="holds another fit"):
        fitting.fit(**{**given, "target": "size"})


def test_a_fit_goes_on_where_it_was_stopped(fitted):
    """With its trials there and no leaderboard yet, it trains nothing and comes to the same end."""
    given, board = fitted
    (given["run_dir"] / leaderboard.FILE).unlink()
    again = fitting.fit(**given)
    untimed = lambda entries: [dataclasses.replace(entry, seconds=0) for entry in entries]
    assert untimed(again.entries) == untimed(board.entries)
    assert (again.chosen, again.test, again.ahead) == (board.chosen, board.test, board.ahead)


def test_the_mean_over_folds(fitted, tmp_path):
    """Each record of training and validation is answered by the model that did not see it."""
    given, _ = fitted
    board = fitting.fit(**{**given, "run_dir": tmp_path / "fit", "budget": Budget("1 trial")}, folds=2)
    best = run.open(tmp_path / "fit" / "best")
    assert board.chosen == "small, mean of 2 folds"
    assert [member.weight for member in best.experiment.task.members] == [0.5, 0.5]
    known = [best.experiment.task.source(split) for split in ("train", "validation")]
    folds = [run.open(tmp_path / "fit" / "folds" / str(fold)).collect() for fold in range(2)]
    held_out = ensembles.joined_answers(folds)
    assert len(held_out.scores) == sum(map(len, known)) == len(held_out.outputs["value"])
    kept = next(entry for entry in board.entries if entry.name == board.chosen)
    errors = (held_out.outputs["value"] - held_out.batch["target"]) ** 2
    assert kept.metrics["loss"].value == pytest.approx(errors.mean(), rel=1e-5) and kept.behind is None


def test_the_mean_of_runs_is_a_run(fitted, tmp_path):
    given, _ = fitted
    runs = [run.open(path) for path in sorted((given["run_dir"] / "searches" / "small" / "trials").iterdir())]
    answers = [one.collect() for one in runs]
    assert ensembles.compatible((runs[0], answers[0]), (runs[1], answers[1]))
    joined = ensembles.write(runs, [0.75, 0.25], tmp_path / "joined", runs[0].experiment.task.data)
    wanted = 0.75 * answers[0].outputs["value"] + 0.25 * answers[1].outputs["value"]
    np.testing.assert_allclose(joined.collect().outputs["value"], wanted, rtol=1e-5, atol=1e-6)
    assert list(joined.experiment.task.tasks) == ["t0"]  # one encoding serves both
    bundle = export(joined, tmp_path / "bundle", platforms=("cpu",))
    record = {"size": [100], "city": ["A"], "age": [3]}
    assert bundle.predict(record)[0]["price"] == pytest.approx(joined.predict(record)[0]["price"], rel=1e-5)


def test_a_selection_takes_what_helps(fitted):
    """Two models that err to opposite sides; a third one is worse than either."""
    given, _ = fitted
    trained = run.open(given["run_dir"] / "best")
    own = trained.collect()
    right = own.batch["target"]
    said = lambda error: dataclasses.replace(own, outputs={"value": (right + error).astype(np.float32)})
    task = trained.experiment.task
    assert ensembles.select(task, [said(0.5), said(3.0), said(-0.5)], "loss", True, 5) == [0.5, 0.0, 0.5]
    assert ensembles.select(task, [said(0.5), said(3.0), said(0.6)], "loss", True, 5) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("last", (7, 5))
def test_a_training_that_is_enough_ends_in_good_order(tmp_path, last):
    """Also at a step that was evaluated anyway."""
    made = toy.experiment(steps=20, eval_every=5, log_every=10)
    trained = verbs.train(made, tmp_path / "run", enough=lambda step: step >= last)
    assert trained.metrics["train/steps"] == last and trained.metrics["train/best_step"] <= last
    evaluated = trained.history["validation/accuracy"]
    assert [step for step, value in zip(trained.history["step"], evaluated, strict=True) if value is not None][
        -1
    ] == last
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["metrics"]["validation/accuracy"] == max(value for value in evaluated if value is not None)
    assert run.open(tmp_path / "run", ("tests",)).evaluate("validation").metrics
