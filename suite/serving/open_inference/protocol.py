"""Open Inference Protocol (KServe V2) over HTTP: tensors in and out under /v2, by the path of every other answer.

Specification: the KServe documents "Open Inference Protocol" and "Binary Tensor Data Extension".
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.contracts.kinds import input_kind
from suite.contracts.signature import File, Input
from suite.contracts.values import json_type
from suite.serving.checks import Checks
from suite.serving.endpoint import Endpoint
from suite.serving.errors import Headers, Refused, encoded
from suite.serving.json_body import parsed, request_of
from suite.serving.open_inference import tensors
from suite.serving.open_inference.signature import OutputTensor, model_name, output_tensors, types_of
from suite.serving.open_inference.tensors import BYTES, Tensor
from suite.serving.protocol import JSON, Question, Written, media_of, not_finite
from suite.serving.seeds import FIELD, FIX, seeds_of
from suite.serving.versions import Version

HEAD = b"inference-header-content-length"
"""Header with the bytes of the JSON that binary tensors stand behind."""
BINARY = b"application/octet-stream"
"""Media type of a body with binary tensors."""
OUTPUT_BINARY, ALL_BINARY = "binary_data", "binary_data_output"
"""Parameters: whether an output, or all of them, are sent as binary tensors."""
TIMEOUT = "timeout"
"""Parameter: microseconds in which the request is to be answered."""
OPTIONAL = ("id", "parameters", "outputs", "model_name", "model_version")
"""What a request may say beside its inputs. The model is that of the address."""
_PLACE = re.compile(r"inputs\[(\d+)\](?:\.([^\[]+))?")


@dataclass(frozen=True)
class _Reply:
    """How one request wants its answer.

    Attributes:
        program: that was asked.
        identifier: of the request; None: it has none.
        wanted: its outputs in their order, each with whether it is sent as a binary tensor.
        ignored: parameters that mean nothing here.
    """

    program: str
    identifier: str | None
    wanted: Sequence[tuple[OutputTensor, bool]]
    ignored: Sequence[str]

    def write(self, version: Version, answers: list[Any], seeds: list[int]) -> Written:
        """The answers as tensors, the binary ones behind the JSON."""
        content: dict[str, Any] = {
            "model_name": model_name(version.model, self.program),
            "model_version": version.bundle.version,
        }
        if self.identifier is not None:
            content["id"] = self.identifier
        parameters: dict[str, Any] = {}
        if seeds:
            parameters[FIELD] = seeds[0] if len(seeds) == 1 else ",".join(map(str, seeds))
        if self.ignored:
            parameters["ignored"] = ", ".join(self.ignored)[:1000]
        if parameters:
            content["parameters"] = parameters
        try:
            written = [_tensor(tensor, binary, answers) for tensor, binary in self.wanted]
            head = encoded({**content, "outputs": [description for description, _ in written]})
        except ValueError:
            raise not_finite(answers) from None
        if not any(binary for _, binary in self.wanted):
            return head, [], JSON
        headers: Headers = [(HEAD, str(len(head)).encode())]
        return b"".join([head, *(behind for _, behind in written)]), headers, BINARY


def _tensor(tensor: OutputTensor, binary: bool, answers: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], bytes]:
    """What JSON says of an output, and what stands behind it."""
    shape, values = tensor.elements(answers)
    description: dict[str, Any] = {"name": tensor.output.name, "datatype": tensor.datatype, "shape": shape}
    behind = tensors.packed(values, tensor.datatype) if binary else b""
    parameters: dict[str, Any] = {}
    if media := dict.fromkeys(value.media_type for value in values if isinstance(value, File)):
        parameters["content_type"] = ", ".join(media)
    if binary:
        parameters[tensors.SIZE] = len(behind)
    else:
        description["data"] = tensors.plain(values)
    return {**description, "parameters": parameters} if parameters else description, behind


class OpenInference:
    """Reads and writes tensors. See `suite.serving.protocol.Protocol`."""

    def read(self, endpoint: Endpoint, headers: Mapping[bytes, bytes], data: bytes) -> Question:
        """The question in a body of JSON, with or without binary tensors behind it."""
        media, checks = media_of(headers), endpoint.checks
        if media not in (b"", JSON, BINARY):
            message = f"a body of the type {media[:100].decode('latin-1')} is not read."
            raise Refused(415, "unsupported_media_type", message, fix="Content-Type: application/json")
        head = _head(headers, len(data))
        request = request_of(data[:head], OPTIONAL)
        given = tensors.tensors(request["inputs"], memoryview(data)[head:])
        columns = _columns(given, checks)
        parameters = tensors.parameters_of(request.get("parameters"), "the request")
        outputs = _requested(request.get("outputs"), output_tensors(endpoint.program.codec.outputs))
        known = {ALL_BINARY, TIMEOUT, *([FIELD] if checks.samples else [])}
        ignored = [name for name in parameters if name not in known]
        ignored += [f"{tensor.name}.{name}" for tensor in given for name in tensor.parameters if name != tensors.SIZE]
        ignored += [f"{tensor.output.name}.{name}" for tensor, own in outputs for name in own if name != OUTPUT_BINARY]
        everything = _switch(parameters, ALL_BINARY, False)
        wanted = [(tensor, _switch(own, OUTPUT_BINARY, everything)) for tensor, own in outputs]
        identifier, *_ = [_string(request.get(name), name) for name in ("id", "model_name", "model_version")]
        reply = _Reply(endpoint.program.name, identifier, wanted, ignored)
        return Question(
            columns,
            reply.write,
            seeds=_seeds(parameters[FIELD], given[0].shape[0]) if checks.samples and FIELD in parameters else (),
            every=any(tensor.classes for tensor, _ in wanted),
            seconds=_seconds(parameters.get(TIMEOUT)),
        )

    def refusal(self, error: Refused) -> bytes:
        """``{"error": "why, and on a line of its own what to do"}``."""
        where = _PLACE.sub(lambda match: f"{match[2]}[{match[1]}]" if match[2] else f"record {match[1]}", error.field)
        said = f"{where}: {error.message}" if where else error.message
        return encoded({"error": f"{said}\nTry: {error.fix}" if error.fix else said})


OPEN_INFERENCE = OpenInference()


def _head(headers: Mapping[bytes, bytes], length: int) -> int:
    """Bytes of a body that are JSON."""
    stated = headers.get(HEAD)
    if stated is None:
        return length
    if not stated.isdigit() or int(stated[:20]) > length:
        message = f"is no number of bytes of a body that has {length:,}."
        raise Refused(400, "invalid_length", message, field="Inference-Header-Content-Length", fix="bytes of the JSON")
    return int(stated[:20])


def _columns(given: Sequence[Tensor], checks: Checks) -> dict[str, list[Any]]:
    """The tensors as checked columns."""
    count, inputs = given[0].shape[0], {entry.name: entry for entry in checks.inputs}
    checks.count(count)
    columns = {}
    for tensor in given:
        where = f'tensor "{tensor.name:.100}"'
        if tensor.name not in inputs:
            raise checks.unknown(tensor.name, where)
        if tensor.shape[0] != count:
            message = f"has {tensor.shape[0]:,} records, and {given[0].name:.100} {count:,}."
            raise Refused(400, "uneven", message, field=where, fix="one shape[0] for all tensors")
        columns[tensor.name] = _values(inputs[tensor.name], tensor, where)
    return checks.records([{name: values[place] for name, values in columns.items()} for place in range(count)])


def _values(entry: Input, tensor: Tensor, where: str) -> list[Any]:
    """One value a record, as JSON would hold it."""
    kind, types, count = input_kind(entry.kind), types_of(entry), tensor.shape[0]
    several = "array" in types and (len(tensor.shape) > 1 or tensor.datatype != BYTES)
    if not several and math.prod(tensor.shape) != count:
        message = f"has {math.prod(tensor.shape) // count:,} elements a record, and one is taken."
        raise Refused(400, "invalid_shape", message, field=where, fix=f"a shape of [{count}]")
    elements = tensor.values
    if tensor.datatype == BYTES and not kind.file:
        gap = tensor.binary and not entry.required and not kind.textual  # null has no other form in a binary tensor
        elements = [None if gap and value == b"" else _text(value, where) for value in elements]
        if types & {"array", "object"} and not several:
            read = lambda text: parsed(text.encode("utf-8", "surrogatepass"), "an element", "null for a missing value")
            return [None if value is None else read(value) for value in elements]
    elif tensor.datatype != BYTES:
        elements = [None if value != value else value for value in elements]  # not a number: a gap, as in a table
    for size in reversed(tensor.shape[1:] if several else ()):
        elements = [elements[begin : begin + size] for begin in range(0, len(elements), size)]
    return elements


def _text(value: Any, where: str) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text (byte {error.start} of an element)."
        raise Refused(400, "invalid_text", message, field=where) from None


def _requested(value: Any, known: Sequence[OutputTensor]) -> list[tuple[OutputTensor, dict[str, Any]]]:
    """The outputs that a request wants, each with its parameters; all, where it names none."""
    by_name = {tensor.output.name: tensor for tensor in known}
    if value is None or value == []:
        return [(tensor, {}) for tensor in known]
    if not isinstance(value, list):
        raise Refused(400, "wrong_type", f"must be a list, not {json_type(value)}.", field="outputs")
    wanted: dict[str, tuple[OutputTensor, dict[str, Any]]] = {}
    for item in value:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or name not in by_name or name in wanted or item.keys() - {"name", "parameters"}:
            shown = json.dumps(item)[:100]
            message = f"{shown} is no output of this model, or occurs twice."
            fix = ", ".join(f'{{"name": "{known}"}}' for known in by_name)[:300]
            raise Refused(400, "unknown", message, field="outputs", fix=fix)
        parameters = tensors.parameters_of(item.get("parameters"), f'output "{name:.100}"')
        if parameters.get("classification"):
            message = "classification is not understood."
            fix = "ask for the output itself; GET /v2/models/NAME names its classes"
            raise Refused(400, "unsupported", message, field=f'output "{name:.100}"', fix=fix)
        wanted[name] = by_name[name], parameters
    return list(wanted.values())


def _switch(parameters: Mapping[str, Any], name: str, otherwise: bool) -> bool:
    value = parameters.get(name, otherwise)
    if not isinstance(value, bool):
        raise Refused(400, "wrong_type", f"must be true or false, not {json_type(value)}.", field=name)
    return value


def _string(value: Any, field: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise Refused(400, "wrong_type", f"must be a string, not {json_type(value)}.", field=field)
    return value


def _seconds(value: Any) -> float:
    """Of the parameter ``timeout``, which is in microseconds."""
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise Refused(
            400, "invalid_timeout", "is no number of microseconds.", field=TIMEOUT, fix="1000000 for one second"
        )
    return min(value, 1e15) / 1e6


def _seeds(value: Any, count: int) -> list[int]:
    """Of the parameter ``seed``: a number, or as many as records with commas between them, as answers name them."""
    if not isinstance(value, str):
        return seeds_of(value, count)
    digits = value.split(",")[:1000]
    if not all(part.strip().isascii() and part.strip().isdigit() and len(part) < 20 for part in digits):
        raise Refused(
            400, "invalid_seed", "must be whole numbers of 32 bits, with commas between them.", field=FIELD, fix=FIX
        )
    return seeds_of([int(part) for part in digits] if len(digits) > 1 else int(digits[0]), count)
