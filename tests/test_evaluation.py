"""Evaluation and serving: metrics of every record whatever the batch, answers in the order of the questions."""

import numpy as np
import pytest

import suite
from suite.data.sources.datasets import SyntheticSentiment
from suite.experiment import recipes
from suite.experiment.sections import replace

TEXT = {"task.data": SyntheticSentiment(examples=3000), "train.eval_every": 6}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return suite.train(recipes.load("vision.digits_dnn", smoke=True), tmp_path_factory.mktemp("images") / "run")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    experiment = replace(recipes.load("text.synthetic_sentiment", smoke=True), TEXT)
    return suite.train(experiment, tmp_path_factory.mktemp("texts") / "run")


@pytest.fixture(params=["images", "texts"])
def run(request):
    return request.getfixturevalue(request.param)


def test_metrics_do_not_depend_on_the_batch_size(run):
    found = [run.evaluate("test", size).metrics for size in (1, 7, 64, 1000)]
    assert set(found[0]) >= {"test/accuracy", "test/loss", "test/macro_f1", "test/brier"}
    for name in found[0]:
        values = [metrics[name] for metrics in found]
        assert np.ptp(values) <= 1e-6, (name, values)


def test_metrics_are_those_of_the_answers(run):
    """The same count of right ones by the other way through the suite: one question after another."""
    source = run.experiment.task.source("test")
    columns = source[np.arange(len(source))]
    answers = run.predict({run.experiment.task.codec.primary: columns[run.experiment.task.codec.primary]})
    names = run.experiment.task.labels.names
    right = np.mean([answer["label"] == names[label] for answer, label in zip(answers, columns["label"], strict=True)])
    assert right == pytest.approx(run.evaluate("test").metrics["test/accuracy"], abs=1e-9)


def test_answers_come_in_order(run):
    """Enough questions of different lengths for several batches, forwards and backwards, and one at a time."""
    task = run.experiment.task
    values = list(task.source("test")[np.arange(150)][task.codec.primary])
    forwards, backwards = run.predict(values), run.predict(values[::-1])
    alone = [run.predict([value])[0] for value in values[:5]]
    assert len({answer["probability"] for answer in forwards}) > 100
    for one, other in [*zip(forwards, backwards[::-1], strict=True), *zip(forwards, alone, strict=False)]:
        assert one["label"] == other["label"] and one["probability"] == pytest.approx(other["probability"], abs=2e-6)


def test_training_and_serving_encode_alike(run):
    """Without a label there is none; everything else is what evaluation sees. A stored run answers as the live one."""
    task = run.experiment.task
    columns = task.source("test")[np.arange(5)]
    served = task.encode({task.codec.primary: columns[task.codec.primary]})
    judged = task.encode(columns)
    assert set(judged) - set(served) == {"label"}
    for name, value in served.items():
        one, other = (getattr(side, "values", side) for side in (value, judged[name]))
        assert (one == other).all()
    assert suite.open(run.folder).predict(columns[task.codec.primary]) == run.predict(columns[task.codec.primary])


def test_nothing_asked_nothing_answered(run):
    assert run.predict([]) == []


def test_a_bare_text_is_one_question(texts):
    assert texts.predict("the film is good .") == texts.predict(["the film is good ."])


def test_a_text_longer_than_any_seen(texts):
    (answer,) = texts.predict(["the film is not good . " * 500])
    assert sum(answer["top"].values()) == pytest.approx(1, abs=1e-4)


def test_evaluation_writes_its_result(images):
    metrics = suite.evaluate(images.folder, "validation").metrics
    assert suite.open(images.folder).metrics == metrics and set(metrics) >= {"validation/accuracy", "validation/loss"}
