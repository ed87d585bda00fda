"""Types of the columns of tables: judged by all of their values, block by block, and alike in every format.

A column is held as int64, as float64 (nan for gaps), as texts, bytes or lists. Whole numbers that a float64 would
round, for their gaps or beyond 64 bits, are texts of their digits.
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite.contracts.codec import Codec
from suite.data import written
from suite.data.sources.arrow_values import (
    all_match,
    as_values,
    has_leading_zeros,
    is_string,
    items_of,
    json_of,
    parsed,
    text_of,
    texts,
)

FORMER, CURRENT = 1, 2
"""Rules of reading: those of runs begun with version 0.1, and those of today."""


@dataclass(frozen=True)
class Reading:
    """How a table is read.

    Attributes:
        delimiter: what separates fields; empty: judged by the first line.
        header: names of the columns, where the file has no header line.
        texts: columns that are texts whatever they look like.
        json: columns whose values are kept as JSON, whatever they hold.
        styles: (column, style) of columns of numbers whose style is known, see `suite.data.written.STYLES`.
        decimal: ``","`` or ``"."``, where a column of such numbers as 1,234 is to be read so; empty: judged.
        keep: names that are kept as they are, and so are their columns.
        rules: of reading, ``FORMER`` or ``CURRENT``.
    """

    delimiter: str = ""
    header: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    styles: tuple[tuple[str, str], ...] = ()
    decimal: str = ""
    keep: tuple[str, ...] = ()
    rules: int = CURRENT
    json: tuple[str, ...] = ()

    @classmethod
    def of_requests(cls, codec: Codec) -> "Reading":
        """How a table of requests to a codec is read: as that of its training was."""
        names = tuple(entry.name for entry in codec.inputs)
        return cls(texts=codec.texts, styles=tuple(codec.styles.items()), keep=names)

    def judge(self, name: str, cells: bool = False) -> "Judge":
        """What judges a column; ``cells``: of a CSV file."""
        return Judge(name in self.texts, cells, self.rules, dict(self.styles).get(name, ""), name in self.json)


@dataclass(frozen=True)
class ColumnType:
    """How a column is held.

    Attributes:
        kind: ``"int64"``, ``"float64"``, ``"text"``, ``"bytes"``, ``"list"``, ``"digits"``: texts of whole numbers, or
            ``"json"``: texts of JSON.
        style: how its numbers are written, of `suite.data.written.STYLES`.
        single: whether its numbers are of single precision, and become those that are written so: 0.1, not
            0.10000000149.
    """

    kind: str
    style: str = ""
    single: bool = False

    @property
    def schema(self) -> str:
        """What `Source.schema` calls it."""
        return {"int64": "int", "float64": "float"}.get(self.kind, "text")

    @property
    def written(self) -> str:
        """What `Source.styles` says of its numbers."""
        return written.DIGITS if self.kind == "digits" else self.style

    def convert(self, array: Any) -> Any:
        """An Arrow array, or JSON values, as numbers (n,), or as a list of n texts, bytes or lists; None: missing."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.kind == "json":
            return [None if value is None else json_of(value) for value in as_values(array)]
        if isinstance(array, list):
            convert: Callable[[Any], Any] = items_of if self.kind == "list" else text_of
            return [None if value is None else convert(value) for value in array]
        if self.kind == "text":
            return texts(array)
        if self.kind == "bytes":
            return array.to_pylist()
        if self.kind == "list":
            return [None if value is None else items_of(value) for value in array.to_pylist()]
        if is_string(array.type):
            array = self.cells(array)
        if self.kind == "digits":
            return [None if value is None else str(int(value)) for value in array.to_pylist()]
        if pa.types.is_decimal(array.type) or pa.types.is_null(array.type):
            array = array.cast(pa.float64() if self.kind == "float64" else pa.int64())
        if self.single and pa.types.is_float32(array.type):
            array = array.cast(pa.string())
        if self.kind == "float64":
            array = pc.fill_null(array.cast(pa.float64()), math.nan)
        return np.asarray(array.to_numpy(zero_copy_only=False), self.kind)

    def cells(self, array: Any) -> Any:
        """Written numbers, as an Arrow array with gaps: numbers, or, where they are too large, texts of them."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kind = pa.int64() if self.kind == "int64" else pa.float64()
        if not self.style and self.kind != "digits" and (numbers := parsed(array, kind)) is not None:
            return numbers
        trimmed = pc.utf8_trim_whitespace(array)
        gaps = pc.fill_null(pc.is_in(trimmed, value_set=pa.array(written.GAPS)), True)
        values = pc.if_else(gaps, pa.scalar(None, trimmed.type), trimmed)
        if self.kind == "digits":
            return values
        if self.style == "decimal comma":
            values = pc.replace_substring(pc.replace_substring_regex(values, f"[.'’{written.BLANKS}]", ""), ",", ".")
        elif self.style:
            values = pc.replace_substring(values, ",", "")
        values = pc.replace_substring_regex(values, r"^\+", "")
        try:
            return values.cast(kind)
        except pa.ArrowInvalid:  # beyond what Arrow parses, such as 1e400
            return pa.array([None if value is None else float(value) for value in values.to_pylist()], pa.float64())


class Judge:
    """What a column can be, told its values block by block; the order and the size of the blocks do not matter.

    Args:
        text: whether the column is a text whatever it looks like.
        cells: whether strings are cells of a CSV file, which numbers are written in; in typed formats a string is a
            text, but for numbers with commas.
        rules: ``FORMER`` or ``CURRENT``.
        style: how its numbers are written, where it is known; empty: judged.
        json: whether its values are kept as JSON.
    """

    def __init__(
        self, text: bool = False, cells: bool = False, rules: int = CURRENT, style: str = "", json: bool = False
    ):
        self._json = json
        self._text, self._rules, self._style = text, rules, style
        self._kinds: set[str] = set()
        commas = (style,) if style else ("decimal comma", "thousands comma") if rules >= CURRENT else ()
        self._open = dict.fromkeys([*(("integer", "") if cells and not style else ()), *commas], True)
        self._filled, self._gaps, self._low, self._high = 0, 0, 0, 0
        self._commas = self._single = False

    @property
    def decided(self) -> bool:
        """Whether the column is a text, so that further values change nothing."""
        return (
            self._json
            or self._text
            or "other" in self._kinds
            or ("string" in self._kinds and not any(self._open.values()))
        )

    def add(self, array: Any) -> None:
        """Look at one more block, an Arrow array."""
        import pyarrow as pa

        kind = array.type
        if pa.types.is_null(kind):
            self._gaps += len(array)
        elif is_string(kind):
            self._kinds.add("string")
            if not self.decided:
                self._add_strings(array)
        elif pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale <= 0):
            self._kinds.add("integer")
            self._add_integers(array)
        elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            self._kinds.add("float")
            self._single = self._single or (pa.types.is_float32(kind) and self._rules >= CURRENT)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            self._kinds.add("list" if self._rules >= CURRENT else "other")
        else:
            self._kinds.add("bytes" if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else "other")

    def _add_integers(self, array: Any) -> None:
        import pyarrow.compute as pc

        self._gaps += array.null_count
        bounds = pc.min_max(array).as_py()
        if bounds["min"] is not None:
            self._reach(int(bounds["min"]), int(bounds["max"]))

    def mark(self, kind: str) -> None:
        """Take note of values that are ``"float"``, ``"list"`` or ``"other"``, which makes a text."""
        self._kinds.add(kind)

    def add_integers(self, values: Sequence[int], gaps: int) -> None:
        """Look at whole numbers of any size, and at a number of gaps beside them."""
        self._kinds.add("integer")
        self._gaps += gaps
        self._reach(min(values, default=0), max(values, default=0))

    def _reach(self, low: int, high: int) -> None:
        self._low, self._high = min(self._low, low), max(self._high, high)

    def _add_strings(self, array: Any) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        if self._rules >= CURRENT and self._add_parsed(array):
            return
        values = pc.utf8_trim_whitespace(array)
        words = written.GAPS if self._rules >= CURRENT else written.NULLS
        gaps = pc.is_in(values if self._rules >= CURRENT else array, value_set=pa.array(words))
        values = values.filter(pc.invert(pc.fill_null(gaps, True))).drop_null()
        self._gaps += len(array) - len(values)
        if not len(values):
            return
        self._filled += len(values)
        self._commas = self._commas or bool(pc.any(pc.match_substring(values, ",")).as_py())
        patterns = {"integer": written.INTEGER, **written.STYLES}
        if self._rules < CURRENT:  # leading zeros did not count
            patterns = {"integer": "[+-]?[0-9]+", "": written.DECIMAL.replace(written.WHOLE, "[0-9]+")}
        for style, still in self._open.items():
            if still:
                self._open[style] = all_match(values, patterns[style])
        if self._open.get("integer"):
            self._add_digits(values)

    def _add_parsed(self, array: Any) -> bool:
        """Whether all strings are numbers in Arrow's eyes too, which is quick to see; then they are looked at."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self._open.get("") or not len(array) or has_leading_zeros(array):
            return False
        if self._open["integer"] and (whole := parsed(array, pa.int64())) is not None:
            bounds = pc.min_max(whole).as_py()
            self._reach(bounds["min"], bounds["max"])
        elif (numbers := parsed(array, pa.float64())) is not None and pc.all(pc.is_finite(numbers)).as_py():
            if self._open["integer"] and all_match(array, written.INTEGER):
                return False  # beyond 64 bits
            self._open["integer"] = False
            self._open["decimal comma"] = self._open["decimal comma"] and all_match(array, written.COMMA)
        else:
            return False
        self._filled += len(array)
        return True

    def _add_digits(self, values: Any) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            bounds = pc.min_max(pc.replace_substring_regex(values, r"^\+", "").cast(pa.int64())).as_py()
            self._reach(bounds["min"], bounds["max"])
        except pa.ArrowInvalid:  # beyond 64 bits
            whole = list(map(int, values.to_pylist()))
            self._reach(min(whole), max(whole))

    def type(self, ambiguous: str = "") -> ColumnType:
        """The type by all values added.

        Args:
            ambiguous: the style of a column whose numbers are ones in two, such as ``1,234``; empty: it is a text.
        """
        if self._json:
            return ColumnType("json")
        if self._text or "other" in self._kinds or len(self._kinds - {"integer", "float"}) > 1:
            return ColumnType("text")
        for kind in ("list", "bytes"):
            if kind in self._kinds:
                return ColumnType(kind)
        if "float" in self._kinds:
            return ColumnType("float64", single=self._single)
        if "integer" in self._kinds or (self._filled and self._open.get("integer")):
            fits = written.INT64[0] <= self._low and self._high <= written.INT64[1]
            exact = max(-self._low, self._high) <= written.EXACT
            return ColumnType("int64" if fits and not self._gaps else "float64" if exact else "digits")
        if self._filled and self._open.get(""):
            return ColumnType("float64")
        styles = [style for style, still in self._open.items() if still and style.endswith("comma")]
        style = styles[0] if len(styles) == 1 else ambiguous if styles else ""
        return ColumnType("float64", style) if style and (self._commas or self._style) else ColumnType("text")

    @property
    def whole(self) -> bool:
        """Whether all values that are there are whole numbers of 64 bits."""
        numbers = self._kinds == {"integer"} or bool(self._filled and self._open.get("integer"))
        fits = written.INT64[0] <= self._low and self._high <= written.INT64[1]
        return numbers and fits and not self._text

    @property
    def ambiguous(self) -> bool:
        """Whether the numbers are ones with a decimal comma as well as ones with commas between thousands."""
        return self.type("decimal comma") != self.type("thousands comma")


