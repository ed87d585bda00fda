"""Defaults of texts: n-grams, batches and epochs, by the texts; the tokenizer of a tagger, by what it starts from."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.data import Source
from suite.contracts.defaults import Chosen, Defaults, batch_size
from suite.data.preprocessing.text import SentencePiece, clean
from suite.data.preprocessing.tokenizers import Published
from suite.data.sources.memory import evenly_spaced

SAMPLE = 500
"""Texts that lengths are taken from."""
SHORT = 300
"""Characters of the median text up to which n-grams of characters say more than they cost."""
MANY = 50_000
"""Texts from which on n-grams of one text have no row."""
EXAMPLES = 100_000
"""Examples that training sees at the least, where they are in fewer than `EPOCHS` passes."""
EPOCHS = 20
"""Most passes."""
BATCHES = 200
"""Batches that the training split makes at the least, until one has `SMALLEST` texts."""
SMALLEST, LARGEST = 16, 128


@dataclass(frozen=True, kw_only=True)
class ByLength(Defaults):
    """By the number of texts and their length."""

    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        texts = train.column(experiment.task.text, evenly_spaced(train, SAMPLE))
        length = int(np.median([len(clean(str(text))) for text in texts]))
        about = f"{len(train):,} texts of {length:,} characters"
        if length <= SHORT:
            yield Chosen("task.ngrams.characters", (3, 4, 5), f"{about}: parts of words tell what rare words mean")
        yield Chosen("task.ngrams.min_count", 1 if len(train) < MANY else 2)
        yield Chosen("train.batch_size", batch_size(len(train), BATCHES, SMALLEST, LARGEST), about)
        yield Chosen("train.epochs", max(min(EPOCHS, -(-EXAMPLES // len(train))), 3), about)


@dataclass(frozen=True, kw_only=True)
class ByStart(Defaults):
    """The tokenizer: that of the published weights that training starts from, or one that is learnt from the texts."""

    learnt: SentencePiece
    """What is learnt where training starts from no published weights."""

    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        start = experiment.checkpoint.init_from
        if isinstance(start, str) and start and not (Path(start).expanduser() / "experiment.json").is_file():
            yield Chosen("task.tokenizer", Published(), "training starts from published weights, which know no other")
        else:
            yield Chosen("task.tokenizer", self.learnt)
