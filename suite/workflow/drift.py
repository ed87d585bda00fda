"""Drift: whether new records, and a model's answers to them, are distributed as those of its training are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from suite.codecs.answers import FAMILIARITY
from suite.contracts.codec import Codec
from suite.data.preprocessing import tabular_values
from suite.data.sources.memory import evenly_spaced
from suite.errors import InputError
from suite.evaluation.bootstrap import holm
from suite.evaluation.metrics.ranking import auc
from suite.runs.run import Run
from suite.workflow.record_blocks import open_records

MOST = 5000
"""Records of each side that are compared, evenly spaced."""
VALUES = 50
"""Values of a category that are compared by themselves, the most frequent in training; the others are one."""
SIGNIFICANT, NOTABLE = 0.05, 0.1
"""A drift has a corrected p-value below the first and an effect of at least the second: of many records, differences
that matter to nobody are significant."""
FEWEST, PERMUTATIONS = 5, 9999
"""Records that each cell of a table must expect for the chi-squared distribution to hold, and tables that are drawn
where one does not."""
TELLING = 20
"""Records of either side below which no drift is found for want of records."""
BLOCK = 1024
UNSEEN, MISSING = "(others)", "(none)"


@dataclass(frozen=True)
class Drift:
    """One comparison.

    Attributes:
        what: a column, or a part of the answer.
        test: ``"Kolmogorov-Smirnov"`` of numbers, ``"chi-squared"`` of categories.
        effect: the largest distance of both distribution functions, or half the sum of the distances of shares: 0 of
            equal distributions, 1 of such that share nothing.
        p: corrected for the number of comparisons (Holm).
        about: what the new records have that training has not.
    """

    what: str
    test: str
    effect: float
    p: float
    about: str = ""

    @property
    def found(self) -> bool:
        """Whether the distributions differ, and by more than little."""
        return self.p < SIGNIFICANT and self.effect >= NOTABLE


@dataclass(frozen=True)
class Drifts:
    """All comparisons, the largest effect first.

    Attributes:
        drifts: of columns with training, and of answers with those on the validation split, which was not trained on.
        records, references: how many new records, and training records, were compared.
        left: columns that are compared by the answers alone, and why; records without an answer.
    """

    drifts: tuple[Drift, ...]
    records: int
    references: int
    left: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """A table for a terminal, and what it says."""
        rows = [("", "effect", "p", "test", "")]
        for one in self.drifts:
            mark = "drift" if one.found else ""
            rows.append(
                (one.what, f"{one.effect:.3f}", f"{one.p:.2g}", one.test, "; ".join(filter(None, (mark, one.about))))
            )
        widths = [max(len(row[place]) for row in rows) for place in range(4)]
        lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[4]]).rstrip() for row in rows]
        found = [one.what for one in self.drifts if one.found]
        few = min(self.records, self.references) < TELLING
        nothing = f"too few records to tell, {TELLING} or more are needed" if few else "no drift"
        told = f"drift of {', '.join(found)}" if found else nothing
        lines.append(f"{told}: {self.records:,} new records beside {self.references:,} of training")
        lines.append(
            f"drift: p below {SIGNIFICANT}, corrected for {len(self.drifts)} comparisons (Holm), and an effect of "
            f"{NOTABLE} or more"
        )
        return [*lines, *self.left]


def drift(run: Run, data: str) -> Drifts:
    """Compare records with those that a run was trained on.

    Args:
        run: its model answers the records, too.
        data: a file or folder of new records, as `suite predict` reads them; they need no labels.

    Raises:
        InputError: the records lack a column that the model needs, or none can be read.
    """
    codec, task = run.codec, run.experiment.task
    new = _sampled(data, codec)
    count = len(next(iter(new.values()), ()))
    if not count:
        raise InputError("flag --data", "holds no records.", found=data, fix="name a file with rows")
    train, held_out = task.source("train"), task.source("validation")
    places = evenly_spaced(train, MOST)
    made: list[Drift] = []
    left = []
    for entry in codec.inputs:
        if entry.name not in new or entry.name not in train.schema:
            continue
        names = train.classes.get(entry.name)
        old = train.column(entry.name, places)
        old = [names[place] for place in np.asarray(old).tolist()] if names else old
        if entry.kind == "number":
            numbers = [_numbers(side, entry.name) for side in (old, new[entry.name])]
            if _have_numbers(numbers):
                made.append(_of_numbers(entry.name, *numbers))
            else:
                left.append(f"{entry.name} has no number on one side, and is compared by what is missing alone")
            absent = [np.where(np.isnan(side), MISSING, "there").tolist() for side in numbers]
            if any(MISSING in side for side in absent):
                made.append(_of_values(f"{entry.name}: missing", *absent))
        elif entry.kind == "text":
            lengths = [
                np.array([len(value or "") for value in tabular_values.texts(side)], float)
                for side in (old, new[entry.name])
            ]
            made.append(_of_numbers(f"{entry.name} (characters)", *lengths))
        elif entry.kind in ("category", "list", "date"):
            made.append(_of_values(entry.name, _values(old, entry.kind), _values(new[entry.name], entry.kind)))
        else:
            left.append(f"{entry.name} ({entry.kind}) is compared by the answers alone")
    known = held_out[evenly_spaced(held_out, MOST)]
    inputs = [entry.name for entry in codec.inputs]
    before, unanswered = _answers(run, {name: known[name] for name in inputs if name in known}, "validation")
    left += unanswered
    after, unanswered = _answers(run, new, "new")
    left += unanswered
    for output in codec.outputs:
        sides = [[answer[output.name] for answer in answers if output.name in answer] for answers in (before, after)]
        if not all(sides):
            continue
        if output.kind == "number":
            earlier, later = (np.array(side, float) for side in sides)
            if not _have_numbers((earlier, later)):
                left.append(f"answer: {output.name} has no number on one side, and is not compared")
                continue
            one = _of_numbers(f"answer: {output.name}", earlier, later)
            if output.name == FAMILIARITY:
                area = auc(np.concatenate([earlier, later]), np.arange(len(earlier) + len(later)) < len(earlier))
                told = f"tells new records from those of validation with an AUROC of {area:.3f}"
                one = replace(one, about="; ".join(filter(None, (told, one.about))))
            made.append(one)
        elif output.kind == "class":
            made.append(_of_values(f"answer: {output.name}", *(list(map(str, side)) for side in sides)))
    corrected = holm([one.p for one in made])
    drifts = [Drift(one.what, one.test, one.effect, p, one.about) for one, p in zip(made, corrected, strict=True)]
    return Drifts(tuple(sorted(drifts, key=lambda one: -one.effect)), count, len(places), tuple(left))


def _sampled(data: str, codec: Codec) -> dict[str, list[Any]]:
    """Columns of at most `MOST` records, evenly spaced."""
    records = open_records(data, codec)
    wanted = evenly_spaced(range(records.count), MOST)
    columns: dict[str, list[Any]] = {}
    start = 0
    for _, block in records.blocks(0, BLOCK):
        size = len(next(iter(block.values()), ()))
        inside = (wanted[(wanted >= start) & (wanted < start + size)] - start).tolist()
        for name, values in block.items():
            columns.setdefault(name, []).extend(values[place] for place in inside)
        start += size
    return columns


def _answers(run: Run, columns: Mapping[str, Any], which: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The answers to ``which`` records, and what is to be said of those that cannot be answered."""
    each = run.predict_each(columns)
    refused = [str(answer).splitlines()[0] for answer in each if not isinstance(answer, dict)]
    told = (
        [f"{len(refused):,} of {len(each):,} {which} records have no answer, the first: {refused[0]}"]
        if refused
        else []
    )
    return [answer for answer in each if isinstance(answer, dict)], told


