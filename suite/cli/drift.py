"""suite drift: whether new records are like those of training."""

from dataclasses import dataclass

from suite.cli.flags import Verb, flag, word
from suite.cli.shared_flags import Allowing
from suite.errors import InputError


@dataclass(frozen=True, kw_only=True)
class DriftFlags(Allowing):
    """Compares new records, and the answers to them, with those of a run's training."""

    verb = "drift"
    examples = ("suite drift runs/reviews --data new_reviews.csv",)

    run: str = word("RUN", example="runs/reviews", fix="suite train text.classify --data reviews.csv")
    """Run folder."""
    data: str = flag("", value="PATH", example="new_reviews.csv", otherwise="it is to be given")
    """New records, as suite predict reads them: a file or a folder. They need no labels."""


def drift(given: DriftFlags) -> None:
    from suite.runs import run
    from suite.workflow import drift as drifts

    if not given.data:
        raise InputError("flag --data", "names no new records.", fix=f"{' '.join(DriftFlags.examples)}")
    for line in drifts.drift(run.open(given.run, given.allowed), given.data).lines:
        print(line)


VERB = Verb(DriftFlags, drift)
