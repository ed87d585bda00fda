"""The course of training: curves of what was logged, and how fast it went."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from suite.contracts.metric_meaning import lower_is_better
from suite.reporting.blocks import Block, Figure, Plot, Table, Text
from suite.reporting.evidence import Evidence
from suite.reporting.glossary import capital, shown, term
from suite.reporting.sample_predictions import Taken
from suite.reporting.svg import Axis, Series, Tone, chart
from suite.training import course

POINTS = 240
"""Most points of a curve; of more, neighbours are averaged."""
LAST = ("learning_rate", "examples_per_second")
"""Curves that are drawn after all others."""
History = Mapping[str, Sequence[Any]]


def curves(evidence: Evidence) -> list[Block]:
    """Each metric that was logged, training and validation on one axis, with the checkpoint that is served."""
    names = metrics(evidence.history)
    plots = [plot for name in names if (plot := _curve(evidence, name)) is not None]
    if not plots:
        return [Text("Nothing was logged.", "note")]
    best = best_step(evidence)
    served = "" if best is None else f" The broken line is the checkpoint that is served, of step {best:,}."
    thinned = len(evidence.history["step"]) > POINTS
    averaged = f" Lines of more than {POINTS} points are averages of neighbours." if thinned else ""
    remarks = [
        Text(capital(f"{remark.text}.")) for remark in course.remarks(evidence.history, evidence.experiment.train)
    ]
    return [*remarks, Figure(tuple(plots), f"What was logged, over optimiser steps.{served}{averaged}")]


def metrics(history: History) -> list[str]:
    """Names of what was logged, without the split: the loss first."""
    names = list(dict.fromkeys(name.partition("/")[2] for name in history if "/" in name))
    order = ["loss", *(name for name in names if name not in ("loss", *LAST)), *LAST]
    return [name for name in order if name in names]


def column(history: History, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one column of the log, where it has any."""
    pairs = [
        (step, value) for step, value in zip(history["step"], history.get(name, []), strict=False) if value is not None
    ]
    steps, values = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(steps, np.float64), np.array(values, np.float64)


def thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most ``POINTS`` points, each the mean of its neighbours."""
    if len(x) <= POINTS:
        return x, y
    groups = np.array_split(np.arange(len(x)), POINTS)
    return np.array([x[group].mean() for group in groups]), np.array([y[group].mean() for group in groups])


def best_step(evidence: Evidence) -> int | None:
    """The step whose checkpoint is served: as training said; where it didn't, that of the best validation metric, of
    equal ones that with the lower loss, then the earlier; else the last."""
    said = evidence.trained.get("metrics", {}).get("train/best_step")
    if said is not None:
        return int(said)
    history, best = evidence.history, evidence.experiment.train.best
    steps, values = column(history, f"validation/{best.removeprefix('-')}")
    if not best or not len(steps):
        return int(history["step"][-1]) if history.get("step") else None
    signed = -values if lower_is_better(best) else values
    losses = dict(zip(*(part.tolist() for part in column(history, "validation/loss")), strict=True))
    return int(
        max(zip(signed.tolist(), steps.tolist(), strict=True), key=lambda p: (p[0], -losses.get(p[1], 0.0), -p[1]))[1]
    )


def at_best(evidence: Evidence) -> dict[str, float]:
    """Validation metrics that were logged at the step whose checkpoint is served."""
    step = best_step(evidence)
    rows = [place for place, logged in enumerate(evidence.history.get("step", [])) if logged == step]
    return {
        name: values[place]
        for name, values in evidence.history.items()
        for place in rows
        if name.startswith("validation/") and values[place] is not None
    }


def _curve(evidence: Evidence, name: str) -> Plot | None:
    tones: dict[str, Tone] = {"validation": "first", "train": "first" if name in LAST else "second"}
    lines = []
    for split, tone in tones.items():
        x, y = column(evidence.history, f"{split}/{name}")
        dotted = len(x) == 1 or (split == "validation" and len(x) <= 40)
        if len(x):
            lines.append(Series(split, *thinned(x, y), tone, "dotted line" if dotted else "line"))
    if not lines:
        return None
    best = best_step(evidence)
    mark = None if best is None or name in LAST else (float(best), f"step {best:,}")
    title, steps = term(name).title, evidence.history["step"]
    alt = f"{title} over steps: " + "; ".join(f"{line.name} from {line.y[0]:.4g} to {line.y[-1]:.4g}" for line in lines)
    bare = lines if name not in LAST else [dataclasses.replace(lines[0], name="")]
    across, up = Axis("step", float(min(steps)), float(max(steps)), whole=True), Axis(low=0.0 if name in LAST else None)
    return Plot(title, chart(bare, across, up, alt, mark=mark), _numbers(name, lines))


def _numbers(name: str, lines: Sequence[Series]) -> Table:
    """Some twelve rows of what the lines say."""
    steps = np.unique(np.concatenate([line.x for line in lines]))
    chosen = steps[np.unique(np.linspace(0, len(steps) - 1, 12).astype(int))]
    values = [{x: y for x, y in zip(line.x.tolist(), line.y.tolist(), strict=True)} for line in lines]
    rows = tuple(
        (f"{step:,.0f}", *(shown(name, row[step]) if step in row else "" for row in values)) for step in chosen.tolist()
    )
    return Table(("step", *(line.name for line in lines)), rows, words=frozenset())


def speed(evidence: Evidence, latencies: Mapping[int, Taken]) -> list[Block]:
    """Examples a second, seconds, and, where it was measured, how long an answer takes."""
    rows: list[tuple[str, ...]] = []
    trained, result = evidence.trained, evidence.result
    _, rates = column(evidence.history, "train/examples_per_second")
    if len(rates):
        rows.append(
            (
                "training, examples/s",
                f"{np.median(rates):,.0f}",
                "median of the log's lines, without evaluation and compilation",
            )
        )
    if trained:
        steps = trained["metrics"].get("train/steps")
        note = f"{steps:,.0f} steps, with evaluations and compilation" if steps else ""
        on = f"on {trained['devices']}" if "devices" in trained else ""
        rows.append(("training, seconds", f"{trained['seconds']:,.1f}", f"{note}, {on}".strip(", ")))
    if result.get("verb") == "evaluate":
        on = f"on {result['devices']}" if "devices" in result else ""
        rows.append(("evaluation, examples/s", f"{result['examples_per_second']:,.0f}", on))
    for size, taken in latencies.items():
        middle, high = np.quantile(taken.milliseconds, (0.5, 0.9))
        how = f"median of {len(taken.milliseconds)}, 90 % below {high:,.2f}; from records to answers, on this machine"
        asked = f"{size} record{'s' if size > 1 else ''}"
        rows.append((f"answer to {asked}, ms", f"{middle:,.2f}", how))
        if taken.sound:
            factor = f"{middle / 1000 / taken.sound:,.4f}"
            rows.append((f"real-time factor, {asked}", factor, "seconds for a second of the recordings answered"))
    if not rows:
        return [Text("Nothing is known of its speed.", "note")]
    table = Table(("", "", "how"), tuple(rows), words=frozenset({0, 2}))
    return [table] if latencies else [table, Text("How long an answer takes was not measured.", "note")]
