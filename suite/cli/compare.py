"""suite compare: runs side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from suite.cli.flags import Verb, flag, word
from suite.cli.shared_flags import Allowing


@dataclass(frozen=True, kw_only=True)
class Compare(Allowing):
    """Shows runs side by side with intervals, and which differences are significant."""

    verb = "compare"
    examples = ("suite compare runs/a runs/b", "suite compare runs/a runs/b runs/c --against best --to comparison.html")

    runs: tuple[str, ...] = word("RUN ...", example="runs/a runs/b")
    """Run folders, evaluated on the same records."""
    split: str = flag("", value="SPLIT", example="test", otherwise="the split of the first run's goal, else test")
    """Split that is compared."""
    metric: str = flag("", value="NAME", example="accuracy", otherwise="the metric that training selected by")
    """Metric that decides."""
    against: Literal["first", "best"] = flag("first", example="best")
    """Run that the others are compared with."""
    to: str = flag("", value="FILE", example="comparison.html", otherwise="nothing is written")
    """HTML page that is written, with intervals and curves drawn."""


def compare(given: Compare) -> None:
    from suite.reporting.comparisons import compare as judge
    from suite.reporting.side_by_side import render, save

    comparison = judge(list(given.runs), given.split, metric=given.metric, against=given.against, allow=given.allowed)
    print(render(comparison))
    if given.to:
        save(comparison, Path(given.to))
        print(given.to)


VERB = Verb(Compare, compare)
