"""Scores of detected boxes (host, float64): average precision and recall as COCO defines them.

Answers are matched with the boxes of their picture and class, the surest first, at ten thresholds of the intersection
over union, 0.5 to 0.95, and for four ranges of the area of things. What is kept of an answer is its score and where it
was right, so that states add over batches, devices and hosts. The numbers are those of the COCO evaluation (Lin et al.,
2014, arXiv 1405.0312), with crowds, sizes and at most 100 answers a picture and class; answers of one score stand in
the order of their pictures. Dims: b pictures, k answers, m places of boxes, n rows, t thresholds, a areas.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from suite.contracts.batch import Batch
from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.data.box_augment import NO_BOX
from suite.data.preprocessing.boxes import SIZES
from suite.data.preprocessing.letterbox import onto_pictures
from suite.evaluation.metrics.rows import mean_of_known

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Least intersection over union of an answer that is right."""
RECALLS = np.linspace(0.0, 1.0, 101)
"""Recalls at which precision is averaged."""
MOST = 100
"""Answers of a picture and class that count."""
AREAS = ("all", *SIZES)
"""Ranges of area."""
LIMITS = np.array([[0, 1e10], *SIZES.values()], np.float64)
"""Least and largest area of each, in pixels of the stored picture."""
LARGEST = 50_000
"""Answers above which a metric has no interval: a thousand draws would take many minutes."""

ANSWERS = np.dtype([("score", "f8"), ("label", "i4"), ("rank", "u1"), ("matched", "u2", (4,)), ("ignored", "u2", (4,))])
"""What is kept of an answer: its score and class; its place among those of its picture and class; and for each area a
bit a threshold, whether it was matched, and whether it does not count."""
TRUTHS = np.dtype([("label", "i4"), ("counts", "?", (4,))])
"""What is kept of a box: its class, and for which areas it counts."""
_BITS = (1 << np.arange(len(THRESHOLDS))).astype(np.uint16)


@dataclass(frozen=True)
class DetectionScore(MetricState):
    """Average precision, or recall, of all pictures together; nan where no box counts.

    Attributes:
        total: arrays of `ANSWERS` (n,), one a batch.
        count: arrays of `TRUTHS` (n,).
        recall: whether it is the recall that is averaged.
        threshold: place in `THRESHOLDS` of the one that counts; -1: their mean.
        area: place in `AREAS`.
        most: answers of a picture and class that count.
        of_class: whether it is of one class.
    """

    recall: bool = False
    threshold: int = -1
    area: int = 0
    most: int = MOST
    of_class: bool = False

    def __add__(self, other: MetricState) -> "DetectionScore":
        return replace(self, total=self.total + other.total, count=self.count + other.count)

    @property
    def absent(self) -> bool:
        """Whether no thing is of the size, or of the class, that the metric is of."""
        return (self.area > 0 or self.of_class) and not any(part["counts"][:, self.area].any() for part in self.count)

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """All `ANSWERS`, and all `TRUTHS`."""
        return _joined(self.total, ANSWERS), _joined(self.count, TRUTHS)

    def value(self) -> float:
        """The mean over classes that have a box."""
        answers, truths = self.rows()
        return self._measure(answers, truths)(np.ones(len(answers)), np.ones(len(truths)))

    def _measure(self, answers: np.ndarray, truths: np.ndarray) -> Callable[[np.ndarray, np.ndarray], float]:
        """How often each answer, and each box, counts -> the metric."""
        chosen = slice(None) if self.threshold < 0 else slice(self.threshold, self.threshold + 1)
        bits = _BITS[chosen]
        classes = []
        ranked = np.flatnonzero(answers["rank"] < self.most)
        ranked = ranked[np.argsort(-answers["score"][ranked], kind="stable")]
        counting = truths["counts"][:, self.area]
        for label in np.unique(truths["label"][counting]):
            places = ranked[answers["label"][ranked] == label]
            boxes = np.flatnonzero(counting & (truths["label"] == label))
            known = (answers["ignored"][places, self.area, None] & bits) == 0
            right = (answers["matched"][places, self.area, None] & bits) != 0
            classes.append((places, (right & known).T, (~right & known).T, boxes))
        average = _recall if self.recall else _precision

        def measured(weights: np.ndarray, counts: np.ndarray) -> float:
            values = [
                average(right * weights[places], wrong * weights[places], float(counts[boxes].sum()))
                for places, right, wrong, boxes in classes
            ]
            return mean_of_known(np.array(values, np.float64))

        return measured

    @staticmethod
    def resampled(rows: Sequence[MetricState], weights: np.ndarray) -> np.ndarray:
        """See `MetricState.resampled`; nan of more than `LARGEST` answers."""
        answers, truths = (
            _joined([part for row in rows for part in row.total], ANSWERS),
            _joined([part for row in rows for part in row.count], TRUTHS),
        )
        if len(answers) > LARGEST:
            return np.full(len(weights), np.nan)
        each = [sum(map(len, row.total)) for row in rows], [sum(map(len, row.count)) for row in rows]
        measure = rows[0]._measure(answers, truths)  # type: ignore[attr-defined]
        draws = (np.repeat(weights.astype(np.float64), counts, axis=1) for counts in each)
        return np.array([measure(*draw) for draw in zip(*draws, strict=True)])


