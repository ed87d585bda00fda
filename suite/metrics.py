"""Losses (jitted) and scores (host, float64) shared by the tasks, as tallies that add."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from suite.base import Batch, Tally
from suite.errors import InputError

jax.tree_util.register_dataclass(Tally)  # here, so that the contracts need no JAX


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of ``values`` (b,) over rows where ``mask`` (b,) is True; 0 over none."""
    weights = mask.astype(jnp.float32)
    return (values * weights).sum() / jnp.maximum(weights.sum(), 1.0)


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy in nats (b,) of ``logits`` (b, c) against integer ``labels`` (b,), label smoothing as in
    arXiv 1512.00567: ``smoothing`` of the target is spread evenly over all classes."""
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    picked = jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]
    return -(1 - smoothing) * picked - smoothing * log_probs.mean(-1) if smoothing else -picked


def divergence(ours: jax.Array, theirs: jax.Array, temperature: float = 1.0) -> jax.Array:
    """Kullback-Leibler divergence in nats (...) of the classes that ``ours`` (..., c) makes likely from those of
    ``theirs``, both logits or log probabilities divided by ``temperature``: 0 where they agree."""
    mine, yours = (jax.nn.log_softmax(logits.astype(jnp.float32) / temperature) for logits in (ours, theirs))
    return (jnp.exp(yours) * (yours - mine)).sum(-1)


def binary_divergence(ours: jax.Array, theirs: jax.Array, temperature: float = 1.0) -> jax.Array:
    """As `divergence`, of log odds (...)."""
    mine, yours = (jnp.stack([logits, jnp.zeros_like(logits)], -1) for logits in (ours, theirs))
    return divergence(mine, yours, temperature)


def tally(values: jax.Array, mask: jax.Array) -> Tally:
    """Sum of ``values`` (b,) over unmasked rows, with their number."""
    weights = mask.astype(jnp.float32)
    return Tally((values * weights).sum(), weights.sum())


def classification_loss(logits: jax.Array, losses: jax.Array, batch: Batch) -> tuple[jax.Array, dict[str, Tally]]:
    """Mean of ``losses`` (b,) over unmasked rows; and tallies of them, and of how often ``logits`` (b, c) are right."""
    right = (logits.argmax(-1) == batch["label"]).astype(jnp.float32)
    tallies = {"loss": tally(losses, batch["mask"]), "accuracy": tally(right, batch["mask"])}
    return masked_mean(losses, batch["mask"]), tallies


def classification_scores(outputs: Mapping[str, np.ndarray], batch: Mapping[str, Any]) -> dict[str, Tally]:
    """Accuracy and cross-entropy (nats) of ``outputs["logits"]`` (b, c) against ``batch["label"]`` (b,)."""
    mask = np.asarray(batch["mask"])
    logits = np.asarray(outputs["logits"], np.float64)[mask]
    labels = np.asarray(batch["label"])[mask]
    shifted = logits - logits.max(-1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(-1)) - np.take_along_axis(shifted, labels[:, None], -1)[:, 0]
    right = (logits.argmax(-1) == labels).astype(np.float64)
    return {"accuracy": Tally(right.sum(), len(labels)), "loss": Tally(losses.sum(), len(labels))}


def binary_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy in nats (b,) of ``logits`` (b,), the log odds of 1, against ``labels`` (b,) in 0..1."""
    logits = logits.astype(jnp.float32)
    return jax.nn.softplus(logits) - labels * logits


@dataclass(frozen=True)
class Ranking(Tally):
    """The area under the ROC curve over all rows, exact. It is no sum of parts, so the rows themselves add up.

    Attributes:
        total: arrays (n,) of scores, one a batch.
        count: arrays (n,) of labels, 0 or 1.
    """

    def __add__(self, other: Tally) -> "Ranking":
        return replace(self, total=self.total + other.total, count=self.count + other.count)

    def value(self) -> float:
        """The area; nan where all labels are equal."""
        return auc(np.concatenate(self.total), np.concatenate(self.count))

    @staticmethod
    def resampled(rows: Sequence[Tally], weights: np.ndarray) -> np.ndarray:
        scores = np.concatenate([part for row in rows for part in row.total])
        labels = np.concatenate([part for row in rows for part in row.count])
        grouped = _by_score(scores, labels)
        return np.array([_area(*grouped(w)) for w in weights])


@dataclass(frozen=True)
class RankingBound(Ranking):
    """A bound of the bootstrap interval of the area.

    Attributes:
        quantile: 0.025 for the lower bound of 95 %.
        draws: samples of the bootstrap.
    """

    quantile: float = 0.5
    draws: int = 1000

    def value(self) -> float:
        """The bound; nan where all labels are equal."""
        areas = bootstrap_auc(np.concatenate(self.total), np.concatenate(self.count), self.draws)
        return float(np.quantile(areas, self.quantile)) if len(areas) else float("nan")


