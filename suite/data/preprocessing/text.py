"""Text: cleaning, and a SentencePiece tokenizer learnt from the training split."""

import functools
import io
import logging
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from suite.contracts.batch import Ragged
from suite.contracts.data import Source
from suite.data.preprocessing.tokenizer_engines import Located, Typed, cut_pair, surfaces
from suite.data.preprocessing.tokenizers import Tokenizer, placed, ragged, typed
from suite.data.reading import changed
from suite.data.sources.memory import evenly_spaced
from suite.errors import InputError

PAD, UNKNOWN, BEGIN, END = 0, 1, 2, 3
"""Ids that every vocabulary starts with."""
THREADS = 4
"""Threads of training; fixed, so that the same texts give the same model on every machine."""

BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b\u2060\ufeff]")
_BROKEN = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufffd]")


def clean(text: str) -> str:
    """The text in Unicode NFC, HTML line breaks and runs of white space as one blank, without control characters."""
    if "<" in text:
        text = BREAK.sub(" ", text)
    if not (text.isascii() and text.isprintable()):
        text = CONTROL.sub("", unicodedata.normalize("NFC", text))
    return " ".join(text.split())


def _is_missing(value: Any) -> bool:
    return value is None or isinstance(value, bytes) or (isinstance(value, float) and value != value)


def text_faults(texts: Sequence[Any]) -> dict[str, np.ndarray]:
    """Which of n texts are not worth keeping: ``"empty"`` and ``"broken"``, each (n,) bool.

    A text is empty where cleaning leaves nothing; broken where it is missing, or where more than a tenth of it is
    control or replacement characters.
    """
    broken = np.zeros(len(texts), bool)
    empty = np.zeros(len(texts), bool)
    for place, value in enumerate(texts):
        if _is_missing(value):
            broken[place] = True
            continue
        text = str(value)
        if not text.isprintable() or "\ufffd" in text:
            broken[place] = len(_BROKEN.findall(text)) > 0.1 * len(text)
        empty[place] = not broken[place] and not clean(text)
    return {"empty": empty, "broken": broken}


def clean_mask(texts: Sequence[Any]) -> tuple[np.ndarray, dict[str, int]]:
    """Which texts are worth keeping, (n,) bool, and the counts of those that are not; see `text_faults`."""
    faults = text_faults(texts)
    return ~(faults["broken"] | faults["empty"]), {reason: int(fault.sum()) for reason, fault in faults.items()}


