"""Conclusion of training: what Postprocessors learn from the best checkpoint's answers on the validation split."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from suite.contracts.batch import Batch
from suite.contracts.preprocessor import Conclusion
from suite.experiment.sections import Experiment
from suite.parallel import hosts
from suite.runtime.files import write_text
from suite.training import fingerprint
from suite.training.assemble import Program
from suite.training.evaluator import Evaluator
from suite.training.preprocessors import bind, preprocessor_file, preprocessors_of
from suite.training.restore import read_weights


def conclude(
    experiment: Experiment, folder: Path, program: Program, evaluator: Evaluator, say: Callable[[str], None]
) -> dict[str, float]:
    """Learn, store and tell what the task's Postprocessors learn of validation: see `Task.conclude`.

    Returns:
        ``"validation/..."`` metrics of the best checkpoint with it; none where there is nothing to learn, which costs
        nothing.
    """

    def evaluated() -> Iterator[tuple[Mapping[str, np.ndarray], Batch]]:
        for rows, batch in evaluator.outputs(program.evaluate, *read_weights(program, folder)):
            yield from ((theirs[0], theirs[1]) for theirs in hosts.gathered((rows, batch)))

    conclusions = experiment.task.conclude(evaluated())
    if not conclusions:
        return {}
    hosts.after_first(lambda: _store(experiment, folder, conclusions))
    for conclusion in conclusions.values():
        for note in conclusion.notes:
            say(note)
    concluded = evaluator.of(bind(experiment, folder).task, program.evaluate)
    return concluded(*read_weights(program, folder))


def _store(experiment: Experiment, folder: Path, conclusions: Mapping[str, Conclusion]) -> None:
    if not hosts.is_first():
        return
    assets = preprocessors_of(experiment.task)
    for name, conclusion in conclusions.items():
        content = {**conclusion.content, "notes": list(conclusion.notes)}
        file = preprocessor_file(folder, name, assets[name])
        write_text(file, json.dumps(content, ensure_ascii=False, indent=1))
    fingerprint.note_assets(folder)
