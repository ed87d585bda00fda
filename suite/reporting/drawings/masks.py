"""Drawing of the classes of pixels: intersection over union of each, and which are taken for which."""

import math

from suite.evaluation.metrics.rows import mean_of_known
from suite.evaluation.metrics.segmentation import overlaps
from suite.evaluation.segmentation_artifacts import PixelClasses
from suite.reporting.blocks import Block, Matrix, Table, Text
from suite.reporting.drawings.classes import MOST_IN_MATRIX, shaded
from suite.reporting.drawings.registry import draws
from suite.reporting.glossary import percent


@draws(PixelClasses)
def pixel_classes(exhibit: PixelClasses) -> list[Block]:
    """A table of the classes, those that are nowhere named, and the matrix."""
    counts, scores = exhibit.counts, overlaps(exhibit.counts)
    total, right = int(counts.sum()), int(counts.trace())
    if not total:
        return [Text("No pixel is of a class.", "note")]
    absent = [name for name, score in zip(exhibit.names, scores, strict=True) if math.isnan(score)]
    rows = tuple(
        (
            name,
            percent(int(counts[k].sum()), total),
            percent(int(counts[:, k].sum()), total),
            percent(float(scores[k])),
            percent(int(counts[k, k]), int(counts[:, k].sum())),
            percent(int(counts[k, k]), int(counts[k].sum())),
        )
        for k, name in enumerate(exhibit.names)
        if name not in absent
    )
    blocks: list[Block] = [
        Text(
            f"The class of {percent(right, total)} of {total:,} pixels is right; mIoU is "
            f"{percent(mean_of_known(scores))}, the mean over {len(rows)} classes."
        )
    ]
    if absent:
        blocks.append(Text(f"Neither there nor predicted, and left out of the mean: {', '.join(absent)}.", "note"))
    caption = (
        "Shares of all pixels that are of a class and that are predicted as it. IoU: the pixels that are both, over "
        "those that are either. Precision: over those predicted. Recall: over those that are of the class."
    )
    blocks.append(Table(("class", "actual", "predicted", "IoU", "precision", "recall"), rows, caption))
    if len(exhibit.names) <= MOST_IN_MATRIX:
        about = "Pixels. Rows: actual class. Columns: predicted class. The stronger the colour, the larger the share."
        blocks.append(Matrix(exhibit.names, shaded(counts), about))
    return blocks
