"""Word n-gram models with back-off, as ARPA files hold them: read, scored, and counted from transcripts."""

import functools
import math
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.preprocessing.transcripts import Transcriber
from suite.data.reading import changed, check_utf8, existing, read_text
from suite.errors import InputError

BEGIN, END = "<s>", "</s>"
UNKNOWNS = ("<unk>", "<UNK>")
_LN10 = math.log(10)
NEVER = -99.0
"""Log10 probability that ARPA files write for none."""
Scores = dict[tuple[str, ...], tuple[float, float]]
"""Words -> log10 probability of the last after those before it, and log10 weight of backing off from them."""


class Vocabulary:
    """An n-gram model in memory.

    Args:
        scores: words -> (log10 probability of the last after those before it, log10 back-off weight).
        fold: lower the case of its words.
    """

    def __init__(self, scores: Scores, fold: bool = False):
        special = {BEGIN, END, *UNKNOWNS}
        if fold:
            scores = {tuple(w if w in special else w.lower() for w in words): score for words, score in scores.items()}
        self.scores = scores
        self.order = max(map(len, scores), default=0)
        self.words = frozenset(words[0] for words in scores if len(words) == 1) - special
        self._unknown = next((word for word in UNKNOWNS if (word,) in scores), "")

    def score(self, context: tuple[str, ...], word: str) -> float:
        """Natural log of the probability of ``word`` after ``context``; one that is not in the model, as ``<unk>``."""
        known = tuple(w if (w,) in self.scores else self._unknown for w in (*context, word))
        context, word = known[:-1], known[-1]
        context = context[max(len(context) - self.order + 1, 0) :]
        total = 0.0
        while True:
            scored = self.scores.get((*context, word))
            if scored is not None:
                return _LN10 * (total + scored[0])
            if not context:
                return _LN10 * (total + NEVER)
            total += self.scores.get(context, (0.0, 0.0))[1]
            context = context[1:]

    def start(self) -> tuple[str, ...]:
        """The context of a first word."""
        return (BEGIN,) if (BEGIN,) in self.scores else ()

    def follow(self, context: tuple[str, ...], word: str) -> tuple[str, ...]:
        """The context of the word after ``word``."""
        return (*context, word)[1 - self.order :] if self.order > 1 else ()

    def sentence(self, words: Iterable[str]) -> float:
        """Natural log of the probability of a sentence and its end."""
        total, context = 0.0, self.start()
        for word in (*words, END):
            total += self.score(context, word)
            context = self.follow(context, word)
        return total


def read_arpa(text: str, where: str, fold: bool = False) -> Vocabulary:
    """An ARPA file; what stands before ``\\data\\`` is ignored.

    Raises:
        InputError: no such section, an entry that cannot be read, or fewer n-grams than the header counts.
    """
    lines = enumerate(text.splitlines(), 1)
    if not any(line.strip() == "\\data\\" for _, line in lines):
        raise InputError(where, "this is no ARPA file: it has no line \\data\\", fix="name a file in ARPA format")
    counts: dict[int, int] = {}
    scores: Scores = {}
    seen_counts: Counter[int] = Counter()
    order = 0
    for number, line in lines:
        line = line.strip()
        header = re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)", line)
        section = re.fullmatch(r"\\(\d+)-grams:", line)
        if line == "\\end\\":
            break
        if header:
            counts[int(header[1])] = int(header[2])
        elif section:
            order = int(section[1])
        elif line and order:
            words, score = _entry(line, order, f"{where}, line {number}")
            scores[words] = score
            seen_counts[order] += 1
    wrong = next((n for n, count in counts.items() if seen_counts[n] != count), 0)
    if wrong or not counts:
        raise InputError(
            where,
            f"its header counts {counts.get(wrong, 0)} {wrong}-grams",
            found=str(seen_counts[wrong]),
            fix="the file is cut off or damaged: take it anew",
        )
    return Vocabulary(scores, fold)


def _entry(line: str, order: int, where: str) -> tuple[tuple[str, ...], tuple[float, float]]:
    parts = line.split()
    if len(parts) not in (order + 1, order + 2):
        raise InputError(where, f"this is no entry of a {order}-gram", found=line[:80])
    try:
        weight = float(parts[order + 1]) if len(parts) == order + 2 else 0.0
        return tuple(parts[1 : order + 1]), (float(parts[0]), weight)
    except ValueError as error:
        raise InputError(where, f"this is no entry of a {order}-gram", found=line[:80]) from error


