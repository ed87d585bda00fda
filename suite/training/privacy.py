"""Private training: what a run's budget of privacy makes of its batches, its gradients and its steps, and its record.

A run folder holds ``privacy.json``, which says what is guaranteed, and ``privacy-key``, from which batches and noise
are drawn, so that a run goes on bit for bit; with the key the noise can be undone.
"""

import dataclasses
import json
import os
import secrets
import shlex
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from suite.contracts.data import Source
from suite.contracts.metric_meaning import register_metric
from suite.contracts.model import ModelConfig
from suite.contracts.preprocessor import Postprocessor
from suite.data.pipeline.dispatches import Plan
from suite.data.pipeline.poisson import PoissonPlan, poisson_plan
from suite.data.reading import is_missing
from suite.errors import InputError
from suite.experiment.mean_gradient import Mean
from suite.experiment.sections import Experiment
from suite.runtime import files, json_files
from suite.training import accountant
from suite.training.preprocessors import preprocessors_of, unbind
from suite.training.private_gradient import Private

FILE, KEY = "privacy.json", "privacy-key"
OUTSIDE = ("metrics of training batches in the log", "the validation split, which chooses the checkpoint")
"""What no run's guarantee covers."""
BEGUN = "the weights that training began with, if they were learnt from the same records"
COMPRESSED = "records that compression looked at"
MOST = 1000.0
"""Largest epsilon."""
ALONE = "records without a {}, each of which counts as one of its own ({:,})"
CHUNK = 65536
"""Records whose unit is read at a time."""

register_metric(
    "epsilon", "What the steps so far may tell of one record, at the run's delta; lower is more private.", "lower"
)


