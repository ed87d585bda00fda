"""Occlusion: how much the score falls where a unit alone is absent (`Zeiler and Fergus, 2013, arXiv 1311.2901`)."""

import numpy as np

from suite.explaining.explainer import Case, Explainer
from suite.explaining.explanation import Explanation


def occlusion(explainer: Explainer, case: Case) -> Explanation:
    """The fall of each unit; falls of units that stand for each other do not add up to anything."""
    scores = explainer.scores(case, 1 - np.eye(case.count))
    return Explanation("occlusion", case.subject, case.division, case.subject.score - scores, additive=False)
