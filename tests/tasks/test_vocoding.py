"""The vocoder: stretches of training, scores beside Griffin-Lim, requests and their seeds, and what a report plays."""

import io

import jax
import numpy as np
import pytest
import soundfile

from suite.contracts.codec import File
from suite.data.pipeline.padding import batched
from suite.data.sources.memory import Memory
from suite.errors import InputError
from suite.evaluation import baselines
from suite.evaluation.bootstrap import by_record
from suite.evaluation.metrics.speech_quality import distances
from suite.nn.audio.spectral import LogMel
from suite.reporting.drawings import drawn
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.vocoding import Vocoding
from tests.untrained import FRONT_END, RATE


@pytest.fixture(scope="module")
def run(exported):
    return exported("vocoders")[0]


def samples_of(answer):
    samples, rate = soundfile.read(io.BytesIO(answer["audio"].data))
    assert rate == RATE and answer["audio"].media_type == "audio/wav"
    return samples


def noise(size, seed=0):
    return (0.3 * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


def test_training_reads_stretches_and_counts_none_of_a_cut(run):
    task, hop = run.experiment.task, FRONT_END.hop
    margin = FRONT_END.fft // 2 + 2 * hop
    columns = {"audio": [noise(1900), noise(800)], "label": ["one", "two"]}
    first = task.encode(columns)
    assert first["audio"].lengths.tolist() == [1000, 800]  # half a second at 2,000 a second
    assert first["counted"].tolist() == [[0, 1000 - margin], [0, 800]]
    drawn_stretches = [task.encode(columns, np.random.default_rng(seed)) for seed in range(4)]
    starts = {float(each["audio"].values[0]) for each in drawn_stretches}
    assert len(starts) == 4 and all(each["counted"][0].tolist() == [margin, 1000 - margin] for each in drawn_stretches)
    # What is counted has the mel bands of the whole recording.
    whole, _ = FRONT_END(columns["audio"][0][None], np.ones((1, 1900), bool))
    cut, _ = FRONT_END(columns["audio"][0][None, 400:1400], np.ones((1, 1000), bool))
    clean = slice(FRONT_END.fft // 2 // hop + 1, -(FRONT_END.fft // 2 // hop) - 2)
    np.testing.assert_allclose(cut[0, clean], whole[0, 20:71][clean], atol=1e-4)


def test_the_loss_is_that_of_evaluation_and_of_real_samples_alone(run):
    task = run.experiment.task
    columns = {"audio": [noise(900), noise(300, 1)], "label": ["one", "two"]}
    batch = batched(task.encode(columns), {"": (1000,)})
    loss, metrics = task.loss(run.model, batch, None)
    outputs = jax.device_get(task.evaluate(run.model, batch))
    scores = task.score(outputs, batch)
    assert scores["loss"].value() == pytest.approx(float(loss), rel=1e-4)
    assert scores["loss"].count == float(metrics["loss"].count) == 1200
    assert float(loss) == pytest.approx(np.log(256), abs=0.3)  # nothing is learnt yet
    alone = batched(task.encode({name: values[1:] for name, values in columns.items()}), {})
    nats = task.loss(run.model, alone, None)[1]["loss"]
    assert outputs["nats"][1] == pytest.approx(float(nats.total), rel=1e-3)
    apart = [distances(noise(size, seed), outputs["samples"][seed, :size], RATE) for seed, size in ((0, 900), (1, 300))]
    assert scores["mcd13"].value() == pytest.approx(np.mean(apart, 0)[0], rel=1e-4)
    assert scores["log_spectral_distance"].value() == pytest.approx(np.mean(apart, 0)[1], rel=1e-4)


def test_griffin_lim_is_scored_beside_the_model(run):
    task = run.experiment.task
    time = np.arange(800) / RATE
    source = Memory(
        {
            "audio": [0.3 * np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (200, 310)],
            "label": ["one", "two"],
        }
    )
    (measured,) = baselines.measure(task, source, source)
    assert "Griffin-Lim" in measured.name and measured.chosen == "60 iterations, momentum 0.99"
    far = by_record(
        task,
        {"samples": np.stack([noise(800)] * 2), "lengths": np.array([800, 800])},
        batched(task.encode(source[np.arange(2)]), {}),
        np.arange(2),
    )
    mean = lambda scores, name: np.mean([state.value() for state in scores.rows[name]])
    assert set(measured.scores.rows) == {"mcd13", "log_spectral_distance", "log_f0_error", "voicing_error"}
    assert mean(measured.scores, "mcd13") < 0.5 * mean(far, "mcd13")


def test_a_request_is_answered_by_its_seed_voice_and_temperature(exported):
    run, bundle = exported("vocoders")
    asked = {"audio": [noise(700), noise(450, 1), noise(700)], "label": ["one", "two", "one"]}
    answers = run.predict(asked, seed=[1, 2, 1])
    samples = [samples_of(answer) for answer in answers]
    assert [len(each) for each in samples] == [700, 440, 700]  # whole hops of 20
    assert (samples[0] == samples[2]).all()
    (alone,) = bundle.predict({name: values[1:2] for name, values in asked.items()}, seed=[2])
    assert (samples_of(alone) == samples[1]).all()
    first = {name: values[:1] for name, values in asked.items()}
    assert (samples_of(run.predict(first, seed=3)[0]) != samples[0]).any()
    assert (samples_of(run.predict({**first, "label": ["two"]}, seed=1)[0]) != samples[0]).any()
    cold = [samples_of(run.predict({**first, "temperature": [0]}, seed=seed)[0]) for seed in (1, 2)]
    assert (cold[0] == cold[1]).all() and (cold[0] != samples[0]).any()
    for wrong in (-0.1, 3, "warm", float("inf")):
        with pytest.raises(InputError, match=r'(?s)input "temperature".*from 0 to 2'):
            run.predict({**first, "temperature": [wrong]})
    with pytest.raises(InputError, match="three"):
        run.predict({**first, "label": ["three"]})


def test_mel_bands_are_answered_as_the_recording_that_they_are_of(run):
    recording = noise(700)
    bands, _ = FRONT_END(recording[None], np.ones((1, 700), bool))
    (by_bands,) = run.predict({"audio": [np.asarray(bands[0])], "label": ["one"]}, seed=4)
    (by_samples,) = run.predict({"audio": [recording], "label": ["one"]}, seed=4)
    assert isinstance(by_bands["audio"], File) and by_bands == by_samples


def test_a_report_plays_recordings_beside_what_was_made(run):
    task = run.experiment.task
    columns = {"audio": [noise(900), noise(300, 1)], "label": ["one", "two"], "file": ["a/x.wav", "a/y.wav"]}
    batch = batched(task.encode(columns), {})
    outputs = jax.device_get(task.evaluate(run.model, batch))
    spread, remade = task.artifacts(columns, outputs, batch).values()
    assert len(spread.values["recordings"]) == 2 and (remade + remade).among == 4
    _, *records = drawn(remade)
    assert [cards.caption.split(",")[0] for cards in records] == [
        name for _, name in sorted(zip(-spread.values["recordings"], ["x.wav", "y.wav"], strict=True))
    ]
    for cards in records:
        assert [card.note for card in cards.cards] == ["recording", "made anew"]
        assert all(card.sound.startswith("data:audio/wav") and card.picture for card in cards.cards)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"features": AudioFeatures(front_end=LogMel(cepstra=13))}, "front_end.cepstra"),
        ({"features": AudioFeatures(normalise="recording")}, "task.features"),
        ({"features": AudioFeatures(kind="samples")}, "task.features"),
        ({"seconds": 0.01}, "task.seconds"),
        ({"seconds": 40.0}, "task.seconds"),
        ({"temperature": 2.5}, "task.temperature"),
    ],
)
def test_wrong_fields_are_named(run, fields, said):
    with pytest.raises(InputError, match=said.replace(".", r"\.")):
        Vocoding(data=run.experiment.task.data, **fields)


def test_features_that_were_stored_teach_no_sample(run):
    with pytest.raises(InputError, match="no sample can be learnt"):
        run.experiment.task.encode({"audio": [np.zeros((20, 8), np.float32)], "label": ["one"]})


def test_without_a_column_of_speakers_there_are_none(run, tmp_path):
    task = run.experiment.task
    file = tmp_path / "speakers.json"
    type(task.speakers)().fit(task.source("train"), "", file)
    nobody = type(task.speakers)(file=str(file))
    assert nobody.sizes() == {} and nobody.names == [] and task.speakers.sizes() == {"speakers": 2}
