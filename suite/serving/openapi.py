"""The OpenAPI 3.1 description of what is served, made of the models' signatures."""

from collections.abc import Mapping, Sequence
from typing import Any

from suite.bundles.manifest import PREDICT
from suite.contracts.kinds import file_types, input_kind, input_schema
from suite.contracts.signature import Input
from suite.data.pipeline.padding import SEEDS
from suite.serving.checks import Checks
from suite.serving.endpoint import Endpoint
from suite.serving.errors import of_each
from suite.serving.open_inference.openapi import TENSOR_ERROR, model_paths, server_paths, tensor_refusals
from suite.serving.seeds import FIELD
from suite.serving.settings import Settings
from suite.serving.uploads import TABLES
from suite.serving.versions import Version

ERROR = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "additionalProperties": False,
            "properties": {
                "code": {"type": "string", "description": "the reason, for programs"},
                "message": {"type": "string", "description": "the reason, for people"},
                "field": {"type": "string", "description": "the part of the request at fault"},
                "fix": {"type": "string", "description": "what to send instead"},
            },
        }
    },
}
TOKEN, ADMIN = "token", "admin_token"
"""Names of the bearer tokens: of all requests, and of those that change what is served."""
SEED = {"type": "integer", "minimum": 0, "maximum": SEEDS - 1}
"""Schema of the seed of an answer's random numbers."""
REFUSALS = {
    400: "the request is malformed, or a value cannot be used",
    401: "the bearer token is missing or wrong",
    408: "the request came too slowly",
    413: "the request, or one of its files, is too large",
    415: "a body of this type is not read",
    422: "a record lies so far from what the model was trained on that its answer is no number",
    429: "too many requests are waiting",
    500: "the server made a mistake",
    503: "the model is being compiled, or the server is stopping",
    504: "not answered in time",
}


def describe(versions: Mapping[str, Version], settings: Settings, secured: bool, admin: bool = False) -> dict[str, Any]:
    """The whole description.

    Args:
        versions: model -> the one that answers now.
        settings: the limits.
        secured: whether a bearer token is asked for.
        admin: whether requests with a token of their own may change what is served.
    """
    paths: dict[str, Any] = {
        "/healthz": {"get": _open("healthz", "Whether the process is alive", {200: "it is"})},
        "/readyz": {"get": _open("readyz", "Whether all models are warm", {200: "they are", 503: "not yet"})},
        "/metrics": {"get": _text("metrics", "Prometheus metrics")},
        "/v1/models": {"get": _plain("models", "The models that are served", secured)},
    }
    described, others = of_each(
        versions,
        lambda version: (
            _paths(version, settings, secured, admin),
            model_paths(version, tensor_refusals(REFUSALS, secured)),
        ),
    )
    for own, _ in described.values():
        paths |= own
    paths |= server_paths(tensor_refusals(REFUSALS, secured))
    for _, own in described.values():
        paths |= own
    about = "Answers of trained models."
    if others:
        about += f" Not described, since what they say of themselves is not JSON: {', '.join(others)}."
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "suite serve", "version": "1", "description": about},
        "paths": paths,
        "components": {"schemas": {"Error": ERROR, "TensorError": TENSOR_ERROR}},
    }
    schemes = {
        name: {"type": "http", "scheme": "bearer"} for name, asked in ((TOKEN, secured), (ADMIN, admin)) if asked
    }
    if schemes:
        document["components"]["securitySchemes"] = schemes
    if secured:
        document["security"] = [{TOKEN: []}]
    return document


def _paths(version: Version, settings: Settings, secured: bool, admin: bool) -> dict[str, Any]:
    """The addresses of a model under /v1."""
    summary = f"Signature, card and metrics of {version.model}"
    paths = {f"/v1/models/{version.model}": {"get": _plain(f"describe {version.model}", summary, secured)}}
    for name, endpoint in version.endpoints.items():
        paths[f"/v1/models/{version.model}:{name}"] = {"post": _answers(version, name, endpoint, settings, secured)}
    if admin and version.bundle.catalogue is not None:
        paths[f"/v1/models/{version.model}/catalogue"] = {"put": _catalogue(version.model)}
    return paths


def _catalogue(model: str) -> dict[str, Any]:
    """The request that replaces a catalogue."""
    table = {"schema": {"type": "string", "minLength": 1}}
    answer = {
        "type": "object",
        "required": ["model", "version", "catalogue", "left_out"],
        "additionalProperties": False,
        "properties": {
            "model": {"const": model},
            "version": {"type": "string", "description": "the version that answers from now on"},
            "catalogue": {
                "type": "object",
                "required": ["version", "records"],
                "properties": {"version": {"type": "string"}, "records": {"type": "integer", "minimum": 1}},
            },
            "left_out": {"type": "array", "items": {"type": "string"}, "description": "records that are not used"},
        },
    }
    why = "the catalogue is used from now on"
    refusals = {**REFUSALS, 403: "no request changes what is served", 409: "it cannot be replaced now"}
    return {
        "operationId": f"catalogue {model}",
        "summary": f"Replaces the records that requests to {model} are compared with",
        "security": [{ADMIN: []}],
        "requestBody": {"required": True, "content": {media: table for media in TABLES}},
        "responses": {
            "200": {"description": why, "content": {"application/json": {"schema": answer}}},
            **{str(status): _refusal(why) for status, why in refusals.items()},
        },
    }


