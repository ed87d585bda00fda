"""Weights & Biases: a run of the project that WANDB_PROJECT names."""

import os
from collections.abc import Mapping

from suite.contracts.callback import Outcome
from suite.training.logging.loggers import About, known_run, note_run

PROJECT = "suite"
"""Where WANDB_PROJECT names none."""


class WeightsAndBiases:
    """Fields of the experiment are the run's config, ``experiment.json`` is one of its files. All of its own variables
    are heeded, as WANDB_MODE=offline, which needs no account; a run that goes on is the same run there."""

    def start(self, about: About) -> None:
        import wandb

        known = known_run(about.folder, "wandb") if about.step else ""
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=about.title,
            id=known or None,
            resume="allow" if known else None,
            dir=str(about.folder),
            config=dict(about.fields),
            tags=[about.name],
            settings=wandb.Settings(console="off"),  # lines for people stay the suite's
        )
        note_run(about.folder, "wandb", self._run.id)
        self._run.save(str(about.folder / "experiment.json"), base_path=str(about.folder), policy="now")

    def metrics(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self, outcome: Outcome) -> None:
        self._run.finish(exit_code=0 if outcome == "finished" else 1)
