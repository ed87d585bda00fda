"""Train, evaluate and ask one model on images and one on text, on data that needs no network."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from suite.errors import InputError
from suite.experiment.recipes import load
from suite.runs.verbs import train

EXPERIMENTS = ("vision.digits_dnn", "text.synthetic_sentiment")
SPLIT = "test"


@dataclass(frozen=True)
class Row:
    """One line of the table at the end.

    Attributes:
        experiment: dotted name.
        data: ``"real"`` or ``"synthetic"``.
        metric: name of what is measured, on the test split.
        value: what was reached.
        goal: what the recipe is to reach.
        best: what no model can be expected to pass, where that is known.
        seconds: training and evaluation.
        folder: the run folder.
    """

    experiment: str
    data: str
    metric: str
    value: float
    goal: float
    best: float | None
    seconds: float
    folder: Path


def main() -> None:
    """Run both experiments and print what was reached."""
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=__doc__)
    parser.add_argument("experiments", nargs="*", default=EXPERIMENTS, help="dotted names, default: %(default)s")
    parser.add_argument("--smoke", action="store_true", help="a few steps only: does it run at all?")
    parser.add_argument("--runs", default="", help="folder for the run folders, default: ./runs, dated")
    options = parser.parse_args()
    console = Console(soft_wrap=True)
    try:
        rows = [run_one(name, options.smoke, options.runs, console) for name in options.experiments]
    except InputError as error:
        parser.exit(2, f"{error}\n")
    console.print(table(rows))
    for row in rows:
        console.print(f"{row.experiment}: {row.folder}", highlight=False)


def run_one(name: str, smoke: bool, runs: str, console: Console) -> Row:
    """Train one experiment, evaluate it on the test split and show three answers."""
    experiment: Any = load(name, smoke=smoke)
    data, goal = experiment.task.data, experiment.goal
    origin = data.origin if data.origin.startswith("synthetic") else "real"
    if goal is None:
        raise InputError(name, "has no goal to show the result beside.", fix=" or ".join(EXPERIMENTS))
    console.rule(f"{name} on {origin} data")
    begun = time.perf_counter()
    run = train(experiment, Path(runs) / name if runs else "")
    metrics = run.evaluate(SPLIT).metrics
    seconds = time.perf_counter() - begun
    show_answers(run, console)
    metric = goal.metric
    best = getattr(data, "best_accuracy", None)
    return Row(name, origin.split()[0], metric, metrics[f"{SPLIT}/{metric}"], goal.bound, best, seconds, run.folder)


def show_answers(run: Any, console: Console, count: int = 3) -> None:
    """Predict the first records of the test split, and print each answer beside the truth."""
    task = run.experiment.task
    source = task.source(SPLIT)
    columns = source[np.arange(min(count, len(source)))]
    inputs, truth = columns[task.codec.primary], columns[task.label]
    names = source.classes.get(task.label)
    for given, true, answer in zip(inputs, truth, run.predict(list(inputs)), strict=True):
        shown = given if isinstance(given, str) else f"{'x'.join(map(str, np.shape(given)))} image"
        label = names[int(true)] if names else true
        console.print(f"  {shown!r}\n    answer {answer}, truth {label}", markup=False, highlight=False)


def table(rows: list[Row]) -> Table:
    """What was reached."""
    caption = "best: what no model can be expected to pass, where known"
    made = Table(
        title=f"reached on the {SPLIT} split", caption=caption, box=box.SIMPLE, pad_edge=False, collapse_padding=True
    )
    for column in ("experiment", "data", "metric"):
        made.add_column(column, no_wrap=True)
    for column in ("value", "goal", "best", "seconds"):
        made.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        best = "-" if row.best is None else f"{row.best:.4f}"
        numbers = (f"{row.value:.4f}", f"{row.goal:.4f}", best, f"{row.seconds:.1f}")
        made.add_row(row.experiment, row.data, row.metric, *numbers)
    return made


if __name__ == "__main__":
    main()
