"""Fits a Decision on the validation split: the temperature of probabilities, and the threshold that answers are given
from. Dims: n records, c classes or labels."""

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from suite.contracts.batch import Batch
from suite.contracts.metric_meaning import meaning
from suite.contracts.preprocessor import Conclusion
from suite.data.preprocessing.decision import (
    EVEN,
    Aim,
    Decision,
    answered_classes,
    class_probabilities,
    event_probabilities,
)
from suite.errors import InputError
from suite.evaluation import conformal
from suite.evaluation.artifacts import Calibration

Kind = Literal["classes", "event", "labels", "goals"]
"""Of what the logits are: classes (n, c); an event, as log odds (n,) or two classes (n, 2); labels, log odds (n, c), or
several goals (n, g)."""
FIELD = "decision"
"""Field of a task that holds its Decision."""
COLDEST, HOTTEST = 0.05, 20.0
"""Between which a temperature lies."""
HALVINGS = 60


def conclude(
    decision: Decision,
    kind: Kind,
    evaluated: Iterable[tuple[Mapping[str, np.ndarray], Batch]],
    key: str,
    event: str = "the event",
) -> dict[str, Conclusion]:
    """Conclusions of `Task.conclude` for a task with a Decision; none where it asks for nothing, or no record is known.

    Args:
        decision: what is asked for.
        kind: of what the ``logits`` of the outputs are.
        evaluated: see `Task.conclude`.
        key: of the batch, what is right: classes (b,), below 0 where training does not have it; of labels (b, c).
        event: what the event is called.

    Raises:
        InputError: see ``check``.
    """
    check(decision, kind)
    if not asks(decision):
        return {}
    logits, right = _joined(evaluated, key)
    if not len(right):
        return {}
    whole = logits if logits.ndim == 2 else np.stack([np.zeros_like(logits), logits], 1)
    if kind == "event" and logits.ndim == 2:
        logits = logits[:, 1] - logits[:, 0]
    temperature = fitted_temperature(logits, right) if decision.calibration == "temperature" else 1.0
    notes = []
    if decision.calibration == "temperature":
        before, after = (calibration_error(logits / heat, right) for heat in (1.0, temperature))
        notes.append(
            f"Probabilities are calibrated by a temperature of {temperature:.3g}, fitted on {len(right):,} records of "
            f"validation: there the expected calibration error was {before:.4f} and is {after:.4f}."
        )
    thresholds: list[float] = []
    if decision.threshold:
        shares = event_probabilities(logits / temperature)
        columns = (shares[:, None], right[:, None]) if kind == "event" else (shares, right)
        thresholds = [
            best_threshold(said, real > 0.5, decision.threshold)
            for said, real in zip(columns[0].T, columns[1].T, strict=True)
        ]
        what = f"{event[:1].upper()}{event[1:]} is" if kind == "event" else "Each label is"
        notes.append(_told(what, decision.threshold, thresholds, *columns))
    content = {"temperature": temperature, "thresholds": thresholds, "notes": notes}
    if kind in ("classes", "event"):
        shares = conformal.of_all_classes(logits / temperature)
        answered = answered_classes(shares, *thresholds)
        more, told = conformal.learnt_of_classes(decision, shares, right, answered)
        content |= more
        notes += told
    if decision.familiarity != "none":
        more, told = conformal.learnt_of_strangeness(decision, whole / temperature)
        content |= more
        notes += told
    return {FIELD: Conclusion(content, tuple(notes))}


def conclude_number(
    decision: Decision, evaluated: Iterable[tuple[Mapping[str, np.ndarray], Batch]], key: str
) -> dict[str, Conclusion]:
    """The same for a task that predicts a number, ``value`` (b,) of the outputs against ``key`` of the batch."""
    check(decision, None)
    if not decision.coverage:
        return {}
    distances = [
        np.abs(np.asarray(outputs["value"], np.float64) - batch[key])[np.asarray(batch["mask"])]
        for outputs, batch in evaluated
    ]
    known = np.concatenate(distances)
    known = known[~np.isnan(known)]
    if not len(known):
        return {}
    content, notes = conformal.learnt_of_numbers(decision, known)
    return {FIELD: Conclusion({**content, "notes": notes}, tuple(notes))}


