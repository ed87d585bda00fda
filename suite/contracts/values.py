"""Checks of values against an Input, before anything is decoded: types, sizes, headers of files."""

import base64
import binascii
import io
import math
import re
from collections.abc import Mapping
from typing import Any

from suite.contracts.plain_files import TIFF, tiff_size
from suite.contracts.signature import Input

CHANNELS = 8
"""Most channels of a recording: each is as long as the whole."""
MAX_RATE = 1_000_000
"""Most samples a second of a recording."""
LARGEST = 1e308
"""Largest number, either way."""
ITEMS = 1_000
"""Most items of a list, where the signature says nothing."""
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
"""Formats that Pillow may decode; its parsers of rarer formats stay closed."""
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
"""Extensions of images."""
AUDIO = (".wav", ".flac", ".ogg", ".mp3")
"""Extensions of recordings."""
AUDIO_FORMATS = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
    "OGG": ("VORBIS", "OPUS"),
    "MP3": ("MPEG_LAYER_III",),
}
"""Formats and encodings that libsndfile may decode, by its names; its parsers of some 20 rarer formats stay closed."""
AUDIO_READ = "WAV (PCM, float, A-law, µ-law), FLAC, OGG (Vorbis, Opus) and MP3 are read"
"""The same in words."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")

Limits = Mapping[str, float]
"""A unit (``"characters"``, ``"pixels"``, ``"seconds"``) -> how many of it one value may have."""


class Unfit(Exception):
    """A value that does not fit its Input.

    Args:
        code: the reason as one word, for programs.
        message: the reason as the rest of a sentence that begins with the input's name.
        fix: what can be sent instead.
        status: of HTTP: 400 for what is wrong, 413 for what is too large.
        place: the part of the value at fault, such as ``"[2]"``.
    """

    def __init__(self, code: str, message: str, *, fix: str = "", status: int = 400, place: str = ""):
        super().__init__(message)
        self.code, self.message, self.fix, self.status, self.place = code, message, fix, status, place


def json_type(value: Any) -> str:
    """What JSON calls a value, with its article."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "an object")


def wrong_type(wanted: str, value: Any) -> Unfit:
    """The refusal of a value that is none of ``wanted``, such as ``"a string"``."""
    return Unfit("wrong_type", f"must be {wanted}, not {json_type(value)}.")


def least(*limits: float) -> float:
    """The strictest limit of those that are set."""
    return min((limit for limit in limits if limit), default=math.inf)


def text(entry: Input, value: Any, limits: Limits) -> str:
    """A string of Unicode, within the limit of the input and of all texts."""
    return characters(value, least(limits.get("characters", 0), entry.limit))


def characters(value: Any, most: float, wanted: str = "a string") -> str:
    """A string of Unicode of at most ``most`` characters."""
    if not isinstance(value, str):
        raise wrong_type(wanted, value)
    if len(value) > most:
        raise Unfit("text_too_long", f"has {len(value):,} characters, of at most {most:,.0f}.")
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError as error:
        message = f"holds half of a surrogate pair at character {error.start}, which is no text."
        raise Unfit("invalid_text", message) from None
    return value


