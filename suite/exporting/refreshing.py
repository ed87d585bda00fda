"""``suite export --refresh``: the programs of a bundle made anew, by the JAX that is here.

Programs age: a later JAX may cease to read them. Weights and experiment do not, and programs can be made of them.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suite.bundles import answering, catalogue, integrity, manifest, signing
from suite.bundles.bundle import Bundle
from suite.bundles.engines import drawn
from suite.evaluation.evaluate import make_answer
from suite.explaining.exported import EXPLAIN, again
from suite.exporting import exporting, tracing
from suite.exporting.agreement import check_outputs, exact
from suite.parallel.layout import Layout
from suite.runs import run
from suite.runs.run import Run
from suite.runtime.files import new_folder
from suite.training.preprocessors import bind
from suite.tree import nest
from suite.weights import safetensors

ROWS = 2
"""Rows that each program is compared with the model on."""


def refresh(
    folder: str | Path,
    to: str | Path = "",
    *,
    platforms: Sequence[str] = (),
    allow: tuple[str, ...] = (),
    sign: str | Path = "",
) -> Bundle:
    """The bundle in ``folder`` with programs made by the JAX that is here, compared with the model itself.

    Args:
        folder: what suite export wrote, its programs perhaps of a JAX long ago.
        to: a new folder; empty: it takes the old one's place.
        platforms: of which devices the programs are for; empty: as before.
        allow: packages whose classes its experiment and its codec may name.
        sign: the file of the private key that it is signed with; empty: it is not signed, whether or not it was.

    Raises:
        InputError: it is no bundle, or was changed, or ``sign`` holds no key to sign with.
        RunError: a program does not answer as the model does; the old bundle stays as it was.
    """
    source = Path(folder)
    place = Path(to) if to else source.resolve()  # before it is replaced: "." would still be the old one
    signer = signing.read_signer(sign) if str(sign) else None
    about = manifest.read(source)
    integrity.check(source, about)
    chosen = tuple(platforms or about.platforms)
    exporting.check_platforms(chosen)
    trained_run = Run(source, bind(run.read_experiment(source / manifest.EXPERIMENT, allow), source))
    if EXPLAIN in about.programs:
        trained_run = again(trained_run, about.programs[EXPLAIN])
    weights = safetensors.read(source / manifest.WEIGHTS)
    reference = safetensors.read(source / manifest.REFERENCE) if manifest.REFERENCE in about.files else None
    programs = {**about.programs, **({manifest.CATALOGUE: about.catalogue} if about.catalogue else {})}
    traced = {
        name: tracing.trace_all(
            trained_run.graph,
            _function(trained_run, name),
            weights,
            program.signature.inputs,
            program.lengths,
            chosen,
            None if name == manifest.CATALOGUE else reference,
            about.catalogue is not None,
        )
        for name, program in programs.items()
    }
    entries = {
        name: manifest.Program(program.codec, traced[name].signature, tuple(traced[name].by_length))
        for name, program in programs.items()
    }
    embedding = entries.pop(manifest.CATALOGUE, None)
    with new_folder(place, replacing=not to) as partial:
        for name in about.files:
            if not name.startswith("program/") or name.endswith(".onnx"):
                (partial / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(source / name, partial / name)
        exporting.write_programs(partial, traced)
        maker = exporting.maker()
        made = {**about.made, "versions": maker["versions"], "refreshed": f"by {maker['by']}"}
        changed = {**manifest.about_programs(entries, embedding), "platforms": list(chosen), "made": made}
        if about.engines:
            changed[manifest.ENGINES] = about.engines
        same = {"name": about.name, "experiment": about.experiment, "metrics": about.metrics}
        manifest.write(partial, {**same, **changed})
        if signer is not None:
            signing.sign(partial, signer)
        _compare(trained_run, Bundle.open(partial, allow), allow)
    return Bundle.open(place, allow)


def _function(trained_run: Run, name: str) -> Any:
    """That a program of a bundle is made of."""
    if name == manifest.CATALOGUE:
        return trained_run.experiment.task.embed
    return answering.chosen(trained_run.programs, name).function


def _compare(trained_run: Run, bundle: Bundle, allow: tuple[str, ...]) -> None:
    """Raises RunError: a program says something else than the model, of numbers that are drawn."""
    layout = Layout(portable=not exact(trained_run.experiment))
    variables, rng = nest(bundle.weights), np.random.default_rng(0)
    programs = dict(bundle.programs)
    if bundle.manifest.catalogue is not None:
        programs[manifest.CATALOGUE] = catalogue.program(bundle, allow)
    for name, program in programs.items():
        predict = make_answer(trained_run.graph, _function(trained_run, name), layout)
        for length in program.lengths:
            shapes = tracing.batch_of(program.signature.inputs, ROWS, length)
            numbers = {column: drawn(shape, rng) for column, shape in shapes.items()}
            batch = {manifest.SEED: np.zeros(ROWS, np.uint32), **numbers}
            ours = program.computed(length, numbers)
            theirs = predict(variables.get("params", {}), variables.get("rest", {}), batch, *program.arrays[1:])
            check_outputs(ours, {key: np.asarray(value) for key, value in theirs.items()}, name)
