"""A run's programs as models in ONNX, each checked against the run on records that it was not trained on."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from suite.bundles import onnx_files
from suite.bundles.engines import call_of, distance
from suite.bundles.manifest import PREDICT, SEED, Array, Signature
from suite.bundles.programs import Call
from suite.contracts.codec import Codec
from suite.contracts.task import Program
from suite.data.pipeline.padding import axes, bucket, pad
from suite.distribution import missing
from suite.errors import InputError, RunError
from suite.explaining.exported import EXPLAIN
from suite.exporting import tracing
from suite.exporting.asked import ROWS, given, padded_lengths, served
from suite.exporting.onnx.converting import convert
from suite.exporting.onnx.graph import Unsupported
from suite.runs.run import Run

TOLERANCE = 1e-4
"""How far outputs may be from those of the run in float32, relative to those above 1."""
ANY = 0
"""The padded length of a model that takes rows of any."""


@dataclass(frozen=True)
class Models:
    """A program as models in ONNX.

    Attributes:
        codec: of its requests and answers.
        lengths: padded lengths that it was checked at; (0,) where rows are of one shape.
        signature: what the models take and give.
        by_length: padded length -> model; the length `ANY` alone where one takes all of them.
        distance: between its outputs and the run's, the largest, relative to those above 1.
    """

    codec: Codec
    lengths: tuple[int, ...]
    signature: Signature
    by_length: dict[int, bytes]
    distance: float

    def at(self, length: int) -> int:
        """The length under which the model for rows of a padded length stands."""
        return length if length in self.by_length else ANY


def all_models(trained_run: Run, asked: Mapping[str, Any]) -> tuple[dict[str, Models], dict[str, str]]:
    """The models of each program, by name, and why others have none.

    Args:
        trained_run: the run.
        asked: held-back records, see `suite.exporting.asked.held_back`.

    Raises:
        InputError: packages are missing, or the program that answers by default cannot be written as ONNX.
        RunError: a model does not say what the run says.
    """
    check_installed()
    made: dict[str, Models] = {}
    left_out: dict[str, str] = {}
    for name, program in trained_run.programs.items():
        if name == EXPLAIN:  # derivatives are not the task's answer: no engine need be fast at them
            left_out[name] = "takes derivatives, which XLA computes"
            continue
        try:
            made[name] = models(trained_run, name, program, asked)
        except Unsupported as error:
            left_out[name] = str(error)
    if PREDICT not in made:
        where = f'run "{trained_run.folder}"'
        problem = f"cannot be written as ONNX: it {left_out[PREDICT]}."
        raise InputError(where, problem, found=trained_run.experiment.name, fix="--format bundle")
    return made, left_out


def check_installed() -> None:
    """Raises InputError: a package that writes or reads ONNX is not there."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise missing(error.name or "onnx", "to write models in ONNX and to check them", "onnx") from error


def models(trained_run: Run, name: str, program: Program, asked: Mapping[str, Any]) -> Models:
    """A program in float32: one model for all lengths where the program can be traced so, else one a length.

    Raises:
        Unsupported: it does something that is not written as ONNX.
        RunError: a model does not say what the run says.
    """
    run = trained_run.in_float32
    model_run, weights = served(run)
    reference = run.reference_arrays
    lengths = padded_lengths(run, program.codec)
    rows = program.codec.encode(given(program.codec, asked, np.arange(1)))
    inputs = tracing.inputs_of(rows, run.buckets)
    if tracing.draws(model_run.graph, program.function, weights, inputs, lengths[0], reference):
        inputs[SEED] = Array(("b",), "uint32")
    answer = tracing.answering(model_run.graph, program.function)
    constants = [weights] if reference is None else [weights, reference]

    def function(*arguments: Any) -> dict[str, jax.Array]:
        """The batch comes last: all before it is held by the model."""
        return answer(arguments[0], arguments[-1], *arguments[1:-1])

    def written(length: Any, batch_rows: Any) -> Any:
        return convert(function, constants, tracing.batch_of(inputs, batch_rows, length), name)

    def checked(by_length: Mapping[int, Any], at: Sequence[int]) -> Models:
        contents = {length: model.SerializeToString() for length, model in by_length.items()}
        signature = Signature(dict(inputs), _outputs(next(iter(by_length.values()))))
        found = Models(program.codec, tuple(at), signature, contents, math.nan)
        for content in contents.values():
            onnx_files.check(content, f"model {name}")
        far = checked_against(run, name, found, asked)
        return Models(program.codec, tuple(at), signature, contents, far)

    if len(lengths) > 1:
        bounds = [f"length >= {lengths[0]}", f"length <= {lengths[-1]}"]
        batch_rows, length = jax.export.symbolic_shape("b, length", constraints=bounds)
        try:
            return checked({ANY: written(length, batch_rows)}, lengths)
        except Exception:  # of tracing, which must know some sizes, and of what reads the model: many kinds
            pass
    by_length: dict[int, Any] = {}
    for each in lengths:
        (batch_rows,) = jax.export.symbolic_shape("b")
        try:
            by_length[each] = written(each, batch_rows)
        except ValueError as error:  # as in tracing: the model takes no rows as long
            if isinstance(error, InputError) or each != lengths[-1] or not by_length:
                raise
    return checked(by_length, tuple(by_length))


