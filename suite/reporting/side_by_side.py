"""A comparison for people: as lines of a terminal, and as a page with intervals and curves."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from suite.errors import InputError
from suite.evaluation.bootstrap import DRAWS
from suite.reporting import sample_predictions, training
from suite.reporting.blocks import Block, Figure, Page, Part, Plot, Section, Table, Terms, Text, Verdict
from suite.reporting.comparisons import Compared, Comparison, Judged
from suite.reporting.glossary import capital, difference, ranged, term, way
from suite.reporting.page import write
from suite.reporting.svg import TONES, Axis, Kind, Series, chart, ranges
from suite.training import privacy

_UNKNOWN = "it has no interval"


def render(comparison: Comparison) -> str:
    """Lines for a terminal."""
    lines = [
        f"{comparison.split}, {len(comparison.runs[0].scores):,} records; "
        f"differences are from run {comparison.against + 1}",
        "",
    ]
    head = ["run", *comparison.metrics, "parameters", "seconds"]
    lines += _aligned(
        [
            head,
            *(
                [_named(comparison, place), *_values(run, comparison.metrics)]
                for place, run in enumerate(comparison.runs)
            ),
            *_classical(comparison),
        ]
    )
    for metric in comparison.metrics:
        lines += ["", metric]
        lines += [
            f"  {place + 1} less {comparison.against + 1}: {_judgement(metric, judged)}"
            for place, judged in comparison.differences[metric].items()
        ]
    lines += ["", "they differ in" if comparison.settings else "their configurations are the same"]
    lines += _aligned([[f"  {name}", " | ".join(values)] for name, values in comparison.settings.items()])
    return "\n".join([*lines, "", *_how(comparison)])


def _classical(comparison: Comparison) -> list[list[str]]:
    """A row for each classical model on the same records."""
    known = comparison.baseline.baselines if comparison.baseline else ()
    rows = []
    for entry in known:
        values = [ranged(name, entry.metrics[name]) if name in entry.metrics else "" for name in comparison.metrics]
        rows.append([f"baseline: {entry.name}", *values, "", f"{entry.seconds:,.1f}"])
    return rows


def _named(comparison: Comparison, place: int) -> str:
    return f"{place + 1} {comparison.runs[place].name}"


def _values(run: Compared, metrics: Sequence[str]) -> list[str]:
    values = [ranged(name, run.values[name]) for name in metrics]
    return [*values, f"{run.run.parameters:,}", "" if run.seconds is None else f"{run.seconds:,.1f}"]


def _judgement(metric: str, judged: Judged) -> str:
    if not judged.interval.known:
        return f"{difference(metric, judged.interval)}: {_UNKNOWN}"
    return f"{difference(metric, judged.interval)}, p {judged.p:.3f}: {_significance(metric, judged)}"


def _how(comparison: Comparison) -> list[str]:
    count = len(comparison.runs) - 1
    protocols = dict.fromkeys(run.run.experiment.task.protocol for run in comparison.runs)
    said = [f"Protocol: {protocol}." for protocol in protocols if protocol]
    for place, run in enumerate(comparison.runs):
        if guarantee := privacy.read(run.run.folder):
            said.append(f"{_named(comparison, place)}: {guarantee}.")
    corrected = [f"p is corrected for the {count} comparisons of each metric (Holm)."] if count > 1 else []
    return [
        f"In brackets: 95 % intervals by the bootstrap, {DRAWS:,} draws of records, the same for both of a pair.",
        *corrected,
        "They tell of chance in records, not in training: that takes other seeds.",
        *said,
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def save(comparison: Comparison, path: Path) -> None:
    """Write the comparison as a page.

    Raises:
        InputError: the file cannot be written, or the package of the extra is missing.
    """
    write(page(comparison), path)


def page(comparison: Comparison) -> Page:
    """The same with intervals and curves drawn."""
    metric, names = comparison.metrics[0], [_named(comparison, place) for place in range(len(comparison.runs))]
    summary: list[Block] = [
        _verdict(comparison, metric, place, judged) for place, judged in comparison.differences[metric].items()
    ]
    summary.append(Text(" ".join(_how(comparison)), "note"))
    rows = tuple((name, *_values(run, comparison.metrics)) for name, run in zip(names, comparison.runs, strict=True))
    rows += tuple(map(tuple, _classical(comparison)))
    table = Table(("run", *(term(name).title for name in comparison.metrics), "parameters", "seconds"), rows)
    sections = [
        Section("results", "Results", (table, *_differences(comparison))),
        Section("predictions", "Predictions", tuple(_predictions(comparison))),
        Section("training", "Training", tuple(_curves(comparison))),
        Section("configuration", "What differs between them", (_settings(comparison),)),
        Section(
            "glossary",
            "Glossary",
            (Terms(tuple((term(name).title, term(name).meaning) for name in comparison.metrics)),),
        ),
    ]
    about = (
        ("written", datetime.date.today().isoformat()),
        ("evaluated on", comparison.split),
        ("records", f"{len(comparison.runs[0].scores):,}"),
    )
    recipes = dict.fromkeys(run.run.experiment.name for run in comparison.runs)
    title = f"{len(comparison.runs)} runs of {' and '.join(recipes)}"
    return Page(title, "Comparison", about, tuple(summary), tuple(sections))


def _predictions(comparison: Comparison) -> list[Block]:
    """What each run says of the same records."""
    first, *others = (compared.run for compared in comparison.runs)
    try:
        return sample_predictions.answers(first, comparison.split, others)
    except InputError as error:  # such as of a split whose records lack what a request needs
        return [Text(f"No predictions: {error}", "note")]


def _verdict(comparison: Comparison, metric: str, place: int, judged: Judged) -> Verdict:
    name, base = f"run {place + 1}", f"run {comparison.against + 1}"
    apart = difference(metric, judged.interval)
    if not judged.interval.known:
        return Verdict("No interval.", f"{capital(term(metric).title)}: {name} less {base} is {apart}; {_UNKNOWN}.")
    told = f"{capital(term(metric).title)}: {name} less {base} is {apart}, p {judged.p:.3f}."
    if not judged.significant:
        return Verdict("Not significant.", told)
    which = way(metric, judged.interval.value)
    return Verdict(f"Significant: {name} is {which}.", told, {"better": True, "worse": False}.get(which))


def _differences(comparison: Comparison) -> list[Part]:
    parts = []
    for metric in comparison.metrics:
        title = term(metric).title
        less = {place: f"run {place + 1} less {comparison.against + 1}" for place in comparison.differences[metric]}
        values = [(f"run {place + 1}", run.values[metric]) for place, run in enumerate(comparison.runs)]
        apart = [(less[place], judged.interval) for place, judged in comparison.differences[metric].items()]
        known = all(interval.known for _, interval in (*values, *apart))
        rows = tuple(
            (
                less[place],
                difference(metric, judged.interval),
                f"{judged.p:.3f}" if judged.interval.known else "–",
                _significance(metric, judged),
            )
            for place, judged in comparison.differences[metric].items()
        )
        table = Table(("runs", "difference", "p", ""), rows, words=frozenset({0, 3}))
        if not known:
            parts.append(Part(title, (table,)))
            continue
        plots = (
            Plot(f"{title}, with 95 % intervals", ranges(values, title, f"{title} of each run")),
            Plot(
                f"Differences from run {comparison.against + 1}",
                ranges(apart, f"difference in {title}", f"Differences in {title}", zero=True),
            ),
        )
        parts.append(Part(title, (Figure(plots, ""), table)))
    return parts


def _significance(metric: str, judged: Judged) -> str:
    if not judged.interval.known:
        return _UNKNOWN
    return f"significant, {way(metric, judged.interval.value)}" if judged.significant else "not significant"


def _curves(comparison: Comparison) -> list[Block]:
    logs = [run.run.history for run in comparison.runs]
    names = list(dict.fromkeys(name for log in logs for name in training.metrics(log)))
    plots = []
    for name in names:
        lines = []
        for place, log in enumerate(logs):
            split = "validation" if training.column(log, f"validation/{name}")[0].size else "train"
            x, y = training.thinned(*training.column(log, f"{split}/{name}"))
            if len(x):
                tone = TONES[place] if place < len(TONES) else "quiet"
                kind: Kind = "dotted line" if len(x) <= 40 else "line"
                lines.append(Series(f"run {place + 1}" if place < len(TONES) else "", x, y, tone, kind))
        if lines:
            title = f"{term(name).title}, {'validation' if name not in training.LAST else 'training'}"
            steps, alt = Axis("step", whole=True), f"{title} over steps, of each run"
            plots.append(Plot(title, chart(lines, steps, Axis(), alt)))
    return (
        [Figure(tuple(plots), "What was logged, over optimiser steps.")]
        if plots
        else [Text("Nothing was logged.", "note")]
    )


def _settings(comparison: Comparison) -> Block:
    if not comparison.settings:
        return Text("Nothing: their configurations are the same.")
    head = ("field", *(f"run {place + 1}" for place in range(len(comparison.runs))))
    rows = tuple((name, *values) for name, values in comparison.settings.items())
    return Table(head, rows, words=frozenset(range(len(head))))