def asks(decision: Decision) -> bool:
    """Whether anything is to be learnt."""
    return decision != Decision(file=decision.file)


def check(decision: Decision, kind: Kind | None) -> None:
    """Check that what is asked for can be learnt; said before training.

    Args:
        decision: what is asked for.
        kind: of what the logits are; None where a number is predicted.

    Raises:
        InputError: a threshold of several classes, or anything of a number.
    """
    if decision.threshold and kind in ("classes", None):
        raise InputError(
            f"field task.{FIELD}.threshold",
            "is of two classes or of labels; of several classes the likeliest is answered."
            if kind
            else "is of classes or labels, and a number is predicted.",
            found=decision.threshold,
            fix=f"--task.{FIELD}.threshold ''",
        )
    for name, what in (("coverage", "a probability from 0 to below 1"), ("abstention", "a share from 0 to below 1")):
        value = getattr(decision, name)
        if not 0 <= value < 1:
            raise InputError(
                f"field task.{FIELD}.{name}", f"must be {what}.", found=f"{value:g}", fix=f"--task.{FIELD}.{name} 0.9"
            )
    several = {"labels": "a record has several labels", "goals": "several goals are predicted"}.get(str(kind))
    if several and (decision.coverage or decision.abstention):
        name = "coverage" if decision.coverage else "abstention"
        problem = f"is of one class of several, or of a number; {several}."
        raise InputError(f"field task.{FIELD}.{name}", problem, fix=f"--task.{FIELD}.{name} 0")
    if decision.abstention and kind is None:
        problem = "is of probabilities, and a number is predicted; task.decision.coverage gives it an interval."
        raise InputError(f"field task.{FIELD}.abstention", problem, fix=f"--task.{FIELD}.abstention 0")
    if decision.familiarity != "none" and (several or kind is None):
        what = several or "a number is predicted"
        problem = f"is by the logits of one class of several, and {what}."
        raise InputError(f"field task.{FIELD}.familiarity", problem, fix=f"--task.{FIELD}.familiarity none")
    if decision.calibration != "none" and kind is None:
        raise InputError(
            f"field task.{FIELD}.calibration",
            "is of probabilities, and a number is predicted.",
            found=decision.calibration,
            fix=f"--task.{FIELD}.calibration none",
        )


def _told(what: str, aim: Aim, chosen: list[float], shares: np.ndarray, right: np.ndarray) -> str:
    happened = right > 0.5
    if (happened.all(0) | ~happened.any(0)).all():
        return f"{what} answered from a probability of {EVEN} on: all records of validation are alike."
    reached = [
        np.nanmean(
            [_reached(said, real > 0.5, aim, at) for said, real, at in zip(shares.T, right.T, levels, strict=True)]
        )
        for levels in ([EVEN] * len(chosen), chosen)
    ]
    name = meaning(aim).title if len(chosen) == 1 else f"mean {meaning(aim).title}"
    span = f"{chosen[0]:.3f}" if len(chosen) == 1 else f"its own, {min(chosen):.3f} to {max(chosen):.3f}"
    return (
        f"{what} answered from a probability of {span} on, which was best by {name} of {len(right):,} records of "
        f"validation: {reached[1]:.4f}, against {reached[0]:.4f} at 0.5. Measured there, it is somewhat too good."
    )


