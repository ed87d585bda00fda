"""Losses (jitted) and scores (host, float64) shared by the tasks, as tallies that add."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.distribution import missing


@dataclass(frozen=True)
class Overlap(MetricState):
    """BLEU or chrF of a corpus, 0..100, by sacrebleu: a function of counts that add over sentences.

    Attributes:
        total: (n,) sums of what sacrebleu counts in a sentence.
        count: sentences.
        metric: ``"bleu"`` (arXiv 1804.08771, the signature case:mixed, tok:13a, smooth:exp) or ``"chrf"`` (chrF2).
    """

    metric: str = "bleu"

    def __add__(self, other: MetricState) -> "Overlap":
        return replace(self, total=self.total + other.total, count=self.count + other.count)

    def value(self) -> float:
        """The score; nan over nothing."""
        if not self.count:
            return float("nan")
        return float(sacrebleu_metrics()[self.metric]._compute_score_from_stats(self.total.tolist()).score)


@functools.cache
def sacrebleu_metrics() -> Mapping[str, Any]:
    """BLEU and chrF, as sacrebleu has them by default.

    Raises:
        InputError: the package is missing.
    """
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError as error:
        raise missing("sacrebleu", "for BLEU and chrF", "text") from error
    return {"bleu": BLEU(force=True), "chrf": CHRF()}  # force: no warnings that texts look tokenised


def translation_scores(translations: Sequence[str], references: Sequence[str]) -> dict[str, MetricState]:
    """``bleu`` and ``chrf`` of b texts against one reference each."""
    tallies: dict[str, MetricState] = {}
    for name, metric in sacrebleu_metrics().items():
        # The sentences' counts are the one part that sacrebleu's own corpus scores are computed from.
        rows = metric._extract_corpus_statistics(list(translations), [list(references)]) if translations else []
        sums = np.asarray(rows, np.int64).sum(0) if rows else np.int64(0)
        tallies[name] = Overlap(sums, len(rows), name)
    return tallies


register_metric(
    "bleu",
    "How much of the reference translations' wording is met, 0 to 100, by words and runs of up to four (arXiv "
    "1804.08771). Comparable for the same test set alone.",
    "higher",
    title="BLEU",
)
register_metric(
    "chrf", "The same by runs of up to six characters, 0 to 100; kinder to inflected languages.", "higher", title="chrF"
)
