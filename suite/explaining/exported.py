"""The program of a bundle that explains its answers: integrated gradients with a fixed number of nodes."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.bundles.manifest import Program as Stored
from suite.codecs.explained import FOUND, OTHER, ExplainedAnswers
from suite.contracts.batch import Columns
from suite.contracts.task import Program, Task
from suite.data.pipeline.padding import batched
from suite.evaluation.reference import on_devices
from suite.explaining.entries import ROWS, find, shapes_of
from suite.explaining.programs import Explained
from suite.runs.run import Run

EXPLAIN = "explain"
"""Name of the program."""
ATTRIBUTION = f"{FOUND}attribution_"


def with_explanations(run: Run, columns: Columns) -> Run:
    """The run with a program that explains what ``predict`` answers.

    Args:
        run: which.
        columns: a record, by which it is seen where requests enter the model.

    Raises:
        InputError: the task does not say what is explained.
    """
    codec = run.codec
    rows = codec.encode(columns)
    divided = codec.divide(codec.opened(columns), rows)[0]
    shapes = shapes_of(batched(rows, run.buckets))
    return _with_program(run, shapes, tuple(divided.labels))


def again(run: Run, stored: Stored) -> Run:
    """The same of a program that a bundle has, whose records are not there."""
    length = stored.lengths[-1]
    shapes = {
        name: jax.ShapeDtypeStruct(array.sized(ROWS, length), array.dtype)
        for name, array in stored.signature.inputs.items()
        if not name.startswith(OTHER)
    }
    shapes.setdefault("seed", jax.ShapeDtypeStruct((ROWS,), np.uint32))
    names = [name.removeprefix(ATTRIBUTION) for name in stored.signature.outputs if name.startswith(ATTRIBUTION)]
    return _with_program(run, shapes, names)


def _with_program(run: Run, shapes: Mapping[str, jax.ShapeDtypeStruct], names: Sequence[str]) -> Run:
    task = run.experiment.task
    reference = None if type(task).reference is Task.reference else on_devices(run.reference_arrays)
    explained = lambda model, rows: task.explained(model, rows, reference)
    variables = run.shapes
    entries = find(run.graph, variables, shapes, explained, names)

    def keys(params: Any, state: Any, rows: Any) -> dict[str, Any]:
        return explained(nnx.merge(run.graph, params, state), rows)

    kind = next(iter(jax.eval_shape(keys, *variables, dict(shapes))))
    program = Program(Explained(task, entries).integrated, ExplainedAnswers(codec=run.codec, kind=kind))
    other = copy.copy(run)
    other.__dict__.pop("_functions", None)
    other.__dict__.pop("portable", None)
    other.__dict__["programs"] = {**run.programs, EXPLAIN: program}
    return other
