"""Course of a training: still improving at its end, overfitting, and neither where the history shows neither."""

import pytest

from suite.experiment.sections import Train
from suite.training import course


def remarks(history, best, patience=0):
    return course.remarks(history, Train(best=best, patience=patience))


def history(**columns):
    """Evaluations every ten steps; ``train`` and ``loss`` are losses, others are validation metrics."""
    names = {"train": "train/loss"}
    length = max(map(len, columns.values()))
    table = {names.get(name, f"validation/{name}"): list(values) for name, values in columns.items()}
    return {"step": [10 * (i + 1) for i in range(length)], **table}


def test_a_training_that_still_improves():
    (remark,) = remarks(history(accuracy=[0.5, 0.6, 0.7, 0.8, 0.9], loss=[1, 0.9, 0.8, 0.7, 0.6]), "accuracy")
    assert (remark.kind, remark.step) == ("improving", 50)
    assert remark.text == (
        "still improving at the end: accuracy 0.8 at step 40, 0.9 at step 50; more steps may help: --train.steps 100"
    )


@pytest.mark.parametrize("best", ["loss", "-loss", ""])
def test_a_loss_that_still_falls(best):
    (remark,) = remarks(history(loss=[4.0, 3.0, 2.5, 2.0]), best)
    assert remark.kind == "improving" and "loss 2.5 at step 30, 2 at step 40" in remark.text


@pytest.mark.parametrize(
    "values",
    [
        [0.5, 0.8, 0.9, 0.901],  # hardly
        [0.5, 0.9, 0.8, 0.85],  # not any more
        [0.5, 0.9],  # too few to tell
        [0.9, 0.9, 0.9, 0.9],
        [0.5, None, float("nan"), 0.9],
    ],
)
def test_a_training_that_does_not_improve_at_its_end(values):
    assert remarks(history(accuracy=values), "accuracy") == ()


def test_a_training_that_patience_ended():
    (remark,) = remarks(history(accuracy=[0.5, 0.7, 0.7, 0.6]), "accuracy", patience=2)
    assert (remark.kind, remark.step) == ("stopped", 40)
    assert remark.text == (
        "stopped early at step 40: no better accuracy than 0.7 of step 20 in 2 evaluations (--train.patience 2)"
    )
    assert remarks(history(accuracy=[0.5, 0.7, 0.7, 0.6]), "accuracy", patience=3) == ()
    (remark,) = remarks(history(loss=[0.5, 0.7, 0.7]), "loss", patience=2)
    assert "no better loss than 0.5 of step 10" in remark.text


def test_overfitting_is_dated():
    table = history(accuracy=[0.5, 0.7, 0.7, 0.7, 0.7], loss=[1.0, 0.5, 0.6, 0.7, 0.8], train=[1, 0.5, 0.3, 0.2, 0.1])
    (remark,) = remarks(table, "accuracy")
    assert (remark.kind, remark.step) == ("overfitting", 20)
    assert remark.text.startswith(
        "overfitting since step 20: the validation loss rose from 0.5 to 0.8 while the training loss fell from 0.5 to "
        "0.1; more data, "
    )


@pytest.mark.parametrize(
    ("loss", "train"),
    [
        ([1.0, 0.5, 0.51, 0.51, 0.51], [1, 0.5, 0.3, 0.2, 0.1]),  # flat
        ([1.0, 0.5, 0.6, 0.7, 0.8], [1, 0.5, 0.5, 0.6, 0.7]),  # training goes wrong, too
        ([1.0, 0.9, 0.8, 0.5, 0.9], [1, 0.5, 0.3, 0.2, 0.1]),  # a single one
        ([1.0, 0.5, 0.9, 0.4, 0.39], [1, 0.5, 0.3, 0.2, 0.1]),  # noise
    ],
)
def test_what_is_no_overfitting(loss, train):
    assert not [remark for remark in remarks(history(loss=loss, train=train), "loss") if remark.kind == "overfitting"]


def test_an_empty_history():
    assert remarks({"step": []}, "accuracy") == ()
