"""Whether a bundle says what its run says: outputs to a tolerance, answers but for the rounding of their numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from suite.bundles.manifest import PREDICT
from suite.contracts.signature import File
from suite.errors import RunError
from suite.experiment.sections import Experiment

TOLERANCE = 1e-5
"""How far outputs may be from one another, relative to those above 1."""


def exact(experiment: Experiment) -> bool:
    """Whether a model says the same, to the tolerance, in whichever forms it is computed. Where it doesn't, a bundle is
    compared with its run in the same ones (`suite.runs.run.Run.portable`).
    """
    return experiment.precision.compute == "float32" and experiment.task.continuous


def check_outputs(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], program: str = PREDICT) -> None:
    """Raises RunError: the outputs of a bundle's program are not the run's."""
    different = [name for name in theirs if not _same(ours.get(name), theirs[name])]
    if different or ours.keys() != theirs.keys():
        which = "" if program == PREDICT else f", by the program {program}"
        raise RunError(f"the bundle does not answer as the run does{which}: {_gap(ours, theirs, different)}")


def _same(ours: np.ndarray | None, theirs: np.ndarray) -> bool:
    if ours is None or ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    if theirs.dtype.kind not in "fV":
        return bool((ours == theirs).all())
    return bool(
        np.allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    )


def _gap(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], different: Sequence[str]) -> str:
    """What differs, for a person to read."""
    if ours.keys() != theirs.keys():
        return f"it says {', '.join(sorted(ours))}, the run {', '.join(sorted(theirs))}"
    name = different[0]
    if ours[name].shape != theirs[name].shape or ours[name].dtype != theirs[name].dtype:
        return f"{name} is {ours[name].dtype} {ours[name].shape}, not {theirs[name].dtype} {theirs[name].shape}"
    largest = np.nanmax(np.abs(ours[name].astype(np.float64) - theirs[name].astype(np.float64)))
    return f"{name} differs by {largest:.2g}, and may by {TOLERANCE:g}"


def alike(ours: Any, theirs: Any) -> bool:
    """Whether two answers are equal, numbers to the tolerance. Of files, only their media types: one bit of an output
    that rounds otherwise changes all the bytes that are compressed after it, and outputs were compared before."""
    if isinstance(ours, File) and isinstance(theirs, File):
        return ours.media_type == theirs.media_type
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(alike(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(alike, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return abs(ours - theirs) <= TOLERANCE * max(1.0, abs(theirs))
    return bool(ours == theirs)