def judged(judges: Mapping[str, Judge], delimiter: str = "", decimal: str = "") -> dict[str, ColumnType]:
    """The type of each column. What is ambiguous in one is decided by the others, then by the file.

    Args:
        judges: column -> what is known of it.
        delimiter: between the fields of a CSV file: beside ``;`` a comma is a decimal comma, and it is one between
            thousands where fields with commas are quoted; empty: in other formats, where ambiguous columns are texts.
        decimal: ``","`` or ``"."``, where the user said so.
    """
    styles = {judge.type().style for judge in judges.values()} - {""}
    usual = {";": "decimal comma", ",": "thousands comma"}.get(delimiter, "")
    style = {",": "decimal comma", ".": "thousands comma"}.get(decimal, "")
    style = style or (styles.pop() if len(styles) == 1 else usual)
    return {name: judge.type(style) for name, judge in judges.items()}


def of_values(values: list[Any], name: str, how: Reading, judge: "Judge | None" = None) -> tuple[Any, Judge]:
    """JSON values, of which None is a gap, as `ColumnType.convert` takes them, and what is known of them; ``judge``
    knows of earlier blocks of them."""
    import pyarrow as pa

    judge, kinds = judge or how.judge(name), {type(value) for value in values} - {type(None)}
    if name in how.json:
        return values, judge
    if name in how.texts or not kinds:
        judge.mark("other")
        if how.rules >= CURRENT:  # 5.0 is the text 5
            values = [int(v) if isinstance(v, float) and v.is_integer() else v for v in values]
    elif kinds == {int}:
        judge.add_integers([value for value in values if value is not None], values.count(None))
        if judge.type().kind != "digits":
            return pa.array(values, pa.int64()), judge
    elif kinds <= {int, float}:
        judge.mark("float")
        return pa.array([None if value is None else _float(value) for value in values], pa.float64()), judge
    elif kinds == {str} and (dict(how.styles).get(name) or any(value and "," in value for value in values)):
        with contextlib.suppress(UnicodeEncodeError):  # half of a surrogate pair
            array = pa.array(values, pa.string())
            judge.add(array)
            return array, judge
        judge.mark("other")
    else:
        judge.mark("list" if kinds == {list} and how.rules >= CURRENT else "other")
    return values, judge


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
