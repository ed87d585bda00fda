"""Distillation into another model: a student of any recipe with the same kind of task."""

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.compression import verdict
from suite.compression.compressing import Method
from suite.compression.distill_trainer import INSIDE, teach
from suite.compression.pruning import inherit
from suite.compression.verdict import Measured
from suite.contracts.preprocessor import Postprocessor, Preprocessor
from suite.errors import InputError
from suite.experiment import recipes
from suite.experiment.compression import Compression
from suite.experiment.sections import Experiment
from suite.runs import run as runs
from suite.runs.run import Run
from suite.surgery import quantize
from suite.surgery.teacher import Weights
from suite.training.assemble import assemble
from suite.training.checkpoint import Checkpoints
from suite.training.preprocessors import bind, preprocessors_of, unbind
from suite.training.restore import restore
from suite.weights import pretrained

ALONE = "alone"
"""The folder of the student that was trained from labels alone."""


@dataclass(frozen=True)
class Distill(Method):
    """Trains a student beside the run; see `suite.experiment.compression.Distillation`. It reads with the run's
    tokenizer or statistics, and says the run's classes. A recipe for own data takes the run's task.

    Attributes:
        student: its recipe, or the name of it.
        baseline: train the same student from labels alone too, and say how much better the teacher makes it.
    """

    student: Experiment | str
    baseline: bool = False

    def check(self) -> None:
        student = self._recipe
        if student.finetune.kind != "full":
            raise InputError(
                "field finetune.kind", f"is {student.finetune.kind}: a student is trained whole.", fix="--finetune full"
            )

    @functools.cached_property
    def _recipe(self) -> Experiment:
        return recipes.load(self.student) if isinstance(self.student, str) else self.student

    def start(self, run: Run) -> Experiment:
        quantize.check_float(run.experiment, f'run "{run.folder}"')
        self.check()
        student = self._recipe
        if getattr(student.task.data, "path", None) == "":
            student = dataclasses.replace(student, task=unbind(run.experiment).task)
        _check_alike(student, run)
        how = Compression(distill=student.compression.distill)
        return dataclasses.replace(student, compression=how)

    def name(self, experiment: Experiment) -> str:
        if not experiment.compression.distill.teaches:
            raise InputError(
                "field distill.logits",
                "is 0, and no hidden states are named: the teacher has no say.",
                fix="--distill.logits 0.9",
            )
        return f"distilled {experiment.name}"

    def make(self, run: Run, experiment: Experiment, folder: Path) -> None:
        student = pretrained.adopt(experiment)
        for teacher, place in ((run, folder), *([(None, folder / ALONE)] if self.baseline else [])):
            inherit(run, place)
            teach(student, functools.partial(_fresh, student, place), teacher, place)

    def besides(self, before: Measured, after: Measured, allow: tuple[str, ...]) -> dict[str, Any]:
        """``baseline``: the student that had labels alone, see `suite.compression.verdict.margin`."""
        if not self.baseline:
            return {}
        alone = verdict.measured(runs.open(after.run.folder / ALONE, allow), after.split)
        return {"baseline": verdict.margin(before, after, alone)}


def _check_alike(student: Experiment, run: Run) -> None:
    """InputError where the student cannot read, or answer, as the run does."""
    theirs, task = run.experiment.task, student.task
    if type(task) is not type(theirs):
        raise InputError(
            "flag --distill",
            f"{student.name} learns another kind of task.",
            found=f"{type(task).__name__}; the run: {type(theirs).__name__}",
            fix="a recipe with the run's task",
        )
    own, known = (
        {name: asset for name, asset in preprocessors_of(one).items() if not isinstance(asset, Postprocessor)}
        for one in (task, theirs)
    )
    for name in [*own, *(name for name in known if name not in own)]:
        mine, yours = (_settings(assets.get(name)) for assets in (own, known))
        wrong = [name for name in dict.fromkeys([*yours, *mine]) if mine.get(name) != yours.get(name)]
        if wrong:
            said = [", ".join(f"{name} {sizes.get(name)}" for name in wrong) for sizes in (yours, mine)]
            raise InputError(
                f"field task.{name}",
                "is not the teacher's, so the two would not read or say the same.",
                found=f"teacher: {said[0]}; student: {said[1]}",
                fix="a recipe with the teacher's",
            )


def _settings(asset: Preprocessor | None) -> dict[str, Any]:
    """What decides how an asset is fitted, without where it lies or comes from."""
    if asset is None:
        return {"kind": "none"}
    fields = {field.name: getattr(asset, field.name) for field in dataclasses.fields(asset)}
    return {"kind": type(asset).__name__, **{name: fields[name] for name in fields if name not in ("file", "source")}}


def _fresh(student: Experiment, folder: Path) -> Weights:
    """The weights that a student starts with: published ones, those of a run, or drawn by its seed."""
    bound = bind(student, folder)
    program = assemble(bound)
    with Checkpoints(folder / INSIDE / "checkpoints", writing=False) as none_yet:
        state, _ = restore(program, none_yet, bound)
    return state.params, state.model_state