def _joined(evaluated: Iterable[tuple[Mapping[str, np.ndarray], Batch]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits and what is right of all unmasked records, without those of classes that training does not have."""
    logits, right = [], []
    for outputs, batch in evaluated:
        mask = np.asarray(batch["mask"])
        logits.append(np.asarray(outputs["logits"], np.float64)[mask])
        right.append(np.asarray(batch[key])[mask])
    said, real = np.concatenate(logits), np.concatenate(right)
    known = real >= 0 if real.ndim == 1 else np.ones(len(real), bool)
    return said[known], real[known]


def cross_entropy(logits: np.ndarray, right: np.ndarray) -> float:
    """Mean cross-entropy in nats: of classes where ``right`` (n,) stands against (n, c); else of log odds (...)."""
    if logits.ndim == right.ndim:
        return float((np.logaddexp(0, logits) - right * logits).mean())
    shifted = logits - logits.max(-1, keepdims=True)
    picked = np.take_along_axis(shifted, right.astype(np.int64)[:, None], -1)[:, 0]
    return float((np.log(np.exp(shifted).sum(-1)) - picked).mean())


def fitted_temperature(logits: np.ndarray, right: np.ndarray) -> float:
    """The temperature of the least cross-entropy, which is convex in its inverse: by golden sections (Guo et al., 2017,
    arXiv 1706.04599)."""
    golden = (5**0.5 - 1) / 2
    low, high = 1 / HOTTEST, 1 / COLDEST
    at = lambda inverse: cross_entropy(logits * inverse, right)
    left, near = high - golden * (high - low), low + golden * (high - low)
    of_left, of_near = at(left), at(near)
    for _ in range(HALVINGS):  # one of the two points stays in each
        if of_left <= of_near:
            high, near, of_near = near, left, of_left
            left = high - golden * (high - low)
            of_left = at(left)
        else:
            low, left, of_left = left, near, of_near
            near = low + golden * (high - low)
            of_near = at(near)
    return 2 / (low + high)


def calibration_error(logits: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: of classes that of the likeliest one, else of the event or of all labels."""
    if logits.ndim == right.ndim:
        return Calibration.of("", event_probabilities(logits).ravel(), (right > 0.5).ravel()).error
    shares = class_probabilities(logits)
    return Calibration.of("", shares.max(-1), shares.argmax(-1) == right).error


def best_threshold(shares: np.ndarray, right: np.ndarray, aim: Aim) -> float:
    """The threshold of the best value of a metric, midway between the two probabilities that it parts; of equal values
    the one nearest to one half. One half where the records are all alike.

    Args:
        shares: (n,) probabilities.
        right: (n,) bool.
        aim: the metric.
    """
    if not 0 < right.sum() < len(right):
        return EVEN
    order = np.argsort(shares, kind="stable")
    ranked, ones = shares[order], right[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of each distinct probability
    below = np.concatenate([[0], last + 1])
    missed = np.concatenate([[0], np.cumsum(ones)[last]])
    values = _measured(below, missed, len(right), int(right.sum()), aim)
    distinct = ranked[last]
    between = np.concatenate([[distinct[0]], (distinct[1:] + distinct[:-1]) / 2, [np.nextafter(distinct[-1], 2)]])
    best = np.flatnonzero(values >= values.max() - 1e-12)
    return float(between[best[np.abs(between[best] - EVEN).argmin()]])


def _reached(shares: np.ndarray, right: np.ndarray, aim: Aim, threshold: float) -> float:
    """The metric at a threshold; nan where the records are all alike."""
    if not 0 < right.sum() < len(right):
        return float("nan")
    below = shares < threshold
    counts = np.array([below.sum()]), np.array([(below & right).sum()])
    return float(_measured(*counts, len(right), int(right.sum()), aim)[0])


def _measured(below: np.ndarray, missed: np.ndarray, count: int, real: int, aim: Aim) -> np.ndarray:
    """A metric (k,) at k thresholds, ``below`` which so many of ``count`` records lie, ``missed`` of the ``real`` ones
    among them."""
    hits, said = real - missed, count - below
    if aim == "f1":
        return 2 * hits / (real + said)
    rejected = below - missed
    if aim == "balanced_accuracy":
        return (hits / real + rejected / (count - real)) / 2
    return (hits + rejected) / count
