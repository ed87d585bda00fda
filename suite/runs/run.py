"""The verbs: each a function that returns a Run (or a report), used by notebooks and by the command line."""

import dataclasses
import functools
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.bundles.answering import BATCH, Outputs, answer, answer_each, chosen
from suite.contracts.artifact import Artifact
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec
from suite.contracts.data import Source
from suite.contracts.preprocessor import Postprocessor
from suite.contracts.task import Program as TaskProgram
from suite.data.notes import notes
from suite.data.pipeline.dispatches import Plan, make_plan, stored_lengths
from suite.data.pipeline.padding import Lengths, Seed, by_axis, count, default_buckets, pad, padded_lengths
from suite.errors import InputError, StorageError, beside
from suite.evaluation.bootstrap import Scores
from suite.evaluation.evaluate import (
    Answers,
    Predict,
    collect,
    examine,
    make_answer,
    make_evaluate,
    make_predict,
    score_records,
)
from suite.evaluation.evaluate import evaluate as evaluate_split
from suite.evaluation.reference import Reference, on_devices, reference_arrays
from suite.experiment import sections, serialization
from suite.experiment.sections import Experiment
from suite.parallel import hosts
from suite.parallel.layout import Layout
from suite.runs.results import write_result
from suite.runtime import allocation, files, json_files
from suite.runtime.compilation import enable_cache
from suite.training.assemble import Program, assemble
from suite.training.logging.jsonl import history
from suite.training.preprocessors import bind, preprocessor_file, preprocessors_of
from suite.training.restore import read_weights
from suite.weights import hub, pretrained, published


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder: ``experiment.json``, ``result.json``, ``metrics.jsonl``, ``assets/``, ``checkpoints/``.

    Attributes:
        folder: its path.
        experiment: the recipe, bound to the folder's assets.
        metrics: ``"<split>/<metric>"`` -> value, of the verb that made this Run.
    """

    folder: Path
    experiment: Experiment
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def history(self) -> dict[str, list[float | None]]:
        """What was logged, as columns of equal length; ``step`` is one of them."""
        return history(self.folder)

    @functools.cached_property
    def _program(self) -> Program:
        allocation.keep_memory()
        enable_cache()
        return assemble(self.experiment)

    @functools.cached_property
    def _weights(self) -> tuple[Any, Any]:
        beside = self.folder.parent  # of a run that was published, in the layout of the original library
        if not (self.folder / "checkpoints").exists() and (beside / published.CONFIG).is_file():
            shapes = self._program.abstract
            weights = published.open(beside)
            return pretrained.read(self.experiment.model, weights, variables=(shapes.params, shapes.model_state))
        return read_weights(self._program, self.folder)

    @functools.cached_property
    def model(self) -> nnx.Module:
        """The trained module, for a look inside."""
        return nnx.merge(self.graph, *self._weights)

    @property
    def graph(self) -> Any:
        """The model without its variables, as `nnx.merge` takes it."""
        return self._program.graph

    @functools.cached_property
    def portable(self) -> "Run":
        """This run, computing in the forms that every device has, as its bundle does. Where a device has faster ones
        (oneDNN's convolutions, fused attention) sums are taken in another order, which bfloat16 rounds otherwise.
        """
        task, layout = self.experiment.task, Layout(portable=True)
        predict = make_predict(self.graph, task, layout)
        evaluate = make_evaluate(self.graph, task, predict, layout)
        same = dataclasses.replace(self)
        program = dataclasses.replace(self._program, predict=predict, evaluate=evaluate, layout=layout)
        kept = {"programs": self.programs, "reference_arrays": self.reference_arrays}
        same.__dict__.update(_program=program, _weights=self._weights, **kept)
        return same

    @functools.cached_property
    def in_float32(self) -> "Run":
        """This run, computing in float32 throughout, in the forms that every device has; what it compares requests with
        stays as it is."""
        plain = sections.replace(self.experiment, {"precision.compute": "float32"})
        same = dataclasses.replace(self, experiment=plain)
        same.__dict__.update(_weights=self._weights, reference_arrays=self.reference_arrays)
        return same.portable

    def answered_by(self, predict: Predict) -> "Run":
        """This run, measured by what something else says of its records: ``predict``, called as its own is."""
        same = dataclasses.replace(self)
        program = dataclasses.replace(self._program, predict=predict, evaluate=predict)
        same.__dict__.update(_program=program, _weights=self._weights, reference_arrays=self.reference_arrays)
        return same

    @property
    def variables(self) -> tuple[Any, Any]:
        """Parameters and other variables that are evaluated and served, as `nnx.merge` takes them: nested dicts."""
        return self._weights

    @property
    def shapes(self) -> tuple[Any, Any]:
        """Shapes and formats of `variables`."""
        return self._program.abstract.params, self._program.abstract.model_state

    def evaluate(self, split: str = "test", batch_size: int = 0) -> "Run":
        """This run with its metrics on ``split``; also written to ``result.json``."""
        task, begun = self.experiment.task, time.perf_counter()
        hosts.check_shared(self.folder)
        source = hosts.after_first(lambda: self._source(split))
        if hosts.is_first():
            for line in (*notes({split: source}), *task.remarks({split: source})):
                print(line, file=sys.stderr)
        plan = self._plan(source, batch_size)
        program, reference = self._program, self.reference(split)
        values = evaluate_split(
            program.evaluate, *self._weights, task, source, plan, mesh=program.mesh, reference=reference
        )
        seconds = time.perf_counter() - begun
        metrics = {f"{split}/{name}": value for name, value in values.items()}
        if hosts.is_first():
            try:
                write_result(self.folder, "evaluate", self.experiment.name, metrics, seconds, len(source) / seconds)
            except StorageError as error:
                measured = ", ".join(f"{name} {value:.6g}" for name, value in metrics.items())
                raise StorageError(f"{error}\n  measured: {measured}") from None
        return dataclasses.replace(self, metrics=metrics)

    def _source(self, split: str) -> Source:
        """The records of a split; says where the parameters were computed from them."""
        if split != "train" and split in self.experiment.task.solved and hosts.is_first():
            print(
                f"{split}: the parameters were computed from it, too, so these figures are too good; metrics.jsonl has "
                "those from before",
                file=sys.stderr,
            )
        return self.experiment.task.source(split)

    def scores(self, split: str = "test") -> Scores:
        """What each record of ``split`` adds to each metric: intervals, and differences from another run."""
        return self.score(self._source(split), self.reference(split))

    def score(self, source: Source, reference: Reference = None) -> Scores:
        """The same of any records of the task, cleaned."""
        plan = self._plan(source)
        return score_records(self._program.evaluate, *self._weights, self.experiment.task, source, plan, reference)

    def examine(self, split: str = "test") -> tuple[Scores, dict[str, Artifact]]:
        """``scores``, and what the task has to show of the split, by title."""
        task = self.experiment.task
        source, reference = self._source(split), self.reference(split)
        return examine(self._program.evaluate, *self._weights, task, source, self._plan(source), reference)

    def collect(self, split: str = "validation") -> Answers:
        """``scores``, with what the model says of each record of ``split`` and what is right of it."""
        task = self.experiment.task
        source, reference = self._source(split), self.reference(split)
        return collect(self._program.evaluate, *self._weights, task, source, self._plan(source), reference)

    def check(self) -> "Run":
        """This run, whose weights could be read.

        Raises:
            InputError: there is no checkpoint, or it is damaged or of another model.
        """
        _ = self._weights
        return self

    @property
    def parameters(self) -> int:
        """How many parameters the model has."""
        return sum(leaf.size for leaf in jax.tree.leaves(self._program.abstract.params))

    def _plan(self, source: Source, batch_size: int = 0) -> Plan:
        train = self.experiment.train
        size = batch_size or train.eval_batch_size or train.batch_size
        return make_plan(self.experiment.task, source, size, seed=None, buckets=self.buckets)

    @functools.cached_property
    def programs(self) -> dict[str, TaskProgram]:
        """What answers requests, by name."""
        return self.experiment.task.programs()

    @functools.cached_property
    def _functions(self) -> dict[str, Any]:
        task, program = self.experiment.task, self._program

        def jitted(function: Any) -> Any:  # what also measures is compiled once for both
            return program.predict if function == task.predict else make_answer(self.graph, function, program.layout)

        return {name: jitted(program.function) for name, program in self.programs.items()}

    @functools.cached_property
    def reference_arrays(self) -> Reference:
        """What the task keeps of the records that requests are compared with, each array (n, ...) in their order; None
        where it has none."""
        return self._embedded("predict")

    @functools.cached_property
    def _placed_reference(self) -> dict[str, jax.Array] | None:
        return on_devices(self.reference_arrays)

    def reference(self, split: str = "predict") -> Reference:
        """The arrays of the task's reference records of a split; of those that requests are compared with, the same
        each time."""
        return self.reference_arrays if split == "predict" else self._embedded(split)

    def _embedded(self, split: str) -> Reference:
        task = self.experiment.task
        return reference_arrays(self._program.embed, *self._weights, task, task.reference(split), self.buckets)

    def predict(
        self, inputs: Sequence[Any] | Columns, seed: Seed = 0, program: str = "predict"
    ) -> list[dict[str, Any]]:
        """One answer a record.

        Args:
            inputs: columns as in the data, or a list of bare values (texts, images).
            seed: what the random numbers of answers come from, where they are drawn: one for all records, so that equal
                records have equal answers, or one a record.
            program: which of ``programs`` answers.

        Raises:
            InputError: a column is missing, a value cannot be read, or there is no such program.
        """
        return answer(chosen(self.programs, program).codec, self._answering(program), inputs, seed)

    def predict_each(
        self, columns: Columns, seed: Seed = 0, program: str = "predict", batch_size: int = BATCH, *, every: bool = True
    ) -> list[dict[str, Any] | InputError]:
        """As `predict`, but a record that cannot be answered gets its error: `suite.bundles.answering.answer_each`."""
        codec = chosen(self.programs, program).codec
        return answer_each(codec, self._answering(program), columns, seed, batch_size, every)

    def _answering(self, program: str) -> Outputs:
        return lambda rows, size, seeds: self.outputs(rows, padded_lengths(rows, self.buckets), size, seeds, program)

    def outputs(
        self, rows: dict[str, Any], length: Lengths, size: int = 0, seed: Seed = 0, program: str = "predict"
    ) -> dict[str, np.ndarray]:
        """What the model says of n encoded rows, each array (n, ...). Several processes are given the same rows, and
        have the outputs on all of them each.

        Args:
            rows: see `Codec.encode`.
            length: that they are padded to, along each axis.
            size: rows that their batch is filled up to; 0: n.
            seed: of each row, see `suite.data.pipeline.padding.row_seeds`.
            program: which of ``programs`` answers.
        """
        real = np.arange(max(size, count(rows))) < count(rows)
        function, batch = chosen(self._functions, program), pad(rows, real, length, seed)
        computed = hosts.fetched(function(*self._weights, batch, self._placed_reference))
        return {name: value[real] for name, value in computed.items()}

    @property
    def codec(self) -> Codec:
        """What a request becomes, and what becomes of the answer."""
        return self.experiment.task.codec

    @property
    def primary(self) -> str:
        """The column that a bare value stands for."""
        return self.codec.primary

    @property
    def lengths(self) -> tuple[int, ...]:
        """The padded lengths that training used along the default axis."""
        return self.buckets.get("", ())

    @property
    def buckets(self) -> dict[str, tuple[int, ...]]:
        """Axis -> the padded lengths training used, so that a program compiled once serves every request."""
        stored = stored_lengths(self.folder / "assets" / "lengths-train.npy")
        passes = self.experiment.train.passes
        own = {axis: default_buckets(lengths, passes(len(lengths))) for axis, lengths in stored.items()}
        return {**own, **by_axis(self.experiment.pipeline.buckets)}


def _chosen(search: Path) -> str:
    """The run that a search in this folder chose; nothing where it is no search that has ended."""
    try:
        run = search / json_files.read_object(search / "verdict.json")["chosen"]["folder"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return str(run) if (run / "experiment.json").is_file() else ""


def open(folder: str | Path, allow: tuple[str, ...] = (), *, offline: bool = False) -> Run:
    """The run in a folder, or one that was published: ``owner/name`` on the hub.

    Args:
        folder: of the run, or its name on the hub.
        allow: packages whose classes it may name, besides the suite's.
        offline: take names on the hub from the local cache only.

    Raises:
        InputError: the folder is no run, or its experiment names a class that is not allowed.
    """
    folder = hub.local(folder, offline)
    if files.is_bundle(folder):
        origin = json_files.load(
            folder / "bundle.json", lambda content: f'the bundle of the run "{content["made"]["from"]}"'
        )
        problem = "is a bundle, which answers; this needs the run that it was exported from."
        raise InputError(f'run folder "{folder}"', problem, found=origin, fix="the folder of that run")
    stored = folder / "experiment.json"
    if not stored.is_file():
        inside = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        listing = ", ".join(inside[:8]) or "nothing"
        near = "" if inside else beside(folder, "experiment.json")  # a folder with other contents is no typo
        fix = near or _chosen(folder) or "the folder that suite train printed last"
        raise InputError(f'run folder "{folder}"', "is not one: it has no experiment.json.", found=listing, fix=fix)
    experiment = read_experiment(stored, allow)
    assets = preprocessors_of(experiment.task)
    missing = [
        name
        for name, asset in assets.items()
        if not isinstance(asset, Postprocessor) and not preprocessor_file(folder, name, asset).exists()
    ]
    if missing:
        raise InputError(
            f'run folder "{folder}"',
            f"has no fitted {', '.join(missing)}: training did not begin.",
            fix=f"suite train --resume {shlex.quote(str(folder))}",
        )
    result = folder / "result.json"
    metrics = json_files.load(result, lambda content: dict(content["metrics"])) if result.exists() else {}
    return Run(folder, bind(experiment, folder), metrics)


def read_experiment(path: Path, allow: tuple[str, ...] = ()) -> Experiment:
    """The experiment stored in a JSON file."""
    fix = "train again, or restore the file"
    value = json_files.load(path, lambda content: serialization.from_json(content, allow), fix)
    if not isinstance(value, Experiment):
        raise InputError(str(path), "does not hold an experiment.")
    return value
