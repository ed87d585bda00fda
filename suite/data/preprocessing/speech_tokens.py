"""Tokens of a model that says what it hears: pieces of text, and special tokens that steer it, as Whisper has them.

They are those of published weights, or learnt from the training transcripts: then there are neither languages nor
timestamps. Dims: b texts.
"""

import functools
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.contracts.batch import Ragged
from suite.contracts.bounds import LENGTH, Bounds
from suite.contracts.data import Source
from suite.data.preprocessing.text import clean
from suite.data.preprocessing.tokenizer_engines import engine
from suite.data.preprocessing.tokenizer_files import collected
from suite.data.preprocessing.tokenizers import Published, ragged
from suite.data.reading import changed
from suite.errors import InputError, closest
from suite.runtime import json_files
from suite.runtime.files import write_text

ACTIONS = ("transcribe", "translate")
"""What a model may be asked to do: write down in the language that is spoken, or in English."""
START, END, UNTIMED = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>"
SILENCE = ("<|nospeech|>", "<|nocaptions|>")
"""Names of the token that says that nothing is spoken."""
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
_LATEST = 50
"""Timestamps after the first one that a window may begin with, where the weights don't say it: one second."""
_MULTILINGUAL = 51_865
"""Rows of the token tables of published models that know several languages, at least; of English alone it is fewer."""
MOST_IDS = 1 << 24
"""Ids of any vocabulary."""


@dataclass(frozen=True)
class Special:
    """Ids of the special tokens.

    Attributes:
        start: begins every row.
        end: ends a row; the pieces of texts lie below it.
        languages: code of a language -> its token; empty where the model knows one language.
        actions: name -> token; empty as ``languages`` are.
        untimed: says that no timestamps follow; -1: there is none.
        begin: first timestamp, the others follow it; 0: there are none.
        silence: says that nothing is spoken; -1: there is none.
        never: tokens that are never said.
        first: tokens that no row begins with.
        latest: timestamps after the first one that a row may begin with.
    """

    start: int
    end: int
    languages: dict[str, int] = field(default_factory=dict)
    actions: dict[str, int] = field(default_factory=dict)
    untimed: int = -1
    begin: int = 0
    silence: int = -1
    never: tuple[int, ...] = ()
    first: tuple[int, ...] = ()
    latest: int = _LATEST

    @property
    def largest(self) -> int:
        """The largest id of them."""
        known = (self.start, self.end, self.untimed, self.begin, self.silence)
        return max(*known, *self.languages.values(), *self.actions.values())


@dataclass(frozen=True, kw_only=True)
class SpeechTokens(Published):
    """The tokenizer of published weights, with what their ``generation_config.json`` says of special tokens; without
    weights, pieces of bytes that are learnt from the training transcripts."""

    number_bounds: ClassVar[Bounds] = {"vocab_size": LENGTH}

    vocab_size: int = 1000
    """Most pieces to learn, where there are no weights."""

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the tokenizer and the settings of generation to ``path``.

        Raises:
            InputError: the folder ``source`` has no tokenizer that can be read, or lacks special tokens.
        """
        content = _published(Path(self.source).expanduser()) if self.source else _learnt(source, column, self)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        written = changed(str(partial))
        _special(str(partial), written)
        engine(str(partial), written)  # so that a file that can't be used is refused now
        os.replace(partial, path)

    def check(self) -> None:
        super().check()
        _ = self.special

    @property
    def special(self) -> Special:
        """Ids of the special tokens."""
        return _special(self.file, changed(self.file))

    def sizes(self) -> dict[str, int]:
        """``vocab_size``: ids in use, the largest plus one."""
        return {"vocab_size": max(self._engine.size, self.special.largest + 1)}

    def targets(
        self, texts: Sequence[str], max_length: int, sample: np.random.Generator | None = None, alpha: float = 0.1
    ) -> Ragged:
        """Pieces of each text behind a blank, as Whisper begins, and the end; of a text that is too long neither its
        rest nor the end."""
        end = self.end
        rows = [[*pieces, end][:max_length] for pieces in self._pieces(texts)]
        return ragged(rows)

    def longest(self, texts: Sequence[str]) -> np.ndarray:
        """Tokens (b,) of each text, its end among them."""
        return np.array([len(pieces) + 1 for pieces in self._pieces(texts)], np.int64)

    def _pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of whole texts, without special tokens."""
        if not len(texts):
            return []
        around = self._engine.encode([""], MOST_IDS)[0]
        behind = 1 if self._engine.closes else 0
        before = len(around) - behind
        rows = self._engine.encode([f" {clean(str(text))}" for text in texts], MOST_IDS)
        return [list(row[before : len(row) - behind]) for row in rows]

    @property
    def end(self) -> int:
        return self.special.end

    def language(self, value: Any) -> int:
        """Token of a language by its code; -1 where none is given.

        Raises:
            InputError: the model has no such language, or knows one alone.
        """
        known = self.special.languages
        return -1 if _missing(value) else _token(value, known, "language", "no language can be asked for: it knows one")

    def action(self, value: Any, default: str = ACTIONS[0]) -> int:
        """Token of what is to be done, ``default`` where it isn't said; -1 where the model does one thing alone.

        Raises:
            InputError: the model does no such thing.
        """
        known, asked = self.special.actions, default if _missing(value) else value
        if not known and str(asked).strip().lower() == ACTIONS[0]:
            return -1
        return _token(asked, known, "task", "nothing else can be asked for: it transcribes")

    def publish(self, folder: Path) -> None:
        content = json_files.read_object(self.file)
        for name, kept in (("tokenizer.json", "tokenizer"), ("generation_config.json", "generation")):
            if content.get(kept):
                write_text(folder / name, json.dumps(content[kept], ensure_ascii=False) + "\n")


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _token(value: Any, known: dict[str, int], name: str, alone: str) -> int:
    asked = str(value).strip().lower()
    if asked in known:
        return known[asked]
    near = closest(asked[:20], known) or next(iter(known), "")
    problem = f'is none of this model\'s: "{asked:.40}".' if known else f"{alone}."
    found = ", ".join(list(known)[:120])
    raise InputError(
        f'input "{name}"', problem, found=found, fix=f'"{name}": "{near}"' if near else f'leave "{name}" out'
    )


