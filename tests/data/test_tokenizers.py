"""Tokenizers of published weights: each layout, what stands around a row, where a run finds them."""

import json
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from suite.bundles.codecs import _check_preprocessors
from suite.codecs.text import Translations
from suite.contracts.batch import Ragged
from suite.data.preprocessing import tokenizer_engines
from suite.data.preprocessing.text import SentencePiece, token_dropout
from suite.data.preprocessing.tokenizer_engines import Bounded, Fast
from suite.data.preprocessing.tokenizer_proofs import EXPRESSIONS, is_linear
from suite.data.preprocessing.tokenizers import Published
from suite.data.sources.datasets import Memory, SyntheticSentiment
from suite.errors import InputError
from suite.experiment.sections import Experiment, replace
from suite.models import transformer
from suite.runtime import decoders
from suite.tasks.text.classification import TextClassification
from suite.training.preprocessors import bind, fill, prepare
from tests import hostile

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "##s", "cafe", "fine", ".", "\u96fb", "not"]
GPT2 = {"a": 0, "b": 1, "\u0120": 2, "ab": 3, "\u0120ab": 4, "<|endoftext|>": 5}
MERGES = "#version: 0.2\na b\n\u0120 ab\n"


def published(folder, **options):
    """The tokenizer of a folder, as a run keeps it."""
    file = folder / "run" / "tokenizer.json"
    file.parent.mkdir(exist_ok=True)
    Published(source=str(folder), **options).fit(Memory({"text": ["unused"]}), "text", file)
    assert [path.name for path in file.parent.iterdir()] == ["tokenizer.json"]
    return Published(file=str(file), **options)


def rows(ids: Ragged):
    return [row.tolist() for row in np.split(ids.values, np.cumsum(ids.lengths)[:-1])]


