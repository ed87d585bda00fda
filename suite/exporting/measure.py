"""A bundle measured on the data of its experiment: its own outputs, scored by the task."""

import dataclasses
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from suite.bundles.bundle import Bundle
from suite.bundles.manifest import EXPERIMENT, PREDICT, SEED
from suite.bundles.opened import Program
from suite.contracts.metric import MetricState, add
from suite.data.notes import notes
from suite.data.pipeline.padding import pad, padded_lengths
from suite.errors import InputError
from suite.runs import run
from suite.training.preprocessors import bind

ROWS = 64
"""Rows of a batch, unless it is said otherwise."""


def measured(
    folder: str | Path,
    split: str = "test",
    batch_size: int = 0,
    allow: tuple[str, ...] = (),
    *,
    data: str = "",
    trust: str | Path = "",
) -> Bundle:
    """The bundle in ``folder`` with its metrics on ``split``, in place of those it was exported with; writes nothing.

    Args:
        folder: of the bundle.
        split: train, validation or test.
        batch_size: records at a time; 0: ROWS.
        allow: packages whose classes it may name.
        data: where the data of its run lie now, a file or a folder: a bundle knows them by name alone where the run
            knew them by an absolute path. Empty: where the bundle says.
        trust: public keys, one of which must have signed it; empty: it need not be signed.

    Raises:
        InputError: the data are not there, or what the task is scored by is nothing that a request is answered with.
    """
    bundle, batch_size = Bundle.open(folder, allow, trust=trust), batch_size or ROWS
    program = bundle.programs[PREDICT]
    task = bind(run.read_experiment(bundle.folder / EXPERIMENT, allow), bundle.folder).task
    if data:
        task = dataclasses.replace(task, data=_elsewhere(task.data, data, bundle))  # type: ignore[type-var]
    elif name := _absent(task.data):
        fix = f"suite evaluate {shlex.quote(str(bundle.folder))} --data FOLDER/{shlex.quote(name)}"
        raise InputError(f'bundle "{folder}"', "does not know where the data of its run lie.", found=name, fix=fix)
    source = task.source(split)
    for line in (*notes({split: source}), *task.remarks({split: source})):
        print(line, file=sys.stderr)
    if replaced := bundle.manifest.made.get("catalogue"):
        print(f"{split}: compared with a catalogue that replaced the one of the export: {replaced}", file=sys.stderr)
    sums: dict[str, MetricState] = {}
    for start in range(0, len(source), batch_size):
        indices = np.arange(start, min(start + batch_size, len(source)))
        encoded = task.encode(source[indices])
        rows = {name: value for name, value in encoded.items() if name in program.signature.inputs}
        if program.signature.inputs.keys() - {"mask", SEED} - {f"{name}_mask" for name in rows} - rows.keys():
            raise _otherwise_scored(bundle, encoded)
        lengths = {**padded_lengths(encoded, {}), **program.padded_lengths(rows)}
        outputs = program.outputs(rows, lengths[""], batch_size, indices)
        batch = pad(encoded, np.ones(len(next(iter(outputs.values()))), bool), lengths)
        try:
            sums = add(sums, task.score(outputs, batch, _reference(program)))
        except KeyError:
            raise _otherwise_scored(bundle, encoded) from None
    metrics = {f"{split}/{name}": {"value": tally.value()} for name, tally in sums.items()}
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, metrics=metrics))


def _elsewhere(stated: Any, path: str, bundle: Bundle) -> Any:
    """The data of a task, read from another path; where they are a part of others' records, those."""
    if hasattr(stated, "path"):
        return dataclasses.replace(stated, path=path)
    if hasattr(stated, "data"):
        return dataclasses.replace(stated, data=_elsewhere(stated.data, path, bundle))
    problem = "has data that are read from no file and no folder."
    raise InputError(
        "flag --data", problem, found=type(stated).__name__, fix=f"suite evaluate {shlex.quote(str(bundle.folder))}"
    )


def _absent(stated: Any) -> str:
    """The name of a task's data where it is a mere name and nothing here has it; otherwise empty."""
    path = getattr(stated, "path", "")
    if not path and hasattr(stated, "data"):
        return _absent(stated.data)
    return path if path and Path(path).name == path and not Path(path).exists() else ""


def _otherwise_scored(bundle: Bundle, encoded: Mapping[str, Any]) -> InputError:
    return InputError(
        f'bundle "{bundle.folder}"',
        "answers requests, and its task is scored by something else.",
        found=", ".join(encoded),
        fix="suite evaluate RUN",
    )


def _reference(program: Program) -> dict[str, np.ndarray] | None:
    """The reference arrays of a bundle, on the host."""
    return {name: np.asarray(array) for name, array in program.arrays[1].items()} if program.arrays[1:] else None
