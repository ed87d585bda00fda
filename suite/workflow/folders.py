"""What lies in a folder, a run or a bundle: opened, asked and measured in the same way."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.contracts.batch import Columns
from suite.runtime.files import is_bundle

if TYPE_CHECKING:
    from suite.bundles.bundle import Bundle
    from suite.runs.run import Run


def open(folder: str | Path, allow: tuple[str, ...] = ()) -> "Run | Bundle":
    """The run or the bundle in a folder.

    Args:
        folder: what ``suite train`` or ``suite export`` wrote.
        allow: packages whose classes it may name, besides the suite's.

    Raises:
        InputError: it is neither, or names a class that is not allowed.
    """
    if is_bundle(folder):
        from suite.bundles.bundle import Bundle

        return Bundle.open(folder, allow)
    from suite.runs import run

    return run.open(folder, allow)


def predict(folder: str | Path, inputs: Sequence[Any] | Columns, allow: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Answers of the run or bundle in ``folder``; see `Run.predict` and `Bundle.predict`."""
    return open(folder, allow).predict(inputs)


def predict_input(opened: "Run | Bundle", value: str) -> list[dict[str, Any]]:
    """Answers for what ``--input`` names: a text, a file, a folder or ``-``; each carries its input."""
    import json

    from suite.data.sources.files import read_input

    columns = read_input(value, opened.primary, opened.codec.texts)
    shown = columns.get("file", columns.get(opened.primary))
    if shown is None:  # whole records
        plain = [values.tolist() if isinstance(values, np.ndarray) else values for values in columns.values()]
        shown = [json.dumps(dict(zip(columns, row, strict=True))) for row in zip(*plain, strict=True)]
    return [
        {"input": item if isinstance(item, str) else str(item), **answer}
        for item, answer in zip(shown, opened.predict(columns), strict=True)
    ]


def evaluate(
    folder: str | Path, split: str = "test", batch_size: int = 0, allow: tuple[str, ...] = ()
) -> "Run | Bundle":
    """The run or bundle in ``folder`` with its metrics on ``split``."""
    if is_bundle(folder):
        from suite.exporting.measure import measured

        return measured(folder, split, batch_size, allow)
    from suite.runs import run

    return run.open(folder, allow).evaluate(split, batch_size)
