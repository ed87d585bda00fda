"""Attributions beside what can be computed by hand: of a quadratic function, and of runs that were never trained."""

import csv
import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import suite
from docs.examples import regression
from suite.contracts.division import KEPT, Division, Unit, fitted, summed
from suite.contracts.model import ModelConfig
from suite.data.sources.datasets import Table
from suite.errors import InputError
from suite.explaining import checking, gradcam, measures, shapley
from suite.explaining.attention import attention
from suite.explaining.explainer import Explainer
from suite.explaining.integrated_gradients import integrated_gradients
from suite.explaining.occlusion import occlusion
from suite.reporting import explanations as drawing
from suite.workflow import explaining
from tests import untrained

FIRST = np.array([1.0, -2.0])
SECOND = np.array([[0.5, 1.0], [0.0, -0.25]])


@dataclass(frozen=True, kw_only=True)
class Quadratic(ModelConfig):
    """first . x + x' second x"""

    def build(self, *, rngs: nnx.Rngs) -> nnx.Module:
        return QuadraticForm()

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return ()


class QuadraticForm(nnx.Module):
    def __init__(self):
        self.first, self.second = (nnx.Param(jnp.asarray(value, jnp.float32)) for value in (FIRST, SECOND))

    def __call__(self, x, rngs=None):
        return (x @ self.first[...] + jnp.einsum("bi,ij,bj->b", x, self.second[...], x))[:, None]


