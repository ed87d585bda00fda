"""Engines of published tokenizers: the ``tokenizers`` library and SentencePiece models, behind one interface."""

import base64
import functools
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from suite.data.preprocessing.tokenizer_proofs import is_linear
from suite.data.reading import read_text
from suite.errors import InputError
from suite.runtime import decoders, json_files

P = ParamSpec("P")
T = TypeVar("T")

Located = tuple[Sequence[int], Sequence[tuple[int, int]]]
"""Ids of a row and the place of each."""


Typed = tuple[Sequence[int], Sequence[int]]
"""Ids of a row and of which text each is."""


def cut_pair(first: Sequence[int], second: Sequence[int], room: int) -> tuple[Sequence[int], Sequence[int]]:
    """Two rows that fit into ``room`` ids together: the longer one is cut, and both where they are equal."""
    kept = min(len(first), max(room - room // 2, room - len(second)))
    return first[:kept], second[: room - kept]


def surfaces(model: Any, text: str) -> list[tuple[str, int, tuple[int, int]]]:
    """Piece, id and place of each piece that a SentencePiece model cuts a text into.

    What the pieces stand for adds up to the text, whichever way the model writes it; the blank before a word belongs to
    its first piece.
    """
    pieces = (model.encode_as_proto if hasattr(model, "encode_as_proto") else model.encode_as_immutable_proto)(text)
    found: list[tuple[str, int, tuple[int, int]]] = []
    end = 0
    for piece in pieces.pieces:
        start, end = end, end + len(piece.surface)
        found.append((piece.piece, piece.id, (start + len(piece.surface) - len(piece.surface.lstrip()), end)))
    return found


def _unless_it_panics(function: Callable[P, T]) -> Callable[P, T]:
    """A method whose panics, which the library raises as no Exception, are an InputError."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            if not _is_panic(error):
                raise
            found = str(error)[:200]
            raise InputError("tokenizer", "fails at this text", found=found, fix="fetch it again") from None

    return called


def _is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"


class Fast:
    """A ``tokenizer.json``, by the ``tokenizers`` library."""

    def __init__(self, text: str):
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads and forked data workers don't mix
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(text)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._cut = functools.lru_cache(maxsize=4)(self._with_limit)
        self._text = text
        marked = self._tokenizer.encode("").special_tokens_mask
        self.pair_specials = self._tokenizer.num_special_tokens_to_add(True)
        self.specials, self.closes = len(marked), self._tokenizer.encode("a").special_tokens_mask[-1:] == [1]
        self.size = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def _with_limit(self, max_length: int) -> Any:
        """A tokenizer of its own for each limit, since setting one changes it for all threads."""
        tokenizer = type(self._tokenizer).from_str(self._text)
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
        return tokenizer

    @_unless_it_panics
    def encode(self, texts: list[str], max_length: int) -> list[list[int]]:
        return [row.ids for row in self._cut(max_length).encode_batch_fast(texts)]

    @_unless_it_panics
    def located(self, texts: list[str], max_length: int) -> list[Located]:
        rows = self._cut(max_length).encode_batch(texts)
        return [
            (row.ids, [_trimmed(text, place) for place in row.offsets]) for text, row in zip(texts, rows, strict=True)
        ]

    @_unless_it_panics
    def pairs(self, first: list[str], second: list[str], max_length: int) -> list[Typed]:
        rows = self._cut(max_length).encode_batch(list(zip(first, second, strict=True)))
        return [(row.ids, row.type_ids) for row in rows]

    @_unless_it_panics
    def decode(self, rows: list[list[int]]) -> list[str]:
        return self._tokenizer.decode_batch(rows, skip_special_tokens=True)


class Pieces:
    """A SentencePiece model with the ids around each row, and with ids by piece where the model's own don't count."""

    def __init__(self, about: dict[str, Any]):
        import sentencepiece

        self._model = sentencepiece.SentencePieceProcessor(model_proto=base64.b64decode(about["sentencepiece"]))
        self._ids: dict[str, int] | None = about["vocab"]
        self._prefix, self._suffix, self._unknown = about["prefix"], about["suffix"], about["unknown"]
        self.specials, self.closes = len(self._prefix) + len(self._suffix), bool(self._suffix)
        self.pair_specials = self.specials + len(self._suffix)
        self.size = self._model.get_piece_size() if self._ids is None else max(self._ids.values()) + 1

    def encode(self, texts: list[str], max_length: int) -> list[list[int]]:
        most = max_length - self.specials
        if self._ids is None:
            rows = self._model.encode(texts, out_type=int, num_threads=1)
        else:
            rows = [
                [self._ids.get(piece, self._unknown) for piece in row]
                for row in self._model.encode(texts, out_type=str, num_threads=1)
            ]
        return [[*self._prefix, *row[:most], *self._suffix] for row in rows]

    def located(self, texts: list[str], max_length: int) -> list[Located]:
        most = max_length - self.specials
        rows: list[Located] = []
        for text in texts:
            pieces = surfaces(self._model, text)[:most]
            ids = [i if self._ids is None else self._ids.get(piece, self._unknown) for piece, i, _ in pieces]
            end = pieces[-1][2][1] if pieces else 0
            places = [(0, 0)] * len(self._prefix) + [place for _, _, place in pieces] + [(end, end)] * len(self._suffix)
            rows.append(([*self._prefix, *ids, *self._suffix], places))
        return rows

    def pairs(self, first: list[str], second: list[str], max_length: int) -> list[Typed]:
        """The second text follows the token that ends the first."""
        room = max_length - self.pair_specials
        rows: list[Typed] = []
        for both in zip(self._bare(first), self._bare(second), strict=True):
            one, other = cut_pair(*both, room)
            begun = [*self._prefix, *one, *self._suffix]
            ids = [*begun, *other, *self._suffix]
            rows.append((ids, [int(place >= len(begun)) for place in range(len(ids))]))
        return rows

    def _bare(self, texts: list[str]) -> list[list[int]]:
        """Ids of whole texts, without special tokens."""
        rows = self.encode(texts, sys.maxsize)
        return [row[len(self._prefix) : len(row) - len(self._suffix)] for row in rows]

    def decode(self, rows: list[list[int]]) -> list[str]:
        special = {*self._prefix, *self._suffix}
        plain = [[i for i in row if i not in special] for row in rows]
        if self._ids is None:
            size = self._model.get_piece_size()
            own = [[i for i in row if i < size and not self._model.is_control(i)] for row in plain]
            return [self._model.decode(row) for row in own]
        pieces = {i: piece for piece, i in self._ids.items()}
        return [self._model.decode([pieces[i] for i in row if pieces.get(i, "<pad>") != "<pad>"]) for row in plain]


def _trimmed(text: str, place: tuple[int, int]) -> tuple[int, int]:
    """A place without the blanks that a token begins with."""
    start, end = place
    return end - len(text[start:end].lstrip()), end


class Bounded:
    """A ``tokenizer.json`` that is not proven to be linear: it is asked in a decoder process, with a clock."""

    def __init__(self, file: str, written: int):
        self._file, self._written = file, written
        about = decoders.call("tokenizer", facts, file, written)
        self.specials, self.pair_specials, self.closes, self.size = about

    def encode(self, texts: list[str], max_length: int) -> list[list[int]]:
        rows: list[list[int]] = self._asked("encode", texts, max_length)
        return rows

    def located(self, texts: list[str], max_length: int) -> list[Located]:
        rows: list[Located] = self._asked("located", texts, max_length)
        return rows

    def pairs(self, first: list[str], second: list[str], max_length: int) -> list[Typed]:
        rows: list[Typed] = self._asked("pairs", first, second, max_length)
        return rows

    def decode(self, rows: list[list[int]]) -> list[str]:
        texts: list[str] = self._asked("decode", rows)
        return texts

    def _asked(self, method: str, *args: Any) -> Any:
        return decoders.call("text", asked, self._file, self._written, method, *args)


Engine = Fast | Pieces | Bounded
"""What a published tokenizer is asked through."""

PROBES = (
    "",
    "a",
    "a" * 30 + "b",
    "1" * 30 + "x",
    " " * 30 + "x" + " " * 30,
    "A man, aged 37, said: \"It's 1,000.50 € — isn't it?\"\n\n\tHe'd been there.",
    "Ünïcödé ﬁ ㍿ Å e\u0301 ǅ İstanbul ß 漢字かな交じり文 한국어 हिन्दी العربية עברית ไทย 👩‍👩‍👧 🙂\ufeff\u200b\x00\x7f",
    "".join(chr(code) for code in (*range(0x20, 0x3000, 7), *range(0xF900, 0xFFF0, 5), *range(0x1F300, 0x1F700, 9))),
    "word " * 400 + "w" * 2_000,
)
"""Texts that a tokenizer is tried on before it is used."""
PROBING = 10.0
"""Seconds of processor time in which a tokenizer is read and tried."""


def facts(file: str, written: int) -> tuple[int, int, bool, int]:
    """Special tokens of a row and of a pair, whether a row closes with one, and the size; in a decoder process."""
    fast = engine(file, written)
    return fast.specials, fast.pair_specials, fast.closes, fast.size


def asked(file: str, written: int, method: str, *args: Any) -> Any:
    """What a method of the engine of ``file`` returns; in a decoder process."""
    return getattr(engine(file, written), method)(*args)


def probed(file: str, written: int) -> None:
    """Tries a tokenizer on PROBES; in a decoder process, which bad ones end."""
    fast = engine(file, written)
    room = fast.pair_specials + 64
    rows = fast.encode(list(PROBES), room)
    fast.located(list(PROBES), room)
    fast.pairs(list(PROBES), list(reversed(PROBES)), room)
    fast.decode(rows)


@functools.lru_cache(maxsize=16)
def engine(file: str, written: int) -> Engine:
    """The engine of a tokenizer that a run or a bundle keeps.

    A ``tokenizer.json`` is first read and tried in a decoder process, so that one which ends the process, or never
    ends, is refused in words.

    Raises:
        InputError: it cannot be used.
    """
    name = f"tokenizer {file}"
    text = read_text(Path(file))
    try:
        about = json_files.parse(text, name, "fetch it again")
        if "sentencepiece" in about:
            return Pieces(about)
        if isinstance(about.get("tokenizer"), dict):  # beside what else a run keeps of it
            about = about["tokenizer"]
            text = json.dumps(about, ensure_ascii=False)
    except InputError as error:
        raise InputError(name, f"cannot be read: it {error.problem}", found=error.found, fix=error.fix) from None
    except Exception as error:  # the library raises bare ones
        raise _unreadable(name, error) from None
    if not decoders.is_decoder():
        _try(name, file, written)
        if not is_linear(about):
            return Bounded(file, written)
    try:
        return Fast(text)
    except BaseException as error:  # a panic of the library's is no Exception
        if isinstance(error, MemoryError) or not (isinstance(error, Exception) or _is_panic(error)):
            raise
        raise _unreadable(name, error) from None


def _try(name: str, file: str, written: int) -> None:
    """Refuses a tokenizer that fails at PROBES. Data workers leave that to the process that started them."""
    if multiprocessing.parent_process() is not None:
        return
    try:
        with decoders.for_seconds(PROBING):
            decoders.call(name, probed, file, written)
    except InputError as error:
        tells = isinstance(error, decoders.Ended) or error.where != name
        problem = f"cannot be used: it {error.problem}" if tells else error.problem
        raise InputError(name, problem, found=error.found, fix="fetch it again") from None


def _unreadable(name: str, error: BaseException) -> InputError:
    return InputError(name, f"cannot be read: {error}", fix="fetch it again")
