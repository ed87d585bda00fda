"""Baselines of runs: measured on the same records as the run's model, told in words, kept in ``baseline.json``."""

import dataclasses
import json
import math
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from suite.contracts.data import Source
from suite.contracts.metric_meaning import better
from suite.contracts.task import Task
from suite.data.sources.memory import check_split
from suite.errors import InputError
from suite.evaluation.baselines import Measured, TooSlow, measure
from suite.evaluation.bootstrap import Difference, Interval, Scores
from suite.evaluation.wording import decimals, difference, ranged, shown, term, way
from suite.experiment.defaults import settled
from suite.experiment.sections import Experiment
from suite.parallel import hosts
from suite.runs.run import Run
from suite.runtime import files, json_files
from suite.training.preprocessors import prepare
from suite.weights import pretrained

FILE = "baseline.json"
BESIDE_TRAINING = 120.0
"""Seconds after which a baseline that training measures by itself is given up."""
HELD_OUT = ("validation", "test")
ALPHA = 0.05
"""Chance of calling a difference significant where there is none."""


@dataclass(frozen=True)
class Baseline:
    """A baseline on the records of a split, and how much better the run's model is there.

    Attributes:
        name: such as ``"tf-idf + logistic regression"``.
        chosen: what its fit chose and left out.
        fitted, of: training records that it was fitted to, of all there are.
        seconds: that its fit took.
        metrics: metric -> value with its interval.
        differences: metric -> the run's model less the baseline, paired by record; none without a run.
    """

    name: str
    chosen: str
    fitted: int
    of: int
    seconds: float
    metrics: Mapping[str, Interval]
    differences: Mapping[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The baselines of a task on a split, beside a run's model where there is one.

    Attributes:
        split: what was scored.
        records: how many it has.
        metric: what decides: that of the goal, or that which chooses the checkpoint.
        baselines: the strongest last.
        model: metric -> value of the run's model; none without a run.
        checkpoints: steps of those that the run had; none without a run.
    """

    split: str
    records: int
    metric: str
    baselines: tuple[Baseline, ...]
    model: Mapping[str, Interval] = field(default_factory=dict)
    checkpoints: tuple[int, ...] = ()

    @property
    def strongest(self) -> Baseline:
        """The baseline that is best by the metric that decides; of equal ones the later."""
        sign = -1 if better(self.metric) == "lower" else 1
        return max(reversed(self.baselines), key=lambda entry: sign * entry.metrics[self.metric].value)

    @property
    def judged(self) -> Difference | None:
        """How much better the model is than the strongest baseline, where there is a model."""
        return self.strongest.differences.get(self.metric)

    @property
    def outcome(self) -> str:
        """``"better"``, ``"worse"`` or ``"equal"`` where the difference may be chance; empty without a model."""
        judged = self.judged
        if judged is None:
            return ""
        return way(self.metric, judged.value) if judged.known and judged.p < ALPHA else "equal"


def baseline(of: "Run | Experiment", split: str = "validation", limit: float = 0) -> Comparison:
    """Measure the classical baselines of a task on a split.

    Args:
        of: a run, whose model is compared and whose folder keeps what was found; or an experiment, whose preprocessors
            are fitted in a temporary folder.
        split: ``"validation"`` or ``"test"``.
        limit: seconds after which reading records is given up; 0: no limit.

    Raises:
        InputError: the task has no baselines, scikit-learn is not installed, or the split cannot be read.
    """
    check_split(split, "--split", HELD_OUT)
    if isinstance(of, Run):
        task = of.experiment.task
        if split in task.solved:
            problem = f"the parameters of the run were computed from the {split} split, too: no comparison there."
            raise InputError("baseline", problem, fix=f"suite baseline {shlex.quote(str(of.folder))} --split test")
        compared = _compared(of.experiment, task, task.source("train"), split, of.scores, limit)
        compared = dataclasses.replace(compared, checkpoints=_checkpoints(of.folder))
        _keep(of.folder, compared)
        return compared
    source = of.task.source("train")
    experiment, _ = settled(pretrained.adopt(of), source)
    with tempfile.TemporaryDirectory() as folder:
        bound = prepare(experiment, Path(folder), source)
        return _compared(bound, bound.task, source, split, None, limit)


def _compared(
    experiment: Experiment, task: Task, train: Source, split: str, scored: Callable[[str], Scores] | None, limit: float
) -> Comparison:
    measured = measure(task, train, task.source(split), limit)
    model = None if scored is None else scored(split)
    if not measured:
        name = type(task).__name__
        raise InputError(
            "baseline", f"there is no classical baseline for this task, {name}.", fix="suite compare RUN OTHER"
        )
    names = [name for name in measured[-1].scores.rows if better(name) in ("higher", "lower")]
    if not names:
        raise InputError("baseline", "no metric of this task says which way it is better, record by record.")
    model_values = {} if model is None else {name: model.interval(name) for name in names if name in model.names}
    likely = (experiment.goal.name if experiment.goal else "", experiment.train.best.removeprefix("-"))
    deciding = next((name for name in likely if name in names and name != "loss"), "")
    deciding = deciding or next((name for name in names if name != "loss"), names[0])
    entries = tuple(_entry(entry, names, model) for entry in measured)
    return Comparison(split, len(measured[-1].scores), deciding, entries, model_values)


def _entry(measured: Measured, names: list[str], model: Scores | None) -> Baseline:
    differences = {}
    if model is not None:
        differences = {name: model.minus(measured.scores, name) for name in names if name in model.rows}
    values = {name: measured.scores.interval(name) for name in names}
    about = (measured.name, measured.chosen, measured.fitted, measured.of, round(measured.seconds, 3))
    return Baseline(*about, values, differences)


def after_training(run: Run) -> None:
    """Measure the baselines on the validation split where the experiment asks for it, and say how the model compares.

    What goes wrong is told in a line: the run is complete without it.
    """
    if not (run.experiment.train.baseline and hosts.is_first()) or not run.experiment.task.baselines():
        return
    command = f"suite baseline {shlex.quote(str(run.folder))}"
    if hosts.several():
        _say(f"baseline: not measured by several processes together; {command} does it")
        return
    try:
        known = stored(run.folder, "validation")
        lines = told(known or baseline(run, "validation", BESIDE_TRAINING), run)
    except TooSlow:
        lines = [f"baseline: given up after {BESIDE_TRAINING:.0f} s of reading; {command} takes the time it needs"]
    except InputError as error:
        fix = f"; {error.fix}" if error.fix else ""
        lines = [f"baseline: not measured: {error.where} {error.problem.rstrip('.')}{fix}"]
    except Exception as error:  # a comparison that fails is no reason to lose the run
        lines = [f"baseline: not measured: {type(error).__name__}: {error}"]
    for line in lines:
        _say(line)


def told(compared: Comparison, run: "Run | None" = None) -> list[str]:
    """Lines for a terminal: each baseline by the metric that decides, the strongest beside the model."""
    metric, strongest = compared.metric, compared.strongest
    title = term(metric).title
    lines = [
        f"baseline, {entry.name}: {title} {ranged(metric, entry.metrics[metric])}"
        for entry in compared.baselines
        if entry is not strongest
    ]
    about = f"same {compared.records:,} records of {compared.split}"
    line = f"baseline, {strongest.name}, {about}: {title} {ranged(metric, strongest.metrics[metric])}"
    lines.append(f"{line}; {against(compared)}" if compared.model else line)
    if strongest.fitted < strongest.of:
        lines.append(f"  it was fitted to a draw of {strongest.fitted:,} of {strongest.of:,} training records")
    if run is not None and compared.outcome in ("worse", "equal"):
        lines.append(f"  try:   {_advice(run)}")
    return lines


def table(compared: Comparison) -> list[str]:
    """Every metric of the baselines and of the model, aligned for a terminal; then what the fits chose."""
    columns = {entry.name: entry.metrics for entry in compared.baselines}
    head = [f"{compared.split}, {compared.records:,} records", *columns]
    if compared.model:
        columns["this model"] = compared.model
        head += ["this model", f"less {compared.strongest.name}"]
    rows = [head]
    for metric in compared.strongest.metrics:
        cells = [ranged(metric, values[metric]) if metric in values else "" for values in columns.values()]
        if compared.model:
            apart = compared.strongest.differences
            cells.append(difference(metric, apart[metric]) if metric in apart else "")
        rows.append([term(metric).title, *cells])
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, "", *(f"{entry.name}: {entry.chosen}" for entry in compared.baselines if entry.chosen)]


def against(compared: Comparison) -> str:
    """``"this model: 82.0 %, worse by 3.2 points (1.0 to 5.4), significant"``."""
    judged, metric = compared.judged, compared.metric
    if judged is None:
        return "the model has no such metric"
    own = compared.model[metric]
    value = shown(metric, own.value, decimals(metric, own))
    if compared.outcome == "equal":
        return f"this model: {value}, a difference of {difference(metric, judged)} that is not significant"
    size = dataclasses.replace(judged, value=abs(judged.value), low=_least(judged), high=_most(judged))
    return f"this model: {value}, {compared.outcome} by {difference(metric, size).replace('+', '')}, significant"


def _least(judged: Difference) -> float:
    return judged.low if judged.value >= 0 else -judged.high


def _most(judged: Difference) -> float:
    return judged.high if judged.value >= 0 else -judged.low


def _advice(run: Run) -> str:
    """The recipe of the domain that starts from published weights, or a search."""
    from suite.experiment import recipes

    name = run.experiment.name
    pretrained_recipe = f"{name.partition('.')[0]}.finetune"
    if run.experiment.checkpoint.init_from or name == pretrained_recipe or pretrained_recipe not in recipes.names():
        return f"suite tune {name}{_data_flags(run.experiment.task)}"
    return f"suite train {pretrained_recipe}{_data_flags(run.experiment.task)}"


def _data_flags(task: Task) -> str:
    """Flags that give another recipe of the domain the same data and columns."""
    path = getattr(task.data, "path", "")
    flags = ["--data", str(path)] if path else []
    for entry in dataclasses.fields(task):  # type: ignore[arg-type]
        value = getattr(task, entry.name)
        if entry.name in ("text", "image", "audio", "label", "target") and value != entry.default:
            flags += [f"--task.{entry.name}", str(value)]
    return f" {shlex.join(flags)}" if flags else ""


def stored(folder: Path, split: str) -> Comparison | None:
    """What ``baseline.json`` of a run folder holds of a split; None where it does not, or the run has gone on since."""
    try:
        content = json_files.read_object(folder / FILE)[split]
        entries = [
            {
                **entry,
                "metrics": _read(Interval, entry["metrics"]),
                "differences": _read(Difference, entry["differences"]),
            }
            for entry in content["baselines"]
        ]
        known = {
            "baselines": tuple(Baseline(**entry) for entry in entries),
            "model": _read(Interval, content["model"]),
            "checkpoints": tuple(content["checkpoints"]),
        }
        compared = Comparison(**{**content, **known})
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return compared if compared.checkpoints == _checkpoints(folder) else None


def _baseline(content: Mapping[str, Any]) -> Baseline:
    metrics, differences = _read(Interval, content["metrics"]), _read(Difference, content["differences"])
    return Baseline(**{**content, "metrics": metrics, "differences": differences})


T = TypeVar("T", bound=Interval)


def _read(kind: type[T], values: Mapping[str, Mapping[str, float | None]]) -> dict[str, T]:
    """Intervals by metric; what is not finite is null in JSON."""
    number = lambda value: float("nan") if value is None else value
    return {name: kind(**{end: number(value) for end, value in ends.items()}) for name, ends in values.items()}


def _checkpoints(folder: Path) -> tuple[int, ...]:
    """Steps of the checkpoints of a run: others once it has gone on."""
    inside = (folder / "checkpoints").iterdir() if (folder / "checkpoints").is_dir() else ()
    return tuple(sorted(int(path.name) for path in inside if path.name.isdecimal()))


def _keep(folder: Path, compared: Comparison) -> None:
    """Add a split's comparison to the run folder."""
    path = folder / FILE
    try:
        content = json_files.read_object(path)
    except (OSError, ValueError):
        content = {}
    content[compared.split] = _finite(dataclasses.asdict(compared))
    files.write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """With null for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
