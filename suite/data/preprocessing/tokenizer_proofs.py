"""Linear tokenizers: which ``tokenizer.json`` is proven to take time and memory in proportion to a text.

The library's regular expressions backtrack, so one such as ``(a+)+$`` takes for ever at 31 letters; a replacement that
doubles a text can be stated 40 times; a map of characters that is damaged ends the process. So a tokenizer is proven
part by part: by parts that the library itself defines, and by the expressions, replacements and maps of known families.
"""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

PARTS = 8
"""Most parts of one kind, one after the other."""
WORD = 200
"""Most characters of a word that WordPiece looks for pieces in: it looks at all of its parts."""

NORMALIZERS = ("BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Strip", "StripAccents", "ByteLevel")
"""Normalisers without a choice of pattern."""
SPLITTERS = (
    "BertPreTokenizer",
    "ByteLevel",
    "CharDelimiterSplit",
    "Digits",
    "Metaspace",
    "Punctuation",
    "UnicodeScripts",
    "Whitespace",
    "WhitespaceSplit",
)
"""Pre-tokenisers without a choice of pattern."""
MODELS = ("BPE", "Unigram", "WordLevel", "WordPiece")
PROCESSORS = ("BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing")
DECODERS = ("BPEDecoder", "ByteFallback", "ByteLevel", "CTC", "Fuse", "Metaspace", "Strip", "WordPiece")

_CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
_FOLDED = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|"
EXPRESSIONS = frozenset(
    (
        r" {2,}",
        r"\s+",
        r"\s",
        r"\d",
        r"\d+",
        r"\p{N}",
        r"\p{N}{1,3}",
        r"[0-9]",
        r"[0-9][0-9][0-9]",
        r"[\r\n]",
        r"\n+",
        # GPT-2 and CLIP
        rf"{_CONTRACTIONS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+",
        rf"{_CONTRACTIONS}|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+",
        # Llama 3, Qwen 2
        rf"{_FOLDED}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_BLANKS}",
        rf"{_FOLDED}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_BLANKS}",
        # GPT-4o, Llama 4
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_FOLDED}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_FOLDED}?"
        rf"|\p{{N}}{{1,3}}{_SIGNS}{_BLANKS}",
        # Bloom
        r" ?[^(\s|[.,!?…。，、।۔،])]+",
    )
)
"""Regular expressions that look at each character a few times, whatever the text: no repetition stands within another,
and what follows one either begins with other characters or may be left out."""
REPLACEMENTS = frozenset((("▁", " "), (" ", "▁"), ("``", '"'), ("''", '"'), ("\u2581", " "), ("\n", " ")))
"""Replacements of a text by one that is no longer."""
MAPS = frozenset(
    (
        "1e2c7b43d3ee9755ceaa2ac335e253d8703604e0249ee1e81156c92b46423844",  # nmt_nfkc
        "7e46d9e08af4b6a37991b04fb8388644c1595a0abcd0f26d6a5d575e2a3663ea",  # nfkc
        "2c03512e62f9ed965ec90d85314211b63b5b8aa0395311ea2147eec9ff738907",  # nmt_nfkc_cf
        "d8dfef3d6db0eef0742f8b55a73aee7fce6c1e21d26a09b8d3d4b52c42a791cb",  # nfkc_cf
    )
)
"""SHA-256 of the maps of characters that SentencePiece comes with."""


def is_linear(about: Mapping[str, Any]) -> bool:
    """Whether each part of a ``tokenizer.json``, parsed, is a known one.

    What is not proven may be harmless: it is asked in a process that can be ended.
    """
    try:
        return (
            all(_is_normalizer(part) for part in _parts(about.get("normalizer"), "normalizers"))
            and all(_is_splitter(part) for part in _parts(about.get("pre_tokenizer"), "pretokenizers"))
            and all(part["type"] in PROCESSORS for part in _parts(about.get("post_processor"), "processors"))
            and all(_is_decoder(part) for part in _parts(about.get("decoder"), "decoders"))
            and _is_model(about["model"])
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return False  # not as the library writes it


def _parts(stated: Any, within: str) -> list[Any]:
    """The parts of one kind, in their order; none, one, or a sequence of them, which holds no sequence.

    Raises:
        ValueError: they are too many.
    """
    if stated is None:
        return []
    parts = stated[within] if stated["type"] == "Sequence" else [stated]
    if len(parts) > PARTS:
        raise ValueError
    return list(parts)


def _is_normalizer(part: Mapping[str, Any]) -> bool:
    kind = part["type"]
    if kind == "Prepend":
        return len(part["prepend"]) <= PARTS
    if kind == "Precompiled":
        return hashlib.sha256(base64.b64decode(part["precompiled_charsmap"])).hexdigest() in MAPS
    return _is_replacement(part) if kind == "Replace" else kind in NORMALIZERS


def _is_splitter(part: Mapping[str, Any]) -> bool:
    if part["type"] == "Split":
        return _is_pattern(part["pattern"])
    return part["type"] in SPLITTERS


def _is_decoder(part: Mapping[str, Any]) -> bool:
    return _is_replacement(part) if part["type"] == "Replace" else part["type"] in DECODERS


def _is_pattern(pattern: Mapping[str, str]) -> bool:
    """Whether a pattern is a text that is looked for as it is, or a known expression."""
    return "String" in pattern if "Regex" not in pattern else pattern["Regex"] in EXPRESSIONS


def _is_replacement(part: Mapping[str, Any]) -> bool:
    pattern, content = part["pattern"], part["content"]
    if "Regex" in pattern:
        return pattern["Regex"] in EXPRESSIONS and len(content) <= 1
    return (pattern["String"], content) in REPLACEMENTS or len(content) <= len(pattern["String"])


def _is_model(model: Mapping[str, Any]) -> bool:
    # Older files leave the type out, and the library tells models apart by their fields.
    kind = model.get("type") or ("BPE" if "merges" in model else "WordLevel")
    return kind in MODELS and model.get("max_input_chars_per_word", 0) <= WORD
