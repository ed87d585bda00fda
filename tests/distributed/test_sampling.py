"""Sampled answers depend on their seed alone: not on its company, the batch or the devices."""

import json

import pytest

import suite
from suite.decoding.generation import Decoding
from suite.errors import InputError
from tests.distributed.test_meshes import simulated
from tests.untrained import continuations, translations


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampled")
    experiment = suite.replace(
        continuations(folder),
        {"train.steps": 3, "train.eval_every": 3, "task.decoding": Decoding(tokens=8, temperature=1.0)},
    )
    return suite.train(experiment, folder / "run")


def test_a_prompt_is_continued_alike_alone_in_company_and_on_any_devices(run, forked_child):
    code = f"from tests.distributed.evaluation_child import main; main({str(run.folder)!r}, 'one two', '1', '2', '3')"
    one, eight = (json.loads(forked_child(code, **simulated(devices)).splitlines()[-1]) for devices in (1, 8))
    assert (one["devices"], eight["devices"]) == (1, 8)
    for seed in ("1", "2", "3"):
        answers = [answer for found in (one, eight) for engine in found["answers"].values() for answer in engine[seed]]
        assert len(answers) == 2 * 2 * 25 and len(set(answers)) == 1
        assert answers[0] == run.predict("one two", int(seed))[0]["continuation"]
    assert len({one["answers"]["jit"][seed][0] for seed in ("1", "2", "3")}) == 3
    assert one["metrics"] == pytest.approx(eight["metrics"], rel=1e-5)


def test_without_a_seed_the_answer_is_always_the_same(run, command):
    given = run.predict(["one two", "one two", "six"])
    assert given == run.predict(["one two", "one two", "six"], 0) == run.predict(["one two", "one two", "six"], [0] * 3)
    assert given[0] == given[1] == run.predict("one two")[0]
    by_seed = [run.predict("one two", seed)[0]["continuation"] for seed in range(8)]
    assert len(set(by_seed)) > 4
    assert [answer["continuation"] for answer in run.predict(["one two"] * 8, range(8))] == by_seed
    printed = json.loads(command("predict", run.folder, "--input", "one two", "--seed", 5))
    assert printed["continuation"] == by_seed[5]


@pytest.mark.parametrize("seed", [-1, 1 << 32, 0.5, "7", [1, 2], [[1], [2], [3]]])
def test_a_seed_that_is_none_is_refused(run, seed):
    with pytest.raises(InputError, match=r"^seed: must be"):
        run.predict(["one", "two", "six"], seed)


def test_a_bundle_draws_what_its_run_draws(exported):
    made, bundle = exported("continuations")
    prompts, seeds = ["one two", "one two", "six"], [1, 2, 1]
    answers = bundle.predict(prompts, seeds)
    assert answers == made.predict(prompts, seeds) and answers[0] != answers[1]
    assert [bundle.predict([prompt], seed)[0] for prompt, seed in zip(prompts, seeds, strict=True)] == answers


def test_more_records_than_a_batch_have_their_own_seeds(run):
    prompts, seeds = ["one two"] * 70, list(range(70))
    answers = run.predict(prompts, seeds)
    assert answers[64:66] == run.predict(prompts[:2], [64, 65])


def test_a_sampled_translation_is_measured_alike_in_batches_of_any_size(tmp_path):
    """In evaluation a record's seed is its place in the split."""
    changes = {"train.steps": 3, "train.eval_every": 3, "task.decoding": Decoding(tokens=4, temperature=1.0)}
    made = suite.train(suite.replace(translations(tmp_path), changes), tmp_path / "run")
    found = [made.evaluate("test", size).metrics for size in (1, 8, 30)]
    assert found[0]["test/chrf"] > 0
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-4)
