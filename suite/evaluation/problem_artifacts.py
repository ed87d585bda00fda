"""Artifacts of predictions by their problem. Dims: n records, c labels."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from suite.contracts.artifact import Artifact
from suite.data.preprocessing.decision import EVEN, Decision, event_probabilities
from suite.data.preprocessing.target import Target
from suite.evaluation.artifacts import (
    MOST_CURVES,
    Calibration,
    Example,
    Gallery,
    Given,
    LabelCounts,
    PrecisionRecall,
    Scatter,
    Spread,
    class_artifacts,
)


def problem_artifacts(
    answer: Target,
    target: str,
    outputs: Mapping[str, np.ndarray],
    targets: np.ndarray,
    given: Callable[[int], Given],
    decision: Decision,
) -> dict[str, Artifact]:
    """Artifacts of n records, by title.

    Args:
        answer: what the target is.
        target: what it is called.
        outputs: as `suite.evaluation.problems.outputs` gives them.
        targets: encoded (n,), of labels (n, c).
        given: place of a record -> what the model was given.
        decision: thresholds from which the event, or each label, is answered.
    """
    if answer.kind == "number":
        scale = answer.scale
        predicted, right = scale.raw(outputs["value"]), scale.raw(np.asarray(targets, np.float64), bounded=False)
        return number_artifacts(target, predicted, right, given)
    if answer.kind == "labels":
        odds = np.asarray(outputs["logits"], np.float64)
        return label_artifacts(answer.names, odds, targets > 0.5, given, decision.thresholds)
    return class_artifacts(outputs["logits"], targets, answer.names, given, decision.event)


def number_artifacts(
    target: str, predicted: np.ndarray, right: np.ndarray, given: Callable[[int], Given]
) -> dict[str, Artifact]:
    """Predictions over targets, residuals, and the records of the largest errors.

    Args:
        target: what is predicted.
        predicted, right: (n,) in its unit.
        given: place of a record -> what the model was given.
    """
    residuals = predicted - right

    def show(i: int) -> Example:
        error = f"error {'+' if residuals[i] >= 0 else ''}{_number(residuals[i])}"
        wanted, said = f"{target} {_number(right[i])}", _number(predicted[i])
        return Example(given(i), wanted, said, abs(float(residuals[i])), error)

    return {
        "Predicted and actual": Scatter(target, predicted, right),
        "Residuals": Spread(f"predicted less actual {target}", {"": residuals}),
        "Largest errors": Gallery.worst(
            "Predictions that are farthest from the actual number.", np.abs(residuals), show
        ),
    }


def _number(value: float) -> str:
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


def label_artifacts(
    names: Sequence[str],
    logits: np.ndarray,
    right: np.ndarray,
    given: Callable[[int], Given],
    thresholds: np.ndarray | float = EVEN,
) -> dict[str, Artifact]:
    """Each label's precision and recall, curves, calibration, and the records that most labels are wrong of.

    Args:
        names: of the c labels.
        logits: log odds (n, c).
        right: bool (n, c).
        given: place of a record -> what the model was given.
        thresholds: probability from which a label is answered.
    """
    shares = event_probabilities(logits)
    answered = shares >= thresholds
    losses = (np.logaddexp(0, logits) - right * logits).sum(-1)
    listed = lambda row: ", ".join(names[int(place)] for place in np.flatnonzero(row)) or "no label"

    def show(i: int) -> Example:
        missed, wrong = right[i] & ~answered[i], answered[i] & ~right[i]
        parts = [f"missed: {listed(missed)}"] * bool(missed.any()) + [f"wrong: {listed(wrong)}"] * bool(wrong.any())
        return Example(given(i), listed(right[i]), listed(answered[i]), float(losses[i]), "; ".join(parts))

    artifacts: dict[str, Artifact] = {"Labels": LabelCounts.of(names, answered, right)}
    if len(names) <= MOST_CURVES:
        curves = PrecisionRecall(tuple(names), shares.astype(np.float32), right)
        artifacts["Precision-recall and ROC curves"] = curves
    artifacts["Calibration"] = Calibration.of("a label", shares.ravel(), right.ravel())
    differs = (answered != right).any(-1)
    artifacts["Worst errors"] = Gallery.worst(
        "Records with a wrong label or without a right one, the least likely first.",
        np.where(differs, losses, np.nan),
        show,
    )
    return artifacts