def _numbers(values: Sequence[Any] | np.ndarray, name: str) -> np.ndarray:
    try:
        return tabular_values.numbers(values, name)
    except InputError as error:
        fix = "correct the value, or leave it empty"
        raise InputError(error.where, error.problem, found=error.found, fix=fix) from None


def _values(values: Sequence[Any] | np.ndarray, kind: str) -> list[str]:
    if kind == "list":
        return [item for row in tabular_values.items(list(values), "|") for item in row]
    texts = [value or MISSING for value in tabular_values.texts(values)]
    return [value[:7] for value in texts] if kind == "date" else texts  # a month


def _have_numbers(sides: Sequence[np.ndarray]) -> bool:
    return all((~np.isnan(side)).any() for side in sides)


def _of_numbers(what: str, old: np.ndarray, new: np.ndarray) -> Drift:
    from scipy.stats import ks_2samp

    missing = [float(np.isnan(side).mean()) for side in (old, new)]
    about = f"{missing[1]:.1%} missing, {missing[0]:.1%} in training" if abs(missing[1] - missing[0]) >= 0.01 else ""
    old, new = old[~np.isnan(old)], new[~np.isnan(new)]
    result = ks_2samp(old, new)
    return Drift(what, "Kolmogorov-Smirnov", float(result.statistic), float(result.pvalue), about)


def _of_values(what: str, old: Sequence[str], new: Sequence[str]) -> Drift:
    from scipy.stats import chi2_contingency

    names, counts = np.unique(list(old), return_counts=True)
    kept = names[np.argsort(-counts, kind="stable")[:VALUES]].tolist()
    place = {name: number for number, name in enumerate(kept)}
    table = np.zeros((2, len(kept) + 1))
    for row, side in enumerate((old, new)):
        np.add.at(table[row], [place.get(value, len(kept)) for value in side], 1)
    unseen = sum(value not in set(names.tolist()) for value in new) / max(len(new), 1)
    about = f"{unseen:.1%} of values that training has not" if unseen else ""
    table = table[:, table.sum(0) > 0]
    if table.shape[1] < 2:
        return Drift(what, "chi-squared", 0.0, 1.0, about)
    shares = table / table.sum(1, keepdims=True)
    effect = float(np.abs(shares[0] - shares[1]).sum() / 2)
    result = chi2_contingency(table)
    if result.expected_freq.min() >= FEWEST:
        return Drift(what, "chi-squared", effect, float(result.pvalue), about)
    return Drift(what, "chi-squared, permuted", effect, _permuted(table), about)


def _permuted(table: np.ndarray) -> float:
    """The p-value of the chi-squared statistic of a table (2, k) among tables of the same margins, which are what
    permuted records give: its distribution is not that of many records where a cell expects few."""
    rng = np.random.default_rng(0)
    columns, rows = table.sum(0).astype(int), table.sum(1)
    drawn = rng.multivariate_hypergeometric(columns, int(rows[1]), PERMUTATIONS, method="marginals")
    expected = rows[1] * columns / rows.sum()
    # Of two rows the statistic rises with the distance of one of them.
    distance = lambda row: (np.square(row - expected) / expected).sum(-1)
    return float((1 + (distance(drawn) >= distance(table[1]) - 1e-9).sum()) / (1 + PERMUTATIONS))
