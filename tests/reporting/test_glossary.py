"""How numbers are written: so that they say what they may, and no more."""

import pytest

import suite.tasks.recommendation.click
import suite.tasks.speech.recognition  # noqa: F401  (both register what their metrics mean)
from suite.contracts.metric_meaning import (
    METRICS,
    better,
    check_selection,
    lower_is_better,
    meaning,
    register_metric,
    undirected,
)
from suite.errors import InputError
from suite.evaluation.bootstrap import Interval
from suite.reporting.glossary import apart, difference, ranged, shown, term, way


def test_values_have_the_decimals_that_their_intervals_allow():
    assert ranged("accuracy", Interval(0.9639, 0.944, 0.983)) == "96.4 % (94.4 to 98.3)"
    assert ranged("accuracy", Interval(0.895612, 0.8896, 0.9017)) == "89.6 % (89.0 to 90.2)"
    assert ranged("auc", Interval(0.79712, 0.7851, 0.8092)) == "0.797 (0.785 to 0.809)"
    assert ranged("bleu", Interval(35.127, 33.9, 36.4)) == "35.1 (33.9 to 36.4)"
    assert ranged("loss", Interval(0.5, 0.5, 0.5)) == "0.5000 (0.5000 to 0.5000)"
    assert ranged("auc", Interval(float("nan"), float("nan"), float("nan"))) == "not a number (unknown)"


@pytest.mark.parametrize(
    ("metric", "value", "bound", "pair"),
    [
        ("accuracy", 0.9599, 0.96, ("95.99 %", "96 %")),
        ("accuracy", 0.96, 0.96, ("96.0 %", "96 %")),
        ("auc", 0.78996, 0.79, ("0.78996", "0.79")),
        ("wer", 0.0204, 0.02, ("2.04 %", "2 %")),
        ("bleu", 40.0, 100.0, ("40.0", "100")),
    ],
)
def test_a_missed_goal_never_reads_as_met(metric, value, bound, pair):
    assert apart(metric, value, bound, 1) == pair


def test_differences_say_which_way():
    assert difference("accuracy", Interval(-0.033, -0.056, -0.011)) == "-3.3 points (-5.6 to -1.1)"
    assert difference("auc", Interval(0.0021, -0.0011, 0.0052)) == "+0.0021 (-0.0011 to +0.0052)"
    assert [way(name, 1.0) for name in ("accuracy", "wer", "unseen")] == ["better", "worse", "higher"]
    assert way("loss", -1.0) == "better"


def test_metrics_without_an_entry_are_said_by_name():
    assert shown("examples_per_second", 32690.4) == "32,690" and shown("loss", 0.000123456) == "0.0001235"
    assert term("f1_macro").title == "f1 macro" and shown("f1_macro", 0.51234) == "0.5123"
    assert all(entry.meaning.endswith(".") for entry in METRICS.values())


def test_a_metric_says_its_own_meaning():
    register_metric("test_margin", "Distance to the border.", "lower", title="margin", share=True)
    register_metric("test_margin", "Distance to the border.", "lower", title="margin", share=True)
    assert shown("test_margin", 0.5) == "50.0 %" and way("test_margin", 1.0) == "worse"
    assert term("test_margin").title == "margin"
    with pytest.raises(InputError) as error:
        register_metric("test_margin", "Something else.", "higher")
    assert str(error.value) == (
        'metric "test_margin": has another meaning already.\n  found: Distance to the border.\n'
        "  try:   give it another name"
    )


def test_which_way_is_better():
    assert [better(name) for name in ("auc", "wer", "calibration", "nobody_knows")] == ["higher", "lower", "near 1", ""]
    assert [lower_is_better(best) for best in ("accuracy", "loss", "-loss", "-own", "own", "")] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]


def test_a_metric_of_one_of_several_goals_is_that_metric():
    assert meaning("click.auc").title == "AUC of click" and better("click.auc") == "higher"
    assert lower_is_better("watch time.mae") and not undirected("click.auc") and undirected("click.unheard_of")
    check_selection("click.auc")
    with pytest.raises(InputError, match="ranks nothing"):
        check_selection("click.calibration")
