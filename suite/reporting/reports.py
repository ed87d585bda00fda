"""suite report: one page that says whether a run is good, what it gets wrong, and how it came about."""

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from suite.reporting import configuration, data_card, sample_predictions, training, verdicts
from suite.reporting.blocks import Block, Page, Part, Section, Terms, Text
from suite.reporting.drawings import drawn
from suite.reporting.evidence import Evidence, gather
from suite.reporting.glossary import term
from suite.reporting.page import write
from suite.runs.run import Run

FILE = "report.html"
T = TypeVar("T")


def report(
    run: str | Path,
    split: str = "",
    *,
    beside: Sequence[str | Path] = (),
    to: str | Path = "",
    measure: bool = False,
    allow: tuple[str, ...] = (),
) -> Path:
    """Write a page about a run that a person can read: one HTML file that needs nothing beside it.

    Args:
        run: the run folder; that of a search stands for the run it chose.
        split: what to evaluate; empty: the goal's split, else test where it is labelled, else validation.
        beside: run folders that were made from this one, such as compressed ones, to be told of too.
        to: the file; empty: ``report.html`` in the run folder.
        measure: measure how long answers take, now and on this machine.
        allow: packages whose classes the run's experiment may name.

    Returns:
        The file. What could not be found out is said in it.

    Raises:
        InputError: the folder is no run, one of ``beside`` was not made from it, or the file cannot be written.
    """
    found = gather(run, split, beside, allow)
    path = Path(to) if to else Path(run) / FILE
    write(page(found, measure), path)
    return path


def page(found: Evidence, measure: bool = False) -> Page:
    """All that is known, in the order in which a reader asks."""
    sections: list[tuple[str, str, Sequence[Block | Part]]] = [
        ("results", "Results", _results(found)),
        ("records", "What it gets right and wrong", _records(found)),
        ("training", "Training", training.curves(found)),
        ("data", "Data", data_card.data_card(found)),
        ("search", "Search", verdicts.search(found.tuned) if found.tuned else []),
        ("compression", "Compression", [block for made in found.compressions for block in verdicts.compression(made)]),
        ("speed", "Speed", _speed(found, measure)),
        ("configuration", "Configuration", configuration.configuration(found)),
        ("environment", "Environment", configuration.environment(found)),
        ("glossary", "What the metrics mean", _glossary(found)),
    ]
    kept = tuple(Section(name, title, tuple(blocks)) for name, title, blocks in sections if blocks)
    return Page(found.experiment.name, "Report of a run", _about(found), tuple(verdicts.verdicts(found)), kept)


def _about(found: Evidence) -> tuple[tuple[str, str], ...]:
    rows = [("run", str(found.folder)), ("written", datetime.date.today().isoformat())]
    if found.run is not None:
        rows.append(("parameters", f"{found.run.parameters:,}"))
    if found.split:
        rows.append(("evaluated on", found.split))
    return tuple(rows)


def _results(found: Evidence) -> list[Block]:
    if found.scores is None:
        return [Text("Nothing was evaluated.", "note")]
    return verdicts.results(found.scores, found.split, training.at_best(found))


def _records(found: Evidence) -> list[Block | Part]:
    parts: list[Block | Part] = [Part(title, tuple(drawn(exhibit))) for title, exhibit in found.artifacts.items()]
    answered = _asked(found, "answers", sample_predictions.answers)
    return parts if answered is None else [*parts, Part("What it answers", tuple(answered))]


def _speed(found: Evidence, measure: bool) -> list[Block]:
    taken = _asked(found, "latency", sample_predictions.latencies) if measure else None
    return training.speed(found, taken or {})


def _asked(found: Evidence, what: str, ask: Callable[[Run, str], T]) -> T | None:
    run, split = found.run, found.split
    return None if run is None or not split else found.tried(what, lambda: ask(run, split))


def _glossary(found: Evidence) -> list[Block]:
    names = [*(found.scores.rows if found.scores else {}), *training.metrics(found.history)]
    return [Terms(tuple((term(name).title, term(name).meaning) for name in dict.fromkeys(names)))] if names else []
