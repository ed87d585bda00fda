"""The path of a request to a run or a bundle: columns are encoded, padded and answered, and what was said decoded."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from suite.contracts.batch import Columns
from suite.contracts.codec import Codec

Outputs = Callable[[dict[str, Any], int], Mapping[str, np.ndarray]]
"""(encoded rows (n, ...), rows that their batch is filled up to) -> the model's outputs on the n rows."""


def as_columns(inputs: Sequence[Any] | Columns, primary: str) -> Columns:
    """``inputs`` as columns: bare values, or one text, are those of the column ``primary``."""
    if isinstance(inputs, str):
        return {primary: [inputs]}
    return inputs if isinstance(inputs, Mapping) else {primary: list(inputs)}


def answer(
    codec: Codec, outputs: Outputs, inputs: Sequence[Any] | Columns, batch_size: int = 64
) -> list[dict[str, Any]]:
    """One decoded answer a record of ``inputs``, in order; see `as_columns`."""
    columns = as_columns(inputs, codec.primary)
    count = len(next(iter(columns.values()), ()))
    size = min(count, batch_size)
    answers: list[dict[str, Any]] = []
    for start in range(0, count, batch_size):
        part = {name: values[start : start + batch_size] for name, values in columns.items()}
        answers += codec.decode(outputs(codec.encode(part), size), part)
    return answers
