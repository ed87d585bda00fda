"""Reference records of a split: embedded with the evaluated weights, in their order, on any devices."""

import json

import jax
import numpy as np
import pytest

import suite
from suite.data.pipeline.padding import pad
from suite.experiment.sections import replace
from tests import retrieval, toy
from tests.distributed.test_hosts import finished
from tests.distributed.test_meshes import simulated

ALLOW = ("tests",)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return suite.train(retrieval.experiment(), tmp_path_factory.mktemp("retrieval") / "run")


def vectors(model, rows):
    encoded = {"digits": retrieval.ragged(rows)}
    batch = pad(encoded, np.ones(len(rows), bool), 12)
    return np.asarray(model(batch["digits"], batch["digits_mask"]))


def brute(run, split):
    """Metrics of a split by a loop that knows no batches."""
    task = run.experiment.task
    queries = task.source(split)
    items = vectors(run.model, queries.catalogue.rows)
    own = vectors(run.model, queries.rows)
    distances = np.abs(own[:, None] - items).sum(-1)
    ranks = (distances < distances[np.arange(len(own)), queries.items][:, None]).sum(1)
    distance = np.linalg.norm(own.astype(np.float64).mean(0) - items.astype(np.float64).mean(0))
    return {"recall": (ranks == 0).mean(), "rank": ranks.mean(), "distance": distance}, distances.argmin(1)


@pytest.mark.parametrize("batch_size", [1, 8, 1000])
def test_a_split_is_compared_with_the_whole_catalogue(run, batch_size):
    found = run.evaluate("test", batch_size).metrics
    for name, value in brute(run, "test")[0].items():
        assert found[f"test/{name}"] == pytest.approx(value, abs=1e-6), name
    assert 0 < found["test/recall"] <= 1


def test_records_keep_their_order_and_their_numbers(run):
    """Batches are sorted by length, of which the catalogue has short and long ones in turn."""
    reference = run.reference("test")
    catalogue = run.experiment.task.reference("test")
    assert reference["record"].tolist() == list(range(len(catalogue)))
    np.testing.assert_allclose(reference["vector"], vectors(run.model, catalogue.rows), atol=1e-6)


def test_each_evaluation_embeds_with_the_weights_that_it_evaluates(run):
    logged = run.history["validation/distance"]
    seen = [value for value in logged if value is not None]
    assert len(seen) == len(set(seen)) == 3
    metrics = run.evaluate("validation").metrics
    best = {name: value for name, value in run.metrics.items() if name.startswith("validation/")}
    assert metrics.keys() == best.keys()
    for name, value in best.items():
        assert metrics[name] == pytest.approx(value, abs=1e-6), name


def test_requests_are_compared_with_it_and_it_is_embedded_once(run):
    queries = run.experiment.task.source("test")
    answers = run.predict({"digits": queries.rows})
    assert [answer["item"] for answer in answers] == brute(run, "test")[1].tolist()
    assert run.reference() is run.reference()


def test_a_metric_that_does_not_split_by_record_has_a_value_and_no_interval(run):
    scores = run.scores("test")
    assert scores.names == ("recall", "rank", "distance") and len(scores.rows["recall"]) == 45
    value = run.evaluate("test").metrics["test/distance"]
    assert scores.values()["distance"] == pytest.approx(value, abs=1e-9)
    assert scores.interval("recall").known and not scores.interval("distance").known
    assert scores.sorted().values() == scores.values()
    examined, _ = run.examine("test")
    assert examined.values() == scores.values()
    between = scores.minus(scores, "distance")
    assert between.value == 0 and not between.known and np.isnan(between.p)


def test_it_is_reported_and_compared_without_an_interval(run, tmp_path):
    page = suite.report(run.folder, allow=ALLOW).read_text()
    assert "distance has none" in page
    other = suite.train(replace(retrieval.experiment(), {"train.seed": 1}), tmp_path / "other")
    made = suite.compare([run.folder, other.folder], "test", allow=ALLOW)
    from suite.reporting.side_by_side import page as drawn
    from suite.reporting.side_by_side import render

    lines = render(made)
    assert "distance" in made.metrics and "it has no interval" in lines and "nan" not in lines
    assert drawn(made).sections


def test_one_function_is_compiled_where_a_task_is_measured_as_it_is_served(run, tmp_path):
    assert run._program.evaluate is not run._program.predict
    parity = suite.train(toy.experiment(steps=4, eval_every=4), tmp_path / "parity")
    assert parity._program.evaluate is parity._program.predict


def test_what_is_kept_must_be_said():
    with pytest.raises(NotImplementedError, match="Parity has reference records"):
        toy.Parity().embed(None, {})


def test_eight_devices_and_two_processes_say_the_same(run, forked_child, tmp_path):
    (line,) = forked_child(
        f"from tests.distributed.evaluation_child import main; main({str(run.folder)!r})", **simulated(8)
    ).splitlines()
    found = json.loads(line)
    here = run.evaluate("validation").metrics
    assert found["devices"] == 8 and jax.device_count() == 1
    assert found["metrics"].keys() == here.keys()
    for name, value in here.items():
        assert found["metrics"][name] == pytest.approx(value, abs=1e-6), name
    assert found["answers"] == run.predict({"digits": [[1, 2, 3], [0] * 12, [3]]})
    out, _ = finished(["launch", "--processes", 2, "--", "evaluate", run.folder, "--allow", "tests"], 2)
    lines = dict(line.split() for line in out.splitlines() if line.startswith("test/"))
    for name, value in run.evaluate("test").metrics.items():
        assert float(lines[name]) == pytest.approx(value, rel=1e-5, abs=1e-6), name
