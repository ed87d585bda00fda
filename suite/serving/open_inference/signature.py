"""A codec's signature in tensors, as the Open Inference Protocol states it: the first axis counts the records.

Inputs: texts, files and JSON are BYTES, numbers FP64. Outputs: labels, texts and files are BYTES, probabilities FP32,
other numbers FP64 or INT64, the probabilities of listed classes FP32 (records, classes), vectors FP32 (records, size),
and whatever else has structure is BYTES of JSON.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.bundles.manifest import PREDICT
from suite.contracts.kinds import input_kind, output_kind
from suite.contracts.signature import Input, Output
from suite.serving.errors import encoded
from suite.serving.open_inference.tensors import BYTES
from suite.serving.versions import Version

PLATFORM = "jax_stablehlo"
"""What a bundle is, as PROJECT_FORMAT."""
_SCALARS = {"string": BYTES, "number": "FP64", "integer": "INT64", "boolean": "BOOL"}
"""Types of a JSON schema -> datatypes."""


def model_name(model: str, program: str) -> str:
    """What a program of a model is called under /v2: the model's name for the default one, else MODEL:PROGRAM."""
    return model if program == PREDICT else f"{model}:{program}"


@dataclass(frozen=True)
class OutputTensor:
    """An output as a tensor.

    Attributes:
        output: of the codec.
        datatype: of its elements.
        shape: of one record; -1: not known.
        classes: names of the classes, one an element of the last axis; empty where that has none.
        structured: whether an element is JSON.
    """

    output: Output
    datatype: str
    shape: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    structured: bool = False

    def elements(self, answers: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[Any]]:
        """Its shape and its elements, row by row.

        Raises:
            ValueError: a number in JSON is not finite.
            RuntimeError: the codec made vectors of different sizes.
        """
        values = [answer[self.output.name] for answer in answers]
        if self.structured:
            return [len(values)], [encoded(value).decode("utf-8") for value in values]
        if self.classes:
            return [len(values), len(self.classes)], [row[name] for row in values for name in self.classes]
        if self.shape:
            if len({len(row) for row in values}) > 1:
                raise RuntimeError(f"the vectors of {self.output.name} have different sizes")
            return [len(values), len(values[0])], [number for row in values for number in row]
        return [len(values)], values


def output_tensors(outputs: Sequence[Output]) -> list[OutputTensor]:
    """The outputs of a codec as tensors."""
    return [_output_tensor(output, outputs) for output in outputs]


def _output_tensor(output: Output, outputs: Sequence[Output]) -> OutputTensor:
    kind = output_kind(output.kind)
    assert kind.answer is not None  # as every output's
    schema = kind.answer(output)
    if kind.file:
        return OutputTensor(output, BYTES)
    if schema.get("type") in _SCALARS:
        datatype = "FP32" if output.share and schema["type"] == "number" else _SCALARS[schema["type"]]
        return OutputTensor(output, datatype)
    if kind.name == "vector":
        return OutputTensor(output, "FP32", (output.size or -1,))
    if kind.name == "classes" and (classes := _classes(output, outputs)):
        return OutputTensor(output, "FP32", (len(classes),), classes)
    return OutputTensor(output, BYTES, structured=True)


def _classes(output: Output, outputs: Sequence[Output]) -> tuple[str, ...]:
    """Names of the classes that an output gives probabilities of: its own, those of the output that it is of, or those
    of the only one that lists any."""
    if output.choices:
        return output.choices
    listing = [other.choices for other in outputs if other.choices and (not output.of or other.name == output.of)]
    return listing[0] if len(listing) == 1 else ()


def input_datatype(entry: Input) -> str:
    """Datatype of an input as metadata state it; numbers of another one are taken, too."""
    types = types_of(entry)
    return _SCALARS[types.pop()] if len(types) == 1 and types <= set(_SCALARS) else BYTES


def types_of(entry: Input) -> set[str]:
    """Types of a value in JSON."""
    kind = input_kind(entry.kind)
    assert kind.schema is not None  # as every input's
    types = kind.schema(entry, {}).get("type", "string")
    return {types} if isinstance(types, str) else set(types)


def metadata(version: Version, program: str) -> dict[str, Any]:
    """What is said of a program as a model: its tensors, with what is known of each as parameters."""
    codec = version.endpoint(program).program.codec
    return {
        "name": model_name(version.model, program),
        "versions": [version.bundle.version],
        "platform": PLATFORM,
        "inputs": [_input_metadata(entry) for entry in codec.inputs],
        "outputs": [_output_metadata(tensor) for tensor in output_tensors(codec.outputs)],
    }


def _input_metadata(entry: Input) -> dict[str, Any]:
    kind = input_kind(entry.kind)
    structured = not kind.file and bool(types_of(entry) & {"array", "object"})
    parameters = {
        "kind": entry.kind,
        "required": entry.required,
        "description": entry.description,
        "content_type": ", ".join(kind.bodies or kind.media_types) if kind.file else "application/json" * structured,
    }
    return _stated(entry.name, input_datatype(entry), [], parameters)


def _output_metadata(tensor: OutputTensor) -> dict[str, Any]:
    output, kind = tensor.output, output_kind(tensor.output.kind)
    types = ", ".join(output.media_types or kind.media_types) if kind.file else "application/json" * tensor.structured
    parameters = {
        "kind": output.kind,
        "description": output.description,
        "of": output.of,
        "content_type": types,
        "classes": json.dumps(tensor.classes, ensure_ascii=False) if tensor.classes else "",
    }
    return _stated(output.name, tensor.datatype, tensor.shape, parameters)


def _stated(name: str, datatype: str, shape: Sequence[int], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a tensor. Parameters are strings, numbers and booleans, as the protocol has it; a list is JSON."""
    said = {key: value for key, value in parameters.items() if value != ""}
    return {"name": name, "datatype": datatype, "shape": [-1, *shape], "parameters": said}
