"""Course of a training, read from its history: whether patience ended it, whether it still improved, or overfitted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from suite.contracts.metric_meaning import lower_is_better
from suite.experiment.sections import Train

FEWEST = 3
"""Evaluations that a course is read from, at least."""
GAIN = 0.05
"""Share of all that was gained which the last third of the evaluations must have brought, where it still improves."""
RISE = 0.05
"""Rise of the validation loss over its lowest value, as a share of it, from which on the model overfits."""


@dataclass(frozen=True)
class Remark:
    """What the course of a training shows.

    Attributes:
        kind: stopped: patience ended it; improving: the last evaluation is the best, by a margin; overfitting: the
            validation loss rose while the training loss fell.
        step: stopped, improving: of the last evaluation; overfitting: of the lowest validation loss.
        text: for people, one sentence and what to try.
    """

    kind: Literal["stopped", "improving", "overfitting"]
    step: int
    text: str


def remarks(history: Mapping[str, Sequence[Any]], train: Train) -> tuple[Remark, ...]:
    """What the history of a training that has ended shows.

    Args:
        history: column -> one value a line, as `suite.training.logging.jsonl.history` reads it.
        train: the experiment's section, which names the metric that chooses the checkpoint, and the patience.
    """
    lines = (_stopped(history, train), _improving(history, train.best), _overfitting(history))
    return tuple(remark for remark in lines if remark is not None)


def _stopped(history: Mapping[str, Sequence[Any]], train: Train) -> Remark | None:
    name, values = _selected(history, train.best)
    best, since = 0, 0
    for place in range(1, len(values)):
        best, since = (place, 0) if values[place][1] > values[best][1] else (best, since + 1)
    if not train.best or not 0 < train.patience <= since:
        return None
    (step, value), last = values[best], values[-1][0]
    return Remark(
        "stopped",
        last,
        f"stopped early at step {last:,}: no better {name} than {abs(value):.4g} of step {step:,} in {since} "
        f"evaluations (--train.patience {train.patience})",
    )


def _improving(history: Mapping[str, Sequence[Any]], best: str) -> Remark | None:
    name, values = _selected(history, best)
    if len(values) < FEWEST:
        return None
    earlier = values[: -max(len(values) // 3, 1)]
    before, (step, last) = max(earlier, key=lambda point: point[1]), values[-1]
    highest, lowest = max(value for _, value in values[:-1]), min(value for _, value in values)
    if last <= highest or last - before[1] < GAIN * (last - lowest):
        return None
    return Remark(
        "improving",
        step,
        f"still improving at the end: {name} {abs(before[1]):.4g} at step {before[0]:,}, {abs(last):.4g} at step "
        f"{step:,}; more steps may help: --train.steps {2 * step}",
    )


def _selected(history: Mapping[str, Sequence[Any]], best: str) -> tuple[str, list[tuple[int, float]]]:
    """The metric that chooses the checkpoint, or the loss, and its values with their steps, higher is better."""
    name = best.removeprefix("-") or "loss"
    sign = -1.0 if lower_is_better(best or "loss") else 1.0
    return name, [(step, sign * value) for step, value in _points(history, f"validation/{name}")]


def _overfitting(history: Mapping[str, Sequence[Any]]) -> Remark | None:
    points, trained = _points(history, "validation/loss"), _points(history, "train/loss")
    if len(points) < FEWEST:
        return None
    lowest = min(range(len(points)), key=lambda i: points[i][1])
    after = [value for _, value in points[lowest + 1 :]]
    (step, least), (last_step, last) = points[lowest], points[-1]
    limit = least + RISE * abs(least)
    if len(after) < 2 or last <= limit or sorted(after)[len(after) // 2] <= limit:
        return None
    then, now = _around(trained, step), _around(trained, last_step)
    if then is None or now is None or now >= then:
        return None
    return Remark(
        "overfitting",
        step,
        f"overfitting since step {step:,}: the validation loss rose from {least:.4g} to {last:.4g} while the training "
        f"loss fell from {then:.4g} to {now:.4g}; more data, a smaller model, or more --model.dropout or "
        "--optim.weight_decay may help",
    )


def _points(history: Mapping[str, Sequence[Any]], name: str) -> list[tuple[int, float]]:
    """(step, value) of each line that has a finite value."""
    pairs = zip(history.get("step", ()), history.get(name, ()), strict=False)
    return [(int(step), float(value)) for step, value in pairs if value is not None and math.isfinite(value)]


def _around(points: Sequence[tuple[int, float]], step: int) -> float | None:
    """The value logged nearest to a step."""
    return min(points, key=lambda point: abs(point[0] - step))[1] if points else None