def _outputs(model: Any) -> dict[str, Array]:
    """What a model gives, as its file states it."""
    from onnx import helper

    outputs = {}
    for entry in model.graph.output:
        about = entry.type.tensor_type
        sides = [side.dim_value if side.HasField("dim_value") else side.dim_param or None for side in about.shape.dim]
        shape = tuple(side if isinstance(side, int) or side in ("b", "length") else None for side in sides)
        outputs[entry.name] = Array(shape, str(helper.tensor_dtype_to_np_dtype(about.elem_type)))
    return outputs


def calls(found: Models, engine: str = "onnxruntime") -> dict[int, Call]:
    """The function that each model is, by an engine."""
    return {length: call_of(engine, content) for length, content in found.by_length.items()}


def checked_against(
    run: Run, name: str, found: Models, asked: Mapping[str, Any], tolerance: float = TOLERANCE
) -> float:
    """How far the models are from the run, on held-back records at the lengths they need, and at all others that hold
    the first of them.

    Raises:
        RunError: further than ``tolerance``.
    """
    far, opened = 0.0, calls(found)
    for start in range(0, len(next(iter(asked.values()))), ROWS):
        for length, ours, theirs in compared(run, name, found, opened, asked, start):
            gap = distance(ours, theirs)
            if not any(value.dtype.kind == "f" for value in theirs.values()):
                gap = 0.0 if all((ours[each] == theirs[each]).all() for each in theirs) else math.inf
            if gap > tolerance:
                what = f"by the program {name}, rows padded to {length}" if length else f"by the program {name}"
                raise RunError(f"the model in ONNX does not answer as the run does, {what}: {gap:.2g} apart")
            far = max(far, gap)
    return far


def compared(
    run: Run, name: str, found: Models, opened: Mapping[int, Call], asked: Mapping[str, Any], start: int
) -> list[tuple[int, dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """(padded length, outputs of the model, outputs of the run) of ROWS records from ``start``."""
    codec = run.programs[name].codec
    indices = np.arange(start, min(start + ROWS, len(next(iter(asked.values())))))
    part = given(codec, asked, indices)
    rows, of_each = codec.encode(part), codec.rows_of(part)
    if of_each is not None:  # the first of them say as much as all
        indices = np.repeat(indices, of_each)[:ROWS]
        rows = {name: value[:ROWS] for name, value in rows.items()}
    real = np.arange(ROWS) < len(indices)
    least = bucket(rows, found.lengths, "")
    others = {axis: run.buckets[axis][-1] for axis in axes(rows) if axis}
    made = []
    for length in found.lengths if start == 0 else (least,):
        if length < least:
            continue
        sides = {"": length, **others}
        batch = pad(rows, real, sides, indices)
        taken = {each: batch[each] for each in found.signature.inputs}
        said = opened[found.at(length)]({}, taken)
        ours = {each: np.asarray(value)[real] for each, value in said.items()}
        made.append((length, ours, run.outputs(rows, sides, ROWS, indices, name)))
    return made


def answering(found: Models) -> Callable[..., dict[str, Any]]:
    """The models as a run's own function that answers: (params, model_state, batch, reference) -> outputs."""
    opened, inputs = calls(found), found.signature.inputs
    axis_of = next((name for name, array in inputs.items() if "length" in array.shape), "")

    def predict(params: Any, model_state: Any, batch: Mapping[str, Any], reference: Any = None) -> dict[str, Any]:
        taken = {name: np.asarray(batch[name]) for name in inputs}
        length = taken[axis_of].shape[inputs[axis_of].shape.index("length")] if axis_of else ANY
        return opened[found.at(length)]({}, taken)

    return predict
