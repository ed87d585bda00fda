"""Sound-text matching: records of several texts, both programs, catalogues, and an encoder of a recogniser."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from flax import nnx

import suite
from suite.data.preprocessing.text import SentencePiece
from suite.data.sources.captions import RECORDINGS
from suite.data.sources.speech import AudioManifest
from suite.models import audio
from suite.training.initial_weights import initial_weights
from suite.tree import paths
from tests.tasks.test_classes import bound
from tests.untrained import FRONT_END, RATE, transcripts, untrained

TONES = {"low": 100.0, "middle": 300.0, "high": 700.0}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Tones of three heights, every second of them with two texts in lines of their own."""
    folder, rng, rows = tmp_path_factory.mktemp("tones"), np.random.default_rng(0), []
    for place in range(24):
        name = list(TONES)[place % 3]
        time = np.arange(rng.integers(600, 1900)) / RATE
        tone = 0.3 * np.sin(2 * np.pi * TONES[name] * time) + 0.01 * rng.standard_normal(len(time))
        soundfile.write(folder / f"{place}.wav", tone, RATE)
        split = "train" if place < 12 else "validation" if place < 15 else "test"
        said = [f"a {name} tone", f"tone number {place}"][: 1 + place % 2]
        rows += [{"audio": f"{place}.wav", "text": text, "split": split} for text in said]
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return AudioManifest(path=str(folder / "manifest.jsonl"))


def experiment(manifest, **changes):
    own = {"task.data": manifest, "task.texts": 2, "task.max_seconds": 1.0, "task.features.front_end": FRONT_END}
    own |= {"task.spec_augment": None, "task.max_length": 24, "pipeline.buckets": (2000,)}
    sizes = audio.Config(layers=1, width=16, heads=2, kernel=5, subsampling=2, pooling="hidden")
    return suite.replace(
        suite.load("multimodal.match_sounds", smoke=True), {**own, "model.parts.audio": sizes, **changes}
    )


@pytest.fixture(scope="module")
def run(manifest, tmp_path_factory):
    return untrained(experiment(manifest), tmp_path_factory.mktemp("match") / "run")


def test_lines_of_a_recording_are_one_record(run, manifest):
    source = run.experiment.task.source("train")
    records = source[np.arange(len(source))]
    assert len(source) == 12 and records[RECORDINGS][1] == ["1.wav"]
    assert records["text"][:2] == [["a low tone"], ["a middle tone", "tone number 1"]]
    assert run.experiment.task.remarks({"test": run.experiment.task.source("test")}) == [
        "test: 9 recordings, 14 texts, which are ranked: a pool of 9 and 14"
    ]
    assert isinstance(run.experiment.task.tokenizer, SentencePiece) and run.experiment.task.tokenizer.kind == "char"


def test_a_run_is_measured_both_ways(run):
    metrics = run.evaluate("test").metrics
    assert metrics["test/text_to_audio_10"] == 1  # of 9 recordings
    assert all(0 <= metrics[f"test/{way}_1"] <= 1 for way in ("audio_to_text", "text_to_audio", "both_ways"))


def test_a_bundle_ranks_recordings_for_a_text_and_judges_texts_of_a_recording(run, manifest, tmp_path):
    from pathlib import Path

    bundle = suite.export(run, tmp_path / "bundle", platforms=("cpu",))
    asked = ["a low tone", "tone number 3"]
    theirs, ours = bundle.predict(asked), run.predict(asked)
    names = lambda answers: [[row["item"] for row in answer["recordings"]] for answer in answers]
    assert names(theirs) == names(ours) and len(names(ours)[0]) == 10 and names(ours)[0][0].endswith(".wav")
    folder = Path(manifest.path).parent
    request = {"audio": [str(folder / "3.wav")], "labels": [["a low tone", "a high tone", "a low tone"]]}
    (answer,) = bundle.predict(request, program="labels")
    assert set(answer["probabilities"]) == {"a low tone", "a high tone"}
    (tmp_path / "new.csv").write_text(f"name,audio\nmine,{folder}/4.wav\nyours,{folder}/5.wav\n")
    fewer, _ = suite.replace_catalogue(bundle.folder, tmp_path / "new.csv", tmp_path / "fewer")
    assert {row["item"] for row in fewer.predict(asked)[0]["recordings"]} == {"mine", "yours"}


def test_padding_does_not_change_a_vector(run):
    task = run.experiment.task
    encoded = task.encode(task.source("train")[np.arange(2)])
    vectors = []
    for length in (2000, 2600):
        values, mask = encoded["audio"].padded(length)
        batch = {"audio": jnp.asarray(values), "audio_mask": jnp.asarray(mask), "mask": np.ones(2, bool)}
        vectors.append(np.asarray(task.vectors(run.model, batch)))
    np.testing.assert_allclose(*vectors, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors[0], axis=-1), 1, atol=1e-5)


def test_the_encoder_is_that_of_a_recogniser(manifest, tmp_path):
    """Without its head; its features with what they have learnt."""
    recogniser = suite.replace(transcripts(tmp_path), {"train.steps": 1, "train.log_every": 1, "train.batch_size": 8})
    told = suite.train(suite.replace(recogniser, {"precision.compute": "float32"}), tmp_path / "run")
    start = {"checkpoint.init_from": {"audio": str(told.folder)}}
    started = bound_run(experiment(manifest, **start), tmp_path / "match")
    program = started._program
    state, abstract = program.init(), program.abstract
    weights = (abstract.params, abstract.model_state), (state.params, state.model_state)
    params, _ = initial_weights(started.experiment, *weights)
    theirs = paths(told._weights[0]["encoder"])
    found = paths(params["audio"])
    assert found.keys() == {f"encoder/{name}" for name in theirs}
    for name, leaf in theirs.items():
        np.testing.assert_array_equal(found[f"encoder/{name}"], leaf)
    np.testing.assert_array_equal(started.experiment.task.features.mean, told.experiment.task.features.mean)


def bound_run(made, folder):
    from suite.training.preprocessors import adopt

    return untrained(adopt(made)[0], folder)


def test_a_frozen_encoder_of_recordings_has_no_gradient(run):
    task = suite.replace(run.experiment, {"task.frozen": ("audio",)}).task
    encoded = bound(task, run.folder).encode(task.source("train")[np.arange(4)], np.random.default_rng(0))
    values, mask = encoded.pop("audio").padded(2000)
    batch = {**encoded, "audio": values, "audio_mask": mask, "mask": np.ones(4, bool)}
    grads = nnx.grad(lambda model: task.loss(model, batch, nnx.Rngs(dropout=0))[0])(run.model)
    largest = lambda name: max(float(abs(leaf).max()) for leaf in paths(nnx.to_pure_dict(grads[name])).values())
    assert largest("audio") == 0 and largest("text") > 0 and largest("heads") > 0
