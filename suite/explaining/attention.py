"""Attention as an explanation: rollout, and relevance that weighs it by gradients.

Rollout is the same whatever class is explained, which is a reason not to believe it: `measures` shows how far it holds.
"""

import numpy as np

from suite.contracts.division import KEPT, fitted, summed
from suite.errors import InputError
from suite.explaining.explainer import Case, Explainer
from suite.explaining.explanation import Explanation

FIX = "--method integrated-gradients"


def attention(explainer: Explainer, case: Case, kind: str = "relevance") -> Explanation:
    """What attention says of each unit.

    Args:
        explainer, case: of the record.
        kind: ``"relevance"``, or ``"rollout"``.

    Raises:
        InputError: the model does not attend, or what it attends to is no array of the request.
    """
    try:
        of_tokens = explainer.inside(case, "attention")[kind].astype(np.float64)
    except IndexError:
        raise InputError("method attention", "the model has no attention.", fix=FIX) from None
    name, values, labels = _placed(case, of_tokens)
    method = "attention" if kind == "relevance" else "attention-rollout"
    remark = "weights of attention by their gradients" if kind == "relevance" else "the same for all classes"
    return Explanation(
        method,
        case.subject,
        case.division,
        summed(values, labels, case.count),
        additive=False,
        maps={name: values},
        remarks=(remark,),
    )


def _placed(case: Case, of_tokens: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    """The array that tokens stand for, and value and unit of each of its elements."""
    for name, labels in case.labels.items():
        if labels.shape == of_tokens.shape:
            return name, of_tokens, labels
        if labels.ndim == 2 and name in case.division.scaled:
            filled = float(case.batch[f"{name}_mask"].mean())
            grid = case.division.labels[name]
            rows = fitted(grid, (len(of_tokens), grid.shape[1]), filled)
            even = np.where(rows == KEPT, 0, np.broadcast_to(of_tokens[:, None], rows.shape) / rows.shape[1])
            return name, even, rows
        side = round((len(of_tokens) - 1) ** 0.5)
        patches = of_tokens[len(of_tokens) - side * side :]
        if labels.ndim == 3 and side > 1 and len(of_tokens) - side * side in (0, 1):
            height, width = labels.shape[:2]
            down, across = (np.arange(size) * side // size for size in (height, width))
            pixels = patches.reshape(side, side)[np.ix_(down, across)] * side * side / (height * width)
            return name, pixels, labels[..., 0]
    found = f"{len(of_tokens)} places"
    raise InputError("method attention", "what the model attends to is no array of the request.", found=found, fix=FIX)
