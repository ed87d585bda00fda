"""Models in ONNX with products of 8-bit numbers, by ONNX Runtime's quantiser, and the verdict on what that loses."""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from suite.bundles.manifest import PREDICT
from suite.compression import calibrate, verdict
from suite.contracts.task import Task
from suite.errors import InputError
from suite.exporting.onnx.models import Models, answering
from suite.runs.run import Run

RECORDS = 256
"""Training records that ranges are learnt from, where a model convolves."""


def quantized(trained_run: Run, found: Models) -> tuple[Models, str]:
    """The models with 8-bit weights, and how: ``"dynamic"``, the ranges of activations taken from each batch; or
    ``"static"``, from training records, where a model convolves, since only that is fast for convolutions."""
    convolves = any(b"Conv" in content and _convolves(content) for content in found.by_length.values())
    by_length = {}
    for length, content in found.by_length.items():
        at = length or found.lengths[-1]
        batches = list(_batches(trained_run, found, at)) if convolves else []
        by_length[length] = static(content, batches) if convolves else dynamic(content)
    return dataclasses.replace(found, by_length=by_length), "static" if convolves else "dynamic"


def _convolves(content: bytes) -> bool:
    import onnx

    return any(node.op_type == "Conv" for node in onnx.load_model_from_string(content).graph.node)


def dynamic(content: bytes) -> bytes:
    """With 8-bit matrices, activations rounded by the range of each batch."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model = onnx.load_model_from_string(content)
        quantize_dynamic(model, path, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8)
        return path.read_bytes()


def static(content: bytes, batches: list[dict[str, np.ndarray]]) -> bytes:
    """With 8-bit matrices and kernels, activations rounded by the ranges that they had in ``batches``."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        """Training records, batch by batch."""

        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> Any:
            return next(self.left, None)

    with tempfile.TemporaryDirectory() as folder:
        path, written = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        onnx.save(onnx.load_model_from_string(content), path)
        quantize_static(
            path,
            written,
            Batches(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return written.read_bytes()


def _batches(trained_run: Run, found: Models, length: int) -> Iterator[dict[str, np.ndarray]]:
    """Training records as the models take them, padded to one length."""
    task, seed = trained_run.experiment.task, trained_run.experiment.train.seed
    buckets = {**trained_run.buckets, "": (length,)} if length else trained_run.buckets
    for batch in calibrate.training_batches(task, RECORDS, seed, buckets):
        yield {name: np.asarray(batch[name]) for name in found.signature.inputs}


def judged(
    trained_run: Run, before: dict[str, Models], after: dict[str, Models], method: str, max_drop: float | None
) -> dict[str, Any]:
    """The verdict on the models that answer by default, against the run: metric before and after with intervals, the
    loss, and bytes.

    Raises:
        InputError: the task is scored by something else than it answers with.
    """
    task = trained_run.experiment.task
    if type(task).evaluate is not Task.evaluate:
        problem = "is scored by something else than it answers with, so a loss cannot be told."
        raise InputError(f"task {type(task).__name__}", problem, fix="the same command without --int8")
    first = verdict.measured(trained_run)
    last = verdict.measured(trained_run.answered_by(answering(after[PREDICT])), first.split)
    metric, lower = verdict.ruler(trained_run.experiment, first.scores)
    worse, better = (last, first) if lower else (first, last)
    drop = worse.scores.minus(better.scores, metric)
    sizes = [sum(len(content) for content in models[PREDICT].by_length.values()) for models in (before, after)]
    return {
        "method": method,
        "split": first.split,
        "metric": metric,
        "before": dataclasses.asdict(first.scores.interval(metric)),
        "after": dataclasses.asdict(last.scores.interval(metric)),
        "drop": dataclasses.asdict(drop),
        "max_drop": max_drop,
        "met": max_drop is None or bool(drop.value <= max_drop),
        "size": {"before_bytes": sizes[0], "after_bytes": sizes[1], "ratio": sizes[1] / sizes[0]},
    }
