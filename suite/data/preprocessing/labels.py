"""Class names, learnt from the training split."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.reading import changed
from suite.errors import InputError, closest


@dataclass(frozen=True, kw_only=True)
class Labels(Preprocessor):
    """The names of the classes, in the order of the model's outputs: the data's own, or the sorted distinct values."""

    suffix: ClassVar[str] = ".json"

    column: str = "label"
    """Field of the task that names the column of labels."""

    @property
    def names(self) -> list[str]:
        """Class names, by output."""
        return _stored(self.file, changed(self.file))[0]

    @property
    def _indexed(self) -> bool:
        """Whether the data holds positions in ``names`` rather than names."""
        return _stored(self.file, changed(self.file))[1]

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the names to ``path``.

        Raises:
            InputError: fewer than two distinct values, or far too many to be classes.
        """
        names = source.classes.get(column)
        indexed = names is not None
        if names is None:
            names = _distinct(source[np.arange(len(source))][column], column)
        text = json.dumps({"names": names, "indexed": indexed}, ensure_ascii=False, indent=1)
        path.write_text(text, encoding="utf-8")

    def sizes(self) -> dict[str, int]:
        """``outputs``: number of classes."""
        return {"outputs": len(self.names)}

    def encode(self, values: Sequence[Any] | np.ndarray) -> np.ndarray:
        """Class of each value (b,) int32: positions stay as they are, names are looked up.

        Raises:
            InputError: a value that is no class of the training split.
        """
        array = np.asarray(values)
        if self._indexed and array.dtype.kind in "iub":
            wrong = array[(array < 0) | (array >= len(self.names))]
            if wrong.size:
                raise self._unseen(str(wrong[0]))
            return array.astype(np.int32)
        places = {name: place for place, name in enumerate(self.names)}
        keys = [_name(value) for value in (values.tolist() if isinstance(values, np.ndarray) else values)]
        unseen = next((key for key in keys if key not in places), None)
        if unseen is not None:
            raise self._unseen(unseen)
        return np.array([places[key] for key in keys], np.int32)

    def _unseen(self, value: str) -> InputError:
        near = closest(value, self.names)
        known = f"{', '.join(self.names[:20])}{' ...' if len(self.names) > 20 else ''}"
        fix = f"write '{near}', or " if near else ""
        return InputError(
            "column of labels",
            f"'{value}' is not a class of the training split",
            found=f"known classes: {known}",
            fix=f"{fix}correct or remove the record, or train on data that holds this class",
        )


@functools.lru_cache(maxsize=32)
def _stored(file: str, written: int) -> tuple[list[str], bool]:
    content = json.loads(Path(file).read_text(encoding="utf-8"))
    return content["names"], content["indexed"]


def _name(value: Any) -> str:
    """A label as text: 1.0 and 1 are the same, surrounding blanks do not count."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


def _distinct(values: Any, column: str) -> list[str]:
    """Sorted distinct values, numbers by size."""
    array = values if isinstance(values, np.ndarray) else None
    if array is not None and array.dtype.kind in "iuf":
        unique = np.unique(array)
        names = [_name(value) for value in unique.tolist()]
    else:
        names = sorted({_name(value) for value in values})
    if len(names) < 2:
        fix = "name another label column, or add records of another class"
        raise InputError(f"column {column}", "there is only one class", found=", ".join(names) or "none", fix=fix)
    if missing := {"", "nan", "None"} & set(names):
        labelled, fix = f"{len(names) - len(missing)} classes", "fill in or remove these records"
        raise InputError(f"column {column}", "some labels are missing", found=labelled, fix=fix)
    return names
