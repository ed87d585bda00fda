"""The addresses of /v2 in the OpenAPI description."""

import json
from typing import Any

from suite.contracts.signature import Input
from suite.serving.endpoint import Endpoint
from suite.serving.open_inference.signature import input_datatype, model_name, output_tensors
from suite.serving.open_inference.tensors import AXES, BYTES, NUMBERS
from suite.serving.versions import Version

TENSOR_ERROR = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {"error": {"type": "string", "description": "the reason, for people"}},
}
_PARAMETERS = {"type": ["object", "null"], "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}


_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/TensorError"}}}
_OBJECT = {"application/json": {"schema": {"type": "object"}}}
_NOT_READY = {"503": {"description": "not yet", "content": _OBJECT}}


def tensor_refusals(refusals: dict[int, str], secured: bool) -> dict[str, Any]:
    """Responses of refused requests.

    Args:
        refusals: their statuses, and why.
        secured: whether a bearer token is asked for.
    """
    return {
        str(status): {"description": why, "content": _ERROR}
        for status, why in refusals.items()
        if secured or status != 401
    }


def server_paths(refused: dict[str, Any]) -> dict[str, Any]:
    """The paths that are no model's. ``refused`` is what `tensor_refusals` returns."""
    return {
        "/v2": _described("v2", "The server, by the Open Inference Protocol", _token(refused)),
        "/v2/health/live": _described("v2 live", "Whether the process is alive", {}, security=[]),
        "/v2/health/ready": _described("v2 ready", "Whether all models are warm", _NOT_READY, security=[]),
    }


def model_paths(version: Version, refused: dict[str, Any]) -> dict[str, Any]:
    """The paths of a model's programs."""
    absent = {"404": {"description": "there is no such model, or not in this version", "content": _ERROR}}
    found, paths = {**_token(refused), **absent}, {}
    for program, endpoint in version.endpoints.items():
        name = model_name(version.model, program)
        path = f"/v2/models/{name}"
        paths[path] = _described(f"v2 describe {name}", f"Tensors of {name}", found)
        paths[f"{path}/ready"] = _described(f"v2 ready {name}", f"Whether {name} answers", {**found, **_NOT_READY})
        paths[f"{path}/infer"] = {"post": _inference(name, endpoint, refused)}
    return paths


def _token(refused: dict[str, Any]) -> dict[str, Any]:
    return {status: response for status, response in refused.items() if status == "401"}


def _described(name: str, summary: str, more: dict[str, Any], **others: Any) -> dict[str, Any]:
    responses = {"200": {"description": summary, "content": _OBJECT}, **more}
    return {"get": {"operationId": name, "summary": summary, "responses": responses, **others}}


def _inference(name: str, endpoint: Endpoint, refused: dict[str, Any]) -> dict[str, Any]:
    """Answers as tensors."""
    inputs, outputs = endpoint.checks.inputs, output_tensors(endpoint.program.codec.outputs)
    asked = {"parameters": _PARAMETERS, "name": {"enum": [tensor.output.name for tensor in outputs]}}
    wanted = {"type": "object", "required": ["name"], "additionalProperties": False, "properties": asked}
    seed = "seed: a number, or one a record with commas between them" if endpoint.checks.samples else ""
    request = {
        "type": "object",
        "required": ["inputs"],
        "additionalProperties": False,
        "properties": {
            **{field: {"type": ["string", "null"]} for field in ("id", "model_name", "model_version")},
            "parameters": {**_PARAMETERS, "description": seed} if seed else _PARAMETERS,
            "inputs": {
                "type": "array",
                "items": _tensor([entry.name for entry in inputs], [BYTES, *NUMBERS]),
                "minItems": 1,
                "maxItems": len(inputs),
            },
            "outputs": {"type": ["array", "null"], "items": wanted},
        },
    }
    datatypes = sorted({tensor.datatype for tensor in outputs})
    answer = {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "additionalProperties": False,
        "properties": {
            "model_name": {"const": name},
            "model_version": {"type": "string"},
            "id": {"type": "string", "description": "that of the request"},
            "parameters": {"type": "object"},
            "outputs": {"type": "array", "items": _tensor([tensor.output.name for tensor in outputs], datatypes)},
        },
    }
    body: dict[str, Any] = {"schema": request}
    if example := [_example(entry) for entry in inputs if entry.example is not None]:
        body["example"] = {"inputs": example}
    binary: dict[str, Any] = {"application/octet-stream": {"schema": {}}}
    return {
        "operationId": f"v2 infer {name}",
        "summary": f"Answers of {name} as tensors",
        "description": "Binary tensors stand behind the JSON, whose bytes Inference-Header-Content-Length counts.",
        "requestBody": {"required": True, "content": {"application/json": body, **binary}},
        "responses": {
            "200": {"description": "the outputs", "content": {"application/json": {"schema": answer}, **binary}},
            **refused,
        },
    }


def _tensor(names: list[str], datatypes: list[str]) -> dict[str, Any]:
    """JSON schema of a tensor."""
    size = {"type": "integer", "minimum": 0}
    return {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "additionalProperties": False,
        "properties": {
            "name": {"enum": names},
            "shape": {"type": "array", "items": size, "minItems": 1, "maxItems": AXES},
            "datatype": {"enum": datatypes},
            "parameters": _PARAMETERS,
            "data": {"type": ["array", "null"], "description": "its elements, flat or nested as the shape says"},
        },
    }


def _example(entry: Input) -> dict[str, Any]:
    """One record's element of an input."""
    value = json.dumps(entry.example) if isinstance(entry.example, list | dict) else entry.example
    datatype = input_datatype(entry) if isinstance(value, str) or input_datatype(entry) != BYTES else "FP64"
    return {"name": entry.name, "shape": [1], "datatype": datatype, "data": [value]}
