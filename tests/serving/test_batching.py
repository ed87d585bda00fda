"""The queue: which records are computed together, in which order answers come, and who is told that none will."""

import asyncio
import threading
import time

import pytest

from suite.serving.batching import Batcher
from suite.serving.errors import Refused

SIZES = (1, 2, 4, 8)


class Model:
    """Doubles numbers, a batch at a time, and notes the batches; waits while it is held."""

    def __init__(self):
        self.batches, self.free = [], threading.Event()
        self.free.set()

    def __call__(self, rows, length, size):
        self.free.wait(10)
        self.batches.append((list(rows), length, size))
        if "bad" in rows:
            raise ValueError("a row that cannot be computed")
        return [2 * row for row in rows]


def in_loop(test):
    """Runs ``test(model, batcher)`` in an event loop."""

    async def run():
        model = Model()
        batcher = Batcher(model, SIZES, wait=0.05, capacity=20)
        try:
            await asyncio.wait_for(test(model, batcher), 20)
        finally:
            model.free.set()
            batcher.close("over")

    asyncio.run(run())


async def ask(batcher, *rows, length=0, seconds=5.0):
    return await batcher.submit([(row, length) for row in rows]).answers(seconds, seconds)


async def held(model, batcher, *asked):
    """The device is busy with one record while ``asked`` come; then it is free."""
    model.free.clear()
    first = asyncio.create_task(ask(batcher, 0))
    await asyncio.sleep(0.02)
    others = [asyncio.create_task(each) for each in asked]
    await asyncio.sleep(0.02)
    model.free.set()
    return [await each for each in (first, *others)][1:]


def test_a_lone_request_does_not_wait():
    async def test(model, batcher):
        batcher._wait = 5.0
        for i in range(3):
            begun = time.perf_counter()
            assert await ask(batcher, i) == [2 * i]
            assert time.perf_counter() - begun < 1
        assert [size for *_, size in model.batches] == [1, 1, 1]

    in_loop(test)


def test_what_comes_meanwhile_is_computed_together_and_answered_in_order():
    async def test(model, batcher):
        made = await held(model, batcher, *(ask(batcher, i, i + 100) for i in range(1, 5)))
        assert made == [[2 * i, 2 * (i + 100)] for i in range(1, 5)]
        assert model.batches[1:] == [([1, 101, 2, 102, 3, 103, 4, 104], 0, 8)]

    in_loop(test)


def test_after_a_batch_of_several_others_are_waited_for_but_not_for_long():
    async def test(model, batcher):
        await held(model, batcher, *(ask(batcher, i) for i in range(4)))
        begun = time.perf_counter()
        first = asyncio.create_task(ask(batcher, 7))
        await asyncio.sleep(0.01)
        assert len(model.batches) == 2, "three more may come, as before"
        await first
        assert 0.04 < time.perf_counter() - begun < 1
        begun = time.perf_counter()
        await ask(batcher, 8)
        assert time.perf_counter() - begun < 0.04, "the last batch held one record: nobody is waited for"

    in_loop(test)


def test_a_request_of_more_records_than_the_largest_batch():
    async def test(model, batcher):
        assert await ask(batcher, *range(19)) == [2 * i for i in range(19)]
        assert sum(len(rows) for rows, *_ in model.batches) == 19
        assert all(len(rows) <= 8 for rows, *_ in model.batches)

    in_loop(test)


def test_records_are_grouped_by_length_and_shorter_ones_fill_up_a_batch():
    async def test(model, batcher):
        await held(
            model,
            batcher,
            ask(batcher, 1, 2, 3, length=64),
            ask(batcher, 4, 5, length=16),
            ask(batcher, 6, length=1024),
        )
        assert model.batches[1:] == [([1, 2, 3, 4], 64, 4), ([5], 16, 1), ([6], 1024, 1)]

    in_loop(test)


