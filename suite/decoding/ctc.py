"""CTC decoding: the best path, and a prefix beam search with a word n-gram model.

Dims: b batch, t frames, v symbols (0 is blank).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from suite.contracts.bounds import check_bounds
from suite.decoding.ngrams import END, Vocabulary
from suite.errors import InputError

_NEVER = -math.inf


class Decoder(ABC):
    """Turns what a model says of each frame into symbols."""

    @abstractmethod
    def __call__(
        self, log_probs: np.ndarray, lengths: np.ndarray, units: Sequence[str], words: Vocabulary | None = None
    ) -> list[list[int]]:
        """Symbols of each row.

        Args:
            log_probs: (b, t, v), natural logarithms.
            lengths: (b,) frames of each row.
            units: what each symbol spells; a blank at its beginning ends the word before it.
            words: a model of words, where the decoder takes one.
        """


@dataclass(frozen=True, kw_only=True)
class Greedy(Decoder):
    """The best symbol of each frame, repetitions merged and blanks left out."""

    def __call__(
        self, log_probs: np.ndarray, lengths: np.ndarray, units: Sequence[str], words: Vocabulary | None = None
    ) -> list[list[int]]:
        best = log_probs.argmax(-1)
        spoken = best != 0
        spoken[:, 1:] &= best[:, 1:] != best[:, :-1]
        spoken &= np.arange(best.shape[1]) < np.asarray(lengths)[:, None]
        return [row[keep].tolist() for row, keep in zip(best, spoken, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Beam(Decoder):
    """The most probable symbols, all their alignments added up, with a bonus for words that a model expects.

    Prefix beam search (arXiv 1408.2873): a transcript scores log p(symbols) + alpha log p(words) + beta words.
    """

    width: int = 32
    """Prefixes kept a frame."""
    alpha: float = 0.5
    """Weight of the word model."""
    beta: float = 1.0
    """Bonus a word."""
    lexicon: bool = False
    """Only words that the model has."""
    cutoff: float = -10.0
    """Natural logarithm of the probability below which a frame's symbol is not tried."""

    def __post_init__(self):
        if self.width < 1:
            raise InputError("field decoder.width", "must be at least 1", found=str(self.width))
        weights = dict.fromkeys(("alpha", "beta", "cutoff"), (-1e6, 1e6))
        check_bounds(self, {"width": (1, 10_000), **weights})

    def __call__(
        self, log_probs: np.ndarray, lengths: np.ndarray, units: Sequence[str], words: Vocabulary | None = None
    ) -> list[list[int]]:
        if self.lexicon and words is None:
            raise InputError("field decoder.lexicon", "needs a model of words", fix="set language_model")
        rules = Rules(self, units, words)
        return [self.search(row[:length], rules)[0][0] for row, length in zip(log_probs, lengths, strict=True)]

    def search(self, log_probs: np.ndarray, rules: "Rules") -> list[tuple[list[int], float]]:
        """The transcripts left at the end of one row (t, v), best first, each with its score."""
        beam = {rules.root: (0.0, _NEVER)}  # prefix -> log p of alignments that end in a blank, and in its last symbol
        for frame in log_probs.tolist():
            longer_prefixes: dict[Prefix, tuple[float, float]] = {}
            tried = [(symbol, score) for symbol, score in enumerate(frame) if symbol and score > self.cutoff]
            for prefix, (in_blank, in_symbol) in beam.items():
                total = _add(in_blank, in_symbol)
                _put(
                    longer_prefixes,
                    prefix,
                    total + frame[0],
                    in_symbol + frame[prefix.symbol] if prefix.symbol else _NEVER,
                )
                for symbol, score in tried:
                    before = in_blank if symbol == prefix.symbol else total  # a blank parts two equal symbols
                    longer = rules.extend(prefix, symbol) if before > _NEVER else None
                    if longer is not None:
                        _put(longer_prefixes, longer, _NEVER, before + score)
            if len(longer_prefixes) > self.width:
                ranked = sorted(
                    longer_prefixes, key=lambda prefix: _add(*longer_prefixes[prefix]) + prefix.bonus, reverse=True
                )
                longer_prefixes = {prefix: longer_prefixes[prefix] for prefix in ranked[: self.width]}
            beam = longer_prefixes
        ends = [(prefix, _add(*scores) + rules.end(prefix)) for prefix, scores in beam.items()]
        ends.sort(key=lambda end: end[1], reverse=True)
        return [(prefix.symbols(), score) for prefix, score in ends]


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == _NEVER else a + math.log1p(math.exp(b - a))


