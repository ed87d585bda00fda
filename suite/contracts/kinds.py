"""Kinds of inputs and outputs: one table that the server, its page, the command line, cards and reports read.

A plug-in adds a kind of its own by `register_kind`; nothing else has to know it.
"""

import mimetypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from suite.contracts import plain_files, schemas, values
from suite.contracts.schemas import Schema
from suite.contracts.signature import File, Input, Output
from suite.contracts.values import Limits
from suite.errors import InputError, closest

Check = Callable[[Input, Any, Limits], Any]
"""(input, value of a request, limits) -> the value as a codec takes it; raises `suite.contracts.values.Unfit`."""


def printed(value: Any) -> Any:
    """A value of an answer as the command line prints it: a file by its media type and size."""
    return value.summary() if isinstance(value, File) else value


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is known of a kind. A kind with ``check`` may be an input's, one with ``answer`` an output's."""

    name: str
    """As an Input or an Output names it."""
    plural: str
    """Several values in words: "texts"."""
    file: bool = False
    """Whether a value is a file: bytes in, a `File` out."""
    media_types: tuple[str, ...] = ()
    """Of files, or of bodies that are one value; the usual one first."""
    bodies: tuple[str, ...] = ()
    """Media types of a body that is one value of this kind; ``image/*`` stands for all images. Empty: media_types."""
    extensions: tuple[str, ...] = ()
    """Of files, such as ".png"."""
    drawing: str = "text"
    """How a report shows a value, by its name in `suite.reporting.drawings.values`."""

    check: Check | None = None
    """Judges a value of a request."""
    plain: Callable[[bytes], bool] | None = None
    """Of files: whether one is proven by its header to be decoded in proportionate time. The others are looked at and
    decoded in processes that can be ended. None: all are."""
    wanted: str = "a value"
    """What JSON holds of it: "a string"."""
    schema: Callable[[Input, Limits], Schema] | None = None
    """JSON schema of a value."""
    form: Callable[[Input, Limits], Schema] | None = None
    """JSON schema of a form's field, where that is another."""
    unit: str = ""
    """What `Input.limit` counts: "characters"."""
    textual: bool = False
    """Whether a column of a table is text, whatever its values look like."""
    parsed: bool = False
    """Whether the codec reads what a table or a form writes of it."""
    several: bool = False
    """Whether a value holds several of the input's choices."""
    field: str = "text"
    """The page's field, by its name in ``serving/page/fields.js``."""
    large: bool = False
    """Whether the field has the page's whole width."""
    prompt: str = ""
    """What the page asks for where nothing was given."""

    answer: Callable[[Output], Schema] | None = None
    """JSON schema of a value of an answer."""
    widget: str | Callable[[Output], str] = "facts"
    """How the page shows a value, by its name in ``serving/page/answers.js``."""
    purpose: str = "Answers questions about {given}"
    """What a model with this output does; ``{given}`` stands for what it is given."""
    printed: Callable[[Any], Any] = printed
    """A value as the command line prints it."""

    def takes(self, media: str) -> bool:
        """Whether a body of this media type is one value of this kind."""
        patterns = self.bodies or self.media_types
        return any(
            media == pattern or (pattern.endswith("/*") and media.startswith(pattern[:-1])) for pattern in patterns
        )

    def shown_by(self, output: Output) -> str:
        """Name of the page's widget for an output."""
        return self.widget if isinstance(self.widget, str) else self.widget(output)


KINDS: dict[str, Kind] = {}
"""Name -> kind. Read it by `input_kind` and `output_kind`, which say what is wrong with a name."""


def register_kind(kind: Kind) -> Kind:
    """Add a kind; the same kind may be added again, as where a module is loaded twice.

    Raises:
        InputError: another kind has the name, or it is neither an input's nor an output's.
    """
    where = f'kind "{kind.name}"'
    if kind.name in KINDS and KINDS[kind.name] != kind:
        raise InputError(where, "is there already, and is another.", fix="register it under a name of its own")
    if (kind.check is None) != (kind.schema is None) or (kind.check is None and kind.answer is None):
        raise InputError(
            where, "is neither an input's nor an output's.", fix="Kind(check=..., schema=...), Kind(answer=...), or all"
        )
    KINDS[kind.name] = kind
    return kind


def input_kind(name: str) -> Kind:
    """The kind of an input.

    Raises:
        InputError: there is none of this name.
    """
    kind = KINDS.get(name)
    if kind is None or kind.check is None:
        raise _unknown(name, [kind.name for kind in KINDS.values() if kind.check])
    return kind


def output_kind(name: str) -> Kind:
    """The kind of an output.

    Raises:
        InputError: there is none of this name.
    """
    kind = KINDS.get(name)
    if kind is None or kind.answer is None:
        raise _unknown(name, [kind.name for kind in KINDS.values() if kind.answer])
    return kind


def _unknown(name: str, names: Sequence[str]) -> InputError:
    fix = closest(name, names) or "suite.contracts.kinds.register_kind(Kind(...)) where the codec is defined"
    return InputError(f'kind "{name}"', "is unknown.", found=", ".join(names), fix=fix)


def checked(entry: Input, value: Any, limits: Limits, from_file: bool = False) -> Any:
    """A value of a request as a codec takes it; None where it is missing and may be.

    Args:
        from_file: whether a table or a form wrote it, where numbers and lists are texts.

    Raises:
        Unfit: the input doesn't allow it.
    """
    kind = input_kind(entry.kind)
    assert kind.check is not None  # as every input's
    if value is None:
        if entry.required:
            raise values.Unfit("missing", f"a value is missing: {kind.wanted} is wanted.")
        return None
    if from_file and kind.parsed and isinstance(value, str):
        value = values.characters(value, values.least(limits.get("characters", 0)))
        if not entry.option:
            return value
        if not value.strip():
            return None
        value = values.written_number(value)
    return kind.check(entry, value, limits)


def input_schema(entry: Input, limits: Limits, where: str = "json") -> Schema:
    """JSON schema of a value of a request: in JSON, where an optional one may be null; in a ``"form"``, whose numbers
    are read as cells of a table are, so that ``true`` is 1 and ``null`` a gap; or a ``"body"``."""
    kind = input_kind(entry.kind)
    assert kind.schema is not None  # as every input's
    schema = (kind.form or kind.schema)(entry, limits) if where == "form" else kind.schema(entry, limits)
    if where == "form" and kind.form is not None:
        return schema
    cell = where == "form" and kind.parsed and not entry.option  # an option is a number there, too
    more = ["boolean"] * cell + ["null"] * (not entry.required and (where == "json" or cell))
    if more:
        given = schema["type"]
        schema = {**schema, "type": [*([given] if isinstance(given, str) else given), *more]}
    return {**schema, "description": entry.description} if entry.description else schema


def answer_schema(outputs: Sequence[Output]) -> Schema:
    """JSON schema of an answer that has all of ``outputs`` and nothing else."""
    properties = {}
    for output in outputs:
        kind = output_kind(output.kind)
        assert kind.answer is not None  # as every output's
        properties[output.name] = kind.answer(output)
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def file_types(outputs: Sequence[Output]) -> tuple[str, ...]:
    """Media types of the files that an answer may hold."""
    kinds = [(output, output_kind(output.kind)) for output in outputs]
    types = [media for output, kind in kinds if kind.file for media in output.media_types or kind.media_types]
    return tuple(dict.fromkeys(types))


def extension_of(media_type: str) -> str:
    """Of a file of this type: that of its kind, where one is known."""
    subtype = media_type.rpartition("/")[2].removeprefix("x-").partition("+")[0]
    known = [extension for kind in KINDS.values() for extension in kind.extensions if extension == f".{subtype}"]
    return next(iter(known), mimetypes.guess_extension(media_type) or ".bin")


def purpose(inputs: Sequence[Input], outputs: Sequence[Output]) -> str:
    """What a model does, by its first output and the largest thing that it is given."""
    given = [input_kind(entry.kind) for entry in inputs]
    large = list(dict.fromkeys(kind.plural for kind in given if kind.large))
    says = output_kind(outputs[0].kind).purpose if outputs else Kind.purpose
    return says.format(given=" and ".join(large) or "records")


_PICTURES = ("image/png", "image/jpeg", "image/webp")
_SOUNDS = ("audio/wav", "audio/flac")

for _each in (
    Kind(
        name="text",
        plural="texts",
        media_types=("text/plain",),
        check=values.text,
        wanted="a string",
        schema=schemas.text,
        unit="characters",
        textual=True,
        large=True,
        prompt="Type a text first.",
        answer=lambda output: schemas.described(output, {"type": "string"}),
        widget="said",
        purpose="Makes texts of {given}",
    ),
    Kind(
        name="image",
        plural="pictures",
        file=True,
        media_types=_PICTURES,
        bodies=("image/*",),
        extensions=values.IMAGES,
        drawing="image",
        check=values.image,
        plain=plain_files.is_plain_image,
        wanted="a string (the file in base64)",
        schema=schemas.base64(_PICTURES[0]),
        unit="pixels",
        field="image",
        large=True,
        prompt="Choose a picture first.",
        answer=schemas.file(*_PICTURES),
        widget="image",
        purpose="Makes pictures of {given}",
    ),
    Kind(
        name="audio",
        plural="recordings",
        file=True,
        media_types=_SOUNDS,
        bodies=("audio/*",),
        extensions=values.AUDIO,
        drawing="audio",
        check=values.audio,
        plain=plain_files.is_plain_recording,
        wanted="a string (the file in base64)",
        schema=schemas.base64(_SOUNDS[0]),
        unit="seconds",
        field="audio",
        large=True,
        prompt="Choose or record something first.",
        answer=schemas.file(*_SOUNDS),
        widget="audio",
        purpose="Makes recordings of {given}",
    ),
    Kind(
        name="number",
        plural="numbers",
        check=values.number,
        wanted="a number",
        schema=schemas.asked_number,
        parsed=True,
        field="number",
        answer=schemas.number,
        widget=lambda output: "share" if output.share else "facts",
        purpose="Says a number about {given}",
    ),
    Kind(
        name="category",
        plural="values",
        check=values.category,
        wanted="a string, a number or a boolean",
        schema=lambda entry, limits: {**schemas.ONE, **schemas.characters(limits)},
        field="category",
    ),
    Kind(
        name="date",
        plural="dates",
        check=values.text,
        wanted="a string (a date)",
        schema=schemas.text,
        unit="characters",
        textual=True,
        field="category",
    ),
    Kind(
        name="list",
        plural="lists",
        check=values.several,
        wanted="an array",
        schema=schemas.several,
        form=lambda entry, limits: {"type": "string", **schemas.characters(limits)},
        unit="items",
        parsed=True,
        several=True,
        field="list",
        answer=schemas.names,
        drawing="names",
        widget="names",
        purpose="Labels {given}",
    ),
    Kind(name="class", plural="classes", answer=schemas.named, widget="verdict", purpose="Puts {given} into classes"),
    Kind(name="classes", plural="classes", answer=schemas.shares, widget="bars", purpose="Puts {given} into classes"),
    Kind(
        name="spans",
        plural="spans",
        answer=schemas.spans,
        drawing="spans",
        widget="spans",
        purpose="Marks spans of {given}",
    ),
    Kind(
        name="segments",
        plural="segments",
        answer=schemas.segments,
        drawing="segments",
        widget="segments",
        purpose="Says what is said when in {given}",
    ),
    Kind(
        name="boxes",
        plural="boxes",
        answer=schemas.boxes,
        drawing="boxes",
        widget="boxes",
        purpose="Finds things in {given}",
    ),
    Kind(
        name="ranking",
        plural="rankings",
        answer=schemas.ranking,
        drawing="ranking",
        widget="ranking",
        purpose="Ranks items for {given}",
    ),
    Kind(
        name="attributions",
        plural="attributions",
        answer=schemas.attributions,
        drawing="attributions",
        widget="attributions",
        purpose="Says what answers about {given} are owed to",
    ),
    Kind(
        name="vector",
        plural="vectors",
        answer=schemas.vector,
        drawing="vector",
        widget="vector",
        purpose="Makes vectors of {given}",
    ),
    Kind(
        name="mask",
        plural="masks",
        file=True,
        media_types=("image/png",),
        drawing="mask",
        answer=schemas.file("image/png"),
        widget="mask",
        purpose="Marks areas of {given}",
    ),
    Kind(
        name="heatmap",
        plural="heatmaps",
        file=True,
        media_types=("image/png",),
        drawing="image",
        answer=schemas.file("image/png"),
        widget="image",
        purpose="Shows where {given} matter",
    ),
):
    register_kind(_each)