def test_the_batch_that_answers_most_records_a_second_leaves():
    async def test(model, batcher):
        batcher._seconds = {(0, 1): 0.5, (0, 2): 1.0, (0, 4): 1.0, (0, 8): 4.0}
        await held(model, batcher, ask(batcher, 1, 2, 3, 4, 5))
        assert [size for *_, size in model.batches[1:]] == [4, 1], "5 of 8 in 4 s are fewer a second than 4 in 1 s"
        batcher._seconds = {(0, 1): 0.5, (0, 2): 1.0, (0, 4): 1.0, (0, 8): 1.1}
        await held(model, batcher, ask(batcher, 1, 2, 3, 4, 5))
        assert [size for *_, size in model.batches[-1:]] == [8]
        batcher._seconds = {(length, size): 1.0 for length in (0, 8, 16) for size in SIZES}
        await held(model, batcher, ask(batcher, 1, length=8), ask(batcher, 2, 3, length=16))
        assert {1, 2, 3} <= set(model.batches[-1][0]), "where padding costs nothing, the short one goes along"

    in_loop(test)


def test_the_oldest_record_is_in_the_next_batch_whatever_else_waits():
    async def test(model, batcher):
        batcher._seconds = {(length, size): 0.1 if length else 100.0 for length in (0, 64) for size in SIZES}
        await held(model, batcher, ask(batcher, 1), *(ask(batcher, i, length=64) for i in range(2, 12)))
        assert model.batches[1] == ([1, 2, 3, 4, 5, 6, 7, 8], 64, 8)

    in_loop(test)


def test_a_full_queue_refuses_and_answers_what_it_has():
    async def test(model, batcher):
        async def one_too_many():
            with pytest.raises(Refused) as refused:
                await ask(batcher, 1, 2, 3)
            return refused.value

        made = await held(model, batcher, ask(batcher, *range(18)), one_too_many())
        assert made[0] == [2 * i for i in range(18)]
        assert (made[1].status, made[1].code, made[1].retry) == (429, "queue_full", 1)
        assert made[1].message == "18 records are waiting, of at most 20."

    in_loop(test)


def test_a_deadline_takes_the_record_out_of_the_queue():
    async def test(model, batcher):
        model.free.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.02)
        with pytest.raises(Refused) as refused:
            await ask(batcher, 1, seconds=0.05)
        assert (refused.value.status, refused.value.message) == (504, "not answered within 0.05 s.")
        second = asyncio.create_task(ask(batcher, 2))
        await asyncio.sleep(0.02)
        model.free.set()
        assert await first == [0] and await second == [4]
        assert [rows for rows, *_ in model.batches] == [[0], [2]], "1 was never computed"

    in_loop(test)


def test_what_a_client_that_left_had_asked_is_not_computed():
    async def test(model, batcher):
        async def gone():
            ticket = batcher.submit([(1, 0)])
            ticket.leave()
            with pytest.raises(Refused) as refused:
                await ticket.answers(1, 1)
            return refused.value.status

        assert await held(model, batcher, gone(), ask(batcher, 2)) == [499, [4]]
        assert [rows for rows, *_ in model.batches] == [[0], [2]]
        assert batcher.waiting == 0

    in_loop(test)


def test_a_record_that_cannot_be_computed_harms_no_other():
    async def test(model, batcher):
        async def bad():
            with pytest.raises(Refused) as refused:
                await ask(batcher, "bad")
            return refused.value.status

        assert await held(model, batcher, ask(batcher, 1), bad(), ask(batcher, 3)) == [[2], 500, [6]]

    in_loop(test)


def test_a_closed_queue_refuses_what_waits_and_what_comes():
    async def test(model, batcher):
        model.free.clear()
        first, second = (asyncio.create_task(ask(batcher, i)) for i in range(2))
        await asyncio.sleep(0.02)
        third = asyncio.create_task(ask(batcher, 3))
        await asyncio.sleep(0.02)
        batcher.close("the server is stopping.")
        model.free.set()
        assert await first == [0] and await second == [2], "what is computed is answered"
        for waited in (third, ask(batcher, 4)):
            with pytest.raises(Refused) as refused:
                await waited
            assert (refused.value.status, refused.value.message) == (503, "the server is stopping.")

    in_loop(test)


def test_many_requests_of_all_lengths_get_their_own_answers():
    async def test(model, batcher):
        async def one(i):
            await asyncio.sleep(0.001 * (i % 7))
            rows = [1000 * i + j for j in range(1 + i % 3)]
            while True:
                try:
                    return await ask(batcher, *rows, length=(16, 32, 64)[i % 3]) == [2 * row for row in rows]
                except Refused as refused:
                    assert refused.status == 429
                    await asyncio.sleep(0.005)

        assert all(await asyncio.gather(*map(one, range(200))))
        assert max(len(rows) for rows, *_ in model.batches) > 1

    in_loop(test)
