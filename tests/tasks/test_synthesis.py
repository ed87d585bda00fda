"""Speech synthesis: what is learnt of a recording, durations given and found, requests, reports, and its vocoder."""

import io
import json
import re
import shlex
from dataclasses import replace

import jax
import numpy as np
import optax
import pytest
import soundfile
from flax import nnx

import suite
from suite.data.pipeline.padding import batched
from suite.data.preprocessing.spelling import Spelling
from suite.data.sources.memory import Memory
from suite.errors import InputError
from suite.evaluation.metrics.speech_quality import mel_cepstral_distortion
from suite.experiment.defaults import settled
from suite.models import fastspeech
from suite.nn.audio.spectral import LogMel
from suite.reporting.drawings import drawn
from suite.tasks.speech.phone_times import frames_of, without_unaligned
from suite.tasks.speech.synthesis import SpeechSynthesis
from suite.tasks.speech.voice import VoiceFeatures, pitch_of, without_silence
from suite.tree import paths
from suite.workflow.folders import predict_input
from tests.untrained import FRONT_END, RATE, adversaries, speakers, untrained, vocoders


@pytest.fixture(scope="module")
def run(exported):
    return exported("speakers")[0]


def samples_of(answer):
    samples, rate = soundfile.read(io.BytesIO(answer["audio"].data), dtype="float32")
    assert rate == RATE and answer["audio"].media_type == "audio/wav"
    return samples


def tone(hertz, seconds):
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def asked(**columns):
    return {"text": ["one two"], "label": ["one"], **columns}


def test_a_recording_becomes_whole_hops_with_a_pitch_each_and_no_silence_at_its_ends(run):
    task, hop = run.experiment.task, FRONT_END.hop
    silent = np.zeros(400, np.float32)
    audio = np.concatenate([silent, tone(125, 0.4), silent])
    encoded = task.encode(asked(audio=[audio]))
    (frames,) = encoded["audio"].lengths
    kept = without_silence(audio, RATE, hop)
    assert 800 <= len(kept) <= 800 + 2 * 0.05 * RATE + hop and frames == len(kept) // hop
    assert encoded["audio"].values.shape == (frames, hop) and encoded["pitch"].lengths.tolist() == [frames]
    voiced = encoded["pitch"].values[encoded["pitch"].values > 0]
    assert len(voiced) > 0.3 * RATE / hop and np.abs(voiced - np.log(125)).max() < 0.1
    assert set(task.encode(asked())) == {"symbols", "speed", "semitones", "speaker"}


def test_durations_given_are_frames_that_add_up_to_the_recording(tmp_path):
    path = tmp_path / "spelling.json"
    Spelling(unit="phones").fit(Memory({"text": ["_ a b _"]}), "text", path)
    spelling = Spelling(unit="phones", file=str(path))
    frames = lambda text, seconds: frames_of(text, seconds, 20, spelling, 50.0).tolist()
    assert frames("_ a b _", [0.1, 0.11, 0.1, 0.1]) == [5, 6, 5, 4]
    assert frames("a x b", "0.1 0.1 0.2") == [0, 10, 10, 0]  # what is unknown goes to the phone before
    for text in ("_ a b _", "a x b", "x a", "x _ a"):
        count = len(text.split())
        assert len(frames(text, [0.4 / count] * count)) == spelling.encode([text])[0].lengths[0]


def test_texts_that_do_not_fit_their_recording_are_dropped_and_counted():
    audio = [tone(100, 0.2)] * 4
    columns = {"audio": audio, "text": ["a b", "a b", "a", "a b"], "d": [[0.1, 0.1], [0.1], [0.4], None]}
    check = lambda unit, durations: without_unaligned(
        Memory(columns), "audio", "text", durations, Spelling(unit=unit), FRONT_END
    )
    assert check("phones", "d").dropped == {
        "no durations": 1,
        "another number of durations than of phones": 1,
        "durations that do not add up to the recording": 1,
    }
    assert len(check("phones", "")) == 4
    columns["text"][0] = "a" * 30
    assert check("characters", "").dropped == {"fewer frames than symbols": 1}