@pytest.fixture(scope="module")
def quadratic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quadratic")
    with open(folder / "houses.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["size", "age", "price"])
        rows.writerows(np.random.default_rng(0).normal(size=(40, 3)).round(3).tolist())
    task = regression.Regression(data=Table(path=str(folder / "houses.csv")))
    experiment = dataclasses.replace(regression.experiment(), task=task, model=Quadratic())
    return untrained.untrained(experiment, folder / "run")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    return untrained.untrained(untrained.texts(folder), folder / "run")


@pytest.fixture(scope="module")
def explainer(texts):
    return Explainer(texts)


X = np.array([1.5, -0.5])
INTEGRAL = FIRST * X + X * ((SECOND + SECOND.T) @ X) / 2
"""Of the derivatives on the straight way from 0, and the Shapley values, too: each product is shared in halves."""


def test_methods_on_a_quadratic_function_are_its_integral(quadratic):
    explainer = Explainer(quadratic)
    case = explainer.case({"size": X[:1], "age": X[1:]})
    whole = float(FIRST @ X + X @ SECOND @ X)
    assert case.subject.score == pytest.approx(whole, abs=1e-5) and case.subject.blank == 0
    gradients = integrated_gradients(explainer, case)
    np.testing.assert_allclose(gradients.values, INTEGRAL, atol=1e-5)
    assert gradients.completeness < 1e-5 and not gradients.remarks
    np.testing.assert_allclose(shapley.shapley(explainer, case).values, INTEGRAL, atol=1e-5)
    alone = [FIRST[i] * X[i] + SECOND[i, i] * X[i] ** 2 for i in (1, 0)]
    np.testing.assert_allclose(occlusion(explainer, case).values, whole - np.array(alone), atol=1e-5)


def test_drawn_orders_add_up_exactly_and_have_errors(quadratic, monkeypatch):
    monkeypatch.setattr(shapley, "EXACT", 0)
    explainer = Explainer(quadratic)
    case = explainer.case({"size": X[:1], "age": X[1:]})
    drawn = shapley.shapley(explainer, case, pairs=3)
    assert drawn.values.sum() == pytest.approx(case.subject.difference, abs=1e-9)
    np.testing.assert_allclose(drawn.values, INTEGRAL, atol=1e-5)  # of two units an order and its reverse are all
    assert (drawn.errors < 1e-6).all()


def test_attributions_of_words_are_complete_and_stand_where_the_words_do(explainer):
    text = "the cast was not good, really"
    case = explainer.case({"text": [text]})
    one = integrated_gradients(explainer, case)
    assert one.completeness <= 0.01
    named = [(unit.name, text[slice(*map(int, unit.place))]) for unit in one.division.units]
    assert all(name == there for name, there in named) and [name for name, _ in named][:2] == ["the", "cast"]
    for asked in ("negativ", "zzz"):
        with pytest.raises(InputError, match="is no class") as error:
            explainer.case({"text": [text]}, asked)
        assert error.value.fix == "--class negative"
    other = explainer.case({"text": [text]}, "negative")
    opposite = next(name for name in ("negative", "positive") if name != case.subject.name)
    assert explainer.case({"text": [text]}, opposite).subject.score == pytest.approx(-case.subject.score, abs=1e-4)
    assert other.subject.name == "negative"


def test_a_planted_word_is_what_speaks_most(explainer):
    """Its vector is far larger than that of any other word, and the head is asked for it."""
    case = explainer.case({"text": ["the cast was good"]})
    params, state = explainer.weights
    place = next(i for i, unit in enumerate(case.division.units) if unit.name == "cast")
    token = int(case.batch["tokens"][0][np.flatnonzero(case.labels["tokens"] == place)[0]])
    table = np.array(params["encoder"]["tokens"]["embedding"])
    blank = int(case.blank["tokens"][0][1])
    table[:] = table[blank]  # all words say as little as their absence
    table[token] = np.random.default_rng(0).normal(size=table.shape[1])
    changed = {**params, "encoder": {**params["encoder"], "tokens": {"embedding": table}}}
    planted = explainer.with_weights(changed, state)
    case = planted.again(case)
    for method in (integrated_gradients, occlusion, shapley.shapley):
        values = np.abs(method(planted, case).values)
        assert values.argmax() == place and np.delete(values, place).max() < 1e-3 * values[place], method


def test_attention_is_of_the_words_and_of_models_that_attend(explainer, quadratic):
    case = explainer.case({"text": ["the cast was good"]})
    relevance, rollout = (attention(explainer, case, kind) for kind in ("relevance", "rollout"))
    assert (rollout.values > 0).all() and rollout.values.sum() < 1  # the rest is that of the special token
    assert (relevance.values >= 0).all() and relevance.values.any()
    plain = Explainer(quadratic)
    with pytest.raises(InputError, match="no attention"):
        attention(plain, plain.case({"size": X[:1], "age": X[1:]}))


def test_columns_and_words_of_a_record_are_explained_together(tmp_path):
    rng = np.random.default_rng(0)
    with open(tmp_path / "items.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["city", "size", "about", "price"])
        words = ("a small house by the sea", "an old flat in town", "a large farm, far away")
        rows.writerows(
            [rng.choice(["Rome", "Oslo"]), round(rng.random(), 3), f"{rng.choice(words)} {i}", round(rng.random(), 3)]
            for i in range(120)
        )
    small = {"model.parts.table.hidden": (8,), "task.data": Table(path=str(tmp_path / "items.csv"))}
    experiment = suite.replace(suite.load("table.predict", smoke=True), {**small, "task.target": "price"})
    explainer = Explainer(untrained.untrained(experiment, tmp_path / "run"))
    case = explainer.case({"city": ["Rome"], "size": [0.9], "about": ["an old flat in town"]})
    one = integrated_gradients(explainer, case)
    assert one.completeness <= 0.01 and case.subject.target == "price"
    assert {unit.column for unit in one.division.units} == {"city", "size", "about"}
    worth = dict(zip((unit.name for unit in one.division.units), occlusion(explainer, case).values, strict=True))
    assert worth["size"] != 0 and any(unit.name == "flat" for unit in one.division.units)


def test_gradcam_is_of_the_last_map_before_pooling(tmp_path):
    run = untrained.untrained(
        suite.replace(untrained.residual(tmp_path), {"precision.compute": "float32"}), tmp_path / "run"
    )
    explainer = Explainer(run)
    source = run.experiment.task.source("validation")
    case = explainer.case({"image": source[np.arange(1)]["image"]})
    assert gradcam.last_map(explainer, case, 4).startswith("stages")
    one = gradcam.gradcam(explainer, case)
    assert len(one.values) == len(case.division.units) == 16 and (one.values >= 0).all()
    assert explaining.drawn(case, one).startswith(b"\x89PNG")
    assert "<rect" in drawing.bars({"a": 1.0, "b": -2.0})


def test_a_check_of_a_run_is_kept_and_reported(texts):
    found = checking.check(texts, "validation", ("attention-rollout", "integrated-gradients"), records=3)
    assert checking.read(texts.folder).lines == found.lines
    one = found.verdicts["integrated-gradients"]
    assert one.completeness[1] <= 0.01 and {"head", "all"} <= one.randomised.keys()
    assert set(one.deletion) == set(measures.FILLINGS)
    blocks = drawing.section(texts)
    assert len(blocks) == 2
    explained = explaining.explain(texts, "the cast was good", "attention-rollout")[0]
    assert ("doubts" in explained.content) == bool(found.verdicts["attention-rollout"].faults)
    json.dumps(explained.content)


def test_ranks_of_sizes_and_orders_of_deletion():
    assert measures.ranked_alike(np.array([1, -2, 3.0]), np.array([10, 20, 30.0])) == pytest.approx(1)
    assert measures.ranked_alike(np.array([1, 2, 3.0]), np.array([3, 2, 1.0])) == pytest.approx(-1)
    assert measures.ranked_alike(np.ones(3), np.array([3, 2, 1.0])) == 0
    assert measures.Verdict("x", 2, (0.2, 0.3)).faults and not measures.Verdict("x", 2, (0.001, 0.3)).faults


def test_labels_fit_padded_rows_and_grids():
    assert fitted(np.array([0, 1]), (4,)).tolist() == [0, 1, KEPT, KEPT]
    assert fitted(np.arange(4).reshape(1, 2, 2), (2, 2, 3)).shape == (2, 2, 3)
    # 4,261 of 6,144 samples, 80 a frame: 54 frames, each in a unit
    grid = np.arange(6).reshape(3, 2)
    for samples in (4261, 80, 79, 6144, 6080):
        labels = fitted(grid, (77, 4), samples / 6144)
        assert (labels[: samples // 80 + 1] != KEPT).all()
    grid = fitted(np.arange(4).reshape(2, 2), (8, 4), filled=0.5)
    assert grid[:4].tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2 and (grid[4:] == KEPT).all()
    assert summed(np.ones((8, 4)), grid, 4).tolist() == [4, 4, 4, 4]
    with pytest.raises(ValueError, match="labels of shape"):
        fitted(np.zeros(3), (2,))
    assert Division((Unit("a", "b"),), {}, {}, "").units[0].place == ()
