"""Encoded rows as dense batches: which lengths rows are padded to, and the padding."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from suite.contracts.batch import Batch, Ragged


def decides_length(value: Any) -> bool:
    """Whether these rows are padded to their batch's bucket."""
    return isinstance(value, Ragged) and not value.to


def row_lengths(encoded: Mapping[str, Any]) -> np.ndarray:
    """The length (b,) that each row must be padded to at least."""
    return np.max([value.lengths for value in encoded.values() if decides_length(value)], axis=0)


def default_buckets(lengths: np.ndarray) -> tuple[int, ...]:
    """Padded lengths that waste little and compile seldom: about four, at multiples of 8 near the quantiles."""
    quantiles = np.quantile(lengths, [0.4, 0.7, 0.9, 1.0])
    return tuple(sorted({int(-(-max(q, 1) // 8) * 8) for q in quantiles}))


def bucket(encoded: Mapping[str, Any], lengths: Sequence[int]) -> int:
    """The least of ``lengths``, which rise, that holds the rows; past the last, the rows' own length in eights; 0 where
    rows are of one shape."""
    if not any(decides_length(value) for value in encoded.values()):
        return 0
    longest = int(row_lengths(encoded).max(initial=1))
    return next((length for length in lengths if length >= longest), -(-longest // 8) * 8)


def pad(encoded: dict[str, Any], real: np.ndarray, length: int) -> Batch:
    """Encoded rows (n, ...) as a batch of ``real.shape``, n being the number of True in ``real``.

    Ragged ``x`` becomes ``x`` (..., length) and ``x_mask`` (..., length), or ``x.to`` long where that is set;
    ``mask`` marks real rows.
    """
    batch: Batch = {"mask": real}
    for name, value in encoded.items():
        if isinstance(value, Ragged):
            dense, mask = value.padded(value.to or length)
            batch[name], batch[f"{name}_mask"] = _spread(dense, real), _spread(mask, real)
        else:
            batch[name] = _spread(np.asarray(value), real)
    return batch


def batched(encoded: dict[str, Any], lengths: Sequence[int]) -> Batch:
    """Encoded rows (n, ...) as a batch of n rows, padded to the least of ``lengths`` that holds them."""
    return pad(encoded, np.ones(count(encoded), bool), bucket(encoded, lengths))


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
