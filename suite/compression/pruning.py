"""Pruning: a run without some of its units or weights, trained on beside the whole one."""

import math
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from suite.compression import structured
from suite.compression.calibrate import training_batches
from suite.compression.compressing import Method
from suite.compression.distill_trainer import plain_weights, teach
from suite.errors import InputError
from suite.experiment import sections
from suite.experiment.compression import Criterion, Pruning, Sparsity
from suite.experiment.sections import Experiment, Finetune
from suite.runs.run import Run
from suite.surgery import lora, quantize
from suite.surgery.teacher import Weights
from suite.surgery.units import Layer
from suite.training.optim.sparsity import fitting_share
from suite.training.preprocessors import preprocessor_file, preprocessors_of

OF_UNITS: tuple[Criterion, ...] = ("taylor", "magnitude")
OF_WEIGHTS: tuple[Criterion, ...] = ("magnitude", "movement", "taylor")
"""Criteria for units and for single weights; the first is the default."""


@dataclass(frozen=True)
class Prune(Method):
    """Takes out units or weights; see `suite.experiment.compression.Pruning`. What is left is trained as the run was,
    for as long, and with the whole model as its teacher (``compression.distill``).

    Attributes:
        share: of the units of each layer, or of the weights of each matrix.
    """

    share: float

    def check(self) -> None:
        _check_share(self.share)

    def start(self, run: Run) -> Experiment:
        self.check()
        quantize.check_float(run.experiment, f'run "{run.folder}"')
        # What fine-tuning added is folded into the weights, and training goes on from these.
        return sections.replace(
            run.experiment, {"finetune": Finetune(), "checkpoint.init_from": "", "compression.prune.share": self.share}
        )

    def name(self, experiment: Experiment) -> str:
        settings = experiment.compression.prune
        _criterion(settings)
        return f"pruned {settings.share:g} {settings.pattern.replace(':', '-of-')}"

    def make(self, run: Run, experiment: Experiment, folder: Path) -> None:
        settings = experiment.compression.prune
        inherit(run, folder)
        if settings.pattern == "structured":
            abstract = run._program.abstract
            prunable = structured.find(
                experiment.model, lora.base(abstract.params), abstract.model_state, settings.units
            )
            smaller = structured.narrowed(experiment.model, prunable, settings.share)
            teach(replace(experiment, model=smaller), lambda: _without_units(run, prunable, settings), run, folder)
        else:
            own, plain = experiment.optim.sparsity, Sparsity()
            if own.share and not own.end and own == run.experiment.optim.sparsity:
                # It says that the run's own zeros are there from the first step on, which is too early for more.
                own = replace(own, begin=plain.begin, end=plain.end)
            sparsity = replace(own, share=settings.share, pattern=settings.pattern, criterion=_criterion(settings))
            sparse = sections.replace(experiment, {"optim.sparsity": sparsity})
            teach(sparse, lambda: plain_weights(run), run, folder)


def _without_units(run: Run, prunable: Sequence[Layer], settings: Pruning) -> Weights:
    """The weights of the run without the units that matter least."""
    params, model_state = plain_weights(run)
    if _criterion(settings) == "magnitude":
        scores = structured.magnitude(prunable, params)
    else:
        whole = replace(run, experiment=sections.replace(run.experiment, {"finetune": Finetune()}))
        task, seed = run.experiment.task, run.experiment.train.seed
        batches = training_batches(task, settings.records, seed, run.buckets)
        scores = structured.taylor(prunable, whole._program.graph, params, model_state, task, batches)
    smaller = structured.without(run.experiment.model, params, model_state, prunable, scores, settings.share)
    return smaller.params, smaller.model_state


def inherit(run: Run, folder: Path) -> None:
    """The fitted assets of a run, in another run folder."""
    for name, asset in preprocessors_of(run.experiment.task).items():
        if not asset.file:
            continue
        target = preprocessor_file(folder, name, asset)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(asset.file, target)


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise InputError("flag --prune", "must be above 0 and below 1.", found=f"{share:g}", fix="--prune 0.5")


def _criterion(settings: Pruning) -> Criterion:
    """What decides about units, or about weights.

    Raises:
        InputError: a value is out of range.
    """
    _check_share(settings.share)
    structural = settings.pattern == "structured"
    if not structural:
        fitting = fitting_share(settings.pattern, settings.share)
        if not math.isclose(settings.share, fitting):
            raise InputError(
                "flag --prune",
                f"is {settings.share:g}, but {settings.pattern} takes out another share.",
                fix=f"--prune {fitting:g} --pattern {shlex.quote(settings.pattern)}",
            )
        if settings.units:
            raise InputError(
                "flag --units",
                f"names units, but the pattern {settings.pattern} is of single weights.",
                fix="--pattern structured",
            )
    known = OF_UNITS if structural else OF_WEIGHTS
    chosen = [criterion for criterion in known if settings.criterion in ("", criterion)]
    if not chosen:
        raise InputError(
            "flag --criterion",
            f'"{settings.criterion}" does not decide about {"units" if structural else "weights"}.',
            fix=f"--criterion {shlex.quote(known[0])}",
        )
    if settings.records < 1:
        raise InputError("flag --records", "must be at least 1.", found=str(settings.records))
    return chosen[0]
