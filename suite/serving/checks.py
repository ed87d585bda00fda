"""Records of a request against the signature and the limits, before anything is decoded or encoded."""

import base64
import binascii
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.contracts.codec import FILES, Input
from suite.errors import closest
from suite.serving.errors import Refused
from suite.serving.json_body import kind
from suite.serving.settings import Settings

CHANNELS = 8
"""Most channels of a recording: each is as long as the whole."""
LARGEST = 1e308
"""Largest number, either way."""
ITEMS = 1_000
"""Most items of a list, where the signature says nothing."""


@dataclass(frozen=True)
class Checks:
    """What may be asked of one version of a model.

    Attributes:
        inputs: the codec's.
        primary: the input that a bare value stands for.
        texts: columns of a table that are texts whatever they look like.
        settings: the limits.
    """

    inputs: tuple[Input, ...]
    primary: str
    texts: tuple[str, ...]
    settings: Settings

    def records(self, values: Sequence[Any]) -> dict[str, list[Any]]:
        """JSON records, or bare values of the primary input, as columns; files as their bytes.

        Raises:
            Refused: more records than one request may have, or a value that the signature doesn't allow.
        """
        self.count(len(values))
        records = [self._record(value, place) for place, value in enumerate(values)]
        return self._columns(records, from_file=False)

    def written(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Columns as a file or a form holds them: those that are no inputs are left out, numbers may be texts.

        Raises:
            Refused: none of the inputs is there, or as for ``records``.
        """
        known = {each.name for each in self.inputs}
        kept = {name: list(values) for name, values in columns.items() if name in known}
        if not kept:
            raise Refused(
                400,
                "missing",
                f"none of the inputs is there (found: {', '.join(columns)})"[:300] + ".",
                fix=", ".join(sorted(known))[:300],
            )
        count = len(next(iter(kept.values())))
        self.count(count)
        return self._columns([{name: kept[name][i] for name in kept} for i in range(count)], from_file=True)

    def count(self, records: int) -> None:
        """Refuses more records than one request may have."""
        if records > self.settings.max_records:
            raise Refused(
                400,
                "too_many_records",
                f"{records} records, of at most {self.settings.max_records}.",
                field="inputs",
                fix="send several requests",
            )

    @property
    def files(self) -> bool:
        """Whether an input is a file, which takes long to decode."""
        return any(each.kind in FILES for each in self.inputs)

    def _record(self, value: Any, place: int) -> dict[str, Any]:
        names = [each.name for each in self.inputs]
        if not isinstance(value, dict):
            if self.primary in names:
                return {self.primary: value}
            raise Refused(
                400,
                "wrong_type",
                f"must be an object, not {kind(value)}.",
                field=f"inputs[{place}]",
                fix=", ".join(names)[:300],
            )
        unknown = next((name for name in value if name not in names), None)
        if unknown is not None:
            raise Refused(
                400,
                "unknown",
                "is no input of this model.",
                field=f"inputs[{place}].{unknown:.100}",
                fix=closest(unknown[:100], names) or ", ".join(names)[:300],
            )
        if not value:
            raise Refused(400, "empty", "the record is empty.", field=f"inputs[{place}]", fix=", ".join(names)[:300])
        return value

    def _columns(self, records: Sequence[Mapping[str, Any]], from_file: bool) -> dict[str, list[Any]]:
        """Checked values by column; columns that no record has are left out."""
        columns: dict[str, list[Any]] = {}
        for each in self.inputs:
            if each.required or any(each.name in record for record in records):
                columns[each.name] = [
                    self._value(each, record.get(each.name), f"inputs[{place}].{each.name}", from_file)
                    for place, record in enumerate(records)
                ]
        return columns

    def _value(self, each: Input, value: Any, field: str, from_file: bool) -> Any:
        if value is None:
            if each.required:
                raise Refused(400, "missing", f"a value is missing: {_WANTED[each.kind]} is wanted.", field=field)
            return None
        if from_file and isinstance(value, str) and each.kind in ("number", "list"):
            return _text(each, value, self.settings, field)  # the codec reads numbers and lists as tables write them
        return _CHECKS[each.kind](each, value, self.settings, field)


def _wrong_type(each: Input, value: Any, field: str) -> Refused:
    return Refused(400, "wrong_type", f"must be {_WANTED[each.kind]}, not {kind(value)}.", field=field)


def _least(*limits: float) -> float:
    """The strictest limit of those that are set."""
    return min((limit for limit in limits if limit), default=math.inf)


def _text(each: Input, value: Any, settings: Settings, field: str) -> str:
    if not isinstance(value, str):
        raise _wrong_type(each, value, field)
    most = _least(settings.max_characters, each.limit if each.kind == "text" else 0)
    if len(value) > most:
        raise Refused(400, "text_too_long", f"has {len(value):,} characters, of at most {most:,.0f}.", field=field)
    if not value.isascii():
        _check_unicode(value, field)
    return value


def _check_unicode(value: str, field: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        message = f"holds half of a surrogate pair at character {error.start}, which is no text."
        raise Refused(400, "invalid_text", message, field=field) from None


def _number(each: Input, value: Any, settings: Settings, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(each, value, field)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= LARGEST:
        raise Refused(400, "number_too_large", "is larger than any number that is computed with.", field=field)
    return number


def _category(each: Input, value: Any, settings: Settings, field: str) -> Any:
    if isinstance(value, str):
        return _text(each, value, settings, field)
    if not isinstance(value, bool | int | float):
        raise _wrong_type(each, value, field)
    _number(each, float(value) if isinstance(value, bool) else value, settings, field)
    return value


def _list(each: Input, value: Any, settings: Settings, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong_type(each, value, field)
    if len(value) > (most := _least(ITEMS, each.limit)):
        raise Refused(400, "list_too_long", f"has {len(value):,} items, of at most {most:,.0f}.", field=field)
    return [_category(_ITEM, item, settings, f"{field}[{place}]") for place, item in enumerate(value)]


def _image(each: Input, value: Any, settings: Settings, field: str) -> bytes:
    data = _bytes(each, value, field)
    width, height = _image_size(data, field)
    most = _least(settings.max_pixels, each.limit)
    if width * height > most:
        message = f"the image has {width:,} x {height:,} pixels, of at most {most:,.0f}."
        raise Refused(413, "too_many_pixels", message, field=field, fix="scale it down")
    return data


def _image_size(data: bytes, field: str) -> tuple[int, int]:
    """Width and height by the header; nothing is unpacked."""
    from PIL import Image, UnidentifiedImageError

    from suite.data.preprocessing.image import FORMATS

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if getattr(image, "is_animated", False):  # a property of the formats that have frames
                raise Refused(400, "animated_image", "the image is animated; a still one is wanted.", field=field)
            return image.width, image.height
    except Image.DecompressionBombError as error:
        raise Refused(413, "too_many_pixels", f"{error}.", field=field, fix="scale it down") from None
    except UnidentifiedImageError:
        message = f"the file is no image that is read here; {', '.join(FORMATS)} are."
        raise Refused(400, "unreadable_image", message, field=field) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Refused(400, "unreadable_image", f"the image is damaged: {error}"[:300], field=field) from None


def _audio(each: Input, value: Any, settings: Settings, field: str) -> bytes:
    data = _bytes(each, value, field)
    seconds, channels = _audio_size(data, field)
    most = _least(settings.max_seconds, each.limit)
    if seconds > most:
        message = f"the recording lasts {seconds:,.1f} s, of at most {most:g}."
        raise Refused(413, "recording_too_long", message, field=field, fix="cut it into parts")
    if channels > CHANNELS:
        message = f"the recording has {channels} channels, of at most {CHANNELS}."
        raise Refused(413, "too_many_channels", message, field=field, fix="mix it down to one")
    return data


def _audio_size(data: bytes, field: str) -> tuple[float, int]:
    """Seconds and channels by the header; nothing is unpacked."""
    import soundfile

    from suite.data.reading import AUDIO

    try:
        about = soundfile.info(io.BytesIO(data))
    except (soundfile.LibsndfileError, OSError, ValueError):
        message = f"the file is no recording that is read here, or a damaged one; {' '.join(AUDIO)} are."
        raise Refused(400, "unreadable_recording", message, field=field) from None
    return about.frames / max(about.samplerate, 1), about.channels


def _bytes(each: Input, value: Any, field: str) -> bytes:
    """An uploaded file as it is, or one in JSON: base64, with or without ``data:...;base64,`` before it."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise _wrong_type(each, value, field)
    head, comma, rest = value.partition(",")
    written = rest if comma and head.startswith("data:") else value
    try:
        return base64.b64decode(written, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(
            400,
            "invalid_base64",
            "is not base64.",
            field=field,
            fix="send the file itself, as multipart/form-data or as the body",
        ) from None


_Check = Callable[[Input, Any, Settings, str], Any]
_CHECKS: dict[str, _Check] = {
    "text": _text,
    "number": _number,
    "category": _category,
    "list": _list,
    "image": _image,
    "audio": _audio,
}
_WANTED = {
    "text": "a string",
    "number": "a number",
    "category": "a string, a number or a boolean",
    "list": "an array",
    "image": "a string (the file in base64)",
    "audio": "a string (the file in base64)",
}
_ITEM = Input(name="item", kind="category")
