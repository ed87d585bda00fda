"""JSON schemas of the values of requests and answers, by kind."""

from collections.abc import Callable, Sequence
from typing import Any

from suite.contracts import values
from suite.contracts.signature import Input, Output
from suite.contracts.values import ITEMS, LARGEST, Limits

LISTED = 1000
"""Most classes that a schema lists."""
PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
"""JSON schema of a probability."""
Schema = dict[str, Any]


def described(output: Output, schema: Schema) -> Schema:
    """The schema with the output's description."""
    return {**schema, "description": output.description} if output.description else schema


def named(output: Output) -> Schema:
    """The name of a class."""
    listed = {"enum": list(output.choices)} if 0 < len(output.choices) <= LISTED else {}
    return {**described(output, {"type": "string"}), **listed}


def names(output: Output) -> Schema:
    """A list of names of classes."""
    listed = {"enum": list(output.choices)} if 0 < len(output.choices) <= LISTED else {}
    return {**described(output, {"type": "array"}), "items": {"type": "string", **listed}}


def number(output: Output) -> Schema:
    """A number within its bounds."""
    bounds = {name: value for name, value in (("minimum", output.low), ("maximum", output.high)) if value is not None}
    return described(output, {"type": "integer" if output.whole else "number", **bounds})


def shares(output: Output) -> Schema:
    """Names with a probability each."""
    return {**described(output, {"type": "object"}), "additionalProperties": PROBABILITY}


def listed(required: Sequence[str], **properties: Schema) -> Callable[[Output], Schema]:
    """A list of objects with ``required`` and perhaps other ``properties``."""
    item = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
    return lambda output: described(output, {"type": "array", "items": item})


def vector(output: Output) -> Schema:
    """Numbers, of a known size where the output says it."""
    sizes = {"minItems": output.size, "maxItems": output.size} if output.size else {}
    return described(output, {"type": "array", "items": {"type": "number"}, **sizes})


def file(*media_types: str) -> Callable[[Output], Schema]:
    """A file as `suite.contracts.signature.File.to_json` writes it."""

    def schema(output: Output) -> Schema:
        properties = {
            "media_type": {"enum": list(output.media_types or media_types)},
            "data": {"type": "string", "contentEncoding": "base64"},
        }
        schema = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
        return described(output, schema)

    return schema


ONE: Schema = {"type": ["string", "number", "boolean"], "minimum": -LARGEST, "maximum": LARGEST}
"""JSON schema of a category."""


def characters(limits: Limits) -> Schema:
    """The limit of any text."""
    most = values.least(limits.get("characters", 0))
    return {"maxLength": int(most)} if most < float("inf") else {}


def text(entry: Input, limits: Limits) -> Schema:
    """A text of a request."""
    most = values.least(limits.get("characters", 0), int(entry.limit))
    return {"type": "string", **({"maxLength": int(most)} if most < float("inf") else {})}


def asked_number(entry: Input, limits: Limits) -> Schema:
    """A number of a request, within the bounds of the input."""
    low, high = -LARGEST if entry.low is None else entry.low, LARGEST if entry.high is None else entry.high
    default = {} if entry.default is None else {"default": entry.default}
    return {"type": "integer" if entry.whole else "number", "minimum": low, "maximum": high, **default}


def several(entry: Input, limits: Limits) -> Schema:
    """A list of categories."""
    one = {**ONE, **characters(limits)}
    return {"type": "array", "items": one, "maxItems": int(values.least(ITEMS, int(entry.limit)))}


def base64(media: str) -> Callable[[Input, Limits], Schema]:
    """The bytes of a file of a request."""
    return lambda entry, limits: {"type": "string", "contentEncoding": "base64", "contentMediaType": media}


_NAME: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_PLACE: Schema = {"type": "integer", "minimum": 0}
_BOX: Schema = {"type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 4}

spans = listed(("start", "end", "label"), start=_PLACE, end=_PLACE, label=_NAME, text=_NAME, probability=PROBABILITY)
"""Spans of characters, each with its label."""
boxes = listed(("box", "label"), box=_BOX, label=_NAME, probability=PROBABILITY, score=PROBABILITY)
"""Boxes [left, top, right, bottom] in pixels of the image that was asked, each with its label."""
_SECONDS: Schema = {"type": "number", "minimum": 0}

segments = listed(("start", "end", "text"), start=_SECONDS, end=_SECONDS, text=_NAME, no_speech=PROBABILITY)
"""Stretches of a recording, in seconds, each with what is said in it."""
ranking = listed(("item",), item={"type": ["string", "number"]}, title=_NAME, score=_NUMBER)
"""Items, the best first."""
attributions = listed(
    ("unit", "column", "attribution"), unit=_NAME, column=_NAME, attribution=_NUMBER, start=_PLACE, end=_PLACE
)
"""Parts of what was asked, and what each adds to the number that is explained."""