def test_the_alignment_of_tones_is_learnt_from_text_and_sound_alone(run, tmp_path):
    """Each character is a tone; neither lengths nor places are told."""
    silent = np.zeros(5 * FRONT_END.hop, np.float32)
    pitches, rng = {"a": 150.0, "b": 330.0, "c": 620.0}, np.random.default_rng(0)
    texts, audio, truth = [], [], []
    for _ in range(16):
        letters = [str(letter) for letter in rng.permutation(list(pitches))]
        lengths = rng.integers(4, 14, 3)
        texts.append("".join(letters))
        seconds = lengths * FRONT_END.hop / RATE
        tones = [tone(pitches[name], lasts) for name, lasts in zip(letters, seconds, strict=True)]
        audio.append(np.concatenate([silent, *tones, silent]))
        truth.append(lengths)
    source = Memory({"audio": audio, "text": texts})
    features, spelling = VoiceFeatures(front_end=FRONT_END), Spelling()
    features.fit(source, "audio", tmp_path / "features")
    spelling.fit(source, "text", tmp_path / "spelling")
    task = SpeechSynthesis(
        data=run.experiment.task.data,
        features=replace(features, file=str(tmp_path / "features")),
        spelling=replace(spelling, file=str(tmp_path / "spelling")),
    )
    batch = batched(task.encode(source[np.arange(16)]), {"": (8,), "frames": (48,)})
    config = fastspeech.Config(symbols=4, bands=8, width=16, predictor=8, decoder_width=16, decoder_layers=1, aligner=8)
    model = nnx.Dict(acoustic=config.build(rngs=nnx.Rngs(0)))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    optimiser = optax.adam(1e-2)

    @jax.jit
    def step(params, state):
        def loss(params):
            return task.loss(nnx.merge(graph, params, rest), batch, nnx.Rngs(0))

        (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, updates), state, metrics["mel"].total / metrics["mel"].count

    state, mels = optimiser.init(params), []
    for _ in range(150):
        params, state, mel = step(params, state)
        mels.append(float(mel))
    outputs = jax.device_get(jax.jit(lambda model: task._spoken(model, batch, None))(nnx.merge(graph, params, rest)))
    durations = outputs[4][:, 1:4]
    assert np.mean(np.abs(durations - np.array(truth)) <= 2) > 0.9
    assert np.mean(mels[-10:]) < 0.5 * mels[0]


def test_the_loss_is_that_of_evaluation_but_for_what_the_decoder_is_told(run):
    task = run.experiment.task
    columns = asked(audio=[tone(150, 0.5)])
    batch = batched(task.encode(columns), {"": (24,), "frames": (96,)})
    loss, metrics = task.loss(run.model, batch, None)
    outputs = jax.device_get(task.evaluate(run.model, batch))
    scores = task.score(outputs, batch)
    assert scores["loss"].value() == pytest.approx(float(loss), rel=1e-3)
    assert {*metrics} == {"loss", "mel", "alignment", "duration", "pitch", "loudness"} <= {*scores}
    assert outputs["durations"].sum() == batch["audio_mask"].sum() + 1
    assert scores["mcd13"].count == 1 and scores["duration_error"].value() > 0
    _, made, wanted, real, _ = jax.device_get(task._spoken(run.model, batch, None))
    logs = [(values[real] * task.features.std + task.features.mean) / 2 for values in (wanted, made)]
    assert scores["mel_mcd13"].value() == pytest.approx(mel_cepstral_distortion(*logs), rel=1e-4)


def test_a_bundle_answers_as_its_run_alone_and_in_company(exported):
    run, bundle = exported("speakers")
    columns = {"text": ["one two", "three", "one two"], "label": ["one", "two", "one"]}
    answers = [samples_of(answer) for answer in run.predict(columns)]
    assert (answers[0] == answers[2]).all() and len(answers[0]) % FRONT_END.hop == 0
    (alone,) = bundle.predict({name: values[:1] for name, values in columns.items()})
    assert samples_of(alone).shape == answers[0].shape
    np.testing.assert_allclose(samples_of(alone), answers[0], atol=2e-3)


def test_a_request_names_voice_speed_and_pitch(run):
    frames = lambda **columns: len(samples_of(run.predict(asked(**columns))[0])) // FRONT_END.hop + 1
    usual = frames()
    assert frames(speed=[0.5]) == pytest.approx(2 * usual, abs=1) and frames(speed=[2]) == pytest.approx(
        usual / 2, abs=1
    )
    first = samples_of(run.predict(asked())[0])
    for other in (asked(label=["two"]), asked(pitch=[12])):
        second = samples_of(run.predict(other)[0])
        assert first.shape != second.shape or (first != second).any()
    for name, wrong, said in (
        ("speed", 3, "from 0.5 to 2"),
        ("speed", "2", "not a string"),
        ("pitch", True, "not a boolean"),
        ("pitch", "high", "from -12 to 12"),
    ):
        with pytest.raises(InputError, match=f'(?s)input "{name}".*{said}'):
            run.predict(asked(**{name: [wrong]}))


