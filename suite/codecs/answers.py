"""What answers are: JSON schemas, and those of classifiers. Dims: b records, c classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TOP = 3
"""Classes that an answer names."""
LISTED = 1000
"""Most classes that a schema lists."""
PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
"""Schema of a probability."""


def schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """JSON schema of an object that has all of ``properties`` and no other."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def class_answers(logits: np.ndarray, names: Sequence[str], top: int = TOP) -> list[dict[str, Any]]:
    """``{"label", "probability", "top": {name: probability}}`` for each row of ``logits`` (b, c)."""
    shifted = np.exp(np.asarray(logits, np.float64) - np.max(logits, -1, keepdims=True))
    probabilities = shifted / shifted.sum(-1, keepdims=True)
    order = np.argsort(-probabilities, -1)[:, :top]
    return [
        {
            "label": names[best[0]],
            "probability": round(float(row[best[0]]), 6),
            "top": {names[i]: round(float(row[i]), 6) for i in best},
        }
        for row, best in zip(probabilities, order, strict=True)
    ]


def class_schema(names: Sequence[str]) -> dict[str, Any]:
    """JSON schema of what `class_answers` makes."""
    listed = {"enum": list(names)} if len(names) <= LISTED else {}
    return schema(
        {
            "label": {"type": "string", "description": "the likeliest class", **listed},
            "probability": {**PROBABILITY, "description": "of that class"},
            "top": {
                "type": "object",
                "description": "probabilities of the likeliest classes, falling",
                "additionalProperties": PROBABILITY,
            },
        }
    )
