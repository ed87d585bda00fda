"""Drawings of detectors: curves of each class, what is confused with what, and pictures with their boxes."""

import io
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from suite.evaluation.artifacts import FramedImage
from suite.evaluation.detection_artifacts import ENOUGH, BoxConfusion, DetectionCurves
from suite.evaluation.metrics.detection import DetectionScore
from suite.reporting import pictures
from suite.reporting.blocks import Block, Cell, Figure, Folded, Matrix, Picture, Plot, Table, Text
from suite.reporting.curves import precision_recall
from suite.reporting.drawings.registry import draws
from suite.reporting.glossary import percent
from suite.reporting.svg import TONES, Axis, Series, chart

COLOURED = 3
"""Classes that have a colour of their own; of more, the worst."""
MOST_OPEN, MOST_IN_MATRIX = 12, 30
"""Classes above which a table of each is folded away, and above which the matrix is left to the table of pairs."""
WIDEST = 560
"""Pixels that a picture with boxes is scaled down to."""
LETTERED = 24
"""Boxes of a picture above which only wrong ones are lettered."""
WANTED, RIGHT, WRONG = (24, 28, 32), (33, 113, 181), (216, 67, 21)
"""Colours of boxes that there are, of answers that are right, and of those that are wrong."""


@draws(DetectionCurves)
def detection_curves(exhibit: DetectionCurves) -> list[Block]:
    """The precision-recall curve of each class, and what is found of it."""
    answers, truths = exhibit.scores.rows()
    rows, curves = [], []
    for label, name in enumerate(exhibit.names):
        own = answers[answers["label"] == label], truths[truths["label"] == label]
        boxes = int(own[1]["counts"][:, 0].sum())
        if not boxes and not len(own[0]):
            continue
        known = own[0][own[0]["ignored"][:, 0] & 1 == 0]
        found = known["matched"][:, 0] & 1 != 0
        said = known["score"] >= exhibit.threshold
        hits = int((found & said).sum())
        state = DetectionScore((own[0],), (own[1],))
        measured = [replace(state, threshold=place).value() if boxes else np.nan for place in (0, 5, -1)]
        shares = percent(hits, int(said.sum())), percent(hits, boxes)
        rows.append((name, f"{boxes:,}", f"{int(said.sum()):,}", *shares, *map(_percent, measured)))
        if boxes and len(known):
            curves.append((measured[0], Series(name, *precision_recall(known["score"], found, boxes))))
    if not rows:
        return [Text("There is no box, and none is answered.", "note")]
    head = ("class", "boxes", "answers", "precision", "recall", "AP at 0.5", "AP at 0.75", "AP")
    caption = (
        f"Answers: those with a score of at least {exhibit.threshold:g}, of which precision and recall are, at an "
        f"intersection over union of {ENOUGH:g}. AP: average precision over all recalls, at one "
        "threshold of the overlap or as the mean of ten from 0.5 to 0.95."
    )
    table = Table(head, tuple(rows), caption)
    return [*_curves(curves), table if len(rows) <= MOST_OPEN else Folded("Each class", (table,))]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if np.isfinite(value) else ""


def _curves(curves: list[tuple[float, Series]]) -> list[Block]:
    """One plot of all classes, the worst in colours."""
    if not curves:
        return []
    ordered = [series for _, series in sorted(curves, key=lambda curve: curve[0])]
    lines = [
        replace(series, tone=TONES[place]) if place < COLOURED else replace(series, name="", tone="quiet")
        for place, series in enumerate(ordered)
    ]
    names = ", ".join(series.name for series in ordered) if len(ordered) <= COLOURED else f"{len(ordered)} classes"
    title = f"Precision over recall at an intersection over union of {ENOUGH:g}"
    plot = Plot(title, chart(lines, Axis("recall", 0.0, 1.0), Axis("", 0.0, 1.0), f"{title}: {names}"))
    caption = (
        "Each point of a line is a threshold of the score. Recall: the share of the boxes that are found. Precision: "
        "the share of the answers that are right."
    )
    if len(ordered) > COLOURED:
        caption += f" The {COLOURED} classes of the lowest average precision have colours."
    return [Figure((plot,), caption)]


