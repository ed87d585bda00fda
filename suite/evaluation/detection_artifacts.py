"""Artifacts of detectors: curves of each class, what is confused with what, and the worst pictures.

Dims: b pictures, k answers, m places of boxes, c classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch, Columns
from suite.data.box_augment import NO_BOX
from suite.data.preprocessing.image import decode
from suite.data.preprocessing.letterbox import onto_pictures
from suite.evaluation.artifacts import Example, Framed, FramedImage, Gallery
from suite.evaluation.metrics.detection import DetectionScore, detection_scores, overlap

ENOUGH = 0.5
"""Least intersection over union of an answer and the box that it is about."""
CLOSEST = 0.1
"""Least intersection over union where an answer of the right class is told of as a box that lies beside it."""
SIDE = 640
"""Pixels that the longer side of a picture is scaled down to."""


@dataclass(frozen=True)
class DetectionCurves(Artifact):
    """How well the boxes of each class are found, at every threshold of the score.

    Attributes:
        names: of the c classes.
        scores: of all boxes: what was answered, and what there is.
        threshold: of the scores that are answered.
    """

    names: tuple[str, ...]
    scores: DetectionScore
    threshold: float

    def __add__(self, other: "DetectionCurves") -> "DetectionCurves":
        return replace(self, scores=self.scores + other.scores)


@dataclass(frozen=True)
class BoxConfusion(Artifact):
    """What answers are about.

    Attributes:
        names: of the c classes.
        counts: (c + 1, c + 1) int64, by the class of the box (rows) and of the answer (columns). The last row holds
            answers that are about no box, the last column boxes that no answer is about.
        beside: of the first ones, those that share a little of a box of their class.
        threshold: of the scores that are answered.
    """

    names: tuple[str, ...]
    counts: np.ndarray
    beside: int
    threshold: float

    def __add__(self, other: "BoxConfusion") -> "BoxConfusion":
        return replace(self, counts=self.counts + other.counts, beside=self.beside + other.beside)


def detection_artifacts(
    columns: Columns,
    outputs: Mapping[str, np.ndarray],
    batch: Batch,
    names: Sequence[str],
    threshold: float,
    image: str = "image",
) -> dict[str, Artifact]:
    """Curves, confusions and the worst pictures of a batch whose rows are all real.

    Args:
        columns: the records, with their pictures.
        outputs: ``boxes`` (b, k, 4) in pixels of the canvas, ``scores`` and ``labels`` (b, k).
        batch: as `suite.data.preprocessing.scenes.scenes` makes it.
        names: of the classes.
        threshold: least score of an answer.
        image: column of the pictures.
    """
    placed = np.asarray(batch["placed"])
    answered, wanted = (onto_pictures(np.asarray(boxes), placed) for boxes in (outputs["boxes"], batch["boxes"]))
    pictures = []
    for row in range(len(placed)):
        scores, labels = (np.asarray(outputs[name])[row] for name in ("scores", "labels"))
        order = np.argsort(-scores, kind="stable")
        order = order[(scores[order] > 0) & (scores[order] >= threshold)]
        there = np.asarray(batch["labels"])[row] != NO_BOX
        classes, crowd = (np.asarray(batch[name])[row][there] for name in ("labels", "crowd"))
        pictures.append(
            _Picture(answered[row][order], scores[order], labels[order], wanted[row][there], classes, crowd)
        )
    size = len(names)
    counts = sum((picture.confusions(size) for picture in pictures), np.zeros((size + 1, size + 1), np.int64))
    wrong = np.array([float(picture.wrong) for picture in pictures])

    def show(row: int) -> Example:
        picture = pictures[row]
        missed, false = int((picture.of_wanted < 0).sum() - picture.crowds), int(picture.false.sum())
        confused = picture.wrong - missed - false
        told = f"{missed} missed, {false} about no box, {confused} of another class"
        return Example(picture.framed(columns[image][row], names), "", "", wrong[row], told)

    about = (
        f"Pictures with most errors, of answers with a score of at least {threshold:g}. Dashed: the boxes that there "
        "are. Solid: answers, blue where they are right and orange where they are not."
    )
    every = {**batch, "mask": np.ones(len(placed), bool)}
    return {
        "Precision and recall of each class": DetectionCurves(
            tuple(names), detection_scores(outputs, every, names)["mAP"], threshold
        ),
        "Confusions": BoxConfusion(tuple(names), counts, sum(picture.beside for picture in pictures), threshold),
        "Pictures with most errors": Gallery.worst(about, np.where(wrong > 0, wrong, np.nan), show),
    }


class _Picture:
    """Answers of one picture, each with the box that it is about, whatever its class.

    Pairs of the largest overlap are taken first, those of one class before others. An answer on a crowd is neither
    right nor wrong.

    Args:
        answers, scores, labels: (k, 4), (k,) and (k,), the surest first.
        boxes, classes, crowd: (m, 4), (m,) and (m,) that there are.
    """

    def __init__(
        self,
        answers: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        boxes: np.ndarray,
        classes: np.ndarray,
        crowd: np.ndarray,
    ):
        self._answers, self._scores, self._labels = answers, scores, labels
        self._boxes, self._classes, self._crowd = boxes, classes, crowd
        overlaps = overlap(answers, boxes, crowd)
        same = labels[:, None] == classes[None]
        self.of_answers, self.of_wanted = np.full(len(answers), -1), np.full(len(boxes), -1)
        order = np.argsort(-(overlaps + same), axis=None, kind="stable")  # a class that is right outweighs any overlap
        for answer, box in zip(*np.unravel_index(order, overlaps.shape), strict=True):
            free = self.of_answers[answer] < 0 and self.of_wanted[box] < 0 and not crowd[box]
            if free and overlaps[answer, box] >= ENOUGH:
                self.of_answers[answer], self.of_wanted[box] = box, answer
        on_crowd = (overlaps[:, crowd] >= ENOUGH).any(1)
        self.false = (self.of_answers < 0) & ~on_crowd
        self.crowds = int(crowd.sum())
        self.beside = int((self.false & (same & (overlaps >= CLOSEST)).any(1)).sum())

    def confusions(self, size: int) -> np.ndarray:
        """(c + 1, c + 1) int64, see `BoxConfusion`."""
        counts = np.zeros((size + 1, size + 1), np.int64)
        found = self.of_answers >= 0
        np.add.at(counts, (self._classes[self.of_answers[found]], self._labels[found]), 1)
        np.add.at(counts[size], self._labels[self.false], 1)
        np.add.at(counts[:, size], self._classes[(self.of_wanted < 0) & ~self._crowd], 1)
        return counts

    @property
    def right(self) -> np.ndarray:
        """Which answers are about a box of their class, (k,) bool."""
        found = self.of_answers >= 0
        right = np.zeros(len(found), bool)
        right[found] = self._classes[self.of_answers[found]] == self._labels[found]
        return right

    @property
    def wrong(self) -> int:
        """Boxes that are missed, and answers about no box or of another class."""
        confused = int(((self.of_answers >= 0) & ~self.right).sum())
        return int(((self.of_wanted < 0) & ~self._crowd).sum() + self.false.sum()) + confused

    def framed(self, value: object, names: Sequence[str]) -> FramedImage:
        """The picture, scaled down, with all boxes."""
        from PIL import Image

        pixels = decode(value)
        scale = min(1.0, SIDE / max(pixels.shape[:2]))
        if scale < 1:
            image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
            small = image.resize([max(round(scale * side), 1) for side in image.size], Image.Resampling.BILINEAR)
            pixels = np.asarray(small).reshape(small.height, small.width, -1)
        frame = lambda box, label, right: Framed(tuple((scale * box).tolist()), label, right)  # type: ignore[arg-type]
        wanted = [
            frame(box, f"{names[label]} (crowd)" if crowd else names[label], answer >= 0 or crowd)
            for box, label, crowd, answer in zip(self._boxes, self._classes, self._crowd, self.of_wanted, strict=True)
        ]
        answered = [
            frame(box, f"{names[label]} {100 * score:.0f} %", bool(right))
            for box, label, score, right in zip(
                self._answers,
                self._labels,
                self._scores,
                self.right | (~self.false & (self.of_answers < 0)),
                strict=True,
            )
        ]
        return FramedImage(pixels, tuple(wanted), tuple(answered))
