"""Cost of a run: bytes of its weights, time and memory of a call, number of parameters."""

import dataclasses
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from suite.contracts.batch import Batch
from suite.data.pipeline.padding import axes, batched, row_lengths
from suite.evaluation.reference import on_devices
from suite.experiment import sections
from suite.nn.quant.layers import unpack
from suite.planning import planning
from suite.runs.run import Run
from suite.tree import paths

SIZES = (1, 64)
"""Rows of a call whose time is taken."""
SECONDS = 3.0
"""How long calls of one size are repeated, at the most."""
TURNS = 40
"""How often each program has its turn, at the most."""
CALLS = 3
"""Calls in a turn; the first, which finds another program's weights in the caches, is not counted."""
LEAST = 5
"""Turns there are in any case."""


@dataclass(frozen=True)
class Served:
    """The jitted program that the split is scored by, its weights, reference arrays, and a batch of each size."""

    evaluate: Any
    params: Any
    model_state: Any
    batches: Mapping[int, Batch]
    reference: Any

    def arguments(self, size: int) -> tuple[Any, ...]:
        """Of a call of ``size`` rows."""
        return self.params, self.model_state, self.batches[size], self.reference

    def __call__(self, size: int) -> Any:
        return jax.block_until_ready(self.evaluate(*self.arguments(size)))


def compare(before: Run, after: Run, split: str) -> dict[str, Any]:
    """``size``, ``latency_ms``, ``memory_bytes`` and ``parameters`` of two runs; see `suite.compression.verdict`."""
    one, other = served(before, split), served(after, split)
    programs = {"before": one, "after": other}
    if before.experiment.precision.compute != "float32":
        plain = sections.replace(before.experiment, {"precision.compute": "float32"})
        evaluate = dataclasses.replace(before, experiment=plain)._program.evaluate
        programs["float32"] = dataclasses.replace(one, evaluate=evaluate)
    times = {str(size): latency(programs, size) for size in SIZES}
    sizes = [stored_bytes(program.params, program.model_state) for program in (one, other)]
    most = max(SIZES)
    return {
        "size": {"before_bytes": sizes[0], "after_bytes": sizes[1], "ratio": sizes[1] / sizes[0]},
        "latency_ms": {
            rows: {"float32": ms["before"], **ms, "ratio": ms["after"] / ms["before"]} for rows, ms in times.items()
        },
        "memory_bytes": {"before": memory(one, most), "after": memory(other, most)},
        "parameters": {
            "before": parameters(one.params)[0],
            **dict(zip(("after", "zeros"), parameters(other.params), strict=True)),
        },
    }


def served(run: Run, split: str) -> Served:
    """The run with real records of ``split``: of one row that of middle length, else rows from all over the split."""
    task = run.experiment.task
    source = task.source(split)
    spread = np.linspace(0, len(source) - 1, max(SIZES)).astype(np.int64)
    encoded, middle = task.encode(source[spread]), 0
    for axis in axes(encoded)[:1]:
        middle = int(np.argsort(row_lengths(encoded, axis), kind="stable")[len(spread) // 2])
    one = task.encode(source[spread[middle : middle + 1]])
    batches = {1: batched(one, run.buckets), max(SIZES): batched(encoded, run.buckets)}
    return Served(run._program.evaluate, *run.variables, batches, on_devices(run.reference(split)))


def latency(programs: Mapping[str, Served], size: int) -> dict[str, float]:
    """Median milliseconds of a call of ``size`` rows. The programs take turns, so that noise hits all of them."""
    for program in programs.values():
        program(size)  # compiles
    taken: dict[str, list[float]] = {name: [] for name in programs}
    begun = time.perf_counter()
    for turn in range(TURNS):
        if turn >= LEAST and time.perf_counter() - begun > SECONDS:
            break
        for name, program in programs.items():
            program(size)
            for _ in range(CALLS - 1):
                start = time.perf_counter()
                program(size)
                taken[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(seconds) for name, seconds in taken.items()}


def memory(program: Served, size: int) -> int:
    """Bytes that a call of ``size`` rows holds at its peak: weights, batch, what is in between and outputs."""
    compiled = program.evaluate.lower(*program.arguments(size)).compile()
    return planning.memory_of(compiled.memory_analysis())["peak"]


def stored_bytes(params: Any, model_state: Any) -> int:
    """Bytes of the tensors as a safetensors file holds them, its header left out."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves((params, model_state)))


def parameters(params: Mapping[Any, Any]) -> tuple[int, int]:
    """How many weights a model has, and how many of them are zero; scales of rounded ones are none."""
    leaves = [
        unpack(leaf) if leaf.dtype == np.uint8 else leaf
        for name, leaf in paths(params).items()
        if not name.endswith("_scale")
    ]
    return sum(leaf.size for leaf in leaves), sum(int((np.asarray(leaf) == 0).sum()) for leaf in leaves)
