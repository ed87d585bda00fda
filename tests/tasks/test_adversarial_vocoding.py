"""The vocoder that is learnt against discriminators: whose loss moves what, stretches, answers, devices, resuming."""

import json
import os
import re
import signal

import jax
import numpy as np
import pytest

import suite
from suite.contracts.codec import File
from suite.data.pipeline.padding import batched
from suite.data.recordings import decode
from suite.errors import InputError, Interrupted
from suite.experiment.alternating_gradient import Alternating
from suite.experiment.sections import replace
from suite.parallel.batch_shards import placer
from suite.reporting import sample_predictions
from suite.tasks.speech.adversarial_vocoding import AdversarialVocoding
from suite.training.assemble import assemble
from suite.tree import paths
from tests.conftest import simulated
from tests.untrained import FRONT_END, RATE, adversaries


@pytest.fixture(scope="module")
def run(exported):
    return exported("adversaries")[0]


def noise(size, seed=0):
    return (0.3 * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


def given(task, rows=4):
    columns = {"audio": [noise(900 + 100 * i, i) for i in range(rows)], "label": ["one", "two"] * (rows // 2)}
    return batched(task.encode(columns, np.random.default_rng(0)), {})


def moved(experiment):
    """How far a step moves the parameters of generator and discriminators."""
    program = assemble(experiment, 10)
    state = program.init()
    before = jax.device_get(paths(state.params))
    after, _ = program.step(state, {name: value[None] for name, value in given(experiment.task).items()})
    apart = {name: float(np.abs(leaf - before[name]).max()) for name, leaf in paths(after.params).items()}
    parts = ("generator/", "discriminators/")
    return [max(value for name, value in apart.items() if name.startswith(part)) for part in parts]


def test_a_generator_of_another_hop_is_refused_before_it_trains(run):
    with pytest.raises(InputError, match=r"(?s)model\.upsampling.*--model\.upsampling"):
        moved(replace(run.experiment, {"model.upsampling": (3, 7)}))


def test_neither_loss_moves_the_parameters_of_the_other(run):
    still = {"optim.learning_rate": 1e-3, "optim.warmup_steps": 0, "optim.weight_decay": 0.0}
    experiment = replace(run.experiment, still)
    weights = {f"task.{name}_weight": 0.0 for name in ("mel", "feature", "adversarial")}
    generator, discriminators = moved(replace(experiment, weights))
    assert generator == 0 < discriminators
    generator, discriminators = moved(replace(experiment, {"gradient.discriminator_rate": 1e-30}))
    assert discriminators < 1e-20 < 1e-4 < generator


def test_training_reads_stretches_of_one_length_and_evaluation_all(run):
    task = run.experiment.task
    columns = {"audio": [noise(1500), noise(400)], "label": ["one", "two"]}
    drawn = [task.encode(columns, np.random.default_rng(seed))["audio"] for seed in range(3)]
    assert all(each.lengths.tolist() == [600, 400] and each.to == 600 for each in drawn)
    assert len({float(each.values[0]) for each in drawn}) == 3
    whole = task.encode(columns)["audio"]
    assert whole.lengths.tolist() == [1500, 400] and whole.to == 0
    np.testing.assert_array_equal(whole.values[:1500], columns["audio"][0])


@pytest.mark.parametrize("name", ["loss", "discriminator_loss"])
def test_padding_rows_count_in_no_loss(run, name):
    task, model = run.experiment.task, run.model
    batch = {**given(task), "mask": np.array([True, True, False, False])}
    loss = jax.jit(lambda batch: getattr(task, name)(model, batch, None)[0])
    other = {**batch, "audio": np.concatenate([batch["audio"][:2], 0.5 * batch["audio"][2:]])}
    assert float(loss(batch)) == pytest.approx(float(loss(other)), rel=1e-6)
    assert float(loss({**other, "mask": np.ones(4, bool)})) != pytest.approx(float(loss(batch)), rel=1e-6)


def test_the_mel_error_of_a_recording_itself_is_nothing(run):
    task = run.experiment.task
    columns = {"audio": [noise(900), noise(300, 1)], "label": ["one", "two"]}
    batch = batched(task.encode(columns), {})
    outputs = jax.device_get(task.evaluate(run.model, batch))
    scores = task.score(outputs, batch)
    assert scores["mel_error"].count == 46 + 16 and 0.1 < scores["mel_error"].value() < 20
    samples, real = batch["audio"], batch["audio_mask"]
    assert not np.asarray(task._mel_error(samples, samples, real)[0]).any()
    # Twice the amplitude is log 2 in every band.
    doubled, frames = task._mel_error(2 * samples, samples, real)
    np.testing.assert_allclose(doubled / frames, np.log(2), rtol=1e-3)


def test_a_bundle_answers_without_discriminators_or_temperature(exported):
    run, bundle = exported("adversaries")
    assert any(name.startswith("discriminators/") for name in paths(run.variables[0]))
    assert bundle.weights and not any("discriminators" in name for name in bundle.weights)
    assert [entry.name for entry in bundle.codec.inputs] == ["audio", "label"]
    asked = {"audio": [noise(700), noise(450, 1)], "label": ["one", "two"]}
    answers = bundle.predict(asked)
    assert all(isinstance(answer["audio"], File) for answer in answers)
    assert [len(answer["audio"].data) for answer in answers] == [44 + 2 * 700, 44 + 2 * 440]
    bands, _ = FRONT_END(asked["audio"][0][None], np.ones((1, 700), bool))
    (by_bands,) = run.predict({"audio": [np.asarray(bands[0])], "label": ["one"]})
    (by_samples,) = run.predict({"audio": asked["audio"][:1], "label": ["one"]})
    assert by_bands == by_samples
    (other,) = run.predict({"audio": asked["audio"][:1], "label": ["two"]})
    assert other != by_samples


def test_the_sound_of_answers_is_measured_with_their_time(run, monkeypatch):
    monkeypatch.setattr(sample_predictions, "SIZES", (2,))
    monkeypatch.setattr(sample_predictions, "SECONDS", 0.0)
    (taken,) = sample_predictions.latencies(run, "test").values()
    _, asked = sample_predictions.records(run, "test", 2)
    lengths = [len(decode(path, RATE)) // FRONT_END.hop * FRONT_END.hop for path in asked["audio"]]
    assert len(taken.milliseconds) == 3 and taken.sound == pytest.approx(sum(lengths) / RATE)


def trained(experiment, folder, **options):
    fields = {"train.steps": 4, "train.eval_every": 4, "train.log_every": 2, "optim.warmup_steps": 1}
    return suite.train(replace(experiment, fields), folder, **options)


def test_a_run_resumes_bit_exactly(tmp_path):
    experiment = adversaries(tmp_path)
    whole = trained(experiment, tmp_path / "whole")

    def stop(dispatch):
        if dispatch.first == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        trained(experiment, tmp_path / "cut", on_dispatch=stop)
    again = suite.resume(tmp_path / "cut")
    for name, leaf in paths(whole._weights[0]).items():
        np.testing.assert_array_equal(leaf, paths(again._weights[0])[name], err_msg=name)
    assert again.history["train/generator/loss"] == whole.history["train/generator/loss"]
    assert "validation/mel_error" in whole.history


CHILD = """
import json, sys
from tests.tasks.test_adversarial_vocoding import losses
from tests.training.rules_child import LAYOUTS
print(json.dumps({name: losses(sys.argv[-1], fields) for name, fields in LAYOUTS.items() if name != "fsdp"}))
"""


def losses(folder, fields):
    """What two steps of a run in a folder log, in float32, and a parameter after them."""
    experiment = replace(
        suite.open(folder).experiment, {"precision.compute": "float32", "train.batch_size": 8, **fields}
    )
    program = assemble(experiment, 10)
    place, state = placer(program.mesh, None, leading=1), program.init()
    batch = {name: np.asarray(value)[None] for name, value in given(experiment.task, 8).items()}
    logged = []
    for _ in range(2):
        state, metrics = program.step(state, place(batch))
        logged += [metrics[name].value() for name in ("discriminator/loss", "generator/loss", "generator/mel_error")]
    return logged


def test_eight_devices_learn_what_one_does(run, forked_child):
    code = CHILD.replace("sys.argv[-1]", repr(str(run.folder)))
    several = json.loads(forked_child(code, **simulated(8)).splitlines()[-1])
    one = losses(run.folder, {})
    for layout, logged in several.items():
        np.testing.assert_allclose(logged, one, rtol=1e-4, err_msg=layout)


def test_the_rule_splits_any_model_in_two():
    first, again, last = Alternating(discriminator="critic/|judge/", updates=2, discriminator_rate=1e-4).rounds
    assert first == again and first.optim == {"learning_rate": 1e-4} and last.optim == {}
    names = ["critic/kernel", "judge/bias", "maker/critic/kernel", "head/kernel"]
    in_round = lambda round: [name for name in names if re.search(round.parameters[0], name)]
    assert in_round(first) == names[:2] and in_round(last) == names[2:]


@pytest.mark.parametrize("name", ["mel_weight", "feature_weight", "adversarial_weight"])
def test_weights_are_not_negative(run, name):
    with pytest.raises(InputError, match=f"task.{name}"):
        AdversarialVocoding(data=run.experiment.task.data, features=run.experiment.task.features, **{name: -1.0})


# What a recogniser hears


def test_a_recogniser_hears_what_was_made_beside_the_recordings(run, exported):
    listener = exported("transcripts")[1]
    assert listener.codec.recordings.rate == RATE
    task = replace(run.experiment, {"task.recogniser": str(listener.folder)}).task
    texts = ["one two", "three"]
    columns = {"audio": [noise(900), noise(300, 1)], "label": ["one", "two"], "text": texts}
    batch = batched(task.encode(columns), {})
    same = {"samples": batch["audio"], "lengths": np.array([900, 300])}
    scores = task.score(same, batch)
    assert scores["round_trip_wer"] == scores["natural_wer"] and scores["natural_wer"].count == 3
    assert scores["natural_wer"].total == 0 or scores["round_trip_ratio"].value() == 1
    scores = task.score({**same, "samples": 0 * batch["audio"]}, batch)
    assert scores["round_trip_wer"].value() == 1  # nothing is heard in silence
    with pytest.raises(InputError, match=r"(?s)task\.recogniser.*must be a run of speech recognition"):
        replace(run.experiment, {"task.recogniser": str(run.folder)}).task.source("test")
