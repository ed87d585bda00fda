"""Quantisation: a run's weights rounded after training, or after training that got used to it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flax import nnx

from suite.compression.calibrate import calibrate, training_batches
from suite.compression.compressing import Method
from suite.compression.run_writer import is_written, write
from suite.errors import InputError, closest
from suite.experiment import sections
from suite.experiment.compression import Compression
from suite.experiment.sections import Experiment, Finetune
from suite.runs import verbs as runs
from suite.runs.run import Run
from suite.surgery import lora, quantize, quantize_weights
from suite.training import trainer

SHARE = 0.1
"""Share of the recipe's learning rate, and of its steps or epochs, that quantisation-aware training uses."""


@dataclass(frozen=True)
class Quantize(Method):
    """Rounding to int8, int4, int8-dynamic or int8-static; see `suite.experiment.compression.Compression`.

    Attributes:
        kind: the format.
        aware: train for it before, from the run's weights, by a tenth of the recipe.
    """

    kind: str
    aware: bool = False

    def check(self) -> None:
        quantize_weights.library()
        if self.kind not in quantize.KINDS:
            raise InputError(
                "flag --quantize",
                f'there is no format "{self.kind}".',
                found=", ".join(quantize.KINDS),
                fix=closest(self.kind, quantize.KINDS),
            )

    def start(self, run: Run) -> Experiment:
        self.check()
        quantize.check_float(run.experiment, f'run "{run.folder}"')
        experiment = tuned(run.experiment) if self.aware else run.experiment
        # What fine-tuning added is folded into the weights.
        return sections.replace(
            experiment, {"finetune": Finetune(), "compression.quantize": self.kind, "compression.aware": self.aware}
        )

    def name(self, experiment: Experiment) -> str:
        settings = experiment.compression
        return f"{settings.quantize} aware" if settings.aware else settings.quantize

    def make(self, run: Run, experiment: Experiment, folder: Path) -> None:
        params, model_state = run.variables
        params = lora.fold(params, run.experiment.finetune)
        assets = run.folder / "assets"
        if experiment.compression.aware:
            params, model_state = _trained(experiment, params, model_state, folder, assets)
            experiment = sections.replace(experiment, {"compression.aware": False})
        if not is_written(experiment, folder, folder):
            write(experiment, *round_weights(experiment, params, model_state, run), folder, assets)


def tuned(experiment: Experiment, share: float = SHARE) -> Experiment:
    """A short training that goes on from trained weights: a share of the learning rate, and of the steps."""
    optim, train = experiment.optim, experiment.train
    steps = max(round(train.steps * share), 1) if train.steps else 0
    return dataclasses.replace(
        experiment,
        optim=dataclasses.replace(
            optim, learning_rate=optim.learning_rate * share, warmup_steps=0, warmup_fraction=0.0
        ),
        train=dataclasses.replace(train, steps=steps, epochs=train.epochs * share),
    )


def _trained(experiment: Experiment, params: Any, model_state: Any, folder: Path, assets: Path) -> tuple[Any, Any]:
    """Weights after training from ``params`` in a run folder within ``folder``, which is begun or gone on with."""
    inside = folder / "aware"
    if not is_written(experiment, inside, folder):
        write(experiment, params, model_state, inside, assets)
    trained = runs.train(experiment, inside, resume=True)
    return trained.variables


def round_weights(experiment: Experiment, params: Mapping[Any, Any], model_state: Any, run: Run) -> tuple[Any, Any]:
    """(params, model_state) of the rounded model.

    Args:
        experiment: bound; its ``compression`` says how.
        params: of the float model, without additions.
        model_state: its other variables.
        run: where training records are padded as the run's own were.
    """
    plain = dataclasses.replace(experiment, compression=Compression())
    graph = trainer.assemble(plain).graph
    model = quantize.attach(nnx.merge(graph, params, model_state), experiment.compression, quantize_weights.rounded)
    if experiment.compression.quantize == "int8-static":
        task, records = experiment.task, experiment.compression.calibrate
        batches = training_batches(task, records, experiment.train.seed, run.buckets)
        calibrate(model, lambda model, batch: task.loss(model, batch, None), batches)
    _, params, model_state = nnx.split(model, nnx.Param, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(model_state)
