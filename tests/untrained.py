"""Small runs that were never trained, one a task, and bundles that were tampered with, for tests."""

import csv
import json
import shutil

import numpy as np
import soundfile

import suite
from suite.bundles import manifest
from suite.data.preprocessing.audio import Speed
from suite.data.preprocessing.transcripts import Characters
from suite.data.sources.datasets import Table
from suite.data.sources.running_text import RunningText
from suite.data.sources.speech import AudioManifest
from suite.decoding import Beam, NGrams
from suite.decoding.generation import Decoding
from suite.experiment.defaults import settled
from suite.experiment.serialization import dump
from suite.models import audio, decoder, hifigan, resnet, vit, wav2vec2, wavenet, whisper
from suite.nn.audio.spectral import LogMel
from suite.runs.run import Run
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.adversarial_vocoding import AdversarialVocoding
from suite.tasks.speech.classification import AudioClassification
from suite.tasks.speech.recognition import SpeechRecognition
from suite.tasks.speech.synthesis import SpeechSynthesis
from suite.tasks.speech.vocoding import Vocoding
from suite.tasks.speech.voice import VoiceFeatures
from suite.tasks.text.language_modelling import LanguageModelling
from suite.training.preprocessors import prepare, unbind

RATE = 2000
FRONT_END = LogMel(sample_rate=RATE, window=50, hop=20, fft=64, bins=8)
WORDS = ("one", "two", "three", "four", "five")
NUMBERS = dict(zip(WORDS, ("eins", "zwei", "drei", "vier", "fünf"), strict=True))


