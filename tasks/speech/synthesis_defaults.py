"""Defaults of speech synthesis: the vocoder of another run, as a part of the model."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from suite.contracts.data import Source
from suite.contracts.defaults import Chosen, Defaults
from suite.errors import InputError
from suite.experiment.sections import Experiment
from suite.nn.audio.spectral import LogMel
from suite.runs import run as runs
from suite.runtime.files import is_run
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.synthesis import ACOUSTIC, VOCODER
from suite.tasks.speech.vocoding import Vocoder


@dataclass(frozen=True, kw_only=True)
class Vocoded(Defaults):
    """With the field ``task.vocoder`` the model has the vocoder of that run as a part, which training leaves alone."""

    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        task, source = experiment.task, experiment.task.vocoder
        if not source:
            return
        folder = Path(source).expanduser()
        if not is_run(folder):
            fix = f"suite train speech.vocode --data manifest.jsonl --run-dir {shlex.quote(source)}"
            raise InputError("field task.vocoder", f'"{source}" is no run folder.', fix=fix)
        theirs = runs.open(folder).experiment
        features = check_vocoder(theirs, task.features.front_end, source)
        about = f"the vocoder of {folder.name}"
        yield Chosen("model.parts.vocoder", theirs.model.served, about)
        yield Chosen("task.vocoder_features", replace(features, part=VOCODER), "")
        self._check_open(experiment, source)
        yield Chosen("checkpoint.init_from", {VOCODER: source}, "")
        yield Chosen("optim.frozen", (f"^{VOCODER}/",), about)

    @staticmethod
    def _check_open(experiment: Experiment, source: str) -> None:
        """InputError where a flag states what training starts from, or leaves alone, and forgets the vocoder."""
        start, frozen = experiment.checkpoint.init_from, experiment.optim.frozen
        if start and not (isinstance(start, Mapping) and VOCODER in start):
            problem = "must name the vocoder, too, where task.vocoder does."
            given = start if isinstance(start, Mapping) else {ACOUSTIC: start}
            parts = [f"{name}={run}" for name, run in {**given, VOCODER: source}.items()]
            raise InputError(
                "field checkpoint.init_from",
                problem,
                found=str(start),
                fix=f"--checkpoint.init_from {' '.join(map(shlex.quote, parts))}",
            )
        if frozen and not any(pattern.startswith(f"^{VOCODER}/") for pattern in frozen):
            problem = "must name the vocoder, too: it does not learn here."
            fix = f"--optim.frozen {' '.join(map(shlex.quote, (*frozen, f'^{VOCODER}/')))}"
            raise InputError("field optim.frozen", problem, found=" ".join(frozen), fix=fix)


def check_vocoder(experiment: Experiment, front_end: LogMel, source: str) -> AudioFeatures:
    """The features of a vocoder.

    Args:
        experiment: of the run.
        front_end: what computes the mel bands that it is to make waveforms of.
        source: how errors call the run.

    Raises:
        InputError: it makes none of these, or it has speakers of its own.
    """
    task = experiment.task
    if not isinstance(task, Vocoder):
        problem = f'"{source}" is no run of a vocoder.'
        fix = "suite train speech.vocode --data manifest.jsonl --run-dir runs/vocoder"
        raise InputError("field task.vocoder", problem, found=type(task).__name__, fix=fix)
    if task.speaker:
        problem = f'"{source}" is a vocoder of speakers of its own.'
        fix = "suite train speech.vocode --data manifest.jsonl --run-dir runs/vocoder"
        raise InputError("field task.vocoder", problem, found=f"task.speaker {task.speaker}", fix=fix)
    theirs = task.features.front_end
    if theirs != front_end:
        names = [name for name in vars(theirs) if getattr(theirs, name) != getattr(front_end, name)]
        flags = [f"--task.features.front_end.{name} {getattr(theirs, name)}" for name in names]
        problem = f'"{source}" was trained on other mel bands.'
        raise InputError("field task.vocoder", problem, found=", ".join(names), fix=" ".join(flags))
    return task.features
