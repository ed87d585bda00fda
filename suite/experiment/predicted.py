"""The column that an experiment predicts."""

import dataclasses

from suite.errors import InputError
from suite.experiment.sections import Experiment


def target_field(experiment: Experiment) -> str:
    """The field of the task that names the column it predicts.

    Raises:
        InputError: it has none.
    """
    names = {field.name for field in dataclasses.fields(experiment.task)}  # type: ignore[arg-type]
    for name in ("target", "label"):
        if name in names:
            return name
    raise InputError(
        "flag --target", f"names a column to predict, and {experiment.name} predicts none.", fix="suite list"
    )
