"""A request for answers, from its bytes to the answer's: the path that is taken thousands of times a second."""

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from suite.contracts.kinds import file_types
from suite.contracts.signature import File, Output
from suite.serving.batching import GONE
from suite.serving.connection import LOST
from suite.serving.endpoint import Asked, Endpoint
from suite.serving.errors import Headers, Refused, encoded
from suite.serving.json_body import request_of
from suite.serving.models import Models, Version
from suite.serving.monitoring import Monitor
from suite.serving.request_body import Body, Gone, Held, Receive, Scope, Send
from suite.serving.seeds import FIELD, drawn, seeds_of, written
from suite.serving.settings import Settings
from suite.serving.uploads import form, whole

AT_ONCE = 16_384
"""Bytes up to which a body is read and encoded in the loop's own thread: handing it to another takes longer."""
JSON = b"application/json"
COMMON: Headers = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
"""Headers of every answer that is no page."""
ALONE: Headers = [(b"content-security-policy", b"default-src 'none'; sandbox"), (b"vary", b"accept")]
"""Further headers of an answer that is a file: opened by a browser, it runs nothing."""

SEED = b"x-seed"
"""Header of a file that was drawn: what it was drawn by."""

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
        self._encoders = ThreadPoolExecutor(max(os.cpu_count() or 1, 2), "encode")

    async def __call__(self, name: str, program: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request for a program of the model ``name``."""
        begun, status = time.perf_counter(), 500  # what it is where the request is cancelled
        body = Body(scope, receive, self._settings, self.held)
        self.in_flight += 1
        try:
            with self._models.version(name) as version:
                answer = await self._answer(version, version.endpoint(program), scope, body)
            await reply(send, 200, *answer)
            status = 200
        except Refused as error:
            status = error.status
            await refuse(send, error, body)
        except Gone:
            status = GONE
        except Exception:
            log.exception("a request for %s:%s failed", name, program)
            await refuse(send, Refused(500, "failed", "the server made a mistake; its log says which."), body)
        finally:
            self.in_flight -= 1
            body.release()
            self.count(name, program, status, begun)

    def count(self, name: str, program: str, status: int, begun: float) -> None:
        """A request for a program of the model ``name``, there or not, that came at ``begun``, has been answered, or
        not."""
        model = self._models.by_name.get(name)
        known = model is not None and model.current is not None and program in model.current.endpoints
        seconds = time.perf_counter() - begun
        self._monitor.request(name if model else "", program if known else "", status, seconds)

    async def _answer(
        self, version: Version, endpoint: Endpoint, scope: Scope, body: Body
    ) -> tuple[bytes, Headers, bytes]:
        """The content of the answer, its headers and its media type."""
        seconds = self._deadline(body)
        data = await body.read()
        begun = time.perf_counter()
        if endpoint.checks.files or len(data) > AT_ONCE:
            rows = await self._elsewhere(endpoint, body, data, seconds)
        else:
            rows = _rows(endpoint, body, data)
        ticket = endpoint.batcher.submit(rows)
        if LOST in scope:
            scope[LOST](ticket.leave)
        answers = await ticket.answers(seconds, begun + seconds - time.perf_counter())
        seeds = [seed for (_, _, seed), _ in rows] if endpoint.program.samples else []
        file = asked_file(answers, endpoint.program.codec.outputs, body.headers.get(b"accept", b""))
        if file is None:
            return _written(version, answers, seeds), [], JSON
        return file.data, [*ALONE, *((SEED, str(seed).encode()) for seed in seeds)], file.media_type.encode()

    async def _elsewhere(self, endpoint: Endpoint, body: Body, data: bytes, seconds: float) -> list[tuple[Asked, int]]:
        """Encoded in another thread, so that others are answered meanwhile."""
        work = asyncio.get_running_loop().run_in_executor(self._encoders, _rows, endpoint, body, data)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(work)  # cancelled, it would keep the bytes all the same until its turn
        except TimeoutError:
            body.keep_until(work)
            raise Refused(504, "deadline", f"not answered within {seconds:g} s.", retry=1) from None

    def _deadline(self, body: Body) -> float:
        """Seconds that the request may take once it has come."""
        asked = body.headers.get(b"x-request-timeout")
        if asked is None:
            return self._settings.deadline_s
        try:
            seconds = float(asked)
        except ValueError:
            seconds = 0.0
        if not seconds > 0:  # nan too
            raise Refused(
                400,
                "invalid_timeout",
                "is no number of seconds.",
                field="X-Request-Timeout",
                fix=f"X-Request-Timeout: {self._settings.deadline_s:g}",
            )
        return min(seconds, self._settings.deadline_s)


def asked_file(answers: Sequence[Any], outputs: Sequence[Output], accept: bytes) -> File | None:
    """The file that a request wants instead of JSON: one record was asked, and ``accept`` names the media type of a
    file in its answer, and prefers nothing that JSON is. None: it wants JSON.

    Only media types that the signature declares are sent as they are, so that no answer is a page.
    """
    if len(answers) != 1 or not accept or not (types := file_types(outputs)):
        return None
    weights = _weights(accept)
    json = max(weights.get("application/json", 0.0), weights.get("application/*", 0.0))
    files = [answers[0].get(output.name) for output in outputs]
    wanted = [
        (weights.get(file.media_type, weights.get(f"{file.media_type.partition('/')[0]}/*", 0.0)), file)
        for file in files
        if isinstance(file, File) and file.media_type in types
    ]
    weight, file = max(wanted, key=lambda pair: pair[0], default=(0.0, None))
    return file if weight > 0 and weight >= json else None


def _weights(accept: bytes) -> dict[str, float]:
    """Media range -> its quality, of a header Accept; what cannot be read counts as not wanted."""
    weights = {}
    for item in accept.decode("latin-1").lower().split(",")[:100]:
        media, *parameters = (part.strip() for part in item.split(";"))
        given = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            weights[media] = float(given)
        except ValueError:
            weights[media] = 0.0
    return weights


def _written(version: Version, answers: list[Any], seeds: list[int]) -> bytes:
    """The answers as JSON; with the seeds that they were drawn by, so that they can be asked for again."""
    content = {"model": version.model, "version": version.bundle.version, "answers": answers}
    try:
        return encoded({**content, FIELD: seeds} if seeds else content)
    except ValueError:
        place = next(place for place, answer in enumerate(answers) if not _is_json(answer))
        message = "lies so far from what the model was trained on that its answer is no number."
        raise Refused(422, "no_number", message, field=f"inputs[{place}]") from None


def _is_json(answer: Any) -> bool:
    try:
        encoded(answer)
    except ValueError:
        return False
    return True


def _rows(endpoint: Endpoint, body: Body, data: bytes) -> list[tuple[Asked, int]]:
    """The records of a body, encoded, each with its padded length; none where nobody waits for them any more."""
    if body.late:
        return []
    given = body.headers.get(b"content-type", b"")
    media = given.partition(b";")[0].strip().lower()
    coding = body.headers.get(b"content-encoding", b"identity").strip().lower()
    if coding != b"identity":
        message = f"a body that is packed by {coding.decode('latin-1'):.20} is not read."
        raise Refused(415, "unsupported_encoding", message, fix="send it unpacked")
    checks, seeds = endpoint.checks, None
    if media == JSON:
        request = request_of(data, (FIELD,) if checks.samples else ())
        columns = checks.records(request["inputs"])
        if FIELD in request:
            seeds = seeds_of(request[FIELD], len(request["inputs"]))
    elif media == b"multipart/form-data":
        columns, fields = form(data, _boundary(given), checks)
        if fields:
            seeds = written(fields, _count(columns))
    else:
        columns = whole(data, media.decode("latin-1"), checks)
    count = _count(columns)
    return endpoint.rows(columns, seeds or (drawn(count) if checks.samples else [0] * count))


def _count(columns: Mapping[str, Sequence[Any]]) -> int:
    return len(next(iter(columns.values())))


def _boundary(given: bytes) -> bytes:
    from python_multipart.multipart import parse_options_header

    boundary = parse_options_header(given)[1].get(b"boundary", b"")
    if not boundary:
        raise Refused(400, "invalid_form", "the boundary of the form is missing.", field="Content-Type")
    return boundary


async def refuse(send: Send, error: Refused, body: Body | None = None) -> None:
    """Answer with why there is no answer; a body that has not been read ends the connection."""
    headers = error.headers
    if body is not None and not body.whole:
        await body.discard()
        if not body.whole and not error.close:
            headers = [*headers, (b"connection", b"close")]
    await reply(send, error.status, encoded(error.body), headers)


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
