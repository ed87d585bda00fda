"""Values of Arrow arrays: strings as numbers, other values as texts or as the items of lists."""

import json
from collections.abc import Iterable
from typing import Any

FIRST = 256
"""Values of an array that are looked at before the others."""


def parsed(array: Any, kind: Any) -> Any:
    """Strings as numbers; None where one is none."""
    import pyarrow as pa

    try:
        return None if array.null_count else array.cast(kind)
    except pa.ArrowInvalid:
        return None


def has_leading_zeros(array: Any) -> bool:
    """Whether a string begins with a zero before another digit, or a letter, as 007 and 0x1f do."""
    import pyarrow.compute as pc

    zeros = array.filter(pc.match_substring_regex(array, "^ *[+-]?0"))
    return bool(len(zeros)) and bool(pc.any(pc.match_substring_regex(zeros, "^ *[+-]?0[0-9a-zA-Z]")).as_py())


def all_match(values: Any, pattern: str) -> bool:
    """Whether all strings match; the first few are looked at first."""
    import pyarrow.compute as pc

    matches = lambda part: bool(pc.all(pc.match_substring_regex(part, f"^(?:{pattern})$")).as_py())
    return matches(values.slice(0, FIRST)) and (len(values) <= FIRST or matches(values))


def is_string(kind: Any) -> bool:
    """Whether an Arrow type is one of texts."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def decoded(array: Any) -> Any:
    """An Arrow array without a dictionary or another wrapping: half floats and views as plain types."""
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array


def texts(array: Any) -> list[str | None]:
    """Values as texts: dates and times as Python writes them, to the nanosecond where there are any."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if is_string(kind):
        values: list[str | None] = array.to_pylist()
        return values
    if (pa.types.is_timestamp(kind) or pa.types.is_time64(kind)) and kind.unit == "ns":
        micro = pa.timestamp("us", kind.tz) if pa.types.is_timestamp(kind) else pa.time64("us")
        try:
            array = array.cast(micro)
        except pa.ArrowInvalid:
            return list(pc.cast(array, pa.string()).to_pylist())
    if pa.types.is_duration(kind) and kind.unit == "ns":
        array = array.cast(pa.duration("us"), safe=False)
    return [None if value is None else text_of(value) for value in array.to_pylist()]


def text_of(value: Any) -> str:
    """A value that is no number as text: lists as their items between bars, a missing one empty."""
    if isinstance(value, list | tuple):
        return "|".join(map(str, value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def as_values(array: Any) -> list[Any]:
    """An Arrow array, or a list of values of JSON, as a list."""
    return array if isinstance(array, list) else array.to_pylist()  # type: ignore[no-any-return]


def json_of(value: Any) -> str:
    """A value as JSON; a text is JSON already."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=text_of)


def items_of(row: Iterable[Any]) -> list[str]:
    """The items of a list as texts, without missing and empty ones; whole numbers without a fraction."""
    texts = [text_of(int(item) if isinstance(item, float) and item.is_integer() else item) for item in row]
    return [text.strip() for text in texts if text.strip()]
