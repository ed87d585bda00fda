"""Recognition and keyword tasks: from files to answers through the command line, scores, and short recordings."""

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from flax import nnx

import suite
from suite.contracts.metric import MetricState
from suite.contracts.model import ModelConfig
from suite.data.pipeline.padding import pad
from suite.data.preprocessing.audio import Speed
from suite.data.sources.datasets import Folder, Memory, Table
from suite.data.sources.speech import AudioManifest
from suite.decoding import Beam, NGrams
from suite.errors import InputError
from suite.experiment import recipes
from suite.nn import Linear
from suite.nn.audio.spectral import LogMel, SpecAugment
from suite.reporting.drawings import drawn
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.classification import AudioClassification
from suite.tasks.speech.recognition import SpeechRecognition, edits
from suite.training.preprocessors import prepare
from tests import pages

RATE = 4000
FRONT_END = LogMel(sample_rate=RATE, window=100, hop=40, fft=128, bins=16)
LETTERS = {"a": 300.0, "b": 700.0, "c": 1400.0}


@dataclass(frozen=True, kw_only=True)
class Tiny(ModelConfig):
    """A linear layer on three frames: enough to tell tones apart."""

    inputs: int = 0
    outputs: int = 0
    pooling: str = "none"

    def build(self, *, rngs: nnx.Rngs) -> "Net":
        return Net(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return ()


class Net(nnx.Module):
    """Frames -> logits, of each frame or of their mean."""

    def __init__(self, config: Tiny, *, rngs: nnx.Rngs):
        self.hidden = Linear(3 * config.inputs, 32, rngs=rngs)
        self.head = Linear(32, config.outputs, rngs=rngs)
        self.pooling = config.pooling

    def __call__(self, x: jax.Array, mask: jax.Array, *, rngs: nnx.Rngs | None = None) -> Any:
        beside = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
        logits = self.head(jax.nn.relu(self.hidden(jnp.concatenate([beside[:, :-2], x, beside[:, 2:]], -1))))
        if self.pooling == "none":
            return logits, mask
        return jnp.where(mask[..., None], logits, 0).sum(1) / jnp.maximum(mask.sum(1, keepdims=True), 1)


def spoken(text, rng):
    """Each letter a tone of its own, parted by silence."""
    parts = [np.zeros(200)]
    for letter in text:
        time = np.arange(rng.integers(350, 550)) / RATE
        parts += [np.sin(2 * np.pi * LETTERS.get(letter, 0.0) * time), np.zeros(200)]
    samples = np.concatenate(parts)
    return (0.3 * samples + 0.01 * rng.standard_normal(len(samples))).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A folder with 120 recordings of one to four letters and a manifest of them."""
    folder, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    rows = []
    for i in range(120):
        text = "".join(rng.choice(list(LETTERS), rng.integers(1, 5)))
        soundfile.write(folder / f"{i}.wav", spoken(text, rng), RATE)
        rows.append(json.dumps({"audio": f"{i}.wav", "text": text, "label": text[0]}))
    (folder / "manifest.jsonl").write_text("\n".join(rows))
    return folder


def recogniser(folder, **fields):
    return SpeechRecognition(
        data=AudioManifest(path=str(folder / "manifest.jsonl")),
        max_seconds=2.0,
        max_text=6,
        features=AudioFeatures(front_end=FRONT_END),
        **fields,
    )


def bound(experiment, tmp_path):
    return prepare(experiment, tmp_path, experiment.task.source("train"))


def test_own_recordings_are_recognised(recordings, tmp_path, command):
    task = recogniser(recordings, augment=(Speed(),), spec_augment=SpecAugment(time_masks=0, frequency_width=2))
    experiment = suite.replace(
        recipes.load("speech.recognize", smoke=True),
        {
            "task": task,
            "model": Tiny(),
            "optim.learning_rate": 2e-2,
            "train.steps": 150,
            "train.eval_every": 75,
            "train.log_every": 50,
            "pipeline.buckets": (3200,),
            "train.ema": 0.9,
            "precision.compute": "float32",
        },
    )
    run = suite.train(experiment, tmp_path / "run")
    found = run.evaluate("test").metrics
    assert found["test/wer"] < 0.2 and found["test/cer"] < 0.1 and found["test/too_short"] == 0
    wave = tmp_path / "asked.wav"
    soundfile.write(wave, spoken("cab", np.random.default_rng(1)), RATE)
    (line,) = suite.workflow.folders.predict_input(run, str(wave))
    assert line == {"input": str(wave), "text": "cab"}
    assert run.predict([spoken("bb", np.random.default_rng(2))]) == [{"text": "bb"}]
    page = pages.read(suite.report(run.folder, "test", allow=(__name__,)))
    said = re.search(r"a word error rate of ([\d.]+) %, (\d+) edits over (\d+) words", page.words)
    rate, wrong, words = said.groups()
    assert int(wrong) / int(words) == pytest.approx(found["test/wer"]) == pytest.approx(float(rate) / 100, abs=6e-4)
    shows_what_it_scores(run.experiment.task, run.model)


def shows_what_it_scores(task, model):
    """Each recording's answer is given to the next one, so that there is something to be wrong about."""
    columns = task.source("test")[np.arange(8)]
    batch = pad(task.encode(columns), np.ones(8, bool), 3200)
    outputs = {name: np.roll(np.asarray(value), 1, 0) for name, value in task.predict(model, batch).items()}
    words, worst = task.artifacts(columns, outputs, batch).values()
    wer = task.score(outputs, batch)["wer"]
    assert (words.edits, words.words) == (wer.total, wer.count) and words.edits > 3
    answers = [answer["text"] for answer in task.codec.decode(outputs, {})]
    assert words.pairs == Counter(zip(columns["text"], answers, strict=True))
    assert worst.among == wer.total and all(example.wanted != example.answered for example in worst.examples)
    (cards,) = drawn(worst)
    assert all(card.picture.uri.startswith("data:image/png") and card.sound for card in cards.cards)
    assert all(sum(a != b for a, b in card.pairs) == 1 for card in cards.cards)


@pytest.mark.slow
def test_a_recipe_runs_from_the_command_line(recordings, tmp_path, command):
    small = ("--task.features.front_end.sample_rate", RATE, "--task.features.front_end.bins", 16, "--smoke")
    command(
        "train",
        "speech.recognize",
        "--data",
        recordings / "manifest.jsonl",
        "--run-dir",
        tmp_path / "run",
        "--pipeline.buckets",
        12000,
        "--train.batch_size",
        8,
        *small,
    )
    (line,) = command("predict", tmp_path / "run", "--input", recordings / "0.wav").splitlines()
    answer = json.loads(line)
    assert answer["input"].endswith("0.wav") and isinstance(answer["text"], str)


def test_own_keywords_are_told_apart(tmp_path):
    rng = np.random.default_rng(0)
    for letter in LETTERS:
        for i in range(30):
            (tmp_path / "data" / letter).mkdir(parents=True, exist_ok=True)
            soundfile.write(tmp_path / "data" / letter / f"{i}.flac", spoken(letter, rng), RATE)
    task = AudioClassification(
        data=Folder(path=str(tmp_path / "data")),
        max_seconds=2.0,
        augment=(Speed(),),
        features=AudioFeatures(front_end=FRONT_END),
    )
    experiment = suite.replace(
        recipes.load("speech.classify", smoke=True),
        {
            "task": task,
            "model": Tiny(pooling="mean"),
            "optim.learning_rate": 1e-2,
            "train.steps": 60,
            "train.ema": 0.9,
            "train.eval_every": 30,
            "pipeline.buckets": (1200,),
            "precision.compute": "float32",
        },
    )
    run = suite.train(experiment, tmp_path / "run")
    found = run.evaluate("test").metrics["test/accuracy"]
    assert found > 0.9
    counts = np.array(pages.read(suite.report(run.folder, allow=(__name__,))).matrix())
    assert counts.trace() / counts.sum() == pytest.approx(found)
    (answer,) = run.predict([spoken("b", rng)])
    assert answer["label"] == "b"


def test_scores_count_words_and_characters():
    assert edits(["a b c", "d"], ["a x c", "d e"], "words") == MetricState(2.0, 4)
    assert edits(["abc", ""], ["abd", "xy z"], "characters") == MetricState(5.0, 3)
    assert edits(["", "a"], ["b c", "a"], "words") == MetricState(2.0, 1)
    assert edits([], [], "words") == MetricState(0.0, 0)


def test_a_beam_is_scored_beside_the_best_path(recordings, tmp_path):
    """The frames say "b" where the word model knows but "a": the beam is right, the best path is wrong."""
    (tmp_path / "m.arpa").write_text("\\data\\\nngram 1=3\n\n\\1-grams:\n-0.3 a\n-0.5 </s>\n-99 <s>\n\n\\end\\\n")
    task = recogniser(
        recordings,
        decoder=Beam(alpha=1.0, beta=0.0, lexicon=True),
        language_model=NGrams(arpa=str(tmp_path / "m.arpa")),
    )
    experiment = replace(recipes.load("speech.recognize", smoke=True), task=task, model=Tiny())
    task = bound(experiment, tmp_path).task
    units = task.transcriber.units
    a, b = units.index("a"), units.index("b")
    probs = np.full((2, 3, len(units)), 1e-3)
    probs[0, 0, b], probs[0, 0, a], probs[:, 1:, 0] = 0.5, 0.4, 0.9
    batch = {
        "mask": np.array([True, False]),
        "symbols": np.array([[a, 0], [b, b]]),
        "symbols_mask": np.array([[True, False], [True, True]]),
    }
    outputs = {"log_probs": np.log(probs / probs.sum(-1, keepdims=True)).astype(np.float32), "frames": np.array([3, 3])}
    made = task.score(outputs, batch)
    assert (
        made["wer"] == MetricState(0.0, 1)
        and made["wer_greedy"] == MetricState(1.0, 1)
        and made["too_short"] == MetricState(0.0, 1)
    )
    assert 0.5 < made["loss"].value() < 1.5
    assert task.codec.decode({name: value[:1] for name, value in outputs.items()}, {}) == [{"text": "a"}]


def test_recordings_too_short_for_their_text_count_but_do_not_train(recordings, tmp_path):
    experiment = replace(recipes.load("speech.recognize", smoke=True), task=recogniser(recordings), model=Tiny())
    made = bound(experiment, tmp_path)
    task, model = made.task, made.model.build(rngs=nnx.Rngs(0))
    columns = {"audio": [spoken("abc", np.random.default_rng(0)), np.zeros(50, np.float32)], "text": ["abc", "aabbcc"]}
    batch = pad(task.encode(columns), np.array([True, True, False]), 3200)
    loss, tallies = task.loss(model, batch, None)
    assert tallies["too_short"] == MetricState(1.0, 2.0) and float(tallies["loss"].count) == 1
    alone = pad(task.encode({name: values[:1] for name, values in columns.items()}), np.array([True]), 3200)
    np.testing.assert_allclose(loss, task.loss(model, alone, None)[0], rtol=1e-4)
    assert batch["symbols"].shape == (3, 6) and batch["audio"].shape == (3, 3200)
    score = task.score(jax.device_get(task.predict(model, batch)), batch)
    assert score["too_short"] == MetricState(1.0, 2) and np.isfinite(score["loss"].value())


def test_what_the_data_lacks_is_said(recordings):
    with pytest.raises(InputError, match=r'column "words" is not in manifest\.jsonl'):
        recogniser(recordings, text="words").source("train")

    class Tfds(AudioManifest):
        def open(self, split):
            return Memory({"text": ["a"]})

    with pytest.raises(InputError) as error:
        replace(recogniser(recordings), data=Tfds(path="speech_commands")).source("train")
    assert str(error.value) == (
        'field task.audio: the recordings "audio" of speech_commands are not read.\n'
        "  found: TFDS decodes its Audio feature by TensorFlow, which is not loaded here\n"
        "  try:   write them as wav files with a manifest.jsonl, and --data manifest.jsonl"
    )


def test_paths_of_any_column_may_be_relative_to_the_table(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "clips").mkdir()
    lines = ["clip,label,text"]
    for place in range(8):
        soundfile.write(tmp_path / "clips" / f"{place}.wav", spoken("ab"[place % 2], rng), RATE)
        lines.append(f"clips/{place}.wav,{'ab'[place % 2]},{'ab'[place % 2]}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    data = Table(path=str(tmp_path / "table.csv"), validation=0.0, test=0.0)
    features = AudioFeatures(front_end=FRONT_END)
    common = {"data": data, "audio": "clip", "features": features, "max_seconds": 2.0}
    for task in (AudioClassification(**common), SpeechRecognition(**common)):
        source = task.source("train")
        columns = source[np.arange(len(source))]
        assert len(source) == 8 and len(task.codec.encode(columns)["audio"].lengths) == 8


def test_specaugment_acts_in_training_alone(recordings, tmp_path):
    task = recogniser(recordings, spec_augment=SpecAugment(frequency_width=16, frequency_masks=4))
    made = bound(replace(recipes.load("speech.recognize", smoke=True), task=task, model=Tiny()), tmp_path)
    task, model = made.task, made.model.build(rngs=nnx.Rngs(0))
    columns = {"audio": [spoken("abc", np.random.default_rng(0))], "text": ["abc"]}
    batch = pad(task.encode(columns), np.ones(1, bool), 3200)
    plain, again, hidden = (float(task.loss(model, batch, rngs)[0]) for rngs in (None, None, nnx.Rngs(dropout=0)))
    assert plain == again != hidden


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "hello"}', '{path}, line 2: names no recording under the key "audio"\n  found: {line}\n'),
        ('{"audio": "a.wav", "text": "hello"', "{path}, line 2: this is not JSON"),
    ],
)
def test_a_bad_manifest_is_refused(tmp_path, refused, line, message):
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"audio": "a.wav", "text": "hello"}\n' + line + "\n")
    printed = refused("train", "speech.recognize", "--data", path, "--run-dir", tmp_path / "run")
    assert printed.startswith("suite train: " + message.format(path=path, line=line))


def test_broken_recordings_alone_are_refused(tmp_path, refused):
    path = tmp_path / "manifest.jsonl"
    rows = [{"audio": f"{i}.wav", "text": "hello", "split": split} for i, split in enumerate(("train", "test"))]
    path.write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "0.wav").write_bytes(b"RIFF, and nothing after it")
    printed = refused("train", "speech.recognize", "--data", path, "--run-dir", tmp_path / "run")
    assert printed == (
        "suite train: column audio: no recording can be used.\n"
        "  found: 1 left out, broken recording: 0.wav\n"
        "  try:   check the paths, or raise --task.max_seconds\n"
    )
