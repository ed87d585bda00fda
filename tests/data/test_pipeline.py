"""The input pipeline: which records make up each batch, and that nothing else changes what a batch holds."""

import numpy as np
import pytest

from suite.contracts.batch import Ragged
from suite.data.pipeline.dispatches import Encoder, Plan, dispatches, make_plan, ragged_lengths, spans
from suite.data.pipeline.padding import default_buckets, pad
from suite.errors import InputError
from tests.toy import Parity

LENGTHS = np.random.default_rng(0).integers(1, 40, 103).astype(np.int32)
FLAT = Plan(103, 8, seed=3)
BUCKETED = Plan(103, 8, seed=3, lengths=LENGTHS, buckets=(8, 16, 40))


def epoch_of(plan, epoch):
    first = epoch * plan.batches_per_epoch
    return [plan.batch(first + i) for i in range(plan.batches_per_epoch)]


def ids_of(plan, epoch):
    return np.concatenate([indices for indices, _ in epoch_of(plan, epoch)])


def encoder(seed=0, batch_size=16, augment=True, task=None):
    task = task or Parity()
    source = task.source("train")
    return Encoder(task, source, make_plan(task, source, batch_size, seed=seed, buckets=(6, 12)), augment)


@pytest.mark.parametrize("plan", [FLAT, BUCKETED, Plan(103, 8), Plan(5, 8, seed=0), Plan(16, 8, seed=0)])
@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_an_epoch_holds_every_example_once(plan, epoch):
    ids = ids_of(plan, epoch)
    assert sorted(ids[ids >= 0]) == list(range(plan.size))
    assert plan.batches_per_epoch == -(-plan.size // plan.batch_size)


@pytest.mark.parametrize("plan", [FLAT, BUCKETED])
def test_order_depends_on_seed_and_epoch_alone(plan):
    again = Plan(plan.size, plan.batch_size, plan.seed, plan.lengths, plan.buckets)
    later = ids_of(plan, 2)
    assert (ids_of(again, 2) == later).all()  # asked for first here, after others there
    assert (ids_of(plan, 0) != later).any()
    other = Plan(plan.size, plan.batch_size, 4, plan.lengths, plan.buckets)
    assert (ids_of(other, 2) != later).any()


STRATA = np.repeat([3, 7, 5], [80, 20, 3])
"""Classes of the records of a split of 103."""


@pytest.mark.parametrize("lengths", [None, LENGTHS[:103]])
def test_a_balanced_epoch_holds_as_many_of_each_class(lengths):
    plan = Plan(103, 8, seed=0, lengths=lengths, buckets=BUCKETED.buckets, strata=STRATA)
    ids = ids_of(plan, 0)
    drawn = ids[ids >= 0]
    assert len(drawn) == 103 and plan.batches_per_epoch == 13
    assert sorted(np.bincount(STRATA[drawn])[[3, 5, 7]]) == [34, 34, 35]
    times = np.bincount(drawn, minlength=103)
    for name in (3, 5, 7):  # none twice as often as another of its class and once more
        assert np.ptp(times[name == STRATA]) <= 1
    seen = np.unique(np.concatenate([ids_of(plan, epoch) for epoch in range(12)]))
    assert set(range(103)) <= set(seen.tolist())  # what one epoch leaves out, others hold


def test_records_without_classes_cannot_be_balanced():
    task = Parity()
    with pytest.raises(InputError, match="sampling shuffle"):
        make_plan(task, task.source("train"), 8, seed=0, balanced=True)


def test_without_a_seed_the_order_is_that_of_the_records():
    assert ids_of(Plan(10, 4), 5).tolist() == [*range(10), -1, -1]


def test_buckets_hold_their_rows_and_are_full_but_for_the_last():
    batches = epoch_of(BUCKETED, 1)
    assert {length for _, length in batches} == {8, 16, 40}
    for indices, length in batches:
        assert LENGTHS[indices[indices >= 0]].max() <= length
    assert sum((indices < 0).any() for indices, _ in batches) == 1
    padded = sum(length * len(indices) for indices, length in batches)
    assert padded < 0.8 * 40 * len(batches) * 8  # that is what buckets are for


def test_default_buckets_hold_the_longest():
    buckets = default_buckets(LENGTHS)
    assert buckets == tuple(sorted(set(buckets))) and buckets[-1] >= LENGTHS.max() > buckets[-1] - 8


def test_few_rows_have_fewer_buckets():
    """A bucket stands where its rows, in the next one, would be padded by more than a program costs."""
    lengths = np.repeat([8, 16, 24, 56], [45, 30, 20, 10])
    assert default_buckets(lengths) == default_buckets(lengths, passes=1000) == (8, 16, 24, 56)
    assert default_buckets(lengths, passes=1) == (56,)
    assert default_buckets(lengths, passes=150) == (8, 24, 56)  # 8 more for the 30 rows of 16 cost the least


def test_forms_are_the_shapes_of_batches():
    made = encoder()
    batches = {tuple((n, v.shape, v.dtype) for n, v in sorted(i.batch.items())) for i in dispatches(made, 0, 26)}
    forms = [tuple((n, v.shape, v.dtype) for n, v in sorted(form.items())) for form in made.forms(spans(0, 26, 1))]
    assert len(forms) == len(set(forms)) == 2 and set(forms) == batches


def test_a_short_batch_is_masked():
    made = encoder()
    last = next(i for i in range(made.plan.batches_per_epoch) if (made.plan.batch(i)[0] < 0).any())
    (item,) = dispatches(made, last, last + 1)
    real = item.indices[0] >= 0
    assert 0 < real.sum() < 16 and (item.batch["mask"][0] == real).all()
    assert not item.batch["digits_mask"][0][~real].any() and not item.batch["digits"][0][~real].any()
    assert item.batch["digits_mask"][0][real].any(1).all()


def test_batches_hold_the_records_of_their_ids():
    made = encoder(augment=False)
    for item in dispatches(made, 0, 13):
        for row, (index, real) in enumerate(zip(item.indices[0], item.batch["mask"][0], strict=True)):
            if real:
                kept = item.batch["digits"][0][row][item.batch["digits_mask"][0][row]]
                assert kept.tolist() == made.source.rows[index].tolist()
                assert item.batch["label"][0][row] == kept.sum() % 2


@pytest.mark.parametrize("steps", [3, 5, 13])
def test_a_dispatch_is_its_single_batches(steps):
    one, many = (list(dispatches(encoder(augment=False), 0, 20, n)) for n in (1, steps))
    assert [item.steps for item in many] == [count for _, count in spans(0, 20, steps)]
    assert (np.concatenate([i.indices for i in many]) == np.concatenate([i.indices for i in one])).all()
    singles = iter(one)
    for item in many:
        for i in range(item.steps):
            batch = next(singles).batch
            width = batch["digits"].shape[-1]
            assert (item.batch["digits"][i][:, :width] == batch["digits"][0]).all()
            assert not item.batch["digits_mask"][i][:, width:].any()


def test_workers_change_nothing():
    here, there = (list(dispatches(encoder(), 2, 12, 4, workers=n)) for n in (0, 2))
    assert [(i.first, i.steps) for i in here] == [(2, 2), (4, 4), (8, 4)] == [(i.first, i.steps) for i in there]
    for one, other in zip(here, there, strict=True):
        assert (one.indices == other.indices).all()
        assert all((one.batch[name] == other.batch[name]).all() for name in one.batch)


def test_a_later_start_gives_the_same_batches():
    whole, rest = list(dispatches(encoder(), 0, 16, 4)), list(dispatches(encoder(), 8, 16, 4))
    for one, other in zip(whole[2:], rest, strict=True):
        assert all((one.batch[name] == other.batch[name]).all() for name in one.batch)  # augmentation included


def test_spans_are_aligned_after_a_resume():
    assert spans(0, 10, 4) == [(0, 4), (4, 4), (8, 2)]
    assert spans(4, 10, 4) == [(4, 4), (8, 2)]
    assert spans(6, 13, 4) == [(6, 2), (8, 4), (12, 1)]
    assert spans(9, 10, 4) == [(9, 1)]
    for start in range(20):
        covered = [first + i for first, count in spans(start, 20, 3) for i in range(count)]
        assert covered == list(range(start, 20))


def test_ragged_pads_cuts_and_masks():
    rows = Ragged(np.array([1, 2, 3, 4, 5, 6]), np.array([1, 0, 3, 2]))
    dense, mask = rows.padded(2)
    assert dense.tolist() == [[1, 0], [0, 0], [2, 3], [5, 6]]
    assert mask.tolist() == [[True, False], [False, False], [True, True], [True, True]]
    deep, _ = Ragged(np.arange(6.0).reshape(3, 2), np.array([2, 1])).padded(3)
    assert deep.shape == (2, 3, 2) and deep[1].tolist() == [[4, 5], [0, 0], [0, 0]]


def test_pad_spreads_rows_over_what_is_real():
    real = np.array([[True, False], [True, True]])
    batch = pad({"x": np.array([7, 8, 9])}, real, 0)
    assert batch["x"].tolist() == [[7, 0], [8, 9]] and batch["mask"] is real


def test_lengths_that_were_not_written_to_their_end_are_found_again(tmp_path, monkeypatch):
    task, cache, whole = Parity(), tmp_path / "lengths.npy", np.save

    def killed(file, values):
        whole(file, values)
        file.truncate(150)
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        ragged_lengths(task, task.source("train"), cache)
    monkeypatch.setattr(np, "save", whole)
    lengths = ragged_lengths(task, task.source("train"), cache)[""]
    np.testing.assert_array_equal(lengths, np.load(cache))
    np.testing.assert_array_equal(lengths, [len(row) for row in task.source("train").rows])


@pytest.mark.parametrize("buckets", [(64, 32), (8, 8, 16), (0, 8)])
def test_buckets_that_do_not_rise_are_refused(buckets):
    """Rows would be cut to the first that their batch is sorted into."""
    with pytest.raises(InputError, match=r"field pipeline\.buckets: must rise"):
        make_plan(Parity(), Parity().source("train"), 16, seed=0, buckets=buckets)


def test_a_split_without_records_is_refused():
    with pytest.raises(InputError, match="has no records"):
        make_plan(Parity(examples=0), Parity(examples=0).source("train"), 8, seed=0)
