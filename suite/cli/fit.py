"""suite fit: from records and a column to the best model that a time allows."""

import shlex
from dataclasses import dataclass

from suite.cli.flags import Flags, Verb, flag
from suite.errors import InputError, Interrupted


@dataclass(frozen=True, kw_only=True)
class Fit(Flags):
    """Finds the best model for your own records within a time: classical baselines, families of models and their
    settings, ranked on the validation split."""

    verb = "fit"
    examples = (
        "suite fit --data houses.csv --target price --budget 20m",
        "suite fit --data reviews.csv --target verdict --budget 1h --goal auc --run-dir runs/fitted",
        "suite fit --data houses.csv --target price --recipes table.predict --folds 5",
    )
    notes = "The best is left as a run in DIR/best; the same command goes on with a fit, or shows what came of it."

    data: str = flag("", value="PATH", example="houses.csv", otherwise="must be given")
    """Your records: a CSV, TSV, JSONL or Parquet file, a manifest, or a folder."""
    target: str = flag("", value="COLUMN", example="price", otherwise="label")
    """Column that is to be predicted."""
    budget: str = flag("20m", value="BUDGET", example="1h")
    """What it may cost: a time (90s, 20m, 2h), a number of trainings, or both: "2h, 30 trials"."""
    run_dir: str = flag("", value="DIR", example="runs/fitted", otherwise="runs/NAME-fit-TIME")
    """Folder of the fit."""
    recipes: str = flag(
        "", value="RECIPES", example="table.predict,table.finetune", otherwise="what the columns call for"
    )
    """Recipes to try, with commas."""
    goal: str = flag(
        "", value="GOAL", example="auc", otherwise="the metric that chooses the first recipe's checkpoints"
    )
    """Metric of the validation split that decides; with >= or <= a value, in quotes, one that is enough."""
    folds: int = flag(0, value="K", example="5", otherwise="no cross-validation")
    """At the end, train the best settings on K folds of training and validation, and keep the mean of these models."""
    members: int = flag(5, value="N", example="1")
    """Most models whose mean may be kept; 1: a single model."""


def fit(given: Fit) -> None:
    from suite.experiment.goal import Budget
    from suite.fitting import fitting
    from suite.fitting.table import lines
    from suite.runs import results

    if not given.data:
        raise InputError("flag --data", "is missing: where do your records lie?", fix=Fit.examples[0])
    folder = given.run_dir or str(results.new_folder(f"{fitting.stem(given.data)}-fit"))
    try:
        board = fitting.fit(
            given.data,
            given.target,
            Budget(given.budget),
            folder,
            recipes=[name for name in given.recipes.split(",") if name],
            goal=given.goal,
            folds=given.folds,
            members=given.members,
        )
    except Interrupted as stopped:
        again = [*given.typed, *([] if given.run_dir else ["--run-dir", folder])]
        raise stopped.within(stopped.folder, shlex.join(["suite", "fit", *again])) from None
    for line in lines(board, folder):
        print(line)


VERB = Verb(Fit, fit)
