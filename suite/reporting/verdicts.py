"""Whether what was wanted was reached: the goal, the search for it, and what compression cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from suite.evaluation.bootstrap import DRAWS, Interval, Scores
from suite.evaluation.wording import ranged
from suite.experiment.goal import Goal
from suite.fitting import table
from suite.fitting.leaderboard import ALPHA, Leaderboard
from suite.reporting.blocks import Block, Figure, Plot, Table, Text, Verdict
from suite.reporting.evidence import Evidence
from suite.reporting.glossary import apart, bounds, capital, decimals, difference, percent, shown, term
from suite.reporting.svg import Axis, Series, chart
from suite.runs.baselines import Comparison, against

MIB = 2**20


def verdicts(evidence: Evidence) -> list[Block]:
    """In short: the goal, then the search, then each compression, then what is missing."""
    blocks: list[Block] = [_goal(evidence), *_baseline(evidence.baseline)]
    blocks += [Text(line) for line in [*_search(evidence.tuned), *map(compressed, evidence.compressions)]]
    return [*blocks, *_missing(evidence)]


def _goal(evidence: Evidence) -> Verdict:
    goal, scores = evidence.experiment.goal, evidence.goal_scores
    if goal is None or goal.open:
        return Verdict("No goal was set.", _without_goal(evidence))
    asked = f"The goal is {term(goal.metric).title} on {goal.on} of {_bound(goal)}"
    if scores is None:
        return Verdict("Goal not evaluated.", f"{asked}, and this run was not evaluated there.")
    if goal.metric not in scores.names:
        return Verdict("Goal not evaluated.", f"{asked}, and the task has no such metric.")
    return met(goal, scores.interval(goal.metric), len(scores))


def met(goal: Goal, reached: Interval, records: int) -> Verdict:
    """One sentence on the value that was reached, and one on how sure it is."""
    name, value = term(goal.metric).title, reached.value
    good = goal.met(value)
    said, bound = apart(goal.metric, value, goal.bound, decimals(goal.metric, reached))
    least = "at least" if goal.at_most is None else "at most"
    interval = f"95 % interval {bounds(goal.metric, reached)}; " if reached.known else ""
    line = f"{name} on {goal.on} is {said} ({interval}n = {records:,}); the goal is {least} {bound}."
    if reached.low < goal.bound < reached.high:
        line += " The goal lies within the interval: another sample of records might have decided otherwise."
    return Verdict("Goal met." if good else "Goal missed.", capital(line), good)


def _bound(goal: Goal) -> str:
    return f"{'at least' if goal.at_most is None else 'at most'} {apart(goal.metric, goal.bound, goal.bound, 1)[1]}"


def _without_goal(evidence: Evidence) -> str:
    scores = evidence.scores
    if scores is None:
        return "Nothing could be evaluated."
    best = evidence.experiment.train.best.removeprefix("-")
    metric = best if best in scores.names and best != "loss" else scores.names[0]  # a loss says little by itself
    value = scores.interval(metric)
    return capital(
        f"{term(metric).title} on {evidence.split} is {shown(metric, value.value, decimals(metric, value))} "
        f"({f'95 % interval {bounds(metric, value)}; ' if value.known else ''}n = {len(scores):,})."
    )


def _baseline(compared: Comparison | None) -> list[Block]:
    """The model against the strongest classical one."""
    if compared is None or not compared.model:
        return []
    words = {"better": "Better than the baseline.", "worse": "Worse than the baseline.", "": "Baseline."}
    word = words.get(compared.outcome, "No better than the baseline.")
    metric, strongest = compared.metric, compared.strongest
    text = f"{strongest.name}: {term(metric).title} {ranged(metric, strongest.metrics[metric])}; {against(compared)}."
    return [Verdict(word, capital(text), {"better": True, "worse": False}.get(compared.outcome))]


def baseline(compared: Comparison) -> list[Block]:
    """Every metric of the classical models and of this one, on the same records."""
    names, strongest = [entry.name for entry in compared.baselines], compared.strongest
    rows = []
    for metric in strongest.metrics:
        own = compared.model.get(metric)
        apart = strongest.differences.get(metric)
        cells = [
            shown(metric, value.value, decimals(metric, value))
            for entry in compared.baselines
            for value in [entry.metrics[metric]]
        ]
        cells.append("" if own is None else shown(metric, own.value, decimals(metric, own)))
        cells.append("" if apart is None else difference(metric, apart))
        rows.append((term(metric).title, *cells))
    letters = "ABCDEFGH"[: len(names)]  # names are too long for the head of a column
    head = ("metric", *letters, "this model", f"this less {letters[compared.baselines.index(strongest)]}")
    fits = [
        f"{letter}: {entry.name}{f' ({entry.chosen})' if entry.chosen else ''}"
        for letter, entry in zip(letters, compared.baselines, strict=True)
    ]
    drawn = strongest.fitted < strongest.of
    count = f"a draw of {strongest.fitted:,} of {strongest.of:,}" if drawn else f"the {strongest.of:,}"
    note = f"{'; '.join(fits)}; fitted to {count} training records."
    paired = "The difference is paired by record, with its 95 % interval."
    caption = f"Classical models on the same {compared.records:,} records of {compared.split}."
    return [Table(head, tuple(rows), caption), Text(f"{note} {paired}", "note")]


def _search(tuned: Mapping[str, Any]) -> list[str]:
    if not tuned:
        return []
    trials, chosen = tuned.get("trials", []), tuned["chosen"]["trial"]
    ended = {"goal": "ended at the goal", "trials": "used up its trials", "hours": "used up its time"}
    why = ended.get(str(tuned.get("stopped_by")), f"was ended by {tuned.get('stopped_by')}")
    end = "and met it" if tuned["met"] else "and did not meet it"
    best = tuned["met"] and tuned.get("margin") is None
    count = "1 trial" if len(trials) == 1 else f"{len(trials)} trials"
    if best:
        return [f"A search of {count} for {tuned['goal']} {why}; this is its trial {chosen}."]
    return [f"A search of {count} for the goal {tuned['goal']} {why} {end}; this is its trial {chosen}."]


def compressed(outcome: Mapping[str, Any]) -> str:
    """One sentence on what a compression changed."""
    metric, size = outcome["metric"], outcome["size"]
    before, after = (shown(metric, outcome[when]["value"]) for when in ("before", "after"))
    line = (
        f"{outcome['method']}: {term(metric).title} on {outcome['split']} from {before} to {after}, weights "
        f"{percent(size['ratio'])} of their size."
    )
    if outcome.get("max_drop") is None:
        return line
    allowed = shown(metric, outcome["max_drop"], 2 if term(metric).share else None)
    return f"{line} {'Goal met' if outcome['met'] else 'Goal missed'}: a drop of at most {allowed} was allowed."


def _missing(evidence: Evidence) -> list[Block]:
    if not evidence.missing:
        return []
    lines = [f"Missing: {missing.what}. {' '.join(missing.why.split())}" for missing in evidence.missing]
    return [Text(line, "warning") for line in dict.fromkeys(lines)]


def results(scores: Scores, split: str, best: Mapping[str, float]) -> list[Block]:
    """Every metric of the split with its interval, and what training saw on validation."""
    rows = []
    for name in scores.names:
        interval = scores.interval(name)
        seen = best.get(f"validation/{name}")
        rows.append(
            (
                term(name).title,
                shown(name, interval.value, decimals(name, interval)),
                bounds(name, interval) if name in scores.rows else "–",
                "" if seen is None else shown(name, seen, decimals(name, interval)),
            )
        )
    single = f"; {', '.join(term(name).title for name in scores.whole)} has none, as no record has a part in it"
    single = single if scores.whole else ""
    note = (
        f"Intervals: by the bootstrap, {DRAWS:,} draws of the records{single}. Last column: what training logged when "
        "the checkpoint that is served was written."
    )
    head = ("metric", "value", "95 % interval", "validation")
    return [Table(head, tuple(rows), f"{split}, {len(scores):,} records."), Text(note, "note")]


def fit(board: Leaderboard | None) -> list[Block]:
    """What else was tried on the same records, where the run is what a fit kept."""
    if board is None:
        return []
    way = "lower" if board.lower else "higher"
    caption = (
        f"By {term(board.metric).title} ({way} is better) on {board.records:,} records of {board.split}, with 95 % "
        f"intervals; * is this run, kept since {board.why}. A difference may be chance where its p-value, corrected "
        f"for the number of comparisons, is not below {ALPHA}."
    )
    head, rows = table.head(board), table.rows(board)
    return [Table(head, tuple(rows), caption, frozenset({1, len(head) - 1}))]


def search(tuned: Mapping[str, Any]) -> list[Block]:
    """The trials of a search."""
    trials: Sequence[Mapping[str, Any]] = tuned.get("trials", [])
    fields = list(dict.fromkeys(name for trial in trials for name in trial.get("values", {})))
    rows = tuple(
        (
            f"{trial['number']}{' (chosen)' if trial['number'] == tuned['chosen']['trial'] else ''}",
            str(trial["state"]),
            _number(trial.get("value")),
            *(_number(trial.get("values", {}).get(name)) for name in fields),
            _number(trial.get("steps")),
            _number(trial.get("seconds")),
        )
        for trial in trials
    )
    table = Table(
        ("trial", "ended", "value", *fields, "steps", "seconds"), rows, f"Goal: {tuned['goal']}.", frozenset({0, 1})
    )
    values = [(trial["number"], trial["value"]) for trial in trials if isinstance(trial.get("value"), int | float)]
    untold = [Text(f"The test split was not looked at: {why}", "note")] if (why := tuned.get("why_no_test")) else []
    if len(values) < 2:
        return [table, *untold]
    x, y = (np.array(column, np.float64) for column in zip(*values, strict=True))
    svg = chart([Series("", x, y, kind="dotted line")], Axis("trial", whole=True), Axis(), "Value of each trial")
    return [Figure((Plot("Value of each trial", svg),), ""), table, *untold]


def _number(value: Any) -> str:
    return "" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)


def compression(outcome: Mapping[str, Any]) -> list[Block]:
    """Quality, size, latency, memory and parameters before and after."""
    metric, size = outcome["metric"], outcome["size"]
    before, after, drop = (
        Interval(**{end: float(outcome[name][end]) for end in ("value", "low", "high")})
        for name in ("before", "after", "drop")
    )
    places = decimals(metric, drop)
    old, new = (shown(metric, interval.value, places) for interval in (before, after))
    rows = [(f"{term(metric).title} on {outcome['split']}", old, new, f"drop {difference(metric, drop)}")]
    old, new = (f"{size[f'{when}_bytes'] / MIB:.2f}" for when in ("before", "after"))
    rows.append(("weights, MiB", old, new, _times(size["ratio"])))
    for batch, ms in outcome.get("latency_ms", {}).items():
        change = _times(ms["ratio"])
        if ms.get("float32", ms["before"]) != ms["before"]:
            change += f"; {_times(ms['after'] / ms['float32'])} of {ms['float32']:.2f} in float32"
        rows.append((f"latency of {batch}, ms", f"{ms['before']:.2f}", f"{ms['after']:.2f}", change))
    if memory := outcome.get("memory_bytes"):
        rows.append(
            (
                "memory, MiB",
                f"{memory['before'] / MIB:.1f}",
                f"{memory['after'] / MIB:.1f}",
                _times(memory["after"] / memory["before"] if memory["before"] else float("nan")),
            )
        )
    if count := outcome.get("parameters"):
        zeros = f"{count['zeros']:,} are 0" if count.get("zeros") else ""
        rows.append(("parameters", f"{count['before']:,}", f"{count['after']:,}", zeros))
    table = Table(("", "before", "after", "change"), tuple(rows), f"{outcome['method']}, made from {outcome['of']}.")
    note = "A positive drop is worse; in brackets its 95 % interval, on the same records."
    return [Text(compressed(outcome)), table, Text(note, "note")]


def _times(ratio: float) -> str:
    return f"× {ratio:.2f}"
