"""suite report: one page that says whether a run is good, what it gets wrong, and how it came about."""

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from suite.contracts.preprocessor import Postprocessor
from suite.fitting import leaderboard
from suite.reporting import configuration, data_card, explanations, sample_predictions, training, verdicts
from suite.reporting.blocks import Block, Page, Part, Section, Table, Terms, Text
from suite.reporting.drawings import drawn
from suite.reporting.evidence import Evidence, gather
from suite.reporting.glossary import capital, term
from suite.reporting.page import templates, write
from suite.runs import audit, groups
from suite.runs.run import Run
from suite.training import privacy
from suite.training.preprocessors import preprocessors_of

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
    templates()  # what is missing is told before anything is evaluated
    evidence = gather(run, split, beside, allow)
    path = Path(to) if to else Path(run) / FILE
    write(page(evidence, measure), path)
    return path


def page(evidence: Evidence, measure: bool = False) -> Page:
    """All that is known, in the order in which a reader asks."""
    sections: list[tuple[str, str, Sequence[Block | Part]]] = [
        ("results", "Results", _results(evidence)),
        ("baseline", "Baseline", verdicts.baseline(evidence.baseline) if evidence.baseline else []),
        ("records", "Predictions and errors", _records(evidence)),
        ("explanations", "Explanations", explanations.section(evidence.run)),
        ("training", "Training", training.curves(evidence)),
        ("data", "Data", data_card.data_card(evidence)),
        ("search", "Search", verdicts.search(evidence.tuned) if evidence.tuned else []),
        ("fit", "Leaderboard", verdicts.fit(leaderboard.read(evidence.folder))),
        (
            "compression",
            "Compression",
            [block for outcome in evidence.compressions for block in verdicts.compression(outcome)],
        ),
        ("speed", "Speed", _speed(evidence, measure)),
        ("configuration", "Configuration", configuration.configuration(evidence)),
        ("environment", "Environment", configuration.environment(evidence)),
        ("glossary", "Glossary", _glossary(evidence)),
    ]
    filled = tuple(Section(name, title, tuple(blocks)) for name, title, blocks in sections if blocks)
    return Page(
        evidence.experiment.name, "Report of a run", _about(evidence), tuple(verdicts.verdicts(evidence)), filled
    )


def _about(evidence: Evidence) -> tuple[tuple[str, str], ...]:
    rows = [("run", str(evidence.folder)), ("written", datetime.date.today().isoformat())]
    if evidence.run is not None:
        rows.append(("parameters", f"{evidence.run.parameters:,}"))
    if evidence.split:
        rows.append(("evaluated on", evidence.split))
    return tuple(rows)


def _results(evidence: Evidence) -> list[Block]:
    if evidence.scores is None:
        return [Text("Nothing was evaluated.", "note")]
    results = verdicts.results(evidence.scores, evidence.split, training.at_best(evidence))
    run = evidence.run
    assets = preprocessors_of(run.experiment.task).values() if run else ()
    notes = [note for asset in assets if isinstance(asset, Postprocessor) for note in asset.notes]
    if run and run.experiment.task.protocol:
        notes.append(f"Protocol: {run.experiment.task.protocol}.")
    if run and (guarantee := privacy.read(run.folder)):
        notes += guarantee.lines
    if run and (found := audit.stored(run.folder)):
        notes += found.lines
    return [*results, *(Text(note, "note") for note in notes), *(_groups(run) if run else ())]


def _groups(run: Run) -> list[Block]:
    """For whom the model is better or worse, where that was measured."""
    found = groups.read(run.folder)
    if found is None:
        return []
    head, *rows = found.rows
    caption = f"By {found.column}, records of {found.split} (suite evaluate --by)."
    return [Table(head, tuple(rows), caption), Text(" ".join(f"{capital(line)}." for line in found.verdict), "note")]


def _records(evidence: Evidence) -> list[Block | Part]:
    parts: list[Block | Part] = [Part(title, tuple(drawn(exhibit))) for title, exhibit in evidence.artifacts.items()]
    answered = _asked(evidence, "answers", sample_predictions.answers)
    return parts if answered is None else [*parts, Part("Sample predictions", tuple(answered))]


def _speed(evidence: Evidence, measure: bool) -> list[Block]:
    taken = _asked(evidence, "latency", sample_predictions.latencies) if measure else None
    return training.speed(evidence, taken or {})


def _asked(evidence: Evidence, what: str, ask: Callable[[Run, str], T]) -> T | None:
    run, split = evidence.run, evidence.split
    return None if run is None or not split else evidence.tried(what, lambda: ask(run, split))


def _glossary(evidence: Evidence) -> list[Block]:
    names = [*(evidence.scores.names if evidence.scores else {}), *training.metrics(evidence.history)]
    return [Terms(tuple((term(name).title, term(name).meaning) for name in dict.fromkeys(names)))] if names else []
