"""Explanations of a split of a run: importance, and the measures of each method, kept in ``explanations.json``."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suite.data.sources.memory import evenly_spaced
from suite.errors import InputError
from suite.evaluation.bootstrap import Difference, Interval
from suite.explaining import importance
from suite.explaining.explainer import Case, Explainer
from suite.explaining.explanation import Explanation, shown
from suite.explaining.importance import Importance
from suite.explaining.measures import FILLINGS, Curves, Verdict, curves, ranked_alike, verdict
from suite.explaining.methods import METHODS, method
from suite.runs.run import Run
from suite.runtime import files, json_files
from suite.tree import map_paths, paths

FILE = "explanations.json"
CHEAP = ("integrated-gradients", "gradcam", "attention", "attention-rollout", "occlusion")
"""Methods that a check measures where none is named; Shapley values take hundreds of questions a record."""


@dataclass(frozen=True)
class Checked:
    """What explanations of a split say, and how far they hold.

    Attributes:
        split: whose records.
        importance: what the model uses on the whole.
        verdicts: method -> what is known of it on this run.
        left: method -> why it does not explain this run.
    """

    split: str
    importance: Importance
    verdicts: dict[str, Verdict]
    left: dict[str, str]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """A table of the measures, its head first."""
        head = ("method", "completeness error", "deletion", "deletion, records", "insertion", "insertion, records")
        rows: list[tuple[str, ...]] = [(*head, "head shuffled", "all shuffled")]
        for one in self.verdicts.values():
            middle, high = one.completeness
            complete = "" if math.isnan(middle) else f"{middle:.2%}, 95 % below {high:.2%}"
            shares = [of.get(filling) for of in (one.deletion, one.insertion) for filling in FILLINGS]
            alike = [one.randomised.get(stage) for stage in ("head", "all")]
            percents = ["" if i is None else f"{i.value:+.0%} ({i.low:+.0%} to {i.high:+.0%})" for i in shares]
            numbers = ["" if i is None else f"{i.value:.2f} ({i.low:.2f} to {i.high:.2f})" for i in alike]
            rows.append((one.method, complete, *percents, *numbers))
        return rows

    @property
    def faults(self) -> list[str]:
        """Methods that fail a test on this run, a line each, and those that do not apply."""
        failed = [f"{name} fails on this run: {fault}" for name, one in self.verdicts.items() for fault in one.faults]
        return [*failed, *(f"{name} does not apply: {why}" for name, why in self.left.items())]

    @property
    def lines(self) -> list[str]:
        """For a terminal."""
        found = self.importance
        lines = [f"mean size of attributions by {found.method} on {self.split}:"]
        width = max(map(len, found.attributed), default=0)
        for name, one in found.attributed.items():
            lines.append(f"  {name:{width}}  {shown(one.value)} ({shown(one.low)} to {shown(one.high)})")
        if found.exchanged:
            lines.append(f"how much worse {found.metric} is where a column has the values of other records:")
            width = max(map(len, found.exchanged))
            lines += [f"  {name:{width}}  {gap}, p {gap.p:.3f}" for name, gap in found.exchanged.items()]
        head, *rows = self.rows
        records = max((one.records for one in self.verdicts.values()), default=0)
        lines.append(f"measures of {records} records of {self.split}, with 95 % intervals:")
        for row in rows:
            lines.append(f"  {row[0]}")
            lines += [f"    {name}: {cell}" for name, cell in zip(head[1:], row[1:], strict=True) if cell]
        return [*lines, *self.faults]


def check(
    run: Run,
    split: str = "validation",
    methods: Sequence[str] = (),
    records: int = 50,
    seed: int = 0,
    told: Callable[[str], None] = lambda line: None,
) -> Checked:
    """Explain records of a split by several methods, and measure the explanations; kept in the run folder.

    Args:
        run: which.
        split: whose records.
        methods: names; none: `CHEAP` ones that apply.
        records: how many, evenly spaced.
        seed: of random orders, of the records that fill gaps and of the shuffled weights.
        told: is given a line before each method.

    Raises:
        InputError: there is no such method, or none applies.
    """
    for name in methods:
        method(name)
    source = run.experiment.task.source(split)
    explainer, rng = Explainer(run), np.random.default_rng(seed)
    names = [entry.name for entry in run.codec.inputs if entry.name in source.schema]
    places = evenly_spaced(source, records)
    columns = source[places]
    cases = [explainer.case({name: [columns[name][place]] for name in names}) for place in range(len(places))]
    shuffled = stages(explainer, rng)
    verdicts: dict[str, Verdict] = {}
    left: dict[str, str] = {}
    explained: dict[str, list[Explanation]] = {}
    for name in methods or CHEAP:
        told(f"{name} of {len(cases)} records")
        try:
            explained[name] = [METHODS[name](explainer, case) for case in cases]
        except InputError as error:
            if methods:
                raise
            left[name] = error.problem.rstrip(".")
            continue
        verdicts[name] = _measured(name, explainer, cases, explained[name], shuffled, rng)
    if not explained:
        raise InputError("explanation", "no method applies.", found="; ".join(left.values()))
    first = next(iter(explained))
    metric, worse = importance.exchanged(run, split, seed)
    found = Checked(split, Importance(first, importance.attributed(explained[first]), metric, worse), verdicts, left)
    files.write_text(run.folder / FILE, json.dumps(dataclasses.asdict(found), indent=1) + "\n")
    return found


def _measured(
    name: str,
    explainer: Explainer,
    cases: Sequence[Case],
    explanations: Sequence[Explanation],
    shuffled: Mapping[str, Explainer],
    rng: np.random.Generator,
) -> Verdict:
    areas: dict[str, list[Curves]] = {filling: [] for filling in FILLINGS}
    for place, (case, one) in enumerate(zip(cases, explanations, strict=True)):
        other = cases[(place + 1 + int(rng.integers(max(len(cases) - 1, 1)))) % len(cases)]
        for filling, filled in zip(FILLINGS, (None, other), strict=True):
            if filled is not case:
                areas[filling].append(curves(explainer, case, one.order, rng, filled))
    alike = {
        stage: [
            ranked_alike(one.values, METHODS[name](other, other.again(case)).values)
            for case, one in zip(cases, explanations, strict=True)
        ]
        for stage, other in shuffled.items()
    }
    return verdict(name, explanations, {filling: rows for filling, rows in areas.items() if rows}, alike)


def stages(explainer: Explainer, rng: np.random.Generator) -> dict[str, Explainer]:
    """The run with the weights of its head shuffled, of its upper half, and of all: ``head``, ``half``, ``all``."""
    model, (params, state) = explainer.run.experiment.model, explainer.weights
    names = paths(params)
    depths = {name: model.layer_of(name) for name in names}
    head = {name for name in names if re.search(model.head, name)} or {n for n in names if depths[n] >= model.depth}
    order = {"head": head, "half": head | {name for name in names if depths[name] > model.depth / 2}, "all": set(names)}
    mixed = {name: rng.permutation(np.asarray(leaf).reshape(-1)).reshape(leaf.shape) for name, leaf in names.items()}
    chosen = {stage: of for stage, of in order.items() if stage != "half" or of not in (head, set(names))}

    def with_shuffled(of: set[str]) -> Explainer:
        return explainer.with_weights(map_paths(lambda name, leaf: mixed[name] if name in of else leaf, params), state)

    return {stage: with_shuffled(of) for stage, of in chosen.items()}


def read(folder: Path) -> Checked | None:
    """What `check` found last of the run in ``folder``; None where it was never asked.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / FILE
    return json_files.load(path, _of_content) if path.is_file() else None


def _of_content(content: Any) -> Checked:
    of = json_files.built_by_name
    about = content["importance"]
    found = Importance(
        str(about["method"]),
        of(Interval, about["attributed"]),
        str(about["metric"]),
        of(Difference, about["exchanged"]),
    )
    verdicts = {
        str(name): Verdict(
            str(one["method"]),
            int(one["records"]),
            (float(one["completeness"][0]), float(one["completeness"][1])),
            of(Interval, one["deletion"]),
            of(Interval, one["insertion"]),
            of(Interval, one["randomised"]),
        )
        for name, one in content["verdicts"].items()
    }
    return Checked(str(content["split"]), found, verdicts, {str(n): str(w) for n, w in content["left"].items()})