@dataclass(frozen=True, kw_only=True)
class SentencePiece(Tokenizer):
    """A subword tokenizer (arXiv 1808.06226). Rows begin with the id 2; 0 is padding, 1 unknown, 3 the end.

    A corpus too small for ``vocab_size`` gives the largest vocabulary that it allows, which ``sizes`` states.
    """

    suffix: ClassVar[str] = ".model"

    vocab_size: int = 8000
    """Most pieces to learn."""
    kind: Literal["unigram", "bpe", "word", "char"] = "unigram"
    """Algorithm; char: each character is a piece."""
    character_coverage: float = 0.9995
    """Share of the characters of the corpus that get a piece; 1.0 for small alphabets."""
    lowercase: bool = True
    """Fold case."""
    max_sentences: int = 200_000
    """Most texts to learn from; of more, an evenly spaced selection."""

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Learns pieces from the cleaned texts and writes the model to ``path`` in one step.

        Raises:
            InputError: no text to learn from, or a vocabulary smaller than the alphabet.
        """
        size = self.vocab_size
        try:
            model = self._train(source, column, size)
        except RuntimeError as error:
            model = self._train(source, column, _allowed(str(error), size, column))
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(model)
        os.replace(partial, path)

    def _train(self, source: Source, column: str, size: int) -> bytes:
        import sentencepiece

        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_texts(source, column, self.max_sentences),
            model_writer=model,
            vocab_size=size,
            model_type=self.kind,
            character_coverage=self.character_coverage,
            normalization_rule_name="nmt_nfkc_cf" if self.lowercase else "nmt_nfkc",
            pad_id=PAD,
            unk_id=UNKNOWN,
            bos_id=BEGIN,
            eos_id=END,
            num_threads=THREADS,
            max_sentence_length=1 << 16,
            minloglevel=2,
        )
        return model.getvalue()

    def sizes(self) -> dict[str, int]:
        """``vocab_size``: pieces of the model as it was learnt."""
        return {"vocab_size": _processor(self.file, changed(self.file)).get_piece_size()}

    def encode(
        self, texts: Sequence[str], max_length: int, sample: np.random.Generator | None = None, alpha: float = 0.1
    ) -> Ragged:
        """Ids of each text, cut at ``max_length``, the first of them 2.

        Args:
            texts: b texts; they are cleaned here.
            max_length: most ids a row.
            sample: draws one of many segmentations (subword regularisation, arXiv 1804.10959); not for "word".
            alpha: sharpness of that draw; for "bpe" the probability of leaving out a merge.

        Returns:
            int32 ids.
        """
        return ragged([row[:max_length] for row in self._rows(texts, max_length, sample, alpha, add_bos=True)])

    def targets(
        self, texts: Sequence[str], max_length: int, sample: np.random.Generator | None = None, alpha: float = 0.1
    ) -> Ragged:
        """As `encode`, but no id in front and 3 at the end; a row that is cut has no end."""
        return ragged([row[:max_length] for row in self._rows(texts, max_length, sample, alpha, add_eos=True)])

    def located(self, texts: Sequence[str], max_length: int) -> tuple[Ragged, np.ndarray]:
        processor = _processor(self.file, changed(self.file))
        rows: list[Located] = []
        for text in texts:
            pieces = surfaces(processor, text if self.kind == "word" else text[: 20 * max_length])[: max_length - 1]
            rows.append(([BEGIN, *(i for _, i, _ in pieces)], [(0, 0), *(place for _, _, place in pieces)]))
        return placed(rows)

    def pairs(self, first: Sequence[str], second: Sequence[str], max_length: int) -> tuple[Ragged, Ragged]:
        """3 ends the first text."""
        if max_length < 4:
            raise InputError("field task.max_length", "leaves no room beside 2 special tokens.", found=str(max_length))
        sides = [self._rows(texts, max_length, None, 0.0) for texts in (first, second)]
        rows: list[Typed] = []
        for one, other in zip(*sides, strict=True):
            one, other = cut_pair(one, other, max_length - 2)
            begun = [BEGIN, *one, END]
            rows.append(([*begun, *other], [0] * len(begun) + [1] * len(other)))
        return typed(rows)

    @property
    def end(self) -> int:
        return END

    @property
    def mask(self) -> int:
        """That of unknown pieces: of either nothing is known, and the table has a row for it wherever it is used."""
        return UNKNOWN

    def _rows(
        self, texts: Sequence[str], max_length: int, sample: np.random.Generator | None, alpha: float, **around: bool
    ) -> list[list[int]]:
        """Ids of each text, ``max_length`` of them and perhaps more."""
        processor = _processor(self.file, changed(self.file))
        cleaned = [clean(str(text)) for text in texts]
        if self.kind != "word":  # a piece has 16 characters at most: what lies further on is cut anyway
            cleaned = [text[: 20 * max_length] for text in cleaned]
        options: dict[str, Any] = {}
        if sample is not None and self.kind != "word":
            import sentencepiece

            sentencepiece.set_random_generator_seed(int(sample.integers(2**31)))
            options = {"enable_sampling": True, "alpha": alpha, "nbest_size": -1}
        if len(cleaned) == 1 and not options:  # a request: for a list a thread is started, ten times as slow
            return [processor.encode(cleaned[0], out_type=int, **around, **options)]
        return processor.encode(cleaned, out_type=int, num_threads=1, **around, **options) if cleaned else []

    def decode(self, ids: Sequence[Sequence[int]] | np.ndarray) -> list[str]:
        """Text of each row of ids; padding and other control ids leave no trace."""
        processor = _processor(self.file, changed(self.file))
        rows = [[int(i) for i in row if i not in (PAD, BEGIN, END)] for row in ids]
        return [processor.decode(row) for row in rows]


@functools.lru_cache(maxsize=16)
def _processor(file: str, written: int) -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=file)


def _texts(source: Source, column: str, most: int) -> Iterator[str]:
    """Cleaned texts, at most ``most``, evenly spaced."""
    chosen = evenly_spaced(source, most)
    for start in range(0, len(chosen), 1000):
        values = source[chosen[start : start + 1000]][column]
        yield from (text for value in values if not _is_missing(value) and (text := clean(str(value))))


def _allowed(message: str, size: int, column: str) -> int:
    """The vocabulary size that the trainer's message allows.

    Raises:
        InputError: the message is about something else.
    """
    match = re.search(r"value <= (\d+)", message)
    if match:
        allowed = int(match.group(1))
        logging.getLogger(__name__).info("column %s allows %d pieces, not %d", column, allowed, size)
        return allowed
    if "smaller than required_chars" in message:
        fix = "raise vocab_size, or lower character_coverage"
        raise InputError("field tokenizer.vocab_size", "it is smaller than the alphabet", found=str(size), fix=fix)
    raise InputError(f"column {column}", "no tokenizer can be learnt from these texts", found=message.strip())


def token_dropout(tokens: Ragged, rate: float, rng: np.random.Generator, *, keep_last: bool = False) -> Ragged:
    """The tokens, each dropped with probability ``rate``; the first of a row always stays.

    ``keep_last``: so does the last, where it is the special token that closes a row.
    """
    lengths = np.asarray(tokens.lengths)
    keep = rng.random(len(tokens.values)) >= rate
    ends = np.cumsum(lengths)
    keep[(ends - lengths)[lengths > 0]] = True
    if keep_last:
        keep[ends[lengths > 0] - 1] = True
    rows = np.repeat(np.arange(len(lengths)), lengths)
    counts = np.bincount(rows[keep], minlength=len(lengths)).astype(np.int64)
    return replace(tokens, values=tokens.values[keep], lengths=counts)
