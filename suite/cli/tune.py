"""suite tune: an experiment trained again with other settings."""

import shlex
from dataclasses import dataclass

from suite.cli.common import OfExperiment
from suite.cli.flags import Verb, flag
from suite.errors import Interrupted, Missed


@dataclass(frozen=True, kw_only=True)
class Tune(OfExperiment):
    """Trains an experiment again with other settings until its goal is met."""

    verb = "tune"
    examples = ("suite tune vision.digits_dnn --run-dir runs/tuned",)

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
        verdict = tuning.tune(experiment, folder, storage=given.storage, keep_all=given.keep_all)
    except Interrupted as stopped:
        again = [*given.typed, *([] if given.run_dir else ["--run-dir", folder])]
        raise stopped.within(stopped.folder, shlex.join(["suite", "tune", *again])) from None
    print(verdict)
    if not verdict.met:
        raise Missed(verdict.sentence)


VERB = Verb(Tune, tune)