@draws(BoxConfusion)
def box_confusion(exhibit: BoxConfusion) -> list[Block]:
    """How many boxes are found, missed and taken for another class, and how many answers are about none."""
    counts, size = exhibit.counts, len(exhibit.names)
    boxes, said = int(counts[:size].sum()), int(counts[:, :size].sum())
    right, missed, false = int(counts.trace()), int(counts[:size, size].sum()), int(counts[size].sum())
    confused = boxes - right - missed
    blocks: list[Block] = [
        Text(
            f"Of {boxes:,} boxes {right:,} are found ({percent(right, boxes)}), {missed:,} are missed and "
            f"{confused:,} are taken for another class. Of {said:,} answers {false:,} are about no box; "
            f"{exhibit.beside:,} of these lie beside a box of their class, or are its second answer."
        )
    ]
    names = (*exhibit.names, "none")
    if size <= MOST_IN_MATRIX:
        caption = (
            "Rows: class of the box; none: answers about no box. Columns: class of the answer; none: boxes that are "
            f"missed. Answers with a score of at least {exhibit.threshold:g}; an answer is about the box that it "
            f"shares at least {ENOUGH:g} with (intersection over union)."
        )
        blocks.append(Matrix(names, _cells(counts), caption))
    wrong = counts[:size, :size] - np.diag(np.diag(counts[:size, :size]))
    order = np.argsort(-wrong, axis=None, kind="stable")[:8]
    pairs = [place for place in (divmod(int(flat), max(size, 1)) for flat in order) if wrong[place]]
    if pairs and size > 2:
        rows = tuple(
            (names[i], names[j], f"{wrong[i, j]:,}", percent(int(wrong[i, j]), int(counts[i].sum()))) for i, j in pairs
        )
        head = ("actual", "predicted", "boxes", "share of the actual class")
        blocks.append(Table(head, rows, "The most frequent confusions.", frozenset({0, 1})))
    return blocks


def _cells(counts: np.ndarray) -> tuple[tuple[Cell, ...], ...]:
    last = len(counts) - 1
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shades = np.where(counts > 0, np.maximum(np.rint(10 * shares), 1), 0).astype(int)
    return tuple(
        tuple(Cell(int(count), int(shades[i, j]), i == j and i < last) for j, count in enumerate(row))
        for i, row in enumerate(counts)
    )


def framed(given: FramedImage) -> Picture:
    """The picture with the boxes that there are, in broken lines, and those predicted; with letters where few are, else
    at those that are missed or wrong."""
    few = len(given.wanted) + len(given.answered) <= LETTERED
    boxes = [
        (box.box, box.label if (few and not given.answered) or not box.right else "", WANTED, True)
        for box in given.wanted
    ]
    boxes += [
        (box.box, box.label if few or not box.right else "", RIGHT if box.right else WRONG, False)
        for box in given.answered
    ]
    missed = [box.label for box in given.wanted if not box.right]
    wrong = [box.label for box in given.answered if not box.right]
    alt = f"{len(given.wanted)} boxes, {len(given.answered)} predicted"
    alt += f"; missed: {', '.join(missed)}" if missed else ""
    return drawn_boxes(given.pixels, boxes, alt + (f"; wrong: {', '.join(wrong)}" if wrong else ""))


def drawn_boxes(
    pixels: np.ndarray, boxes: Iterable[tuple[tuple[float, ...], str, tuple[int, int, int], bool]], alt: str
) -> Picture:
    """A picture uint8 (h, w, c), scaled down, with boxes over it.

    Args:
        pixels: of the picture.
        boxes: left, top, right and bottom in its pixels; what stands at it, which may be empty; its colour; whether its
            line is broken.
        alt: what there is to be seen, for those who don't see it.
    """
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    scale = WIDEST / max(image.size)
    image = image.resize([max(round(side * scale), 1) for side in image.size], Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    lettered: list[tuple[float, float, str, tuple[int, int, int]]] = []
    for box, label, colour, broken in boxes:
        left, top, right, bottom = (scale * side for side in box)
        (left, right), (top, bottom) = sorted((left, right)), sorted((top, bottom))
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        for start, end in zip(corners, corners[1:], strict=False):
            _line(draw, start, end, colour, broken)
        if label:
            lettered.append((left, bottom if broken else top, label, colour))
    for left, top, label, colour in lettered:
        _letters(draw, image.size, left, top, label, colour)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return Picture(pictures.uri("image/jpeg", file.getvalue()), alt, "framed")


def _line(
    draw: Any, start: tuple[float, float], end: tuple[float, float], colour: tuple[int, int, int], broken: bool
) -> None:
    """A line along one side, whole or in dashes with light between them."""
    if not broken:
        draw.line((*start, *end), fill=colour, width=2)
        return
    draw.line((*start, *end), fill=(255, 255, 255), width=2)
    length = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
    for begin in np.arange(0, length, 8):
        shares = begin / length, min((begin + 4) / length, 1)
        places = [first + share * (last - first) for share in shares for first, last in zip(start, end, strict=True)]
        draw.line(places, fill=colour, width=2)


def _letters(
    draw: Any, size: tuple[int, int], left: float, top: float, label: str, colour: tuple[int, int, int]
) -> None:
    """A label on its colour, within the picture."""
    from PIL import ImageFont

    font = ImageFont.load_default(11)
    wide, high = draw.textlength(label, font=font) + 4, 14
    left, top = min(max(left, 0), max(size[0] - wide, 0)), min(max(top - high, 0), size[1] - high)
    draw.rectangle((left, top, left + wide, top + high), fill=colour)
    draw.text((left + 2, top), label, fill=(255, 255, 255), font=font)