def number(entry: Input, value: Any, limits: Limits) -> float:
    """A finite number, within the bounds of the input."""
    wanted, fix = wanted_number(entry), "" if entry.default is None else f'"{entry.name}": {entry.default:g}'
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unfit("wrong_type", f"must be {wanted}, not {json_type(value)}.", fix=fix)
    try:
        parsed = float(value)
    except OverflowError:
        parsed = math.inf
    within = (entry.low is None or parsed >= entry.low) and (entry.high is None or parsed <= entry.high)
    if not within or (entry.whole and parsed != parsed // 1):
        raise Unfit("invalid_input", f"must be {wanted}, not {parsed:.15g}.", fix=fix)
    if not abs(parsed) <= LARGEST:
        raise Unfit("number_too_large", "is larger than any number that is computed with.")
    return parsed


def wanted_number(entry: Input) -> str:
    """The numbers that an input takes, in words: "a whole number from 1 to 100"."""
    kind = "a whole number" if entry.whole else "a number"
    low, high = entry.low, entry.high
    return kind if low is None or high is None else f"{kind} from {low:g} to {high:g}"


def written_number(text: str) -> float | str:
    """The number that a cell of a table or a field of a form writes; the text itself where it writes none."""
    return float(text) if _NUMBER.fullmatch(text.strip()) else text


def category(entry: Input, value: Any, limits: Limits) -> Any:
    """A string, a number or a boolean."""
    if isinstance(value, str):
        return characters(value, least(limits.get("characters", 0)))
    if not isinstance(value, bool | int | float):
        raise wrong_type("a string, a number or a boolean", value)
    number(entry, float(value) if isinstance(value, bool) else value, limits)
    return value


def several(entry: Input, value: Any, limits: Limits) -> list[Any]:
    """A list of categories."""
    if not isinstance(value, list):
        raise wrong_type("an array", value)
    if len(value) > (most := least(ITEMS, entry.limit)):
        raise Unfit("list_too_long", f"has {len(value):,} items, of at most {most:,.0f}.")
    items = []
    for place, item in enumerate(value):
        try:
            items.append(category(entry, item, limits))
        except Unfit as error:
            error.place = f"[{place}]{error.place}"
            raise
    return items


def image(entry: Input, value: Any, limits: Limits) -> bytes:
    """The bytes of an image, its size judged by the header. Of an animation the codec takes the first frame."""
    data = content(value)
    most = least(limits.get("pixels", 0), entry.limit)
    width, height = _image_size(data, most)
    if width * height > most:
        message = f"the image is {width} wide, {height} high: {width * height:,} pixels, of at most {most:,.0f}."
        raise Unfit("too_many_pixels", message, status=413, fix="scale it down")
    return data


def _image_size(data: bytes, most: float) -> tuple[int, int]:
    """Width and height by the header; nothing is unpacked. The words on more than Pillow's own limit name ``most``."""
    from PIL import Image, UnidentifiedImageError

    try:
        if data.startswith(TIFF):  # of which Pillow reads every entry to tell the size, be they huge
            return tiff_size(data)
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as opened:
            return opened.width, opened.height
    except Image.DecompressionBombError as error:
        most = least(most, 2 * (Image.MAX_IMAGE_PIXELS or 0))
        message = f"the image has {image_fault(error)}, of at most {most:,.0f}."
        raise Unfit("too_many_pixels", message, status=413, fix="scale it down") from None
    except UnidentifiedImageError:
        message = f"the file is no image that is read here; {', '.join(IMAGE_FORMATS)} are."
        raise Unfit("unreadable_image", message) from None
    except Exception as error:  # of damaged files Pillow raises whatever its parsers do: IndexError, struct.error, ...
        raise Unfit("unreadable_image", f"the image is damaged: {image_fault(error)}"[:300]) from None


def image_fault(error: Exception) -> str:
    """What Pillow raised, in words of ours where it refuses what would be large when it is unpacked: the pixels that
    it counted, or a text or colour profile."""
    from PIL import Image

    text = str(error)
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        count = re.search(r"\d+", text)
        return f"{int(count[0]):,} pixels" if count else "too many pixels"
    if "too large" in text.lower() and "MAX_TEXT" in text:
        return "a text or colour profile in it is too large when it is unpacked"
    if isinstance(error, OSError | SyntaxError | ValueError):
        return text
    return f"{type(error).__name__}: {text}"


def audio(entry: Input, value: Any, limits: Limits) -> bytes:
    """The bytes of a recording, its length judged by the header."""
    data = content(value)
    seconds, channels, rate = _audio_size(data)
    if rate > MAX_RATE:
        message = f"the recording has {rate:,} samples a second, of at most {MAX_RATE:,}."
        raise Unfit("sample_rate_too_high", message, fix="resample it")
    most = least(limits.get("seconds", 0), entry.limit)
    if seconds > most:
        message = f"the recording lasts {seconds:,.1f} s, of at most {most:g}."
        raise Unfit("recording_too_long", message, status=413, fix="cut it into parts")
    if channels > CHANNELS:
        message = f"the recording has {channels} channels, of at most {CHANNELS}."
        raise Unfit("too_many_channels", message, status=413, fix="mix it down to one")
    return data


def _audio_size(data: bytes) -> tuple[float, int, int]:
    """Seconds, channels and samples a second by the header; nothing is unpacked."""
    import soundfile

    unknown = Unfit("unreadable_recording", f"the file is no recording that is read here; {AUDIO_READ}.")
    if not begins_as_audio(data[:4]):
        raise unknown
    try:
        about = soundfile.info(io.BytesIO(data))
    except Exception:  # of damaged files soundfile raises errors of five kinds
        message = f"the file is no recording that is read here, or a damaged one; {AUDIO_READ}."
        raise Unfit("unreadable_recording", message) from None
    if about.subtype not in AUDIO_FORMATS.get(audio_format(about.format), ()):
        raise unknown
    return about.frames / max(about.samplerate, 1), about.channels, about.samplerate


def begins_as_audio(head: bytes) -> bool:
    """Whether the first four bytes of a file are those of a recording of AUDIO_FORMATS, of MP3 with or without tags."""
    return head in (b"RIFF", b"fLaC", b"OggS") or head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")


def audio_format(name: str) -> str:
    """A format of libsndfile's by its name in AUDIO_FORMATS: a WAV of many channels or bits is its WAVEX."""
    return "WAV" if name == "WAVEX" else name


def content(value: Any) -> bytes:
    """The bytes of a file: an uploaded one as it is, or one in JSON: base64, with or without ``data:...;base64,``."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise wrong_type("a string (the file in base64)", value)
    head, comma, rest = value.partition(",")
    try:
        return base64.b64decode(rest if comma and head.startswith("data:") else value, validate=True)
    except (binascii.Error, ValueError):
        fix = "send the file itself, as multipart/form-data or as the body"
        raise Unfit("invalid_base64", "is not base64.", fix=fix) from None
