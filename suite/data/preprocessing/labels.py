"""Class names, learnt from the training split."""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.class_names import brief, class_name, class_names, spelled
from suite.data.preprocessing.label_checks import check_classes, class_counts, counted, is_numeric, remarks
from suite.data.reading import changed
from suite.errors import InputError, closest
from suite.runtime import json_files

SHOWN = 20
"""Classes that a description counts."""
UNSEEN = -1
"""Class of a held-out record whose label training does not have."""


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
    def indexed(self) -> bool:
        """Whether the data holds positions in ``names`` rather than names."""
        return _stored(self.file, changed(self.file))[1]

    @property
    def counts(self) -> list[int]:
        """Training records of each class, by output; none where they are not known, as in runs begun with version 0.1
        and of classes that published weights have."""
        return _stored(self.file, changed(self.file))[2]

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the names to ``path``.

        Raises:
            InputError: labels are missing, fewer than two distinct values, or values that are no classes: quantities,
                identifiers, free texts, lists.
        """
        names = source.classes.get(column)
        indexed = names is not None
        if names is None:
            names = check_classes(source, column, f"--task.{self.column}")
        elif len(names) < 2:
            raise InputError(
                f"column {column}", "there is only one class", found=", ".join(names), fix="add another class"
            )
        records = class_counts(source, column)
        counts = [records[name] for name in names]
        text = json.dumps({"names": names, "indexed": indexed, "counts": counts}, ensure_ascii=False, indent=1)
        path.write_text(text, encoding="utf-8")

    @property
    def outputs(self) -> list[str]:
        return self.names

    def describe(self, source: Source, column: str) -> str:
        """The classes with their records, what is odd of them, or why they are none."""
        if column in source.classes:
            return ""
        try:
            names = check_classes(source, column, f"--task.{self.column}")
        except InputError as error:
            return str(error)
        values = source.column(column, np.arange(len(source)))
        counts, numeric = counted(values), is_numeric(values)
        shown = ", ".join(f"{brief(name)} {counts[name]:,}" for name in names[:SHOWN])
        more = f", and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
        return "\n".join(
            [f"column {column}: {len(names)} classes: {shown}{more}", *remarks(column, {"train": counts}, numeric)]
        )

    def sizes(self) -> dict[str, int]:
        """``outputs``: number of classes."""
        return {"outputs": len(self.names)}

    def encode(self, values: Sequence[Any] | np.ndarray, held_out: bool = False) -> np.ndarray:
        """Class of each value (b,) int32: positions stay as they are, names are looked up.

        Args:
            values: labels.
            held_out: whether they are of records that nothing is learnt from: a value that is no class of the training
                split is then `UNSEEN`, which no answer can be.

        Raises:
            InputError: a value that is no class of the training split, unless ``held_out``.
        """
        places, aliases = _places(self.file, changed(self.file))
        place = lambda name: places.get(name, aliases.get(spelled(name), UNSEEN))
        classes = class_places(values, len(self.names) if self.indexed else 0, place)
        if not held_out and len(unseen := np.flatnonzero(classes == UNSEEN)):
            raise self.unseen(class_name(values[unseen[0]]))
        return classes

    def unseen_names(self, names: Sequence[str]) -> list[str]:
        """Those of the names that are no class of the training split."""
        places, aliases = _places(self.file, changed(self.file))
        return [name for name in names if name not in places and spelled(name) not in aliases]

    def unseen(self, value: str) -> InputError:
        """The error that a label is no class of the training split."""
        return unseen_class(value, self.names, "column of labels")


def class_places(values: Sequence[Any] | np.ndarray, indexed: int, place: Callable[[str], int]) -> np.ndarray:
    """Class of each value (b,) int32, `UNSEEN` where it is none.

    Args:
        values: labels: positions, or names.
        indexed: how many classes there are, where whole numbers are positions; 0: they are names like any other.
        place: name -> class.
    """
    if indexed and np.asarray(values).dtype.kind in "iub":
        positions = np.asarray(values, np.int64)
        return np.where((positions < 0) | (positions >= indexed), UNSEEN, positions).astype(np.int32)
    return np.array([place(name) for name in class_names(values)], np.int32)


def unseen_class(value: str, names: Sequence[str], where: str) -> InputError:
    """The error that a label is no class of the training split."""
    near = closest(value, list(names))
    return InputError(
        where,
        f"'{value}' is not a class of the training split",
        found=f"known classes: {', '.join(names[:20])}{' ...' if len(names) > 20 else ''}",
        fix=(f"where '{near}' is meant, write that; else " if near else "")
        + "correct or remove the record, or train on data that holds this class",
    )


@functools.lru_cache(maxsize=32)
def _stored(file: str, written: int) -> tuple[list[str], bool, list[int]]:
    def build(content: Any) -> tuple[list[str], bool, list[int]]:
        return json_files.texts(content["names"]), bool(content["indexed"]), list(content.get("counts", []))

    return json_files.load(file, build)


@functools.lru_cache(maxsize=8)
def _places(file: str, written: int) -> tuple[dict[str, int], dict[str, int]]:
    return places_of(_stored(file, written)[0])


def places_of(names: Sequence[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Class by its name; and by other spellings of truth values: in any case, as 1 and 0 for True and False."""
    places = {name: place for place, name in enumerate(names)}
    aliases = {spelled(name): place for name, place in places.items()}
    for ours, theirs in (("01", ("False", "True")), (("False", "True"), "01")):
        if aliases.keys() == set(ours):
            return places, {**aliases, **{other: aliases[name] for name, other in zip(ours, theirs, strict=True)}}
    return places, aliases
