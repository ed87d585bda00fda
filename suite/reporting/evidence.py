"""All that a run folder and an evaluation say of a run, and what they don't: each thing that is missing, with why."""

import functools
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from suite.contracts.artifact import Artifact
from suite.data.sources.memory import SPLITS
from suite.errors import InputError, closest
from suite.evaluation.baselines import TooSlow
from suite.evaluation.bootstrap import Scores
from suite.experiment.sections import Experiment
from suite.runs import baselines, run, verbs
from suite.runs.baselines import Comparison
from suite.runs.run import Run
from suite.runtime import json_files
from suite.training.logging.jsonl import history

T = TypeVar("T")


@dataclass(frozen=True)
class Missing:
    """Something that the report cannot say. ``why`` is an error's own text."""

    what: str
    why: str


@dataclass
class Evidence:
    """What is known of a run.

    Attributes:
        folder: the run folder.
        experiment: as it was begun with.
        run: opened; None where its assets are missing.
        split: what was evaluated; empty where nothing was.
        scores: of that split.
        exhibits: of that split, by title.
        on_goal: scores of the goal's split, where that is another.
        history: what was logged, by column.
        result: ``result.json``, or nothing.
        versions: packages that training ran on.
        baseline: classical models on the same split; None where there is none.
        tuned: ``verdict.json`` of the search that this run came out of, or nothing.
        compressions: ``compression.json`` of this run, then of those made from it.
        missing: what is not there.
    """

    folder: Path
    experiment: Experiment
    run: Run | None = None
    split: str = ""
    scores: Scores | None = None
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    on_goal: Scores | None = None
    history: dict[str, list[Any]] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    baseline: Comparison | None = None
    tuned: dict[str, Any] = field(default_factory=dict)
    compressions: list[dict[str, Any]] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)

    @property
    def trained(self) -> dict[str, Any]:
        """What training said of itself in ``result.json``; older files hold what the last verb found, and no more."""
        own = self.result if self.result.get("verb") == "train" else {}
        return self.result.get("trained", own)

    @property
    def goal_scores(self) -> Scores | None:
        """Scores of the split that the goal is set on."""
        goal = self.experiment.goal
        return None if goal is None else self.scores if goal.on == self.split else self.on_goal

    def tried(self, what: str, ask: Callable[[], T]) -> T | None:
        """What ``ask`` gives; where it is refused, None, and why is noted."""
        try:
            return ask()
        except InputError as error:
            self.missing.append(Missing(what, str(error).removeprefix(f"{what}: ")))
            return None


def gather(
    folder: str | Path, split: str = "", beside: Sequence[str | Path] = (), allow: tuple[str, ...] = ()
) -> Evidence:
    """Open and evaluate the run in ``folder``, as far as that can be done.

    Args:
        folder: the run folder, or that of a search, which stands for the run it chose.
        split: what to evaluate; empty: the goal's split, else test where it is labelled, else validation.
        beside: run folders that were made from this one.
        allow: packages whose classes the run's experiment may name.

    Raises:
        InputError: the folder is no run, one of ``beside`` was not made from it, or there is no such split.
    """
    if split and split not in SPLITS:
        raise InputError(f'--split "{split}"', "is no split.", found=", ".join(SPLITS), fix=closest(split, SPLITS))
    place = _chosen(Path(folder))
    evidence = Evidence(place, verbs.stored(place, allow))
    evidence.history = history(place)
    evidence.result, evidence.versions = read_json(place / "result.json"), read_json(place / "versions.json")
    evidence.tuned = read_json(place / "verdict.json") or _verdict_on(place)
    own = read_json(place / "compression.json")
    evidence.compressions = [own] if own else []
    evidence.compressions += [_made_from(place, Path(other)) for other in beside]
    if not own:  # else there may have been no training
        evidence.missing += _untold(evidence)
    evidence.run = evidence.tried("evaluation", lambda: run.open(place, allow))
    if evidence.run is not None and evidence.tried("evaluation", evidence.run.check) is not None:
        _evaluate(evidence, evidence.run, split)
    return evidence


def _untold(evidence: Evidence) -> list[Missing]:
    """What a run that was trained to its end would have told."""
    missing = []
    if len(evidence.history["step"]) < 2:
        missing.append(Missing("curves", "metrics.jsonl holds no course of training."))
    if not evidence.result.get("trained", evidence.result):
        missing.append(
            Missing(
                "the end of training",
                "Training has not ended, or was not told of in result.json. "
                f"It goes on with: suite train --resume {evidence.folder}",
            )
        )
    return missing


def _evaluate(evidence: Evidence, run: Run, wanted: str) -> None:
    goal = evidence.experiment.goal
    for split in [wanted] if wanted else dict.fromkeys([*([goal.on] if goal else []), "test", "validation"]):
        examined = evidence.tried(f"evaluation on {split}", functools.partial(run.examine, split))
        if examined is not None:
            evidence.split, (evidence.scores, evidence.artifacts) = split, examined
            break
    if evidence.split:
        evidence.baseline = _baseline(evidence, run)
    if goal is not None and evidence.split and goal.on != evidence.split and wanted:
        evidence.on_goal = evidence.tried(f"evaluation on {goal.on}", functools.partial(run.scores, goal.on))


def _baseline(evidence: Evidence, run: Run) -> Comparison | None:
    """What ``baseline.json`` says of the split; measured now where the experiment asks for a baseline."""
    if evidence.split not in baselines.HELD_OUT:
        return None
    known = baselines.stored(run.folder, evidence.split)
    if known is not None or not run.experiment.train.baseline or not run.experiment.task.baselines():
        return known

    def measured() -> Comparison:
        try:
            return baselines.baseline(run, evidence.split, baselines.BESIDE_TRAINING)
        except TooSlow:
            command = shlex.join(["suite", "baseline", str(run.folder), "--split", evidence.split])
            problem = f"given up after {baselines.BESIDE_TRAINING:.0f} s of reading."
            raise InputError("baseline", problem, fix=command) from None

    return evidence.tried("baseline", measured)


def _chosen(folder: Path) -> Path:
    """The folder itself, or the run that a search in it chose."""
    if (folder / "experiment.json").is_file():
        return folder
    chosen = read_json(folder / "verdict.json").get("chosen") or {}
    return folder / chosen.get("folder", "")


def _verdict_on(folder: Path) -> dict[str, Any]:
    """The verdict of a search that chose this run: searches keep their trials in ``trials/``."""
    search = folder.absolute().parent.parent
    verdict = read_json(search / "verdict.json")
    return verdict if verdict.get("chosen") and _chosen(search).resolve() == folder.resolve() else {}


def _made_from(folder: Path, other: Path) -> dict[str, Any]:
    """What ``other`` says of how it was made from this run."""
    outcome = read_json(other / "compression.json")
    if not outcome:
        raise InputError(
            f'--with "{other}"',
            "has no compression.json: it is no run that was made from another.",
            fix="the folder that suite compress printed last",
        )
    of = Path(outcome["of"])
    if folder.resolve() not in (of.resolve(), (other / of).resolve()):
        raise InputError(f'--with "{other}"', f"was not made from {folder}.", found=outcome["of"])
    return {**outcome, "folder": str(other)}


def read_json(path: Path) -> dict[str, Any]:
    """What a file of a run folder holds; nothing where there is none, or half of one."""
    try:
        content = json_files.read_object(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
