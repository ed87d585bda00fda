"""Drift: whether new records, and the answers to them, are like those of training."""

import numpy as np
import pytest

import suite
from suite.errors import InputError
from suite.workflow import drift, folders
from tests import predicting


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift")
    recipe = predicting.experiment(predicting.table(folder / "t.csv"), "spam", best="accuracy", patience=3)
    return suite.train(recipe, folder / "run")


def records(path, shift, count=300):
    rng = np.random.default_rng(5)
    a, b = rng.normal(shift, 1, count), rng.normal(size=count)
    path.write_text("a,b\n" + "".join(f"{x:.4f},{y:.4f}\n" for x, y in zip(a, b, strict=True)))
    return str(path)


def test_records_of_the_same_kind_have_no_drift(run, tmp_path):
    found = suite.drift(run, records(tmp_path / "new.csv", 0.0))
    assert not [one.what for one in found.drifts if one.found] and found.records == 300
    assert "no drift: 300 new records beside" in found.lines[-2]


def test_a_column_that_has_moved_is_found_with_the_answers_that_it_changes(run, tmp_path):
    found = {one.what: one for one in suite.drift(run, records(tmp_path / "new.csv", 1.5)).drifts}
    assert found["a"].found and found["a"].effect > 0.4 and not found["b"].found
    assert found["answer: label"].found


def test_numbers_are_compared_by_kolmogorov_and_smirnov():
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(0)
    old, new = rng.normal(size=500), rng.normal(0.3, 1, 400)
    one = drift._of_numbers("x", np.append(old, [np.nan] * 100), new)
    assert (one.effect, one.p) == pytest.approx(tuple(ks_2samp(old, new)))
    assert one.about == "0.0% missing, 16.7% in training"


def test_categories_are_compared_by_their_shares():
    one = drift._of_values("x", ["a"] * 60 + ["b"] * 40, ["a"] * 30 + ["c"] * 70)
    assert one.effect == pytest.approx(0.7) and one.p < 1e-10 and one.about == "70.0% of values that training has not"
    assert drift._of_values("x", ["a"] * 5, ["a"] * 9) == drift.Drift("x", "chi-squared", 0.0, 1.0)


def test_few_records_are_compared_with_permutations_of_them():
    one = drift._of_values("x", ["a"] * 300 + ["b"] * 300, ["c"])
    assert one.test == "chi-squared, permuted" and 0.001 < one.p < 0.005  # one of 601 records is the new one
    assert drift._of_values("x", ["a"] * 300 + ["b"] * 300, ["a"]).p > 0.5


def test_a_column_that_lost_its_numbers_has_drifted_and_a_text_in_it_is_named(run, tmp_path):
    (tmp_path / "lost.jsonl").write_text('{"a": null, "b": 0.1}\n' * 300)
    compared = suite.drift(run, str(tmp_path / "lost.jsonl"))
    found = {one.what: one for one in compared.drifts}
    assert "a has no number on one side, and is compared by what is missing alone" in compared.lines
    assert found["a: missing"].found and "a" not in found and not np.isnan([one.p for one in found.values()]).any()
    (tmp_path / "wrong.csv").write_text("a,b\nabc,0.1\n1,0.2\n")
    with pytest.raises(InputError, match=r"(?s)column a.*abc.*leave it empty"):
        suite.drift(run, str(tmp_path / "wrong.csv"))


def test_few_records_tell_nothing_and_none_are_refused(run, tmp_path):
    few = suite.drift(run, records(tmp_path / "one.csv", 0.0, 1))
    assert few.lines[-2].startswith("too few records to tell, 20 or more are needed: 1 new records beside")
    assert "no drift" not in "\n".join(few.lines)
    (tmp_path / "header.csv").write_text("a,b\n")
    with pytest.raises(InputError, match=r"header.csv: holds no records"):
        suite.drift(run, str(tmp_path / "header.csv"))
    with pytest.raises(InputError, match=r"holds no records"):
        folders.predict_input(run, str(tmp_path / "header.csv"))


def test_records_without_an_answer_are_said(run, tmp_path, monkeypatch):
    """Such as recordings that are cut off: here every tenth record is one that the model refuses."""
    whole = type(run).predict_each

    def some(self, columns):
        error = InputError("x.wav", "this recording is cut off", fix="send it whole")
        return [answer if place % 10 else error for place, answer in enumerate(whole(self, columns))]

    monkeypatch.setattr(type(run), "predict_each", some)
    compared = suite.drift(run, records(tmp_path / "new.csv", 0.0))
    said = "30 of 300 new records have no answer, the first: x.wav: this recording is cut off"
    assert said in compared.lines and compared.records == 300


def test_what_cannot_be_compared_is_refused(run, tmp_path):
    (tmp_path / "other.csv").write_text("c\n1\n")
    with pytest.raises(InputError, match="a"):
        suite.drift(run, str(tmp_path / "other.csv"))
