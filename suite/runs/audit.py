"""Audit: a lower bound on what a run's weights tell of single records, by guessing which canaries it was trained on.

One run is enough, since each canary was left out by a coin of its own (`Steinke et al., 2023
<https://arxiv.org/abs/2305.08846>`_). Whoever guesses knows the weights and the records; the score of a record is its
loss.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from suite.data.sources.memory import Subset
from suite.errors import InputError
from suite.evaluation.metrics.ranking import auc
from suite.runs.run import Run
from suite.runtime import files, json_files
from suite.training import canaries, privacy

FILE = "audit.json"
CONFIDENCE = 0.95
SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of the canaries that are guessed, the surest first."""
SIDES = ("in", "out", "both")
"""What is guessed: that the lowest losses were trained on, that the highest were not, or half of each."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What guessing found out.

    Attributes:
        epsilon: lower bound, with confidence ``CONFIDENCE``; 0: guessing told nothing.
        delta: that it is at.
        side, guesses, correct: of the guesses that gave it.
        auc: chance that a canary that was trained on has a lower loss than one that was not.
        canaries, included: how many there are, and how many were trained on.
        stated: epsilon that the run guarantees; None where it guarantees none.
    """

    epsilon: float
    delta: float
    side: str
    guesses: int
    correct: int
    auc: float
    canaries: int
    included: int
    stated: float | None

    @property
    def lines(self) -> list[str]:
        """For people."""
        told = f"epsilon is at least {self.epsilon:.3g}" if self.epsilon else "nothing can be told of epsilon"
        line = (
            f"Audit by {self.canaries:,} canaries, {self.included:,} of which were trained on: {told} "
            f"({CONFIDENCE:.0%} confidence, delta {privacy.digits(self.delta)}); {self.correct:,} of "
            f"{self.guesses:,} guesses right, AUC of the loss {self.auc:.3f}."
        )
        if self.stated is None:
            return [line, "The run guarantees nothing: it was trained without privacy."]
        holds = "which holds" if self.epsilon <= self.stated else "WHICH THE AUDIT REFUTES"
        return [line, f"The run guarantees at most {self.stated:.3g}, {holds}."]


def audit(run: Run) -> Audit:
    """Guess which canaries a run was trained on; what was found is kept in ``audit.json`` of its folder.

    Args:
        run: trained with ``privacy.canaries``.

    Raises:
        InputError: it has no canaries, or its loss does not split by record.
    """
    experiment = run.experiment
    if not experiment.privacy.canaries:
        count = min(len(experiment.task.source("train")), 1000)
        raise InputError(
            f'run "{run.folder}"',
            "was trained without canaries, records of which a coin left out each second one.",
            fix=f"the command of its training with --privacy.canaries {count}",
        )
    if not (run.folder / privacy.KEY).is_file():
        raise InputError(f'run "{run.folder}"', f"has lost its {privacy.KEY}, which says what was left out.")
    source = experiment.task.source("train")
    chosen = canaries.drawn(experiment.privacy, run.folder, len(source))
    losses = _losses(run, Subset(canaries.changed(experiment.privacy, chosen, source), chosen.places))
    guarantee = privacy.read(run.folder)
    delta = guarantee.delta if guarantee else experiment.privacy.delta_for(len(source))
    bound, side, guesses, correct = lower_bound(-losses, chosen.included, delta)
    result = Audit(
        epsilon=bound,
        delta=delta,
        side=side,
        guesses=guesses,
        correct=correct,
        auc=auc(-losses, chosen.included) if 0 < chosen.included.sum() < len(losses) else 0.5,
        canaries=len(losses),
        included=int(chosen.included.sum()),
        stated=guarantee.epsilon if guarantee else None,
    )
    files.write_text(run.folder / FILE, json.dumps(dataclasses.asdict(result), indent=2) + "\n")
    return result


def stored(folder: Path) -> Audit | None:
    """What an audit of the run in ``folder`` found; None where there was none.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / FILE
    return json_files.load(path, lambda content: json_files.built(Audit, content)) if path.is_file() else None


def _losses(run: Run, source: Subset) -> np.ndarray:
    scores = run.score(source, run.reference("train")).sorted()
    rows = scores.rows.get("loss")
    if not rows:
        raise InputError(f'run "{run.folder}"', "cannot be audited: its task has no loss of single records.")
    return np.array([row.value() for row in rows])


def lower_bound(
    scores: np.ndarray, included: np.ndarray, delta: float, confidence: float = CONFIDENCE
) -> tuple[float, str, int, int]:
    """The largest epsilon that guesses refute, over `SIDES` and `SHARES` with Bonferroni's correction; and of these
    guesses the side, the number, and how many are right.

    Args:
        scores: (n,) higher where a canary is likelier to have been trained on.
        included: (n,) whether it was.
        delta: of the guarantee to refute.
        confidence: that the bound holds.
    """
    order = np.argsort(-scores, kind="stable")
    alpha = (1 - confidence) / (len(SIDES) * len(SHARES))
    best = (0.0, "both", 0, 0)
    for side in SIDES:
        for share in SHARES:
            count = int(share * len(scores))
            first = {"in": count, "out": 0, "both": count // 2}[side]
            last = count - first
            correct = int(included[order[:first]].sum() + (~included[order[len(order) - last :]]).sum())
            bound = one_run_bound(len(scores), count, correct, delta, alpha)
            if bound > best[0] or not best[2]:
                best = (bound, side, count, correct)
    return best


def one_run_bound(canaries: int, guesses: int, correct: int, delta: float, alpha: float) -> float:
    """The largest epsilon under which so many right guesses have a probability of at most ``alpha`` (Theorem 5.2)."""
    low, high = 0.0, 1.0
    if guesses == 0 or _chance(canaries, guesses, correct, 0.0, delta) > alpha:
        return 0.0
    while high < 64 and _chance(canaries, guesses, correct, high, delta) <= alpha:
        low, high = high, 2 * high
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if _chance(canaries, guesses, correct, middle, delta) <= alpha else (low, middle)
    return low


def _chance(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """An upper bound of the probability that ``correct`` or more guesses are right under (epsilon, delta)."""
    from scipy.stats import binom  # half a second

    right = 1 / (1 + np.exp(-epsilon))
    tail = float(binom.sf(correct - 1, guesses, right))
    below = np.arange(1, correct + 1)
    steps = np.cumsum(binom.pmf(correct - below, guesses, right)) / below
    return min(tail + 2 * canaries * delta * float(steps.max(initial=0.0)), 1.0)
