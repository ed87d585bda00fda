"""Defaults of click prediction: batches and epochs, by the number of records."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from suite.contracts.data import Source
from suite.contracts.defaults import Chosen, Defaults, batch_size

BATCHES = 64
"""Batches that the training split makes at the least, until one has `SMALLEST` records."""
SMALLEST, LARGEST = 32, 512
STEPS = 800
"""Steps of training at the least, in at most `MOST` passes."""
LEAST, MOST = 5, 30
"""Passes over the training split."""


@dataclass(frozen=True, kw_only=True)
class ByRecords(Defaults):
    """Small tables make small batches and several passes, of which validation stops those that are too many."""

    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        about = f"{len(train):,} records"
        size = batch_size(len(train), BATCHES, SMALLEST, LARGEST)
        yield Chosen("train.batch_size", size, about)
        batch = experiment.train.batch_size or size
        yield Chosen("train.epochs", min(max(-(-STEPS * batch // len(train)), LEAST), MOST), about)