def digits(delta: float) -> str:
    """A delta for people: one digit where that is all of it, since a smaller one would promise more."""
    short = f"{delta:.0e}"
    return short if float(short) == delta else f"{delta:.2e}"


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What private training guarantees, as ``privacy.json`` has it.

    Attributes:
        epsilon: of the steps taken, by privacy loss distributions; neighbouring data differ by one unit.
        renyi_epsilon: an upper bound of it by Rényi divergences.
        delta: probability that they tell more.
        budget: most that epsilon may be.
        steps: taken; before the run ends, those that it will take at most.
        noise: standard deviation of the noise in units of ``clip_norm``.
        rate: probability that a unit is in a batch.
        expected: units of a batch on average.
        units: how many there are.
        unit: what is protected: ``"record"``, or the name of a column.
        clip_norm: norm to which gradients are scaled down.
        outside: what was learnt from the training data besides, or shows them, and is not covered.
    """

    epsilon: float
    renyi_epsilon: float
    delta: float
    budget: float
    steps: int
    noise: float
    rate: float
    expected: int
    units: int
    unit: str
    clip_norm: float
    outside: tuple[str, ...]

    def after(self, steps: int) -> "Guarantee":
        """The same of as many steps."""
        spent = accountant.epsilon(self.noise, self.rate, steps, self.delta)
        bound = accountant.renyi_epsilon(self.noise, self.rate, steps, self.delta)
        return dataclasses.replace(self, steps=steps, epsilon=spent, renyi_epsilon=bound)

    @property
    def lines(self) -> list[str]:
        """For people: what is guaranteed, and what is not."""
        return [f"{self}.", f"Not covered: {', '.join(self.outside)}."]

    def __str__(self) -> str:
        whose = "record" if self.unit == "record" else f"{self.unit} (all of its records)"
        spent = self.epsilon or (self.budget if self.steps else 0.0)  # less than the accountant tells from 0
        return (
            f"({spent:.3g}, {digits(self.delta)})-differential privacy of each {whose}, by {self.steps:,} steps of "
            f"{self.expected:,} of {self.units:,} on average, noise {self.noise:.4g}, clipping norm {self.clip_norm:g}"
        )


@dataclass(frozen=True)
class Prepared:
    """What takes the place of what a run without privacy has.

    Attributes:
        plan: batches by Poisson sampling.
        rule: the gradient rule.
        steps: that the run may take.
        guarantee: of these steps.
    """

    plan: PoissonPlan
    rule: Private
    steps: int
    guarantee: Guarantee


def is_private(experiment: Experiment) -> bool:
    """Whether a run is trained privately."""
    return experiment.privacy.epsilon != 0


def check(experiment: Experiment) -> None:
    """That an experiment can be trained privately, as far as is known: where ``defaults`` are open, the records may yet
    leave out a part of the model.

    Raises:
        InputError: it cannot.
    """
    privacy, task = experiment.privacy, experiment.task
    for name, sound, expected in (
        ("epsilon", 0 < privacy.epsilon <= MOST, f"above 0 and at most {MOST:g}, beyond which nothing is promised"),
        ("delta", 0 <= privacy.delta < 1, "a probability below one over the number of records"),
        ("clip_norm", privacy.clip_norm > 0, "above 0"),
        ("microbatch", privacy.microbatch >= 1, "1 or more"),
        ("per_unit", privacy.per_unit >= 1, "1 or more"),
    ):
        if not sound:
            found = f"{getattr(privacy, name):g}"
            fix = f"--privacy.{name} {getattr(type(privacy)(epsilon=3.0), name) or 1e-5:g}"
            raise InputError(f"field privacy.{name}", f"must be {expected}.", found=found, fix=fix)
    if experiment.gradient != Mean():
        rule = experiment.gradient
        split = isinstance(rule, Mean)
        raise InputError(
            f"field gradient{'.accumulate' if split else ''}",
            "is that of training without privacy, which makes its own gradients of single records.",
            found=str(rule.microbatches) if split else type(rule).__name__,
            fix="--gradient.accumulate 1 --privacy.microbatch 8" if split else "--privacy.epsilon 0",
        )
    if task.solved:
        raise InputError(
            "field privacy.epsilon",
            f"{type(task).__name__} is solved in closed form, without steps whose gradients could be private.",
            fix="--privacy.epsilon 0",
        )
    if why := task.coupled:
        raise InputError(
            "field privacy.epsilon",
            f"needs a loss that is a mean over records; in that of {type(task).__name__} {why}.",
            fix="--privacy.epsilon 0",
        )
    for field, value, plain in (
        ("pipeline.sampling", experiment.pipeline.sampling, "shuffle"),
        ("train.on_nan", experiment.train.on_nan, "stop"),
    ):
        if value != plain:
            problem = f"is {value}, which depends on the records in a way that the guarantee does not count."
            raise InputError(f"field {field}", problem, fix=f"--{field} {shlex.quote(plain)}")
    if experiment.defaults is None and (normed := list(_batch_norms(experiment.model, "model"))):
        raise InputError(
            f"field {normed[0][0]}",
            "is batch, whose statistics mix the records of a batch, so that no gradient is of one record alone.",
            fix=" ".join(f"--{field} {shlex.quote(others[0])}" for field, others in normed),
        )


def check_model(abstract: Any) -> None:
    """That a model has no statistics of batches, whatever its fields are called.

    Args:
        abstract: of its variables, by kind; see `flax.nnx.State`.

    Raises:
        InputError: it has.
    """
    from flax import nnx

    if nnx.to_flat_state(nnx.filter_state(abstract, nnx.BatchStat)):
        raise InputError(
            "field privacy.epsilon",
            "is set, and the model has statistics of batches, which mix records.",
            fix="a model with group or layer normalisation",
        )


def _batch_norms(config: ModelConfig, path: str) -> Iterator[tuple[str, list[str]]]:
    """Fields that choose batch normalisation, and what they may say besides."""
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        within = value.items() if isinstance(value, dict) else [("", value)]
        for name, inner in within:
            if isinstance(inner, ModelConfig):
                yield from _batch_norms(inner, f"{path}.{field.name}{f'.{name}' if name else ''}")
        if field.name == "norm" and value == "batch":
            choices = typing.get_args(typing.get_type_hints(type(config))["norm"])
            yield f"{path}.norm", [choice for choice in choices if choice != "batch"]


def prepare(
    experiment: Experiment,
    folder: Path,
    source: Source,
    plan: Plan,
    steps: int,
    mesh: Mesh,
    settings: Sequence[str] = (),
) -> Prepared:
    """The batches, the gradient rule and the steps of a private run; what is guaranteed is written to its folder.

    A run that goes on keeps the noise that it began with, and ends where its budget is spent. ``settings`` are the
    lines of `settled`, which say what was chosen from the records.

    Raises:
        InputError: delta is not below one over the number of units, a unit column is missing, or dp-accounting is.
    """
    privacy = experiment.privacy
    unit_of, alone = (None, 0) if not privacy.unit else _units(source, privacy.unit)
    units = plan.size if unit_of is None else int(unit_of.max()) + 1
    delta, expected = privacy.delta_for(units), min(plan.batch_size, units)
    if delta >= 1 / units:
        raise InputError(
            "field privacy.delta",
            f"must be below one over the number of {'records' if unit_of is None else 'units'}, {1 / units:.2g}: at "
            "that rate a mechanism may publish a record.",
            found=f"{delta:g}",
            fix=f"--privacy.delta {dataclasses.replace(privacy, delta=0.0).delta_for(units):g}",
        )
    stored = read(folder)
    if stored is not None and COMPRESSED in stored.outside:  # it is of the weights that this run begins with
        stored = None
    if stored is None:
        noise = accountant.solve_noise(privacy.epsilon, expected / units, steps, delta)
    else:
        noise = stored.noise
        steps = accountant.steps_within(privacy.epsilon, noise, expected / units, steps, delta)
    guarantee = Guarantee(
        epsilon=0.0,
        renyi_epsilon=0.0,
        delta=delta,
        budget=privacy.epsilon,
        steps=0,
        noise=noise,
        rate=expected / units,
        expected=expected,
        units=units,
        unit=privacy.unit or "record",
        clip_norm=privacy.clip_norm,
        outside=stored.outside
        if stored
        else (*_outside(experiment, folder, settings), *([ALONE.format(privacy.unit, alone)] if alone else [])),
    ).after(steps)
    key = key_words(folder, privacy.key)
    devices = mesh.shape["data"] * mesh.shape["fsdp"]
    micro = min(privacy.microbatch, -(-expected // devices))
    poisson = poisson_plan(
        dataclasses.replace(plan, batch_size=expected), steps, key[2:], micro * devices, unit_of, privacy.per_unit
    )
    parts = poisson.batch_size // poisson.per_unit // (micro * devices)
    rule = Private(
        clip_norm=privacy.clip_norm,
        noise=noise,
        expected=expected,
        parts=parts,
        rows=poisson.per_unit,
        key=(key[0], key[1]),
        spent=lambda steps: accountant.epsilon(noise, expected / units, steps, delta),
    )
    write(folder, guarantee)
    return Prepared(poisson, rule, steps, guarantee)


def _outside(experiment: Experiment, folder: Path, settings: Sequence[str]) -> tuple[str, ...]:
    """What the guarantee does not cover."""
    learnt = [
        f"task.{name} ({type(asset).__name__})"
        for name, asset in preprocessors_of(unbind(experiment).task).items()
        if not asset.file and not isinstance(asset, Postprocessor)
    ]
    begun = bool(experiment.checkpoint.init_from) or (folder / FILE).exists()
    flags = [line.strip().partition(": ")[0] for line in settings[1:]]
    chosen = [f"settings chosen from the records ({', '.join(flags)})"] if flags else []
    return (*learnt, *chosen, *([BEGUN] if begun else []), *OUTSIDE)


def _units(source: Source, column: str) -> tuple[np.ndarray, int]:
    """The number of the unit of each record, and how many records have none and are units by themselves."""
    if column not in source.schema:
        known = ", ".join(source.schema)
        raise InputError("field privacy.unit", f'column "{column}" is not there.', found=known)
    values: list[str] = []
    missing: list[int] = []
    for start in range(0, len(source), CHUNK):
        for value in source.column(column, np.arange(start, min(start + CHUNK, len(source)))):
            if is_missing(value):
                missing.append(len(values))
            values.append(str(value))
    units = np.unique(np.array(values, np.str_), return_inverse=True)[1]
    units[missing] = len(units) + np.arange(len(missing))
    return np.unique(units, return_inverse=True)[1], len(missing)


def key_words(folder: Path, given: str) -> tuple[int, ...]:
    """The six words of 32 bits of the key of the run in ``folder``, drawn where there is none yet, for its owner's eyes
    alone: two for noise, the others for batches and canaries.

    Args:
        folder: of the run.
        given: hexadecimal digits; empty: the operating system's.

    Raises:
        InputError: they are none.
    """
    path = folder / KEY
    try:
        if not path.exists():
            digits = given or secrets.token_hex(24)
            int(digits, 16)
            partial = path.with_name(f"partial-{KEY}")
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
                stream.write(digits.rjust(48, "0")[-48:])
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, path)
        digits = path.read_text().strip()
        return tuple(int(digits[place : place + 8], 16) for place in range(0, 48, 8))
    except ValueError:
        where = "field privacy.key" if given else str(path)
        raise InputError(where, "is not hexadecimal.", fix="--privacy.key 00ff17") from None


def keep(source: Path, folder: Path) -> None:
    """Keeps the guarantee of a run, if it has one, in the folder of weights that compression makes of its own."""
    if guarantee := read(source):
        outside = tuple(dict.fromkeys((*guarantee.outside, COMPRESSED)))
        write(folder, dataclasses.replace(guarantee, outside=outside))


def write(folder: Path, guarantee: Guarantee) -> None:
    """Keeps what is guaranteed in a run folder."""
    files.write_text(folder / FILE, json.dumps(dataclasses.asdict(guarantee), indent=2) + "\n")


def read(folder: Path) -> Guarantee | None:
    """What a run guarantees; None where it was not trained privately.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / FILE
    return json_files.load(path, _of_content) if path.is_file() else None


def _of_content(content: Any) -> Guarantee:
    built: Guarantee = json_files.built(Guarantee, {**content, "outside": tuple(json_files.texts(content["outside"]))})
    return built
