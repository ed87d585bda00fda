"""``suite.export``: a run as a bundle, written only if it answers as the run does."""

import contextlib
import dataclasses
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suite.bundles import catalogue, manifest, opened, signing
from suite.bundles.answering import computed
from suite.bundles.bundle import Bundle, platform
from suite.bundles.codecs import rebased
from suite.contracts.batch import Batch
from suite.contracts.codec import Codec
from suite.contracts.task import Program
from suite.data.pipeline.padding import axes, bucket
from suite.data.sources.memory import take
from suite.errors import InputError, RunError
from suite.experiment import serialization
from suite.experiment.local_paths import without_folders
from suite.experiment.sections import Experiment
from suite.explaining.exported import with_explanations
from suite.exporting import model_card, tracing
from suite.exporting.agreement import alike, check_outputs, exact
from suite.exporting.asked import ROWS, given, held_back, held_out, padded_lengths, served
from suite.exporting.onnx import beside, folder
from suite.runs import results, run, verbs
from suite.runs.run import Run
from suite.runtime import files
from suite.training import preprocessors, privacy
from suite.weights import safetensors
from suite.weights.pretrained import Written

CHUNK = 4096
"""Records of a catalogue that are encoded at a time."""
CHEAP = 1000
"""Records of a split up to which metrics get intervals."""
HUGGINGFACE, ONNX = "huggingface", "onnx"
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
"""Names of models, which are parts of addresses."""
UNTELLING = ("bundle", "export", "exported", "model", "out", "output", "run", "small", "tuned")
"""Names of folders that say what lies in them and not which one it is."""
VERSIONS = ("suite", "jax", "jaxlib", "flax", "numpy", "python")


def export(
    source: Run | str | Path,
    to: str | Path,
    *,
    platforms: Sequence[str] = tracing.PLATFORMS,
    name: str = "",
    licence: str = "",
    format: str = "bundle",
    allow: tuple[str, ...] = (),
    sign: str | Path = "",
    engines: Sequence[str] = (),
    int8: bool = False,
    max_drop: float | None = None,
    explain: bool = False,
) -> Bundle | Written | folder.Written:
    """A run as a bundle, opened: what `suite.bundles.bundle` loads and a server serves.

    Args:
        source: the run, or its folder.
        to: a new folder; the word ``"huggingface"`` or ``"onnx"``: as ``format``, to that folder within the run's.
        platforms: of which devices its programs are for.
        name: of the model, as a server calls it; empty: that of the folder ``to``, or of the run's.
        licence: under which the model may be used, for the model card.
        format: ``"bundle"``; ``"huggingface"``, the layout of that library, where the family has one; or ``"onnx"``:
            `suite.exporting.onnx.folder`.
        allow: packages whose classes the run's experiment may name.
        sign: the file of the private key that the bundle is signed with, see `suite.bundles.signing`; empty: none.
        engines: of processors that the bundle has models in ONNX for, see `suite.bundles.engines`.
        int8: whether products of the models in ONNX are of 8-bit numbers.
        max_drop: loss of the metric that is allowed for that; None: any.
        explain: add the program ``explain``, which says what an answer is owed to.

    Raises:
        InputError: ``to`` is there already, the run has no data to check the bundle with, or ``sign`` holds no key to
            sign with.
        RunError: the bundle does not answer as the run does; nothing is left of it.
    """
    trained_run = source if isinstance(source, Run) else run.open(source, allow)
    signer = signing.read_signer(sign) if str(sign) else None
    if str(to) in (HUGGINGFACE, ONNX):
        format, to = str(to), trained_run.folder / str(to)
    if format not in ("bundle", HUGGINGFACE, ONNX):
        raise InputError(f'--format "{format}"', "is none.", found=f"bundle, {HUGGINGFACE}, {ONNX}")
    flags = {"sign": bool(sign), "engines": bool(engines), "int8": int8, "max-drop": max_drop is not None}
    _check_flags(format, {**flags, "explain": explain})
    if format == HUGGINGFACE:
        return verbs.convert(trained_run.folder, to, allow=allow)
    name = named(trained_run.experiment, name, (Path(to), trained_run.folder))
    if format == ONNX:
        return folder.export(trained_run, to, name, int8=int8, max_drop=max_drop)
    beside.check_engines(engines)
    check_platforms(platforms)
    with files.new_folder(Path(to)) as place:
        split, asked = held_back(trained_run)
        if explain:
            trained_run, asked = _explained(trained_run, asked)
        check_programs(trained_run, asked)
        checked = f"{len(next(iter(asked.values())))} records of the {split} split"
        about: dict[str, Any] = {"name": name, "checked": checked, "licence": licence, "platforms": tuple(platforms)}
        if engines:
            (place / "program").mkdir()
            about["engines"] = beside.write(trained_run, place, asked, engines, int8, max_drop)
        _write(trained_run, place, asked, about)
        if signer is not None:
            signing.sign(place, signer)
        _verify(trained_run, Bundle.open(place, allow), asked, allow)
    return Bundle.open(to, allow)


