"""Encoded rows as dense batches: which lengths rows are padded to, and the padding."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from suite.contracts.batch import Batch, Ragged
from suite.errors import InputError

SEEDS = 1 << 32
"""How many seeds there are."""
Seed = int | Sequence[int] | np.ndarray
"""One for all rows, or one a row."""

Lengths = int | Mapping[str, int]
"""Padded length by axis; a number is that of the default axis."""
Buckets = Sequence[int] | Mapping[str, Sequence[int]]
"""Padded lengths by axis, rising; a sequence is that of the default axis."""


def row_seeds(seed: Seed, rows: int) -> np.ndarray:
    """The ``seed`` (rows,) uint32 of a batch of requests.

    Args:
        seed: one for all rows, so that equal requests have equal answers; or one a row.
        rows: how many there are.

    Raises:
        InputError: a seed is no whole number of 32 bits, or there are not as many as rows.
    """
    seeds = np.asarray(seed) if np.size(seed) else np.zeros(0, np.int64)
    if seeds.dtype.kind not in "iu" or seeds.ndim > 1 or not ((seeds >= 0) & (seeds < SEEDS)).all():
        fix = f"whole numbers from 0 to {SEEDS - 1}"
        raise InputError("seed", "must be whole numbers of 32 bits.", found=f"{seed!r:.80}", fix=fix)
    if seeds.ndim and len(seeds) != rows:
        fix = f"one number for all records, or {rows} of them"
        counts = f"{len(seeds)} for {rows} records"
        raise InputError("seed", "must be one number, or one a record.", found=counts, fix=fix)
    return np.broadcast_to(seeds, (rows,)).astype(np.uint32)


def by_axis(buckets: Buckets) -> dict[str, tuple[int, ...]]:
    """Axis -> its padded lengths, without axes that have none."""
    named = buckets if isinstance(buckets, Mapping) else {"": buckets}
    return {axis: tuple(lengths) for axis, lengths in named.items() if lengths}


def axes(encoded: Mapping[str, Any]) -> tuple[str, ...]:
    """The axes whose rows are padded to a bucket, in order of their names; the default one comes first."""
    return tuple(sorted({value.axis for value in encoded.values() if isinstance(value, Ragged) and not value.to}))


def row_lengths(encoded: Mapping[str, Any], axis: str = "") -> np.ndarray:
    """The length (b,) along ``axis`` that each row must be padded to at least."""
    rows = [value for value in encoded.values() if isinstance(value, Ragged) and not value.to and value.axis == axis]
    return np.max([value.lengths for value in rows], axis=0)


PROGRAM = 50_000
"""Positions, padded or not, that a small model trains on in the time that compiling one more program takes."""


def default_buckets(lengths: np.ndarray, passes: float = math.inf) -> tuple[int, ...]:
    """Padded lengths that waste little and compile seldom: about four, at multiples of 8 near the quantiles.

    Of few records fewer: a length goes whose rows cost less in the next one, all training long, than its program does.

    Args:
        lengths: of the rows.
        passes: how often training sees each row.
    """
    quantiles = np.quantile(lengths, [0.4, 0.7, 0.9, 1.0])
    buckets = sorted({int(-(-max(q, 1) // 8) * 8) for q in quantiles})
    while len(buckets) > 1:
        rows = np.bincount(np.searchsorted(buckets, lengths), minlength=len(buckets))[:-1]
        padding = rows * np.diff(buckets) * passes
        cheapest = int(padding.argmin())
        if padding[cheapest] >= PROGRAM:
            break
        del buckets[cheapest]
    return tuple(buckets)


def bucket(encoded: Mapping[str, Any], lengths: Sequence[int], axis: str = "") -> int:
    """The least of ``lengths``, which rise, that holds the rows along ``axis``; past the last, the rows' own length in
    eights; 0 where no rows run along it."""
    return fitting(row_lengths(encoded, axis), lengths) if axis in axes(encoded) else 0


def fitting(rows: np.ndarray, lengths: Sequence[int]) -> int:
    """The least of ``lengths``, which rise, that holds rows of these lengths; past the last, the longest in eights."""
    longest = int(rows.max(initial=1))
    return next((length for length in lengths if length >= longest), -(-longest // 8) * 8)


def padded_lengths(encoded: Mapping[str, Any], buckets: Buckets) -> dict[str, int]:
    """The padded length of each axis that the rows have: the least of its buckets that holds them."""
    known = by_axis(buckets)
    return {axis: bucket(encoded, known.get(axis, ()), axis) for axis in axes(encoded)}


def pad(encoded: dict[str, Any], real: np.ndarray, length: Lengths, seed: Seed | None = 0) -> Batch:
    """Encoded rows (n, ...) as a batch of ``real.shape``, n being the number of True in ``real``.

    Ragged ``x`` becomes ``x`` (..., n) and ``x_mask`` (..., n), n being the length of its axis, or ``x.to`` where that
    is set; ``mask`` marks real rows; ``seed`` is that of each of the n rows, see `row_seeds`, and absent where it is
    None.
    """
    lengths = length if isinstance(length, Mapping) else {"": length}
    batch: Batch = {"mask": real}
    if seed is not None:
        batch["seed"] = _spread(row_seeds(seed, int(real.sum())), real)
    for name, value in encoded.items():
        if isinstance(value, Ragged):
            dense, mask = value.padded(value.to or lengths[value.axis])
            batch[name], batch[f"{name}_mask"] = _spread(dense, real), _spread(mask, real)
        else:
            batch[name] = _spread(np.asarray(value), real)
    return batch


def batched(encoded: dict[str, Any], buckets: Buckets) -> Batch:
    """Encoded rows (n, ...) as a batch of n rows, each axis padded to the least of its buckets that holds them."""
    return pad(encoded, np.ones(count(encoded), bool), padded_lengths(encoded, buckets))


def _spread(rows: np.ndarray, real: np.ndarray) -> np.ndarray:
    if real.all():
        return rows.reshape(*real.shape, *rows.shape[1:])
    spread = np.zeros((*real.shape, *rows.shape[1:]), rows.dtype)
    spread[real] = rows
    return spread


def count(encoded: Mapping[str, Any]) -> int:
    """How many rows there are."""
    value = next(iter(encoded.values()))
    return len(value.lengths) if isinstance(value, Ragged) else len(value)
