"""Engines that compute a bundle's programs on a processor: XLA, and by models in ONNX those that are installed.

A model in ONNX is read by native code of others, so it is looked through first (`suite.bundles.onnx_files`), and a
server lets a process of its own read it before it does itself. No library of further operators is loaded.
"""

import dataclasses
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from suite.bundles.bundle import Bundle, platform
from suite.bundles.opened import Program
from suite.bundles.programs import Call
from suite.contracts.engine import READS_ONNX
from suite.distribution import missing
from suite.errors import InputError, first_line

TOLERANCE = 1e-4
"""How far outputs of an engine may be from the run's, relative to those above 1, where a bundle states nothing else."""
Measured = dict[tuple[int, int], float]
"""(padded length, rows) -> seconds that such a batch takes."""


def installed() -> tuple[str, ...]:
    """The engines whose packages are here."""
    return tuple(name for name in READS_ONNX if importlib.util.find_spec(name) is not None)


def call_of(engine: str, content: bytes, precision: str = "float32") -> Call:
    """A model in ONNX as a program's function: its weights are its own, so those it is given are not looked at.

    Args:
        engine: of `READS_ONNX`.
        content: the model, looked through before by `suite.bundles.onnx_files.check`.
        precision: ``"float32"``, or ``"bfloat16"`` where products may be computed in it, by engines that can.

    Raises:
        InputError: the engine is not installed, or cannot read the model.
    """
    try:
        return {"onnxruntime": _onnxruntime, "openvino": _openvino}[engine](content, precision)
    except ImportError as error:
        raise missing(engine, "for this engine", engine) from error
    except Exception as error:  # of two libraries: many kinds
        raise InputError(
            f"engine {engine}", "cannot read a model of the bundle.", found=first_line(error, 300), fix="--engine xla"
        ) from None


def _onnxruntime(content: bytes, precision: str) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    inputs = [entry.name for entry in session.get_inputs()]
    outputs = [entry.name for entry in session.get_outputs()]

    def call(weights: Any, batch: Mapping[str, Any], *reference: Any) -> dict[str, Any]:
        made = session.run(outputs, {name: np.asarray(batch[name]) for name in inputs})
        return dict(zip(outputs, made, strict=True))

    return call


def _openvino(content: bytes, precision: str) -> Call:
    # To import it is told to its makers by a process that it forks, unless this package is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    model = openvino.Core().read_model(content, b"")
    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    told = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    request = openvino.Core().compile_model(model, "CPU", told).create_infer_request()
    inputs = [entry.get_any_name() for entry in model.inputs]
    outputs = [entry.get_any_name() for entry in model.outputs]

    def call(weights: Any, batch: Mapping[str, Any], *reference: Any) -> dict[str, Any]:
        made = request.infer({name: np.asarray(batch[name]) for name in inputs})
        return {name: np.array(made[place]) for place, name in enumerate(outputs)}

    return call


def warmed(
    bundle: Bundle,
    engine: str,
    sizes: Sequence[int],
    begun: Callable[[], None] = lambda: None,
    note: Callable[[str], None] = lambda line: None,
) -> tuple[Bundle, dict[str, Measured]]:
    """The bundle computed by an engine, and by program what its batches take.

    With ``auto`` each program is computed by whichever engine takes least for all lengths and sizes, of those that say
    what XLA says, to the tolerance that the bundle states.

    Args:
        bundle: opened.
        engine: of `suite.contracts.engine.Engine`.
        sizes: rows of a batch.
        begun: called before each compilation by XLA.
        note: told, a line each, which engine computes a program, and why another cannot.

    Raises:
        InputError: the engine that is asked for is not installed, has no model in the bundle, or says something else.
    """
    programs, measured = {}, {}
    for name, program in bundle.programs.items():
        best, seconds = program, program.warm(sizes, begun)
        for other in _rivals(bundle, program, engine):
            try:
                rival = computed_by(bundle, program, other)
                _check(bundle, program, rival, max(sizes))
                taken = rival.warm(sizes)
            except InputError as error:
                if engine == other:
                    raise
                note(f"{name}: {error.where} {error.problem} {error.found}".strip())
                continue
            if engine == other or sum(taken.values()) < sum(seconds.values()):
                best, seconds = rival, taken
        if program.models:
            note(f"{name} is computed by {best.engine}")
            best = dataclasses.replace(best, models={})
        programs[name], measured[name] = best, seconds
    return (dataclasses.replace(bundle, programs=programs) if _has_models(bundle) else bundle), measured