def _published(folder: Path) -> dict[str, Any]:
    """What a run keeps of the tokenizer and the settings of generation in a folder of weights."""
    text = collected(folder, "source")
    where = f"tokenizer in {folder}"
    tokenizer = json_files.parse(text, where, "fetch it again")
    if not isinstance(tokenizer, dict) or "sentencepiece" in tokenizer:
        raise InputError(where, "is no tokenizer of Whisper's.", fix=f"a folder with {START} in tokenizer.json")
    return {"tokenizer": tokenizer, "generation": _stated(folder)}


def _stated(folder: Path) -> dict[str, Any]:
    """The settings of generation; those that older folders have in ``config.json``."""
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            return json_files.read_object(folder / name, "fetch it again")
    return {}


def _learnt(source: Source, column: str, tokens: SpeechTokens) -> dict[str, Any]:
    """Pairs of bytes that are often side by side, and three special tokens behind them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=tokens.vocab_size, initial_alphabet=alphabet, show_progress=False)

    def texts() -> Iterator[str]:
        for first in range(0, len(source), 4096):
            for text in source[np.arange(first, min(first + 4096, len(source)))][column]:
                yield f" {clean(str(text))}"

    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.add_special_tokens([END, START, UNTIMED])
    return {"tokenizer": json.loads(tokenizer.to_str()), "generation": {"is_multilingual": False}}


@functools.lru_cache(maxsize=16)
def _special(file: str, written: int) -> Special:
    return json_files.load(file, _read, "fetch it again")


def _read(content: Any) -> Special:
    generation = content.get("generation") or {}
    named = {str(token["content"]): _id(token["id"]) for token in content["tokenizer"].get("added_tokens") or ()}
    lacking = [name for name in (START, END) if name not in named]
    if lacking:
        raise json_files.Malformed(f"no token {' and no token '.join(lacking)}, which a model of speech has")
    stated = generation.get("no_timestamps_token_id")
    untimed = _id(named.get(UNTIMED, -1) if stated is None else stated, -1)
    latest = generation.get("max_initial_timestamp_index", _LATEST)
    # A vocabulary that was learnt here has no timestamps: no training states any.
    timed = untimed >= 0 and (len(generation) > 1 or any(name in named for name in SILENCE))
    # Vocabularies of English alone have the tokens of languages all the same, and no row of theirs holds one.
    large = generation.get("vocab_size", 0) >= _MULTILINGUAL
    many = generation.get("is_multilingual", "lang_to_id" in generation or large or not generation)
    listed = (generation.get("lang_to_id") or named).items()
    codes = {match[1]: _id(number) for name, number in listed if (match := _LANGUAGE.fullmatch(name))}
    actions = generation.get("task_to_id") or {name: named[f"<|{name}|>"] for name in ACTIONS if f"<|{name}|>" in named}
    return Special(
        start=named[START],
        end=named[END],
        languages=codes if many else {},
        actions={name: _id(actions[name]) for name in ACTIONS if name in actions} if many and codes else {},
        untimed=untimed,
        begin=untimed + 1 if timed else 0,
        silence=next((named[name] for name in SILENCE if name in named), -1),
        never=tuple(_id(number) for number in generation.get("suppress_tokens") or () if number != -1),
        first=tuple(_id(number) for number in generation.get("begin_suppress_tokens") or ()),
        latest=MOST_IDS if latest is None else _id(latest),
    )


def _id(value: Any, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < MOST_IDS:
        raise json_files.Malformed(f"{value!r:.60} is no id of a token")
    return value