def _put(prefixes: "dict[Prefix, tuple[float, float]]", prefix: "Prefix", in_blank: float, in_symbol: float) -> None:
    blank, symbol = prefixes.get(prefix, (_NEVER, _NEVER))
    prefixes[prefix] = (_add(blank, in_blank), _add(symbol, in_symbol))


@dataclass(eq=False)
class Prefix:
    """The beginning of a transcript. There is one object for each, so that it is its own key.

    Attributes:
        symbol: its last one; 0 for the empty prefix.
        parent: what comes before that.
        word: the characters of the word that is not ended yet.
        context: of the next word, for the model.
        bonus: of the words that are ended.
        longer: prefixes with one more symbol, None where the lexicon has no such word.
    """

    symbol: int
    parent: "Prefix | None"
    word: str
    context: tuple[str, ...]
    bonus: float
    longer: "dict[int, Prefix | None]" = field(default_factory=dict)

    def symbols(self) -> list[int]:
        """All symbols, first to last."""
        symbols, here = [], self
        while here.parent is not None:
            symbols.append(here.symbol)
            here = here.parent
        return symbols[::-1]


class Rules:
    """Which symbols may follow a prefix, and what its words are worth."""

    def __init__(self, beam: Beam, units: Sequence[str], words: Vocabulary | None):
        self._beam, self._units, self._words = beam, units, words
        known = words.words if words is not None and beam.lexicon else frozenset()
        self._beginnings = frozenset(word[:size] for word in known for size in range(len(word) + 1))
        self.root = Prefix(0, None, "", words.start() if words is not None else (), 0.0)

    def extend(self, prefix: Prefix, symbol: int) -> Prefix | None:
        """The prefix with one more symbol, or None where that can become no word of the lexicon."""
        if symbol not in prefix.longer:
            prefix.longer[symbol] = self._extended(prefix, symbol)
        return prefix.longer[symbol]

    def _extended(self, prefix: Prefix, symbol: int) -> Prefix | None:
        unit = self._units[symbol]
        word, context, bonus = prefix.word, prefix.context, prefix.bonus
        if unit.startswith(" "):
            ended = self._ended(word, context)
            if ended is None:
                return None
            context, worth = ended
            word, bonus, unit = "", bonus + worth, unit[1:]
        word += unit
        if self._beam.lexicon and word not in self._beginnings:
            return None
        return Prefix(symbol, prefix, word, context, bonus)

    def _ended(self, word: str, context: tuple[str, ...]) -> tuple[tuple[str, ...], float] | None:
        """Context and worth once ``word`` is over; None where the lexicon lacks it."""
        if not word:
            return context, 0.0
        if self._words is None:
            return context, self._beam.beta
        if self._beam.lexicon and word not in self._words.words:
            return None
        worth = self._beam.alpha * self._words.score(context, word) + self._beam.beta
        return self._words.follow(context, word), worth

    def end(self, prefix: Prefix) -> float:
        """What all words of a transcript and its end are worth."""
        ended = self._ended(prefix.word, prefix.context)
        if ended is None:
            return _NEVER
        context, worth = ended
        last = self._beam.alpha * self._words.score(context, END) if self._words is not None else 0.0
        return prefix.bonus + worth + last
