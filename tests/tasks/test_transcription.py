"""Transcription as Whisper does it: tokens of windows, rules of timestamps, requests and their answers."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

import suite
from suite import tree
from suite.codecs.transcription import Segment, segments
from suite.data.preprocessing.speech_tokens import SpeechTokens
from suite.data.sources.memory import Memory
from suite.data.sources.speech import AudioManifest
from suite.decoding import timestamps
from suite.decoding.generation import Decoding
from suite.decoding.transcription import most_windows
from suite.errors import InputError
from suite.experiment.sections import replace as changed
from suite.models import whisper
from suite.tasks.speech.transcription import Transcription
from suite.workflow import imported
from tests import tiny_whisper
from tests.tiny_bert import refusal
from tests.tiny_whisper import BEGIN, END, GENERATION, UNTIMED
from tests.untrained import recordings, untrained


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return tiny_whisper.folder(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def tokens(published, tmp_path_factory):
    return fitted(SpeechTokens(source=str(published)), tmp_path_factory.mktemp("tokens") / "tokens.json")


def fitted(tokens, path, texts=("one two",)):
    tokens.fit(Memory({"text": list(texts)}), "text", path)
    return SpeechTokens(file=str(path))


def stamp(seconds):
    return BEGIN + round(seconds / 0.02)


def test_special_tokens_are_those_of_the_folder(tokens):
    special = tokens.special
    assert special.languages == {"en": 258, "de": 259, "ja": 260} and special.actions["translate"] == 261
    assert (special.end, special.untimed, special.begin) == (END, UNTIMED, BEGIN)
    assert (special.silence, special.latest) == (263, 12)
    assert special.never == tuple(GENERATION["suppress_tokens"]) and special.first == (10, END)
    assert tokens.sizes() == {"vocab_size": tiny_whisper.SIZE}


def test_targets_are_pieces_behind_a_blank_and_the_end(tokens):
    said = tokens.targets(["Hé!", "ab" * 9], 8)
    assert said.lengths.tolist() == [6, 8]
    first = said.values[:6].tolist()
    assert first[-1] == END and tokens.decode([first]) == [" Hé!"]
    assert END not in said.values[6:].tolist()
    assert tokens.longest(["Hé!", "ab" * 9]).tolist() == [6, 20]


def test_pieces_are_learnt_where_there_are_no_weights(tmp_path):
    tokens = fitted(SpeechTokens(vocab_size=270), tmp_path / "tokens.json", ["one two one two", "three"] * 4)
    special = tokens.special
    assert not special.languages and not special.actions and special.begin == 0 and special.silence == -1
    ids = tokens.targets(["one 漢"], 40).values.tolist()
    assert ids[-1] == special.end > max(ids[:-1]) and tokens.decode([ids]) == [" one 漢"]
    assert tokens.sizes()["vocab_size"] == special.untimed + 1


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("tokenizer.json", lambda made: made.update(added_tokens=[]), "no token"),
        ("tokenizer.json", lambda made: made["added_tokens"][0].update(id="x"), "id of a token"),
        ("generation_config.json", lambda made: made.update(suppress_tokens=[-5]), "-5 is no id of a token"),
        ("generation_config.json", lambda made: made.update(suppress_tokens=7), "another type"),
        ("generation_config.json", lambda made: made.update(no_timestamps_token_id="<|x|>"), "no id of a token"),
        ("generation_config.json", lambda made: made.update(lang_to_id=["en"]), "another type"),
    ],
)
def test_damaged_folders_are_refused_in_words(published, tmp_path, name, change, problem):
    for file in published.glob("*.json"):
        (tmp_path / file.name).write_text(file.read_text())
    content = json.loads((tmp_path / name).read_text())
    change(content)
    (tmp_path / name).write_text(json.dumps(content))
    assert problem in refusal(fitted, SpeechTokens(source=str(tmp_path)), tmp_path / "kept.json")


@pytest.mark.parametrize(
    ("made", "allowed"),
    [
        ([], range(BEGIN, BEGIN + 4)),  # a timestamp, no later than three behind the first one
        ([stamp(0.04)], range(0, UNTIMED)),  # a text, or the end of all; and no second timestamp
        ([stamp(0.04), 5], [*range(0, UNTIMED), *range(stamp(0.06), tiny_whisper.SIZE)]),
        ([stamp(0.04), 5, stamp(0.1)], [*range(END, UNTIMED), *range(stamp(0.1), tiny_whisper.SIZE)]),
        ([stamp(0.04), 5, stamp(0.1), stamp(0.1)], range(0, UNTIMED)),
    ],
)
def test_rules_of_timestamps(made, allowed):
    rules = timestamps.Rules(jnp.array([True, False]), END, BEGIN, latest=3)
    tokens = jnp.array([made + [0] * (6 - len(made))] * 2, jnp.int32)
    logits = (
        jnp.zeros((2, tiny_whisper.SIZE)).at[:, :BEGIN].set(5.0)
    )  # so that none of these gives way to all timestamps
    after = np.asarray(rules(logits, tokens, jnp.int32(len(made))))
    assert np.flatnonzero(after[0] > -1e8).tolist() == list(allowed)
    assert (after[1] == logits[1]).all()


def test_timestamps_that_are_likelier_together_are_next():
    rules = timestamps.Rules(jnp.array([True]), END, BEGIN, latest=3)
    tokens = jnp.array([[stamp(0.04), 5, 0]], jnp.int32)
    logits = jnp.zeros((1, tiny_whisper.SIZE)).at[:, 8].set(2.0)  # one text against 28 timestamps
    after = np.asarray(rules(logits, tokens, jnp.int32(2)))[0]
    assert (after[:BEGIN] < -1e8).all() and (after[stamp(0.06) :] == 0).all()


@pytest.mark.parametrize(
    ("ids", "step", "expected"),
    [
        ([stamp(0), 1, 2, stamp(0.3)], 0, [(0, 30, [1, 2])]),  # a single timestamp at the end: nothing follows it
        ([stamp(0), 1, stamp(0.2), stamp(0.2), 2, stamp(0.3)], 0, [(0, 20, [1]), (20, 30, [2])]),
        ([stamp(0), 1, stamp(0.2), stamp(0.24), 2], 20, [(0, 20, [1])]),  # heard again from 0.2 s
        ([stamp(0.1), 1, stamp(0.2), stamp(0.2)], 20, [(10, 20, [1])]),
        ([1, 2], 0, [(0, 60, [1, 2])]),
        ([stamp(0), 1, 2], 0, [(0, 60, [1, 2])]),
    ],
)
def test_windows_are_parted_by_pairs_of_timestamps(ids, step, expected):
    padded = jnp.array([ids + [END] * (9 - len(ids))], jnp.int32)
    assert timestamps.advance(padded, BEGIN, END, 2).tolist() == [step]
    made = [(part.start, part.end, [t for t in part.tokens if t < END]) for part in segments(ids, 60, not step, BEGIN)]
    assert made == expected


def test_what_is_behind_a_pair_is_kept_where_it_is_not_heard_again():
    ids = [stamp(0), 1, stamp(0.2), stamp(0.24), 2]
    assert [(part.start, part.end) for part in segments(ids, 60, True, BEGIN)] == [(0, 20), (24, 60)]


def test_windows_without_timestamps_are_one_segment():
    assert segments([5, 300], 60, True, 0) == [Segment(0, 60, [5, 300])]


@pytest.mark.parametrize(
    ("seconds", "timed", "most"), [(30, False, 1), (30, True, 4), (301, False, 11), (0.2, True, 4)]
)
def test_windows_of_the_longest_recording(seconds, timed, most):
    assert most_windows(seconds, 30.0, timed) == most


@pytest.fixture(scope="module")
def task(tokens):
    return Transcription(data=AudioManifest(path=""), tokens=tokens, max_seconds=0.6, longest=2.0)


SOUND = np.zeros(1600, np.float32)


def test_requests_say_language_task_and_timestamps(task):
    codec = task.codec
    assert [entry.name for entry in codec.inputs] == ["audio", "language", "task", "timestamps"]
    columns = {"audio": [SOUND] * 3, "language": ["DE", None, "ja"], "task": [None, "translate", ""]}
    encoded = codec.encode({**columns, "timestamps": ["yes", False, None]})
    assert encoded["language"].tolist() == [259, -1, 260] and encoded["action"].tolist() == [262, 261, 262]
    assert encoded["timed"].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("language", "fr", '"language"'), ("task", "sing", "transcribe, translate"), ("timestamps", "soon", "yes or no")],
)
def test_requests_that_cannot_be_met_are_refused(task, name, value, said):
    with pytest.raises(InputError) as error:
        task.codec.encode({"audio": [SOUND], name: [value]})
    assert said in str(error.value).replace("found: ", "")


def test_a_model_of_one_language_refuses_others_and_times(tmp_path):
    tokens = fitted(SpeechTokens(vocab_size=270), tmp_path / "tokens.json")
    codec = Transcription(data=AudioManifest(path=""), tokens=tokens).codec
    assert [entry.name for entry in codec.inputs] == ["audio"] and [entry.name for entry in codec.outputs] == ["text"]
    for name, value in (("language", "en"), ("task", "translate"), ("timestamps", "yes")):
        with pytest.raises(InputError, match=name):
            codec.encode({"audio": [SOUND], name: [value]})


def outputs(tokens, **rows):
    """Of one recording of 0.9 s, heard in two windows of which the second is silent."""
    made = {
        "tokens": np.array([[tokens, [END] * len(tokens)]]),
        "starts": np.array([[0, 40]]),
        "lengths": np.array([[60, 50]]),
        "whole": np.array([[False, True]]),
        "kept": np.array([[True, False]]),
        "no_speech": np.array([[0.1, 0.9]]),
        "windows": np.array([2]),
        "language": np.array([259]),
        "timed": np.array([1]),
        "seconds": np.array([0.85]),
    }
    return {**made, **rows}


def test_answers_have_text_language_and_segments(task):
    text = task.tokens.targets(["ja"], 9).values[:-1].tolist()
    ids = [stamp(0), *text, stamp(0.4), stamp(0.4)]
    (answer,) = task.codec.decode(outputs(ids), {})
    assert answer == {
        "text": "ja",
        "language": "de",
        "segments": [
            {"start": 0.0, "end": 0.4, "text": "ja", "no_speech": 0.1},
            {"start": 0.4, "end": 0.85, "text": "", "no_speech": 0.9},  # not past the end of the recording
        ],
        "no_speech": 0.1,
    }
    (untimed,) = task.codec.decode(outputs(ids, timed=np.array([0])), {})
    assert untimed["segments"] == [] and untimed["text"] == "ja"


def test_training_needs_a_language(tokens, tmp_path):
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.full(3200, 0.1), 16_000)
    rows = [{"audio": f"{name}.wav", "text": "x" * 30, "split": "train"} for name in ("a", "b")]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(json.dumps(row) for row in rows))
    task = Transcription(data=AudioManifest(path=str(manifest)), tokens=tokens, max_seconds=0.6, longest=0.6)
    with pytest.raises(InputError, match="is empty, and 2 training recordings"):
        task.remarks({"train": task.source("train")})
    manifest.write_text("\n".join(json.dumps({**row, "language": "en"}) for row in rows))
    source = task.source("train")
    assert task.remarks({"train": source}) == []
    encoded = task.encode(source[np.arange(2)], np.random.default_rng(0))
    assert encoded["language"].tolist() == [258, 258] and "written" not in encoded
    assert encoded["said"].lengths.tolist() == [32, 32] and encoded["said"].to == task.decoding.tokens


def test_published_weights_are_measured_and_answer_requests(published, tmp_path):
    recordings(tmp_path / "speech", 9)
    named = {"task.language": "en", "task.longest": 1.0, "task.decoding.tokens": 6, "task.timestamps": True}
    run = imported.evaluate(
        str(published),
        str(tmp_path / "speech" / "manifest.jsonl"),
        folder=tmp_path / "run",
        changes=lambda experiment: changed(experiment, named),
    )
    assert {f"test/{name}" for name in ("wer", "cer", "wer_written", "loss", "accuracy")} <= run.metrics.keys()
    rng = np.random.default_rng(0)
    long, short = (rng.standard_normal(size).astype(np.float32) * 0.1 for size in (14_000, 5_000))
    asked = {"audio": [long, short], "language": [None, "de"], "task": ["translate", None], "timestamps": [None, "no"]}
    answers = run.predict(asked)
    assert answers[1]["language"] == "de" and answers[1]["segments"] == []
    assert answers[0]["segments"][-1]["end"] <= 14_000 / 16_000 + 0.02  # the last fiftieth of a second that has sound
    alone = run.predict({name: values[1:] for name, values in asked.items()})
    assert alone == answers[1:]  # in company or alone


def test_fine_tuning_by_additions_changes_them_alone(published, tmp_path):
    manifest = recordings(tmp_path / "speech", 9).path
    experiment = changed(
        suite.load("speech.transcribe", smoke=True),
        {
            "task.data": AudioManifest(path=manifest),
            "task.language": "en",
            "task.max_seconds": 0.6,
            "task.longest": 1.0,
            "task.decoding.tokens": 8,
            "checkpoint.init_from": str(published),
            "finetune.kind": "lora",
            "finetune.targets": ("decoder",),
            "optim.learning_rate": 0.05,
            "train.steps": 2,
            "train.batch_size": 2,
        },
    )
    run = suite.train(experiment, tmp_path / "run")
    assert run.experiment.model.decoder_layers == 2 and run.experiment.model.vocab_size == tiny_whisper.SIZE
    left = {name for name in run.experiment.task.source("train").dropped}
    assert left == {"longer than 0.6 s"}
    theirs = load_file(published / "model.safetensors")
    ours = tree.paths(run.variables[0])
    same = ours["decoder/tokens/embedding"]
    np.testing.assert_array_equal(same, theirs["model.decoder.embed_tokens.weight"])
    moved = [name for name, value in ours.items() if "addition" in name and np.abs(np.asarray(value)).max() > 0]
    assert moved and all(name.startswith("decoder/") for name in moved)


def test_a_bundle_answers_as_its_run(published, tmp_path):
    task = Transcription(
        data=recordings(tmp_path / "speech", 9),
        tokens=SpeechTokens(source=str(published)),
        language="en",
        timestamps=True,
        max_seconds=0.6,
        longest=1.0,
        decoding=Decoding(tokens=8),
    )
    body = dict(width=16, heads=2, feed_forward=24, max_length=tiny_whisper.POSITIONS)
    model = whisper.Config(inputs=10, layers=1, decoder_layers=1, decoder_length=tiny_whisper.PLACES, **body)
    experiment = changed(
        suite.load("speech.transcribe", smoke=True),
        {"task": task, "model": model, "pipeline.buckets": (16_000,), "precision.compute": "float32"},
    )
    run = untrained(experiment, tmp_path / "run")
    bundle = suite.export(run, tmp_path / "bundle", platforms=("cpu",))
    samples = (0.1 * np.random.default_rng(1).standard_normal(14_000)).astype(np.float32)
    asked = {"audio": [samples], "language": ["ja"], "task": ["translate"], "timestamps": ["yes"]}
    (answer,) = bundle.predict(asked)
    assert answer == run.portable.predict(asked)[0] and answer["language"] == "ja"
    assert answer.keys() == bundle.codec.answer_schema["properties"].keys()
    with pytest.raises(InputError, match="language"):
        bundle.predict({**asked, "language": ["fr"]})