def _answers(version: Version, program: str, endpoint: Endpoint, settings: Settings, secured: bool) -> dict[str, Any]:
    """The answers of a program of a model."""
    model, catalogue = version.model, version.bundle.catalogue
    checks, codec = endpoint.checks, endpoint.program.codec
    record = record_schema(checks.inputs, settings)
    primary = next((entry for entry in checks.inputs if entry.name == checks.primary), None)
    item = record if primary is None else {"anyOf": [record, input_schema(primary, settings.limits, "body")]}
    inputs = {"type": "array", "items": item, "minItems": 1, "maxItems": settings.max_records}
    seeds = {"type": "array", "items": SEED, "minItems": 1, "maxItems": settings.max_records}
    properties: dict[str, Any] = {"inputs": inputs}
    if checks.samples:
        properties[FIELD] = {"anyOf": [SEED, seeds], "description": "one for all records, or one a record"}
    request = {"type": "object", "required": ["inputs"], "additionalProperties": False, "properties": properties}
    content: dict[str, Any] = {"application/json": {"schema": request}}
    if example := _example(checks.inputs):
        content["application/json"]["example"] = {"inputs": [example]}
    content["multipart/form-data"] = {"schema": _form(checks, settings)}
    if primary is not None:
        kind = input_kind(primary.kind)
        whole = {} if kind.file else input_schema(primary, settings.limits, "body")
        content.update({media: {"schema": whole} for media in kind.media_types})
    if not checks.files:
        content["text/csv"] = {"schema": {"type": "string", "minLength": 1}}
    answer: dict[str, Any] = {
        "type": "object",
        "required": ["model", "version", "answers", *([FIELD] if checks.samples else [])],
        "additionalProperties": False,
        "properties": {
            "model": {"const": model},
            "version": {"type": "string"},
            "answers": {"type": "array", "items": codec.answer_schema, "description": "one a record, in their order"},
        },
    }
    if catalogue is not None:
        answer["required"].append("catalogue")
        about = "of the records that the request was compared with"
        answer["properties"]["catalogue"] = {"type": "string", "description": f"the version {about}"}
    if checks.samples:
        answer["properties"][FIELD] = {**seeds, "description": "what each answer was drawn by"}
    answers: dict[str, Any] = {"application/json": {"schema": answer}}
    files = file_types(codec.outputs)
    answers.update({media: {"schema": {}} for media in files})
    why = "the answers"
    if files:
        why += "; the file alone, where one record was asked and Accept names the file's media type"
    timeout = {
        "name": "X-Request-Timeout",
        "in": "header",
        "required": False,
        "description": "seconds after which the answer is no longer wanted",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    }
    return {
        "operationId": f"{program} {model}",
        "summary": f"Answers of {model}" + ("" if program == PREDICT else f", by {program}"),
        "parameters": [timeout],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {"description": why, "content": answers},
            **{str(status): _refusal(why) for status, why in REFUSALS.items() if secured or status != 401},
        },
    }


def record_schema(inputs: Sequence[Input], settings: Settings) -> dict[str, Any]:
    """JSON schema of one record."""
    required = [entry.name for entry in inputs if entry.required]
    schema = {
        "type": "object",
        "properties": {entry.name: input_schema(entry, settings.limits) for entry in inputs},
        "additionalProperties": False,
        "minProperties": 1,
    }
    return {**schema, "required": required} if required else schema


def _form(checks: Checks, settings: Settings) -> dict[str, Any]:
    """JSON schema of a form: an input a field, as often as there are records; lists as tables write them."""
    fields: dict[str, Any] = {FIELD: SEED} if checks.samples else {}
    for entry in checks.inputs:
        if input_kind(entry.kind).file:
            file = {"type": "string", "format": "binary"}
            fields[entry.name] = {"type": "array", "items": file, "minItems": 1, "maxItems": settings.max_records}
        else:
            fields[entry.name] = input_schema(entry, settings.limits, "form")
    schema = {"type": "object", "properties": fields, "minProperties": 1, "additionalProperties": False}
    required = [entry.name for entry in checks.inputs if entry.required]
    return {**schema, "required": required} if required else schema


def _example(inputs: Sequence[Input]) -> dict[str, Any]:
    return {entry.name: entry.example for entry in inputs if entry.example is not None}


def _refusal(why: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": why, "content": {"application/json": {"schema": schema}}}


def _json(why: str) -> dict[str, Any]:
    return {"description": why, "content": {"application/json": {"schema": {"type": "object"}}}}


def _plain(name: str, summary: str, secured: bool) -> dict[str, Any]:
    refusals = {"401": _refusal(REFUSALS[401])} if secured else {}
    return {"operationId": name, "summary": summary, "responses": {"200": _json(summary), **refusals}}


def _open(name: str, summary: str, responses: dict[int, str]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "security": [],
        "responses": {str(code): _json(why) for code, why in responses.items()},
    }


def _text(name: str, summary: str) -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": summary, "content": content}, "401": _refusal(REFUSALS[401])},
    }