def count_ngrams(sentences: Iterable[Sequence[str]], order: int, unknown: float = 1.0) -> Vocabulary:
    """A model of ``order`` from sentences, by Witten-Bell smoothing (IEEE Trans. Inf. Theory 37(4), 1991).

    A context seen n times with k different words gives k / (n + k) to what it was not seen with. ``unknown`` is the
    count of an unknown word.
    """
    counts: dict[tuple[str, ...], Counter[str]] = {}
    for words in sentences:
        padded = [BEGIN, *words, END]
        for place in range(1, len(padded)):
            for size in range(min(order, place + 1)):
                counts.setdefault(tuple(padded[place - size : place]), Counter())[padded[place]] += 1
    unigrams = counts.get((), Counter())
    total = sum(unigrams.values()) + unknown
    scores: Scores = {(word,): (math.log10(n / total), 0.0) for word, n in unigrams.items()}
    scores |= {("<unk>",): (math.log10(unknown / total), 0.0), (BEGIN,): (NEVER, 0.0)}
    for context in sorted((c for c in counts if c), key=len):
        seen = counts[context]
        n, kinds = sum(seen.values()), len(seen)
        below = {word: 10 ** _backed_off(scores, context[1:], word) for word in seen}
        for word, count in seen.items():
            scores[(*context, word)] = (math.log10((count + kinds * below[word]) / (n + kinds)), 0.0)
        left = 1 - sum(below.values())
        unseen_mass = 1 - sum(10 ** scores[(*context, word)][0] for word in seen)
        weight = math.log10(max(unseen_mass, 1e-12) / max(left, 1e-12))
        scores[context] = (scores[context][0] if context in scores else NEVER, weight)
    return Vocabulary(scores)


def _backed_off(scores: Scores, context: tuple[str, ...], word: str) -> float:
    """Log10 score from a table that is still growing."""
    scored = scores.get((*context, word))
    if scored is not None or not context:
        return scored[0] if scored is not None else NEVER
    return scores.get(context, (0.0, 0.0))[1] + _backed_off(scores, context[1:], word)


def write_arpa(model: Vocabulary) -> str:
    """The model as an ARPA file."""
    by_order = {n: sorted(words for words in model.scores if len(words) == n) for n in range(1, model.order + 1)}
    lines = ["\\data\\", *(f"ngram {n}={len(entries)}" for n, entries in by_order.items())]
    for n, entries in by_order.items():
        lines += ["", f"\\{n}-grams:"]
        for words in entries:
            score, weight = model.scores[words]
            lines.append(f"{score:.6f}\t{' '.join(words)}" + (f"\t{weight:.6f}" if n < model.order else ""))
    return "\n".join([*lines, "", "\\end\\", ""])


@dataclass(frozen=True, kw_only=True)
class NGrams(Preprocessor):
    """A word model for decoding, kept with the run: an ARPA file that is there, or one counted from training."""

    suffix: ClassVar[str] = ".arpa"

    column: str = "text"
    """Field of the task that names the column of texts."""

    arpa: str = ""
    """An ARPA file (.gz too), or ``ARCHIVE.tar.gz:PATH``. Empty: count the training transcripts."""
    order: int = 2
    """Words that a counted model looks at."""
    transcriber: Transcriber | None = None
    """Normalises the transcripts that are counted; None: taken as they are."""

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the model to ``path``. Raises InputError: there is no such file, or it is no ARPA file."""
        if self.arpa:
            text = _read(self.arpa)
            read_arpa(text, self.arpa)
        else:
            texts = (
                text
                for start in range(0, len(source), 4096)
                for text in source[np.arange(start, min(start + 4096, len(source)))][column]
            )
            plain = str if self.transcriber is None else self.transcriber.normalise
            text = write_arpa(count_ngrams((plain(said).split() for said in texts), self.order))
        path.write_text(text, encoding="utf-8")

    def sizes(self) -> dict[str, int]:
        """None: no model depends on it."""
        return {}

    def model(self, fold: bool = False) -> Vocabulary:
        """The model in memory; ``fold`` lowers the case of its words."""
        return _model(self.file, changed(self.file), fold)


def _read(name: str) -> str:
    archive, archived, member = name.partition(".tar.gz:")
    if not archived:
        return read_text(existing(name))
    with tarfile.open(existing(archive + ".tar.gz")) as file:
        try:
            content = file.extractfile(member)
        except KeyError:
            content = None
        if content is None:
            raise InputError(name, "there is no such file in this archive")
        return check_utf8(content.read(), name)


@functools.lru_cache(maxsize=8)
def _model(file: str, written: int, fold: bool) -> Vocabulary:
    return read_arpa(Path(file).read_text(encoding="utf-8"), file, fold)
