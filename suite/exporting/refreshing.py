"""``suite export --refresh``: the programs of a bundle made anew, by the JAX that is here.

Programs age: a later JAX may cease to read them. Weights and experiment do not, and programs can be made of them.
"""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from suite.bundles import manifest
from suite.bundles.bundle import Bundle
from suite.evaluation.evaluate import make_predict
from suite.exporting import exporting, tracing
from suite.exporting.agreement import check_outputs, exact
from suite.parallel.layout import Layout
from suite.runs import run
from suite.runs.run import Run
from suite.training.preprocessors import bind
from suite.tree import nest
from suite.weights import safetensors

ROWS = 2
"""Rows that each program is compared with the model on."""


def refresh(
    folder: str | Path, to: str | Path = "", *, platforms: Sequence[str] = (), allow: tuple[str, ...] = ()
) -> Bundle:
    """The bundle in ``folder`` with programs made by the JAX that is here, compared with the model itself.

    Args:
        folder: what suite export wrote, its programs perhaps of a JAX long ago.
        to: a new folder; empty: it takes the old one's place.
        platforms: of which devices the programs are for; empty: as before.
        allow: packages whose classes its experiment and its codec may name.

    Raises:
        InputError: it is no bundle, or was changed.
        RunError: a program does not answer as the model does; the old bundle stays as it was.
    """
    source = Path(folder)
    place = Path(to) if to else source.resolve()  # before it is replaced: "." would still be the old one
    about = manifest.read(source)
    manifest.check(source, about)
    chosen = tuple(platforms or about.platforms)
    exporting.check_platforms(chosen)
    made = Run(source, bind(run.read_experiment(source / manifest.EXPERIMENT, allow), source))
    weights, inputs = safetensors.read(source / manifest.WEIGHTS), about.signature.inputs
    traced = tracing.trace_all(made.graph, made.experiment.task, weights, inputs, about.lengths, chosen)
    with exporting.new_folder(place, replacing=not to) as partial:
        for name in about.files:
            if not name.startswith("program/"):
                (partial / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(source / name, partial / name)
        exporting.write_programs(partial, traced)
        told = dataclasses.asdict(about)
        maker = {**about.made, "versions": exporting.maker()["versions"], "refreshed": exporting.maker()["date"]}
        changed = {
            "signature": dataclasses.asdict(tracing.signature(inputs, traced)),
            "lengths": list(traced),
            "platforms": list(chosen),
            "made": maker,
        }
        kept = {name: told[name] for name in ("name", "experiment", "codec", "metrics")}
        manifest.write(partial, {**kept, **changed})
        _compare(made, Bundle.open(partial, allow))
    return Bundle.open(place, allow)


def _compare(made: Run, bundle: Bundle) -> None:
    """Raises RunError: a program says something else than the model, of numbers that are drawn."""
    layout = Layout(portable=not exact(made.experiment))
    predict, variables = make_predict(made.graph, made.experiment.task, layout), nest(bundle.weights)
    rng = np.random.default_rng(0)
    for length in bundle.lengths:
        shapes = tracing.batch_of(bundle.signature.inputs, ROWS, length)
        batch = {name: _drawn(each, rng) for name, each in shapes.items()}
        ours = bundle.programs[length](bundle.weights, batch)
        theirs = predict(variables.get("params", {}), variables.get("rest", {}), batch)
        check_outputs(*(_on_host(each) for each in (ours, theirs)))


def _drawn(shape: jax.ShapeDtypeStruct, rng: np.random.Generator) -> np.ndarray:
    """Noise; ones where it is said what is real; of whole numbers small ones, which every table has."""
    if shape.dtype == bool:
        return np.ones(shape.shape, bool)
    if shape.dtype.kind in "iu":
        return rng.integers(0, 4, shape.shape).astype(shape.dtype)
    return rng.standard_normal(shape.shape).astype(shape.dtype)


def _on_host(outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in outputs.items()}
