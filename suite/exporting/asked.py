"""Parts of a run that an export takes: records that it was not trained on, padded lengths, the weights it serves."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite import tree
from suite.contracts.codec import Codec
from suite.contracts.data import Source
from suite.data.sources.memory import evenly_spaced, take
from suite.errors import InputError
from suite.experiment import sections
from suite.experiment.mean_gradient import Mean
from suite.experiment.sections import Finetune
from suite.exporting import tracing
from suite.nn.conv import Conv
from suite.nn.conv1d import Conv1d, ConvTranspose1d
from suite.nn.linear import Linear
from suite.runs.run import Run
from suite.surgery import lora

RECORDS, ROWS = 64, 16
"""Held-back records that a bundle must answer as its run does, and how many of them are asked at a time."""


def held_out(trained_run: Run) -> dict[str, Source]:
    """The splits that the run was not trained on, as far as they can be read; first the one that decided nothing.

    Raises:
        InputError: none of them can.
    """
    sources, reasons = {}, []
    for split in ("test", "validation"):
        try:
            sources[split] = trained_run.experiment.task.source(split)
        except InputError as error:
            reasons.append(f"{error.where}: {error.problem}")
    if not sources:
        raise InputError(
            "held-back records",
            "are what a bundle is checked with, and cannot be read.",
            found=" ".join(dict.fromkeys(reasons)),
            fix="put the run's data back where they were",
        )
    return sources


def held_back(trained_run: Run) -> tuple[str, dict[str, Any]]:
    """A split that the run was not trained on, and what requests have of its records, at most RECORDS of them."""
    split, source = next(iter(held_out(trained_run).items()))
    columns = source[evenly_spaced(source, RECORDS)]
    names = dict.fromkeys(entry.name for program in trained_run.programs.values() for entry in program.codec.inputs)
    return split, {name: columns[name] for name in names if name in columns}


def given(codec: Codec, asked: Mapping[str, Any], indices: np.ndarray) -> dict[str, Any]:
    """Of these records what a request has that the codec takes."""
    return {entry.name: take(asked[entry.name], indices) for entry in codec.inputs if entry.name in asked}


def served(trained_run: Run) -> tuple[Run, dict[str, np.ndarray]]:
    """The run whose model takes the weights, and the weights: what training alone needs is left out, and low-rank
    additions are folded in where that changes no number beyond rounding."""
    params, model_state = trained_run.variables
    finetune, model = trained_run.experiment.finetune, trained_run.experiment.model
    if model.served != model:
        # A rule of gradients may name the parts that are left out.
        answering = sections.replace(trained_run.experiment, {"model": model.served, "gradient": Mean()})
        trained_run = dataclasses.replace(trained_run, experiment=answering)
        left = tree.paths(trained_run.shapes[0])
        params = tree.nest({name: leaf for name, leaf in tree.paths(params).items() if name in left})
    if finetune.kind == "lora" and trained_run.experiment.precision.compute == "float32":
        params = lora.fold(params, finetune)
        trained_run = dataclasses.replace(
            trained_run, experiment=sections.replace(trained_run.experiment, {"finetune": Finetune()})
        )
    return trained_run, _rounded_once(trained_run.graph, tracing.weights_of(params, model_state))


def _rounded_once(graph: Any, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With the matrices of layers that compute in bfloat16 in that format. Each call would round them again, to the
    same numbers, which takes as long as the products of a small batch."""
    model = nnx.merge(graph, *(tree.nest(tracing.named(weights, kind)) for kind in ("params", "rest")))
    narrow = [
        f"params/{'/'.join(map(str, path))}/kernel"
        for path, layer in nnx.iter_modules(model)
        if isinstance(layer, Linear | Conv | Conv1d | ConvTranspose1d) and layer.compute == "bfloat16"
    ]
    return {**weights, **{name: weights[name].astype(jnp.bfloat16) for name in narrow}}


def padded_lengths(trained_run: Run, codec: Codec) -> tuple[int, ...]:
    """Padded lengths: those of training, and where none of them holds the longest that a request may have, one more."""
    longest = codec.longest
    enough = min([-(-longest // 8) * 8, *(length for length in trained_run.lengths if length >= longest)])
    return (*(length for length in trained_run.lengths if length < longest), enough)
