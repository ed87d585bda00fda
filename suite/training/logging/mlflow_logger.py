"""MLflow: a run of an experiment in the store or server that MLFLOW_TRACKING_URI names."""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

from suite.contracts.callback import Outcome
from suite.training.logging.loggers import About, known_run, note_run

STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""Defaults of MLflow's own variables: by its own ones, training would wait minutes for a server that is gone."""
PARAMETERS = 100
"""Most parameters of one request."""
METRICS = 1000
"""Most metrics of one request."""
PAUSE_SECONDS = 60.0
"""Between two attempts where the last one failed; what could not be sent is sent then."""


class MLflow:
    """Fields of the experiment are parameters, ``experiment.json`` is an artifact. The MLflow experiment is named by
    MLFLOW_EXPERIMENT_NAME, else as the recipe is; a run that goes on is the same run there."""

    def start(self, about: About) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._metric: Any = Metric
        self._client, self._pending, self._wait = MlflowClient(), list[Any](), 0.0
        self._run = known_run(about.folder, "mlflow") if about.step else ""
        if self._run:
            self._client.update_run(self._run, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or about.name
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        tags = {"suite.folder": str(about.folder.resolve()), "suite.experiment": about.name}
        self._run = self._client.create_run(number, run_name=about.title, tags=tags).info.run_id
        note_run(about.folder, "mlflow", self._run)
        parameters = [Param(name, _text(value)) for name, value in about.fields.items()]
        for first in range(0, len(parameters), PARAMETERS):
            self._client.log_batch(self._run, params=parameters[first : first + PARAMETERS])
        self._client.log_artifact(self._run, str(about.folder / "experiment.json"))

    def metrics(self, step: int, numbers: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self._pending += [self._metric(name, value, now, step) for name, value in numbers.items()]
        if time.monotonic() >= self._wait:
            self._send()

    def close(self, outcome: Outcome) -> None:
        try:
            self._send()
        finally:
            self._client.set_terminated(self._run, STATUS[outcome])

    def _send(self) -> None:
        self._wait = time.monotonic() + PAUSE_SECONDS
        while self._pending:
            self._client.log_batch(self._run, metrics=self._pending[:METRICS])
            self._pending = self._pending[METRICS:]
        self._wait = 0.0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