def _explained(trained_run: Run, asked: Mapping[str, Any]) -> tuple[Run, dict[str, Any]]:
    """The run with the program that explains, and those of the held-back records that it takes: not a blank text."""
    codec = trained_run.codec
    columns = given(codec, asked, np.arange(len(next(iter(asked.values())))))
    divisions = codec.divide(codec.opened(columns), codec.encode(columns))
    held = np.flatnonzero([bool(one.units) for one in divisions])
    kept = {name: take(values, held) for name, values in asked.items()} if len(held) else dict(asked)
    return with_explanations(trained_run, given(codec, kept, np.arange(1))), kept


def _check_flags(format: str, given: Mapping[str, bool]) -> None:
    """Raises InputError: a flag is for another format."""
    formats = {name: ("bundle", ONNX) if name in ("int8", "max-drop") else ("bundle",) for name in given}
    for name, is_given in given.items():
        if is_given and format not in formats[name]:
            problem = "is for bundles." if formats[name] == ("bundle",) else "is for models in ONNX."
            raise InputError(f"flag --{name}", problem, found=format, fix=f"--format {shlex.quote(formats[name][0])}")
    if given["int8"] and format == "bundle" and not given["engines"]:
        raise InputError(
            "flag --int8", "is for models in ONNX.", found="no --engines", fix="--engines onnxruntime --int8"
        )
    if given["max-drop"] and not given["int8"]:
        fix = "--int8" if format == ONNX or given["engines"] else "--engines onnxruntime --int8"
        raise InputError("flag --max-drop", "belongs to --int8.", fix=fix)


def named(experiment: Experiment, name: str = "", folders: Sequence[Path] = ()) -> str:
    """What a server calls the model: ``name``, else the first of ``folders`` whose own name says something, such as
    ``bundles/reviews``, else the recipe.

    Raises:
        InputError: ``name`` is no name for a server.
    """
    name = name or next(filter(None, map(_telling, folders)), "") or experiment.name.rpartition(".")[2]
    if not re.fullmatch(NAME, name):
        raise InputError(f'--name "{name}"', "must be letters, digits, points, dashes and underscores, at most 64.")
    return name


def _telling(folder: Path) -> str:
    """The folder's name as a server can write it; empty where it says nothing of the model: a date, a number, or a word
    for what the folder is."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip("-._")[:64]
    return "" if re.fullmatch(r"\d.*|", name) or name.lower() in UNTELLING else name


def check_platforms(platforms: Sequence[str]) -> None:
    """Raises InputError: unknown ones, or this machine's is not among them."""
    unknown = [platform for platform in platforms if platform not in tracing.PLATFORMS]
    if unknown:
        raise InputError(
            "flag --platforms",
            f"{', '.join(unknown)} is no platform.",
            fix=f"--platforms {' '.join(tracing.PLATFORMS)}",
        )
    if platform() not in platforms:
        raise InputError(
            "flag --platforms",
            f"must have {platform()}, since a bundle is checked on this machine.",
            found=", ".join(platforms) or "none",
            fix=f"--platforms {' '.join((platform(), *platforms))}",
        )


