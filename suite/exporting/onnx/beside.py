"""Models in ONNX beside a bundle's programs, for the engines that a server may compute it by."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suite.bundles import engines, manifest
from suite.compression import verdict
from suite.contracts.engine import READS_ONNX
from suite.distribution import missing
from suite.errors import InputError, RunError
from suite.exporting.onnx.models import TOLERANCE, Models, all_models, compared
from suite.exporting.onnx.quantizing import judged, quantized
from suite.runs.run import Run

MARGIN = 4.0
"""How many times as far as on the records that were asked an engine may be from the bundle's own programs."""


def check_engines(names: Sequence[str]) -> None:
    """Raises InputError: an engine is unknown, or not installed, so that it cannot be compared with the run."""
    for name in names:
        if name not in READS_ONNX:
            fix = f"--engines {' '.join(READS_ONNX)}"
            raise InputError("flag --engines", f"{name} is no engine.", found=name, fix=fix)
        if name not in engines.installed():
            raise missing(name, "to check an engine with", name)


def write(
    trained_run: Run,
    folder: Path,
    asked: Mapping[str, Any],
    names: Sequence[str],
    int8: bool = False,
    max_drop: float | None = None,
) -> dict[str, Any]:
    """Writes the models into the folder of a bundle; what its ``bundle.json`` says of them.

    Args:
        trained_run: the run.
        folder: of the bundle.
        asked: held-back records.
        names: engines, which must say what the run says.
        int8: with products of 8-bit numbers, see `suite.exporting.onnx.quantizing`.
        max_drop: loss of the metric that the verdict on them allows; None: any.

    Raises:
        InputError: the program that answers by default cannot be written.
        RunError: an engine does not say what the run says, or 8 bits lose more than they may.
    """
    made, left_out = all_models(trained_run, asked)
    about: dict[str, Any] = {"left_out": left_out, "checked": sorted(names)}
    if int8:
        narrow = {name: quantized(trained_run, models) for name, models in made.items()}
        after = {name: models for name, (models, _) in narrow.items()}
        about["int8"] = judged(trained_run, made, after, narrow[manifest.PREDICT][1], max_drop)
        if not about["int8"]["met"]:
            raise RunError(f"the models with 8-bit products lose too much: {verdict.sentence(about['int8'])}")
        made = after
    precision = trained_run.experiment.precision.compute
    about |= {"precision": "bfloat16" if precision == "bfloat16" else "float32", "models": {}, "tolerance": {}}
    for name, models in made.items():
        gaps = [_gap(trained_run, name, models, asked, engine, about["precision"], int8) for engine in names]
        about["tolerance"][name] = max(TOLERANCE, MARGIN * max(gaps))
        about["models"][name] = sorted(models.by_length)
        for length, content in models.by_length.items():
            (folder / manifest.model(length, name)).write_bytes(content)
    return about


def _gap(
    trained_run: Run, name: str, models: Models, asked: Mapping[str, Any], engine: str, precision: str, int8: bool
) -> float:
    """How far an engine is from the bundle's own programs on the first records; from the run in float32 it is no
    further than `TOLERANCE`, unless its numbers were rounded."""
    if not int8:
        plain = {length: engines.call_of(engine, content) for length, content in models.by_length.items()}
        for length, ours, theirs in compared(trained_run.in_float32, name, models, plain, asked, 0):
            if (gap := engines.distance(ours, theirs)) > TOLERANCE:
                where = f"{engine} does not answer as the run does, by the program {name}, rows padded to {length}"
                raise RunError(f"{where}: {gap:.2g} apart")
    opened = {length: engines.call_of(engine, content, precision) for length, content in models.by_length.items()}
    apart = compared(trained_run.portable, name, models, opened, asked, 0)
    return max(engines.distance(ours, theirs) for _, ours, theirs in apart)
