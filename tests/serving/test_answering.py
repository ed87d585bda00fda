"""The path of an answer, without a network: what is held, and what is counted."""

import asyncio
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from suite.errors import InputError
from suite.serving.endpoint import Endpoint
from suite.serving.errors import Refused
from suite.serving.predict_endpoint import AT_ONCE, Answering
from suite.serving.settings import Settings


class Counts:
    """Notes the statuses that are counted."""

    def __init__(self):
        self.codes = []

    def request(self, model, program, code, seconds):
        self.codes.append((model, program, code))


def asked(test):
    """Runs ``test(answering, ask, endpoint, codes)`` in an event loop; ``ask()`` sends a body for the encoders."""
    encoded = []

    def rows(columns, seeds, every):
        encoded.append(columns)
        return []

    endpoint = SimpleNamespace(
        checks=SimpleNamespace(files=True, samples=False, records=lambda inputs: {"text": inputs}),
        rows=rows,
        encoded=encoded,
        batcher=SimpleNamespace(submit=None),
        program=SimpleNamespace(codec=SimpleNamespace(outputs=())),
    )
    version = SimpleNamespace(
        endpoint=lambda program: endpoint, endpoints={"predict": endpoint}, check_number=lambda number: None
    )
    model = SimpleNamespace(current=version)
    models = SimpleNamespace(by_name={"words": model}, version=lambda name: nullcontext(version))
    counts = Counts()
    body = b'{"inputs": ["' + b"x" * AT_ONCE + b'"]}'

    async def run():
        answering = Answering(models, Settings(deadline_s=0.05), counts)
        sent = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        async def ask():
            await answering("words", "predict", {"headers": [(b"content-type", b"application/json")]}, receive, send)
            return sent[0]["status"]

        await test(answering, ask, endpoint, counts.codes)

    asyncio.run(run())
    return len(body)


def test_bytes_are_held_as_long_as_a_thread_has_them():
    """A request that is out of time before its turn: its bytes are counted until then, and not encoded any more."""
    free, held = threading.Event(), []

    async def test(answering, ask, endpoint, codes):
        threads = answering._encoders._encoders
        busy = [threads.submit(free.wait, 20) for _ in range(threads._max_workers)]
        assert await ask() == 504 and codes == [("words", "predict", 504)]
        held.append(answering.held.bytes)
        free.set()
        await asyncio.to_thread(lambda: [each.result() for each in busy])
        for _ in range(100):
            if not answering.held.bytes:
                break
            await asyncio.sleep(0.01)
        held.append(answering.held.bytes)
        assert endpoint.encoded == []

    size = asked(test)
    assert held == [size, 0]


def test_a_request_that_is_cancelled_is_told_that_the_server_ends():
    async def test(answering, ask, endpoint, codes):
        endpoint.rows = lambda columns, seeds, every: threading.Event().wait(0.2)
        task = asyncio.create_task(ask())
        await asyncio.sleep(0.01)
        task.cancel()
        assert await task == 503
        assert codes == [("words", "predict", 503)]

    asked(test)


def test_a_record_longer_than_any_program_is_the_clients_mistake():
    def bucket(row):
        if row["x"][0] > 8:
            raise InputError('input "x"', "is longer than the model takes.", found="9", fix="at most 8")
        return 8

    program = SimpleNamespace(
        rows_of=lambda columns: None, encode=lambda columns: {"x": np.array(columns["x"])}, bucket=bucket
    )
    endpoint = Endpoint(program, None, None)
    assert [length for _, length in endpoint.rows({"x": [3, 8]}, [0, 0])] == [8, 8]
    with pytest.raises(Refused) as error:
        endpoint.rows({"x": [3, 9]}, [0, 0])
    assert (error.value.status, error.value.field, error.value.fix) == (400, "inputs[1].x", "at most 8")
