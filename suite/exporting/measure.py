"""A bundle measured on the data of its experiment: its own outputs, scored by the task."""

import dataclasses
from pathlib import Path

import numpy as np

from suite.bundles.bundle import Bundle
from suite.bundles.manifest import EXPERIMENT
from suite.contracts.metric import MetricState, add
from suite.data.pipeline.padding import pad, padded_lengths
from suite.errors import InputError
from suite.runs import run
from suite.training.preprocessors import bind

ROWS = 64
"""Rows of a batch, unless it is said otherwise."""


def measured(folder: str | Path, split: str = "test", batch_size: int = 0, allow: tuple[str, ...] = ()) -> Bundle:
    """The bundle in ``folder`` with its metrics on ``split``, in place of those it was exported with; writes nothing.

    Raises:
        InputError: the data are not there, or what the task is scored by is nothing that a request is answered with.
    """
    bundle, batch_size = Bundle.open(folder, allow), batch_size or ROWS
    task = bind(run.read_experiment(bundle.folder / EXPERIMENT, allow), bundle.folder).task
    source = task.source(split)
    sums: dict[str, MetricState] = {}
    for start in range(0, len(source), batch_size):
        encoded = task.encode(source[np.arange(start, min(start + batch_size, len(source)))])
        rows = {name: value for name, value in encoded.items() if name in bundle.signature.inputs}
        if bundle.signature.inputs.keys() - {"mask"} - {f"{name}_mask" for name in rows} - rows.keys():
            raise InputError(
                f'bundle "{bundle.folder}"',
                "answers requests, and its task is scored by something else.",
                found=", ".join(encoded),
                fix="suite evaluate RUN",
            )
        lengths = {**padded_lengths(encoded, {}), **bundle.padded_lengths(rows)}
        outputs = bundle.outputs(rows, lengths[""], batch_size)
        sums = add(sums, task.score(outputs, pad(encoded, np.ones(len(next(iter(outputs.values()))), bool), lengths)))
    metrics = {f"{split}/{name}": {"value": tally.value()} for name, tally in sums.items()}
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, metrics=metrics))
