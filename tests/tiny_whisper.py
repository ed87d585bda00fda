"""A tiny published Whisper: sizes, special tokens and a tokenizer of bytes, for tests."""

import json

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from tests.parity import golden

POSITIONS, PLACES, BINS = 30, 40, 10
"""Frames of the memory in a window of 0.6 s, tokens of the decoder, mel bands."""
END, START = 256, 257
LANGUAGES = {"<|en|>": 258, "<|de|>": 259, "<|ja|>": 260}
TASKS = {"translate": 261, "transcribe": 262}
SILENCE, UNTIMED = 263, 264
BEGIN = UNTIMED + 1
SIZE = BEGIN + POSITIONS + 1
NAMES = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    *LANGUAGES,
    *(f"<|{name}|>" for name in TASKS),
    "<|nospeech|>",
    "<|notimestamps|>",
    *(f"<|{0.02 * place:.2f}|>" for place in range(POSITIONS + 1)),
)
SIZES = dict(
    vocab_size=SIZE,
    num_mel_bins=BINS,
    d_model=24,
    encoder_layers=2,
    encoder_attention_heads=3,
    encoder_ffn_dim=40,
    decoder_layers=2,
    decoder_attention_heads=2,
    decoder_ffn_dim=36,
    max_source_positions=POSITIONS,
    max_target_positions=PLACES,
    pad_token_id=END,
    bos_token_id=END,
    eos_token_id=END,
    decoder_start_token_id=START,
)
GENERATION = dict(
    is_multilingual=True,
    lang_to_id=LANGUAGES,
    task_to_id=TASKS,
    no_timestamps_token_id=UNTIMED,
    suppress_tokens=[3, 7, START, *LANGUAGES.values(), *TASKS.values(), SILENCE],
    begin_suppress_tokens=[10, END],
    max_initial_timestamp_index=12,
    decoder_start_token_id=START,
    eos_token_id=END,
    pad_token_id=END,
    bos_token_id=END,
    max_length=PLACES,
)


def tokenizer():
    """A ``tokenizer.json``: a piece a byte, special tokens behind them, rows as Whisper has them."""
    vocabulary = {letter: place for place, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(NAMES))
    made.post_processor = processors.TemplateProcessing(
        single="<|startoftranscript|> <|notimestamps|> $A <|endoftext|>",
        pair="<|startoftranscript|> <|notimestamps|> $A $B <|endoftext|>",
        special_tokens=[(NAMES[i - END], i) for i in (START, UNTIMED, END)],
    )
    return made


def folder(path):
    """The published folder of the model whose answers are stored as ``whisper_transcription``."""
    golden.folder(golden.load("whisper_transcription"), path)
    tokenizer().save(str(path / "tokenizer.json"))
    (path / "generation_config.json").write_text(json.dumps(GENERATION))
    return path
