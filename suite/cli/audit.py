"""suite audit: what a run's weights tell of single training records."""

from dataclasses import dataclass

from suite.cli.flags import Verb, word
from suite.cli.shared_flags import Allowing


@dataclass(frozen=True, kw_only=True)
class Audit(Allowing):
    """Guesses which canaries a run was trained on: a lower bound on its epsilon, of private and of other runs."""

    verb = "audit"
    examples = ("suite audit runs/reviews",)
    notes = "The run is to be trained with --privacy.canaries 1000: a coin leaves out each second of so many records."

    run: str = word("RUN", example="runs/reviews", fix="suite train text.classify --privacy.canaries 1000")
    """Run folder."""


def audit(given: Audit) -> None:
    from suite.runs import audit as audits
    from suite.runs import run

    for line in audits.audit(run.open(given.run, given.allowed)).lines:
        print(line)


VERB = Verb(Audit, audit)
