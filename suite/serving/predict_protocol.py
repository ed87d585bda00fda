"""The suite's own protocol, ``POST /v1/models/NAME:predict``: JSON, forms and files in; JSON, or one file, out."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from suite.contracts.codec import Codec
from suite.contracts.kinds import file_types
from suite.contracts.signature import File, Output
from suite.serving.endpoint import Endpoint
from suite.serving.errors import Headers, Refused, encoded
from suite.serving.json_body import request_of
from suite.serving.protocol import JSON, Question, Written, decimal, media_of, not_finite, records_in
from suite.serving.seeds import FIELD, seeds_of, written
from suite.serving.uploads import form, whole
from suite.serving.versions import Version

ALONE: Headers = [(b"content-security-policy", b"default-src 'none'; sandbox"), (b"vary", b"accept")]
"""Further headers of an answer that is a file: opened by a browser, it runs nothing."""

SEED = b"x-seed"
"""Header of a file that was drawn: what it was drawn by."""

_ANYTHING = {b"", b"*/*"}
"""Values of Accept that want JSON, as most clients send them: the outputs need not be looked at."""


class PredictProtocol:
    """Reads whatever a client is likely to have, and answers in JSON. See `suite.serving.protocol.Protocol`."""

    def read(self, endpoint: Endpoint, headers: Mapping[bytes, bytes], data: bytes) -> Question:
        """The question in a body of JSON, a form, a table, or one file."""
        checks, media, seeds = endpoint.checks, media_of(headers), []
        if media == JSON:
            request = request_of(data, (FIELD,) if checks.samples else ())
            columns = checks.records(request["inputs"])
            if FIELD in request:
                seeds = seeds_of(request[FIELD], len(request["inputs"]))
        elif media == b"multipart/form-data":
            columns, fields = form(data, _boundary(headers[b"content-type"]), checks)
            if fields:
                seeds = written(fields, records_in(columns))
        else:
            columns = whole(data, media.decode("latin-1"), checks)
        write = functools.partial(_written, endpoint.program.codec, headers.get(b"accept", b""))
        return Question(columns, write, seeds)

    def refusal(self, error: Refused) -> bytes:
        """``{"error": {"code", "message", "field"?, "fix"?}}``."""
        return encoded(error.body)


PREDICT_PROTOCOL = PredictProtocol()


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
        weights[media] = decimal(given.encode("latin-1")) or 0.0
    return weights


def _written(codec: Codec, accept: bytes, version: Version, answers: list[Any], seeds: list[int]) -> Written:
    """The file that ``accept`` wants, or the answers as JSON; with the seeds that they were drawn by, so that they can
    be asked for again."""
    file = None if accept in _ANYTHING else asked_file(answers, codec.outputs, accept)
    if file is not None:
        return file.data, [*ALONE, *((SEED, str(seed).encode()) for seed in seeds)], file.media_type.encode()
    catalogue = version.bundle.catalogue
    known = {"catalogue": catalogue["version"]} if catalogue is not None else {}
    content = {"model": version.model, "version": version.bundle.version, **known, "answers": answers}
    try:
        return encoded({**content, FIELD: seeds} if seeds else content), [], JSON
    except ValueError:
        raise not_finite(answers) from None


def _boundary(given: bytes) -> bytes:
    from python_multipart.multipart import parse_options_header

    boundary = parse_options_header(given)[1].get(b"boundary", b"")
    if not boundary:
        raise Refused(400, "invalid_form", "the boundary of the form is missing.", field="Content-Type")
    return boundary