def untrained(experiment, folder):
    """What training would leave but for checkpoints: the weights are those that it would begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    source = experiment.task.source("train")
    experiment, _ = settled(experiment, source)
    dump(unbind(experiment), folder / "experiment.json")
    run = Run(folder, prepare(experiment, folder, source))
    state = run._program.init()
    run.__dict__["_weights"] = (state.params, state.model_state)
    return run


def recordings(folder, count=24):
    """Short noises with transcripts and labels; the manifest."""
    rng, rows = np.random.default_rng(0), []
    folder.mkdir()
    for i in range(count):
        soundfile.write(folder / f"{i}.wav", 0.3 * rng.standard_normal(rng.integers(600, 1900)), RATE)
        said = " ".join(rng.choice(WORDS, rng.integers(1, 3)))
        split = "train" if i % 3 else "test" if i % 2 else "validation"
        rows.append({"audio": f"{i}.wav", "text": said, "label": WORDS[i % 2], "split": split})
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return AudioManifest(path=str(path))


def images(folder):
    return suite.replace(suite.load("vision.digits_dnn", smoke=True), {"model.hidden": (16,)})


def residual(folder):
    """Channels enough for each form of a convolution, and operands of 16 bits."""
    model = resnet.small(blocks=(1, 1), widths=(8, 24), stem_width=20)
    return suite.replace(suite.load("vision.digits_dnn", smoke=True), {"model": model, "precision.compute": "bfloat16"})


def patches(folder):
    """A vision transformer, and operands of 16 bits."""
    model = vit.Config(patch=4, layers=1, hidden=16, heads=2, feed_forward=32)
    return suite.replace(images(folder), {"model": model, "precision.compute": "bfloat16"})


def texts(folder):
    return suite.replace(
        suite.load("text.synthetic_sentiment", smoke=True),
        {
            "task.data.examples": 300,
            "task.max_length": 20,
            "pipeline.buckets": (8, 16),
            "model.width": 16,
            "model.heads": 2,
            "model.feed_forward": 32,
        },
    )


def continuations(folder):
    (folder / "running.txt").write_text(" ".join(np.random.default_rng(0).choice(WORDS, 600)))
    model = decoder.Config(layers=1, width=16, heads=2, feed_forward=32, max_length=24, positions="rotary")
    task = LanguageModelling(
        data=RunningText(path=str(folder / "running.txt")),
        context=16,
        decoding=Decoding(tokens=4, temperature=0.8, top_k=5),
    )
    return suite.replace(suite.load("text.shakespeare_gpt", smoke=True), {"task": task, "model": model})


def llamas(folder):
    """As `continuations`, with another kind of decoder, and one token after the other the likeliest."""
    return suite.replace(
        continuations(folder),
        {
            "model.norm": "rms",
            "model.activation": "swiglu",
            "model.bias": False,
            "model.feed_forward_bias": False,
            "model.tied": False,
            "model.kv_heads": 1,
            "task.decoding.temperature": 0.0,
        },
    )


def translations(folder):
    rng = np.random.default_rng(0)
    with open(folder / "pairs.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["en", "de"])
        for _ in range(300):
            said = rng.choice(WORDS, rng.integers(2, 6))
            writer.writerow([" ".join(said), " ".join(NUMBERS[word] for word in said)])
    return suite.replace(
        suite.load("text.translate", smoke=True),
        {
            "task.data": Table(path=str(folder / "pairs.csv")),
            "task.source_text": "en",
            "task.target_text": "de",
            "task.tokenizer.vocab_size": 20,
            "task.tokenizer.kind": "word",
            "task.max_length": 8,
            "task.decoding": Decoding(tokens=4, beams=2),
            "model.layers": 1,
            "model.width": 16,
            "model.heads": 2,
            "model.feed_forward": 32,
            "pipeline.buckets": (8,),
        },
    )


def clicks(folder):
    rng = np.random.default_rng(0)
    with open(folder / "clicks.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["city", "tags", "price", "label"])
        for _ in range(400):
            writer.writerow(
                [
                    rng.choice(["Rome", "Oslo"]),
                    rng.choice(["sale|red", "new|red", "red"]),
                    round(rng.random() * 9, 2),
                    rng.integers(2),
                ]
            )
    return suite.replace(
        suite.load("recommendation.click", smoke=True),
        {"task.data": Table(path=str(folder / "clicks.csv")), "model.hidden": (8,), "model.width": 4},
    )


def transcripts(folder):
    """By a beam that knows the words of training; operands of 16 bits."""
    task = SpeechRecognition(
        data=recordings(folder / "speech"),
        features=AudioFeatures(front_end=FRONT_END),
        transcriber=Characters(),
        max_seconds=1.0,
        max_text=20,
        augment=(Speed(),),
        decoder=Beam(width=4),
        language_model=NGrams(),
    )
    model = audio.Config(layers=1, width=16, heads=2, kernel=5, subsampling=2)
    return suite.replace(
        suite.load("speech.recognize", smoke=True),
        {"task": task, "model": model, "pipeline.buckets": (2000,), "precision.compute": "bfloat16"},
    )


def keywords(folder, model=None, **features):
    task = AudioClassification(
        data=recordings(folder / "speech"), max_seconds=1.0, features=AudioFeatures(front_end=FRONT_END, **features)
    )
    model = model or audio.Config(layers=1, width=16, heads=2, kernel=5, subsampling=2, pooling="mean")
    return suite.replace(
        suite.load("speech.classify", smoke=True),
        {"task": task, "model": model, "pipeline.buckets": (2000,), "precision.compute": "bfloat16"},
    )


def waveforms(folder):
    """wav2vec 2.0."""
    model = wav2vec2.Config(
        conv_widths=(6, 6),
        conv_kernels=(10, 3),
        conv_strides=(5, 2),
        layers=1,
        width=16,
        heads=2,
        feed_forward=24,
        position_kernel=8,
        position_groups=2,
        pooling="mean",
    )
    return keywords(folder, model, kind="samples")


def whispers(folder):
    model = whisper.Config(layers=1, width=16, heads=2, feed_forward=24, max_length=60, pooling="mean")
    return keywords(folder, model)


def vocoders(folder):
    """Samples drawn one after the other, of two voices; operands of 16 bits."""
    task = Vocoding(
        data=recordings(folder / "speech"),
        speaker="label",
        features=AudioFeatures(front_end=FRONT_END),
        seconds=0.5,
        max_seconds=1.0,
    )
    model = wavenet.Config(cycles=1, dilations=2, width=8, skip=8, condition=8)
    return suite.replace(
        suite.load("speech.vocode", smoke=True),
        {"task": task, "model": model, "pipeline.buckets": (1000,), "precision.compute": "bfloat16"},
    )


def adversaries(folder):
    """Samples made in one pass, of two voices; discriminators that a bundle leaves out; operands of 16 bits."""
    task = AdversarialVocoding(
        data=recordings(folder / "speech"),
        speaker="label",
        features=AudioFeatures(front_end=FRONT_END),
        seconds=0.3,
        max_seconds=1.0,
    )
    model = hifigan.Config(
        channels=8,
        upsampling=(5,),
        spectral_hop=4,
        kernels=(3,),
        dilations=(1, 2),
        periods=(2,),
        scales=1,
        discriminator_width=1,
    )
    return suite.replace(
        suite.load("speech.fsdd_hifigan", smoke=True),
        {"task": task, "model": model, "pipeline.buckets": (1000,), "precision.compute": "bfloat16"},
    )


def speakers(folder):
    """Texts spoken in two voices, by Griffin and Lim; operands of 16 bits."""
    task = SpeechSynthesis(
        data=recordings(folder / "speech"),
        speaker="label",
        features=VoiceFeatures(part="acoustic", front_end=FRONT_END),
        max_seconds=1.0,
        max_symbols=24,
        symbol_frames=6,
        iterations=3,
    )
    changes = {"task": task, "pipeline.buckets": {"": (24,), "frames": (96,)}, "precision.compute": "bfloat16"}
    return suite.replace(suite.load("speech.synthesize", smoke=True), changes)


def adapted(folder):
    """Low-rank additions, as freshly drawn without effect, which `with_effect` changes."""
    return suite.replace(
        images(folder), {"finetune.kind": "lora", "finetune.targets": ("layers",), "finetune.trained": ("layers/1",)}
    )


TASKS = {
    each.__name__: each
    for each in (
        images,
        residual,
        patches,
        texts,
        continuations,
        llamas,
        translations,
        clicks,
        transcripts,
        keywords,
        waveforms,
        whispers,
        vocoders,
        adversaries,
        speakers,
    )
}


def resealed(folder, **changes):
    """The bundle in ``folder`` with fields of its manifest changed, and checksums and version as they must be then."""
    content = json.loads((folder / manifest.NAME).read_text())
    (folder / manifest.NAME).unlink()
    manifest.write(
        folder,
        {
            name: changes.get(name, value)
            for name, value in content.items()
            if name not in ("format", "version", "files")
        },
    )
    return folder


def copied(bundle, folder):
    """A copy of an opened bundle's folder."""
    shutil.copytree(bundle.folder, folder)
    return folder
