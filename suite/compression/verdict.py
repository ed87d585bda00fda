"""Verdict of a compression: two runs compared on the same records, by metric, size and speed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.compression import cost
from suite.contracts.metric_meaning import lower_is_better
from suite.errors import InputError
from suite.evaluation.bootstrap import Interval, Scores
from suite.experiment.sections import Experiment
from suite.runs.run import Run
from suite.runtime import files, json_files

FILE = "compression.json"


@dataclass(frozen=True)
class Measured:
    """A run and what each record of a split adds to its metrics."""

    run: Run
    split: str
    scores: Scores


def measured(run: Run, split: str = "") -> Measured:
    """``run`` on ``split``; by default where its goal is, else on validation."""
    goal = run.experiment.goal
    split = split or (goal.on if goal else "validation")
    return Measured(run, split, run.scores(split))


def ruler(experiment: Experiment, scores: Scores) -> tuple[str, bool]:
    """The metric that decides, and whether lower is better: the goal's, else that of the best checkpoint, else the
    first that the task has.

    Raises:
        InputError: records have no part in it, so two runs cannot be compared by it.
    """
    goal, best = experiment.goal, experiment.train.best
    metric = goal.name if goal else best.removeprefix("-") or next(iter(scores.names), "")
    if metric not in scores.names:
        raise InputError(
            f"field {'goal.metric' if goal else 'train.best'}",
            f'"{metric}" is no metric that records have a part in, so no difference can be told by it.',
            found=", ".join(scores.names),
            fix="a run with one of these",
        )
    return metric, lower_is_better(best) if goal is None else goal.lower


def compare(before: Measured, after: Measured, method: str, max_drop: float | None = None) -> dict[str, Any]:
    """The verdict, as ``compression.json`` holds it.

    Keys: ``method``, ``of`` (folder of the run before), ``split``, ``metric``; ``before`` and ``after``: its value with
    the bounds of its interval; ``drop``: how much worse it is, positive for worse, with the bounds of the paired
    difference; ``max_drop``, ``met``; ``size``: bytes of the stored weights; ``latency_ms`` by rows: medians of a call,
    ``float32`` being the run before in float32 throughout; ``memory_bytes`` of a call of 64 rows, weights included;
    ``parameters``: how many, and how many ``zeros`` there are after.

    Raises:
        InputError: see `ruler`.
    """
    metric, lower = ruler(before.run.experiment, before.scores)
    worse, better = (after, before) if lower else (before, after)
    drop = worse.scores.minus(better.scores, metric)
    return {
        "method": method,
        "of": str(before.run.folder),
        "split": before.split,
        "metric": metric,
        "before": _interval(before.scores.interval(metric)),
        "after": _interval(after.scores.interval(metric)),
        "drop": _interval(drop),
        "max_drop": max_drop,
        "met": max_drop is None or bool(drop.value <= max_drop),
        **cost.compare(before.run, after.run, before.split),
    }


def margin(before: Measured, after: Measured, alone: Measured) -> dict[str, Any]:
    """What a teacher was worth: the metric of ``alone``, the student that had none, with the bounds of its interval,
    and ``margin``: by how much ``after``, taught by ``before``, is better, with the bounds of the paired difference."""
    metric, lower = ruler(before.run.experiment, before.scores)
    better, worse = (alone, after) if lower else (after, alone)
    return {**_interval(alone.scores.interval(metric)), "margin": _interval(better.scores.minus(worse.scores, metric))}


def _interval(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def read(folder: str | Path) -> dict[str, Any]:
    """The verdict in a run folder that suite compress made.

    Raises:
        InputError: there is none.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        there = files.is_run(folder)
        raise InputError(
            f'folder "{folder}"',
            f"has no {FILE}.",
            found="a run" if there else "no run",
            fix="the folder that suite compress printed last",
        )
    outcome: dict[str, Any] = json_files.read_object(path)
    return outcome


def sentence(verdict: Mapping[str, Any]) -> str:
    """The verdict in one line: ``"accuracy drops by 0.001, at most 0.005 allowed: met"``."""
    drop, most = verdict["drop"]["value"], verdict["max_drop"]
    name = f"{verdict['split']}/{verdict['metric']}"
    moved = f"{name} is worse by {drop:.4g}" if drop > 0 else f"{name} is no worse"
    return moved if most is None else f"{moved}, at most {most:g} allowed: {'met' if verdict['met'] else 'not met'}"


def render(verdict: Mapping[str, Any]) -> str:
    """The verdict as a table for people."""
    size, memory, count = verdict["size"], verdict["memory_bytes"], verdict["parameters"]
    drop = verdict["drop"]
    rows = [
        ("", "before", "after", ""),
        (
            f"{verdict['split']}/{verdict['metric']}",
            _spread(verdict["before"]),
            _spread(verdict["after"]),
            f"worse by {_spread(drop)}",
        ),
        ("weights", _mebibytes(size["before_bytes"]), _mebibytes(size["after_bytes"]), _share(size["ratio"])),
        *(
            (
                f"latency, {rows} row{'' if rows == '1' else 's'}",
                f"{ms['before']:.3g} ms",
                f"{ms['after']:.3g} ms",
                _share(ms["ratio"]) + _beside_float32(ms),
            )
            for rows, ms in verdict["latency_ms"].items()
        ),
        (
            "memory",
            _mebibytes(memory["before"]),
            _mebibytes(memory["after"]),
            _share(memory["after"] / memory["before"]),
        ),
        ("parameters", f"{count['before']:,}", f"{count['after']:,}", f"{count['zeros']:,} are zero"),
    ]
    if alone := verdict.get("baseline"):
        value = {name: alone[name] for name in ("value", "low", "high")}
        rows.insert(2, ("  from labels alone", "", _spread(value), f"the teacher adds {_spread(alone['margin'])}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in rows
    ]
    return "\n".join([f"{verdict['method']} of {verdict['of']}", *lines, sentence(verdict)])


def _spread(interval: Mapping[str, float]) -> str:
    return str(Interval(**interval))


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 0.1 * 2**20 else f"{size / 2**10:.1f} KiB"


def _share(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"


def _beside_float32(ms: Mapping[str, float]) -> str:
    """Where the run before computes in bfloat16, what it would take in float32."""
    if ms["float32"] == ms["before"]:
        return ""
    return f", {_share(ms['after'] / ms['float32'])} of float32's {ms['float32']:.3g} ms"
