"""Files of published tokenizers: what a run keeps of the tokenizer in a folder of published weights."""

import base64
import json
from pathlib import Path
from typing import Any

from suite.data.reading import lines, read_text
from suite.errors import InputError
from suite.runtime import json_files

PIECES = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
"""Names under which SentencePiece models are published."""
BEGINS = ("llama", "mistral", "gemma")
"""Families whose SentencePiece rows begin with a token of their own, where ``tokenizer_config.json`` doesn't say."""
ENDS = ("t5", "mt5", "marian", "pegasus")
"""Families whose SentencePiece rows end with one."""


def collected(folder: Path, side: str) -> str:
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
    content = json_files.read(path, "fetch it again")
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
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocab[name]) for name in ("[CLS]", "[SEP]")],
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
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
        )
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    known = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>")
    tokenizer.add_special_tokens([name for name in known if name in vocab])
    return tokenizer.to_str()
