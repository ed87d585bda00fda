"""Captioned pictures and recordings as a task reads them: the records of a split, and what is said of the splits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.preprocessing.columns import origin, require, with_files
from suite.data.sources.captions import PICTURES, gathered, media_names, part_of, shared
from suite.data.sources.memory import Subset, noted


@dataclass(frozen=True, kw_only=True)
class CaptionedRows(Data):
    """The rows of captioned pictures or recordings in the splits of `captioned`: all texts of one in one split."""

    rows: Data
    """Rows of one and a text of it."""
    side: str
    """Field of the task that names the column of media."""
    medium: str
    """Name of this column."""
    text: str
    """Name of the column of texts."""
    things: str = PICTURES
    """What the media are called: `PICTURES` or ``RECORDINGS``."""

    def open(self, split: str) -> Source:
        """Raises InputError: a column or the split is missing, or there is nothing in it."""
        read = self.rows.with_texts((self.text,))
        chosen = captioned(self.rows, split, self.side, self.medium, self.text, self.things)
        counts = f"{len(chosen):,} {self.things}, each with all its texts"
        if (whole := read.whole()) is None:
            return noted(read.open(split), (counts,))
        own = {row[0] for row in chosen.column(self.things, np.arange(len(chosen)))}
        places = [place for place, name in enumerate(media_names(whole, self.medium)) if name in own]
        return noted(Subset(whole, np.array(places, np.int64), chosen.dropped, chosen.dropped_names), (counts,))


def captioned(data: Data, split: str, side: str, medium: str, text: str, things: str = PICTURES) -> Source:
    """The pictures or recordings of a split, each with its texts, as `gathered` gives them; all texts of one are in one
    split.

    Args:
        data: rows of one and a text of it.
        split: which.
        side: field of the task that names the column of media.
        medium, text: names of the columns.
        things: `PICTURES` or ``RECORDINGS``.

    Raises:
        InputError: a column or the split is missing, or there is nothing in it.
    """
    read, where = data.with_texts((text,)), origin(data)
    whole = read.whole()
    opened = read.open(split) if whole is None else whole
    require(opened, {side: medium, "text": text}, where)
    records = gathered(opened, medium, text, things)
    if whole is not None:
        shares = (getattr(read, "validation", 0.1), getattr(read, "test", 0.1))
        records = part_of(records, split, getattr(read, "seed", 0), shares, where, things)
    return with_files(records, medium, data)


def remark_on_shared(splits: Sequence[Source], things: str = PICTURES) -> list[str]:
    """A line where pictures or recordings are in more than one of the splits, else none."""
    twice = shared(splits, things)
    return [f"{twice:,} {things} are in more than one split, so that figures are too good"] if twice else []
