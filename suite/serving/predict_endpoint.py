"""A request for answers, from its bytes to the answer's: the path that is taken thousands of times a second."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Sequence

from suite.serving.batching import GONE
from suite.serving.connection import LOST
from suite.serving.encoding import Encoders
from suite.serving.endpoint import Asked, Endpoint
from suite.serving.errors import Headers, Refused, failed
from suite.serving.models import Models
from suite.serving.monitoring import Monitor
from suite.serving.predict_protocol import PREDICT_PROTOCOL
from suite.serving.protocol import JSON, Protocol, Question, Written, decimal, records_in
from suite.serving.request_body import Body, Gone, Held, Receive, Scope, Send
from suite.serving.seeds import drawn
from suite.serving.settings import Settings
from suite.serving.tracing import TRACE, Trace
from suite.serving.versions import Version

AT_ONCE = 16_384
"""Bytes up to which a body is read and encoded in the loop's own thread: handing it to another takes longer."""
COMMON: Headers = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
"""Headers of every answer that is no page."""
Prepared = tuple[Question, list[tuple[Asked, int]]]
"""A question, and the rows of its records: each encoded, with its padded length."""

log = logging.getLogger("suite.serving")


class Answering:
    """Answers requests for answers.

    Args:
        models: what is served.
        settings: the limits.
        monitor: counts requests.
    """

    def __init__(self, models: Models, settings: Settings, monitor: Monitor):
        self._models, self._settings, self._monitor = models, settings, monitor
        self.held = Held(settings.max_held_bytes)
        self.in_flight = 0
        self._encoders = Encoders(settings.decoder_s)

    async def __call__(
        self,
        name: str,
        program: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        protocol: Protocol = PREDICT_PROTOCOL,
        number: str = "",
    ) -> None:
        """Answer one request for a program of the model ``name``, in the version ``number`` where one is asked for."""
        begun, status, begins = time.perf_counter(), 500, False
        trace: Trace | None = scope.get(TRACE)
        body = Body(scope, receive, self._settings, self.held)
        self.in_flight += 1
        try:
            with self._models.version(name) as version:
                version.check_number(number)
                answer = await self._answer(version, version.endpoint(program), scope, body, protocol)
            begins = True
            await reply(send, 200, *answer)
            status = 200
        except Refused as error:
            status = error.status
            await refuse(send, error, body, protocol)
        except Gone:
            status = GONE
        except asyncio.CancelledError:  # the server ends, having waited as long as it was told to
            if not begins:
                status, what = 503, "its answer" if body.whole else "all of its body"
                log.warning("a request for %s:%s is given up: %s did not come before the end", name, program, what)
                await refuse(send, Refused(503, "stopping", "the server is stopping.", close=True), protocol=protocol)
        except Exception:
            log.exception("a request for %s:%s failed", name, program)
            await refuse(send, failed(), body, protocol)
        finally:
            self.in_flight -= 1
            body.release()
            self.count(name, program, status, begun, trace)

    def count(self, name: str, program: str, status: int, begun: float, trace: Trace | None) -> None:
        """A request for a program of the model ``name``, there or not, that came at ``begun``, has been answered, or
        not."""
        if trace is not None:
            trace.end(status)
        model = self._models.by_name.get(name)
        known = model is not None and model.current is not None and program in model.current.endpoints
        seconds = time.perf_counter() - begun
        self._monitor.request(name if model else "", program if known else "", status, seconds)

    async def _answer(
        self, version: Version, endpoint: Endpoint, scope: Scope, body: Body, protocol: Protocol
    ) -> Written:
        trace: Trace | None = scope.get(TRACE)
        seconds = self._deadline(body)
        if trace is not None:
            trace.say(version=version.bundle.version)
            trace.step("read")
        data = await body.read()
        if trace is not None:
            trace.step("encode")
        begun = time.perf_counter()
        at_once = not endpoint.checks.files and len(data) <= AT_ONCE
        prepare = functools.partial(_prepared, endpoint, body, data, protocol)
        question, rows = await self._encoders.run(prepare, body, at_once, time.monotonic() + seconds, seconds)
        if trace is not None:
            trace.say(records=records_in(question.columns))
            trace.step("wait")
        ticket = endpoint.batcher.submit(rows)
        if trace is not None:
            ticket.batches = {}
        if LOST in scope:
            scope[LOST](ticket.leave)
        seconds = min(seconds, question.seconds)
        answers = await ticket.answers(seconds, begun + seconds - time.perf_counter())
        asked = [row for row, _ in rows]
        if any(row.rows for row in asked):
            until = time.monotonic() + begun + seconds - time.perf_counter()
            join = functools.partial(endpoint.answers, asked, answers)
            answers = await self._encoders.run(join, body, False, until, seconds)
        if trace is not None:
            trace.computed(ticket.batches or {})
            trace.step("answer")
        return question.write(version, answers, list(question.seeds) if endpoint.program.samples else [])

    def _deadline(self, body: Body) -> float:
        """Seconds that the request may take once it has come."""
        asked = body.headers.get(b"x-request-timeout")
        if asked is None:
            return self._settings.deadline_s
        seconds = decimal(asked)
        if not seconds:
            raise Refused(
                400,
                "invalid_timeout",
                "is no positive number of seconds, in decimal digits.",
                field="X-Request-Timeout",
                fix=f"X-Request-Timeout: {self._settings.deadline_s:g}",
            )
        return min(seconds, self._settings.deadline_s)


def _prepared(endpoint: Endpoint, body: Body, data: bytes, protocol: Protocol) -> Prepared:
    """The question in a body, and its records."""
    if body.late:
        raise Gone  # nobody waits for it any more
    question = protocol.read(endpoint, body.headers, data)
    count = records_in(question.columns)
    question.seeds = question.seeds or (drawn(count) if endpoint.checks.samples else [0] * count)
    return question, endpoint.rows(question.columns, question.seeds, question.every)


async def refuse(send: Send, error: Refused, body: Body | None = None, protocol: Protocol = PREDICT_PROTOCOL) -> None:
    """Answer with why there is no answer; a body that has not been read ends the connection."""
    headers = error.headers
    if body is not None and not body.whole:
        with contextlib.suppress(asyncio.CancelledError):  # the server ends, and waits no longer for the rest of it
            await body.discard()
        if not body.whole and not error.close:
            headers = [*headers, (b"connection", b"close")]
    await reply(send, error.status, protocol.refusal(error), headers)


async def reply(
    send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = (), media: bytes = JSON
) -> None:
    """Send one whole answer."""
    length = (b"content-length", str(len(body)).encode())
    start = {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", media), length, *COMMON, *headers],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})