@pytest.fixture
def bert(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return tmp_path


def test_vocab_txt(bert):
    tokenizer = published(bert)
    ids = tokenizer.encode(["A film.", "", "Caf\u00e9s, \u96fba films!"], 16)
    assert ids.values.dtype == np.int32
    assert rows(ids) == [[2, 5, 6, 10, 3], [2, 3], [2, 8, 7, 1, 11, 5, 6, 7, 1, 3]]
    assert tokenizer.sizes() == {"vocab_size": 13} and tokenizer.closes
    assert tokenizer.decode(rows(ids)[:2]) == ["a film.", ""]


def test_a_line_of_vocab_txt_ends_in_a_line_feed_alone(bert):
    (bert / "vocab.txt").write_text("\n".join([*WORDS[:5], "\u2028", *WORDS[5:]]) + "\n", encoding="utf-8")
    assert rows(published(bert).encode(["A film."], 16)) == [[2, 6, 7, 11, 3]]


def test_vocab_txt_that_keeps_case(bert):
    (bert / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert rows(published(bert).encode(["A a"], 8)) == [[2, 1, 5, 3]]


def test_a_row_is_cut_before_its_last_special_token(bert):
    tokenizer = published(bert)
    assert rows(tokenizer.encode(["a film a film a film", "a"], 5)) == [[2, 5, 6, 5, 3], [2, 5, 3]]
    assert rows(tokenizer.encode(["a film a film a film"], 64)) == [[2, 5, 6, 5, 6, 5, 6, 3]]
    assert tokenizer.encode([], 8).lengths.shape == (0,)


def test_tokenizer_json_loses_its_own_padding_and_cut(bert):
    stored = json.loads(Path(published(bert).file).read_text())
    stored["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    stored["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    (bert / "vocab.txt").unlink()
    (bert / "tokenizer.json").write_text(json.dumps(stored))
    assert rows(published(bert).encode(["a film a film"], 16)) == [[2, 5, 6, 5, 6, 3]]


def test_byte_pairs_without_special_tokens(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps(GPT2))
    (tmp_path / "merges.txt").write_text(MERGES, encoding="utf-8")
    tokenizer = published(tmp_path)
    assert rows(tokenizer.encode(["ab ab a", ""], 8)) == [[3, 4, 2, 0], []]
    assert tokenizer.decode([[3, 4, 5]]) == ["ab ab"] and not tokenizer.closes


def test_byte_pairs_between_special_tokens(tmp_path):
    vocab = {"<s>": 0, "<pad>": 1, "</s>": 2, "a": 3, "b": 4, "\u0120": 5, "ab": 6, "\u0120ab": 7}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text(MERGES, encoding="utf-8")
    assert rows(published(tmp_path).encode(["ab ab ab"], 4)) == [[0, 6, 7, 2]]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A SentencePiece model with T5's ids: 0 padding, 1 the end, 2 unknown."""
    prefix = tmp_path_factory.mktemp("spm") / "spiece"
    texts = SyntheticSentiment(examples=500).open("train")[np.arange(300)]["text"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(prefix),
        vocab_size=70,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=3,
        minloglevel=2,
    )
    return prefix.with_suffix(".model").read_bytes()


def test_sentencepiece_rows_end_as_in_t5(pieces, tmp_path):
    (tmp_path / "spiece.model").write_bytes(pieces)
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    tokenizer = published(tmp_path)
    own = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    (row,) = rows(tokenizer.encode(["the film is good"], 64))
    assert row == [*own.encode("the film is good"), 1] and tokenizer.closes
    assert rows(tokenizer.encode(["the film is good"], 3)) == [[*row[:2], 1]]
    assert tokenizer.decode([[*row, 0, 0]]) == ["the film is good"]
    assert tokenizer.sizes() == {"vocab_size": 70}


def test_sentencepiece_rows_begin_as_in_llama(pieces, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(pieces)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    tokenizer = published(tmp_path)
    assert rows(tokenizer.encode(["the film"], 64))[0][0] == 3 and not tokenizer.closes
    (tmp_path / "tokenizer_config.json").write_text('{"add_bos_token": false, "add_eos_token": true}')
    (row,) = rows(published(tmp_path).encode(["the film"], 64))
    assert row[0] != 3 and row[-1] == 1


def test_sentencepiece_with_ids_of_its_own_as_in_marian(pieces, tmp_path):
    own = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    known = sorted(own.encode("the film", out_type=str))
    vocab = {"</s>": 0, "<unk>": 1, **{piece: 2 + i for i, piece in enumerate(known)}}
    for side in ("source", "target"):
        (tmp_path / f"{side}.spm").write_bytes(pieces)
    (tmp_path / "vocab.json").write_text(json.dumps({**vocab, "<pad>": len(vocab)}))
    (tmp_path / "config.json").write_text('{"model_type": "marian"}')
    tokenizer = published(tmp_path, side="target")
    (row,) = rows(tokenizer.encode(["the film"], 64))
    assert row == [*(vocab[piece] for piece in own.encode("the film", out_type=str)), 0]
    assert tokenizer.decode([[*row, len(vocab)]]) == ["the film"]
    assert rows(tokenizer.encode(["zq"], 64))[0][-2:] == [1, 0]


def test_it_is_written_as_it_was_published(pieces, bert, tmp_path):
    for name, kind in (("spiece.model", "t5"), ("tokenizer.model", "llama")):
        folder, out = tmp_path / kind, tmp_path / f"{kind}-out"
        folder.mkdir()
        out.mkdir()
        (folder / name).write_bytes(pieces)
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))
        tokenizer = published(folder)
        tokenizer.publish(out)
        assert [path.name for path in out.iterdir()] == [name] and (out / name).read_bytes() == pieces
    out = tmp_path / "bert-out"
    out.mkdir()
    published(bert).publish(out)
    assert rows(published(out).encode(["A film."], 16)) == [[2, 5, 6, 10, 3]]


def test_it_pickles_as_its_path(bert):
    tokenizer = published(bert)
    tokenizer.encode(["a"], 8)
    assert len(pickle.dumps(tokenizer)) < 1000


def test_token_dropout_keeps_the_closing_token():
    tokens = Ragged(np.arange(9), np.array([4, 0, 2, 3]))
    kept = token_dropout(tokens, 1.0, np.random.default_rng(0), keep_last=True)
    assert kept.values.tolist() == [0, 3, 4, 5, 6, 8] and kept.lengths.tolist() == [2, 0, 2, 2]


TEXTS = [
    "A moving film!",
    "",
    "Caf\u00e9 na\u00efve  \u00fcber \u96fb\u5f71\tx",
    "don't   stop it's 3.14 <s>",
    "the film is good",
]


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["bert", "t5", "gpt2", "roberta"])
def test_ids_are_those_of_transformers(kind, tmp_path):
    import transformers
    from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer

    source = SyntheticSentiment(examples=2000).open("train")[np.arange(1000)]["text"]
    special = {"bert": WORDS[:5], "gpt2": ["<|endoftext|>"], "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]}
    if kind == "t5":
        prefix = str(tmp_path / "spiece")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(source),
            model_prefix=prefix,
            vocab_size=70,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
    else:
        trainer = BertWordPieceTokenizer() if kind == "bert" else ByteLevelBPETokenizer()
        trainer.train_from_iterator(source, vocab_size=400, special_tokens=special[kind])
        trainer.save_model(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    names = {"bert": "BertTokenizer", "t5": "T5Tokenizer", "gpt2": "GPT2Tokenizer", "roberta": "RobertaTokenizer"}
    theirs = getattr(transformers, names[kind]).from_pretrained(str(tmp_path))
    for limit in (6, 64):
        expected = theirs(TEXTS, truncation=True, max_length=limit)["input_ids"]
        assert rows(published(tmp_path).encode(TEXTS, limit)) == expected


# Where a run finds it


def experiment(init_from="", **tokenizer):
    task = TextClassification(data=SyntheticSentiment(examples=80), tokenizer=Published(**tokenizer))
    made = Experiment(name="x", task=task, model=transformer.Config(layers=1, width=8, heads=1, feed_forward=8))
    return replace(made, {"checkpoint.init_from": init_from})


def test_a_run_takes_the_tokenizer_of_its_weights(bert, tmp_path):
    source = SyntheticSentiment(examples=80).open("train")
    made = prepare(experiment(str(bert)), tmp_path / "run", source)
    assert made.model.vocab_size == 13 and made.task.tokenizer.closes
    (bert / "vocab.txt").unlink()  # the run has its own copy
    assert bind(experiment(str(bert)), tmp_path / "run").task.tokenizer.sizes() == {"vocab_size": 13}


def test_a_run_takes_the_tokenizer_of_the_run_it_starts_from(tmp_path):
    task = TextClassification(data=SyntheticSentiment(examples=200), tokenizer=SentencePiece(vocab_size=100))
    first = Experiment(name="x", task=task, model=transformer.Config(layers=1, width=8, heads=1, feed_forward=8))
    prepare(first, tmp_path / "first", task.source("train"))
    (tmp_path / "first" / "experiment.json").write_text("{}")
    other = SyntheticSentiment(examples=80, seed=7).open("train")
    prepare(replace(first, {"checkpoint.init_from": str(tmp_path / "first")}), tmp_path / "second", other)
    one, two = ((tmp_path / name / "assets" / "tokenizer.model").read_bytes() for name in ("first", "second"))
    assert one == two
    with pytest.raises(InputError, match=r'^field task.tokenizer: the run ".*first" has no tokenizer.json'):
        prepare(experiment(str(tmp_path / "first")), tmp_path / "third", other)


def test_a_table_of_tokens_may_have_rows_to_spare():
    config = transformer.Config(vocab_size=32)
    assert fill(config, {"vocab_size": 30}, {"vocab_size"}).vocab_size == 32
    with pytest.raises(InputError, match=r"^field model.vocab_size: is 32, but the tokenizer has 33 ids"):
        fill(config, {"vocab_size": 33}, {"vocab_size"})
    with pytest.raises(InputError, match=r"^field model.vocab_size: is 32, but the data has 30"):
        fill(config, {"vocab_size": 30})


def test_no_tokenizer_in_the_folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError) as error:
        published(tmp_path)
    assert error.value.where == "field task.tokenizer.source" and "has no tokenizer" in error.value.problem
    assert "config.json" in error.value.found and "vocab.txt" in error.value.fix


def test_no_weights_named():
    with pytest.raises(InputError, match=r"^field task.tokenizer.source: is empty") as error:
        Published().fit(Memory({"text": ["x"]}), "text", None)
    assert "--checkpoint.init_from" in error.value.fix


@pytest.mark.parametrize("content", ["{", "{}", '{"model": 3}', '{"sentencepiece": "AAAA"}'])
def test_a_damaged_file(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=r"^tokenizer .*: cannot be read: "):
        published(tmp_path)


def test_what_a_published_tokenizer_cannot_do(bert):
    tokenizer = published(bert)
    with pytest.raises(InputError, match=r"^field task.sampling: "):
        tokenizer.encode(["a"], 8, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"^field task.max_length: leaves no room beside 2 special tokens"):
        tokenizer.encode(["a"], 2)


def test_targets_end_where_a_decoder_is_done(pieces, tmp_path):
    """A learnt tokenizer has an end for targets only; a published one says what it always says."""
    (tmp_path / "spiece.model").write_bytes(pieces)
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    theirs = published(tmp_path)
    assert rows(theirs.targets(["the film"], 64)) == rows(theirs.encode(["the film"], 64)) and theirs.end == 1
    source = Memory({"text": ["a bad film", "a good film"] * 20})
    SentencePiece(vocab_size=30).fit(source, "text", tmp_path / "own.model")
    own = SentencePiece(vocab_size=30, file=str(tmp_path / "own.model"))
    (source_row,), (target_row,) = rows(own.encode(["a bad film"], 64)), rows(own.targets(["a bad film"], 64))
    assert [*source_row[1:], own.end] == target_row and source_row[0] == 2 and own.end == 3
    assert own.decode([target_row]) == ["a bad film"] and rows(own.targets(["a bad film"], 2)) == [target_row[:2]]
    assert not own.targets([], 4).lengths.size


def tokenizer_file(folder, about):
    """A ``tokenizer.json`` as a run or a bundle keeps it."""
    path = folder / "kept.json"
    path.write_text(json.dumps(about))
    return Published(file=str(path))


@pytest.mark.parametrize(
    "about, message",
    [
        (hostile.ENDLESS, "it fails at this text"),
        (hostile.PANICKING, "cannot be read: range end index"),
        (hostile.ABORTING, "it ends the process that reads it by SIGABRT"),
        (hostile.GROWING, "it (ends the process that reads it|needs more than|takes more than)"),
    ],
    ids=["endless", "panicking", "aborting", "growing"],
)
def test_tokenizers_that_end_the_process_or_never_end_are_refused(tmp_path, monkeypatch, about, message):
    monkeypatch.setattr(tokenizer_engines, "PROBING", 1.0)
    kept = tokenizer_file(tmp_path, about)
    with pytest.raises(InputError, match=message) as error:
        kept.sizes()
    assert error.value.where == f"tokenizer {kept.file}" and error.value.fix


def test_a_run_takes_no_tokenizer_that_ends_the_process(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(hostile.ABORTING))
    with pytest.raises(InputError, match="by SIGABRT"):
        Published(source=str(tmp_path)).fit(None, "text", tmp_path / "fitted.json")
    assert not (tmp_path / "fitted.json").exists()


def test_a_tokenizer_that_ends_the_process_is_refused_when_its_bundle_is_opened(tmp_path):
    kept = tokenizer_file(tmp_path, hostile.ABORTING)
    codec = Translations(source_text="de", tokenizer=SentencePiece(), target_tokenizer=kept, max_length=8)
    with pytest.raises(InputError, match="by SIGABRT"):
        _check_preprocessors(codec)


def test_a_tokenizer_that_is_not_known_to_be_linear_is_asked_with_a_clock(tmp_path):
    """It passes the texts that it is tried on; a text that takes it too long is refused, and the next is not."""
    slow = tokenizer_file(tmp_path, hostile.tokenizer(pre_tokenizer=hostile.splitting("(x+x+)+y|.")))
    assert isinstance(slow._engine, Bounded)
    assert slow.encode(["a", "q"], 8).values.tolist() == [1, 0] and slow.sizes() == {"vocab_size": 3}
    assert slow.decode([[1]]) == ["a"]
    with decoders.within(time.monotonic() + 1.0, 1.0), pytest.raises(InputError, match=r"tokenizer: fails|text: takes"):
        slow.encode(["x" * 30_000], 8)
    assert slow.encode(["a"], 8).values.tolist() == [1]
    with decoders.never(), pytest.raises(decoders.Elsewhere):
        slow.encode(["a"], 8)


def test_known_tokenizers_are_asked_in_the_process(bert):
    assert isinstance(published(bert)._engine, Fast)
    for expression in EXPRESSIONS:
        assert is_linear(hostile.tokenizer(pre_tokenizer=hostile.splitting(expression)))


@pytest.mark.parametrize("expression", sorted(EXPRESSIONS))
def test_known_expressions_take_time_in_proportion_to_a_text(expression):
    """By texts that make others backtrack: runs of one kind of character, before one that ends no match."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps(hostile.tokenizer(pre_tokenizer=hostile.splitting(expression))))
    for run in ("a", "A", "Aa", "1", " ", "\n", " \n", "'", "漢", "̀", "ʰ", "!", "!\n", "a1", " a", "\u2029", "ǅ"):
        begun = time.perf_counter()
        tokenizer.encode(run * 20_000 + "\x00")
        assert time.perf_counter() - begun < 3, run


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a|a)*b"}, "content": ""}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": ""}},
        {"normalizer": {"type": "Prepend", "prepend": "a" * 1000}},
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKD"}] * 9}},
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": []}]}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [hostile.splitting("(.+)+$")]}},
        {"pre_tokenizer": {"type": "Unheard"}},
        {"decoder": {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaa"}},
        {"model": {"type": "WordPiece", "vocab": {"a": 0}, "max_input_chars_per_word": 1_000_000}},
        {"model": {"type": "Unheard", "vocab": {}}},
        {"normalizer": "NFC"},
        {"model": []},
    ],
)
def test_what_is_not_known_to_be_linear(parts):
    assert is_linear(hostile.tokenizer()) and not is_linear(hostile.tokenizer(**parts))
