"""Course of a training, read from its history: whether it still improved at its end, and whether it overfitted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from suite.contracts.metric_meaning import lower_is_better

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
        kind: improving: the last evaluation is the best, by a margin; overfitting: the validation loss rose while the
            training loss fell.
        step: improving: of the last evaluation; overfitting: of the lowest validation loss.
        text: for people, one sentence and what to try.
    """

    kind: Literal["improving", "overfitting"]
    step: int
    text: str


def remarks(history: Mapping[str, Sequence[Any]], best: str, steps: int = 0) -> tuple[Remark, ...]:
    """What the history of a training that has ended shows.

    Args:
        history: column -> one value a line, as `suite.training.logging.jsonl.history` reads it.
        best: the metric that chooses the checkpoint, as ``train.best`` names it.
        steps: of the whole run; 0: those of the last line.
    """
    found = (_improving(history, best, steps), _overfitting(history))
    return tuple(remark for remark in found if remark is not None)


def _improving(history: Mapping[str, Sequence[Any]], best: str, steps: int) -> Remark | None:
    name = best.removeprefix("-") or "loss"
    points = _points(history, f"validation/{name}")
    if len(points) < FEWEST or points[-1][0] < (steps or max(history["step"])):  # patience ended it, or nothing did
        return None
    sign = -1.0 if lower_is_better(best or "loss") else 1.0
    values = [sign * value for _, value in points]
    earlier = values[: -max(len(values) // 3, 1)]
    late, whole = values[-1] - max(earlier), values[-1] - min(values)
    if values[-1] <= max(values[:-1]) or late < GAIN * whole:
        return None
    step, before = points[-1][0], max(zip(earlier, points, strict=False))[1]
    return Remark(
        "improving",
        step,
        f"still improving at the end: {name} {before[1]:.4g} at step {before[0]:,}, {points[-1][1]:.4g} at step "
        f"{step:,}; more steps may help: --train.steps {2 * step}",
    )


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
