"""Loggers behind one interface: TensorBoard, MLflow in a store of its own, Weights & Biases offline."""

import json
from unittest.mock import Mock

import pytest

import suite
from suite.distribution import install
from suite.errors import InputError
from suite.experiment.sections import replace
from suite.experiment.serialization import to_json
from suite.training.logging import loggers
from suite.training.logging.log import Log
from tests import toy


def small(*names, **train):
    return toy.experiment(**{"steps": 20, "log_every": 10, "loggers": names, **train})


def continued(folder):
    """The run has two more steps to take."""
    stored = json.loads((folder / "experiment.json").read_text())
    stored["train"]["steps"] = 22
    (folder / "experiment.json").write_text(json.dumps(stored))
    return suite.resume(folder, ("tests",))


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    """MLflow's client on a database in a file, as users of a single machine have it."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    monkeypatch.chdir(tmp_path)
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


def test_mlflow_has_metrics_parameters_and_the_recipe(mlflow, tmp_path):
    suite.train(small("mlflow"), tmp_path / "run")
    number = json.loads((tmp_path / "run" / "loggers.json").read_text())["mlflow"]
    run = mlflow.get_run(number)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert mlflow.get_experiment(run.info.experiment_id).name == "toy.parity"
    parameters = run.data.params
    assert parameters["optim.learning_rate"] == "0.01" and parameters["train.loggers"] == '["mlflow"]'
    assert parameters["task.class"] == "tests.toy.Parity"
    history = suite.open(tmp_path / "run", ("tests",)).history
    for name in ("train/loss", "validation/accuracy"):
        logged = [(metric.step, metric.value) for metric in mlflow.get_metric_history(number, name)]
        assert logged == [(s, v) for s, v in zip(history["step"], history[name], strict=True) if v is not None]
    assert [file.path for file in mlflow.list_artifacts(number)] == ["experiment.json"]
    assert not (tmp_path / "run" / "tensorboard").exists()
    continued(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "loggers.json").read_text())["mlflow"] == number
    assert [metric.step for metric in mlflow.get_metric_history(number, "train/loss")] == [10, 20, 22]


def test_mlflow_hears_of_a_run_that_failed(mlflow, tmp_path):
    def fail(step, metrics):
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        suite.train(small("mlflow"), tmp_path / "run", on_evaluation=fail)
    number = json.loads((tmp_path / "run" / "loggers.json").read_text())["mlflow"]
    assert mlflow.get_run(number).info.status == "FAILED"


def test_what_a_server_missed_is_sent_later(mlflow, tmp_path, monkeypatch, capsys):
    from suite.training.logging import mlflow_logger

    monkeypatch.setattr(mlflow_logger, "PAUSE_SECONDS", 0.0)
    (tmp_path / "experiment.json").write_text("{}")
    about = loggers.About("name", tmp_path, {"a": 1})
    with Log(tmp_path, 3, names=("mlflow",), about=about) as log:
        logger = log._loggers["mlflow"]
        sent = logger._client.log_batch
        monkeypatch.setattr(logger._client, "log_batch", Mock(side_effect=ConnectionError("down")))
        log.metrics(1, {"train/loss": 1.0})
        log.metrics(2, {"train/loss": 2.0})
        monkeypatch.setattr(logger._client, "log_batch", sent)
        log.metrics(3, {"train/loss": 3.0})
    number = loggers.known_run(tmp_path, "mlflow")
    assert [metric.value for metric in mlflow.get_metric_history(number, "train/loss")] == [1, 2, 3]
    assert capsys.readouterr().err == "mlflow cannot be written, training goes on: down\n"


def test_a_server_that_is_not_there_is_told_before_training(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nothing://here")
    with pytest.raises(InputError) as error:
        suite.train(small("mlflow"), tmp_path / "run")
    assert (error.value.where, error.value.problem) == ("field train.loggers", "mlflow cannot be started.")
    assert error.value.fix == "--train.loggers tensorboard" and not (tmp_path / "run").exists()


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_PROJECT": "own"}.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "run"
    suite.train(small("wandb", "tensorboard"), folder)
    number = json.loads((folder / "loggers.json").read_text())["wandb"]
    (offline,) = (folder / "wandb").glob(f"offline-run-*-{number}")
    assert json.loads((offline / "files" / "experiment.json").read_text())["name"] == "toy.parity"
    written = (offline / f"run-{number}.wandb").read_bytes()
    for text in (b"validation/accuracy", b"train/loss", b"optim.learning_rate", b"toy.parity"):
        assert text in written
    assert list((folder / "tensorboard").glob("events*"))
    continued(folder)
    assert json.loads((folder / "loggers.json").read_text())["wandb"] == number


def test_tensorboard_shows_the_experiment(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    from tests.test_log import records

    fields = loggers.flattened(to_json(replace(toy.experiment(), {"optim.learning_rate": 0.125})))
    with Log(tmp_path, 10, about=loggers.About("toy", tmp_path, fields)) as log:
        log.metrics(1, {"train/loss": 2.0})
    values = [value for record in records(tmp_path / "tensorboard", Event) for value in record.summary.value]
    texts = {value.tag: value.tensor.string_val[0].decode() for value in values if value.tensor.string_val}
    assert "| optim.learning_rate | `0.125` |" in next(iter(texts.values()))


def test_unknown_and_missing_loggers_are_told(monkeypatch):
    with pytest.raises(InputError) as error:
        loggers.check(("tensorbord",))
    assert (error.value.found, error.value.fix) == ("tensorboard, mlflow, wandb", "--train.loggers tensorboard")
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError) as error:
        loggers.check(("wandb",))
    assert str(error.value) == (
        f"package wandb: is needed by train.loggers wandb, and not installed.\n  try:   {install('wandb')}"
    )


def test_fields_by_dotted_name():
    nested = {"class": "a.B", "optim": {"rate": 1, "rates": [["x", 2]]}, "augment": [{"class": "C", "p": 0.5}], "e": []}
    assert loggers.flattened(nested) == {
        "class": "a.B",
        "optim.rate": 1,
        "optim.rates": [["x", 2]],
        "augment.0.class": "C",
        "augment.0.p": 0.5,
        "e": [],
    }
