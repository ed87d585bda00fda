"""The path of a request to a run or a bundle: columns are encoded, padded and answered, and what was said decoded."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from suite.codecs.columns import check_columns, told, unknown_input
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec
from suite.data.pipeline.padding import Seed, row_seeds
from suite.errors import InputError, RunError, closest
from suite.runtime import json_files

T = TypeVar("T")
Outputs = Callable[[dict[str, Any], int, np.ndarray], Mapping[str, np.ndarray]]
"""(encoded rows (n, ...), rows that their batch is filled up to, seeds (n,)) -> the model's outputs on the n rows."""


def chosen(programs: Mapping[str, T], name: str) -> T:
    """The program of that name.

    Raises:
        InputError: there is none.
    """
    if name not in programs:
        fix = f"--program {shlex.quote(closest(name, programs) or next(iter(programs)))}"
        raise InputError(f'program "{name}"', "is none of this model's.", found=", ".join(programs), fix=fix)
    return programs[name]


def as_columns(inputs: Sequence[Any] | Columns, primary: str) -> Columns:
    """``inputs`` as columns of one length: bare values, or one text, are those of the column ``primary``.

    Raises:
        InputError: a column is none, or has not as many values as there are records.
    """
    if isinstance(inputs, str):
        return {primary: [inputs]}
    if not isinstance(inputs, Mapping):
        return {primary: list(inputs)}
    for name, values in inputs.items():
        if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
            fix = f'"{name}": [{told(values)}]'
            raise InputError(f'input "{name}"', "must be a list, of one value a record.", found=told(values), fix=fix)
    records = len(inputs.get(primary, next(iter(inputs.values()), ())))
    for name, values in inputs.items():
        if len(values) != records:
            count = f"{len(values):,} value{'' if len(values) == 1 else 's'} for {records:,} record"
            problem = f"has {count}{'' if records == 1 else 's'}."
            one = f"{told(next(iter(values))):.40}" if len(values) else "None"
            raise InputError(f'input "{name}"', problem, fix=f'"{name}": [{one}] * {records}, or one value a record')
    return inputs


def check_request(codec: Codec, columns: Columns, whole: bool = False) -> list[str]:
    """What a user should know of the columns of a request, a line each; see `check_columns`.

    Raises:
        InputError: a column is misspelt or missing, or a record has a key that is no input.
    """
    opened, names = codec.opened(columns), [entry.name for entry in codec.inputs]
    extra = [name for name in check_columns(codec.inputs, opened, whole) if name != "file"]
    if extra and opened is not columns:  # records in JSON, as a server is sent them
        raise unknown_input(extra[0], closest(extra[0], names) or f"{', '.join(names):.300}")
    absent = [entry.name for entry in codec.inputs if entry.name not in opened and not entry.option]
    return [
        *([f"columns that are not read: {', '.join(extra)}"] if extra else []),
        *([f"inputs that no record has, and count as missing: {', '.join(absent)}"] if absent else []),
    ]


BATCH = 64
"""Records answered together."""


def answer(
    codec: Codec, outputs: Outputs, inputs: Sequence[Any] | Columns, seed: Seed = 0, batch_size: int = BATCH
) -> list[dict[str, Any]]:
    """One decoded answer a record of ``inputs``, in order; see `as_columns` and `row_seeds`."""
    columns = as_columns(inputs, codec.primary)
    count = len(next(iter(columns.values()), ()))
    if count:
        check_columns(codec.inputs, codec.opened(columns))
    rows, seeds = codec.rows_of(columns) if count else None, row_seeds(seed, count)
    size = min(count if rows is None else int(rows.sum()), batch_size)
    answers: list[dict[str, Any]] = []
    for part in _parts(rows, count, batch_size):
        records = {name: values[part] for name, values in columns.items()}
        said = computed(outputs, codec, records, size, seeds[part])
        answers += worded(codec.decode, said, records)
    return answers


