"""Decision: the temperature that probabilities are calibrated by, the threshold that an answer is given from, and how
sure an answer is: sets of classes and intervals that hold the right one, and answers that are better not relied on.

All are learnt on the validation split at the end of training, and change nothing where they are not asked for.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from suite.contracts.preprocessor import Postprocessor
from suite.data.reading import changed
from suite.runtime import json_files

EVEN = 0.5
"""The threshold where none is chosen."""
EVERYTHING = "all"
"""A stored margin without bound."""
Aim = Literal["", "f1", "balanced_accuracy", "accuracy"]


def event_probabilities(log_odds: np.ndarray) -> np.ndarray:
    """Probabilities float64 of events, or labels, from their log odds (...)."""
    return np.exp(-np.logaddexp(0, -np.asarray(log_odds, np.float64)))


def class_probabilities(logits: np.ndarray) -> np.ndarray:
    """Probabilities float64 (..., c) of logits (..., c) of several classes."""
    logits = np.asarray(logits, np.float64)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def energy(logits: np.ndarray) -> np.ndarray:
    """Energy (...) of logits (..., c): high where no class speaks for itself (`Liu et al., 2020
    <https://arxiv.org/abs/2010.03759>`_)."""
    logits = np.asarray(logits, np.float64)
    highest = logits.max(-1)
    return -(highest + np.log(np.exp(logits - highest[..., None]).sum(-1)))


def within(probabilities: np.ndarray, margin: float) -> np.ndarray:
    """Which classes (b, c) are in a set: those whose probability (b, c) is at least one less ``margin``, and always the
    likeliest."""
    likeliest = probabilities.argmax(-1)[:, None] == np.arange(probabilities.shape[-1])
    return (probabilities >= 1 - margin) | likeliest


def answered_classes(probabilities: np.ndarray, threshold: float = EVEN) -> np.ndarray:
    """The class (b,) that each row (b, c) is answered with: the likeliest; of two classes and another threshold than
    `EVEN`, the second one from that probability on."""
    if probabilities.shape[-1] == 2 and threshold != EVEN:
        return (probabilities[:, 1] >= threshold).astype(np.int64)
    return probabilities.argmax(-1)


@dataclass(frozen=True, kw_only=True)
class Decision(Postprocessor):
    """From a model's logits to probabilities and an answer."""

    suffix: ClassVar[str] = ".json"

    threshold: Aim = ""
    """Of two classes, and of labels, each for itself: what the threshold that the event or label is answered from is
    best by, on the validation split. Empty: a probability of one half."""
    calibration: Literal["none", "temperature"] = "none"
    """How probabilities are calibrated: divided logits by a temperature, which is fitted on the validation split (arXiv
    1706.04599), or not at all. The order of answers stays."""

    coverage: float = field(default=0.0, metadata={"example": 0.9})
    """Probability with which the right class is in an answer's set of classes, or the right number in its interval, as
    split conformal prediction fits it on the validation split (arXiv 2107.07511). 0: answers have neither."""
    abstention: float = field(default=0.0, metadata={"example": 0.1})
    """Share of the validation split, the least sure of it, that is answered as "unsure", as are later records of no
    higher probability. 0: answers do not say."""
    familiarity: Literal["none", "probability", "energy"] = "none"
    """Whether an answer states how familiar its record is, the share of the validation split that is no more like
    training: by the probability of the likeliest class (arXiv 1610.02136), or by the energy of the logits (arXiv
    2010.03759), which says little where training smooths labels."""

    @property
    def promised(self) -> str:
        """The coverage for people, with all of its digits: 0.999 is no certainty."""
        return f"{100 * self.coverage:.10g}%"

    @property
    def temperature(self) -> float:
        """What logits are divided by; 1 where nothing was learnt."""
        return float(self._content.get("temperature", 1.0))

    @property
    def thresholds(self) -> np.ndarray | float:
        """Probability from which the event is answered, or each label (c,); one half where nothing was learnt."""
        chosen = self._content.get("thresholds")
        if not chosen:
            return EVEN
        return np.array(chosen) if len(chosen) > 1 else float(chosen[0])

    @property
    def event(self) -> float:
        """The threshold of two classes."""
        threshold = self.thresholds
        return threshold if isinstance(threshold, float) else EVEN

    @property
    def margin(self) -> float:
        """What an answer's set or interval reaches to: a class belongs to the set if its probability is at least one
        less it; an interval goes so far to both sides, in units of what the model learns. nan where nothing was
        learnt; infinity where validation has too few records, and everything belongs."""
        stored = self._content.get("margin")
        return math.nan if stored is None else math.inf if stored == EVERYTHING else float(stored)

    @property
    def least(self) -> float:
        """Probability of the likeliest class from which an answer is sure; nan where nothing was learnt."""
        stored = self._content.get("least")
        return math.nan if stored is None else float(stored)

    @property
    def strangeness(self) -> np.ndarray:
        """How strange the records of the validation split are, rising, or as many quantiles of it; empty where nothing
        was learnt."""
        return np.array(self._content.get("strangeness", ()), np.float64)

    def strange(self, logits: np.ndarray) -> np.ndarray:
        """How strange the records of calibrated logits (b, c) are, by what ``familiarity`` names."""
        return energy(logits) if self.familiarity == "energy" else -class_probabilities(logits).max(-1)

    def familiarities(self, logits: np.ndarray) -> np.ndarray:
        """Familiarity (b,) of the records of calibrated logits (b, c), in (0, 1]: that of records like those of
        validation is evenly distributed, so that one in a hundred has 0.01 or less."""
        known = self.strangeness
        higher = len(known) - np.searchsorted(known, self.strange(logits), side="left")
        return (higher + 1) / (len(known) + 1)

    def sets(self, probabilities: np.ndarray) -> np.ndarray:
        """Which classes (b, c) are in the set of each row (b, c) of probabilities, see `within`; so is the answered
        one."""
        said = answered_classes(probabilities, self.event)[:, None] == np.arange(probabilities.shape[-1])
        return within(probabilities, self.margin) | said

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._content.get("notes", ()))

    @property
    def _content(self) -> dict[str, Any]:
        """What is stored; nothing before the end of training."""
        return _learnt(self.file, changed(self.file)) if self.file else {}

    def applied(self, outputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The outputs with calibrated ``logits``."""
        temperature = self.temperature
        if temperature == 1.0 or "logits" not in outputs:
            return outputs
        return {**outputs, "logits": np.asarray(outputs["logits"], np.float64) / temperature}


@functools.lru_cache(maxsize=32)
def _learnt(file: str, written: int) -> dict[str, Any]:
    return json_files.load(file, _checked)


def _checked(content: Any) -> dict[str, Any]:
    """What a file holds, its numbers finite."""
    if not isinstance(content, dict):
        raise json_files.Malformed("no JSON object")
    temperature, thresholds = content.get("temperature", 1.0), content.get("thresholds") or []
    if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
        raise json_files.Malformed(f"temperature {temperature!r:.60}")
    if not (isinstance(thresholds, list) and all(isinstance(one, int | float) for one in thresholds)):
        raise json_files.Malformed(f"thresholds {thresholds!r:.60}")
    for name in ("margin", "least"):
        value = content.get(name)
        if value not in (None, EVERYTHING) and not (isinstance(value, int | float) and 0 <= value < math.inf):
            raise json_files.Malformed(f"{name} {value!r:.60}")
    known = content.get("strangeness", [])
    if not (isinstance(known, list) and all(isinstance(one, int | float) for one in known)):
        raise json_files.Malformed(f"strangeness {known!r:.60}")
    if not np.isfinite(known).all() or sorted(known) != known:
        raise json_files.Malformed("strangeness that is not finite, or not sorted")
    return content
