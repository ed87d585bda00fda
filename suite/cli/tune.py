"""suite tune: an experiment trained again with other settings."""

import shlex
from dataclasses import dataclass

from suite.cli.flags import Verb, flag
from suite.cli.shared_flags import Aiming
from suite.errors import Interrupted, Missed


@dataclass(frozen=True, kw_only=True)
class Tune(Aiming):
    """Trains an experiment again with other settings until its goal is met, or its budget is spent."""

    verb = "tune"
    examples = (
        "suite tune vision.digits_dnn --run-dir runs/tuned",
        'suite tune text.classify --data reviews.csv --goal "accuracy>=0.9" --budget 20m',
        "suite tune recommendation.click --data clicks.csv --budget '1h, 30 trials'",
    )
    notes = "Without a goal the best within the budget is given, by the metric that chooses checkpoints (--train.best)."

    run_dir: str = flag("", value="DIR", example="runs/tuned", otherwise="runs/NAME-tune-TIME")
    """Folder of the study; the same command goes on with it."""
    storage: str = flag("", value="URL", example="postgresql://USER:PASSWORD@HOST/DATABASE", otherwise="a file in DIR")
    """Database in which several machines share one study."""
    keep_all: bool = flag(False, otherwise="those of the best trials alone")
    """Keep the checkpoints of all trials."""


def tune(given: Tune) -> None:
    from suite.runs import results
    from suite.tuning import tuning

    experiment = given.resolved()
    folder = given.run_dir or str(results.new_folder(f"{experiment.name}-tune"))
    try:
        verdict = tuning.tune(
            experiment,
            folder,
            budget=given.spending,
            storage=given.storage,
            keep_all=given.keep_all,
            accept_changed_data=given.accept_changed_data,
        )
    except Interrupted as stopped:
        again = [*given.typed, *([] if given.run_dir else ["--run-dir", folder])]
        raise stopped.within(stopped.folder, shlex.join(["suite", "tune", *again])) from None
    print(verdict)
    if not verdict.met:
        raise Missed(verdict.sentence)


VERB = Verb(Tune, tune)