def _joined(parts: Sequence[np.ndarray], kind: np.dtype) -> np.ndarray:
    return np.concatenate([np.zeros(0, kind), *parts])


def _precision(right: np.ndarray, wrong: np.ndarray, boxes: float) -> float:
    """Mean over thresholds of the precision at 101 recalls, each the best that is had at that recall or above.

    Args:
        right, wrong: (t, n) how often each answer counts as such, the surest first.
        boxes: how many there are.
    """
    if not boxes:
        return float("nan")
    hits = np.cumsum(right, 1)
    precision = hits / (hits + np.cumsum(wrong, 1) + np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    best = np.concatenate([best, np.zeros((len(best), 1))], 1)  # at recalls that no answer reaches
    reached = [np.searchsorted(recalls, RECALLS, "left") for recalls in hits / boxes]
    return float(np.mean([row[places] for row, places in zip(best, reached, strict=True)]))


def _recall(right: np.ndarray, wrong: np.ndarray, boxes: float) -> float:
    """Mean over thresholds of the share of boxes that are found."""
    return float(right.sum(1).mean() / boxes) if boxes else float("nan")


def matches(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    wanted: np.ndarray,
    classes: np.ndarray,
    crowd: np.ndarray,
    area: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """`ANSWERS` and `TRUTHS` of one picture.

    Args:
        boxes: (k, 4) left, top, right, bottom of answers, in pixels of the stored picture.
        scores, labels: (k,).
        wanted: (m, 4) boxes that there are.
        classes, crowd, area: (m,) class of each; whether answers there do not count; its area.
    """
    parts = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        order = own[np.argsort(-scores[own], kind="stable")][:MOST]
        there = np.flatnonzero(classes == label)
        rows = np.zeros(len(order), ANSWERS)
        rows["score"], rows["label"], rows["rank"] = scores[order], label, np.arange(len(order))
        matched, ignored = _matched(boxes[order], wanted[there], crowd[there], area[there])
        rows["matched"], rows["ignored"] = (bits @ _BITS for bits in (matched, ignored))
        parts.append(rows)
    truths = np.zeros(len(classes), TRUTHS)
    truths["label"], truths["counts"] = classes, ~_uncounted(crowd, area).T
    return _joined(parts, ANSWERS), truths


def _uncounted(crowd: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Whether a box does not count for an area, (a, m)."""
    return crowd | (area < LIMITS[:, :1]) | (area > LIMITS[:, 1:])


def _matched(
    boxes: np.ndarray, wanted: np.ndarray, crowd: np.ndarray, area: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each answer of a class was matched with a box, and whether it does not count, both (k, a, t).

    An answer takes the box of the largest overlap that none before it took, and one that does not count only where
    there is no other; a crowd can be taken again.
    """
    overlaps = overlap(boxes, wanted, crowd)
    uncounted = _uncounted(crowd, area)
    matched = np.zeros((len(boxes), len(AREAS), len(THRESHOLDS)), bool)
    ignored = np.zeros_like(matched)
    taken = np.zeros((len(AREAS), len(THRESHOLDS), len(wanted)), bool)
    least = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    areas, thresholds = np.indices(taken.shape[:2])
    for place in np.flatnonzero((overlaps >= least[0]).any(1)):
        free = (overlaps[place] >= least) & (~taken | crowd)
        counted = free & ~uncounted[:, None]
        allowed = np.where(counted.any(-1, keepdims=True), counted, free)
        best = len(wanted) - 1 - np.where(allowed, overlaps[place], -1.0)[..., ::-1].argmax(-1)
        matched[place] = allowed.any(-1)
        ignored[place] = matched[place] & uncounted[areas, best]
        taken[areas, thresholds, best] |= matched[place]
    sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    other = (sizes[:, None] < LIMITS[:, 0]) | (sizes[:, None] > LIMITS[:, 1])
    return matched, ignored | (~matched & other[..., None])


def overlap(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """Intersection over union (k, m) of boxes (k, 4) and others (m, 4); of a crowd, over the area of the box alone."""
    first, second = boxes[:, None].astype(np.float64), others[None].astype(np.float64)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.where((sides > 0).all(-1), sides.prod(-1), 0.0)
    own, theirs = ((given[..., 2:] - given[..., :2]).prod(-1) for given in (first, second))
    union = own + theirs - shared
    whole = union if crowd is None else np.where(crowd, own, union)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def detection_scores(
    outputs: Mapping[str, np.ndarray], batch: Batch, names: Sequence[str]
) -> dict[str, DetectionScore]:
    """The metrics of a batch: ``mAP``, ``AP50``, ``AP75``, ``AP_small``, ``AP_medium``, ``AP_large``, ``AR1``,
    ``AR10``, ``AR100`` and, of several classes, ``NAME.AP``.

    Args:
        outputs: ``boxes`` (b, k, 4) in pixels of the canvas, ``scores`` (b, k), 0 where there is no box, ``labels``
            (b, k).
        batch: ``boxes`` (b, m, 4), ``labels``, ``crowd`` and ``area`` (b, m), ``placed`` (b, 6) and ``mask`` (b,), as
            `suite.data.preprocessing.scenes.scenes` makes them.
        names: of the classes.
    """
    mask = np.asarray(batch["mask"])
    outputs, batch = ({name: np.asarray(values)[mask] for name, values in rows.items()} for rows in (outputs, batch))
    answered, wanted = (onto_pictures(boxes, batch["placed"]) for boxes in (outputs["boxes"], batch["boxes"]))
    rows = []
    for row in range(len(answered)):
        kept, there = outputs["scores"][row] > 0, batch["labels"][row] != NO_BOX
        scores, labels = (outputs[name][row][kept] for name in ("scores", "labels"))
        classes, crowd, area = (batch[name][row][there] for name in ("labels", "crowd", "area"))
        rows.append(matches(answered[row][kept], scores, labels, wanted[row][there], classes, crowd, area))
    answers, truths = (_joined([row[part] for row in rows], (ANSWERS, TRUTHS)[part]) for part in (0, 1))
    state = DetectionScore((answers,), (truths,))
    states = {
        "mAP": state,
        "AP50": replace(state, threshold=0),
        "AP75": replace(state, threshold=5),
        **{f"AP_{area}": replace(state, area=place) for place, area in enumerate(AREAS) if place},
        **{f"AR{most}": replace(state, recall=True, most=most) for most in (1, 10, MOST)},
    }
    if len(names) > 1:
        for label, name in enumerate(names):
            own = answers[answers["label"] == label], truths[truths["label"] == label]
            states[f"{name}.AP"] = DetectionScore((own[0],), (own[1],), of_class=True)
    return states


def best_score(state: DetectionScore) -> tuple[float, float, float]:
    """The least score of an answer by which F1 is best, of all classes together at an intersection over union of 0.5,
    and the precision and recall there. Midway to the next answer; 0 where nothing is right.

    Args:
        state: of a split.
    """
    answers, truths = state.rows()
    boxes = int(truths["counts"][:, 0].sum())
    known = answers[(answers["ignored"][:, 0] & _BITS[0]) == 0]
    known = known[np.argsort(-known["score"], kind="stable")]
    hits = np.cumsum((known["matched"][:, 0] & _BITS[0]) != 0)
    if not boxes or not len(hits) or not hits[-1]:
        return 0.0, 0.0, 0.0
    last = np.flatnonzero(np.append(np.diff(known["score"]) != 0, True))  # of answers of one score
    f1 = 2 * hits[last] / (last + 1 + boxes)
    best = int(f1.argmax())
    place = last[best]
    below = known["score"][place + 1] if place + 1 < len(known) else 0.0
    return float((known["score"][place] + below) / 2), float(hits[place] / (place + 1)), float(hits[place] / boxes)


_BEST = "100 % is best."
_OVERLAP = "an answer is right where its class is, and it shares enough area with a box (intersection over union)"
register_metric(
    "mAP",
    f"Average precision over all recalls, the mean over classes and ten thresholds from 0.5 to 0.95: {_OVERLAP}. "
    f"COCO's AP. {_BEST}",
    "higher",
    title="mAP",
    share=True,
)
for _name, _at in (("AP50", "0.5"), ("AP75", "0.75")):
    register_metric(
        _name,
        f"Average precision over all recalls, the mean over classes, where an intersection over union of {_at} is "
        f"enough. {_BEST}",
        "higher",
        title=f"AP at {_at}",
        share=True,
    )
for _name, _of in (("small", "less than 32 x 32"), ("medium", "32 x 32 to 96 x 96"), ("large", "more than 96 x 96")):
    register_metric(
        f"AP_{_name}",
        f"mAP of things of {_of} pixels of the stored picture; left out where there are none. {_BEST}",
        "higher",
        title=f"mAP, {_name}",
        share=True,
    )
for _most in (1, 10, MOST):
    register_metric(
        f"AR{_most}",
        f"Share of the boxes that are found with {_most} answer{'s' if _most > 1 else ''} a picture and class, the "
        f"mean over classes and ten thresholds of the overlap from 0.5 to 0.95. {_BEST}",
        "higher",
        title=f"recall, {_most} answer{'s' if _most > 1 else ''}",
        share=True,
    )
register_metric(
    "AP",
    f"Average precision over all recalls, the mean over ten thresholds of the overlap from 0.5 to 0.95. {_BEST}",
    "higher",
    share=True,
)