def _has_models(bundle: Bundle) -> bool:
    return any(program.models for program in bundle.programs.values())


def chosen(bundle: Bundle, engine: str) -> Bundle:
    """The bundle computed by the engine that is named; ``auto`` is XLA, where nothing is timed.

    Raises:
        InputError: see `warmed`.
    """
    programs = {}
    for name, program in bundle.programs.items():
        rivals = _rivals(bundle, program, engine) if engine != "auto" else ()
        programs[name] = computed_by(bundle, program, rivals[0]) if rivals else program
        if rivals:
            _check(bundle, program, programs[name], 2)
    return dataclasses.replace(bundle, programs=programs)


def _rivals(bundle: Bundle, program: Program, engine: str) -> tuple[str, ...]:
    """Engines besides XLA that may compute a program.

    Raises:
        InputError: the one that is asked for cannot.
    """
    if engine == "xla" or (engine == "auto" and (not program.models or platform() != "cpu")):
        return ()
    if engine == "auto":
        return installed()
    if not program.models:
        if _has_models(bundle):
            return ()  # other programs have some, this one could not be written as ONNX
        fix = "suite export RUN --to BUNDLE --engines onnxruntime openvino"
        raise InputError(f'bundle "{bundle.folder}"', f"has no models for {engine}.", found="programs for XLA", fix=fix)
    if engine not in installed():
        raise missing(engine, "for this engine", engine)
    return (engine,)


def computed_by(bundle: Bundle, program: Program, engine: str) -> Program:
    """The program computed by an engine that reads ONNX; a model that takes any length is opened once."""
    precision = str(bundle.manifest.engines.get("precision", "float32"))
    opened = functools.cache(lambda length: call_of(engine, program.models[length], precision))
    calls = {length: opened(length if length in program.models else 0) for length in program.lengths}
    return dataclasses.replace(program, calls=calls, engine=engine)


def _check(bundle: Bundle, program: Program, rival: Program, rows: int) -> None:
    """Raises InputError: another engine says something else than XLA, of numbers that are drawn."""
    rng = np.random.default_rng(0)
    tolerance = float(bundle.manifest.engines.get("tolerance", {}).get(program.name, TOLERANCE))
    for length in program.lengths:
        batch = {
            name: drawn(jax.ShapeDtypeStruct(array.sized(rows, length), array.dtype), rng)
            for name, array in program.signature.inputs.items()
        }
        ours, theirs = rival.computed(length, batch), program.computed(length, batch)
        far = distance(ours, theirs)
        if far > tolerance:
            found = f"{far:.2g} apart, at most {tolerance:.2g} allowed"
            problem = f"does not answer as XLA does, by {program.name}."
            raise InputError(f"engine {rival.engine}", problem, found=found, fix="--engine xla")


def distance(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> float:
    """The largest difference of numbers, relative to those above 1; infinite where other things differ."""
    largest = 0.0
    if ours.keys() != theirs.keys():
        return float("inf")
    for name, right in theirs.items():
        said = ours[name]
        if said.shape != right.shape or said.dtype != right.dtype:
            return float("inf")
        if right.dtype.kind not in "fV":
            continue  # the place of a largest number may be another where two are equal but for rounding
        one, other = said.astype(np.float64), right.astype(np.float64)
        if not (np.isnan(one) == np.isnan(other)).all():
            return float("inf")
        with np.errstate(invalid="ignore"):
            gaps = np.abs(one - other) / np.maximum(1.0, np.abs(other))
        gaps[(one == other) | np.isnan(other)] = 0.0
        largest = max(largest, float(gaps.max(initial=0.0)))
    return largest


def drawn(shape: jax.ShapeDtypeStruct, rng: np.random.Generator) -> np.ndarray:
    """Noise; ones where it is said what is real; of whole numbers small ones, which every table has."""
    if shape.dtype == bool:
        return np.ones(shape.shape, bool)
    if shape.dtype.kind in "iu":
        return rng.integers(0, 4, shape.shape).astype(shape.dtype)
    return rng.standard_normal(shape.shape).astype(shape.dtype)