@dataclass(frozen=True)
class CalibrationError(Tally):
    """Expected calibration error: how far the mean prediction of a bin is from its share of ones, over rows.

    Attributes:
        total: (bins,) sums of prediction less label.
        count: rows.
    """

    def __add__(self, other: Tally) -> "CalibrationError":
        return CalibrationError(self.total + other.total, self.count + other.count)

    def value(self) -> float:
        """The error, in 0..1; nan over nothing."""
        return float(np.abs(self.total).sum()) / float(self.count) if self.count else float("nan")


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Probability that a row of label 1 scores above one of label 0, ties counting half; nan without both labels."""
    ones, zeros = _by_score(scores, labels)(np.ones(len(labels)))
    return float(_area(ones, zeros))


def bootstrap_auc(scores: np.ndarray, labels: np.ndarray, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """Areas under the ROC curve of ``draws`` samples of the rows, drawn with replacement; those of one label are
    left out. Quantiles 0.025 and 0.975 bound the 95 % interval (Efron, 1979, doi 10.1214/aos/1176344552)."""
    grouped = _by_score(scores, labels)
    made = np.array([_area(*grouped(w)) for block in samples(len(labels), draws, seed) for w in block])
    return made[np.isfinite(made)]


def samples(count: int, draws: int, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each of ``count`` records is in each of ``draws`` samples, drawn with replacement: arrays (k, count) of
    some samples at a time, so that many records don't fill the memory."""
    rng = np.random.default_rng(seed)
    block = max(1, 4_000_000 // max(count, 1))
    for begin in range(0, draws, block):
        size = min(block, draws - begin)
        yield np.stack([np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(size)])


def _by_score(scores: np.ndarray, labels: np.ndarray) -> Any:
    """Weights (n,) -> weighted numbers of ones and of zeros at each distinct score, rising."""
    order = np.argsort(scores, kind="stable")
    ranked, ones = np.asarray(scores)[order], np.asarray(labels, np.float64)[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])) if len(ranked) else np.zeros(0, int)

    def grouped(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w = np.asarray(weights, np.float64)[order]
        if not len(w):
            return w, w
        return np.add.reduceat(w * ones, starts), np.add.reduceat(w * (1 - ones), starts)

    return grouped


def _area(ones: np.ndarray, zeros: np.ndarray) -> float:
    pairs = ones.sum() * zeros.sum()
    below = np.cumsum(zeros) - zeros
    return float((ones * (below + 0.5 * zeros)).sum() / pairs) if pairs else float("nan")


def click_scores(outputs: Mapping[str, np.ndarray], batch: Mapping[str, Any], bins: int = 20) -> dict[str, Tally]:
    """Scores of ``outputs["logits"]`` (b,) against ``batch["label"]`` (b,) in 0, 1.

    ``auc``: exact. ``loss``: cross-entropy in nats. ``calibration``: mean prediction over share of ones, 1 being
    right. ``calibration_error``: expected calibration error over ``bins`` equal bins of the probability.
    """
    mask = np.asarray(batch["mask"])
    logits = np.asarray(outputs["logits"], np.float64)[mask]
    labels = np.asarray(batch["label"], np.float64)[mask]
    losses = np.logaddexp(0, logits) - labels * logits
    predicted = np.exp(-np.logaddexp(0, -logits))
    place = np.minimum((predicted * bins).astype(int), bins - 1)
    gaps = np.bincount(place, predicted - labels, bins)
    return {
        "auc": Ranking((logits,), (labels,)),
        "loss": Tally(losses.sum(), len(labels)),
        "calibration": Tally(predicted.sum(), labels.sum()),
        "calibration_error": CalibrationError(gaps, len(labels)),
    }


@dataclass(frozen=True)
class Overlap(Tally):
    """BLEU or chrF of a corpus, 0..100, by sacrebleu: a function of counts that add over sentences.

    Attributes:
        total: (n,) sums of what sacrebleu counts in a sentence.
        count: sentences.
        metric: ``"bleu"`` (arXiv 1804.08771, the signature case:mixed, tok:13a, smooth:exp) or ``"chrf"`` (chrF2).
    """

    metric: str = "bleu"

    def __add__(self, other: Tally) -> "Overlap":
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
        fix = 'pip install "suite[text]"'
        raise InputError("package sacrebleu", "is needed for BLEU and chrF, and not installed.", fix=fix) from error
    return {"bleu": BLEU(force=True), "chrf": CHRF()}  # force: no warnings that texts look tokenised


def translation_scores(made: Sequence[str], references: Sequence[str]) -> dict[str, Tally]:
    """``bleu`` and ``chrf`` of b texts against one reference each."""
    tallies: dict[str, Tally] = {}
    for name, metric in sacrebleu_metrics().items():
        # The sentences' counts are the one part that sacrebleu's own corpus scores are computed from.
        rows = metric._extract_corpus_statistics(list(made), [list(references)]) if made else []
        sums = np.asarray(rows, np.int64).sum(0) if rows else np.int64(0)
        tallies[name] = Overlap(sums, len(rows), name)
    return tallies


def add(sums: dict[str, Tally], more: Mapping[str, Tally]) -> dict[str, Tally]:
    """Tallies by name, added."""
    return {**sums, **{name: sums[name] + value if name in sums else value for name, value in more.items()}}