def check_programs(trained_run: Run, asked: Mapping[str, Any]) -> None:
    """Raises InputError: a program has a name that none may have, there is no default one, or the held-back records
    lack a column that a program must be given, so that it cannot be checked."""
    where = f"programs of {type(trained_run.experiment.task).__name__}"
    names = ", ".join(trained_run.programs)
    if manifest.PREDICT not in trained_run.programs:
        raise InputError(where, "must have the one that answers where none is named.", found=names, fix="predict")
    for name, program in trained_run.programs.items():
        try:
            manifest.check_program_name(name)
        except ValueError:
            problem = "must be named by letters, digits and underscores, at most 64, a letter first."
            raise InputError(where, problem, found=repr(name), fix=re.sub(r"\W+", "_", name)) from None
        if name == manifest.CATALOGUE:
            raise InputError(where, "may have none of the name of what embeds a catalogue.", found=name, fix="predict")
        missing = [entry.name for entry in program.codec.inputs if entry.required and entry.name not in asked]
        if missing:
            problem = f"cannot be checked: the held-back records lack what {name} is asked with."
            fix = f"a column {missing[0]} in the data, or an input that is not required"
            raise InputError(where, problem, found=f"no {', '.join(missing)}", fix=fix)


def _write(trained_run: Run, folder: Path, asked: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """All files of a bundle."""
    model_run, weights = served(trained_run)
    experiment = model_run.experiment
    task, reference = experiment.task, trained_run.reference_arrays
    embedding = catalogue_program(trained_run)
    programs = {**trained_run.programs, **({manifest.CATALOGUE: embedding} if embedding else {})}
    traced = {}
    for name, program in programs.items():
        buckets, beside = trained_run.buckets, reference
        if program is embedding:
            rows, buckets, beside = *_catalogue_rows(trained_run, program.codec), None
        else:
            rows = program.codec.encode(given(program.codec, asked, np.arange(1)))
        traced[name] = tracing.trace_all(
            model_run.graph,
            program.function,
            weights,
            tracing.inputs_of(rows, buckets),
            padded_lengths(trained_run, program.codec),
            about["platforms"],
            beside,
            embedding is not None,
        )
    write_programs(folder, traced)
    safetensors.write(folder / manifest.WEIGHTS, lambda: weights.items())
    if reference is not None:
        safetensors.write(folder / manifest.REFERENCE, lambda: reference.items())
    (folder / "assets").mkdir()
    for asset in preprocessors.preprocessors_of(task).values():
        if asset.file:
            _kept(asset.file, folder)
    serialization.dump(preprocessors.unbind(experiment), folder / manifest.EXPERIMENT, local=False)
    entries = {
        name: manifest.Program(
            without_folders(serialization.to_json(rebased(program.codec, lambda file: _kept(file, folder)))),
            traced[name].signature,
            tuple(traced[name].by_length),
        )
        for name, program in programs.items()
    }
    embedded = entries.pop(manifest.CATALOGUE, None)
    guarantee = privacy.read(trained_run.folder)
    content = {
        "name": about["name"],
        "experiment": experiment.name,
        **manifest.about_programs(entries, embedded),
        "platforms": list(about["platforms"]),
        **({manifest.ENGINES: about["engines"]} if "engines" in about else {}),
        "metrics": _metrics(trained_run),
        "made": {
            **maker(),
            "recipe": trained_run.experiment.name,
            "from": trained_run.folder.name,
            "licence": about["licence"],
            "checked": about["checked"],
            **({"privacy": dataclasses.asdict(guarantee)} if guarantee else {}),
        },
    }
    card = model_card.write(trained_run, content, weights)
    files.write_text(folder / manifest.CARD, card)
    manifest.write(folder, content)


def catalogue_program(trained_run: Run) -> Program | None:
    """What embeds the records of a catalogue; None where the bundle keeps the ones it has."""
    task = trained_run.experiment.task
    codec = task.catalogue
    if codec is None or trained_run.reference_arrays is None:
        return None

    def embedded(model: Any, batch: Batch, reference: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return task.embed(model, batch)

    return Program(embedded, codec)


def _catalogue_rows(trained_run: Run, codec: Codec) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """A record of the catalogue, encoded, and the padded lengths of training by axis, or longer ones where a record
    is."""
    source = trained_run.experiment.task.reference("predict")
    assert source is not None
    buckets = dict(trained_run.buckets)
    for start in range(0, len(source), CHUNK):
        rows = codec.encode(source[np.arange(start, min(start + CHUNK, len(source)))])
        for axis in filter(None, axes(rows)):
            known = buckets.get(axis, ())
            buckets[axis] = tuple(sorted({*known, bucket(rows, known, axis)}))
    return codec.encode(source[np.arange(1)]), buckets


def _kept(file: str, folder: Path) -> str:
    """The name in the bundle of an asset's file, which is copied there."""
    name = f"assets/{Path(file).name}"
    if not (folder / name).exists():
        shutil.copyfile(file, folder / name)
    return name


def write_programs(folder: Path, programs: Mapping[str, tracing.Traced]) -> None:
    """Each under its name and its length."""
    (folder / "program").mkdir(exist_ok=True)
    for name, traced in programs.items():
        for length, exported in traced.by_length.items():
            (folder / manifest.program(length, name)).write_bytes(bytes(exported.serialize()))


def maker() -> dict[str, Any]:
    """What makes a bundle now: versions and revision of the source. Neither time nor place: one run, the same bytes."""
    versions = results.versions()
    return {
        "by": f"suite {versions['suite']}",
        "revision": results.revision(),
        "versions": {name: versions[name] for name in VERSIONS},
    }


def _metrics(trained_run: Run) -> dict[str, dict[str, float]]:
    """What the run's last verb found; and of held-back splits that are small, each metric with its interval."""
    measured = {name: {"value": value} for name, value in trained_run.metrics.items() if not name.startswith("train/")}
    for split, source in held_out(trained_run).items():
        if len(source) > CHEAP:
            continue
        with contextlib.suppress(InputError):  # such as a test split whose labels were never published
            scores = trained_run.scores(split)
            measured |= {f"{split}/{name}": dataclasses.asdict(scores.interval(name)) for name in scores.values()}
    finite = {
        name: {key: value for key, value in about.items() if np.isfinite(value)} for name, about in measured.items()
    }
    goal, best = trained_run.experiment.goal, trained_run.experiment.train.best.removeprefix("-")
    named = goal.metric if goal else best  # of a model, what it was to reach, or was chosen by
    first = sorted(finite, key=lambda name: not name.endswith(f"/{named}"))
    return {name: finite[name] for name in first if "value" in finite[name]}


def _verify(trained_run: Run, bundle: Bundle, asked: Mapping[str, Any], allow: tuple[str, ...]) -> None:
    """Raises RunError: outputs or answers of a program of the bundle are not the run's (`Run.portable`)."""
    trained_run = trained_run if exact(trained_run.experiment) else trained_run.portable
    count = len(next(iter(asked.values())))
    for name, program in bundle.programs.items():
        codec = trained_run.programs[name].codec
        for start in range(0, count, ROWS):
            indices = np.arange(start, min(start + ROWS, count))
            part = given(codec, asked, indices)
            ours, theirs = _outputs_of_both(trained_run, program, part, indices)
            check_outputs(ours, theirs, name)
            if not alike(program.decode(ours, part), list(codec.decode(theirs, part))):
                raise RunError("the bundle's answers are not the run's, though what the model says is")
    if bundle.manifest.catalogue is not None:
        _verify_catalogue(trained_run, bundle, allow)


def _outputs_of_both(
    trained_run: Run, program: opened.Program, part: Mapping[str, Any], indices: np.ndarray
) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """What a program of the bundle and the run say of records, padded alike."""

    def ours(rows: dict[str, Any], size: int, seeds: np.ndarray) -> Mapping[str, np.ndarray]:
        return program.outputs(rows, program.bucket(rows), size, seeds)

    def theirs(rows: dict[str, Any], size: int, seeds: np.ndarray) -> Mapping[str, np.ndarray]:
        return trained_run.outputs(rows, program.padded_lengths(rows), size, seeds, program.name)

    codec = trained_run.programs[program.name].codec
    return computed(ours, program.codec, part, ROWS, indices), computed(theirs, codec, part, ROWS, indices)


def _verify_catalogue(trained_run: Run, bundle: Bundle, allow: tuple[str, ...]) -> None:
    """Raises RunError: the bundle keeps something else of the first records of the catalogue than the run."""
    source = trained_run.experiment.task.reference("predict")
    assert source is not None and trained_run.reference_arrays is not None
    embedding, indices = catalogue.program(bundle, allow), np.arange(min(ROWS, len(source)))
    rows = embedding.codec.encode(source[indices])
    ours = embedding.outputs(rows, embedding.bucket(rows), ROWS, indices)
    theirs = {name: value[indices] for name, value in trained_run.reference_arrays.items()}
    check_outputs(ours, theirs, manifest.CATALOGUE)