def computed(
    outputs: Outputs, codec: Codec, columns: Columns, size: int, seeds: np.ndarray
) -> Mapping[str, np.ndarray]:
    """What the model says of the rows of records (b, ...), each array (n, ...).

    Args:
        outputs: see `Outputs`.
        codec: encodes them; a record may be several rows, see `Codec.rows_of`.
        columns: the records.
        size: rows that are computed together.
        seeds: (b,), of the records; their rows have the same.
    """
    counts, rows = codec.rows_of(columns), codec.encode(columns)
    if counts is None:
        return outputs(rows, size, seeds)
    seeds = np.repeat(seeds, counts)
    said = [
        outputs({name: value[start : start + size] for name, value in rows.items()}, size, seeds[start : start + size])
        for start in range(0, len(seeds), size)
    ]
    return {name: np.concatenate([part[name] for part in said]) for name in said[0]}


def _parts(rows: np.ndarray | None, count: int, most: int) -> Iterator[slice]:
    """Neighbouring records that together have at most so many rows, or are one, so that memory holds what a batch
    needs."""
    begin = total = 0
    for place in range(count):
        of_this = 1 if rows is None else int(rows[place])
        if total and total + of_this > most:
            yield slice(begin, place)
            begin, total = place, 0
        total += of_this
    if count:
        yield slice(begin, count)


def answer_each(
    codec: Codec, outputs: Outputs, columns: Columns, seed: Seed = 0, batch_size: int = BATCH, every: bool = True
) -> list[dict[str, Any] | InputError]:
    """As `answer`, but a record that cannot be answered gets its error, and the others their answers; with ``every``,
    classifiers name every class, see `Codec.decode_all`."""
    columns = as_columns(columns, codec.primary)
    count = len(next(iter(columns.values()), ()))
    seeds = row_seeds(seed, count)
    answers: list[dict[str, Any] | InputError] = [InputError("record", "has no answer")] * count

    def attempt(places: list[int]) -> None:
        part = _at(columns, places)
        try:
            said = computed(outputs, codec, part, batch_size, seeds[places])
            decoded = worded(codec.decode_all if every else codec.decode, said, part)
        except InputError as error:
            if len(places) == 1:
                answers[places[0]] = error
            else:
                for some in _apart(codec, columns, places, answers):
                    attempt(some)
            return
        for place, value in zip(places, decoded, strict=True):
            answers[place] = value

    for part in _parts(_rows_where_known(codec, columns, count), count, batch_size):
        attempt(list(range(part.start, part.stop)))
    return answers


def _rows_where_known(codec: Codec, columns: Columns, count: int) -> np.ndarray | None:
    """As `Codec.rows_of`, with one row for a record of which that cannot be said: its error is said in its turn."""
    try:
        return codec.rows_of(columns) if count else None
    except InputError:
        if count == 1:
            return None
        rows = [_rows_where_known(codec, _at(columns, [place]), 1) for place in range(count)]
        return np.array([1 if row is None else int(row[0]) for row in rows])


def worded(
    decode: Callable[[Mapping[str, np.ndarray], Columns], Sequence[dict[str, Any]]],
    outputs: Mapping[str, np.ndarray],
    columns: Columns,
) -> Sequence[dict[str, Any]]:
    """What ``Codec.decode``, or ``decode_all``, makes of the outputs.

    Raises:
        RunError: the codec has no words for them, such as a name for a place: it is not that of this program.
    """
    try:
        return decode(outputs, columns)
    except LookupError as error:
        raise RunError(
            "the program gives what its codec has no name for: the folder holds files that do not belong together "
            f"({json_files.in_words(error)})"
        ) from error


def _at(columns: Columns, places: Sequence[int]) -> Columns:
    return {
        name: values[list(places)] if isinstance(values, np.ndarray) else [values[place] for place in places]
        for name, values in columns.items()
    }


def _apart(
    codec: Codec, columns: Columns, places: list[int], answers: list[dict[str, Any] | InputError]
) -> list[list[int]]:
    """Records of a refused batch, without those that cannot be encoded, whose errors go into ``answers``; in two
    halves where all of them can be."""
    encodable = []
    for place in places:
        try:
            codec.encode(_at(columns, [place]))
            encodable.append(place)
        except InputError as error:
            answers[place] = error
    if len(encodable) < len(places):
        return [encodable] if encodable else []
    half = len(encodable) // 2
    return [encodable[:half], encodable[half:]]
