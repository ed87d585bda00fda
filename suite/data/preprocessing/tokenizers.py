"""Tokenizers: the contract of both kinds, and those that come with published weights.

A published tokenizer is a ``tokenizer.json``, BERT's ``vocab.txt``, GPT-2's and RoBERTa's ``vocab.json`` and
``merges.txt``, or a SentencePiece model (T5, Llama; Marian's with a ``vocab.json``). Whichever it is, the run keeps it
as one JSON file. Dims: b texts.
"""

import base64
import functools
import itertools
import json
import os
import shutil
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from suite.contracts.batch import Ragged
from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.reading import changed, lines, read_text
from suite.errors import InputError
from suite.runtime.files import write_text

PIECES = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
"""Names under which SentencePiece models are published."""
BEGINS = ("llama", "mistral", "gemma")
"""Families whose SentencePiece rows begin with a token of their own, where ``tokenizer_config.json`` doesn't say."""
ENDS = ("t5", "mt5", "marian", "pegasus")
"""Families whose SentencePiece rows end with one."""


@dataclass(frozen=True, kw_only=True)
class Tokenizer(Preprocessor):
    """Texts to rows of ids, and back."""

    column: str = "text"
    """Field of the task that names the column of texts."""

    @abstractmethod
    def encode(
        self, texts: Sequence[str], max_length: int, sample: np.random.Generator | None = None, alpha: float = 0.1
    ) -> Ragged:
        """Ids of each of b texts, at most ``max_length`` a row, with the special tokens the model knows.

        Args:
            texts: b texts.
            max_length: most ids a row; special tokens stay, text is cut.
            sample: draws one of many segmentations, where the tokenizer can (arXiv 1804.10959).
            alpha: sharpness of that draw.

        Returns:
            int32 ids.
        """

    @abstractmethod
    def decode(self, ids: Sequence[Sequence[int]] | np.ndarray) -> list[str]:
        """Text of each row of ids; special tokens leave no trace."""

    @abstractmethod
    def targets(
        self, texts: Sequence[str], max_length: int, sample: np.random.Generator | None = None, alpha: float = 0.1
    ) -> Ragged:
        """As `encode`, rows that a decoder is to say: they close with ``end``."""

    @property
    @abstractmethod
    def end(self) -> int:
        """Id with which a decoder says that it is done."""

    @property
    def closes(self) -> bool:
        """Whether each row of `encode` ends with a special token."""
        return False

    def publish(self, folder: Path) -> None:
        """Write the tokenizer beside published weights, in a file that other libraries read."""
        shutil.copyfile(self.file, folder / f"tokenizer{self.suffix}")


def ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    """Rows of ids end to end, int32."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return Ragged(np.fromiter(itertools.chain.from_iterable(rows), np.int32, int(lengths.sum())), lengths)


@dataclass(frozen=True, kw_only=True)
class Published(Tokenizer):
    """The tokenizer that weights were trained with. A model may have more rows than the ids in its ``sizes``."""

    suffix: ClassVar[str] = ".json"

    source: str = ""
    """A folder, or a name on the Hugging Face hub. Empty: that of the weights training starts from."""
    side: Literal["source", "target"] = "source"
    """Which of the two of a translation model that has one for each language; both index one table."""

    def __post_init__(self):
        if self.side == "target":
            object.__setattr__(self, "shares", True)

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Takes the tokenizer from the folder ``source`` and writes it to ``path``; the texts are not read.

        Raises:
            InputError: no folder is named, or it has no tokenizer that can be read.
        """
        if not self.source:
            raise InputError(
                "field task.tokenizer.source",
                "is empty, and training starts from no published weights.",
                fix="--checkpoint.init_from FOLDER",
            )
        collected = _collect(Path(self.source).expanduser(), self.side)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(collected, encoding="utf-8")
        _engine(str(partial), changed(str(partial)))  # so that a file that can't be used is refused now
        os.replace(partial, path)

    def sizes(self) -> dict[str, int]:
        """``vocab_size``: ids in use, the largest plus one."""
        return {"vocab_size": self._engine.size}

    def encode(
        self, texts: Sequence[str], max_length: int, sample: np.random.Generator | None = None, alpha: float = 0.1
    ) -> Ragged:
        if sample is not None:
            raise InputError(
                "field task.sampling", "a published tokenizer has one segmentation only.", fix="--task.sampling 0"
            )
        if max_length <= self._engine.specials:
            raise InputError(
                "field task.max_length",
                f"leaves no room beside {self._engine.specials} special tokens.",
                found=str(max_length),
            )
        return ragged(self._engine.encode([str(text) for text in texts], max_length) if len(texts) else [])

    def targets(
        self, texts: Sequence[str], max_length: int, sample: np.random.Generator | None = None, alpha: float = 0.1
    ) -> Ragged:
        """The rows of `encode`: published decoders say what published tokenizers make of a text."""
        return self.encode(texts, max_length, sample, alpha)

    @property
    def end(self) -> int:
        """The last id of each row.

        Raises:
            InputError: rows end with none of their own.
        """
        if not self.closes:
            raise InputError(
                "field task.tokenizer",
                "its rows end with no token of their own, so that a decoder would never be done.",
                found=self.source or self.file,
                fix="the tokenizer of an encoder-decoder, such as T5's or Marian's",
            )
        return self._engine.encode(["a"], self._engine.specials + 1)[0][-1]

    def decode(self, ids: Sequence[Sequence[int]] | np.ndarray) -> list[str]:
        return self._engine.decode([[int(i) for i in row] for row in ids])

    @property
    def closes(self) -> bool:
        return self._engine.closes

    def publish(self, folder: Path) -> None:
        about = json.loads(read_text(Path(self.file)))
        if "sentencepiece" not in about:
            super().publish(folder)
            return
        (folder / about["name"]).write_bytes(base64.b64decode(about["sentencepiece"]))
        if about["vocab"] is not None:
            write_text(folder / "vocab.json", json.dumps(about["vocab"], ensure_ascii=False) + "\n")

    @property
    def _engine(self) -> "_Fast | _Pieces":
        return _engine(self.file, changed(self.file))


class _Fast:
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
        self.specials, self.closes = len(marked), self._tokenizer.encode("a").special_tokens_mask[-1:] == [1]
        self.size = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def _with_limit(self, max_length: int) -> Any:
        """A tokenizer of its own for each limit, since setting one changes it for all threads."""
        tokenizer = type(self._tokenizer).from_str(self._text)
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
        return tokenizer

    def encode(self, texts: list[str], max_length: int) -> list[list[int]]:
        return [row.ids for row in self._cut(max_length).encode_batch_fast(texts)]

    def decode(self, rows: list[list[int]]) -> list[str]:
        return self._tokenizer.decode_batch(rows, skip_special_tokens=True)


class _Pieces:
    """A SentencePiece model with the ids around each row, and with ids by piece where the model's own don't count."""

    def __init__(self, about: dict[str, Any]):
        import sentencepiece

        self._model = sentencepiece.SentencePieceProcessor(model_proto=base64.b64decode(about["sentencepiece"]))
        self._ids: dict[str, int] | None = about["vocab"]
        self._prefix, self._suffix, self._unknown = about["prefix"], about["suffix"], about["unknown"]
        self.specials, self.closes = len(self._prefix) + len(self._suffix), bool(self._suffix)
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

    def decode(self, rows: list[list[int]]) -> list[str]:
        special = {*self._prefix, *self._suffix}
        plain = [[i for i in row if i not in special] for row in rows]
        if self._ids is None:
            size = self._model.get_piece_size()
            own = [[i for i in row if i < size and not self._model.is_control(i)] for row in plain]
            return [self._model.decode(row) for row in own]
        pieces = {i: piece for piece, i in self._ids.items()}
        return [self._model.decode([pieces[i] for i in row if pieces.get(i, "<pad>") != "<pad>"]) for row in plain]


@functools.lru_cache(maxsize=16)
def _engine(file: str, written: int) -> _Fast | _Pieces:
    text = read_text(Path(file))
    try:
        about = json.loads(text)
        return _Pieces(about) if "sentencepiece" in about else _Fast(text)
    except Exception as error:  # the library raises bare ones
        raise InputError(f"tokenizer {file}", f"cannot be read: {error}", fix="fetch it again") from None


