"""Click prediction on own tables: what is chosen from the number of records."""

import numpy as np
import pytest

import suite
from suite.data.sources.memory import Memory
from suite.experiment.defaults import settled


def chosen(records, **changes):
    recipe = suite.replace(suite.load("recommendation.click"), changes)
    return settled(recipe, Memory({"label": np.zeros(records, int)}))[0].train


@pytest.mark.parametrize(
    ("records", "batch", "epochs"),
    [(10, 32, 30), (1500, 32, 18), (8000, 64, 7), (100_000, 512, 5), (2_000_000, 512, 5)],
)
def test_batches_and_epochs_are_those_of_the_number_of_records(records, batch, epochs):
    train = chosen(records)
    assert (train.batch_size, train.epochs) == (batch, epochs)


def test_epochs_follow_a_batch_that_is_stated():
    train = chosen(8000, **{"train.batch_size": 256})
    assert (train.batch_size, train.epochs) == (256, 26)
