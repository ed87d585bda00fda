"""Names and values of whole numbers: whether they count something, or only tell things apart."""

import re
from typing import Any, Literal

import numpy as np

from suite.data.class_names import class_names

_IDENTIFIERS = """
account ad ads advert advertiser airline airport album app area artist asset author banner book brand browser campaign
carrier category channel city client cluster code country county creative currency customer department device district
domain driver film genre group hash hotel id ids item lang language location manufacturer material member merchant model
movie network occupation operator os parent partner passenger patient placement player postal postcode product
profession publisher region route seller session shop site sku song source state station store street student supplier
tag team topic track transaction type uid user uuid vehicle vendor venue visitor warehouse zip zipcode zone
"""
_QUANTITIES = """
age amount avg average balance budget clicks cost count counts date day days depth discount distance duration frequency
height hour hours income index length level max mean median min minute minutes month months n num nr orders percent
position price qty quantity rank rate rating ratio revenue salary sales score second seconds share size std sum
temperature time total value views visits volume week weeks weight width year years
"""
_NO_IDENTIFIERS = """
acid aid android avid avoid bid covid fluid grid humid hybrid invalid kid lid liquid mid overpaid paid prepaid raid
rapid said solid underpaid unpaid valid void
"""
IDENTIFIERS = frozenset(_IDENTIFIERS.split())
"""Words by which a column of whole numbers names things: their size means nothing."""
QUANTITIES = frozenset(_QUANTITIES.split())
"""Words by which it counts or measures, whatever it counts: ``user_age``, ``item_count``."""
NO_IDENTIFIERS = frozenset(_NO_IDENTIFIERS.split())
"""Words that end like an identifier, and are none."""
ENDINGS = ("id", "code", "zip", "hash")
"""Ends of words such as ``userid``."""
REPEATED = 10
"""Records of each value, on average, from which it can be seen whether values are in an order."""
SELDOM = 3
"""The same, from which strong effects of identifiers are seen."""
COMPLETE = 0.9
"""Share of a range that is there where numbers only number things."""


def names_things(name: str) -> bool:
    """Whether a column is called like an identifier: ``user``, ``movieId``, ``id_17``, ``zip``, ``device type``."""
    words = _words(name)
    if not words or measures(name):
        return False
    compound = any(word.endswith(ENDINGS) and word not in NO_IDENTIFIERS for word in words)
    return compound or words[-1] in IDENTIFIERS or words[0] == "id"


def measures(name: str) -> bool:
    """Whether a column is called like a quantity: ``user_age``, ``priceInCents``."""
    return not QUANTITIES.isdisjoint(_words(name))


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[^\W\d_a-z]+(?![a-z])|[^\W\d_a-z]?[a-z]+|[^\W\d_]+", name)]


def is_complete(values: np.ndarray, distinct: int) -> bool:
    """Whether whole numbers (n,), ``distinct`` of them different, leave out few of those between their ends."""
    return bool(distinct >= COMPLETE * (float(values.max()) - float(values.min()) + 1))


def as_target(labels: Any) -> np.ndarray | None:
    """Labels (n,) as float64: numbers as they are, of others whether each is the most frequent one; None where all are
    the same."""
    array = labels if isinstance(labels, np.ndarray) and labels.dtype.kind in "iuf" else None
    if array is None:
        _, places, counts = np.unique(class_names(labels), return_inverse=True, return_counts=True)
        array = places == counts.argmax()
    target = np.nan_to_num(np.asarray(array, np.float64))
    return target if len(target) and np.ptp(target) else None


def order(values: np.ndarray, target: np.ndarray) -> Literal["ordered", "unordered", "unclear"]:
    """Whether a target (n,) changes step by step along whole numbers (n,), or at random from one to the next.

    Neighbouring values of a quantity have nearly the same mean target, those of identifiers any. The ratio of the
    squared differences of neighbours to twice the variance of all (von Neumann, 1941, doi 10.1214/aoms/1177731677) is
    near 0 or near 1, once both are freed of the chance in the means. Without any effect on the target it is unclear.
    """
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    groups, records = len(counts), len(values)
    means = np.bincount(places, target) / counts
    noise = float(np.square(target - means[places]).sum()) / max(records - groups, 1)
    between = float((counts * np.square(means - target.mean())).sum()) / (groups - 1)
    if between <= noise * (1 + 3 * np.sqrt(2 / (groups - 1))):
        return "unclear"
    weights = np.minimum(counts[1:], counts[:-1]).astype(np.float64)
    steps = np.square(np.diff(means)) - noise * (1 / counts[1:] + 1 / counts[:-1])
    spread = (counts * (np.square(means - target.mean()) - noise / counts)).sum() / records
    ratio = float((weights * steps).sum() / weights.sum() / (2 * spread))
    return "ordered" if ratio < 0.4 else "unordered" if ratio > 0.6 else "unclear"