def test_a_text_alone_where_a_voice_is_wanted_is_refused_with_a_record_that_can_be_pasted(run):
    with pytest.raises(InputError) as caught:
        predict_input(run, "one two")
    names = run.experiment.task.speakers.names
    assert caught.value.found == f"text; label: {', '.join(names)}"
    flag, record = shlex.split(caught.value.fix)
    assert (flag, json.loads(record)) == ("--input", {"text": "one two", "label": names[0]})
    (answer,) = predict_input(run, record)
    assert answer["audio"]
    with pytest.raises(InputError) as caught:
        run.predict({"text": ["one two"]})
    assert caught.value.fix == f'a column, or key, "label", one of {", ".join(names)}'


def test_what_is_not_spoken_is_said(run):
    (answer,) = run.predict(asked(text=["one #% two"]))
    assert run.predict(asked())[0]["left_out"] == ""
    assert answer["left_out"] == '"#" 1, "%" 1'  # percent, whose p no text of training has
    with pytest.raises(InputError, match="nothing that this model can speak"):
        run.predict(asked(text=["###"]))
    with pytest.raises(InputError, match="more than 24 symbols"):
        run.predict(asked(text=["one two " * 4]))
    with pytest.raises(InputError, match='input "label": must be one of one, two'):
        run.predict(asked(label=["zoe"]))
    for nothing in (None, ["one"]):
        with pytest.raises(InputError, match='input "text"'):
            run.predict(asked(text=[nothing]))


def test_an_end_for_which_there_is_no_room_is_said(run):
    codec = run.experiment.task.codec
    outputs = {"samples": np.zeros((1, 400)), "lengths": np.array([400]), "wanted": np.array([1400])}
    (answer,) = codec.decode(outputs, asked())
    assert answer["left_out"] == "the last 0.5 s, for which there is no room"


def test_a_report_shows_symbols_above_spectrograms_and_plays_them(run):
    task = run.experiment.task
    columns = asked(audio=[tone(150, 0.5)])
    batch = batched(task.encode(columns), {"": (24,), "frames": (96,)})
    spread, spoken = task.artifacts(columns, jax.device_get(task.evaluate(run.model, batch)), batch).values()
    assert {kind: len(values) for kind, values in spread.values.items()} == {
        "durations of the recordings": 1,
        "own durations": 1,
    }
    _, cards = drawn(spoken)
    assert cards.caption.startswith("one two, ") and len(cards.cards) == 3
    assert all(card.sound.startswith("data:audio/wav") and card.picture for card in cards.cards)
    recording = spoken.records[0][2][0][1]
    assert [name for _, name in recording.marks] == list("_one two_") and recording.marks[0][0] == 0


def test_the_vocoder_of_a_run_becomes_a_part_that_does_not_learn(tmp_path):
    vocoder = untrained(suite.replace(vocoders(tmp_path), {"task.speaker": ""}), tmp_path / "vocoder")
    (tmp_path / "own").mkdir()
    recipe = suite.replace(speakers(tmp_path / "own"), {"task.vocoder": str(vocoder.folder)})
    source = recipe.task.source("train")
    chosen, lines = settled(recipe, source)
    assert chosen.checkpoint.init_from == {"vocoder": str(vocoder.folder)} and chosen.optim.frozen == ("^vocoder/",)
    assert any("model.parts.vocoder" in line for line in lines)
    speaking = untrained(suite.replace(chosen, {"checkpoint.init_from": ""}), tmp_path / "run")
    assert any(name.startswith("vocoder/layers") for name in paths(speaking._weights[0]))
    task = speaking.experiment.task
    np.testing.assert_array_equal(task.vocoder_features.mean, vocoder.experiment.task.features.mean)
    samples = samples_of(speaking.predict(asked(), seed=1)[0])
    assert len(samples) and (samples != samples_of(speaking.predict(asked(), seed=2)[0])).any()


def test_a_vocoder_brings_no_discriminators(tmp_path):
    vocoder = untrained(suite.replace(adversaries(tmp_path), {"task.speaker": ""}), tmp_path / "vocoder")
    (tmp_path / "own").mkdir()
    recipe = suite.replace(speakers(tmp_path / "own"), {"task.vocoder": str(vocoder.folder)})
    part = settled(recipe, recipe.task.source("train"))[0].model.parts["vocoder"]
    assert not part.discriminators and re.search(part.omitted, "discriminators/0/convs/0/kernel")
    assert not re.search(part.omitted, "generator/head/kernel")


