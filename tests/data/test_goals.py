"""Goals: what several labels are taken for, labels that are missing, and events that presuppose each other."""

import json

import numpy as np
import pytest

from suite.data.preprocessing.goals import GoalDecisions, Goals, have_none, shares_after
from suite.data.sources.memory import Memory
from suite.errors import InputError

NAN = float("nan")


def fitted(columns, folder, **settings):
    made = Goals(**settings)
    made.fit(Memory(columns), tuple(columns), folder / "goals.json")
    return Goals(**settings, file=str(folder / "goals.json"))


def test_labels_are_events_or_numbers_by_their_values(tmp_path, capsys):
    columns = {
        "click": np.array([1, 0, 0, 1]),
        "bought": ["yes", "no", None, "no"],
        "minutes": np.array([2.0, NAN, 4.0, 6.0]),
        "verdict": ["good", "bad", "poor", "bad"],
    }
    goals = fitted(columns, tmp_path, positive=("verdict=good",))
    assert [goal.is_event for goal in goals.goals] == [True, True, False, True]
    assert goals.sizes() == {"outputs": 4} and goals.outputs == list(columns)
    encoded = goals.encode(columns)
    assert encoded["known"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 1], [1, 0, 1, 1], [1, 1, 1, 1]]
    assert encoded["labels"][:, [0, 1, 3]].tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0], [1, 0, 0]]
    minutes = encoded["labels"][:, 2]
    np.testing.assert_allclose(goals.goals[2].scale.raw(minutes[[0, 2, 3]]), [2, 4, 6], atol=1e-5)
    assert minutes[1] == 0
    printed = capsys.readouterr().err
    assert "column bought: an event, 33.3% of 3 records; 1 records have none" in printed
    assert "column minutes: a number from 2 to 6, of 3 records; 1 records have none" in printed


def test_an_event_of_a_funnel_did_not_happen_where_the_one_before_did_not(tmp_path, capsys):
    columns = {"click": np.array([1, 0, 0, 1, NAN, 1]), "buy": np.array([1, NAN, 1, NAN, 1, 0])}
    goals = fitted(columns, tmp_path, funnel=("click", "buy"))
    encoded = goals.encode(columns)
    assert encoded["labels"][:, 1].tolist() == [1, 0, 0, 0, 0, 0]
    assert encoded["known"][:, 1].tolist() == [True, True, True, False, False, True]
    assert goals.steps == (("buy_after_click", 0, 1),) and goals.goals[1].records == 4
    assert "column buy: 1 records have it without what comes before it" in capsys.readouterr().err


def test_the_share_after_an_event_is_the_quotient_of_probabilities():
    shares = np.array([[0.5, 0.1], [0.2, 0.2], [0.3, 0.6]])  # the last one by a temperature of each
    logits = np.log(shares) - np.log1p(-shares)
    np.testing.assert_allclose(shares_after(logits, 0, 1), [0.2, 1, 1])


@pytest.mark.parametrize(
    ("columns", "settings", "where", "fix"),
    [
        (
            {"a": [1, 0, 1], "verdict": ["good", "it is bad", "good"]},
            {},
            "column verdict",
            "--task.goals.positive 'verdict=it is bad'",
        ),
        ({"a": [1, 0], "b": [1, 1]}, {}, "column b", "name another label column"),
        ({"a": [1, 0], "b": [3.0, 3.0]}, {}, "column b", "name another label column"),
        ({"a": [1, 0], "b": [None, None]}, {}, "column b", "name another label column"),
        ({"a": [1, 0], "b": [0, 1]}, {"positive": ("c=1",)}, "field task.goals.positive", "--task.goals.positive a=1"),
        ({"a": [1, 0], "b": [0, 1]}, {"positive": ("b=2",)}, "field task.goals.positive", "b=0"),
        ({"a": [1, 0], "b": [0, 1]}, {"funnel": ("a", "c")}, "field task.goals.funnel", "--task.goals.funnel a b"),
        ({"a": [1, 0], "b": [2.5, 3]}, {"funnel": ("a", "b")}, "field task.goals.funnel", "--task.goals.funnel"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(columns, settings, where, fix, tmp_path):
    with pytest.raises(InputError) as error:
        fitted(columns, tmp_path, **settings)
    assert error.value.where == where and fix in error.value.fix


def test_a_held_out_label_of_another_kind_is_refused(tmp_path):
    goals = fitted({"a": [1, 0], "b": [2.5, 3]}, tmp_path)
    with pytest.raises(InputError, match="column a: is an event"):
        goals.encode({"a": [1, 2], "b": [1, 1]})
    with pytest.raises(InputError, match="column b"):
        goals.encode({"a": [1, 0], "b": [1, "many"]})


def test_records_without_any_label_are_told_apart():
    source = Memory({"a": np.array([1, NAN, NAN]), "b": ["yes", "", None]})
    assert have_none(source, ("a", "b")).tolist() == [False, True, True]


def test_each_goal_has_a_temperature_and_a_threshold_of_its_own(tmp_path):
    file = tmp_path / "decision.json"
    parts = [{"temperature": 2.0, "thresholds": [0.3]}, {}]
    file.write_text(json.dumps({"goals": parts, "notes": ["calibrated"]}))
    decision = GoalDecisions(file=str(file))
    assert decision.applied({"logits": np.array([[4.0, 4.0]])})["logits"].tolist() == [[2.0, 4.0]]
    assert (decision.threshold_of(0), decision.threshold_of(1), decision.notes) == (0.3, 0.5, ("calibrated",))
