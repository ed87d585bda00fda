"""suite report: one page on a run."""

from dataclasses import dataclass

from suite.cli.flags import Verb, flag
from suite.cli.shared_flags import OfRun


@dataclass(frozen=True, kw_only=True)
class Report(OfRun):
    """Writes one HTML page on a run: verdict, curves, errors, data, configuration and speed."""

    verb = "report"
    examples = ("suite report runs/reviews", "suite report runs/reviews --with runs/reviews-int8 --to report.html")

    split: str = flag("", value="SPLIT", example="validation", otherwise="that of the goal, else test if labelled")
    """Split that is evaluated."""
    with_: tuple[str, ...] = flag((), value="RUN", example="runs/reviews-int8")
    """A compressed run of it, to stand beside; may be given several times."""
    to: str = flag("", value="FILE", example="report.html", otherwise="report.html in the run folder")
    """File that is written."""
    measure: bool = flag(False, otherwise="the speed that was measured before, if any")
    """Measure latency and throughput."""


def report(given: Report) -> None:
    from suite.reporting.reports import report as write

    page = write(
        given.run, given.split, beside=list(given.with_), to=given.to, measure=given.measure, allow=given.allowed
    )
    print(page)


VERB = Verb(Report, report)