def test_what_a_recogniser_hears_is_compared_with_the_words(run, monkeypatch):
    from suite.tasks.speech import hearing

    monkeypatch.setattr(hearing, "heard", lambda recogniser, rows, rate: ["one two" if len(rows[0]) < 900 else "one"])
    task = replace(run.experiment.task, recogniser="pocketsphinx", words="said")
    columns = asked(audio=[tone(150, 0.5)], said=["One, two."])
    batch = batched(task.encode(columns), {"": (24,), "frames": (96,), "text": (16,)})
    outputs = {"lengths": np.array([400]), "samples": np.zeros((1, 400)), "timed": np.zeros((1, 2000))}
    outputs |= {name: np.zeros((1, 24), np.int32) for name in ("durations", "frames")} | {"mel_mcd13": np.zeros(1)}
    scores = task.score(outputs, batch)
    assert scores["round_trip_wer"].value() == 0 and scores["natural_wer"].value() == 0.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task.vocoder": "nowhere"}, "is no run folder"),
        ({"optim.frozen": ("^acoustic/encoder",)}, r"--optim\.frozen '\^acoustic/encoder' '\^vocoder/'"),
        ({"checkpoint.init_from": "before"}, r"--checkpoint\.init_from acoustic=before vocoder="),
        ({"task.features.front_end.hop": 25}, r"--task\.features\.front_end\.hop 20"),
    ],
)
def test_a_vocoder_that_does_not_fit_is_refused_with_the_flag_that_helps(tmp_path, changes, said):
    vocoder = untrained(suite.replace(vocoders(tmp_path), {"task.speaker": ""}), tmp_path / "vocoder")
    (tmp_path / "own").mkdir()
    recipe = suite.replace(speakers(tmp_path / "own"), {"task.vocoder": str(vocoder.folder), **changes})
    with pytest.raises(InputError, match=said):
        settled(recipe, recipe.task.source("train"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"features": VoiceFeatures(front_end=LogMel(cepstra=13))}, "front_end.cepstra"),
        ({"features": VoiceFeatures(normalise="recording")}, "task.features"),
        ({"durations": "seconds"}, "task.spelling.unit"),
        ({"max_symbols": 2}, "task.max_symbols"),
        ({"iterations": 0}, "task.iterations"),
    ],
)
def test_wrong_fields_are_named(run, fields, said):
    with pytest.raises(InputError, match=said.replace(".", r"\.")):
        SpeechSynthesis(data=run.experiment.task.data, **fields)


def test_the_pitch_of_a_recording_is_computed_once(monkeypatch):
    from suite.tasks.speech import voice

    sound = tone(140, 0.3)
    first = pitch_of(sound, RATE, FRONT_END.hop)
    monkeypatch.setattr(voice, "fundamental_frequency", None)
    assert pitch_of(sound.copy(), RATE, FRONT_END.hop) is first


def test_the_means_of_symbols_are_a_baseline_where_durations_are_known(run, tmp_path):
    assert run.experiment.task.baselines() == {}
    seconds = [[0.1, 0.2, 0.1, 0.05], [0.05, 0.1, 0.2, 0.1]]
    hertz = {"_": 60.0, "a": 240.0, "b": 480.0}
    texts = ["_ a b _", "_ b a _"]
    audio = [
        np.concatenate([tone(hertz[phone], lasts) for phone, lasts in zip(text.split(), times, strict=True)])
        for text, times in zip(texts, seconds, strict=True)
    ]
    source = Memory({"audio": audio, "text": texts, "seconds": seconds})
    features, spelling = VoiceFeatures(front_end=FRONT_END), Spelling(unit="phones")
    features.fit(source, "audio", tmp_path / "features")
    spelling.fit(source, "text", tmp_path / "spelling")
    task = SpeechSynthesis(
        data=run.experiment.task.data,
        durations="seconds",
        features=replace(features, file=str(tmp_path / "features")),
        spelling=replace(spelling, file=str(tmp_path / "spelling")),
    )
    columns = source[np.arange(2)]
    encoded, ((means,),) = task.encode(columns), [task.baselines().values()]
    means.add(columns, encoded)
    assert means.fit() == "25 contexts"
    outputs, batch = means.outputs(columns, encoded), batched(encoded, {"": (8,), "frames": (48,)})
    scores = task.score(outputs, batch)
    assert 0 < scores["mel_mcd13"].value() < scores["mcd13"].value()
    assert scores["duration_error"].value() <= 1000 * FRONT_END.hop / RATE and np.isfinite(scores["mcd13"].value())
    loudest = lambda samples: np.asarray(FRONT_END(samples[None], np.ones((1, len(samples)), bool))[0][0]).argmax(1)
    made, recorded = loudest(outputs["timed"][0]), loudest(audio[0])
    middles = [(0.1 + 0.1) * RATE / FRONT_END.hop, (0.3 + 0.05) * RATE / FRONT_END.hop]
    assert [made[int(place)] for place in middles] == [recorded[int(place)] for place in middles]
