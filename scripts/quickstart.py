"""Train, evaluate and ask one model on images and one on text, on data that needs no network."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import suite
from suite.errors import InputError
from suite.experiments import load

EXPERIMENTS = ("vision.digits_dnn", "text.synthetic_sentiment")
SPLIT = "test"


@dataclass(frozen=True)
class Row:
    """One line of the table at the end.

    Attributes:
        experiment: dotted name.
        data: ``"real"``, or ``"synthetic"`` with the best score any model can reach.
        metrics: metric -> value on the test split.
        goal: the value to reach, as text.
        seconds: training and evaluation.
        folder: the run folder.
    """

    experiment: str
    data: str
    metrics: dict[str, float]
    goal: str
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
    experiment = load(name, smoke=smoke)
    console.rule(f"{name} on {origin(experiment)} data")
    begun = time.perf_counter()
    run = suite.train(experiment, Path(runs) / name if runs else "")
    metrics = run.evaluate(SPLIT).metrics
    seconds = time.perf_counter() - begun
    show_answers(run, console)
    goal = experiment.goal
    wanted = f"{goal.metric} {goal.at_least:g}" if goal else ""
    return Row(name, origin(experiment), metrics, wanted, seconds, run.folder)


def origin(experiment: Any) -> str:
    """``"real"``, unless the data says that it is made up."""
    return getattr(experiment.task.data, "origin", "real")


def show_answers(run: Any, console: Console, count: int = 3) -> None:
    """Predict the first records of the test split, and print each answer beside the truth."""
    task = run.experiment.task
    source = task.source(SPLIT)
    columns = source[np.arange(min(count, len(source)))]
    inputs, truth = columns[getattr(task, task.primary)], columns[task.label]
    names = source.classes.get(task.label)
    for given, true, answer in zip(inputs, truth, run.predict(list(inputs)), strict=True):
        shown = given if isinstance(given, str) else f"{'x'.join(map(str, np.shape(given)))} image"
        label = names[int(true)] if names else true
        console.print(f"  {shown!r}\n    answer {answer}, truth {label}", markup=False, highlight=False)


def table(rows: list[Row]) -> Table:
    """What was reached."""
    made = Table(title=f"reached on the {SPLIT} split")
    for column in ("experiment", "data", "metric", "value", "goal", "seconds"):
        made.add_column(column, justify="right" if column in ("value", "seconds") else "left")
    for row in rows:
        for metric, value in row.metrics.items():
            made.add_row(row.experiment, row.data, metric, f"{value:.4f}", row.goal, f"{row.seconds:.1f}")
    return made


if __name__ == "__main__":
    main()
