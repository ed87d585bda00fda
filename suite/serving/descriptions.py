"""Descriptions of models under /v1/models: their programs, signatures, metrics and limits, as JSON."""

import math
from typing import Any

from suite.bundles.manifest import PREDICT
from suite.contracts.kinds import input_kind, output_kind
from suite.contracts.signature import Input
from suite.contracts.values import ITEMS, least
from suite.serving.endpoint import Endpoint
from suite.serving.model import Model
from suite.serving.models import Models
from suite.serving.settings import Settings


def brief(model: Model) -> dict[str, Any]:
    """A line of the list of models."""
    description: dict[str, Any] = {"name": model.name, "ready": model.current is not None and not model.current.stuck}
    if model.current is not None:
        description["version"] = model.current.bundle.version
        description["signed_by"] = model.current.bundle.signed_by or None
        if model.current.bundle.catalogue is not None:
            description["catalogue"] = model.current.bundle.catalogue
        description["programs"] = {name: _signature(endpoint) for name, endpoint in model.current.endpoints.items()}
    if model.problem:
        description["refused"] = model.problem
    if model.current is not None and model.current.stuck:
        description["unhealthy"] = model.current.stuck
    if model.warming:
        description["warming"] = model.warming.to_json()
    return description


def _signature(endpoint: Endpoint) -> dict[str, Any]:
    """What a program is asked and what it answers, by name and kind."""
    codec = endpoint.program.codec
    return {
        "inputs": [{"name": entry.name, "kind": entry.kind, "required": entry.required} for entry in codec.inputs],
        "outputs": [{"name": entry.name, "kind": entry.kind} for entry in codec.outputs],
        "samples": endpoint.program.samples,
        "engine": endpoint.program.engine,
    }


def full(models: Models, name: str, settings: Settings) -> dict[str, Any]:
    """All that can be said of a model."""
    version = models.version(name)
    programs = {name: _program(endpoint, settings) for name, endpoint in version.endpoints.items()}
    limits = {
        "records": settings.max_records,
        "bytes": settings.max_body_bytes,
        "pixels": settings.max_pixels,
        "characters": settings.max_characters,
        "seconds": settings.max_seconds,
    }
    return {
        **brief(models.by_name[name]),
        **programs[PREDICT],
        "programs": programs,
        "metrics": version.bundle.metrics,
        "card": version.card,
        "limits": limits,
    }


def _program(endpoint: Endpoint, settings: Settings) -> dict[str, Any]:
    """All that can be said of a program."""
    codec = endpoint.program.codec
    inputs = [
        {
            "name": entry.name,
            "kind": entry.kind,
            "description": entry.description,
            "required": entry.required,
            "low": entry.low,
            "high": entry.high,
            "whole": entry.whole,
            "default": entry.default,
            "example": entry.example,
            "choices": list(entry.choices),
            "limit": _limit(entry, settings),
            **field_of(entry),
        }
        for entry in codec.inputs
    ]
    outputs = [
        {
            "name": entry.name,
            "kind": entry.kind,
            "description": entry.description,
            "of": entry.of,
            "after": entry.after,
            "empty": entry.empty,
            "choices": list(entry.choices),
            "widget": output_kind(entry.kind).shown_by(entry),
        }
        for entry in codec.outputs
    ]
    return {
        "primary": codec.primary,
        "purpose": codec.purpose,
        "inputs": inputs,
        "outputs": outputs,
        "answer": codec.answer_schema,
        "lengths": endpoint.program.lengths,
        "samples": endpoint.program.samples,
        "engine": endpoint.program.engine,
    }


def _limit(entry: Input, settings: Settings) -> float:
    """Most that a value may have, by the input and by the server, in the unit of its kind; 0: none."""
    most = least(entry.limit, {"items": ITEMS, **settings.limits}.get(input_kind(entry.kind).unit, 0))
    return most if most < math.inf else 0


def field_of(entry: Input) -> dict[str, Any]:
    """How the page asks for an input, by its kind."""
    kind = input_kind(entry.kind)
    return {
        "widget": kind.field,
        "file": kind.file,
        "large": kind.large,
        "several": kind.several,
        "prompt": kind.prompt,
        "absent": _absent(entry),
        "explained": entry.option or entry.default is not None or entry.absent != Input.absent,
    }


def _absent(entry: Input) -> str:
    """What stands in place of a value that is not given."""
    if entry.default is not None:
        return f"{entry.default:g}" if isinstance(entry.default, int | float) else str(entry.default)
    return "choose one" if entry.required else entry.absent