def _collect(folder: Path, side: str) -> str:
    """What the run keeps of the tokenizer in ``folder``.

    Raises:
        InputError: there is none.
    """
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if "tokenizer.json" in names:
        return read_text(folder / "tokenizer.json")
    settings = {**_json(folder / "config.json"), **_json(folder / "tokenizer_config.json")}
    pieces = next((name for name in (f"{side}.spm", *PIECES) if name in names), None)
    try:
        if pieces:
            return _from_pieces(folder, pieces, settings)
        if "vocab.txt" in names:
            return _word_piece(read_text(folder / "vocab.txt"), settings)
        if {"vocab.json", "merges.txt"} <= set(names):
            return _byte_pairs(_json(folder / "vocab.json"), read_text(folder / "merges.txt"), settings)
    except InputError:
        raise
    except Exception as error:  # two libraries' own kinds
        raise InputError(f"tokenizer in {folder}", f"cannot be read: {error}", fix="fetch it again") from None
    fix = f"a folder with tokenizer.json, vocab.txt, vocab.json and merges.txt, or {PIECES[0]}"
    raise InputError(
        "field task.tokenizer.source", f'"{folder}" has no tokenizer.', found=", ".join(names) or "nothing", fix=fix
    )


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(str(path), f"is not JSON: {error}", fix="fetch it again") from None
    return content if isinstance(content, dict) else {}


def _from_pieces(folder: Path, name: str, settings: dict[str, Any]) -> str:
    """A SentencePiece model, and which ids stand around each row."""
    import sentencepiece

    content = (folder / name).read_bytes()
    model = sentencepiece.SentencePieceProcessor(model_proto=content)
    vocab = _json(folder / "vocab.json") if name.endswith(".spm") else None
    end = model.eos_id() if vocab is None else vocab["</s>"]
    kind = settings.get("model_type", "")
    known = kind in (*BEGINS, *ENDS) or {"add_bos_token", "add_eos_token"} & settings.keys()
    if not known:
        fix = "a tokenizer_config.json with add_bos_token and add_eos_token"
        raise InputError(
            f"tokenizer in {folder}",
            "does not say which special tokens its rows have.",
            found=f'model_type "{kind}"',
            fix=fix,
        )
    begins = settings.get("add_bos_token", kind in BEGINS)
    ends = settings.get("add_eos_token", kind in ENDS)
    about = {
        "sentencepiece": base64.b64encode(content).decode(),
        "name": name,
        "vocab": vocab,
        "prefix": [model.bos_id()] if begins else [],
        "suffix": [end] if ends else [],
        "unknown": model.unk_id() if vocab is None else vocab["<unk>"],
    }
    return json.dumps(about)


def _word_piece(text: str, settings: dict[str, Any]) -> str:
    """BERT's: normalise, split at blanks and punctuation, then the longest known pieces; [CLS] text [SEP]."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocab = {line: place for place, line in enumerate(lines(text)) if line}
    special = [name for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if name in vocab]
    lower = settings.get("do_lower_case", True)
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=lower,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, vocab[name]) for name in ("[CLS]", "[SEP]")]
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(special)
    return tokenizer.to_str()


def _byte_pairs(vocab: dict[str, Any], merges: str, settings: dict[str, Any]) -> str:
    """GPT-2's byte pairs; RoBERTa's are the same with <s> text </s>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    ranked = [line for line in lines(merges) if line and not line.startswith("#version")]
    pairs = [(left, right) for left, _, right in (line.partition(" ") for line in ranked)]
    tokenizer = Tokenizer(models.BPE(vocab, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=settings.get("add_prefix_space", False))
    tokenizer.decoder = decoders.ByteLevel()
    ends = [(name, vocab[name]) for name in ("<s>", "</s>") if name in vocab]
    if len(ends) == 2:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    known = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>")
    tokenizer.add_special_tokens([name for name in known if name in vocab])
    return tokenizer.to_str()
