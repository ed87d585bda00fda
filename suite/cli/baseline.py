"""suite baseline: a classical model on the same records."""

from dataclasses import dataclass
from typing import Any, Literal

from suite.cli.flags import Verb, flag, word
from suite.cli.shared_flags import Allowing, OfExperiment
from suite.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Baseline(OfExperiment, Allowing):
    """Measures a classical model on the same records as a run, or as an experiment's will be."""

    verb = "baseline"
    examples = (
        "suite baseline runs/reviews",
        "suite baseline runs/reviews --split test",
        "suite baseline text.classify --data reviews.csv --target verdict",
    )
    notes = "Fields of the experiment, --task.NAME VALUE, go with EXPERIMENT: a run has its own."

    experiment: str = word("RUN|EXPERIMENT", example="runs/reviews", fix="suite list")
    """Run folder, whose model is compared and whose report shows it; or a recipe, before any training."""
    split: Literal["validation", "test"] = flag("validation", example="test")
    """Split that is scored; models are fitted to train."""


def baseline(given: Baseline) -> None:
    from suite.runs import baselines, run
    from suite.runtime.files import is_run

    of: Any
    if is_run(given.experiment) or ("/" in given.experiment and not given.experiment.endswith(".py")):
        stated = [*(["--data"] if given.data else []), *(["--smoke"] if given.smoke else []), *given.fields]
        if stated:
            raise InputError(
                f"flag {stated[0]}", "is not one of a run, which has its own experiment.", found=given.experiment
            )
        of = run.open(given.experiment, given.allowed)
    else:
        of = given.resolved()
    compared = baselines.baseline(of, given.split)
    for line in baselines.table(compared):
        print(line)
    for line in baselines.told(compared):
        print(line)


VERB = Verb(Baseline, baseline)
